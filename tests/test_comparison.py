"""`utils.comparison`: the protocol, what it refuses, what it finds, and its figure."""

import dataclasses
import functools
import itertools
import math
import random

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader, Subset

from utils.comparison import Arm, Comparison, check_apart, choose_rates, compare
from utils.data import ImageSet, make_loader, split, take
from utils.metrics import accuracy
from utils.plotting import compare_arms
from utils.runtime import seed_everything
from utils.training import evaluate, fit

CPU = torch.device("cpu")
RATES = [0.01, 0.1, 1.0]
MINUS = "\N{MINUS SIGN}"
COLUMNS = (
    "arm phase seed learning_rate batch_size steps examples seconds train_loss "
    "validation_accuracy test_accuracy diverged widened exploratory"
).split()


# A run that trains nothing: an arm is the score that it reaches, at its best rate.


def score(arm, rate, seed, phase):
    level, best = arm
    value = level - 0.1 * abs(math.log10(rate / best)) + 0.01 * math.sin(9 * seed)
    found = {"validation_ap50": value, "steps": 12}
    return found | ({"test_ap50": value} if phase == "final" else {})


def scored(arms=None, run=score, **options):
    options = {"learning_rates": RATES, "metric": "ap50", "verbose": False} | options
    return compare(arms or {"a": (0.5, 0.1), "b": (0.7, 0.2)}, run, **options)


def changed(**measurements):
    """The cheap run, with other measurements; None takes one away."""

    def run(arm, rate, seed, phase):
        found = score(arm, rate, seed, phase) | measurements
        return {name: value for name, value in found.items() if value is not None}

    return run


# Real training, small enough for tests.


class Watched(ImageSet):
    """A set that tells a list whenever it is read."""

    def __init__(self, *args, name="", told=None):
        super().__init__(*args)
        self.name, self.told = name, told if told is not None else []

    def __getitem__(self, index):
        self.told.append(self.name)
        return super().__getitem__(index)


