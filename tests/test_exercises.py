"""`utils.exercises`: the verdicts, and of each entry that they can be trusted."""

import ast
import copy
import operator
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from checks import CHECKED, MAGIC

from utils.course.notebooks import (
    code_cells,
    course_notebooks,
    load,
    tagged,
    tags_of,
)
from utils.exercises import Case, Exercise, check, entries, find, hint, judge

ROOT = Path(__file__).parents[1]
ENTRIES = entries()


def clipped(a, b):
    return [max(0.0, value - b) for value in a]


def entry(**changes):
    """An exercise: subtract b from each of a, not below 0."""
    settings = {
        "minutes": 5,
        "stars": 1,
        "cases": lambda: [
            Case({"a": [], "b": 1.0}, "what if there is nothing?"),
            Case({"a": [3.0, 1.0], "b": 2.0}),
        ],
        "reference": clipped,
        "against": "a loop",
        "mistakes": {
            "You let it go below 0.": lambda a, b: [value - b for value in a],
            "You add.": lambda a, b: [value + b for value in a],
        },
        "hints": ("Think.", "Think again."),
    }
    return Exercise(**settings | changes)


def stub(a, b):
    """Subtract."""
    ...


class StubClass:
    size = 3

    def __init__(self, a, b):
        self.a = a

    def answer(self): ...


def without_return(a, b):
    clipped(a, b)


def raising(a, b):
    return a[0] - b


def changing(a, b):
    a.append(0.0)
    return clipped(a[:-1], b)


def endless(a, b):
    while True:
        pass


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (stub, "not started"),
        (StubClass, "not started"),
        (
            lambda a, b: ...,
            "not yet. A list of 0 was expected, ellipsis (Ellipsis) came",
        ),
        (
            raising,
            "raised IndexError (list index out of range) for a = [], b = 1: what if "
            "there is nothing?",
        ),
        (changing, "not yet. It changes its input `a`: work on a copy."),
        (
            endless,
            "not yet. It was stopped after 0.2 seconds in case 1 of 2: does a lo",
        ),
        (without_return, "not yet. None came: does your function end in `return`?"),
        (lambda a, b: 0.0, "not yet. A list of 0 was expected, a number came."),
        (lambda a, b: [value - b for value in a], "not yet. You let it go below 0."),
        (lambda a, b: [value + b for value in a], "not yet. You add."),
        (
            lambda a, b: [value / b for value in a],
            "not yet, 1 of 2 cases differ. The first: a = [3, 1], b = 2: [1.5, 0.5] "
            "came, [1, 0] was expected.",
        ),
        (clipped, "right (2 cases, as a loop)"),
        (lambda a, b: [v + 1e-9 for v in clipped(a, b)], "right (2 cases, as a loop)"),
        ([1.0], "give the function itself, without calling it: a list of 1 came."),
    ],
)
def test_the_verdict(answer, verdict):
    assert judge(entry(), answer, seconds=0.2).startswith(verdict)


def test_a_loop_that_never_ends_is_stopped_in_the_background_too():
    """There interrupts are ignored; what is ignored before is ignored after."""
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "import test_exercises as t\n"
        "print(t.judge(t.entry(), t.endless, seconds=0.2))\n"
        "print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT / "tests",
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.startswith("not yet. It was stopped after 0.2 seconds")
    assert done.stdout.endswith("True\n")


