"""Drawn images with exact ground truth: scenes to detect, articles to classify."""

import math
from numbers import Integral

import torch
from torch.nn import functional as F

from utils.data.classification import fashion_mnist
from utils.data.dataset import ImageSet, SceneSet
from utils.data.rendering import (
    STANDARD,
    Canvas,
    Difficulty,
    brightness,
    cut_out,
    develop,
    grounds,
    lay_out,
    log_uniform,
    seeded,
    shades,
    tints,
    turn_and_scale,
    uniform,
)

# images drawn at once: changing it changes every image, since a batch shares a
# generator
BATCH = 64


def _draw_scenes(
    source: ImageSet, size: int, difficulty: Difficulty, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Draw a batch: images, numbers, counts and objects, as `SceneSet` takes them."""
    window = min(size, math.ceil(difficulty.largest()) + 2)
    layout = lay_out(BATCH, size, difficulty, generator)
    layers = layout.exists.shape[1]
    chosen = torch.randint(len(source), (BATCH, layers), generator=generator)
    ground = grounds(BATCH, size, difficulty.clutter, generator)
    # the ground's colour is told apart in 8 x 8 cells
    cells = (layout.centres * (8 / size)).long()
    mean = F.adaptive_avg_pool2d(ground[:, :, ::4, ::4], 8)
    # [BATCH, layers, 3]
    about = mean[torch.arange(BATCH)[:, None], :, cells[..., 1], cells[..., 0]]
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
        columns.append(
            {
                "scene": rows,
                "labels": labels + 1,
                "articles": chosen[rows, layer],
                **truth,
            }
        )
    drawn = ground.mul_(canvas.through).add_(canvas.paint)
    images = develop(drawn, difficulty.light, difficulty.noise, generator)
    return images, canvas.numbers, canvas.counts, _in_order(columns)


def _in_order(layers: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Join what the layers put in, scene after scene, each from front to back."""
    joined = {name: torch.cat([layer[name] for layer in layers]) for name in layers[0]}
    put, scene = joined.pop("put"), joined.pop("scene")
    order = scene[put].argsort(stable=True)
    return {name: values[put][order] for name, values in joined.items()}


def _scene_part(
    source: ImageSet, n: int, part: int, size: int, difficulty: Difficulty, seed: int
) -> SceneSet:
    """Draw `n` scenes, batch after batch, each with a generator of its own."""
    images = torch.empty(n, 3, size, size, dtype=torch.uint8)
    numbers = torch.empty(n, size, size, dtype=torch.uint8)
    counts = torch.empty(n, dtype=torch.int64)
    objects = []
    for start in range(0, n, BATCH):
        batch = _draw_scenes(
            source, size, difficulty, seeded(seed, part, start // BATCH)
        )
        # the last batch is drawn whole: more scenes would change none of these
        kept = min(BATCH, n - start)
        for whole, drawn in zip((images, numbers, counts), batch[:3], strict=True):
            whole[start : start + kept] = drawn[:kept]
        n_objects = int(batch[2][:kept].sum())
        objects.append({name: values[:n_objects] for name, values in batch[3].items()})
    objects = {
        name: torch.cat([batch[name] for batch in objects]) for name in objects[0]
    }
    return SceneSet(images, numbers, counts, objects, ["background", *source.classes])


HELD_BACK = 10  # with validation scenes, the last tenth of the training articles is


def scenes(
    n_train: int = 4000,
    n_test: int = 500,
    *,
    validation: int = 0,
    seed: int = 0,
    size: int = 128,
    difficulty: Difficulty = STANDARD,
) -> tuple[SceneSet, ...]:
    """Draw scenes: tinted articles of Fashion-MNIST that hide each other on textures.

    Scenes for the test hold articles of Fashion-MNIST's test part alone, and scenes for
    validation the last tenth of its training articles, which the training scenes then
    do without. An article of which less than 40 px or 30 % would be seen is left out,
    so all that is in an image has its box. Scene i depends on `seed`, `size`,
    `difficulty`, i, and on whether there are validation scenes, not on how many there
    are: `scenes(200)` begins with `scenes(100)`. The same arguments give the same bytes
    (with one version of PyTorch, on one kind of processor).

    Args:
        n_train: How many for training, from 1 on.
        n_test: How many for the test, from 1 on.
        validation: How many to choose on, from 0 on.
        seed: From 0 on.
        size: Side of a scene in px; the largest article must fit.
        difficulty: How hard they are.

    Returns:
        `(train, test)`; if there are validation scenes, `(train, validation, test)`.
        `.objects["articles"]` are numbers in Fashion-MNIST's training part, for the
        test in its test part. About 65 kB of memory a scene at 128 px.

    Raises:
        ValueError: If a number is out of range or the articles do not fit.
        DatasetUnavailable: If Fashion-MNIST is neither here nor to be had.

    Source: Xiao, Rasul, Vollgraf, *Fashion-MNIST*, 2017, for the articles.
    """
    counts = {"n_train": n_train, "n_test": n_test, "size": size}
    for name, value in (counts | {"validation": validation}).items():
        least = 0 if name == "validation" else 1
        if not isinstance(value, Integral) or value < least:
            raise ValueError(
                f"{name} must be a whole number from {least} on, got {value}"
            )
    if not isinstance(difficulty, Difficulty):
        raise ValueError(
            f"difficulty must be a Difficulty, such as EASY or HARD, got {difficulty!r}"
        )
    if difficulty.largest() > size:
        raise ValueError(
            f"size must be {math.ceil(difficulty.largest())} px at least for the "
            f"largest article, turned, got {size}: make the scenes larger, or "
            "difficulty.sizes smaller"
        )
    articles, test = fashion_mnist()
    kept = len(articles) - (len(articles) // HELD_BACK if validation else 0)
    train, held_back = (
        ImageSet(articles.images[some], articles.labels[some], articles.classes)
        for some in (slice(kept), slice(kept, None))
    )
    more = (size, difficulty, seed)
    parts = [_scene_part(train, n_train, 0, *more), _scene_part(test, n_test, 1, *more)]
    if validation:
        # parts 2 and 3 are those of `articles`
        parts.insert(1, _scene_part(held_back, validation, 4, *more))
        parts[1].objects["articles"] += kept
    return tuple(parts)


def _article_part(source: ImageSet, part: int, size: int, seed: int) -> ImageSet:
    """Draw each article of `source` once, in its order."""
    images = torch.empty(len(source), 3, size, size, dtype=torch.uint8)
    batch = BATCH * (128 // size) ** 2
    for start in range(0, len(source), batch):
        generator = seeded(seed, part, start // batch)
        # The last batch is filled up, so that an image is the same however many come
        # after it.
        chosen = torch.arange(start, start + batch) % len(source)
        ground = grounds(batch, size, 0.6, generator)
        sides = log_uniform((batch,), 0.65, 0.95, generator) * size
        off_middle = uniform((batch, 2), -0.5, 0.5, generator)
        centres = size / 2 + off_middle * (size - sides)[:, None]
        angles = uniform((batch,), -math.pi / 12, math.pi / 12, generator)
        cut = cut_out(*source[chosen])
        windows = turn_and_scale(cut, centres, sides, angles, size)
        tint = tints(ground.mean((2, 3)), brightness(cut), generator)[:, :, None, None]
        drawn = ground.mul_(1 - windows[:, :1]).add_(shades(windows) * tint)
        drawn = develop(drawn, 0.5, 0.04, generator)
        images[start : start + batch] = drawn[: len(source) - start]
    return ImageSet(images, source.labels, source.classes)


def articles(size: int = 32, *, seed: int = 0) -> tuple[ImageSet, ImageSet]:
    """Draw articles: each image of Fashion-MNIST, tinted and turned, on a texture.

    The stand-in for sets of 10 classes of colour images. Image and label i come
    from image i of Fashion-MNIST's part of the same name. The same seed gives the
    same bytes (with one version of PyTorch).

    Args:
        size: Side in px, 16 to 128.
        seed: From 0 on.

    Returns:
        60,000 images for training and 10,000 for the test, [3, size, size]. MIT, as
        Fashion-MNIST is.

    Raises:
        ValueError: If `size` or `seed` is out of range.
        DatasetUnavailable: If Fashion-MNIST is neither here nor to be had.

    Source: Xiao, Rasul, Vollgraf, *Fashion-MNIST*, 2017, for the articles.
    """
    if size not in range(16, 129):
        raise ValueError(f"size must be a whole number, 16 to 128 px, got {size}")
    train, test = fashion_mnist()
    return _article_part(train, 2, size, seed), _article_part(test, 3, size, seed)
