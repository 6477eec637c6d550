"""Each check notices what it is for: a good notebook, broken in one way at a time."""

import operator

import checks
import pytest
import sample
from checks import CHECKS, complaints

from utils.course.badges import stamp
from utils.course.notebooks import load, save, tagged
from utils.exercises import Exercise

# Each of these returns a function that breaks a notebook in one way.


def replace(old, new, kind="markdown"):
    """In the first cell of that kind that holds `old`, write `new` for it."""

    def break_it(nb):
        cell = next(
            cell for cell in nb.cells if cell.cell_type == kind and old in cell.source
        )
        cell.source = cell.source.replace(old, new)

    return break_it


def add(source, *tags, outputs=()):
    """Insert one more code cell, before the plot."""
    return lambda nb: nb.cells.insert(-7, sample.code(source, *tags, outputs=outputs))


def prints(text, name="stdout"):
    """Insert a cell that has printed `text`."""
    return add("step", outputs=[sample.output("stream", name=name, text=text)])


def retag(old, *new):
    """Change the tags of the first cell tagged `old`."""
    return lambda nb: tagged(nb, old)[0].metadata.update(tags=list(new))


def parameters(source):
    """Change what the parameters cell says."""
    return lambda nb: tagged(nb, "parameters")[0].update(source=source)


def shows(text):
    """Change what the result cell has displayed."""
    return lambda nb: (
        tagged(nb, "result")[0].outputs[0].data.update({"text/plain": text})
    )


def recorded(**facts):
    """Change facts in the record of the stored run."""
    return lambda nb: nb.metadata.cv_course.update(facts)


def unfold(nb):
    del tagged(nb, "solution")[0].metadata["jupyter"]


def unfold_on_the_site(nb):
    tagged(nb, "solution")[0].metadata.tags.remove("hide-input")


def unfold_in_colab(nb):
    del tagged(nb, "solution")[0].metadata["cellView"]


def second_solution(nb):
    nb.cells.insert(-1, sample.solution("more = 1\nassert more"))


def unsolved(nb):
    nb.cells.remove(tagged(nb, "solution")[0])


def untag_last(nb):
    tagged(nb, "solution")[-1].metadata.tags.clear()


def without_exercise(nb):
    for cell in (tagged(nb, "exercise")[0], tagged(nb, "solution")[0]):
        nb.cells.remove(cell)


def assert_nothing(nb):
    for cell in nb.cells:
        if cell.cell_type == "code" and "solution" not in cell.metadata.tags:
            cell.source = cell.source.replace("assert ", "ok = ")


def miscount(nb):
    nb.cells[-2].execution_count += 1


def run_colab(nb):
    nb.cells.insert(
        1,
        sample.code(
            "import sys", "colab", outputs=[sample.output("stream", text="found")]
        ),
    )


def unnumber(nb):
    for cell in nb.cells:
        cell.source = cell.source.replace("## 1. ", "## ").replace("## 2. ", "## ")
        cell.source = cell.source.replace("## 3. ", "## ")


def forget(nb):
    del nb.metadata["cv_course"]


def forget_memory(nb):
    del nb.metadata["cv_course"]["peak_memory_mb"]


def change_kernel(nb):
    nb.metadata.kernelspec.name = "conda-env"


PROMISE = "Add numbers by hand, and know at the end why the order does not matter."
PNG = sample.output("display_data", data={"image/png": "iVBORw0KGgo="})
LARGE = sample.output("stream", text="x" * 1_000_000)
ERROR = sample.output("error", ename="ZeroDivisionError", evalue="division by zero")
# in pieces, like the secret, so that no scan takes it for a real one
PATH = "/ho" + "me/ada/data.csv"
SECRET = "ghp_" + "a1" * 18

