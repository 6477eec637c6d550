"""The figures that chapters share: each function returns its figure or its axes.

The notebook shows them, with `plt.show()`.
"""

import base64
import functools
import html
import io
import math
import textwrap
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython import get_ipython
from IPython.display import HTML
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from PIL import Image
from scipy import stats

# Colours that colour-blind people tell apart; Okabe and Ito, *Color universal design*,
# 2008.
COLORS = ["#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"]
# the same without yellow, which no thin line can afford, the darkest first
LINE_COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
# of classes of pixels, which need more of them
REGION_COLORS = [
    "#9ECAE1",
    "#8C564B",
    "#F0E442",
    "#7F7F7F",
    "#F7B6D2",
    "#2CA02C",
    "#FF7F0E",
    "#17BECF",
    "#1F4E9E",
    "#D62728",
    "#9467BD",
    "#BCBD22",
]
POSITIVE, NEGATIVE = "#B2182B", "#2166AC"  # red and blue, of weights and of gradients
# makes light lines visible on a light ground
HALO = [withStroke(linewidth=3, foreground="black")]
ImageLike = torch.Tensor | np.ndarray


PLOT_SCALE = 2  # pixels stored for one on the page
# the same for photos, and how coarse their colours are; the first that is small enough
PHOTO_SCALES = [(1.5, "4:4:4"), (1.2, "4:2:0"), (1.0, "4:2:0")]
LARGEST_PHOTO = 220_000  # bytes, 300 kB as text
LARGEST_SVG = 150_000  # bytes; above, a plot is stored as PNG
_ALT_TEXTS: weakref.WeakKeyDictionary[Figure, str] = weakref.WeakKeyDictionary()


def course_style() -> None:
    """Set fonts, sizes, colours and formats of all figures that follow, once.

    A figure is 9 inches, 900 pixels, wide on the page unless it says otherwise. One
    with colour photographs is stored as JPEG, one with lines as SVG, and one with so
    many lines that this would be large as PNG. Outside a notebook only the fonts, sizes
    and colours change.
    """
    plt.rcParams.update(
        {
            "figure.figsize": (9, 3.6),
            "figure.dpi": 100,
            "figure.constrained_layout.use": True,
            "font.size": 11,
            "font.sans-serif": ["DejaVu Sans"],
            "axes.titlesize": 11,
            "figure.titlesize": 12,
            "legend.fontsize": 10,
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
            "axes.prop_cycle": plt.cycler(color=LINE_COLORS),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": False,
            "image.cmap": "gray",
            "svg.hashsalt": "course",  # the same figure gives the same bytes
        }
    )
    shell = get_ipython()
    if shell is None or not hasattr(shell, "display_formatter"):
        return
    # loaded now: at the first figure it would set its own formats again
    plt.switch_backend(matplotlib.get_backend())
    formatters = shell.display_formatter.formatters
    for kind, formatter in formatters.items():
        if kind.startswith("image/") or kind == "application/pdf":
            formatter.pop(Figure, None)
    for kind in ("image/png", "image/jpeg", "image/svg+xml"):
        formatters[kind].for_type(Figure, functools.partial(_stored_as, kind))


def alt_text(text: str, figure: Figure | None = None) -> None:
    """Say what a figure shows, for readers who cannot see it; before `plt.show()`.

    Args:
        text: What there is to see, in one or two sentences.
        figure: The current one by default.

    Raises:
        ValueError: `text` is empty.
    """
    if not isinstance(text, str) or not text.strip():
        raise ValueError("the alternative text is empty: say what the figure shows")
    _ALT_TEXTS[plt.gcf() if figure is None else figure] = " ".join(text.split())


def _stored_as(kind: str, figure: Figure) -> tuple[Any, dict[str, Any]] | None:
    """Return `figure` as data and metadata if `kind` is the format to store it in."""
    alt = _ALT_TEXTS.get(figure)
    described = {} if alt is None else {"alt": alt}
    photo = any(
        image.get_array() is not None and image.get_array().ndim == 3
        for axis in figure.axes
        for image in axis.images
    )
    if photo:
        if kind != "image/jpeg":
            return None
        for scale, colour in PHOTO_SCALES:
            options = {"quality": 80, "optimize": True, "subsampling": colour}
            data, size = _rendered(figure, "jpeg", scale, pil_kwargs=options)
            if len(data) <= LARGEST_PHOTO:
                break
        return base64.b64encode(data).decode("ascii"), {**size, **described}
    if kind == "image/jpeg":
        return None
    title = {"Title": alt} if alt else {}
    data, _ = _rendered(figure, "svg", 1, metadata={"Date": None, **title})
    small = len(data) <= LARGEST_SVG
    if kind == "image/svg+xml":
        return (data.decode(), described) if small else None
    if small:
        return None
    data, size = _rendered(figure, "png", PLOT_SCALE)
    return base64.b64encode(data).decode("ascii"), {**size, **described}


def _rendered(
    figure: Figure, file_format: str, scale: float, **options: Any
) -> tuple[bytes, dict[str, int]]:
    """Return the file of a figure, and its size on the page in pixels."""
    file = io.BytesIO()
    dpi = figure.dpi
    figure.savefig(
        file, format=file_format, dpi=dpi * scale, facecolor="white", **options
    )
    width, height = figure.get_size_inches() * dpi
    return file.getvalue(), {"width": round(width), "height": round(height)}


def as_picture(image: ImageLike) -> np.ndarray:
    """Turn an image into the array that matplotlib's `imshow` takes.

    Args:
        image: [C, H, W] or [H, W], C is 1 or 3; uint8, or float in [0, 1].

    Returns:
        [H, W] or [H, W, 3], uint8 or float32.

    Raises:
        ValueError: If the shape is another one, or a float image leaves [0, 1].
    """
    image = torch.as_tensor(image).detach().cpu()
    if image.ndim == 2:
        image = image[None]
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(
            f"an image is [H, W], [1, H, W] or [3, H, W], got {list(image.shape)}: "
            f"put the channels first, and take one image out of a batch"
        )
    if image.dtype != torch.uint8:
        image = image.float()
        if image.numel() and not -1e-3 <= image.min() <= image.max() <= 1 + 1e-3:
            raise ValueError(
                f"a float image lies in [0, 1], got {image.min():.2f} to "
                f"{image.max():.2f}: undo its normalisation, or divide by 255"
            )
        image = image.clamp(0, 1)
    return image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).numpy()


