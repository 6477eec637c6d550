"""Measures the stored notebooks against the aims of a good lesson.

What is wrong with a notebook, a test finds; what is a matter of measure stands here: no
number has to be hit, and nothing is squeezed to hit one.
"""

import base64
import io
import json
import re
from pathlib import Path

from nbformat import NotebookNode
from PIL import Image

from utils.course.notebooks import (
    RECORD,
    NotebookError,
    code_cells,
    course_cells,
    course_notebooks,
    key_of,
    load,
    parameters_of,
    tagged,
    tags_of,
)

LONG_CELL = 12  # lines

# measure -> what is aimed at, (at least, at most)
AIMS = {
    "sections": (3, 5),
    "words": (1200, 2200),
    "lines": (0, 300),
    "long cells %": (0, 50),
    "figures": (4, 8),
    "narrowest px": (700, 2000),
    "parameters": (4, 12),
    "checked": (1, 2),
    "open": (2, 3),
    "seconds": (0, 300),
    "kB": (0, 1500),
    "output kB": (0, 300),
}


def measure(path: Path) -> dict[str, float]:
    """Return what `AIMS` names, of the stored notebook at `path`.

    `sections` are numbered headings. `words` are those of the text outside formulas,
    code and collapsed blocks. `lines` are those of code that teaches, without comments
    and blank ones: no solutions, no figures folded away, not the reader's own cell;
    `long cells %` is the share of such cells with more than 12 lines. `figures` are
    images in the text and among the outputs, and `narrowest px` is the width on the
    page of the narrowest output. `checked` exercises have a check, `open` ones do not.
    `output kB` is the largest.

    Raises:
        NotebookError: It is no notebook, or has no parameters cell.
    """
    nb = load(path)
    text = "\n\n".join(
        cell.source for cell in course_cells(nb) if cell.cell_type == "markdown"
    )
    outputs = [output for cell in code_cells(nb) for output in cell.outputs]
    taught = [
        [
            line
            for line in map(str.strip, cell.source.splitlines())
            if line and not line.startswith("#")
        ]
        for cell in code_cells(nb)
        if not {"solution", "figure", "exercise"} & set(tags_of(cell))
    ]
    long = sum(len(lines) > LONG_CELL for lines in taught)
    widths = [width for output in outputs for width in _widths(output)]
    exercises = len(tagged(nb, "exercise"))
    return {
        "sections": len(re.findall(r"^## \d+\. ", text, re.M)),
        "words": len(_words(text)),
        "lines": sum(map(len, taught)),
        "long cells %": round(100 * long / max(1, len(taught))),
        "figures": sum(map(_is_image, outputs)) + len(re.findall(r"!\[|<img\b", text)),
        "narrowest px": round(min(widths, default=AIMS["narrowest px"][0])),
        "parameters": len(parameters_of(nb)),
        "checked": exercises,
        "open": len(tagged(nb, "solution")) - exercises,
        "seconds": round(nb.metadata.get(RECORD, {}).get("seconds", 0)),
        "kB": round(path.stat().st_size / 1000),
        "output kB": round(
            max((len(json.dumps(output)) for output in outputs), default=0) / 1000
        ),
    }


def _widths(output: NotebookNode) -> list[float]:
    """Return the width on the page, in pixels, of the image that `output` shows."""
    data, widths = output.get("data", {}), []
    for kind in ("image/png", "image/jpeg"):
        if kind in data:
            stored = output.get("metadata", {}).get(kind, {}).get("width")
            widths.append(stored or _image_width(data[kind]))
    if found := re.search(
        r"<svg\b[^>]*\bwidth=\"([\d.]+)(pt|px)?", data.get("image/svg+xml", "")
    ):
        widths.append(float(found[1]) * (4 / 3 if found[2] == "pt" else 1))
    page = data.get("text/html", "")
    for tag in re.findall(r"<img\b[^>]*>", page):
        given = re.search(r'\bwidth="(\d+)', tag)
        inside = re.search(r"base64,([^\"]+)", tag)
        if given:
            widths.append(float(given[1]))
        elif inside:
            widths.append(_image_width(inside[1]))
    return widths


def _image_width(encoded: str) -> float:
    """Return the width in pixels of an image in base64."""
    return Image.open(io.BytesIO(base64.b64decode(encoded))).width


def _words(text: str) -> list[str]:
    """Return the words of the prose in `text`."""
    for passage in (
        r"<details>.*?</details>",
        r"```.*?```",
        r"\$\$.*?\$\$",
        r"\$[^$\n]*\$",
        r"`[^`\n]*`",
        r"\]\([^)]*\)",  # where a link leads
        r"<[^>\n]*>",
    ):
        text = re.sub(passage, " ", text, flags=re.S)
    return re.findall(r"[^\W\d_][\w'’-]*", text)


def _is_image(output: NotebookNode) -> bool:
    """Tell whether `output` shows an image or, as HTML, an animation."""
    data = output.get("data", {})
    return any(kind.startswith("image/") for kind in data) or bool(
        re.search(r"<(img|svg|video)\b", "".join(data.get("text/html", "")))
    )


def distance(measured: dict[str, float]) -> float:
    """Return how far a notebook is from the aim it misses most: 2 is twice or half.

    Returns:
        The largest ratio of a measure to its aim, 1 if all are met.
    """
    ratios = [1.0]
    for name, (least, most) in AIMS.items():
        value = measured[name]
        ratios += [value / most, least / max(value, 0.5)]
    return max(ratios)


def report(root: Path) -> str:
    """Return the table of all notebooks under `root`, the worst first.

    Raises:
        NotebookError: There is no notebook under `root`.
    """
    notebooks = {key_of(path): measure(path) for path in course_notebooks(root)}
    if not notebooks:
        raise NotebookError(
            f"no notebooks under {root.resolve()}: run this at the top of the course"
        )
    rows = [["notebook", *(f"{name} " for name in AIMS)]]
    for name in sorted(notebooks, key=lambda name: -distance(notebooks[name])):
        cells = []
        for value, (least, most) in zip(
            notebooks[name].values(), AIMS.values(), strict=True
        ):
            cells.append(f"{value:,}{' ' if least <= value <= most else '*'}")
        rows.append([name, *cells])
    aims = [
        f"{least:,}-{most:,} " if least else f"{most:,} "
        for least, most in AIMS.values()
    ]
    rows.append(["aim (*: missed)", *aims])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
