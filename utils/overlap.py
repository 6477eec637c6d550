"""How far boxes overlap: areas, IoU and its generalised forms, for all pairs at once."""

import math

import torch

FORMATS = ("xyxy", "xywh", "cxcywh")


def _check_shape(boxes: torch.Tensor, name: str) -> None:
    if boxes.ndim == 0 or boxes.shape[-1] != 4:
        raise ValueError(
            f"{name} must be [..., 4], got {list(boxes.shape)}; no box at all is torch.zeros(0, 4)"
        )


def check_boxes(boxes: torch.Tensor, name: str = "boxes") -> None:
    """Refuse what is not a set of boxes.

    Args:
        boxes: [..., 4], xyxy.
        name: How the message calls them.

    Raises:
        ValueError: If the last axis is not 4, or a box has x2 < x1 or y2 < y1 or is not a number.
    """
    _check_shape(boxes, name)
    upright = (boxes[..., 2:] >= boxes[..., :2]).all(-1)
    if not upright.all():
        first, count = boxes[~upright][0].tolist(), int((~upright).sum())
        raise ValueError(
            f"{name} must be xyxy with x1 <= x2 and y1 <= y2; {count} of {upright.numel()} are not, first "
            f"{first}: use `box_convert` if they are in another format, clamp sizes that a network predicts"
        )


def _pair(boxes1: torch.Tensor, boxes2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Check two sets of boxes and line them up: [..., N, 1, 4] and [..., 1, M, 4]."""
    for name, boxes in (("boxes1", boxes1), ("boxes2", boxes2)):
        check_boxes(boxes, name)
        if boxes.ndim < 2:
            raise ValueError(f"{name} must be [N, 4], got {list(boxes.shape)}; one box is boxes[None]")
    return upcast(boxes1)[..., :, None, :], upcast(boxes2)[..., None, :, :]


def upcast(boxes: torch.Tensor) -> torch.Tensor:
    """Return boxes in a type that their areas fit into: float16 holds numbers up to 65504, int8 up to 127."""
    if boxes.is_floating_point():
        return boxes if boxes.dtype in (torch.float32, torch.float64) else boxes.float()
    return boxes.long()


def sides(boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return widths and heights, [...] each, of boxes [..., 4]."""
    return boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]


