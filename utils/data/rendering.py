"""What scenes are drawn from: grounds, tints, and articles that are placed on them."""

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from utils.data.classification import FASHION_CLASSES


def seeded(seed: int, *key: int) -> torch.Generator:
    """Return a generator of its own for each seed and key.

    Args:
        seed: From 0 on.
        key: Integers from 0 to 2**32 - 1: the part of a set, say, and the batch in it.

    Raises:
        ValueError: If the seed is negative or not a whole number.

    Source: `numpy.random.SeedSequence`; without its mixing, neighbouring keys could
    start alike.
    """
    if not isinstance(seed, Integral) or seed < 0:
        raise ValueError(f"seed must be a whole number from 0 on, got {seed}")
    # as a spawn key, (0, 1) is not taken for (2**32,)
    sequence = np.random.SeedSequence(seed, spawn_key=key)
    return torch.Generator().manual_seed(int(sequence.generate_state(1)[0]))


def uniform(
    shape: tuple[int, ...], low: float, high: float, generator: torch.Generator
) -> torch.Tensor:
    """Draw float32 numbers of `shape`, uniform in [low, high)."""
    return torch.rand(shape, generator=generator) * (high - low) + low


def log_uniform(
    shape: tuple[int, ...], low: float, high: float, generator: torch.Generator
) -> torch.Tensor:
    """Draw float32 numbers between `low` and `high`, equally many in each octave."""
    return uniform(shape, math.log(low), math.log(high), generator).exp()


