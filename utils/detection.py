"""Detectors judged on COCO's terms: mAP through pycocotools, time and size; and one pass of their training.

Models, pictures and targets are as torchvision's detection models have them. A model in evaluation mode takes
a list of pictures [3, H, W] and returns for each a dict: `boxes` [n, 4] xyxy in px, `labels` [n] from 1 on,
`scores` [n]. A target is a dict with `boxes` and `labels`; where it has them, `area` (in square px, sorts
objects into small, medium and large) and `iscrowd` (1: a group, whose parts are no mistakes) count too.
"""

import contextlib
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from utils.coco_metrics import Boxes, Categories, evaluate_detections
from utils.detection_errors import detection_errors
from utils.runtime import count_parameters

__all__ = ["coco_evaluate", "collate", "detection_errors", "evaluate_detections", "train_one_epoch"]

KEYS = {"boxes", "labels", "area", "iscrowd"}  # of a target, that count; masks would fill the memory


def collate(batch: Sequence[tuple[torch.Tensor, Boxes]]) -> tuple[list[torch.Tensor], list[Boxes]]:
    """Put examples into a batch without stacking them: pictures may differ in size, targets in length.

    Args:
        batch: Pairs of a picture [3, H, W] and its target.

    Returns:
        The pictures, the targets. For the `collate_fn` of a `DataLoader`.
    """
    images, targets = zip(*batch, strict=True)
    return list(images), list(targets)


def _to_device(images: Iterable[torch.Tensor], device: torch.device) -> list[torch.Tensor]:
    """Return pictures, a list or a batch, as a list of [3, H, W] floats in [0, 1] on `device`."""
    moved = [image.to(device, non_blocking=True) for image in images]
    return [image.float() / 255 if image.dtype == torch.uint8 else image for image in moved]


def train_one_epoch(
    model: nn.Module,
    loader: Iterable,
    *,
    optimizer: Optimizer,
    device: torch.device,
    scheduler: LRScheduler | None = None,
    max_norm: float | None = None,
) -> dict[str, float]:
    """Train a detector on every batch of `loader` once.

    Args:
        model: On `device`. In training mode it returns a dict of losses for `(images, targets)`, whose sum is
            minimised. It is left in that mode.
        loader: Yields pictures (a list, or a batch [B, 3, H, W]; uint8 is divided by 255) and B targets.
        optimizer: Of the model's parameters.
        device: Where to compute.
        scheduler: Stepped after every optimiser step.
        max_norm: Gradients are scaled down to this norm where theirs is greater.

    Returns:
        The means over pictures: `loss`, the sum, and each part by its name.

    Raises:
        FloatingPointError: If a loss is infinite or not a number; the weights are still those before it.
        ValueError: If the loader yields no batch.
    """
    model.train()
    sums, pictures = {}, 0
    for step, (images, targets) in enumerate(loader, start=1):
        targets = [
            {key: v.to(device) if isinstance(v, torch.Tensor) else v for key, v in target.items()}
            for target in targets
        ]
        losses = model(_to_device(images, device), targets)
        loss = sum(losses.values())
        values = {"loss": loss.item()} | {name: part.item() for name, part in losses.items()}
        if not math.isfinite(values["loss"]):
            raise FloatingPointError(f"the loss is not finite at step {step}, lower the rate: {values}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if max_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        sums = {name: sums.get(name, 0.0) + value * len(targets) for name, value in values.items()}
        pictures += len(targets)
    if pictures == 0:
        raise ValueError("the loader gave no batch: the set is empty, or shorter than a batch with drop_last")
    return {name: total / pictures for name, total in sums.items()}


def _wait(device: torch.device) -> None:
    """Wait until `device` has done its work: a GPU goes on after a call has returned."""
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()


def _found(outputs: object, pictures: int) -> list[Boxes]:
    """Return a model's outputs on the CPU; refuse what no detector returns."""
    keys = ("boxes", "labels", "scores")
    if (
        not isinstance(outputs, Sequence)
        or len(outputs) != pictures
        or not all(isinstance(found, dict) and set(keys) <= found.keys() for found in outputs)
    ):
        raise TypeError(
            f"in evaluation mode a detector returns {pictures} dicts of {', '.join(keys)}, one each"
        )
    return [{key: found[key].cpu() for key in keys} for found in outputs]


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set a model to evaluation mode, without gradients; give each of its modules its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes:
            module.training = training


def coco_evaluate(
    model: nn.Module, loader: Iterable, *, device: torch.device, categories: Categories = None
) -> dict[str, Any]:
    """Judge a detector on every picture of `loader`, in evaluation mode, without gradients.

    Args:
        model: On `device`. Afterwards it is in the mode it was in.
        loader: Yields pictures (a list, or a batch [B, 3, H, W]; uint8 is divided by 255) and B targets, in
            any order. Its batch size is the model's, for the time too.
        device: Where to compute.
        categories: As for `evaluate_detections`. Default: `loader.dataset.classes`, if it has them.

    Returns:
        What `evaluate_detections` does, and `milliseconds_per_picture`: the mean time of the model alone,
        with all that it does before and after its network, warmed up with the first batch; `parameters`.

    Raises:
        TypeError: If the model does not return what torchvision's detectors do.
        ValueError: As for `evaluate_detections`, or if the loader yields no batch.
    """
    if categories is None:
        categories = getattr(getattr(loader, "dataset", None), "classes", None)
    predictions, truth, seconds = [], [], 0.0
    with evaluating(model):
        for images, targets in loader:
            images = _to_device(images, device)
            if not predictions:
                model(images)  # the first call is slow, and not measured
            _wait(device)
            start = time.perf_counter()
            outputs = model(images)
            _wait(device)
            seconds += time.perf_counter() - start
            predictions += _found(outputs, len(images))
            truth += [{key: target[key] for key in KEYS & target.keys()} for target in targets]
    if not predictions:
        raise ValueError("the loader gave no batch: the set is empty, or shorter than a batch with drop_last")
    result = evaluate_detections(predictions, truth, categories=categories)
    milliseconds = 1000 * seconds / len(predictions)
    parameters = count_parameters(model)
    return {**result, "milliseconds_per_picture": milliseconds, "parameters": parameters}
