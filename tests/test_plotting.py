"""The figures of `utils.plotting`: what is drawn, where, and what is refused."""

import base64
import io
import re

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from IPython.display import HTML
from matplotlib.colors import to_hex, to_rgb
from PIL import Image
from torchvision import tv_tensors

from utils.plotting import (
    COLORS,
    NEGATIVE,
    POSITIVE,
    REGION_COLORS,
    alt_text,
    animation,
    arrow_map,
    as_picture,
    color_classes,
    course_style,
    detection_gallery,
    draw_boxes,
    draw_keypoints,
    draw_network,
    overlay_masks,
    plot_confusion,
    plot_curves,
    plot_history,
    segmentation_gallery,
    show_images,
)

IMAGE = torch.arange(3 * 20 * 30, dtype=torch.uint8).view(3, 20, 30)
BOXES = torch.tensor([[0, 0, 30, 20], [5, 8, 9, 17.5]])


@pytest.fixture(autouse=True)
def no_open_figure():
    """Some tests count the open figures, and others leave some."""
    plt.close("all")
    yield
    plt.close("all")


def pixels(axis):
    return np.asarray(axis.images[0].get_array())


def test_grid_shows_each_image_in_its_place():
    images = (
        torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 1, 3, 4) * 10
    )
    figure = show_images(images, titles=list("abcde"), columns=3, title="all")
    shown = [axis for axis in figure.axes if axis.images]
    assert len(figure.axes) == 6 and len(shown) == 5
    assert [int(pixels(axis).max()) for axis in shown] == [0, 10, 20, 30, 40]
    assert [axis.get_title() for axis in shown] == list("abcde")
    assert all(
        pixels(axis).shape == (3, 4) and axis.images[0].get_clim() == (0, 255)
        for axis in shown
    )
    assert not any(axis.axison for axis in figure.axes)


def test_colour_channels_and_rows_stay_where_they_are():
    image = torch.rand(3, 2, 5)
    (axis,) = show_images([image]).axes
    np.testing.assert_allclose(pixels(axis), image.permute(1, 2, 0).numpy())


def test_images_of_different_sizes_and_black_is_black():
    figure = show_images([torch.full((1, 2, 2), 0.5), torch.zeros(1, 4, 3)])
    assert [axis.images[0].get_clim() for axis in figure.axes] == [(0, 1), (0, 1)]
    assert [pixels(axis).shape for axis in figure.axes] == [(2, 2), (4, 3)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: show_images(torch.zeros(0, 1, 2, 2)), "no image to show"),
        (lambda: show_images([]), "no image to show"),
        (lambda: show_images(torch.zeros(2, 1, 2, 2), ["one"]), "expected 2 titles"),
        (lambda: show_images(torch.zeros(3, 1, 2, 2), "cat"), "expected 3 titles"),
        (
            lambda: show_images(torch.zeros(3, 5, 6)),
            r"one image \[3, 5, 6\]: write ima",
        ),
        (lambda: show_images(torch.zeros(1, 1, 2, 2), columns=0), "one column, got 0"),
        (lambda: show_images(torch.zeros(1, 2, 2, 2)), r"\[3, H, W\], got \[2, 2, 2\]"),
        (lambda: show_images(torch.zeros(4, 5, 6, 3)), "put the channels first"),
        (lambda: as_picture(torch.zeros(1, 3, 5, 6)), "one image out of a batch"),
        (lambda: as_picture(torch.full((1, 2, 2), 2.0)), "normalisation, or divide by"),
        (lambda: as_picture(torch.full((1, 2, 2), -1.0)), "-1.00 to -1.00: undo"),
        (lambda: as_picture(torch.full((2, 2), torch.nan)), "got nan to nan"),
        (lambda: as_picture(np.arange(256).reshape(16, 16)), "0.00 to 255.00"),
    ],
)
def test_what_is_no_image_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_grey_images_may_come_without_a_channel():
    assert len(show_images(torch.zeros(4, 2, 5), columns=4).axes) == 4
    assert as_picture(np.zeros((2, 5), dtype=np.uint8)).shape == (2, 5)


