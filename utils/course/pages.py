"""Writes notebooks as HTML pages: one that was just run, or all with an index."""

import html
import logging
import os
import re
from pathlib import Path

from bs4 import BeautifulSoup, Tag
from nbconvert import HTMLExporter
from nbformat import NotebookNode

from utils.course.notebooks import (
    NotebookError,
    code_cells,
    course_notebooks,
    load,
    promise_of,
    title_of,
)

INDEX = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Computer vision with PyTorch</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; padding: 0 1rem; }}
body {{ max-width: 46rem; margin: 2rem auto; }}
li {{ list-style: none; margin: 0.6rem 0; }}
ul {{ padding: 0; }}
</style>
</head>
<body>
<h1>Computer vision with PyTorch</h1>
{chapters}
</body>
</html>
"""


def write_page(
    nb: NotebookNode, source: Path, page: Path, pages: dict[Path, Path] | None = None
) -> None:
    """Write `nb` as an HTML page with its images inside and its solutions folded.

    Args:
        nb: The notebook.
        source: Where the notebook is stored; its relative links start there.
        page: Where to write the page.
        pages: The page of each notebook that has one, by absolute path: links lead
            there, other relative links to the stored file.
    """
    # The exporter's log says of every plot that it has no alternative text.
    quiet = logging.getLogger("utils.course.pages.quiet")
    quiet.setLevel(logging.ERROR)
    exporter = HTMLExporter(embed_images=True, log=quiet)
    resources = {
        "metadata": {"name": source.stem, "path": str(source.resolve().parent)}
    }
    soup = BeautifulSoup(exporter.from_notebook_node(nb, resources)[0], "html.parser")
    for link in soup.select("a[href]"):
        link["href"] = _retarget(link["href"], source, page, pages or {})
    for cell in soup.select(".celltag_solution"):
        _fold(soup, cell, "Solution")
    for code in soup.select(".celltag_figure .jp-Cell-inputWrapper"):
        _fold(soup, code, "Code of this figure")
    for start, alt in _alternative_texts(nb).items():
        for image in soup.select(f'img[src^="{start}"]'):
            image["alt"] = alt
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(str(soup), encoding="utf-8")


def _fold(soup: BeautifulSoup, part: Tag, title: str) -> None:
    """Put a part of a page into a block that opens by a click."""
    folded = part.wrap(soup.new_tag("details"))
    summary = soup.new_tag(
        "summary", style="margin: 0.6rem 5.6rem; font-family: system-ui, sans-serif"
    )
    summary.string = title
    folded.insert(0, summary)


def _alternative_texts(nb: NotebookNode) -> dict[str, str]:
    """Return for each stored image that is described how its address on a page begins.

    An SVG image brings its description with it.
    """
    return {
        f"data:{kind};base64,{data[:400]}": output.metadata[kind]["alt"]
        for cell in code_cells(nb)
        for output in cell.outputs
        for kind, data in output.get("data", {}).items()
        if kind in ("image/png", "image/jpeg")
        and "alt" in output.get("metadata", {}).get(kind, {})
    }


def _retarget(link: str, source: Path, page: Path, pages: dict[Path, Path]) -> str:
    """Return `link`, which stands in `source`, as it must be written in `page`."""
    if not link or link.startswith("#") or re.match(r"[a-z][a-z0-9+.-]*:", link, re.I):
        return link
    name, mark, anchor = link.partition("#")
    target = (source.resolve().parent / name).resolve()
    target = pages.get(target, target)
    return (
        Path(os.path.relpath(target.resolve(), page.resolve().parent)).as_posix()
        + mark
        + anchor
    )


def site(root: Path, folder: Path) -> Path:
    """Write a page for each stored notebook under `root` into `folder`, and an index.

    Returns:
        The index.

    Raises:
        NotebookError: There is no notebook under `root`.
    """
    notebooks = course_notebooks(root)
    if not notebooks:
        raise NotebookError(
            f"no notebooks under {root.resolve()}: run this at the top of the course"
        )
    pages = {
        path.resolve(): folder / path.parent.name / f"{path.stem}.html"
        for path in notebooks
    }
    chapters: dict[str, list[str]] = {}
    for path in notebooks:
        nb, page = load(path), pages[path.resolve()]
        write_page(nb, path, page, pages)
        href = html.escape(page.relative_to(folder).as_posix())
        title, promise = html.escape(title_of(nb)), html.escape(promise_of(nb))
        entry = f'<li><a href="{href}">{title}</a><br>{promise}</li>'
        chapters.setdefault(path.parent.name, []).append(entry)
    parts = [
        f"<h2>{int(name[:2])} {name[3:].replace('-', ' ')}</h2>\n<ul>\n"
        + "\n".join(entries)
        + "\n</ul>"
        for name, entries in chapters.items()
    ]
    index = folder / "index.html"
    index.write_text(INDEX.format(chapters="\n".join(parts)), encoding="utf-8")
    return index
