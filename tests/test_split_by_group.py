import numpy as np
import pytest
import torch
from sklearn.model_selection import StratifiedGroupKFold

from utils.groups import _choose_groups, split_by_group
from utils.loading import ImageSet


def numbered(labels):
    """Pictures whose only pixels are their number."""
    n, classes = len(labels), int(max(labels, default=0)) + 1
    images = torch.stack([torch.arange(n) // 256, torch.arange(n) % 256], 1).byte()[:, :, None, None]
    return ImageSet(images, torch.as_tensor(labels, dtype=torch.int64), [str(c) for c in range(classes)])


def numbers(dataset):
    return (dataset.images[:, 0, 0, 0].long() * 256 + dataset.images[:, 1, 0, 0]).tolist()


def signs(seed=0):
    """20 classes of 5 to 14 tracks of 3 to 12 frames each."""
    draw = np.random.default_rng(seed)
    labels, tracks = [], []
    for label in range(20):
        for track in range(draw.integers(5, 15)):
            n = draw.integers(3, 13)
            labels += [label] * n
            tracks += [100 * label + track] * n
    order = draw.permutation(len(labels))
    return torch.tensor(labels)[order], torch.tensor(tracks)[order]


@pytest.mark.parametrize("fraction", [0.15, 0.2, 0.5, 0.7])
def test_no_group_is_in_both_parts_and_classes_keep_their_shares(fraction):
    labels, tracks = signs()
    rest, part = split_by_group(numbered(labels), tracks, fraction, seed=3)
    assert sorted(numbers(rest) + numbers(part)) == list(range(len(labels)))
    assert not set(rest.groups.tolist()) & set(part.groups.tolist())
    for one in (rest, part):
        assert torch.equal(tracks[numbers(one)], one.groups) and torch.equal(labels[numbers(one)], one.labels)
        assert numbers(one) == sorted(numbers(one))
    assert abs(len(part) / len(labels) - fraction) < 0.01
    shares = part.labels.bincount(minlength=20) / labels.bincount()
    assert (shares - fraction).abs().max() < 0.12


def test_shares_are_kept_about_as_well_as_by_scikit_learn():
    errors = {"ours": 0.0, "theirs": 0.0}
    for seed in range(5):
        labels, tracks = signs(seed)
        fold = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        theirs = labels[next(fold.split(labels, labels, tracks))[1]]
        ours = split_by_group(numbered(labels), tracks, 0.2, seed=seed)[1].labels
        for name, part in (("theirs", theirs), ("ours", ours)):
            shares = part.bincount(minlength=20) / labels.bincount()
            errors[name] += float((shares - 0.2).abs().mean())
    assert errors["ours"] < 1.1 * errors["theirs"]


def test_classes_that_are_groups_are_split_whole():
    people = torch.arange(40).repeat_interleave(10)
    for fraction, expected in ((0.1, 40), (0.25, 100), (0.8, 320)):
        rest, part = split_by_group(numbered(people), people, fraction)
        assert len(part) == expected and len(rest) == 400 - expected
        assert not set(part.labels.tolist()) & set(rest.labels.tolist())


def test_people_with_pictures_of_all_classes():
    draw = np.random.default_rng(1)
    people, labels = draw.integers(0, 60, 1500), torch.tensor(draw.integers(0, 2, 1500))
    names = [f"person {number}" for number in people]
    rest, part = split_by_group(numbered(labels), names, 0.3)
    assert set(part.groups).isdisjoint(rest.groups) and set(part.groups) | set(rest.groups) == set(names)
    assert part.groups == [names[i] for i in numbers(part)]
    assert (part.labels.bincount() / labels.bincount() - 0.3).abs().max() < 0.03


def test_no_single_group_could_be_moved_with_gain():
    counts = torch.from_numpy(np.random.default_rng(2).integers(0, [3, 9, 40], (30, 3))).double()
    total = counts.sum(0)

    def error(chosen):
        """Squared errors, relative to the size of each class; that of the whole counts as all classes do."""
        errors = counts[chosen].sum(0) - 0.3 * total
        return (errors**2 / total).sum() + 3 * errors.sum() ** 2 / total.sum()

    for seed in range(20):
        chosen = _choose_groups(counts, 0.3, seed)
        for group in range(30):
            moved = chosen.clone()
            moved[group] = ~moved[group]
            assert error(moved) >= error(chosen) * (1 - 1e-6)


def test_a_class_without_examples():
    rest, part = split_by_group(numbered([0, 0, 2, 2]), [1, 2, 3, 4], 0.5)
    assert part.labels.tolist() == rest.labels.tolist() == [0, 2]


def test_the_seed_decides():
    labels, tracks = signs()
    parts = [numbers(split_by_group(numbered(labels), tracks, 0.2, seed=seed)[1]) for seed in (1, 1, 2)]
    assert parts[0] == parts[1] != parts[2]


def test_split_again():
    labels, tracks = signs()
    rest, test = split_by_group(numbered(labels), tracks, 0.2)
    train, val = split_by_group(rest, rest.groups, 0.25)
    parts = [set(one.groups.tolist()) for one in (train, val, test)]
    assert len(set.union(*parts)) == sum(map(len, parts)) == len(tracks.unique())


def test_split_by_hand():
    rest, part = split_by_group(numbered([0, 0, 1, 1]), [7, 7, 3, 3], 0.5)
    assert len(rest) == len(part) == 2
    rest, part = split_by_group(numbered([0] * 6), [1, 2, 2, 2, 2, 2], 0.1)  # only the small group fits
    assert numbers(part) == [0]


@pytest.mark.parametrize(
    ("labels", "names", "fraction", "message"),
    [
        ([0, 1], [1], 0.5, "expected 2 groups"),
        ([0, 1], [[1], [2]], 0.5, "expected 2 groups"),
        ([0, 1], [1, 1], 0.5, "one part empty"),
        ([0, 1, 1], [1, 2, 3], 0.0, "one part empty"),
        ([0, 1, 1], [1, 2, 3], 1.0, "one part empty"),
        ([0, 1, 1], [1, 2, 3], 1.5, "one part empty"),
        ([0, 1, 1], [1, 2, 3], -0.5, "one part empty"),
        ([], [], 0.5, "one part empty"),
    ],
)
def test_impossible_splits(labels, names, fraction, message):
    with pytest.raises(ValueError, match=message):
        split_by_group(numbered(labels), names, fraction)
