"""Sets of one label an image."""

import csv
import re
from pathlib import Path

import torch
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.ops import box_iou
from torchvision.transforms.v2 import functional

from utils.data.dataset import ImageSet, read_parts
from utils.data.detection import trees
from utils.data.readers import (
    FETCH_AGAIN,
    Labelled,
    check_size,
    class_folders,
    expect_same,
    read_idx,
)
from utils.fetch import DatasetAbsent, fetch

# small samples, in a clone of the repository only
SAMPLES = Path(__file__).resolve().parents[2] / "tests" / "data"


def _read_idx_pair(folder: Path, part: str, classes: list[str]) -> ImageSet:
    """Read the images and the labels of one part of a set in MNIST's layout."""
    image_file = folder / "raw" / f"{part}-images-idx3-ubyte"
    label_file = folder / "raw" / f"{part}-labels-idx1-ubyte"
    images, labels = read_idx(image_file), read_idx(label_file)
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{image_file} holds {list(images.shape)} and {label_file} "
            f"{list(labels.shape)}, expected images [N, H, W] and labels [N]: delete "
            "both and fetch the set again"
        )
    if len(labels) and labels.max() >= len(classes):
        raise ValueError(
            f"{label_file} holds the label {labels.max()}, expected 0 to "
            f"{len(classes) - 1}: delete it and fetch the set again"
        )
    return ImageSet(images[:, None], labels.long(), classes)


def _idx_set(name: str, folder: str, classes: list[str]) -> tuple[ImageSet, ImageSet]:
    """Load a set of MNIST's four files; only where it is absent, a sample of it."""
    try:
        here = fetch(name)
    except DatasetAbsent as error:
        here = SAMPLES / folder
        if not here.is_dir():
            raise
        print(
            f"{error}\nUntil then, this runs on the small sample of it in tests/data: "
            f"expect lower numbers."
        )
    return (
        _read_idx_pair(here, "train", classes),
        _read_idx_pair(here, "t10k", classes),
    )


def mnist() -> tuple[ImageSet, ImageSet]:
    """Load MNIST: handwritten digits, 28x28 grey, classes "0" to "9".

    Where no source has it, a sample of it in the repository takes its place, and a
    printed line says so.

    Returns:
        60,000 images for training and 10,000 for the test, written by other people.
        CC BY-SA 3.0.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If a file is not what it should be; names it.

    Source: LeCun, Bottou, Bengio, Haffner, *Gradient-based learning applied to document
    recognition*, 1998.
    """
    return _idx_set("mnist", "MNIST", [str(digit) for digit in range(10)])


