"""The tiny run: overrides arrive, and mistakes in them are named."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sample

from utils.course.notebooks import (
    course_notebooks,
    key_of,
    load,
    parameters_of,
    read_toml,
    save,
    tagged,
)
from utils.fetch.catalog import entry_of

ROOT = Path(__file__).parent.parent
FACTS = """import os

names = ["CV_DATA", "CV_MIRROR", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "TQDM_DISABLE"]
print(TERMS, *[os.path.basename(os.environ.get(name, "unset")) for name in names])"""


def pytest_in(root, *options):
    """Run the notebooks below `root`; return the exit code, and what was printed."""
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--color=no",
        "--nbval-lax",
    ]
    done = subprocess.run(
        [*command, "--nbval-current-env", *options, "01-ANN"],
        cwd=root,
        env={
            **os.environ,
            "CV_MIRROR": "mirror",
            "CV_DATA": "mine",
            "OMP_NUM_THREADS": "7",
        },
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def facts_course(root, said):
    """A notebook that prints its parameter and environment, and has printed `said`."""
    nb = sample.notebook()
    stored = sample.output("stream", name="stdout", text=f"{said}\n")
    nb.cells.insert(3, sample.code(FACTS, "nbval-check-output", outputs=[stored]))
    sample.course(root, sample.as_if_run(nb))


def test_the_tiny_run_overrides_parameters_data_and_threads(tmp_path):
    facts_course(tmp_path, "2 data unset 1 1 1")
    code, printed = pytest_in(tmp_path)
    assert code == 0, printed
    assert "16 passed" in printed


def test_the_full_run_changes_neither_parameters_nor_data(tmp_path, monkeypatch):
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    facts_course(tmp_path, "3 mine mirror 7 unset 1")
    code, printed = pytest_in(tmp_path, "--full")
    assert code == 0, printed


def test_cells_below_an_error_are_skipped_and_those_below_a_difference_run(tmp_path):
    nb = sample.notebook()
    answer = sample.output("stream", name="stdout", text="4\n")
    nb.cells.insert(
        3, sample.code("print(TERMS)", "nbval-check-output", outputs=[answer])
    )
    nb.cells.insert(-7, sample.code("1 / 0"))
    sample.course(tmp_path, sample.as_if_run(nb))
    code, printed = pytest_in(tmp_path)
    assert code == 1
    assert "2 failed, 11 passed, 4 skipped" in printed
    assert "ZeroDivisionError" in printed


def test_mistakes_in_the_overrides_stop_the_run(tmp_path):
    folder = sample.course(tmp_path).parent
    nb = sample.notebook()
    save(nb, folder / "02_untabled.ipynb")
    tagged(nb, "parameters")[0].metadata.tags = []
    save(nb, folder / "03_unmarked.ipynb")
    tables = '["01-ANN/01_adding"]\nTERM = 2\n["01-ANN/03_unmarked"]\n'
    (tmp_path / "tests/tiny.toml").write_text(tables, encoding="utf-8")
    code, printed = pytest_in(tmp_path)
    assert code == pytest.ExitCode.INTERRUPTED
    for sentence in (
        "01-ANN/01_adding: tests/tiny.toml overrides TERM, which its parameters cell "
        "does not declare",
        '01-ANN/02_untabled: add a table ["01-ANN/02_untabled"] to tests/tiny.toml',
        "01-ANN/03_unmarked: exactly one code cell must be tagged `parameters`, not 0",
    ):
        assert sentence in printed
    assert "3 errors" in printed and "Traceback" not in printed


def test_a_table_for_no_notebook_stops_the_run(tmp_path):
    sample.course(tmp_path)
    with (tmp_path / "tests/tiny.toml").open("a") as file:
        file.write('["01-ANN/02_gone"]\n')
    code, printed = pytest_in(tmp_path)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert (
        printed == "ERROR: tests/tiny.toml has a table for 01-ANN/02_gone, which is no "
        "notebook\n\n"
    )


def test_no_tiny_run_would_download_a_set():
    """What a notebook calls its DATA is drawn, or in tests/data."""
    tiny, checked = read_toml(ROOT / "tests/tiny.toml"), []
    for path in course_notebooks(ROOT):
        declared = parameters_of(load(path))
        name = tiny[key_of(path)].get("DATA", declared.get("DATA"))
        if name is not None:
            entry = entry_of(name)
            folders = [layout.folder for layout in entry.layouts]
            assert any((ROOT / "tests/data" / f).exists() for f in folders or ["."])
            checked.append(path.name)
    assert "09_cats_vs_dogs.ipynb" in checked
