"""Non-maximum suppression: of the boxes that a detector puts on one object, keep the best."""

import torch

from utils.overlap import check_boxes, common, upcast

METHODS = ("gaussian", "linear")


def _check(boxes: torch.Tensor, scores: torch.Tensor) -> None:
    """Refuse what are not boxes with scores."""
    if boxes.ndim != 2 or scores.shape != boxes.shape[:1]:
        shapes = f"{list(boxes.shape)} and {list(scores.shape)}"
        raise ValueError(f"expected boxes [N, 4] and scores [N], got {shapes}")
    check_boxes(boxes)
    if scores.isnan().any():
        raise ValueError(f"{int(scores.isnan().sum())} of {len(scores)} scores are not numbers")


def _iou(box: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Return the IoU of one box [4] with boxes [N, 4]: [N]."""
    intersection, union = common(box, boxes)
    return intersection / union


def _at_most(threshold: float, dtype: torch.dtype) -> float:
    """Return the largest number of `dtype` up to `threshold`: as float32, 0.3 is a little more than 0.3."""
    nearest = torch.tensor(threshold, dtype=dtype)
    below = torch.nextafter(nearest, torch.tensor(-torch.inf, dtype=dtype))
    return below.item() if nearest.item() > threshold else nearest.item()


def _greedy(
    boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float, classes: torch.Tensor | None
) -> torch.Tensor:
    """Keep the best box, drop those of its class that overlap it too much, and so on with the rest."""
    boxes, kept = upcast(boxes), []
    limit = _at_most(iou_threshold, torch.float64 if boxes.dtype == torch.float64 else torch.float32)
    order = scores.argsort(descending=True, stable=True)
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(best)
        doubled = _iou(boxes[best], boxes[rest]) > limit
        if classes is not None:
            doubled &= classes[rest] == classes[best]
        order = rest[~doubled]
    return torch.stack(kept) if kept else order


def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Keep the boxes that no better kept box overlaps by more than a threshold.

    Args:
        boxes: [N, 4], xyxy in px.
        scores: [N]. Of equal scores the first box counts as the better.
        iou_threshold: A box goes whose IoU with a kept one is greater.

    Returns:
        [K], int64: indices of the kept boxes, best first.

    Raises:
        ValueError: If the shapes do not fit, a box is inverted, or a score is not a number.

    Source: `torchvision.ops.nms`.
    """
    _check(boxes, scores)
    return _greedy(boxes, scores, iou_threshold, None)


def batched_nms(
    boxes: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor, iou_threshold: float
) -> torch.Tensor:
    """Do `nms` in each group for itself: boxes of different classes, or pictures, leave each other alone.

    Args:
        boxes: [N, 4], xyxy in px.
        scores: [N].
        idxs: [N], integers: the group of each box, its class, say.
        iou_threshold: As for `nms`.

    Returns:
        [K], int64: indices of the kept boxes of all groups, best first.

    Raises:
        ValueError: If the shapes do not fit, a box is inverted, or a score is not a number.

    Source: `torchvision.ops.batched_nms`. For few boxes it moves the groups apart instead of comparing
        classes, which rounds the coordinates, and does not tell all groups apart if some are negative.
    """
    _check(boxes, scores)
    if idxs.shape != scores.shape:
        raise ValueError(f"expected a group for each of {len(scores)} boxes, got {list(idxs.shape)}")
    return _greedy(boxes, scores, iou_threshold, idxs)


def soft_nms(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    *,
    method: str = "gaussian",
    sigma: float = 0.5,
    iou_threshold: float = 0.3,
    score_threshold: float = 0.001,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Lower the scores of boxes that overlap a better one, instead of dropping them.

    Args:
        boxes: [N, 4], xyxy in px.
        scores: [N], from 0 on.
        method: "gaussian": times exp(-IoU^2 / sigma). "linear": times 1 - IoU where IoU >= `iou_threshold`.
        sigma: Width of the Gaussian; the smaller, the harder.
        iou_threshold: For "linear".
        score_threshold: Boxes whose score falls below it are left out.

    Returns:
        [K], int64: indices of the boxes in the order in which they were chosen; and [K] their new scores,
        which fall in this order.

    Raises:
        ValueError: If the shapes do not fit, a box is inverted, a score is negative or not a number, the
            method is another, or `sigma` is not positive.

    Source: Bodla, Singh, Chellappa, Davis, *Soft-NMS*, ICCV 2017, figure 2 and eq. 3.
    """
    _check(boxes, scores)
    if (scores < 0).any():
        raise ValueError("scores must not be negative: soft-NMS lowers them by multiplying")
    if method not in METHODS or sigma <= 0:
        raise ValueError(f"method must be {' or '.join(METHODS)} and sigma positive, got {method!r}, {sigma}")
    boxes, kept, lowered = upcast(boxes), [], []
    order = scores.argsort(descending=True, stable=True)
    scores = upcast(scores)[order]
    while len(order):
        top = (scores == scores.max()).nonzero()[0, 0]  # the first of equals
        if scores[top] < score_threshold:
            break
        best, others = order[top], torch.arange(len(order), device=order.device) != top
        kept.append(best)
        lowered.append(scores[top])
        order, scores = order[others], scores[others]
        iou = _iou(boxes[best], boxes[order]).nan_to_num(0)  # two boxes without area do not overlap
        factor = torch.exp(-(iou**2) / sigma)
        if method == "linear":
            factor = torch.where(iou >= iou_threshold, 1 - iou, 1)
        scores = scores * factor
    return (torch.stack(kept), torch.stack(lowered)) if kept else (order[:0], scores[:0])