def test_history_draws_training_and_validation():
    rows = [
        {"epoch": e, "train_loss": 1 / e, "val_loss": 2 / e, "train_f1": 0.5, "lr": 0.1}
        for e in (1, 2, 3)
    ]
    loss, f1 = plot_history(rows).axes
    assert (loss.get_xlabel(), loss.get_ylabel(), f1.get_ylabel()) == (
        "epoch",
        "loss",
        "f1",
    )
    assert {line.get_label(): list(line.get_ydata()) for line in loss.lines} == {
        "training": [1, 1 / 2, 1 / 3],
        "validation": [2, 1, 2 / 3],
    }
    assert [list(line.get_xdata()) for line in f1.lines] == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ([], "empty"),
        ({"train_loss": [1.0]}, "`history.rows`, got dict"),
        ([1.0, 0.5], "one dict an epoch"),
        (object(), "`history.rows`, got object"),
        ([{"epoch": 1, "loss": 1.0}], r"keys like `train_loss`, got \['epoch', 'loss"),
        ([{"train_loss": 1.0}], "each row needs `epoch`"),
        (
            [{"epoch": 1, "train_loss": 1.0, "val_loss": 1.0}, {"epoch": 2}],
            r"one has \['epoch'\]",
        ),
    ],
)
def test_what_is_no_history_is_refused(history, message):
    with pytest.raises(ValueError, match=message):
        plot_history(history)


def test_confusion_puts_the_truth_on_the_vertical_axis():
    axis = plot_confusion(torch.tensor([[8, 2], [0, 5]]), ["cat", "dog"])
    np.testing.assert_allclose(pixels(axis), [[0.8, 0.2], [0, 1]])
    cells = {
        text.get_position(): (text.get_text(), text.get_color()) for text in axis.texts
    }
    # (column, row): what was taken for what; white on dark, black on light
    assert cells == {
        (0, 0): ("8", "white"),
        (1, 0): ("2", "black"),
        (1, 1): ("5", "white"),
    }
    assert (axis.get_ylabel(), axis.get_xlabel()) == ("true class", "predicted class")
    assert [label.get_text() for label in axis.get_yticklabels()] == ["cat", "dog"]


def test_confusion_survives_an_empty_class():
    np.testing.assert_allclose(pixels(plot_confusion(torch.zeros(2, 2), ["a", "b"])), 0)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (torch.zeros(3, 3), r"2 classes need a square matrix .* \[3, 3\]"),
        (torch.tensor([0, 1, 1]), r"2 classes .* \[3\]"),
        (torch.tensor([[0.8, 0.2], [0.0, 1.0]]), "counts, not shares"),
        (torch.tensor([[80.0, 20.0], [0.0, torch.nan]]), "counts, not shares"),
        ([[8, -2], [0, 5]], "counts, not shares"),
    ],
)
def test_what_is_no_confusion_matrix_is_refused(matrix, message):
    with pytest.raises(ValueError, match=message):
        plot_confusion(matrix, ["a", "b"])


def rectangles(axis):
    """The rectangles on the axes, on the scale of boxes, and their colours."""
    found = [
        (patch.get_bbox().extents + 0.5, to_hex(patch.get_edgecolor()).upper())
        for patch in axis.patches
    ]
    return [tuple(box.tolist()) for box, _ in found], [color for _, color in found]


def written(axis):
    return [text.get_text() for text in axis.texts]


def test_boxes_lie_on_the_edges_of_the_pixels_they_hold():
    boxes = tv_tensors.BoundingBoxes(BOXES, format="XYXY", canvas_size=(20, 30))
    axis = draw_boxes(IMAGE, boxes)
    np.testing.assert_array_equal(pixels(axis), IMAGE.permute(1, 2, 0))
    assert rectangles(axis) == ([(0, 0, 30, 20), (5, 8, 9, 17.5)], COLORS[:2])
    # the first box is the frame
    assert axis.get_xlim() == (-0.5, 29.5) and axis.get_ylim() == (19.5, -0.5)
    assert written(axis) == [] and not axis.axison


def test_a_box_that_sticks_out_does_not_shrink_the_image():
    axis = draw_boxes(IMAGE, torch.tensor([[-50, -50, 100, 100]]))
    overlay_masks(None, torch.ones(1, 20, 30, dtype=torch.bool), axis=axis)
    draw_keypoints(
        None, torch.tensor([[99.0, -7.0], [1, 1]]), connections=[(0, 1)], axis=axis
    )
    assert axis.get_xlim() == (-0.5, 29.5) and axis.get_ylim() == (19.5, -0.5)
    _, bare = plt.subplots()
    bare.imshow(np.zeros((4, 4)))
    draw_keypoints(None, torch.tensor([[99.0, -7.0]]), axis=bare)
    assert bare.get_xlim() == (-0.5, 3.5)


