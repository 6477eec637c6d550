"""Articles of clothing: cut out, placed, and composed into scenes from front to back."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn import functional as F

from utils.data import FASHION_CLASSES
from utils.textures import log_uniform, uniform

DIM, BRIGHT = 4, 40  # of 255: what is darker is ground for certain, what is brighter an article
DARKEST = 0.35  # brightness of a black spot on an article, as a share of its tint's
MIN_PIXELS, MIN_VISIBLE = 40, 0.3  # an article of which less is to be seen is left out of the scene
PLACES = 12  # tries to find a place for an article
SEE_THROUGH = [
    FASHION_CLASSES.index(name) for name in ("Sandal", "Bag")
]  # straps and handles, not dark cloth


@dataclass(frozen=True)
class Difficulty:
    """How hard scenes are. Scenes of the default, `STANDARD`, compare the course's detectors.

    `EASY` has few large articles that do not hide each other, on calm grounds; `HARD` many that do.

    Args:
        articles: Fewest and most articles that are put into a scene, each number as likely; 0 to 255.
        sizes: Smallest and greatest side of an article's picture in px, log-uniform.
        rotation: Greatest turn to either side in degrees, 0 to 180.
        overlap: Share of an article's square that those in front of it may cover, 0 to 1, if there is room.
        clutter: Contrast of the ground's texture and stripes, 0 to 1.
        light: How much brighter or darker than in the middle it may be at the end of an axis, 0 to 1.
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
                raise ValueError(f"{name} must be 0 to {most}, got {getattr(self, name)}")
        for name, least, most in (("articles", 0, 255), ("sizes", 8, 4096)):
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                wanted = f"two numbers from {least} to {most}, the smaller first"
                raise ValueError(f"{name} must be {wanted}, got {(low, high)}")
        if not all(isinstance(number, int) for number in self.articles):
            raise ValueError(f"articles are counted in whole numbers, got {self.articles}")

    def largest(self) -> float:
        """Return the greatest side of the upright square around a turned article, in px."""
        angle = math.radians(min(self.rotation, 45))  # at 45 degrees it is greatest
        return self.sizes[1] * (math.cos(angle) + math.sin(angle))


STANDARD = Difficulty()
EASY = Difficulty((1, 3), (40, 60), overlap=0.0, clutter=0.2, light=0.2, noise=0.01)
HARD = Difficulty((4, 9), (20, 60), rotation=45.0, overlap=0.7, clutter=1.0, light=0.9, noise=0.1)


