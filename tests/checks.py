"""What a notebook must be like: each `check_*` returns a sentence for each defect.

What is a matter of measure, as lengths and sizes, `make report` tells.
"""

import ast
import copy
import io
import re
import tokenize
from itertools import pairwise

from utils.course.execution import write_time
from utils.course.notebooks import (
    RECORD,
    NotebookError,
    code_cells,
    course_cells,
    key_of,
    load,
    number_of,
    opening,
    parameters_of,
    promise_of,
    read_toml,
    record_of,
    result_of,
    tagged,
    tags_of,
    title_of,
)

CLOSING = ["Summary", "Exercises", "References"]
TAGS = {
    "parameters",
    "result",
    "solution",
    "nbval-check-output",
    "raises-exception",
    "badges",
    "colab",
    "figure",
    "readme-picture",
}
MAGIC = re.compile(r"^\s*(?:\w+\s*=\s*)?(?:!(?!=)|%%?(?=[a-z])).*", re.M)
HARMLESS = re.compile(r"\s*%(config|matplotlib)\b")
BANNED = {
    r"\btorch\.hub\b": "torch.hub has a package named `utils`, like ours: use "
    "torchvision or `utils.weights`",
    r"\.cuda\(": "`.cuda()` runs on one kind of machine: use `.to(device)`",
    r"(?i)#\s*nbval[_-]": "no cell hides from the notebook tests: take the NBVAL "
    "comment out",
    r"^from \S+ import \*": "import names, not `*`",
}
PATHS = re.compile(
    r"(?<![\w.~/:\-])/(?:home|root|work|tmp|Users|usr|opt|var|mnt)/\S+|\b[A-Z]:\\(?:Users|Temp)\S*"
)
SECRETS = re.compile(
    r"AKIA[0-9A-Z]{16}|gh[pousr]_\w{30,}|github_pat_\w{30,}|\bhf_[A-Za-z]{30,}|\bsk-[\w-]{20,}|\bxox[abp]-\w{10,}"
    r"|-----BEGIN [A-Z ]*PRIVATE "
    r"KEY|(?i:password|secret|token|api_?key)\w*\s*[=:]\s*['\"][^'\"\s]{8,}['\"]"
)


RUN_AGAIN = "run `make execute`"


def complaints(path):
    """What the checks find wrong with the notebook at `path`, by the check's name."""
    nb = load(path)
    found = {check.__name__: check(nb, path) for check in CHECKS}
    return {name: "\n".join(problems) for name, problems in found.items() if problems}


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
        problems.append(
            f"the title's number is {number}, the path's {number_of(path)}: make them "
            f"one"
        )
    if letters(name.split(":")[0]) != letters(path.stem[3:]):
        problems.append(
            f"the title must be the file's name in words (a colon may add to it), not "
            f"{name!r}"
        )
    return problems


def check_promise(nb, path):
    promise = promise_of(nb)
    if not re.search(r"[.?!]$", promise):
        return [
            "put a sentence under the title: what the reader will have built or know "
            "at the end"
        ]
    if len(re.findall(r"[.?!] [A-Z]", promise)) > 1:
        return [f"one or two sentences under the title, not more: {promise}"]
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
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        return [f"number the sections `## 1. ` and on: here are {numbers}"]
    return []


def check_closing(nb, path):
    headings = re.findall(r"^## (.+?)\s*$", text_of(nb), re.M)
    if headings[-3:] != CLOSING:
        return [
            f"the last headings must be "
            f"{', '.join(f'`## {name}`' for name in CLOSING)}, in this order"
        ]
    return []


def check_summary(nb, path):
    if not re.search(r"^- ", part(nb, "Summary"), re.M):
        return ["write the summary as bullets, `- `"]
    return []


def check_references(nb, path):
    if not re.search(r"^- .*\b(1[89]|20)\d\d\b", part(nb, "References"), re.M):
        return ["list a reference as `- author, title, year`"]
    return []