def _stripes(
    n: int, size: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw waves [n, 1, size, size], 5 to 40 px long, and their colours."""
    angle = uniform((n, 1, 1), 0, math.pi, generator)
    frequency = 2 * math.pi / log_uniform((n, 1, 1), 5, 40, generator)
    phase = uniform((n, 1, 1), 0, 2 * math.pi, generator)
    # 1 is a sine, 8 nearly a board fence
    hardness = log_uniform((n, 1, 1), 1, 8, generator)
    colour = uniform((n, 3, 1, 1), -0.25, 0.25, generator)
    # every second image has none
    colour *= torch.rand(n, 1, 1, 1, generator=generator) < 0.5
    steps = torch.arange(size)
    across, down = (
        frequency * angle.cos() * steps,
        (frequency * angle.sin() * steps).mT + phase,
    )
    wave = (across + down).sin_().mul_(hardness).clamp_(-1, 1)  # [n, size, size]
    return wave[:, None], colour


def grounds(
    n: int, size: int, clutter: float, generator: torch.Generator
) -> torch.Tensor:
    """Draw grounds: a colour, a texture from coarse to fine, stripes on every second.

    Args:
        n: How many.
        size: Side in px.
        clutter: Contrast of the texture and the stripes, 0 (one plain colour) to 1.
        generator: Where to draw from.

    Returns:
        [n, 3, size, size], float32, about 0 to 1 (a few values lie outside).
    """
    base = uniform((n, 3, 1, 1), 0.15, 0.85, generator)
    # a scale's contrast over that of twice the scale
    roughness = uniform((n, 1, 1, 1), 0.4, 0.95, generator)
    colourful = uniform((n, 1, 1, 1), 0.1, 0.7, generator)
    contrast = clutter * uniform((n, 1, 1, 1), 0.05, 0.2, generator)
    field, amplitude, side = torch.zeros(3 * n, 1, 1, 1), torch.ones(n, 1, 1, 1), 4
    power = torch.zeros(n, 1, 1, 1)
    while side < size:
        noise = (
            torch.randn(n, 3, side, side, generator=generator)
            .mul_(amplitude)
            .view(3 * n, 1, side, side)
        )
        # As images of one channel, which `interpolate` enlarges twice as fast as
        # those of three.
        field = F.interpolate(field, size=(side, side), mode="bilinear").add_(noise)
        power += amplitude**2
        amplitude, side = amplitude * roughness, 2 * side
    # a standard deviation of about 1
    field = field.view(n, 3, *field.shape[2:]) / power.sqrt()
    field = base + contrast * (1.7 * field.mean(1, keepdim=True) + colourful * field)
    ground = F.interpolate(
        field.view(3 * n, 1, *field.shape[2:]), size=(size, size), mode="bilinear"
    )
    return ground.view(n, 3, size, size).addcmul_(
        *_stripes(n, size, generator), value=clutter
    )


def develop(
    images: torch.Tensor, light: float, noise: float, generator: torch.Generator
) -> torch.Tensor:
    """Let light fall from a side on drawn images and take them with a noisy camera.

    Args:
        images: [N, 3, H, W], float32, 0 to 1; it is overwritten.
        light: How much brighter or darker than in the middle the light may be at the
            end of an axis, 0 to 1.
        noise: Standard deviation of the normal noise in each value, of the range 0 to
            1.
        generator: Where to draw from.

    Returns:
        [N, 3, H, W], uint8.
    """
    n, _, height, width = images.shape
    slope = uniform((n, 2, 1, 1), -light / 2, light / 2, generator)
    down, across = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
    brightness = 1 + slope[:, :1] * down + slope[:, 1:] * across  # [N, 1, H, W]
    # Normal numbers are slow to draw: each image takes its grain from a random place
    # on a shared strip.
    values = images[0].numel()
    strip = torch.randn((n // 16 + 2) * values, generator=generator)
    places = torch.randint(len(strip) - values + 1, (n,), generator=generator)
    grain = strip.unfold(0, values, 1)[places].view_as(images)
    images.mul_(brightness).add_(grain, alpha=noise)
    return images.mul_(255).round_().clamp_(0, 255).to(torch.uint8)


# distance in RGB, each 0 to 1, that a tint keeps from the ground where there is a
# choice
CONTRAST = 0.4


def tints(
    ground: torch.Tensor, brightness: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Draw a colour for each article that does not vanish in the ground behind it.

    Of 6 random colours, the first that is far enough (`CONTRAST`) from the ground, else
    the farthest.

    Args:
        ground: [N, 3], the ground's colour about the article, 0 to 1.
        brightness: [N], the article's mean brightness: how dark its shades make the
            tint, 0 to 1.
        generator: Where to draw from.

    Returns:
        [N, 3], float32, 0 to 1.
    """
    colours = torch.rand(len(ground), 6, 3, generator=generator)
    colours /= colours.amax(2, keepdim=True)
    colours *= uniform((len(ground), 6, 1), 0.5, 1, generator)
    # [N, 6]
    distance = (brightness[:, None, None] * colours - ground[:, None]).norm(dim=2)
    first = distance.clamp(max=CONTRAST).argmax(1)  # argmax gives the first of equals
    return colours[torch.arange(len(ground)), first]


# of 255: what is darker is ground for certain, what is brighter an article
DIM, BRIGHT = 4, 40
# straps and handles, not dark cloth
SEE_THROUGH = [FASHION_CLASSES.index(name) for name in ("Sandal", "Bag")]


def cut_out(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cut articles out of Fashion-MNIST's black ground.

    A bright pixel belongs to the article; a dim one where most of its neighbourhood
    does too, for some dust lies around the articles. What then has such pixels to its
    left and right, above and below is dark cloth and belongs to it as well; in sandals
    and bags it is a gap, through which one sees.

    Args:
        images: [N, 1, 28, 28], uint8.
        labels: [N], int64, indices into `FASHION_CLASSES`.

    Returns:
        [N, 2, 28, 28], float32: opacity (0 or 1), and brightness (0 to 1; 0 outside).
    """
    mostly = F.avg_pool2d((images > DIM).float(), 3, stride=1, padding=1) > 0.5
    inside = (images > BRIGHT) | (images > DIM) & mostly
    solid = inside.to(torch.uint8)
    enclosed = torch.ones_like(inside)
    for axis in (-1, -2):
        enclosed &= (
            solid.cummax(axis).values.bool()
            & solid.flip(axis).cummax(axis).values.flip(axis).bool()
        )
    dark_cloth = ~torch.isin(labels, torch.tensor(SEE_THROUGH))
    inside |= enclosed & dark_cloth[:, None, None, None]
    return torch.cat([inside, images / 255 * inside], 1)


def turn_and_scale(
    articles: torch.Tensor,
    centres: torch.Tensor,
    sides: torch.Tensor,
    angles: torch.Tensor,
    window: int,
) -> torch.Tensor:
    """Draw articles into windows, turned and scaled.

    Args:
        articles: [N, 2, h, h], from `cut_out`.
        centres: [N, 2] xy in px, where the article's middle comes to lie; (0, 0) is the
            window's corner.
        sides: [N], side of the article's image in px.
        angles: [N], in radians; the turn is clockwise as seen.
        window: Side of the windows in px.

    Returns:
        [N, 2, window, window], float32: opacity, and brightness times opacity.
    """
    cos, sin = angles.cos(), angles.sin()
    steps = torch.arange(window) + 0.5  # the middles of pixels
    # [N, window] each, in units of half a side
    x, y = (steps - centres.mT[..., None]) * (2 / sides)[:, None]
    # As `affine_grid`: from the window back to the upright article. Sums of rows and
    # columns are quicker.
    # [N, 2, 1, window]
    across = torch.stack([cos[:, None] * x, -sin[:, None] * x], 1)[:, :, None]
    # [N, 2, window, 1]
    down = torch.stack([sin[:, None] * y, cos[:, None] * y], 1)[..., None]
    grid = (across + down).permute(0, 2, 3, 1)
    return F.grid_sample(articles, grid, align_corners=False)


DARKEST = 0.35  # brightness of a black spot on an article, as a share of its tint's


def shades(windows: torch.Tensor) -> torch.Tensor:
    """Turn windows [N, 2, h, w] of `turn_and_scale` into factors of the tint."""
    return DARKEST * windows[:, :1] + (1 - DARKEST) * windows[:, 1:]


def brightness(articles: torch.Tensor) -> torch.Tensor:
    """Return the mean of `shades` over each article [N, 2, h, w] of `cut_out`, [N]."""
    return shades(articles).sum((1, 2, 3)) / articles[:, 0].sum((1, 2)).clamp(min=1)


@dataclass(frozen=True)
class Difficulty:
    """How hard scenes are.

    Scenes of the default, `STANDARD`, compare the course's detectors. `EASY` has few
    large articles that do not hide each other, on calm grounds; `HARD` many that do.

    Args:
        articles: Fewest and most articles that are put into a scene, each number as
            likely; 0 to 255.
        sizes: Smallest and greatest side of an article's image in px, log-uniform.
        rotation: Greatest turn to either side in degrees, 0 to 180.
        overlap: Share of an article's square that those in front of it may cover, 0 to
            1, if there is room.
        clutter: Contrast of the ground's texture and stripes, 0 to 1.
        light: How much brighter or darker than in the middle it may be at the end of an
            axis, 0 to 1.
        noise: Standard deviation of the pixels' noise, of the range 0 to 1.

    Raises:
        ValueError: If a value is out of range or the smaller of two comes second.
    """

    articles: tuple[int, int] = (1, 6)
    sizes: tuple[float, float] = (24, 60)
    rotation: float = 14.0
    overlap: float = 0.5
    clutter: float = 0.6
    light: float = 0.5
    noise: float = 0.04

    def __post_init__(self) -> None:
        """Check the ranges."""
        ranges = {"rotation": 180, "overlap": 1, "clutter": 1, "light": 1, "noise": 1}
        for name, most in ranges.items():
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(
                    f"{name} must be 0 to {most}, got {getattr(self, name)}"
                )
        for name, kind, least, most in (
            ("articles", Integral, 0, 255),
            ("sizes", Real, 8, 4096),
        ):
            given = getattr(self, name)
            if not (
                isinstance(given, tuple | list)
                and len(given) == 2
                and all(isinstance(number, kind) for number in given)
                and least <= given[0] <= given[1] <= most
            ):
                numbers = "whole numbers" if kind is Integral else "numbers"
                raise ValueError(
                    f"{name} must be two {numbers} from {least} to {most}, the smaller "
                    f"first, got {given}"
                )

    def largest(self) -> float:
        """Return the greatest side of the square around a turned article, in px."""
        angle = math.radians(min(self.rotation, 45))  # at 45 degrees it is greatest
        return self.sizes[1] * (math.cos(angle) + math.sin(angle))


STANDARD = Difficulty()
EASY = Difficulty((1, 3), (40, 60), overlap=0.0, clutter=0.2, light=0.2, noise=0.01)
HARD = Difficulty(
    (4, 9), (20, 60), rotation=45.0, overlap=0.7, clutter=1.0, light=0.9, noise=0.1
)


PLACES = 12  # tries to find a place for an article


class Layout(NamedTuple):
    """Where articles lie: n scenes of at most L articles, from front to back."""

    exists: torch.Tensor  # [n, L] bool
    sides: torch.Tensor  # [n, L] px
    angles: torch.Tensor  # [n, L] radians
    centres: torch.Tensor  # [n, L, 2] xy px


def lay_out(
    n: int, size: int, difficulty: Difficulty, generator: torch.Generator
) -> Layout:
    """Draw how many articles each scene holds, and their sizes, turns and places.

    Args:
        n: How many scenes.
        size: Side of a scene in px; every article lies wholly inside.
        difficulty: Its `articles`, `sizes`, `rotation` and `overlap` count here.
        generator: Where to draw from.

    Returns:
        The layout; L is the greatest number of articles, but at least 1.
    """
    count = torch.randint(
        difficulty.articles[0], difficulty.articles[1] + 1, (n, 1), generator=generator
    )
    # a layer without articles rather than no layer
    most = max(difficulty.articles[1], 1)
    sides = log_uniform((n, most), *difficulty.sizes, generator)
    turn = math.radians(difficulty.rotation)
    angles = uniform((n, most), -turn, turn, generator)
    # of the upright square around each
    halves = sides * (angles.cos().abs() + angles.sin().abs()) / 2
    tries = torch.rand(n, most, PLACES, 2, generator=generator)
    tries = tries * (size - 2 * halves[..., None, None]) + halves[..., None, None]
    centres = torch.empty(n, most, 2)
    for layer in range(most):
        # [n, PLACES, 1, 2]
        own, half = tries[:, layer, :, None], halves[:, layer, None, None, None]
        # [n, 1, layer, 2]
        front, front_half = centres[:, None, :layer], halves[:, None, :layer, None]
        low = torch.maximum(own - half, front - front_half)
        sides_in_common = (torch.minimum(own + half, front + front_half) - low).clamp(
            min=0
        )
        # [n, PLACES]
        covered = sides_in_common.prod(-1).sum(-1) / (2 * halves[:, layer, None]) ** 2
        # argmin gives the first of equals
        first = covered.clamp(min=difficulty.overlap).argmin(1)
        centres[:, layer] = tries[torch.arange(n), layer, first]
    return Layout(torch.arange(most) < count, sides, angles, centres)


def tight_boxes(masks: torch.Tensor) -> torch.Tensor:
    """Return the smallest boxes around masks.

    Args:
        masks: [N, H, W], bool.

    Returns:
        [N, 4], float32 xyxy; x2 and y2 are edges, the last column and row plus 1. All 0
        for an empty mask.
    """
    edges = []
    for axis in (1, 2):  # columns that hold a pixel, then rows
        hit = masks.any(axis)  # [N, W], then [N, H]
        position = torch.arange(hit.shape[1])
        last = torch.where(hit, position + 1, 0).amax(1)
        first = torch.where(hit, position, hit.shape[1]).amin(1)
        edges.append((torch.minimum(first, last), last))
    (x1, x2), (y1, y2) = edges
    return torch.stack([x1, y1, x2, y2], 1).float()


# an article of which less is to be seen is left out of the scene
MIN_PIXELS, MIN_VISIBLE = 40, 0.3


class Canvas:
    """Scenes composed from front to back: what is put in lies behind what is there.

    Args:
        n: How many scenes.
        size: Side of a scene in px.
        window: Side of the windows in which articles come.

    Attributes:
        paint: [n, 3, size, size], the colours so far, 0 where nothing is.
        through: [n, 1, size, size], the share of what lies behind that shows through, 1
            where nothing is.
        numbers: [n, size, size] uint8, which article of its scene a pixel shows; 0
            where there is none.
        counts: [n] int64, articles in each scene.
    """

    def __init__(self, n: int, size: int, window: int) -> None:
        """See the class."""
        self.paint = torch.zeros(n, 3, size, size)
        self.through = torch.ones(n, 1, size, size)
        self.numbers = torch.zeros(n, size, size, dtype=torch.uint8)
        self.counts = torch.zeros(n, dtype=torch.int64)
        # Views that are indexed by scene and corner, and give the pixels of the window
        # there.
        maps = (self.paint.movedim(1, 3), self.through[:, 0], self.numbers)
        self._paint, self._through, self._numbers = (
            a_map.unfold(1, window, 1).unfold(2, window, 1) for a_map in maps
        )

    def put(
        self,
        scenes: torch.Tensor,
        corners: torch.Tensor,
        windows: torch.Tensor,
        tint: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Put one article into each of some scenes, if enough of it would be seen.

        Args:
            scenes: [m], int64, no number twice.
            corners: [m, 2] xy, int64: where in the scene the window begins.
            windows: [m, 2, window, window], from `turn_and_scale`.
            tint: [m, 3].

        Returns:
            `put` [m] bool: whether it is in; of what is to be seen `boxes` [m, 4]
            float32 xyxy and `area` [m] float32 in px; `visible` [m] float32: its share
            of the whole article.
        """
        at = scenes, corners[:, 1], corners[:, 0]
        inside = windows[:, 0] >= 0.5
        seen = inside & (self._numbers[at] == 0)
        area, whole = seen.sum((1, 2)), inside.sum((1, 2))
        visible = area / whole.clamp(min=1)
        put = (area >= MIN_PIXELS) & (visible >= MIN_VISIBLE)
        self.counts[scenes] += put
        shown = self._through[at] * put[:, None, None]  # [m, window, window]
        self._paint[at] += (shown[:, None] * shades(windows)) * tint[:, :, None, None]
        self._through[at] -= shown * windows[:, 0]
        number = (self.counts[scenes] * put).to(torch.uint8)
        self._numbers[at] += seen * number[:, None, None]
        boxes = tight_boxes(seen) + corners.repeat(1, 2)
        return {"put": put, "boxes": boxes, "area": area.float(), "visible": visible}
