"""The sets in memory, samples and splits of a set, and the loaders."""

import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.model_selection import StratifiedGroupKFold
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset
from torchvision.transforms import v2

from utils.data import (
    DetectionSet,
    ImageSet,
    PairedSet,
    make_loader,
    select,
    split,
    take,
)


def numbered(n, classes=3):
    """Images whose only pixel is their number, labelled in turn."""
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None]
    return ImageSet(images, torch.arange(n) % classes, [str(c) for c in range(classes)])


def numbers(dataset):
    return [int(dataset[i][0].flatten()[0]) for i in range(len(dataset))]


class Plain(Dataset):
    """A set that only has `__getitem__`, as torchvision's."""

    def __init__(self, n):
        self.targets, self.classes = [i % 2 for i in range(n)], ["even", "odd"]

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, i):
        return torch.full((1, 2, 2), i, dtype=torch.uint8), self.targets[i]


def blank(*shape, dtype=torch.uint8):
    return torch.zeros(shape, dtype=dtype)


def test_image_set_gives_one_or_many():
    dataset = numbered(10)
    image, label = dataset[4]
    assert (image.shape, label.shape, int(image), int(label)) == ((1, 1, 1), (), 4, 1)
    images, labels = dataset[[7, 2]]
    assert (images.flatten().tolist(), labels.tolist()) == ([7, 2], [1, 2])
    with pytest.raises(IndexError):
        dataset[10]


@pytest.mark.parametrize(
    ("images", "labels", "classes", "message"),
    [
        (blank(2, 1, 3, 3, dtype=torch.float32), [0, 1], "ab", "uint8, 0 to 255, got"),
        (blank(2, 3, 3), [0, 1], "ab", r"\[N, C, H, W\], got torch.uint8 \[2, 3, 3\]"),
        (
            blank(2, 28, 28, 1),
            [0, 1],
            "ab",
            r"channels|\[N, H, W, C\]: pass images.perm",
        ),
        (blank(2, 8, 9, 3), [0, 1], "ab", r"\[2, 8, 9, 3\], which looks like \[N, H"),
        (np.zeros((2, 1, 3, 3), np.uint8), [0, 1], "ab", "got a ndarray"),
        (blank(2, 1, 3, 3), [0, 1, 1], "ab", r"int64 tensor \[2\], one label for each"),
        (blank(2, 1, 3, 3), [0.0, 1.0], "ab", r"int64 .* got torch.float32 \[2\]"),
        (blank(2, 1, 3, 3), [[0, 1], [1, 0]], "ab", r"got torch.int64 \[2, 2\]"),
        (blank(2, 1, 3, 3), [0, 2], "ab", r"0\.\.1, .* got 0\.\.2"),
        (blank(2, 1, 3, 3), [0, -1], "ab", r"0\.\.1, .* got -1\.\.0"),
        (blank(2, 1, 3, 3), [0, 1], 2, "list of names, got 2"),
    ],
)
def test_image_set_refuses_what_does_not_belong_together(
    images, labels, classes, message
):
    classes = list(classes) if isinstance(classes, str) else classes
    with pytest.raises(ValueError, match=message):
        ImageSet(images, torch.tensor(labels), classes)


def test_image_set_refuses_a_list_of_labels_and_a_string_of_classes():
    with pytest.raises(ValueError, match="got a list"):
        ImageSet(blank(2, 1, 3, 3), [0, 1], ["a", "b"])
    with pytest.raises(ValueError, match="list of names, got 'cat'"):
        ImageSet(blank(2, 1, 3, 3), torch.tensor([0, 1]), "cat")


def coloured(n):
    return torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 3, 5, 6)


def test_paired_set_gives_one_example_or_a_batch():
    dataset = PairedSet(coloured(5), torch.arange(5) * 10, list("abcde"), ["x"])
    image, target = dataset[3]
    assert (image.shape, int(image[0, 0, 0]), int(target)) == ((3, 5, 6), 3, 30)
    for index in ([4, 1], torch.tensor([4, 1])):
        batch, targets = dataset[index]
        assert (batch[:, 0, 0, 0].tolist(), targets.tolist()) == ([4, 1], [40, 10])
    assert dataset[1:3][1].tolist() == [10, 20]
    assert (len(dataset), dataset.names[2], dataset.classes) == (5, "c", ["x"])
    with pytest.raises(IndexError):
        dataset[5]


