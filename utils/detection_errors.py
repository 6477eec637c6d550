"""What kinds of mistakes a detector makes, counted and listed."""

from collections.abc import Sequence

import torch

from utils.coco_metrics import Boxes
from utils.overlap import box_iou, check_boxes, common

KINDS = ("right", "doubled", "confused", "misplaced", "confused_and_misplaced", "background", "ignored")
NEAR = 0.1  # from this IoU on, something found belongs to an object; TIDE's background threshold


def _assign(iou: torch.Tensor, threshold: float) -> torch.Tensor:
    """Give each object, at most once, to the best thing found: [n] indices of objects, -1 for none.

    Args:
        iou: [n, m] of things found, best first, with objects; -1 where the classes differ.
        threshold: From this IoU on.
    """
    free, owner = torch.ones(iou.shape[1], dtype=torch.bool), torch.full(iou.shape[:1], -1)
    for row in range(len(iou) if iou.shape[1] else 0):
        value, best = iou[row].where(free, -1).max(0)
        if value >= threshold:
            owner[row], free[best] = best, False
    return owner


def _largest(iou: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    """Return the largest IoU of each row [n] over the allowed objects, -1 where there is none."""
    nothing = iou.new_full((len(iou), 1), -1)
    return torch.cat([iou.where(allowed, -1), nothing], 1).amax(1)


def _in_crowd(found: Boxes, target: Boxes, threshold: float) -> torch.Tensor:
    """Tell what lies, by at least `threshold` of its area, in a crowd of its class: [n] bool."""
    crowd = target["iscrowd"].bool()
    boxes, groups = found["boxes"][:, None], target["boxes"][crowd][None]
    intersection, _ = common(boxes, groups)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    same = found["labels"][:, None] == target["labels"][crowd]
    return (same & (intersection > 0) & (intersection >= threshold * area)).any(1)


def _judge(found: Boxes, target: Boxes, threshold: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the kind [n] of each thing found, an index into KINDS, and which objects [m] are missed."""
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
    # A misplaced or a confused box points at an object, which is then not missed as well.
    for name, allowed in (("misplaced", same), ("confused", ~same)):
        rows = kind == KINDS.index(name)
        if rows.any():
            taken[iou.where(allowed, -1)[rows].argmax(1)] = True
    missed = torch.zeros_like(counts)
    missed[counts] = ~taken
    return kind, missed


def detection_errors(
    predictions: Sequence[Boxes],
    targets: Sequence[Boxes],
    score_threshold: float = 0.5,
    iou: float = 0.5,
) -> dict[str, torch.Tensor]:
    """Sort what a detector found, and what it did not find, into kinds.

    Of the boxes with a score from `score_threshold` on, the best first, each takes the object of its class
    that it overlaps most among those that are left, if their IoU is `iou` at least: `right`. The others are

    - `misplaced`: the IoU with an object of its class is 0.1 to `iou`;
    - `confused`: the IoU with an object of another class is `iou` at least;
    - `doubled`: an object of its class is overlapped so much, but a better box took it;
    - `background`: no IoU reaches 0.1;
    - `confused_and_misplaced`: what is left, 0.1 to `iou` with an object of another class;
    - `ignored`: by `iou` of its area at least it lies in a crowd of its class.

    An object is `missed` if no box took it and no misplaced or confused one points at it.

    Args:
        predictions: For each picture a dict of `boxes` [n, 4] xyxy in px, `labels` [n], `scores` [n].
        targets: For each picture a dict of `boxes`, `labels` and, if there is one, `iscrowd`.
        score_threshold: Boxes with a lower score are left out.
        iou: From this IoU on a box is well placed, 0.1 to 1.

    Returns:
        For each kind its k cases, an int64 tensor [k, 2]: the number of the picture, and the index of the
        box in its prediction, best first in each picture; for `missed`, the index in its target.

    Raises:
        ValueError: If there are not as many predictions as targets, `iou` is out of range, or a box is
            inverted.

    Source: Bolya, Foley, Hays, Hoffman, *TIDE: A General Toolbox for Identifying Object Detection Errors*,
        ECCV 2020, section 2.2.
    """
    if len(predictions) != len(targets) or not NEAR < iou <= 1:
        raise ValueError(
            f"expected as many predictions as targets and an iou of {NEAR} to 1, "
            f"got {len(predictions)}, {len(targets)} and {iou}"
        )
    listed = {kind: [] for kind in (*KINDS, "missed")}
    for number, (found, target) in enumerate(zip(predictions, targets, strict=True)):
        check_boxes(found["boxes"], f"predictions[{number}]['boxes']")
        order = found["scores"].argsort(descending=True, stable=True)
        order = order[found["scores"][order] >= score_threshold]
        target = {"iscrowd": torch.zeros_like(target["labels"]), **target}
        shown = {key: found[key][order] for key in ("boxes", "labels")}
        kind, missed = _judge(shown, target, iou)
        listed["missed"] += [(number, index) for index in missed.nonzero()[:, 0].tolist()]
        for index, code in zip(order.tolist(), kind.tolist(), strict=True):
            listed[KINDS[code]].append((number, index))
    return {kind: torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2) for kind, pairs in listed.items()}
