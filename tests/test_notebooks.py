"""Every notebook keeps the rules; `test_checks.py` shows that each rule bites."""

from pathlib import Path

import pytest
from checks import complaints

from utils.course import results
from utils.course.notebooks import (
    course_notebooks,
    key_of,
    load,
    number_of,
    read_toml,
    result_of,
)

ROOT = Path(__file__).parent.parent
NOTEBOOKS = course_notebooks(ROOT)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=key_of)
def test_notebook(path):
    problems = complaints(path)
    assert not problems, "\n".join([key_of(path), *problems.values()])


def test_no_two_notebooks_have_one_number():
    numbers = [number_of(path) for path in NOTEBOOKS]
    assert sorted(set(numbers)) == sorted(numbers)


@pytest.mark.parametrize("table", ["tiny.toml", "expected.toml", "proofs.toml"])
def test_each_notebook_has_a_table(table):
    tables = read_toml(ROOT / "tests" / table)
    assert sorted(tables) == sorted(map(key_of, NOTEBOOKS)), (
        f"tests/{table}: one table for each notebook"
    )


def test_published_results_are_those_of_the_stored_runs():
    assert results.stale(ROOT) == []


def test_the_table_of_7_8_holds_the_stored_results_of_7_2_and_7_6():
    folder = ROOT / "07-Segmentation"
    cells = load(folder / "08_semantic_segmentation.ipynb").cells
    (cell,) = (cell for cell in cells if "EARLIER = {" in cell.source)
    shown = cell.outputs[-1]["data"]["text/plain"]
    for name in ("02_unet", "06_deeplabv3"):
        stored = result_of(load(folder / f"{name}.ipynb"))
        rows = [value for key, value in stored.items() if key.startswith("test_miou_")]
        for value in rows:
            assert f"{value:.3f}" in shown, f"{name} was executed after 7.8"
