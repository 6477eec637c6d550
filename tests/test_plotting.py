import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex, to_rgb
from torchvision import tv_tensors

from utils.drawing import COLORS
from utils.plotting import (
    draw_boxes,
    draw_keypoints,
    overlay_masks,
    plot_confusion,
    plot_history,
    show_images,
)

PICTURE = torch.arange(3 * 20 * 30, dtype=torch.uint8).view(3, 20, 30)
BOXES = torch.tensor([[0, 0, 30, 20], [5, 8, 9, 17.5]])


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def pixels(axis):
    return np.asarray(axis.images[0].get_array())


def test_grid_shows_each_picture_in_its_place():
    images = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 1, 3, 4) * 10
    figure = show_images(images, titles=list("abcde"), columns=3, title="all")
    shown = [axis for axis in figure.axes if axis.images]
    assert len(figure.axes) == 6 and len(shown) == 5
    assert [int(pixels(axis).max()) for axis in shown] == [0, 10, 20, 30, 40]
    assert [axis.get_title() for axis in shown] == list("abcde")
    assert all(pixels(axis).shape == (3, 4) and axis.images[0].get_clim() == (0, 255) for axis in shown)
    assert not any(axis.axison for axis in figure.axes)


def test_colour_channels_and_rows_stay_where_they_are():
    image = torch.rand(3, 2, 5)
    (axis,) = show_images([image]).axes
    np.testing.assert_allclose(pixels(axis), image.permute(1, 2, 0).numpy())


def test_pictures_of_different_sizes_and_black_is_black():
    figure = show_images([torch.full((1, 2, 2), 0.5), torch.zeros(1, 4, 3)])
    assert [axis.images[0].get_clim() for axis in figure.axes] == [(0, 1), (0, 1)]
    assert [pixels(axis).shape for axis in figure.axes] == [(2, 2), (4, 3)]


@pytest.mark.parametrize(
    ("images", "titles", "message"),
    [
        (torch.zeros(0, 1, 2, 2), None, "got 0"),
        (torch.zeros(2, 1, 2, 2), ["one"], "as many titles"),
        (torch.zeros(1, 2, 2, 2), None, r"\[3, H, W\]"),
        (torch.full((1, 1, 2, 2), 2.0), None, "normalisation"),
        (torch.full((1, 1, 2, 2), -1.0), None, "normalisation"),
    ],
)
def test_what_is_no_picture_is_refused(images, titles, message):
    with pytest.raises(ValueError, match=message):
        show_images(images, titles)


def test_history_draws_training_and_validation():
    rows = [
        {"epoch": e, "train_loss": 1 / e, "val_loss": 2 / e, "train_f1": 0.5, "lr": 0.1} for e in (1, 2, 3)
    ]
    loss, f1 = plot_history(rows).axes
    assert (loss.get_xlabel(), loss.get_ylabel(), f1.get_ylabel()) == ("epoch", "loss", "f1")
    assert {line.get_label(): list(line.get_ydata()) for line in loss.lines} == {
        "training": [1, 1 / 2, 1 / 3],
        "validation": [2, 1, 2 / 3],
    }
    assert [list(line.get_xdata()) for line in f1.lines] == [[1, 2, 3]]
    with pytest.raises(ValueError, match="empty"):
        plot_history([])


def test_confusion_puts_the_truth_on_the_vertical_axis():
    axis = plot_confusion(torch.tensor([[8, 2], [0, 5]]), ["cat", "dog"])
    np.testing.assert_allclose(pixels(axis), [[0.8, 0.2], [0, 1]])
    cells = {text.get_position(): text.get_text() for text in axis.texts}
    assert cells == {(0, 0): "8", (1, 0): "2", (1, 1): "5"}  # (column, row): what was taken for what
    assert (axis.get_ylabel(), axis.get_xlabel()) == ("true class", "predicted class")
    assert [label.get_text() for label in axis.get_yticklabels()] == ["cat", "dog"]


def test_confusion_refuses_names_that_do_not_fit_and_survives_an_empty_class():
    with pytest.raises(ValueError, match="2 classes"):
        plot_confusion(torch.zeros(3, 3), ["a", "b"])
    np.testing.assert_allclose(pixels(plot_confusion(torch.zeros(2, 2), ["a", "b"])), 0)


def frames(axis):
    """The rectangles on the axes, as (left, top, right, bottom) on the scale of boxes, and their colours."""
    found = [
        (patch.get_bbox().extents + 0.5, to_hex(patch.get_edgecolor()).upper()) for patch in axis.patches
    ]
    return [tuple(box.tolist()) for box, _ in found], [color for _, color in found]


def written(axis):
    return [text.get_text() for text in axis.texts]


