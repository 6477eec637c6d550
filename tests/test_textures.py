import pytest
import torch
from torch.nn import functional as F

from utils.textures import CONTRAST, _stripes, develop, grounds, log_uniform, seeded, tints, uniform


def draw(*key):
    return torch.rand(4, generator=seeded(*key)).tolist()


def test_each_key_has_a_generator_of_its_own():
    keys = [(0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 1), (2**32,), (2**40 + 1, 3)]
    drawn = [draw(*key) for key in keys]
    assert len({tuple(numbers) for numbers in drawn}) == len(keys)
    assert drawn == [draw(*key) for key in keys]
    with pytest.raises(ValueError, match=r"from 0 on, got \(0, -1\)"):
        seeded(0, -1)


def test_numbers_lie_in_their_range_and_are_spread_as_said():
    even = uniform((4000,), -2, 6, seeded(0))
    assert even.dtype == torch.float32 and -2 <= even.min() and even.max() < 6
    assert (even < 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    octaves = log_uniform((4000,), 8, 128, seeded(0))
    assert 8 <= octaves.min() and octaves.max() <= 128.001
    assert (octaves < 16).float().mean().item() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("size", [16, 33, 128])
def test_grounds_differ_from_picture_to_picture_and_repeat_with_the_seed(size):
    pictures = grounds(5, size, 0.6, seeded(1))
    assert (pictures.shape, pictures.dtype) == ((5, 3, size, size), torch.float32)
    assert torch.equal(pictures, grounds(5, size, 0.6, seeded(1)))
    assert torch.pdist(pictures.flatten(1)).min() > 0.5
    assert -0.5 < pictures.min() and pictures.max() < 1.5 and grounds(0, size, 0.6, seeded(0)).numel() == 0


def test_clutter_is_the_contrast_of_a_ground():
    plain, some, much = (grounds(40, 64, clutter, seeded(0)) for clutter in (0.0, 0.5, 1.0))
    torch.testing.assert_close(plain, plain[:, :, :1, :1].expand_as(plain))
    assert 0.15 <= plain.min() and plain.max() <= 0.85
    assert (plain[:, 0] - plain[:, 1]).abs().mean() > 0.1  # colours
    torch.testing.assert_close(much - plain, 2 * (some - plain), rtol=0, atol=1e-5)
    assert 0.08 < (much - plain).std((1, 2, 3)).mean() < 0.3


@pytest.fixture
def unstriped(monkeypatch):
    nothing = torch.zeros(1, 1, 1, 1)
    monkeypatch.setattr("utils.textures._stripes", lambda *_: (nothing, nothing))


def test_each_scale_of_a_texture_is_weaker_than_the_coarser_one(unstriped):
    pictures, strength = grounds(300, 128, 1.0, seeded(3)).mean(1, keepdim=True), []
    for side in (4, 8, 16):  # cells of 32, 16, 8 px: what they have beyond cells of twice the side
        fine, coarse = F.avg_pool2d(pictures, side), F.avg_pool2d(pictures, 2 * side)
        strength.append((fine - coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)).std((1, 2, 3)))
    for fine, coarse in zip(strength, strength[1:], strict=False):
        ratio = fine / coarse
        assert 0.4 < ratio.quantile(0.05) < 0.65 and 0.8 < ratio.quantile(0.95) < 1.1


def test_textures_have_the_contrast_drawn_and_are_more_grey_than_coloured(unstriped):
    pictures = grounds(300, 128, 1.0, seeded(4))
    spread = pictures.std((2, 3)).mean(1)
    assert 0.02 < spread.min() < 0.06 and 0.15 < spread.max() < 0.25
    alike = torch.stack([torch.corrcoef(picture.flatten(1))[0, 1] for picture in pictures])
    assert alike.median() > 0.8 and alike.min() > 0.2 and alike.max() < 0.9999


