"""The machine a notebook runs on: seeds, device, precision, time, processes."""

import contextlib
import os
import random
import time
from numbers import Integral
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from tqdm.auto import tqdm


def seed_everything(seed: int) -> torch.Generator:
    """Seed Python, NumPy and PyTorch, on every device.

    Args:
        seed: Any integer from 0 to 2**32 - 1.

    Returns:
        A CPU generator with the same seed, for the code that takes one.

    Raises:
        ValueError: If `seed` is anything else; nothing is seeded then.
    """
    if not isinstance(seed, Integral) or not 0 <= seed < 2**32:
        raise ValueError(f"a seed is a whole number from 0 to 2**32 - 1, got {seed!r}")
    seed = int(seed)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)


def pick_device() -> torch.device:
    """Return the fastest device here: CUDA, Apple's MPS, or the CPU.

    Under `torchrun` it is the GPU of this process.
    """
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def has_fast_bfloat16(device: torch.device | str) -> bool:
    """Tell whether `device` multiplies bfloat16 in hardware, faster than float32."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # PyTorch before 2.12 cannot be asked what the processor has: float32 is right
        # there, and slower.
        capabilities = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def autocast(
    device: torch.device | str, *, enabled: bool = True
) -> contextlib.AbstractContextManager:
    """Compute in bfloat16 inside this context, where `device` is faster so.

    Elsewhere the context changes nothing. Weights stay float32. bfloat16 has the range
    of float32 (8 exponent bits), so losses need no scaling.

    Args:
        device: Where the computation runs.
        enabled: False makes it a no-op.

    Returns:
        A context manager.

    Source: `torch.autocast`.
    """
    if enabled and has_fast_bfloat16(device):
        return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def count_parameters(model: nn.Module, *, trainable: bool = False) -> int:
    """Count the numbers in the parameters of `model`.

    Args:
        model: Any module. A parameter that two layers share counts once.
        trainable: Count only those that training changes (`requires_grad`).

    Returns:
        The number of scalars.

    Raises:
        TypeError: If `model` is no module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"expected a model (nn.Module), got {type(model).__name__}: give what the "
            f"function that builds it returns"
        )
    return sum(
        p.numel() for p in model.parameters() if p.requires_grad or not trainable
    )


def join_processes() -> tuple[int, int]:
    """Join the processes that `torchrun` started, if there are any.

    Returns:
        `(rank, world_size)`: this process's number and how many there are; `(0, 1)` in
            a notebook.
    """
    if not dist.is_available():
        return 0, 1
    if not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        if torch.cuda.is_available():
            torch.cuda.set_device(pick_device())
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


class Stopwatch:
    """Measure the wall time of a `with` block, in `seconds`, also while it runs.

    Example:
        with Stopwatch() as watch:
            work()
        print(f"{watch.seconds:.1f} s")
    """

    def __init__(self) -> None:
        """Start at once, so that it also works without `with`."""
        self._start = time.perf_counter()
        self._stop: float | None = None

    def __enter__(self) -> "Stopwatch":
        """Start, or start again."""
        self.__init__()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, when the work that a GPU has queued is done: it belongs to the time."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._stop = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds from the start to the end of the block, or to now."""
        return (self._stop or time.perf_counter()) - self._start


def progress_bar(**options: Any) -> tqdm:
    """Return a tqdm bar that is cleared at the end.

    It is silent where `$TQDM_DISABLE` says so. tqdm's own bar for notebooks ignores
    that variable (tqdm 4.70), and would stay in a stored notebook as a dead widget.

    Args:
        **options: As for `tqdm.auto.tqdm`.
    """
    if os.environ.get("TQDM_DISABLE", "0") not in ("", "0"):
        options["disable"] = True
    return tqdm(**{"leave": False, **options})
