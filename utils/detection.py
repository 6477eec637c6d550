"""Detectors: mAP through pycocotools, kinds of errors, one epoch of training.

Models, images and targets are as torchvision's detection models have them. A model in
evaluation mode takes a list of images [3, H, W] and returns for each a dict: `boxes`
[n, 4] xyxy in px, `labels` [n] from 1 on, `scores` [n], and, if it finds them, `masks`
or `keypoints`. A target is a dict with the same keys but `scores`; where it has them,
`area` (in square px, sorts objects into small, medium and large) and `iscrowd` (1: a
group, whose parts are no mistakes) count too.
"""

import contextlib
import io
import math
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchvision.ops import box_convert, box_iou

from utils.boxes import check_boxes
from utils.runtime import autocast, count_parameters

Detections = dict[str, Any]  # a target, or what a model found in one image
Categories = Mapping[int, str] | Sequence[str] | None
# what is judged, and pycocotools' name for it
IOU_TYPES = {"boxes": "bbox", "masks": "segm", "keypoints": "keypoints"}
# pycocotools' first six; its first five for keypoints leave out small objects
NUMBERS = ("map", "ap50", "ap75", "map_small", "map_medium", "map_large")


def _check_kind(kind: str) -> None:
    """Refuse a kind that pycocotools does not judge."""
    if kind not in IOU_TYPES:
        raise ValueError(f"kind must be one of {', '.join(IOU_TYPES)}, got {kind!r}")


def _check_lists(
    predictions: Sequence[Detections], targets: Sequence[Detections]
) -> None:
    """Refuse what are not a prediction and a target for each image."""
    for name, images in (("predictions", predictions), ("targets", targets)):
        if not isinstance(images, Sequence) or not all(
            isinstance(image, Mapping) for image in images
        ):
            raise TypeError(f"{name} must be a list with one dict for each image")
    if len(predictions) != len(targets) or len(targets) == 0:
        raise ValueError(
            f"expected as many predictions as targets, one for each image: "
            f"{len(predictions)} for {len(targets)}"
        )


def _joined(
    images: Sequence[Detections], name: str, key: str, kind: str, *columns: int
) -> torch.Tensor:
    """Return a key of all images in one float64 tensor (labels: int64) on the CPU."""
    parts = []
    for number, image in enumerate(images):
        for needed in (kind, key):
            if needed not in image:
                raise ValueError(
                    f"{name}[{number}] has no {needed!r}: it holds "
                    f"{', '.join(image) or 'nothing'}"
                )
        values, shape = image[key], [len(image[kind]), *columns]
        if not isinstance(values, torch.Tensor) or list(values.shape) != shape:
            came = list(getattr(values, "shape", [])) or type(values).__name__
            hint = (
                "other keypoints than COCO's 17 need `oks_sigmas`"
                if key == "keypoints"
                else "an image without objects has boxes [0, 4] and labels [0]"
            )
            raise ValueError(
                f"{name}[{number}][{key!r}] must be a tensor {shape}, got {came}; "
                f"{hint}"
            )
        parts.append(values.detach())
    joined = torch.cat(parts).cpu() if parts else torch.zeros(0, *columns)
    if key not in ("labels", "iscrowd"):
        return joined.double()
    whole = joined.long()
    if (whole != joined).any():
        raise ValueError(
            f"{key} of the {name} must be whole numbers, got "
            f"{joined[whole != joined][0].item()}"
        )
    return whole


def _encoded(masks: torch.Tensor | list, name: str) -> list[dict[str, Any]]:
    """Return masks in pycocotools' run-length encoding, which takes little memory."""
    if isinstance(masks, list) and all(isinstance(one, Mapping) for one in masks):
        return masks
    if isinstance(masks, torch.Tensor) and masks.ndim == 4 and masks.shape[1] == 1:
        masks = masks[:, 0]  # as torchvision's Mask R-CNN has them
    if not (
        isinstance(masks, torch.Tensor)
        and masks.ndim == 3
        and ((masks >= 0) & (masks <= 1)).all()
    ):
        raise ValueError(
            f"masks of the {name} must be a tensor [n, H, W] with 0 and 1 for each "
            f"object, or probabilities [n, H, W] or [n, 1, H, W], got "
            f"{list(getattr(masks, 'shape', [])) or type(masks).__name__}; `sigmoid` "
            f"turns logits into probabilities"
        )
    masks = (masks.detach() > 0.5).cpu().numpy()
    return [rle.encode(np.asfortranarray(one, dtype=np.uint8)) for one in masks]


def _with_encoded_masks(images: Sequence[Detections], name: str) -> list[Detections]:
    """Return the same predictions or targets, their masks in run-length encoding."""
    return [
        {**image, "masks": _encoded(image["masks"], name)}
        if "masks" in image
        else image
        for image in images
    ]


