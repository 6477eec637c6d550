"""Runs notebooks: `execute` stores the outputs, `run` shows them."""

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode

from utils.course.notebooks import (
    RECORD,
    NotebookError,
    code_cells,
    course_cells,
    key_of,
    load,
    outputs_hash,
    result_of,
    save,
    source_hash,
)
from utils.course.pages import write_page
from utils.course.results import judged, read_expected

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGE = {
    "name": "python",
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "pygments_lexer": "ipython3",
}
TRACEBACK_LINES = 40


class _Client(NotebookClient):
    """Runs the cells in this interpreter, and says on the terminal how far it is."""

    def __init__(self, nb: NotebookNode, path: Path, *, echo: bool):
        super().__init__(
            nb,
            timeout=None,
            skip_cells_with_tag="colab",
            record_timing=False,
            resources={"metadata": {"path": str(path.resolve().parent)}},
            on_cell_execute=self._announce,
        )
        self.echo = echo
        self.count, self.section = 0, "the top"
        self.started = time.perf_counter()
        self.peak_memory_mb: int | None = None

    def create_kernel_manager(self) -> AsyncKernelManager:
        # With no folder to search, `python3` is this interpreter, whatever kernels the
        # machine has.
        specs = KernelSpecManager(kernel_dirs=[])
        self.km = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs)
        # where jupyter_client has it, else no more than an attribute
        self.km.transport_encryption = "auto"
        return self.km

    async def _async_cleanup_kernel(self) -> None:
        # None: an interrupt has stopped the kernel, and nbclient stops it again
        if self.km is not None:
            self.peak_memory_mb = _peak_memory_mb(self.km.provisioner.pid)
            await super()._async_cleanup_kernel()

    def interrupted(self) -> bool:
        """Tell whether the kernel ended because this process was stopped."""
        # nothing else remains of it in nbclient
        return hasattr(self, "_async_cleanup_kernel_future")

    def place(self) -> str:
        """Say which code cell runs, of how many, and under which heading."""
        return f"cell {self.count} of {len(code_cells(self.nb))}, {self.section}"

    def _announce(self, cell: NotebookNode, cell_index: int) -> None:
        headings = [
            line.lstrip("# ")
            for above in self.nb.cells[:cell_index]
            if above.cell_type == "markdown"
            for line in above.source.splitlines()
            if re.match(r"##? ", line)
        ]
        self.section = headings[-1] if headings else self.section
        self.count, self.current = self.count + 1, cell
        if self.echo:
            print(
                f"{time.perf_counter() - self.started:6.1f} s  {self.place()}",
                flush=True,
            )

    def output(self, outs, msg, display_id, cell_index):
        if self.echo and msg["msg_type"] == "stream":
            print(msg["content"]["text"], end="", flush=True)
        out = super().output(outs, msg, display_id, cell_index)
        if (
            len(outs) > 1
            and outs[-1].output_type == "stream"
            and outs[-1].name == outs[-2].get("name")
        ):
            # what was printed in pieces is one output, as in JupyterLab
            outs[-2].text += outs.pop().text
        return out


def _run_cells(nb: NotebookNode, path: Path, *, echo: bool = False) -> dict[str, Any]:
    """Run the cells of `nb` in the folder of `path` and put their outputs into `nb`.

    Args:
        nb: The notebook; after a failure it holds the outputs so far, the error among
            them.
        path: Where it is stored.
        echo: Whether to print each cell's place and what it prints, as it comes.

    Returns:
        `seconds`, the start of the kernel included, and `peak_memory_mb`.

    Raises:
        NotebookError: A cell failed, or the kernel ended.
    """
    client = _Client(nb, path, echo=echo)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    try:
        # a progress bar would be stored as stderr
        client.execute(env={**os.environ, "TQDM_DISABLE": "1"})
    except CellExecutionError as error:
        lines = re.sub(r"\x1b\[[0-9;]*m", "", error.traceback).splitlines()
        trace = "\n".join(lines[-TRACEBACK_LINES:])
        failed = (
            f"{path}: {client.place()}, failed:\n\n{client.current.source}\n\n{trace}"
        )
        raise NotebookError(failed) from None
    except DeadKernelError:
        if client.interrupted():
            raise KeyboardInterrupt from None
        ended = (
            f"{path}: the kernel ended in {client.place()}: it was stopped, or "
            f"memory ran out"
        )
        raise NotebookError(ended) from None
    return {
        "seconds": round(time.perf_counter() - client.started, 1),
        "peak_memory_mb": client.peak_memory_mb,
    }


