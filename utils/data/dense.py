"""Sets with an annotation for each pixel: classes and depths."""

from numbers import Integral
from pathlib import Path

import torch
from torchvision.transforms.v2 import InterpolationMode, functional

from utils.data.dataset import PairedSet
from utils.data.readers import (
    FETCH_AGAIN,
    expect_same,
    list_images,
    read_depth,
    read_image,
    read_images,
)
from utils.fetch import fetch


def _pairs(images: Path, annotations: Path) -> list[tuple[Path, Path]]:
    """Match the files of two folders by their names without suffix."""
    first, second = list_images(images), list_images(annotations)
    expect_same(
        [path.stem for path in first], [path.stem for path in second], annotations
    )
    by_stem = {path.stem: path for path in second}
    return [(path, by_stem[path.stem]) for path in first]


def _expect_size(path: Path, annotation: torch.Tensor, image: torch.Tensor) -> None:
    """Raise ValueError if what was read from `path` is not as large as its image."""
    found, wanted = tuple(annotation.shape[-2:]), tuple(image.shape[-2:])
    if found != wanted:
        raise ValueError(
            f"{path} is {found} pixels (height, width), its image {wanted}: "
            f"{FETCH_AGAIN}"
        )


# a mask's value for "no class": the `ignore_index` of torchvision's references
IGNORE = 255
# height, width: 4:3 as the originals, and multiples of 64 for U-Net's halvings
CAMVID_SIZE = (192, 256)
UNLABELLED = 11


def _read_camvid(
    image_file: Path, mask_file: Path, size: tuple[int, int] | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Read an image [3, h, w] and its mask [h, w], `IGNORE` where it is unlabelled."""
    image, mask = read_image(image_file), read_image(mask_file, "L")
    _expect_size(mask_file, mask, image)
    if mask.max() > UNLABELLED:
        raise ValueError(
            f"{mask_file} should hold the classes 0 to {UNLABELLED}, holds "
            f"{mask.max()}: {FETCH_AGAIN}"
        )
    if size is not None:
        image = functional.resize(image, list(size), antialias=True)
        mask = functional.resize(mask, list(size), InterpolationMode.NEAREST_EXACT)
    return image, torch.where(mask == UNLABELLED, IGNORE, mask)[0]


def camvid(
    size: tuple[int, int] | None = CAMVID_SIZE,
) -> tuple[PairedSet, PairedSet, PairedSet]:
    """Load CamVid: streets seen from a driving car, with a class for each pixel.

    All of it is read into memory. Neighbouring frames of a video look alike: split it
    in no other way.

    Args:
        size: Height and width in pixels to which images (bilinearly) and masks (by
            nearest pixel) are resized. None keeps 360 x 480, which takes 485 MB.

    Returns:
        `(train, val, test)`, the split of SegNet: 367, 101 and 233 examples
        `(image [3, h, w], mask [h, w])`, both uint8. `.classes`: the 11 names of mask
        values 0 to 10; 255 (`IGNORE`) is unlabelled, for
        `F.cross_entropy(logits, masks.long(), ignore_index=IGNORE)`. For research and
        teaching, CC BY-NC 4.0.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If `size` is not two numbers, an image has no mask, a mask no image,
            or a file is not what it should be; names it.

    Source: Brostow, Shotton, Fauqueur, Cipolla, *Segmentation and recognition using
    structure from motion point clouds*, 2008; classes and split: Badrinarayanan,
    Kendall, Cipolla, *SegNet*, 2017.
    """
    if size is not None and not (
        isinstance(size, tuple | list)
        and len(size) == 2
        and all(isinstance(side, Integral) and side > 0 for side in size)
    ):
        raise ValueError(f"size must be (height, width) in pixels, got {size}")
    folder, sets = fetch("camvid"), []
    lines = (folder / "classes.txt").read_text(encoding="utf-8").splitlines()
    # "0 Sky" and so on; the last one is Unlabelled
    classes = [line.partition(" ")[2] for line in lines[:UNLABELLED]]
    for part in ("train", "val", "test"):
        files = _pairs(folder / "images" / part, folder / "masks" / part)
        images, masks = zip(*(_read_camvid(*pair, size) for pair in files), strict=True)
        names = [image_file.stem for image_file, _ in files]
        sets.append(PairedSet(torch.stack(images), torch.stack(masks), names, classes))
    return tuple(sets)


def rgbd_indoor() -> tuple[PairedSet, PairedSet, PairedSet]:
    """Load frames of three indoor videos with the depth at each pixel, 192x256.

    Returns:
        `(train, val, test_unseen_scene)`: 165, 46 and 29 examples `(image, depth)`,
        uint8 [3, 192, 256] and float32 [192, 256]. Depth in metres, up to 10; NaN where
        the camera measured nothing (18 % of the pixels), so that `depth > 0` is where
        it did. `.names` start with the scene: office and lab; cabinet in the third
        part. `val` is the later part of the videos of `train`, in the same rooms: what
        a network makes of a room it has never seen, only the third part tells. TUM
        RGB-D: CC BY 4.0; lab: MIT.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If an image has no depth map, a depth map no image, or a file is
            not what it should be; names it.

    Source: Sturm, Engelhard, Endres, Burgard, Cremers, *A benchmark for the evaluation
    of RGB-D SLAM systems*, 2012 (office and cabinet); CMU AI Maker Space, *aims-slam*,
    on GitHub (lab).
    """
    folder, sets = fetch("rgbd_indoor"), []
    for part in ("train", "val", "test_unseen_scene"):
        files = _pairs(folder / part / "rgb", folder / part / "depth")
        images = read_images([image_file for image_file, _ in files])
        depths = [read_depth(depth_file) for _, depth_file in files]
        for (_, depth_file), depth in zip(files, depths, strict=True):
            _expect_size(depth_file, depth, images)
        names = [image_file.stem for image_file, _ in files]
        sets.append(PairedSet(images, torch.stack(depths), names))
    return tuple(sets)
