"""One training run of a comparison: built, trained for a budget, and measured."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.utils.data import DataLoader, Dataset

from utils.loading import make_loader
from utils.loops import LossFunction, evaluate, train_one_epoch
from utils.runtime import Stopwatch, seed_everything

TAIL = 0.1  # share of the steps, the last ones, over which the training loss is averaged
EVALUATION_BATCH = 1000  # examples; what is measured does not depend on it


@dataclass(frozen=True)
class Arm:
    """One side of a comparison; what is None is taken from the call of `compare`.

    Args:
        model: Builds a fresh network, without arguments; its randomness comes from torch's generator.
        optimizer: From `(parameters, lr=rate)` to an optimiser: a class, or a `functools.partial` of one.
        learning_rates: The rates to choose from.
        scheduler: From `(optimizer, steps)` to a scheduler that is stepped after every optimiser step.
        batch_size: Examples in a batch.
        transform: From a batch as the set gives it to what the network gets, in training and measuring.
        train_transform: The same for training alone: with augmentation, say.
        train: The training set.
    """

    model: Callable[[], nn.Module]
    optimizer: Callable[..., Optimizer] | None = None
    learning_rates: Sequence[float] | None = None
    scheduler: Callable[[Optimizer, int], LRScheduler] | None = None
    batch_size: int | None = None
    transform: Callable[[torch.Tensor], torch.Tensor] | None = None
    train_transform: Callable[[torch.Tensor], torch.Tensor] | None = None
    train: Dataset | None = None


@dataclass(frozen=True)
class Budget:
    """How long each run trains: `kind` is "steps", "epochs" or "seconds", and `amount` how many."""

    kind: str
    amount: float

    def steps(self, arm: Arm) -> int | None:
        """Return the optimiser steps of a run; None where the clock decides."""
        if self.kind == "epochs":  # as many examples for every arm, to within a batch
            return max(1, round(self.amount * len(arm.train) / arm.batch_size))
        return int(self.amount) if self.kind == "steps" else None


@dataclass(frozen=True)
class Trial:
    """What is to be run: an arm with all its settings, one learning rate, one seed."""

    name: str
    arm: Arm
    phase: str  # "search" or "final"
    learning_rate: float
    seed: int
    budget: Budget

    def build(self) -> tuple[nn.Module, DataLoader]:
        """Return the network and its training batches; the seed decides initialisation and order."""
        arm = self.arm
        seed_everything(self.seed)
        model = arm.model()
        loader = make_loader(
            arm.train,
            arm.batch_size,
            shuffle=True,
            seed=self.seed,
            transform=arm.train_transform or arm.transform,
            drop_last=True,  # every step of every arm averages over a whole batch
        )
        # Arms that drew differently many numbers for their weights augment alike from here on.
        seed_everything((self.seed + 2**31) % 2**32)
        return model, loader

    def optimize(self, model: nn.Module) -> tuple[Optimizer, LRScheduler | None]:
        """Return the optimiser and the schedule of the network's parameters."""
        optimizer = self.arm.optimizer(model.parameters(), lr=self.learning_rate)
        if self.arm.scheduler is None:
            return optimizer, None
        scheduler = self.arm.scheduler(optimizer, self.budget.steps(self.arm))
        if isinstance(scheduler, ReduceLROnPlateau):
            raise ValueError(
                "ReduceLROnPlateau waits for a validation loss after each epoch, which a comparison does not "
                "measure: give a schedule of steps"
            )
        return optimizer, scheduler


class Batches:
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
            if self.done == self.steps or (self.steps is None and watch.seconds >= self.seconds):
                return


class Recorded:
    """A loss function that remembers its values."""

    def __init__(self, loss_fn: LossFunction) -> None:
        """Wrap `loss_fn`."""
        self.loss_fn, self.values = loss_fn, []

    def __call__(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss."""
        loss = self.loss_fn(outputs, labels)
        self.values.append(loss.detach())
        return loss

    def tail(self) -> float:
        """Return the mean of the last tenth of the values."""
        return torch.stack(self.values[-math.ceil(TAIL * len(self.values)) :]).double().mean().item()


def run_trial(
    trial: Trial,
    measured: dict[str, Dataset],
    *,
    loss_fn: LossFunction,
    metric: LossFunction,
    device: torch.device,
    amp: bool,
    on_step: Callable[[], None] | None = None,
) -> dict:
    """Train a network for the budget of a trial and measure it.

    Args:
        trial: What to run.
        measured: Name -> set to measure the trained network on.
        loss_fn: As for `training.fit`.
        metric: From `(outputs, labels)` to a mean over the batch.
        device: Where to compute.
        amp: As for `training.fit`.
        on_step: Called after every step.

    Returns:
        One row: `steps`, `examples`, `seconds` (of training alone), `train_loss` (mean over the last tenth of
        the steps), the metric on each set under its name, and `diverged`: the loss became infinite or no
        number, and training stopped there.
    """
    model, loader = trial.build()
    model.to(device)
    optimizer, scheduler = trial.optimize(model)
    batches = Batches(loader, trial.budget.steps(trial.arm), trial.budget.amount)
    recorded = Recorded(loss_fn)
    options = {"device": device, "amp": amp}
    with Stopwatch() as watch:
        try:
            learn = {"optimizer": optimizer, "scheduler": scheduler, "on_step": on_step}
            train_one_epoch(model, batches, loss_fn=recorded, **learn, **options)
            diverged = False
        except FloatingPointError:
            if not recorded.values or recorded.values[-1].isfinite():
                raise
            diverged = True  # a finding about this rate, which belongs into the table
    steps = len(recorded.values) - diverged  # the step that found it out was not made
    row = {"steps": steps, "examples": steps * trial.arm.batch_size, "seconds": watch.seconds}
    row["train_loss"] = recorded.tail()
    for name, dataset in measured.items():
        batch = make_loader(dataset, EVALUATION_BATCH, transform=trial.arm.transform)
        values = evaluate(model, batch, loss_fn=loss_fn, metrics={"metric": metric}, **options)
        row[name] = values["metric"]
    return row | {"diverged": diverged}
