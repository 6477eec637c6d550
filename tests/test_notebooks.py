"""Every notebook keeps the rules. Nothing runs here; `test_checks.py` shows that each rule bites."""

from pathlib import Path

import checks_code
import checks_stored
import checks_text
import pytest

from utils import results
from utils.ipynb import course_notebooks, key_of, load, number_of, parameters_of, read_toml

ROOT = Path(__file__).parent.parent
NOTEBOOKS = course_notebooks(ROOT)
CHECKS = [
    check
    for module in (checks_text, checks_code, checks_stored)
    for name, check in vars(module).items()
    if name.startswith("check_")
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=key_of)
def test_notebook(path, check):
    problems = check(load(path), path)
    assert not problems, "\n".join([key_of(path), *problems])


def test_no_two_notebooks_have_one_number():
    numbers = [number_of(path) for path in NOTEBOOKS]
    assert sorted(set(numbers)) == sorted(numbers)


@pytest.mark.parametrize("table", ["tiny.toml", "expected.toml"])
def test_each_notebook_has_a_table(table):
    tables = read_toml(ROOT / "tests" / table)
    assert sorted(tables) == sorted(map(key_of, NOTEBOOKS)), f"tests/{table}: one table for each notebook"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=key_of)
def test_the_tiny_run_overrides_what_is_declared(path):
    tiny = read_toml(ROOT / "tests/tiny.toml").get(key_of(path), {})
    assert tiny.keys() <= parameters_of(load(path)).keys()


def test_published_results_are_those_of_the_stored_runs():
    assert results.stale(ROOT) == []
