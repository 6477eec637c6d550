"""The training loop of the course, written out in notebook 2.14, then imported."""

import contextlib
import math
import os
import pickle
import statistics
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
from matplotlib.figure import Figure
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.utils.data import DataLoader, Dataset, Subset
from torch.utils.data.distributed import DistributedSampler

from utils.plotting import plot_history
from utils.runtime import Stopwatch, autocast, join_processes, progress_bar

LossFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Metrics = Mapping[str, LossFunction]

_NO_BATCH = (
    "the loader gave no batch: the set is empty, or shorter than a batch with drop_last"
)
# What a rate from np.logspace is pickled with, which a checkpoint may thus hold.
_NUMPY_FLOAT = [
    np.float64().__reduce__()[0],
    np.dtype,
    type(np.dtype(np.float64)),
]


@dataclass
class History:
    """What a training run measured: one dict an epoch in `rows`.

    The keys are `epoch` (from 1), `train_loss`, `val_loss`, `train_NAME` and `val_NAME`
    for each metric, `lr` (first parameter group, after the epoch), `seconds`. Training
    values are means over an epoch in which the weights were changing, in training mode;
    validation values are of the weights at its end.
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
        return plot_history(self.rows, title=title)


def train_one_epoch(
    model: nn.Module,
    loader: DataLoader,
    *,
    loss_fn: LossFunction,
    optimizer: Optimizer,
    device: torch.device | str,
    scheduler: LRScheduler | None = None,
    metrics: Metrics | None = None,
    amp: bool = True,
    on_step: Callable[[float], None] | None = None,
) -> dict[str, float]:
    """Train `model` on every batch of `loader` once.

    Args:
        model: On `device`. It is set to training mode, and left in it; the weights of
            convolutions are stored with the channels last, which is quicker.
        loader: Yields `(images [B, ...], labels [B, ...])`.
        loss_fn: From `(outputs, labels)` to the mean loss of a batch, a scalar. The
            outputs are float32, also where the network computes in bfloat16.
        optimizer: Of the model's parameters, or some of them.
        device: Where to compute.
        scheduler: Stepped after every optimiser step; `ReduceLROnPlateau` is left to
            `fit`.
        metrics: Name -> function of `(outputs, labels)` whose value is a mean over the
            batch. The name "loss" is taken.
        amp: Compute in bfloat16 where the hardware is faster so (`runtime.autocast`).
        on_step: Called after every step with the loss of its batch.

    Returns:
        The means over examples: `loss`, and one for each metric.

    Raises:
        FloatingPointError: If a loss is infinite or not a number; the weights are still
            those before it.
        TypeError: If `loader`, `optimizer`, `metrics` or the model's output is of
            another kind.
        ValueError: If the loader yields no batch, the optimiser updates no parameter of
            the model, the scheduler is another optimiser's, a metric is called "loss",
            or a loss or metric is not one number.
    """
    means = _Means(metrics)
    _check_call(loader, loss_fn)
    _check_optimizer(model, optimizer, scheduler)
    every_step = scheduler is not None and not isinstance(scheduler, ReduceLROnPlateau)
    precision = autocast(device, enabled=amp)
    _channels_last(model)
    model.train()
    for step, (images, labels) in enumerate(loader, start=1):
        labels = labels.to(device, non_blocking=True)
        outputs = _forward(model, images.to(device, non_blocking=True), precision)
        loss = loss_fn(outputs, labels)
        value = _number("loss", loss)
        if not math.isfinite(value):
            rate = optimizer.param_groups[0]["lr"]
            raise FloatingPointError(
                f"the loss is {value} at step {step} of {len(loader)}, learning rate "
                f"{rate:g}: lower the rate, or look for nan and very large numbers in "
                f"this batch"
            )
        if not getattr(loss, "requires_grad", False):
            raise ValueError(
                "the loss has no gradient: loss_fn must return a tensor computed from "
                "the outputs, without `.item()`, `.detach()` or torch.no_grad()"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if every_step:
            scheduler.step()
        means.add(value, outputs, labels)
        if on_step is not None:
            on_step(value)
    return means.result(device)


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    loader: DataLoader,
    *,
    loss_fn: LossFunction,
    device: torch.device | str,
    metrics: Metrics | None = None,
    amp: bool = True,
) -> dict[str, float]:
    """Measure `model` on every batch of `loader`, in evaluation mode.

    No gradient is computed, and nothing in the model changes.

    Args:
        model: On `device`. It is set to evaluation mode, and left in it.
        loader: Yields `(images [B, ...], labels [B, ...])`; the last batch may be
            short.
        loss_fn: From `(outputs, labels)` to the mean loss of a batch.
        device: Where to compute.
        metrics: Name -> function of `(outputs, labels)` whose value is a mean over the
            batch. The name "loss" is taken.
        amp: As for `train_one_epoch`.

    Returns:
        The means over examples: `loss`, and one for each metric.

    Raises:
        TypeError: If `loader`, `metrics` or the model's output is of another kind.
        ValueError: If the loader yields no batch, a metric is called "loss", or a loss
            or metric is not one number.
    """
    means = _Means(metrics)
    _check_call(loader, loss_fn)
    precision = autocast(device, enabled=amp)
    model.eval()
    for images, labels in loader:
        labels = labels.to(device, non_blocking=True)
        outputs = _forward(model, images.to(device, non_blocking=True), precision)
        means.add(_number("loss", loss_fn(outputs, labels)), outputs, labels)
    return means.result(device)


@torch.inference_mode()
def predict(
    model: nn.Module,
    loader: DataLoader,
    *,
    device: torch.device | str,
    keep: Callable[[torch.Tensor], torch.Tensor] | None = None,
    amp: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Collect the outputs of `model` for every example of `loader`, in evaluation mode.

    Args:
        model: On `device`. It is set to evaluation mode, and left in it.
        loader: Yields `(images [B, ...], labels [B, ...])` in a fixed order.
        device: Where to compute.
        keep: What to keep of each batch's outputs (default: all of them). For masks,
            `lambda logits: logits.argmax(1)` takes a fraction of the memory.
        amp: As for `train_one_epoch`.

    Returns:
        `(outputs [N, ...] float32 or what `keep` returned, labels [N, ...])` on the
        CPU, in the order of the loader; under `torchrun` those of this process's share.

    Raises:
        TypeError: If `loader` or the model's output is of another kind.
        ValueError: If the loader yields no batch.
    """
    _check_call(loader)
    precision = autocast(device, enabled=amp)
    model.eval()
    outputs, labels = [], []
    for images, labels_of_batch in loader:
        images = images.to(device, non_blocking=True)
        found = _forward(model, images, precision)
        outputs.append((keep(found) if keep else found).cpu())
        labels.append(labels_of_batch)
    if not outputs:
        raise ValueError(_NO_BATCH)
    return torch.cat(outputs), torch.cat(labels)