def test_boxes_lie_on_the_edges_of_the_pixels_they_hold():
    boxes = tv_tensors.BoundingBoxes(BOXES, format="XYXY", canvas_size=(20, 30))
    axis = draw_boxes(PICTURE, boxes)
    np.testing.assert_array_equal(pixels(axis), PICTURE.permute(1, 2, 0))
    assert frames(axis) == ([(0, 0, 30, 20), (5, 8, 9, 17.5)], COLORS[:2])
    assert axis.get_xlim() == (-0.5, 29.5) and axis.get_ylim() == (19.5, -0.5)  # the first box is the frame
    assert written(axis) == [] and not axis.axison


def test_a_box_that_sticks_out_does_not_shrink_the_picture():
    axis = draw_boxes(PICTURE, torch.tensor([[-50, -50, 100, 100]]))
    overlay_masks(None, torch.ones(1, 20, 30, dtype=torch.bool), axis=axis)
    draw_keypoints(None, torch.tensor([[99.0, -7.0], [1, 1]]), connections=[(0, 1)], axis=axis)
    assert axis.get_xlim() == (-0.5, 29.5) and axis.get_ylim() == (19.5, -0.5)
    _, bare = plt.subplots()
    bare.imshow(np.zeros((4, 4)))
    draw_keypoints(None, torch.tensor([[99.0, -7.0]]), axis=bare)
    assert bare.get_xlim() == (-0.5, 3.5)


def test_colour_goes_by_class_and_text_says_class_and_score():
    axis = draw_boxes(PICTURE, BOXES, torch.tensor([8, 1]), [0.257, 1], classes=list("abcdefghi"))
    assert written(axis) == ["i 0.26", "b 1.00"]
    assert frames(axis)[1] == [COLORS[1], COLORS[1]]  # 8 is 1 modulo 7
    assert frames(draw_boxes(PICTURE, BOXES, [3, 0]))[1] == [COLORS[3], COLORS[0]]
    axis = draw_boxes(PICTURE, BOXES, ["cat", "cat"], colors=["#FF0000", "#00FF00"])
    assert written(axis) == ["cat", "cat"] and frames(axis)[1] == ["#FF0000", "#00FF00"]
    assert written(draw_boxes(PICTURE, BOXES, scores=torch.tensor([0.5, 0]))) == ["0.50", "0.00"]
    assert written(draw_boxes(PICTURE, BOXES, [3, 0])) == ["3", "0"]
    assert frames(draw_boxes(PICTURE, BOXES, colors="#123456"))[1] == ["#123456", "#123456"]


def test_labels_stand_above_their_box_or_inside_it_at_the_top():
    axis = draw_boxes(PICTURE, BOXES, ["a", "b"])
    assert [text.get_verticalalignment() for text in axis.texts] == ["top", "bottom"]
    assert [text.get_position() for text in axis.texts] == [(-0.5, -0.5), (4.5, 7.5)]
    assert [text.get_color() for text in draw_boxes(PICTURE, BOXES, [3, 4]).texts] == ["black", "white"]


def test_masks_are_mixed_in_and_the_later_one_is_seen():
    masks = torch.zeros(2, 20, 30, dtype=torch.bool)
    masks[0, 2:6, 3:9] = True
    masks[1, 5, 8] = True
    axis = overlay_masks(PICTURE, tv_tensors.Mask(masks), alpha=0.25)
    np.testing.assert_array_equal(pixels(axis), PICTURE.permute(1, 2, 0))
    layer = np.asarray(axis.images[1].get_array())
    np.testing.assert_array_equal(layer[..., 3], 0.25 * masks.any(0))
    np.testing.assert_allclose(layer[2, 3, :3], to_rgb(COLORS[0]))
    np.testing.assert_allclose(layer[5, 8, :3], to_rgb(COLORS[1]))
    outlines = [c for c in axis.collections if c.get_paths()[0].vertices.size]
    assert [to_hex(c.get_edgecolor()[0]).upper() for c in outlines] == COLORS[:2]
    extents = outlines[0].get_paths()[0].get_extents()
    assert (extents.x0, extents.y0, extents.x1, extents.y1) == (2.5, 1.5, 8.5, 5.5)
    for uniform in (torch.zeros, torch.ones):  # no outline, and no warning about that
        overlay_masks(PICTURE, uniform(1, 20, 30, dtype=torch.bool))
    overlay_masks(PICTURE[:, :1, :2], torch.tensor([[[True, False]]]))


def test_points_are_drawn_at_their_place_with_lines_between_visible_ones():
    points = torch.tensor([[0.5, 0.5], [29.5, 19.5], [torch.nan, 0]])
    visible = torch.tensor([True, True, False])
    axis = draw_keypoints(PICTURE, points, visible, connections=[(0, 1), (1, 2), (2, 0)])
    (dots,) = axis.collections
    np.testing.assert_array_equal(dots.get_offsets(), [[0, 0], [29, 19]])  # centres of the outermost pixels
    assert [to_hex(color).upper() for color in dots.get_facecolors()] == COLORS[:2]
    assert [line.get_xydata().tolist() for line in axis.lines] == [[[0, 0], [29, 19]]]
    one = draw_keypoints(PICTURE, torch.tensor([[3, 4]]), colors="#FF0000").collections[0]
    assert to_hex(one.get_facecolors()[0]) == "#ff0000"