def test_colour_goes_by_class_and_text_says_class_and_score():
    axis = draw_boxes(
        IMAGE, BOXES, torch.tensor([8, 1]), [0.257, 1], classes=list("abcdefghi")
    )
    assert written(axis) == ["i 0.26", "b 1.00"]
    assert rectangles(axis)[1] == [COLORS[1], COLORS[1]]  # 8 is 1 modulo 7
    assert rectangles(draw_boxes(IMAGE, BOXES, [3, 0]))[1] == [COLORS[3], COLORS[0]]
    axis = draw_boxes(IMAGE, BOXES, ["cat", "cat"], colors=["#FF0000", "#00FF00"])
    assert written(axis) == ["cat", "cat"] and rectangles(axis)[1] == [
        "#FF0000",
        "#00FF00",
    ]
    assert written(draw_boxes(IMAGE, BOXES, scores=torch.tensor([0.5, 0]))) == [
        "0.50",
        "0.00",
    ]
    assert written(draw_boxes(IMAGE, BOXES, [3, 0])) == ["3", "0"]
    assert rectangles(draw_boxes(IMAGE, BOXES, colors="#123456"))[1] == [
        "#123456",
        "#123456",
    ]


def test_labels_stand_above_their_box_or_inside_it_at_the_top():
    axis = draw_boxes(IMAGE, BOXES, ["a", "b"])
    assert [text.get_verticalalignment() for text in axis.texts] == ["top", "bottom"]
    assert [text.get_position() for text in axis.texts] == [(-0.5, -0.5), (4.5, 7.5)]
    assert [text.get_color() for text in draw_boxes(IMAGE, BOXES, [3, 4]).texts] == [
        "black",
        "white",
    ]


def test_masks_are_mixed_in_and_the_later_one_is_seen():
    masks = torch.zeros(2, 20, 30, dtype=torch.bool)
    masks[0, 2:6, 3:9] = True
    masks[1, 5, 8] = True
    axis = overlay_masks(IMAGE, tv_tensors.Mask(masks), alpha=0.25)
    np.testing.assert_array_equal(pixels(axis), IMAGE.permute(1, 2, 0))
    layer = np.asarray(axis.images[1].get_array())
    np.testing.assert_array_equal(layer[..., 3], 0.25 * masks.any(0))
    np.testing.assert_allclose(layer[2, 3, :3], to_rgb(COLORS[0]))
    np.testing.assert_allclose(layer[5, 8, :3], to_rgb(COLORS[1]))
    outlines = [c for c in axis.collections if c.get_paths()[0].vertices.size]
    assert [to_hex(c.get_edgecolor()[0]).upper() for c in outlines] == COLORS[:2]
    extents = outlines[0].get_paths()[0].get_extents()
    assert (extents.x0, extents.y0, extents.x1, extents.y1) == (2.5, 1.5, 8.5, 5.5)
    for uniform in (torch.zeros, torch.ones):  # no outline, and no warning about that
        overlay_masks(IMAGE, uniform(1, 20, 30, dtype=torch.bool))
    overlay_masks(IMAGE[:, :1, :2], torch.tensor([[[True, False]]]))


def test_points_are_drawn_at_their_place_with_lines_between_visible_ones():
    points = torch.tensor([[0.5, 0.5], [29.5, 19.5], [torch.nan, 0]])
    visible = torch.tensor([True, True, False])
    axis = draw_keypoints(IMAGE, points, visible, connections=[(0, 1), (1, 2), (2, 0)])
    (dots,) = axis.collections
    # centres of the outermost pixels
    np.testing.assert_array_equal(dots.get_offsets(), [[0, 0], [29, 19]])
    assert [to_hex(color).upper() for color in dots.get_facecolors()] == COLORS[:2]
    assert [line.get_xydata().tolist() for line in axis.lines] == [[[0, 0], [29, 19]]]
    one = draw_keypoints(IMAGE, torch.tensor([[3, 4]]), colors="#FF0000").collections[0]
    assert to_hex(one.get_facecolors()[0]) == "#ff0000"


def test_nothing_to_draw_leaves_the_image_alone():
    axis = draw_boxes(
        IMAGE, torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), [], classes=["a"]
    )
    overlay_masks(None, torch.zeros(0, 20, 30, dtype=torch.bool), axis=axis)
    draw_keypoints(None, torch.zeros(0, 2), axis=axis)
    assert (
        not axis.patches
        and not axis.texts
        and not np.asarray(axis.images[1].get_array()).any()
    )
    assert sum(len(collection.get_offsets()) for collection in axis.collections) == 0


