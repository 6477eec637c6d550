"""The fair comparison of the course, taught in notebook 2.15 and imported from then on.

`compare` is the protocol, from the first check to the last run. Below it stand what it
checks, what a comparison found (`Comparison`, `Paired`), and the run that trains a
classifier (`Arm`, `classifier_run`).
"""

import contextlib
import itertools
import math
import operator
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from utils.data.loading import make_loader
from utils.metrics import accuracy
from utils.runtime import (
    Stopwatch,
    join_processes,
    pick_device,
    progress_bar,
    seed_everything,
)
from utils.training import LossFunction, evaluate, train_one_epoch

MIN_SEEDS, MIN_RATES = 3, 3
WIDENINGS = 2  # steps that the rates of an arm may be widened by, beyond its own grid
BUDGETS = ("steps", "epochs", "seconds", "unequal")
Run = Callable[[Any, float, int, str], Mapping[str, Any]]
Transform = Callable[[torch.Tensor], torch.Tensor]


def compare(
    arms: Mapping[str, Any],
    run: Run | None = None,
    *,
    learning_rates: Sequence[float] | Mapping[str, Sequence[float]] | None = None,
    seeds: Iterable[int] = (0, 1, 2, 3, 4),
    search_seeds: Iterable[int] | None = None,
    metric: str | LossFunction = accuracy,
    higher_is_better: bool = True,
    budget: str | None = None,
    exploratory: bool = False,
    verbose: bool = True,
    **training: Any,
) -> "Comparison":
    """Compare ways to train on equal terms.

    Each arm is run at each of its learning rates and measured on the validation set;
    the best rate is its own. Where that is the lowest or highest one tried, the next
    rate beyond it is tried too, at most twice. Only when every arm has chosen is each
    one run at its rate with each seed, and measured on the test set. A seed decides
    initialisation, order of the data and augmentation; all arms get the same ones, so
    that their results can be compared in pairs.

    Args:
        arms: Name -> what is compared. Without `run`, an `Arm`, or just the function
            that builds its network; with `run`, anything that it understands.
        run: From `(arm, learning_rate, seed, phase)` to a dict of measurements: trains
            `arms[name]` anew and measures it. By default it trains a classifier
            (`classifier_run`). Your own returns `validation_METRIC`, and `test_METRIC`
            where `phase` is "final" but never where it is "search"; `steps`, or what
            else `budget` names; and, as you like, `examples`, `batch_size`, `seconds`,
            `train_loss`, `diverged=True` where training failed, and further columns.
            Python, NumPy and PyTorch are seeded with `seed` before each call.
        learning_rates: The rates to choose from: for all arms, or arm -> its own. An
            arm's attribute of this name comes first. Each arm needs as many.
        seeds: Of the final runs.
        search_seeds: Of the runs that choose the rates; one other than `seeds` by
            default.
        metric: What counts. For your own `run` the name METRIC; else a function from
            `(outputs, labels)` to a mean over the batch, whose `__name__` is METRIC.
        higher_is_better: Whether a large value of the metric is good.
        budget: For your own `run`: what every run gets equally much of and reports,
            "steps" (the default) or "epochs" (equally many `examples`); "seconds" if
            the clock ends it; "unequal" declares that they differ, and the plot says
            so.
        exploratory: Accept fewer than 3 seeds or 3 rates; table and plot say so.
        verbose: Show one progress bar over all runs.
        **training: Without `run`, as for `classifier_run`: `train`, `validation` and
            `test` sets, one of `steps`, `epochs`, `seconds`, and what all arms share.

    Returns:
        The table of all runs and what it shows. Random generators are left as they
        were.

    Raises:
        TypeError: If an argument is of a wrong kind, or settings of the default run are
            given beside another.
        ValueError: If the comparison is unfair or cannot be run: no arm, unequal
            budgets or numbers of rates, repeated seeds, too few rates or seeds, shared
            examples, every rate of an arm diverging, measurements that are missing.
    """
    _check_kinds(arms, run, metric, higher_is_better, budget, training)
    seeds = _whole_numbers("seeds", seeds)
    search_seeds = _whole_numbers(
        "search_seeds", [max(seeds) + 1] if search_seeds is None else search_seeds
    )
    with _private_randomness():
        if run is None:
            arms, run, budget = classifier_run(arms, metric=metric, **training)
        rates = _rates_of(arms, learning_rates)
        counts = {name: len(own) for name, own in rates.items()}
        if problem := _unfair_plan(counts, seeds, search_seeds, exploratory):
            raise ValueError(problem)
        total = sum(counts.values()) * len(search_seeds) + len(arms) * len(seeds)
        with progress_bar(total=total, unit="run", disable=not verbose) as bar:
            counted = _name_of(metric), higher_is_better, budget or "steps"
            log = _Log(arms, run, *counted, bar)
            # the search, on the validation set
            for name, own in rates.items():
                for rate, seed in itertools.product(own, search_seeds):
                    log.record(name, rate, seed, "search")
            # wider, where the best rate lies at the edge of those tried
            for _ in range(WIDENINGS):
                for name, best in log.best_rates().items():
                    if (beyond := _rate_beyond(rates[name], best)) is not None:
                        rates[name].append(beyond)
                        bar.total += len(search_seeds)
                        for seed in search_seeds:
                            log.record(name, beyond, seed, "search", widened=True)
            # every rate is chosen: only from here on is the test set measured
            chosen = log.best_rates()
            for seed, (name, rate) in itertools.product(seeds, chosen.items()):
                log.record(name, rate, seed, "final")
    table = log.table().assign(exploratory=exploratory)
    return Comparison(table, log.metric, log.budget, higher_is_better, exploratory)