def exercises(nb):
    """Each cell from `## Exercises` on, with the numbers of the exercises in it."""
    cells = course_cells(nb)
    first = next(
        (i for i, cell in enumerate(cells) if "## Exercises" in cell.source), len(cells)
    )
    for cell in cells[first:]:
        text = cell.source.rpartition("## Exercises")[2].partition("## References")[0]
        asked = (
            re.findall(r"^(\d+)\. ", text, re.M) if cell.cell_type == "markdown" else []
        )
        yield cell, [int(number) for number in asked]


def check_exercises(nb, path):
    """Exercises, each in its own cell, with its folded solution in the next."""
    cells = list(exercises(nb))
    numbers = [number for _, asked in cells for number in asked]
    solutions = [below for (_, asked), (below, _) in pairwise(cells) if len(asked) == 1]
    problems = []
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        problems.append(f"number the exercises from 1: here are {numbers}")
    elif solutions != tagged(nb, "solution") or len(solutions) != len(numbers):
        problems.append(
            "each exercise is one text cell with one code cell tagged `solution` below "
            "it"
        )
    for cell in tagged(nb, "solution"):
        if not re.search(r"\bassert", cell.source):
            problems.append(f"a solution must assert its answer: {cell.source}")
        if not cell.metadata.get("jupyter", {}).get("source_hidden"):
            problems.append(
                f"fold the solution (metadata jupyter.source_hidden): {cell.source}"
            )
    return problems


def check_links(nb, path):
    """Every relative link and image in the text leads to a file that exists."""
    problems = []
    for cell in nb.cells:
        if cell.cell_type != "markdown":
            continue
        prose = re.sub(
            r"```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$", "", cell.source, flags=re.S
        )
        links = re.findall(r"\]\(<?([^)\s>]+)", prose) + re.findall(
            r"""(?:href|src)=["']([^"']+)""", prose
        )
        for link in links:
            target = link.partition("#")[0]
            if (
                target
                and not re.match(r"[a-z]+:", target)
                and not (path.parent / target).exists()
            ):
                problems.append(
                    f"the link to {link} leads nowhere: there is no such file beside "
                    f"this notebook"
                )
    return problems


def start(cell):
    return cell.source.strip().splitlines()[0]


def tree(cell):
    """The syntax tree of a cell, its magics left out."""
    return ast.parse(MAGIC.sub("", cell.source))


def check_tags(nb, path):
    used = {tag for cell in nb.cells for tag in tags_of(cell)}
    return [
        f"the tag {tag!r} means nothing here: use one of {sorted(TAGS)}"
        for tag in sorted(used - TAGS)
    ]


def check_parameters(nb, path):
    """One cell of UPPER_CASE literals; a comment says what each means, and its unit."""
    try:
        names = parameters_of(nb)
    except NotebookError as error:
        return [str(error)]
    problems = [
        f"write the parameter {name} in UPPER_CASE"
        for name in names
        if name != name.upper()
    ]
    source = tagged(nb, "parameters")[0].source
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [token for token in tokens if token.type == tokenize.COMMENT]
    commented = {comment.start[0] for comment in comments}
    above = {comment.start[0] for comment in comments if comment.start[1] == 0}
    for node in ast.parse(source).body:
        lines = set(range(node.lineno, node.end_lineno + 1))
        if not lines & commented and node.lineno - 1 not in above:
            problems.append(
                f"say what the parameter means, and its unit: {ast.unparse(node)}"
            )
    tiny = read_toml(path.parents[1] / "tests/tiny.toml").get(key_of(path), {})
    problems += [
        f"tests/tiny.toml overrides {name}, which the parameters cell does not declare"
        for name in tiny.keys() - names.keys()
    ]
    return problems


def check_result(nb, path):
    """One cell that displays a dict of numbers."""
    try:
        result = result_of(nb)
    except NotebookError as error:
        return [str(error)]
    return [
        f"write the key {key!r} of the result in snake_case"
        for key in result
        if not re.fullmatch("[a-z][a-z0-9_]*", key)
    ]


