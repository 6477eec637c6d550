"""What a notebook's text must be like. Each `check_*(nb, path)` returns one sentence for each defect."""

import re
from itertools import pairwise

from utils.ipynb import NotebookError, course_cells, number_of, opening, promise_of, tagged, title_of

CLOSING = ["Summary", "Exercises", "References"]


def text_of(nb):
    return "\n\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")


def part(nb, heading):
    """The text under `## heading`, up to the next heading of that level."""
    found = re.search(rf"^## {heading}\s*\n(.*?)(?=^## |\Z)", text_of(nb), re.M | re.S)
    return found[1] if found else ""


def letters(text):
    return re.sub(r"[^a-z0-9]", "", text.lower())


def check_title(nb, path):
    try:
        number, _, name = title_of(nb).partition(" ")
    except NotebookError as error:
        return [str(error)]
    problems = []
    if number != number_of(path):
        problems.append(f"the title's number is {number}, the path's {number_of(path)}: make them one")
    if letters(name.split(":")[0]) != letters(path.stem[3:]):
        problems.append(f"the title must be the file's name in words (a colon may add to it), not {name!r}")
    return problems


def check_promise(nb, path):
    promise = promise_of(nb)
    if not re.search(r"[.?!]$", promise):
        return ["put one sentence under the title: what the reader will have built or know at the end"]
    if re.search(r"[.?!] [A-Z]", promise):
        return [f"one sentence under the title, not several: {promise}"]
    return []


def check_overview(nb, path):
    above = opening(nb)
    return [
        f"say {words!r} in the table under the title"
        for words in ("You will", "You need", "Time")
        if words not in above
    ]


def check_sections(nb, path):
    numbers = [int(number) for number in re.findall(r"^## (\d+)\. ", text_of(nb), re.M)]
    if numbers != list(range(1, len(numbers) + 1)) or not 3 <= len(numbers) <= 7:
        return [f"number the sections `## 1. ` and on, three to seven of them: here are {numbers}"]
    return []


def check_closing(nb, path):
    headings = re.findall(r"^## (.+?)\s*$", text_of(nb), re.M)
    if headings[-3:] != CLOSING:
        return [f"the last headings must be {', '.join(f'`## {name}`' for name in CLOSING)}, in this order"]
    return []


def check_summary(nb, path):
    bullets = len(re.findall(r"^- ", part(nb, "Summary"), re.M))
    return [] if 3 <= bullets <= 5 else [f"the summary has {bullets} bullets: write three to five"]


def check_references(nb, path):
    if not re.search(r"^- .*\b(1[89]|20)\d\d\b", part(nb, "References"), re.M):
        return ["list a reference as `- author, title, year`"]
    return []


def exercises(nb):
    """Each cell from `## Exercises` on, with the numbers of the exercises that it asks."""
    cells = course_cells(nb)
    first = next((i for i, cell in enumerate(cells) if "## Exercises" in cell.source), len(cells))
    for cell in cells[first:]:
        text = cell.source.rpartition("## Exercises")[2].partition("## References")[0]
        asked = re.findall(r"^(\d+)\. ", text, re.M) if cell.cell_type == "markdown" else []
        yield cell, [int(number) for number in asked]


def check_exercises(nb, path):
    """Two to four exercises, each in its own cell, with its folded solution in the next."""
    cells = list(exercises(nb))
    numbers = [number for _, asked in cells for number in asked]
    solutions = [below for (_, asked), (below, _) in pairwise(cells) if len(asked) == 1]
    problems = []
    if numbers != list(range(1, len(numbers) + 1)) or not 2 <= len(numbers) <= 4:
        problems.append(f"number the exercises from 1, two to four of them: here are {numbers}")
    elif solutions != tagged(nb, "solution") or len(solutions) != len(numbers):
        problems.append("each exercise is one text cell with one code cell tagged `solution` below it")
    for cell in tagged(nb, "solution"):
        if not re.search(r"\bassert", cell.source):
            problems.append(f"a solution must assert its answer: {cell.source}")
        if not cell.metadata.get("jupyter", {}).get("source_hidden"):
            problems.append(f"fold the solution (metadata jupyter.source_hidden): {cell.source}")
    return problems


def check_length(nb, path):
    count = len(course_cells(nb))
    return [] if 25 <= count <= 60 else [f"{count} cells: a notebook has 25 to 60"]


def check_links(nb, path):
    """Every relative link and picture in the text leads to a file that exists."""
    problems = []
    for cell in nb.cells:
        if cell.cell_type != "markdown":
            continue
        prose = re.sub(r"```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$", "", cell.source, flags=re.S)
        links = re.findall(r"\]\(<?([^)\s>]+)", prose) + re.findall(r"""(?:href|src)=["']([^"']+)""", prose)
        for link in links:
            target = link.partition("#")[0]
            if target and not re.match(r"[a-z]+:", target) and not (path.parent / target).exists():
                problems.append(
                    f"the link to {link} leads nowhere: there is no such file beside this notebook"
                )
    return problems