def test_several_annotations_come_as_a_dict():
    targets = {"age": torch.tensor([5, 6, 7]), "gender": torch.tensor([0, 1, 0])}
    dataset = PairedSet(coloured(3), targets)
    assert {k: int(v) for k, v in dataset[1][1].items()} == {"age": 6, "gender": 1}
    assert dataset[[2, 0]][1]["age"].tolist() == [7, 5]
    assert dataset.names is None and dataset.classes == []


@pytest.mark.parametrize(
    ("images", "targets", "names", "message"),
    [
        (coloured(2).float(), blank(2), None, "uint8"),
        (coloured(2)[:, 0], blank(2), None, r"\[N, C, H, W\]"),
        (coloured(2).permute(0, 2, 3, 1), blank(2), None, r"\[N, H, W, C\]"),
        (coloured(2), blank(3), None, "targets must be a tensor of 2"),
        (coloured(2), [0, 1], None, "targets must be a tensor of 2, .* got a list"),
        (coloured(2), {"age": blank(2), "gender": blank(1)}, None, "gender must be a"),
        (coloured(2), blank(2), ["a"], "names must be 2"),
        # masks with height and width swapped, of another size, with channels last
        (coloured(2), blank(2, 6, 5), None, r"as large as the images.*\[2, 6, 5\]"),
        (coloured(2), blank(2, 10, 12), None, "as large as the images"),
        (coloured(2), blank(2, 5, 6, 11), None, "as large as the images"),
        (coloured(2), blank(2, 5, 6, 1), None, "as large as the images"),
        (coloured(2), blank(2, 5, 6, 3), None, "as large as the images"),
        # keypoints with x and y first
        (coloured(2), blank(2, 2, 68), None, r"\[N, K, 2\], got \[2, 2, 68\]"),
    ],
)
def test_paired_set_refuses_what_does_not_belong_together(
    images, targets, names, message
):
    with pytest.raises(ValueError, match=message):
        PairedSet(images, targets, names)


@pytest.mark.parametrize(
    "shape", [(2,), (2, 5, 6), (2, 11, 5, 6), (2, 68, 2), (2, 9, 4), (2, 136), (2, 3)]
)
def test_paired_set_takes_masks_keypoints_boxes_and_numbers(shape):
    assert PairedSet(coloured(2), blank(*shape))[1][1].shape == shape[1:]


def test_take_keeps_the_shares_and_repeats_nothing():
    dataset = numbered(90)
    sample = take(dataset, 30, seed=1)
    assert sample.labels.bincount().tolist() == [10, 10, 10]
    assert len(set(numbers(sample))) == 30
    assert [n % 3 for n in numbers(sample)] == sample.labels.tolist()
    again, other = (take(dataset, 30, seed=seed) for seed in (1, 2))
    assert numbers(sample) == numbers(again) != numbers(other)
    # not one class after the other
    assert sample.labels.tolist() != sorted(sample.labels.tolist())
    assert sorted(numbers(take(dataset, 90))) == list(range(90))
    assert sample.classes == dataset.classes


def test_take_of_unequal_classes_is_off_by_less_than_one():
    labels = torch.tensor([0] * 70 + [1] * 20 + [2] * 10)
    dataset = ImageSet(blank(100, 1, 1, 1), labels, list("abc"))
    for n in range(1, 101, 3):
        counts = take(dataset, n, seed=n).labels.bincount(minlength=3)
        assert (counts - n * torch.tensor([0.7, 0.2, 0.1])).abs().max() < 1


@pytest.mark.parametrize("n", [0, -1, 11, 0.1, 5.0])
def test_take_refuses_impossible_numbers(n):
    with pytest.raises(ValueError, match=f"whole number from 1 to 10, .* got {n}"):
        take(numbered(10), n)


def test_split_leaves_nothing_out_and_nothing_twice():
    rest, part = split(numbered(90), 1 / 3, seed=5)
    assert (len(rest), len(part)) == (60, 30)
    assert sorted(numbers(rest) + numbers(part)) == list(range(90))
    assert rest.labels.bincount().tolist() == [20, 20, 20]


def test_the_seed_decides_the_split():
    first, again, other = (split(numbered(90), 0.2, seed=s) for s in (0, 0, 1))
    assert numbers(first[1]) == numbers(again[1]) and numbers(first[0]) == numbers(
        again[0]
    )
    assert sorted(numbers(first[1])) != sorted(numbers(other[1]))