def test_new_figures_have_the_shape_of_the_image_and_given_axes_are_used():
    assert draw_boxes(IMAGE, BOXES, size=3).figure.get_size_inches().tolist() == [
        3,
        2,
    ]
    _, axis = plt.subplots()
    assert draw_keypoints(IMAGE.float() / 1800, torch.zeros(1, 2), axis=axis) is axis
    assert draw_boxes(IMAGE[0], BOXES).images[0].get_clim() == (0, 255)
    assert draw_boxes(IMAGE[:1] / 255, BOXES).images[0].get_clim() == (0, 1)


MASK = torch.zeros(1, 20, 30, dtype=torch.bool)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw_boxes(IMAGE, torch.zeros(4)), r"\[N, 4\], got \[4\]"),
        (lambda: draw_boxes(IMAGE, torch.zeros(2, 5)), r"\[N, 4\], got \[2, 5\]"),
        (lambda: draw_boxes(IMAGE, torch.tensor([[20.0, 3, 9, 9]])), "xyxy"),
        (lambda: draw_boxes(IMAGE, torch.tensor([[2.0, 13, 9, 9]])), "xyxy"),
        (lambda: draw_boxes(IMAGE, torch.full((1, 4), torch.nan)), "finite"),
        (lambda: draw_boxes(IMAGE, torch.tensor([[0, 0.2, 0.9, 1]])), "be in pixels"),
        (lambda: draw_boxes(IMAGE, BOXES, classes=["a", "b"]), "give the labels"),
        (lambda: draw_boxes(IMAGE, BOXES, axis=plt.subplots(1, 2)[1]), "got ndarray"),
        (lambda: draw_boxes(IMAGE, BOXES, ["a"]), "2 labels"),
        (lambda: draw_boxes(IMAGE, BOXES, scores=[0.5]), "2 scores"),
        (lambda: draw_boxes(IMAGE, BOXES, colors=["red"]), "one colour, or 2, got 1"),
        (lambda: draw_boxes(IMAGE, BOXES, [0, 2], classes=["a", "b"]), "2 classes"),
        (lambda: draw_boxes(IMAGE, BOXES, [0, -1], classes=["a", "b"]), "2 classes"),
        (lambda: draw_boxes(IMAGE, BOXES, ["a", 1]), "whole numbers or texts"),
        (lambda: draw_boxes(IMAGE, BOXES, torch.rand(2)), "whole numbers or texts"),
        (lambda: draw_boxes(IMAGE[None], BOXES), r"\[3, H, W\]"),
        (lambda: draw_boxes(IMAGE.float(), BOXES), "normalisation"),
        (lambda: draw_boxes(None, BOXES), "give an image"),
        (lambda: draw_boxes(None, BOXES, axis=plt.subplots()[1]), "give an image"),
        (lambda: overlay_masks(IMAGE, MASK[0]), r"\[N, H, W\]"),
        (lambda: overlay_masks(IMAGE, MASK.float()), "bool"),
        (lambda: overlay_masks(IMAGE, MASK[:, :, :1]), "20x30"),
        (
            lambda: overlay_masks(None, MASK[:, :9], axis=draw_boxes(IMAGE, BOXES)),
            "20x30",
        ),
        (lambda: overlay_masks(IMAGE, MASK, colors=[]), "got 0"),
        (lambda: overlay_masks(IMAGE, MASK, alpha=50), r"\[0, 1\], got 50"),
        (lambda: draw_keypoints(IMAGE, torch.zeros(2)), r"\[N, 2\]"),
        (lambda: draw_keypoints(IMAGE, torch.zeros(2, 3)), r"\[N, 2\]"),
        (lambda: draw_keypoints(IMAGE, torch.full((1, 2), torch.inf)), "finite"),
        (
            lambda: draw_keypoints(IMAGE, torch.zeros(2, 2), torch.tensor([True])),
            "visible must be bool",
        ),
        (
            lambda: draw_keypoints(IMAGE, torch.zeros(2, 2), torch.tensor([1, 2])),
            "visible must be bool",
        ),
        (
            lambda: draw_keypoints(IMAGE, torch.zeros(2, 2), connections=[(0, 2)]),
            "below 2",
        ),
        (
            lambda: draw_keypoints(IMAGE, torch.zeros(2, 2), connections=[(-1, 0)]),
            "below 2",
        ),
        (
            lambda: draw_keypoints(IMAGE, torch.zeros(2, 2), connections=[(0, 1, 1)]),
            "pairs of indices",
        ),
        (lambda: draw_keypoints(IMAGE, torch.zeros(2, 2), colors=["red"]), "got 1"),
    ],
)
def test_what_does_not_fit_the_image_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


