import pickle

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from utils.loading import ImageSet, make_loader, split, take
from utils.paired import PairedSet


def numbered(n, classes=3):
    """Pictures whose only pixel is their number, labelled in turn."""
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None]
    return ImageSet(images, torch.arange(n) % classes, [str(c) for c in range(classes)])


def numbers(dataset):
    return [int(dataset[i][0].flatten()[0]) for i in range(len(dataset))]


class Plain(torch.utils.data.Dataset):
    """A set that only has `__getitem__`, as torchvision's."""

    def __init__(self, n):
        self.targets, self.classes = [i % 2 for i in range(n)], ["even", "odd"]

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, i):
        return torch.full((1, 2, 2), i, dtype=torch.uint8), self.targets[i]


def test_image_set_gives_one_or_many():
    dataset = numbered(10)
    image, label = dataset[4]
    assert (image.shape, label.shape, int(image), int(label)) == ((1, 1, 1), (), 4, 1)
    images, labels = dataset[[7, 2]]
    assert (images.flatten().tolist(), labels.tolist()) == ([7, 2], [1, 2])
    with pytest.raises(IndexError):
        dataset[10]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 1, 3, 3), torch.zeros(2, dtype=torch.int64), "uint8"),
        (torch.zeros(2, 3, 3, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), r"\[N, C, H, W\]"),
        (torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), "one label for each"),
        (torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.zeros(2), "int64"),
        (torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.tensor([0, 2]), "0..1"),
        (torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.tensor([0, -1]), "0..1"),
    ],
)
def test_image_set_refuses_what_does_not_belong_together(images, labels, message):
    with pytest.raises(ValueError, match=message):
        ImageSet(images, labels, ["a", "b"])


def test_take_keeps_the_shares_and_repeats_nothing():
    dataset = numbered(90)
    sample = take(dataset, 30, seed=1)
    assert sample.labels.bincount().tolist() == [10, 10, 10]
    assert len(set(numbers(sample))) == 30
    assert all(n % 3 == label for n, label in zip(numbers(sample), sample.labels.tolist(), strict=True))
    assert numbers(sample) == numbers(take(dataset, 30, seed=1)) != numbers(take(dataset, 30, seed=2))
    assert sample.labels.tolist() != sorted(sample.labels.tolist())  # not one class after the other
    assert sorted(numbers(take(dataset, 90))) == list(range(90))
    assert sample.classes == dataset.classes


def test_take_of_unequal_classes_is_off_by_less_than_one():
    labels = torch.tensor([0] * 70 + [1] * 20 + [2] * 10)
    dataset = ImageSet(torch.zeros(100, 1, 1, 1, dtype=torch.uint8), labels, list("abc"))
    for n in range(1, 101):
        counts = take(dataset, n, seed=n).labels.bincount(minlength=3)
        assert (counts - n * torch.tensor([0.7, 0.2, 0.1])).abs().max() < 1


@pytest.mark.parametrize("n", [0, -1, 11])
def test_take_refuses_impossible_numbers(n):
    with pytest.raises(ValueError, match="holds 10"):
        take(numbered(10), n)


def test_split_leaves_nothing_out_and_nothing_twice():
    rest, part = split(numbered(90), 1 / 3, seed=5)
    assert (len(rest), len(part)) == (60, 30)
    assert sorted(numbers(rest) + numbers(part)) == list(range(90))
    assert rest.labels.bincount().tolist() == [20, 20, 20]
    with pytest.raises(ValueError, match="empty"):
        split(numbered(10), 0.01)
    with pytest.raises(ValueError, match="empty"):
        split(numbered(10), 1.0)


def test_take_and_split_of_a_plain_dataset():
    sample = take(Plain(20), 8, seed=0)
    assert sample.labels.bincount().tolist() == [4, 4]
    assert [label for _, label in sample] == sample.labels.tolist()
    rest, part = split(sample, 0.5, seed=0)
    assert sorted(numbers(rest) + numbers(part)) == sorted(numbers(sample))
    with pytest.raises(TypeError, match="labels"):
        take(TensorDataset(torch.zeros(3)), 2)


