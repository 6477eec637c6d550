"""Samples and splits of a set, and the loaders that feed a network."""

from collections.abc import Callable, Iterator, Sequence
from numbers import Integral
from typing import Any

import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    default_collate,
)
from torch.utils.data.distributed import DistributedSampler
from torchvision.transforms.v2 import functional

from utils.data.dataset import Batch, DetectionSet, ImageSet
from utils.runtime import join_processes


def _labels_of(dataset: Dataset) -> torch.Tensor:
    """Return the labels of all examples, [N], without reading an image."""
    labels = getattr(dataset, "labels", getattr(dataset, "targets", None))
    try:
        labels = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError):  # none, or dicts of boxes
        labels = torch.empty(0, 0)
    if labels.ndim != 1 or labels.is_floating_point():
        raise TypeError(
            f"{type(dataset).__name__} has neither .labels nor .targets with one whole "
            "number for each example, which tell the classes apart"
        )
    return labels


def _stratified(labels: torch.Tensor, n: int, seed: int) -> torch.Tensor:
    """Choose `n` indices of `labels`, each class in its share, in random order."""
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(labels), generator=generator)
    # one class after the other, shuffled inside
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    evenly_spaced = ((torch.arange(n) + 0.5) * (len(labels) / n)).long()
    return by_class[evenly_spaced][torch.randperm(n, generator=generator)]


def select(dataset: Dataset, indices: torch.Tensor | Sequence[int]) -> Dataset:
    """Choose examples of a set.

    Args:
        dataset: An `ImageSet`, or any set with `.labels` or `.targets`, and `.classes`.
        indices: [n], whole numbers: a tensor, an array or a list.

    Returns:
        The n examples in this order: an `ImageSet`, or a `Subset` with `.labels` and
        `.classes`.

    Raises:
        TypeError: If `indices` are no list of whole numbers, but a mask, say.
    """
    indices = torch.as_tensor(indices)
    whole = not indices.is_floating_point() and indices.dtype != torch.bool
    if indices.ndim != 1 or len(indices) and not whole:
        raise TypeError(
            f"indices must be whole numbers [n], got {indices.dtype} "
            f"{list(indices.shape)}; for a mask, pass mask.nonzero()[:, 0]"
        )
    indices = indices.long()
    if isinstance(dataset, ImageSet):
        return ImageSet(*dataset[indices], dataset.classes)
    subset = Subset(dataset, indices.tolist())
    subset.labels, subset.classes = _labels_of(dataset)[indices], dataset.classes
    return subset


def take(dataset: Dataset, n: int, *, seed: int = 0) -> Dataset:
    """Take a random sample in which every class keeps its share.

    Args:
        dataset: An `ImageSet`, or any set with `.labels` or `.targets`, and `.classes`.
        n: How many examples, 1 to `len(dataset)`.
        seed: The same seed takes the same examples.

    Returns:
        A set of the same kind, of `n` examples in random order.

    Raises:
        ValueError: If the set does not hold `n` examples.
        TypeError: If the set has no labels.
    """
    labels = _labels_of(dataset)
    if not isinstance(n, Integral) or not 0 < n <= len(labels):
        raise ValueError(
            f"n must be a whole number from 1 to {len(labels)}, as many as the set "
            f"holds, got {n}"
        )
    return select(dataset, _stratified(labels, n, seed))


def split(
    dataset: Dataset, fraction: float, *, seed: int = 0
) -> tuple[Dataset, Dataset]:
    """Split at random into two parts, every class in its share in both.

    Not for frames of one video or images of one person: such a set must be split by
    video, by person (`sklearn.model_selection.StratifiedGroupKFold`; the docstring of
    `gtsrb` shows how).

    Args:
        dataset: As for `take`.
        fraction: The share of the second part, between 0 and 1.
        seed: The same seed splits in the same way.

    Returns:
        `(rest, part)`, with the rounded `fraction` of the examples in `part`: training
        and validation, say. No example is in both.

    Raises:
        ValueError: If `fraction` is not between 0 and 1, or one of the parts would be
            empty.
        TypeError: If the set has no labels.
    """
    labels = _labels_of(dataset)
    if not 0 < fraction < 1:
        raise ValueError(
            f"fraction must lie between 0 and 1 (0.2 for 20 %), got {fraction}"
        )
    n = round(len(labels) * fraction)
    if not 0 < n < len(labels):
        raise ValueError(
            f"a fraction of {fraction} of {len(labels)} examples leaves one part empty"
        )
    part = _stratified(labels, n, seed)
    is_rest = torch.ones(len(labels), dtype=torch.bool)
    is_rest[part] = False
    return select(dataset, is_rest.nonzero()[:, 0]), select(dataset, part)


class _Share(Sampler):
    """Every `world_size`-th example from `rank` on: none left out, none twice."""

    def __init__(self, length: int, rank: int, world_size: int) -> None:
        self._indices = range(rank, length, world_size)

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)


