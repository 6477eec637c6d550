"""What torchvision.ops lacks for boxes: soft-NMS, anchors, matching and encoding.

Boxes are [N, 4], xyxy in pixels, on the edges of pixels: [0, 0, W, H] is a whole image,
x2 - x1 a width. No box at all, [0, 4], is fine. IoU, losses, formats and greedy NMS are
in `torchvision.ops`, which takes a box with x2 < x1 without complaint; here it is
refused. All functions are vectorised and work on any device.
"""

import math
from collections.abc import Sequence

import torch
from torchvision.ops import box_iou

METHODS = ("gaussian", "linear")
# what `match_anchors` says of an anchor without an object: background, to be ignored
BELOW, BETWEEN = -1, -2
# `decode` enlarges a box at most 62.5 times, so that exp cannot overflow
LARGEST_STEP = math.log(1000 / 16)
Weights = tuple[float, float, float, float]


def check_boxes(boxes: torch.Tensor, name: str = "boxes") -> None:
    """Refuse what is not a set of boxes.

    Args:
        boxes: [N, 4], xyxy.
        name: What the message calls them.

    Raises:
        ValueError: If the shape is not [N, 4], or a box has x2 < x1 or y2 < y1 or is
            not finite.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(
            f"{name} must be [N, 4], got {list(boxes.shape)}; one box is box[None], no "
            f"box at all is torch.zeros(0, 4)"
        )
    good = (boxes[:, 2:] >= boxes[:, :2]).all(1) & boxes.isfinite().all(1)
    if not good.all():
        raise ValueError(
            f"{name} must be xyxy with x1 <= x2 and y1 <= y2, and finite; "
            f"{int((~good).sum())} of {len(good)} are not, first "
            f"{boxes[~good][0].tolist()}: use `torchvision.ops.box_convert` if they "
            f"are in another format, clamp sizes that a network predicts"
        )


def _at_least_float32(values: torch.Tensor) -> torch.Tensor:
    """Return values in a type that areas fit into: float16 ends at 65504."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


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
        scores: [N], 0 to 1.
        method: "gaussian": times exp(-IoU^2 / sigma). "linear": times 1 - IoU where IoU
            >= `iou_threshold`.
        sigma: Width of the Gaussian; the smaller, the harder.
        iou_threshold: For "linear", 0 to 1.
        score_threshold: Boxes whose score falls below it are left out, 0 to 1.

    Returns:
        [K], int64: indices of the boxes in the order in which they were chosen; and [K]
        their new scores, which fall in this order.

    Raises:
        ValueError: If the shapes do not fit, a box is inverted, a score or a threshold
            is not 0 to 1, the method is another, or `sigma` is not positive.

    Source: Bodla, Singh, Chellappa, Davis, *Soft-NMS*, ICCV 2017, figure 2 and eq. 3.
    """
    check_boxes(boxes)
    if scores.shape != boxes.shape[:1]:
        raise ValueError(
            f"expected a score for each of {len(boxes)} boxes, got scores "
            f"{list(scores.shape)}"
        )
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError(
            "scores must be 0 to 1 and not NaN: divide percentages by 100, apply "
            "`sigmoid` to logits"
        )
    if not (0 <= iou_threshold <= 1 and 0 <= score_threshold <= 1):
        raise ValueError(
            f"thresholds must be 0 to 1, got iou_threshold {iou_threshold} and "
            f"score_threshold {score_threshold}"
        )
    if method not in METHODS or not 0 < sigma < math.inf:
        raise ValueError(
            f"method must be {' or '.join(METHODS)} and sigma positive, got "
            f"{method!r}, {sigma}"
        )
    boxes, kept, lowered = _at_least_float32(boxes), [], []
    order = scores.argsort(descending=True, stable=True)
    scores = _at_least_float32(scores)[order]
    while len(order):
        top = (scores == scores.max()).nonzero()[0, 0]  # the first of equals
        if scores[top] < score_threshold:
            break
        best, others = order[top], torch.arange(len(order), device=order.device) != top
        kept.append(best)
        lowered.append(scores[top])
        order, scores = order[others], scores[others]
        # two boxes without area do not overlap
        iou = box_iou(boxes[best][None], boxes[order])[0].nan_to_num(0)
        factor = torch.exp(-(iou**2) / sigma)
        if method == "linear":
            factor = torch.where(iou >= iou_threshold, 1 - iou, 1)
        scores = scores * factor
    return (
        (torch.stack(kept), torch.stack(lowered)) if kept else (order[:0], scores[:0])
    )


def generate_anchors(
    grid_sizes: Sequence[tuple[int, int]],
    strides: Sequence[int | tuple[int, int]],
    sizes: Sequence[Sequence[float]],
    aspect_ratios: Sequence[Sequence[float]],
    *,
    device: torch.device | None = None,
) -> torch.Tensor:
    """Place boxes of several shapes on every cell of one or more feature maps.

    The boxes of cell (row, column) are centred on (column, row) times the stride, on
    its upper left corner: so torchvision does. They are rounded to whole numbers at the
    origin, and may reach out of the image.

    Args:
        grid_sizes: (rows, columns) of each map.
        strides: Pixels from one cell to the next, of each map: one number, or (down,
            across).
        sizes: For each map, the square roots of the areas, in px.
        aspect_ratios: For each map, height / width; every size comes in every ratio.
        device: Where to make them.

    Returns:
        [A, 4], float32 xyxy: map after map, cell after cell by rows, and in a cell
        ratio after ratio, in each all sizes.

    Raises:
        ValueError: If there are not as many of each as there are maps, or a number is
            not positive.

    Source: `torchvision.models.detection.anchor_utils.AnchorGenerator`.
    """
    lengths = [len(grid_sizes), len(strides), len(sizes), len(aspect_ratios)]
    if len(set(lengths)) > 1 or any(
        isinstance(of_map, int | float) for of_map in (*sizes, *aspect_ratios)
    ):
        raise ValueError(
            f"for each feature map give one (rows, columns), one stride, a list of "
            f"sizes and a list of ratios, as in sizes=[[32], [64]] for two maps; got "
            f"{lengths} of them: {sizes=}, {aspect_ratios=}"
        )
    levels = [torch.zeros(0, 4, device=device)]
    for (rows, columns), stride, size, ratio in zip(
        grid_sizes, strides, sizes, aspect_ratios, strict=True
    ):
        down, across = (stride, stride) if isinstance(stride, int | float) else stride
        numbers = (rows, columns, down, across, *size, *ratio)
        positive = all(0 < number < math.inf for number in numbers)
        if not positive or rows % 1 or columns % 1:
            raise ValueError(
                f"rows and columns must be whole, and all numbers positive, got "
                f"{(rows, columns), stride, size, ratio}"
            )
        tall = torch.tensor(ratio, dtype=torch.float32, device=device).sqrt()[:, None]
        side = torch.tensor(size, dtype=torch.float32, device=device)
        width, height = (1 / tall * side).flatten(), (tall * side).flatten()
        # [shapes, 4]
        shapes = (torch.stack([-width, -height, width, height], 1) / 2).round()
        y = torch.arange(rows, device=device) * down
        x = torch.arange(columns, device=device) * across
        y, x = torch.meshgrid(y, x, indexing="ij")
        corners = torch.stack([x, y, x, y], -1).reshape(-1, 1, 4)
        levels.append((corners + shapes).reshape(-1, 4))
    return torch.cat(levels)


def match_anchors(
    iou: torch.Tensor,
    high_threshold: float,
    low_threshold: float,
    allow_low_quality_matches: bool = False,
) -> torch.Tensor:
    """Give each anchor the object that it overlaps most, if it overlaps it enough.

    Args:
        iou: [M, N], of M objects with N anchors, from `torchvision.ops.box_iou`.
        high_threshold: From here on an anchor is for its object, 0 to 1.
        low_threshold: Below it an anchor is background.
        allow_low_quality_matches: An anchor that is the best (or one of the equally
            best) of some object is given the object that the anchor itself overlaps
            most, however little.

    Returns:
        [N], int64: an object's index, -1 for background, -2 for what lies between the
        thresholds. All -1 if there is no object.

    Raises:
        ValueError: If the shape is another, the thresholds are not 0 to 1 or in the
            wrong order, or an IoU is NaN or out of range.

    Source: Girshick, *Fast R-CNN*, 2015, and Ren et al., *Faster R-CNN*, 2015, section
        3.1.2; `torchvision.models.detection._utils.Matcher` (which refuses an image
        without objects).
    """
    # a little more than 1: an IoU is rounded
    if iou.ndim != 2 or not ((iou >= 0) & (iou <= 1.001)).all():
        raise ValueError(
            f"iou must be [objects, anchors], 0 to 1 without NaN, got "
            f"{list(iou.shape)}: `remove_small_boxes` of torchvision.ops takes out "
            f"boxes without area, whose IoU is NaN"
        )
    if not 0 <= low_threshold <= high_threshold <= 1:
        raise ValueError(
            f"thresholds must be 0 <= low_threshold <= high_threshold <= 1, got low "
            f"{low_threshold} and high {high_threshold}"
        )
    if iou.numel() == 0:
        return torch.full(iou.shape[1:], BELOW, dtype=torch.int64, device=iou.device)
    value, nearest = iou.max(0)
    matches = nearest.where(value >= high_threshold, BETWEEN).where(
        value >= low_threshold, BELOW
    )
    if not allow_low_quality_matches:
        return matches
    is_best = (iou == iou.amax(1, keepdim=True)).any(0)  # of some object
    return nearest.where(is_best, matches)


def _check_weights(weights: Weights) -> None:
    """Refuse weights that cannot be taken back by a division."""
    if len(weights) != 4 or not all(0 < weight < math.inf for weight in weights):
        raise ValueError(
            f"weights must be four positive numbers, such as (10, 10, 5, 5), got "
            f"{weights}"
        )


def encode(
    reference_boxes: torch.Tensor,
    proposals: torch.Tensor,
    weights: Weights = (1.0, 1.0, 1.0, 1.0),
) -> torch.Tensor:
    """Say how to get from proposals to boxes: shifts in sides, logarithms of growth.

    Args:
        reference_boxes: [N, 4], xyxy in px: where to go.
        proposals: [N, 4]: where from; anchors, say.
        weights: Factors of the four numbers, which bring them to a like size.

    Returns:
        [N, 4]: dx, dy, dw, dh.

    Raises:
        ValueError: If the shapes do not fit, a box has no area (its logarithm would be
            infinite), or a weight is not positive.

    Source: Girshick et al., *Rich feature hierarchies*, CVPR 2014, appendix C;
        `torchvision.models.detection._utils.BoxCoder.encode_single`.
    """
    _check_weights(weights)
    check_boxes(reference_boxes, "reference_boxes")
    check_boxes(proposals, "proposals")
    if len(reference_boxes) != len(proposals):
        raise ValueError(
            f"expected a proposal for each box, got {len(reference_boxes)} boxes and "
            f"{len(proposals)} proposals: repeat or choose before you encode"
        )
    goals, starts = _at_least_float32(reference_boxes), _at_least_float32(proposals)
    size, new_size = starts[:, 2:] - starts[:, :2], goals[:, 2:] - goals[:, :2]
    if not ((size > 0) & (new_size > 0)).all():
        raise ValueError(
            "boxes without width or height cannot be encoded: use `remove_small_boxes` "
            "of torchvision.ops first"
        )
    centre, new_centre = starts[:, :2] + 0.5 * size, goals[:, :2] + 0.5 * new_size
    codes = torch.cat([(new_centre - centre) / size, torch.log(new_size / size)], 1)
    return codes * torch.tensor(weights, dtype=codes.dtype, device=codes.device)


def decode(
    rel_codes: torch.Tensor,
    boxes: torch.Tensor,
    weights: Weights = (1.0, 1.0, 1.0, 1.0),
) -> torch.Tensor:
    """Move proposals by what a network predicts: the inverse of `encode`.

    Args:
        rel_codes: [N, 4]: dx, dy, dw, dh; or [N, C * 4], such numbers for each of C
            classes.
        boxes: [N, 4], xyxy in px: the proposals.
        weights: Those of `encode`.

    Returns:
        [N, 4], or [N, C * 4], xyxy, float32 at least. No box grows more than 62.5
        times, so that nothing overflows.

    Raises:
        ValueError: If the shapes do not fit, a proposal is inverted, a code is NaN, or
            a weight is not positive.

    Source: `torchvision.models.detection._utils.BoxCoder.decode_single`.
    """
    _check_weights(weights)
    check_boxes(boxes)
    if rel_codes.ndim != 2 or rel_codes.shape[1] % 4 or len(rel_codes) != len(boxes):
        raise ValueError(
            f"expected rel_codes [N, 4] or [N, C * 4] for {len(boxes)} boxes, got "
            f"{list(rel_codes.shape)}"
        )
    if rel_codes.isnan().any():
        raise ValueError(
            f"{int(rel_codes.isnan().sum())} of {rel_codes.numel()} codes are NaN: the "
            f"network that predicts them has diverged"
        )
    codes = _at_least_float32(rel_codes)
    boxes = boxes.to(codes.dtype)
    size = boxes[:, None, 2:] - boxes[:, None, :2]  # [N, 1, 2]
    centre = boxes[:, None, :2] + 0.5 * size
    codes = codes.unflatten(1, (codes.shape[1] // 4, 4)) / torch.tensor(
        weights, dtype=codes.dtype, device=codes.device
    )
    centre = codes[..., :2] * size + centre  # [N, C, 2]
    size = codes[..., 2:].clamp(max=LARGEST_STEP).exp() * size
    return torch.cat([centre - 0.5 * size, centre + 0.5 * size], 2).flatten(1)
