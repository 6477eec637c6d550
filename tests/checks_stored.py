"""What a stored run must be like. Each `check_*(nb, path)` returns one sentence for each defect."""

import json

from checks_code import start

from utils.ipynb import RECORD, code_cells, source_hash, tagged, tags_of

RECORDED = {"torch", "device", "processor", "threads", "seconds", "commit", "source_hash"}
RUN_AGAIN = "run `make execute`"


def check_executed(nb, path):
    counts = [cell.execution_count for cell in code_cells(nb)]
    problems = []
    if counts != list(range(1, len(counts) + 1)):
        problems.append(f"the cells were not run once each from the top, but {counts}: {RUN_AGAIN}")
    if any(cell.outputs or cell.execution_count for cell in tagged(nb, "colab")):
        problems.append(f"the set-up cell for Colab is run in Colab alone: {RUN_AGAIN}")
    return problems


def check_errors(nb, path):
    return [
        f"a stored error, {out.ename}: mend the cell and {RUN_AGAIN} ({start(cell)})"
        for cell in code_cells(nb)
        for out in cell.outputs
        if out.output_type == "error" and "raises-exception" not in tags_of(cell)
    ]


def check_stderr(nb, path):
    return [
        f"stored stderr: mend what warns and {RUN_AGAIN} ({start(cell)})"
        for cell in code_cells(nb)
        for out in cell.outputs
        if out.get("name") == "stderr"
    ]


def check_output_size(nb, path):
    return [
        f"an output of {size // 1000} kB, 150 at the most: draw fewer dots, or photos as JPEG ({start(cell)})"
        for cell in code_cells(nb)
        for out in cell.outputs
        if (size := len(json.dumps(out))) > 150_000
    ]


def check_file_size(nb, path):
    size = path.stat().st_size
    return (
        [] if size <= 500_000 else [f"the file has {size // 1000} kB, 500 at the most: draw smaller pictures"]
    )


def check_record(nb, path):
    """The notebook says where its outputs come from, and they come from the code above them."""
    record = nb.metadata.get(RECORD, {})
    if missing := RECORDED - record.keys():
        return [f"the metadata do not say {', '.join(sorted(missing))} of the stored run: {RUN_AGAIN}"]
    if record["source_hash"] != source_hash(nb):
        return [f"the code has changed since the stored run: {RUN_AGAIN}"]
    return []


def check_seconds(nb, path):
    seconds = nb.metadata.get(RECORD, {}).get("seconds", 0)
    return [] if seconds <= 300 else [f"the stored run took {seconds} s, 300 at the most: train less"]


def check_kernel(nb, path):
    name = nb.metadata.get("kernelspec", {}).get("name")
    return [] if name == "python3" else [f"the kernel must be python3, not {name}: {RUN_AGAIN}"]
