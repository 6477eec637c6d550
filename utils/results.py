"""Publishes what the stored runs measured: `RESULTS.md`, the README's table of notebooks and its pictures.

Every number is read out of a notebook and checked against `tests/expected.toml`; none is typed.
`python -m utils.results` writes the files, `--check` only tells whether they are as they would be written.
"""

import argparse
import base64
import sys
from dataclasses import dataclass
from pathlib import Path

try:
    from utils.ipynb import (
        RECORD,
        NotebookError,
        course_notebooks,
        key_of,
        load,
        promise_of,
        read_toml,
        result_of,
        source_hash,
        tagged,
        title_of,
    )
except ModuleNotFoundError as error:
    sys.exit(f"error: {error.name} is missing, which is in the extra `dev`: pip install -e '.[dev]'")

START, END = "<!-- notebooks:start -->", "<!-- notebooks:end -->"
SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg"}
Ranges = dict[str, list[float]]


@dataclass(frozen=True)
class StoredRun:
    """What one notebook says about itself and its stored run."""

    path: Path  # relative to the top of the course
    title: str  # with the number, `2.14 Training a network`
    promise: str  # the sentence under the title
    result: dict[str, float]
    record: dict  # torch, device, processor, threads, seconds, commit, source_hash

    @property
    def link(self) -> str:
        """The title as a Markdown link to the notebook."""
        return f"[{_cell(self.title)}]({self.path.as_posix()})"


def read_run(path: Path, root: Path) -> StoredRun:
    """Read the stored run of the notebook at `path`, which lies under `root`.

    Raises:
        NotebookError: It was not run with `make execute`, or its code has changed since.
    """
    nb = load(path)
    record = nb.metadata.get(RECORD)
    again = f"run `make execute NB={path.relative_to(root).as_posix()}`"
    if record is None:
        raise NotebookError(f"{key_of(path)} has no stored run: {again}")
    if record["source_hash"] != source_hash(nb):
        raise NotebookError(f"the code of {key_of(path)} has changed since its stored run: {again}")
    try:
        result = result_of(nb)
    except NotebookError as error:
        raise NotebookError(f"{key_of(path)}: {error}") from None
    return StoredRun(path.relative_to(root), title_of(nb), promise_of(nb), result, record)


def read_expected(root: Path) -> dict[str, Ranges]:
    """Read the ranges in `tests/expected.toml`: by notebook, then by key of its result.

    Raises:
        NotebookError: A range is not two numbers, the lower one first.
    """
    expected = read_toml(root / "tests/expected.toml")
    for notebook, ranges in expected.items():
        for key, bounds in ranges.items():
            match bounds:
                case [int() | float() as low, int() | float() as high] if low <= high:
                    pass
                case _:
                    raise NotebookError(
                        f"tests/expected.toml: {notebook}: {key} must be [lowest, highest], not {bounds}"
                    )
    return expected


def out_of_range(runs: list[StoredRun], expected: dict[str, Ranges]) -> list[str]:
    """Return one sentence for each result of `runs` that `expected` does not allow."""
    problems = []
    notebooks = {key_of(run.path) for run in runs}
    for name in expected.keys() - notebooks:
        problems.append(f"tests/expected.toml has a table for {name}, which is no notebook")
    for run in runs:
        name = key_of(run.path)
        ranges = expected.get(name, {})
        for key in run.result.keys() - ranges.keys():
            problems.append(f"tests/expected.toml has no range for {key} of {name}, now {run.result[key]}")
        for key in ranges.keys() - run.result.keys():
            problems.append(f"tests/expected.toml has a range for {key}, which {name} does not report")
        for key in ranges.keys() & run.result.keys():
            (low, high), value = ranges[key], run.result[key]
            if not low <= value <= high:
                problems.append(f"{name}: {key} is {value}, and must lie between {low} and {high}")
    return sorted(problems)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def results_page(runs: list[StoredRun], expected: dict[str, Ranges]) -> str:
    """Return the text of `RESULTS.md`: a row for each number, the facts of a run in its first row."""
    lines = [
        "# Results",
        "",
        "Read out of the stored runs by `make results`; a test fails when a number leaves its range.",
        "",
        "| Notebook | Result | Value | Range | Seconds | Device | torch |",
        "|---|---|---:|---|---:|---|---|",
    ]
    for run in runs:
        record = run.record
        device = _cell(f"{record['device']} ({record['processor']}, {record['threads']} threads)")
        facts = [run.link, f"{record['seconds']:.0f}", device, record["torch"]]
        for key, value in run.result.items():
            low, high = map(_number, expected[key_of(run.path)][key])
            notebook, seconds, device, torch = facts
            row = [notebook, f"`{key}`", _number(value), f"{low} to {high}", seconds, device, torch]
            lines.append("| " + " | ".join(row) + " |")
            facts = [""] * len(facts)
    return "\n".join(lines) + "\n"