def check_oracle(nb, path):
    taught = [cell for cell in code_cells(nb) if "solution" not in tags_of(cell)]
    if not any(re.search(r"\bassert", cell.source) for cell in taught):
        return [
            "check something where it is built, such as "
            "`torch.testing.assert_close(by_hand, by_torch)`"
        ]
    return []


def check_banned(nb, path):
    return [
        f"{reason} ({start(cell)})"
        for cell in code_cells(nb)
        for pattern, reason in BANNED.items()
        if re.search(pattern, cell.source, re.M)
    ]


def check_magics(nb, path):
    return [
        f"`{found.strip()}` fails without a word in a test: use Python"
        for cell in code_cells(nb)
        for found in MAGIC.findall(cell.source)
        if not HARMLESS.match(found)
    ]


def check_bare_except(nb, path):
    return [
        f"name the exception that you expect: line {node.lineno} of the cell "
        f"`{start(cell)}`"
        for cell in code_cells(nb)
        for node in ast.walk(tree(cell))
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]


def check_semicolon(nb, path):
    return [
        f"end the plot with `plt.show()`, not with a semicolon: {start(cell)}"
        for cell in code_cells(nb)
        if cell.source.rstrip().endswith(";")
    ]


SHOWN = r"plt\.show\(\)$|display\(|(Image|SVG|Video|HTML)\("
SILENT = r"print\(|set_matplotlib_formats\("


def check_show(nb, path):
    """A cell that made an image shows it, and neither draws nor displays after that."""
    problems = []
    for cell in code_cells(nb):
        drawn = any(
            kind.startswith("image/")
            for out in cell.outputs
            for kind in out.get("data", {})
        )
        rest = list(tree(cell).body)
        while rest:
            source = ast.unparse(rest[-1])
            if re.match(SHOWN, source.splitlines()[-1].strip()):
                break
            after = rest.pop()
            shows_value = isinstance(after, ast.Expr) and not re.match(SILENT, source)
            if shows_value or "plt." in source:
                rest.clear()
        if drawn and not rest:
            problems.append(f"end the plot with `plt.show()`: {start(cell)}")
    return problems


def check_paths(nb, path):
    """No absolute path, neither typed nor printed."""
    texts = [cell.source for cell in nb.cells] + [
        text for cell in code_cells(nb) for text in printed(cell)
    ]
    return [
        f"{found} exists on one machine only: write a relative path, or print none"
        for text in texts
        for found in PATHS.findall(text)
    ]


def check_secrets(nb, path):
    texts = [cell.source for cell in nb.cells] + [
        text for cell in code_cells(nb) for text in printed(cell)
    ]
    return [
        f"this looks like a secret: {found[:12]}... Take it out, and revoke it"
        for text in texts
        for found in SECRETS.findall(text)
    ]


def printed(cell):
    """The texts among the outputs of a cell."""
    for out in cell.outputs:
        yield out.get("text", "")
        yield "\n".join(out.get("traceback", []))
        yield from (
            data
            for kind, data in out.get("data", {}).items()
            if kind.startswith("text/")
        )


def check_executed(nb, path):
    counts = [cell.execution_count for cell in code_cells(nb)]
    problems = []
    if counts != list(range(1, len(counts) + 1)):
        problems.append(
            f"the cells were not run once each from the top, but {counts}: {RUN_AGAIN}"
        )
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


def check_kernel(nb, path):
    name = nb.metadata.get("kernelspec", {}).get("name")
    return (
        []
        if name == "python3"
        else [f"the kernel must be python3, not {name}: {RUN_AGAIN}"]
    )


def check_record(nb, path):
    """The notebook says where its outputs come from: the code above them."""
    try:
        record_of(nb)
    except NotebookError as error:
        return [str(error)]
    return []


def check_time(nb, path):
    """The table under the title gives the time of the stored run."""
    if RECORD not in nb.metadata:
        return []  # which `check_record` has said
    written = copy.deepcopy(nb)
    write_time(written, nb.metadata[RECORD])
    if opening(written) != opening(nb):
        return [f"the time in the table is not that of the stored run: {RUN_AGAIN}"]
    return []


CHECKS = [check for name, check in list(vars().items()) if name.startswith("check_")]
