"""`training.compare`: what it computes, and that equal seeds mean equal conditions."""

import functools
import random

import numpy as np
import pandas as pd
import pytest
import torch
from comparison_helpers import CPU, RATES, Watched, deep, linear, pictures, sets, small, without_time
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR

from utils.loading import make_loader
from utils.metrics import accuracy
from utils.runtime import seed_everything
from utils.training import Arm, compare, evaluate, fit

COLUMNS = "arm phase seed learning_rate batch_size steps examples seconds train_loss validation_accuracy"
COLUMNS = f"{COLUMNS} test_accuracy diverged rate_at_edge exploratory".split()


def test_one_row_a_run():
    table = small().table
    assert list(table) == COLUMNS
    search, final = table[table.phase == "search"], table[table.phase == "final"]
    assert len(search) == 2 * 3 and len(final) == 2 * 3 and len(table) == 12
    assert search.test_accuracy.isna().all() and final.test_accuracy.between(0, 1).all()
    assert table.validation_accuracy.between(0, 1).all()
    assert (table.steps == 12).all() and (table.examples == 96).all() and (table.batch_size == 8).all()
    assert (table.seconds > 0).all() and not table.diverged.any() and not table.exploratory.any()
    assert set(search.seed) == {3} and final.groupby("arm").seed.agg(list).to_dict() == {
        "deep": [0, 1, 2],
        "linear": [0, 1, 2],
    }
    assert search.groupby("arm").learning_rate.agg(list).to_dict() == {"deep": RATES, "linear": RATES}


@pytest.mark.parametrize("make", [linear, deep])
def test_a_run_equals_fit(make):
    """12 steps are one and a half epochs; 16 are two, which `fit` can make too."""
    data = sets()
    found = small({"arm": make}, steps=16, **data).final
    for _, row in found.iterrows():
        seed_everything(row.seed)
        model = make()
        seed_everything((row.seed + 2**31) % 2**32)
        loader = make_loader(data["train"], 8, shuffle=True, seed=row.seed, drop_last=True)
        optimizer = torch.optim.SGD(model.parameters(), lr=row.learning_rate)
        options = {"loss_fn": F.cross_entropy, "device": CPU, "metrics": {"accuracy": accuracy}}
        fit(model, loader, None, epochs=2, optimizer=optimizer, verbose=False, **options)
        for name in ("validation", "test"):
            measured = evaluate(model, make_loader(data[name], 7), **options)
            assert measured["accuracy"] == pytest.approx(row[f"{name}_accuracy"], abs=1e-6)


def test_each_arm_gets_its_own_settings_and_no_other():
    """Every arm alone gives the rows that it gives among the others: nothing leaks, no two are swapped."""
    arms = {
        "linear": linear,
        "deep": Arm(deep, batch_size=5),
        "adam": Arm(linear, optimizer=torch.optim.Adam, learning_rates=[1e-3, 1e-2, 1e-1]),
        "raw": Arm(linear, transform=lambda images: images.float(), learning_rates=[1e-6, 1e-5, 1e-4]),
        "few": Arm(deep, train=pictures(20, 9)),
        "cosine": Arm(linear, scheduler=CosineAnnealingLR),
        "noisy": Arm(linear, train_transform=lambda images: images / 255 + torch.rand(len(images), 1, 1, 1)),
    }
    together = without_time(small(arms).table)
    for name, arm in arms.items():
        alone = without_time(small({name: arm}).table)
        pd.testing.assert_frame_equal(together[together.arm == name].reset_index(drop=True), alone)
    assert together.groupby("arm").batch_size.first()["deep"] == 5
    finals = together[together.phase == "final"].groupby("arm").train_loss.agg(tuple)
    assert finals.nunique() == len(arms)


