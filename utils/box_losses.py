"""Losses that train boxes and their scores, pair by pair."""

import torch
from torch.nn import functional as F

from utils.overlap import aspect_term, common, distance_term, enclosing

REDUCTIONS = ("none", "mean", "sum")


def _prepare(boxes1: torch.Tensor, boxes2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Check the shapes of paired boxes and return them in a type that their areas fit into."""
    if boxes1.ndim == 0 or boxes1.shape != boxes2.shape or boxes1.shape[-1] != 4:
        shapes = f"{list(boxes1.shape)} and {list(boxes2.shape)}"
        raise ValueError(f"expected pairs, boxes1 [N, 4] and boxes2 [N, 4], got {shapes}")
    full = (torch.float32, torch.float64)
    return tuple(boxes if boxes.dtype in full else boxes.float() for boxes in (boxes1, boxes2))


def _reduce(loss: torch.Tensor, reduction: str) -> torch.Tensor:
    """Return `loss`, its mean (0 for no pair at all) or its sum."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    if reduction == "none":
        return loss
    return loss.sum() / max(loss.numel(), 1) if reduction == "mean" else loss.sum()


def generalized_box_iou_loss(
    boxes1: torch.Tensor, boxes2: torch.Tensor, reduction: str = "none", eps: float = 1e-7
) -> torch.Tensor:
    """Return 1 minus the generalised IoU of each pair.

    A network that begins to learn may predict an inverted box (x2 < x1). As in torchvision, no loss refuses
    one: it has no intersection, and an area with a sign. Let the network predict sizes that cannot become
    negative, through `exp` or `softplus`, or through `decode`.

    Args:
        boxes1: [N, 4] or [4], xyxy in px.
        boxes2: As many.
        reduction: "none", "mean" (0 for no pairs) or "sum".
        eps: Keeps denominators from 0, in square pixels.

    Returns:
        [N], or a scalar; 0 to 2.

    Raises:
        ValueError: If the boxes are not pairs, or the reduction is another.

    Source: Rezatofighi et al., *Generalized Intersection over Union*, CVPR 2019, algorithm 1;
        `torchvision.ops.generalized_box_iou_loss`.
    """
    boxes1, boxes2 = _prepare(boxes1, boxes2)
    intersection, union = common(boxes1, boxes2)
    width, height = enclosing(boxes1, boxes2)
    around = width * height
    return _reduce(1 - intersection / (union + eps) + (around - union) / (around + eps), reduction)


def _distance_loss(
    boxes1: torch.Tensor, boxes2: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the distance IoU loss and the IoU of each pair."""
    intersection, union = common(boxes1, boxes2)
    iou = intersection / (union + eps)
    return 1 - iou + distance_term(boxes1, boxes2, eps), iou


def distance_box_iou_loss(
    boxes1: torch.Tensor, boxes2: torch.Tensor, reduction: str = "none", eps: float = 1e-7
) -> torch.Tensor:
    """Return 1 minus the distance IoU of each pair.

    Args:
        boxes1: [N, 4] or [4], xyxy in px; inverted ones as for `generalized_box_iou_loss`.
        boxes2: As many.
        reduction: "none", "mean" (0 for no pairs) or "sum".
        eps: Keeps denominators from 0, in square pixels.

    Returns:
        [N], or a scalar; 0 to 2.

    Raises:
        ValueError: If the boxes are not pairs, or the reduction is another.

    Source: Zheng et al., *Distance-IoU Loss*, AAAI 2020, eq. 7; `torchvision.ops.distance_box_iou_loss`.
    """
    return _reduce(_distance_loss(*_prepare(boxes1, boxes2), eps)[0], reduction)


def complete_box_iou_loss(
    boxes1: torch.Tensor, boxes2: torch.Tensor, reduction: str = "none", eps: float = 1e-7
) -> torch.Tensor:
    """Return 1 minus the complete IoU of each pair.

    Args:
        boxes1: [N, 4] or [4], xyxy in px; inverted ones as for `generalized_box_iou_loss`. A box with neither
            width nor height has no aspect ratio: its loss is NaN.
        boxes2: As many.
        reduction: "none", "mean" (0 for no pairs) or "sum".
        eps: Keeps denominators from 0.

    Returns:
        [N], or a scalar; from 0 on.

    Raises:
        ValueError: If the boxes are not pairs, or the reduction is another.

    Source: Zheng et al., *Distance-IoU Loss*, AAAI 2020, eq. 8 to 11;
        `torchvision.ops.complete_box_iou_loss`.
    """
    boxes1, boxes2 = _prepare(boxes1, boxes2)
    loss, iou = _distance_loss(boxes1, boxes2, eps)
    return _reduce(loss + aspect_term(boxes1, boxes2, iou, eps), reduction)


def sigmoid_focal_loss(
    inputs: torch.Tensor,
    targets: torch.Tensor,
    alpha: float = 0.25,
    gamma: float = 2,
    reduction: str = "none",
) -> torch.Tensor:
    """Return the binary cross-entropy, in which well classified examples count little.

    Args:
        inputs: Logits, any shape.
        targets: 0 or 1 (or between), floating, the same shape.
        alpha: Weight of the ones, 0 to 1; 1 - alpha is that of the zeros. -1: both count 1.
        gamma: How fast an example loses its weight as it is learnt; 0 is plain cross-entropy.
        reduction: "none", "mean" or "sum".

    Returns:
        The shape of `inputs`, or a scalar.

    Raises:
        ValueError: If shapes differ, or `alpha` or the reduction is another.

    Source: Lin et al., *Focal Loss for Dense Object Detection*, ICCV 2017, eq. 5;
        `torchvision.ops.sigmoid_focal_loss`.
    """
    if inputs.shape != targets.shape:
        raise ValueError(f"expected a target for each logit, got {list(inputs.shape)}, {list(targets.shape)}")
    if not 0 <= alpha <= 1 and alpha != -1:
        raise ValueError(f"alpha must be 0 to 1, or -1 for no weights, got {alpha}")
    probability = inputs.sigmoid()
    missing = probability * (1 - targets) + (1 - probability) * targets  # 1 - p_t
    loss = F.binary_cross_entropy_with_logits(inputs, targets, reduction="none") * missing**gamma
    if alpha >= 0:
        loss = (alpha * targets + (1 - alpha) * (1 - targets)) * loss
    return _reduce(loss, reduction)
