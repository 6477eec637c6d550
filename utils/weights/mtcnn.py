"""MTCNN: faces with five keypoints, found by three small networks in turn."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import nms

CELL, STRIDE = 12, 2  # the P-net sees squares of 12 pixels, 2 pixels apart


class Faces(NamedTuple):
    """The faces of an image, the one with the highest score first.

    Attributes:
        boxes: [N, 4] xyxy in pixels; may reach beyond the image.
        scores: [N], 0 to 1.
        keypoints: [N, 5, 2] xy in pixels: the eyes, the nose, the corners of the mouth,
            left in the image before right.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    keypoints: torch.Tensor


class PNet(nn.Module):
    """Proposes: is there a face in a square of 12 pixels, and how must its box move?

    Layers as published.
    """

    def __init__(self) -> None:
        """See the class."""
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 10, 3), nn.PReLU(10)
        self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.conv4_1 = nn.Conv2d(32, 2, 1)
        self.conv4_2 = nn.Conv2d(32, 4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map images [B, 3, H, W] to scores [B, h, w] and corrections [B, 4, h, w]."""
        x = F.max_pool2d(self.prelu1(self.conv1(x)), 2, ceil_mode=True)
        x = self.prelu3(self.conv3(self.prelu2(self.conv2(x))))
        return self.conv4_1(x).softmax(dim=1)[:, 1], self.conv4_2(x)


class RNet(nn.Module):
    """Refines: the same questions for a crop of 24 pixels. Layers as published."""

    def __init__(self) -> None:
        """See the class."""
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 28, 3), nn.PReLU(28)
        self.conv2, self.prelu2 = nn.Conv2d(28, 48, 3), nn.PReLU(48)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.dense4, self.prelu4 = nn.Linear(64 * 3 * 3, 128), nn.PReLU(128)
        self.dense5_1 = nn.Linear(128, 2)
        self.dense5_2 = nn.Linear(128, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map crops [N, 3, 24, 24] to scores [N] and box corrections [N, 4]."""
        x = F.max_pool2d(self.prelu1(self.conv1(x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
        x = self.prelu3(self.conv3(x))
        x = self.prelu4(self.dense4(_flatten(x)))
        return self.dense5_1(x).softmax(dim=1)[:, 1], self.dense5_2(x)


class ONet(nn.Module):
    """Outputs: score, box, keypoints for a crop of 48 pixels. Layers as published."""

    def __init__(self) -> None:
        """See the class."""
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 32, 3), nn.PReLU(32)
        self.conv2, self.prelu2 = nn.Conv2d(32, 64, 3), nn.PReLU(64)
        self.conv3, self.prelu3 = nn.Conv2d(64, 64, 3), nn.PReLU(64)
        self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.dense5, self.prelu5 = nn.Linear(128 * 3 * 3, 256), nn.PReLU(256)
        self.dense6_1 = nn.Linear(256, 2)
        self.dense6_2 = nn.Linear(256, 4)
        self.dense6_3 = nn.Linear(256, 10)

    def forward(
        self, x: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Map crops [N, 3, 48, 48] to scores, corrections and keypoints.

        Those are [N], [N, 4] and [N, 5, 2], the latter in units of the box.
        """
        x = F.max_pool2d(self.prelu1(self.conv1(x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu3(self.conv3(x)), 2, ceil_mode=True)
        x = self.prelu4(self.conv4(x))
        x = self.prelu5(self.dense5(_flatten(x)))
        # five x, then five y
        points = self.dense6_3(x).unflatten(1, (2, 5)).transpose(1, 2)
        return self.dense6_1(x).softmax(dim=1)[:, 1], self.dense6_2(x), points


class MTCNN(nn.Module):
    """The detector: an image pyramid through the P-net, crops through R-net and O-net.

    Args:
        min_face: Side of the smallest face looked for, in pixels.
        thresholds: The scores that the three networks ask for.
        shrink: Ratio of one level of the pyramid to the one above.

    Source: Zhang, Zhang, Li, Qiao, *Joint Face Detection and Alignment using Multi-task
    Cascaded Convolutional Networks*, 2016; equal to the package facenet-pytorch 2.6.0,
    and like it counts pixels from 1.
    """

    def __init__(
        self,
        min_face: float = 20,
        thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7),
        shrink: float = 0.709,
    ) -> None:
        """See the class."""
        super().__init__()
        if not (0 < shrink < 1 and min_face > 0):
            raise ValueError(
                f"shrink must lie in (0, 1) and min_face be positive, got {shrink}, "
                f"{min_face}"
            )
        is_triple = isinstance(thresholds, tuple | list) and len(thresholds) == 3
        if not is_triple or not all(0 <= each <= 1 for each in thresholds):
            raise ValueError(
                f"thresholds must be three scores in [0, 1], one for each network, "
                f"got {thresholds}"
            )
        self.min_face, self.thresholds, self.shrink = min_face, thresholds, shrink
        self.pnet, self.rnet, self.onet = PNet(), RNet(), ONet()

    @torch.no_grad()
    def forward(self, image: torch.Tensor) -> Faces:
        """Find the faces of one image, without gradients.

        Args:
            image: [3, H, W] RGB, uint8 or float in [0, 1], on the device of the
                network.

        Returns:
            The faces; none in an image smaller than `min_face`.

        Raises:
            ValueError: If it is no such image.
        """
        pixels = _pixels(image)
        boxes = self._propose(pixels)
        crops, boxes = _crops(pixels, boxes, 24)
        scores, deltas = self.rnet(crops)
        sure = scores > self.thresholds[1]
        boxes, scores, deltas = boxes[sure], scores[sure], deltas[sure]
        keep = nms(boxes, scores, 0.7)
        crops, boxes = _crops(pixels, _square(_move(boxes[keep], deltas[keep], 1)), 48)
        scores, deltas, points = self.onet(crops)
        sure = scores > self.thresholds[2]
        boxes, scores, deltas, points = (
            boxes[sure],
            scores[sure],
            deltas[sure],
            points[sure],
        )
        sizes = boxes[:, 2:] - boxes[:, :2] + 1
        points = points * sizes[:, None] + boxes[:, None, :2] - 1
        boxes = _move(boxes, deltas, 1)
        keep = _nms_by_smaller(boxes, scores, 0.7)
        return Faces(boxes[keep], scores[keep], points[keep])

    def _propose(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return square boxes [N, 4] that the P-net finds in `pixels` [1, 3, H, W]."""
        height, width = pixels.shape[2:]
        found = [pixels.new_zeros(0, 9)]  # box, score, correction
        scale = CELL / self.min_face
        while min(height, width) * scale >= CELL:
            size = int(height * scale + 1), int(width * scale + 1)
            scores, deltas = self.pnet(_resize(pixels, size))
            y, x = (scores[0] >= self.thresholds[0]).nonzero(as_tuple=True)
            corners = STRIDE * torch.stack([x, y], dim=1)
            boxes = torch.cat(
                [(corners + 1) / scale, (corners + CELL) / scale], dim=1
            ).floor()
            level = torch.cat(
                [boxes, scores[0, y, x, None], deltas[0, :, y, x].T], dim=1
            )
            found.append(level[nms(level[:, :4], level[:, 4], 0.5)])
            scale *= self.shrink
        found = torch.cat(found)
        found = found[nms(found[:, :4], found[:, 4], 0.7)]
        return _square(_move(found[:, :4], found[:, 5:], 0))


def _pixels(image: torch.Tensor) -> torch.Tensor:
    """Return the image as float [1, 3, H, W], 0 to 255."""
    if not isinstance(image, torch.Tensor):
        raise ValueError(
            f"expected one image as a tensor [3, H, W], got {type(image).__name__}"
        )
    if image.ndim != 3 or image.shape[0] != 3 or image.numel() == 0:
        raise ValueError(
            f"expected one image [3, H, W], got {list(image.shape)}; MTCNN takes the "
            f"images of a batch one by one, and grey ones as image.expand(3, -1, -1)"
        )
    check_range(image)
    return image[None].float() * (1 if image.dtype == torch.uint8 else 255)


def check_range(image: torch.Tensor) -> None:
    """Raise ValueError unless `image` is uint8, or float in [0, 1]; not of size 0."""
    if image.dtype == torch.uint8:
        return
    if not image.is_floating_point() or not (image.min() >= 0 and image.max() <= 1):
        raise ValueError(
            f"expected uint8, or float in [0, 1], got {image.dtype} from "
            f"{image.min():.4g} to {image.max():.4g}"
        )


def _flatten(x: torch.Tensor) -> torch.Tensor:
    """Flatten [N, C, H, W] as the weights were trained: with the width first."""
    return x.permute(0, 3, 2, 1).flatten(1)


def _resize(pixels: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Average `pixels` [1, 3, H, W] over areas, and scale them to -1 to 1."""
    return (F.interpolate(pixels, size, mode="area") - 127.5) / 128


def _move(boxes: torch.Tensor, deltas: torch.Tensor, last: int) -> torch.Tensor:
    """Move each side of `boxes` [N, 4] by `deltas` [N, 4] times the size.

    `last` is 1 where the last pixel counts as part of the box.
    """
    sizes = boxes[:, 2:] - boxes[:, :2] + last
    return boxes + deltas * sizes.repeat(1, 2)


def _square(boxes: torch.Tensor) -> torch.Tensor:
    """Widen the shorter side of `boxes` [N, 4] to the longer one, about the centre."""
    sizes = boxes[:, 2:] - boxes[:, :2]
    side = sizes.amax(dim=1, keepdim=True)
    corner = boxes[:, :2] + sizes * 0.5 - side * 0.5
    return torch.cat([corner, corner + side], dim=1)


def _crops(
    pixels: torch.Tensor, boxes: torch.Tensor, side: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut `boxes` [N, 4] out of `pixels` [1, 3, H, W].

    Returns crops [M, 3, side, side], and those M boxes that meet the image.
    """
    height, width = pixels.shape[2:]
    first = boxes[:, :2].trunc().clamp(min=1).long()
    last = torch.minimum(boxes[:, 2:].trunc(), boxes.new_tensor([width, height])).long()
    meets = (first <= last).all(dim=1)
    crops = [pixels.new_zeros(0, 3, side, side)]
    for (x1, y1), (x2, y2) in zip(
        first[meets].tolist(), last[meets].tolist(), strict=True
    ):
        crops.append(_resize(pixels[:, :, y1 - 1 : y2, x1 - 1 : x2], (side, side)))
    return torch.cat(crops), boxes[meets]


def _nms_by_smaller(
    boxes: torch.Tensor, scores: torch.Tensor, threshold: float
) -> torch.Tensor:
    """Keep the boxes that no box of a higher score covers; return their indices.

    One covers another if their intersection exceeds `threshold` of the smaller area.
    """
    areas = (boxes[:, 2:] - boxes[:, :2] + 1).prod(dim=1)
    rest, keep = scores.argsort(descending=True), []
    while len(rest):
        best, rest = rest[0], rest[1:]
        keep.append(best)
        last = torch.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = (
            (last - torch.maximum(boxes[best, :2], boxes[rest, :2]) + 1)
            .clamp(min=0)
            .prod(dim=1)
        )
        rest = rest[shared / torch.minimum(areas[best], areas[rest]) <= threshold]
    return torch.stack(keep) if keep else rest
