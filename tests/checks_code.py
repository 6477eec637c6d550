"""What a notebook's code must be like. Each `check_*(nb, path)` returns one sentence for each defect."""

import ast
import io
import re
import tokenize

from utils.ipynb import NotebookError, code_cells, parameters_of, result_of, tagged, tags_of

TAGS = {"parameters", "result", "solution", "nbval-check-output", "raises-exception", "badges", "colab"}
TAGS |= {"readme-picture"}
MAGIC = re.compile(r"^\s*(?:\w+\s*=\s*)?(?:!(?!=)|%%?(?=[a-z])).*", re.M)
HARMLESS = re.compile(r"\s*%(config|matplotlib)\b")
BANNED = {
    r"\btorch\.hub\b": "torch.hub has a package named `utils`, like ours: use torchvision or `utils.weights`",
    r"\.cuda\(": "`.cuda()` runs on one kind of machine: use `.to(device)`",
    r"(?i)#\s*nbval[_-]": "no cell hides from the notebook tests: take the NBVAL comment out",
    r"^from \S+ import \*": "import names, not `*`",
}
PATHS = re.compile(
    r"(?<![\w.~/:\-])/(?:home|root|work|tmp|Users|usr|opt|var|mnt)/\S+|\b[A-Z]:\\(?:Users|Temp)\S*"
)
SECRETS = re.compile(
    r"AKIA[0-9A-Z]{16}|gh[pousr]_\w{30,}|github_pat_\w{30,}|\bhf_[A-Za-z]{30,}|\bsk-[\w-]{20,}|\bxox[abp]-\w{10,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY|(?i:password|secret|token|api_?key)\w*\s*[=:]\s*['\"][^'\"\s]{8,}['\"]"
)


def start(cell):
    return cell.source.strip().splitlines()[0]


def tree(cell):
    """The syntax tree of a cell, its magics left out."""
    return ast.parse(MAGIC.sub("", cell.source))


def check_tags(nb, path):
    used = {tag for cell in nb.cells for tag in tags_of(cell)}
    return [f"the tag {tag!r} means nothing here: use one of {sorted(TAGS)}" for tag in sorted(used - TAGS)]


def check_parameters(nb, path):
    """One cell of UPPER_CASE literals, each with a comment that gives its unit or meaning."""
    try:
        names = parameters_of(nb)
    except NotebookError as error:
        return [str(error)]
    problems = [f"write the parameter {name} in UPPER_CASE" for name in names if name != name.upper()]
    source = tagged(nb, "parameters")[0].source
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    commented = {token.start[0] for token in tokens if token.type == tokenize.COMMENT}
    for node in ast.parse(source).body:
        if not commented & set(range(node.lineno, node.end_lineno + 1)):
            problems.append(f"say behind the parameter what it means, and its unit: {ast.unparse(node)}")
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
        return ["check something where it is built, such as `torch.testing.assert_close(by_hand, by_torch)`"]
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
        f"name the exception that you expect: line {node.lineno} of the cell `{start(cell)}`"
        for cell in code_cells(nb)
        for node in ast.walk(tree(cell))
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]


def check_cell_length(nb, path):
    return [
        f"a cell of {lines} lines, 40 at the most: {start(cell)}"
        for cell in code_cells(nb)
        if (lines := len(cell.source.splitlines())) > 40
    ]


def check_semicolon(nb, path):
    return [
        f"end the plot with `plt.show()`, not with a semicolon: {start(cell)}"
        for cell in code_cells(nb)
        if cell.source.rstrip().endswith(";")
    ]


def check_show(nb, path):
    """A cell that made a picture ends in `plt.show()`, or displays it by name."""
    problems = []
    for cell in code_cells(nb):
        drawn = any(kind.startswith("image/") for out in cell.outputs for kind in out.get("data", {}))
        last = [line for line in ast.unparse(tree(cell)).splitlines() if line.strip()][-1:]
        if drawn and not re.match(r"\s*(plt\.show\(\)|display\(|(Image|SVG|Video|HTML)\()", "".join(last)):
            problems.append(f"end the plot with `plt.show()`: {start(cell)}")
    return problems


def check_paths(nb, path):
    """No absolute path, neither typed nor printed."""
    texts = [cell.source for cell in nb.cells] + [text for cell in code_cells(nb) for text in printed(cell)]
    return [
        f"{found} exists on one machine only: write a relative path, or print none"
        for text in texts
        for found in PATHS.findall(text)
    ]


def check_secrets(nb, path):
    texts = [cell.source for cell in nb.cells] + [text for cell in code_cells(nb) for text in printed(cell)]
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
        yield from (data for kind, data in out.get("data", {}).items() if kind.startswith("text/"))
