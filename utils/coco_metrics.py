"""Mean average precision on COCO's terms, computed by pycocotools."""

import contextlib
import gc
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from utils.overlap import box_convert, check_boxes

Boxes = dict[str, Any]  # a target, or what a model found in one picture
Categories = Mapping[int, str] | Sequence[str] | None
NUMBERS = ("map", "ap50", "ap75", "map_small", "map_medium", "map_large")  # pycocotools' first six


def _joined(pictures: Sequence[Boxes], name: str, key: str, columns: int = 0) -> torch.Tensor:
    """Return `key` of all pictures one after the other, in float64 (labels: int64) on the CPU."""
    parts = []
    for number, picture in enumerate(pictures):
        if key not in picture:
            raise ValueError(f"{name}[{number}] has no {key!r}: it holds {', '.join(picture) or 'nothing'}")
        values, wanted = picture[key], (len(picture["boxes"]), *([columns] if columns else []))
        if tuple(values.shape) != wanted:
            raise ValueError(
                f"{name}[{number}][{key!r}] must be {list(wanted)}, got {list(values.shape)}; "
                "a picture without boxes has boxes [0, 4] and labels [0]"
            )
        parts.append(values.detach())
    kind = torch.int64 if key in ("labels", "iscrowd") else torch.float64
    return torch.cat(parts).cpu().to(kind) if parts else torch.zeros(0, *([columns] if columns else []))


def _annotations(pictures: Sequence[Boxes], name: str, known: set[int]) -> list[dict[str, Any]]:
    """Write targets or predictions as COCO's annotations, numbered from 1: 0 would be no match."""
    boxes = _joined(pictures, name, "boxes", 4)
    check_boxes(boxes, f"boxes of the {name}")
    labels = _joined(pictures, name, "labels").tolist()
    if unknown := set(labels) - known:
        raise ValueError(f"{name} have labels {sorted(unknown)}, the categories are {sorted(known)}")
    counts = [len(picture["boxes"]) for picture in pictures]
    sizes = boxes[:, 2:] - boxes[:, :2]
    columns = {
        "image_id": np.repeat(np.arange(len(pictures)), counts).tolist(),
        "category_id": labels,
        "bbox": box_convert(boxes, "xyxy", "xywh").tolist(),
        "area": sizes.prod(1).tolist(),
        "iscrowd": [0] * len(labels),
        "id": range(1, len(labels) + 1),
    }
    if name == "predictions":
        scores = _joined(pictures, name, "scores")
        if not scores.isfinite().all():
            raise ValueError(f"{int((~scores.isfinite()).sum())} scores of the predictions are not finite")
        columns["score"] = scores.tolist()
    for key in ("area", "iscrowd") if name == "targets" else ():
        if any(key in picture for picture in pictures):
            columns[key] = _joined(pictures, name, key).tolist()
    keys = list(columns)
    return [dict(zip(keys, row)) for row in zip(*columns.values(), strict=True)]  # noqa: B905


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep the garbage collector from searching a hundred thousand new lists, none of which is garbage."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _names(categories: Categories, pictures: Sequence[Boxes]) -> dict[int, Any]:
    """Return what each label is called; without `categories` the labels that occur are their own names."""
    if categories is None:
        labels = {label for picture in pictures for label in picture["labels"].tolist()}
        return {label: label for label in sorted(labels)}
    if not isinstance(categories, Mapping):
        categories = dict(enumerate(categories))
        categories.pop(0, None)  # the background
    if len(set(categories.values())) < len(categories):
        raise ValueError(f"each category needs a name of its own, got {list(categories.values())}")
    return dict(categories)


def _index(annotations: list[dict[str, Any]], pictures: int, labels: Sequence[int]) -> COCO:
    """Return pycocotools' object that holds annotations."""
    coco = COCO()
    coco.dataset = {
        "images": [{"id": number} for number in range(pictures)],
        "categories": [{"id": label} for label in labels],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def evaluate_detections(
    predictions: Sequence[Boxes], targets: Sequence[Boxes], *, categories: Categories = None
) -> dict[str, Any]:
    """Judge what was found in pictures by what is there, as the COCO benchmark does.

    Args:
        predictions: For each picture a dict of `boxes` [n, 4] xyxy in px, `labels` [n], `scores` [n]. The
            100 best of each class in a picture count. Nothing found: [0, 4], [0], [0].
        targets: For each picture a dict of `boxes` and `labels`. `area` [n], in square px, sorts objects into
            small (up to 32 x 32), medium, large (from 96 x 96); default: the areas of the boxes.
            `iscrowd` [n]: 1 marks a group, which need not be found, and in which nothing found is a mistake.
        categories: What the labels mean: names, of which the first is the background's, or a dict of label
            and name. Default: the labels that occur, named by themselves. Classes that do not occur in the
            targets do not count in the means, whatever was found of them.

    Returns:
        `map` (mean over classes and IoU thresholds 0.50 to 0.95), `ap50`, `ap75`, `map_small`, `map_medium`,
        `map_large`, in [0, 1]; `per_class`: for each name its AP, the mean over the same thresholds. NaN
        where there is no object to be found, for which pycocotools writes -1.

    Raises:
        ValueError: If there are not as many predictions as targets, a key is missing, a shape does not fit,
            a label is no category, a box is inverted, or a score is not finite.

    Source: Lin et al., *Microsoft COCO*, ECCV 2014; `pycocotools.cocoeval.COCOeval`.
    """
    if len(predictions) != len(targets) or len(targets) == 0:
        raise ValueError(f"expected predictions for each picture: {len(predictions)} for {len(targets)}")
    annotations = {}
    names = _names(categories, [*targets, *predictions])
    with _collector_paused():
        for name, pictures in (("targets", targets), ("predictions", predictions)):
            annotations[name] = _annotations(pictures, name, set(names))
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools 2.0.11 with NumPy 2
        truth, found = (_index(listed, len(targets), list(names)) for listed in annotations.values())
        judge = COCOeval(truth, found, "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    numbers = np.where(judge.stats < 0, np.nan, judge.stats)[: len(NUMBERS)].tolist()
    per_class = judge.eval["precision"][:, :, :, 0, -1].mean((0, 1))  # IoU, recall, class; all areas, 100
    named = zip(judge.params.catIds, per_class.tolist(), strict=True)
    by_name = {names[label]: value if value >= 0 else float("nan") for label, value in named}
    return {**dict(zip(NUMBERS, numbers, strict=True)), "per_class": by_name}
