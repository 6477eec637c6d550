"""`python -m utils.notebooks`: what it stores, what it shows, and what it says when a cell fails."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import sample

from utils.ipynb import code_cells, load, result_of, save, source_hash, tagged
from utils.notebooks import main, matching

WHERE = f"""import os
import sys

assert sys.executable == {sys.executable!r}
assert os.path.basename(os.getcwd()) == "01-ANN"
assert os.environ["TQDM_DISABLE"] == "1"
print("epoch 1", flush=True)
sys.stdout.write("epoch ")
sys.stdout.flush()
print(2)"""
RESULT = "{'accuracy': STEPS / 4}"


def small(*sources, result=RESULT):
    """A notebook of one cell for each of `sources`, between the parameters and the result."""
    nb = sample.new_notebook()
    nb.cells = [
        sample.text("# 1.1 Small\n\nIt runs. See [the next](02_next.ipynb#end) and [all](../README.md)."),
        sample.code("STEPS = 3  # of four", "parameters"),
        sample.text("## 1. One step"),
        *[sample.code(source) for source in sources],
        sample.code(result, "result"),
    ]
    return nb


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A folder for a course, which is the current one."""
    (tmp_path / "01-ANN").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def failure(*arguments):
    """What the command says as it exits with 1."""
    with pytest.raises(SystemExit) as exit_info:
        main(list(arguments))
    assert isinstance(exit_info.value.code, str)  # which Python prints to stderr, and exits with 1
    return exit_info.value.code


