"""Publishes what the stored runs measured: `RESULTS.md`, the README's table and images.

Every number is read out of a notebook and checked against `tests/expected.toml`; none
is typed.
"""

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.course.notebooks import (
    NotebookError,
    course_notebooks,
    headline_of,
    key_of,
    load,
    promise_of,
    read_toml,
    record_of,
    result_of,
    tagged,
    title_of,
)

START, END = "<!-- notebooks:start -->", "<!-- notebooks:end -->"
SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/svg+xml": ".svg"}
TIME = re.compile("seconds|speed")  # in a key: it depends on the machine
NO_RANGE = "\N{EN DASH}"
Ranges = dict[str, list[float]]  # key of a result -> [lowest, highest]


@dataclass(frozen=True)
class StoredRun:
    """What one notebook says about itself and its stored run."""

    path: Path  # relative to the top of the course
    title: str  # with the number, `2.14 Training a network`
    promise: str  # the sentence under the title
    result: dict[str, float]
    headline: str  # a phrase with a yardstick; "" if the result has none
    record: dict[str, Any]  # `notebooks.FACTS`

    @property
    def link(self) -> str:
        """The title as a Markdown link to the notebook."""
        return f"[{_cell(self.title)}]({self.path.as_posix()})"


def read_run(path: Path, root: Path) -> StoredRun:
    """Read the stored run of the notebook at `path`, which lies under `root`.

    Raises:
        NotebookError: It was not run with `make execute`, its code has changed since,
            or it has no result.
    """
    nb = load(path)
    try:
        return StoredRun(
            path.relative_to(root),
            title_of(nb),
            promise_of(nb),
            result_of(nb),
            headline_of(nb),
            record_of(nb),
        )
    except NotebookError as error:
        raise NotebookError(f"{path.relative_to(root)}: {error}") from None


def read_expected(root: Path) -> dict[str, Ranges]:
    """Read the ranges in `tests/expected.toml`: by notebook, then by key of its result.

    Raises:
        NotebookError: A range is not two numbers, the lower one first, or it is one of
            a time or a speed, which depend on the machine.
    """
    expected = read_toml(root / "tests/expected.toml")
    for notebook, ranges in expected.items():
        for key, bounds in ranges.items():
            if TIME.search(key):
                raise NotebookError(
                    f"tests/expected.toml: {notebook}: take the range of {key} out, "
                    f"which depends on the machine"
                )
            match bounds:
                case [int() | float() as low, int() | float() as high] if low <= high:
                    pass
                case _:
                    raise NotebookError(
                        f"tests/expected.toml: {notebook}: {key} must be [lowest, "
                        f"highest], not {bounds}"
                    )
    return expected


def out_of_range(runs: list[StoredRun], expected: dict[str, Ranges]) -> list[str]:
    """Return one sentence for each result of `runs` that `expected` does not allow."""
    problems = []
    notebooks = {key_of(run.path) for run in runs}
    for name in expected.keys() - notebooks:
        problems.append(
            f"tests/expected.toml has a table for {name}, which is no notebook"
        )
    for run in runs:
        name = key_of(run.path)
        ranges = expected.get(name, {})
        for key in run.result.keys() - ranges.keys():
            if not TIME.search(key):
                problems.append(
                    f"tests/expected.toml has no range for {key} of {name}, now "
                    f"{run.result[key]}"
                )
        for key in ranges.keys() - run.result.keys():
            problems.append(
                f"tests/expected.toml has a range for {key}, which {name} does not "
                f"report"
            )
        for key in ranges.keys() & run.result.keys():
            (low, high), value = ranges[key], run.result[key]
            if not low <= value <= high:
                problems.append(
                    f"{name}: {key} is {value}, and must lie between {low} and {high}"
                )
    return sorted(problems)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _range(key: str, ranges: Ranges) -> str:
    if key not in ranges:
        return NO_RANGE
    low, high = map(_number, ranges[key])
    return f"{low} to {high}"