FASHION_CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"]
FASHION_CLASSES += ["Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


def fashion_mnist() -> tuple[ImageSet, ImageSet]:
    """Load Fashion-MNIST: photos of clothes from a shop, 28x28 grey, 10 classes.

    Where no source has it, a sample of it in the repository takes its place, and a
    printed line says so.

    Returns:
        60,000 images for training and 10,000 for the test. MIT.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If a file is not what it should be; names it.

    Source: Xiao, Rasul, Vollgraf, *Fashion-MNIST: a novel image dataset for
    benchmarking machine learning algorithms*, 2017.
    """
    return _idx_set("fashion_mnist", "FashionMNIST", FASHION_CLASSES)


CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()
CIFAR100_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach
couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster
house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket
rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip
turtle wardrobe whale willow_tree wolf woman worm
""".split()


def _read_folders(
    folder: Path, classes: list[str], size: int, leave_out: str = ""
) -> tuple[ImageSet, ImageSet]:
    """Read the images in `train` and `val`, which hold a folder for each class."""
    parts = [
        class_folders(folder / part, classes, leave_out) for part in ("train", "val")
    ]
    train, test = read_parts(parts, classes, size=size)
    return train, test


def _cifar(
    name: str, original: type[CIFAR10], classes: list[str]
) -> tuple[ImageSet, ImageSet]:
    """Load CIFAR from JPEG files, or from the pickles that `original` reads."""
    folder = fetch(name)
    pickles = (
        folder if folder.name == original.base_folder else folder / original.base_folder
    )
    if not pickles.is_dir():
        return _read_folders(folder, classes, 32)
    try:
        parts = [original(pickles.parent, train=train) for train in (True, False)]
    except RuntimeError as error:
        raise ValueError(
            f"{pickles} does not hold what it should: delete it and fetch the set again"
        ) from error
    train, test = (
        ImageSet(
            torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(),
            torch.tensor(part.targets),
            classes,
        )
        for part in parts
    )
    return train, test


def cifar10() -> tuple[ImageSet, ImageSet]:
    """Load CIFAR-10: colour photos, [3, 32, 32], of 10 classes, "airplane" to "truck".

    Returns:
        50,000 images for training and 10,000 for the test, each class equally often.
        A mirror has them as JPEG files of quality 90 instead of lossless, and 9,000 for
        the test. No formal licence: cite the report.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If a file is not what it should be; names all such files.

    Source: Krizhevsky, *Learning multiple layers of features from tiny images*, 2009.
    """
    return _cifar("cifar10", CIFAR10, CIFAR10_CLASSES)


def cifar100() -> tuple[ImageSet, ImageSet]:
    """Load CIFAR-100: colour photos, [3, 32, 32], of 100 classes, "apple" to "worm".

    Returns:
        50,000 images for training and 10,000 for the test, each class equally often.
        A mirror has them as JPEG files of quality 90 instead of lossless. No formal
        licence: cite the report.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If a file is not what it should be; names all such files.

    Source: Krizhevsky, *Learning multiple layers of features from tiny images*, 2009.
    """
    return _cifar("cifar100", CIFAR100, CIFAR100_CLASSES)


def hymenoptera(size: int = 256) -> tuple[ImageSet, ImageSet]:
    """Load photos of ants and bees, a part of ImageNet; classes "ants" and "bees".

    `imageNotFound.gif`, which the official archive has among the ants, is no photo; it
    is left out, and one printed line says so.

    Args:
        size: In pixels. The shorter side is resized to it, then the middle of the
            longer side is cropped.

    Returns:
        244 images for training (123 ants, 121 bees) and 153 for the test (70 and 83),
        [3, size, size]. Non-commercial research and education (ImageNet).

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If a file is not a readable image; names all such files.

    Source: chosen for PyTorch's tutorial on transfer learning from Deng, Dong, Socher,
    Li, Li, Fei-Fei, *ImageNet: a large-scale hierarchical image database*, 2009.
    """
    folder = fetch("hymenoptera")
    placeholder = folder / "train" / "ants" / "imageNotFound.gif"
    if placeholder.exists():
        print(
            f"{placeholder} is a placeholder for a photo that was lost; it is left out."
        )
    return _read_folders(folder, ["ants", "bees"], size, placeholder.name)


def cats_dogs(size: int = 128) -> tuple[ImageSet, ImageSet]:
    """Load photos of pets; classes "cats" and "dogs".

    Args:
        size: In pixels. The shorter side is resized to it, then the middle of the
            longer side is cropped.

    Returns:
        2,000 images for training and 900 for the test, [3, size, size], half of them
        cats. Research and education.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If a file is not a readable image; names all such files.

    Source: Elson, Douceur, Howell, Saul, *Asirra: a CAPTCHA that exploits
    interest-aligned manual image categorization*, 2007.
    """
    return _read_folders(fetch("cats_dogs"), ["cats", "dogs"], size)


SIGNS = """
speed limit 20, speed limit 30, speed limit 50, speed limit 60, speed limit 70, speed
limit 80, end of speed limit 80, speed limit 100, speed limit 120, no passing, no
passing for trucks, right of way at next intersection, priority road, yield, stop, no
vehicles, no trucks, no entry, general caution, curve left, curve right, double curve,
bumpy road, slippery road, road narrows right, road work, traffic signals, pedestrians,
children crossing, bicycles crossing, ice or snow, wild animals, end of all limits, turn
right ahead, turn left ahead, ahead only, straight or right, straight or left, keep
right, keep left, roundabout, end of no passing, end of no passing for trucks
"""
SIGN_CLASSES = " ".join(SIGNS.split()).split(", ")
TRACKS_OF_A_CLASS = 100_000  # more than the five digits of a track's number can say


def _tracks(files: list[Path], labels: torch.Tensor) -> torch.Tensor:
    """Return the track of each file, [N] int64; TTTTT_FFFFF names track and frame."""
    matches = [re.fullmatch(r"(\d{1,5})_\d+", path.stem) for path in files]
    if None in matches:
        bad = [str(f) for f, match in zip(files, matches, strict=True) if not match]
        raise ValueError(
            "expected names like 00003_00012 (track, frame), found:\n" + "\n".join(bad)
        )
    numbers = torch.tensor([int(match[1]) for match in matches])
    return labels * TRACKS_OF_A_CLASS + numbers


def _official_test(folder: Path) -> Labelled:
    """List the official test images with the labels of `GT-final_test.csv`."""
    table, images = folder / "GT-final_test.csv", folder / "GTSRB/Final_Test/Images"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    try:
        labels = {row["Filename"]: int(row["ClassId"]) for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{table} lacks Filename or ClassId ({error}): {FETCH_AGAIN}"
        ) from error
    files = sorted(images.glob("*.ppm"))
    expect_same([path.name for path in files], labels.keys(), table)
    return files, torch.tensor([labels[path.name] for path in files])


def gtsrb(size: int = 32) -> tuple[ImageSet, ImageSet]:
    """Load GTSRB: German traffic signs as a driving car saw them, 43 classes.

    The frames of one track show one physical sign. Both sets have `.tracks`, [N] int64:
    a number for each class and track, -1 in the test set, where it is unknown. For
    validation, split the training set by it, with scikit-learn:

        folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
        rest, part = next(folds.split(train.labels, train.labels, train.tracks))
        train, val = select(train, rest), select(train, part)

    Args:
        size: In pixels. The shorter side is resized to it, then the middle of the
            longer side is cropped.

    Returns:
        `(train, test)`, [N, 3, size, size]. A mirror has 80 images of each class for
        training and 25 for the test, all scaled to 32x32; the official set has 26,640
        and 12,630, of 15 to 250 pixels, more of frequent signs. No track is in both.
        Free for research.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If a file is not a readable image, or has no track in its name;
            names all such files.

    Source: Stallkamp, Schlipsing, Salmen, Igel, *Man vs. computer: benchmarking machine
    learning algorithms for traffic sign recognition*, 2012.
    """
    folder = fetch("gtsrb")
    names = [f"{label:05d}" for label in range(len(SIGN_CLASSES))]
    training = folder / "GTSRB" / "Training"
    if training.is_dir() and not (folder / "train").is_dir():
        # the tables hold sizes and boxes of the frames
        parts = [class_folders(training, names, "GT-*.csv"), _official_test(folder)]
    else:
        parts = [class_folders(folder / part, names) for part in ("train", "val")]
    tracks = _tracks(*parts[0])
    train, test = read_parts(parts, SIGN_CLASSES, size=size)
    train.tracks, test.tracks = tracks, torch.full_like(test.labels, -1)
    return train, test


MARGIN = 1.2  # side of a patch, in longer sides of the tree's box
# pixels on the longer side of a box: smaller trees are blurs and are left out
SMALLEST = 16
TRIES = 200  # places that are drawn for a patch of ground
SHARED = 0.2  # highest IoU of two patches of ground


def _squares(boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return squares around boxes [n, 4] xyxy, moved inside the image: [n, 4] int64."""
    sides = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) * MARGIN
    sides = sides.round().clamp(max=min(height, width))  # [n, 1]
    corner = ((boxes[:, :2] + boxes[:, 2:] - sides) / 2).round()
    corner = torch.minimum(corner.clamp(min=0), torch.tensor([width, height]) - sides)
    return torch.cat([corner, corner + sides], dim=1).long()