def milliseconds_an_image(
    model: nn.Module,
    loader: DataLoader,
    *,
    device: torch.device | str,
    repeats: int = 20,
) -> float:
    """Return the median time that a classifier of pixels or images takes for an image.

    Loading, transforms and the choice of the largest logit are part of it, as where
    notebook 7.2 measures it.

    Args:
        model: On `device`. It is set to evaluation mode, and left in it.
        loader: As for `predict`; best a single image, again and again.
        device: Where to compute.
        repeats: How often all of `loader` is predicted, from 1 on.

    Returns:
        Milliseconds, the median over the repeats.

    Raises:
        TypeError: As for `predict`.
        ValueError: As for `predict`, or if `repeats` is less than 1.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    times = []
    for _ in range(repeats):
        with Stopwatch() as watch:
            found, _ = predict(
                model, loader, device=device, keep=lambda logits: logits.argmax(1)
            )
        times.append(1000 * watch.seconds / len(found))
    return statistics.median(times)


def fit(
    model: nn.Module,
    train_loader: DataLoader,
    val_loader: DataLoader | None,
    *,
    epochs: int,
    loss_fn: LossFunction,
    optimizer: Optimizer,
    device: torch.device | str,
    scheduler: LRScheduler | None = None,
    metrics: Metrics | None = None,
    checkpoint: str | Path | None = None,
    amp: bool = True,
    verbose: bool = True,
) -> History:
    """Train `model` for a number of epochs, measuring it on `val_loader` after each.

    Under `torchrun` the processes share the work: gradients are averaged, the first one
    prints and saves.

    Args:
        model: On `device`. At the end it is in evaluation mode.
        train_loader: Yields `(images [B, ...], labels [B, ...])`; shuffled.
        val_loader: The same for examples that are not trained on; None measures
            nothing.
        epochs: Passes over `train_loader`, those of the checkpoint included.
        loss_fn: From `(outputs, labels)` to the mean loss of a batch, a scalar.
        optimizer: Of the model's parameters, or some of them.
        device: Where to compute.
        scheduler: Stepped after every optimiser step; `ReduceLROnPlateau` after every
            epoch, with `val_loss`.
        metrics: Name -> function of `(outputs, labels)` whose value is a mean over the
            batch. The name "loss" is taken.
        checkpoint: File to save to after each epoch. If it exists, the run goes on from
            it, bit for bit; only `epochs` may be another.
        amp: Compute in bfloat16 where the hardware is faster so (`runtime.autocast`).
        verbose: Print a line an epoch and show a progress bar.

    Returns:
        The history of all epochs, those of the checkpoint included.

    Raises:
        FloatingPointError: If a loss is infinite or not a number; it names the epoch
            and the step.
        OSError: If the checkpoint cannot be written; the last one is still there.
        RuntimeError: If the checkpoint is damaged or of another run; it says what
            differs.
        TypeError: As `train_one_epoch`.
        ValueError: If `epochs` is less than 1, or less than the checkpoint already has,
            and as `train_one_epoch`.
    """
    if not isinstance(epochs, Integral) or epochs < 1:
        raise ValueError(f"epochs must be a whole number, at least 1, got {epochs}")
    plateau = isinstance(scheduler, ReduceLROnPlateau)
    if plateau and val_loader is None:
        raise ValueError(
            "ReduceLROnPlateau follows the validation loss: give a val_loader"
        )
    # before an epoch is spent
    _check_call(train_loader, loss_fn)
    _check_call(val_loader)
    device = torch.device(device)
    rank, world_size = join_processes()
    speak = verbose and rank == 0

    rows: list[dict[str, float]] = []
    path = Path(checkpoint) if checkpoint else None
    if path:
        state = {
            "model": model,
            "optimizer": optimizer,
            "scheduler": scheduler,
            "loader": train_loader,
            "device": device,
        }
        settings = _settings(optimizer, scheduler, train_loader, loss_fn, metrics, amp)
        settings["validation"] = val_loader is not None
        rows, settings = load_checkpoint(path, settings=settings, **state)
        if len(rows) > epochs:
            raise ValueError(
                f"{path} has {len(rows)} epochs already: ask for as many or more, not "
                f"{epochs}"
            )
        if rows and speak:
            print(f"going on after epoch {len(rows)}, from {path}")

    _channels_last(model)  # before gradients are laid out like the weights
    order = getattr(train_loader, "sampler", None)
    network = model
    if world_size > 1:
        if not isinstance(order, DistributedSampler):
            raise ValueError(
                "under torchrun the training loader must shuffle: make_loader(..., "
                "shuffle=True)"
            )
        ids = [device.index] if device.type == "cuda" else None
        network = DistributedDataParallel(model, device_ids=ids)

    measure = {"loss_fn": loss_fn, "device": device, "metrics": metrics, "amp": amp}
    steps = (epochs - len(rows)) * len(train_loader)
    with progress_bar(total=steps, unit="batch", disable=not speak) as bar:
        for epoch in range(len(rows) + 1, epochs + 1):
            if isinstance(order, DistributedSampler):
                # without it each epoch repeats the order of the first
                order.set_epoch(epoch)
            with Stopwatch() as watch:
                try:
                    trained = train_one_epoch(
                        network,
                        train_loader,
                        optimizer=optimizer,
                        scheduler=scheduler,
                        on_step=lambda _: bar.update(),
                        **measure,
                    )
                except FloatingPointError as error:
                    raise FloatingPointError(f"epoch {epoch}: {error}") from None
                row = {"epoch": epoch}
                row |= {f"train_{name}": value for name, value in trained.items()}
                if val_loader is not None:
                    if world_size > 1:
                        # every process measures with the running statistics of batch
                        # norm of the first
                        for buffer in model.buffers():
                            dist.broadcast(buffer, 0)
                    measured = evaluate(model, val_loader, **measure)
                    row |= {f"val_{name}": value for name, value in measured.items()}
            if plateau:
                scheduler.step(row["val_loss"])
            row |= {"lr": optimizer.param_groups[0]["lr"], "seconds": watch.seconds}
            rows.append(row)
            if path:
                save_checkpoint(path, rows=rows, settings=settings, **state)
            if speak:
                numbers = "  ".join(
                    f"{key.replace('_', ' ')} {value:.4f}"
                    for key, value in row.items()
                    if key.startswith(("train", "val"))
                )
                bar.write(
                    f"epoch {epoch:>{len(str(epochs))}}/{epochs}  {numbers}  "
                    f"{row['seconds']:.1f} s"
                )
    model.eval()
    return History(rows)


def save_checkpoint(
    path: Path,
    *,
    model: nn.Module,
    optimizer: Optimizer,
    scheduler: LRScheduler | None,
    loader: DataLoader,
    rows: list[dict[str, float]],
    settings: dict[str, Any],
    device: torch.device,
) -> None:
    """Write all that an exact continuation needs.

    The file is replaced whole or not at all.

    Args:
        path: The file. Its folder is made if it is missing.
        model: Its parameters and buffers are saved.
        optimizer: Its state is saved: moments, step counts, rates.
        scheduler: Its state is saved, if there is one.
        loader: The state of its `.generator` is saved, so that the order of examples
            goes on too.
        rows: The history so far, one dict an epoch.
        settings: Name -> plain value that a run which goes on must share.
        device: Where the model is, for the state of its random generator.

    Raises:
        OSError: If the file cannot be written.
    """
    states = _random_states(device)
    if join_processes()[0] != 0:
        return
    content = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict() if scheduler else None,
        "order": loader.generator.get_state() if loader.generator else None,
        "rows": rows,
        "settings": settings,
        "random": states,
    }
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, part)
        os.replace(part, path)
    except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError
        kept = "the last one is kept" if path.exists() else "there is no earlier one"
        raise OSError(
            f"cannot write the checkpoint {path} ({error}): free some disk space, or "
            f"give a file that can be written; {kept}"
        ) from error
    finally:
        if path.parent.is_dir():
            part.unlink(missing_ok=True)


def load_checkpoint(
    path: Path,
    *,
    model: nn.Module,
    optimizer: Optimizer,
    scheduler: LRScheduler | None,
    loader: DataLoader,
    settings: dict[str, Any],
    device: torch.device,
) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """Put everything back as `save_checkpoint` found it.

    Args:
        path: The file. If it does not exist, nothing changes.
        model: As for `save_checkpoint`, built in the same way.
        optimizer: As for `save_checkpoint`.
        scheduler: As for `save_checkpoint`.
        loader: As for `save_checkpoint`.
        settings: Those of this run; they must be those in the file.
        device: As for `save_checkpoint`.

    Returns:
        The history so far, and the settings that the run began with; `([], settings)`
        if there is no checkpoint.

    Raises:
        RuntimeError: If the file is damaged, or is of another run or another number of
            processes.
    """
    rank, world_size = join_processes()
    contents = [_read_checkpoint(path) if rank == 0 else None]
    if world_size > 1:
        dist.broadcast_object_list(contents)
    (content,) = contents
    if content is None:
        return [], settings
    if len(content["random"]) != world_size:
        raise RuntimeError(
            f"{path} was written by {len(content['random'])} processes: resume with as "
            f"many, not {world_size}"
        )
    if differences := _differences(content, settings, model):
        raise RuntimeError(
            f"{path} is of another run: {'; '.join(differences)}; give what that run "
            f"had to go on with it, or delete the file, or give another, to start anew"
        )
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    if scheduler:
        scheduler.load_state_dict(content["scheduler"])
    if content["order"] is not None and loader.generator is not None:
        loader.generator.set_state(content["order"])
    torch.set_rng_state(content["random"][rank]["cpu"])
    if device.type == "cuda" and "cuda" in content["random"][rank]:
        torch.cuda.set_rng_state(content["random"][rank]["cuda"], device)
    return content["rows"], content["settings"]


class _Means:
    """Means over examples: a short batch counts less than a whole one."""

    def __init__(self, metrics: Metrics | None) -> None:
        metrics = {} if metrics is None else metrics
        if not isinstance(metrics, Mapping):
            raise TypeError(
                f"metrics must be a dict of names and functions, such as "
                f'{{"accuracy": accuracy}}, got {type(metrics).__name__}'
            )
        if "loss" in metrics:
            raise ValueError(
                'a metric called "loss" would overwrite the loss: give it another name'
            )
        self.metrics, self.count = metrics, 0
        self.sums = dict.fromkeys(["loss", *metrics], 0.0)

    def add(self, loss: float, outputs: torch.Tensor, labels: torch.Tensor) -> None:
        """Add the loss of a batch, and measure its metrics."""
        examples = len(labels)
        self.count += examples
        self.sums["loss"] += loss * examples
        for name, metric in self.metrics.items():
            value = _number(name, metric(outputs.detach(), labels))
            self.sums[name] += value * examples

    def result(self, device: torch.device | str) -> dict[str, float]:
        """Return the means over the examples of all processes."""
        totals = [*self.sums.values(), self.count]
        if join_processes()[1] > 1:
            together = torch.tensor(totals, dtype=torch.float64, device=device)
            dist.all_reduce(together)
            totals = together.tolist()
        *sums, count = totals
        if count == 0:
            raise ValueError(_NO_BATCH)
        means = [total / count for total in sums]
        return dict(zip(self.sums, means, strict=True))


def _number(name: str, value: torch.Tensor | float) -> float:
    """Return the value of a loss or a metric for a batch."""
    if isinstance(value, torch.Tensor):
        if value.numel() == 1:
            return value.item()
        raise ValueError(
            f"{name} must be one number for a batch, got {list(value.shape)}: take the "
            f"mean over its examples"
        )
    if not isinstance(value, Real):
        raise TypeError(
            f"{name} must be one number for a batch, got {type(value).__name__}: see "
            f"what its function returns"
        )
    return float(value)


def _channels_last(model: nn.Module) -> None:
    """Store the weights with the channels last if there are 2-D convolutions.

    A convolution with such weights brings its input into the same order.
    """
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    if any(isinstance(module, kinds) for module in model.modules()):
        model.to(memory_format=torch.channels_last)


def _forward(
    model: nn.Module, images: torch.Tensor, precision: contextlib.AbstractContextManager
) -> torch.Tensor:
    """Return the outputs of `model` for a batch, in float32."""
    with precision:
        outputs = model(images)
    if not isinstance(outputs, torch.Tensor):
        raise TypeError(
            f"the model must return one tensor, got {type(outputs).__name__}: wrap it "
            f"in a module that returns the tensor in question"
        )
    return outputs.float() if outputs.dtype == torch.bfloat16 else outputs


def _check_call(loader: Iterable, loss_fn: LossFunction | None = None) -> None:
    """Refuse a data set in the place of a loader, and a class in that of a loss."""
    if isinstance(loss_fn, type):
        raise TypeError(
            f"loss_fn is the class {loss_fn.__name__}: give an object of it, "
            f"{loss_fn.__name__}()"
        )
    if isinstance(loader, Dataset):
        raise TypeError(
            f"expected a loader of batches, got the set itself "
            f"({type(loader).__name__}): make_loader(dataset, batch_size)"
        )


def _check_optimizer(
    model: nn.Module, optimizer: Optimizer, scheduler: LRScheduler | None
) -> None:
    """Refuse an optimiser, or a scheduler, that does not act on this model."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"expected an optimizer, such as torch.optim.Adam(model.parameters()), got "
            f"{optimizer!r}"
        )
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(p.requires_grad and id(p) in held for p in model.parameters()):
        raise ValueError(
            "the optimizer updates no trainable parameter of this model: build it from "
            "model.parameters(), after the model, and leave some of them trainable"
        )
    if getattr(scheduler, "optimizer", optimizer) is not optimizer:
        raise ValueError(
            "the scheduler belongs to another optimizer: build it from this one"
        )