@pytest.mark.parametrize(
    ("came", "wanted", "said"),
    [
        (
            torch.ones(2),
            torch.ones(3),
            "A float tensor or array [3] was expected, a fl",
        ),
        (
            torch.ones(2).int(),
            torch.ones(2),
            "expected, an integer tensor or array [2]",
        ),
        (np.ones(2), torch.ones(2), ""),
        (torch.tensor(2.0), 2.0, ""),
        (np.float32(2), 2, ""),
        (True, 1.0, "A number was expected, True or False came."),
        ((1.0,), (1.0, 2.0), "A tuple of 2 was expected, a tuple of 1 came."),
        ((1.0, None), (1.0, 2.0), "In place 1 of the result: None came"),
        ({"a": 1}, {"b": 1}, "A dict with 'b' was expected, a dict with 'a' came."),
        ({"b": "x"}, {"b": 1}, "In 'b' of the result: A number was expected, str (x)"),
        ([(1.0, "x")], [(1.0, 2.0)], "In place 1 of place 0 of the result: A number"),
        (
            torch.arange(30.0),
            torch.arange(30.0) + (torch.arange(30) == 17),
            "at [17] 17 came, 18 was expected.",
        ),
        (
            (torch.arange(30.0), torch.arange(30.0) + 1),
            (torch.arange(30.0), torch.arange(30.0) + (torch.arange(30) < 29)),
            "in place 1, at [29] 30 came, 29 was expected.",
        ),
        (1.0000001, 1.0, ""),
        (1000.02, 1000.0, "1000.02 came, 1000 was expected."),
        (12345.678, 12345.0, "12345.7 came, 12345 was expected."),
        (1000.0201, 1000.0, "1000.02 came"),
        (float("nan"), float("nan"), ""),
        (torch.tensor([torch.nan, 1]), torch.tensor([torch.nan, 1]), ""),
        ({"a": [1, 2]}, {"a": [1, 3]}, "in 'a', [1, 2] came, [1, 3] was expected."),
    ],
)
def test_what_counts_as_equal(came, wanted, said):
    one = entry(
        cases=lambda: [Case({"x": 0})],
        reference=lambda x: copy.deepcopy(wanted),
        mistakes={},
    )
    verdict = judge(one, lambda x: came)
    assert said in verdict if said else verdict.startswith("right")


def test_a_difference_behind_the_sixth_digit_is_shown():
    fine = entry(
        cases=lambda: [Case({"x": 1})], reference=lambda x: 1.0, mistakes={}, rtol=1e-9
    )
    said = judge(fine, lambda x: 1.0000012)
    assert said.endswith("x = 1: 1.0000012 came, 1.0 was expected.")


def test_no_random_number_and_no_case_is_changed():
    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    cases = [Case({"x": torch.zeros(2)})]
    seen = []

    def answer(x):
        seen.append((torch.rand(1).item(), np.random.rand()))
        return x + 1

    one = entry(cases=lambda: cases, reference=lambda x: x + 1, mistakes={})
    assert judge(one, answer).startswith("right")
    assert judge(one, answer).startswith("right")
    assert seen[0] == seen[1]  # random, and the same each time
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert torch.equal(cases[0].arguments["x"], torch.zeros(2))


def test_an_answer_may_be_played_and_may_then_change_its_input():
    def play(answer, start):
        answer(start)
        return start

    one = entry(
        cases=lambda: [Case({"start": [1.0]})],
        reference=lambda start: start.append(2.0),
        mistakes={},
        play=play,
    )
    assert judge(one, lambda start: start.append(2.0)).startswith("right")
    assert "came" in judge(one, lambda start: start.append(3.0))


def test_the_reader_can_still_stop_a_check():
    def stopped(a, b):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge(entry(), stopped)


def test_check_and_hint_print_and_never_raise(capsys):
    key = next(iter(ENTRIES))
    check(key, None)
    check("99.1.1", stub)
    check(key, stub)
    hint("1.99.1")
    hints = find(key).hints
    for _ in range(len(hints) + 1):
        hint(key)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{key}: give the function itself")
    assert said[1] == "there is no exercise '99.1.1'; there are: none in this chapter"
    assert said[2] == f"{key}: not started"
    assert said[3].startswith("there is no exercise '1.99.1'; there are: ")
    assert [line.partition(": ")[2] for line in said[4:-1]] == list(hints)
    assert said[-1] == f"{key}: no more hints. A solution is in the folded cell below."


@pytest.fixture(scope="module")
def solutions():
    """Key -> (syntax tree of the solution, its function's name, what it may use)."""
    found = {}
    for path in course_notebooks(ROOT):
        nb = load(path)
        if not tagged(nb, "exercise"):
            continue
        before = []
        for cell in code_cells(nb):
            tree = ast.parse(MAGIC.sub("", cell.source))
            last = CHECKED.match(cell.source.rstrip().rpartition("\n")[2])
            if last and "solution" in tags_of(cell):
                tree.body = tree.body[:-1]
                found[last[1]] = (tree, last[2], list(before))
            before += [node for node in tree.body if may_be_used(node)]
    return found


def may_be_used(node):
    """Tell whether a solution may depend on a statement of the cells above it."""
    if isinstance(node, ast.Assign):
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        return any(name.isupper() for name in names)
    kinds = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef
    return isinstance(node, kinds)


