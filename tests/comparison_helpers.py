"""A comparison small enough for tests: two kinds of pictures, two networks, a second in all."""

import math

import torch
from torch import nn

from utils.loading import ImageSet
from utils.training import compare

CPU = torch.device("cpu")
RATES = [0.01, 0.1, 1.0]


class Watched(ImageSet):
    """A set that counts how often it is read, and tells a list."""

    def __init__(self, *args, name="", told=None):
        super().__init__(*args)
        self.name, self.told = name, told if told is not None else []

    def __getitem__(self, index):
        self.told.append(self.name)
        return super().__getitem__(index)


def pictures(n, seed, told=None, name=""):
    """Noise, with a brighter left half for class 0 and a brighter right half for class 1."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 200, (n, 1, 2, 4), generator=generator)
    labels = torch.randint(0, 2, (n,), generator=generator)
    images[labels == 0, :, :, :2] += 40
    images[labels == 1, :, :, 2:] += 40
    return Watched(images.to(torch.uint8), labels, ["left", "right"], name=name, told=told)


def sets(told=None):
    sizes = {"train": (70, 1), "validation": (40, 2), "test": (60, 3)}
    return {name: pictures(*size, told, name) for name, size in sizes.items()}


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(8, 2))


def deep():
    return nn.Sequential(nn.Flatten(), nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))


def small(arms=None, told=None, **changes):
    """Call `compare` on the small sets; `changes` may take an option away with None."""
    options = {"learning_rates": RATES, "steps": 12, "batch_size": 8, "device": CPU, "verbose": False}
    options |= sets(told) | changes
    return compare({"linear": linear, "deep": deep} if arms is None else arms, **options)


def without_time(table):
    return table.drop(columns="seconds")


def row(arm, seed, test, **changes):
    run = {"arm": arm, "phase": "final", "seed": seed, "learning_rate": 0.1, "batch_size": 8, "steps": 12}
    run |= {"examples": 96, "seconds": 1.0, "train_loss": 1.0, "validation_accuracy": 0.5, "diverged": False}
    return run | {"test_accuracy": test, "rate_at_edge": False, "exploratory": False} | changes


def search(arm, rate, validation, **changes):
    changes = {"phase": "search", "learning_rate": rate, "validation_accuracy": validation} | changes
    return row(arm, 9, math.nan) | changes