BLACK = np.zeros((6, 8, 3), dtype=np.uint8)


def movie(shown):
    """The GIF inside an output."""
    (encoded,) = re.findall(
        r'src="data:image/gif;base64,([A-Za-z0-9+/=]+)"', shown.data
    )
    return Image.open(io.BytesIO(base64.b64decode(encoded)))


def frames_of(gif):
    """Each frame as an array, and its milliseconds."""
    images, milliseconds = [], []
    for position in range(gif.n_frames):
        gif.seek(position)
        images.append(np.asarray(gif.convert("RGB")))
        milliseconds.append(gif.info["duration"])
    return images, milliseconds


def squares(count):
    """A red square that moves over white ground."""
    for position in range(count):
        image = np.full((20, 40, 3), 255, dtype=np.uint8)
        image[5:10, 2 * position : 2 * position + 5] = 200, 20, 30
        yield image


def test_arrays_come_back_as_they_were():
    shown = animation(squares(6), alt="a square", seconds_per_frame=0.2)
    assert isinstance(shown, HTML)
    gif = movie(shown)
    images, milliseconds = frames_of(gif)
    assert gif.info["loop"] == 0  # for ever
    assert milliseconds == [200] * 5 + [1700]
    for image, expected in zip(images, squares(6), strict=True):
        np.testing.assert_array_equal(image, expected)


def test_a_still_background_costs_nothing():
    ground = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    frames = [ground.copy() for _ in range(20)]
    for position, frame in enumerate(frames):
        # at the top and at the bottom
        frame[::59, 4 * position : 4 * position + 3] = 255
    moving, still = (
        animation(frames, alt="dots on noise"),
        animation(frames[:1], alt="dots on noise"),
    )
    assert len(moving.data) < 2 * len(still.data)


def test_thin_lines_keep_their_colours():
    # thousands of greys
    ground = np.random.default_rng(0).integers(100, 156, (60, 80, 3), dtype=np.uint8)
    frames = [ground.copy(), ground.copy()]
    lines = (255 * plt.get_cmap("hsv")(np.linspace(0, 0.9, 12))[:, :3]).astype(np.uint8)
    frames[1][5:53:4, 20:40] = lines[:, None]  # of 20 pixels each
    images, _ = frames_of(movie(animation(frames, alt="lines")))
    drawn = images[1][5:53:4, 20:40].astype(int)
    assert abs(drawn - lines[:, None]).max() < 25
    assert abs(images[0].astype(int) - frames[0]).mean() < 10


def test_figures_are_drawn_and_closed():
    figures = []
    for value in (0, 1):
        figure, axis = plt.subplots(figsize=(2, 1), dpi=50, layout="constrained")
        axis.plot([0, 1], [value, 1 - value])
        figures.append(figure)
    images, _ = frames_of(movie(animation(figures, alt="a line that tilts")))
    assert [image.shape for image in images] == [(50, 100, 3)] * 2
    assert (images[0] != images[1]).any()
    assert plt.get_fignums() == []


def test_a_generator_may_draw_into_one_figure():
    def frames():
        figure, axis = plt.subplots(
            figsize=(2, 1), dpi=50, layout="constrained", facecolor="none"
        )
        (dot,) = axis.plot([0], [0], "ro")
        axis.set(xlim=(-1, 3), ylim=(-1, 1))
        for x in range(3):
            dot.set_xdata([x])
            yield figure

    images, _ = frames_of(movie(animation(frames(), alt="a dot that wanders")))
    red = [
        np.argwhere((p[..., 0] > 200) & (p[..., 1] < 60))[:, 1].mean() for p in images
    ]
    assert red[0] < red[1] < red[2]
    assert images[0][0, 0].min() == 255  # a transparent figure stands on white
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
        (
            [BLACK, BLACK / 255],
            r"frame 1 must be uint8 \[H, W, 3\].*float64 \[6, 8, 3\]",
        ),
        ([BLACK[..., 0]], r"frame 0 must be uint8 \[H, W, 3\].*\[6, 8\]"),
        ([BLACK[:0]], r"uint8 \[0, 8, 3\]"),
        (["a.png"], "frame 0 must be a figure or an array, not str"),
    ],
)
def test_what_is_no_frame_is_refused(frames, says):
    with pytest.raises(ValueError, match=says):
        animation(frames, alt="a ball")