BREAKS = {
    "check_title": [
        ("first line", replace("# 1.1 Adding", "## 1.1 Adding")),
        ("is 1.2, the path's 1.1", replace("# 1.1", "# 1.2")),
        ("file's name in words", replace("Adding:", "Addition:")),
    ],
    "check_promise": [
        ("a sentence under", replace(f"{PROMISE}\n", "")),
        ("not more", replace("hand, and know", "hand. Know. Then know")),
    ],
    "check_overview": [
        (f"'{words}'", replace(words, "x"))
        for words in ("You will", "You need", "Time")
    ],
    "check_sections": [
        ("[1, 3]", replace("## 2. ", "## ")),
        ("[2, 2, 3]", replace("## 1. ", "## 2. ")),
        ("here are []", unnumber),
    ],
    "check_closing": [
        (
            "`## References`",
            lambda nb: nb.cells.append(sample.text("## More\n\nGo on.")),
        )
    ],
    "check_summary": [("as bullets", replace("- One.\n- Two.\n- Three.", "Three."))],
    "check_references": [("author, title, year", replace(", 1889", ""))],
    "check_exercises": [
        ("here are [1, 3]", replace("2. **Zero.**", "3. **Zero.**")),
        ("tagged `solution` below", untag_last),
        ("tagged `solution` below", second_solution),
        ("must assert something", replace("assert total == 2", "total == 2", "code")),
        (
            "that can be false",
            replace("assert total == 2", "assert True", "code"),
        ),
        (
            "that can be false",
            replace("assert total == 2", "assert TERMS == 3", "code"),
        ),
    ],
    "check_folds": [
        ("fold", unfold),
        ("fold", unfold_on_the_site),
        ("fold", unfold_in_colab),
    ],
    "check_numbers": [
        (number, replace("And further.", text))
        for number, text in {
            "0.37": "It is 0.37 there.",
            "41 %": "It is 41 % there.",
            "9,184": "There are 9,184 of them.",
            "13": "There are 13 of them.",
            "\N{MINUS SIGN}3": "It is \N{MINUS SIGN}3.2 there.",
            "3.4": "The sum is 3.4 there.",
        }.items()
    ],
    "check_your_turn": [
        ("not started", lambda nb: tagged(nb, "exercise")[0].outputs.clear()),
        ("that it is right", lambda nb: tagged(nb, "solution")[0].outputs.clear()),
        ("(5 minutes,", replace("5 minutes", "6 minutes")),
        ("(5 minutes,", replace("\N{BLACK STAR})", "\N{BLACK STAR}\N{BLACK STAR})")),
        ("must follow it", unsolved),
        ("nbval-check-output", retag("solution", "solution", "hide-input")),
        ('check("key", my_name)', replace("my_sum)", "sum)", "code")),
        ("no entry 1.1.2", replace('"1.1.1", my_sum', '"1.1.2", my_sum', "code")),
        ("has ['1.1.1'] for this notebook", without_exercise),
    ],
    "check_style": [
        ("leave rcParams", add("course_style()\nplt.rcParams['font.size'] = 9")),
        ("leave dpi", add("course_style()\nplt.subplots(dpi=70)")),
        ("leave %config", add("course_style()\n%config InlineBackend.x = 1")),
        ("describe the figure", add("course_style()\nplt.show()", outputs=[PNG])),
    ],
    "check_links": [
        ("../gone.md", replace("../README.md", "../gone.md")),
        ("gone.png", replace("And further.", '![a drawing](images/gone.png "title")')),
        ("gone.svg", replace("And further.", '<img src="gone.svg">')),
    ],
    "check_tags": [("'hide'", add("step", "hide"))],
    "check_parameters": [
        ("not 0", retag("parameters")),
        ("not 2", add("MORE = 1  # of them", "parameters")),
        ("may only assign", parameters("import math")),
        ("may only assign", parameters("A = B = 1  # two")),
        ("STEPS must be a literal", parameters("STEPS = 2 * 3  # of each size")),
        ("UPPER_CASE", parameters("terms = 3  # numbers to add")),
        ("what the parameter means", parameters("TERMS = 3")),
        ("unit: MORE", parameters("TERMS = 3  # numbers to add\nMORE = 2")),
        ("overrides TERMS, which", parameters("STEPS = 3  # of each size")),
    ],
    "check_result": [
        ("not 0", retag("result")),
        ("not 2", add("1", "result")),
        ("shows nothing", lambda nb: tagged(nb, "result")[0].outputs.clear()),
        ("finite Python numbers", shows("{'total': nan}")),
        ("finite Python numbers", shows("{'total': 1e999}")),
        ("finite Python numbers", shows("{'total': np.float64(1.0)}")),
        ("finite Python numbers", shows("{'total': 'many'}")),
        ("finite Python numbers", shows("{}")),
        ("finite Python numbers", shows("[1]")),
        ("snake_case", shows("{'headline': 'none', 'Test accuracy': 0.9}")),
        ('give the result a "headline"', shows("{'total': 3.5}")),
        ("one line of text", shows("{'headline': 1, 'total': 3.5}")),
        ("one line of text", shows("{'headline': 'a\\nb', 'total': 3.5}")),
        ("typed, not computed: 3", replace('"terms": TERMS', '"terms": 3', "code")),
        ("writes: ['terms', 'words']", replace('"terms"', '"words"', "code")),
    ],
    "check_oracle": [("where it is built", assert_nothing)],
    "check_proofs": [
        (
            "add against math.fsum",
            replace("assert by_hand == summed", "ok = 1", "code"),
        ),
        ("add against math.fsum", replace("math.fsum([2, 3])", "2 + 3", "code")),
        ("add against math.fsum", replace("= add(2, 3)", "= math.fsum([5])", "code")),
    ],
    "check_banned": [
        ("torch.hub", add("model = torch.hub.load('a', 'b')")),
        (".to(device)", add("step.cuda()")),
        ("NBVAL", add("# NBVAL_SKIP\nstep")),
        ("not `*`", add("from math import *")),
    ],
    "check_magics": [
        ("`!ls`", add("!ls")),
        ("`names = !ls`", add("names = !ls")),
        ("`%pip install torch`", add("step\n%pip install torch")),
        ("`%%bash`", add("%%bash\ntrue")),
    ],
    "check_bare_except": [
        ("name the exception", add("try:\n    step\nexcept:\n    step = 0"))
    ],
    "check_semicolon": [("semicolon", add("step;\n"))],
    "check_show": [
        ("plt.show()", add("plt.imshow(step)", outputs=[PNG])),
        ("plt.show()", add("plt.show()\nstep", outputs=[PNG])),
        ("plt.show()", add("plt.show()\nplt.plot(step)\nx = 1", outputs=[PNG])),
        ("plt.show()", add("print(plt.show())", outputs=[PNG])),
    ],
    "check_paths": [
        ("ada", add(f"open({PATH!r})")),
        ("ada", prints(f"wrote {PATH}")),
        ("Users", replace("And further.", "It is in C:" + r"\Users\ada.")),
    ],
    "check_secrets": [
        ("revoke", add(f"key = {SECRET!r}")),
        ("revoke", prints(f"logged in as {SECRET}")),
    ],
    "check_executed": [("not run once each", miscount), ("Colab alone", run_colab)],
    "check_errors": [("ZeroDivisionError", add("1 / 0", outputs=[ERROR]))],
    "check_stderr": [("stderr", prints("a warning", name="stderr"))],
    "check_record": [
        ("do not say torch, device", forget),
        ("do not say peak_memory_mb of", forget_memory),
        ("changed since", recorded(source_hash="0" * 64)),
        ("not those of the stored run", recorded(outputs_hash="0" * 64)),
        (
            "not those of the stored run",
            shows("{'headline': '-', 'total': 3.4, 'terms': 3}"),
        ),
    ],
    "check_time": [
        ("not that of the stored run", recorded(seconds=301)),
        ("not that of the stored run", replace("1 second on", "2 seconds on")),
    ],
    "check_kernel": [("conda-env", change_kernel)],
}
AFTER_THE_RUN = {"check_executed", "check_record", "check_time"}
ALSO = {"check_oracle": ["check_proofs", "check_oracle"]}  # one fault, two complaints
CASES = [
    (name, words, break_it)
    for name, breaks in BREAKS.items()
    for words, break_it in breaks
]