def show_images(
    images: torch.Tensor | Sequence[torch.Tensor],
    titles: Sequence[str] | None = None,
    *,
    columns: int = 8,
    cmap: str = "gray",
    size: float = 1.2,
    title: str | None = None,
) -> Figure:
    """Draw images in a grid, row by row.

    Args:
        images: [N, C, H, W], or N images [C, H, W] of any size; C is 1 or 3; uint8, or
            float in [0, 1].
        titles: One for each image.
        columns: Images in a row.
        cmap: Colour map of images with one channel; black is 0 and white 1 (255) in
            all of them.
        size: Side of an image in inches.
        title: Above the grid.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no image, one is not an image, the titles are not as
            many, or `columns` is not positive.
    """
    if getattr(images, "ndim", 4) == 3 and len(images) in (1, 3):
        raise ValueError(
            f"expected [N, C, H, W], got one image {list(images.shape)}: write "
            f"images[None], or images[:, None] for {len(images)} grey ones"
        )
    if len(images) == 0:
        raise ValueError("there is no image to show: expected at least one")
    if titles is not None and (isinstance(titles, str) or len(titles) != len(images)):
        raise ValueError(
            f"expected {len(images)} titles, one for each image, got {titles!r}"
        )
    if columns < 1:
        raise ValueError(f"expected at least one column, got {columns}")
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    height = size * rows * (1 if titles is None else 1.2) + (0.3 if title else 0)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(size * columns, height),
        layout="constrained",
        squeeze=False,
    )
    for axis in axes.flat:
        axis.axis("off")
    for position, (axis, image) in enumerate(zip(axes.flat, images, strict=False)):
        picture = as_picture(image)
        axis.imshow(
            picture, cmap=cmap, vmin=0, vmax=255 if picture.dtype == np.uint8 else 1
        )
        if titles is not None:
            axis.set_title(titles[position], fontsize=9)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def plot_history(
    history: Sequence[Mapping[str, float]], *, title: str | None = None
) -> Figure:
    """Draw the curves of a training run: one panel for the loss, one for each metric.

    Args:
        history: One dict an epoch, `History.rows` of `training.fit`: `epoch`, and
            `train_NAME` and `val_NAME` for the loss and each metric.
        title: Above the panels.

    Returns:
        The figure.

    Raises:
        ValueError: If it is not such a list, or there is no epoch in it.
    """
    if not isinstance(history, Sequence) or not all(
        isinstance(row, Mapping) for row in history
    ):
        raise ValueError(
            f"expected one dict an epoch, `history.rows`, got {type(history).__name__}"
        )
    if not history:
        raise ValueError("the history is empty: train for at least one epoch first")
    names = [
        key.removeprefix("train_") for key in history[0] if key.startswith("train_")
    ]
    if "epoch" not in history[0] or not names:
        raise ValueError(
            f"each row needs `epoch` and keys like `train_loss`, got {list(history[0])}"
        )
    if odd := [row for row in history if row.keys() != history[0].keys()]:
        raise ValueError(
            f"all rows must have the keys {list(history[0])}, one has {list(odd[0])}"
        )
    figure, axes = plt.subplots(
        1,
        len(names),
        figsize=(4.5 * len(names), 3),
        layout="constrained",
        squeeze=False,
    )
    epochs = [row["epoch"] for row in history]
    curves = {"train": ("training", "o--"), "val": ("validation", "s-")}
    for axis, name in zip(axes[0], names, strict=True):
        for part, (label, style) in curves.items():
            if f"{part}_{name}" in history[0]:
                values = [row[f"{part}_{name}"] for row in history]
                axis.plot(epochs, values, style, markersize=4, label=label)
        axis.set(xlabel="epoch", ylabel=name)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.legend()
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def plot_confusion(
    matrix: torch.Tensor, classes: Sequence[str], *, title: str | None = None
) -> Axes:
    """Draw a confusion matrix: counts in the cells, colour by share of the true class.

    Args:
        matrix: [C, C], counts, row = true class, column = predicted class
            (`metrics.confusion_matrix`).
        classes: C names.
        title: Above the matrix.

    Returns:
        The axes.

    Raises:
        ValueError: If the matrix is not square, does not hold counts, or the names are
            not as many.
    """
    counts = torch.as_tensor(matrix).detach().cpu()
    if counts.shape != (len(classes), len(classes)):
        raise ValueError(
            f"{len(classes)} classes need a square matrix of that size, got "
            f"{list(counts.shape)}"
        )
    if (counts < 0).any() or (counts != counts.round()).any():
        raise ValueError(
            "a confusion matrix holds counts, not shares: give the counts, and the "
            "colours will show the shares"
        )
    share = counts / counts.sum(1, keepdim=True).clamp(min=1)
    side = 0.55 * len(classes) + 1.5
    _, axis = plt.subplots(figsize=(max(7.5, side), side), layout="constrained")
    axis.imshow(share.numpy(), cmap="Blues", vmin=0, vmax=1)
    for row, column in counts.nonzero().tolist():
        axis.text(
            column,
            row,
            str(int(counts[row, column])),
            ha="center",
            va="center",
            fontsize=9,
            color="white" if share[row, column] > 0.5 else "black",
        )
    axis.set_xticks(
        range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor"
    )
    axis.set_yticks(range(len(classes)), classes)
    axis.set(xlabel="predicted class", ylabel="true class", title=title or "")
    return axis


