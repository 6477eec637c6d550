"""The picture of a fair comparison: every seed, mean and spread, and which differences are real."""

import math
from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from utils.verdicts import Comparison, Paired

REAL, NONE = "tab:blue", "0.6"  # colours of a difference and of none
LEGEND_COLUMNS = 3


def _pairs(comparison: Comparison, baseline: str | Mapping[str, str] | None) -> dict[str, Paired]:
    """Return arm -> its difference from its baseline; the baseline itself is left out."""
    arms = list(comparison.summary().index)
    if not isinstance(baseline, Mapping):
        against = arms[0] if baseline is None else baseline
        if against not in arms:
            raise ValueError(f"the baseline must be one of {arms}, got {against!r}")
        baseline = {arm: against for arm in arms if arm != against}
    if unknown := {*baseline, *baseline.values()} - set(arms):
        raise ValueError(f"baselines name arms: choose from {arms}, got {sorted(unknown)}")
    return {arm: comparison.paired(arm, baseline[arm]) for arm in arms if arm in baseline}


def _draw_runs(axis: Axes, comparison: Comparison, pairs: Mapping[str, Paired]) -> None:
    """Draw each seed as a dot, the mean as a line and the standard deviation as a bar, an arm a row."""
    summary = comparison.summary()
    axis.use_sticky_edges = False  # leave room beside a bar as beside a dot
    for place, (arm, row) in enumerate(summary.iterrows()):
        values = comparison.final.loc[comparison.final.arm == arm, comparison.test]
        colour = NONE if arm in pairs and pairs[arm].better is None else REAL
        if len(values) > 1:  # one seed has no spread
            left = row["mean"] - row["std"]
            axis.barh(place, 2 * row["std"], left=left, height=0.5, color=colour, alpha=0.3)
        axis.plot([row["mean"]] * 2, [place - 0.25, place + 0.25], color=colour, linewidth=2)
        jitter = [place + 0.12 * (i - (len(values) - 1) / 2) for i in range(len(values))]
        axis.plot(values, jitter, "o", color=colour, markersize=4.5, markeredgecolor="white")
    names = [f"{arm}{' *' if row['rate_at_edge'] else ''}" for arm, row in summary.iterrows()]
    axis.set_yticks(range(len(summary)), names)
    axis.set(ylim=(len(summary) - 0.4, -0.6), title="dot: a seed; line: mean; bar: ± 1 standard deviation")
    direction = "" if comparison.higher_is_better else " (lower is better)"
    axis.set_xlabel(comparison.test.replace("_", " ") + direction)


def _draw_pairs(axis: Axes, pairs: Mapping[str, Paired], arms: list[str]) -> None:
    """Draw each arm's difference from its baseline with its interval, and write the finding beside it."""
    axis.axvline(0, color="black", linewidth=0.8)
    for arm, pair in pairs.items():
        place, real = arms.index(arm), pair.better is not None
        colour = REAL if real else NONE
        axis.plot([pair.low, pair.high], [place, place], color=colour, linewidth=2)
        axis.plot(pair.mean, place, "o", color=colour, markerfacecolor=colour if real else "white")
        finding = "one seed" if pair.seeds == 1 else pair.verdict
        words = f"{pair.mean:+.4f}" if real else f"{pair.mean:+.4f}, {finding}"
        style = {"ha": "center", "fontsize": 8, "color": "0.2", "textcoords": "offset points"}
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # hides the line at 0 behind the words
        axis.annotate(words.replace("-", "\N{MINUS SIGN}"), (pair.mean, place), (0, 7), bbox=box, **style)
    baselines = {pair.baseline for pair in pairs.values()}
    against = repr(baselines.pop()) if len(baselines) == 1 else "the arm's baseline"
    axis.set(yticks=[], ylim=(len(arms) - 0.4, -0.6), title="paired by seed, 95 % interval")
    axis.set_xlabel(f"difference from {against}")
    axis.margins(x=0.4)  # room for the words
    axis.xaxis.set_major_locator(MaxNLocator(5))


def _draw_rates(axis: Axes, comparison: Comparison) -> None:
    """Draw the search: the metric on the validation set against the rate, the chosen rates marked."""
    search: pd.DataFrame = comparison.table[comparison.table.phase == "search"]
    for number, (arm, row) in enumerate(comparison.summary().iterrows()):
        runs = search[search.arm == arm]
        scores = runs[comparison.validation].where(~runs.diverged).groupby(runs.learning_rate)
        means = scores.agg(lambda column: column.mean(skipna=False))  # nan, a gap, where a run diverged
        lost = means.index[means.isna()]
        (line,) = axis.plot(means.index, means, ".-", color=f"C{number % 10}", label=arm)
        chosen = row["learning_rate"]
        axis.plot(chosen, means[chosen], "o", markersize=9, markerfacecolor="none", color=line.get_color())
        floor = axis.get_xaxis_transform()  # x in data, y from 0 at the bottom to 1
        axis.plot(lost, [0.04] * len(lost), "x", color=line.get_color(), transform=floor)
    axis.set(xscale="log", xlabel="learning rate", title="search; ring: chosen rate; cross: diverged")
    axis.set_ylabel(comparison.validation.replace("_", " "))
    axis.legend(fontsize=8, ncols=LEGEND_COLUMNS, loc="upper center", bbox_to_anchor=(0.5, -0.25))


def compare_arms(
    comparison: Comparison,
    *,
    baseline: str | Mapping[str, str] | None = None,
    rates: bool = False,
    title: str | None = None,
) -> Figure:
    """Draw what a comparison found: the final runs, the paired differences, and the search if wanted.

    Arms that show no difference from their baseline (`Comparison.paired`) are grey and say so. A star behind
    a name: the arm's best rate was the lowest or highest tried.

    Args:
        comparison: From `training.compare`.
        baseline: The arm that the others are compared with, the first by default; or arm -> its baseline.
        rates: Draw a panel with the validation metric against the learning rate; a cross at the bottom stands
            for a rate that diverged.
        title: Above the panels.

    Returns:
        The figure.

    Raises:
        ValueError: If `baseline` names no arm.
    """
    pairs = _pairs(comparison, baseline)
    arms = list(comparison.summary().index)
    panels = {"runs": 1.25} | ({"pairs": 1.0} if pairs else {})
    rows = [list(panels)] + ([["rates"] * len(panels)] if rates else [])
    height = 0.45 * len(arms) + 1.3
    below = 2.8 + 0.2 * math.ceil(len(arms) / LEGEND_COLUMNS)  # the legend stands under the curves
    figure, axes = plt.subplot_mosaic(
        rows,
        figsize=(9, height + (below if rates else 0)),
        layout="constrained",
        width_ratios=list(panels.values()),
        height_ratios=[height, below] if rates else [height],
    )
    _draw_runs(axes["runs"], comparison, pairs)
    if pairs:
        _draw_pairs(axes["pairs"], pairs, arms)
    if rates:
        _draw_rates(axes["rates"], comparison)
    for axis in axes.values():
        axis.title.set_fontsize(9)
    seeds = int(comparison.summary().seeds.iloc[0])
    rules = f"{seeds} seed{'s' if seeds > 1 else ''}, equal {comparison.budget}"
    if comparison.exploratory:
        rules = f"exploratory: {rules}"
    if comparison.summary().rate_at_edge.any():
        rules += "; * best rate at the edge of those tried"
    if diverged := int(comparison.final.diverged.sum()):
        rules += f"; {diverged} final run{'s' if diverged > 1 else ''} diverged"
    figure.suptitle(f"{title}\n({rules})" if title else rules, fontsize=11)
    return figure
