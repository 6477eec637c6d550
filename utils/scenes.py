"""Drawn pictures with the exact truth: scenes to detect and segment, single articles to classify."""

import math
from collections.abc import Sequence

import torch
from torch.nn import functional as F
from torch.utils.data import Dataset

from utils.composing import (
    EASY,
    HARD,
    STANDARD,
    Canvas,
    Difficulty,
    brightness,
    cut_out,
    lay_out,
    shades,
    turn_and_scale,
)
from utils.data import fashion_mnist
from utils.loading import ImageSet
from utils.textures import develop, grounds, log_uniform, seeded, tints, uniform

__all__ = ["EASY", "HARD", "STANDARD", "Difficulty", "SceneSet", "articles", "scenes"]

BATCH = 64  # pictures drawn at once: changing it changes every picture, since a batch shares a generator


class SceneSet(Dataset):
    """Scenes that fit in memory, with targets as torchvision's detection models take them.

    `dataset[3]` is `(image [3, S, S] uint8, target)`, `dataset[[3, 1, 4]]` a batch: `(images [3, 3, S, S],
    list of 3 targets)`. A target is a dict; its n objects stand in order from front to back:
    `boxes` [n, 4] float32 xyxy in px (x2 and y2 are edges: the last column and row, plus 1),
    `labels` [n] int64 from 1 on: `classes[label]` is the name, 0 the background,
    `masks` [n, S, S] bool (what is to be seen of an object), `area` [n] float32 (of the mask, in px),
    `visible` [n] float32 (its share of the whole article), `iscrowd` [n] int64 (all 0), `image_id` int.

    Args:
        images: [N, 3, S, S], uint8.
        numbers: [N, S, S], uint8: which object of its scene a pixel shows, from 1 on; 0 is the ground.
        counts: [N], int64: objects in each scene; the arrays below hold them scene after scene.
        objects: `boxes` [M, 4], `labels` [M], `area` [M], `visible` [M] as above, and `articles` [M] int64:
            which picture of the source each one was drawn from.
        classes: Names of the classes, the background first.

    Raises:
        ValueError: If the lengths do not belong together.
    """

    whole_batches = True  # dataset[[3, 1, 4]] is a batch: `make_loader` asks for whole ones

    def __init__(
        self,
        images: torch.Tensor,
        numbers: torch.Tensor,
        counts: torch.Tensor,
        objects: dict[str, torch.Tensor],
        classes: Sequence[str],
    ) -> None:
        """See the class."""
        if not len(images) == len(numbers) == len(counts):
            raise ValueError(f"{len(images)} images, {len(numbers)} maps of objects, {len(counts)} counts")
        lengths = {name: len(values) for name, values in objects.items()}
        if set(lengths.values()) != {int(counts.sum())}:
            raise ValueError(f"the counts promise {int(counts.sum())} objects, the arrays hold {lengths}")
        self.images, self.numbers, self.counts, self.objects = images, numbers, counts, objects
        self.classes = list(classes)
        self.starts = counts.cumsum(0) - counts  # [N], a scene's first object in the arrays

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self.images)

    def _target(self, index: int) -> dict[str, torch.Tensor | int]:
        """Return the target of one scene."""
        start, n = int(self.starts[index]), int(self.counts[index])
        names = ("boxes", "labels", "area", "visible")
        target = {name: self.objects[name][start : start + n] for name in names}
        target["masks"] = self.numbers[index] == torch.arange(1, n + 1, dtype=torch.uint8)[:, None, None]
        return {**target, "iscrowd": torch.zeros(n, dtype=torch.int64), "image_id": index}

    def __getitem__(
        self, index: int | slice | Sequence[int] | torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor | int] | list[dict[str, torch.Tensor | int]]]:
        """Return one scene, or a batch of them."""
        picked = torch.arange(len(self))[index].tolist()
        if isinstance(picked, int):
            return self.images[picked], self._target(picked)
        return self.images[picked], [self._target(one) for one in picked]

    def semantic(self, index: int | slice | Sequence[int] | torch.Tensor) -> torch.Tensor:
        """Return the class of each pixel, int64 [S, S] for one scene, [B, S, S] for a batch; 0 is ground."""
        most = int(self.counts.max()) if len(self) else 0
        label_of = torch.zeros(len(self), most + 1, dtype=torch.int64)  # [scene, number in it]
        numbers = torch.arange(1, most + 1)
        label_of[:, 1:][numbers <= self.counts[:, None]] = self.objects["labels"]
        numbers = self.numbers[index].long()
        return label_of[index].gather(-1, numbers.flatten(-2)).view(numbers.shape)