def draw_boxes(
    image: ImageLike | None,
    boxes: torch.Tensor,
    labels: torch.Tensor | Sequence[int] | Sequence[str] | None = None,
    scores: torch.Tensor | Sequence[float] | None = None,
    *,
    classes: Sequence[str] | None = None,
    colors: str | Sequence[str] | None = None,
    axis: Axes | None = None,
    size: float = 4,
) -> Axes:
    """Draw boxes on an image, with their labels and scores.

    Args:
        image: [C, H, W] or [H, W], C is 1 or 3; uint8, or float in [0, 1]. None: draw
            on what `axis` shows.
        boxes: [N, 4], xyxy in pixels, on the edges of pixels: [0, 0, W, H] is the whole
            image.
        labels: N class numbers, or N texts.
        scores: N, written behind the labels with two decimals.
        classes: Names; class number i is written as `classes[i]`.
        colors: One, or N. Default: from `COLORS`, by class number, or in turn where
            there is none.
        axis: Where to draw. Default: a new figure.
        size: Width of the new figure in inches.

    Returns:
        The axes.

    Raises:
        ValueError: If a shape, a number of things or a class number does not fit, or
            the boxes are not xyxy in pixels.
    """
    boxes = _finite("boxes", boxes, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    if (sides < 0).any():
        raise ValueError(
            "boxes must be xyxy, left <= right and top <= bottom: convert them first"
        )
    inside_one_pixel = ((boxes >= 0) & (boxes <= 1)).all() and (sides.prod(1) > 0).any()
    if inside_one_pixel and (boxes != boxes.round()).any():
        raise ValueError(
            "boxes must be in pixels, and these lie between 0 and 1: multiply x by the "
            "width and y by the height of the image"
        )
    numbers, texts = _captions(len(boxes), labels, scores, classes)
    chosen = _choose_colors(len(boxes), colors, numbers)
    axis, height, _ = _canvas(image, axis, size)
    for (left, top, right, bottom), text, color in zip(
        boxes.tolist(), texts, chosen, strict=True
    ):
        # matplotlib's 0 is the centre of the first pixel, not its edge
        corner = (left - 0.5, top - 0.5)
        style = {
            "fill": False,
            "edgecolor": color,
            "linewidth": 2,
            "path_effects": HALO,
        }
        axis.add_patch(Rectangle(corner, right - left, bottom - top, **style))
        if text:
            ink = "white" if np.dot(to_rgb(color), (0.3, 0.6, 0.1)) < 0.5 else "black"
            plate = {"facecolor": color, "edgecolor": "none", "pad": 1}
            # above the box, unless it begins at the top
            side = "top" if top < height / 10 else "bottom"
            axis.text(
                *corner, text, va=side, fontsize=9, color=ink, bbox=plate, clip_on=True
            )
    return axis


def overlay_masks(
    image: ImageLike | None,
    masks: torch.Tensor,
    *,
    colors: str | Sequence[str] | None = None,
    alpha: float = 0.5,
    axis: Axes | None = None,
    size: float = 4,
) -> Axes:
    """Lay coloured, outlined masks over an image; the later one covers the earlier.

    Args:
        image: [C, H, W] or [H, W], C is 1 or 3; uint8, or float in [0, 1]. None: draw
            on what `axis` shows.
        masks: [N, H, W], bool.
        colors: One, or N. Default: from `COLORS`, in turn, as for boxes without class
            numbers.
        alpha: How much the colours cover, in [0, 1].
        axis: Where to draw. Default: a new figure.
        size: Width of the new figure in inches.

    Returns:
        The axes.

    Raises:
        ValueError: If the masks are not bool, not as large as the image, or not as many
            as the colours, or `alpha` leaves [0, 1].
    """
    masks = torch.as_tensor(masks).detach().cpu()
    if masks.ndim != 3 or masks.dtype != torch.bool:
        raise ValueError(
            f"masks must be bool [N, H, W], got {masks.dtype} {list(masks.shape)}"
        )
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1], got {alpha}")
    chosen = _choose_colors(len(masks), colors, range(len(masks)))
    axis, height, width = _canvas(image, axis, size)
    if masks.shape[1:] != (height, width):
        raise ValueError(
            f"the image is {height}x{width}, the masks are {list(masks.shape)}"
        )
    layer = np.zeros((height, width, 4))
    for mask, color in zip(masks.numpy(), chosen, strict=True):
        layer[mask] = (*to_rgb(color), alpha)
        # else there is no outline
        if mask.any() and not mask.all() and min(mask.shape) > 1:
            axis.contour(mask, levels=[0.5], colors=[color], linewidths=1.2)
    axis.imshow(layer)
    return axis


def draw_keypoints(
    image: ImageLike | None,
    keypoints: torch.Tensor,
    visible: torch.Tensor | None = None,
    *,
    connections: Sequence[tuple[int, int]] = (),
    colors: str | Sequence[str] | None = None,
    axis: Axes | None = None,
    size: float = 4,
) -> Axes:
    """Draw points on an image, and lines between those that belong together.

    Args:
        image: [C, H, W] or [H, W], C is 1 or 3; uint8, or float in [0, 1]. None: draw
            on what `axis` shows.
        keypoints: [K, 2], xy in pixels, on the scale of boxes: (0.5, 0.5) is the centre
            of the first pixel.
        visible: [K], bool; other points, and lines to them, are left out, and may be
            anything. Default: all.
        connections: Pairs of indices into `keypoints`.
        colors: One, or K. Default: from `COLORS`, in turn.
        axis: Where to draw. Default: a new figure.
        size: Width of the new figure in inches.

    Returns:
        The axes.

    Raises:
        ValueError: If a shape, a number of things or an index does not fit, or a point
            is not finite.
    """
    keypoints = torch.as_tensor(keypoints).detach().cpu()
    seen = torch.ones(keypoints.shape[:1], dtype=torch.bool)
    if visible is not None:
        given = torch.as_tensor(visible).detach().cpu()
        if given.dtype != torch.bool or given.shape != seen.shape:
            raise ValueError(
                f"visible must be bool, one for each point, got {given.dtype} "
                f"{list(given.shape)}"
            )
        seen = given
    _finite("keypoints", keypoints[seen], 2)
    for pair in connections:
        if len(pair) != 2 or not all(0 <= index < len(keypoints) for index in pair):
            raise ValueError(
                f"connections must be pairs of indices below {len(keypoints)}, got "
                f"{pair}"
            )
    chosen = _choose_colors(len(keypoints), colors, range(len(keypoints)))
    axis, _, _ = _canvas(image, axis, size)
    xy, seen = keypoints.numpy() - 0.5, seen.tolist()  # half a pixel less, as for boxes
    for first, second in connections:
        if seen[first] and seen[second]:
            axis.plot(
                *xy[[first, second]].T, color="white", linewidth=1.5, path_effects=HALO
            )
    chosen = [color for color, shown in zip(chosen, seen, strict=True) if shown]
    axis.scatter(*xy[seen].T, s=36, c=chosen, edgecolors="black", zorder=3)
    return axis


