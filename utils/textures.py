"""Random grounds, colours, light and noise for drawn pictures, a batch at a time, from a given generator."""

import math

import numpy as np
import torch
from torch.nn import functional as F

CONTRAST = 0.4  # distance in RGB, each 0 to 1, that a tint keeps from the ground where there is a choice


def seeded(seed: int, *key: int) -> torch.Generator:
    """Return a generator of its own for each seed and key: the part of a set, say, and the batch in it.

    Args:
        seed: From 0 on.
        key: Integers from 0 to 2**32 - 1.

    Raises:
        ValueError: If a number is negative.

    Source: `numpy.random.SeedSequence`; without its mixing, neighbouring keys could start alike.
    """
    if min((seed, *key)) < 0:
        raise ValueError(f"seeds and keys are integers from 0 on, got {(seed, *key)}")
    sequence = np.random.SeedSequence(seed, spawn_key=key)  # as a spawn key, (0, 1) is not taken for (2**32,)
    return torch.Generator().manual_seed(int(sequence.generate_state(1)[0]))


def uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    """Draw float32 numbers of `shape`, uniform in [low, high)."""
    return torch.rand(shape, generator=generator) * (high - low) + low


def log_uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    """Draw float32 numbers of `shape` between `low` and `high`, as many per octave in each octave."""
    return uniform(shape, math.log(low), math.log(high), generator).exp()


def _stripes(n: int, size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw waves [n, 1, size, size] of random direction, period (5 to 40 px), softness, and their colours."""
    angle = uniform((n, 1, 1), 0, math.pi, generator)
    frequency = 2 * math.pi / log_uniform((n, 1, 1), 5, 40, generator)
    phase = uniform((n, 1, 1), 0, 2 * math.pi, generator)
    hardness = log_uniform((n, 1, 1), 1, 8, generator)  # 1 is a sine, 8 nearly a board fence
    colour = uniform((n, 3, 1, 1), -0.25, 0.25, generator)
    colour *= torch.rand(n, 1, 1, 1, generator=generator) < 0.5  # every second picture has none
    steps = torch.arange(size)
    across, down = frequency * angle.cos() * steps, (frequency * angle.sin() * steps).mT + phase
    wave = (across + down).sin_().mul_(hardness).clamp_(-1, 1)  # [n, size, size]
    return wave[:, None], colour


def grounds(n: int, size: int, clutter: float, generator: torch.Generator) -> torch.Tensor:
    """Draw grounds: a colour, random colours from coarse to fine, stripes on every second one.

    Args:
        n: How many.
        size: Side in px.
        clutter: Contrast of the texture and the stripes, 0 (one plain colour) to 1.
        generator: Where to draw from.

    Returns:
        [n, 3, size, size], float32, about 0 to 1 (a few values lie outside).
    """
    base = uniform((n, 3, 1, 1), 0.15, 0.85, generator)
    roughness = uniform((n, 1, 1, 1), 0.4, 0.95, generator)  # a scale's contrast over that of twice the scale
    colourful = uniform((n, 1, 1, 1), 0.1, 0.7, generator)
    contrast = clutter * uniform((n, 1, 1, 1), 0.05, 0.2, generator)
    field, amplitude, side = torch.zeros(3 * n, 1, 1, 1), torch.ones(n, 1, 1, 1), 4
    power = torch.zeros(n, 1, 1, 1)
    while side < size:
        noise = torch.randn(n, 3, side, side, generator=generator).mul_(amplitude).view(3 * n, 1, side, side)
        # As pictures of one channel, which `interpolate` enlarges twice as fast as those of three.
        field = F.interpolate(field, size=(side, side), mode="bilinear").add_(noise)
        power += amplitude**2
        amplitude, side = amplitude * roughness, 2 * side
    field = field.view(n, 3, *field.shape[2:]) / power.sqrt()  # a standard deviation of about 1
    field = base + contrast * (1.7 * field.mean(1, keepdim=True) + colourful * field)
    ground = F.interpolate(field.view(3 * n, 1, *field.shape[2:]), size=(size, size), mode="bilinear")
    return ground.view(n, 3, size, size).addcmul_(*_stripes(n, size, generator), value=clutter)


def develop(pictures: torch.Tensor, light: float, noise: float, generator: torch.Generator) -> torch.Tensor:
    """Let light fall from a side on drawn pictures and take them with a noisy camera.

    Args:
        pictures: [N, 3, H, W], float32, 0 to 1; it is overwritten.
        light: How much brighter or darker than in the middle the light may be at the end of an axis, 0 to 1.
        noise: Standard deviation of the normal noise in each value, of the range 0 to 1.
        generator: Where to draw from.

    Returns:
        [N, 3, H, W], uint8.
    """
    n, _, height, width = pictures.shape
    slope = uniform((n, 2, 1, 1), -light / 2, light / 2, generator)
    down, across = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
    brightness = 1 + slope[:, :1] * down + slope[:, 1:] * across  # [N, 1, H, W]
    # Normal numbers are slow to draw: each picture takes its grain from a random place on a shared strip.
    values = pictures[0].numel()
    strip = torch.randn((n // 16 + 2) * values, generator=generator)
    places = torch.randint(len(strip) - values + 1, (n,), generator=generator)
    grain = strip.unfold(0, values, 1)[places].view_as(pictures)
    pictures.mul_(brightness).add_(grain, alpha=noise)
    return pictures.mul_(255).round_().clamp_(0, 255).to(torch.uint8)


def tints(ground: torch.Tensor, brightness: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw a colour for each article that does not vanish in the ground behind it.

    Of 6 random colours, the first that is far enough (`CONTRAST`) from the ground, else the farthest.

    Args:
        ground: [N, 3], the ground's colour about the article, 0 to 1.
        brightness: [N], the article's mean brightness: how dark its shades make the tint, 0 to 1.
        generator: Where to draw from.

    Returns:
        [N, 3], float32, 0 to 1.
    """
    colours = torch.rand(len(ground), 6, 3, generator=generator)
    colours /= colours.amax(2, keepdim=True)
    colours *= uniform((len(ground), 6, 1), 0.5, 1, generator)
    distance = (brightness[:, None, None] * colours - ground[:, None]).norm(dim=2)  # [N, 6]
    first = distance.clamp(max=CONTRAST).argmax(1)  # argmax gives the first of equals
    return colours[torch.arange(len(ground)), first]