def test_one_figure_is_no_animation_and_twice_in_a_list_it_does_not_move():
    figure = plt.figure(figsize=(1, 1))
    with pytest.raises(ValueError, match="got one figure: give a list"):
        animation(figure, alt="nothing moves")
    with pytest.raises(ValueError, match="write a generator"):
        animation([figure, figure], alt="nothing moves")


@pytest.mark.parametrize("alt", ["", "  ", None])
def test_alt_text_is_demanded(alt):
    with pytest.raises(ValueError, match="for readers who cannot see it"):
        animation([BLACK], alt=alt)
    with pytest.raises(TypeError, match="alt"):
        animation([BLACK])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seconds_per_frame": 0.01}, "takes 0.02 to 10 seconds, got 0.01"),
        ({"seconds_per_frame": 100}, "takes 0.02 to 10 seconds, got 100"),
        ({"width": 0}, "width must be a positive number of pixels, got 0"),
        ({"width": "50%"}, "width must be a positive number of pixels, got '50%'"),
    ],
)
def test_numbers_out_of_range_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        animation([BLACK], alt="a ball", **options)


def test_size_is_no_reason_to_refuse():
    noise = np.random.default_rng(0).integers(0, 256, (4, 200, 200, 3), dtype=np.uint8)
    assert len(animation(noise, alt="noise").data) > 150_000


def test_white_stays_white_and_what_stands_still_does_not_flicker():
    generator = np.random.default_rng(1)
    frames = np.full((3, 60, 80, 3), 255, dtype=np.uint8)
    # far more colours than a palette holds, the light ones among them
    frames[:, 10:50, 5:40] = generator.integers(0, 256, (40, 35, 3))
    frames[:, 50:55] = np.linspace(200, 255, 80)[:, None]
    for position, frame in enumerate(frames):
        frame[20:30, 50 + position] = generator.integers(0, 256, (10, 3))
    images = np.stack(frames_of(movie(animation(list(frames), alt="noise")))[0])
    assert (images[(frames == 255).all(-1)] == 255).all()
    still = (frames[1:] == frames[:-1]).all(-1)
    assert (images[1:] == images[:-1]).all(-1)[still].all()


@pytest.fixture
def shell(monkeypatch):
    """IPython as a notebook has it, in the style of the course."""
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    monkeypatch.setattr("utils.plotting.get_ipython", lambda: shell)
    with plt.rc_context():
        course_style()
        yield shell
    InteractiveShell.clear_instance()


def shown(shell, figure):
    """Return the formats in which a notebook stores a figure, without its repr."""
    data, metadata = shell.display_formatter.format(figure)
    return {k: v for k, v in data.items() if k != "text/plain"}, metadata


def test_lines_are_stored_as_svg_with_their_description(shell):
    figure, axis = plt.subplots()
    axis.plot([1, 2])
    alt_text("A line\n   that <rises>.")
    data, metadata = shown(shell, figure)
    assert list(data) == ["image/svg+xml"]
    assert metadata["image/svg+xml"] == {"alt": "A line that <rises>."}
    assert "<title>A line that &lt;rises&gt;.</title>" in data["image/svg+xml"]
    width = re.search(r'width="([\d.]+)pt"', data["image/svg+xml"])[1]
    assert float(width) == 648  # 9 inches
    assert shown(shell, figure)[0] == data  # the same bytes, without a date


def test_many_lines_are_stored_as_png_of_two_pixels_for_one(shell):
    figure, axis = plt.subplots(figsize=(8, 3))
    axis.plot(np.random.default_rng(0).normal(size=(2, 20_000)).T)
    data, metadata = shown(shell, figure)
    assert list(data) == ["image/png"]
    assert metadata["image/png"] == {"width": 800, "height": 300}
    image = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert image.format == "PNG" and image.size == (1600, 600)


def test_photos_are_stored_as_jpeg(shell):
    figure, axis = plt.subplots(figsize=(9, 4))
    axis.imshow(as_picture(IMAGE))
    alt_text("Stripes.", figure)
    data, metadata = shown(shell, figure)
    assert list(data) == ["image/jpeg"]
    assert metadata["image/jpeg"] == {"width": 900, "height": 400, "alt": "Stripes."}
    image = Image.open(io.BytesIO(base64.b64decode(data["image/jpeg"])))
    assert image.format == "JPEG" and image.size == (1350, 600)
    grey, axis = plt.subplots()
    axis.imshow(np.zeros((4, 4)))
    assert list(shown(shell, grey)[0]) == ["image/svg+xml"]