def test_nothing_to_draw_leaves_the_picture_alone():
    axis = draw_boxes(PICTURE, torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), [], classes=["a"])
    overlay_masks(None, torch.zeros(0, 20, 30, dtype=torch.bool), axis=axis)
    draw_keypoints(None, torch.zeros(0, 2), axis=axis)
    assert not axis.patches and not axis.texts and not np.asarray(axis.images[1].get_array()).any()
    assert sum(len(collection.get_offsets()) for collection in axis.collections) == 0


def test_new_figures_have_the_shape_of_the_picture_and_given_axes_are_used():
    assert draw_boxes(PICTURE, BOXES, size=3).figure.get_size_inches().tolist() == [3, 2]
    _, axis = plt.subplots()
    assert draw_keypoints(PICTURE.float() / 1800, torch.zeros(1, 2), axis=axis) is axis
    assert draw_boxes(PICTURE[0], BOXES).images[0].get_clim() == (0, 255)
    assert draw_boxes(PICTURE[:1] / 255, BOXES).images[0].get_clim() == (0, 1)


MASK = torch.zeros(1, 20, 30, dtype=torch.bool)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw_boxes(PICTURE, torch.zeros(4)), r"\[n, 4\], got \[4\]"),
        (lambda: draw_boxes(PICTURE, torch.zeros(2, 5)), r"\[n, 4\], got \[2, 5\]"),
        (lambda: draw_boxes(PICTURE, torch.tensor([[20.0, 3, 9, 9]])), "xyxy"),
        (lambda: draw_boxes(PICTURE, torch.tensor([[2.0, 13, 9, 9]])), "xyxy"),
        (lambda: draw_boxes(PICTURE, torch.full((1, 4), torch.nan)), "finite"),
        (lambda: draw_boxes(PICTURE, BOXES, ["a"]), "2 labels"),
        (lambda: draw_boxes(PICTURE, BOXES, scores=[0.5]), "2 scores"),
        (lambda: draw_boxes(PICTURE, BOXES, colors=["red"]), "one colour, or 2, got 1"),
        (lambda: draw_boxes(PICTURE, BOXES, [0, 2], classes=["a", "b"]), "2 classes"),
        (lambda: draw_boxes(PICTURE, BOXES, [0, -1], classes=["a", "b"]), "2 classes"),
        (lambda: draw_boxes(PICTURE, BOXES, ["a", 1]), "whole numbers or texts"),
        (lambda: draw_boxes(PICTURE, BOXES, torch.rand(2)), "whole numbers or texts"),
        (lambda: draw_boxes(PICTURE[None], BOXES), r"\[3, H, W\]"),
        (lambda: draw_boxes(PICTURE.float(), BOXES), "normalisation"),
        (lambda: draw_boxes(None, BOXES), "give a picture"),
        (lambda: draw_boxes(None, BOXES, axis=plt.subplots()[1]), "give a picture"),
        (lambda: overlay_masks(PICTURE, MASK[0]), r"\[n, H, W\]"),
        (lambda: overlay_masks(PICTURE, MASK.float()), "bool"),
        (lambda: overlay_masks(PICTURE, MASK[:, :, :1]), "20x30"),
        (lambda: overlay_masks(None, MASK[:, :9], axis=draw_boxes(PICTURE, BOXES)), "20x30"),
        (lambda: overlay_masks(PICTURE, MASK, colors=[]), "got 0"),
        (lambda: draw_keypoints(PICTURE, torch.zeros(2)), r"\[n, 2\]"),
        (lambda: draw_keypoints(PICTURE, torch.zeros(2, 3)), r"\[n, 2\]"),
        (lambda: draw_keypoints(PICTURE, torch.full((1, 2), torch.inf)), "finite"),
        (lambda: draw_keypoints(PICTURE, torch.zeros(2, 2), torch.tensor([True])), "visible must be bool"),
        (lambda: draw_keypoints(PICTURE, torch.zeros(2, 2), torch.tensor([1, 2])), "visible must be bool"),
        (lambda: draw_keypoints(PICTURE, torch.zeros(2, 2), connections=[(0, 2)]), "below 2"),
        (lambda: draw_keypoints(PICTURE, torch.zeros(2, 2), connections=[(-1, 0)]), "below 2"),
        (lambda: draw_keypoints(PICTURE, torch.zeros(2, 2), colors=["red"]), "got 1"),
    ],
)
def test_what_does_not_fit_the_picture_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