@pytest.mark.parametrize(
    ("fraction", "message"),
    [
        (20, "between 0 and 1 .0.2 for 20 %., got 20"),
        (1.0, "between 0 and 1"),
        (0, "between 0 and 1"),
        (-0.5, "between 0 and 1"),
        (float("nan"), "between 0 and 1"),
        (0.01, "leaves one part empty"),
        (0.99, "leaves one part empty"),
    ],
)
def test_split_refuses_impossible_fractions(fraction, message):
    with pytest.raises(ValueError, match=message):
        split(numbered(10), fraction)


def test_take_and_split_of_a_plain_dataset():
    sample = take(Plain(20), 8, seed=0)
    assert sample.labels.bincount().tolist() == [4, 4]
    assert [label for _, label in sample] == sample.labels.tolist()
    rest, part = split(sample, 0.5, seed=0)
    assert sorted(numbers(rest) + numbers(part)) == sorted(numbers(sample))


class Labelled(Plain):
    def __init__(self, targets):
        self.targets, self.classes = targets, ["a", "b"]


@pytest.mark.parametrize(
    "dataset",
    [
        TensorDataset(torch.zeros(3)),
        Labelled([0.5, 1.5]),
        Labelled([[0, 1], [1, 0]]),
        Labelled([{"boxes": 1}, {"boxes": 2}]),
        (numbered(3), numbered(3)),
    ],
)
def test_a_set_without_one_label_an_example_is_refused(dataset):
    for use in (lambda: take(dataset, 2), lambda: split(dataset, 0.5)):
        with pytest.raises(TypeError, match="neither .labels nor .targets"):
            use()


def test_select_takes_numbers_in_any_form_and_no_mask():
    for dataset in (numbered(5), Plain(5)):
        for indices in ([3, 1], torch.tensor([3, 1]), np.array([3, 1])):
            chosen = select(dataset, indices)
            assert numbers(chosen) == [3, 1] and chosen.classes == dataset.classes
            assert chosen.labels.tolist() == [dataset[3][1], dataset[1][1]]
        for wrong in (torch.tensor([True, False, True, False, False]), [0.5], 3):
            with pytest.raises(TypeError, match="numbers .n., .* pass mask.nonzero"):
                select(dataset, wrong)
        assert len(select(dataset, [])) == 0
        with pytest.raises(IndexError):
            select(dataset, [5])