def _random_states(device: torch.device) -> list[dict[str, torch.Tensor]]:
    """Return the states of PyTorch's random generators, one dict for each process."""
    mine = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        mine["cuda"] = torch.cuda.get_rng_state(device)
    _, world_size = join_processes()
    if world_size == 1:
        return [mine]
    states = [None] * world_size
    dist.all_gather_object(states, mine)
    return states


def _read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint; None if there is none."""
    if not path.exists():
        return None
    if not path.is_file():
        raise RuntimeError(f"the checkpoint must be a file, {path} is a folder")
    try:
        with zipfile.ZipFile(path) as archive:  # what torch.save writes, with checksums
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"{damaged} is damaged")
        with torch.serialization.safe_globals(_NUMPY_FLOAT):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # it holds objects, which are not to be executed
        content = None
    except (zipfile.BadZipFile, RuntimeError, ValueError, EOFError) as error:
        raise RuntimeError(
            f"{path} is not a readable checkpoint ({error}): delete it to start anew"
        ) from error
    parts = {"model", "optimizer", "scheduler", "order", "rows", "settings", "random"}
    if not isinstance(content, dict) or not content.keys() >= parts:
        raise RuntimeError(
            f"{path} is a file of torch, but no checkpoint that `fit` wrote: give "
            f"another file, or delete it to start anew"
        )
    return content


def _settings(
    optimizer: Optimizer,
    scheduler: LRScheduler | None,
    loader: DataLoader,
    loss_fn: LossFunction,
    metrics: Metrics | None,
    amp: bool,
) -> dict[str, Any]:
    """Return what a run must have in common with the checkpoint it goes on from."""
    return {
        "optimizer": type(optimizer).__name__,
        **_hyperparameters(optimizer.param_groups),
        "scheduler": type(scheduler).__name__ if scheduler else None,
        "loss_fn": getattr(loss_fn, "__name__", type(loss_fn).__name__),
        "measured": sorted(_Means(metrics).sums),
        "amp": amp,
        # the others may have their own, and the file holds what the first one knows
        **({} if join_processes()[0] else {"torch's seed": torch.initial_seed()}),
        "the loader's seed": loader.generator and loader.generator.initial_seed(),
        "batch size": loader.batch_size,
        "batches an epoch": len(loader),
        "the training set's checksum": _checksum(loader.dataset),
    }


def _hyperparameters(groups: list[dict[str, Any]]) -> dict[str, Any]:
    """Return an optimiser's settings, without those that a scheduler changes."""
    found = {}
    for number, group in enumerate(groups):
        moved = {"lr"} if "initial_lr" in group else set()
        if "max_momentum" in group:  # OneCycleLR, CyclicLR
            moved |= {"momentum", "betas"}
        suffix = f" of parameter group {number}" if len(groups) > 1 else ""
        for key, value in group.items():
            if key == "params":
                found[f"number of parameters{suffix}"] = len(value)
            elif key not in moved:
                value = value.item() if isinstance(value, torch.Tensor) else value
                found[f"{key}{suffix}"] = value
    return found


