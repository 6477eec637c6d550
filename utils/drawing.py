"""Boxes, masks and keypoints drawn on pictures: part of `utils.plotting`, from where they are imported.

All three draw on axes with lines, not into the pixels, so that they stay sharp on pictures of 32 pixels. Each
can draw on what another has drawn: `draw_boxes(None, boxes, axis=overlay_masks(image, masks))`.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

__all__ = ["COLORS", "as_picture", "draw_boxes", "draw_keypoints", "overlay_masks"]

# Colours that colour-blind people tell apart; Okabe and Ito, *Color universal design*, 2008.
COLORS = ["#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"]
HALO = [withStroke(linewidth=3, foreground="black")]  # shows light lines on a light ground
Image = torch.Tensor | np.ndarray


def as_picture(image: Image) -> np.ndarray:
    """Turn [C, H, W] or [H, W], uint8 or float in [0, 1], into what `imshow` takes.

    Raises:
        ValueError: If it is no picture, or a float picture leaves [0, 1].
    """
    picture = torch.as_tensor(image).detach().cpu()
    if picture.ndim == 2:
        picture = picture[None]
    if picture.ndim != 3 or picture.shape[0] not in (1, 3):
        raise ValueError(f"a picture is [H, W], [1, H, W] or [3, H, W], got {list(picture.shape)}")
    if picture.dtype != torch.uint8:
        picture = picture.float()
        if picture.numel() and not -1e-3 <= picture.min() <= picture.max() <= 1 + 1e-3:
            span = f"{picture.min():.2f} to {picture.max():.2f}"
            raise ValueError(
                f"a float picture lies in [0, 1], this one in {span}: undo its normalisation first"
            )
        picture = picture.clamp(0, 1)
    return picture[0].numpy() if len(picture) == 1 else picture.permute(1, 2, 0).numpy()


def draw_boxes(
    image: Image | None,
    boxes: torch.Tensor,
    labels: torch.Tensor | Sequence[int] | Sequence[str] | None = None,
    scores: torch.Tensor | Sequence[float] | None = None,
    *,
    classes: Sequence[str] | None = None,
    colors: str | Sequence[str] | None = None,
    axis: Axes | None = None,
    size: float = 4,
) -> Axes:
    """Draw boxes on a picture, with their labels and scores.

    Args:
        image: [C, H, W] or [H, W], C is 1 or 3; uint8, or float in [0, 1]. None: draw on what `axis` shows.
        boxes: [n, 4], xyxy in pixels, on the edges of pixels: [0, 0, W, H] is the whole picture.
        labels: n class numbers, or n texts.
        scores: n, written behind the labels with two decimals.
        classes: Names; class number i is written as `classes[i]`.
        colors: One, or n. Default: from `COLORS`, by class number, or in turn where there is none.
        axis: Where to draw. Default: a new figure.
        size: Width of the new figure in inches.

    Returns:
        The axes.

    Raises:
        ValueError: If a shape, a number of things or a class number does not fit, or a box is not xyxy.
    """
    boxes = _expect("boxes", boxes, 4)
    if (boxes[:, 2:] < boxes[:, :2]).any():
        raise ValueError("boxes must be xyxy, left <= right and top <= bottom: convert them first")
    numbers, texts = _captions(len(boxes), labels, scores, classes)
    chosen = _choose_colors(len(boxes), colors, numbers)
    axis, height, _ = _canvas(image, axis, size)
    for (left, top, right, bottom), text, color in zip(boxes.tolist(), texts, chosen, strict=True):
        corner = (left - 0.5, top - 0.5)  # Matplotlib's 0 is the centre of the first pixel, not its edge
        style = {"fill": False, "edgecolor": color, "linewidth": 2, "path_effects": HALO}
        axis.add_patch(Rectangle(corner, right - left, bottom - top, **style))
        if text:
            ink = "white" if np.dot(to_rgb(color), (0.3, 0.6, 0.1)) < 0.5 else "black"
            plate = {"facecolor": color, "edgecolor": "none", "pad": 1}
            side = "top" if top < height / 10 else "bottom"  # above the box, unless it begins at the top
            axis.text(*corner, text, va=side, fontsize=8, color=ink, bbox=plate, clip_on=True)
    return axis


def overlay_masks(
    image: Image | None,
    masks: torch.Tensor,
    *,
    colors: str | Sequence[str] | None = None,
    alpha: float = 0.5,
    axis: Axes | None = None,
    size: float = 4,
) -> Axes:
    """Lay masks over a picture, each outlined and in its colour; where two overlap, the later one is seen.

    Args:
        image: [C, H, W] or [H, W], C is 1 or 3; uint8, or float in [0, 1]. None: draw on what `axis` shows.
        masks: [n, H, W], bool.
        colors: One, or n. Default: from `COLORS`, in turn, as for boxes without class numbers.
        alpha: How much the colours cover, in [0, 1].
        axis: Where to draw. Default: a new figure.
        size: Width of the new figure in inches.

    Returns:
        The axes.

    Raises:
        ValueError: If the masks are not bool, not as large as the picture, or not as many as the colours.
    """
    masks = torch.as_tensor(masks).detach().cpu()
    if masks.ndim != 3 or masks.dtype != torch.bool:
        raise ValueError(f"masks must be bool [n, H, W], got {masks.dtype} {list(masks.shape)}")
    chosen = _choose_colors(len(masks), colors, range(len(masks)))
    axis, height, width = _canvas(image, axis, size)
    if masks.shape[1:] != (height, width):
        raise ValueError(f"the picture is {height}x{width}, the masks are {list(masks.shape)}")
    layer = np.zeros((height, width, 4))
    for mask, color in zip(masks.numpy(), chosen, strict=True):
        layer[mask] = (*to_rgb(color), alpha)
        if mask.any() and not mask.all() and min(mask.shape) > 1:  # else there is no outline
            axis.contour(mask, levels=[0.5], colors=[color], linewidths=1.2)
    axis.imshow(layer)
    return axis


def draw_keypoints(
    image: Image | None,
    keypoints: torch.Tensor,
    visible: torch.Tensor | None = None,
    *,
    connections: Sequence[tuple[int, int]] = (),
    colors: str | Sequence[str] | None = None,
    axis: Axes | None = None,
    size: float = 4,
) -> Axes:
    """Draw points on a picture, and lines between those that belong together.

    Args:
        image: [C, H, W] or [H, W], C is 1 or 3; uint8, or float in [0, 1]. None: draw on what `axis` shows.
        keypoints: [k, 2], xy in pixels, on the scale of boxes: (0.5, 0.5) is the centre of the first pixel.
        visible: [k], bool; other points, and lines to them, are left out, and may be anything. Default: all.
        connections: Pairs of indices into `keypoints`.
        colors: One, or k. Default: from `COLORS`, in turn.
        axis: Where to draw. Default: a new figure.
        size: Width of the new figure in inches.

    Returns:
        The axes.

    Raises:
        ValueError: If a shape, a number of things or an index does not fit, or a point is not finite.
    """
    keypoints = torch.as_tensor(keypoints).detach().cpu()
    seen = torch.ones(keypoints.shape[:1], dtype=torch.bool) if visible is None else torch.as_tensor(visible)
    if seen.dtype != torch.bool or seen.shape != keypoints.shape[:1]:
        raise ValueError(f"visible must be bool, one for each point, got {seen.dtype} {list(seen.shape)}")
    _expect("keypoints", keypoints[seen.cpu()], 2)
    chosen = _choose_colors(len(keypoints), colors, range(len(keypoints)))
    if any(not 0 <= index < len(keypoints) for pair in connections for index in pair):
        raise ValueError(f"connections must be pairs of indices below {len(keypoints)}, got {connections}")
    axis, _, _ = _canvas(image, axis, size)
    xy, seen = keypoints.numpy() - 0.5, seen.tolist()  # half a pixel less, as for boxes
    for first, second in connections:
        if seen[first] and seen[second]:
            axis.plot(*xy[[first, second]].T, color="white", linewidth=1.5, path_effects=HALO)
    chosen = [color for color, shown in zip(chosen, seen, strict=True) if shown]
    axis.scatter(*xy[seen].T, s=36, c=chosen, edgecolors="black", zorder=3)
    return axis


def _expect(name: str, values: torch.Tensor, columns: int) -> torch.Tensor:
    """Return `values` on the CPU; raise where they are not finite numbers [n, columns]."""
    values = torch.as_tensor(values).detach().cpu()
    if values.ndim != 2 or values.shape[1] != columns:
        raise ValueError(f"{name} must be [n, {columns}], got {list(values.shape)}")
    if not values.isfinite().all():
        raise ValueError(f"{name} must be finite, got {values.tolist()}")
    return values


def _canvas(image: Image | None, axis: Axes | None, size: float) -> tuple[Axes, int, int]:
    """Return axes that show `image`, or `axis` as it is if that is None; and the picture's height, width."""
    if image is not None:
        picture = as_picture(image)
        if axis is None:
            height, width = picture.shape[:2]
            _, axis = plt.subplots(figsize=(size, size * height / width), layout="constrained")
        axis.imshow(picture, cmap="gray", vmin=0, vmax=255 if picture.dtype == np.uint8 else 1)
        axis.axis("off")
    elif axis is None or not axis.images:
        raise ValueError("give a picture, or an `axis` that shows one")
    axis.autoscale(False)  # what sticks out of the picture must not shrink it
    return axis, *axis.images[-1].get_array().shape[:2]


