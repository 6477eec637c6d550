"""One pass over a loader: train, evaluate, predict. `utils.training` puts them together."""

import math
from collections.abc import Callable, Mapping

import torch
import torch.distributed as dist
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.utils.data import DataLoader

from utils.runtime import autocast, join_processes

LossFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Metrics = Mapping[str, LossFunction]


class _Means:
    """Means over examples, not over batches: each batch counts as many times as it has examples."""

    def __init__(self, names: list[str]) -> None:
        self.names, self.sums, self.count = names, [0.0] * len(names), 0

    def add(self, values: list[float], examples: int) -> None:
        self.sums = [total + value * examples for total, value in zip(self.sums, values, strict=True)]
        self.count += examples

    def result(self, device: torch.device) -> dict[str, float]:
        """Return the means over the examples of all processes."""
        totals = [*self.sums, self.count]
        if join_processes()[1] > 1:
            together = torch.tensor(totals, dtype=torch.float64, device=device)
            dist.all_reduce(together)
            totals = together.tolist()
        if totals[-1] == 0:
            raise ValueError(
                "the loader gave no batch: the set is empty, or shorter than a batch with drop_last"
            )
        return {name: total / totals[-1] for name, total in zip(self.names, totals, strict=False)}


def _forward(model: nn.Module, images: torch.Tensor, device: torch.device, amp: bool) -> torch.Tensor:
    """Return the outputs of `model` for a batch, in float32."""
    with autocast(device, enabled=amp):
        outputs = model(images.to(device, non_blocking=True))
    return outputs.float() if outputs.dtype == torch.bfloat16 else outputs


def train_one_epoch(
    model: nn.Module,
    loader: DataLoader,
    *,
    loss_fn: LossFunction,
    optimizer: Optimizer,
    device: torch.device,
    scheduler: LRScheduler | None = None,
    metrics: Metrics | None = None,
    amp: bool = True,
    on_step: Callable[[], None] | None = None,
) -> dict[str, float]:
    """Train `model` on every batch of `loader` once.

    Args:
        model: On `device`. It is set to training mode, and left in it.
        loader: Yields `(images [B, ...], labels [B, ...])`.
        loss_fn: From `(outputs, labels)` to the mean loss of a batch, a scalar.
        optimizer: Of the model's parameters.
        device: Where to compute.
        scheduler: Stepped after every optimiser step; `ReduceLROnPlateau` is left to `fit`.
        metrics: Name -> function of `(outputs, labels)` whose value is a mean over the batch.
        amp: Compute in bfloat16 where the hardware is faster so (`runtime.autocast`).
        on_step: Called after every step, for a progress bar.

    Returns:
        The means over examples: `loss`, and one for each metric.

    Raises:
        FloatingPointError: If a loss is infinite or not a number; the weights are still those before it.
        ValueError: If the loader yields no batch.
    """
    metrics = metrics or {}
    means = _Means(["loss", *metrics])
    model.train()
    for step, (images, labels) in enumerate(loader, start=1):
        labels = labels.to(device, non_blocking=True)
        outputs = _forward(model, images, device, amp)
        loss = loss_fn(outputs, labels)
        value = loss.item()
        if not math.isfinite(value):
            rate = optimizer.param_groups[0]["lr"]
            raise FloatingPointError(
                f"the loss is {value} at step {step} of {len(loader)}, learning rate {rate:g}: "
                "lower the rate, or look for nan and very large numbers in this batch"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if scheduler is not None and not isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step()
        detached = outputs.detach()
        means.add([value, *(float(metric(detached, labels)) for metric in metrics.values())], len(labels))
        if on_step is not None:
            on_step()
    return means.result(device)


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    loader: DataLoader,
    *,
    loss_fn: LossFunction,
    device: torch.device,
    metrics: Metrics | None = None,
    amp: bool = True,
) -> dict[str, float]:
    """Measure `model` on every batch of `loader`, in evaluation mode, without gradients.

    Args:
        model: On `device`. It is set to evaluation mode, and left in it.
        loader: Yields `(images [B, ...], labels [B, ...])`; the last batch may be short.
        loss_fn: From `(outputs, labels)` to the mean loss of a batch.
        device: Where to compute.
        metrics: Name -> function of `(outputs, labels)` whose value is a mean over the batch.
        amp: As for `train_one_epoch`.

    Returns:
        The means over examples: `loss`, and one for each metric.

    Raises:
        ValueError: If the loader yields no batch.
    """
    metrics = metrics or {}
    means = _Means(["loss", *metrics])
    model.eval()
    for images, labels in loader:
        labels = labels.to(device, non_blocking=True)
        outputs = _forward(model, images, device, amp)
        values = [float(function(outputs, labels)) for function in (loss_fn, *metrics.values())]
        means.add(values, len(labels))
    return means.result(device)


@torch.inference_mode()
def predict(
    model: nn.Module, loader: DataLoader, *, device: torch.device, amp: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Collect the outputs of `model` for every example of `loader`, in evaluation mode.

    Args:
        model: On `device`. It is set to evaluation mode, and left in it.
        loader: Yields `(images [B, ...], labels [B, ...])` in a fixed order.
        device: Where to compute.
        amp: As for `train_one_epoch`.

    Returns:
        `(outputs [N, ...] float32, labels [N, ...])` on the CPU, in the order of the loader; under `torchrun`
        those of this process's share.
    """
    model.eval()
    batches = [(_forward(model, images, device, amp).cpu(), labels) for images, labels in loader]
    outputs, labels = zip(*batches, strict=True)
    return torch.cat(outputs), torch.cat(labels)
