"""Sets with an annotation for each pixel: classes and depths."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode, functional

from utils.fetch import fetch
from utils.paired import FETCH_AGAIN, PairedSet, expect_files, expect_same, read_table
from utils.pictures import list_pictures, read_picture, read_pictures

__all__ = ["IGNORE", "camvid", "read_depth", "rgbd_indoor"]

IGNORE = 255  # a mask's value for "no class": the `ignore_index` of torchvision's references
CAMVID_SIZE = (192, 256)  # height, width: 4:3 as the originals, and multiples of 64 for U-Net's halvings
UNLABELLED = 11
INDEX_COLUMNS = ("split", "name", "scene", "valid_fraction", "median_mm")
RGBD_PARTS = ("train", "val", "test_unseen_scene")
MILLIMETRES = 1000.0


def _pairs(pictures: Path, annotations: Path) -> list[tuple[Path, Path]]:
    """Match the files of two folders by their names without suffix."""
    first, second = list_pictures(pictures), list_pictures(annotations)
    expect_same([path.stem for path in first], [path.stem for path in second], annotations)
    by_stem = {path.stem: path for path in second}
    return [(path, by_stem[path.stem]) for path in first]


def _read_camvid(
    picture: Path, mask: Path, size: tuple[int, int] | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Read a picture [3, h, w] and its mask [h, w] at `size`, with `IGNORE` where nothing is labelled."""
    image, classes = read_picture(picture), read_picture(mask, "L")
    if image.shape[1:] != classes.shape[1:]:
        found, wanted = (tuple(pixels.shape[1:]) for pixels in (classes, image))
        raise ValueError(f"{mask} is {found} pixels (height, width), its picture {wanted}: {FETCH_AGAIN}")
    if (largest := int(classes.max())) > UNLABELLED:
        raise ValueError(f"{mask} should hold the classes 0 to {UNLABELLED}, holds {largest}: {FETCH_AGAIN}")
    if size is not None:
        image = functional.resize(image, list(size), antialias=True)
        classes = functional.resize(classes, list(size), InterpolationMode.NEAREST_EXACT)
    return image, torch.where(classes == UNLABELLED, IGNORE, classes)[0]


def _read_classes(path: Path) -> list[str]:
    """Read lines "number name", numbered from 0, and leave out the last one, Unlabelled."""
    lines = [line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if [line[0] for line in lines] != [str(number) for number in range(UNLABELLED + 1)] or len(
        lines[-1]
    ) != 2:
        raise ValueError(f"{path} should name the classes 0 to {UNLABELLED}, one a line: {FETCH_AGAIN}")
    return [name for _, name in lines[:UNLABELLED]]


def camvid(size: tuple[int, int] | None = CAMVID_SIZE) -> tuple[PairedSet, PairedSet, PairedSet]:
    """Load CamVid: streets seen from a driving car, with a class for each pixel; all of it into memory.

    Neighbouring frames of a video look alike: split it in no other way.

    Args:
        size: Height and width in pixels to which pictures (bilinearly) and masks (by nearest pixel) are
            resized. None keeps 360 x 480, which takes 485 MB.

    Returns:
        `(train, val, test)`, the split of SegNet: 367, 101 and 233 examples `(image [3, h, w], mask [h, w])`,
        both uint8. `.classes`: the 11 names of mask values 0 to 10; 255 (`IGNORE`) is unlabelled, for
        `F.cross_entropy(logits, masks.long(), ignore_index=IGNORE)`. For research and teaching, CC BY-NC 4.0.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If a picture has no mask, a mask no picture, or a file is not what it should be; names it.

    Source: Brostow, Shotton, Fauqueur, Cipolla, *Segmentation and recognition using structure from motion
    point clouds*, 2008; classes and split: Badrinarayanan, Kendall, Cipolla, *SegNet*, 2017.
    """
    folder, sets = fetch("camvid"), []
    expect_files(folder, ["classes.txt", "images", "masks"])
    classes = _read_classes(folder / "classes.txt")
    for part in ("train", "val", "test"):
        files = _pairs(folder / "images" / part, folder / "masks" / part)
        images, masks = zip(*(_read_camvid(picture, mask, size) for picture, mask in files), strict=True)
        names = [picture.stem for picture, _ in files]
        sets.append(PairedSet(torch.stack(images), torch.stack(masks), names, classes))
    return tuple(sets)


def read_depth(path: Path) -> torch.Tensor:
    """Read a depth map from a 16-bit PNG of millimetres.

    Args:
        path: The file; 0 in it means no measurement.

    Returns:
        [H, W], float32, metres; NaN where there is no measurement, so that a mean over it is NaN too.

    Raises:
        ValueError: If the file is no 16-bit picture of one channel; names it.
    """
    try:
        with Image.open(path) as picture:
            millimetres = np.asarray(picture)
    except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError for a broken PNG
        raise ValueError(f"{path} is a broken picture ({error}): {FETCH_AGAIN}") from error
    if millimetres.dtype != np.uint16:  # Pillow has no 16-bit picture of several channels
        found = f"{millimetres.dtype} {list(millimetres.shape)}"
        raise ValueError(f"{path} should hold 16-bit depths [H, W], holds {found}: {FETCH_AGAIN}")
    metres = torch.from_numpy(millimetres.astype(np.float32)) / MILLIMETRES
    return torch.where(metres > 0, metres, torch.nan)


def _read_depths(paths: Iterable[Path], size: torch.Size) -> torch.Tensor:
    """Read depth maps of one `size` into [N, H, W]."""
    depths = []
    for path in paths:
        depths.append(read_depth(path))
        if depths[-1].shape != size:
            raise ValueError(
                f"{path} is {list(depths[-1].shape)} pixels, its picture {list(size)}: {FETCH_AGAIN}"
            )
    return torch.stack(depths)


def rgbd_indoor() -> tuple[PairedSet, PairedSet, PairedSet]:
    """Load frames of three indoor videos with the depth at each pixel, 192x256 (height x width).

    Returns:
        `(train, val, test_unseen_scene)`: 165, 46 and 29 examples `(image, depth)`, uint8 [3, 192, 256] and
        float32 [192, 256]. Depth in metres, up to 10; NaN where the camera measured nothing (18 % of the
        pixels), so that `depth > 0` is where it did. `.names` start with the scene: office and lab; cabinet
        in the third part.
        `val` is the later part of the videos of `train`, in the same rooms: what a network makes of a room it
        has never seen, only the third part tells. TUM RGB-D: CC BY 4.0; lab: MIT.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If a picture has no depth, a depth no picture, the index lists others, or a file is not
            what it should be; names it.

    Source: Sturm, Engelhard, Endres, Burgard, Cremers, *A benchmark for the evaluation of RGB-D SLAM
    systems*, 2012 (office and cabinet); CMU AI Maker Space, *aims-slam*, on GitHub (lab).
    """
    folder, sets = fetch("rgbd_indoor"), []
    rows = read_table(folder / "index.csv", INDEX_COLUMNS)
    if unknown := {row[0] for row in rows} - set(RGBD_PARTS):
        raise ValueError(f"{folder / 'index.csv'} lists a split {unknown.pop()!r}: {FETCH_AGAIN}")
    for part in RGBD_PARTS:
        files = _pairs(folder / part / "rgb", folder / part / "depth")
        names = [picture.stem for picture, _ in files]
        expect_same(names, [row[1] for row in rows if row[0] == part], folder / "index.csv")
        images = read_pictures([picture for picture, _ in files])
        sets.append(PairedSet(images, _read_depths([depth for _, depth in files], images.shape[2:]), names))
    return tuple(sets)
