"""Planted unfairness: what `compare` refuses, what a table is refused for, and when a difference counts."""

import dataclasses
import math

import pandas as pd
import pytest
import torch
from comparison_helpers import RATES, deep, linear, pictures, row, search, sets, small
from scipy import stats
from torch.utils.data import Subset

from utils.fairness import check_apart, shared_indices
from utils.loading import ImageSet, split, take
from utils.training import Arm, Comparison
from utils.verdicts import choose_rates


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rates": [0.1, 1.0]}, "at least 3 seeds and 3 learning rates are needed, got 3 and 2"),
        ({"seeds": (0, 1)}, "are needed, got 2 and 3"),
        ({"seeds": (0, 1, 1)}, r"every seed is for one run: got seeds \[0, 1, 1\]"),
        ({"search_seeds": [2]}, r"got seeds \[0, 1, 2\] and search_seeds \[2\]"),
        ({"seeds": ()}, "every seed is for one run"),
        ({"learning_rates": [0.1, 0.1, 1.0]}, "learning_rates, each once"),
        ({"learning_rates": None}, "'linear' needs learning_rates"),
        ({"learning_rates": [0.0, 0.1, 1.0]}, "positive learning rates"),
        ({"steps": None}, "every arm gets equally much"),
        ({"epochs": 2}, "one of steps, epochs, seconds"),
        ({"steps": 0}, "above 0"),
        ({"steps": 1.5}, "a whole number, got 1.5"),
        ({"steps": None, "seconds": 1, "scheduler": print}, "how many steps"),
        ({"batch_size": 71}, "no batch of 71 in 70"),
    ],
)
def test_an_unfair_call_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


