"""Anchors: where they stand, which object each is for, and how far off it is."""

import math
from collections.abc import Sequence

import torch

from utils.overlap import check_boxes, sides

BELOW, BETWEEN = -1, -2  # what `match` says of an anchor without an object: background, to be ignored
LARGEST_STEP = math.log(1000 / 16)  # `decode` enlarges a box at most 62.5 times, so that exp cannot overflow
Weights = tuple[float, float, float, float]


def anchors(
    grid_sizes: Sequence[tuple[int, int]],
    strides: Sequence[int | tuple[int, int]],
    sizes: Sequence[Sequence[float]],
    aspect_ratios: Sequence[Sequence[float]],
    *,
    device: torch.device | None = None,
) -> torch.Tensor:
    """Place boxes of several shapes on every cell of one or more feature maps.

    The boxes of cell (row, column) are centred on (column, row) times the stride, on its upper left corner:
    so torchvision does. They are rounded to whole numbers at the origin, and may reach out of the picture.

    Args:
        grid_sizes: (rows, columns) of each map.
        strides: Pixels from one cell to the next, of each map: one number, or (down, across).
        sizes: For each map, the square roots of the areas, in px.
        aspect_ratios: For each map, height / width; every size comes in every ratio.
        device: Where to make them.

    Returns:
        [A, 4], float32 xyxy: map after map, cell after cell by rows, and in a cell ratio after ratio, in each
        all sizes.

    Raises:
        ValueError: If there are not as many of each as there are maps, or a number is not positive.

    Source: `torchvision.models.detection.anchor_utils.AnchorGenerator`.
    """
    lengths = {len(grid_sizes), len(strides), len(sizes), len(aspect_ratios)}
    if len(lengths) > 1:
        raise ValueError(f"grids, strides, sizes and ratios must be as many as the maps, got {lengths}")
    levels = [torch.zeros(0, 4, device=device)]
    for (rows, columns), stride, size, ratio in zip(grid_sizes, strides, sizes, aspect_ratios, strict=True):
        down, across = (stride, stride) if isinstance(stride, int) else stride
        if min(rows, columns, down, across, *size, *ratio) <= 0:
            raise ValueError(f"numbers must be positive, got {(rows, columns), stride, size, ratio}")
        tall = torch.tensor(ratio, dtype=torch.float32, device=device).sqrt()[:, None]
        side = torch.tensor(size, dtype=torch.float32, device=device)
        width, height = (1 / tall * side).flatten(), (tall * side).flatten()
        shapes = (torch.stack([-width, -height, width, height], 1) / 2).round()  # [shapes, 4]
        y = torch.arange(rows, device=device) * down
        x = torch.arange(columns, device=device) * across
        y, x = torch.meshgrid(y, x, indexing="ij")
        corners = torch.stack([x, y, x, y], -1).reshape(-1, 1, 4)
        levels.append((corners + shapes).reshape(-1, 4))
    return torch.cat(levels)


def match(
    iou: torch.Tensor, high_threshold: float, low_threshold: float, allow_low_quality_matches: bool = False
) -> torch.Tensor:
    """Give each anchor the object that it overlaps most, if it overlaps it enough.

    Args:
        iou: [M, N], of M objects with N anchors, from `box_iou`.
        high_threshold: From here on an anchor is for its object.
        low_threshold: Below it an anchor is background.
        allow_low_quality_matches: An anchor that is the best (or one of the equally best) of some object is
            given the object that the anchor itself overlaps most, however little.

    Returns:
        [N], int64: an object's index, -1 for background, -2 for what lies between the thresholds. All -1 if
        there is no object.

    Raises:
        ValueError: If the shape is another, the thresholds are in the wrong order, or an IoU is NaN.

    Source: Girshick, *Fast R-CNN*, 2015, and Ren et al., *Faster R-CNN*, 2015, section 3.1.2;
        `torchvision.models.detection._utils.Matcher` (which refuses a picture without objects).
    """
    if iou.ndim != 2 or iou.isnan().any():
        raise ValueError(
            f"iou must be [objects, anchors] without NaN, got {list(iou.shape)}: "
            "`remove_small_boxes` takes out boxes without area, whose IoU is NaN"
        )
    if low_threshold > high_threshold:
        raise ValueError(f"low_threshold must not exceed high_threshold: {low_threshold}, {high_threshold}")
    if iou.numel() == 0:
        return torch.full(iou.shape[1:], BELOW, dtype=torch.int64, device=iou.device)
    value, nearest = iou.max(0)
    matches = nearest.where(value >= high_threshold, BETWEEN).where(value >= low_threshold, BELOW)
    if not allow_low_quality_matches:
        return matches
    is_best = (iou == iou.amax(1, keepdim=True)).any(0)  # of some object
    return nearest.where(is_best, matches)