def _finite(name: str, values: torch.Tensor, columns: int) -> torch.Tensor:
    """Return `values` on the CPU; raise unless they are finite numbers [N, columns]."""
    values = torch.as_tensor(values).detach().cpu()
    if values.ndim != 2 or values.shape[1] != columns:
        raise ValueError(f"{name} must be [N, {columns}], got {list(values.shape)}")
    if not values.isfinite().all():
        raise ValueError(f"{name} must be finite, got {values.tolist()}")
    return values


def _canvas(
    image: ImageLike | None, axis: Axes | None, size: float
) -> tuple[Axes, int, int]:
    """Return axes that show `image` (None: what `axis` shows), its height and width."""
    if axis is not None and not isinstance(axis, Axes):
        raise ValueError(f"axis must be one matplotlib Axes, got {type(axis).__name__}")
    if image is not None:
        picture = as_picture(image)
        if axis is None:
            height, width = picture.shape[:2]
            _, axis = plt.subplots(
                figsize=(size, size * height / width), layout="constrained"
            )
        axis.imshow(
            picture, cmap="gray", vmin=0, vmax=255 if picture.dtype == np.uint8 else 1
        )
        axis.axis("off")
    elif axis is None or not axis.images:
        raise ValueError("give an image, or an `axis` that shows one")
    axis.autoscale(False)  # what sticks out of the image must not shrink it
    return axis, *axis.images[-1].get_array().shape[:2]


def _choose_colors(
    n: int, colors: str | Sequence[str] | None, numbers: Sequence[int]
) -> list[str]:
    """Return n colours: what is given, else the one of each number."""
    if colors is None:
        return [COLORS[number % len(COLORS)] for number in numbers]
    chosen = [colors] * n if isinstance(colors, str) else list(colors)
    if len(chosen) != n:
        raise ValueError(f"expected one colour, or {n}, got {len(chosen)}")
    return chosen


def _captions(
    n: int,
    labels: Sequence | None,
    scores: Sequence | None,
    classes: Sequence[str] | None,
) -> tuple[list[int], list[str]]:
    """Return for each box the number that its colour goes by, and its text."""
    for name, given in {"labels": labels, "scores": scores}.items():
        if given is not None and len(given) != n:
            raise ValueError(f"expected {n} {name}, one for each box, got {len(given)}")
    if labels is None:
        if classes is not None:
            raise ValueError("give the labels, too: classes are the names of labels")
        labels = [""] * n
    labels = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    numbered = n > 0 and all(isinstance(label, int) for label in labels)
    if not numbered and not all(isinstance(label, str) for label in labels):
        raise ValueError(f"labels must be whole numbers or texts, got {labels}")
    texts = [str(label) for label in labels]
    if numbered and classes is not None:
        if not 0 <= min(labels) <= max(labels) < len(classes):
            raise ValueError(
                f"labels must be numbers of {len(classes)} classes, got {labels}"
            )
        texts = [classes[label] for label in labels]
    if scores is not None:
        texts = [
            f"{text} {score:.2f}".strip()
            for text, score in zip(texts, scores, strict=True)
        ]
    return labels if numbered else list(range(n)), texts


def draw_network(
    layers: Sequence[Sequence[str] | int],
    weights: Sequence[torch.Tensor | np.ndarray] | None = None,
    *,
    names: Sequence[str] | None = None,
    values: bool = True,
    axis: Axes | None = None,
) -> Axes:
    """Draw a fully connected network: a column of neurons for each layer.

    Args:
        layers: For each layer its number of neurons, or a text for each neuron, in
            which matplotlib's `$...$` may stand.
        weights: [out, in] for each pair of neighbouring layers: positive ones become
            red lines and negative ones blue, the thicker the larger.
        names: A text above each layer.
        values: Write each weight on its line.
        axis: Where to draw. Default: a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: The names are not as many as the layers, or a weight matrix does not
            fit between its layers.
    """
    texts = [[""] * one if isinstance(one, int) else list(one) for one in layers]
    if names is not None and len(names) != len(texts):
        raise ValueError(f"expected {len(texts)} names, got {len(names)}")
    sizes = [len(layer) for layer in texts]
    shapes = list(zip(sizes[1:], sizes, strict=False))
    if weights is None:
        matrices = [np.ones(shape) for shape in shapes]
    else:
        matrices = [np.asarray(matrix, dtype=float) for matrix in weights]
    if [matrix.shape for matrix in matrices] != shapes:
        raise ValueError(
            f"layers of {sizes} neurons need weights [out, in] of the shapes {shapes}, "
            f"got {[matrix.shape for matrix in matrices]}"
        )
    if axis is None:
        _, axis = plt.subplots(figsize=(9, 0.9 + 0.85 * max(sizes)))
    places = [
        [(2.6 * column, (n - 1) / 2 - row) for row in range(n)]
        for column, n in enumerate(sizes)
    ]
    largest = max((np.abs(matrix).max() for matrix in matrices), default=1) or 1
    for column, matrix in enumerate(matrices):
        for (out, source), weight in np.ndenumerate(matrix):
            start, end = places[column][source], places[column + 1][out]
            color = "0.6" if weights is None else POSITIVE if weight > 0 else NEGATIVE
            width = 1 if weights is None else 0.6 + 3.4 * abs(weight) / largest
            line = zip(start, end, strict=True)
            axis.plot(*line, color=color, linewidth=width, zorder=1)
            if weights is not None and values:
                # on the side with more neurons, where lines of one layer lie apart
                wider = len(matrix) > matrix.shape[1]
                share = 0.7 - 0.12 * (source % 2) if wider else 0.3 + 0.12 * (out % 2)
                where = np.array(start) + share * (np.array(end) - start)
                plate = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
                axis.text(
                    *where,
                    f"{weight:.2g}".replace("-", "\N{MINUS SIGN}"),
                    ha="center",
                    va="center",
                    fontsize=9,
                    color=color,
                    bbox=plate,
                    zorder=2,
                )
    for layer, column in zip(texts, places, strict=True):
        for text, (x, y) in zip(layer, column, strict=True):
            axis.add_patch(
                Circle((x, y), 0.34, facecolor="white", edgecolor="black", zorder=3)
            )
            axis.text(x, y, text, ha="center", va="center", fontsize=10, zorder=4)
    top = (max(sizes) - 1) / 2 + 0.6
    for name, column in zip(names or [], places, strict=False):
        axis.text(column[0][0], top, name, ha="center", va="bottom")
    axis.set(xlim=(-0.6, 2.6 * len(sizes) - 2), ylim=(-top, top + 0.4))
    axis.set_aspect("equal")
    axis.axis("off")
    return axis


