"""Runs notebooks in this Python: `execute` stores their outputs, `run` shows them and leaves the file."""

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode

from utils.ipynb import RECORD, NotebookError, code_cells, load, result_of, save, source_hash
from utils.pages import write_page

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGE = {
    "name": "python",
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "pygments_lexer": "ipython3",
}
TRACEBACK_LINES = 40


class _Client(NotebookClient):
    """Runs the cells in the interpreter of this process, and tells on the terminal how far it is."""

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

    def create_kernel_manager(self) -> AsyncKernelManager:
        # With no folder to search, `python3` is this interpreter, whatever kernels the machine has.
        specs = KernelSpecManager(kernel_dirs=[])
        self.km = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs)
        self.km.transport_encryption = "auto"  # where jupyter_client has it, else no more than an attribute
        return self.km

    async def _async_cleanup_kernel(self) -> None:
        if self.km is not None:  # None: an interrupt has stopped the kernel, and nbclient stops it again
            await super()._async_cleanup_kernel()

    def interrupted(self) -> bool:
        """Tell whether the kernel ended because this process was stopped; nbclient keeps only this of it."""
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
            print(f"{time.perf_counter() - self.started:6.1f} s  {self.place()}", flush=True)

    def output(self, outs, msg, display_id, cell_index):
        if self.echo and msg["msg_type"] == "stream":
            print(msg["content"]["text"], end="", flush=True)
        out = super().output(outs, msg, display_id, cell_index)
        if len(outs) > 1 and outs[-1].output_type == "stream" and outs[-1].name == outs[-2].get("name"):
            outs[-2].text += outs.pop().text  # what was printed in pieces is one output, as in JupyterLab
        return out


def run_cells(nb: NotebookNode, path: Path, *, echo: bool = False) -> float:
    """Run the cells of `nb` in the folder of `path` and put their outputs into `nb`.

    Args:
        nb: The notebook; after a failure it holds the outputs so far, the error among them.
        path: Where it is stored.
        echo: Whether to print each cell's place and what it prints, as it comes.

    Returns:
        The seconds that it took, the start of the kernel included.

    Raises:
        NotebookError: A cell failed, or the kernel ended.
    """
    client = _Client(nb, path, echo=echo)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    try:
        client.execute(env={**os.environ, "TQDM_DISABLE": "1"})  # a progress bar would be stored as stderr
    except CellExecutionError as error:
        lines = re.sub(r"\x1b\[[0-9;]*m", "", error.traceback).splitlines()
        trace = "\n".join(lines[-TRACEBACK_LINES:])
        failed = f"{path}: {client.place()}, failed:\n\n{client.current.source}\n\n{trace}"
        raise NotebookError(failed) from None
    except DeadKernelError:
        if client.interrupted():
            raise KeyboardInterrupt from None
        ended = f"{path}: the kernel ended in {client.place()}: it was stopped, or memory ran out"
        raise NotebookError(ended) from None
    return time.perf_counter() - client.started


def execute(path: Path) -> float:
    """Run the notebook at `path` as it is and store its outputs, and where they come from, in the file.

    Returns:
        The seconds that it took.

    Raises:
        NotebookError: A cell failed; the stored notebook is as before.
    """
    nb = load(path)
    seconds = run_cells(nb, path)
    for cell in nb.cells:
        cell.metadata.pop("execution", None)  # times of day, left by JupyterLab
    nb.metadata = NotebookNode(kernelspec=KERNEL, language_info=LANGUAGE)
    nb.metadata[RECORD] = _record(nb, path, seconds)
    save(nb, path)
    return seconds


def run(path: Path, folder: Path) -> Path:
    """Run the notebook at `path`, print progress and result, and write it as a page into `folder`.

    Returns:
        The page, which is also written when a cell fails. The stored notebook is not changed.

    Raises:
        NotebookError: A cell failed.
    """
    nb, page = load(path), folder / f"{path.stem}.html"
    try:
        seconds = run_cells(nb, path, echo=True)
    finally:
        write_page(nb, path, page)
        print(f"page: {page}")
    print(f"result: {result_of(nb)}")
    print(f"seconds: {seconds:.1f}")
    return page


def _record(nb: NotebookNode, path: Path, seconds: float) -> dict:
    import torch  # takes a second or two, which only a stored run needs to pay

    from utils.runtime import pick_device

    return {
        "torch": torch.__version__,
        "device": str(pick_device()),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "seconds": round(seconds, 1),
        "commit": _commit(path.resolve().parent),
        "source_hash": source_hash(nb),
    }


def processor() -> str:
    """Return the name of this machine's processor as its maker writes it, where the system tells."""
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    cpuinfo = Path("/proc/cpuinfo")
    name = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.M) if cpuinfo.exists() else None
    return name[1].strip() if name else platform.processor() or platform.machine()


def _commit(folder: Path) -> str:
    """Return the short hash of the commit checked out in `folder`, or nothing where there is none."""
    if shutil.which("git") is None:
        return ""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout.strip()
