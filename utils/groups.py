"""Sets in which several pictures show the same sign or person, and splits that keep those together."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from utils.fetch import fetch
from utils.folders import read_parts
from utils.loading import ImageSet, labels_of, select
from utils.pictures import LEFT_BY_SYSTEMS, class_folders, wrong_layout

__all__ = ["faces", "gtsrb", "split_by_group"]

SIGNS = """
speed limit 20, speed limit 30, speed limit 50, speed limit 60, speed limit 70, speed limit 80, end of speed
limit 80, speed limit 100, speed limit 120, no passing, no passing for trucks, right of way at next
intersection, priority road, yield, stop, no vehicles, no trucks, no entry, general caution, curve left,
curve right, double curve, bumpy road, slippery road, road narrows right, road work, traffic signals,
pedestrians, children crossing, bicycles crossing, ice or snow, wild animals, end of all limits, turn right
ahead, turn left ahead, ahead only, straight or right, straight or left, keep right, keep left, roundabout,
end of no passing, end of no passing for trucks
"""
SIGN_CLASSES = " ".join(SIGNS.split()).split(", ")
TRACKS_OF_A_CLASS = 100_000  # more than the five digits of a track's number can say


def _choose_groups(counts: torch.Tensor, fraction: float, seed: int) -> torch.Tensor:
    """Choose whole groups that hold about `fraction` of each class, and of all examples.

    Groups are moved in and out, in random order, as long as that brings the shares closer: first those of the
    classes; then that of the whole counts as well, which decides where a group is a large part of its class.

    Args:
        counts: [G, C], float64: how many examples of each class each group holds.
        fraction: Between 0 and 1.
        seed: Of the order in which groups are considered.

    Returns:
        [G], bool: whether a group is chosen.
    """
    n_groups, n_classes = counts.shape
    order = torch.randperm(n_groups, generator=torch.Generator().manual_seed(seed)).tolist()
    chosen = torch.zeros(n_groups, dtype=torch.bool)
    counts = torch.cat([counts, counts.sum(1, keepdim=True)], dim=1)  # the last column: all classes
    for weight_of_all in (0, n_classes):
        weights = torch.tensor([1.0] * n_classes + [weight_of_all]) / counts.sum(0).clamp(min=1)
        parts = counts * weights.sqrt()  # squared errors of large and small classes can be added now
        lack, moved = fraction * parts.sum(0) - parts[chosen].sum(0), True
        while moved:
            moved = False
            for group in order:
                after = lack + parts[group] if chosen[group] else lack - parts[group]
                if after.square().sum() < lack.square().sum() * (1 - 1e-9):  # rounding is no progress
                    lack, chosen[group], moved = after, ~chosen[group], True
    return chosen


def split_by_group(
    dataset: Dataset, groups: Sequence | torch.Tensor, fraction: float, *, seed: int = 0
) -> tuple[Dataset, Dataset]:
    """Split at random into two parts that share no group: no person, sign or photo is in both.

    Each class keeps its share as far as whole groups allow. (scikit-learn's `StratifiedGroupKFold` makes
    equal folds only.)

    Args:
        dataset: As for `loading.split`.
        groups: [N], numbers or names: the group of each example.
        fraction: The share of the second part, between 0 and 1.
        seed: The same seed splits in the same way.

    Returns:
        `(rest, part)`, examples in the order of `dataset`, with about `fraction` of them in `part`. Each has
        its groups, [n], in `.groups`, for a further split.

    Raises:
        ValueError: If there is not one group for each example, or one of the parts would be empty.
    """
    labels, names = labels_of(dataset).long(), np.asarray(groups)
    if names.shape != (len(labels),):
        raise ValueError(f"expected {len(labels)} groups, one for each example, got {list(names.shape)}")
    unique, group = np.unique(names, return_inverse=True)
    n_classes, group = int(labels.max()) + 1 if len(labels) else 1, torch.from_numpy(group)
    counts = torch.bincount(group * n_classes + labels, minlength=len(unique) * n_classes)
    chosen = _choose_groups(counts.reshape(-1, n_classes).double(), fraction, seed)
    if not 0 < int(chosen.sum()) < len(unique):
        raise ValueError(f"a fraction of {fraction} of {len(unique)} whole groups leaves one part empty")
    parts = []
    for in_part in (~chosen[group], chosen[group]):
        parts.append(select(dataset, in_part.nonzero()[:, 0]))
        kept = names[in_part.numpy()]
        parts[-1].groups = torch.from_numpy(kept) if kept.dtype.kind in "iu" else kept.tolist()
    return parts[0], parts[1]


def _tracks(files: list[Path], labels: torch.Tensor) -> torch.Tensor:
    """Return the track of each training file, [N] int64, from its name TTTTT_FFFFF (track, frame)."""
    matches = [re.fullmatch(r"(\d{1,5})_\d+", path.stem) for path in files]
    if bad := [str(path) for path, match in zip(files, matches, strict=True) if match is None]:
        raise ValueError("expected names like 00003_00012 (track, frame), found:\n" + "\n".join(bad))
    return labels * TRACKS_OF_A_CLASS + torch.tensor([int(match[1]) for match in matches])


def _official_test(folder: Path) -> tuple[list[Path], torch.Tensor]:
    """List the official test pictures with the labels of `GT-final_test.csv`."""
    table = folder / "GT-final_test.csv"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";", skipinitialspace=True))
    try:
        labels = {row["Filename"]: int(row["ClassId"]) for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{table} lacks Filename or ClassId ({error}): fetch gtsrb again") from error
    files = [folder / "GTSRB" / "Final_Test" / "Images" / name for name in sorted(labels)]
    there = set(files[0].parent.glob("*.ppm")) if files else set()
    if wrong := sorted(path.name for path in there ^ set(files)) or not files:
        raise ValueError(f"{table} and the pictures in Final_Test/Images do not agree about {wrong or 'any'}")
    return files, torch.tensor([labels[path.name] for path in files])


def gtsrb(size: int = 32) -> tuple[ImageSet, ImageSet]:
    """Load GTSRB: German traffic signs as a driving car saw them, 43 classes.

    The frames of one track show one physical sign. Both sets have `.tracks`, [N] int64: a number for each
    class and track, -1 in the test set, where it is unknown. For validation, split the training set by it:
    `split_by_group(train, train.tracks, 0.2)`.

    Args:
        size: In pixels. The shorter side is resized to it, then the middle of the longer side is cropped.

    Returns:
        `(train, test)`, [N, 3, size, size]. A mirror has 80 pictures of each class for training and 25 for
        the test, all scaled to 32x32; the official set has 26,640 and 12,630, of 15 to 250 pixels, more of
        frequent signs. No track is in both. Free for research.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If a file is no readable picture, or has no track in its name; names all such files.

    Source: Stallkamp, Schlipsing, Salmen, Igel, *Man vs. computer: benchmarking machine learning algorithms
    for traffic sign recognition*, 2012.
    """
    folder, names = fetch("gtsrb"), [f"{label:05d}" for label in range(len(SIGN_CLASSES))]
    if (folder / "train").is_dir():
        parts = [class_folders(folder / part, names) for part in ("train", "val")]
    elif (folder / "GTSRB" / "Training").is_dir():
        training = folder / "GTSRB" / "Training"
        tables = [training / name / f"GT-{name}.csv" for name in names]  # sizes and boxes of the frames
        parts = [class_folders(training, names, tables), _official_test(folder)]
    else:
        raise wrong_layout(folder, "the folders train and val", "the folder GTSRB/Training")
    tracks = _tracks(*parts[0])
    train, test = read_parts(parts, SIGN_CLASSES, size=size)
    train.tracks, test.tracks = tracks, torch.full_like(test.labels, -1)
    return train, test


def faces(test_people: int = 10, seed: int = 0) -> tuple[ImageSet, ImageSet]:
    """Load the ORL faces: ten grey portraits, [1, 112, 92], of each of 40 people; classes "s1" to "s40".

    The split is by person. It asks whether what was learnt about faces (a code, a distance, a
    reconstruction) holds for people never seen; a classifier of the 40 cannot be tested by it.

    Args:
        test_people: How many people the test set holds.
        seed: Of the choice of these people.

    Returns:
        `(train, test)`: 300 and 100 pictures at the default. The label is the person, 0 to 39, in both. Free
        for research.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If a file is no grey picture (names all such files), or no person would be left in a part.

    Source: Samaria, Harter, *Parameterisation of a stochastic model for human face identification*, 1994.
    """
    folder = fetch("faces")
    found = {path.name for path in folder.iterdir()} - LEFT_BY_SYSTEMS
    people = [f"s{number}" for number in range(1, len(found) + 1)]
    if set(people) != found or not people:
        raise wrong_layout(folder, "folders s1, s2, ... s40, one for each person")
    if not 0 < test_people < len(people):
        raise ValueError(f"test_people must be 1 to {len(people) - 1}, got {test_people}")
    files, labels = class_folders(folder, people)
    chosen = torch.randperm(len(people), generator=torch.Generator().manual_seed(seed))[:test_people]
    in_test = torch.isin(labels, chosen)
    parts = [
        ([f for f, m in zip(files, mask.tolist(), strict=True) if m], labels[mask])
        for mask in (~in_test, in_test)
    ]
    train, test = read_parts(parts, people, "L")
    return train, test
