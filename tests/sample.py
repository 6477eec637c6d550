"""A course of one small notebook in which nothing is wrong, for tests of the tools."""

import base64
import io

from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from utils.course.notebooks import (
    RECORD,
    code_cells,
    outputs_hash,
    save,
    source_hash,
)

PLACE = "01-ANN/01_adding.ipynb"
README = "# Course\n\n<!-- notebooks:start -->\n<!-- notebooks:end -->\n\nThe end.\n"

OPENING = """# 1.1 Adding: what `+` does

Add numbers by hand, and know at the end why the order does not matter.

| You will | You need | Time |
|---|---|---|
| add | [the curriculum](../README.md) | 1 second on 2 cores of a CPU with bfloat16 |"""

PLOT = """import matplotlib.pyplot as plt

plt.plot([TERMS, TERMS + 1])
plt.show()"""

FILE = io.BytesIO()
Image.new("RGB", (640, 4)).save(FILE, "PNG")
PNG = base64.b64encode(FILE.getvalue()).decode()
CHECK = 'check("1.1.1", {})'
START = """import math


def check(key, answer):
    right = answer(2, 3) == 5
    print(f"{key}:", "right (3 cases, as operator.add)" if right else "not started")"""
RESULT = """result = {
    "headline": f"a sum of {TERMS + 0.5} (guessing: 0)",
    "total": TERMS + 0.5,
    "terms": TERMS,
}
result"""


def text(source):
    return new_markdown_cell(source)


def code(source, *tags, outputs=(), **metadata):
    return new_code_cell(
        source, outputs=list(outputs), metadata={"tags": list(tags), **metadata}
    )


def output(kind, **content):
    return new_output(kind, **content)


def solution(source):
    folded = {"jupyter": {"source_hidden": True}, "cellView": "form"}
    return code(source, "solution", "hide-input", **folded)


def section(number):
    return [
        text(f"## {number}. Step {number}\n\nWhy is $f[i](x)$ so?"),
        code(f"step = {number}\nassert step + TERMS == TERMS + step"),
        text("What the plot says."),
        code("for attempt in range(2):\n    print(attempt)"),
        text("And further."),
    ]


def your_turn():
    """A checked exercise, as a reader finds it, and its solution."""
    stub = 'def my_sum(a, b):\n    """Return the sum."""\n    ...\n\n\n'
    solved = solution("def add(a, b):\n    return a + b\n\n\n" + CHECK.format("add"))
    solved.metadata.tags.append("nbval-check-output")
    solved.outputs = [printed("1.1.1: right (3 cases, as operator.add)\n")]
    return [
        text("**Your turn** (5 minutes, \N{BLACK STAR}). Add two numbers."),
        code(
            stub + CHECK.format("my_sum") + '  # hint("1.1.1") if you are stuck',
            "exercise",
            outputs=[printed("1.1.1: not started\n")],
        ),
        solved,
        code(
            "by_hand, summed = add(2, 3), math.fsum([2, 3])\nassert by_hand == summed"
        ),
    ]


def printed(text):
    return output("stream", name="stdout", text=text)


def notebook():
    """The notebook, as `make execute` would have left it."""
    answer = output(
        "execute_result",
        data={
            "text/plain": "{'headline': 'a sum of 3.5 (guessing: 0)', 'total': 3.5, "
            "'terms': 3}"
        },
        execution_count=1,
    )
    nb = new_notebook(
        cells=[
            text(OPENING),
            code(START),
            code(
                "TERMS = 3  # numbers to add\nSTEPS = [\n    -1,  # of each size\n]",
                "parameters",
            ),
            *section(1),
            *section(2),
            *section(3),
            *your_turn(),
            code(
                PLOT,
                outputs=[output("display_data", data={"image/png": PNG})],
            ),
            code(RESULT, "result", outputs=[answer]),
            text(
                "## Summary\n\n- One.\n- Two.\n- Three.\n\n## Exercises\n\n1. "
                "**Twice.** What is 1 + 1?"
            ),
            solution("total = 1 + 1\nassert total == 2"),
            text("2. **Zero.** And 0 + 0?"),
            solution("total = math.fsum([0, 0])\nassert total == 0"),
            text(
                "## References\n\n- G. Peano, *Arithmetices principia*, 1889: where "
                "adding is defined."
            ),
        ]
    )
    nb.metadata.kernelspec = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    return as_if_run(nb)


def as_if_run(nb):
    """Give `nb` the execution counts and the record of a run of its present code."""
    for count, cell in enumerate(code_cells(nb), start=1):
        cell.execution_count = count
    nb.metadata[RECORD] = {
        "torch": "2.14.1",
        "device": "cpu",
        "processor": "Abacus | 9000",
        "fast_bfloat16": True,
        "threads": 2,
        "seconds": 1.4,
        "peak_memory_mb": 1321,
        "commit": "",
        "images_per_second": 920.5,
        "source_hash": source_hash(nb),
        "outputs_hash": outputs_hash(nb),
    }
    return nb


def course(root, nb=None):
    """Write a course of that one notebook to the folder `root`; return its path."""
    path = root / PLACE
    path.parent.mkdir(parents=True, exist_ok=True)
    (root / "tests").mkdir(exist_ok=True)
    (root / "README.md").write_text(README, encoding="utf-8")
    (root / "tests/tiny.toml").write_text(
        '["01-ANN/01_adding"]\nTERMS = 2\n', encoding="utf-8"
    )
    ranges = '["01-ANN/01_adding"]\ntotal = [3, 4.0]\nterms = [1, 5]\n'
    (root / "tests/expected.toml").write_text(ranges, encoding="utf-8")
    (root / "tests/proofs.toml").write_text(
        '["01-ANN/01_adding"]\nadd = "math.fsum"\n', encoding="utf-8"
    )
    save(nb or notebook(), path)
    return path