def plot_curves(
    curves: Mapping[str, Sequence | np.ndarray | torch.Tensor],
    x: Sequence | np.ndarray | None = None,
    *,
    axis: Axes | None = None,
    label_ends: bool = True,
) -> Axes:
    """Draw curves; of several runs the mean and its 95 % interval.

    Args:
        curves: Name -> [T], or [R, T] for R runs: the line is their mean, the band
            Student's interval of it.
        x: [T]. Default: 1 to T.
        axis: Where to draw. Default: a new figure.
        label_ends: Write each name behind the end of its line, in its colour; else
            make a legend.

    Returns:
        The axes.

    Raises:
        ValueError: There is no curve, or one has another shape.
    """
    if not curves:
        raise ValueError("there is no curve to draw: expected at least one")
    runs = {
        name: np.atleast_2d(np.asarray(values, dtype=float))
        for name, values in curves.items()
    }
    steps = len(next(iter(runs.values()))[0]) if x is None else len(x)
    if odd := {name: r.shape for name, r in runs.items() if r.shape[1:] != (steps,)}:
        raise ValueError(f"every curve must be [{steps}] or [R, {steps}], got {odd}")
    x = np.arange(1, steps + 1) if x is None else np.asarray(x)
    if axis is None:
        _, axis = plt.subplots()
    ends = []
    for name, values in runs.items():
        mean = values.mean(0)
        (line,) = axis.plot(x, mean, label=name)
        if len(values) > 1:
            spread = values.std(0, ddof=1) / len(values) ** 0.5
            half = stats.t.ppf(0.975, len(values) - 1) * spread
            axis.fill_between(
                x, mean - half, mean + half, color=line.get_color(), alpha=0.2, lw=0
            )
        ends.append((mean[-1], name, line.get_color()))
    if label_ends:
        _write_ends(axis, float(x[-1]), ends)
    else:
        axis.legend()
    return axis


def _write_ends(axis: Axes, x: float, ends: list[tuple[float, str, str]]) -> None:
    """Write the names of curves behind their ends, none over another."""
    low, high = axis.get_ylim()
    to_axis = axis.get_yaxis_transform()  # x from 0 at the left to 1, y in data
    gap = 0.3 * (high - low) / (axis.figure.get_figheight())  # of two lines of text
    taken = -math.inf
    for y, name, color in sorted(ends):
        place = max(y, taken + gap)
        taken = place
        axis.annotate(
            name,
            (x, y),
            xytext=(1.02, place),
            textcoords=to_axis,
            color=color,
            va="center",
            annotation_clip=False,
        )
    axis.set_ylim(low, max(high, taken + gap / 2))


def arrow_map(
    x: np.ndarray,
    y: np.ndarray,
    values: np.ndarray,
    arrows: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    every: int = 1,
    label: str = "",
    axis: Axes | None = None,
) -> Axes:
    """Draw a function of two variables as a map with contours, with arrows on it.

    Args:
        x: [W], the places of the columns.
        y: [H], the places of the rows.
        values: [H, W].
        arrows: Their two components, each [H, W]; all are drawn of one length, in
            their direction.
        every: Draw one arrow in so many rows and columns.
        label: What the values are, for the colour bar.
        axis: Where to draw. Default: a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: A shape does not fit.
    """
    values = np.asarray(values)
    shape = (len(y), len(x))
    parts = [values, *(arrows or ())]
    if any(np.shape(part) != shape for part in parts):
        raise ValueError(
            f"x and y make a map {shape}, got {[np.shape(part) for part in parts]}"
        )
    if axis is None:
        _, axis = plt.subplots(figsize=(9, 5))
    filled = axis.contourf(x, y, values, levels=24, cmap="viridis")
    axis.figure.colorbar(filled, ax=axis, label=label)
    if arrows is not None:
        across, up = (np.asarray(part)[::every, ::every] for part in arrows)
        length = np.hypot(across, up)
        length[length == 0] = 1  # a flat place has no direction
        axis.quiver(x[::every], y[::every], across / length, up / length, color="white")
    return axis


