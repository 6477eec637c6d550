"""Pictures in memory, samples and splits of a set, and the loaders that feed a network."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    default_collate,
)
from torch.utils.data.distributed import DistributedSampler
from torchvision.transforms import v2

from utils.runtime import join_processes


class ImageSet(Dataset):
    """Pictures and labels that fit in memory.

    Indexing with a number gives one example, with a list or a tensor of numbers a whole batch: `dataset[3]`
    is `(image [C, H, W], label [])`, `dataset[[3, 1, 4]]` is `(images [3, C, H, W], labels [3])`.

    Args:
        images: [N, C, H, W], uint8, 0 to 255.
        labels: [N], int64, indices into `classes`.
        classes: The names of the classes.

    Raises:
        ValueError: If shapes or dtypes are others, or a label names no class.
    """

    whole_batches = True  # dataset[[3, 1, 4]] is a batch: `make_loader` asks for whole ones

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, classes: Sequence[str]) -> None:
        """See the class."""
        if images.ndim != 4 or images.dtype != torch.uint8:
            raise ValueError(f"images must be uint8 [N, C, H, W], got {images.dtype} {list(images.shape)}")
        if labels.shape != images.shape[:1] or labels.dtype != torch.int64:
            wanted = f"int64 [{len(images)}], one label for each image"
            raise ValueError(f"labels must be {wanted}, got {labels.dtype} {list(labels.shape)}")
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
            raise ValueError(f"labels must lie in 0..{len(classes) - 1}, one number for each class")
        self.images, self.labels, self.classes = images, labels, list(classes)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.images)

    def __getitem__(self, index: int | Sequence[int] | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return one example, or a batch of them."""
        return self.images[index], self.labels[index]


def labels_of(dataset: Dataset) -> torch.Tensor:
    """Return the labels of all examples without reading a picture.

    Args:
        dataset: Any set with `.labels` or `.targets`.

    Returns:
        [N], int64.

    Raises:
        TypeError: If it has neither.
    """
    labels = getattr(dataset, "labels", getattr(dataset, "targets", None))
    if labels is None:
        raise TypeError(
            f"{type(dataset).__name__} has neither .labels nor .targets, which tell the classes apart"
        )
    return torch.as_tensor(labels)


def _stratified(labels: torch.Tensor, n: int, seed: int) -> torch.Tensor:
    """Choose `n` of the indices of `labels` [N], every class in its share (rounded), in random order."""
    if not 0 < n <= len(labels):
        raise ValueError(f"asked for {n} examples of a set that holds {len(labels)}")
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(labels), generator=generator)
    by_class = shuffled[labels[shuffled].argsort(stable=True)]  # one class after the other, shuffled inside
    evenly_spaced = ((torch.arange(n) + 0.5) * (len(labels) / n)).long()
    return by_class[evenly_spaced][torch.randperm(n, generator=generator)]


def select(dataset: Dataset, indices: torch.Tensor) -> Dataset:
    """Choose examples of a set.

    Args:
        dataset: An `ImageSet`, or any set with `.labels` or `.targets`, and `.classes`.
        indices: [n], int64.

    Returns:
        The n examples in this order: an `ImageSet`, or a `Subset` with `.labels` and `.classes`.
    """
    if isinstance(dataset, ImageSet):
        return ImageSet(*dataset[indices], dataset.classes)
    subset = Subset(dataset, indices.tolist())
    subset.labels, subset.classes = labels_of(dataset)[indices], dataset.classes
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
    """
    return select(dataset, _stratified(labels_of(dataset), n, seed))


def split(dataset: Dataset, fraction: float, *, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Split at random into two parts without a common example, every class in its share in both.

    Not for frames of one video or pictures of one person: such a set must be split by video, by person.

    Args:
        dataset: As for `take`.
        fraction: The share of the second part, between 0 and 1.
        seed: The same seed splits in the same way.

    Returns:
        `(rest, part)`, with the rounded `fraction` of the examples in `part`: training and validation, say.

    Raises:
        ValueError: If one of the parts would be empty.
    """
    labels = labels_of(dataset)
    n = round(len(labels) * fraction)
    if not 0 < n < len(labels):
        raise ValueError(f"a fraction of {fraction} of {len(labels)} examples leaves one part empty")
    part = _stratified(labels, n, seed)
    is_rest = torch.ones(len(labels), dtype=torch.bool)
    is_rest[part] = False
    return select(dataset, is_rest.nonzero()[:, 0]), select(dataset, part)


class _Share(Sampler):
    """Every `world_size`-th example from `rank` on: a process's share, none left out, none twice."""

    def __init__(self, length: int, rank: int, world_size: int) -> None:
        self._indices = range(rank, length, world_size)

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)


def _sampler(dataset: Dataset, shuffle: bool, seed: int, generator: torch.Generator) -> Sampler:
    """Return the order of examples: this process's share of them under `torchrun`, else all."""
    rank, world_size = join_processes()
    if world_size > 1 and shuffle:
        return DistributedSampler(dataset, world_size, rank, seed=seed)
    if world_size > 1:
        return _Share(len(dataset), rank, world_size)
    return RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)


class _Batch:
    """Collate examples into a batch and transform its pictures (a class, so that workers can pickle it)."""

    def __init__(self, transform: Callable, collate: Callable | None) -> None:
        self.transform, self.collate = transform, collate

    def __call__(self, batch: object) -> tuple[torch.Tensor, torch.Tensor]:
        images, labels = self.collate(batch) if self.collate else batch
        return self.transform(images), labels


def make_loader(
    dataset: Dataset,
    batch_size: int,
    *,
    shuffle: bool = False,
    transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
    seed: int = 0,
    num_workers: int = 0,
    drop_last: bool = False,
) -> DataLoader:
    """Make a loader of batches `(images, labels)` whose pictures are transformed a batch at a time.

    From a set with `whole_batches` (an `ImageSet`, scenes) a batch is one indexing operation, some ten times
    quicker than picture by picture; what it gives for labels, a list of targets, say, is passed on as it is.
    Under `torchrun` each process gets its own share of the examples.

    Args:
        dataset: A set with `whole_batches`, or any set of `(image, label)`.
        batch_size: Examples in a batch, for each process.
        shuffle: A new random order in each epoch.
        transform: From a batch [B, C, H, W] uint8 to what the network gets. Random transforms of torchvision
            draw once for a whole batch. Default: float32 in [0, 1].
        seed: Of the order.
        num_workers: Processes that prepare batches ahead; 0 is quickest for sets in memory.
        drop_last: Leave the last batch out if it is short.

    Returns:
        A `DataLoader`; its `.generator` holds the state of the order, which `training.fit` saves.

    Raises:
        ValueError: If the set is empty or `batch_size` is not positive.
    """
    if len(dataset) == 0 or batch_size < 1:
        raise ValueError(f"cannot make batches of {batch_size} from {len(dataset)} examples")
    generator = torch.Generator().manual_seed(seed)
    sampler = _sampler(dataset, shuffle, seed, generator)
    in_memory = getattr(dataset, "whole_batches", False)
    transform = transform or v2.ToDtype(torch.float32, scale=True)
    if in_memory:  # the sampler yields whole batches of indices
        order = {"sampler": BatchSampler(sampler, batch_size, drop_last), "batch_size": None}
    else:
        order = {"sampler": sampler, "batch_size": batch_size, "drop_last": drop_last}
    return DataLoader(
        dataset,
        **order,
        collate_fn=_Batch(transform, None if in_memory else default_collate),
        generator=generator,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