def _checksum(dataset: Dataset) -> int:
    """Return a number that tells sets in memory apart, from 1,000 examples of them.

    Nothing is read from disk and nothing is drawn at random for it.
    """
    checksum = _checksum(dataset.dataset) if isinstance(dataset, Subset) else 0
    names = ("labels", "targets", "indices", "images")
    parts = [getattr(dataset, name, None) for name in names]
    for part in [*parts, *getattr(dataset, "tensors", ())]:
        if isinstance(part, Sequence) and part and isinstance(part[0], int):
            part = torch.tensor(part)
        if isinstance(part, torch.Tensor) and part.numel():
            some = part[:: math.ceil(len(part) / 1000)].cpu().contiguous()
            checksum = zlib.crc32(some.view(torch.uint8).numpy().tobytes(), checksum)
    return checksum


def _differences(
    content: dict[str, Any], settings: dict[str, Any], model: nn.Module
) -> list[str]:
    """Say in what a run differs from the one that wrote a checkpoint."""
    there, here = (
        {name: list(value.shape) for name, value in state.items()}
        for state in (content["model"], model.state_dict())
    )
    other = [name for name in there | here if there.get(name) != here.get(name)]
    found = [
        f"the model's {name} was {there.get(name, 'missing')} and is "
        f"{here.get(name, 'missing')}"
        for name in other[:1]
    ]
    saved = content["settings"]
    # An optimiser that is used again has the rate that a scheduler left it with.
    current = _hyperparameters(content["optimizer"]["param_groups"])
    return found + [
        f"{name} was {saved[name]} and is {value}"
        for name, value in settings.items()
        if name in saved and value not in (saved[name], current.get(name, saved[name]))
    ]
