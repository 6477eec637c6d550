import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from utils.plotting import plot_confusion, plot_history, show_images


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