def test_a_photo_that_would_be_large_is_stored_smaller_and_shown_as_wide(shell):
    figure, axis = plt.subplots(figsize=(9, 9))
    axis.imshow(np.random.default_rng(0).random((900, 900, 3)))
    data, metadata = shown(shell, figure)
    assert metadata["image/jpeg"]["width"] == 900
    image = Image.open(io.BytesIO(base64.b64decode(data["image/jpeg"])))
    assert image.size == (900, 900)


def test_the_style_sets_readable_sizes_also_without_a_notebook():
    with plt.rc_context():
        backend = matplotlib.get_backend()
        course_style()
        assert matplotlib.get_backend() == backend
        figure, axis = plt.subplots()
        assert figure.get_size_inches()[0] == 9 and figure.dpi == 100
        axis.set(title="t", xlabel="x")
        texts = [axis.title, axis.xaxis.label, *axis.get_xticklabels()]
        assert min(text.get_fontsize() for text in texts) >= 9
        cycle = plt.rcParams["axes.prop_cycle"].by_key()["color"]
        assert len(set(cycle)) == 6 <= len(COLORS)


def test_an_empty_description_is_refused():
    with pytest.raises(ValueError, match="alternative text is empty"):
        alt_text("  ")


def test_a_network_has_a_circle_a_neuron_and_a_line_a_weight():
    weights = [np.array([[1.0, -0.5], [0.25, 2.0], [0.0, 1.0]]), np.array([[1, -1, 3]])]
    layers = [["$x_1$", "$x_2$"], ["a", "b", "c"], ["y"]]
    axis = draw_network(layers, weights, names=["in", "hidden", "out"])
    assert len(axis.patches) == 6 and len(axis.lines) == 9
    colours = [line.get_color() for line in axis.lines]
    assert colours[:4] == [POSITIVE, NEGATIVE, POSITIVE, POSITIVE]
    widths = [line.get_linewidth() for line in axis.lines]
    assert widths[3] == max(widths[:6]) and widths[2] < widths[0]
    texts = [text.get_text() for text in axis.texts]
    assert "\N{MINUS SIGN}0.5" in texts and {"$x_1$", "y", "hidden"} <= set(texts)
    # the second weight of the third neuron ends at that neuron
    x, y = axis.lines[5].get_data()
    assert (x[1], y[1]) == axis.patches[4].center
    plain = draw_network([2, 3])
    assert len(plain.lines) == 6 and {line.get_color() for line in plain.lines} == {
        "0.6"
    }


@pytest.mark.parametrize(
    ("layers", "weights", "names", "message"),
    [
        ([2, 3], [np.ones((2, 3))], None, r"shapes \[\(3, 2\)\], got \[\(2, 3\)\]"),
        ([2, 3, 1], [np.ones((3, 2))], None, "weights .out, in."),
        ([2, 3], None, ["in"], "expected 2 names, got 1"),
    ],
)
def test_a_network_that_does_not_fit(layers, weights, names, message):
    with pytest.raises(ValueError, match=message):
        draw_network(layers, weights, names=names)


def test_curves_of_several_runs_have_their_mean_and_students_interval():
    runs = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 5.0]])
    axis = plot_curves({"two": runs, "one": torch.tensor([4.0, 4.0, 4.0])}, [0, 5, 10])
    two, one = axis.lines
    assert list(two.get_xdata()) == [0, 5, 10] and list(two.get_ydata()) == [2, 2, 4]
    assert list(one.get_ydata()) == [4, 4, 4]
    (band,) = axis.collections
    highest = band.get_paths()[0].vertices[:, 1].max()
    assert highest == pytest.approx(4 + 12.706 * 1.0, rel=1e-4)  # t of one degree
    ends = {text.get_text(): text for text in axis.texts}
    assert ends.keys() == {"two", "one"}
    assert ends["two"].get_color() == two.get_color() != one.get_color()
    # both end at 4, and neither covers the other
    axis.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ends.values()]
    assert not boxes[0].overlaps(boxes[1])


