"""The pictures that chapters share. Functions return the figure or the axes; the notebook shows them."""

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from utils.comparison_plots import compare_arms
from utils.drawing import as_picture, draw_boxes, draw_keypoints, overlay_masks

__all__ = [
    "compare_arms",
    "draw_boxes",
    "draw_keypoints",
    "overlay_masks",
    "plot_confusion",
    "plot_history",
    "show_images",
]


def show_images(
    images: torch.Tensor | Sequence[torch.Tensor],
    titles: Sequence[str] | None = None,
    *,
    columns: int = 8,
    cmap: str = "gray",
    size: float = 1.2,
    title: str | None = None,
) -> Figure:
    """Draw pictures in a grid, row by row.

    Args:
        images: [N, C, H, W] or N pictures [C, H, W] of any size; C is 1 or 3; uint8, or float in [0, 1].
        titles: One for each picture.
        columns: Pictures in a row.
        cmap: Colour map of pictures with one channel; black is 0 and white 1 (255) in all of them.
        size: Side of a picture in inches.
        title: Above the grid.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no picture, one is not a picture, or the titles are not as many.
    """
    if len(images) == 0 or (titles is not None and len(titles) != len(images)):
        raise ValueError(f"expected pictures and as many titles, got {len(images)} and {len(titles or [])}")
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    height = size * rows * (1 if titles is None else 1.2) + (0.3 if title else 0)
    figure, axes = plt.subplots(
        rows, columns, figsize=(size * columns, height), layout="constrained", squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    for position, (axis, image) in enumerate(zip(axes.flat, images, strict=False)):
        picture = as_picture(image)
        axis.imshow(picture, cmap=cmap, vmin=0, vmax=255 if picture.dtype == np.uint8 else 1)
        if titles is not None:
            axis.set_title(titles[position], fontsize=8)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def plot_history(history: Sequence[dict[str, float]], *, title: str | None = None) -> Figure:
    """Draw the curves of a training run: one panel for the loss, one for each metric.

    Args:
        history: One dict an epoch, `History.rows` of `training.fit`: `epoch`, and `train_NAME`
            and `val_NAME` for the loss and each metric.
        title: Above the panels.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no epoch in it.
    """
    if not history:
        raise ValueError("the history is empty: train for at least one epoch first")
    names = [key.removeprefix("train_") for key in history[0] if key.startswith("train_")]
    figure, axes = plt.subplots(
        1, len(names), figsize=(4.5 * len(names), 3), layout="constrained", squeeze=False
    )
    epochs = [row["epoch"] for row in history]
    for axis, name in zip(axes[0], names, strict=True):
        for part, style in (("train", "o--"), ("val", "s-")):
            if f"{part}_{name}" in history[0]:
                label = {"train": "training", "val": "validation"}[part]
                axis.plot(
                    epochs, [row[f"{part}_{name}"] for row in history], style, markersize=4, label=label
                )
        axis.set(xlabel="epoch", ylabel=name)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.legend()
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def plot_confusion(matrix: torch.Tensor, classes: Sequence[str], *, title: str | None = None) -> Axes:
    """Draw a confusion matrix: counts in the cells, colour by the share of the true class.

    Args:
        matrix: [C, C], counts, row = true class, column = predicted class (`metrics.confusion_matrix`).
        classes: C names.
        title: Above the picture.

    Returns:
        The axes.

    Raises:
        ValueError: If the matrix is not square or the names are not as many.
    """
    if matrix.shape != (len(classes), len(classes)):
        raise ValueError(
            f"{len(classes)} classes need a square matrix of that size, got {list(matrix.shape)}"
        )
    counts = torch.as_tensor(matrix).cpu()
    share = counts / counts.sum(1, keepdim=True).clamp(min=1)
    side = 0.55 * len(classes) + 1.5
    _, axis = plt.subplots(figsize=(side, side), layout="constrained")
    axis.imshow(share.numpy(), cmap="Blues", vmin=0, vmax=1)
    for row in range(len(classes)):
        for column in range(len(classes)):
            if counts[row, column]:
                colour = "white" if share[row, column] > 0.5 else "black"
                number = str(int(counts[row, column]))
                axis.text(column, row, number, ha="center", va="center", fontsize=8, color=colour)
    axis.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(classes)), classes)
    axis.set(xlabel="predicted class", ylabel="true class", title=title or "")
    return axis
