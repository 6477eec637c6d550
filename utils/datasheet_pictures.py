"""The pictures of DATA.md: a strip of examples for each set, with their boxes, masks or depth drawn in."""

from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib import colormaps
from PIL import Image
from torchvision.transforms import v2
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

from utils import data
from utils.scenes import articles, scenes

HEIGHT = 112  # of a strip, in pixels
WIDTH = 900  # at most
GAP = 4

Strip = list[torch.Tensor]  # pictures [C, H, W] uint8, C is 1, 3 or 4 (RGBA)


def draw_all(folder: Path) -> None:
    """Write `NAME.jpg` for every set of which a picture may be shown.

    Args:
        folder: Where to; made if it is missing.

    Raises:
        DatasetUnavailable: If a set is not here and not to be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, pictures in STRIPS.items():
        picture = strip(pictures()).permute(1, 2, 0).numpy()
        Image.fromarray(picture).save(folder / f"{name}.jpg", quality=85)


def strip(pictures: Strip) -> torch.Tensor:
    """Lay pictures side by side, as many as fit, on white.

    Args:
        pictures: [C, H, W] uint8 each, of any size; C is 1, 3 or 4.

    Returns:
        [3, HEIGHT, at most WIDTH], uint8.
    """
    row, width = [], -GAP
    for picture in pictures:
        picture = _on_white(picture)
        scale = HEIGHT / picture.shape[1]
        exact = (
            v2.InterpolationMode.NEAREST if scale > 2 else v2.InterpolationMode.BILINEAR
        )  # keep pixels seen
        picture = v2.functional.resize(picture, [HEIGHT, round(picture.shape[2] * scale)], exact)
        width += GAP + picture.shape[2]
        if row and width > WIDTH:
            break
        row += [torch.full((3, HEIGHT, GAP), 255, dtype=torch.uint8), picture]
    return torch.cat(row[1:], dim=2)


def _on_white(picture: torch.Tensor) -> torch.Tensor:
    if len(picture) == 4:
        opacity = picture[3:].float() / 255
        picture = (picture[:3] * opacity + 255 * (1 - opacity)).round().to(torch.uint8)
    return picture.expand(3, -1, -1)


def _some(dataset: data.ImageSet, count: int = 8) -> Strip:
    return list(data.take(dataset, count, seed=1).images)


def _boxed(dataset: torch.utils.data.Dataset, indices: list[int], width: int) -> Strip:
    pairs = [dataset[index] for index in indices]
    return [
        draw_bounding_boxes(image, target["boxes"], colors="yellow", width=width) for image, target in pairs
    ]


def _masked(image: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    colors = [tuple(int(255 * part) for part in colormaps["tab20"](k % 20)[:3]) for k in range(len(masks))]
    return draw_segmentation_masks(image, masks, alpha=0.6, colors=colors)


def _depth(depth: torch.Tensor) -> torch.Tensor:
    """Colour depth or disparity from its 2nd to its 98th percentile; black where nothing was measured."""
    known = depth.isfinite() & (depth > 0)
    low, high = depth[known].quantile(torch.tensor([0.02, 0.98])).tolist()
    depth = (depth - low) / (high - low)
    colors = torch.from_numpy(colormaps["viridis"](depth.clamp(0, 1).nan_to_num().numpy(), bytes=True))
    return colors[..., :3].permute(2, 0, 1) * known


def _camvid() -> Strip:
    train, _, _ = data.camvid((180, 240))
    pairs = [train[index] for index in (0, 200)]
    drawn = [_masked(image, torch.stack([mask == k for k in range(11)])) for image, mask in pairs]
    return [picture for (image, _), masked in zip(pairs, drawn, strict=True) for picture in (image, masked)]


def _rgbd() -> Strip:
    goods = data.rgbd()
    return [goods.image, _masked(goods.image, goods.masks), _depth(goods.depth)]


def _rgbd_indoor() -> Strip:
    train, _, unseen = data.rgbd_indoor()
    return [picture for image, depth in (train[0], unseen[0]) for picture in (image, _depth(depth))]


def _photos() -> Strip:
    pair = data.stereo()
    return [*data.photos().values(), pair.left, _depth(pair.disparity)]


STRIPS: dict[str, Callable[[], Strip]] = {
    "mnist": lambda: _some(data.mnist()[0]),
    "fashion_mnist": lambda: _some(data.fashion_mnist()[0]),
    "cifar10": lambda: _some(data.cifar10()[0]),
    "cifar100": lambda: _some(data.cifar100()[0]),
    "hymenoptera": lambda: _some(data.hymenoptera()[0]),
    "cats_dogs": lambda: _some(data.cats_dogs()[0]),
    "camvid": _camvid,
    "bccd": lambda: _boxed(data.bccd()[0], [0, 1, 2, 3, 4], 4),
    "coco128": lambda: _boxed(data.coco128()[0], [0, 3, 6, 9, 12], 3),
    "gtsrb": lambda: _some(data.gtsrb()[0]),
    "rgbd_indoor": _rgbd_indoor,
    "trees": lambda: [
        *_boxed(data.trees()[0], [0], 8),
        *_boxed(data.trees()[1], range(len(data.trees()[1])), 3),
    ],
    "faces": lambda: _some(data.faces()[0]),
    "emoji": lambda: list(data.emoji(112, count=8).images),
    "cards": lambda: list(data.cards().images[::7]),
    "rgbd": _rgbd,
    "imagenet_samples": lambda: list(data.samples().images),
    "pedestrians": lambda: list(data.pedestrians(5, step=150)),
    "photos": _photos,
    "scenes": lambda: _boxed(scenes(8, 1)[0], range(8), 1),
    "articles": lambda: _some(articles()[0]),
    "tree_patches": lambda: _some(data.tree_patches()[0]),
}