def _geometry(
    images: Sequence[Detections], name: str, kind: str, joints: int
) -> dict[str, Any]:
    """Return the columns of COCO's annotations that depend on what is judged."""
    if kind == "masks":
        masks = [one for image in images for one in image["masks"]]
        return {"segmentation": masks, "area": [float(rle.area(one)) for one in masks]}
    columns = {}
    if kind == "boxes" or name == "targets":
        boxes = _joined(images, name, "boxes", kind, 4)
        check_boxes(boxes, f"boxes of the {name}")
        columns = {
            "bbox": box_convert(boxes, "xyxy", "xywh").tolist(),
            "area": (boxes[:, 2:] - boxes[:, :2]).prod(1).tolist(),
        }
    if kind == "keypoints":
        points = _joined(images, name, "keypoints", kind, joints, 3)
        seen = points[..., 2]
        if not points.isfinite().all() or (
            name == "targets" and not ((seen == 0) | (seen == 1) | (seen == 2)).all()
        ):
            raise ValueError(
                f"keypoints of the {name} must be finite x, y and, in targets, 0 (not "
                f"labelled), 1 (hidden) or 2 (visible)"
            )
        columns["keypoints"] = points.flatten(1).tolist()
        columns["num_keypoints"] = (seen > 0).sum(1).tolist()
        if name == "predictions":  # as pycocotools' `loadRes` does
            sides = points[..., :2].amax(1) - points[..., :2].amin(1)
            columns["area"] = sides.prod(1).tolist()
    return columns


def _annotations(
    images: Sequence[Detections],
    name: str,
    labels: list[int],
    known: set[int],
    kind: str,
    joints: int,
) -> list[dict[str, Any]]:
    """Write targets or predictions as COCO's annotations."""
    columns = _geometry(images, name, kind, joints)
    if unknown := set(labels) - known:
        raise ValueError(
            f"{name} have labels {sorted(unknown)}, the categories are {sorted(known)}"
        )
    counts = [len(image[kind]) for image in images]
    columns |= {
        "image_id": np.repeat(np.arange(len(images)), counts).tolist(),
        "category_id": labels,
        "iscrowd": [0] * len(labels),
        "id": range(1, len(labels) + 1),  # from 1 on: to pycocotools 0 is no match
    }
    if name == "predictions":
        scores = _joined(images, name, "scores", kind)
        if not scores.isfinite().all():
            raise ValueError(
                f"{int((~scores.isfinite()).sum())} scores of the predictions are not "
                f"finite"
            )
        columns["score"] = scores.tolist()
    elif any("iscrowd" in image for image in images):
        crowd = _joined(images, name, "iscrowd", kind)
        if not ((crowd == 0) | (crowd == 1)).all():
            raise ValueError("iscrowd of the targets must be 0 or 1")
        columns["iscrowd"] = crowd.tolist()
    if name == "targets" and any("area" in image for image in images):
        area = _joined(images, name, "area", kind)
        if not ((area >= 0) & area.isfinite()).all():
            raise ValueError(
                "area of the targets must be finite and not negative, in square px; "
                "leave the key out, and the area of the box or mask is taken"
            )
        columns["area"] = area.tolist()
    keys = list(columns)
    return [dict(zip(keys, row)) for row in zip(*columns.values(), strict=True)]  # noqa: B905


def _names(categories: Categories, labels: set[int]) -> dict[int, Any]:
    """Return what each label is called; by default the labels are their own names."""
    if categories is None:
        return {label: label for label in sorted(labels)}
    if isinstance(categories, str):
        raise TypeError(f"categories must be a list of names, got {categories!r}")
    if not isinstance(categories, Mapping):
        categories = dict(enumerate(categories))
        categories.pop(0, None)  # the background
    if len(set(categories.values())) < len(categories):
        raise ValueError(
            f"each category needs a name of its own, got {list(categories.values())}"
        )
    return dict(categories)


