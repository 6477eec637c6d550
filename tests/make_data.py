"""Make the small real samples in tests/data that the tiny run uses: python tests/make_data.py.

Each set keeps its native layout, so that the course reads it as it reads the whole set. Only sets whose
licence allows it are here; tests/data/README.md names them. The samples are random, stratified by class, and
seeded: the same command makes the same bytes.
"""

import struct
import sys
from pathlib import Path

import torch

from utils.data import ImageSet, fashion_mnist, mnist, take

DATA = Path(__file__).parent / "data"
SIZES = {"FashionMNIST": (1000, 500), "MNIST": (500, 250)}  # pictures for training, for the test
WHOLE = (60_000, 10_000)


def write_idx(path: Path, values: torch.Tensor) -> None:
    """Write `values`, uint8 of any shape, in the idx format that `utils.data.read_idx` reads."""
    header = b"\0\0\x08" + bytes([values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + values.numpy().tobytes())


def write_sample(folder: str, train: ImageSet, test: ImageSet) -> None:
    """Write a sample of both parts of a set in MNIST's four files below `folder`."""
    if (len(train), len(test)) != WHOLE:
        sys.exit(f"{folder}: the whole set is needed, not a sample of it (is CV_DATA set?)")
    for part, dataset, size in zip(("train", "t10k"), (train, test), SIZES[folder], strict=True):
        sample = take(dataset, size, seed=0)
        write_idx(DATA / folder / "raw" / f"{part}-images-idx3-ubyte", sample.images[:, 0])
        write_idx(DATA / folder / "raw" / f"{part}-labels-idx1-ubyte", sample.labels.to(torch.uint8))


if __name__ == "__main__":
    write_sample("FashionMNIST", *fashion_mnist())
    write_sample("MNIST", *mnist())
