"""Drawn images: grounds and articles, scenes with exact truth, single articles."""

import functools
import hashlib
import math
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import masks_to_boxes

from utils.data import (
    EASY,
    FASHION_CLASSES,
    HARD,
    STANDARD,
    Difficulty,
    SceneSet,
    articles,
    fashion_mnist,
    scenes,
    take,
)
from utils.data.rendering import (
    CONTRAST,
    Canvas,
    _stripes,
    brightness,
    cut_out,
    develop,
    grounds,
    lay_out,
    log_uniform,
    seeded,
    shades,
    tight_boxes,
    tints,
    turn_and_scale,
    uniform,
)

TESTS = Path(__file__).parent
PLAIN = {"rotation": 0.0, "clutter": 0.0, "light": 0.0, "noise": 0.0}


# --- what is drawn from ---


def draw(*key):
    return torch.rand(4, generator=seeded(*key)).tolist()


def test_each_key_has_a_generator_of_its_own():
    keys = [(0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 1), (2**32,), (2**40 + 1, 3)]
    drawn = [draw(*key) for key in keys]
    assert len({tuple(numbers) for numbers in drawn}) == len(keys)
    assert drawn == [draw(*key) for key in keys]
    for seed in (-1, 0.5, "a"):
        with pytest.raises(ValueError, match=f"whole number from 0 on, got {seed}"):
            seeded(seed)