def test_a_split_by_track_as_gtsrb_tells():
    """20 classes of 5 to 14 tracks of 3 to 12 frames each, in random order."""
    draw = np.random.default_rng(0)
    labels, tracks = [], []
    for label in range(20):
        for track in range(draw.integers(5, 15)):
            frames = int(draw.integers(3, 13))
            labels += [label] * frames
            tracks += [100 * label + track] * frames
    order = torch.from_numpy(draw.permutation(len(labels)))
    labels, tracks = torch.tensor(labels)[order], torch.tensor(tracks)[order]
    images = torch.stack([order // 256, order % 256], 1).byte()[:, :, None, None]
    train = ImageSet(images, labels, [str(c) for c in range(20)])
    train.tracks = tracks

    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    rest, part = next(folds.split(train.labels, train.labels, train.tracks))
    fitting, val = select(train, rest), select(train, part)

    assert len(fitting) + len(val) == len(train) and not set(rest) & set(part)
    assert not set(tracks[rest].tolist()) & set(tracks[part].tolist())
    assert torch.equal(val.images, images[part]) and torch.equal(
        val.labels, labels[part]
    )
    shares = val.labels.bincount(minlength=20) / labels.bincount()
    assert abs(len(val) / len(train) - 0.2) < 0.02 and (shares - 0.2).abs().max() < 0.15


@pytest.mark.parametrize(
    "dataset", [numbered(10), Plain(10)], ids=["in memory", "plain"]
)
def test_loader_gives_every_example_once_the_short_batch_too(dataset):
    loader = make_loader(dataset, 4)
    batches = list(loader)
    assert [len(labels) for _, labels in batches] == [4, 4, 2] and len(loader) == 3
    images = torch.cat([images for images, _ in batches])
    assert images.dtype == torch.float32
    assert (images[:, 0, 0, 0] * 255).round().int().tolist() == list(range(10))
    labels = torch.cat([labels for _, labels in batches])
    assert labels.tolist() == [dataset[i][1] for i in range(10)]
    whole = [len(labels) for _, labels in make_loader(dataset, 4, drop_last=True)]
    assert whole == [4, 4] and len(make_loader(dataset, 10, drop_last=True)) == 1


def orders(loader, epochs=2):
    return [
        [int(n) for x, _ in loader for n in (x * 255).round().flatten(1)[:, 0]]
        for _ in range(epochs)
    ]


@pytest.mark.parametrize(
    "dataset",
    [numbered(20), Plain(20), Subset(numbered(20), range(20))],
    ids=["in memory", "plain", "subset"],
)
def test_shuffling_is_new_each_epoch_and_repeats_with_the_seed(dataset):
    first, second = orders(make_loader(dataset, 8, shuffle=True, seed=1))
    # the stored results of the course depend on this very order
    assert first[:10] == [4, 9, 1, 10, 15, 16, 13, 5, 7, 3]
    assert second[:10] == [5, 8, 11, 7, 10, 14, 19, 6, 1, 9]
    assert sorted(first) == sorted(second) == list(range(20))
    assert orders(make_loader(dataset, 8, shuffle=True, seed=2)) != [first, second]


def test_the_generator_holds_the_state_of_the_order():
    loader = make_loader(numbered(20), 4, shuffle=True, seed=1)
    orders(loader, 1)
    state = loader.generator.get_state()
    after = orders(loader)
    loader.generator.set_state(state)
    assert orders(loader) == after


def test_images_stay_with_their_labels():
    for images, labels in make_loader(
        numbered(30), 7, shuffle=True, transform=lambda batch: batch
    ):
        assert (images.flatten() % 3).tolist() == labels.tolist()


def test_the_transform_sees_whole_uint8_batches():
    seen = []

    def transform(batch):
        seen.append((batch.dtype, tuple(batch.shape)))
        return batch.float()

    list(make_loader(numbered(5), 2, transform=transform))
    assert seen == [(torch.uint8, (2, 1, 1, 1))] * 2 + [(torch.uint8, (1, 1, 1, 1))]


def test_default_transform_is_torchvisions_scaling():
    images = torch.randint(0, 256, (4, 3, 5, 5), dtype=torch.uint8)
    ((batch, _),) = make_loader(ImageSet(images, torch.zeros(4).long(), ["a"]), 4)
    expected = v2.functional.to_dtype(images, torch.float32, scale=True)
    assert torch.equal(batch, expected) and batch.shape == (4, 3, 5, 5)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.full((4, 1, 2, 2), 200, dtype=torch.int32), "got torch.int32 from 200"),
        (torch.full((4, 1, 2, 2), 200.0), "got torch.float32 from 200.0 to 200.0"),
        (torch.linspace(-1, 1, 16).view(4, 1, 2, 2), "from -1.0 to"),
        (torch.full((4, 1, 2, 2), torch.nan), "from nan"),
    ],
)
def test_a_loader_without_a_transform_promises_floats_from_0_to_1(images, message):
    dataset = TensorDataset(images, torch.zeros(4).long())
    with pytest.raises(ValueError, match=rf"floats in \[0, 1\], .*{message}"):
        next(iter(make_loader(dataset, 2)))
    batch, _ = next(iter(make_loader(dataset, 4, transform=lambda images: images)))
    assert torch.equal(batch, images) or batch.isnan().all()
    for good in (torch.rand(4, 1, 2, 2), torch.rand(4, 1, 2, 2).double()):
        ((batch, _),) = make_loader(TensorDataset(good, torch.zeros(4)), 4)
        assert batch.dtype == torch.float32 and torch.equal(batch, good.float())


def test_workers_give_the_same_batches():
    dataset = numbered(20)
    alone, helped = (
        make_loader(dataset, 6, shuffle=True, seed=1, num_workers=n) for n in (0, 1)
    )
    assert orders(alone, 1) == orders(helped, 1)


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda: make_loader(numbered(0), 4), ValueError, "from 0 examples"),
        (lambda: make_loader(numbered(4), 0), ValueError, "batches of 0"),
        (
            lambda: make_loader(numbered(4), 5, drop_last=True),
            ValueError,
            "leaves no batch: 4 examples are fewer than one batch of 5",
        ),
        (lambda: make_loader((numbered(4),) * 2, 2), TypeError, "unpack it"),
        (
            lambda: make_loader(DetectionSet([], [], []), 2),
            TypeError,
            "collate_fn=utils",
        ),
        (
            lambda: next(iter(make_loader(numbered(4), 2, transform=print))),
            TypeError,
            "transform returned None",
        ),
        (
            lambda: next(iter(make_loader(TensorDataset(torch.zeros(3)), 2))),
            ValueError,
            r"pairs \(image, label\), got tuple",
        ),
        (
            lambda: next(iter(make_loader([{"x": 1}, {"x": 2}], 2))),
            ValueError,
            r"pairs \(image, label\), got dict",
        ),
    ],
)
def test_loader_refuses_what_it_cannot_load(use, error, message):
    with pytest.raises(error, match=message):
        use()