def _draw_scenes(
    source: ImageSet, size: int, difficulty: Difficulty, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Draw a batch of scenes; return images, numbers, counts and objects as `SceneSet` takes them."""
    window = min(size, math.ceil(difficulty.largest()) + 2)
    layout = lay_out(BATCH, size, difficulty, generator)
    layers = layout.exists.shape[1]
    chosen = torch.randint(len(source), (BATCH, layers), generator=generator)
    ground = grounds(BATCH, size, difficulty.clutter, generator)
    cells = (layout.centres * (8 / size)).long()  # the ground's colour is told apart in 8 x 8 cells
    mean = F.adaptive_avg_pool2d(ground[:, :, ::4, ::4], 8)
    about = mean[torch.arange(BATCH)[:, None], :, cells[..., 1], cells[..., 0]]  # [BATCH, layers, 3]
    corners = (layout.centres - window / 2).round().long().clamp(0, size - window)
    canvas, columns = Canvas(BATCH, size, window), []
    for layer in range(layers):
        rows = layout.exists[:, layer].nonzero()[:, 0]
        images, labels = source[chosen[rows, layer]]
        centres = layout.centres[rows, layer] - corners[rows, layer]
        sides, angles = layout.sides[rows, layer], layout.angles[rows, layer]
        cut = cut_out(images, labels)
        windows = turn_and_scale(cut, centres, sides, angles, window)
        tint = tints(about[rows, layer], brightness(cut), generator)
        truth = canvas.put(rows, corners[rows, layer], windows, tint)
        columns.append({"scene": rows, "labels": labels + 1, "articles": chosen[rows, layer], **truth})
    pictures = ground.mul_(canvas.through).add_(canvas.paint)
    images = develop(pictures, difficulty.light, difficulty.noise, generator)
    return images, canvas.numbers, canvas.counts, _in_order(columns)


def _in_order(layers: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Join the layers' objects, scene after scene, each from front to back, without those that are not in."""
    joined = {name: torch.cat([layer[name] for layer in layers]) for name in layers[0]}
    put, scene = joined.pop("put"), joined.pop("scene")
    order = scene[put].argsort(stable=True)
    return {name: values[put][order] for name, values in joined.items()}


def _scene_part(
    source: ImageSet, n: int, part: int, size: int, difficulty: Difficulty, seed: int
) -> SceneSet:
    """Draw `n` scenes, batch after batch, each with a generator of its own."""
    images = torch.empty(n, 3, size, size, dtype=torch.uint8)
    numbers, counts = torch.empty(n, size, size, dtype=torch.uint8), torch.empty(n, dtype=torch.int64)
    objects = []
    for start in range(0, n, BATCH):
        batch = _draw_scenes(source, size, difficulty, seeded(seed, part, start // BATCH))
        kept = min(BATCH, n - start)  # the last batch is drawn whole: more scenes would change none of these
        for whole, drawn in zip((images, numbers, counts), batch[:3], strict=True):
            whole[start : start + kept] = drawn[:kept]
        n_objects = int(batch[2][:kept].sum())
        objects.append({name: values[:n_objects] for name, values in batch[3].items()})
    objects = {name: torch.cat([batch[name] for batch in objects]) for name in objects[0]}
    return SceneSet(images, numbers, counts, objects, ["background", *source.classes])


def scenes(
    n_train: int = 4000,
    n_test: int = 500,
    *,
    seed: int = 0,
    size: int = 128,
    difficulty: Difficulty = STANDARD,
) -> tuple[SceneSet, SceneSet]:
    """Draw scenes: articles of Fashion-MNIST, tinted, that hide each other on textured grounds.

    Scenes for the test hold articles of Fashion-MNIST's test part alone. An article of which less than 40 px
    or 30 % would be seen is left out, so all that is in a picture has its box. Scene i depends on `seed`,
    `size`, `difficulty` and i, not on how many there are: `scenes(200)` begins with `scenes(100)`. The same
    arguments give the same bytes (with one version of PyTorch, on one kind of processor).

    Args:
        n_train: How many for training, from 1 on.
        n_test: How many for the test, from 1 on.
        seed: From 0 on.
        size: Side of a scene in px; the largest article must fit.
        difficulty: How hard they are.

    Returns:
        Training scenes, test scenes. About 65 kB of memory a scene at 128 px.

    Raises:
        ValueError: If a number is out of range or the articles do not fit.
        DatasetUnavailable: If Fashion-MNIST is neither here nor to be had.

    Source: Xiao, Rasul, Vollgraf, *Fashion-MNIST*, 2017, for the articles.
    """
    if min(n_train, n_test) < 1:
        raise ValueError(f"each part needs at least one scene, got n_train={n_train}, n_test={n_test}")
    if difficulty.largest() > size:
        least = math.ceil(difficulty.largest())
        raise ValueError(
            f"size must be {least} px at least for the largest article, turned, got {size}: "
            "make the scenes larger, or difficulty.sizes smaller"
        )
    train, test = fashion_mnist()
    return (
        _scene_part(train, n_train, 0, size, difficulty, seed),
        _scene_part(test, n_test, 1, size, difficulty, seed),
    )


def _article_part(source: ImageSet, part: int, size: int, seed: int) -> ImageSet:
    """Draw each article of `source` once, in its order."""
    images = torch.empty(len(source), 3, size, size, dtype=torch.uint8)
    batch = BATCH * (128 // size) ** 2
    for start in range(0, len(source), batch):
        generator = seeded(seed, part, start // batch)
        # The last batch is filled up, so that a picture is the same however many come after it.
        chosen = torch.arange(start, start + batch) % len(source)
        ground = grounds(batch, size, 0.6, generator)
        sides = log_uniform((batch,), 0.65, 0.95, generator) * size
        centres = size / 2 + uniform((batch, 2), -0.5, 0.5, generator) * (size - sides)[:, None]
        angles = uniform((batch,), -math.pi / 12, math.pi / 12, generator)
        cut = cut_out(*source[chosen])
        windows = turn_and_scale(cut, centres, sides, angles, size)
        tint = tints(ground.mean((2, 3)), brightness(cut), generator)[:, :, None, None]
        pictures = ground.mul_(1 - windows[:, :1]).add_(shades(windows) * tint)
        pictures = develop(pictures, 0.5, 0.04, generator)
        images[start : start + batch] = pictures[: len(source) - start]
    return ImageSet(images, source.labels, source.classes)


def articles(size: int = 32, *, seed: int = 0) -> tuple[ImageSet, ImageSet]:
    """Draw articles: every picture of Fashion-MNIST once, tinted, turned, on a textured ground, in colour.

    The stand-in for sets of 10 classes of colour pictures. Picture and label i come from picture i of
    Fashion-MNIST's part of the same name. The same seed gives the same bytes (with one version of PyTorch).

    Args:
        size: Side in px, 16 to 128.
        seed: From 0 on.

    Returns:
        60,000 pictures for training and 10,000 for the test, [3, size, size]. MIT, as Fashion-MNIST is.

    Raises:
        ValueError: If `size` or `seed` is out of range.
        DatasetUnavailable: If Fashion-MNIST is neither here nor to be had.

    Source: Xiao, Rasul, Vollgraf, *Fashion-MNIST*, 2017, for the articles.
    """
    if not 16 <= size <= 128:
        raise ValueError(f"size must be 16 to 128 px, got {size}")
    train, test = fashion_mnist()
    return _article_part(train, 2, size, seed), _article_part(test, 3, size, seed)
