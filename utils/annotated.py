"""Sets for object detection: pictures with a box, a class, and perhaps a mask for each object.

An example is `(image, target)`, as torchvision's detectors take it. `image` is uint8 RGB [3, H, W], `target`
a dict of `boxes` [n, 4] float32 xyxy in pixels, `labels` [n] int64 (0 is the background, which no object
has), `area` [n] float32 in square pixels, `iscrowd` [n] int64 (1: a region of many objects, left out of
training and evaluation) and `image_id`, an int that differs within a set. Boxes and masks are `tv_tensors`,
so that `torchvision.transforms.v2` moves them with the picture.
"""

import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pycocotools import mask as coco_mask
from torch.utils.data import Dataset
from torchvision import tv_tensors

from utils.fetch import fetch
from utils.paired import FETCH_AGAIN, expect_files
from utils.pictures import read_picture

__all__ = ["DetectionSet", "make_target", "trees"]

BACKGROUND = "__background__"  # as in the categories of torchvision's weights
ROUNDING = 0.5  # pixels by which a box may stick out of its picture: rounded coordinates; it is clipped
TREES = {
    "train": ["2019_YELL_2_528000_4978000_image_crop2"],
    "test": ["2019_YELL_2_541000_4977000_image_crop", "OSBS_029", "SOAP_061"],
}


class DetectionSet(Dataset):
    """Pictures read from their files when they are asked for, with the boxes of their objects.

    Args:
        files: The N pictures.
        targets: One dict for each, as in the module's description; what is in it is handed on.
        classes: Names; a label is an index into them. `len(classes)` is the `num_classes` of torchvision's
            detectors.
        polygons: For each picture, for each object the polygons of its mask, [x0, y0, x1, y1, ...] in pixels;
            a target then has `masks` [n, H, W] bool. Default: no masks.

    Raises:
        ValueError: If there are not as many targets, or lists of polygons, as files.
    """

    def __init__(
        self,
        files: Sequence[Path],
        targets: Sequence[dict[str, Any]],
        classes: Sequence[str],
        polygons: Sequence[list[list[list[float]]]] | None = None,
    ) -> None:
        """See the class."""
        lengths = {len(files), len(targets), len(files if polygons is None else polygons)}
        if len(lengths) > 1:
            raise ValueError(f"files, targets and polygons must be as many as each other, got {lengths}")
        self.files, self.targets, self.classes = list(files), list(targets), list(classes)
        self.polygons = polygons

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, Any]]:
        """Return a picture and a copy of its target, which may be changed.

        Raises:
            ValueError: If the file is no picture, or has another size than its annotation says.
        """
        file, target = self.files[index], self.targets[index]
        image = read_picture(file)
        found, said = tuple(image.shape[1:]), tuple(target["boxes"].canvas_size)
        if found != said:
            raise ValueError(
                f"{file} is {found} pixels (height, width), its annotation says {said}: {FETCH_AGAIN}"
            )
        target = {key: v.clone() if isinstance(v, torch.Tensor) else v for key, v in target.items()}
        if self.polygons is not None:
            target["masks"] = _draw(self.polygons[index], *image.shape[1:])
        return image, target


def _draw(polygons: list[list[list[float]]], height: int, width: int) -> tv_tensors.Mask:
    """Fill the polygons of n objects, as COCO does: [n, height, width] bool."""
    masks = torch.zeros(len(polygons), height, width, dtype=torch.bool)
    for mask, parts in zip(masks, polygons, strict=True):
        run_lengths = coco_mask.merge(coco_mask.frPyObjects(parts, height, width))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools 2.0.11 with NumPy 2
            mask.copy_(torch.from_numpy(coco_mask.decode(run_lengths)).bool())
    return tv_tensors.Mask(masks)