def test_half_of_the_grounds_have_stripes():
    waves, colours = _stripes(300, 160, seeded(0))
    assert waves.shape == (300, 1, 160, 160) and colours.shape == (300, 3, 1, 1)
    striped = (colours != 0).any(1).flatten()
    assert 0.4 < striped.float().mean() < 0.6 and colours.abs().max() <= 0.25
    assert (waves.amin((1, 2, 3)) < -0.8).all() and (waves.amax((1, 2, 3)) > 0.8).all()
    assert (waves.abs() == 1).float().mean((1, 2, 3)).max() > 0.8  # hard ones among them
    tensor = torch.stack([waves.diff(dim=2)[..., 1:].flatten(1), waves.diff(dim=3)[:, :, 1:].flatten(1)], 2)
    slopes = torch.linalg.eigvalsh(tensor.mT @ tensor)  # of the two directions in which a picture changes
    assert (slopes[:, 0] / slopes[:, 1]).median() < 0.05  # along a stripe it hardly does
    down, across = tensor.square().sum(1).unbind(1)
    assert 0.35 < (down > across).float().mean() < 0.65  # in all directions
    rising = (tensor[..., 0] * tensor[..., 1]).sum(1) > 0
    assert 0.4 < rising.float().mean() < 0.6
    spectrum = torch.fft.rfft2(waves - waves.mean((2, 3), keepdim=True)).abs()[:, 0]
    rows = torch.fft.fftfreq(160)[:, None].square() + torch.fft.rfftfreq(160).square()
    period = rows.flatten()[spectrum.flatten(1).argmax(1)].rsqrt()
    assert 4.5 < period.min() < 5.5 and 35 < period.max() < 55 and 11 < period.median() < 18


def grey(n=2, size=33, value=0.5):
    return torch.full((n, 3, size, size), value)


def test_without_light_and_noise_a_picture_is_rounded_and_cut_off():
    values = torch.tensor([-0.2, 0.0, 0.001, 0.5, 0.998, 1.0, 1.7])
    got = develop(values.expand(1, 3, 1, 7).clone(), 0.0, 0.0, seeded(0))
    assert got.dtype == torch.uint8 and got[0, 2, 0].tolist() == [0, 0, 0, 128, 254, 255, 255]


def test_light_is_a_slope_about_the_middle_the_same_in_all_colours():
    pictures = develop(grey(50), 0.8, 0.0, seeded(0)).float() / 127.5
    assert (pictures[:, :, 16, 16] - 1).abs().max() < 0.01
    torch.testing.assert_close(pictures, pictures[:, :1].expand_as(pictures))
    torch.testing.assert_close(pictures + pictures.flip(2, 3), grey(50, value=2.0), rtol=0, atol=0.02)
    ends = pictures[:, 0, 16, -1], pictures[:, 0, -1, 16]  # the ends of both axes
    for end in ends:
        assert 0.6 - 0.01 <= end.min() < 0.7 and 1.3 < end.max() <= 1.4 + 0.01
    assert torch.corrcoef(torch.stack(ends))[0, 1].abs() < 0.4
    steps = pictures[:, 0, 16].diff()
    assert (steps - steps.mean(1, keepdim=True)).abs().max() < 0.01  # a straight line


def test_noise_has_its_standard_deviation_and_is_new_in_each_value():
    noise = develop(grey(4, 64), 0.0, 0.1, seeded(0)).float() / 255 - 0.5
    assert noise.std().item() == pytest.approx(0.1, rel=0.02)
    assert noise.mean().item() == pytest.approx(0, abs=0.004)
    assert torch.corrcoef(noise.flatten(0, 1).flatten(1)).fill_diagonal_(0).abs().max() < 0.1


def distances(ground, brightness):
    colours = tints(ground, brightness, seeded(1))
    return (brightness[:, None] * colours - ground).norm(dim=1)


def test_tints_keep_away_from_the_ground_where_there_is_a_choice():
    ground, brightness = torch.rand(500, 3, generator=seeded(0)), torch.linspace(0.35, 1, 500)
    colours = tints(ground, brightness, seeded(1))
    assert colours.shape == (500, 3) and 0 <= colours.min() and colours.max() <= 1
    assert colours.amax(1).min() >= 0.5
    distance = distances(ground, brightness)
    assert (distance >= CONTRAST).float().mean() > 0.97 and distance.min() > 0.25
    mean = tints(torch.full((4000, 3), 0.5), torch.full((4000,), 0.7), seeded(2)).mean(0)
    assert mean.max() - mean.min() < 0.03  # no colour is preferred
    alike = tints(torch.zeros(30, 3), torch.ones(30), seeded(1))
    assert torch.pdist(alike).min() > 0.001  # not one colour for all
    assert tints(torch.zeros(0, 3), torch.zeros(0), seeded(0)).shape == (0, 3)


def test_a_near_tint_is_taken_only_if_all_are_near(monkeypatch):
    ground, brightness = torch.rand(50, 3, generator=seeded(0)), torch.ones(50)
    monkeypatch.setattr("utils.textures.CONTRAST", 9.0)
    farthest = distances(ground, brightness)
    monkeypatch.setattr("utils.textures.CONTRAST", 0.0)
    first = distances(ground, brightness)
    assert (farthest >= first - 1e-6).all() and farthest.mean() > first.mean() + 0.1
