"""Sets of photos with one label each: CIFAR, ants and bees, cats and dogs, samples of large sets."""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.models import MobileNet_V2_Weights

from utils.fetch import fetch
from utils.loading import ImageSet
from utils.pictures import Labelled, class_folders, read_pictures, wrong_layout

__all__ = ["cats_dogs", "cifar10", "cifar100", "hymenoptera", "samples"]

CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()
CIFAR100_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard
lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark
shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone
television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
""".split()
SAMPLE_SIZE = {"imagenet": 512, "cifar10": 32, "cifar100": 32}  # pixels


def read_parts(
    parts: Sequence[Labelled], classes: Sequence[str], mode: str = "RGB", *, size: int | None = None
) -> list[ImageSet]:
    """Read the parts of a set, training and test, say.

    Args:
        parts: Files and labels of each part.
        classes: The names of the classes.
        mode: As for `read_pictures`.
        size: As for `read_pictures`.

    Returns:
        An `ImageSet` for each part.

    Raises:
        ValueError: As `read_pictures`, with the bad files of all parts in one message.
    """
    sets, faults = [], []
    for files, labels in parts:
        try:
            sets.append(ImageSet(read_pictures(files, mode, size=size), labels, classes))
        except ValueError as error:
            faults.append(str(error))
    if faults:
        raise ValueError("\n".join(faults))
    return sets


def _cifar(name: str, original: type[CIFAR10], classes: list[str]) -> tuple[ImageSet, ImageSet]:
    """Load CIFAR from JPEG files, or from the pickles that torchvision's class `original` reads."""
    folder = fetch(name)
    pickles = folder if folder.name == original.base_folder else folder / original.base_folder
    if pickles.is_dir():
        try:
            parts = [original(pickles.parent, train=train) for train in (True, False)]
        except RuntimeError as error:
            raise ValueError(
                f"{pickles} does not hold what it should: delete it and fetch {name} again"
            ) from error
        if parts[0].classes != classes:
            raise ValueError(f"{pickles} names its classes {parts[0].classes}, expected {classes}")
        sets = [
            ImageSet(
                torch.from_numpy(p.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(p.targets), classes
            )
            for p in parts
        ]
    elif (folder / "train").is_dir():
        sets = read_parts([class_folders(folder / part, classes) for part in ("train", "val")], classes)
    else:
        raise wrong_layout(folder, "the folders train and val", original.base_folder)
    for part in sets:
        if part.images.shape[1:] != (3, 32, 32):
            raise ValueError(
                f"{folder} holds pictures of {list(part.images.shape[1:])}, expected [3, 32, 32]"
            )
    return sets[0], sets[1]


def cifar10() -> tuple[ImageSet, ImageSet]:
    """Load CIFAR-10: colour photos, [3, 32, 32], of 10 classes, "airplane" to "truck".

    Returns:
        50,000 pictures for training and 10,000 for the test, each class equally often. A mirror has them as
        JPEG files of quality 90 instead of lossless, and 9,000 for the test. No formal licence: cite the
        report.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If a file is not what it should be; names all such files.

    Source: Krizhevsky, *Learning multiple layers of features from tiny images*, 2009.
    """
    return _cifar("cifar10", CIFAR10, CIFAR10_CLASSES)


def cifar100() -> tuple[ImageSet, ImageSet]:
    """Load CIFAR-100: colour photos, [3, 32, 32], of 100 classes, "apple" to "worm".

    Returns:
        50,000 pictures for training and 10,000 for the test, each class equally often. A mirror has them as
        JPEG files of quality 90 instead of lossless. No formal licence: cite the report.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If a file is not what it should be; names all such files.

    Source: Krizhevsky, *Learning multiple layers of features from tiny images*, 2009.
    """
    return _cifar("cifar100", CIFAR100, CIFAR100_CLASSES)


def _two_parts(
    folder: Path, classes: list[str], size: int, leave_out: Sequence[Path] = ()
) -> tuple[ImageSet, ImageSet]:
    """Load photos of any size from `train` and `val`, as squares."""
    if not (folder / "train").is_dir():
        raise wrong_layout(folder, "the folders train and val")
    parts = [class_folders(folder / part, classes, leave_out) for part in ("train", "val")]
    train, test = read_parts(parts, classes, size=size)
    return train, test


def hymenoptera(size: int = 256) -> tuple[ImageSet, ImageSet]:
    """Load photos of ants and bees, a part of ImageNet; classes "ants" and "bees".

    `imageNotFound.gif`, which the official archive has among the ants, is no photo: it is left out, and one
    printed line says so.

    Args:
        size: In pixels. The shorter side is resized to it, then the middle of the longer side is cropped.

    Returns:
        244 pictures for training (123 ants, 121 bees) and 153 for the test (70 and 83), [3, size, size].
        Non-commercial research and education (ImageNet).

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If a file is no readable picture; names all such files.

    Source: chosen for PyTorch's tutorial on transfer learning from Deng, Dong, Socher, Li, Li, Fei-Fei,
    *ImageNet: a large-scale hierarchical image database*, 2009.
    """
    folder = fetch("hymenoptera")
    placeholder = folder / "train" / "ants" / "imageNotFound.gif"
    if placeholder.exists():
        print(f"{placeholder} is a placeholder for a photo that was lost; it is left out.")
    return _two_parts(folder, ["ants", "bees"], size, [placeholder])


def cats_dogs(size: int = 128) -> tuple[ImageSet, ImageSet]:
    """Load photos of pets; classes "cats" and "dogs".

    Args:
        size: In pixels. The shorter side is resized to it, then the middle of the longer side is cropped.

    Returns:
        2,000 pictures for training and 900 for the test, [3, size, size], half of them cats. Research and
        education.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If a file is no readable picture; names all such files.

    Source: Elson, Douceur, Howell, Saul, *Asirra: a CAPTCHA that exploits interest-aligned manual image
    categorization*, 2007.
    """
    return _two_parts(fetch("cats_dogs"), ["cats", "dogs"], size)


def samples(name: str = "imagenet") -> ImageSet:
    """Load a handful of pictures of a large set, to look at or to show to a pretrained network.

    Args:
        name: "imagenet" (photos, [3, 512, 512], 1,000 classes in the order of torchvision's weights),
            "cifar10" or "cifar100" ([3, 32, 32], classes as in `cifar10` and `cifar100`). A photo of another
            size is resized so that its shorter side fits, then the middle of the longer side is cropped.

    Returns:
        20 pictures, whose labels are indices into `.classes`. One set: they are too few to split. ImageNet:
        non-commercial research and education; the package they come with: MIT.

    Raises:
        DatasetUnavailable: If they are neither here nor to be had.
        ValueError: If there is no such sample, or a file is not what it should be; names all such files.

    Source: Rauber, Brendel, Bethge, *Foolbox: a Python toolbox to benchmark the robustness of machine
    learning models*, 2017. The pictures: Deng, Dong, Socher, Li, Li, Fei-Fei, *ImageNet: a large-scale
    hierarchical image database*, 2009; Krizhevsky, *Learning multiple layers of features from tiny images*,
    2009.
    """
    if name not in SAMPLE_SIZE:
        raise ValueError(f"expected one of {', '.join(SAMPLE_SIZE)}, got {name!r}")
    classes = {"cifar10": CIFAR10_CLASSES, "cifar100": CIFAR100_CLASSES}.get(name)
    classes = classes or MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"]
    folder = fetch("imagenet_samples")
    files = sorted(folder.glob(f"{name}_*"))
    if not files:
        raise wrong_layout(folder, f"files like {name}_00_7.png (number, label)")
    labels = [re.fullmatch(rf"{name}_\d+_(\d+)\.\w+", path.name) for path in files]
    bad = [path.name for path, m in zip(files, labels, strict=True) if m is None or int(m[1]) >= len(classes)]
    if bad:
        raise ValueError(f"{folder}: the names {', '.join(bad)} hold no label of {name}: fetch the set again")
    images = read_pictures(files, size=SAMPLE_SIZE[name])
    return ImageSet(images, torch.tensor([int(m[1]) for m in labels]), classes)