@dataclass
class _Log:
    """What the arms have measured until now, a row a run."""

    arms: Mapping[str, Any]
    run: Run
    metric: str
    higher_is_better: bool
    budget: str
    bar: tqdm
    rows: list[dict] = field(default_factory=list)

    def record(
        self, name: str, rate: float, seed: int, phase: str, widened: bool = False
    ) -> None:
        """Run an arm once; refuse what it measured, or add it as a row."""
        where = f"{name}, rate {rate:g}, seed {seed}"
        self.bar.set_description(where)
        seed_everything(seed)
        with Stopwatch() as watch:
            found = self.run(self.arms[name], rate, seed, phase)
        row = {"seconds": watch.seconds} | _checked(found, where, self.metric, phase)
        row |= {"arm": name, "phase": phase, "seed": seed, "learning_rate": rate}
        self.rows.append(row | {"widened": widened})
        if problem := _unequal(self.table(), self.budget):
            raise ValueError(f"not a fair comparison: {problem}")
        self.bar.update()

    def table(self) -> pd.DataFrame:
        """Return the rows until now."""
        table = pd.DataFrame(self.rows)
        columns = _columns(self.metric)
        further = table.columns.difference(columns, sort=False)
        return table.reindex(columns=[*columns, *further])

    def best_rates(self) -> dict[str, float]:
        """Return each arm's best rate until now."""
        validation = f"validation_{self.metric}"
        return choose_rates(self.table(), validation, self.higher_is_better)


def choose_rates(
    search: pd.DataFrame, validation: str, higher_is_better: bool
) -> dict[str, float]:
    """Choose for each arm the rate whose runs did best on the validation set.

    Args:
        search: The runs of the search: `arm`, `phase`, `learning_rate`, `diverged`, and
            `validation`.
        validation: The column to look at; its mean over the seeds counts.
        higher_is_better: Whether a large value is good.

    Returns:
        Arm -> rate; of equal ones the lowest. A rate of which a run diverged is not
        chosen.

    Raises:
        ValueError: If every rate of an arm diverged, or the table holds no run of a
            search, or others.
    """
    if set(search.phase) != {"search"}:
        raise ValueError(
            f"rates are chosen from runs of the search alone, got phases "
            f"{sorted(set(search.phase))}: give table[table.phase == 'search']"
        )
    sign = 1 if higher_is_better else -1
    chosen = {}
    for arm, runs in search.groupby("arm", sort=False):
        scores = (
            (sign * runs[validation]).where(~runs.diverged).groupby(runs.learning_rate)
        )
        means = scores.agg(lambda column: column.mean(skipna=False)).sort_index()
        if means.isna().all():
            raise ValueError(
                f"arm {arm!r} diverged at every learning rate: give it lower ones"
            )
        chosen[arm] = float(means.idxmax())
    return chosen


def _at_edge(rates: Sequence[float], best: float) -> bool:
    """Tell whether a better rate may lie outside of those tried."""
    return best in (min(rates), max(rates))


def _rate_beyond(rates: Sequence[float], best: float) -> float | None:
    """Return the next rate of the grid outside if the best one lies at its edge."""
    if not _at_edge(rates, best) or len(rates) == 1:
        return None
    neighbour = sorted(rates)[1] if best == min(rates) else sorted(rates)[-2]
    return best * (best / neighbour)


