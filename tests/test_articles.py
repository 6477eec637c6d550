import math

import pytest
import torch
from scene_helpers import SAMPLES, source
from torch.nn import functional as F

from utils.composing import brightness, cut_out, shades, turn_and_scale
from utils.data import FASHION_CLASSES, fashion_mnist
from utils.scenes import articles

SHIRT, SANDAL, BAG = (FASHION_CLASSES.index(name) for name in ("Shirt", "Sandal", "Bag"))


@pytest.fixture(autouse=True)
def _sample(monkeypatch):
    monkeypatch.setenv("CV_DATA", str(SAMPLES))


def picture(*rows, brightness=200):
    """A Fashion-MNIST picture from a drawing: # bright, - dim, . black."""
    values = {"#": brightness, "-": 10, ".": 0}
    image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    for y, row in enumerate(rows):
        for x, mark in enumerate(row):
            image[0, 0, 4 + y, 4 + x] = values[mark]
    return image


def opacity(*rows, label=SHIRT):
    cut = cut_out(picture(*rows), torch.tensor([label]))[0, 0]
    return ["".join(".#"[int(v)] for v in row) for row in cut[4 : 4 + len(rows), 4 : 4 + len(rows[0])]]


def test_dark_cloth_is_opaque_but_what_lies_beside_it_is_not():
    shirt = ["######", "#....#", "#.##.#", "#....#", "######"]
    assert opacity(*shirt) == ["######"] * 5
    legs = ["######", "##..##", "##..##", "##..##"]  # open below
    assert opacity(*legs) == legs
    corner = ["##....", "##....", "######", "######"]
    assert opacity(*corner) == corner
    sideways = ["####", "##..", "####", "####"]
    assert opacity(*sideways) == sideways


@pytest.mark.parametrize("label", [SANDAL, BAG])
def test_one_sees_through_handles_and_straps(label):
    bag = [".####.", ".#..#.", "######", "######"]
    assert opacity(*bag, label=label) == bag
    assert opacity(*bag)[1] == ".####."


def test_dust_is_ground_and_dim_cloth_is_not():
    assert opacity("-.....", "......", "..####", "..####") == ["......", "......", "..####", "..####"]
    assert opacity("######", "##--##", "##--##", "######") == ["######"] * 4
    dim = opacity("-----", "-----", "-----", "-----", "-----", label=BAG)
    assert dim[1:4] == ["#####"] * 3 and dim[2] == "#####"


def test_cut_out_keeps_brightness_inside_alone_and_each_label_to_its_picture():
    ring = picture("###", "#.#", "###")
    images = torch.cat([ring, ring, picture("-")])
    cut = cut_out(images, torch.tensor([SHIRT, BAG, SHIRT]))
    assert (cut.shape, cut.dtype) == ((3, 2, 28, 28), torch.float32)
    assert cut[:, 0].sum((1, 2)).tolist() == [9, 8, 0] and cut[2].sum() == 0
    assert cut[0, 1, 4, 4].item() == pytest.approx(200 / 255) and cut[0, 1, 5, 5] == 0
    assert cut_out(images[:0], torch.zeros(0, dtype=torch.int64)).shape == (0, 2, 28, 28)


def test_turning_and_scaling_equals_affine_grid():
    generator = torch.Generator().manual_seed(0)
    articles = torch.rand(20, 2, 28, 28, generator=generator)
    sides = torch.rand(20, generator=generator) * 40 + 20
    angles = torch.rand(20, generator=generator) * 6 - 3
    centres = torch.rand(20, 2, generator=generator) * 30 + 20
    turn_back = torch.stack([angles.cos(), angles.sin(), -angles.sin(), angles.cos()], 1).view(-1, 2, 2)
    turn_back = turn_back * (2 / sides)[:, None, None]
    theta = torch.cat([turn_back * 35, turn_back @ (35 - centres)[..., None]], 2)
    grid = F.affine_grid(theta, [20, 1, 70, 70], align_corners=False)
    expected = F.grid_sample(articles, grid, align_corners=False)
    got = turn_and_scale(articles, centres, sides, angles, 70)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


def test_an_article_at_its_own_size_is_itself_and_turns_clockwise():
    article = torch.rand(1, 2, 28, 28)
    centre, side = torch.tensor([[20.0, 16.0]]), torch.tensor([28.0])
    whole = turn_and_scale(article, centre, side, torch.zeros(1), 40)
    torch.testing.assert_close(whole[:, :, 2:30, 6:34], article, rtol=0, atol=1e-5)
    assert whole.sum().item() == pytest.approx(article.sum().item(), rel=1e-5)
    turned = turn_and_scale(article, centre, side, torch.tensor([math.pi / 2]), 40)[:, :, 2:30, 6:34]
    torch.testing.assert_close(turned, article.rot90(-1, (2, 3)), rtol=0, atol=1e-4)
    assert turn_and_scale(article[:0], centre[:0], side[:0], side[:0], 40).shape == (0, 2, 40, 40)


