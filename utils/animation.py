"""Pictures that move: frames become one small GIF inside the notebook, without a player or JavaScript."""

import base64
import html
import io
from collections.abc import Iterable

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

LIMIT = 140_000  # characters of the embedded GIF: a stored output has at most 150,000
COLORS = 127  # in the palette that all frames share; one more means "as before"
EXACT = 16  # of them, the most common ones, are kept as they are: white stays white
HOLD = 1.5  # seconds for which the last frame stays, on top of its own
FASTEST = 0.02  # seconds: browsers show faster frames at their own, slow pace


def animation(
    frames: Iterable[Figure | np.ndarray],
    *,
    alt: str,
    seconds_per_frame: float = 0.1,
    width: int | None = None,
) -> HTML:
    """Make one GIF of `frames` that plays for ever; a cell that ends in this call shows and stores it.

    Args:
        frames: Figures, or uint8 arrays [H, W, 3], all of one size. A generator may draw into one figure and
            yield it for every frame. Figures are closed, so that the notebook does not show them one by one.
        alt: What the animation shows, for readers who cannot see it.
        seconds_per_frame: At least 0.02; a GIF counts in hundredths of a second.
        width: Of the picture on the page, in pixels; the frames' own when None.

    Returns:
        The picture, embedded.

    Raises:
        ValueError: If `alt` is empty, there is no frame, a frame is no picture, the frames differ in size,
            one figure stands in a list twice, the frames are too fast, or the GIF is too large to be stored.
    """
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError("alt is empty: say in it what the animation shows, for readers who cannot see it")
    if seconds_per_frame < FASTEST:
        raise ValueError(f"{seconds_per_frame} seconds a frame are too fast for a GIF: use {FASTEST} or more")
    figures = [id(frame) for frame in frames if isinstance(frame, Figure)] if isinstance(frames, list) else []
    if len(set(figures)) < len(figures):
        raise ValueError(
            "one figure stands in the list twice: make one a frame, or write a generator that draws"
        )
    pictures = [_pixels(frame, position) for position, frame in enumerate(frames)]
    if not pictures:
        raise ValueError("there is no frame: an animation needs at least one figure or array")
    if len(shapes := {picture.shape for picture in pictures}) > 1:
        sizes = ", ".join(f"{w} x {h}" for h, w, _ in sorted(shapes))
        raise ValueError(f"all frames must have one size in pixels, these have {sizes}")
    encoded = base64.b64encode(_gif(pictures, seconds_per_frame)).decode("ascii")
    if len(encoded) > LIMIT:
        raise ValueError(
            f"the embedded GIF has {len(encoded) / 1000:.0f} kB, {LIMIT // 1000} at the most: make fewer or "
            f"smaller frames (now {len(pictures)} of {pictures[0].shape[1]} x {pictures[0].shape[0]} pixels)"
        )
    size = "" if width is None else f' width="{int(width)}"'
    return HTML(f'<img src="data:image/gif;base64,{encoded}" alt="{html.escape(alt)}"{size}>')


def _pixels(frame: Figure | np.ndarray, position: int) -> np.ndarray:
    """Return the frame as uint8, [H, W, 3], drawn if it is a figure."""
    if isinstance(frame, Figure):
        canvas = FigureCanvasAgg(frame)
        canvas.draw()
        frame.set_layout_engine("none")  # should it come again: axes that stand still, and a faster draw
        plt.close(frame)
        drawn = Image.fromarray(np.asarray(canvas.buffer_rgba()))
        return np.asarray(Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn).convert("RGB"))
    if not isinstance(frame, np.ndarray):
        raise ValueError(f"frame {position} must be a figure or an array, not {type(frame).__name__}")
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
        raise ValueError(f"frame {position} must be uint8 [H, W, 3], got {frame.dtype} {list(frame.shape)}")
    return frame


def _gif(pictures: list[np.ndarray], seconds_per_frame: float) -> bytes:
    """Encode the frames with one palette, which keeps colours steady and the file small."""
    codes = np.stack(pictures).astype(np.int32) @ [1 << 16, 1 << 8, 1]  # [N, H, W], one number a colour
    codes, places, counts = np.unique(codes, return_inverse=True, return_counts=True)
    colors = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1)  # [C, 3]
    palette = _palette(colors, counts)
    nearest = (np.square(palette).sum(1) - 2 * colors @ palette.T).argmin(1).astype(np.uint8)  # [C]
    indices = nearest[places].reshape(-1, *pictures[0].shape[:2])  # [N, H, W]
    # Pixels that stay as they are become transparent: a still background costs nothing after the first frame.
    unchanged = len(palette)
    indices[1:][indices[1:] == indices[:-1]] = unchanged
    spare = next((0, 0, blue) for blue in range(256) if [0, 0, blue] not in palette.tolist())
    table = np.vstack([palette, spare]).astype(np.uint8).tobytes()
    frames = [Image.fromarray(frame) for frame in indices]
    for frame in frames:
        frame.putpalette(table)
    durations = [round(1000 * seconds_per_frame)] * len(frames)
    durations[-1] += round(1000 * HOLD)
    file = io.BytesIO()
    options = {"save_all": True, "duration": durations, "loop": 0, "transparency": unchanged}
    frames[0].save(file, "GIF", append_images=frames[1:], palette=table, **options)
    return file.getvalue()


def _palette(colors: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return at most COLORS colours, int [P, 3], that stand for `colors` [C, 3] with `counts` [C] pixels."""
    if len(colors) <= COLORS:
        return colors
    order = counts.argsort()[::-1]
    common, rest = order[:EXACT], order[EXACT:]
    # A thin line is as important as the ground, so a colour counts with the root of its number of pixels.
    weighted = np.repeat(colors[rest], np.ceil(np.sqrt(counts[rest])).astype(int), axis=0)
    merged = Image.fromarray(weighted[None].astype(np.uint8)).quantize(COLORS - EXACT, kmeans=3)
    return np.unique(np.concatenate([colors[common], np.array(merged.getpalette()).reshape(-1, 3)]), axis=0)