def test_numbers_lie_in_their_range_and_are_spread_as_said():
    even = uniform((4000,), -2, 6, seeded(0))
    assert even.dtype == torch.float32 and -2 <= even.min() and even.max() < 6
    assert (even < 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    octaves = log_uniform((4000,), 8, 128, seeded(0))
    assert 8 <= octaves.min() and octaves.max() <= 128.001
    assert (octaves < 16).float().mean().item() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("size", [16, 33, 128])
def test_grounds_differ_from_image_to_image_and_repeat_with_the_seed(size):
    images = grounds(5, size, 0.6, seeded(1))
    assert (images.shape, images.dtype) == ((5, 3, size, size), torch.float32)
    assert torch.equal(images, grounds(5, size, 0.6, seeded(1)))
    assert torch.pdist(images.flatten(1)).min() > 0.5
    assert -0.5 < images.min() and images.max() < 1.5
    assert grounds(0, size, 0.6, seeded(0)).numel() == 0


def test_clutter_is_the_contrast_of_a_ground():
    plain, some, much = (grounds(40, 64, c, seeded(0)) for c in (0.0, 0.5, 1.0))
    torch.testing.assert_close(plain, plain[:, :, :1, :1].expand_as(plain))
    assert 0.15 <= plain.min() and plain.max() <= 0.85
    assert (plain[:, 0] - plain[:, 1]).abs().mean() > 0.1  # colours
    torch.testing.assert_close(much - plain, 2 * (some - plain), rtol=0, atol=1e-5)
    assert 0.08 < (much - plain).std((1, 2, 3)).mean() < 0.3


@pytest.fixture
def unstriped(monkeypatch):
    nothing = torch.zeros(1, 1, 1, 1)
    monkeypatch.setattr("utils.data.rendering._stripes", lambda *_: (nothing, nothing))


def test_each_scale_of_a_texture_is_weaker_than_the_coarser_one(unstriped):
    images, strength = grounds(200, 128, 1.0, seeded(3)).mean(1, keepdim=True), []
    # cells of 32, 16, 8 px: what they have beyond cells of twice the side
    for side in (4, 8, 16):
        fine, coarse = F.avg_pool2d(images, side), F.avg_pool2d(images, 2 * side)
        coarse = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
        strength.append((fine - coarse).std((1, 2, 3)))
    for fine, coarse in zip(strength, strength[1:], strict=False):
        ratio = fine / coarse
        assert 0.4 < ratio.quantile(0.05) < 0.65 and 0.8 < ratio.quantile(0.95) < 1.1


def test_textures_have_the_contrast_drawn_and_are_more_grey_than_coloured(unstriped):
    images = grounds(200, 128, 1.0, seeded(4))
    spread = images.std((2, 3)).mean(1)
    assert 0.02 < spread.min() < 0.06 and 0.15 < spread.max() < 0.25
    alike = torch.stack([torch.corrcoef(image.flatten(1))[0, 1] for image in images])
    assert alike.median() > 0.8 and alike.min() > 0.2 and alike.max() < 0.9999


def test_half_of_the_grounds_have_stripes():
    waves, colours = _stripes(200, 160, seeded(0))
    assert waves.shape == (200, 1, 160, 160) and colours.shape == (200, 3, 1, 1)
    striped = (colours != 0).any(1).flatten()
    assert 0.4 < striped.float().mean() < 0.6 and colours.abs().max() <= 0.25
    assert (waves.amin((1, 2, 3)) < -0.8).all() and (waves.amax((1, 2, 3)) > 0.8).all()
    # hard ones among them
    assert (waves.abs() == 1).float().mean((1, 2, 3)).max() > 0.8
    steps = waves.diff(dim=2)[..., 1:], waves.diff(dim=3)[:, :, 1:]
    tensor = torch.stack([step.flatten(1) for step in steps], 2)
    # of the two directions in which an image changes
    slopes = torch.linalg.eigvalsh(tensor.mT @ tensor)
    # along a stripe it hardly does
    assert (slopes[:, 0] / slopes[:, 1]).median() < 0.05
    down, across = tensor.square().sum(1).unbind(1)
    assert 0.35 < (down > across).float().mean() < 0.65  # in all directions
    rising = (tensor[..., 0] * tensor[..., 1]).sum(1) > 0
    assert 0.4 < rising.float().mean() < 0.6
    spectrum = torch.fft.rfft2(waves - waves.mean((2, 3), keepdim=True)).abs()[:, 0]
    rows = torch.fft.fftfreq(160)[:, None].square() + torch.fft.rfftfreq(160).square()
    period = rows.flatten()[spectrum.flatten(1).argmax(1)].rsqrt()
    assert 4.5 < period.min() < 5.5 and 35 < period.max() < 55
    assert 11 < period.median() < 18


def grey(n=2, size=33, value=0.5):
    return torch.full((n, 3, size, size), value)


def test_without_light_and_noise_an_image_is_rounded_and_cut_off():
    values = torch.tensor([-0.2, 0.0, 0.001, 0.5, 0.998, 1.0, 1.7])
    got = develop(values.expand(1, 3, 1, 7).clone(), 0.0, 0.0, seeded(0))
    assert got.dtype == torch.uint8
    assert got[0, 2, 0].tolist() == [0, 0, 0, 128, 254, 255, 255]


def test_light_is_a_slope_about_the_middle_the_same_in_all_colours():
    images = develop(grey(50), 0.8, 0.0, seeded(0)).float() / 127.5
    assert (images[:, :, 16, 16] - 1).abs().max() < 0.01
    torch.testing.assert_close(images, images[:, :1].expand_as(images))
    both = images + images.flip(2, 3)
    torch.testing.assert_close(both, grey(50, value=2.0), rtol=0, atol=0.02)
    ends = images[:, 0, 16, -1], images[:, 0, -1, 16]  # the ends of both axes
    for end in ends:
        assert 0.6 - 0.01 <= end.min() < 0.7 and 1.3 < end.max() <= 1.4 + 0.01
    assert torch.corrcoef(torch.stack(ends))[0, 1].abs() < 0.4
    steps = images[:, 0, 16].diff()
    assert (steps - steps.mean(1, keepdim=True)).abs().max() < 0.01  # a straight line


def test_noise_has_its_standard_deviation_and_is_new_in_each_value():
    noise = develop(grey(4, 64), 0.0, 0.1, seeded(0)).float() / 255 - 0.5
    assert noise.std().item() == pytest.approx(0.1, rel=0.02)
    assert noise.mean().item() == pytest.approx(0, abs=0.004)
    alike = torch.corrcoef(noise.flatten(0, 1).flatten(1)).fill_diagonal_(0)
    assert alike.abs().max() < 0.1


def distances(ground, brightness):
    colours = tints(ground, brightness, seeded(1))
    return (brightness[:, None] * colours - ground).norm(dim=1)


def test_tints_keep_away_from_the_ground_where_there_is_a_choice():
    ground = torch.rand(500, 3, generator=seeded(0))
    brightness = torch.linspace(0.35, 1, 500)
    colours = tints(ground, brightness, seeded(1))
    assert colours.shape == (500, 3) and 0 <= colours.min() and colours.max() <= 1
    assert colours.amax(1).min() >= 0.5
    distance = distances(ground, brightness)
    assert (distance >= CONTRAST).float().mean() > 0.97 and distance.min() > 0.25
    grey_ground, dim = torch.full((4000, 3), 0.5), torch.full((4000,), 0.7)
    mean = tints(grey_ground, dim, seeded(2)).mean(0)
    assert mean.max() - mean.min() < 0.03  # no colour is preferred
    alike = tints(torch.zeros(30, 3), torch.ones(30), seeded(1))
    assert torch.pdist(alike).min() > 0.001  # not one colour for all
    assert tints(torch.zeros(0, 3), torch.zeros(0), seeded(0)).shape == (0, 3)


def test_a_near_tint_is_taken_only_if_all_are_near(monkeypatch):
    ground, brightness = torch.rand(50, 3, generator=seeded(0)), torch.ones(50)
    monkeypatch.setattr("utils.data.rendering.CONTRAST", 9.0)
    farthest = distances(ground, brightness)
    monkeypatch.setattr("utils.data.rendering.CONTRAST", 0.0)
    first = distances(ground, brightness)
    assert (farthest >= first - 1e-6).all() and farthest.mean() > first.mean() + 0.1


# --- articles that are cut out, turned and scaled ---

SHIRT, SANDAL, BAG = (
    FASHION_CLASSES.index(name) for name in ("Shirt", "Sandal", "Bag")
)


def drawing(*rows, brightness=200):
    """A Fashion-MNIST image from a drawing: # bright, - dim, . black."""
    values = {"#": brightness, "-": 10, ".": 0}
    image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    for y, row in enumerate(rows):
        for x, mark in enumerate(row):
            image[0, 0, 4 + y, 4 + x] = values[mark]
    return image


def opacity(*rows, label=SHIRT):
    cut = cut_out(drawing(*rows), torch.tensor([label]))[0, 0]
    cut = cut[4 : 4 + len(rows), 4 : 4 + len(rows[0])]
    return ["".join(".#"[int(v)] for v in row) for row in cut]


def test_dark_cloth_is_opaque_but_what_lies_beside_it_is_not():
    shirt = ["######", "#....#", "#.##.#", "#....#", "######"]
    assert opacity(*shirt) == ["######"] * 5
    for open_below in (
        ["######", "##..##", "##..##", "##..##"],  # legs
        ["##....", "##....", "######", "######"],
        ["####", "##..", "####", "####"],
    ):
        assert opacity(*open_below) == open_below


@pytest.mark.parametrize("label", [SANDAL, BAG])
def test_one_sees_through_handles_and_straps(label):
    bag = [".####.", ".#..#.", "######", "######"]
    assert opacity(*bag, label=label) == bag
    assert opacity(*bag)[1] == ".####."


def test_dust_is_ground_and_dim_cloth_is_not():
    dust = opacity("-.....", "......", "..####", "..####")
    assert dust == ["......", "......", "..####", "..####"]
    assert opacity("######", "##--##", "##--##", "######") == ["######"] * 4
    assert opacity(*["-----"] * 5, label=BAG)[1:4] == ["#####"] * 3


def test_cut_out_keeps_brightness_inside_alone_and_each_label_to_its_image():
    ring = drawing("###", "#.#", "###")
    images = torch.cat([ring, ring, drawing("-")])
    cut = cut_out(images, torch.tensor([SHIRT, BAG, SHIRT]))
    assert (cut.shape, cut.dtype) == ((3, 2, 28, 28), torch.float32)
    assert cut[:, 0].sum((1, 2)).tolist() == [9, 8, 0] and cut[2].sum() == 0
    assert cut[0, 1, 4, 4].item() == pytest.approx(200 / 255) and cut[0, 1, 5, 5] == 0
    empty = cut_out(images[:0], torch.zeros(0, dtype=torch.int64))
    assert empty.shape == (0, 2, 28, 28)


def test_turning_and_scaling_equals_affine_grid():
    generator = torch.Generator().manual_seed(0)
    articles = torch.rand(20, 2, 28, 28, generator=generator)
    sides = torch.rand(20, generator=generator) * 40 + 20
    angles = torch.rand(20, generator=generator) * 6 - 3
    centres = torch.rand(20, 2, generator=generator) * 30 + 20
    cos, sin = angles.cos(), angles.sin()
    turn_back = torch.stack([cos, sin, -sin, cos], 1).view(-1, 2, 2)
    turn_back = turn_back * (2 / sides)[:, None, None]
    theta = torch.cat([turn_back * 35, turn_back @ (35 - centres)[..., None]], 2)
    grid = F.affine_grid(theta, [20, 1, 70, 70], align_corners=False)
    expected = F.grid_sample(articles, grid, align_corners=False)
    got = turn_and_scale(articles, centres, sides, angles, 70)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


def test_an_article_at_its_own_size_is_itself_and_turns_clockwise():
    article = torch.rand(1, 2, 28, 28, generator=seeded(0))
    place = torch.tensor([[20.0, 16.0]]), torch.tensor([28.0])
    whole = turn_and_scale(article, *place, torch.zeros(1), 40)
    torch.testing.assert_close(whole[:, :, 2:30, 6:34], article, rtol=0, atol=1e-5)
    assert whole.sum().item() == pytest.approx(article.sum().item(), rel=1e-5)
    turned = turn_and_scale(article, *place, torch.tensor([math.pi / 2]), 40)
    expected = article.rot90(-1, (2, 3))
    torch.testing.assert_close(turned[:, :, 2:30, 6:34], expected, rtol=0, atol=1e-4)
    none = turn_and_scale(article[:0], torch.zeros(0, 2), *torch.zeros(2, 0), 40)
    assert none.shape == (0, 2, 40, 40)


def test_shades_run_from_dark_to_the_tint_with_opacity():
    windows = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.5, 0.5], [0.0, 0.0]])
    got = shades(windows[:, :, None, None]).flatten()
    torch.testing.assert_close(got, torch.tensor([1.0, 0.35, 0.5, 0.0]))