def detection_gallery(
    images: Sequence[torch.Tensor],
    predictions: Sequence[Mapping[str, torch.Tensor]],
    targets: Sequence[Mapping[str, torch.Tensor]],
    *,
    classes: Sequence[str] | None = None,
    min_score: float = 0.5,
    columns: int = 4,
) -> Figure:
    """Draw images twice: the ground truth above, and below it what was detected.

    Args:
        images: N images [3, H, W], uint8 or float in [0, 1].
        predictions: N dicts of `boxes` [n, 4] xyxy in pixels, `labels` [n] and `scores`
            [n].
        targets: N dicts of `boxes` and `labels`.
        classes: Names by class number.
        min_score: Detections below are left out.
        columns: Images in a row.

    Returns:
        The figure, 9 inches wide.

    Raises:
        ValueError: There is no image, or the lists are not as long.
    """
    if not len(images) or not len(images) == len(predictions) == len(targets):
        raise ValueError(
            f"expected as many predictions and targets as images, and at least one, "
            f"got {len(images)}, {len(predictions)} and {len(targets)}"
        )
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    height, width = images[0].shape[-2:]
    side = 9 / columns
    figure, axes = plt.subplots(
        2 * rows,
        columns,
        figsize=(9, rows * (2 * side * height / width + 0.6)),
        layout="constrained",
        squeeze=False,
    )
    for axis in axes.flat:
        axis.axis("off")
    for place, (image, found, true) in enumerate(
        zip(images, predictions, targets, strict=True)
    ):
        row, column = divmod(place, columns)
        above, below = axes[2 * row, column], axes[2 * row + 1, column]
        draw_boxes(image, true["boxes"], true["labels"], classes=classes, axis=above)
        sure = found["scores"] >= min_score
        kept = [found[name][sure] for name in ("boxes", "labels", "scores")]
        draw_boxes(image, *kept, classes=classes, axis=below)
        if column == 0:
            above.set_title("ground truth", loc="left")
            below.set_title(f"detected, score from {min_score:g} on", loc="left")
    return figure


def color_classes(
    mask: torch.Tensor, colors: Sequence[str] = REGION_COLORS
) -> torch.Tensor:
    """Turn the classes of pixels into colours.

    Args:
        mask: [H, W], whole numbers; what is no index into `colors`, 255, say, becomes
            black.
        colors: One a class.

    Returns:
        [3, H, W], uint8.
    """
    table = np.zeros((256, 3), np.uint8)
    table[: len(colors)] = [[round(255 * part) for part in to_rgb(c)] for c in colors]
    index = torch.as_tensor(mask).long().cpu().numpy()
    index = np.where((index < 0) | (index > 255), 255, index)
    return torch.from_numpy(table[index].transpose(2, 0, 1).copy())


