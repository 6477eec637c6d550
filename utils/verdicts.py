"""What a comparison found: its table, whether that is fair, and which differences are real."""

import math
from dataclasses import dataclass

import pandas as pd
from scipy import stats

MIN_SEEDS, MIN_RATES = 3, 3


@dataclass(frozen=True)
class Paired:
    """The difference of two arms, `arm` minus `baseline`, taken seed by seed.

    Args:
        arm: The one.
        baseline: The other.
        mean: The mean of the differences.
        std: Their standard deviation over the seeds (n - 1 in the denominator); nan for one seed.
        low: Lower end of the 95 % t-interval of the mean; nan for one seed.
        high: Its upper end.
        spread: The larger of the two arms' standard deviations over the seeds.
        seeds: How many there are.
        better: The arm that is better; None where the runs show no difference.
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

    @property
    def verdict(self) -> str:
        """The finding in words."""
        if self.seeds == 1:
            return "not known: one seed"
        return f"{self.better} is better" if self.better else "no difference"


def _unfair(table: pd.DataFrame, budget: str, test: str, exploratory: bool) -> str | None:
    """Return what is unfair in a table of runs, if anything."""
    final, search = table[table.phase == "final"], table[table.phase == "search"]
    if table.duplicated(["arm", "phase", "seed", "learning_rate"]).any():
        return "a run stands in the table twice: each arm needs as many different seeds"
    seeds = final.groupby("arm").seed.agg(lambda column: tuple(sorted(column)))
    if len(seeds) < table.arm.nunique() or seeds.nunique() != 1 or final.duplicated(["arm", "seed"]).any():
        return f"every arm needs the same final seeds, each once: {seeds.to_dict()}"
    if set(final.seed) & set(search.seed):
        return "a seed serves both for the search and for a final run"
    if (final.groupby("arm").learning_rate.nunique() > 1).any():
        return "an arm changes its learning rate between its final runs"
    if search[test].notna().any():
        return f"{test} was measured during the search: the test set is for the final runs alone"
    whole = table[~table.diverged]
    if budget == "steps" and whole.steps.nunique() > 1:
        return f"runs of different lengths: {whole.groupby('arm').steps.unique().to_dict()} steps"
    seen = whole.examples
    if budget == "epochs" and len(whole) and seen.max() - seen.min() > whole.batch_size.max():
        return f"the arms saw different numbers of examples: {seen.groupby(whole.arm).unique().to_dict()}"
    rates = search.groupby("arm").learning_rate.nunique().reindex(table.arm.unique(), fill_value=1)
    if rates.nunique() > 1:
        return f"arms with different numbers of learning rates to choose from: {rates.to_dict()}"
    if not exploratory and (rates.min() < MIN_RATES or len(seeds.iloc[0]) < MIN_SEEDS):
        return f"at least 3 seeds and 3 learning rates are needed, got {len(seeds.iloc[0])} and {rates.min()}"
    return None


def choose_rates(search: pd.DataFrame, validation: str, higher_is_better: bool) -> dict[str, float]:
    """Choose for each arm the rate whose runs did best on the validation set.

    Args:
        search: The runs of the search: `arm`, `learning_rate`, `diverged`, and `validation`.
        validation: The column to look at; its mean over the seeds counts.
        higher_is_better: Whether a large value is good.

    Returns:
        Arm -> rate; of equal ones the lowest. A rate of which a run diverged is not chosen.

    Raises:
        ValueError: If every rate of an arm diverged.
    """
    sign = 1 if higher_is_better else -1
    chosen = {}
    for arm, runs in search.groupby("arm", sort=False):
        scores = (sign * runs[validation]).where(~runs.diverged).groupby(runs.learning_rate)
        means = scores.agg(lambda column: column.mean(skipna=False)).sort_index()
        if means.isna().all():
            raise ValueError(f"arm {arm!r} diverged at every learning rate: give it lower ones")
        chosen[arm] = float(means.idxmax())
    return chosen


@dataclass(frozen=True)
class Comparison:
    """The runs of a comparison, one row each; a table that is not fair is refused.

    Args:
        table: `arm`, `phase` ("search" or "final"), `seed`, `learning_rate`, `batch_size`, `steps`,
            `examples`, `seconds` of training, `train_loss` (mean over the last tenth of the steps),
            `validation_METRIC`, `test_METRIC` (nan in the search), `diverged` (stopped at an infinite loss,
            and measured as it was), `rate_at_edge` (the arm's best rate is the lowest or highest tried: a
            better one may lie outside), `exploratory`.
        metric: The name METRIC.
        budget: What every run has got equally much of: "steps", "epochs" or "seconds".
        higher_is_better: Whether a large value of the metric is good.
        exploratory: Fewer than 3 seeds or 3 rates are let pass, and table and plot say so.

    Raises:
        ValueError: If arms have different seeds, lengths or numbers of rates, a seed occurs twice, a final
            rate is not the one that did best in the search, the test set was measured in the search, or
            there are too few seeds or rates.
    """

    table: pd.DataFrame
    metric: str
    budget: str
    higher_is_better: bool = True
    exploratory: bool = False

    def __post_init__(self) -> None:
        """Refuse what is not fair."""
        problem = _unfair(self.table, self.budget, self.test, self.exploratory)
        search, final = (self.table[self.table.phase == phase] for phase in ("search", "final"))
        if problem is None and len(search):
            used = final.groupby("arm", sort=False).learning_rate.first().to_dict()
            best = choose_rates(search, self.validation, self.higher_is_better)
            if used != best:
                problem = f"the final runs used the rates {used}, the validation set chose {best}"
        if problem:
            raise ValueError(f"not a fair comparison: {problem}")

    @property
    def validation(self) -> str:
        """The name of the column with the metric on the validation set."""
        return f"validation_{self.metric}"

    @property
    def test(self) -> str:
        """The name of the column with the metric on the test set."""
        return f"test_{self.metric}"

    @property
    def final(self) -> pd.DataFrame:
        """The runs that count: each arm at its chosen rate, one for each seed."""
        return self.table[self.table.phase == "final"].reset_index(drop=True)

    def summary(self) -> pd.DataFrame:
        """Return one row an arm: its rate, and mean and standard deviation over the seeds.

        Returns:
            Indexed by `arm`: `learning_rate`, `rate_at_edge`, `seeds`, `mean` and `std` (n - 1 in the
            denominator) of the test metric, `validation_mean`, `train_loss`, `steps` and `seconds` (means
            over the seeds), `diverged` (how many final runs did).
        """
        return self.final.groupby("arm", sort=False).agg(
            learning_rate=("learning_rate", "first"),
            rate_at_edge=("rate_at_edge", "first"),
            seeds=("seed", "nunique"),
            mean=(self.test, "mean"),
            std=(self.test, "std"),
            validation_mean=(self.validation, "mean"),
            train_loss=("train_loss", "mean"),
            steps=("steps", "mean"),
            seconds=("seconds", "mean"),
            diverged=("diverged", "sum"),
        )

    def paired(self, arm: str, baseline: str) -> Paired:
        """Compare two arms on the test metric, seed by seed.

        A seed gives both arms the same order of the data and, where they are built alike, the same weights to
        start from. What luck they share drops out of their difference.

        An arm counts as better only if the 95 % t-interval of the mean difference does not contain 0, and the
        mean difference is not smaller than the spread: the larger of the two arms' standard deviations. All
        else is no difference that these runs can show. The interval covers seeds, not the choice of the test
        pictures; of 20 such intervals one is expected to miss the truth.

        Args:
            arm: The one.
            baseline: The other.

        Returns:
            `arm` minus `baseline`.

        Raises:
            KeyError: If there is no such arm.
        """
        values = self.final.pivot(index="seed", columns="arm", values=self.test)
        for name in (arm, baseline):
            if name not in values:
                raise KeyError(f"there is no arm {name!r}: choose from {list(values)}")
        difference, n = values[arm] - values[baseline], len(values)
        mean, std = float(difference.mean()), float(difference.std())
        half = float(stats.t.ppf(0.975, n - 1)) * std / math.sqrt(n) if n > 1 else math.nan
        spread = float(values[[arm, baseline]].std().max())
        real = n > 1 and abs(mean) > half and abs(mean) >= spread
        winner = arm if (mean > 0) == self.higher_is_better else baseline
        return Paired(arm, baseline, mean, std, mean - half, mean + half, spread, n, winner if real else None)