def _choose_colors(n: int, colors: str | Sequence[str] | None, numbers: Sequence[int]) -> list[str]:
    """Return n colours: what is given, else the one of each number."""
    if colors is None:
        return [COLORS[number % len(COLORS)] for number in numbers]
    chosen = [colors] * n if isinstance(colors, str) else list(colors)
    if len(chosen) != n:
        raise ValueError(f"expected one colour, or {n}, got {len(chosen)}")
    return chosen


def _captions(
    n: int, labels: Sequence | None, scores: Sequence | None, classes: Sequence[str] | None
) -> tuple[list[int], list[str]]:
    """Return for each of n boxes the number that its colour goes by, and what to write on it."""
    for name, given in {"labels": labels, "scores": scores}.items():
        if given is not None and len(given) != n:
            raise ValueError(f"expected {n} {name}, one for each box, got {len(given)}")
    labels = [""] * n if labels is None else getattr(labels, "tolist", lambda: list(labels))()
    numbered = n > 0 and all(isinstance(label, int) for label in labels)
    if not numbered and not all(isinstance(label, str) for label in labels):
        raise ValueError(f"labels must be whole numbers or texts, got {labels}")
    if classes is not None and numbered:
        if not 0 <= min(labels) <= max(labels) < len(classes):
            raise ValueError(f"labels must be numbers of {len(classes)} classes, got {labels}")
    texts = [classes[x] if numbered and classes is not None else str(x) for x in labels]
    if scores is not None:
        texts = [f"{text} {score:.2f}".strip() for text, score in zip(texts, scores, strict=True)]
    return labels if numbered else list(range(n)), texts
