import base64
import io
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from IPython.display import HTML
from PIL import Image

from utils.animation import LIMIT, animation

BLACK = np.zeros((6, 8, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _no_open_figure():
    """Other tests of the same process may have left a figure open: some tests here count them."""
    plt.close("all")
    yield
    plt.close("all")


def movie(shown):
    """The GIF inside an output."""
    (encoded,) = re.findall(r'src="data:image/gif;base64,([A-Za-z0-9+/=]+)"', shown.data)
    return Image.open(io.BytesIO(base64.b64decode(encoded)))


def frames_of(gif):
    """Each frame as an array, and its milliseconds."""
    pictures, milliseconds = [], []
    for position in range(gif.n_frames):
        gif.seek(position)
        pictures.append(np.asarray(gif.convert("RGB")))
        milliseconds.append(gif.info["duration"])
    return pictures, milliseconds


def squares(count):
    """A red square that moves over white ground."""
    for position in range(count):
        picture = np.full((20, 40, 3), 255, dtype=np.uint8)
        picture[5:10, 2 * position : 2 * position + 5] = 200, 20, 30
        yield picture


def test_arrays_come_back_as_they_were():
    shown = animation(squares(6), alt="a square", seconds_per_frame=0.2)
    assert isinstance(shown, HTML)
    gif = movie(shown)
    pictures, milliseconds = frames_of(gif)
    assert gif.info["loop"] == 0  # for ever
    assert milliseconds == [200] * 5 + [1700]
    for picture, expected in zip(pictures, squares(6), strict=True):
        np.testing.assert_array_equal(picture, expected)


def test_a_still_background_costs_nothing():
    ground = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    frames = [ground.copy() for _ in range(20)]
    for position, frame in enumerate(frames):
        frame[::59, 4 * position : 4 * position + 3] = 255  # at the top and at the bottom
    moving, still = animation(frames, alt="dots on noise"), animation(frames[:1], alt="dots on noise")
    assert len(moving.data) < 2 * len(still.data)


def test_one_frame_is_enough():
    pictures, _ = frames_of(movie(animation([BLACK], alt="nothing yet")))
    assert len(pictures) == 1 and pictures[0].max() == 0


def test_rare_colours_survive_many():
    ground = np.random.default_rng(0).integers(100, 156, (60, 80, 3), dtype=np.uint8)  # thousands of greys
    frames = [ground.copy(), ground.copy()]
    frames[1][30, 20:60] = 255, 0, 0  # 40 pixels of 9,600
    pictures, _ = frames_of(movie(animation(frames, alt="a line")))
    line = pictures[1][30, 20:60].astype(int)
    assert abs(line - [255, 0, 0]).max() < 25
    assert abs(pictures[0].astype(int) - frames[0]).mean() < 10


def test_all_frames_share_one_palette():
    gif = movie(animation(squares(4), alt="a square"))
    assert gif.global_palette is not None
    for position in range(gif.n_frames):
        gif.seek(position)
        gif.fp.seek(gif.tile[0].offset - 11)  # the descriptor has 10 bytes; a palette would push it away
        descriptor = gif.fp.read(10)
        assert descriptor[:1] == b"," and not descriptor[9] & 0x80


def test_figures_are_drawn_and_closed():
    figures = []
    for value in (0, 1):
        figure, axis = plt.subplots(figsize=(2, 1), dpi=50, layout="constrained")
        axis.plot([0, 1], [value, 1 - value])
        figures.append(figure)
    pictures, _ = frames_of(movie(animation(figures, alt="a line that tilts")))
    assert [picture.shape for picture in pictures] == [(50, 100, 3)] * 2
    assert (pictures[0] != pictures[1]).any()
    assert plt.get_fignums() == []


def test_a_generator_may_draw_into_one_figure():
    def frames():
        figure, axis = plt.subplots(figsize=(2, 1), dpi=50, layout="constrained", facecolor="none")
        (dot,) = axis.plot([0], [0], "ro")
        axis.set(xlim=(-1, 3), ylim=(-1, 1))
        for x in range(3):
            dot.set_xdata([x])
            yield figure

    pictures, _ = frames_of(movie(animation(frames(), alt="a dot that wanders")))
    red = [np.argwhere((p[..., 0] > 200) & (p[..., 1] < 60))[:, 1].mean() for p in pictures]
    assert red[0] < red[1] < red[2]
    assert pictures[0][0, 0].min() == 255  # a transparent figure stands on white
    assert plt.get_fignums() == []


def test_alt_text_and_width():
    shown = animation([BLACK], alt='a "ball" & more', width=300)
    assert 'alt="a &quot;ball&quot; &amp; more" width="300"' in shown.data
    assert "width" not in animation([BLACK], alt="a ball").data


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        ([], "at least one figure or array"),
        ([BLACK, BLACK[:4]], "one size in pixels, these have 8 x 4, 8 x 6"),
        ([BLACK, BLACK / 255], r"frame 1 must be uint8 \[H, W, 3\].*float64 \[6, 8, 3\]"),
        ([BLACK[..., 0]], r"frame 0 must be uint8 \[H, W, 3\].*\[6, 8\]"),
        ([BLACK[:0]], r"uint8 \[0, 8, 3\]"),
        (["a.png"], "frame 0 must be a figure or an array, not str"),
    ],
)
def test_what_is_no_frame_is_refused(frames, says):
    with pytest.raises(ValueError, match=says):
        animation(frames, alt="a ball")


def test_a_list_with_one_figure_twice_is_refused():
    figure = plt.figure(figsize=(1, 1))
    with pytest.raises(ValueError, match="write a generator"):
        animation([figure, figure], alt="nothing moves")
    plt.close("all")


@pytest.mark.parametrize("alt", ["", "  ", None])
def test_alt_text_is_demanded(alt):
    with pytest.raises(ValueError, match="for readers who cannot see it"):
        animation([BLACK], alt=alt)
    with pytest.raises(TypeError, match="alt"):
        animation([BLACK])


def test_too_fast_is_refused():
    with pytest.raises(ValueError, match="too fast for a GIF: use 0.02"):
        animation([BLACK], alt="a ball", seconds_per_frame=0.01)


def test_too_large_is_refused():
    noise = np.random.default_rng(0).integers(0, 256, (4, 200, 200, 3), dtype=np.uint8)
    assert len(animation(noise[:2], alt="noise").data) < LIMIT
    with pytest.raises(ValueError, match="140 at the most: make fewer or smaller frames .now 4 of 200 x 200"):
        animation(noise, alt="noise")


def test_the_commonest_colours_are_kept_exactly():
    generator = np.random.default_rng(1)
    frame = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)  # more colours than a palette holds
    frame[10:] = np.repeat(np.arange(30, dtype=np.uint8)[:, None, None] // 5 + 100, 40, axis=1)  # 6 greys
    pictures, _ = frames_of(movie(animation([frame], alt="greys below noise")))
    np.testing.assert_array_equal(pictures[0][10:], frame[10:])
