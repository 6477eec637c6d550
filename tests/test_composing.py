import math

import pytest
import torch
from torchvision.ops import masks_to_boxes

from utils.composing import EASY, HARD, STANDARD, Canvas, Difficulty, lay_out, shades, tight_boxes
from utils.textures import seeded


def squares(layout):
    """The upright squares around the articles, [n, L, 4] xyxy."""
    halves = layout.sides * (layout.angles.cos().abs() + layout.angles.sin().abs()) / 2
    return torch.cat([layout.centres - halves[..., None], layout.centres + halves[..., None]], -1)


@pytest.mark.parametrize("difficulty", [EASY, STANDARD, HARD], ids=["easy", "standard", "hard"])
def test_layouts_keep_to_their_difficulty(difficulty):
    layout = lay_out(300, 128, difficulty, seeded(0))
    fewest, most = difficulty.articles
    counts = layout.exists.sum(1)
    assert counts.unique().tolist() == list(range(fewest, most + 1))  # each number comes, no other
    assert counts.bincount()[fewest:].min() > 0.6 * 300 / (most - fewest + 1)
    assert torch.equal(layout.exists, torch.arange(most) < counts[:, None])
    low, high = difficulty.sizes
    assert low <= layout.sides.min() < 1.02 * low and 0.98 * high < layout.sides.max() <= high * 1.0001
    turn = math.radians(difficulty.rotation)
    assert -turn <= layout.angles.min() < -0.97 * turn and 0.97 * turn < layout.angles.max() <= turn
    boxes = squares(layout)
    assert boxes.min() >= 0 and boxes.max() <= 128.001
    widest = (boxes[..., 2] - boxes[..., 0]).max()
    assert 0.95 * difficulty.largest() < widest <= difficulty.largest() + 1e-3


def covered(layout):
    """The share of each square that those in front of it cover, counted twice where they overlap."""
    boxes = squares(layout)
    area = (boxes[..., 2] - boxes[..., 0]).square()
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    common = (high - low).clamp(min=0).prod(-1)  # [n, L, L]
    in_front = torch.ones(common.shape[1:]).tril(-1)
    return (common * in_front).sum(2) / area


@pytest.mark.parametrize("overlap", [0.0, 0.3])
def test_overlap_is_kept_to_where_there_is_room(overlap):
    shares = covered(lay_out(200, 400, Difficulty((5, 5), (30, 40), overlap=overlap), seeded(0)))
    assert overlap - 0.2 < shares.max() <= overlap + 1e-4


def test_with_full_overlap_places_are_the_first_drawn_and_without_room_the_best():
    free, none = (
        covered(lay_out(300, 80, Difficulty((6, 6), (30, 40), overlap=o), seeded(0))) for o in (1, 0)
    )
    assert none[:, 1].mean() < 0.5 * free[:, 1].mean() and none.mean() < 0.9 * free.mean()
    centres = lay_out(2000, 128, Difficulty((1, 1), (24, 24), overlap=1.0), seeded(0)).centres[:, 0]
    assert (centres.mean(0) - 64).abs().max() < 2  # evenly over the scene
    assert (centres.std(0) - (128 - 24 * 1.1) / math.sqrt(12)).abs().max() < 2


@pytest.mark.parametrize("rotation", [0.0, 90.0, 180.0])
def test_what_just_fits_has_one_place(rotation):
    difficulty = Difficulty((1, 2), (40, 40), rotation=rotation)
    boxes = squares(lay_out(100, math.ceil(difficulty.largest()), difficulty, seeded(0)))
    assert boxes.min() > -1e-3 and boxes.max() < math.ceil(difficulty.largest()) + 1e-3


def test_the_scenes_that_detectors_are_compared_on_stay_the_same():
    assert STANDARD == Difficulty() == Difficulty((1, 6), (24, 60), 14.0, 0.5, 0.6, 0.5, 0.04)


def test_a_layout_without_articles():
    layout = lay_out(5, 128, Difficulty(articles=(0, 0)), seeded(0))
    assert layout.exists.shape == (5, 1) and not layout.exists.any()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"articles": (3, 2)}, r"articles must be two numbers from 0 to 255.*got \(3, 2\)"),
        ({"articles": (-1, 2)}, "articles must be"),
        ({"articles": (1, 256)}, "articles must be"),
        ({"articles": (1, 2.5)}, "whole numbers"),
        ({"sizes": (60, 24)}, "sizes must be two numbers from 8"),
        ({"sizes": (7, 24)}, "sizes must be"),
        ({"sizes": (24, float("nan"))}, "sizes must be"),
        ({"rotation": -1}, "rotation must be 0 to 180, got -1"),
        ({"overlap": 1.1}, "overlap must be 0 to 1"),
        ({"clutter": -0.1}, "clutter must be 0 to 1"),
        ({"light": 2}, "light must be 0 to 1"),
        ({"noise": float("nan")}, "noise must be 0 to 1, got nan"),
    ],
)
def test_difficulty_refuses_what_makes_no_sense(values, message):
    with pytest.raises(ValueError, match=message):
        Difficulty(**values)


def block(x1, y1, x2, y2, alpha=1.0, brightness=1.0):
    """An article's window [1, 2, 20, 20]: a rectangle."""
    window = torch.zeros(1, 2, 20, 20)
    window[0, 0, y1:y2, x1:x2] = alpha
    window[0, 1, y1:y2, x1:x2] = alpha * brightness
    return window


def put(canvas, corner, window, tint=(1.0, 1.0, 1.0), scene=0):
    return canvas.put(torch.tensor([scene]), torch.tensor([corner]), window, torch.tensor([tint]))


