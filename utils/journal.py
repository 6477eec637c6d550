"""Finished runs of a comparison, kept in a folder under a fingerprint of what they did."""

import hashlib
import json
import os
import zlib
from pathlib import Path

import torch
from torch.utils.data import Dataset

from utils.loops import LossFunction
from utils.trials import Trial


def describe_data(dataset: Dataset) -> list:
    """Return the kind of a set, its length, and checksums of its first and last example, labels and pictures.

    Args:
        dataset: Any set with a length; `.labels` and `.images` are looked at where they are tensors.

    Returns:
        Plain values: equal for equal sets, in another process too.
    """
    ends = [zlib.crc32(repr(part).encode()) for i in (0, len(dataset) - 1) for part in dataset[i]]
    tensors = [getattr(dataset, name, None) for name in ("labels", "images")]
    sums = [zlib.crc32(t.cpu().contiguous().numpy()) for t in tensors if isinstance(t, torch.Tensor)]
    return [type(dataset).__name__, len(dataset), ends, sums]


def _digest(tensors: list[torch.Tensor]) -> str:
    """Return a checksum of shapes, dtypes and bytes."""
    sums = hashlib.sha256()
    for tensor in tensors:
        sums.update(f"{tensor.dtype} {list(tensor.shape)}".encode())
        sums.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return sums.hexdigest()


def _rates(trial: Trial, optimizer: torch.optim.Optimizer, scheduler: object) -> str:
    """Return a checksum of the rates that a schedule gives, step by step."""
    rates = []
    for _ in range(trial.budget.steps(trial.arm) if scheduler else 0):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()  # without gradients: changes no weight
        scheduler.step()
    return hashlib.sha256(repr(rates).encode()).hexdigest()


def fingerprint(
    trial: Trial,
    data: dict[str, list],
    *,
    loss_fn: LossFunction,
    metric: LossFunction,
    metric_name: str,
    device: torch.device,
    amp: bool,
) -> str:
    """Tell a run from every run that would do something else.

    It is taken from what the run does rather than from how that is written: the network that the seed gives,
    the first batch as transformed, outputs, loss and metric there, the optimiser's settings, the whole
    schedule, the budget, the data. Not seen is what shows in none of these, such as the code of an optimiser
    of your own: empty the folder after changing it.

    Args:
        trial: What to run.
        data: Name -> `describe_data` of each set that the run uses.
        loss_fn: As for `trials.run_trial`.
        metric: As for `trials.run_trial`.
        metric_name: Its name in the table.
        device: As for `trials.run_trial`.
        amp: As for `trials.run_trial`.

    Returns:
        64 hexadecimal digits.
    """
    model, loader = trial.build()
    images, labels = next(iter(loader))
    weights = _digest(list(model.state_dict().values()))
    with torch.no_grad():
        outputs = model.train()(images)
        values = [float(function(outputs, labels)) for function in (loss_fn, metric)]
    optimizer, scheduler = trial.optimize(model)
    parts = [
        [trial.name, trial.phase, trial.learning_rate, trial.seed, trial.arm.batch_size],
        [trial.budget.kind, trial.budget.amount, metric_name, device.type, amp, torch.__version__],
        [data, repr(model), weights, _digest([images]), repr(labels)],
        [f"{value:.4g}" for value in values],  # not to the last bit, which depends on the number of threads
        [f"{outputs.double().abs().mean():.4g}", repr(optimizer), type(scheduler).__name__],
        [_rates(trial, optimizer, scheduler)],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def read(folder: Path, key: str, columns: set[str]) -> dict | None:
    """Return the row of a finished run.

    Args:
        folder: Of the journal; it need not exist.
        key: The run's fingerprint.
        columns: What the row must hold.

    Returns:
        The row as it was written, or None if there is none.

    Raises:
        RuntimeError: If the file is damaged, or holds another run.
    """
    path = folder / f"{key[:24]}.json"
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
        if content["key"] != key or content["row"].keys() != columns:
            raise ValueError("it is not the run that its name says")
        if content["sum"] != zlib.crc32(json.dumps(content["row"]).encode()):
            raise ValueError("its numbers do not match their checksum")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RuntimeError(
            f"{path} in the journal of a comparison is damaged ({error}): delete it, and that run is repeated"
        ) from error
    return content["row"]


def write(folder: Path, key: str, row: dict) -> None:
    """Keep the row of a finished run; the file is there whole or not at all.

    Args:
        folder: Of the journal; it is made if it is missing.
        key: The run's fingerprint.
        row: Plain numbers and strings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{key[:24]}.json"
    part = path.with_suffix(".part")
    try:
        part.write_text(json.dumps({"key": key, "row": row, "sum": zlib.crc32(json.dumps(row).encode())}))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