def _sampler(
    dataset: Dataset, shuffle: bool, seed: int, generator: torch.Generator
) -> Sampler:
    """Return the order of examples: under `torchrun` this process's share, else all."""
    rank, world_size = join_processes()
    if world_size > 1 and shuffle:
        return DistributedSampler(dataset, world_size, rank, seed=seed)
    if world_size > 1:
        return _Share(len(dataset), rank, world_size)
    if shuffle:
        return RandomSampler(dataset, generator=generator)
    return SequentialSampler(dataset)


def _as_floats(images: torch.Tensor) -> torch.Tensor:
    """Turn images into float32 in [0, 1]: the transform of a loader that has none."""
    if images.is_floating_point():
        in_range = bool(((images >= 0) & (images <= 1)).all())
    else:
        in_range = images.dtype == torch.uint8
    if not in_range:
        raise ValueError(
            "images must be uint8, or floats in [0, 1], got "
            f"{images.dtype} from {images.min()} to {images.max()}: convert them in "
            "the set, or give make_loader a transform"
        )
    return functional.to_dtype(images, torch.float32, scale=True)


class _Collate:
    """Make a transformed batch of examples (a class, so that workers can pickle it)."""

    def __init__(
        self,
        transform: Callable[[torch.Tensor], torch.Tensor],
        pair_transform: Callable[[torch.Tensor, Any], tuple[torch.Tensor, Any]] | None,
    ) -> None:
        self.transform, self.pair_transform = transform, pair_transform

    def __call__(self, examples: Sequence[Any]) -> tuple[torch.Tensor, Any]:
        if isinstance(examples, Batch):
            images, targets = examples.whole
        elif isinstance(examples[0], tuple | list) and len(examples[0]) == 2:
            images, targets = default_collate(examples)
        else:
            raise ValueError(
                "a set must give pairs (image, label), got "
                f"{type(examples[0]).__name__}"
            )
        if self.pair_transform is not None:
            images, targets = self.pair_transform(images, targets)
        transformed = self.transform(images)
        if transformed is None:
            raise TypeError("the transform returned None: end it in `return images`")
        return transformed, targets


def make_loader(
    dataset: Dataset,
    batch_size: int,
    *,
    shuffle: bool = False,
    transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
    pair_transform: Callable[[torch.Tensor, Any], tuple[torch.Tensor, Any]]
    | None = None,
    seed: int = 0,
    num_workers: int = 0,
    drop_last: bool = False,
) -> DataLoader:
    """Make a loader of batches `(images, labels)`, transformed a batch at a time.

    From a set in memory (an `ImageSet`, scenes, a `Subset` of them) a batch is one
    indexing operation, some ten times quicker than image by image; what it gives for
    labels, a list of targets, say, is passed on as it is. Under `torchrun` each process
    gets its own share of the examples.

    Args:
        dataset: Any set of `(image, label)`.
        batch_size: Examples in a batch, for each process.
        shuffle: A new random order in each epoch.
        transform: From a batch [B, C, H, W] uint8 to what the network gets. Random
            transforms of torchvision draw once for a whole batch. Default: float32 in
            [0, 1], from uint8, or from floats that lie there already.
        pair_transform: Before that, from a batch and its targets to both: for what
            moves images and masks together (`transforms.each_with_mask`).
        seed: Of the order.
        num_workers: Processes that prepare batches ahead; 0 is quickest for sets in
            memory.
        drop_last: Leave the last batch out if it is short.

    Returns:
        A `DataLoader`; its `.generator` holds the state of the order, which
        `training.fit` saves.

    Raises:
        ValueError: If the set is empty, `batch_size` is not positive, or `drop_last`
            leaves no batch; while it runs, if the set gives no pairs, or without a
            transform other images than those above.
        TypeError: If it is given both parts of a set, or a `DetectionSet`; while it
            runs, if the transform returns nothing.
    """
    if isinstance(dataset, tuple):
        raise TypeError("expected one set, got a tuple: unpack it, train, test = ...")
    if isinstance(dataset, DetectionSet):
        raise TypeError(
            "the images and boxes of a DetectionSet cannot be stacked: use PyTorch's "
            "DataLoader with collate_fn=utils.detection.collate"
        )
    if len(dataset) == 0 or batch_size < 1:
        raise ValueError(
            f"cannot make batches of {batch_size} from {len(dataset)} examples"
        )
    generator = torch.Generator().manual_seed(seed)
    sampler = _sampler(dataset, shuffle, seed, generator)
    if drop_last and len(sampler) < batch_size:
        raise ValueError(
            f"drop_last leaves no batch: {len(sampler)} examples are fewer than one "
            f"batch of {batch_size}; choose a smaller one"
        )
    return DataLoader(
        dataset,
        batch_size,
        sampler=sampler,
        drop_last=drop_last,
        collate_fn=_Collate(transform or _as_floats, pair_transform),
        generator=generator,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