def images(n, seed, told=None, name=""):
    """Noise, with a brighter left half for class 0 and a brighter right half for 1."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 200, (n, 1, 2, 4), generator=generator)
    labels = torch.randint(0, 2, (n,), generator=generator)
    pixels[labels == 0, :, :, :2] += 40
    pixels[labels == 1, :, :, 2:] += 40
    pixels = pixels.to(torch.uint8)
    return Watched(pixels, labels, ["left", "right"], name=name, told=told)


def sets(told=None):
    sizes = {"train": (70, 1), "validation": (40, 2), "test": (60, 3)}
    return {name: images(*size, told, name) for name, size in sizes.items()}


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(8, 2))


def deep():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2)
    )


def small(arms=None, told=None, **changes):
    """Call `compare` on the small sets, without wider rates unless they are wanted."""
    options = {"learning_rates": RATES, "steps": 12, "batch_size": 8, "device": CPU}
    options |= {"seeds": (0, 1, 2), "verbose": False} | sets(told) | changes
    arms = {"linear": linear, "deep": deep} if arms is None else arms
    return compare(arms, **options)


def without_time(table):
    return table.drop(columns="seconds")


def noisy(pixels):
    return pixels / 255 + torch.rand(len(pixels), 1, 1, 1)


# A table by hand.


def row(arm, seed, test, **changes):
    run = {"arm": arm, "phase": "final", "seed": seed, "learning_rate": 0.1}
    run |= {"batch_size": 8, "steps": 12, "examples": 96, "seconds": 1.0}
    run |= {"train_loss": 1.0, "validation_accuracy": 0.5, "test_accuracy": test}
    return run | {"diverged": False, "widened": False, "exploratory": False} | changes


def search(arm, rate, validation, **changes):
    run = {"phase": "search", "learning_rate": rate, "validation_accuracy": validation}
    return row(arm, 9, math.nan) | run | changes


def rows_of(a=(0.7, 0.8, 0.9), b=(0.6, 0.7, 0.8), sign=1):
    rows = [
        search(arm, rate, sign * (1 - abs(rate - 0.1)))
        for arm in "ab"
        for rate in RATES
    ]
    for arm, tests in zip("ab", (a, b), strict=True):
        rows += [row(arm, seed, value) for seed, value in enumerate(tests)]
    return rows


def compared(rows, budget="steps", **options):
    return Comparison(pd.DataFrame(rows), "accuracy", budget, **options)


# The protocol.


def test_search_then_choice_then_final_runs():
    calls = []

    def run(arm, rate, seed, phase):
        calls.append((arm, rate, seed, phase))
        return score(arm, rate, seed, phase)

    arms = {"a": (0.5, 0.1), "b": (0.7, 0.2)}
    comparison = scored(arms, run)
    searched = [(arm, rate, 5, "search") for arm in arms.values() for rate in RATES]
    final = [(arm, 0.1, seed, "final") for seed in range(5) for arm in arms.values()]
    assert calls == searched + final
    assert comparison.paired("b", "a").verdict == "b is better"
    assert comparison.summary().index.tolist() == ["a", "b"]
    table = comparison.table
    assert list(table)[:5] == ["arm", "phase", "seed", "learning_rate", "batch_size"]
    assert comparison.search.test_ap50.isna().all() and len(table) == 16
    assert table.batch_size.isna().all() and table.train_loss.isna().all()


@pytest.mark.parametrize(
    ("best", "tried", "at_edge"),
    [
        (0.1, RATES, False),
        (10.0, [*RATES, 10.0, 100.0], False),
        (1.0, [*RATES, 10.0], False),
        (1e9, [*RATES, 10.0, 100.0], True),
        (0.01, [*RATES, 1e-3], False),
        (1e-3, [*RATES, 1e-3, 1e-4], False),
        (1e-9, [*RATES, 1e-3, 1e-4], True),
    ],
)
def test_the_grid_is_widened_where_the_best_rate_lies_at_its_edge(best, tried, at_edge):
    comparison = scored({"a": (0.5, best), "b": (0.9, 0.1)})
    searched = comparison.search[comparison.search.arm == "a"]
    assert searched.learning_rate.tolist() == pytest.approx(tried)
    assert searched.widened.tolist() == [False] * 3 + [True] * (len(tried) - 3)
    summary = comparison.summary()
    assert summary.rate_at_edge.to_dict() == {"a": at_edge, "b": False}
    assert summary.rates.to_dict() == {"a": len(tried), "b": 3}
    best_of_tried = min(tried, key=lambda rate: abs(math.log10(rate / best)))
    assert summary.learning_rate["a"] == pytest.approx(best_of_tried)
    for pair in (comparison.paired("a", "b"), comparison.paired("b", "a")):
        withheld = "withheld: best rate at the edge of the grid"
        assert pair.verdict == (withheld if at_edge else "b is better")
        assert (pair.better is None) == at_edge


def test_the_step_of_the_grid_is_that_of_its_two_outermost_rates():
    uneven = [0.1, 0.2, 1.0, 1.5]
    for best, wider in ((1e9, [2.25, 3.375]), (1e-9, [0.05, 0.025])):
        comparison = scored({"a": (0.5, best)}, learning_rates=uneven)
        found = comparison.search.query("widened").learning_rate
        assert found.tolist() == pytest.approx(wider)


def test_a_wider_rate_that_diverges_settles_the_edge():
    def run(arm, rate, seed, phase):
        return {"diverged": True} if rate > 5 else score(arm, rate, seed, phase)

    comparison = scored({"a": (0.5, 100.0), "b": (0.7, 0.1)}, run)
    assert comparison.search.query("diverged").learning_rate.tolist() == [10.0]
    assert comparison.summary().learning_rate["a"] == 1.0
    assert comparison.paired("a", "b").verdict == "b is better"


def test_every_search_seed_tries_the_wider_rates():
    comparison = scored({"a": (0.5, 10.0)}, search_seeds=[7, 8])
    wider = comparison.search.query("widened")
    assert wider.seed.tolist() == [7, 8] * 2


def test_arms_may_choose_from_rates_of_their_own():
    own = {"a": [0.1, 0.2, 0.4], "b": [1.0, 2.0, 4.0]}
    comparison = scored({"a": (0.5, 0.2), "b": (0.7, 2.0)}, learning_rates=own)
    assert comparison.summary().learning_rate.to_dict() == {"a": 0.2, "b": 2.0}
    arms = {name: Arm(linear, learning_rates=rates) for name, rates in own.items()}
    levels = {id(arms["a"]): (0.5, 0.2), id(arms["b"]): (0.7, 2.0)}

    def run(arm, *rest):
        return score(levels[id(arm)], *rest)

    assert scored(arms, run).table.learning_rate.tolist() == (
        comparison.table.learning_rate.tolist()
    )


def test_each_run_is_seeded_and_the_generators_are_left_as_they_were():
    drawn = {}

    def run(arm, rate, seed, phase):
        numbers = torch.rand(()).item(), np.random.rand(), random.random()
        drawn.setdefault(seed, set()).add(numbers)
        return score(arm, rate, seed, phase)

    seed_everything(5)
    expected = torch.rand(3), np.random.rand(), random.random()
    seed_everything(5)
    scored(run=run)
    assert torch.equal(torch.rand(3), expected[0])
    assert (np.random.rand(), random.random()) == expected[1:]
    assert [len(numbers) for numbers in drawn.values()] == [1] * 6
    assert len(set.union(*drawn.values())) == 6


def test_further_measurements_become_columns_and_tensors_numbers():
    more = {"recall": torch.tensor(0.25), "batch_size": np.int64(4)}
    table = scored(run=changed(**more)).table
    assert table.recall.tolist() == [0.25] * 16 and table.batch_size.dtype == int
    assert (table.seconds >= 0).all()  # of the whole run, if it does not say
    table = scored(run=changed(seconds=7.0, arm="another")).table
    assert set(table.seconds) == {7.0} and set(table.arm) == {"a", "b"}


def test_smaller_may_be_better():
    def run(arm, rate, seed, phase):
        found = score(arm, rate, seed, phase)
        return {name: v if name == "steps" else 1 - v for name, v in found.items()}

    by_score, by_gap = scored(), scored(run=run, higher_is_better=False)
    assert by_gap.table.learning_rate.tolist() == by_score.table.learning_rate.tolist()
    assert by_gap.paired("a", "b").better == "b"


@pytest.mark.parametrize(
    ("measurements", "error", "message"),
    [
        ({"validation_ap50": None}, ValueError, "returned no validation_ap50"),
        (
            {"validation_ap50": math.nan},
            ValueError,
            "validation_ap50 = nan .*diverged=",
        ),
        ({"validation_ap50": math.inf}, ValueError, "a, rate 0.01, seed 5.*diverged="),
        ({"test_ap50": 0.5}, ValueError, "measured test_ap50 in the search"),
        ({"test_loss": 0.5}, ValueError, "measured test_loss in the search"),
        ({"steps": None}, ValueError, "equal steps, but a run does not report"),
    ],
)
def test_what_a_run_must_measure(measurements, error, message):
    with pytest.raises(error, match=message):
        scored(run=changed(**measurements))


def test_a_final_run_must_measure_on_the_test_set():
    def run(arm, rate, seed, phase):
        return score(arm, rate, seed, "search")

    with pytest.raises(ValueError, match="returned no test_ap50 .a, rate 0.1, seed 0."):
        scored(run=run)
    with pytest.raises(TypeError, match="must return a dict of measurements, got None"):
        scored(run=lambda *_: None)


def test_unequal_budgets_are_refused_at_once_unless_declared():
    made = []

    def run(arm, rate, seed, phase):
        made.append(arm)
        amounts = {"steps": 100 * (1 + arm[0]), "examples": 1000 * (1 + arm[0])}
        return score(arm, rate, seed, phase) | amounts | {"batch_size": 50}

    with pytest.raises(ValueError, match="unequally many steps.*budget='unequal'"):
        scored(run=run)
    assert len(made) == 4
    with pytest.raises(ValueError, match="unequally many examples"):
        scored(run=run, budget="epochs")
    declared = scored(run=run, budget="unequal")
    assert "unequal budgets" in compare_arms(declared).get_suptitle()
    assert scored(run=run, budget="seconds").budget == "seconds"


@pytest.mark.parametrize(
    ("size", "fair"),
    [({"batch_size": 30}, True), ({"batch_size": 29}, False), ({}, False)],
)
def test_equal_epochs_may_end_within_the_same_batch(size, fair):
    def run(arm, rate, seed, phase):
        amounts = {"examples": 1000 + 30 * (arm[0] > 0.6)}
        return score(arm, rate, seed, phase) | amounts | size

    if fair:
        assert scored(run=run, budget="epochs").budget == "epochs"
    else:
        with pytest.raises(ValueError, match="unequally many examples"):
            scored(run=run, budget="epochs")


# What the call refuses.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {}}, "needs arms, a dict"),
        ({"arms": [linear, deep]}, "needs arms, a dict"),
        ({"arms": {"net": linear()}}, "'net' is a network.*a function that builds"),
        ({"arms": {"net": Arm(linear())}}, "'net' is a network"),
        ({"arms": {"net": lambda: None}}, "must build a network, got NoneType"),
        ({"learning_rates": [0.1, 1.0]}, "at least 3 seeds and 3 .*, got 3 and 2"),
        ({"learning_rates": [0.1, 0.1, 1.0]}, "positive and each once"),
        ({"learning_rates": [0.0, 0.1, 1.0]}, "positive and each once"),
        ({"learning_rates": [0.1, math.nan, 1.0]}, "positive and each once"),
        ({"learning_rates": [0.1, 1.0, math.inf]}, "positive and each once"),
        ({"learning_rates": 0.1}, "'linear' needs learning_rates.*got 0.1"),
        ({"learning_rates": None}, "'linear' needs learning_rates.*got None"),
        ({"learning_rates": []}, "'linear' needs learning_rates"),
        ({"learning_rates": {"linear": RATES}}, "'deep' needs learning_rates"),
        ({"learning_rates": {"Deep": RATES}}, r"name no arm: \['Deep'\]"),
        ({"seeds": (0, 1)}, "are needed, got 2 and 3"),
        ({"seeds": (0, 1, 1)}, r"every seed is for one run: got seeds \[0, 1, 1\]"),
        ({"search_seeds": [2]}, r"got seeds \[0, 1, 2\] and search_seeds \[2\]"),
        ({"seeds": ()}, "seeds must be whole numbers"),
        ({"search_seeds": ()}, "search_seeds must be whole numbers"),
        ({"seeds": 5}, r"such as range\(5\), got 5"),
        ({"seeds": (0.1, 0.5, 0.9)}, "seeds must be whole numbers"),
        ({"seeds": (-1, 0, 1)}, "seeds must be whole numbers from 0"),
        ({"steps": None}, "every arm gets equally much"),
        ({"epochs": 2}, "one of steps, epochs, seconds"),
        ({"steps": 0}, "above 0"),
        ({"steps": 1.5}, "a whole number, got 1.5"),
        ({"steps": None, "seconds": math.nan}, "equally much"),
        ({"steps": None, "seconds": 1, "scheduler": print}, "how many steps"),
        ({"budget": "steps"}, "for a run of your own"),
        ({"batch_size": 71}, "no batch of 71 in 70"),
        ({"train": DataLoader([1, 2])}, "sets, not loaders"),
        ({"test": DataLoader([1, 2])}, "test must be a set, not a loader"),
        ({"metric": "accuracy"}, "must be a function.*got 'accuracy'"),
        ({"metric": F.cross_entropy}, "less of cross_entropy is better"),
        ({"metric": F.cross_entropy, "loss_fn": F.nll_loss}, "less of cross_entropy"),
        ({"metric": linear, "loss_fn": linear}, "less of linear is better"),
        ({"metric": F.mse_loss}, "give higher_is_better=False"),
        ({"optimizer": torch.optim.Adam(linear().parameters())}, "got Adam"),
        (
            {"optimizer": lambda parameters, lr: torch.optim.SGD(parameters, lr=0.1)},
            "does not heed its rate",
        ),
        (
            {"scheduler": lambda optimizer, steps: None},
            "must return a scheduler of torch, got None",
        ),
        (
            {"scheduler": lambda optimizer, steps: ReduceLROnPlateau(optimizer)},
            "ReduceLROnPlateau waits",
        ),
        ({"folder": "runs"}, "unexpected keyword argument 'folder'"),
    ],
)
def test_a_wrong_call_is_refused(changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        small(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run": sets()["train"]}, "run must be a function.*sets are given by name"),
        ({"train": [], "steps": 5}, "train, steps: only for the default run"),
        ({"metric": "localisation_error"}, "less of localisation_error is better"),
        ({"metric": "ap75"}, "returned no validation_ap75.*validation_ap50"),
        ({"metric": accuracy}, "returned no validation_accuracy.*by metric="),
        ({"budget": "step"}, "budget must be one of steps, epochs"),
        ({"arms": {"a": linear()}}, "'a' is a network"),
    ],
)
def test_a_wrong_call_with_a_run_of_ones_own_is_refused(changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        scored(**changes)


@pytest.mark.parametrize(
    ("arms", "changes", "message"),
    [
        (
            {"a": linear, "b": Arm(linear, learning_rates=[*RATES, 10.0])},
            {},
            "as many learning rates",
        ),
        (
            {"a": linear, "b": Arm(linear, train=images(20, 9))},
            {"steps": None, "epochs": 1},
            "give steps",
        ),
        (
            {"a": Arm(linear, transform=torch.sqrt)},
            {"train_transform": torch.sqrt},
            "own train_transform",
        ),
    ],
)
def test_unequal_arms_are_refused(arms, changes, message):
    with pytest.raises(ValueError, match=message):
        small(arms, **changes)


def test_an_arm_cannot_ask_for_other_steps():
    assert {field.name for field in dataclasses.fields(Arm)}.isdisjoint(
        {"steps", "epochs", "seconds", "seeds"}
    )


def test_a_network_that_is_not_built_anew_is_refused():
    model = linear()
    trunk = linear()[1]
    for make in (lambda: model, lambda: nn.Sequential(nn.Flatten(), trunk)):
        with pytest.raises(ValueError, match="arm 'same' must build a new model"):
            small({"same": make})


@pytest.mark.parametrize(("one", "other"), [*itertools.permutations(sets(), 2)])
def test_a_set_may_not_serve_twice(one, other):
    data = sets()
    with pytest.raises(ValueError, match="share"):
        small(**data | {one: data[other]})


def test_copies_of_images_are_found_too():
    data = sets()
    tuned_on_test = take(data["test"], 30)  # an `ImageSet` of its own
    with pytest.raises(ValueError, match="validation and test share 30 of 30 and 60"):
        small(**data | {"validation": tuned_on_test})
    with pytest.raises(ValueError, match="train and test share"):
        small({"arm": Arm(linear, train=take(data["test"], 30))}, **data)


def test_shared_indices_of_subsets_are_counted():
    plain = [(torch.zeros(1), 0)] * 10  # no `.images` to compare
    one, other = Subset(plain, [0, 1, 2, 3]), Subset(plain, [3, 4, 5])
    with pytest.raises(ValueError, match="train and validation share 1 of 4 and 3"):
        check_apart(one, other, Subset(plain, [9]))
    with pytest.raises(ValueError, match="share 1 of 2 and 3"):
        check_apart(Subset(one, [0, 3]), other, Subset(plain, [9]))
    check_apart(Subset(one, [0, 1]), other, Subset(plain, [9]))
    check_apart(one, Subset(list(plain), [0]), Subset(plain, [9]))  # another set
    many = plain * 100
    with pytest.raises(ValueError, match="share 1 of 500 and 400"):  # 0.2 % is too much
        check_apart(
            Subset(many, [0]),
            Subset(many, range(1, 501)),
            Subset(many, range(500, 900)),
        )


def with_copies(dataset, source, n):
    """Return the set with its first images replaced by those of another one."""
    pixels = dataset.images.clone()
    pixels[:n] = source.images[:n]
    return ImageSet(pixels, dataset.labels, dataset.classes)


def test_an_honest_split_passes_and_so_do_a_few_duplicates():
    whole = images(300, 5)
    train, validation = split(whole, 0.4)
    test = images(100, 6)
    check_apart(train, validation, test)
    whole.images[1] = whole.images[0]  # a duplicate at another index
    check_apart(
        Subset(whole, range(1, 200)), Subset(whole, [0, *range(200, 300)]), test
    )
    check_apart(train, validation, with_copies(test, train, 1))
    with pytest.raises(ValueError, match="train and test share 2 of"):
        check_apart(train, validation, with_copies(test, train, 2))
    with pytest.raises(ValueError, match="the set for test is empty"):
        check_apart(train, validation, Subset(test, []))


@pytest.mark.parametrize(("train", "test"), [(1000, 100), (100, 1000)])
def test_duplicates_are_counted_against_the_smaller_set(train, test):
    train, test = images(train, 5), images(test, 6)
    check_apart(train, images(40, 7), with_copies(test, train, 1))
    with pytest.raises(ValueError, match="share 2 of"):
        check_apart(train, images(40, 7), with_copies(test, train, 2))


# The default run.


def test_one_row_a_run():
    table = small(
        {"linear": linear, "deep": deep}, learning_rates=[0.1, 0.3, 1e4]
    ).table
    assert list(table) == COLUMNS
    searched, final = table[table.phase == "search"], table[table.phase == "final"]
    assert final.test_accuracy.between(0, 1).all() and len(final) == 6
    assert table.validation_accuracy.between(0, 1).all()
    assert (table.steps == 12).all() and (table.examples == 96).all()
    assert (table.batch_size == 8).all() and (table.seconds > 0).all()
    assert not table.diverged.any() and not table.exploratory.any()
    assert set(searched.seed) == {3}
    assert final.seed.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("make", [linear, deep])
def test_a_run_equals_fit(make):
    """12 steps are one and a half epochs; 16 are two, which `fit` can make too."""
    data = sets()
    found = small({"arm": make}, steps=16, **data).final
    for _, measured in found.iterrows():
        seed_everything(measured.seed)
        model = make()
        seed_everything((measured.seed + 2**31) % 2**32)
        loader = make_loader(
            data["train"], 8, shuffle=True, seed=measured.seed, drop_last=True
        )
        optimizer = torch.optim.SGD(model.parameters(), lr=measured.learning_rate)
        options = {"loss_fn": F.cross_entropy, "device": CPU}
        options |= {"metrics": {"accuracy": accuracy}}
        fit(
            model, loader, None, epochs=2, optimizer=optimizer, verbose=False, **options
        )
        for name in ("validation", "test"):
            values = evaluate(model, make_loader(data[name], 7), **options)
            assert values["accuracy"] == pytest.approx(
                measured[f"{name}_accuracy"], abs=1e-6
            )


def test_each_arm_gets_its_own_settings_and_no_other():
    """Alone every arm gives the rows that it gives among others: no two are swapped."""
    arms = {
        "linear": linear,
        "deep": Arm(deep, batch_size=5),
        "adam": Arm(linear, torch.optim.Adam, learning_rates=[1e-3, 1e-2, 1e-1]),
        "raw": Arm(
            linear,
            transform=lambda pixels: pixels.float(),
            learning_rates=[1e-6, 1e-5, 1e-4],
        ),
        "few": Arm(deep, train=images(20, 9)),
        "cosine": Arm(linear, scheduler=CosineAnnealingLR),
        "noisy": Arm(linear, train_transform=noisy),
    }
    together = without_time(small(arms).table)
    for name, arm in arms.items():
        alone = without_time(small({name: arm}).table)
        ours = together[together.arm == name].reset_index(drop=True)
        pd.testing.assert_frame_equal(ours, alone)
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
        {
            "transform": lambda pixels: pixels / 100,
            "train_transform": lambda pixels: pixels / 99,
        },
        {"train": images(30, 9)},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_a_setting_means_the_same_for_an_arm_as_for_all(setting):
    plain = small({"arm": linear}).table
    for_all = small({"arm": linear}, **setting).table
    for_one = small({"arm": Arm(linear, **setting)}).table
    pd.testing.assert_frame_equal(without_time(for_one), without_time(for_all))
    assert not set(plain.train_loss) & set(for_all.train_loss)


def test_equal_seeds_mean_equal_weights_order_and_augmentation():
    seen = {}

    def spy(name):
        def transform(pixels):
            seen.setdefault(name, []).append(noisy(pixels))
            return seen[name][-1]

        return transform

    def wasteful():
        torch.rand(1000)  # draws more numbers than `linear` before training starts
        return deep()

    plain = {"transform": lambda pixels: pixels.float() / 255}
    plain |= {"learning_rates": [0.1], "scheduler": None}
    arms = {"one": Arm(linear, train_transform=spy("one"), **plain)}
    arms["other"] = Arm(wasteful, train_transform=spy("other"), **plain)
    small(arms, exploratory=True)
    for one, other in zip(seen["one"], seen["other"], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    runs = torch.stack(seen["one"]).unflatten(0, (-1, 12))
    assert len(runs) == 4  # one of the search, three final ones with a seed each
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(runs, 2))


def test_seeds_decide_the_first_weights():
    weights = []

    def remember():
        model = linear()
        weights.append(model[1].weight.detach().clone())
        return model

    small({"a": remember, "b": remember}, learning_rates=[0.1], exploratory=True)
    del weights[:4]  # what checks that each call builds anew
    searched, final = weights[:2], weights[2:]
    assert torch.equal(*searched)
    # a and b of the same seed
    assert [i for i in range(6) if torch.equal(final[0], final[i])] == [0, 1]


def test_the_test_set_is_read_after_every_choice_and_not_by_the_search():
    told = []
    comparison = small(told=told)
    measured = [name for name in told if name != "train"]
    searched = ["validation"] * len(comparison.search)
    assert measured == searched + ["validation", "test"] * 6


@pytest.mark.parametrize(
    ("rates", "at_edge"),
    [([1e-6, 0.1, 1e4], False), ([1e-12, 1e-11, 1e-10], True), ([1e3, 1e5, 1e7], True)],
)
def test_a_best_rate_at_the_edge_is_marked(rates, at_edge):
    loss = {"metric": F.cross_entropy, "higher_is_better": False}
    comparison = small({"linear": linear}, learning_rates=rates, steps=40, **loss)
    assert comparison.summary().rate_at_edge.tolist() == [at_edge]
    assert comparison.test == "test_cross_entropy"


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
        small(arms, **data)
    singles = {name: Singles(dataset) for name, dataset in data.items()}
    one, other = small(**data), small(**singles)
    pd.testing.assert_frame_equal(without_time(one.table), without_time(other.table))
    assert small({"arm": linear}, device="cpu").test == "test_accuracy"


def test_equal_epochs_are_equally_many_examples():
    arms = {"small": Arm(linear, batch_size=4), "large": Arm(linear, batch_size=32)}
    table = small(arms, epochs=3, steps=None).table
    # 210 / 4 and 210 / 32
    assert table.groupby("arm").steps.first().to_dict() == {"small": 52, "large": 7}
    assert ((table.examples - 210).abs() <= table.batch_size / 2).all()


def test_equal_seconds():
    comparison = small({"arm": linear}, seconds=0.01, steps=None)
    assert comparison.table.seconds.min() >= 0.01 and comparison.table.steps.min() >= 1
    assert comparison.budget == "seconds"


def test_a_schedule_knows_its_steps():
    rates = []

    class Spy(torch.optim.SGD):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    def one_cycle(optimizer, steps):
        peak = optimizer.param_groups[0]["lr"]
        return OneCycleLR(optimizer, max_lr=peak, total_steps=steps)

    small({"arm": linear}, optimizer=Spy, scheduler=one_cycle)
    runs = torch.tensor(rates).view(-1, 12)
    torch.testing.assert_close(runs[:3].amax(1), torch.tensor(RATES), rtol=0.1, atol=0)
    assert (runs[:, -1] < runs[:, 0]).all()


def explode(outputs, labels):
    huge = outputs.abs().max() > 50
    return F.cross_entropy(outputs, labels) * torch.where(huge, torch.inf, 1.0)


def test_a_rate_that_diverges_is_a_row_and_never_chosen():
    rates = {"learning_rates": [0.1, 1.0, 1e4]}
    table = small({"arm": linear}, loss_fn=explode, **rates).table
    (diverged,) = table[table.diverged].to_dict("records")
    assert diverged["learning_rate"] == 1e4 and diverged["phase"] == "search"
    # the second loss was infinite: no second step
    assert diverged["steps"] == 1 and diverged["examples"] == 8
    with pytest.raises(ValueError, match="'arm' diverged at every learning rate"):
        small({"arm": linear}, loss_fn=explode, learning_rates=[1e4, 1e5, 1e6])


def test_a_network_whose_outputs_are_not_numbers_has_diverged():
    """The last step broke it: no loss has noticed, and an accuracy would be a lie."""

    class Breaks(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            if self.param_groups[0]["lr"] > 0.5:
                self.param_groups[0]["params"][0].data.fill_(math.nan)

    rates = {"learning_rates": [0.1, 0.2, 1.0], "steps": 1}
    table = small({"arm": linear}, optimizer=Breaks, **rates).table
    assert table.diverged.equals(table.learning_rate == 1.0) and table.diverged.any()
    assert table.validation_accuracy.isna().equals(table.diverged)


def test_other_floating_point_errors_are_not_taken_for_divergence():
    def broken(pixels):
        raise FloatingPointError("a broken transform")

    with pytest.raises(FloatingPointError, match="a broken transform"):
        small(train_transform=broken)


def test_the_training_loss_is_the_mean_of_the_last_tenth():
    values = iter(range(1, 1000))

    def counting(outputs, labels):
        nothing = outputs.sum() * 0
        return nothing + next(values) if outputs.requires_grad else nothing

    table = small({"arm": linear}, loss_fn=counting, steps=25).table
    # 23, 24 and 25: three of 25
    assert table.train_loss.tolist() == [25 * run + 24 for run in range(len(table))]


# What a table is refused for.

PLANTED = {
    "an arm with fewer steps": (6, {"steps": 11}, "unequally many steps"),
    "a search with fewer steps": (0, {"steps": 11}, "unequally many steps"),
    "a seed shared by mistake": (8, {"seed": 1}, "stands in the table twice"),
    "another seed": (8, {"seed": 3}, "same final seeds"),
    "a rate of its own for one seed": (
        8,
        {"learning_rate": 1.0},
        "changes its learning rate",
    ),
    "the test set in the search": (
        1,
        {"test_accuracy": 0.9},
        "measured during the search",
    ),
    "a rate tried for one arm alone": (
        0,
        {"arm": "b", "learning_rate": 0.5},
        "as many learning rates",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_an_unfair_table_is_refused(name):
    place, change, message = PLANTED[name]
    rows = rows_of()
    compared(rows)
    rows[place] |= change
    with pytest.raises(ValueError, match=f"not a fair comparison: .*{message}"):
        compared(rows)


def test_a_wider_rate_is_not_counted_and_another_one_is():
    rows = rows_of()
    compared([*rows, search("a", 10.0, 0.1, widened=True)])
    with pytest.raises(ValueError, match="as many learning rates.*'a': 4, 'b': 3"):
        compared([*rows, search("a", 10.0, 0.1)])


def test_a_rate_that_the_validation_set_did_not_choose_is_refused():
    rows = rows_of()
    for run in rows[6:9]:
        run["learning_rate"] = 1.0  # better on the test set, say
    with pytest.raises(
        ValueError, match="used the rates .*'a': 1.0.*validation set chose .*'a': 0.1"
    ):
        compared(rows)


@pytest.mark.parametrize("dropped", [[6], [6, 9], [0, 3], [6, 7, 8]])
def test_missing_runs_are_refused(dropped):
    with pytest.raises(ValueError, match="not a fair comparison"):
        compared([run for place, run in enumerate(rows_of()) if place not in dropped])


def test_a_seed_of_the_search_is_refused():
    rows = [
        run | ({"seed": 2} if run["phase"] == "search" else {}) for run in rows_of()
    ]
    with pytest.raises(ValueError, match="every seed is for one run"):
        compared(rows)


def test_a_table_of_something_else_is_refused():
    table = pd.DataFrame(rows_of())
    with pytest.raises(ValueError, match=r"lacks \['seconds'\]"):
        Comparison(table.drop(columns="seconds"), "accuracy", "steps")
    with pytest.raises(ValueError, match="lacks .*'test_ap50', 'validation_ap50'"):
        Comparison(table, "ap50", "steps")
    with pytest.raises(ValueError, match="budget must be one of .*got 'step'"):
        Comparison(table, "accuracy", "step")


# What a comparison finds.


def test_a_diverged_run_may_be_shorter_and_counts():
    rows = rows_of()
    rows[6] |= {"steps": 3, "diverged": True, "test_accuracy": 0.1}
    summary = compared(rows).summary()
    assert summary.diverged.to_dict() == {"a": 1, "b": 0}
    assert summary["mean"]["a"] == pytest.approx(0.6)


def test_a_final_run_that_could_not_be_measured_leaves_no_mean_and_no_verdict():
    rows = rows_of()
    rows[6] |= {"diverged": True, "test_accuracy": math.nan}
    comparison = compared(rows)
    summary = comparison.summary()
    assert math.isnan(summary["mean"]["a"]) and math.isnan(summary["std"]["a"])
    assert summary["mean"]["b"] == pytest.approx(0.7)
    assert comparison.paired("a", "b").verdict == "withheld: a final run diverged"


def test_summary_by_hand():
    summary = compared(rows_of(a=(0.7, 0.8, 0.9))).summary()
    assert summary.index.tolist() == ["a", "b"]
    # n - 1
    found = summary.loc["a", ["mean", "std", "seeds"]].tolist()
    assert found == pytest.approx([0.8, 0.1, 3])
    assert summary.loc["b", "learning_rate"] == 0.1


def test_the_paired_interval_is_that_of_scipy():
    a, b = (0.91, 0.95, 0.90, 0.97), (0.80, 0.83, 0.81, 0.82)
    pair = compared(rows_of(a, b)).paired("a", "b")
    oracle = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (pair.low, pair.high) == pytest.approx((oracle.low, oracle.high))
    assert pair.mean == pytest.approx(sum(a) / 4 - sum(b) / 4) and pair.seeds == 4
    assert pair.spread == pytest.approx(pd.Series(a).std())
    assert pair.verdict == "a is better"
    other = compared(rows_of(a, b)).paired("b", "a")
    assert (other.mean, other.low, other.better) == (-pair.mean, -pair.high, "a")
    lower = compared(rows_of(a, b, sign=-1), higher_is_better=False)
    assert lower.paired("a", "b").better == "b"


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        # certain, and smaller than the spread
        ((0.70, 0.80, 0.90), (0.69, 0.79, 0.889), "unresolved, +0.0089 to +0.0118"),
        # its interval contains 0
        ((0.71, 0.90, 0.60), (0.50, 0.55, 0.70), "unresolved, −0.419 to +0.725"),
        ((0.801, 0.802, 0.81), (0.802, 0.804, 0.81), "unresolved, −0.0035 to +0.0015"),
        ((0.90, 0.91, 0.92), (0.70, 0.71, 0.73), "a is better"),
        ((0.70, 0.71, 0.73), (0.90, 0.91, 0.92), "b is better"),
        ((0.5, 0.6, 0.7), (0.5, 0.6, 0.7), "withheld: equal in every run"),
        ((0.5, 0.5, 0.5), (0.6, 0.6, 0.6), "withheld: the seeds change nothing"),
        ((0.1, 0.1, 0.1), (0.90, 0.91, 0.92), "b is better"),
    ],
)
def test_when_a_difference_counts(a, b, verdict):
    pair = compared(rows_of(a, b)).paired("a", "b")
    assert pair.verdict.startswith(verdict) and "no difference" not in pair.verdict
    assert (pair.better is None) == (not verdict.endswith("better"))


def test_the_interval_of_an_open_question_is_that_of_the_issue():
    pair = compared(rows_of()).paired("a", "b")
    pair = dataclasses.replace(pair, better=None, low=-0.0119, high=0.0552)
    assert pair.verdict == f"unresolved, {MINUS}0.012 to +0.055"


def test_one_seed_knows_nothing():
    few = {"seeds": [0], "learning_rates": [0.1], "exploratory": True}
    comparison = scored(**few)
    assert comparison.exploratory and comparison.table.exploratory.all()
    pair = comparison.paired("b", "a")
    assert pair.verdict == "not known: one seed"
    assert pair.better is None and math.isnan(pair.low)


def test_one_rate_gives_no_verdict_and_two_are_widened():
    fixed = scored(learning_rates=[0.1], exploratory=True)
    assert (
        fixed.paired("b", "a").verdict == "withheld: only one learning rate was tried"
    )
    assert fixed.summary().rate_at_edge.all()
    two = scored(learning_rates=[0.01, 0.1], exploratory=True)
    assert two.summary().rates.to_dict() == {"a": 3, "b": 3}
    assert two.paired("b", "a").verdict == "b is better"


def test_an_arm_has_another_name():
    with pytest.raises(ValueError, match="there is no arm 'c': choose from"):
        compared(rows_of()).paired("a", "c")
    with pytest.raises(ValueError, match="with another one, not 'a' twice"):
        compared(rows_of()).paired("a", "a")


def test_choosing_takes_means_over_seeds_and_the_lower_of_equals():
    values = [(0.1, 0.9, 1), (0.1, 0.1, 2), (1.0, 0.6, 1), (1.0, 0.6, 2)]
    values += [(0.5, 0.6, 1), (0.5, 0.6, 2)]
    table = pd.DataFrame(
        [search("a", rate, value, seed=seed) for rate, value, seed in values]
    )
    assert choose_rates(table, "validation_accuracy", True) == {"a": 0.5}
    assert choose_rates(table, "validation_accuracy", False) == {"a": 0.1}
    table.loc[4, "diverged"] = True
    assert choose_rates(table, "validation_accuracy", True) == {"a": 1.0}
    for wrong in (pd.DataFrame(rows_of()), table.iloc[:0]):
        with pytest.raises(ValueError, match="from runs of the search alone"):
            choose_rates(wrong, "validation_accuracy", True)


# What is drawn.

TESTS = {
    "plain": (0.70, 0.71, 0.73),
    "much the same": (0.70, 0.70, 0.74),
    "better": (0.90, 0.91, 0.93),
    "a long name with a comma, and more": (0.80, 0.81, 0.835),
}


@pytest.fixture
def figures():
    """Draw with `compare_arms`; the figures are closed at the end."""
    yield compare_arms
    plt.close("all")


def scores(arm):
    """Of the search, at each rate: other ones for each arm, the best in the middle."""
    return [0.4 + len(arm) / 100, 0.5 + len(arm) / 100, 0.3]


def found(**options):
    rows = [
        search(arm, rate, value)
        for arm in TESTS
        for rate, value in zip(RATES, scores(arm), strict=True)
    ]
    for arm, values in TESTS.items():
        rows += [row(arm, seed, value) for seed, value in enumerate(values)]
    return compared(rows, **options)


def titled(figure, words):
    (axis,) = [axis for axis in figure.axes if words in axis.get_title()]
    return axis


def dots(axis):
    return [line for line in axis.lines if line.get_marker() == "o"]


def verdicts(axis):
    """Place -> what is written beside the interval, on one line."""
    labels = [" ".join(label.get_text().split()) for label in axis.get_yticklabels()]
    return dict(zip(axis.get_yticks(), labels, strict=True))


def test_every_seed_is_a_dot_and_the_bar_is_the_spread(figures):
    axis = titled(figures(found()), "dot: a seed")
    assert [label.get_text() for label in axis.get_yticklabels()] == list(TESTS)
    for line, values in zip(dots(axis), TESTS.values(), strict=True):
        assert list(line.get_xdata()) == list(values)
    for bar, values in zip(axis.patches, TESTS.values(), strict=True):
        mean, std = pd.Series(values).mean(), pd.Series(values).std()
        assert (bar.get_x(), bar.get_width()) == pytest.approx((mean - std, 2 * std))
        low, high = axis.get_xlim()
        # nothing is cut off
        assert low < bar.get_x() and bar.get_x() + bar.get_width() < high
    assert axis.get_xlabel() == "accuracy on the test set" and axis.yaxis_inverted()


def test_an_arm_has_one_colour_and_the_verdict_is_text(figures):
    comparison = found()
    figure = figures(comparison, rates=True)
    runs, pairs = titled(figure, "dot: a seed"), titled(figure, "paired by seed")
    rings = [line for line in dots(titled(figure, "search"))]
    colours = [line.get_color() for line in dots(runs)]
    assert len(set(colours)) == 4 and colours == [line.get_color() for line in rings]
    assert colours[1:] == [line.get_color() for line in dots(pairs)]
    assert verdicts(pairs) == {
        1: f"+0.0000: unresolved, {MINUS}0.025 to +0.025",
        2: "+0.2000: better is better",
        3: "+0.1017: a long name with a comma, and more is better",
    }
    for arm, place in (("much the same", 1), ("better", 2)):
        pair = comparison.paired(arm, "plain")
        (interval,) = [
            line for line in pairs.lines if list(line.get_ydata()) == [place, place]
        ]
        assert list(interval.get_xdata()) == [pair.low, pair.high]


def test_texts_are_large_enough_and_none_covers_another(figures):
    figure = figures(found(), rates=True, title="four arms")
    figure.draw_without_rendering()
    texts = figure.findobj(lambda one: isinstance(one, plt.Text) and one.get_visible())
    texts = [text for text in texts if text.get_text().strip()]
    for axis in figure.axes:  # ticks outside of the axis are not drawn
        low, high = axis.get_xlim()
        for label in axis.get_xticklabels(which="both"):
            if label in texts and not low <= label.get_position()[0] <= high:
                texts.remove(label)
    assert len(texts) > 25 and min(text.get_fontsize() for text in texts) >= 9
    boxes = [(text.get_window_extent(), text.get_text()) for text in texts]
    for (box, one), (place, other) in itertools.combinations(boxes, 2):
        assert not box.overlaps(place), f"{one!r} covers {other!r}"
    assert all(0 <= box.x0 and box.x1 <= figure.bbox.x1 for box, _ in boxes)


def test_the_baseline_can_be_chosen_for_all_or_for_each(figures):
    pairs = titled(figures(found(), baseline="better"), "paired by seed")
    assert list(verdicts(pairs)) == [0, 1, 3] and "'better'" in pairs.get_xlabel()
    assert verdicts(pairs)[0] == f"{MINUS}0.2000: better is better"
    steps = figures(found(), baseline={"better": "much the same"})
    pairs = titled(steps, "paired by seed")
    assert list(verdicts(pairs)) == [2] and "'much" in pairs.get_xlabel()
    each = {"much the same": "plain", "better": "much the same"}
    pairs = titled(figures(found(), baseline=each), "paired by seed")
    assert pairs.get_xlabel() == "difference from its baseline"
    for wrong in ("unknown", {"better": "unknown"}, {"unknown": "better"}):
        with pytest.raises(ValueError, match="unknown"):
            figures(found(), baseline=wrong)
    with pytest.raises(TypeError, match="what compare returns, got DataFrame"):
        figures(found().table)


def test_the_search_is_drawn_and_the_choice_is_ringed(figures):
    axis = titled(figures(found(), rates=True), "search")
    curves = [line for line in axis.lines if line.get_marker() == "."]
    assert [line.get_label() for line in curves] == list(TESTS)
    assert all(list(line.get_xdata()) == list(RATES) for line in curves)
    assert [list(line.get_ydata()) for line in curves] == [scores(arm) for arm in TESTS]
    assert [line.get_xdata()[0] for line in dots(axis)] == [0.1] * 4
    assert axis.get_xscale() == "log"
    assert "search" not in {axis.get_title() for axis in figures(found()).axes}


def test_lines_that_coincide_are_said_to(figures):
    rows = [
        search(arm, rate, (arm == "c") - abs(rate - 0.1))
        for arm in "abc"
        for rate in RATES
    ]
    rows += [row(arm, seed, seed / 10) for arm in "abc" for seed in range(3)]
    figure = figures(compared(rows), rates=True, on="the held-out set")
    lines = [
        line for line in titled(figure, "search").lines if line.get_marker() == "."
    ]
    labels = [line.get_label() for line in lines]
    assert labels == ["a", "b (on the line of a)", "c"]
    assert titled(figure, "dot").get_xlabel() == "accuracy on the held-out set"


def test_a_rate_that_diverged_is_a_cross_and_a_gap(figures):
    comparison = found()
    # the highest rate of the second arm
    comparison.table.loc[comparison.table.index[5], "diverged"] = True
    axis = titled(figures(comparison, rates=True), "search")
    curves = [line for line in axis.lines if line.get_marker() == "."]
    crosses = [
        line
        for line in axis.lines
        if line.get_marker() == "x" and len(line.get_xdata())
    ]
    gaps = [np.isnan(line.get_ydata()).tolist() for line in curves]
    assert gaps == [[False] * 3, [False, False, True], [False] * 3, [False] * 3]
    assert [list(line.get_xdata()) for line in crosses] == [[1.0]]
    assert crosses[0].get_color() == curves[1].get_color()


def test_the_title_says_the_rules_and_what_is_weak(figures):
    assert figures(found()).get_suptitle() == "3 seeds, equal steps"
    titled_one = figures(found(), title="Scaling")
    assert titled_one.get_suptitle() == "Scaling\n(3 seeds, equal steps)"
    weak = {"seeds": [0], "learning_rates": [0.1], "exploratory": True}
    figure = figures(scored({"one": (0.5, 0.1)}, **weak), rates=True)
    edge = "* best rate at the edge of those tried"
    assert figure.get_suptitle() == f"exploratory: 1 seed, equal steps; {edge}"
    axis = titled(figure, "dot: a seed")
    assert [label.get_text() for label in axis.get_yticklabels()] == ["one *"]
    assert not axis.patches
    # nothing to compare with
    assert not [axis for axis in figure.axes if "paired" in axis.get_title()]
    comparison = found()
    comparison.table.loc[comparison.table.index[-1], "diverged"] = True
    assert figures(comparison).get_suptitle().endswith("; 1 final run diverged")


def test_lower_can_be_better(figures):
    rows = [search(arm, rate, abs(rate - 0.1)) for arm in "ab" for rate in RATES]
    rows += [
        row(arm, seed, seed / 10 + (arm == "a")) for arm in "ab" for seed in range(3)
    ]
    axis = titled(figures(compared(rows, higher_is_better=False)), "dot")
    assert axis.get_xlabel() == "accuracy on the test set (lower is better)"
