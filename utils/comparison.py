"""The fair comparison of the course, written out in notebook 2.15 and imported from then on."""

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import Dataset
from tqdm import tqdm

from utils import journal
from utils.fairness import check_all_apart, check_counts, complete, one_budget
from utils.loops import LossFunction
from utils.metrics import accuracy
from utils.progress import progress_bar
from utils.runtime import join_processes, pick_device, seed_everything
from utils.trials import Arm, Budget, Trial, run_trial
from utils.verdicts import Comparison, choose_rates

__all__ = ["Arm", "Comparison", "compare"]

MEASURED = {"steps", "examples", "seconds", "train_loss", "diverged"}  # by each run, besides its metrics
COLUMNS = [
    "arm",
    "phase",
    "seed",
    "learning_rate",
    "batch_size",
    "steps",
    "examples",
    "seconds",
    "train_loss",
]
Transform = Callable[[torch.Tensor], torch.Tensor]


@contextlib.contextmanager
def _private_randomness() -> Iterator[None]:
    """Leave all random generators as they were, so that what follows does not depend on what was resumed."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


@dataclass
class _Bench:
    """Runs trials, those in the journal excepted, and moves the progress bar."""

    sets: dict[str, Dataset]  # validation, test
    options: dict  # of `run_trial`
    metric_name: str
    folder: Path | None
    bar: tqdm
    done: int = 0  # on the bar
    described: dict[int, list] = field(default_factory=dict)

    def key(self, trial: Trial, names: list[str]) -> str:
        """Return the fingerprint of a trial that is measured on the sets of these names."""
        data = {name: self.sets[name] for name in names} | {"train": trial.arm.train}
        for dataset in data.values():
            if id(dataset) not in self.described:
                seed_everything(0)  # a set may transform at random
                self.described[id(dataset)] = journal.describe_data(dataset)
        described = {name: self.described[id(dataset)] for name, dataset in data.items()}
        return journal.fingerprint(trial, described, metric_name=self.metric_name, **self.options)

    def run(self, trial: Trial) -> dict:
        """Return the row of a trial, from the journal if it is there."""
        self.bar.set_description(f"{trial.name}, rate {trial.learning_rate:g}, seed {trial.seed}")
        names = ["validation"] if trial.phase == "search" else ["validation", "test"]
        measured = {f"{name}_{self.metric_name}": self.sets[name] for name in names}
        steps = trial.budget.steps(trial.arm)
        key = self.key(trial, names) if self.folder else ""
        row = journal.read(self.folder, key, MEASURED | measured.keys()) if self.folder else None
        if row is None:
            row = run_trial(trial, measured, **self.options, on_step=self.bar.update if steps else None)
            if self.folder:
                journal.write(self.folder, key, row)
        self.done += steps or 1
        self.bar.update(self.done - self.bar.n)  # a run that was resumed or diverged made fewer steps
        head = {"arm": trial.name, "phase": trial.phase, "seed": trial.seed}
        return head | {"learning_rate": trial.learning_rate, "batch_size": trial.arm.batch_size} | row


def _plan(arms: Mapping[str, Arm], seeds: list[int], budget: Budget) -> list[Trial]:
    """Return the runs of the search."""
    return [
        Trial(name, arm, "search", float(rate), seed, budget)
        for name, arm in arms.items()
        for rate in arm.learning_rates
        for seed in seeds
    ]


def _run_all(
    bench: _Bench,
    search: list[Trial],
    seeds: list[int],
    higher_is_better: bool,
) -> pd.DataFrame:
    """Run the search, choose the rates, and only then make the final runs, which see the test set."""
    rows = pd.DataFrame([bench.run(trial) for trial in search])
    chosen = choose_rates(rows, f"validation_{bench.metric_name}", higher_is_better)
    first = {trial.name: trial for trial in search}
    final = [
        replace(first[name], phase="final", learning_rate=rate, seed=seed)
        for seed in seeds
        for name, rate in chosen.items()
    ]
    table = pd.concat([rows, pd.DataFrame([bench.run(trial) for trial in final])], ignore_index=True)
    at_edge = {
        name: chosen[name] in (min(trial.arm.learning_rates), max(trial.arm.learning_rates))
        for name, trial in first.items()
    }
    metrics = [f"{name}_{bench.metric_name}" for name in ("validation", "test")]
    return table[[*COLUMNS, *metrics, "diverged"]].assign(rate_at_edge=table.arm.map(at_edge))


def compare(
    arms: Mapping[str, Arm | Callable[[], nn.Module]],
    *,
    train: Dataset,
    validation: Dataset,
    test: Dataset,
    learning_rates: Sequence[float] | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    seconds: float | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    search_seeds: Sequence[int] | None = None,
    batch_size: int = 128,
    optimizer: Callable[..., Optimizer] = torch.optim.SGD,
    scheduler: Callable[[Optimizer, int], LRScheduler] | None = None,
    transform: Transform | None = None,
    train_transform: Transform | None = None,
    loss_fn: LossFunction = F.cross_entropy,
    metric: LossFunction = accuracy,
    higher_is_better: bool = True,
    exploratory: bool = False,
    folder: str | Path | None = None,
    device: torch.device | None = None,
    amp: bool = True,
    verbose: bool = True,
) -> Comparison:
    """Compare ways to train on equal terms.

    Each arm is trained at each of its learning rates and measured on `validation`; the best rate is its own.
    Only when every arm has chosen does each one train at its rate with each seed, and is measured on `test`.
    A seed decides initialisation, order of the data and augmentation; arms that are built alike, or take
    equal batches, share those, so that their results can be compared in pairs.

    Args:
        arms: Name -> `Arm`, or just the function that builds its network. An arm's own settings come before
            those below.
        train: Training set: `(image, label)`, or whole batches as an `ImageSet` gives them.
        validation: The set that rates are chosen on.
        test: The set that is measured on after the choice.
        learning_rates: The rates to choose from; each arm needs as many.
        steps: Optimiser steps of every run. Give this, or one of the next two.
        epochs: Passes over `train`: all arms see equally many examples, and those with smaller batches
            take more steps.
        seconds: Training time of every run on this machine; the results then depend on it.
        seeds: Of the final runs.
        search_seeds: Of the runs that choose the rates; one other than `seeds` by default.
        batch_size: Examples in a batch. All batches are whole: the rest of an epoch is left out.
        optimizer: From `(parameters, lr=rate)` to an optimiser.
        scheduler: From `(optimizer, steps)` to a scheduler that is stepped after every optimiser step.
        transform: As for `make_loader`, in training and measuring.
        train_transform: The same for training alone.
        loss_fn: From `(outputs, labels)` to the mean loss of a batch.
        metric: From `(outputs, labels)` to a mean over the batch; its `__name__` names the columns.
        higher_is_better: Whether a large value of the metric is good.
        exploratory: Accept fewer than 3 seeds or 3 rates; table and plot say so.
        folder: Keeps finished runs. A call that was interrupted goes on there and gives the same table; a
            run whose settings, network or data have changed is made anew.
        device: Where to compute; `pick_device()` by default.
        amp: Compute in bfloat16 where the hardware is faster so.
        verbose: Show one progress bar over all runs.

    Returns:
        The table of all runs and what it shows. Random generators are left as they were.

    Raises:
        ValueError: If the call is unfair or cannot be run: no arm, shared examples, unequal budgets or
            numbers of rates, repeated seeds, too few rates or seeds, a network that is not built anew,
            every rate of an arm diverging.
        RuntimeError: If a file in `folder` is damaged.
    """
    if not arms or join_processes()[1] > 1:
        raise ValueError(f"compare needs arms, got {list(arms)}, and runs in one process, not under torchrun")
    common = Arm(None, optimizer, learning_rates, scheduler, batch_size, transform, train_transform, train)
    options = {"loss_fn": loss_fn, "metric": metric, "device": device or pick_device(), "amp": amp}
    seeds = [int(seed) for seed in seeds]
    search_seeds = [max(seeds, default=0) + 1] if search_seeds is None else [int(s) for s in search_seeds]
    with _private_randomness():
        arms = {name: complete(name, arm, common) for name, arm in arms.items()}
        budget = one_budget(arms, {"steps": steps, "epochs": epochs, "seconds": seconds})
        check_counts(arms, seeds, search_seeds, exploratory)
        check_all_apart(arms, validation, test)
        search = _plan(arms, search_seeds, budget)
        total = sum(t.budget.steps(t.arm) or 1 for t in search)
        total += len(seeds) * sum(budget.steps(arm) or 1 for arm in arms.values())
        unit = "run" if budget.kind == "seconds" else "step"
        sets = {"validation": validation, "test": test}
        name = metric.__name__ if getattr(metric, "__name__", "").isidentifier() else "metric"
        with progress_bar(total=total, unit=unit, disable=not verbose) as bar:
            bench = _Bench(sets, options, name, Path(folder) if folder else None, bar)
            table = _run_all(bench, search, seeds, higher_is_better)
    return Comparison(table.assign(exploratory=exploratory), name, budget.kind, higher_is_better, exploratory)