@pytest.mark.parametrize(
    ("arms", "changes", "message"),
    [
        ({}, {}, "needs arms"),
        ({"a": linear, "b": Arm(linear, learning_rates=[*RATES, 10.0])}, {}, "as many learning rates"),
        ({"a": linear, "b": Arm(linear, train=pictures(20, 9))}, {"steps": None, "epochs": 1}, "give steps"),
        ({"a": Arm(linear, transform=torch.sqrt)}, {"train_transform": torch.sqrt}, "own train_transform"),
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
    for make in (lambda: model, lambda: torch.nn.Sequential(torch.nn.Flatten(), trunk)):
        with pytest.raises(ValueError, match="arm 'same' must build a new model"):
            small({"same": make})


@pytest.mark.parametrize("one", ["train", "validation", "test"])
@pytest.mark.parametrize("other", ["train", "validation", "test"])
def test_a_set_may_not_serve_twice(one, other):
    data = sets()
    if one != other:
        with pytest.raises(ValueError, match="share"):
            small(**data | {one: data[other]})


def test_copies_of_pictures_are_found_too():
    data = sets()
    tuned_on_test = take(data["test"], 30)  # an `ImageSet` of its own
    with pytest.raises(ValueError, match="validation and test share 30 of 30 and 60"):
        small(**data | {"validation": tuned_on_test})
    with pytest.raises(ValueError, match="train and test share"):
        small({"arm": Arm(linear, train=take(data["test"], 30))}, **data)


def test_shared_indices_of_subsets_are_counted():
    plain = [(torch.zeros(1), 0)] * 10  # no `.images` to compare
    one, other = Subset(plain, [0, 1, 2, 3]), Subset(plain, [3, 4, 5])
    assert shared_indices(one, other) == 1
    assert shared_indices(Subset(one, [0, 3]), other) == 1 and shared_indices(Subset(one, [0, 1]), other) == 0
    assert shared_indices(one, plain) == 4 and shared_indices(one, list(plain)) == 0
    with pytest.raises(ValueError, match="train and validation share 1 of 4 and 3"):
        check_apart(one, other, Subset(plain, [9]))
    check_apart(Subset(plain, [0]), Subset(plain, [1]), Subset(plain, [2]))
    many = plain * 100
    with pytest.raises(
        ValueError, match="validation and test share 1 of 500 and 400"
    ):  # 0.2 % are too many too
        check_apart(Subset(many, [0]), Subset(many, range(1, 501)), Subset(many, range(500, 900)))


def test_an_honest_split_passes_and_so_do_a_few_duplicates():
    whole = pictures(300, 5)
    train, validation = split(whole, 0.4)
    test = pictures(100, 6)
    check_apart(train, validation, test)
    whole.images[1] = whole.images[0]  # a duplicate at another index
    check_apart(Subset(whole, range(1, 200)), Subset(whole, [0, *range(200, 300)]), test)
    images = test.images.clone()
    images[0] = train.images[0]  # one of 100
    check_apart(train, validation, ImageSet(images, test.labels, test.classes))
    images[1] = train.images[1]
    with pytest.raises(ValueError, match="train and test share 2 of"):
        check_apart(train, validation, ImageSet(images, test.labels, test.classes))
    with pytest.raises(ValueError, match="the set for test is empty"):
        check_apart(train, validation, Subset(test, []))


def test_too_few_are_let_pass_as_exploratory_and_said_to_be():
    comparison = small(seeds=(0,), learning_rates=[0.1], exploratory=True)
    assert comparison.exploratory and comparison.table.exploratory.all()
    pair = comparison.paired("deep", "linear")
    assert pair.better is None and pair.verdict == "not known: one seed" and math.isnan(pair.low)


def runs(a=(0.7, 0.8, 0.9), b=(0.6, 0.7, 0.8), sign=1):
    rows = [search(arm, rate, sign * (1 - abs(rate - 0.1))) for arm in "ab" for rate in (0.01, 0.1, 1.0)]
    return rows + [row(arm, seed, value) for arm, tests in zip("ab", (a, b), strict=True)
                   for seed, value in enumerate(tests)]  # fmt: skip


def compared(rows, budget="steps", **options):
    return Comparison(pd.DataFrame(rows), "accuracy", budget, **options)


PLANTED = {
    "an arm with fewer steps": (6, {"steps": 11}, "runs of different lengths"),
    "a search with fewer steps": (0, {"steps": 11}, "runs of different lengths"),
    "a seed shared by mistake": (8, {"seed": 1}, "stands in the table twice|each once"),
    "a seed of the search": (8, {"seed": 9}, "same final seeds|search and for a final"),
    "a rate of its own for one seed": (8, {"learning_rate": 1.0}, "changes its learning rate"),
    "the test set in the search": (1, {"test_accuracy": 0.9}, "measured during the search"),
    "a rate tried for one arm alone": (0, {"arm": "b", "learning_rate": 0.5}, "numbers of learning rates"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_an_unfair_table_is_refused(name):
    place, change, message = PLANTED[name]
    rows = runs()
    compared(rows)
    rows[place] |= change
    with pytest.raises(ValueError, match=f"not a fair comparison: .*({message})"):
        compared(rows)


def test_a_rate_that_the_validation_set_did_not_choose_is_refused():
    rows = runs()
    for run in rows[6:9]:
        run["learning_rate"] = 1.0  # better on the test set, say
    with pytest.raises(ValueError, match="used the rates .*'a': 1.0.*validation set chose .*'a': 0.1"):
        compared(rows)


@pytest.mark.parametrize("dropped", [[6], [6, 9], [0, 3], [6, 7, 8]])
def test_missing_runs_are_refused(dropped):
    with pytest.raises(ValueError, match="not a fair comparison"):
        compared([run for place, run in enumerate(runs()) if place not in dropped])


def test_a_seed_of_the_search_is_refused_for_every_arm():
    rows = [run | ({"seed": 2} if run["phase"] == "search" else {}) for run in runs()]
    with pytest.raises(ValueError, match="both for the search and for a final run"):
        compared(rows)


def test_unequal_examples_are_refused_for_equal_epochs():
    rows = [run | ({"steps": 24, "examples": 100} if run["arm"] == "a" else {}) for run in runs()]
    compared(rows, "epochs")
    rows[0]["examples"] = 110
    with pytest.raises(ValueError, match="different numbers of examples"):
        compared(rows, "epochs")


def test_a_diverged_run_may_be_shorter_and_counts():
    rows = runs()
    rows[6] |= {"steps": 3, "diverged": True, "test_accuracy": 0.1}
    summary = compared(rows).summary()
    assert summary.diverged.to_dict() == {"a": 1, "b": 0} and summary["mean"]["a"] == pytest.approx(0.6)


def test_summary_by_hand():
    summary = compared(runs(a=(0.7, 0.8, 0.9))).summary()
    assert summary.index.tolist() == ["a", "b"]
    assert summary.loc["a", ["mean", "std", "seeds"]].tolist() == pytest.approx([0.8, 0.1, 3])  # n - 1
    assert summary.loc["b", "learning_rate"] == 0.1


def test_the_paired_interval_is_that_of_scipy():
    a, b = (0.91, 0.95, 0.90, 0.97), (0.80, 0.83, 0.81, 0.82)
    pair = compared(runs(a, b)).paired("a", "b")
    oracle = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (pair.low, pair.high) == pytest.approx((oracle.low, oracle.high))
    assert pair.mean == pytest.approx(sum(a) / 4 - sum(b) / 4) and pair.seeds == 4
    assert pair.spread == pytest.approx(pd.Series(a).std()) and pair.verdict == "a is better"
    other = compared(runs(a, b)).paired("b", "a")
    assert (other.mean, other.low, other.better) == (-pair.mean, -pair.high, "a")
    assert compared(runs(a, b, sign=-1), higher_is_better=False).paired("a", "b").better == "b"


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        ((0.70, 0.80, 0.90), (0.69, 0.79, 0.89), "no difference"),  # certain, and smaller than the spread
        ((0.71, 0.90, 0.60), (0.50, 0.55, 0.70), "no difference"),  # its interval contains 0
        ((0.90, 0.91, 0.92), (0.70, 0.71, 0.73), "a is better"),
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "no difference"),
        ((0.70, 0.71, 0.73), (0.90, 0.91, 0.92), "b is better"),
    ],
)
def test_when_a_difference_counts(a, b, verdict):
    assert compared(runs(a, b)).paired("a", "b").verdict == verdict


def test_unknown_arms_are_named():
    with pytest.raises(KeyError, match="there is no arm 'c': choose from"):
        compared(runs()).paired("a", "c")


def test_choosing_takes_means_over_seeds_and_the_lower_of_equals():
    values = [(0.1, 0.9, 1), (0.1, 0.1, 2), (1.0, 0.6, 1), (1.0, 0.6, 2), (0.5, 0.6, 1), (0.5, 0.6, 2)]
    table = pd.DataFrame([search("a", rate, value, seed=seed) for rate, value, seed in values])
    assert choose_rates(table, "validation_accuracy", True) == {"a": 0.5}
    assert choose_rates(table, "validation_accuracy", False) == {"a": 0.1}
    table.loc[4, "diverged"] = True
    assert choose_rates(table, "validation_accuracy", True) == {"a": 1.0}


def test_arms_keep_the_order_of_the_call():
    assert small({"z": linear, "a": deep}).summary().index.tolist() == ["z", "a"]
