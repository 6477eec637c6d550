"""What is read out of a notebook, and how its file is written."""

import subprocess
import sys

import pytest
import sample

from utils.ipynb import (
    NotebookError,
    code_cells,
    course_notebooks,
    key_of,
    load,
    number_of,
    parameters_of,
    promise_of,
    result_of,
    save,
    source_hash,
    title_of,
)


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_notebooks_come_in_the_order_of_the_curriculum(tmp_path):
    names = ["02-B/02_b.ipynb", "02-B/10_c.ipynb", "03-C/01_a.ipynb", "10-A/01_a.ipynb"]
    touch(tmp_path, *reversed(names), "02-B/notes.md", "02-B/.ipynb_checkpoints/02_b.ipynb", "build/x.ipynb")
    found = course_notebooks(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == names
    assert [number_of(path) for path in found] == ["2.2", "2.10", "3.1", "10.1"]
    assert key_of(found[1]) == "02-B/10_c"


@pytest.mark.parametrize(
    "name", ["Untitled.ipynb", "1_a.ipynb", "01-a.ipynb", "01_a-Copy1.ipynb", "01_a b.ipynb"]
)
def test_a_notebook_without_a_number_is_named(tmp_path, name):
    touch(tmp_path, "02-B/01_a.ipynb", f"02-B/{name}")
    with pytest.raises(NotebookError, match=f"{name} must be named like"):
        course_notebooks(tmp_path)


def test_what_the_sample_says(tmp_path):
    nb = load(sample.course(tmp_path))
    assert title_of(nb) == "1.1 Adding: what `+` does"
    assert promise_of(nb) == "Add numbers by hand, and know at the end why the order does not matter."
    assert parameters_of(nb) == {"TERMS": 3, "STEPS": [-1]}
    assert result_of(nb) == {"total": 3.5, "terms": 3}


@pytest.mark.parametrize(
    ("above", "promise"),
    [
        (["# 1.1 A\n\nTwo\nlines."], "Two lines."),
        (["# 1.1 A", "In the next cell.", "More."], "In the next cell."),
        (["# 1.1 A"], ""),
        (["# 1.1 A\n\n| a | table |\n|---|---|"], ""),
        (["# 1.1 A\n\n## 1. A section"], ""),
    ],
)
def test_the_sentence_under_the_title(above, promise):
    cells = [sample.text(source) for source in above]
    cells[1:1] = [sample.text("[![badge](b.svg)](there)")]
    cells[1].metadata.tags = ["badges"]
    nb = sample.new_notebook(cells=[*cells, sample.code("1"), sample.text("Below the code.")])
    assert promise_of(nb) == promise


def test_the_hash_is_of_the_code_that_runs():
    nb, before = sample.notebook(), source_hash(sample.notebook())
    nb.cells[0].source += " and more"
    nb.cells[1].outputs = [sample.output("stream", text="printed")]
    nb.cells[1:1] = [sample.code("import sys", "colab"), sample.code("  \n")]
    assert source_hash(nb) == before
    assert len(code_cells(nb)) == 12
    nb.cells[3].source += "  # why"
    assert source_hash(nb) != before


def test_two_cells_are_not_one():
    split, joined = sample.new_notebook(), sample.new_notebook()
    split.cells, joined.cells = [sample.code("a"), sample.code("b")], [sample.code("ab")]
    assert source_hash(split) != source_hash(joined)


def test_no_notebook_and_no_json(tmp_path):
    with pytest.raises(NotebookError, match="there is no notebook"):
        load(tmp_path / "01_a.ipynb")
    (tmp_path / "01_a.ipynb").write_text("# Title")
    with pytest.raises(NotebookError, match="is not JSON"):
        load(tmp_path / "01_a.ipynb")


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = sample.course(tmp_path)
    before = path.read_bytes()

    def write_half(nb, path):
        path.write_text('{"cells": [')
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nbformat.write", write_half)
    with pytest.raises(OSError, match="No space left"):
        save(sample.notebook(), path)
    assert path.read_bytes() == before
    assert [found.name for found in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("tool", "missing"), [("notebooks", "nbclient"), ("notebooks", "nbconvert"), ("results", "nbformat")]
)
def test_without_the_dev_extra_it_says_what_to_install(tool, missing):
    hidden = f"import sys; sys.modules['{missing}'] = None; import utils.{tool}"
    done = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        f"error: {missing} is missing, which is in the extra `dev`: pip install -e '.[dev]'\n"
    )