def _clip(boxes: torch.Tensor, height: int, width: int, file: Path) -> torch.Tensor:
    """Return `boxes` [n, 4] xyxy within the picture; refuse one that lies outside, or has no area."""
    limits = torch.tensor([width, height, width, height], dtype=boxes.dtype)
    outside = ((boxes < -ROUNDING) | (boxes > limits + ROUNDING)).any(1)
    clipped = torch.minimum(boxes.clamp(min=0), limits)
    bad = outside | (clipped[:, 2:] <= clipped[:, :2]).any(1) | ~boxes.isfinite().all(1)
    if bad.any():
        box = [round(number, 2) for number in boxes[bad][0].tolist()]
        raise ValueError(
            f"{file}: the box {box} (x0, y0, x1, y1) is empty or not within {width} x {height} pixels: "
            f"{FETCH_AGAIN}"
        )
    return clipped


def make_target(
    boxes: list[list[float]], labels: list[int], image_id: int, size: tuple[int, int], file: Path
) -> dict[str, Any]:
    """Make the target of one picture.

    Args:
        boxes: n of them, xyxy in pixels. What sticks out by half a pixel at most is clipped.
        labels: n class numbers.
        image_id: The picture's number.
        size: Its height and width.
        file: What an error names.

    Returns:
        The dict of the module's description, `iscrowd` 0, `area` that of the boxes.

    Raises:
        ValueError: If a box is empty or not within the picture.
    """
    checked = _clip(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), *size, file)
    return {
        "boxes": tv_tensors.BoundingBoxes(checked, format="XYXY", canvas_size=size),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "image_id": image_id,
        "area": (checked[:, 2] - checked[:, 0]) * (checked[:, 3] - checked[:, 1]),
        "iscrowd": torch.zeros(len(labels), dtype=torch.int64),
    }


def _read_voc(file: Path, image_id: int) -> dict[str, Any]:
    """Read a VOC file in which every object is of class 1."""
    try:
        root = ElementTree.parse(file).getroot()
        height, width = (int(root.find("size").findtext(side)) for side in ("height", "width"))
        boxes = []
        for tree in root.findall("object"):
            corners = (float(tree.find("bndbox").findtext(k)) for k in ("xmin", "ymin", "xmax", "ymax"))
            left, top, right, bottom = corners
            # VOC counts pixels from 1 and includes the last one: 1..W spans the picture, 0 to W as edges.
            boxes.append([left - 1, top - 1, right, bottom])
    except (OSError, ElementTree.ParseError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is no annotation in VOC's format ({error}): {FETCH_AGAIN}") from error
    return make_target(boxes, [1] * len(boxes), image_id, (height, width), file)


def trees() -> tuple[DetectionSet, DetectionSet]:
    """Load aerial photos of forests in which every tree crown has a box; 10 cm to the pixel.

    The split is by picture and by forest. The test set tells how well trees are found in the same kind of
    forest, from its first picture, and in other kinds, from its second and third.

    Returns:
        `(train, test)`, `.classes` background and tree. Train: Yellowstone, 2472x2299 (height x width), 574
        trees. Test: another square kilometre of Yellowstone, 1035x1249, 279 trees; pines in Florida (OSBS),
        400x400, 61 trees; the Californian Sierra (SOAP), 400x400, 37 trees, 28 of them dead. MIT.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If a file is missing, or is not what it should be; names it.

    Source: Weinstein, Marconi, Bohlman, Zare, White, *Individual tree-crown detection in RGB imagery using
    semi-supervised deep learning neural networks*, 2019; the files come with the package DeepForest.
    """
    folder = fetch("trees")
    names = TREES["train"] + TREES["test"]
    expect_files(folder, [f"{name}.{kind}" for name in names for kind in ("png", "xml")])
    sets = []
    for part in TREES.values():
        targets = [_read_voc(folder / f"{name}.xml", number) for number, name in enumerate(part)]
        sets.append(DetectionSet([folder / f"{name}.png" for name in part], targets, [BACKGROUND, "tree"]))
    return sets[0], sets[1]