def _index(
    annotations: list[dict[str, Any]],
    images: list[dict[str, int]],
    labels: Sequence[int],
) -> COCO:
    """Return pycocotools' object that holds annotations."""
    coco = COCO()
    coco.dataset = {
        "images": images,
        "categories": [{"id": label} for label in labels],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _size(number: int, pair: tuple[Detections, Detections]) -> dict[str, int]:
    """Return height and width of the masks of an image, 0 where there are none."""
    sizes = {tuple(one["size"]) for image in pair for one in image["masks"]}
    if len(sizes) > 1:
        raise ValueError(
            f"masks of image {number} differ in (height, width), {sorted(sizes)}: "
            f"predictions and targets must be of the image in one and the same size"
        )
    height, width = sizes.pop() if sizes else (0, 0)
    return {"height": height, "width": width}


def evaluate_detections(
    predictions: Sequence[Detections],
    targets: Sequence[Detections],
    *,
    kind: str = "boxes",
    categories: Categories = None,
    oks_sigmas: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Judge what was found in images by what is there, as the COCO benchmark does.

    Args:
        predictions: For each image a dict of `labels` [n], `scores` [n], and of what is
            judged. The 100 best of each class in an image count (for keypoints: 20).
            Nothing found: [0, 4], [0], [0].
        targets: For each image a dict of `labels` and of what is judged. `area` [n], in
            square px, sorts objects into small (up to 32 x 32), medium, large (from
            96 x 96); default: the areas of the masks, if they are judged, or else of
            the boxes. `iscrowd` [n]: 1 marks a group, which need not be found, and in
            which nothing found is a mistake.
        kind: What is judged, by its IoU. "boxes": `boxes` [n, 4] xyxy in px. "masks":
            `masks` [n, H, W], 0 and 1, or probabilities [n, H, W] or [n, 1, H, W], of
            which those above 0.5 count; or lists of n such masks in pycocotools'
            run-length encoding. "keypoints": `keypoints` [n, K, 3], x and y in px and
            visibility (in targets 0: not labelled, does not count), judged by their
            object keypoint similarity, which needs `boxes` in the targets as well.
        categories: What the labels mean: names, of which the first is the background's,
            or a dict of label and name. Default: the labels that occur, named by
            themselves. Classes that do not occur in the targets do not count in the
            means, whatever was found of them.
        oks_sigmas: For each of the K keypoints how far people disagree about its
            place, in roots of the object's area. Default: COCO's, for its 17 keypoints.

    Returns:
        `map` (mean over classes and IoU thresholds 0.50 to 0.95), `ap50`, `ap75`,
        `map_small`, `map_medium`, `map_large`, in [0, 1]; `per_class`: for each name
        its AP, the mean over the same thresholds. NaN where there is no object to be
        found, for which pycocotools writes -1, and for small objects' keypoints, which
        COCO does not judge.

    Raises:
        TypeError: If predictions or targets are not lists of dicts.
        ValueError: If there are not as many predictions as targets, a key is missing, a
            shape does not fit, a label is no category or not whole, a box is inverted,
            or a score or an area is not finite.

    Source: Lin et al., *Microsoft COCO*, ECCV 2014; `pycocotools.cocoeval.COCOeval`.
    """
    _check_kind(kind)
    _check_lists(predictions, targets)
    groups = {"targets": targets, "predictions": predictions}
    sigmas = np.zeros(0)
    if kind == "masks":
        for name, images in groups.items():
            groups[name] = _with_encoded_masks(images, name)
    if kind == "keypoints":
        sigmas = COCOeval(iouType="keypoints").params.kpt_oks_sigmas
        sigmas = np.asarray(sigmas if oks_sigmas is None else oks_sigmas, dtype=float)
        if sigmas.ndim != 1 or not (sigmas > 0).all():
            raise ValueError(
                f"oks_sigmas must be a positive number for each keypoint, got "
                f"{oks_sigmas}"
            )
    labels = {
        name: _joined(images, name, "labels", kind).tolist()
        for name, images in groups.items()
    }
    names = _names(categories, {label for each in labels.values() for label in each})
    annotations = [
        _annotations(images, name, labels[name], set(names), kind, len(sigmas))
        for name, images in groups.items()
    ]
    listed = [{"id": number} for number in range(len(targets))]
    if kind == "masks":
        for image, pair in zip(listed, zip(*groups.values(), strict=True), strict=True):
            image |= _size(image["id"], pair)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        # pycocotools 2.0.11 with NumPy 2
        warnings.simplefilter("ignore", DeprecationWarning)
        truth, found = (_index(rows, listed, list(names)) for rows in annotations)
        judge = COCOeval(truth, found, IOU_TYPES[kind])
        if kind == "keypoints":
            judge.params.kpt_oks_sigmas = sigmas
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    judged = [name for name in NUMBERS if (kind, name) != ("keypoints", "map_small")]
    stats = np.where(judge.stats < 0, np.nan, judge.stats)[: len(judged)].tolist()
    # IoU, recall, class; all areas, as many detections as count
    per_class = judge.eval["precision"][:, :, :, 0, -1].mean((0, 1))
    named = zip(judge.params.catIds, per_class.tolist(), strict=True)
    by_name = {
        names[label]: value if value >= 0 else math.nan for label, value in named
    }
    return {
        **dict.fromkeys(NUMBERS, math.nan),
        **dict(zip(judged, stats, strict=True)),
        "per_class": by_name,
    }


KINDS = (
    "right",
    "doubled",
    "confused",
    "misplaced",
    "confused_and_misplaced",
    "background",
    "ignored",
)
# from this IoU on, something found belongs to an object; TIDE's background threshold
NEAR = 0.1


def _assign(iou: torch.Tensor, threshold: float) -> torch.Tensor:
    """Give each object, once, to the best thing found: [n] its index, -1 for none.

    Args:
        iou: [n, m] of things found, best first, with objects; -1 where the classes
            differ.
        threshold: From this IoU on.
    """
    free, owner = (
        torch.ones(iou.shape[1], dtype=torch.bool),
        torch.full(iou.shape[:1], -1),
    )
    for row in range(len(iou) if iou.shape[1] else 0):
        value, best = iou[row].where(free, -1).max(0)
        if value >= threshold:
            owner[row], free[best] = best, False
    return owner


def _largest(iou: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    """Return the largest IoU of each row [n] over the allowed objects, -1 for none."""
    nothing = iou.new_full((len(iou), 1), -1)
    return torch.cat([iou.where(allowed, -1), nothing], 1).amax(1)


def _in_crowd(found: Detections, target: Detections, threshold: float) -> torch.Tensor:
    """Tell [n] what lies, by `threshold` of its area, in a crowd of its class."""
    crowd = target["iscrowd"].bool()
    boxes, groups = found["boxes"][:, None], target["boxes"][crowd][None]
    first = torch.maximum(boxes[..., :2], groups[..., :2])
    last = torch.minimum(boxes[..., 2:], groups[..., 2:])
    intersection = (last - first).clamp(min=0).prod(-1)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    same = found["labels"][:, None] == target["labels"][crowd]
    return (same & (intersection > 0) & (intersection >= threshold * area)).any(1)


def _judge(
    found: Detections, target: Detections, threshold: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the kind [n] of each thing found, and which objects [m] are missed."""
    counts = ~target["iscrowd"].bool()
    objects, labels = target["boxes"][counts], target["labels"][counts]
    iou = box_iou(found["boxes"], objects).nan_to_num(0)  # two boxes without area
    same = found["labels"][:, None] == labels
    owner = _assign(iou.where(same, -1), threshold)
    taken = torch.zeros(len(objects), dtype=torch.bool)
    taken[owner[owner >= 0]] = True
    of_class, of_other = _largest(iou, same), _largest(iou, ~same)
    tests = {  # the first that holds, in TIDE's order
        "right": owner >= 0,
        "ignored": _in_crowd(found, target, threshold),
        "misplaced": (of_class >= NEAR) & (of_class < threshold),
        "confused": of_other >= threshold,
        "doubled": of_class >= threshold,
        "background": torch.maximum(of_class, of_other) < NEAR,
        "confused_and_misplaced": torch.ones(len(iou), dtype=torch.bool),
    }
    kind = torch.full((len(iou),), -1)
    for name, holds in tests.items():
        kind[holds & (kind < 0)] = KINDS.index(name)
    # A misplaced or a confused box points at an object, which is then not missed as
    # well.
    for name, allowed in (("misplaced", same), ("confused", ~same)):
        rows = kind == KINDS.index(name)
        if rows.any():
            taken[iou.where(allowed, -1)[rows].argmax(1)] = True
    missed = torch.zeros_like(counts)
    missed[counts] = ~taken
    return kind, missed


def detection_errors(
    predictions: Sequence[Detections],
    targets: Sequence[Detections],
    score_threshold: float = 0.5,
    iou: float = 0.5,
) -> dict[str, torch.Tensor]:
    """Sort what a detector found and what it missed into kinds of errors.

    Of the boxes with a score from `score_threshold` on, the best first, each takes the
    object of its class that it overlaps most among those that are left, if their IoU is
    `iou` at least: `right`. The others are

    - `misplaced`: the IoU with an object of its class is 0.1 to `iou`;
    - `confused`: the IoU with an object of another class is `iou` at least;
    - `doubled`: an object of its class is overlapped so much, but a better box took it;
    - `background`: no IoU reaches 0.1;
    - `confused_and_misplaced`: what is left, 0.1 to `iou` with an object of another
      class;
    - `ignored`: by `iou` of its area at least it lies in a crowd of its class.

    An object is `missed` if no box took it and no misplaced or confused one points at
    it.

    Args:
        predictions: For each image a dict of `boxes` [n, 4] xyxy in px, `labels` [n],
            `scores` [n].
        targets: For each image a dict of `boxes`, `labels` and, if there is one,
            `iscrowd`.
        score_threshold: Detections with a lower score are left out.
        iou: From this IoU on a box is well placed, above 0.1 and up to 1.

    Returns:
        For each kind its k cases, an int64 tensor [k, 2]: the number of the image,
        and the index of the box in its prediction, best first in each image; for
        `missed`, the index in its target.

    Raises:
        TypeError: If predictions or targets are not lists of dicts.
        ValueError: If there are not as many predictions as targets, a key is missing, a
            shape does not fit, a label is not whole, a box is inverted, or a score or a
            threshold is out of range.

    Source: Bolya, Foley, Hays, Hoffman, *TIDE: A General Toolbox for Identifying Object
        Detection Errors*, ECCV 2020, section 2.2.
    """
    _check_lists(predictions, targets)
    if not (NEAR < iou <= 1 and 0 <= score_threshold <= 1):
        raise ValueError(
            f"expected a score_threshold of 0 to 1 and an iou of {NEAR} to 1, got "
            f"{score_threshold} and {iou}"
        )
    for name, images in (("predictions", predictions), ("targets", targets)):
        check_boxes(_joined(images, name, "boxes", "boxes", 4), f"boxes of the {name}")
        _joined(images, name, "labels", "boxes")
    scores = _joined(predictions, "predictions", "scores", "boxes")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError(
            "scores of the predictions must be 0 to 1 and not NaN: divide percentages "
            "by 100"
        )
    listed = {kind: [] for kind in (*KINDS, "missed")}
    for number, (found, target) in enumerate(zip(predictions, targets, strict=True)):
        order = found["scores"].argsort(descending=True, stable=True)
        order = order[found["scores"][order] >= score_threshold]
        shown = {key: found[key][order].cpu() for key in ("boxes", "labels")}
        objects = {"iscrowd": torch.zeros_like(target["labels"]), **target}
        objects = {key: objects[key].cpu() for key in ("boxes", "labels", "iscrowd")}
        kind, missed = _judge(shown, objects, iou)
        listed["missed"] += [
            (number, index) for index in missed.nonzero()[:, 0].tolist()
        ]
        for index, code in zip(order.tolist(), kind.tolist(), strict=True):
            listed[KINDS[code]].append((number, index))
    return {
        kind: torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
        for kind, pairs in listed.items()
    }


def _seen(low: torch.Tensor, high: torch.Tensor, n: int, cells: int) -> torch.Tensor:
    """Return the weights [N, n, cells] with which n pixels see cells."""
    position = (torch.arange(n, device=low.device) + 0.5 - low[:, None]) * cells
    position = position / (high - low)[:, None]
    inside = (position > 0) & (position < cells)
    position = (position - 0.5).clamp(0, cells - 1)  # from the first cell's middle
    weights = 1 - (position[..., None] - torch.arange(cells, device=low.device)).abs()
    return weights.clamp(min=0) * inside[..., None]


def paste_masks(
    grids: torch.Tensor, boxes: torch.Tensor, height: int, width: int
) -> torch.Tensor:
    """Stretch masks over their boxes, without rounding: the paste of notebook 7.4.

    torchvision's `paste_masks_in_image` rounds the boxes to whole pixels. Masks that
    were cut out as torchvision cuts its targets fit best half a pixel further to the
    right and below: give `boxes + 0.5`.

    Args:
        grids: [N, m, m], float: a value for each cell of a box.
        boxes: [N, 4], xyxy in px; they may leave the image.
        height: Of the image in px.
        width: Of the image in px.

    Returns:
        [N, height, width]: at the middle of each pixel the grid, bilinear; within half
        a cell of the box's edge the border's cells; outside 0.

    Raises:
        ValueError: If the shapes do not belong together or a box has no area.
    """
    if grids.ndim != 3 or grids.shape[1] != grids.shape[2]:
        raise ValueError(f"grids must be [N, m, m], got {list(grids.shape)}")
    if boxes.shape != (len(grids), 4) or (boxes[:, 2:] <= boxes[:, :2]).any():
        raise ValueError(
            f"boxes must be [{len(grids)}, 4], a box with an area for each grid, got "
            f"{list(boxes.shape)}: a box without area is a detection to leave out"
        )
    cells = grids.shape[-1]
    rows = _seen(boxes[:, 1], boxes[:, 3], height, cells)
    columns = _seen(boxes[:, 0], boxes[:, 2], width, cells)
    return (rows @ grids @ columns.mT).clamp(0, 1)


# COCO's thresholds of the IoU, and the recalls at which it reads the precision
IOU_THRESHOLDS = tuple(float(bar) for bar in np.linspace(0.5, 0.95, 10))
RECALLS = 101


def _pair_ious(found: Detections, target: Detections, kind: str) -> torch.Tensor:
    """Return the IoU [n, m], float64, of detections and objects."""
    if kind == "boxes":
        return box_iou(found["boxes"].double(), target["boxes"].double())
    flat = []
    for one in (found, target):
        masks = one["masks"]
        masks = masks[:, 0] if masks.ndim == 4 else masks
        flat.append((masks if masks.dtype == torch.bool else masks > 0.5).flatten(1))
    a, b = (one.double() for one in flat)
    both = a @ b.T
    return both / (a.sum(1)[:, None] + b.sum(1) - both).clamp(min=1)


def match_detections(
    predictions: Sequence[Detections],
    targets: Sequence[Detections],
    *,
    kind: str = "boxes",
    thresholds: Sequence[float] = IOU_THRESHOLDS,
) -> list[torch.Tensor]:
    """Tell which object each detection takes, matched as in the COCO benchmark.

    The detections of an image come by falling score. Each takes, of the objects of its
    class that are left, the one with the largest IoU, if that reaches the threshold.

    Args:
        predictions: For each image a dict of `labels` [n], `scores` [n], and `boxes`
            [n, 4] xyxy in px or `masks` [n, H, W], bool or probabilities.
        targets: For each image a dict with the same keys but `scores`. `iscrowd` is not
            looked at.
        kind: "boxes" or "masks".
        thresholds: T values of the IoU, above 0 and up to 1. Default: COCO's ten.

    Returns:
        For each image [n, T], int64, in the order of its detections: the index of the
        object in its target, or -1.

    Raises:
        TypeError: If predictions or targets are not lists of dicts.
        ValueError: If there are not as many predictions as targets, a threshold is out
            of range, or the kind is neither boxes nor masks.

    Source: Lin et al., *Microsoft COCO*, ECCV 2014; `pycocotools.cocoeval.COCOeval`.
    """
    if kind not in ("boxes", "masks"):
        raise ValueError(f"kind must be 'boxes' or 'masks', got {kind!r}")
    if not thresholds or not all(0 < bar <= 1 for bar in thresholds):
        raise ValueError(
            f"thresholds must be numbers above 0 and up to 1, got {thresholds}"
        )
    _check_lists(predictions, targets)
    taken = []
    for found, target in zip(predictions, targets, strict=True):
        iou = _pair_ious(found, target, kind)
        iou = iou.where(found["labels"][:, None] == target["labels"], -1).cpu().numpy()
        owner = torch.full((len(iou), len(thresholds)), -1)
        best_first = found["scores"].argsort(descending=True, stable=True).tolist()
        for column, bar in enumerate(thresholds):
            free = iou.copy()
            for row in best_first if free.shape[1] else []:
                best = int(free[row].argmax())
                if free[row, best] >= min(bar, 1 - 1e-10):
                    owner[row, column] = best
                    free[:, best] = -1
        taken.append(owner)
    return taken


def resampled_ap(
    predictions: Sequence[Detections],
    targets: Sequence[Detections],
    taken: Sequence[torch.Tensor],
    *,
    counted: Sequence[torch.Tensor] | None = None,
    resamples: int = 300,
    seed: int = 0,
) -> torch.Tensor:
    """Return the AP of images as they are, and of images drawn with replacement.

    For intervals, from the quantiles over the draws, and for paired differences: the
    same seed and number of images give the same draws.

    Args:
        predictions: For each image a dict of `labels` [n] and `scores` [n].
        targets: For each image a dict of `labels` [m].
        taken: For each image [n, T], as `match_detections` returns it.
        counted: For each image a bool tensor [m]: the objects to be found. What takes
            another one is neither right nor wrong; what takes none is wrong whatever is
            counted. So that few objects do not stand against the mistakes made among
            all, each counts as many times as there are objects of its class for each
            that is counted (normalised AP). Default: all objects.
        resamples: Number of draws, from 0 on.
        seed: Of the draws.

    Returns:
        AP [1 + resamples, T] in [0, 1], the mean over classes; first of all images
        once, then of each draw. Classes of which a draw has no object are left out of
        its mean, which is NaN if there is none at all.
        Up to 0.001 above pycocotools', which misses a recall that is reached exactly
        (3 / 5 is less than its 0.6).

    Raises:
        TypeError: If predictions or targets are not lists of dicts.
        ValueError: If the lists or tensors do not belong together.

    Source: Lin et al., *Microsoft COCO*, ECCV 2014, for AP; Hoiem, Chodpathumwan, Dai,
        *Diagnosing Error in Object Detectors*, ECCV 2012, for normalised AP; Efron and
        Tibshirani, *An Introduction to the Bootstrap*, 1993, for the draws.
    """
    _check_lists(predictions, targets)
    if counted is None:
        counted = [torch.ones(len(one["labels"]), dtype=torch.bool) for one in targets]
    lengths = [
        ([len(one["labels"]) for one in predictions], [len(one) for one in taken]),
        ([len(one["labels"]) for one in targets], [len(one) for one in counted]),
    ]
    if any(one != other for one, other in lengths):
        raise ValueError(
            "taken needs a row for each detection, and counted a value for each object"
        )
    n = len(targets)
    scene = torch.arange(n).repeat_interleave(torch.tensor(lengths[0][0]))
    scores, labels = (
        torch.cat([one[key].cpu() for one in predictions])
        for key in ("scores", "labels")
    )
    right, aside = [], []  # of each detection: a counted object, another one
    for own, objects in zip(taken, counted, strict=True):
        counts = torch.cat([objects.cpu(), torch.tensor([False])])[own]  # -1: the last
        right.append(counts)
        aside.append((own >= 0) & ~counts)
    right, aside = torch.cat(right), torch.cat(aside)
    draws = torch.Generator().manual_seed(seed)
    drawn = torch.randint(n, (resamples, n), generator=draws)
    times = torch.zeros(1 + resamples, n, dtype=torch.float64)
    times[0] = 1
    times[1:].scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))
    order, aps = scores.argsort(descending=True, stable=True), []
    for label in torch.cat([one["labels"] for one in targets]).unique():
        of_class = [(one["labels"] == label).cpu() for one in targets]
        pairs = list(zip(of_class, counted, strict=True))
        every = torch.tensor([int(own.sum()) for own in of_class])
        objects = torch.tensor([int((own & some.cpu()).sum()) for own, some in pairs])
        if not objects.sum():
            continue
        wanted = (times * objects).sum(1, keepdim=True)  # of each draw
        worth = (times * every).sum(1, keepdim=True) / wanted  # 1, if all are counted
        steps = wanted * torch.linspace(0, 1, RECALLS, dtype=torch.float64)
        own = order[labels[order] == label]
        of_bars = []
        for column in range(right.shape[1]):
            some = own[~aside[own, column]]
            count = times[:, scene[some]]
            hits = (count * right[some, column]).cumsum(1)
            mistakes = (count * ~right[some, column]).cumsum(1)
            found = worth.nan_to_num(posinf=0) * hits
            precision = (found / (found + mistakes)).nan_to_num(0)
            if len(some):
                precision = precision.flip(1).cummax(1).values.flip(1)
            place = torch.searchsorted(hits, steps - 1e-9)
            precision = torch.cat([precision, torch.zeros(len(times), 1)], 1)
            of_bars.append(precision.gather(1, place).mean(1))
        ap = torch.stack(of_bars, 1)
        aps.append(ap.where(wanted > 0, torch.nan))
    if not aps:
        return torch.full((1 + resamples, right.shape[1]), torch.nan)
    return torch.stack(aps).nanmean(0)