def test_a_set_in_memory_works_with_torchs_own_loader_and_pickles():
    dataset = pickle.loads(pickle.dumps(numbered(10)))
    for whole in (dataset, Subset(dataset, range(10))):
        images, labels = next(iter(DataLoader(whole, 4)))
        assert (images.flatten().tolist(), labels.tolist()) == (
            [0, 1, 2, 3],
            [0, 1, 2, 0],
        )
    targets = {"age": torch.arange(5), "mask": torch.zeros(5, 5, 6)}
    images, parts = next(iter(DataLoader(PairedSet(coloured(5), targets), 4)))
    assert images.shape == (4, 3, 5, 6) and parts["age"].tolist() == [0, 1, 2, 3]


class Counted(ImageSet):
    """A set that counts how it is asked."""

    asked = Counter()

    def __getitem__(self, index):
        self.asked["one" if isinstance(index, int) else len(index)] += 1
        return super().__getitem__(index)


def test_a_set_in_memory_is_asked_once_a_batch_in_a_subset_too():
    plain = numbered(20)
    for subset in (
        lambda dataset: dataset,
        lambda s: Subset(Subset(s, range(20)), range(20)),
    ):
        dataset = Counted(plain.images, plain.labels, plain.classes)
        dataset.asked = Counter()
        loader = make_loader(subset(dataset), 8, shuffle=True, seed=1)
        assert orders(loader) == orders(make_loader(plain, 8, shuffle=True, seed=1))
        assert dataset.asked == {8: 4, 4: 2}


def test_masks_and_other_pairs_come_in_whole_batches():
    masks = torch.arange(5 * 30).view(5, 5, 6)
    pairs = PairedSet(coloured(5), {"mask": masks, "depth": masks / 2})
    ((images, targets),) = make_loader(pairs, 5, transform=lambda images: images)
    assert torch.equal(images, pairs.images) and torch.equal(targets["mask"], masks)
    assert torch.equal(targets["depth"], masks / 2)


@pytest.mark.parametrize("shuffle", [False, True])
def test_each_process_gets_its_own_share_and_the_seed_its_order(monkeypatch, shuffle):
    def shares(seed, n=20):
        found = []
        for rank in (0, 1):
            processes = rank, 2
            monkeypatch.setattr(
                "utils.data.loading.join_processes", lambda p=processes: p
            )
            loader = make_loader(numbered(n), 4, shuffle=shuffle, seed=seed)
            found.append(orders(loader, 1)[0])
        return found

    first, again, other = shares(1), shares(1), shares(2)
    assert sorted(first[0] + first[1]) == list(range(20)) and len(first[0]) == 10
    assert first == again and (first != other) == shuffle
    if not shuffle:  # as in a measurement: none is left out and none comes twice
        assert shares(1, n=7) == [[0, 2, 4, 6], [1, 3, 5]]


def test_one_example_of_an_uneven_set_is_of_the_frequent_class():
    images = torch.zeros(5, 1, 2, 2, dtype=torch.uint8)
    uneven = ImageSet(images, torch.tensor([0, 1, 1, 1, 1]), ["rare", "frequent"])
    assert [take(uneven, 1, seed=seed).labels.item() for seed in range(5)] == [1] * 5


def test_a_pair_transform_gets_images_and_targets_before_the_transform():
    masks = torch.arange(6).view(6, 1, 1).expand(6, 2, 2).contiguous()
    images = masks[:, None].repeat(1, 3, 1, 1).to(torch.uint8)

    def swap(batch, targets):
        return batch + 10, targets * 2

    loader = make_loader(
        PairedSet(images, masks), 4, pair_transform=swap, transform=lambda x: x / 10
    )
    (first, targets), (last, _) = loader
    assert first[:, 0, 0, 0].tolist() == pytest.approx([1.0, 1.1, 1.2, 1.3])
    assert targets[:, 0, 0].tolist() == [0, 2, 4, 6] and len(last) == 2
    assert pickle.loads(pickle.dumps(make_loader(numbered(3), 2).collate_fn))