def common(boxes1: torch.Tensor, boxes2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return intersections and unions, in square pixels, of boxes [..., 4] that broadcast."""
    width = torch.min(boxes1[..., 2], boxes2[..., 2]) - torch.max(boxes1[..., 0], boxes2[..., 0])
    height = torch.min(boxes1[..., 3], boxes2[..., 3]) - torch.max(boxes1[..., 1], boxes2[..., 1])
    intersection = torch.where((width > 0) & (height > 0), width * height, 0)  # two negatives are no area
    (width1, height1), (width2, height2) = sides(boxes1), sides(boxes2)
    return intersection, width1 * height1 + width2 * height2 - intersection


def enclosing(boxes1: torch.Tensor, boxes2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return widths and heights of the smallest boxes around both, for boxes [..., 4] that broadcast."""
    width = torch.max(boxes1[..., 2], boxes2[..., 2]) - torch.min(boxes1[..., 0], boxes2[..., 0])
    height = torch.max(boxes1[..., 3], boxes2[..., 3]) - torch.min(boxes1[..., 1], boxes2[..., 1])
    return width, height


def distance_term(boxes1: torch.Tensor, boxes2: torch.Tensor, eps: float) -> torch.Tensor:
    """Return the squared distance of the centres, divided by the squared diagonal around both boxes."""
    width, height = enclosing(boxes1, boxes2)
    centres1, centres2 = (boxes1[..., :2] + boxes1[..., 2:]) / 2, (boxes2[..., :2] + boxes2[..., 2:]) / 2
    x, y = (centres1 - centres2).unbind(-1)
    return (x**2 + y**2) / (width**2 + height**2 + eps)


def aspect_term(boxes1: torch.Tensor, boxes2: torch.Tensor, iou: torch.Tensor, eps: float) -> torch.Tensor:
    """Return alpha * v of the complete IoU: how far the aspect ratios differ; alpha is a constant weight."""
    (width1, height1), (width2, height2) = sides(boxes1), sides(boxes2)
    v = 4 / math.pi**2 * (torch.atan(width1 / height1) - torch.atan(width2 / height2)) ** 2
    with torch.no_grad():
        alpha = v / (1 - iou + v + eps)
    return alpha * v


def box_convert(boxes: torch.Tensor, in_fmt: str, out_fmt: str) -> torch.Tensor:
    """Write boxes in another format.

    Args:
        boxes: [..., 4], px.
        in_fmt: "xyxy" (left, top, right, bottom), "xywh" (left, top, width, height) or "cxcywh" (centre,
            width, height).
        out_fmt: One of the same.

    Returns:
        [..., 4], a copy.

    Raises:
        ValueError: If a format is another, the last axis is not 4, or a box is inverted: its width or height
            is negative, which most often means that `in_fmt` is not the format of the boxes.

    Source: `torchvision.ops.box_convert`.
    """
    if in_fmt not in FORMATS or out_fmt not in FORMATS:
        raise ValueError(f"formats are {', '.join(FORMATS)}, got {in_fmt!r} and {out_fmt!r}")
    _check_shape(boxes, "boxes")
    first, size = boxes[..., :2], boxes[..., 2:]
    if in_fmt == "xyxy":
        check_boxes(boxes)
    elif not (size >= 0).all():
        raise ValueError(f"widths and heights must not be negative: are the boxes really {in_fmt}, not xyxy?")
    if in_fmt == out_fmt:
        return boxes.clone()
    if in_fmt == "cxcywh":
        boxes = torch.cat([first - 0.5 * size, first + 0.5 * size], -1)
    elif in_fmt == "xywh":
        boxes = torch.cat([first, first + size], -1)
    first, last = boxes[..., :2], boxes[..., 2:]
    if out_fmt == "xywh":
        return torch.cat([first, last - first], -1)
    return torch.cat([(first + last) / 2, last - first], -1) if out_fmt == "cxcywh" else boxes


def box_area(boxes: torch.Tensor, fmt: str = "xyxy") -> torch.Tensor:
    """Return the areas of boxes.

    Args:
        boxes: [..., 4], px, floating or integer.
        fmt: "xyxy", "xywh" or "cxcywh".

    Returns:
        [...], in square pixels: float32 for float16 and bfloat16, int64 for integers.

    Raises:
        ValueError: If the shape or the format is another, or a box is inverted.

    Source: `torchvision.ops.box_area` (whose areas of int32 boxes are int32).
    """
    boxes = box_convert(upcast(boxes), fmt, fmt)
    width, height = sides(boxes) if fmt == "xyxy" else boxes[..., 2:].unbind(-1)
    return width * height


def box_iou(boxes1: torch.Tensor, boxes2: torch.Tensor, fmt: str = "xyxy") -> torch.Tensor:
    """Return the intersection over union of all pairs.

    Args:
        boxes1: [..., N, 4], px.
        boxes2: [..., M, 4].
        fmt: "xyxy", "xywh" or "cxcywh", of both.

    Returns:
        [..., N, M], in [0, 1]; 0 for boxes that only touch; NaN for two boxes that both have no area.

    Raises:
        ValueError: If the shape or the format is another, or a box is inverted.

    Source: `torchvision.ops.box_iou`. It subtracts in float16 what comes in float16; here it is converted
        first, so that a box's IoU with itself is 1.
    """
    areas = box_area(boxes1, fmt), box_area(boxes2, fmt)  # before corners are rounded
    if fmt != "xyxy":
        boxes1, boxes2 = (box_convert(upcast(boxes), fmt, "xyxy") for boxes in (boxes1, boxes2))
    intersection, _ = common(*_pair(boxes1, boxes2))
    return intersection / (areas[0][..., :, None] + areas[1][..., None, :] - intersection)


def generalized_box_iou(boxes1: torch.Tensor, boxes2: torch.Tensor) -> torch.Tensor:
    """Return the generalised IoU of all pairs: IoU minus the empty share of the smallest box around both.

    Args:
        boxes1: [..., N, 4], xyxy in px.
        boxes2: [..., M, 4].

    Returns:
        [..., N, M], in (-1, 1]; NaN for two boxes that both have no area.

    Raises:
        ValueError: If the shape is another, or a box is inverted.

    Source: Rezatofighi et al., *Generalized Intersection over Union*, CVPR 2019;
        `torchvision.ops.generalized_box_iou`.
    """
    boxes1, boxes2 = _pair(boxes1, boxes2)
    intersection, union = common(boxes1, boxes2)
    width, height = enclosing(boxes1, boxes2)
    return intersection / union - (width * height - union) / (width * height)


def distance_box_iou(boxes1: torch.Tensor, boxes2: torch.Tensor, eps: float = 1e-7) -> torch.Tensor:
    """Return the distance IoU of all pairs: IoU minus the squared distance of the centres, in diagonals.

    Args:
        boxes1: [..., N, 4], xyxy in px.
        boxes2: [..., M, 4].
        eps: Keeps the diagonal of two equal points from 0, in square pixels.

    Returns:
        [..., N, M], in (-1, 1]; NaN for two boxes that both have no area.

    Raises:
        ValueError: If the shape is another, or a box is inverted.

    Source: Zheng et al., *Distance-IoU Loss*, AAAI 2020, eq. 7; `torchvision.ops.distance_box_iou`.
    """
    boxes1, boxes2 = _pair(boxes1, boxes2)
    intersection, union = common(boxes1, boxes2)
    return intersection / union - distance_term(boxes1, boxes2, eps)


def complete_box_iou(boxes1: torch.Tensor, boxes2: torch.Tensor, eps: float = 1e-7) -> torch.Tensor:
    """Return the complete IoU of all pairs: the distance IoU minus a term for unlike aspect ratios.

    Args:
        boxes1: [..., N, 4], xyxy in px.
        boxes2: [..., M, 4].
        eps: Keeps denominators from 0.

    Returns:
        [..., N, M], at most 1; NaN for two boxes without area, and where one has neither width nor height.

    Raises:
        ValueError: If the shape is another, or a box is inverted.

    Source: Zheng et al., *Distance-IoU Loss*, AAAI 2020, eq. 8 to 11; `torchvision.ops.complete_box_iou`.
    """
    boxes1, boxes2 = _pair(boxes1, boxes2)
    intersection, union = common(boxes1, boxes2)
    iou = intersection / union
    return iou - distance_term(boxes1, boxes2, eps) - aspect_term(boxes1, boxes2, iou, eps)