NO_BATCH = (
    "the loader gave no batch: the set is empty, or shorter than a batch with drop_last"
)


def collate(
    batch: Sequence[tuple[torch.Tensor, Detections]],
) -> tuple[list[torch.Tensor], list[Detections]]:
    """Put examples of any size into a batch without stacking them.

    Args:
        batch: Pairs of an image [3, H, W] and its target.

    Returns:
        The images, the targets. For the `collate_fn` of a `DataLoader`.
    """
    images, targets = zip(*batch, strict=True)
    return list(images), list(targets)


def _on_device(image: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return an image as a detector takes it: [3, H, W], float, on `device`."""
    # standardised floats exceed 1, but not so far
    if image.ndim != 3 or not (
        image.dtype == torch.uint8 or (image.is_floating_point() and image.max() < 10)
    ):
        raise ValueError(
            f"images must be [3, H, W], uint8 or float in [0, 1], got "
            f"{list(image.shape)} {image.dtype} up to {image.max().item():g}"
        )
    image = image.to(device, non_blocking=True)
    return image.float() / 255 if image.dtype == torch.uint8 else image


def _batches(
    loader: Iterable, device: torch.device
) -> Iterator[tuple[list[torch.Tensor], Sequence[Detections]]]:
    """Yield the images of each batch, on `device`, and their targets."""
    for batch in loader:
        if (
            not isinstance(batch, tuple | list)
            or len(batch) != 2
            or not all(isinstance(target, Mapping) for target in batch[1])
            or len(batch[0]) != len(batch[1])
        ):
            raise ValueError(
                "the loader must yield images and as many targets, a dict for each: "
                "give the DataLoader `collate_fn=collate`"
            )
        images, targets = batch
        yield [_on_device(image, device) for image in images], targets


def train_detector_one_epoch(
    model: nn.Module,
    loader: Iterable,
    *,
    optimizer: Optimizer,
    device: torch.device,
    scheduler: LRScheduler | None = None,
    max_norm: float | None = None,
    amp: bool = False,
) -> dict[str, float]:
    """Train a detector on every batch of `loader` once.

    Args:
        model: On `device`. In training mode it returns a dict of losses for
            `(images, targets)`, whose sum is minimised. It is left in that mode.
        loader: Yields images (a list, or a batch [B, 3, H, W]; uint8 is divided by
            255) and B targets.
        optimizer: Of the model's parameters.
        device: Where to compute.
        scheduler: Stepped after every optimiser step.
        max_norm: Gradients are scaled down to this norm where theirs is greater.
        amp: Compute the losses with `runtime.autocast`, in bfloat16 where that is fast.
            (Around the whole call, autocast would keep the weights of the first step.)

    Returns:
        The means over images: `loss`, the sum, and each part by its name.

    Raises:
        FloatingPointError: If a loss is infinite or not a number; the weights are still
            those before it.
        TypeError: If the model does not return a dict of losses.
        ValueError: If the loader yields no batch or something else than images and
            targets, or the optimizer is another model's.
    """
    parameters = {id(parameter) for parameter in model.parameters()}
    if parameters.isdisjoint(
        id(parameter)
        for group in optimizer.param_groups
        for parameter in group["params"]
    ):
        raise ValueError(
            "the optimizer holds no parameter of this model, which would not learn: "
            "make it from `model.parameters()`"
        )
    model.train()
    precision = autocast(device, enabled=amp)
    sums, count = {}, 0
    for step, (images, targets) in enumerate(_batches(loader, device), start=1):
        targets = [
            {
                key: v.to(device) if isinstance(v, torch.Tensor) else v
                for key, v in target.items()
            }
            for target in targets
        ]
        with precision:
            losses = model(images, targets)
        if not isinstance(losses, Mapping) or not losses:
            raise TypeError(
                f"in training mode a detector returns a dict of losses, got "
                f"{type(losses).__name__}"
            )
        loss = sum(losses.values())
        values = {"loss": loss.item()} | {
            name: part.item() for name, part in losses.items()
        }
        if not math.isfinite(values["loss"]):
            raise FloatingPointError(
                f"the loss is not finite at step {step}, lower the rate: {values}"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if max_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        sums = {
            name: sums.get(name, 0.0) + value * len(targets)
            for name, value in values.items()
        }
        count += len(targets)
    if count == 0:
        raise ValueError(NO_BATCH)
    return {name: total / count for name, total in sums.items()}


def _wait(device: torch.device) -> None:
    """Wait until a GPU has done its work: it goes on after a call has returned."""
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()


def _found(outputs: object, count: int, kind: str) -> list[Detections]:
    """Return a model's outputs on the CPU; refuse what no detector returns."""
    keys = (kind, "labels", "scores")
    if (
        not isinstance(outputs, Sequence)
        or len(outputs) != count
        or not all(
            isinstance(found, Mapping) and set(keys) <= found.keys()
            for found in outputs
        )
    ):
        raise TypeError(
            f"in evaluation mode a detector returns {count} dicts of "
            f"{', '.join(keys)}, one for each image"
        )
    if kind == "masks":
        outputs = _with_encoded_masks(outputs, "predictions")
    return [
        {
            key: found[key].cpu()
            if isinstance(found[key], torch.Tensor)
            else found[key]
            for key in keys
        }
        for found in outputs
    ]


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Set a model to evaluation mode, without gradients, and each module back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes:
            module.training = training


def coco_evaluate(
    model: nn.Module,
    loader: Iterable,
    *,
    device: torch.device,
    kind: str = "boxes",
    categories: Categories = None,
    oks_sigmas: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Judge a detector on every image of `loader`, in evaluation mode.

    Args:
        model: On `device`. Afterwards it is in the mode it was in.
        loader: Yields images (a list, or a batch [B, 3, H, W]; uint8 is divided by 255)
            and B targets, in any order. Its batch size is the model's, for the time
            too.
        device: Where to compute.
        kind: "boxes", "masks" or "keypoints", as for `evaluate_detections`. Masks are
            kept in run-length encoding, so that those of a whole set fit into memory.
        categories: As for `evaluate_detections`. Default: `loader.dataset.classes`, if
            it has them.
        oks_sigmas: As for `evaluate_detections`.

    Returns:
        What `evaluate_detections` does, and `milliseconds_per_picture`: the mean time
        of the model alone for an image, with all that it does before and after its
        network, warmed up with the first batch; `parameters`.

    Raises:
        TypeError: If the model does not return what torchvision's detectors do.
        ValueError: As for `evaluate_detections`, or if the loader yields no batch or
            something else than images and targets.
    """
    _check_kind(kind)
    if categories is None:
        categories = getattr(getattr(loader, "dataset", None), "classes", None)
    kept = {kind, "boxes", "labels", "area", "iscrowd"}  # of a target
    predictions, truth, seconds = [], [], 0.0
    with _evaluating(model):
        for images, targets in _batches(loader, device):
            if not predictions:
                model(images)  # the first call is slow, and not measured
            _wait(device)
            start = time.perf_counter()
            outputs = model(images)
            _wait(device)
            seconds += time.perf_counter() - start
            predictions += _found(outputs, len(images), kind)
            targets = [
                {key: target[key] for key in kept & target.keys()} for target in targets
            ]
            truth += (
                _with_encoded_masks(targets, "targets") if kind == "masks" else targets
            )
    if not predictions:
        raise ValueError(NO_BATCH)
    result = evaluate_detections(
        predictions, truth, kind=kind, categories=categories, oks_sigmas=oks_sigmas
    )
    return {
        **result,
        "milliseconds_per_picture": 1000 * seconds / len(predictions),
        "parameters": count_parameters(model),
    }