def cut_out(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cut articles out of Fashion-MNIST's black ground.

    A bright pixel belongs to the article; a dim one where most of its neighbourhood does too, for some dust
    lies around the articles. What then has such pixels to its left and right, above and below is dark cloth
    and belongs to it as well; in sandals and bags it is a gap, through which one sees.

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
        enclosed &= solid.cummax(axis).values.bool() & solid.flip(axis).cummax(axis).values.flip(axis).bool()
    dark_cloth = ~torch.isin(labels, torch.tensor(SEE_THROUGH))
    inside |= enclosed & dark_cloth[:, None, None, None]
    return torch.cat([inside, images / 255 * inside], 1)


def turn_and_scale(
    articles: torch.Tensor, centres: torch.Tensor, sides: torch.Tensor, angles: torch.Tensor, window: int
) -> torch.Tensor:
    """Draw articles into windows, turned and scaled.

    Args:
        articles: [N, 2, h, h], from `cut_out`.
        centres: [N, 2] xy in px, where the article's middle comes to lie; (0, 0) is the window's corner.
        sides: [N], side of the article's picture in px.
        angles: [N], in radians; the turn is clockwise as seen.
        window: Side of the windows in px.

    Returns:
        [N, 2, window, window], float32: opacity, and brightness times opacity.
    """
    cos, sin = angles.cos(), angles.sin()
    steps = torch.arange(window) + 0.5  # the middles of pixels
    x, y = (steps - centres.mT[..., None]) * (2 / sides)[:, None]  # [N, window] each, in units of half a side
    # As `affine_grid`: from the window back to the upright article. Sums of rows and columns are quicker.
    across = torch.stack([cos[:, None] * x, -sin[:, None] * x], 1)[:, :, None]  # [N, 2, 1, window]
    down = torch.stack([sin[:, None] * y, cos[:, None] * y], 1)[..., None]  # [N, 2, window, 1]
    grid = (across + down).permute(0, 2, 3, 1)
    return F.grid_sample(articles, grid, align_corners=False)


def shades(windows: torch.Tensor) -> torch.Tensor:
    """Turn the windows of `turn_and_scale` [N, 2, h, w] into the factor of the tint [N, 1, h, w]."""
    return DARKEST * windows[:, :1] + (1 - DARKEST) * windows[:, 1:]


def brightness(articles: torch.Tensor) -> torch.Tensor:
    """Return the mean of `shades` over each of the articles [N, 2, h, w] of `cut_out`, [N]."""
    return shades(articles).sum((1, 2, 3)) / articles[:, 0].sum((1, 2)).clamp(min=1)


class Layout(NamedTuple):
    """Where articles come to lie: [n, L] for n scenes of at most L articles, from front to back."""

    exists: torch.Tensor  # [n, L] bool
    sides: torch.Tensor  # [n, L] px
    angles: torch.Tensor  # [n, L] radians
    centres: torch.Tensor  # [n, L, 2] xy px


def lay_out(n: int, size: int, difficulty: Difficulty, generator: torch.Generator) -> Layout:
    """Draw how many articles each scene holds, and their sizes, turns and places.

    Args:
        n: How many scenes.
        size: Side of a scene in px; every article lies wholly inside.
        difficulty: Its `articles`, `sizes`, `rotation` and `overlap` count here.
        generator: Where to draw from.

    Returns:
        The layout; L is the greatest number of articles, but at least 1.
    """
    count = torch.randint(difficulty.articles[0], difficulty.articles[1] + 1, (n, 1), generator=generator)
    most = max(difficulty.articles[1], 1)  # a layer without articles rather than no layer
    sides = log_uniform((n, most), *difficulty.sizes, generator)
    turn = math.radians(difficulty.rotation)
    angles = uniform((n, most), -turn, turn, generator)
    halves = sides * (angles.cos().abs() + angles.sin().abs()) / 2  # of the upright square around each
    tries = torch.rand(n, most, PLACES, 2, generator=generator)
    tries = tries * (size - 2 * halves[..., None, None]) + halves[..., None, None]
    centres = torch.empty(n, most, 2)
    for layer in range(most):
        own, half = tries[:, layer, :, None], halves[:, layer, None, None, None]  # [n, PLACES, 1, 2]
        front, front_half = centres[:, None, :layer], halves[:, None, :layer, None]  # [n, 1, layer, 2]
        low = torch.maximum(own - half, front - front_half)
        sides_in_common = (torch.minimum(own + half, front + front_half) - low).clamp(min=0)
        covered = sides_in_common.prod(-1).sum(-1) / (2 * halves[:, layer, None]) ** 2  # [n, PLACES]
        first = covered.clamp(min=difficulty.overlap).argmin(1)  # argmin gives the first of equals
        centres[:, layer] = tries[torch.arange(n), layer, first]
    return Layout(torch.arange(most) < count, sides, angles, centres)


class Canvas:
    """Scenes that are composed from front to back: what is put in lies behind all that is there already.

    Args:
        n: How many scenes.
        size: Side of a scene in px.
        window: Side of the windows in which articles come.

    Attributes:
        paint: [n, 3, size, size], the colours so far, 0 where nothing is.
        through: [n, 1, size, size], the share of what lies behind that shows through, 1 where nothing is.
        numbers: [n, size, size] uint8, which article of its scene a pixel shows; 0 where there is none.
        counts: [n] int64, articles in each scene.
    """

    def __init__(self, n: int, size: int, window: int) -> None:
        """See the class."""
        self.paint, self.through = torch.zeros(n, 3, size, size), torch.ones(n, 1, size, size)
        self.numbers = torch.zeros(n, size, size, dtype=torch.uint8)
        self.counts = torch.zeros(n, dtype=torch.int64)
        # Views that are indexed by scene and corner, and give the pixels of the window there.
        maps = (self.paint.movedim(1, 3), self.through[:, 0], self.numbers)
        self._paint, self._through, self._numbers = (
            a_map.unfold(1, window, 1).unfold(2, window, 1) for a_map in maps
        )

    def put(
        self, scenes: torch.Tensor, corners: torch.Tensor, windows: torch.Tensor, tint: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Put one article into each of some scenes, unless too little of it would be seen.

        Args:
            scenes: [m], int64, no number twice.
            corners: [m, 2] xy, int64: where in the scene the window begins.
            windows: [m, 2, window, window], from `turn_and_scale`.
            tint: [m, 3].

        Returns:
            `put` [m] bool: whether it is in; of what is to be seen `boxes` [m, 4] float32 xyxy and `area` [m]
            float32 in px; `visible` [m] float32: its share of the whole article.
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


def tight_boxes(masks: torch.Tensor) -> torch.Tensor:
    """Return the smallest boxes around masks.

    Args:
        masks: [N, H, W], bool.

    Returns:
        [N, 4], float32 xyxy; x2 and y2 are edges, the last column and row plus 1. All 0 for an empty mask.
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