def _check_kinds(
    arms: Mapping[str, Any],
    run: Run | None,
    metric: str | LossFunction,
    higher_is_better: bool,
    budget: str | None,
    training: Mapping[str, Any],
) -> None:
    """Refuse arguments of a wrong kind, which might pass and mean something else."""
    if join_processes()[1] > 1:
        raise ValueError("compare runs in one process, not under torchrun")
    if not isinstance(arms, Mapping) or not arms:
        raise ValueError(f"compare needs arms, a dict of name -> arm, got {arms!r}")
    for name, arm in arms.items():
        if isinstance(getattr(arm, "model", arm), nn.Module):
            raise TypeError(
                f"arm {name!r} is a network, and runs would go on from each other: "
                f"give a function that builds a new one"
            )
    if run is not None and not callable(run):
        raise TypeError(
            f"run must be a function of (arm, learning_rate, seed, phase), got "
            f"{type(run).__name__}; sets are given by name: train=, validation=, test="
        )
    if run is not None and training:
        raise TypeError(
            f"{', '.join(training)}: only for the default run; yours takes them itself"
        )
    if run is None and not callable(metric):
        raise TypeError(
            f"metric must be a function of (outputs, labels), got {metric!r}; a name "
            f"is for a run of your own"
        )
    if run is None and budget is not None:
        raise TypeError(
            "budget is for a run of your own: give steps, epochs or seconds"
        )
    if budget is not None and budget not in BUDGETS:
        raise ValueError(f"budget must be one of {', '.join(BUDGETS)}, got {budget!r}")
    name = _name_of(metric).lower()
    loss = training.get("loss_fn", F.cross_entropy)
    if higher_is_better and (
        metric is loss or name.endswith(("loss", "error", "entropy"))
    ):
        raise ValueError(
            f"less of {name} is better: give higher_is_better=False, or the worst "
            f"learning rate is chosen"
        )


def _name_of(metric: str | LossFunction) -> str:
    """Return the name of a metric, which names the columns."""
    name = getattr(metric, "__name__", metric)
    # a lambda, a partial
    return name if isinstance(name, str) and name.isidentifier() else "metric"


def _whole_numbers(name: str, seeds: Iterable[int]) -> list[int]:
    """Return seeds as a list, or refuse them."""
    try:
        numbers = [operator.index(seed) for seed in seeds]
    except TypeError:
        numbers = []
    if not numbers or not all(0 <= number < 2**32 for number in numbers):
        raise ValueError(
            f"{name} must be whole numbers from 0 on, such as range(5), got {seeds!r}"
        )
    return numbers


def _rates_of(
    arms: Mapping[str, Any],
    learning_rates: Sequence[float] | Mapping[str, Sequence[float]] | None,
) -> dict[str, list[float]]:
    """Return arm -> the rates that it chooses from."""
    by_arm = isinstance(learning_rates, Mapping)
    if by_arm and (unknown := set(learning_rates) - set(arms)):
        raise ValueError(
            f"learning_rates name no arm: {sorted(unknown)}; the arms are {list(arms)}"
        )
    rates = {}
    for name, arm in arms.items():
        own = getattr(arm, "learning_rates", None)
        if own is None:
            own = learning_rates.get(name) if by_arm else learning_rates
        try:
            rates[name] = [float(rate) for rate in own]
        except (TypeError, ValueError):
            rates[name] = []
        positive = all(0 < rate < math.inf for rate in rates[name])
        if not positive or not 0 < len(set(rates[name])) == len(rates[name]):
            raise ValueError(
                f"arm {name!r} needs learning_rates, positive and each once, such as "
                f"[0.01, 0.1, 1.0], got {own!r}"
            )
    return rates


def _unfair_plan(
    rates: Mapping[str, int],
    seeds: Sequence[int],
    search_seeds: Sequence[int],
    exploratory: bool,
) -> str | None:
    """Return what is unfair in the seeds and in arm -> number of rates, if anything."""
    if len({*seeds, *search_seeds}) < len(seeds) + len(search_seeds):
        return (
            f"every seed is for one run: got seeds {list(seeds)} and search_seeds "
            f"{list(search_seeds)}"
        )
    if len(set(rates.values())) != 1:
        return (
            f"every arm gets as many learning rates to choose from, got {dict(rates)}"
        )
    fewest = min(rates.values())
    if not exploratory and (len(seeds) < MIN_SEEDS or fewest < MIN_RATES):
        return (
            f"at least {MIN_SEEDS} seeds and {MIN_RATES} learning rates are needed, "
            f"got {len(seeds)} and {fewest}: give more, or exploratory=True, which "
            f"table and plot then say"
        )
    return None


def _checked(found: Mapping[str, Any], where: str, metric: str, phase: str) -> dict:
    """Return the measurements of a run, or refuse them."""
    if not isinstance(found, Mapping):
        raise TypeError(
            f"run must return a dict of measurements, got {found!r} ({where})"
        )
    row = {
        key: value.item() if isinstance(value, torch.Tensor | np.generic) else value
        for key, value in found.items()
    }
    early = [key for key in row if key.startswith("test_")]
    if phase == "search" and early:
        raise ValueError(
            f"run measured {', '.join(early)} in the search: the test set is for the "
            f"final runs alone, where phase is 'final'"
        )
    row["diverged"] = bool(row.get("diverged", False))
    if row["diverged"]:
        return row
    for key in [f"validation_{metric}"] + [f"test_{metric}"] * (phase == "final"):
        if key not in row:
            raise ValueError(
                f"run returned no {key} ({where}), only {list(found)}: return it, or "
                f"name what counts by metric="
            )
        if not math.isfinite(row[key]):
            raise ValueError(
                f"run returned {key} = {row[key]} ({where}): return diverged=True "
                f"where training failed"
            )
    return row