@pytest.mark.parametrize(
    "setting",
    [
        {"optimizer": torch.optim.Adam},
        {"learning_rates": [0.02, 0.2, 2.0]},
        {"scheduler": CosineAnnealingLR},
        {"batch_size": 5},
        {"transform": lambda images: images / 100, "train_transform": lambda images: images / 99},
        {"train": pictures(30, 9)},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_a_setting_means_the_same_for_an_arm_as_for_all(setting):
    plain, changed = small({"arm": linear}).table, small({"arm": linear}, **setting).table
    pd.testing.assert_frame_equal(
        without_time(small({"arm": Arm(linear, **setting)}).table), without_time(changed)
    )
    assert (plain.train_loss != changed.train_loss).all()


def test_equal_seeds_mean_equal_weights_order_and_augmentation():
    seen = {}

    def spy(name):
        def transform(images):
            noisy = images.float() / 255 + torch.rand(len(images), 1, 1, 1)
            seen.setdefault(name, []).append(noisy)
            return noisy

        return transform

    def wasteful():
        torch.rand(1000)  # draws more numbers than `linear` before training starts
        return deep()

    plain = {"transform": lambda images: images.float() / 255}
    arms = {"one": Arm(linear, train_transform=spy("one"), **plain)}
    arms["other"] = Arm(wasteful, train_transform=spy("other"), **plain)
    small(arms)
    for one, other in zip(seen["one"], seen["other"], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    runs = [torch.cat(seen["one"][start : start + 12]) for start in range(0, len(seen["one"]), 12)]
    assert len(runs) == 6  # 3 of the search with one seed, 3 final ones with a seed each
    torch.testing.assert_close(runs[0], runs[2], rtol=0, atol=0)
    assert not any(torch.equal(runs[i], runs[j]) for i in range(2, 6) for j in range(2, i))


def test_seeds_decide_the_first_weights():
    weights = []

    def remember():
        model = linear()
        weights.append(model[1].weight.detach().clone())
        return model

    small({"a": remember, "b": remember})
    del weights[:4]  # what checks that each call builds anew
    search, final = weights[:6], weights[6:]
    assert all(torch.equal(search[0], other) for other in search)
    assert [i for i in range(6) if torch.equal(final[0], final[i])] == [0, 1]  # a and b of the same seed


def test_the_test_set_is_read_after_every_choice_and_not_by_the_search():
    told = []
    small(told=told)
    measured = [name for name in told if name != "train"]
    assert measured == ["validation"] * 6 + ["validation", "test"] * 6


def test_the_rate_is_the_best_on_the_validation_set():
    comparison = small()
    search = comparison.table[comparison.table.phase == "search"]
    for arm, runs in search.groupby("arm"):
        best = runs.learning_rate[runs.validation_accuracy.idxmax()]
        assert set(comparison.final[comparison.final.arm == arm].learning_rate) == {best}


def test_a_smaller_metric_can_be_the_better_one():
    def error(outputs, labels):
        return 1 - accuracy(outputs, labels)

    by_accuracy, by_error = small(), small(metric=error, higher_is_better=False)
    assert by_error.test == "test_error"
    assert by_error.final.learning_rate.tolist() == by_accuracy.final.learning_rate.tolist()
    np.testing.assert_allclose(by_error.final.test_error, 1 - by_accuracy.final.test_accuracy, atol=1e-6)


@pytest.mark.parametrize(("rates", "at_edge"), [([1e-6, 0.1, 1e4], False), ([1e-8, 1e-7, 0.1], True)])
def test_a_best_rate_at_the_edge_is_marked(rates, at_edge):
    loss = {"metric": F.cross_entropy, "higher_is_better": False}
    comparison = small({"linear": linear}, learning_rates=rates, steps=60, **loss)
    assert (comparison.table.rate_at_edge == at_edge).all()
    assert comparison.summary().rate_at_edge.tolist() == [at_edge]


def test_random_generators_are_left_as_they_were():
    seed_everything(5)
    expected = torch.rand(3), np.random.rand(), random.random()
    seed_everything(5)
    small()
    assert torch.equal(torch.rand(3), expected[0])
    assert (np.random.rand(), random.random()) == expected[1:]


def test_an_arm_may_be_a_partial_and_a_set_may_give_single_examples():
    class Singles(torch.utils.data.Dataset):
        def __init__(self, dataset):
            self.dataset = dataset

        def __len__(self):
            return len(self.dataset)

        def __getitem__(self, index):
            return self.dataset[index]

    data = sets()
    arms = {"arm": functools.partial(nn.Sequential, nn.Flatten(), nn.Flatten())}
    with pytest.raises(ValueError, match="optimizer got an empty parameter list"):
        compare(arms, learning_rates=RATES, steps=1, verbose=False, batch_size=8, device=CPU, **data)
    singles = {name: Singles(dataset) for name, dataset in data.items()}
    one, other = small(**data), small(**singles)
    pd.testing.assert_frame_equal(without_time(one.table), without_time(other.table))
    assert isinstance(data["train"], Watched)