def test_brightness_is_the_mean_shade_of_what_is_opaque():
    half = drawing("####", "####", brightness=255)
    half[:, :, 5] = 102  # two fifths
    cut = cut_out(torch.cat([half, half * 0]), torch.tensor([BAG, BAG]))
    cut[1] = 0
    cut[0, :, 0] = 0
    cut[0, :, 6:] = 0
    # the whole row 5 became bright enough
    expected = (4 * 1 + 28 * (0.35 + 0.65 * 0.4)) / 32
    assert brightness(cut).tolist() == pytest.approx([expected, 0])
    assert brightness(cut[:0]).shape == (0,)


# --- layouts, and scenes that are composed ---


def squares(layout):
    """The upright squares around the articles, [n, L, 4] xyxy."""
    halves = layout.sides * (layout.angles.cos().abs() + layout.angles.sin().abs()) / 2
    corners = layout.centres - halves[..., None], layout.centres + halves[..., None]
    return torch.cat(corners, -1)


@pytest.mark.parametrize(
    "difficulty", [EASY, STANDARD, HARD], ids=["easy", "standard", "hard"]
)
def test_layouts_keep_to_their_difficulty(difficulty):
    layout = lay_out(300, 128, difficulty, seeded(0))
    fewest, most = difficulty.articles
    counts = layout.exists.sum(1)
    # each number comes, no other
    assert counts.unique().tolist() == list(range(fewest, most + 1))
    assert counts.bincount()[fewest:].min() > 0.6 * 300 / (most - fewest + 1)
    assert torch.equal(layout.exists, torch.arange(most) < counts[:, None])
    low, high = difficulty.sizes
    assert low <= layout.sides.min() < 1.02 * low
    assert 0.98 * high < layout.sides.max() <= high * 1.0001
    # log-uniform: as many below the geometric mean as above it
    small = (layout.sides < math.sqrt(low * high)).float().mean().item()
    assert small == pytest.approx(0.5, abs=0.03)
    turn = math.radians(difficulty.rotation)
    assert -turn <= layout.angles.min() < -0.97 * turn
    assert 0.97 * turn < layout.angles.max() <= turn
    boxes = squares(layout)
    assert boxes.min() >= 0 and boxes.max() <= 128.001
    widest = (boxes[..., 2] - boxes[..., 0]).max()
    assert 0.95 * difficulty.largest() < widest <= difficulty.largest() + 1e-3


def covered(layout):
    """The share of each square that those in front of it cover, twice where two do."""
    boxes = squares(layout)
    area = (boxes[..., 2] - boxes[..., 0]).square()
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    common = (high - low).clamp(min=0).prod(-1)  # [n, L, L]
    in_front = torch.ones(common.shape[1:]).tril(-1)
    return (common * in_front).sum(2) / area


@pytest.mark.parametrize("overlap", [0.0, 0.3])
def test_overlap_is_kept_to_where_there_is_room(overlap):
    difficulty = Difficulty((5, 5), (30, 40), overlap=overlap)
    shares = covered(lay_out(200, 400, difficulty, seeded(0)))
    assert overlap - 0.2 < shares.max() <= overlap + 1e-4


def test_with_full_overlap_places_are_the_first_drawn_and_without_room_the_best():
    free, none = (
        covered(lay_out(300, 80, Difficulty((6, 6), (30, 40), overlap=o), seeded(0)))
        for o in (1, 0)
    )
    assert none[:, 1].mean() < 0.5 * free[:, 1].mean()
    assert none.mean() < 0.9 * free.mean()
    difficulty = Difficulty((1, 1), (24, 24), overlap=1.0)
    centres = lay_out(2000, 128, difficulty, seeded(0)).centres[:, 0]
    assert (centres.mean(0) - 64).abs().max() < 2  # evenly over the scene
    assert (centres.std(0) - (128 - 24 * 1.1) / math.sqrt(12)).abs().max() < 2


