"""What a notebook must be like: each `check_*` returns a sentence for each defect.

What is a matter of measure, as lengths and sizes, `make report` tells.
"""

import ast
import copy
import io
import re
import tokenize
from itertools import pairwise

from text_numbers import MAGIC, unfounded

from utils.course.execution import write_time
from utils.course.notebooks import (
    RECORD,
    NotebookError,
    code_cells,
    course_cells,
    headline_of,
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
from utils.exercises import entries

CLOSING = ["Summary", "Exercises", "References"]
TAGS = {
    "parameters",
    "result",
    "exercise",
    "solution",
    "hide-input",
    "nbval-check-output",
    "raises-exception",
    "badges",
    "colab",
    "figure",
    "readme-picture",
}
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
    """Exercises at the end, each in its own cell, with its folded solution below."""
    cells = list(exercises(nb))
    numbers = [number for _, asked in cells for number in asked]
    solutions = [below for (_, asked), (below, _) in pairwise(cells) if len(asked) == 1]
    at_the_end = [cell for cell, _ in cells if "solution" in tags_of(cell)]
    problems = []
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        problems.append(f"number the exercises from 1: here are {numbers}")
    elif solutions != at_the_end or len(solutions) != len(numbers):
        problems.append(
            "each exercise is one text cell with one code cell tagged `solution` below "
            "it"
        )
    problems += [
        f"a solution must assert something that can be false, about a name that it "
        f"has computed: {cell.source}"
        for cell in at_the_end
        if not asserts_what_it_computed(cell)
    ]
    return problems


def check_folds(nb, path):
    """Solutions and figures are folded in JupyterLab, on the site and in Colab."""
    problems = []
    for cell in tagged(nb, "solution") + tagged(nb, "figure"):
        hidden = cell.metadata.get("jupyter", {}).get("source_hidden")
        everywhere = "hide-input" in tags_of(cell) and "cellView" in cell.metadata
        if not hidden or not everywhere:
            problems.append(
                f"fold the cell: metadata jupyter.source_hidden, the tag `hide-input`, "
                f"and cellView `form`: {start(cell)}"
            )
    return problems


def asserts_what_it_computed(cell):
    """Tell whether an assertion in `cell` mentions a name that is assigned in it."""
    computed, asserted = set(), set()
    for node in ast.walk(tree(cell)):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.FunctionDef(name=name):
                computed.add(name)
            case ast.ClassDef(name=name):
                computed.add(name)
            case ast.Assert(test=test):
                asserted |= names_in(test)
            case ast.Call(func=function) if "assert" in ast.unparse(function):
                asserted |= names_in(node)
    return bool(computed & asserted)


def names_in(node):
    """Return the names that an expression reads."""
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


CHECKED = re.compile(r'^check\("([\d.]+)", (\w+)\)(?:  #.*)?$')
YOUR_TURN = re.compile(r"\*\*Your turn\*\* \((\d+) minutes?, (\N{BLACK STAR}+)\)")


def check_your_turn(nb, path):
    """Each checked exercise: the question, the reader's cell, the folded solution."""
    cells, problems, keys = course_cells(nb), [], []
    known = entries()
    for place, cell in enumerate(cells):
        if "exercise" not in tags_of(cell):
            continue
        asked, solved = cells[place - 1], cells[place + 1]
        mine = CHECKED.match(cell.source.rstrip().rpartition("\n")[2])
        theirs = CHECKED.match(solved.source.rstrip().rpartition("\n")[2])
        if not mine or not mine[2].startswith("my_") and not mine[2].startswith("My"):
            problems.append(
                f'the last line of an exercise is check("key", my_name): {start(cell)}'
            )
            continue
        key = mine[1]
        keys.append(key)
        if key not in known:
            problems.append(f"there is no entry {key} in utils.exercises")
            continue
        stated = YOUR_TURN.search(asked.source)
        wanted = (known[key].minutes, known[key].stars)
        if not stated or (int(stated[1]), len(stated[2])) != wanted:
            problems.append(
                f"the text above {key} must say **Your turn** ({wanted[0]} minutes, "
                f"{wanted[1] * chr(0x2605)})"
            )
        if [out.get("text") for out in cell.outputs] != [f"{key}: not started\n"]:
            problems.append(f"the reader's cell of {key} must print: not started")
        if not theirs or theirs[1] != key or "solution" not in tags_of(solved):
            problems.append(f"the solution of {key}, with its check, must follow it")
        elif "nbval-check-output" not in tags_of(solved):
            problems.append(f"tag the solution of {key} `nbval-check-output`")
        elif [out.get("text", "")[: len(key) + 7] for out in solved.outputs] != [
            f"{key}: right"
        ]:
            problems.append(f"the solution of {key} must print that it is right")
    wanted = [f"{number_of(path)}.{place}" for place in range(1, len(keys) + 1)]
    if keys != wanted:
        problems.append(f"the keys of the checked exercises must be {wanted}: {keys}")
    here = [key for key in known if key.rpartition(".")[0] == number_of(path)]
    if sorted(here) != sorted(keys):
        problems.append(f"utils.exercises has {here} for this notebook, it has {keys}")
    return problems


def check_numbers(nb, path):
    """Each number in the text stands in an output above it, in code, or is derived."""
    return [
        f"nothing above shows {missing}: print it, derive it beside it, or cut it"
        for missing in unfounded(nb)
    ]


def check_style(nb, path):
    """Formats, sizes and colours come from `course_style`; figures are described."""
    if not any("course_style()" in cell.source for cell in code_cells(nb)):
        return []
    problems = [
        f"leave {found} to `course_style`: {start(cell)}"
        for cell in code_cells(nb)
        for found in re.findall(
            r"%config|rcParams|set_matplotlib_formats|\bdpi\s*=", cell.source
        )
    ]
    for cell in code_cells(nb):
        for out in cell.outputs:
            for kind in out.get("data", {}):
                described = out.get("metadata", {}).get(kind, {}).get("alt")
                if kind.startswith("image/") and not described:
                    problems.append(f"describe the figure: alt_text in {start(cell)}")
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
    """One cell that displays a dict of numbers that were computed, and a headline."""
    try:
        result, headline = result_of(nb), headline_of(nb)
    except NotebookError as error:
        return [str(error)]
    problems = [
        f"write the key {key!r} of the result in snake_case"
        for key in result
        if not re.fullmatch("[a-z][a-z0-9_]*", key)
    ]
    if not headline:
        problems.append(
            'give the result a "headline": one short phrase with its yardstick'
        )
    written = set()  # None stands for a key that is computed
    for node in ast.walk(tree(tagged(nb, "result")[0])):
        keys = []
        match node:
            case ast.Dict():
                keys = node.keys
                problems += [
                    f"{ast.unparse(key)} of the result is typed, not computed: "
                    f"{ast.unparse(value)}"
                    for key, value in zip(keys, node.values, strict=True)
                    if not names_in(value)
                ]
            case ast.DictComp():
                keys = [node.key]
            case ast.Subscript(slice=key, ctx=ast.Store()):
                keys = [key]
        written |= {k.value if isinstance(k, ast.Constant) else None for k in keys}
    shown = {*result, *(["headline"] if headline else [])}
    if written != shown and None not in written:
        problems.append(
            f"the result shows other keys than its cell writes: "
            f"{sorted(written ^ shown)}"
        )
    return problems


def check_proofs(nb, path):
    """What `tests/proofs.toml` lists is asserted: a function, equal to its reference.

    An assertion counts when it depends, through the names assigned on the way, on both.
    """
    proofs = read_toml(path.parents[1] / "tests/proofs.toml").get(key_of(path), {})
    taught = [tree(cell) for cell in code_cells(nb) if "exercise" not in tags_of(cell)]
    found = [
        reached
        for place, cell in enumerate(taught)
        for reached in asserted(cell, taught[:place])
    ]
    return [
        f"an assertion must compare {function} against {reference}, which "
        f"tests/proofs.toml lists"
        for function, references in proofs.items()
        for reference in ([references] if isinstance(references, str) else references)
        if not any({function, reference} <= reached for reached in found)
    ]


def asserted(cell, before):
    """Yield, for each assertion in a cell, all names that it depends on.

    Of the cells above only functions and classes are followed: values have names that
    are used again and again.
    """
    known = {}
    for above in before:
        known |= functions(above)
    known |= definitions(cell)
    for node in ast.walk(cell):
        match node:
            case ast.Assert():
                reached = mentioned(node.test)
            case ast.Call(func=function) if "assert" in ast.unparse(function):
                reached = mentioned(node)
            case _:
                continue
        waiting = list(reached)
        while waiting:
            name = waiting.pop()
            new = known.get(name, set()) - reached
            reached |= new
            waiting += new
        yield reached


def definitions(cell):
    """Return name -> what its value is computed from, for the names a cell assigns."""
    found = functions(cell)

    def add(target, value):
        for name in mentioned(target):
            found[name] = found.get(name, set()) | value

    for node in ast.walk(cell):
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    add(target, mentioned(value))
            case ast.AugAssign(target=target, value=value):
                add(target, mentioned(value))
            case ast.AnnAssign(target=target, value=value) if value is not None:
                add(target, mentioned(value))
            case ast.NamedExpr(target=target, value=value):
                add(target, mentioned(value))
            case (
                ast.For(target=target, iter=value)
                | ast.comprehension(target=target, iter=value)
            ):
                add(target, mentioned(value))
            case ast.withitem(context_expr=value, optional_vars=target) if target:
                add(target, mentioned(value))
            case ast.Call(
                func=ast.Attribute(value=ast.Name() as target, attr="append" | "extend")
            ):
                add(target, set().union(*map(mentioned, node.args)))
    return found


def functions(cell):
    """Return name -> what its body mentions, for functions and classes of a cell."""
    return {
        node.name: set().union(*map(mentioned, [*node.body, *defaults(node)]))
        for node in ast.walk(cell)
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }


def defaults(node):
    """Return the default values of the arguments of a function."""
    if isinstance(node, ast.ClassDef):
        return []
    given = [*node.args.defaults, *node.args.kw_defaults]
    return [value for value in given if value is not None]


def mentioned(node):
    """Return the names in `node`, and with their dots those of attributes."""
    found = set()
    for each in ast.walk(node):
        if isinstance(each, ast.Name):
            found.add(each.id)
        elif isinstance(each, ast.Attribute):
            found.add(ast.unparse(each))
    return found


def check_oracle(nb, path):
    taught = [
        cell
        for cell in code_cells(nb)
        if not {"solution", "exercise"} & set(tags_of(cell))
    ]
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
