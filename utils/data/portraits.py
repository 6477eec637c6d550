"""Sets of faces.

Those of private persons are for numbers and plots: show none of their images.
"""

import torch

from utils.data.dataset import ImageSet, PairedSet, read_parts
from utils.data.readers import (
    LEFT_BY_SYSTEMS,
    class_folders,
    read_annotated,
    read_images,
)
from utils.fetch import fetch


def faces(test_people: int = 10, seed: int = 0) -> tuple[ImageSet, ImageSet]:
    """Load the ORL faces: ten grey portraits, [1, 112, 92], of each of 40 people.

    The classes are "s1" to "s40". The split is by person. It asks whether what was
    learnt about faces (a code, a distance, a reconstruction) holds for people never
    seen; a classifier of the 40 cannot be tested by it.

    Args:
        test_people: How many people the test set holds.
        seed: Of the choice of these people.

    Returns:
        `(train, test)`: 300 and 100 images at the default. The label is the person, 0
        to 39, in both. Free for research.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If a file is not a grey image (names all such files), or no person
            would be left in a part.

    Source: Samaria, Harter, *Parameterisation of a stochastic model for human face
    identification*, 1994.
    """
    folder = fetch("faces")
    found = {path.name for path in folder.iterdir()} - LEFT_BY_SYSTEMS
    people = [f"s{number}" for number in range(1, len(found) + 1)]
    if test_people not in range(1, len(people)):
        raise ValueError(
            f"test_people must be a whole number from 1 to {len(people) - 1}, got "
            f"{test_people}"
        )
    files, labels = class_folders(folder, people)
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(people), generator=generator)[:test_people]
    in_test = torch.isin(labels, chosen)
    parts = [
        ([files[index] for index in mask.nonzero()[:, 0]], labels[mask])
        for mask in (~in_test, in_test)
    ]
    train, test = read_parts(parts, people, "L")
    return train, test


GENDERS = ["male", "female"]


def utkface() -> tuple[PairedSet, PairedSet]:
    """Load aligned faces with age and gender.

    The labels are those of the source, made partly by machine. Who is who is not known,
    so a person may be in both sets. Images are in the order of their files' names,
    hence by age: shuffle them.

    Returns:
        `(train, test)`: 3,300 and 700 examples `(image [3, 112, 112] uint8, {"age": [],
        "gender": []})`, both int64: years, and 0 male, 1 female (`.classes`). The
        source's race code is not used. Only for non-commercial research; the photos
        belong to their owners.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If an image has no row, a row no image, or a file is not what it
            should be; names it.

    Source: Zhang, Song, Qi, *Age progression/regression by conditional adversarial
    autoencoder*, 2017.
    """
    folder, sets = fetch("utkface"), []
    for part in ("train", "val"):
        table = folder / f"{part}.csv"
        files, numbers = read_annotated(folder, part, table, ["file", "age", "gender"])
        ages, genders = numbers.long().unbind(1)
        targets = {"age": ages, "gender": genders}
        sets.append(PairedSet(read_images(files), targets, classes=GENDERS))
    return sets[0], sets[1]