def _ground(
    squares: torch.Tensor,
    boxes: torch.Tensor,
    height: int,
    width: int,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find squares of the same sizes that touch no box, and which of them found one."""
    found, kept = torch.empty(0, 4), []
    for number, square in enumerate(squares):
        side = int(square[2] - square[0])
        room = torch.tensor([width - side + 1, height - side + 1])
        corners = (torch.rand(TRIES, 2, generator=generator) * room).floor()
        places = torch.cat([corners, corners + side], dim=1)  # [TRIES, 4]
        free = (box_iou(places, boxes) == 0).all(1)
        free &= (box_iou(places, found) <= SHARED).all(1)
        if free.any():
            found = torch.cat([found, places[free][:1]])
            kept.append(number)
    return found.long(), torch.tensor(kept, dtype=torch.int64)


def _cut(image: torch.Tensor, squares: torch.Tensor, size: int) -> torch.Tensor:
    """Cut squares [n, 4] out of an image and resize them: [n, 3, size, size]."""
    patches = image.new_empty(len(squares), 3, size, size)
    for patch, (x0, y0, x1, y1) in zip(patches, squares.tolist(), strict=True):
        cut = image[:, y0:y1, x0:x1]
        patch.copy_(functional.resize(cut, [size, size], antialias=True))
    return patches


def cut_patches(
    image: torch.Tensor, boxes: torch.Tensor, size: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut out a patch for each tree, and one of ground of the same size for each.

    Args:
        image: [3, H, W], uint8.
        boxes: [n, 4], xyxy in pixels: all trees of the image.
        size: The side of the patches, in pixels.
        generator: Draws the places of the ground.

    Returns:
        Ground and trees, [m, 3, size, size] uint8 each. A tree for which no place on
        the ground was found is left out, so that there are as many of both.
    """
    height, width = image.shape[-2:]
    boxes = boxes.as_subclass(torch.Tensor)
    large = (boxes[:, 2:] - boxes[:, :2]).amax(1) >= SMALLEST
    squares = _squares(boxes[large], height, width)
    ground, kept = _ground(squares, boxes, height, width, generator)
    return _cut(image, ground, size), _cut(image, squares[kept], size)


def tree_patches(size: int = 64, seed: int = 0) -> tuple[ImageSet, ImageSet]:
    """Cut patches out of the photos of `trees`; classes "ground" and "tree".

    A patch with a tree is the square around its box, 1.2 times as large, moved inside
    the photo at the edges; boxes under 16 pixels are left out. For each, a patch of
    ground of the same size is cut out of the same photo, where no box is, so that
    neither scale nor photo tells the class. Ground means grass, shadow, dead wood,
    road; here and there a tree that has no box. The split is by photo, as that of
    `trees`.

    Args:
        size: In pixels, to which patches are resized.
        seed: Of the places of the ground.

    Returns:
        `(train, test)`, [N, 3, size, size], both classes equally often: 1,122 patches
        of one photo and 508 of three, at the default seed. Some places in dense forest
        have no room for ground, so that not every tree is in it. MIT.

    Raises:
        DatasetUnavailable: If `trees` is neither here nor to be had.
        ValueError: If `size` is not positive, or a file of `trees` is not what it
            should be.

    Source: Weinstein, Marconi, Bohlman, Zare, White, *Individual tree-crown detection
    in RGB imagery using semi-supervised deep learning neural networks*, 2019; the files
    come with the package DeepForest.
    """
    check_size(size)
    generator, sets = torch.Generator().manual_seed(seed), []
    for photos in trees():
        pairs = [
            cut_patches(image, target["boxes"], size, generator)
            for image, target in photos
        ]
        ground, tree = (torch.cat(patches) for patches in zip(*pairs, strict=True))
        labels = torch.tensor([0, 1]).repeat_interleave(len(ground))
        sets.append(ImageSet(torch.cat([ground, tree]), labels, ["ground", "tree"]))
    return sets[0], sets[1]
