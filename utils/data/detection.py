"""Sets for object detection, in the formats of VOC and COCO."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import torch
from torchvision import tv_tensors

from utils.data.dataset import DetectionSet
from utils.data.readers import FETCH_AGAIN, expect_files, expect_same, list_images
from utils.fetch import fetch

BACKGROUND = "__background__"  # as in the categories of torchvision's weights
# pixels by which a box may stick out of its image: rounded coordinates; it is clipped
ROUNDING = 0.5


def make_target(
    boxes: list[list[float]], labels: list[int], image_id: int, size: tuple[int, int]
) -> dict[str, Any]:
    """Make the target of one image.

    Args:
        boxes: n of them, xyxy in pixels. What sticks out by half a pixel at most is
            clipped.
        labels: n class numbers.
        image_id: The image's number.
        size: Its height and width.

    Returns:
        The target as `DetectionSet` has it, `iscrowd` 0, `area` that of the boxes.
    """
    given = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    height, width = size
    clipped = given.clamp(min=0).minimum(torch.tensor([width, height, width, height]))
    boxes = torch.where((given - clipped).abs() <= ROUNDING, clipped, given)
    return {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "image_id": image_id,
        "area": (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
        "iscrowd": torch.zeros(len(labels), dtype=torch.int64),
    }


def _read_voc(file: Path, image_id: int) -> dict[str, Any]:
    """Read a VOC file in which every object is of class 1."""
    try:
        root = ElementTree.parse(file).getroot()
        size = [int(root.find("size").findtext(side)) for side in ("height", "width")]
        boxes = []
        for tree in root.findall("object"):
            left, top, right, bottom = (
                float(tree.find("bndbox").findtext(edge))
                for edge in ("xmin", "ymin", "xmax", "ymax")
            )
            # VOC counts pixels from 1 and includes the last one: 1..W spans the
            # image, 0 to W as edges.
            boxes.append([left - 1, top - 1, right, bottom])
    except (ElementTree.ParseError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file} is not an annotation in VOC's format ({error}): {FETCH_AGAIN}"
        ) from error
    return make_target(boxes, [1] * len(boxes), image_id, tuple(size))


TREES = {
    "train": ["2019_YELL_2_528000_4978000_image_crop2"],
    "test": ["2019_YELL_2_541000_4977000_image_crop", "OSBS_029", "SOAP_061"],
}


def trees() -> tuple[DetectionSet, DetectionSet]:
    """Load aerial photos of forests with a box for each tree crown; a pixel is 10 cm.

    The split is by image and by forest. The test set tells how well trees are found
    in the same kind of forest, from its first image, and in other kinds, from its
    second and third.

    Returns:
        `(train, test)`, `.classes` background and tree. Train: Yellowstone, 2472x2299
        (height x width), 574 trees. Test: another square kilometre of Yellowstone,
        1035x1249, 279 trees; pines in Florida (OSBS), 400x400, 61 trees; the
        Californian Sierra (SOAP), 400x400, 37 trees, 28 of them dead. MIT.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If a file is missing, or is not what it should be; names it.

    Source: Weinstein, Marconi, Bohlman, Zare, White, *Individual tree-crown detection
    in RGB imagery using semi-supervised deep learning neural networks*, 2019; the files
    come with the package DeepForest.
    """
    folder, sets = fetch("trees"), []
    for names in TREES.values():
        files = [folder / f"{name}.png" for name in names]
        targets = [
            _read_voc(file.with_suffix(".xml"), number)
            for number, file in enumerate(files)
        ]
        sets.append(DetectionSet(files, targets, [BACKGROUND, "tree"]))
    return sets[0], sets[1]


def _coco_target(image: dict[str, Any], annotations: list[dict]) -> dict[str, Any]:
    """Make the target of one image out of its COCO annotations."""
    boxes = [[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in annotations)]
    labels = [annotation["category_id"] for annotation in annotations]
    target = make_target(boxes, labels, image["id"], (image["height"], image["width"]))
    # COCO's area is that of the mask, where there is one: its small, medium, large
    # objects are told by it
    area = [annotation["area"] for annotation in annotations]
    crowd = [annotation["iscrowd"] for annotation in annotations]
    return target | {
        "area": torch.tensor(area, dtype=torch.float32),
        "iscrowd": torch.tensor(crowd, dtype=torch.int64),
    }


def _read_coco(folder: Path, part: str, masks: bool = False) -> DetectionSet:
    """Read `annotations/PART.json` and the images in `images/PART`."""
    file = folder / "annotations" / f"{part}.json"
    image_folder = folder / "images" / part
    expect_files(folder, [f"annotations/{part}.json", f"images/{part}"])
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        names = {category["id"]: category["name"] for category in content["categories"]}
        annotations = {image["id"]: [] for image in content["images"]}
        for annotation in content["annotations"]:
            annotations[annotation["image_id"]].append(annotation)
        listed = [image["file_name"] for image in content["images"]]
        targets = [
            _coco_target(image, annotations[image["id"]]) for image in content["images"]
        ]
        polygons = [
            [annotation.get("segmentation") for annotation in annotations[image["id"]]]
            for image in content["images"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file} is not an annotation in COCO's format ({error!r}): {FETCH_AGAIN}"
        ) from error
    expect_same([path.name for path in list_images(image_folder)], listed, file)
    files = [image_folder / name for name in listed]
    names[0] = BACKGROUND
    # ids that no category has are "N/A", as in torchvision's list
    classes = [names.get(label, "N/A") for label in range(max(names) + 1)]
    if not masks:
        return DetectionSet(files, targets, classes)
    whole = [
        index
        for index, parts in enumerate(polygons)
        if all(isinstance(part, list) and part for part in parts)
    ]
    files, targets, polygons = (
        [values[index] for index in whole] for values in (files, targets, polygons)
    )
    return DetectionSet(files, targets, classes, polygons)


def bccd() -> tuple[DetectionSet, DetectionSet, DetectionSet]:
    """Load blood cells under the microscope, 480x640, with a box for each cell.

    Returns:
        `(train, val, test)`, the split of its authors: 205, 78 and 65 images with
        2,804, 1,012 and 860 boxes. `.classes`: background, RBC (red cells), WBC (white
        cells), Platelets. MIT. Some cells have no box: a precision of 1 is out of
        reach.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If an image has no annotation, an annotation no image, or a file
            is not what it should be; names it.

    Source: Shenggan, *BCCD dataset* (on GitHub), from data and annotations of cosmicad
    and akshaylamba.
    """
    folder = fetch("bccd")
    train, val, test = (_read_coco(folder, part) for part in ("train", "val", "test"))
    return train, val, test


def coco128(*, masks: bool = False) -> tuple[DetectionSet, DetectionSet]:
    """Load a small part of COCO: everyday photos, the longer side 416 px, 80 classes.

    For trying out and fine-tuning; too small for a mean average precision to publish.

    Args:
        masks: Give every object a mask. Images in which an object has no polygon,
            crowds among them, are left out: 119 and 70 remain. In `val`, where polygons
            were matched to boxes, a few masks end up to 8 pixels (one 26) before or
            beyond their box; an object narrower than a pixel has an empty mask.

    Returns:
        `(train, val)`: 128 images with 939 objects, 10 of them crowd regions
        (`iscrowd`); 115 with 800. Two images of train show no object. `val` has no
        crowd regions. Labels are COCO's own ids, 1 to 90 with gaps, which torchvision's
        detectors use: `.classes` equals their 91 categories. Annotation: CC BY 4.0;
        each photo has a licence of its own.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If an image has no annotation, an annotation no image, or a file
            is not what it should be; names it.

    Source: Lin et al., *Microsoft COCO: common objects in context*, 2014.
    """
    folder = fetch("coco128")
    return _read_coco(folder, "train", masks), _read_coco(folder, "val", masks)