def segmentation_gallery(
    images: Sequence[torch.Tensor],
    predictions: Sequence[torch.Tensor] | None,
    masks: Sequence[torch.Tensor],
    *,
    classes: Sequence[str],
    titles: Sequence[str] | None = None,
) -> Figure:
    """Draw images, below them the classes of their pixels, and below those predicted.

    Args:
        images: N images [3, H, W], uint8 or float in [0, 1].
        predictions: N masks [H, W]; None draws two rows.
        masks: N masks [H, W], the ground truth. What is no class is black, in the
            predictions as well: it is not measured.
        classes: Names by class number, at most as many as `REGION_COLORS`.
        titles: One above each image.

    Returns:
        The figure, 9 inches wide.

    Raises:
        ValueError: There is no image, the lists are not as long, or there are too many
            classes.
    """
    lists = [each for each in (images, predictions, masks, titles) if each is not None]
    if not len(images) or len({len(each) for each in lists}) > 1:
        raise ValueError(
            f"expected as many masks, predictions and titles as images, and at least "
            f"one, got {[len(each) for each in lists]}"
        )
    if len(classes) > len(REGION_COLORS):
        raise ValueError(
            f"there are {len(REGION_COLORS)} colours, not {len(classes)}, one a class"
        )
    colors = REGION_COLORS[: len(classes)]
    rows = {"image": images, "ground truth": [color_classes(m, colors) for m in masks]}
    if predictions is not None:
        rows["predicted"] = [
            color_classes(torch.where(m < len(classes), found, 255), colors)
            for found, m in zip(predictions, masks, strict=True)
        ]
    height, width = images[0].shape[-2:]
    tall = 9 / len(images) * height / width + 0.05
    figure, axes = plt.subplots(
        len(rows),
        len(images),
        figsize=(9, len(rows) * tall + 0.9),
        layout="constrained",
        squeeze=False,
    )
    for line, (name, row) in zip(axes, rows.items(), strict=True):
        for place, (axis, image) in enumerate(zip(line, row, strict=True)):
            axis.imshow(as_picture(image), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            if titles is not None and name == "image":
                axis.set_title(titles[place])
        line[0].set_ylabel(name)
    patches = [
        Rectangle((0, 0), 1, 1, color=color, label=label)
        for color, label in zip(colors, classes, strict=True)
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=6, frameon=False)
    return figure


LEGEND_COLUMNS = 3
VERDICT_WIDTH = 26  # characters of a line of a verdict, beside its interval


def _pairs(comparison: Any, baseline: str | Mapping[str, str] | None) -> dict[str, Any]:
    """Return arm -> its difference from its baseline, for all arms that have one."""
    arms = list(comparison.summary().index)
    if not isinstance(baseline, Mapping):
        against = arms[0] if baseline is None else baseline
        if against not in arms:
            raise ValueError(f"the baseline must be one of {arms}, got {against!r}")
        baseline = {arm: against for arm in arms if arm != against}
    if unknown := {*baseline, *baseline.values()} - set(arms):
        raise ValueError(
            f"baselines name arms: choose from {arms}, got {sorted(unknown)}"
        )
    return {
        arm: comparison.paired(arm, baseline[arm]) for arm in arms if arm in baseline
    }


def _written(metric: str) -> str:
    """Return the name of a metric as a reader writes it."""
    return {"miou": "mIoU"}.get(metric, metric.replace("_", " "))


def _draw_runs(axis: Axes, comparison: Any, on: str) -> None:
    """Draw each seed as a dot, the mean as a line and the deviation as a bar."""
    summary = comparison.summary()
    axis.use_sticky_edges = False  # leave room beside a bar as beside a dot
    for place, (arm, row) in enumerate(summary.iterrows()):
        values = comparison.final.loc[comparison.final.arm == arm, comparison.test]
        colour = f"C{place}"
        if len(values) > 1:  # one seed has no spread
            left = row["mean"] - row["std"]
            axis.barh(
                place, 2 * row["std"], left=left, height=0.5, color=colour, alpha=0.3
            )
        axis.plot(
            [row["mean"]] * 2, [place - 0.25, place + 0.25], color=colour, linewidth=2
        )
        jitter = [
            place + 0.12 * (i - (len(values) - 1) / 2) for i in range(len(values))
        ]
        axis.plot(
            values, jitter, "o", color=colour, markersize=4.5, markeredgecolor="white"
        )
    names = [
        f"{arm}{' *' if row['rate_at_edge'] else ''}" for arm, row in summary.iterrows()
    ]
    axis.set_yticks(range(len(summary)), names)
    axis.set_title("dot: a seed; bar: mean ± std")
    direction = "" if comparison.higher_is_better else " (lower is better)"
    axis.set_xlabel(f"{_written(comparison.metric)} on {on}{direction}")


def _verdict(pair: Any) -> str:
    """Return the difference and the verdict in words, in short lines."""
    mean = f"{pair.mean:+.4f}".replace("-", "\N{MINUS SIGN}")
    words = f"{mean}: {pair.verdict}"
    # an interval stays on its line
    words = words.replace(" to ", "\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}")
    return textwrap.fill(words, VERDICT_WIDTH, break_on_hyphens=False)


def _draw_pairs(axis: Axes, pairs: Mapping[str, Any], arms: list[str]) -> None:
    """Draw each arm's difference from its baseline, and write the verdict beside it."""
    axis.axvline(0, color="black", linewidth=0.8)
    places = [arms.index(arm) for arm in pairs]
    for place, pair in zip(places, pairs.values(), strict=True):
        colour = f"C{place}"
        axis.plot([pair.low, pair.high], [place, place], color=colour, linewidth=2)
        axis.plot(pair.mean, place, "o", color=colour)
    axis.yaxis.tick_right()
    axis.set_yticks(places, [_verdict(pair) for pair in pairs.values()], fontsize=9)
    axis.tick_params(axis="y", length=0)
    baselines = {pair.baseline for pair in pairs.values()}
    against = repr(baselines.pop()) if len(baselines) == 1 else "its baseline"
    axis.set_title("paired by seed, 95 % interval")
    axis.set_xlabel(textwrap.fill(f"difference from {against}", VERDICT_WIDTH + 4))
    axis.margins(x=0.1)
    axis.xaxis.set_major_locator(MaxNLocator(4))


def _coincide(one: Any, other: Any) -> bool:
    """Tell whether two series are one line to the eye."""
    if not one.index.equals(other.index) or one.isna().any() or other.isna().any():
        return False
    spread = max(one.max(), other.max()) - min(one.min(), other.min())
    return bool((one - other).abs().max() <= 0.01 * spread)


def _draw_rates(axis: Axes, comparison: Any) -> None:
    """Draw the search: the metric on the validation set against the rate."""
    search = comparison.table[comparison.table.phase == "search"]
    drawn: dict[str, Any] = {}
    for place, (arm, row) in enumerate(comparison.summary().iterrows()):
        runs = search[search.arm == arm]
        scores = (
            runs[comparison.validation]
            .where(~runs.diverged)
            .groupby(runs.learning_rate)
        )
        # nan, a gap, where a run diverged
        means = scores.agg(lambda column: column.mean(skipna=False))
        lost = means.index[means.isna()]
        chosen, colour = row["learning_rate"], f"C{place}"
        twin = [name for name, other in drawn.items() if _coincide(means, other)]
        label = f"{arm} (on the line of {twin[0]})" if twin else arm
        drawn[arm] = means
        axis.plot(means.index, means, ".-", color=colour, label=label)
        ring = {"markersize": 9, "markerfacecolor": "none", "color": colour}
        axis.plot(chosen, means[chosen], "o", **ring)
        floor = axis.get_xaxis_transform()  # x in data, y from 0 at the bottom to 1
        axis.plot(lost, [0.04] * len(lost), "x", color=colour, transform=floor)
    axis.set(
        xscale="log",
        xlabel="learning rate",
        ylabel=f"{_written(comparison.metric)} on the validation set",
        title="search; ring: chosen rate; cross: diverged",
    )


def compare_arms(
    comparison: Any,
    *,
    baseline: str | Mapping[str, str] | None = None,
    rates: bool = False,
    on: str = "the test set",
    title: str | None = None,
) -> Figure:
    """Draw what a comparison found: final runs, paired differences, and the search.

    Each arm has one colour; the verdict (`Comparison.paired`) is written beside its
    interval. A star behind a name: the arm's best rate was the lowest or highest tried,
    and it gets no verdict.

    Args:
        comparison: From `comparison.compare`.
        baseline: The arm that the others are compared with, the first by default; or
            arm -> its baseline.
        rates: Draw a panel with the validation metric against the learning rate; a
            cross at the bottom stands for a rate that diverged.
        on: What the final runs were measured on, where that is another set, such as
            "2,000 held-out training images".
        title: Above the panels.

    Returns:
        The figure.

    Raises:
        TypeError: If `comparison` is something else, its table say.
        ValueError: If `baseline` names no arm.
    """
    if not hasattr(comparison, "paired"):
        raise TypeError(
            f"compare_arms draws what compare returns, got {type(comparison).__name__}"
        )
    pairs = _pairs(comparison, baseline)
    summary = comparison.summary()
    arms = list(summary.index)
    panels = {"runs": 1.25} | ({"pairs": 1.0} if pairs else {})
    rows = [list(panels)] + ([["rates"] * len(panels)] if rates else [])
    lines = max((_verdict(pair).count("\n") + 1 for pair in pairs.values()), default=1)
    height = max(0.45, 0.17 * lines + 0.1) * len(arms) + 1.3
    # the legend stands under the curves
    below = 2.8 + 0.2 * math.ceil(len(arms) / LEGEND_COLUMNS)
    figure, axes = plt.subplot_mosaic(
        rows,
        figsize=(9, height + (below if rates else 0)),
        layout="constrained",
        width_ratios=list(panels.values()),
        height_ratios=[height, below] if rates else [height],
    )
    _draw_runs(axes["runs"], comparison, on)
    if pairs:
        _draw_pairs(axes["pairs"], pairs, arms)
    for panel in panels:
        axes[panel].set_ylim(len(arms) - 0.4, -0.6)
    if rates:
        _draw_rates(axes["rates"], comparison)
        handles, labels = axes["rates"].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            ncols=LEGEND_COLUMNS,
            fontsize=9,
            loc="outside lower center",
        )
    for axis in axes.values():
        axis.title.set_fontsize(10)
    seeds = int(summary.seeds.iloc[0])
    unequal = comparison.budget == "unequal"
    budget = "unequal budgets" if unequal else f"equal {comparison.budget}"
    rules = f"{seeds} seed{'s' if seeds > 1 else ''}, {budget}"
    if comparison.exploratory:
        rules = f"exploratory: {rules}"
    if summary.rate_at_edge.any():
        rules += "; * best rate at the edge of those tried"
    if diverged := int(comparison.final.diverged.sum()):
        rules += f"; {diverged} final run{'s' if diverged > 1 else ''} diverged"
    figure.suptitle(f"{title}\n({rules})" if title else rules, fontsize=11)
    return figure


