"""Stamps notebooks with links to Colab and Binder, and the cell that sets Colab up.

A notebook carries these only where its repository has a name: before that, each such
link would be dead.
"""

import re
from pathlib import Path
from urllib.parse import quote

import nbformat
from nbformat import NotebookNode

from utils.course.notebooks import (
    NotebookError,
    course_cells,
    course_notebooks,
    load,
    save,
)

REPOSITORY = r"[A-Za-z0-9][A-Za-z0-9-]*/[\w.-]*[\w-]"
BADGES = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/{repository}/blob/main/{path})\n"
    "[![Open in Binder](https://mybinder.org/badge_logo.svg)]"
    "(https://mybinder.org/v2/gh/{repository}/main?urlpath=lab/tree/{path})"
)
COLAB = """\
# In Colab: install this course's `utils`; the torch that is there satisfies it.
# Anywhere else: nothing.
import subprocess
import sys

if "google.colab" in sys.modules:
    source = "git+https://github.com/{repository}"
    command = [sys.executable, "-m", "pip", "install", "--quiet", source]
    subprocess.run(command, check=True)"""


def stamp(nb: NotebookNode, path: Path, repository: str | None) -> None:
    """Replace the stamps of `nb`: badges under the title, a cell above the first code.

    Neither counts as the course's own cell: a run leaves them out, and so does the hash
    of the code.

    Args:
        nb: The notebook, changed in place.
        path: Its place in the repository, such as
            `03-CNN/02_cnn_working_details.ipynb`.
        repository: `owner/name` on GitHub, or None to take the stamps out.
    """
    nb.cells = course_cells(nb)
    if repository is None:
        return
    first_code = next(
        (i for i, cell in enumerate(nb.cells) if cell.cell_type == "code"),
        len(nb.cells),
    )
    source = COLAB.format(repository=repository)
    metadata = {"tags": ["colab"]}
    nb.cells.insert(
        first_code, nbformat.v4.new_code_cell(source, id="colab", metadata=metadata)
    )
    source = BADGES.format(repository=repository, path=quote(path.as_posix()))
    metadata = {"tags": ["badges"]}
    nb.cells.insert(
        1, nbformat.v4.new_markdown_cell(source, id="badges", metadata=metadata)
    )


def stamp_all(root: Path, repository: str | None) -> int:
    """Stamp every notebook under `root` with `repository`; None takes the stamps out.

    Returns:
        How many notebooks changed.

    Raises:
        NotebookError: `repository` is not `owner/name` as GitHub spells it.
    """
    if repository is not None and not re.fullmatch(REPOSITORY, repository, re.ASCII):
        raise NotebookError(
            f"expected owner/name as GitHub spells it, like octocat/hello, not "
            f"{repository!r}"
        )
    changed = 0
    for path in course_notebooks(root):
        nb, before = load(path), load(path)
        stamp(nb, path.relative_to(root), repository)
        if nb != before:
            save(nb, path)
            changed += 1
    return changed