def test_shades_run_from_dark_to_the_tint_with_opacity():
    windows = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.5, 0.5], [0.0, 0.0]])[:, :, None, None]
    torch.testing.assert_close(shades(windows).flatten(), torch.tensor([1.0, 0.35, 0.5, 0.0]))


def test_brightness_is_the_mean_shade_of_what_is_opaque():
    half = picture("####", "####", brightness=255)
    half[:, :, 5] = 102  # two fifths
    cut = cut_out(torch.cat([half, half * 0]), torch.tensor([BAG, BAG]))
    cut[1] = 0
    cut[0, :, 0] = 0
    cut[0, :, 6:] = 0
    expected = (4 * 1 + 28 * (0.35 + 0.65 * 0.4)) / 32  # the whole row 5 became bright enough
    assert brightness(cut).tolist() == pytest.approx([expected, 0])
    assert brightness(cut[:0]).shape == (0,)


@pytest.mark.parametrize("size", [16, 32, 64])
def test_articles_are_fashion_mnist_in_colour(size):
    parts = articles(size)
    for part, grey in zip(parts, fashion_mnist(), strict=True):
        assert part.images.shape == (len(grey), 3, size, size) and part.classes == grey.classes
        assert torch.equal(part.labels, grey.labels)
        assert len(part.images.flatten(1).unique(dim=0)) == len(part)
    assert not torch.equal(parts[0].images[:100], parts[1].images[:100])


def test_articles_repeat_with_the_seed_on_any_number_of_threads():
    first, threads = articles(), torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            again = articles()
            assert all(torch.equal(a.images, b.images) for a, b in zip(first, again, strict=True))
    finally:
        torch.set_num_threads(threads)
    assert not torch.equal(first[0].images, articles(seed=1)[0].images)


def test_an_article_lies_inside_its_picture_and_stands_out(monkeypatch):
    parts = source(300), source(10)
    monkeypatch.setattr("utils.scenes.fashion_mnist", lambda: parts)
    monkeypatch.setattr("utils.scenes.grounds", lambda n, size, *_: torch.zeros(n, 3, size, size))
    monkeypatch.setattr("utils.scenes.develop", lambda pictures, *_: (pictures * 255).to(torch.uint8))
    train, test = articles(40)
    assert (len(train), len(test)) == (300, 10)
    lit = (train.images > 20).any(1)
    area = lit.sum((1, 2)) / 1600
    assert 0.62**2 < area.min() < 0.5 and 0.8 < area.max() < 0.98**2
    assert (train.images.flatten(2).amax(2).amax(1) >= 127).all()  # bright tints on black
    middles = torch.stack([lit.any(1).float().argmax(1), lit.any(2).float().argmax(1)])
    assert (middles.float().std(1) > 1).all() and torch.corrcoef(middles.float())[
        0, 1
    ] < 0.95  # not one place


def test_no_two_grounds_are_alike_whatever_the_batch_the_part_or_the_seed(monkeypatch):
    parts = source(70), source(70)  # the same article again and again
    monkeypatch.setattr("utils.scenes.fashion_mnist", lambda: parts)
    images = torch.cat([part.images for seed in (0, 1) for part in articles(128, seed=seed)])  # batches of 64
    assert len(images[:, :, ::8, ::8].flatten(1).unique(dim=0)) == 280


def test_each_picture_shows_its_own_article_in_its_tint(monkeypatch):
    train = source(70)
    train.images[torch.arange(70) % 3 > 0] = 0  # two of three are empty
    monkeypatch.setattr("utils.scenes.fashion_mnist", lambda: (train, source(1)))
    monkeypatch.setattr("utils.scenes.grounds", lambda n, size, *_: torch.full((n, 3, size, size), 0.4))
    monkeypatch.setattr("utils.scenes.tints", lambda g, *_: torch.tensor([1.0, 0.0, 0.6]).expand(len(g), 3))
    monkeypatch.setattr("utils.scenes.develop", lambda pictures, *_: (pictures * 255).to(torch.uint8))
    images = articles(128)[0].images
    tinted = (images == torch.tensor([255, 0, 153], dtype=torch.uint8)[:, None, None]).all(1)
    ground = (images == 102).all(1)
    assert (tinted | ground).float().mean() > 0.95  # but for soft edges
    assert torch.equal(tinted.sum((1, 2)) > 1000, torch.arange(70) % 3 == 0)
    assert torch.equal(ground.all(2).all(1), torch.arange(70) % 3 > 0)


@pytest.mark.parametrize("size", [15, 129, 0])
def test_articles_refuse_other_sizes(size):
    with pytest.raises(ValueError, match=f"16 to 128 px, got {size}"):
        articles(size)
