"""Save a training run after each epoch, and go on with it bit for bit."""

import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from utils.runtime import join_processes


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


def save(
    path: Path,
    *,
    model: nn.Module,
    optimizer: Optimizer,
    scheduler: LRScheduler | None,
    loader: DataLoader,
    rows: list[dict[str, float]],
    device: torch.device,
) -> None:
    """Write all that an exact continuation needs; the file is replaced whole or not at all.

    Args:
        path: The file. Its folder is made if it is missing.
        model: Its parameters and buffers are saved (unwrapped, if it runs in several processes).
        optimizer: Its state is saved: moments, step counts, rates.
        scheduler: Its state is saved, if there is one.
        loader: The state of its `.generator` is saved, so that the order of examples goes on too.
        rows: The history so far, one dict an epoch.
        device: Where the model is, for the state of its random generator.
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
        "random": states,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        torch.save(content, part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any] | None:
    """Read the checkpoint in the first process, and tell the others; None if there is none."""
    rank, world_size = join_processes()
    content = [None]
    if rank == 0 and path.exists():
        try:
            content = [torch.load(path, map_location="cpu", weights_only=True)]
        except Exception as error:
            raise RuntimeError(
                f"{path} is not a readable checkpoint ({error}): delete it to start anew"
            ) from error
    if world_size > 1:
        dist.broadcast_object_list(content)
    return content[0]


def load(
    path: Path,
    *,
    model: nn.Module,
    optimizer: Optimizer,
    scheduler: LRScheduler | None,
    loader: DataLoader,
    device: torch.device,
) -> list[dict[str, float]]:
    """Put everything back as `save` found it.

    Args:
        path: The file. If it does not exist, nothing changes.
        model: As for `save`, built in the same way.
        optimizer: As for `save`.
        scheduler: As for `save`.
        loader: As for `save`.
        device: As for `save`.

    Returns:
        The history so far; empty if there is no checkpoint.

    Raises:
        RuntimeError: If the file is damaged, or is of another model or another number of processes.
    """
    content = _read(path)
    if content is None:
        return []
    rank, world_size = join_processes()
    if len(content["random"]) != world_size:
        raise RuntimeError(
            f"{path} was written by {len(content['random'])} processes: resume with as many, not {world_size}"
        )
    if (content["scheduler"] is None) != (scheduler is None):
        raise RuntimeError(
            f"{path} was written {'without' if scheduler else 'with'} a scheduler: resume likewise"
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
    return content["rows"]