def _columns(metric: str) -> list[str]:
    """Return the columns that the table of every comparison has."""
    columns = ["arm", "phase", "seed", "learning_rate", "batch_size", "steps"]
    columns += ["examples", "seconds", "train_loss"]
    return [*columns, f"validation_{metric}", f"test_{metric}", "diverged", "widened"]


def _unequal(table: pd.DataFrame, budget: str) -> str | None:
    """Return how the runs of a table have got unequally much, if they have."""
    if budget in ("seconds", "unequal"):
        return None
    column = "steps" if budget == "steps" else "examples"
    whole = table[~table.diverged]
    amounts = whole[column]
    if amounts.isna().any():
        return f"equal {budget}, but a run does not report its {column}"
    # equal epochs end within the same batch
    tolerance = whole.batch_size.max() if budget == "epochs" else 0
    tolerance = 0 if math.isnan(tolerance) else tolerance
    if len(whole) and amounts.max() - amounts.min() > tolerance:
        by_arm = {
            arm: sorted({*own.tolist()}) for arm, own in amounts.groupby(whole.arm)
        }
        return (
            f"runs got unequally many {column}, {by_arm}: make them equal, or declare "
            f"budget='unequal'"
        )
    return None


@contextlib.contextmanager
def _private_randomness() -> Iterator[None]:
    """Leave all random generators as they were."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


@dataclass(frozen=True)
class Paired:
    """The difference of two arms, `arm` minus `baseline`, taken seed by seed.

    Args:
        arm: The one.
        baseline: The other.
        mean: The mean of the differences.
        std: Their standard deviation over the seeds (n - 1 in the denominator); nan for
            one seed.
        low: Lower end of the 95 % t-interval of the mean; nan for one seed.
        high: Its upper end.
        spread: The larger of the two arms' standard deviations over the seeds.
        seeds: How many there are.
        better: The arm that is better; None where the runs do not tell.
        withheld: Why there is no verdict, if there is none.
    """

    arm: str
    baseline: str
    mean: float
    std: float
    low: float
    high: float
    spread: float
    seeds: int
    better: str | None
    withheld: str | None = None

    @property
    def verdict(self) -> str:
        """The finding in words: who is better, or the interval that leaves it open."""
        if self.seeds == 1:
            return "not known: one seed"
        if self.withheld:
            return f"withheld: {self.withheld}"
        if self.better:
            return f"{self.better} is better"
        # 3 decimals, or as many more as show both ends and the width
        smallest = min(abs(self.low), abs(self.high), (self.high - self.low) / 10)
        decimals = min(max(3, math.ceil(-math.log10(smallest or 1))), 6)
        ends = (f"{end:+.{decimals}f}" for end in (self.low, self.high))
        return f"unresolved, {' to '.join(ends)}".replace("-", "\N{MINUS SIGN}")


@dataclass(frozen=True)
class Comparison:
    """The runs of a comparison, one row each; a table that is not fair is refused.

    Args:
        table: `arm`, `phase` ("search" or "final"), `seed`, `learning_rate`,
            `batch_size`, `steps`, `examples`, `seconds` of training, `train_loss` (mean
            over the last tenth of the steps), `validation_METRIC`, `test_METRIC` (nan
            in the search), `diverged` (stopped at an infinite loss, and measured as it
            was, if it could be), `widened` (a rate beyond the arm's own grid, tried
            because the best one lay at its edge), `exploratory`, and what else a run
            has returned.
        metric: The name METRIC.
        budget: What every run has got equally much of: "steps", "epochs" or "seconds";
            or "unequal".
        higher_is_better: Whether a large value of the metric is good.
        exploratory: Fewer than 3 seeds or 3 rates are let pass, and table and plot say
            so.

    Raises:
        ValueError: If columns are missing, arms have different seeds, lengths or
            numbers of rates, a seed occurs twice, a final rate is not the one that did
            best in the search, the test set was measured in the search, or there are
            too few seeds or rates.
    """

    table: pd.DataFrame
    metric: str
    budget: str
    higher_is_better: bool = True
    exploratory: bool = False

    def __post_init__(self) -> None:
        """Refuse what is not fair."""
        if self.budget not in BUDGETS:
            raise ValueError(
                f"budget must be one of {', '.join(BUDGETS)}, got {self.budget!r}"
            )
        if missing := {*_columns(self.metric)} - {*self.table.columns}:
            raise ValueError(f"the table of a comparison lacks {sorted(missing)}")
        if problem := self._unfair():
            raise ValueError(f"not a fair comparison: {problem}")

    def _unfair(self) -> str | None:
        """Return what is unfair in the table, if anything."""
        table, final, search = self.table, self.final, self.search
        if table.duplicated(["arm", "phase", "seed", "learning_rate"]).any():
            return "a run stands in the table twice: each needs a seed of its own"
        seeds = final.groupby("arm").seed.agg(lambda column: tuple(sorted(column)))
        if len(seeds) < table.arm.nunique() or seeds.nunique() != 1:
            return f"every arm needs the same final seeds, each once: {seeds.to_dict()}"
        if (final.groupby("arm").learning_rate.nunique() > 1).any():
            return "an arm changes its learning rate between its final runs"
        if search[self.test].notna().any():
            return f"{self.test} was measured during the search"
        if problem := _unequal(table, self.budget):
            return problem
        grid = search[~search.widened.astype(bool)].groupby("arm").learning_rate
        rates = grid.nunique().reindex(table.arm.unique(), fill_value=1).to_dict()
        search_seeds = search.seed.unique().tolist()
        problem = _unfair_plan(rates, seeds.iloc[0], search_seeds, self.exploratory)
        if problem or search.empty:
            return problem
        used = final.groupby("arm", sort=False).learning_rate.first().to_dict()
        best = choose_rates(search, self.validation, self.higher_is_better)
        if used != best:
            return (
                f"the final runs used the rates {used}, the validation set chose {best}"
            )
        return None

    @property
    def validation(self) -> str:
        """The name of the column with the metric on the validation set."""
        return f"validation_{self.metric}"

    @property
    def test(self) -> str:
        """The name of the column with the metric on the test set."""
        return f"test_{self.metric}"

    @property
    def search(self) -> pd.DataFrame:
        """The runs that chose the rates."""
        return self.table[self.table.phase == "search"].reset_index(drop=True)

    @property
    def final(self) -> pd.DataFrame:
        """The runs that count: each arm at its chosen rate, one for each seed."""
        return self.table[self.table.phase == "final"].reset_index(drop=True)

    def summary(self) -> pd.DataFrame:
        """Return one row an arm: its rate, and mean and deviation over the seeds.

        Returns:
            Indexed by `arm`: `learning_rate`, `rate_at_edge` (it is the lowest or
            highest tried: a better one may lie outside), `rates` (how many were tried),
            `seeds`, `mean` and `std` (n - 1 in the denominator) of the test metric,
            `validation_mean`, `train_loss`, `steps` and `seconds` (means over the
            seeds), `diverged` (how many final runs did). Where one of them could not be
            measured, `mean` and `std` are nan.
        """
        final = self.final
        summary = final.groupby("arm", sort=False).agg(
            learning_rate=("learning_rate", "first"),
            seeds=("seed", "nunique"),
            mean=(self.test, "mean"),
            std=(self.test, "std"),
            validation_mean=(self.validation, "mean"),
            train_loss=("train_loss", "mean"),
            steps=("steps", "mean"),
            seconds=("seconds", "mean"),
            diverged=("diverged", "sum"),
        )
        lost = final.loc[final[self.test].isna(), "arm"].unique()
        summary.loc[lost, ["mean", "std"]] = math.nan
        tried = self.table.groupby("arm").learning_rate.unique()
        at_edge = [
            _at_edge(tried[arm], best) for arm, best in summary.learning_rate.items()
        ]
        summary.insert(1, "rate_at_edge", at_edge)
        summary.insert(2, "rates", tried.map(len))
        return summary

    def paired(self, arm: str, baseline: str) -> Paired:
        """Compare two arms on the test metric, seed by seed.

        A seed gives both arms the same order of the data and, where they are built
        alike, the same weights to start from. What luck they share drops out of their
        difference.

        An arm counts as better only if the 95 % t-interval of the mean difference does
        not contain 0, and the mean difference is not smaller than the spread: the
        larger of the two arms' standard deviations. All else is unresolved: these runs
        do not tell. There is no verdict where the best rate of an arm lies at the edge
        of those tried. The interval covers seeds, not the choice of the test images; of
        20 such intervals one is expected to miss the truth.

        Args:
            arm: The one.
            baseline: The other.

        Returns:
            `arm` minus `baseline`.

        Raises:
            ValueError: If there is no such arm, or both are the same.
        """
        values = self.final.pivot(index="seed", columns="arm", values=self.test)
        for name in (arm, baseline):
            if name not in values:
                raise ValueError(f"there is no arm {name!r}: choose from {[*values]}")
        if arm == baseline:
            raise ValueError(f"an arm is compared with another one, not {arm!r} twice")
        both, n = values[[arm, baseline]], len(values)
        difference = values[arm] - values[baseline]
        mean, std = float(difference.mean()), float(difference.std())
        half = (
            float(stats.t.ppf(0.975, n - 1)) * std / math.sqrt(n) if n > 1 else math.nan
        )
        spread = float(both.std().max())
        withheld = self._withheld(both)
        real = n > 1 and abs(mean) > half and abs(mean) >= spread and not withheld
        winner = arm if (mean > 0) == self.higher_is_better else baseline
        return Paired(
            arm,
            baseline,
            mean,
            std,
            mean - half,
            mean + half,
            spread,
            n,
            winner if real else None,
            withheld,
        )

    def _withheld(self, values: pd.DataFrame) -> str | None:
        """Return why two arms (columns; a row a seed) get no verdict, if so."""
        if values.isna().any(axis=None):
            return "a final run diverged"
        if (values.iloc[:, 0] == values.iloc[:, 1]).all():
            return "equal in every run: is it one arm twice?"
        if (values.nunique() == 1).all():
            return "the seeds change nothing: are they used?"
        arms = self.summary().loc[list(values)]
        if (arms.rates == 1).any():
            return "only one learning rate was tried"
        return "best rate at the edge of the grid" if arms.rate_at_edge.any() else None


# share of the steps, the last ones, over which the training loss is averaged
TAIL = 0.1
EVALUATION_BATCH = 1000  # examples; what is measured does not depend on it


@dataclass(frozen=True)
class Arm:
    """One side of a comparison; what is None is taken from the call of `compare`.

    Args:
        model: Builds a fresh network, without arguments; its randomness comes from
            torch's generator.
        optimizer: From `(parameters, lr=rate)` to an optimiser: a class, or a
            `functools.partial` of one.
        learning_rates: The rates to choose from.
        scheduler: From `(optimizer, steps)` to a scheduler that is stepped after every
            optimiser step.
        batch_size: Examples in a batch.
        transform: From a batch as the set gives it to what the network gets, in
            training and measuring.
        train_transform: The same for training alone: with augmentation, say.
        train: The training set.
    """

    model: Callable[[], nn.Module]
    optimizer: Callable[..., Optimizer] | None = None
    learning_rates: Sequence[float] | None = None
    scheduler: Callable[[Optimizer, int], LRScheduler] | None = None
    batch_size: int | None = None
    transform: Transform | None = None
    train_transform: Transform | None = None
    train: Dataset | None = None


def classifier_run(
    arms: Mapping[str, Arm | Callable[[], nn.Module]],
    *,
    train: Dataset,
    validation: Dataset,
    test: Dataset,
    steps: int | None = None,
    epochs: float | None = None,
    seconds: float | None = None,
    batch_size: int = 128,
    optimizer: Callable[..., Optimizer] = torch.optim.SGD,
    scheduler: Callable[[Optimizer, int], LRScheduler] | None = None,
    transform: Transform | None = None,
    train_transform: Transform | None = None,
    loss_fn: LossFunction = F.cross_entropy,
    metric: LossFunction = accuracy,
    device: torch.device | str | None = None,
    amp: bool = True,
) -> tuple[dict[str, Arm], Run, str]:
    """Return the default run of `compare`, which trains a classifier and measures it.

    Args:
        arms: Name -> `Arm`, or just the function that builds its network. An arm's own
            settings come before those below.
        train: Training set: `(image, label)`, or whole batches as an `ImageSet` gives
            them.
        validation: The set that rates are chosen on.
        test: The set that is measured on after the choice.
        steps: Optimiser steps of every run. Give this, or one of the next two.
        epochs: Passes over `train`: all arms see equally many examples, and those with
            smaller batches take more steps.
        seconds: Training time of every run on this machine; the results then depend on
            it.
        batch_size: Examples in a batch. All batches are whole: the rest of an epoch is
            left out.
        optimizer: From `(parameters, lr=rate)` to an optimiser.
        scheduler: From `(optimizer, steps)` to a scheduler that is stepped after every
            optimiser step.
        transform: As for `make_loader`, in training and measuring.
        train_transform: The same for training alone.
        loss_fn: From `(outputs, labels)` to the mean loss of a batch.
        metric: From `(outputs, labels)` to a mean over the batch.
        device: Where to compute; `pick_device()` by default.
        amp: Compute in bfloat16 where the hardware is faster so.

    Returns:
        The arms with all their settings, the run, and the kind of budget.

    Raises:
        ValueError: If an arm or the budget cannot be used, or sets share examples.
    """
    shared = {
        "optimizer": optimizer,
        "scheduler": scheduler,
        "batch_size": batch_size,
        "transform": transform,
        "train_transform": train_transform,
        "train": train,
    }
    arms = {name: _complete(name, arm, shared) for name, arm in arms.items()}
    kind, amount = _one_budget(arms, steps, epochs, seconds)
    for own in {id(arm.train): arm.train for arm in arms.values()}.values():
        check_apart(own, validation, test)
    device = torch.device(device) if device else pick_device()

    def share(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor | float:
        """Return the metric, or nan for outputs of a network that has exploded."""
        return metric(outputs, labels) if outputs.isfinite().all() else math.nan

    def run(arm: Arm, learning_rate: float, seed: int, phase: str) -> dict[str, Any]:
        """Train a network for the budget and measure it."""
        planned = _steps(kind, amount, arm)
        model, loader = _build(arm, seed)
        model.to(device)
        optimizer, scheduler = _optimize(arm, model, learning_rate, planned)
        losses = []

        def recorded(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            """Return the loss, and remember it."""
            loss = loss_fn(outputs, labels)
            losses.append(loss.detach())
            return loss

        diverged = False
        with Stopwatch() as watch:
            try:
                train_one_epoch(
                    model,
                    _Batches(loader, planned, amount),
                    loss_fn=recorded,
                    optimizer=optimizer,
                    scheduler=scheduler,
                    device=device,
                    amp=amp,
                )
            except FloatingPointError:
                if not losses or losses[-1].isfinite():
                    raise
                diverged = True  # a finding about this rate, which belongs in the table
        made = len(losses) - diverged  # the step that found it out was not made
        tail = torch.stack(losses[-math.ceil(TAIL * len(losses)) :])
        row = {
            "batch_size": arm.batch_size,
            "steps": made,
            "examples": made * arm.batch_size,
            "seconds": watch.seconds,
            "train_loss": tail.double().mean().item(),
        }
        sets = {"validation": validation} | ({"test": test} if phase == "final" else {})
        for name, dataset in sets.items():
            values = evaluate(
                model,
                make_loader(dataset, EVALUATION_BATCH, transform=arm.transform),
                loss_fn=loss_fn,
                metrics={"metric": share},
                device=device,
                amp=amp,
            )
            row[f"{name}_{_name_of(metric)}"] = values["metric"]
            diverged = diverged or math.isnan(values["metric"])
        return row | {"diverged": diverged}

    return arms, run, kind


class _Batches:
    """The batches of a loader, epoch after epoch, until the budget is used up."""

    def __init__(self, loader: DataLoader, steps: int | None, seconds: float) -> None:
        """Count `steps` if there are any, else `seconds` from the first batch on."""
        self.loader, self.steps, self.seconds, self.done = loader, steps, seconds, 0

    def __len__(self) -> int:
        """Return the steps that are known."""
        return self.steps or self.done

    def __iter__(self) -> Iterator:
        """Yield at least one batch."""
        watch = Stopwatch()
        for batch in itertools.chain.from_iterable(itertools.repeat(self.loader)):
            self.done += 1
            yield batch
            if self.done == self.steps or (
                self.steps is None and watch.seconds >= self.seconds
            ):
                return


def _steps(kind: str, amount: float, arm: Arm) -> int | None:
    """Return the optimiser steps of a run; None where the clock decides."""
    if kind == "epochs":  # as many examples for every arm, to within a batch
        return max(1, round(amount * len(arm.train) / arm.batch_size))
    return int(amount) if kind == "steps" else None


def _build(arm: Arm, seed: int) -> tuple[nn.Module, DataLoader]:
    """Return a network and its training batches; the seed decides weights and order."""
    seed_everything(seed)
    model = arm.model()
    loader = make_loader(
        arm.train,
        arm.batch_size,
        shuffle=True,
        seed=seed,
        transform=arm.train_transform or arm.transform,
        drop_last=True,  # every step of every arm averages over a whole batch
    )
    # Arms that drew differently many numbers for their weights augment alike from
    # here on.
    seed_everything((seed + 2**31) % 2**32)
    return model, loader


def _optimize(
    arm: Arm, model: nn.Module, learning_rate: float, steps: int | None
) -> tuple[Optimizer, LRScheduler | None]:
    """Return the optimiser and the schedule of the network's parameters."""
    optimizer = arm.optimizer(model.parameters(), lr=learning_rate)
    if arm.scheduler is None:
        return optimizer, None
    scheduler = arm.scheduler(optimizer, steps)
    if isinstance(scheduler, ReduceLROnPlateau):
        raise ValueError(
            "ReduceLROnPlateau waits for a validation loss after each epoch, which a "
            "comparison does not measure: give a schedule of steps"
        )
    if not isinstance(scheduler, LRScheduler):
        raise TypeError(
            f"scheduler must return a scheduler of torch, got {scheduler!r}"
        )
    return optimizer, scheduler