def _peak_memory_mb(pid: int | None) -> int | None:
    """Return the most memory that a process has held, where the system tells it."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return None
    peak = re.search(r"^VmHWM:\s*(\d+) kB$", status.read_text(), re.M)
    return round(int(peak[1]) * 1024 / 1e6) if peak else None  # none: a dead process


def execute(path: Path) -> float:
    """Run the notebook at `path` as it is, and store its outputs and their record.

    The time of the run goes into the table under the title.

    Returns:
        The seconds that it took.

    Raises:
        NotebookError: A cell failed; the stored notebook is as before.
    """
    nb = load(path)
    speed = training_speed()
    measured = _run_cells(nb, path)
    for cell in nb.cells:
        cell.metadata.pop("execution", None)  # times of day, left by JupyterLab
    nb.metadata = NotebookNode(kernelspec=KERNEL, language_info=LANGUAGE)
    record = _record(nb, path) | measured | {"images_per_second": speed}
    record["outputs_hash"] = outputs_hash(nb)
    nb.metadata[RECORD] = record
    write_time(nb, record)
    save(nb, path)
    return record["seconds"]


def write_time(nb: NotebookNode, record: dict[str, Any]) -> None:
    """Write the time of a run into the table `You will | You need | Time` of `nb`.

    It takes the place of what stands in its first row up to a comma, behind which an
    author may say what has to be downloaded. Without such a table nothing changes.

    Args:
        nb: The notebook, changed in place.
        record: Of the run: `seconds`, `device`, `threads` and `fast_bfloat16`.
    """
    threads = record["threads"]
    time_taken = _in_words(record["seconds"])
    on = f"{threads} core{'' if threads == 1 else 's'} of a CPU"
    on += " with bfloat16" if record["fast_bfloat16"] else " without bfloat16"
    if record["device"] != "cpu":
        on = "a GPU"
    # the head of the table and its first row, whose last cell is the time
    first_row = (
        r"^(\| You will \| You need \| Time \|\n\|[-:| ]+\|\n\|.*\|)"
        r"[^|,\n]*((?:,[^|\n]*?)?) *\|$"
    )
    for cell in course_cells(nb):
        if cell.cell_type == "code":
            break
        cell.source = re.sub(
            first_row, rf"\1 {time_taken} on {on}\2 |", cell.source, count=1, flags=re.M
        )


def _in_words(seconds: float) -> str:
    """Write a duration: `73 seconds`, `3.9 minutes`."""
    if seconds < 99.5:
        return f"{seconds:.0f} second{'' if f'{seconds:.0f}' == '1' else 's'}"
    return f"{seconds / 60:.1f} minutes"


def training_speed(seconds: float = 2.0) -> float:
    """Return how many images a second a small network is trained with here.

    It is measured on the network of notebook 3.4, trained as `training.fit` does it:
    what a notebook takes on two machines is about inverse to it.

    Args:
        seconds: How long to measure, after a step to warm up.
    """
    import torch  # as in `_record`
    from torch.nn import functional as F

    from utils.models import fashion_cnn
    from utils.runtime import pick_device
    from utils.training import train_one_epoch

    device, size = pick_device(), 128
    with torch.random.fork_rng():
        model = fashion_cnn().to(device)
        batch = torch.randn(size, 1, 28, 28), torch.randint(10, (size,))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        options = {"loss_fn": F.cross_entropy, "optimizer": optimizer, "device": device}
        train_one_epoch(model, [batch], **options)
        started, steps = time.perf_counter(), 0
        while (passed := time.perf_counter() - started) < seconds:
            train_one_epoch(model, [batch], **options)
            steps += 1
    return round(size * steps / passed, 1)


def cost_here(record: dict[str, Any], speed: float) -> str:
    """Say how long a stored run may take on this machine.

    Args:
        record: Of the stored run: `seconds` and `images_per_second`.
        speed: Of this machine, from `training_speed`.
    """
    expected = record["seconds"] * record["images_per_second"] / speed
    return (
        f"about {_in_words(expected)} on this machine, which trains {speed:,.0f} "
        f"images a second; the stored run took {_in_words(record['seconds'])} at "
        f"{record['images_per_second']:,.0f}"
    )


def run(path: Path, folder: Path) -> Path:
    """Run the notebook at `path`, print its progress and result, and write a page.

    First it says how long that may take here. The result is judged by the course's
    `tests/expected.toml`, where that is there.

    Args:
        path: The notebook.
        folder: Where the page goes.

    Returns:
        The page, which is also written when a cell fails. The stored notebook is not
        changed.

    Raises:
        NotebookError: A cell failed.
    """
    nb, page = load(path), folder / f"{path.stem}.html"
    stored = nb.metadata.get(RECORD, {})
    if "images_per_second" in stored:  # a reader's own notebook has no stored run
        print(cost_here(stored, training_speed()))
    try:
        measured = _run_cells(nb, path, echo=True)
    finally:
        write_page(nb, path, page)
        print(f"page: {page}")
    root = path.resolve().parents[1]
    known = (root / "tests/expected.toml").exists()
    expected = read_expected(root) if known else {}
    print(f"\n{judged(result_of(nb), expected.get(key_of(path.resolve()), {}))}\n")
    print(f"seconds: {measured['seconds']}")
    return page


def _record(nb: NotebookNode, path: Path) -> dict[str, Any]:
    """Return what is known about the run of `nb` but its measurements."""
    import torch  # takes a second or two, which only a stored run needs to pay

    from utils.runtime import has_fast_bfloat16, pick_device

    device = pick_device()
    return {
        "torch": torch.__version__,
        "device": str(device),
        "processor": _processor(),
        "fast_bfloat16": has_fast_bfloat16(device),
        "threads": torch.get_num_threads(),
        "commit": _commit(path.resolve().parent),
        "source_hash": source_hash(nb),
    }


def _processor() -> str:
    """Return the name of this machine's processor, as its maker writes it if known."""
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout.strip()
    cpuinfo = Path("/proc/cpuinfo")
    name = (
        re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.M)
        if cpuinfo.exists()
        else None
    )
    return name[1].strip() if name else platform.processor() or platform.machine()


def _commit(folder: Path) -> str:
    """Return the short hash of the commit checked out in `folder`; "" if none is."""
    if shutil.which("git") is None:
        return ""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True
    ).stdout.strip()