@pytest.fixture(autouse=True)
def entry_of_the_sample(monkeypatch):
    """Let the sample's exercise be the only one there is."""
    one = Exercise(5, 1, list, operator.add, "operator.add", {}, ())
    monkeypatch.setattr(checks, "entries", lambda: {"1.1.1": one})


@pytest.mark.parametrize(
    ("name", "words", "break_it"), CASES, ids=[f"{n}-{words}" for n, words, _ in CASES]
)
def test_exactly_this_check_complains(tmp_path, name, words, break_it):
    nb = sample.notebook()
    break_it(nb)
    if name not in AFTER_THE_RUN:
        sample.as_if_run(nb)  # the defect was there when it was run
    found = complaints(sample.course(tmp_path, nb))
    assert list(found) == ALSO.get(name, [name])
    assert words in found[name]


def test_every_check_is_broken_at_least_once():
    assert {check.__name__ for check in CHECKS} == BREAKS.keys()


def test_nothing_is_wrong_with_the_sample(tmp_path):
    assert complaints(sample.course(tmp_path)) == {}


def test_stamps_change_no_verdict(tmp_path):
    path = sample.course(tmp_path)
    nb = load(path)
    stamp(nb, path.relative_to(tmp_path), "octocat/hello")
    save(nb, path)
    assert complaints(path) == {}


@pytest.mark.parametrize(
    "allow_it",
    [
        add("%config InlineBackend.figure_formats = ['jpeg']"),
        # lengths and sizes are reported, not failed
        add("step = 1\n" * 400, outputs=[LARGE]),
        replace("- One.", "- 1.\n" * 9),
        replace(
            "| 1 second on 2 cores of a CPU with bfloat16 |",
            "| 1 second on 2 cores of a CPU with bfloat16, 9 MB, once |",
        ),
        replace("hand, and know", "hand. Know"),
        add("1 / 0", "raises-exception", outputs=[ERROR]),
        add(
            "for step in (1, 2):\n    plt.plot(step)\n    plt.show()",
            outputs=[PNG, PNG],
        ),
        add("display(\n    step,\n)", outputs=[PNG]),
        add("step = (\n    7\n    % 4\n    != 3\n)"),
        replace(
            "And further.",
            "$$T:\\mathbb R^2\\to [0](x)$$ and https://example.org/home/x",
        ),
        replace(
            "And further.",
            "[here](#1.-Step-1), [there](../README.md#course), `[code](x)`",
        ),
        replace("# 1.1 Adding: what `+` does", "# 1.1 AD-DING"),
        parameters("# numbers to add\nTERMS = 3"),
        parameters(
            "TERMS = (-3, 'a')  # numbers to add\n# a remark\nMORE = {'a': [1]}  # by "
            "name"
        ),
    ],
)
def test_what_is_allowed_raises_no_complaint(tmp_path, allow_it):
    nb = sample.notebook()
    allow_it(nb)
    assert complaints(sample.course(tmp_path, sample.as_if_run(nb))) == {}