def test_curves_may_have_a_legend_and_must_be_of_one_length():
    axis = plot_curves({"a": [1, 2], "b": [2, 1]}, label_ends=False)
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["a", "b"]
    assert list(axis.lines[0].get_xdata()) == [1, 2]
    for curves in ({"a": [1, 2], "b": [1]}, {"a": np.ones((2, 2, 2))}):
        with pytest.raises(ValueError, match="every curve must be|ndim"):
            plot_curves(curves)
    with pytest.raises(ValueError, match="no curve"):
        plot_curves({})


def test_an_arrow_map_has_arrows_of_one_length():
    x, y = np.arange(4.0), np.arange(3.0)
    values = y[:, None] ** 2 + 0 * x
    axis = arrow_map(x, y, values, (0 * values, 2 * y[:, None] + 0 * x), every=2)
    (quiver,) = [one for one in axis.collections if hasattr(one, "U")]
    assert list(quiver.U) == [0] * 4
    assert list(quiver.V) == [0, 0, 1, 1]  # flat in the first row
    assert sorted(set(quiver.Y)) == [0, 2]
    with pytest.raises(ValueError, match=r"make a map \(3, 4\)"):
        arrow_map(x, y, values.T)


def test_a_gallery_shows_the_ground_truth_above_what_was_detected():
    found = {
        "boxes": BOXES + 1,
        "labels": torch.tensor([1, 0]),
        "scores": torch.tensor([0.5, 0.4]),
    }
    true = {"boxes": BOXES, "labels": torch.tensor([0, 1])}
    figure = detection_gallery(
        [IMAGE] * 3, [found] * 3, [true] * 3, classes=["bag", "coat"], columns=2
    )
    axes = figure.axes
    assert len(axes) == 8 and figure.get_size_inches()[0] == 9
    assert [len(axis.patches) for axis in axes] == [2, 2, 1, 1, 2, 0, 1, 0]
    assert [text.get_text() for text in axes[0].texts] == ["bag", "coat"]
    assert [text.get_text() for text in axes[2].texts] == ["coat 0.50"]
    assert axes[0].get_title(loc="left") == "ground truth"
    assert axes[2].get_title(loc="left") == "detected, score from 0.5 on"
    for lists in (([], [], []), ([IMAGE], [found], [])):
        with pytest.raises(ValueError, match="as many predictions and targets"):
            detection_gallery(*lists)


def test_classes_of_pixels_become_colours():
    mask = torch.tensor([[0, 1, 2], [255, -1, 300]])
    colored = color_classes(mask, ["#010203", "#0000FF"])
    assert colored.shape == (3, 2, 3) and colored.dtype == torch.uint8
    assert colored[:, 0].T.tolist() == [[1, 2, 3], [0, 0, 255], [0, 0, 0]]
    assert not colored[:, 1].any()
    every = color_classes(torch.arange(12)[None])
    assert len(every.flatten(1).T.unique(dim=0)) == 12


def test_a_gallery_of_segmentations():
    """What the ground truth leaves open is black in the prediction, too."""
    mask = torch.zeros(20, 30, dtype=torch.uint8)
    mask[:10], mask[0, 0] = 1, 255
    figure = segmentation_gallery(
        [IMAGE] * 3,
        [torch.ones(20, 30)] * 3,
        [mask] * 3,
        classes=["road", "sky"],
        titles=["a", "b", "c"],
    )
    axes = figure.axes
    assert len(axes) == 9 and figure.get_size_inches()[0] == 9
    assert [axis.get_ylabel() for axis in axes[::3]] == [
        "image",
        "ground truth",
        "predicted",
    ]
    assert [axis.get_title() for axis in axes[:4]] == ["a", "b", "c", ""]
    colors = color_classes(torch.tensor([[0, 1]]), REGION_COLORS[:2])[:, 0].T.numpy()
    assert (pixels(axes[3])[15, 15] == colors[0]).all()
    assert (pixels(axes[6])[15, 15] == colors[1]).all()
    assert not pixels(axes[3])[0, 0].any() and not pixels(axes[6])[0, 0].any()
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["road", "sky"]
    assert len(segmentation_gallery([IMAGE], None, [mask], classes=["a"]).axes) == 2
    for lists in (([], None, []), ([IMAGE], [mask, mask], [mask])):
        with pytest.raises(ValueError, match="as many masks, predictions and titles"):
            segmentation_gallery(*lists, classes=["a"])
    with pytest.raises(ValueError, match="12 colours, not 13"):
        segmentation_gallery([IMAGE], None, [mask], classes=["a"] * 13)