def _one_budget(
    arms: Mapping[str, Arm],
    steps: int | None,
    epochs: float | None,
    seconds: float | None,
) -> tuple[str, float]:
    """Return the kind and the amount of the one budget, if the arms can keep to it."""
    amounts = {"steps": steps, "epochs": epochs, "seconds": seconds}
    given = {kind: amount for kind, amount in amounts.items() if amount is not None}
    if len(given) != 1 or not 0 < min(given.values()) < math.inf:
        raise ValueError(
            f"every arm gets equally much: one of steps, epochs, seconds, above 0; got "
            f"{given}"
        )
    ((kind, amount),) = given.items()
    if kind == "steps" and amount != int(amount):
        raise ValueError(f"steps must be a whole number, got {amount}")
    if kind == "seconds" and any(arm.scheduler for arm in arms.values()):
        raise ValueError(
            "a scheduler needs to know how many steps there will be: give steps or "
            "epochs"
        )
    if kind == "epochs" and len({len(arm.train) for arm in arms.values()}) > 1:
        raise ValueError(
            "epochs of training sets of different sizes are not equally much: give "
            "steps"
        )
    return kind, amount


def _complete(
    name: str, arm: Arm | Callable[[], nn.Module], shared: Mapping[str, Any]
) -> Arm:
    """Fill in what an arm shares with the others, and check that it can be run."""
    arm = arm if isinstance(arm, Arm) else Arm(arm)
    if (
        arm.transform is not None
        and arm.train_transform is None
        and shared["train_transform"] is not None
    ):
        raise ValueError(
            f"arm {name!r} has its own transform: give it its own train_transform too"
        )
    arm = replace(
        arm,
        **{key: value for key, value in shared.items() if getattr(arm, key) is None},
    )
    if isinstance(arm.train, DataLoader):
        raise TypeError("train, validation and test are sets, not loaders")
    if not 0 < arm.batch_size <= len(arm.train):
        raise ValueError(
            f"arm {name!r}: no batch of {arm.batch_size} in {len(arm.train)} training "
            f"examples"
        )
    if isinstance(arm.optimizer, Optimizer) or not callable(arm.optimizer):
        raise TypeError(
            f"arm {name!r} needs a function from (parameters, lr=rate) to an "
            f"optimiser, such as torch.optim.SGD, got {type(arm.optimizer).__name__}"
        )
    models = arm.model(), arm.model()
    if not all(isinstance(model, nn.Module) for model in models):
        raise TypeError(
            f"arm {name!r} must build a network, got {type(models[0]).__name__}"
        )
    storages = [
        {p.data_ptr() for p in model.parameters() if p.numel()} for model in models
    ]
    if models[0] is models[1] or storages[0] & storages[1]:
        raise ValueError(
            f"arm {name!r} must build a new model at each call, or runs go on from "
            f"each other"
        )
    low, high = (
        [
            group["lr"]
            for group in arm.optimizer(models[0].parameters(), lr=lr).param_groups
        ]
        for lr in (1e-3, 1e-2)
    )
    if low == high:
        raise ValueError(f"the optimiser of arm {name!r} does not heed its rate, lr")
    return arm