def readme_table(runs: list[StoredRun]) -> str:
    """Return the README's table: a row for each notebook, with the first key of its result."""
    lines = ["| Notebook | What you will have | Result | Seconds |", "|---|---|---|---:|"]
    for run in runs:
        key, value = next(iter(run.result.items()))
        row = [run.link, _cell(run.promise), f"`{key}` {_number(value)}", f"{run.record['seconds']:.0f}"]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def with_table(readme: str, table: str) -> str:
    """Return the text `readme` with `table` between its two markers.

    Raises:
        NotebookError: The markers are not there once each, in their order.
    """
    if readme.count(START) != 1 or readme.count(END) != 1 or readme.index(START) > readme.index(END):
        raise NotebookError(f"README.md must hold the line {START} once and, below it, {END} once")
    before, rest = readme.split(START)
    return f"{before}{START}\n{table}{END}{rest.split(END)[1]}"


def pictures(root: Path) -> dict[Path, bytes]:
    """Return the stored pictures of the cells tagged `readme-picture`, and their place, `images/NN_name.png`.

    A picture stored as JPEG, as photos are, goes to `images/NN_name.jpg`.

    Raises:
        NotebookError: Such a cell has stored neither a PNG nor a JPEG picture.
    """
    found = {}
    for path in course_notebooks(root):
        for cell in tagged(load(path), "readme-picture"):
            data = [output.get("data", {}) for output in cell.outputs]
            stored = [(kind, each[kind]) for each in data for kind in SUFFIXES if kind in each]
            if not stored:
                raise NotebookError(
                    f"{path}: the cell tagged readme-picture has stored no PNG or JPEG picture"
                )
            kind, picture = stored[0]
            found[path.parent / "images" / (path.stem + SUFFIXES[kind])] = base64.b64decode(picture)
    return found


def published(root: Path) -> dict[Path, bytes]:
    """Return what `RESULTS.md`, `README.md` and its pictures under `root` must hold.

    Raises:
        NotebookError: A result lies outside its range, or a file is not as it must be; nothing was written.
    """
    runs = [read_run(path, root) for path in course_notebooks(root)]
    expected = read_expected(root)
    if problems := out_of_range(runs, expected):
        raise NotebookError("\n".join(problems))
    readme = root / "README.md"
    table = with_table(readme.read_text(encoding="utf-8"), readme_table(runs))
    texts = {root / "RESULTS.md": results_page(runs, expected), readme: table}
    return {path: text.encode() for path, text in texts.items()} | pictures(root)


def stale(root: Path) -> list[str]:
    """Return one sentence for each file under `root` that `make results` would change."""
    return [
        f"{path.name} is not what the stored runs say: run `make results`"
        for path, content in published(root).items()
        if not path.exists() or path.read_bytes() != content
    ]


def main(arguments: list[str] | None = None) -> None:
    """Write both files, or with `--check` exit with 1 and a sentence where one is stale."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.results", description="Publish the stored results."
    )
    parser.add_argument("--check", action="store_true", help="write nothing, exit with 1 if a file is stale")
    options = parser.parse_args(arguments)
    try:
        if options.check:
            if problems := stale(Path()):
                raise NotebookError("\n".join(problems))
            return
        for path, content in published(Path()).items():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            print(f"wrote {path}")
    except NotebookError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
