"""Everything about boxes, with torchvision's names: formats, overlap, losses, suppression, anchors.

Boxes are [N, 4], xyxy in pixels, on the edges of pixels: [0, 0, W, H] is a whole picture, x2 - x1 a width.
All functions are vectorised and work on any device. A box with x2 < x1 is none, and refused;
the losses alone take it, since a network that begins to learn may predict one. No box at all, [0, 4],
is fine.
"""

import torch

from utils.box_losses import (
    complete_box_iou_loss,
    distance_box_iou_loss,
    generalized_box_iou_loss,
    sigmoid_focal_loss,
)
from utils.matching import anchors, decode, encode, match
from utils.overlap import (
    box_area,
    box_convert,
    box_iou,
    check_boxes,
    complete_box_iou,
    distance_box_iou,
    generalized_box_iou,
)
from utils.suppression import batched_nms, nms, soft_nms

__all__ = [
    "anchors",
    "batched_nms",
    "box_area",
    "box_convert",
    "box_iou",
    "check_boxes",
    "clip_boxes_to_image",
    "complete_box_iou",
    "complete_box_iou_loss",
    "decode",
    "distance_box_iou",
    "distance_box_iou_loss",
    "encode",
    "generalized_box_iou",
    "generalized_box_iou_loss",
    "match",
    "nms",
    "remove_small_boxes",
    "sigmoid_focal_loss",
    "soft_nms",
]


def clip_boxes_to_image(boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Cut off what reaches out of the picture. A box that lies outside is left without area.

    Args:
        boxes: [..., 4], xyxy in px.
        size: Height and width of the picture, in px.

    Returns:
        [..., 4], a copy.

    Raises:
        ValueError: If the last axis is not 4, a box is inverted, or the picture has a negative side.

    Source: `torchvision.ops.clip_boxes_to_image`.
    """
    check_boxes(boxes)
    height, width = size
    if min(height, width) < 0:
        raise ValueError(f"size is (height, width) of the picture in px, got {size}")
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack([x, y], -1).flatten(-2)


def remove_small_boxes(boxes: torch.Tensor, min_size: float) -> torch.Tensor:
    """Find the boxes both sides of which have a least length.

    Args:
        boxes: [N, 4], xyxy in px.
        min_size: The length, in px.

    Returns:
        [K], int64: indices of the boxes to keep.

    Raises:
        ValueError: If the boxes are not [N, 4], or one is inverted.

    Source: `torchvision.ops.remove_small_boxes`.
    """
    check_boxes(boxes)
    if boxes.ndim != 2:
        raise ValueError(f"boxes must be [N, 4], got {list(boxes.shape)}")
    return ((boxes[:, 2:] - boxes[:, :2]) >= min_size).all(1).nonzero()[:, 0]