def judged(result: dict[str, float], ranges: Ranges) -> str:
    """Return a table for the terminal: each number of a result, its range, a verdict.

    Args:
        result: As a notebook has just displayed it.
        ranges: What `tests/expected.toml` says of it.
    """
    rows = [("result", "value", "expected", "")]
    for key, value in result.items():
        verdict = ""
        if key in ranges:
            low, high = ranges[key]
            verdict = "inside" if low <= value <= high else "OUTSIDE"
        rows.append((key, _number(value), _range(key, ranges), verdict))
    first, second, third = (max(len(row[i]) for row in rows) for i in range(3))
    return "\n".join(
        f"{key:{first}}  {value:>{second}}  {expected:{third}}  {verdict}".rstrip()
        for key, value, expected, verdict in rows
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def results_page(runs: list[StoredRun], expected: dict[str, Ranges]) -> str:
    """Return the text of `RESULTS.md`: a row for each number of each notebook."""
    lines = [
        "# Results",
        "",
        "Read out of the stored runs by `make results`; a test fails when a number "
        "leaves its range. What depends on the speed of the machine has none.",
        "",
        "| Notebook | Result | Value | Range | Seconds | MB of memory | Device "
        "| torch |",
        "|---|---|---:|---|---:|---:|---|---|",
    ]
    for run in runs:
        record, ranges = run.record, expected.get(key_of(run.path), {})
        threads = f"{record['threads']} threads"
        if record["fast_bfloat16"]:
            threads += ", bfloat16"
        memory = record["peak_memory_mb"]
        notebook = run.link
        facts = [
            f"{record['seconds']:.0f}",
            NO_RANGE if memory is None else _number(memory),
            _cell(f"{record['device']} ({record['processor']}, {threads})"),
            record["torch"],
        ]
        for key, value in run.result.items():
            row = [notebook, f"`{key}`", _number(value), _range(key, ranges), *facts]
            lines.append("| " + " | ".join(row) + " |")
            notebook, facts = "", [""] * len(facts)
    return "\n".join(lines) + "\n"


def readme_table(runs: list[StoredRun]) -> str:
    """Return the README's table: for each notebook its headline.

    Without one the first number of its result stands there.
    """
    lines = [
        "| Notebook | What you will have | Result | Seconds |",
        "|---|---|---|---:|",
    ]
    for run in runs:
        key, value = next(iter(run.result.items()))
        row = [
            run.link,
            _cell(run.promise),
            _cell(run.headline) or f"`{key}` {_number(value)}",
            f"{run.record['seconds']:.0f}",
        ]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def with_table(readme: str, table: str) -> str:
    """Return the text `readme` with `table` between its two markers.

    Raises:
        NotebookError: The markers are not there once each, in their order.
    """
    if (
        readme.count(START) != 1
        or readme.count(END) != 1
        or readme.index(START) > readme.index(END)
    ):
        raise NotebookError(
            f"README.md must hold the line {START} once and, below it, {END} once"
        )
    before, rest = readme.split(START)
    return f"{before}{START}\n{table}{END}{rest.split(END)[1]}"


def readme_images(root: Path) -> dict[Path, bytes]:
    """Return the stored images of the cells tagged `readme-picture`, by their place.

    That is `images/NN_name.png` beside the notebook, or `.jpg` or `.svg`, as the cell
    stored it.

    Raises:
        NotebookError: Such a cell has stored no image.
    """
    found = {}
    for path in course_notebooks(root):
        for cell in tagged(load(path), "readme-picture"):
            data = [output.get("data", {}) for output in cell.outputs]
            stored = [
                (kind, each[kind]) for each in data for kind in SUFFIXES if kind in each
            ]
            if not stored:
                raise NotebookError(
                    f"{path}: the cell tagged readme-picture has stored no PNG, JPEG "
                    f"or SVG image"
                )
            kind, image = stored[0]
            target = path.parent / "images" / (path.stem + SUFFIXES[kind])
            found[target] = (
                image.encode() if kind == "image/svg+xml" else base64.b64decode(image)
            )
    return found


def published(root: Path) -> dict[Path, bytes]:
    """Return what `RESULTS.md`, `README.md` and its images under `root` must hold.

    Raises:
        NotebookError: A result lies outside its range, or a file is not as it must be;
            nothing was written.
    """
    runs = [read_run(path, root) for path in course_notebooks(root)]
    expected = read_expected(root)
    if problems := out_of_range(runs, expected):
        raise NotebookError("\n".join(problems))
    readme = root / "README.md"
    table = with_table(readme.read_text(encoding="utf-8"), readme_table(runs))
    texts = {root / "RESULTS.md": results_page(runs, expected), readme: table}
    return {path: text.encode() for path, text in texts.items()} | readme_images(root)


def outlived(published_paths: Iterable[Path]) -> list[Path]:
    """Return images of an earlier run that was stored in another format."""
    others = [
        path.with_suffix(suffix)
        for path in published_paths
        for suffix in SUFFIXES.values()
        if path.suffix in SUFFIXES.values() and path.suffix != suffix
    ]
    return [path for path in others if path.exists()]


def stale(root: Path) -> list[str]:
    """Return a sentence for each file under `root` that `make results` would change."""
    contents = published(root)
    changed = [
        path
        for path, content in contents.items()
        if not path.exists() or path.read_bytes() != content
    ]
    return [
        f"{path.name} is not what the stored runs say: run `make results`"
        for path in changed + outlived(contents)
    ]


def publish(root: Path) -> list[Path]:
    """Write the files that `published` names, delete what they replace; return them.

    Raises:
        NotebookError: As `published` does; nothing was written.
    """
    contents = published(root)
    for path, content in contents.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    for path in outlived(contents):
        path.unlink()
    return list(contents)