@pytest.mark.parametrize("rotation", [0.0, 90.0, 180.0])
def test_what_just_fits_has_one_place(rotation):
    difficulty = Difficulty((1, 2), (40, 40), rotation=rotation)
    size = math.ceil(difficulty.largest())
    boxes = squares(lay_out(100, size, difficulty, seeded(0)))
    assert boxes.min() > -1e-3 and boxes.max() < size + 1e-3


def test_the_scenes_that_detectors_are_compared_on_stay_the_same():
    same = Difficulty((1, 6), (24, 60), 14.0, 0.5, 0.6, 0.5, 0.04)
    assert STANDARD == Difficulty() == same


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"articles": (3, 2)},
            r"articles must be two whole numbers from 0 to 255.*got \(3, 2\)",
        ),
        ({"articles": (-1, 2)}, "articles must be"),
        ({"articles": (1, 256)}, "articles must be"),
        ({"articles": (1, 2.5)}, "whole numbers"),
        ({"articles": 3}, "two whole numbers .* got 3"),
        ({"articles": (3,)}, "two whole numbers"),
        ({"sizes": 40}, "sizes must be two numbers from 8 to 4096"),
        ({"sizes": "40"}, "two numbers from 8"),
        ({"sizes": (0.2, 0.5)}, "two numbers from 8"),
        ({"sizes": (60, 24)}, "sizes must be two numbers from 8"),
        ({"sizes": (24, float("nan"))}, "sizes must be"),
        ({"rotation": -1}, "rotation must be 0 to 180, got -1"),
        ({"overlap": 50}, "overlap must be 0 to 1, got 50"),
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
    scene, corner, tint = (torch.tensor([value]) for value in (scene, corner, tint))
    return canvas.put(scene, corner, window, tint)


def test_two_squares_by_hand():
    canvas = Canvas(2, 30, 20)
    front = put(canvas, (2, 4), block(0, 0, 10, 10), (1.0, 0.0, 0.0), scene=1)
    behind = put(canvas, (8, 0), block(0, 0, 10, 10), (0.0, 0.0, 1.0), scene=1)
    assert front["boxes"].tolist() == [[2, 4, 12, 14]]
    assert behind["boxes"].tolist() == [[8, 0, 18, 10]]
    assert (front["area"].item(), front["visible"].item()) == (100, 1)
    assert behind["area"].item() == 100 - 4 * 6
    assert behind["visible"].item() == pytest.approx(0.76)
    assert canvas.counts.tolist() == [0, 2] and canvas.numbers[0].sum() == 0
    numbers, paint = canvas.numbers[1], canvas.paint[1]
    assert numbers.flatten().bincount().tolist() == [900 - 176, 100, 76]
    assert (numbers[9, 11], numbers[3, 11], numbers[0, 7]) == (1, 2, 0)
    assert paint[:, 9, 11].tolist() == [1, 0, 0]
    assert paint[:, 3, 11].tolist() == [0, 0, 1]
    assert torch.equal(canvas.through[:, 0] == 0, canvas.numbers > 0)


def test_a_box_shrinks_to_what_is_seen():
    canvas = Canvas(1, 30, 20)
    put(canvas, (0, 0), block(0, 0, 5, 20))
    behind = put(canvas, (0, 0), block(2, 3, 12, 13))
    assert behind["boxes"].tolist() == [[5, 3, 12, 13]]
    assert behind["visible"].item() == pytest.approx(0.7)


@pytest.mark.parametrize(("width", "height", "counts"), [(8, 5, True), (13, 3, False)])
def test_an_article_counts_from_40_pixels_on(width, height, counts):
    truth = put(Canvas(1, 30, 20), (3, 3), block(0, 0, width, height))
    assert truth["put"].item() is counts


@pytest.mark.parametrize(("hidden", "counts"), [(14, True), (15, False)])
def test_an_article_counts_from_30_percent_on(hidden, counts):
    canvas = Canvas(1, 40, 20)
    put(canvas, (0, 0), block(0, 0, hidden, 20))
    # 30 % is 6 columns
    truth = put(canvas, (0, 0), block(0, 0, 20, 20), (0.0, 1.0, 0.0))
    assert truth["put"].item() is counts
    assert truth["visible"].item() == pytest.approx(1 - hidden / 20)
    assert canvas.counts.item() == 1 + counts
    seen = put(canvas, (0, 0), block(10, 0, 20, 20))
    # What is left out is not painted, hides nothing and takes no number.
    assert seen["put"].item() is not counts and canvas.numbers.max() == 2
    assert canvas.paint[0, :, 0, 19].tolist() == [not counts, 1, not counts]


def test_composition_equals_the_painters_order():
    generator = torch.Generator().manual_seed(0)
    canvas, n, layers = Canvas(4, 50, 20), 4, []
    ground = torch.rand(n, 3, 50, 50, generator=generator)
    for _ in range(5):
        alpha = torch.rand(n, 1, 20, 20, generator=generator).mul(1.5).clamp(max=1)
        bright = alpha * torch.rand(n, 1, 20, 20, generator=generator)
        windows = torch.cat([alpha, bright], 1)
        corners = torch.randint(0, 31, (n, 2), generator=generator)
        tint = torch.rand(n, 3, generator=generator)
        truth = canvas.put(torch.arange(n), corners, windows, tint)
        layers.append((windows, corners, tint, truth["put"]))
    painted, number = ground.clone(), torch.zeros(n, 50, 50)
    for depth, (windows, corners, tint, is_in) in reversed(list(enumerate(layers, 1))):
        for i in is_in.nonzero()[:, 0].tolist():
            x, y = corners[i].tolist()
            area = painted[i, :, y : y + 20, x : x + 20]
            colour = shades(windows[i : i + 1])[0] * tint[i][:, None, None]
            area.mul_(1 - windows[i, :1]).add_(colour)
            number[i, y : y + 20, x : x + 20][windows[i, 0] >= 0.5] = depth
    got = ground * canvas.through + canvas.paint
    torch.testing.assert_close(got, painted, rtol=0, atol=1e-5)
    assert torch.equal(number > 0, canvas.numbers > 0)
    for i in range(n):  # one number in the one is one number in the other
        pairs = torch.stack([number[i].flatten(), canvas.numbers[i].flatten().float()])
        assert pairs.unique(dim=1).shape[1] == canvas.counts[i] + 1