# share of images that may occur twice: collections hold a few duplicates (2.13)
DUPLICATES = 0.01


def check_apart(train: Dataset, validation: Dataset, test: Dataset) -> None:
    """Refuse sets for training, validation and test that share examples.

    Args:
        train: The set that weights are computed from.
        validation: The set that settings are chosen on.
        test: The set that is measured on once.

    Raises:
        ValueError: If a set is empty, or two of them share an index of the same set, or
            more than 1 % of the images of the smaller one, byte by byte (of sets in
            memory); it names the two.
    """
    sets = {"train": train, "validation": validation, "test": test}
    for name, dataset in sets.items():
        if isinstance(dataset, DataLoader):
            raise TypeError(f"{name} must be a set, not a loader")
        if len(dataset) == 0:
            raise ValueError(f"the set for {name} is empty")
    contents = {name: _contents(dataset) for name, dataset in sets.items()}
    for (name, one), (other_name, other) in itertools.combinations(sets.items(), 2):
        (base, indices), (other_base, other_indices) = _origin(one), _origin(other)
        shared = len({*indices} & {*other_indices}) if base is other_base else 0
        if not shared:
            duplicates = len(contents[name] & contents[other_name])
            few = DUPLICATES * min(len(one), len(other))
            shared = duplicates if duplicates > few else 0
        if shared:
            raise ValueError(
                f"{name} and {other_name} share {shared} of {len(one)} and "
                f"{len(other)} examples: what is chosen or trained on one cannot be "
                f"measured on the other; split first (`data.split`)"
            )


def _origin(dataset: Dataset) -> tuple[Dataset, list[int] | range]:
    """Return the set that a `Subset` (of a `Subset`) chooses from, and the indices."""
    if not isinstance(dataset, Subset):
        return dataset, range(len(dataset))
    base, indices = _origin(dataset.dataset)
    return base, [indices[int(index)] for index in dataset.indices]


def _contents(dataset: Dataset) -> set[int]:
    """Return a hash of each image of a set in memory; of other sets, none."""
    base, indices = _origin(dataset)
    images = getattr(base, "images", None)
    if not isinstance(images, torch.Tensor) or len(images) != len(base):
        return set()
    rows = images.cpu().flatten(1).contiguous().numpy()
    return {hash(rows[index].tobytes()) for index in indices}