# shared by all frames; with one more for "as before" they fit into 7 bits
GIF_COLORS = 127
HOLD = 1.5  # seconds for which the last frame stays, on top of its own
FASTEST, SLOWEST = 0.02, 10  # seconds a frame: browsers slow down what is faster


def animation(
    frames: Iterable[Figure | np.ndarray],
    *,
    alt: str,
    seconds_per_frame: float = 0.1,
    width: int | None = None,
) -> HTML:
    """Make an endless GIF of `frames`; as the last line of a cell it is shown.

    Args:
        frames: Figures, or uint8 arrays [H, W, 3], all of one size. A generator may
            draw into one figure and yield it for every frame. Figures are closed, so
            that the notebook does not show them one by one.
        alt: What the animation shows, for readers who cannot see it.
        seconds_per_frame: 0.02 to 10; a GIF counts in hundredths of a second.
        width: Of the animation on the page, in pixels; the frames' own when None.

    Returns:
        The animation, embedded in HTML.

    Raises:
        ValueError: If `alt` is empty, there is no frame, a frame is no image, the
            frames differ in size, one figure stands in a list twice, or a number is out
            of its range.
    """
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(
            "alt is empty: say in it what the animation shows, for readers who cannot "
            "see it"
        )
    if not FASTEST <= seconds_per_frame <= SLOWEST:
        raise ValueError(
            f"a frame of a GIF takes {FASTEST} to {SLOWEST} seconds, got "
            f"{seconds_per_frame}"
        )
    if width is not None and (not isinstance(width, int) or width < 1):
        raise ValueError(f"width must be a positive number of pixels, got {width!r}")
    if isinstance(frames, Figure):
        raise ValueError("expected several frames, got one figure: give a list of them")
    if isinstance(frames, list):
        figures = [id(frame) for frame in frames if isinstance(frame, Figure)]
        if len(set(figures)) < len(figures):
            raise ValueError(
                "one figure stands in the list twice: make one a frame, or write a "
                "generator that draws"
            )
    images = [_frame_pixels(frame, position) for position, frame in enumerate(frames)]
    if not images:
        raise ValueError(
            "there is no frame: an animation needs at least one figure or array"
        )
    if len(shapes := {image.shape for image in images}) > 1:
        sizes = ", ".join(f"{w} x {h}" for h, w, _ in sorted(shapes))
        raise ValueError(f"all frames must have one size in pixels, these have {sizes}")
    encoded = base64.b64encode(_gif(images, seconds_per_frame)).decode("ascii")
    size = "" if width is None else f' width="{width}"'
    return HTML(
        f'<img src="data:image/gif;base64,{encoded}" alt="{html.escape(alt)}"{size}>'
    )


def _frame_pixels(frame: Figure | np.ndarray, position: int) -> np.ndarray:
    """Return the frame as uint8, [H, W, 3], drawn if it is a figure."""
    if isinstance(frame, Figure):
        canvas = FigureCanvasAgg(frame)
        canvas.draw()
        # should it come again: axes that stand still, and a faster draw
        frame.set_layout_engine("none")
        plt.close(frame)
        drawn = Image.fromarray(np.asarray(canvas.buffer_rgba()))
        ground = Image.new("RGBA", drawn.size, "white")
        return np.asarray(Image.alpha_composite(ground, drawn).convert("RGB"))
    if not isinstance(frame, np.ndarray):
        raise ValueError(
            f"frame {position} must be a figure or an array, not {type(frame).__name__}"
        )
    if (
        frame.dtype != np.uint8
        or frame.ndim != 3
        or frame.shape[2] != 3
        or frame.size == 0
    ):
        raise ValueError(
            f"frame {position} must be uint8 [H, W, 3], got {frame.dtype} "
            f"{list(frame.shape)}"
        )
    return frame


def _gif(images: list[np.ndarray], seconds_per_frame: float) -> bytes:
    """Encode the frames; one palette for all keeps the colours from flickering."""
    height, width, _ = images[0].shape
    # One below the other they are quantised as one image. Maximum coverage keeps the
    # colours of thin lines, which have few pixels.
    column = Image.fromarray(np.concatenate(images)).quantize(
        GIF_COLORS, Image.Quantize.MAXCOVERAGE
    )
    frames = [
        column.crop((0, top, width, top + height))
        for top in range(0, column.height, height)
    ]
    durations = [round(1000 * seconds_per_frame)] * len(frames)
    durations[-1] += round(1000 * HOLD)
    file = io.BytesIO()
    frames[0].save(
        file,
        "GIF",
        save_all=True,
        append_images=frames[1:],
        palette=column.getpalette(),  # written once, not with every frame
        optimize=True,  # pixels that stay as they are cost nothing
        duration=durations,
        loop=0,
    )
    return file.getvalue()
