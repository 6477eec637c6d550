"""`plotting.compare_arms`: what is drawn is what was found."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from comparison_helpers import linear, row, search, small
from matplotlib.colors import to_rgba

from utils.comparison_plots import NONE, REAL
from utils.plotting import compare_arms
from utils.training import Comparison

TESTS = {"plain": (0.70, 0.71, 0.73), "same": (0.70, 0.70, 0.74), "better": (0.90, 0.91, 0.93)}
RATES = (0.01, 0.1, 1.0)


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def scores(arm):
    """Of the search, at each rate: other ones for each arm, the best in the middle."""
    return [0.4 + len(arm) / 100, 0.5 + len(arm) / 100, 0.3]


def found(**options):
    rows = [search(arm, rate, scores(arm)[place]) for arm in TESTS for place, rate in enumerate(RATES)]
    rows += [row(arm, seed, value) for arm, values in TESTS.items() for seed, value in enumerate(values)]
    return Comparison(pd.DataFrame(rows), "accuracy", "steps", **options)


def titled(figure, words):
    (axis,) = [axis for axis in figure.axes if words in axis.get_title()]
    return axis


def dots(axis):
    return [line for line in axis.lines if line.get_marker() == "o"]


def test_every_seed_is_a_dot_and_the_bar_is_the_spread():
    axis = titled(compare_arms(found()), "dot: a seed")
    assert [label.get_text() for label in axis.get_yticklabels()] == list(TESTS)
    for line, values in zip(dots(axis), TESTS.values(), strict=True):
        assert list(line.get_xdata()) == list(values)
    for bar, values in zip(axis.patches, TESTS.values(), strict=True):
        mean, std = pd.Series(values).mean(), pd.Series(values).std()
        assert (bar.get_x(), bar.get_width()) == pytest.approx((mean - std, 2 * std))
        low, high = axis.get_xlim()
        assert low < bar.get_x() and bar.get_x() + bar.get_width() < high  # nothing is cut off
    assert axis.get_xlabel() == "test accuracy" and axis.yaxis_inverted()


def test_what_is_no_difference_is_grey_and_says_so():
    comparison = found()
    figure = compare_arms(comparison)
    runs, pairs = titled(figure, "dot: a seed"), titled(figure, "paired by seed")
    colours = [to_rgba(line.get_color()) for line in dots(runs)]
    assert colours == [to_rgba(REAL), to_rgba(NONE), to_rgba(REAL)]
    assert pairs.get_xlabel() == "difference from 'plain'"
    words = {text.xy[1]: text.get_text() for text in pairs.texts}
    assert words == {1: "+0.0000, no difference", 2: "+0.2000"}
    assert [line.get_markerfacecolor() for line in dots(pairs)] == ["white", REAL]
    for arm, place in (("same", 1), ("better", 2)):
        pair = comparison.paired(arm, "plain")
        (interval,) = [line for line in pairs.lines if list(line.get_ydata()) == [place, place]]
        assert list(interval.get_xdata()) == [pair.low, pair.high]


def test_the_baseline_can_be_chosen_for_all_or_for_each():
    pairs = titled(compare_arms(found(), baseline="better"), "paired by seed")
    assert {text.xy[1] for text in pairs.texts} == {0, 1} and "'better'" in pairs.get_xlabel()
    assert all(text.get_text().startswith("\N{MINUS SIGN}0.2") for text in pairs.texts)
    steps = compare_arms(found(), baseline={"same": "plain", "better": "same"})
    pairs = titled(steps, "paired by seed")
    assert {text.xy[1] for text in pairs.texts} == {1, 2} and pairs.get_xlabel().endswith(
        "the arm's baseline"
    )
    for wrong in ("unknown", {"same": "unknown"}, {"unknown": "same"}):
        with pytest.raises(ValueError, match="unknown"):
            compare_arms(found(), baseline=wrong)


def test_the_search_is_drawn_and_the_choice_is_ringed():
    axis = titled(compare_arms(found(), rates=True), "search")
    curves = [line for line in axis.lines if line.get_marker() == "."]
    assert [line.get_label() for line in curves] == list(TESTS)
    assert all(list(line.get_xdata()) == list(RATES) for line in curves)
    assert [list(line.get_ydata()) for line in curves] == [scores(arm) for arm in TESTS]
    assert [line.get_xdata()[0] for line in dots(axis)] == [0.1] * 3 and axis.get_xscale() == "log"
    assert not [axis for axis in compare_arms(found()).axes if "search" in axis.get_title()]


def test_a_rate_that_diverged_is_a_cross_and_a_gap():
    comparison = found()
    comparison.table.loc[comparison.table.index[5], "diverged"] = True  # the highest rate of the second arm
    axis = titled(compare_arms(comparison, rates=True), "search")
    curves = [line for line in axis.lines if line.get_marker() == "."]
    crosses = [line for line in axis.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert [list(pd.isna(line.get_ydata())) for line in curves] == [
        [False] * 3,
        [False, False, True],
        [False] * 3,
    ]
    assert [list(line.get_xdata()) for line in crosses] == [[1.0]]
    assert crosses[0].get_color() == curves[1].get_color()


def test_the_title_says_the_rules_and_what_is_weak():
    assert compare_arms(found()).get_suptitle() == "3 seeds, equal steps"
    assert compare_arms(found(), title="Scaling").get_suptitle() == "Scaling\n(3 seeds, equal steps)"
    weak = small({"linear": linear}, seeds=(0,), learning_rates=[0.1], exploratory=True)
    figure = compare_arms(weak, rates=True)
    assert figure.get_suptitle() == "exploratory: 1 seed, equal steps; * best rate at the edge of those tried"
    axis = titled(figure, "dot: a seed")
    assert [label.get_text() for label in axis.get_yticklabels()] == ["linear *"] and not axis.patches
    assert not [axis for axis in figure.axes if "paired" in axis.get_title()]  # nothing to compare with


def test_diverged_runs_are_counted_in_the_title():
    comparison = found()
    comparison.table.loc[comparison.table.index[-1], "diverged"] = True
    assert compare_arms(comparison).get_suptitle().endswith("; 1 final run diverged")


def test_lower_can_be_better():
    rows = [search(arm, rate, abs(rate - 0.1)) for arm in "ab" for rate in RATES]
    rows += [row(arm, seed, seed / 10) for arm in "ab" for seed in range(3)]
    comparison = Comparison(pd.DataFrame(rows), "accuracy", "steps", higher_is_better=False)
    assert titled(compare_arms(comparison), "dot").get_xlabel() == "test accuracy (lower is better)"
