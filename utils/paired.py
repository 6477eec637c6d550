"""Pictures in memory with one annotation each, and the checks that sets of annotated files share."""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch.utils.data import Dataset

__all__ = ["FETCH_AGAIN", "PairedSet", "expect_files", "expect_same", "read_numbers", "read_table"]

FETCH_AGAIN = "delete the set's folder and fetch it again"
Target = torch.Tensor | dict[str, torch.Tensor]


class PairedSet(Dataset):
    """Pictures that fit in memory, each with a tensor that belongs to it: a mask, a depth map, keypoints.

    Indexing with a number gives one example, with a slice, a list or a tensor of numbers a whole batch:
    `dataset[3]` is `(image [C, H, W], target [...])`, `dataset[[3, 1]]` is `(images [2, C, H, W], ...)`.

    Args:
        images: [N, C, H, W], uint8, 0 to 255.
        targets: [N, ...], or a dict of such tensors; an example then has a dict.
        names: What each picture is called: the name of its file, without the suffix. Default: none.
        classes: Names of the classes, where the targets hold any.

    Raises:
        ValueError: If images have another shape or dtype, or there are not N of each.
    """

    whole_batches = True  # dataset[[3, 1, 4]] is a batch: `make_loader` asks for whole ones

    def __init__(
        self,
        images: torch.Tensor,
        targets: Target,
        names: Sequence[str] | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        """See the class."""
        if images.ndim != 4 or images.dtype != torch.uint8:
            raise ValueError(f"images must be uint8 [N, C, H, W], got {images.dtype} {list(images.shape)}")
        parts = targets if isinstance(targets, dict) else {"targets": targets}
        for name, part in {**parts, "names": images if names is None else names}.items():
            if len(part) != len(images):
                raise ValueError(f"{name} must be {len(images)}, one for each image, got {len(part)}")
        self.images, self.annotations = images, targets  # not `.targets`: these are no classes to draw from
        self.names, self.classes = None if names is None else list(names), list(classes)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.images)

    def __getitem__(self, index: int | slice | Sequence[int] | torch.Tensor) -> tuple[torch.Tensor, Target]:
        """Return one example, or a batch of them."""
        if isinstance(self.annotations, dict):
            return self.images[index], {name: part[index] for name, part in self.annotations.items()}
        return self.images[index], self.annotations[index]


def expect_files(folder: Path, names: Iterable[str]) -> None:
    """Check that `folder` holds the files or folders called `names`.

    Raises:
        ValueError: If one is missing; names it.
    """
    if missing := [name for name in names if not (folder / name).exists()]:
        raise ValueError(f"expected {_listed(missing)} in {folder}, not there: {FETCH_AGAIN}")


def expect_same(pictures: Iterable[str], annotated: Iterable[str], where: Path) -> None:
    """Check that every picture has one annotation and every annotation a picture.

    Args:
        pictures: Names of the pictures that are there.
        annotated: Names of the pictures that have an annotation.
        where: What the message names.

    Raises:
        ValueError: If a name is in only one of the two, twice in one of them, or there is none at all.
    """
    pictures, annotated = list(pictures), list(annotated)
    for names in (pictures, annotated):
        if twice := sorted(name for name, count in Counter(names).items() if count > 1):
            raise ValueError(f"{where}: {_listed(twice)} more than once: {FETCH_AGAIN}")
    for lacks, names in (
        ("annotation", set(pictures) - set(annotated)),
        ("picture", set(annotated) - set(pictures)),
    ):
        if names:
            raise ValueError(f"{where}: no {lacks} for {_listed(sorted(names))}: {FETCH_AGAIN}")
    if not pictures:
        raise ValueError(f"{where}: expected pictures, found none: {FETCH_AGAIN}")


def read_table(path: Path, columns: Sequence[str]) -> list[list[str]]:
    """Read a CSV file whose first line names its columns.

    Args:
        path: The file.
        columns: The names that the first line must hold.

    Returns:
        The rows below it.

    Raises:
        ValueError: If there is no such file, it has other columns, or a row has more or fewer of them.
    """
    if not path.is_file():
        raise ValueError(f"expected {path}, not there: {FETCH_AGAIN}")
    with path.open(newline="", encoding="utf-8") as lines:
        header, *rows = list(csv.reader(lines)) or [[]]
    if header != list(columns):
        wanted, found = (f"{len(names)} columns ({_listed(names)})" for names in (columns, header))
        raise ValueError(f"{path}: expected {wanted}, got {found}: {FETCH_AGAIN}")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(columns):
            raise ValueError(
                f"{path}, line {number}: expected {len(columns)} columns, got {len(row)}: {FETCH_AGAIN}"
            )
    return rows


def read_numbers(path: Path, rows: list[list[str]]) -> torch.Tensor:
    """Return the numbers behind the first column of `rows`, [N, columns - 1] float64.

    Raises:
        ValueError: If a field is no finite number; names `path` and the line.
    """
    numbers = torch.empty(len(rows), max((len(row) for row in rows), default=1) - 1, dtype=torch.float64)
    for index, row in enumerate(rows):
        try:
            numbers[index] = torch.tensor([float(field) for field in row[1:]], dtype=torch.float64)
        except ValueError as error:
            raise ValueError(f"{path}, line {index + 2}: {error}: {FETCH_AGAIN}") from error
        if not numbers[index].isfinite().all():
            raise ValueError(f"{path}, line {index + 2}: not all numbers are finite: {FETCH_AGAIN}")
    return numbers


def _listed(names: Sequence[str]) -> str:
    """Join the first five names."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
