"""Reads the course's notebooks: title, parameters, result, record, hash of the code.

Needs the extra `dev`. Nothing here runs a notebook; `execution` does.
"""

import ast
import hashlib
import json
import math
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

# where a notebook's metadata keep what is known about its stored run, and what that is
RECORD = "cv_course"
FACTS = (
    "torch",
    "device",
    "processor",
    "fast_bfloat16",
    "threads",
    "seconds",
    "peak_memory_mb",
    "commit",
    "images_per_second",
    "source_hash",
    "outputs_hash",
)
# tags of the cells that `badges` puts in and takes out
STAMPS = ("badges", "colab")


class NotebookError(RuntimeError):
    """A notebook is not as the course needs it; the message says how to mend it."""


def load(path: Path) -> NotebookNode:
    """Read the notebook at `path`.

    Raises:
        NotebookError: The file is missing or is not a notebook.
    """
    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise NotebookError(f"there is no notebook {path}") from None
    except nbformat.reader.NotJSONError:
        raise NotebookError(
            f"{path} is not a notebook: its content is not JSON"
        ) from None


def save(nb: NotebookNode, path: Path) -> None:
    """Write `nb` to `path` in one step: the file is replaced whole or not at all."""
    part = path.with_name(path.name + ".part")
    try:
        nbformat.write(nb, part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_toml(path: Path) -> dict[str, dict[str, Any]]:
    """Read `path`, which holds a table for each notebook, named like `key_of` names it.

    Raises:
        NotebookError: The file is missing or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotebookError(
            f"there is no {path}: run this at the top of the course"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise NotebookError(f"{path}: {error}") from None


def course_notebooks(root: Path) -> list[Path]:
    """Return the notebooks in the chapter folders of `root`, in their order.

    Raises:
        NotebookError: A notebook's name has no number, and so no place in the order.
    """
    return sorted(root.glob("[0-9][0-9]-*/*.ipynb"), key=_place)


def _place(path: Path) -> tuple[int, int]:
    names = re.match(r"(\d\d)-.+/(\d\d)_\w+\.ipynb$", f"{path.parent.name}/{path.name}")
    if names is None:
        raise NotebookError(
            f"{path} must be named like 03-CNN/02_cnn_working_details.ipynb"
        )
    return int(names[1]), int(names[2])


def number_of(path: Path) -> str:
    """Return the number of a notebook: `3.9` for `03-CNN/09_cats_vs_dogs.ipynb`."""
    return "{}.{}".format(*_place(path))


def key_of(path: Path) -> str:
    """Return the name of a notebook in `tests/*.toml`: `03-CNN/09_cats_vs_dogs`."""
    return f"{path.parent.name}/{path.stem}"


def tags_of(cell: NotebookNode) -> list[str]:
    """Return the tags of `cell`."""
    return cell.metadata.get("tags", [])


def tagged(nb: NotebookNode, tag: str) -> list[NotebookNode]:
    """Return the cells of `nb` tagged `tag`."""
    return [cell for cell in nb.cells if tag in tags_of(cell)]


def _only(nb: NotebookNode, tag: str) -> NotebookNode:
    cells = [cell for cell in tagged(nb, tag) if cell.cell_type == "code"]
    if len(cells) != 1:
        raise NotebookError(
            f"exactly one code cell must be tagged `{tag}`, not {len(cells)}"
        )
    return cells[0]


def course_cells(nb: NotebookNode) -> list[NotebookNode]:
    """Return the cells of `nb` without those that `badges` stamps into it."""
    return [cell for cell in nb.cells if not set(STAMPS) & set(tags_of(cell))]


def code_cells(nb: NotebookNode) -> list[NotebookNode]:
    """Return the cells of `nb` that a run executes: code, neither blank nor a stamp."""
    return [
        cell
        for cell in course_cells(nb)
        if cell.cell_type == "code" and cell.source.strip()
    ]


def source_hash(nb: NotebookNode) -> str:
    """Return the SHA-256 of the code of `nb`, in hex: whether outputs belong to it."""
    code = "\0".join(cell.source for cell in code_cells(nb))
    return hashlib.sha256(code.encode()).hexdigest()


def outputs_hash(nb: NotebookNode) -> str:
    """Return the SHA-256 of what the cells of `nb` put out, in hex."""
    outputs = [[dict(output) for output in cell.outputs] for cell in code_cells(nb)]
    text = json.dumps(outputs, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def record_of(nb: NotebookNode) -> dict[str, Any]:
    """Return what is known about the stored run of `nb`: the values of `FACTS`.

    Raises:
        NotebookError: It was not run with `make execute`, or its code or what it put
            out has changed since.
    """
    record = nb.metadata.get(RECORD, {})
    if missing := [fact for fact in FACTS if fact not in record]:
        raise NotebookError(
            f"the metadata do not say {', '.join(missing)} of a stored run: run `make "
            f"execute`"
        )
    if record["source_hash"] != source_hash(nb):
        raise NotebookError(
            "the code has changed since the stored run: run `make execute`"
        )
    if record["outputs_hash"] != outputs_hash(nb):
        raise NotebookError(
            "the outputs are not those of the stored run: run `make execute`"
        )
    return record


def opening(nb: NotebookNode) -> str:
    """Return the text of `nb` above its first code cell."""
    cells = course_cells(nb)
    first = next(
        (i for i, cell in enumerate(cells) if cell.cell_type == "code"), len(cells)
    )
    return "\n\n".join(
        cell.source for cell in cells[:first] if cell.cell_type == "markdown"
    )


def title_of(nb: NotebookNode) -> str:
    """Return the first line of `nb` without its `#`: `3.2 CNN working details`.

    Raises:
        NotebookError: The notebook does not start with a heading of the first level.
    """
    title = re.match(r"# (.+)", opening(nb))
    if title is None:
        raise NotebookError(
            "the first line must be the title, like `# 3.2 CNN working details`"
        )
    return title[1].strip()


def promise_of(nb: NotebookNode) -> str:
    """Return the paragraph under the title of `nb` as one line; "" if there is none."""
    paragraphs = [
        part.strip() for part in re.split(r"\n\s*\n", opening(nb)) if part.strip()
    ]
    if len(paragraphs) < 2 or re.match(r"[#|>*-]", paragraphs[1]):
        return ""
    return " ".join(paragraphs[1].split())


def parameters_of(nb: NotebookNode) -> dict[str, Any]:
    """Return what the cell of `nb` tagged `parameters` assigns: name -> value.

    Raises:
        NotebookError: There is not exactly one such cell, or it does more than assign
            literals to names.
    """
    values = {}
    for node in ast.parse(_only(nb, "parameters").source).body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case _:
                text = ast.unparse(node)
                raise NotebookError(
                    f"the parameters cell may only assign literals to names, not "
                    f"`{text}`"
                )
        try:
            values[name] = ast.literal_eval(value)
        except ValueError:
            text = ast.unparse(value)
            raise NotebookError(
                f"the parameter {name} must be a literal, not `{text}`"
            ) from None
    return values


def headline_of(nb: NotebookNode) -> str:
    """Return the phrase under `"headline"` in the result of `nb`; "" if there is none.

    Raises:
        NotebookError: There is no result, or the headline is not one line of text.
    """
    headline = _displayed_result(nb).get("headline", "")
    if not isinstance(headline, str) or "\n" in headline:
        raise NotebookError(f"the headline must be one line of text, not {headline!r}")
    return headline


def result_of(nb: NotebookNode) -> dict[str, float]:
    """Return the numbers that the cell of `nb` tagged `result` has displayed.

    Raises:
        NotebookError: There is not exactly one such cell, or it displayed something
            else than a dict of finite numbers, and perhaps a headline.
    """
    shown = _displayed_result(nb)
    result = {key: value for key, value in shown.items() if key != "headline"}
    if not result or not all(map(_is_number, result.values())):
        raise NotebookError(
            f"the result must be a dict of finite Python numbers (use .item()), not "
            f"{shown}"
        )
    return result


def _displayed_result(nb: NotebookNode) -> dict[str, Any]:
    """Return the dict that the cell of `nb` tagged `result` has displayed."""
    shown = [
        out
        for out in _only(nb, "result").outputs
        if out.output_type == "execute_result"
    ]
    if not shown:
        raise NotebookError(
            "the result cell shows nothing: end it with the dict, and run the notebook"
        )
    text = shown[-1].data.get("text/plain", "")
    try:
        result = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        result = None
    if not isinstance(result, dict):
        raise NotebookError(
            f"the result must be a dict of finite Python numbers (use .item()), not "
            f"{text}"
        )
    return result


def _is_number(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
    )