@pytest.fixture
def strange_kernels(tmp_path, monkeypatch):
    """A `python3` kernel that is no Python, and no `jupyter` command."""
    folder = tmp_path / "jupyter/kernels/python3"
    folder.mkdir(parents=True)
    spec = {"argv": ["false", "{connection_file}"], "display_name": "strange", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("PATH", os.defpath)


def commit(root):
    """Make a commit in `root`; return its short hash."""
    git = ["git", "-C", str(root), "-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message=Start"], check=True)
    done = subprocess.run([*git, "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_execute_stores_a_run_and_leaves_a_notebook_that_fails(course, strange_kernels, capsys):
    good, bad = course / "01-ANN/01_small.ipynb", course / "01-ANN/02_bad.ipynb"
    nb = small(WHERE, "  ")
    nb.cells.insert(1, sample.code("raise SystemError", "colab"))
    nb.cells[2].metadata.execution = {"iopub.status.busy": "2024-01-01T00:00:00Z"}
    nb.metadata.kernelspec = {"name": "mine", "display_name": "Mine"}
    nb.metadata.language_info = {"name": "python", "version": "3.99"}
    ids = [cell.id for cell in nb.cells]
    save(nb, good)
    save(small("x = 1\nx / 0"), bad)
    before, head = bad.read_bytes(), commit(course)

    said = failure("execute", "01-ANN")
    assert "02_bad.ipynb: cell 2 of 3, 1. One step, failed:\n\nx = 1\nx / 0\n\n" in said
    assert "ZeroDivisionError: division by zero" in said
    assert "\x1b" not in said
    assert said.endswith("1 of 2 notebooks failed; their stored outputs are as before")
    assert bad.read_bytes() == before
    done = r"01-ANN/01_small.ipynb: [0-9.]+ s\n01-ANN/02_bad.ipynb: failed\n"
    assert re.fullmatch(done, capsys.readouterr().out)

    nb = load(good)
    assert [cell.id for cell in nb.cells] == ids
    assert [cell.execution_count for cell in code_cells(nb)] == [1, 2, 3]
    assert tagged(nb, "colab")[0].execution_count is None
    assert [output.text for output in code_cells(nb)[1].outputs] == ["epoch 1\nepoch 2\n"]
    assert result_of(nb) == {"accuracy": 0.75}
    assert not any("execution" in cell.metadata for cell in nb.cells)
    assert nb.metadata.kernelspec.name == "python3"
    assert "version" not in nb.metadata.language_info
    record = nb.metadata.cv_course
    assert record.keys() == sample.notebook().metadata.cv_course.keys()
    assert record["source_hash"] == source_hash(nb)
    assert record["commit"] == head
    assert record["processor"] and record["torch"] and record["threads"] >= 1
    assert 0 < record["seconds"] < 120


def test_run_shows_progress_and_result_and_changes_nothing(course, capsys):
    path = course / "01-ANN/01_small.ipynb"
    save(small(WHERE), path)
    before = path.read_bytes()
    main(["run", "01-ANN/01_small.ipynb"])
    assert path.read_bytes() == before
    *cells, page, result, seconds = capsys.readouterr().out.splitlines()
    assert [line.rpartition("  ")[2] for line in cells] == [
        "cell 1 of 3, 1.1 Small",
        "cell 2 of 3, 1. One step",
        "epoch 1",
        "epoch 2",
        "cell 3 of 3, 1. One step",
    ]
    assert page == "page: build/01_small.html"
    assert result == "result: {'accuracy': 0.75}"
    assert float(seconds.removeprefix("seconds: ")) > 0
    html = (course / "build/01_small.html").read_text()
    assert 'href="../01-ANN/02_next.ipynb#end"' in html
    assert 'href="../README.md"' in html


def test_run_writes_the_page_of_a_run_that_fails(course, capsys):
    save(
        small("print('so far')", "raise ValueError('here')", "print('never')"),
        course / "01-ANN/01_small.ipynb",
    )
    said = failure("run", "01-ANN/01_small.ipynb")
    assert "cell 3 of 5, 1. One step, failed" in said
    assert said.endswith("ValueError: here")
    printed = capsys.readouterr().out
    assert "so far" in printed and "never" not in printed and "result:" not in printed
    html = (course / "build/01_small.html").read_text()
    assert "so far\n" in html and "ValueError" in html


def test_a_kernel_that_ends_is_named(course):
    path = course / "01-ANN/01_small.ipynb"
    save(small("import os\nos._exit(3)"), path)
    before = path.read_bytes()
    assert "the kernel ended in cell 2 of 3, 1. One step" in failure("execute", "01-ANN/01_small.ipynb")
    assert path.read_bytes() == before


def test_an_interrupt_stops_the_run_and_what_was_to_follow(course):
    first, second = course / "01-ANN/01_small.ipynb", course / "01-ANN/02_next.ipynb"
    save(small("import time", "from pathlib import Path\nPath('started').touch()\ntime.sleep(60)"), first)
    save(small("1"), second)
    before = first.read_bytes(), second.read_bytes()
    command = [sys.executable, "-m", "utils.notebooks", "execute", "01-ANN"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not (course / "01-ANN/started").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert printed == "01-ANN/01_small.ipynb: "
    assert said.endswith("stopped\n") and "DeadKernelError" not in said
    assert (first.read_bytes(), second.read_bytes()) == before


def test_site_links_its_pages_and_folds_solutions(course):
    (course / "01-ANN/images").mkdir()
    (course / "01-ANN/images/pixel.png").write_bytes(b"pixel")
    first, second = sample.notebook(), small("1")
    first.cells[5].source = "[next](02_next.ipynb#end) [web](https://example.org/a.ipynb) [up](#top)"
    first.cells[7].source = "![one pixel](images/pixel.png)"
    second.cells[0].source = "# 1.2 Next & last\n\nIt is after [the first](../01-ANN/01_adding.ipynb)."
    sample.course(course, first)
    save(second, course / "01-ANN/02_next.ipynb")
    main(["site"])
    page = (course / "build/site/01-ANN/01_adding.html").read_text()
    for link in ("02_next.html#end", "https://example.org/a.ipynb", "#top", "../../../README.md"):
        assert f'href="{link}"' in page
    assert page.count(">Solution</summary>") == page.count("<details><summary") == 2
    assert 'src="data:image/png;base64,cGl4ZWw="' in page
    assert 'href="01_adding.html"' in (course / "build/site/01-ANN/02_next.html").read_text()
    index = (course / "build/site/index.html").read_text()
    assert '<a href="01-ANN/01_adding.html">1.1 Adding: what `+` does</a>' in index
    assert '<a href="01-ANN/02_next.html">1.2 Next &amp; last</a>' in index


def test_what_matches_no_notebook_lists_those_there_are(course):
    sample.course(course)
    (course / "01-ANN/notes.md").touch()
    for pattern in ("02-*/*.ipynb", "01-ANN/notes.md", "tests"):
        assert failure("execute", pattern) == (
            f"error: no notebook matches {pattern}. There are:\n  01-ANN/01_adding.ipynb"
        )


def test_without_a_notebook_there_is_no_site(course):
    assert "no notebooks under" in failure("site")
    assert not (course / "build").exists()


def test_patterns_and_folders_name_each_notebook_once(course):
    sample.course(course)
    save(small(), course / "01-ANN/02_next.ipynb")
    found = matching(["01-*/02*", "01-ANN", "01-ANN/01_adding.ipynb"])
    assert [path.name for path in found] == ["02_next.ipynb", "01_adding.ipynb"]


def test_badges_takes_a_name_or_removes(course, capsys):
    sample.course(course)
    main(["badges", "octocat/hello"])
    main(["badges", "--remove"])
    assert capsys.readouterr().out == "1 notebooks changed\n" * 2
    assert "expected owner/name" in failure("badges", "octocat")
    with pytest.raises(SystemExit, match="2"):
        main(["badges"])