def test_two_squares_by_hand():
    canvas = Canvas(2, 30, 20)
    front = put(canvas, (2, 4), block(0, 0, 10, 10), (1.0, 0.0, 0.0), scene=1)
    behind = put(canvas, (8, 0), block(0, 0, 10, 10), (0.0, 0.0, 1.0), scene=1)
    assert front["boxes"].tolist() == [[2, 4, 12, 14]] and behind["boxes"].tolist() == [[8, 0, 18, 10]]
    assert (front["area"].item(), front["visible"].item()) == (100, 1)
    assert (behind["area"].item(), behind["visible"].item()) == (100 - 4 * 6, pytest.approx(0.76))
    assert canvas.counts.tolist() == [0, 2] and canvas.numbers[0].sum() == 0
    assert canvas.numbers[1].unique(return_counts=True)[1].tolist() == [900 - 176, 100, 76]
    assert canvas.numbers[1, 9, 11] == 1 and canvas.numbers[1, 3, 11] == 2 and canvas.numbers[1, 0, 7] == 0
    assert canvas.paint[1, :, 9, 11].tolist() == [1, 0, 0] and canvas.paint[1, :, 3, 11].tolist() == [0, 0, 1]
    assert torch.equal(canvas.through[:, 0] == 0, canvas.numbers > 0)


def test_a_box_shrinks_to_what_is_seen():
    canvas = Canvas(1, 30, 20)
    put(canvas, (0, 0), block(0, 0, 5, 20))
    behind = put(canvas, (0, 0), block(2, 3, 12, 13))
    assert behind["boxes"].tolist() == [[5, 3, 12, 13]] and behind["visible"].item() == pytest.approx(0.7)


@pytest.mark.parametrize(("width", "height", "counts"), [(8, 5, True), (13, 3, False)])
def test_an_article_counts_from_40_pixels_on(width, height, counts):
    assert put(Canvas(1, 30, 20), (3, 3), block(0, 0, width, height))["put"].item() is counts


@pytest.mark.parametrize(("hidden", "counts"), [(14, True), (15, False)])
def test_an_article_counts_from_30_percent_on(hidden, counts):
    canvas = Canvas(1, 40, 20)
    put(canvas, (0, 0), block(0, 0, hidden, 20))
    truth = put(canvas, (0, 0), block(0, 0, 20, 20), (0.0, 1.0, 0.0))  # 30 % is 6 columns
    assert truth["put"].item() is counts and truth["visible"].item() == pytest.approx(1 - hidden / 20)
    assert canvas.counts.item() == 1 + counts
    seen = put(canvas, (0, 0), block(10, 0, 20, 20))
    # What is left out is not painted, hides nothing and takes no number.
    assert seen["put"].item() is not counts
    assert canvas.numbers.max() == 2 and canvas.paint[0, :, 0, 19].tolist() == [not counts, 1, not counts]


def test_composition_equals_the_painters_order():
    generator = torch.Generator().manual_seed(0)
    canvas, n, layers = Canvas(4, 50, 20), 4, []
    ground = torch.rand(n, 3, 50, 50, generator=generator)
    for _ in range(5):
        alpha = torch.rand(n, 1, 20, 20, generator=generator).mul(1.5).clamp(max=1)
        windows = torch.cat([alpha, alpha * torch.rand(n, 1, 20, 20, generator=generator)], 1)
        corners = torch.randint(0, 31, (n, 2), generator=generator)
        tint = torch.rand(n, 3, generator=generator)
        truth = canvas.put(torch.arange(n), corners, windows, tint)
        layers.append((windows, corners, tint, truth))
    painted, number = ground.clone(), torch.zeros(n, 50, 50)
    for windows, corners, tint, truth in reversed(layers):
        for i in range(n):
            if truth["put"][i]:
                x, y = corners[i].tolist()
                area = painted[i, :, y : y + 20, x : x + 20]
                area.mul_(1 - windows[i, :1]).add_(shades(windows[i : i + 1])[0] * tint[i][:, None, None])
                inside = windows[i, 0] >= 0.5
                number[i, y : y + 20, x : x + 20][inside] = id(truth) % 2**20
    torch.testing.assert_close(ground * canvas.through + canvas.paint, painted, rtol=0, atol=1e-5)
    assert torch.equal(number > 0, canvas.numbers > 0)
    for i in range(n):  # one number in the one is one number in the other
        pairs = torch.stack([number[i].flatten(), canvas.numbers[i].flatten().float()]).unique(dim=1)
        assert pairs.shape[1] == canvas.counts[i] + 1


def test_boxes_equal_torchvisions_plus_the_edge():
    masks = torch.rand(50, 17, 23, generator=torch.Generator().manual_seed(0)) > 0.98
    masks[0] = False
    masks[0, 4, 7] = True  # one pixel
    masks[1] = True
    masks = masks[masks.flatten(1).any(1)]
    expected = masks_to_boxes(masks) + torch.tensor([0, 0, 1, 1])  # its x2 and y2 are the last pixels
    got = tight_boxes(masks)
    assert torch.equal(got, expected) and got[0].tolist() == [7, 4, 8, 5] and len(masks) > 45
    assert got.dtype == torch.float32
    assert tight_boxes(torch.zeros(1, 5, 6, dtype=torch.bool)).tolist() == [[0, 0, 0, 0]]
    assert tight_boxes(torch.zeros(0, 5, 6, dtype=torch.bool)).shape == (0, 4)
