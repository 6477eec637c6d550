"""Sets for object detection whose annotation is in COCO's format; examples are as in `utils.annotated`."""

import json
from pathlib import Path
from typing import Any

import torch

from utils.annotated import BACKGROUND, DetectionSet, make_target
from utils.fetch import fetch
from utils.paired import FETCH_AGAIN, expect_files, expect_same
from utils.pictures import list_pictures

__all__ = ["bccd", "coco128"]


def _index_coco(content: dict[str, Any], file: Path) -> tuple[dict[int, list[dict]], list[str]]:
    """Return the annotations by picture, and the names of the categories, "N/A" where an id is not in use."""
    by_picture = {picture["id"]: [] for picture in content["images"]}
    if len(by_picture) < len(content["images"]):
        raise ValueError(f"{file}: two pictures have the same id: {FETCH_AGAIN}")
    names = {category["id"]: category["name"] for category in content["categories"]}
    for annotation in content["annotations"]:
        if annotation["image_id"] not in by_picture or annotation["category_id"] not in names:
            raise ValueError(
                f"{file}: annotation {annotation['id']} is of picture {annotation['image_id']}, category "
                f"{annotation['category_id']}, and there is no such picture or category: {FETCH_AGAIN}"
            )
        by_picture[annotation["image_id"]].append(annotation)
    return by_picture, [BACKGROUND] + [names.get(label, "N/A") for label in range(1, max(names) + 1)]


def _coco_target(picture: dict[str, Any], annotations: list[dict], file: Path) -> dict[str, Any]:
    """Make the target of one picture out of its COCO annotations, whose boxes are x, y, width, height."""
    labels = [annotation["category_id"] for annotation in annotations]
    where = file.with_name(f"{file.name}, {picture['file_name']}")
    if any(len(annotation["bbox"]) != 4 for annotation in annotations):
        raise ValueError(f"{where}: a box should have 4 numbers, x, y, width, height: {FETCH_AGAIN}")
    boxes = [[x, y, x + width, y + height] for x, y, width, height in (a["bbox"] for a in annotations)]
    target = make_target(boxes, labels, picture["id"], (picture["height"], picture["width"]), where)
    # COCO's area is that of the mask, where there is one: its small, medium, large objects are told by it
    target["area"] = torch.tensor([annotation["area"] for annotation in annotations], dtype=torch.float32)
    target["iscrowd"] = torch.tensor([annotation["iscrowd"] for annotation in annotations], dtype=torch.int64)
    return target


def _read_coco(folder: Path, part: str, masks: bool = False) -> DetectionSet:
    """Read `folder`/annotations/`part`.json and the pictures in `folder`/images/`part`."""
    file, pictures = folder / "annotations" / f"{part}.json", folder / "images" / part
    expect_files(folder, [f"annotations/{part}.json", f"images/{part}"])
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        by_picture, classes = _index_coco(content, file)
        listed = [picture["file_name"] for picture in content["images"]]
        expect_same([path.name for path in list_pictures(pictures)], listed, pictures)
        targets = [_coco_target(p, by_picture[p["id"]], file) for p in content["images"]]
        polygons = [[a.get("segmentation") for a in by_picture[p["id"]]] for p in content["images"]]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is no annotation in COCO's format ({error!r}): {FETCH_AGAIN}") from error
    files = [pictures / name for name in listed]
    if not masks:
        return DetectionSet(files, targets, classes)
    whole = [i for i, parts in enumerate(polygons) if all(isinstance(p, list) and p for p in parts)]
    chosen = [[values[i] for i in whole] for values in (files, targets, polygons)]
    return DetectionSet(chosen[0], chosen[1], classes, chosen[2])


def bccd() -> tuple[DetectionSet, DetectionSet, DetectionSet]:
    """Load blood cells under the microscope, 480x640 (height x width), with a box for each cell.

    Returns:
        `(train, val, test)`, the split of its authors: 205, 78 and 65 pictures with 2,804, 1,012 and 860
        boxes. `.classes`: background, RBC (red cells), WBC (white cells), Platelets. MIT.
        Some cells have no box: a precision of 1 is out of reach.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If a picture has no annotation, an annotation no picture, or a file is not what it should
            be; names it.

    Source: Shenggan, *BCCD dataset* (on GitHub), from data and annotations of cosmicad and akshaylamba.
    """
    folder = fetch("bccd")
    return _read_coco(folder, "train"), _read_coco(folder, "val"), _read_coco(folder, "test")


def coco128(*, masks: bool = False) -> tuple[DetectionSet, DetectionSet]:
    """Load a small part of COCO: everyday photos, the longer side 416 px, 80 classes.

    For trying out and fine-tuning; too small for a mean average precision to publish.

    Args:
        masks: Give every object a mask. Pictures in which an object has no polygon, crowds among them, are
            left out: 119 and 70 remain. In `val`, where polygons were matched to boxes, a few masks end up to
            8 pixels (one 26) before or beyond their box; an object narrower than a pixel has an empty mask.

    Returns:
        `(train, val)`: 128 pictures with 939 objects, 10 of them crowd regions (`iscrowd`); 115 with 800.
        Two pictures of train show no object. `val` has no crowd regions. Labels are COCO's own ids, 1 to 90
        with gaps, which torchvision's detectors use: `.classes` equals their 91 categories. Annotation:
        CC BY 4.0; each photo has a licence of its own.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If a picture has no annotation, an annotation no picture, or a file is not what it should
            be; names it.

    Source: Lin et al., *Microsoft COCO: common objects in context*, 2014.
    """
    folder = fetch("coco128")
    return _read_coco(folder, "train", masks), _read_coco(folder, "val", masks)