def test_boxes_equal_torchvisions_plus_the_edge():
    masks = torch.rand(50, 17, 23, generator=torch.Generator().manual_seed(0)) > 0.98
    masks[0] = False
    masks[0, 4, 7] = True  # one pixel
    masks[1] = True
    masks = masks[masks.flatten(1).any(1)]
    # its x2 and y2 are the last pixels
    expected = masks_to_boxes(masks) + torch.tensor([0, 0, 1, 1])
    got = tight_boxes(masks)
    assert torch.equal(got, expected) and len(masks) > 45
    assert got[0].tolist() == [7, 4, 8, 5] and got.dtype == torch.float32
    nothing = torch.zeros(1, 5, 6, dtype=torch.bool)
    assert tight_boxes(nothing).tolist() == [[0, 0, 0, 0]]
    assert tight_boxes(nothing[:0]).shape == (0, 4)


# --- scenes ---


@functools.cache
def sample_scenes():
    """Scenes from the sample in tests/data: 130 for training, 66 for the test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CV_DATA", str(TESTS / "data"))
        return scenes(130, 66)


@pytest.fixture
def standard():
    return sample_scenes()


def digest(*sets):
    content = hashlib.sha256()
    for one in sets:
        for values in (one.images, one.numbers, one.counts, *one.objects.values()):
            content.update(values.numpy().tobytes())
    return content.hexdigest()


def rectangle(n, *, width=28):
    """Images of upright white rectangles [28, width]."""
    images = torch.zeros(n, 28, 28, dtype=torch.uint8)
    images[..., :width] = 255
    return images


@pytest.fixture
def fashion(data_folder):
    """A function that makes its images and labels those of Fashion-MNIST."""

    def write(**parts):
        for name, (images, labels) in parts.items():
            part = {"train": "train", "test": "t10k"}[name]
            for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
                path = data_folder / "FashionMNIST" / "raw" / f"{part}-{kind}-ubyte"
                path.parent.mkdir(parents=True, exist_ok=True)
                header = struct.pack(
                    f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape
                )
                path.write_bytes(header + values.byte().numpy().tobytes())

    return write


@pytest.fixture
def rectangles(fashion):
    """Squares for training, labels 0 to 4; halves of squares for the test, 5 to 9."""
    fashion(
        train=(rectangle(50), torch.arange(50) % 5),
        test=(rectangle(20, width=14), torch.arange(20) % 5 + 5),
    )


def test_boxes_are_the_tight_boxes_of_the_masks(standard):
    for dataset in standard:
        n = 0
        for index, (image, target) in enumerate(dataset):
            masks, n = target["masks"], n + len(target["masks"])
            assert image.shape == (3, 128, 128) and image.dtype == torch.uint8
            # its x2, y2 are the last pixels
            expected = masks_to_boxes(masks) + torch.tensor([0, 0, 1, 1])
            assert torch.equal(target["boxes"], expected)
            assert torch.equal(target["area"], masks.sum((1, 2)).float())
            assert masks.sum(0).max() == 1 and target["image_id"] == index
        assert index == len(dataset) - 1
        assert n == len(dataset.objects["boxes"]) > 3 * len(dataset)


def test_targets_have_torchvisions_types(standard):
    _, target = standard[0][5]
    n = int(standard[0].counts[5])
    assert target.pop("image_id") == 5 and n > 0
    kinds = {name: (value.dtype, tuple(value.shape)) for name, value in target.items()}
    assert kinds == {
        "boxes": (torch.float32, (n, 4)),
        "labels": (torch.int64, (n,)),
        "masks": (torch.bool, (n, 128, 128)),
        "area": (torch.float32, (n,)),
        "visible": (torch.float32, (n,)),
        "iscrowd": (torch.int64, (n,)),
    }
    assert not target["iscrowd"].any()
    assert standard[0].classes == ["background", *FASHION_CLASSES]


def test_whatever_is_in_a_scene_counts(standard):
    for dataset in standard:
        visible = dataset.objects["visible"]
        assert dataset.objects["area"].min() >= 40
        assert visible.min() >= 0.3 and visible.max() <= 1
        assert 0.1 < (visible < 0.95).float().mean() < 0.4  # some hide others
        assert dataset.counts.min() >= 1 and dataset.counts.max() == 6


def test_all_classes_come_about_as_often(standard):
    counts = standard[0].objects["labels"].bincount(minlength=11)
    assert counts[0] == 0 and counts[1:].min() > 0.6 * counts.sum() / 10


def test_semantic_masks_are_the_labels_of_the_masks(standard):
    dataset = standard[0]
    maps = dataset.semantic([4, 9, 2])
    assert (maps.shape, maps.dtype) == ((3, 128, 128), torch.int64)
    for one, index in zip(maps, [4, 9, 2], strict=True):
        target = dataset[index][1]
        expected = (target["masks"] * target["labels"][:, None, None]).sum(0)
        assert torch.equal(one, expected) and torch.equal(one, dataset.semantic(index))
    assert torch.equal(dataset.semantic(-1), dataset.semantic([129])[0])
    assert dataset.semantic([]).shape == (0, 128, 128)


def test_one_scene_or_many(standard):
    dataset = standard[0]
    images, targets = dataset[[7, 0, -1]]
    assert torch.equal(images, dataset.images[[7, 0, 129]])
    assert [target["image_id"] for target in targets] == [7, 0, 129]
    _, same = dataset[torch.tensor([7, 0, 129])]
    for i, target, other in zip((7, 0, 129), targets, same, strict=True):
        assert torch.equal(target["masks"], dataset[i][1]["masks"])
        assert torch.equal(target["masks"], other["masks"])
    assert [target["image_id"] for target in dataset[2:6:2][1]] == [2, 4]
    assert dataset[torch.tensor(3)][1]["image_id"] == dataset[-127][1]["image_id"] == 3
    assert dataset[[]][0].shape == (0, 3, 128, 128) and dataset[[]][1] == []
    assert len(dataset) == 130
    for outside in (130, -131, [0, 130]):
        with pytest.raises(IndexError):
            dataset[outside]


def test_a_changed_target_leaves_the_others_as_they_were(standard):
    dataset = pickle.loads(pickle.dumps(standard[1]))
    assert digest(dataset) == digest(standard[1])
    dataset[0][1]["masks"].zero_()
    assert digest(dataset) == digest(standard[1])


def test_fewer_scenes_are_the_first_of_more(standard, sample_data):
    for few in ((64, 1), (65, 65)):
        for short, long in zip(scenes(*few), standard, strict=True):
            n = int(short.counts.sum())
            assert torch.equal(short.images, long.images[: len(short)])
            assert torch.equal(short.numbers, long.numbers[: len(short)])
            for name, values in short.objects.items():
                assert torch.equal(values, long.objects[name][:n])


def test_the_same_bytes_in_another_process_with_more_threads(rectangles):
    state = torch.get_rng_state()
    expected = digest(*scenes(1, 1)), articles(64)[0].images.sum().item()
    assert torch.equal(torch.get_rng_state(), state)  # it draws from its own generators
    code = (
        "import torch; torch.set_num_threads(3); torch.rand(3); "
        "from test_generated import articles, digest, scenes; "
        "print((digest(*scenes(1, 1)), articles(64)[0].images.sum().item()))"
    )
    command = [sys.executable, "-c", code]
    other = subprocess.run(command, cwd=TESTS, capture_output=True, text=True)
    assert other.stdout.strip() == str(expected), other.stderr


def test_no_two_scenes_are_alike_whatever_the_batch_the_part_or_the_seed(fashion):
    same = rectangle(50), torch.arange(50) % 10
    fashion(train=same, test=same)
    small = {"size": 64, "difficulty": Difficulty(sizes=(20, 40))}
    parts = [part for seed in (0, 1) for part in scenes(65, 65, seed=seed, **small)]
    images = torch.cat([part.images[:, :, ::8, ::8] for part in parts])
    layouts = torch.cat([part.numbers[:, ::2, ::2] for part in parts])
    assert len(images) == 260 and len(images.flatten(1).unique(dim=0)) == 260
    assert len(layouts.flatten(1).unique(dim=0)) == 260


def test_validation_scenes_hold_articles_kept_back_from_training(rectangles):
    options = {"difficulty": Difficulty((1, 1), (24, 24), **PLAIN)}
    train, validation, test = scenes(300, 3, validation=70, **options)
    assert len(train) == 300 and len(validation) == 70 and len(test) == 3
    whole = fashion_mnist()[0]
    kept = len(whole) * 9 // 10
    seen, held_back = (part.objects["articles"] for part in (train, validation))
    assert seen.min() >= 0 and seen.max() < kept <= held_back.min()
    assert held_back.max() < len(whole) and len(held_back.unique()) >= 3
    for part in (train, validation):
        labels = whole.labels[part.objects["articles"]] + 1
        assert torch.equal(part.objects["labels"], labels)
    # other places and grounds than in training, the test as it is without them
    assert not (train.images[:70] == validation.images).flatten(1).all(1).any()
    assert digest(test) == digest(scenes(1, 3, **options)[1])
    fewer = scenes(300, 3, validation=65, **options)
    assert digest(fewer[0]) == digest(train)
    assert torch.equal(fewer[1].images, validation.images[:65])
    again = scenes(64, 1, **options)[0].objects["articles"]
    assert again.max() >= kept  # without validation, training has them all


def test_test_scenes_hold_only_test_articles(rectangles):
    parts = scenes(40, 40, difficulty=Difficulty((1, 1), (24, 24), **PLAIN))
    for part, dataset, labels in zip(
        fashion_mnist(), parts, (range(1, 6), range(6, 11)), strict=True
    ):
        chosen = dataset.objects["articles"]
        assert chosen.min() >= 0 and chosen.max() < len(part)
        assert len(chosen.unique()) > 10
        assert torch.equal(dataset.objects["labels"], part.labels[chosen] + 1)
        assert set(dataset.objects["labels"].tolist()) == set(labels)
    sides = [
        part.objects["boxes"][:, 2:] - part.objects["boxes"][:, :2] for part in parts
    ]
    assert (sides[0] - 24).abs().max() <= 1  # squares in all training scenes
    # halves in all test scenes
    assert (sides[1] - torch.tensor([12, 24])).abs().max() <= 1


def test_an_article_is_the_image_of_its_index(fashion):
    images = torch.zeros(20, 28, 28, dtype=torch.uint8)
    for i in range(20):
        images[i, :, : 8 + i] = 255  # its width tells its index
    fashion(train=(images, torch.arange(20) % 10), test=(images, torch.arange(20) % 10))
    difficulty = Difficulty((2, 2), (56, 56), overlap=0.0, **PLAIN)
    dataset, _ = scenes(60, 1, difficulty=difficulty, size=200)
    boxes, chosen = dataset.objects["boxes"], dataset.objects["articles"]
    alone = dataset.objects["visible"] == 1
    assert alone.float().mean() > 0.95
    widths = (boxes[:, 2] - boxes[:, 0])[alone]
    assert (widths - 2 * (8 + chosen[alone])).abs().max() <= 1
    assert torch.equal(dataset.objects["labels"], chosen % 10 + 1)


def test_a_scene_shows_its_articles_where_the_masks_are(rectangles):
    dataset, _ = scenes(64, 1, difficulty=Difficulty((1, 1), (40, 40), **PLAIN))
    distances = []
    for image, target in dataset:
        (mask,) = target["masks"]
        inner = -F.max_pool2d(-mask[None].float(), 3, 1, 1)[0] > 0
        outer = F.max_pool2d(mask[None].float(), 3, 1, 1)[0] > 0
        tint, ground = image[:, inner].int(), image[:, ~outer].int()
        assert (tint == tint[:, :1]).all() and (ground - ground[:, :1]).abs().max() <= 1
        distances.append((tint[:, 0] - ground[:, 0]).float().norm() / 255)
    # it stands out
    distances = torch.stack(distances)
    assert distances.quantile(0.05) > 0.4 and distances.min() > 0.25


def test_a_tint_is_chosen_for_the_ground_about_the_article(rectangles, monkeypatch):
    seen = []

    def bright_on_the_right(n, size, clutter, generator):
        right = (torch.arange(size) >= size // 2).float()
        return right.expand(n, 3, size, size).contiguous()

    def spy(ground, brightness, generator):
        seen.append((ground, brightness))
        return ground

    monkeypatch.setattr("utils.data.generated.grounds", bright_on_the_right)
    monkeypatch.setattr("utils.data.generated.tints", spy)
    dataset, _ = scenes(64, 1, difficulty=Difficulty((1, 1), (24, 24), **PLAIN))
    ground, brightness = seen[0]
    x = (dataset.objects["boxes"][:, 0] + dataset.objects["boxes"][:, 2]) / 2
    assert ground.shape == (64, 3) and 20 < (x < 64).sum() < 44
    clear = (x - 64).abs() > 1
    assert torch.equal(ground[clear], (x > 64).float()[clear, None].expand(-1, 3))
    torch.testing.assert_close(brightness, torch.ones(64))


def plain_set(*, size=96, **changes):
    """Scenes of squares that are easy except for the changes."""
    base = {"articles": (1, 1), "sizes": (30, 30), **PLAIN}
    difficulty = Difficulty(**{**base, **changes})
    return scenes(64, 1, size=size, difficulty=difficulty)[0]


def roughness(dataset):
    """The mean difference between neighbouring values of the ground, of 255."""
    steps = dataset.images.float().diff(dim=3).abs().mean(1)
    ground = (dataset.numbers[:, :, 1:] == 0) & (dataset.numbers[:, :, :-1] == 0)
    return steps[ground].mean().item()


def test_numbers_sizes_overlap_and_rotation_do_what_they_say(rectangles):
    apart = {"overlap": 0.0, "sizes": (20, 20)}
    for numbers in ((4, 4), (2, 5)):
        counts = plain_set(articles=numbers, **apart).counts.unique().tolist()
        assert counts == list(range(numbers[0], numbers[1] + 1))
    for side in (20, 50):
        boxes = plain_set(sizes=(side, side)).objects["boxes"]
        assert (boxes[:, 2] - boxes[:, 0] - side).abs().max() <= 1
    crowded = [
        plain_set(articles=(6, 6), overlap=overlap, size=128) for overlap in (0, 0.3, 1)
    ]
    hidden = [1 - dataset.objects["visible"].mean() for dataset in crowded]
    assert hidden[0] < 0.02 < hidden[1] < 0.7 * hidden[2]
    fills = []
    for rotation in (0.0, 45.0):
        objects = plain_set(rotation=rotation).objects
        sides = objects["boxes"][:, 2:] - objects["boxes"][:, :2]
        fills.append((objects["area"] / sides.prod(1)).mean())
    assert fills[0] > 0.99 and fills[1] < 0.8


def test_clutter_noise_and_light_do_what_they_say(rectangles):
    clutter = [roughness(plain_set(clutter=value)) for value in (0.0, 0.3, 1.0)]
    assert clutter[0] < 0.1 and 1 < 2 * clutter[1] < clutter[2]
    noise = [roughness(plain_set(noise=value)) for value in (0.05, 0.1)]
    expected = 255 * 0.05 * 2 / torch.pi**0.5  # of the difference of two normal numbers
    assert noise[0] == pytest.approx(expected, rel=0.1)
    assert noise[1] == pytest.approx(2 * expected, rel=0.15)
    dark, lit = (plain_set(light=v).images.float().std((2, 3)) for v in (0.0, 0.8))
    assert lit.mean() > dark.mean() + 5


def test_presets_rise_in_difficulty(sample_data):
    sets = [scenes(64, 1, difficulty=d)[0] for d in (EASY, STANDARD, HARD)]
    for measure in (
        lambda s: s.counts.float().mean(),
        lambda s: -s.objects["visible"].mean(),
        roughness,
    ):
        values = [float(measure(part)) for part in sets]
        assert values == sorted(values) and len(set(values)) == 3


def test_scenes_may_be_empty(rectangles):
    empty, _ = scenes(3, 1, difficulty=Difficulty(articles=(0, 0)))
    image, target = empty[2]
    assert target.pop("image_id") == 2
    shapes = {name: tuple(values.shape) for name, values in target.items()}
    assert shapes.pop("boxes") == (0, 4) and shapes.pop("masks") == (0, 128, 128)
    assert set(shapes.values()) == {(0,)} and image.float().std() > 1
    assert not empty.semantic([0, 1, 2]).any() and not empty.numbers.any()
    some, _ = scenes(64, 1, difficulty=Difficulty(articles=(0, 1)))
    assert 15 < int((some.counts == 0).sum()) < 49
    for index in range(64):
        n = some.counts[index]
        assert len(some[index][1]["boxes"]) == n == some.numbers[index].max()
        assert (some.semantic(index) > 0).any() == (n > 0)


@pytest.mark.parametrize(("size", "sizes"), [(50, (20, 40)), (161, (24, 60))])
def test_other_sizes_of_scenes(rectangles, size, sizes):
    dataset, _ = scenes(5, 1, size=size, difficulty=Difficulty(sizes=sizes))
    assert dataset.images.shape == (5, 3, size, size)
    assert dataset.numbers.shape == (5, size, size)
    for _, target in dataset:
        edges = masks_to_boxes(target["masks"]) + torch.tensor([0, 0, 1, 1])
        assert torch.equal(target["boxes"], edges)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_train": 0}, "n_train must be a whole number from 1 on, got 0"),
        ({"n_test": -1}, "n_test must be a whole number from 1 on, got -1"),
        ({"n_train": 0.8}, "n_train must be a whole number from 1 on, got 0.8"),
        ({"n_train": "100"}, "n_train must be a whole number"),
        ({"validation": -1}, "validation must be a whole number from 0 on, got -1"),
        ({"validation": 0.1}, "validation must be a whole number from 0 on, got 0.1"),
        ({"size": 128.5}, "size must be a whole number"),
        ({"seed": -1}, "seed must be a whole number from 0 on"),
        ({"seed": 0.5}, "seed must be a whole number from 0 on"),
        ({"difficulty": "hard"}, "must be a Difficulty, such as EASY or HARD"),
        ({"size": 60}, "73 px at least.* got 60"),
        ({"difficulty": Difficulty(sizes=(24, 91), rotation=45.0)}, "129 px at least"),
    ],
)
def test_scenes_refuse_what_makes_no_sense(sample_data, arguments, message):
    with pytest.raises(ValueError, match=message):
        scenes(**{"n_train": 1, "n_test": 1, **arguments})


def test_a_scene_set_refuses_what_does_not_belong_together(standard):
    part = standard[1]
    given = (part.images, part.numbers, part.counts)
    with pytest.raises(ValueError, match="66 images, 65 maps"):
        SceneSet(given[0], given[1][:-1], given[2], part.objects, part.classes)
    fewer = {**part.objects, "labels": part.objects["labels"][1:]}
    with pytest.raises(ValueError, match=r"promise \d+ objects"):
        SceneSet(*given, fewer, part.classes)
    # a scene has no class
    with pytest.raises(TypeError, match="neither .labels nor .targets"):
        take(part, 10)


# --- single articles ---


@pytest.mark.parametrize("size", [64, 100])
def test_articles_are_fashion_mnist_in_colour(fashion, size):
    whole = TESTS / "data" / "FashionMNIST"
    parts = []
    for name in ("train", "t10k"):
        raw = [
            (whole / "raw" / f"{name}-{kind}-ubyte").read_bytes()
            for kind in ("images-idx3", "labels-idx1")
        ]
        images = torch.tensor(list(raw[0][16 : 16 + 120 * 784]), dtype=torch.uint8)
        parts.append((images.view(-1, 28, 28), torch.tensor(list(raw[1][8:128]))))
    fashion(train=parts[0], test=parts[1])
    for part, grey in zip(articles(size), fashion_mnist(), strict=True):
        assert part.images.shape == (120, 3, size, size)
        assert part.classes == grey.classes and torch.equal(part.labels, grey.labels)
        assert len(part.images.flatten(1).unique(dim=0)) == 120


def test_articles_repeat_with_the_seed(rectangles):
    first, again, other = articles(100), articles(100), articles(100, seed=1)
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a.images, b.images) and not torch.equal(a.images, c.images)


@pytest.fixture
def on_black(monkeypatch):
    """Articles on black, without light and noise."""
    monkeypatch.setattr(
        "utils.data.generated.grounds",
        lambda n, size, *_: torch.zeros(n, 3, size, size),
    )
    monkeypatch.setattr(
        "utils.data.generated.develop",
        lambda images, *_: (images * 255).to(torch.uint8),
    )


def test_an_article_lies_inside_its_image_and_stands_out(fashion, on_black):
    fashion(
        train=(rectangle(300), torch.zeros(300)), test=(rectangle(1), torch.zeros(1))
    )
    images = articles(40)[0].images
    lit = (images > 20).any(1)
    sides = (lit.sum((1, 2)) / 1600).sqrt()
    assert 0.62 < sides.min() < 0.7 and 0.9 < sides.max() < 0.98
    # log-uniform, too
    assert (sides < math.sqrt(0.65 * 0.95)).float().mean() == pytest.approx(
        0.5, abs=0.06
    )
    # bright tints on black
    assert (images.flatten(2).amax(2).amax(1) >= 127).all()
    middles = torch.stack([lit.any(1).float().argmax(1), lit.any(2).float().argmax(1)])
    assert (middles.float().std(1) > 1).all()
    assert torch.corrcoef(middles.float())[0, 1] < 0.95  # not one place


def test_no_two_grounds_are_alike_whatever_the_batch_the_part_or_the_seed(fashion):
    same = rectangle(70), torch.zeros(70)  # the same article again and again
    fashion(train=same, test=same)
    # batches of 64
    parts = [part.images for seed in (0, 1) for part in articles(128, seed=seed)]
    images = torch.cat(parts)[:, :, ::8, ::8]
    assert len(images.flatten(1).unique(dim=0)) == 280


def test_each_image_shows_its_own_article_in_its_tint(fashion, on_black, monkeypatch):
    images = rectangle(70)
    images[torch.arange(70) % 3 > 0] = 0  # two of three are empty
    fashion(train=(images, torch.zeros(70)), test=(rectangle(1), torch.zeros(1)))
    monkeypatch.setattr(
        "utils.data.generated.tints",
        lambda ground, *_: torch.tensor([1.0, 0.0, 0.6]).expand(len(ground), 3),
    )
    drawn = articles(128)[0].images
    tint = torch.tensor([255, 0, 153], dtype=torch.uint8)[:, None, None]
    tinted, black = (drawn == tint).all(1), (drawn == 0).all(1)
    assert (tinted | black).float().mean() > 0.95  # but for soft edges
    shows = torch.arange(70) % 3 == 0
    assert torch.equal(tinted.sum((1, 2)) > 1000, shows)
    assert torch.equal(black.all(2).all(1), ~shows)


@pytest.mark.parametrize("size", [15, 129, 0, 32.5])
def test_articles_refuse_other_sizes(size):
    with pytest.raises(ValueError, match=f"16 to 128 px, got {size}"):
        articles(size)