def encode(
    reference_boxes: torch.Tensor, proposals: torch.Tensor, weights: Weights = (1.0, 1.0, 1.0, 1.0)
) -> torch.Tensor:
    """Say how to get from proposals to boxes: shift of the centre in sides, logarithm of the growth.

    Args:
        reference_boxes: [N, 4], xyxy in px: where to go.
        proposals: [N, 4]: where from; anchors, say.
        weights: Factors of the four numbers, which bring them to a like size.

    Returns:
        [N, 4]: dx, dy, dw, dh.

    Raises:
        ValueError: If the shapes do not fit, or a box has no area: its logarithm would be infinite.

    Source: Girshick et al., *Rich feature hierarchies*, CVPR 2014, appendix C;
        `torchvision.models.detection._utils.BoxCoder.encode_single`.
    """
    _check_pairs(reference_boxes, proposals)
    for name, boxes in (("reference_boxes", reference_boxes), ("proposals", proposals)):
        if not (boxes[:, 2:] > boxes[:, :2]).all():
            raise ValueError(
                f"{name} without width or height cannot be encoded: use `remove_small_boxes` first"
            )
    (width, height), (new_width, new_height) = sides(proposals), sides(reference_boxes)
    x, y = proposals[:, 0] + 0.5 * width, proposals[:, 1] + 0.5 * height
    new_x, new_y = reference_boxes[:, 0] + 0.5 * new_width, reference_boxes[:, 1] + 0.5 * new_height
    deltas = [(new_x - x) / width, (new_y - y) / height]
    deltas += [torch.log(new_width / width), torch.log(new_height / height)]
    return torch.stack([weight * delta for weight, delta in zip(weights, deltas, strict=True)], 1)


def decode(
    rel_codes: torch.Tensor, boxes: torch.Tensor, weights: Weights = (1.0, 1.0, 1.0, 1.0)
) -> torch.Tensor:
    """Move proposals by what a network predicts: the inverse of `encode`.

    Args:
        rel_codes: [N, 4]: dx, dy, dw, dh; or [N, C * 4], such numbers for each of C classes.
        boxes: [N, 4], xyxy in px: the proposals.
        weights: Those of `encode`.

    Returns:
        [N, 4], or [N, C * 4], xyxy. No box grows more than 62.5 times, so that nothing overflows.

    Raises:
        ValueError: If the shapes do not fit, or a proposal is inverted.

    Source: `torchvision.models.detection._utils.BoxCoder.decode_single`.
    """
    if rel_codes.ndim != 2 or rel_codes.shape[1] % 4 or len(rel_codes) != len(boxes) or boxes.ndim != 2:
        shapes = f"{list(rel_codes.shape)} and {list(boxes.shape)}"
        raise ValueError(f"expected rel_codes [N, 4] or [N, C * 4] and boxes [N, 4], got {shapes}")
    check_boxes(boxes)
    boxes = boxes.to(rel_codes.dtype)
    width, height = (side[:, None] for side in sides(boxes))
    x, y = boxes[:, :1] + 0.5 * width, boxes[:, 1:2] + 0.5 * height
    dx, dy, dw, dh = (rel_codes[:, i::4] / weight for i, weight in enumerate(weights))  # [N, C] each
    x, y = dx * width + x, dy * height + y
    width = dw.clamp(max=LARGEST_STEP).exp() * width
    height = dh.clamp(max=LARGEST_STEP).exp() * height
    corners = [x - 0.5 * width, y - 0.5 * height, x + 0.5 * width, y + 0.5 * height]
    return torch.stack(corners, 2).flatten(1)


def _check_pairs(reference_boxes: torch.Tensor, proposals: torch.Tensor) -> None:
    """Refuse what are not pairs of boxes."""
    if reference_boxes.shape != proposals.shape or proposals.ndim != 2:
        shapes = f"{list(reference_boxes.shape)} and {list(proposals.shape)}"
        raise ValueError(f"expected a proposal [N, 4] for each box [N, 4], got {shapes}")
    check_boxes(reference_boxes, "reference_boxes")
    check_boxes(proposals, "proposals")