def built(tree, name, before):
    """Return the function `name` that a syntax tree defines."""
    space = {"__name__": "notebook"}
    module = ast.Module([*before, *tree.body], type_ignores=[])
    exec(compile(ast.fix_missing_locations(module), "notebook", "exec"), space)
    return space[name]


@pytest.mark.parametrize("key", ENTRIES)
def test_the_reference_and_the_solution_are_right(key, solutions):
    exercise = ENTRIES[key]
    assert judge(exercise, exercise.reference).startswith("right (")
    assert judge(exercise, built(*solutions[key])).startswith("right (")


@pytest.mark.parametrize("key", ENTRIES)
def test_each_known_mistake_gets_its_own_sentence(key):
    exercise = ENTRIES[key]
    assert len(exercise.mistakes) >= 3
    for sentence, mistake in exercise.mistakes.items():
        assert judge(exercise, mistake) == f"not yet. {sentence}"


@pytest.mark.parametrize("key", ENTRIES)
def test_of_an_entry(key):
    exercise = ENTRIES[key]
    assert 1 <= exercise.stars <= 3 and exercise.minutes > 0
    assert 2 <= len(exercise.hints) <= 3
    assert all(sentence[-1] in ".?" for sentence in exercise.mistakes)
    assert 2 <= len(exercise.cases()) <= 40


SWAPS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
NAMES = {
    "min": "max",
    "max": "min",
    "amin": "amax",
    "amax": "amin",
    "minimum": "maximum",
    "maximum": "minimum",
    "argmax": "argmin",
    "sum": "mean",
    "mean": "sum",
    "floor": "ceil",
}
DROPPED = {"clamp", "clip", "clamp_min", "relu", "abs", "sort", "T"}


def mutants(tree):
    """Yield copies of a syntax tree with one simple slip each, and what it is."""
    for place, node in enumerate(ast.walk(tree)):
        for what, mend in slips(node):
            changed = copy.deepcopy(tree)
            mend(list(ast.walk(changed))[place])
            yield f"line {getattr(node, 'lineno', '?')}: {what}", changed


def slips(node):
    """Yield what can go wrong at one place of a program."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in SWAPS:
            yield type(op).__name__, lambda n: setattr(n, "ops", [SWAPS[type(op)]()])
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in SWAPS:
            yield type(op).__name__, lambda n: setattr(n, "op", SWAPS[type(op)]())
        case ast.BoolOp(op=op):
            yield type(op).__name__, lambda n: setattr(n, "op", SWAPS[type(op)]())
        case ast.Name(id=name) if name in NAMES and isinstance(node.ctx, ast.Load):
            if name not in ("sum", "abs"):  # the built-in one has no such twin
                yield name, lambda n: setattr(n, "id", NAMES[name])
        case ast.Attribute(attr=name) if name in NAMES:
            yield name, lambda n: setattr(n, "attr", NAMES[name])
        case ast.Call(func=ast.Attribute(attr=name)) if name in DROPPED:
            yield f"without {name}", lambda n: setattr(n, "func", give_back(n.func))
        case ast.keyword(arg="dim" | "axis", value=ast.Constant(value=0 | 1 as axis)):
            yield "axis", lambda n: setattr(n, "value", ast.Constant(1 - axis))


def give_back(function):
    """Return, for `x.clamp` in `x.clamp(...)`, a call that gives back x."""
    keep = ast.parse("(lambda value: lambda *_, **__: value)(0)", mode="eval").body
    keep.args = [function.value]
    return keep


@pytest.mark.parametrize("key", ENTRIES)
def test_nine_of_ten_slips_are_refused(key, solutions):
    tree, name, before = solutions[key]
    accepted, count = [], 0
    for what, changed in mutants(tree):
        count += 1
        try:
            answer = built(changed, name, before)
        except Exception:  # refused before it could be called
            continue
        if judge(ENTRIES[key], answer, seconds=2).startswith("right"):
            accepted.append(what)
    assert len(accepted) <= count / 10, accepted


def test_the_slips_that_are_tried():
    source = "def f(a):\n    b = max(a, 0).clamp(0) + a.sum(dim=1)\n    return a < b"
    said = [what for what, _ in mutants(ast.parse(source))]
    assert sorted(said) == [
        "line 2: Add",
        "line 2: axis",
        "line 2: max",
        "line 2: sum",
        "line 2: without clamp",
        "line 3: Lt",
    ]
    assert operator.countOf(said, "line 3: Lt") == 1
