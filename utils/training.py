"""The training loop of the course, written out in notebook 2.14 and imported from then on."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
import torch.distributed as dist
from matplotlib.figure import Figure
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from utils import checkpoint as checkpoints
from utils.comparison import Arm, Comparison, compare
from utils.loops import LossFunction, Metrics, evaluate, predict, train_one_epoch
from utils.progress import progress_bar
from utils.runtime import Stopwatch, join_processes

__all__ = ["Arm", "Comparison", "History", "compare", "evaluate", "fit", "predict", "train_one_epoch"]


@dataclass
class History:
    """What a training run measured: one dict an epoch in `rows`.

    The keys are `epoch` (from 1), `train_loss`, `val_loss`, `train_NAME` and `val_NAME` for each metric, `lr`
    (first parameter group, after the epoch), `seconds`. Training values are means over an epoch in which
    the weights were changing, in training mode; validation values are of the weights at its end.
    """

    rows: list[dict[str, float]] = field(default_factory=list)

    def last(self) -> dict[str, float]:
        """Return the numbers of the last epoch."""
        return self.rows[-1]

    def to_frame(self) -> pd.DataFrame:
        """Return the history as a table, one row an epoch."""
        return pd.DataFrame(self.rows).set_index("epoch")

    def plot(self, *, title: str | None = None) -> Figure:
        """Draw the curves (`plotting.plot_history`)."""
        from utils.plotting import plot_history

        return plot_history(self.rows, title=title)


def _line(row: dict[str, float], epochs: int) -> str:
    """Put the numbers of an epoch into one line."""
    numbers = [
        f"{key.replace('_', ' ')} {value:.4f}"
        for key, value in row.items()
        if key.startswith(("train", "val"))
    ]
    return f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}  {'  '.join(numbers)}  {row['seconds']:.1f} s"


def _wrap(model: nn.Module, loader: DataLoader, device: torch.device) -> nn.Module:
    """Under `torchrun`, wrap `model` so that the processes average their gradients."""
    if join_processes()[1] == 1:
        return model
    if not isinstance(_order(loader), DistributedSampler):
        raise ValueError("under torchrun the training loader must shuffle: make_loader(..., shuffle=True)")
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


def _epoch(
    network: nn.Module,
    model: nn.Module,
    train_loader: DataLoader,
    val_loader: DataLoader | None,
    train: dict,
    measure: dict,
    epoch: int,
) -> dict[str, float]:
    """Train for one epoch and measure after it; `network` is `model`, or its wrapper under `torchrun`."""
    try:
        trained = train_one_epoch(network, train_loader, **train)
    except FloatingPointError as error:
        raise FloatingPointError(f"epoch {epoch}: {error}") from None
    row = {"epoch": epoch} | {f"train_{name}": value for name, value in trained.items()}
    if val_loader is None:
        return row
    if (
        network is not model
    ):  # running statistics of batch norm: every process measures with those of the first
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
    return row | {f"val_{name}": value for name, value in evaluate(model, val_loader, **measure).items()}


def _start_epoch(loader: DataLoader, epoch: int) -> None:
    """Tell a `DistributedSampler` the epoch, without which it repeats the same order."""
    order = _order(loader)
    if isinstance(order, DistributedSampler):
        order.set_epoch(epoch)


def _order(loader: DataLoader) -> object:
    """Return the sampler of single examples, also of a loader whose sampler yields batches of them."""
    return getattr(loader.sampler, "sampler", loader.sampler)


def fit(
    model: nn.Module,
    train_loader: DataLoader,
    val_loader: DataLoader | None,
    *,
    epochs: int,
    loss_fn: LossFunction,
    optimizer: Optimizer,
    device: torch.device,
    scheduler: LRScheduler | None = None,
    metrics: Metrics | None = None,
    checkpoint: str | Path | None = None,
    amp: bool = True,
    verbose: bool = True,
) -> History:
    """Train `model` for a number of epochs, measuring it on `val_loader` after each.

    Under `torchrun` the processes share the work: gradients are averaged, the first one prints and saves.

    Args:
        model: On `device`. At the end it is in evaluation mode.
        train_loader: Yields `(images [B, ...], labels [B, ...])`; shuffled.
        val_loader: The same for examples that are not trained on; None measures nothing.
        epochs: Passes over `train_loader`, those of the checkpoint included.
        loss_fn: From `(outputs, labels)` to the mean loss of a batch, a scalar.
        optimizer: Of the model's parameters.
        device: Where to compute.
        scheduler: Stepped after every optimiser step; `ReduceLROnPlateau` after every epoch, with `val_loss`.
        metrics: Name -> function of `(outputs, labels)` whose value is a mean over the batch.
        checkpoint: File to save to after each epoch. If it exists, the run goes on from it, bit for bit.
        amp: Compute in bfloat16 where the hardware is faster so (`runtime.autocast`).
        verbose: Print a line an epoch and show a progress bar.

    Returns:
        The history of all epochs, those of the checkpoint included.

    Raises:
        FloatingPointError: If a loss is infinite or not a number; it names the epoch and the step.
        ValueError: If `epochs` is less than 1, or less than the checkpoint already has.
        RuntimeError: If the checkpoint is damaged or of another model.
    """
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    if isinstance(scheduler, ReduceLROnPlateau) and val_loader is None:
        raise ValueError("ReduceLROnPlateau follows the validation loss: give a val_loader")
    state = {
        "model": model,
        "optimizer": optimizer,
        "scheduler": scheduler,
        "loader": train_loader,
        "device": device,
    }
    path = Path(checkpoint) if checkpoint else None
    rows = checkpoints.load(path, **state) if path else []
    if len(rows) > epochs:
        raise ValueError(f"{path} has {len(rows)} epochs already: ask for as many or more, not {epochs}")
    speak = verbose and join_processes()[0] == 0
    if rows and speak:
        print(f"going on after epoch {len(rows)}, from {path}")
    network = _wrap(model, train_loader, device)
    measure = {"loss_fn": loss_fn, "device": device, "metrics": metrics, "amp": amp}
    steps = (epochs - len(rows)) * len(train_loader)
    with progress_bar(total=steps, unit="batch", disable=not speak) as bar:
        train = {"optimizer": optimizer, "scheduler": scheduler, "on_step": bar.update, **measure}
        for epoch in range(len(rows) + 1, epochs + 1):
            _start_epoch(train_loader, epoch)
            with Stopwatch() as watch:
                row = _epoch(network, model, train_loader, val_loader, train, measure, epoch)
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(row["val_loss"])
            rows.append(row | {"lr": optimizer.param_groups[0]["lr"], "seconds": watch.seconds})
            if path:
                checkpoints.save(path, rows=rows, **state)
            if speak:
                bar.write(_line(rows[-1], epochs))
    model.eval()
    return History(rows)
