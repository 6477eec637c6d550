"""The data sets of the course, one function each; what samples, splits and loads them comes along.

Sets of one label a picture are `ImageSet`s. Generated sets are in `utils.scenes`.
"""

import math
import struct
from collections.abc import Sequence
from pathlib import Path

import torch

from utils.annotated import DetectionSet, trees
from utils.coco_sets import bccd, coco128
from utils.dense import camvid, rgbd_indoor
from utils.drawn import cards, emoji
from utils.fetch import DatasetUnavailable, catalog, fetch
from utils.folders import cats_dogs, cifar10, cifar100, hymenoptera, samples
from utils.groups import faces, gtsrb, split_by_group
from utils.loading import ImageSet, make_loader, split, take
from utils.paired import PairedSet
from utils.patches import tree_patches
from utils.people import face_keypoints, pedestrians, utkface
from utils.single_pictures import rgbd, stereo, voc_sample

__all__ = [
    "DetectionSet",
    "ImageSet",
    "PairedSet",
    "bccd",
    "camvid",
    "cards",
    "cats_dogs",
    "cifar10",
    "cifar100",
    "coco128",
    "emoji",
    "face_keypoints",
    "faces",
    "fashion_mnist",
    "gtsrb",
    "hymenoptera",
    "make_loader",
    "mnist",
    "pedestrians",
    "photos",
    "read_idx",
    "rgbd",
    "rgbd_indoor",
    "samples",
    "split",
    "split_by_group",
    "stereo",
    "take",
    "textures",
    "tree_patches",
    "trees",
    "utkface",
    "voc_sample",
]

SAMPLES = Path(__file__).resolve().parents[1] / "tests" / "data"  # only in a clone of the repository
FASHION_CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"]
FASHION_CLASSES += ["Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


def read_idx(path: Path) -> torch.Tensor:
    """Read a file in the idx format of MNIST: a magic number, the sizes, then the bytes.

    Args:
        path: The file, not compressed.

    Returns:
        uint8, in the shape that the file states.

    Raises:
        ValueError: If the header is not that of unsigned bytes, or the length does not match it.

    Source: the format's description on the MNIST page (LeCun, Cortes, Burges).
    """
    content = path.read_bytes()
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise ValueError(f"{path} is not an idx file of unsigned bytes: delete it and fetch it again")
    header = 4 + 4 * content[3]  # content[3] is the number of dimensions
    shape = struct.unpack(f">{content[3]}I", content[4:header]) if len(content) >= header else ()
    if not shape or len(content) - header != math.prod(shape):
        promised = f"its header promises {shape}" if shape else "not even its header is whole"
        raise ValueError(f"{path} is cut short or too long: {promised}; delete it and fetch it again")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header).reshape(shape)


def _idx_set(name: str, classes: Sequence[str]) -> tuple[ImageSet, ImageSet]:
    """Fetch the set `name` in MNIST's four files and read it; where it is not to be had, a sample of it."""
    try:
        folder = fetch(name)
    except DatasetUnavailable as error:
        folder = SAMPLES / catalog()[name]["folder"]
        if not folder.is_dir():
            raise
        print(
            f"{error}\nUntil then, this runs on the small sample of it in tests/data: expect lower numbers."
        )
    sets = []
    for part in ("train", "t10k"):
        images = read_idx(folder / "raw" / f"{part}-images-idx3-ubyte")[:, None]  # [N, 1, 28, 28]
        labels = read_idx(folder / "raw" / f"{part}-labels-idx1-ubyte").long()
        sets.append(ImageSet(images, labels, classes))
    return sets[0], sets[1]


def mnist() -> tuple[ImageSet, ImageSet]:
    """Load MNIST: handwritten digits, 28x28 grey, classes "0" to "9".

    Returns:
        60,000 pictures for training and 10,000 for the test, written by other people. CC BY-SA 3.0.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.

    Source: LeCun, Bottou, Bengio, Haffner, *Gradient-based learning applied to document recognition*, 1998.
    """
    return _idx_set("mnist", [str(digit) for digit in range(10)])


def fashion_mnist() -> tuple[ImageSet, ImageSet]:
    """Load Fashion-MNIST: photos of clothes from a shop, 28x28 grey, 10 classes.

    Returns:
        60,000 pictures for training and 10,000 for the test. MIT.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.

    Source: Xiao, Rasul, Vollgraf, *Fashion-MNIST: a novel image dataset for benchmarking machine learning
    algorithms*, 2017.
    """
    return _idx_set("fashion_mnist", FASHION_CLASSES)


def photos() -> dict[str, torch.Tensor]:
    """Load the sample photos that scikit-image carries.

    Returns:
        Name -> [3, H, W], uint8 RGB: astronaut, cat, coffee.

    Source: `skimage.data`, which names photographers and licences (all free to use).
    """
    from skimage import data

    pictures = {"astronaut": data.astronaut(), "cat": data.cat(), "coffee": data.coffee()}
    return {
        name: torch.from_numpy(picture).permute(2, 0, 1).contiguous() for name, picture in pictures.items()
    }


def textures() -> dict[str, torch.Tensor]:
    """Load the textures that scikit-image carries.

    Returns:
        Name -> [1, 512, 512], uint8 grey: brick, grass, gravel. CC0.

    Source: `skimage.data`.
    """
    from skimage import data

    return {name: torch.from_numpy(getattr(data, name)())[None] for name in ("brick", "grass", "gravel")}