@pytest.mark.parametrize("dataset", [numbered(10), Plain(10)], ids=["in memory", "plain"])
def test_loader_gives_every_example_once_the_short_batch_too(dataset):
    loader = make_loader(dataset, 4)
    batches = list(loader)
    assert [len(labels) for _, labels in batches] == [4, 4, 2] and len(loader) == 3
    images = torch.cat([images for images, _ in batches])
    assert images.dtype == torch.float32
    assert (images[:, 0, 0, 0] * 255).round().int().tolist() == list(range(10))
    assert torch.cat([labels for _, labels in batches]).tolist() == [dataset[i][1] for i in range(10)]
    assert [len(labels) for _, labels in make_loader(dataset, 4, drop_last=True)] == [4, 4]


def orders(loader, epochs=2):
    return [
        torch.cat([(x * 255).round().flatten(1)[:, 0] for x, _ in loader]).int().tolist()
        for _ in range(epochs)
    ]


@pytest.mark.parametrize("dataset", [numbered(20), Plain(20)], ids=["in memory", "plain"])
def test_shuffling_is_new_each_epoch_and_repeats_with_the_seed(dataset):
    first, second = orders(make_loader(dataset, 4, shuffle=True, seed=1))
    assert first != second and sorted(first) == sorted(second) == list(range(20))
    assert orders(make_loader(dataset, 4, shuffle=True, seed=1)) == [first, second]
    assert orders(make_loader(dataset, 4, shuffle=True, seed=2)) != [first, second]


def test_the_generator_holds_the_state_of_the_order():
    loader = make_loader(numbered(20), 4, shuffle=True, seed=1)
    orders(loader, 1)
    state = loader.generator.get_state()
    after = orders(loader)
    loader.generator.set_state(state)
    assert orders(loader) == after


def test_pictures_stay_with_their_labels():
    for images, labels in make_loader(numbered(30), 7, shuffle=True, transform=lambda batch: batch):
        assert (images.flatten() % 3).tolist() == labels.tolist()


def test_the_transform_sees_whole_uint8_batches():
    seen = []

    def transform(batch):
        seen.append((batch.dtype, tuple(batch.shape)))
        return batch.float()

    list(make_loader(numbered(5), 2, transform=transform))
    assert seen == [(torch.uint8, (2, 1, 1, 1))] * 2 + [(torch.uint8, (1, 1, 1, 1))]


def test_default_transform_is_torchvisions_scaling():
    dataset = ImageSet(torch.randint(0, 256, (4, 3, 5, 5), dtype=torch.uint8), torch.zeros(4).long(), ["a"])
    (images, _), *_ = make_loader(dataset, 4)
    torch.testing.assert_close(images, v2.functional.to_dtype(dataset.images, torch.float32, scale=True))
    assert images.shape == (4, 3, 5, 5)


def test_workers_give_the_same_batches():
    dataset = numbered(20)
    alone, helped = (make_loader(dataset, 6, shuffle=True, seed=1, num_workers=n) for n in (0, 2))
    assert orders(alone, 1) == orders(helped, 1)


def test_loader_refuses_an_empty_set_or_batch():
    with pytest.raises(ValueError, match="from 0 examples"):
        make_loader(numbered(0), 4)
    with pytest.raises(ValueError, match="batches of 0"):
        make_loader(numbered(4), 0)


def test_image_set_works_with_torchs_own_loader_and_pickles():
    dataset = pickle.loads(pickle.dumps(numbered(10)))
    images, labels = next(iter(DataLoader(dataset, 4)))
    assert (images.shape, labels.tolist()) == ((4, 1, 1, 1), [0, 1, 2, 0])


class Counted:
    """A set that gives whole batches, with a list of targets, and counts how often it is asked."""

    whole_batches, asked = True, 0

    def __len__(self):
        return 10

    def __getitem__(self, index):
        self.asked += 1
        return torch.full((len(index), 3, 2, 2), 255, dtype=torch.uint8), [{"id": i} for i in index]


def test_a_set_of_whole_batches_is_asked_once_a_batch():
    dataset = Counted()
    batches = list(make_loader(dataset, 4))
    assert dataset.asked == 3 and [len(images) for images, _ in batches] == [4, 4, 2]
    assert [target["id"] for _, targets in batches for target in targets] == list(range(10))
    assert all(images.dtype == torch.float32 and (images == 1).all() for images, _ in batches)


def test_masks_and_other_pairs_come_in_whole_batches():
    pairs = PairedSet(torch.zeros(5, 3, 4, 4, dtype=torch.uint8), torch.arange(5 * 16).view(5, 4, 4))
    images, masks = next(iter(make_loader(pairs, 5, transform=lambda images: images)))
    assert torch.equal(images, pairs.images) and torch.equal(masks, pairs.annotations)
