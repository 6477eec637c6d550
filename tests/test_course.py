"""`utils.course`: what it reads out of notebooks, runs, measures and publishes."""

import ast
import base64
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import sample
import torch
from PIL import Image

from utils.course import datasheet, execution
from utils.course.__main__ import main, matching
from utils.course.badges import stamp_all
from utils.course.execution import cost_here, training_speed, write_time
from utils.course.notebooks import (
    NotebookError,
    code_cells,
    course_cells,
    course_notebooks,
    key_of,
    load,
    number_of,
    parameters_of,
    promise_of,
    result_of,
    save,
    source_hash,
    tagged,
    title_of,
)
from utils.course.report import AIMS, distance, measure
from utils.course.results import judged, published, stale, with_table
from utils.fetch.catalog import read_catalog
from utils.runtime import has_fast_bfloat16, pick_device

ROOT = Path(__file__).parents[1]
KEY = "01-ANN/01_adding"


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_notebooks_come_in_the_order_of_the_curriculum(tmp_path):
    names = ["02-B/02_b.ipynb", "02-B/10_c.ipynb", "03-C/01_a.ipynb", "10-A/01_a.ipynb"]
    touch(
        tmp_path,
        *reversed(names),
        "02-B/notes.md",
        "02-B/.ipynb_checkpoints/02_b.ipynb",
        "build/x.ipynb",
    )
    found = course_notebooks(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == names
    assert [number_of(path) for path in found] == ["2.2", "2.10", "3.1", "10.1"]
    assert key_of(found[1]) == "02-B/10_c"


@pytest.mark.parametrize(
    "name",
    ["Untitled.ipynb", "1_a.ipynb", "01-a.ipynb", "01_a-Copy1.ipynb", "01_a b.ipynb"],
)
def test_a_notebook_without_a_number_is_named(tmp_path, name):
    touch(tmp_path, "02-B/01_a.ipynb", f"02-B/{name}")
    with pytest.raises(NotebookError, match=f"{name} must be named like"):
        course_notebooks(tmp_path)


def test_what_the_sample_says(tmp_path):
    nb = load(sample.course(tmp_path))
    assert title_of(nb) == "1.1 Adding: what `+` does"
    assert (
        promise_of(nb)
        == "Add numbers by hand, and know at the end why the order does not matter."
    )
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
    nb = sample.new_notebook(
        cells=[*cells, sample.code("1"), sample.text("Below the code.")]
    )
    assert promise_of(nb) == promise


def test_the_hash_is_of_the_code_that_runs():
    nb, before = sample.notebook(), source_hash(sample.notebook())
    nb.cells[0].source += " and more"
    nb.cells[1].outputs = [sample.output("stream", text="printed")]
    nb.cells[1:1] = [sample.code("import sys", "colab"), sample.code("  \n")]
    assert source_hash(nb) == before
    assert len(code_cells(nb)) == 15
    nb.cells[3].source += "  # why"
    assert source_hash(nb) != before


def test_two_cells_are_not_one():
    split, joined = sample.new_notebook(), sample.new_notebook()
    split.cells, joined.cells = (
        [sample.code("a"), sample.code("b")],
        [sample.code("ab")],
    )
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


def test_without_the_dev_extra_it_says_what_to_install():
    hidden = "import sys; sys.modules['nbformat'] = None; import utils.course.__main__"
    done = subprocess.run(
        [sys.executable, "-c", hidden], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 1
    assert done.stderr == (
        "error: nbformat is missing, which is in the extra `dev`: pip install -e "
        "'.[dev]'\n"
    )


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
    """A notebook of one cell for each source, between the parameters and the result."""
    nb = sample.new_notebook()
    nb.cells = [
        sample.text(
            "# 1.1 Small\n\nIt runs. See [the next](02_next.ipynb#end) and "
            "[all](../README.md).\n\n| You will | You need | Time |\n|---|---|---|\n"
            "| run | | for ever, 9 MB |\n| see | | |"
        ),
        sample.code("STEPS = 3  # of four", "parameters"),
        sample.text("## 1. One step"),
        *[sample.code(source) for source in sources],
        sample.code(result, "result"),
    ]
    return nb


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder for a course, which is the current one."""
    (tmp_path / "01-ANN").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def failure(*arguments):
    """What the command says as it exits with 1."""
    with pytest.raises(SystemExit) as exit_info:
        main(list(arguments))
    # which Python prints to stderr, and exits with 1
    assert isinstance(exit_info.value.code, str)
    return exit_info.value.code


@pytest.fixture
def strange_kernels(tmp_path, monkeypatch):
    """A `python3` kernel that is no Python, and no `jupyter` command."""
    kernel = tmp_path / "jupyter/kernels/python3"
    kernel.mkdir(parents=True)
    spec = {
        "argv": ["false", "{connection_file}"],
        "display_name": "strange",
        "language": "python",
    }
    (kernel / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("PATH", os.defpath)


def commit(root):
    """Make a commit in `root`; return its short hash."""
    git = [
        "git",
        "-C",
        str(root),
        "-c",
        "user.name=A",
        "-c",
        "user.email=a@example.org",
    ]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run(
        [*git, "commit", "--quiet", "--allow-empty", "--message=Start"], check=True
    )
    done = subprocess.run(
        [*git, "rev-parse", "--short", "HEAD"],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def test_execute_stores_a_run_and_leaves_a_notebook_that_fails(
    folder, strange_kernels, capsys
):
    good, bad = folder / "01-ANN/01_small.ipynb", folder / "01-ANN/02_bad.ipynb"
    nb = small(WHERE, "  ", "ballast = bytearray(300_000_000)\ndel ballast")
    nb.cells.insert(1, sample.code("raise SystemError", "colab"))
    nb.cells[2].metadata.execution = {"iopub.status.busy": "2024-01-01T00:00:00Z"}
    nb.metadata.kernelspec = {"name": "mine", "display_name": "Mine"}
    nb.metadata.language_info = {"name": "python", "version": "3.99"}
    ids = [cell.id for cell in nb.cells]
    save(nb, good)
    save(small("x = 1\nx / 0"), bad)
    before, head = bad.read_bytes(), commit(folder)

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
    assert [cell.execution_count for cell in code_cells(nb)] == [1, 2, 3, 4]
    assert tagged(nb, "colab")[0].execution_count is None
    assert [output.text for output in code_cells(nb)[1].outputs] == [
        "epoch 1\nepoch 2\n"
    ]
    assert result_of(nb) == {"accuracy": 0.75}
    assert not any("execution" in cell.metadata for cell in nb.cells)
    assert nb.metadata.kernelspec.name == "python3"
    assert "version" not in nb.metadata.language_info
    record = nb.metadata.cv_course
    assert record.keys() == sample.notebook().metadata.cv_course.keys()
    assert record["source_hash"] == source_hash(nb)
    assert record["commit"] == head
    assert record["processor"] and record["torch"] and record["threads"] >= 1
    assert record["seconds"] > 0
    # that of the kernel at its peak, and not that of this process
    if sys.platform == "linux":
        assert 300 < record["peak_memory_mb"] < 700
    assert record["fast_bfloat16"] is has_fast_bfloat16(pick_device())
    took = (
        rf"\| run \| \| {record['seconds']:.0f} seconds? on \d+ cores? of a CPU "
        r"with\w* bfloat16, 9 MB \|"
    )
    assert re.search(took, nb.cells[0].source)


@pytest.mark.parametrize(
    ("seconds", "threads", "device", "said"),
    [
        (1.4, 2, "cpu", "1 second on 2 cores of a CPU with bfloat16"),
        (99.4, 1, "cpu", "99 seconds on 1 core of a CPU without bfloat16"),
        (99.6, 2, "cpu", "1.7 minutes on 2 cores of a CPU with bfloat16"),
        (281.3, 16, "cuda:0", "4.7 minutes on a GPU"),
    ],
)
def test_the_time_of_a_run_goes_into_the_table(seconds, threads, device, said):
    nb = sample.notebook()
    head = "| You will | You need | Time |\n|---|---|---|\n"
    rows = "| add $\\|x\\|$ | [a](b) | {} |\n| see | 9, 10 | |\n\n| x |\n|---|\n| 1 s |"
    record = {"seconds": seconds, "threads": threads, "device": device}
    record["fast_bfloat16"] = threads > 1
    for before, after in (
        ("soon", said),
        ("soon, 9 MB, once", f"{said}, 9 MB, once"),
        (" ", said),
    ):
        nb.cells[0].source = head + rows.format(before)
        for _ in range(2):  # twice is once
            write_time(nb, record)
            assert nb.cells[0].source == head + rows.format(after)
    nb.cells[0].source = "| You will | Time |\n|---|---|\n| add | soon |"
    write_time(nb, record)
    assert nb.cells[0].source.endswith("| add | soon |")


@pytest.mark.parametrize(
    ("speed", "said"),
    [
        (1841.0, "about 11 seconds on this machine, which trains 1,841 images"),
        (460.25, "about 44 seconds on this machine, which trains 460 images"),
        (92.05, "about 3.7 minutes on this machine"),
    ],
)
def test_what_a_run_costs_here_goes_by_the_speed_of_training(speed, said):
    record = {"seconds": 22.0, "images_per_second": 920.5}
    words = cost_here(record, speed)
    assert words.startswith(said)
    assert words.endswith("the stored run took 22 seconds at 920")


def test_the_speed_of_training_is_measured_and_changes_no_random_number(monkeypatch):
    ticks = itertools.count()
    clock = types.SimpleNamespace(perf_counter=lambda: next(ticks) / 4)
    monkeypatch.setattr(execution, "time", clock)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    # 128 images a step; after n steps n + 1 quarters of a second have passed
    assert training_speed(1.0) == round(128 * 3 / 1.0, 1)
    assert training_speed(2.0) == round(128 * 7 / 2.0, 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_run_begins_with_what_it_will_cost(folder, capsys):
    path = folder / "01-ANN/01_small.ipynb"
    nb = small("1")
    nb.metadata["cv_course"] = {"seconds": 60, "images_per_second": 1e-3}
    save(nb, path)
    main(["run", "01-ANN/01_small.ipynb"])
    first = capsys.readouterr().out.splitlines()[0]
    assert re.fullmatch(
        "about [0-9.]+ .* on this machine, .* took 60 seconds .*", first
    )


def test_run_shows_progress_and_judges_the_result_and_changes_nothing(folder, capsys):
    path = folder / "01-ANN/01_small.ipynb"
    save(small(WHERE, result=RESULT.replace("}", ", 'fit_seconds': 12.5}")), path)
    (folder / "tests").mkdir()
    expect(folder, "accuracy = [0.8, 0.9]", name="01-ANN/01_small")
    before = path.read_bytes()
    main(["run", "01-ANN/01_small.ipynb"])
    assert path.read_bytes() == before
    printed = capsys.readouterr().out
    cells, result = printed.split("page: build/01_small.html\n")
    assert [line.rpartition("  ")[2] for line in cells.splitlines()] == [
        "cell 1 of 3, 1.1 Small",
        "cell 2 of 3, 1. One step",
        "epoch 1",
        "epoch 2",
        "cell 3 of 3, 1. One step",
    ]
    *_, accuracy, took, _, seconds = result.splitlines()
    assert accuracy.split() == ["accuracy", "0.75", "0.8", "to", "0.9", "OUTSIDE"]
    assert took.split() == ["fit_seconds", "12.5", "\N{EN DASH}"]
    assert float(seconds.removeprefix("seconds: ")) > 0
    html = (folder / "build/01_small.html").read_text()
    assert 'href="../01-ANN/02_next.ipynb#end"' in html
    assert 'href="../README.md"' in html


def test_run_writes_the_page_of_a_run_whose_kernel_ended(folder, capsys):
    ends = "import os\nos._exit(3)"
    path = folder / "01-ANN/01_small.ipynb"
    save(small("print('so far')", ends, "print('never')"), path)
    said = failure("run", "01-ANN/01_small.ipynb")
    assert "the kernel ended in cell 3 of 5, 1. One step" in said
    printed = capsys.readouterr().out
    assert "so far" in printed and "never" not in printed and "0.75" not in printed
    assert "so far\n" in (folder / "build/01_small.html").read_text()


def test_an_interrupt_stops_the_run_and_what_was_to_follow(folder):
    first, second = folder / "01-ANN/01_small.ipynb", folder / "01-ANN/02_next.ipynb"
    save(
        small(
            "import time",
            "from pathlib import Path\nPath('started').touch()\ntime.sleep(60)",
        ),
        first,
    )
    save(small("1"), second)
    before = first.read_bytes(), second.read_bytes()
    command = [sys.executable, "-m", "utils.course", "execute", "01-ANN"]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        deadline = time.monotonic() + 60
        while not (folder / "01-ANN/started").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert printed == "01-ANN/01_small.ipynb: "
    assert said.endswith("stopped\n") and "DeadKernelError" not in said
    assert (first.read_bytes(), second.read_bytes()) == before


def test_site_links_its_pages_and_folds_solutions(folder):
    (folder / "01-ANN/images").mkdir()
    (folder / "01-ANN/images/pixel.png").write_bytes(b"pixel")
    first, second = sample.notebook(), small("1")
    first.cells[
        5
    ].source = "[next](02_next.ipynb#end) [web](https://example.org/a.ipynb) [up](#top)"
    first.cells[7].source = "![one pixel](images/pixel.png)"
    first.cells[9].metadata.tags = ["figure"]
    first.cells[9].outputs = [
        sample.output(
            "display_data",
            data={"image/png": sample.PNG},
            metadata={"image/png": {"alt": "A <thin> line."}},
        )
    ]
    second.cells[
        0
    ].source = (
        "# 1.2 Next & last\n\nIt is after [the first](../01-ANN/01_adding.ipynb)."
    )
    sample.course(folder, first)
    save(second, folder / "01-ANN/02_next.ipynb")
    main(["site"])
    page = (folder / "build/site/01-ANN/01_adding.html").read_text()
    for link in (
        "02_next.html#end",
        "https://example.org/a.ipynb",
        "#top",
        "../../../README.md",
    ):
        assert f'href="{link}"' in page
    assert 'alt="A &lt;thin&gt; line."' in page
    assert page.count(">Code of this figure</summary>") == 1
    assert page.count(">Solution</summary>") == page.count("<details><summary") - 1 == 3
    assert 'src="data:image/png;base64,cGl4ZWw="' in page
    assert (
        'href="01_adding.html"'
        in (folder / "build/site/01-ANN/02_next.html").read_text()
    )
    index = (folder / "build/site/index.html").read_text()
    assert '<a href="01-ANN/01_adding.html">1.1 Adding: what `+` does</a>' in index
    assert '<a href="01-ANN/02_next.html">1.2 Next &amp; last</a>' in index


def test_what_matches_no_notebook_lists_those_there_are(folder):
    sample.course(folder)
    (folder / "01-ANN/notes.md").touch()
    for pattern in ("02-*/*.ipynb", "01-ANN/notes.md", "tests"):
        assert failure("execute", pattern) == (
            f"error: no notebook matches {pattern}. There are:\n  "
            f"01-ANN/01_adding.ipynb"
        )


def test_without_a_notebook_there_is_no_site(folder):
    assert "no notebooks under" in failure("site")
    assert not (folder / "build").exists()


def test_patterns_and_folders_name_each_notebook_once(folder):
    sample.course(folder)
    save(small(), folder / "01-ANN/02_next.ipynb")
    found = matching(["01-*/02*", "01-ANN", "01-ANN/01_adding.ipynb"])
    assert [path.name for path in found] == ["02_next.ipynb", "01_adding.ipynb"]


def test_badges_takes_a_name_or_removes(folder, capsys):
    sample.course(folder)
    main(["badges", "octocat/hello"])
    main(["badges", "--remove"])
    assert capsys.readouterr().out == "1 notebooks changed\n" * 2
    assert "expected owner/name" in failure("badges", "octocat")
    with pytest.raises(SystemExit, match="2"):
        main(["badges"])


def expect(root, ranges, name=KEY):
    (root / "tests/expected.toml").write_text(
        f'["{name}"]\n{ranges}\n', encoding="utf-8"
    )


def test_both_tables_are_read_out_of_the_notebook(tmp_path):
    sample.course(tmp_path)
    texts = {
        path.name: content.decode() for path, content in published(tmp_path).items()
    }
    link = "[1.1 Adding: what `+` does](01-ANN/01_adding.ipynb)"
    assert texts["RESULTS.md"].splitlines()[-2:] == [
        rf"| {link} | `total` | 3.5 | 3 to 4 | 1 | 1,321 | cpu (Abacus \| 9000, 2 "
        rf"threads, bfloat16) | 2.14.1 |",
        "|  | `terms` | 3 | 1 to 5 |  |  |  |  |",
    ]
    promise = "Add numbers by hand, and know at the end why the order does not matter."
    assert (
        f"| {link} | {promise} | a sum of 3.5 (guessing: 0) | 1 |\n"
        "<!-- notebooks:end -->" in texts["README.md"]
    )
    assert texts["README.md"].startswith(
        "# Course\n\n<!-- notebooks:start -->\n| Notebook |"
    )
    assert texts["README.md"].endswith("\n\nThe end.\n")


def test_times_have_no_range(tmp_path):
    nb = sample.notebook()
    shown = tagged(nb, "result")[0].outputs[0].data
    shown["text/plain"] = (
        "{'total': 3.5, 'fit_seconds': 12.5, 'speedup': 7, 'terms': 3}"
    )
    sample.as_if_run(nb)
    nb.metadata.cv_course |= {"peak_memory_mb": None, "fast_bfloat16": False}
    sample.course(tmp_path, nb)
    page = published(tmp_path)[tmp_path / "RESULTS.md"].decode()
    assert "| `fit_seconds` | 12.5 | \N{EN DASH} |" in page
    assert "| `speedup` | 7 | \N{EN DASH} |" in page
    assert "| 1 | \N{EN DASH} | cpu (Abacus \\| 9000, 2 threads) |" in page


def test_the_judgement_of_a_result():
    ranges = {"near": [1, 2], "low": [0.5, 1], "high": [3, 1000]}
    result = {"near": 1, "low": 0.25, "high": 2000, "seconds": 1.23456}
    table = judged(result, ranges).splitlines()
    assert [line.split() for line in table] == [
        ["result", "value", "expected"],
        ["near", "1", "1", "to", "2", "inside"],
        ["low", "0.25", "0.5", "to", "1", "OUTSIDE"],
        ["high", "2,000", "3", "to", "1,000", "OUTSIDE"],
        ["seconds", "1.235", "\N{EN DASH}"],
    ]


def test_the_command_writes_until_nothing_is_stale(tmp_path, monkeypatch, capsys):
    path = sample.course(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert len(stale(tmp_path)) == 2
    main(["results"])
    assert capsys.readouterr().out == "wrote RESULTS.md\nwrote README.md\n"
    assert stale(tmp_path) == []

    nb = load(path)
    tagged(nb, "result")[0].outputs[0].data["text/plain"] = (
        "{'headline': 'a sum of 3.25 (guessing: 0)', 'total': 3.25, 'terms': 3}"
    )
    save(sample.as_if_run(nb), path)
    sentence, _ = stale(tmp_path)
    assert sentence == "RESULTS.md is not what the stored runs say: run `make results`"
    assert "3.5" in (tmp_path / "RESULTS.md").read_text()


@pytest.mark.parametrize(
    ("kind", "suffix"), [("png", "png"), ("jpeg", "jpg"), ("svg+xml", "svg")]
)
def test_a_tagged_image_is_taken_out_of_the_stored_run(
    tmp_path, monkeypatch, kind, suffix
):
    nb = sample.notebook()
    picture = next(cell for cell in nb.cells if "plt.show()" in cell.source)
    picture.metadata.tags = ["readme-picture"]
    content = b"\x89PNG of the stored run"
    data = {
        "text/plain": "<Figure>",
        f"image/{kind}": base64.b64encode(content).decode(),
    }
    if suffix == "svg":
        content = b"<svg>of the stored run</svg>"
        data["image/svg+xml"] = content.decode()
    picture.outputs = [
        sample.output("stream", text="before"),
        sample.output("display_data", data=data),
    ]
    sample.course(tmp_path, sample.as_if_run(nb))
    monkeypatch.chdir(tmp_path)
    main(["results"])
    target = tmp_path / f"01-ANN/images/01_adding.{suffix}"
    assert target.read_bytes() == content
    target.write_bytes(b"another")
    assert stale(tmp_path) == [
        f"01_adding.{suffix} is not what the stored runs say: run `make results`"
    ]
    main(["results"])
    other = target.with_suffix(".png" if suffix != "png" else ".jpg")
    other.write_bytes(b"of an earlier run")
    assert stale(tmp_path) == [
        f"{other.name} is not what the stored runs say: run `make results`"
    ]
    main(["results"])
    assert not other.exists() and stale(tmp_path) == []
    picture.outputs = []
    sample.course(tmp_path, sample.as_if_run(nb))
    with pytest.raises(NotebookError, match="no PNG, JPEG or SVG image"):
        published(tmp_path)


@pytest.mark.parametrize(
    ("ranges", "sentence"),
    [
        (
            "total = [3.6, 4]\nterms = [1, 5]",
            f"{KEY}: total is 3.5, and must lie between 3.6 and 4",
        ),
        (
            "total = [3, 3.4]\nterms = [1, 5]",
            f"{KEY}: total is 3.5, and must lie between 3 and 3.4",
        ),
        ("total = [3, 4]", f"no range for terms of {KEY}, now 3"),
        (
            "total = [3, 4]\nterms = [1, 5]\nloss = [0, 1]",
            f"a range for loss, which {KEY} does not report",
        ),
        ("speedup = [5, 500]", "take the range of speedup out, which depends on the"),
        ("total = [4, 3]\nterms = [1, 5]", r"total must be \[lowest, highest\]"),
        ("total = 3.5\nterms = [1, 5]", r"total must be \[lowest, highest\]"),
        ("total = [", "expected.toml: Invalid value"),
    ],
)
def test_what_is_not_as_expected_is_not_published(
    tmp_path, monkeypatch, ranges, sentence
):
    sample.course(tmp_path)
    expect(tmp_path, ranges)
    monkeypatch.chdir(tmp_path)
    assert re.search(sentence, failure("results"))
    assert not (tmp_path / "RESULTS.md").exists()


def test_both_ends_of_a_range_belong_to_it(tmp_path):
    sample.course(tmp_path)
    expect(tmp_path, "total = [3.5, 3.5]\nterms = [3, 3]")
    assert published(tmp_path)


def test_a_table_for_no_notebook(tmp_path):
    sample.course(tmp_path)
    expect(tmp_path, "total = [3, 4]", name="01-ANN/02_gone")
    with pytest.raises(NotebookError, match="01-ANN/02_gone, which is no notebook"):
        published(tmp_path)


def test_no_result_without_the_run_of_this_code(tmp_path):
    nb = sample.notebook()
    nb.cells[1].source = "import cmath"
    sample.course(tmp_path, nb)
    with pytest.raises(
        NotebookError,
        match=f"{KEY}.ipynb: the code has changed since the stored run: run `make exec",
    ):
        published(tmp_path)
    del nb.metadata["cv_course"]
    sample.course(tmp_path, nb)
    with pytest.raises(NotebookError, match=f"{KEY}.ipynb: the metadata do not say to"):
        published(tmp_path)


@pytest.mark.parametrize(
    "readme",
    [
        "",
        "<!-- notebooks:start -->",
        "<!-- notebooks:end --><!-- notebooks:start -->",
        "<!-- notebooks:start --><!-- notebooks:start --><!-- notebooks:end -->",
    ],
)
def test_a_readme_without_its_two_markers(readme):
    with pytest.raises(NotebookError, match="README.md must hold the line"):
        with_table(readme, "| table |\n")


def test_the_table_takes_the_place_of_the_old_one():
    readme = with_table(
        "a\n<!-- notebooks:start -->\nold\n<!-- notebooks:end -->\nb\n", "new\n"
    )
    assert readme == "a\n<!-- notebooks:start -->\nnew\n<!-- notebooks:end -->\nb\n"


def test_in_another_folder_it_says_where_to_run(folder):
    assert failure("results") == (
        "error: there is no tests/expected.toml: run this at the top of the course"
    )
    assert "no notebooks under" in failure("report")


def test_what_the_report_measures(tmp_path):
    nb = sample.notebook()
    nb.cells[3].source = (
        "## 1. Step 1\n\nFive words, with *three* more: `code`, $x + y$ and\n\n"
        "$$\na + b\n$$\n\n[a link](there.md) <b>bold</b>.\n\n```\nno word\n```\n\n"
        "<details><summary>Going deeper</summary>\n\nNot counted.\n\n</details>"
    )
    words = "Step Five words with three more and a link bold".split()
    before = measure(sample.course(tmp_path, sample.notebook()))
    counted = measure(sample.course(tmp_path, nb))
    assert counted["words"] - before["words"] == len(words) - len(
        "Step Why is so".split()
    )
    nb.cells[4:4] = [
        sample.code("# why\n\nstep = 1\nstep"),
        sample.code("a\n" * 50, "figure", outputs=[shows_html('<img src="data:">')]),
        sample.code("step", outputs=[shows_html("<table></table>" + "x" * 20_000)]),
    ]
    changed = measure(sample.course(tmp_path, nb))
    assert changed["lines"] == counted["lines"] + 3
    assert (changed["checked"], changed["open"]) == (1, 2)
    assert changed["figures"] == counted["figures"] + 1 == 2
    assert changed["output kB"] == 20
    assert changed["kB"] == pytest.approx(counted["kB"] + 21, abs=1)  # both rounded
    assert (changed["sections"], changed["parameters"]) == (3, 2)
    assert changed["seconds"] == 1
    assert changed.keys() == AIMS.keys()


@pytest.mark.parametrize(
    ("data", "metadata", "width"),
    [
        ({"image/png": sample.PNG}, {}, 640),
        ({"image/png": sample.PNG}, {"image/png": {"width": 320}}, 320),
        ({"image/svg+xml": '<svg height="9pt" width="648pt" id="a">'}, {}, 864),
        (
            {"text/html": f'<img src="data:image/png;base64,{sample.PNG}" alt="x">'},
            {},
            640,
        ),
        ({"text/html": '<img src="data:x" width="500">'}, {}, 500),
    ],
)
def test_the_narrowest_figure(tmp_path, data, metadata, width):
    nb = sample.notebook()
    wide = sample.output(
        "display_data",
        data={"image/png": sample.PNG},
        metadata={"image/png": {"width": 900}},
    )
    figure = next(cell for cell in nb.cells if "plt.show()" in cell.source)
    figure.outputs = [
        wide,
        sample.output("display_data", data=data, metadata=metadata),
    ]
    assert measure(sample.course(tmp_path, nb))["narrowest px"] == width


def test_how_many_cells_are_long(tmp_path):
    nb = sample.notebook()
    short = measure(sample.course(tmp_path, nb))
    assert short["long cells %"] == 0
    nb.cells[1].source = "import math\n# why\n\n" + "x = 1\n" * 11  # 12 lines
    nb.cells[4].source += "\nstep = 1" * 11  # 13
    figure = sample.code("x = 1\n" * 30, "figure")
    nb.cells.insert(4, figure)
    # imports, parameters, two of each section, the proof, the plot and the result
    assert measure(sample.course(tmp_path, nb))["long cells %"] == round(100 / 11)


def shows_html(text):
    return sample.output("display_data", data={"text/html": text})


def test_the_report_begins_with_the_worst(folder, capsys):
    sample.course(folder)
    long, slow = sample.notebook(), sample.notebook()
    # four times too many words; in the others they are far too few
    long.cells[3].source += " word" * 9000
    slow.metadata.cv_course.seconds = 301
    save(long, folder / "01-ANN/02_long.ipynb")
    save(slow, folder / "01-ANN/03_slow.ipynb")
    main(["report"])
    head, *rows, aims = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["notebook", "sections", "words", "lines"]
    assert [(row.split()[0], row.split()[10]) for row in rows] == [
        (KEY, "1"),
        ("01-ANN/03_slow", "301*"),
        ("01-ANN/02_long", "1"),
    ]
    assert aims.split()[-12:-9] == ["3-5", "1,200-2,200", "300"]


def test_how_far_from_its_aims_a_notebook_is():
    good = {name: most for name, (_, most) in AIMS.items()}
    assert distance(good) == 1
    assert distance(good | {"words": 4400, "figures": 2}) == 2
    assert distance(good | {"figures": 1}) == 4
    assert distance(good | {"figures": 0}) == 8


def test_stamps_stand_under_the_title_and_above_the_code(tmp_path):
    path = sample.course(tmp_path)
    assert stamp_all(tmp_path, "octocat/hello.world") == 1
    nb = load(path)
    assert [cell.id for cell in nb.cells[:3]] == [
        course_cells(nb)[0].id,
        "badges",
        "colab",
    ]
    links = nb.cells[1].source
    there = "octocat/hello.world/blob/main/01-ANN/01_adding.ipynb"
    assert f"(https://colab.research.google.com/github/{there})" in links
    assert (
        "gh/octocat/hello.world/main?urlpath=lab/tree/01-ANN/01_adding.ipynb)" in links
    )


def test_twice_is_once_and_a_new_name_takes_the_old_ones_place(tmp_path):
    path = sample.course(tmp_path)
    stamp_all(tmp_path, "octocat/hello")
    once = path.read_bytes()
    assert stamp_all(tmp_path, "octocat/hello") == 0
    assert path.read_bytes() == once
    assert stamp_all(tmp_path, "hubot/bye") == 1
    assert path.read_bytes() == once.replace(b"octocat/hello", b"hubot/bye")


def test_taken_out_they_leave_the_file_as_it_was(tmp_path):
    path = sample.course(tmp_path)
    before = path.read_bytes()
    stamp_all(tmp_path, "octocat/hello")
    assert source_hash(load(path)) == load(path).metadata.cv_course.source_hash
    assert stamp_all(tmp_path, None) == 1
    assert path.read_bytes() == before


def test_the_set_up_cell_installs_in_colab_and_nowhere_else(tmp_path, monkeypatch):
    path = sample.course(tmp_path)
    stamp_all(tmp_path, "octocat/hello")
    (cell,) = tagged(load(path), "colab")
    commands = []
    monkeypatch.setattr(
        "subprocess.run", lambda command, *, check: commands.append((command, check))
    )
    exec(compile(ast.parse(cell.source), "colab", "exec"), {})
    assert commands == []
    monkeypatch.setitem(__import__("sys").modules, "google.colab", object())
    exec(compile(ast.parse(cell.source), "colab", "exec"), {})
    ((command, check),) = commands
    assert command[1:4] == ["-m", "pip", "install"]
    assert command[-1] == "git+https://github.com/octocat/hello"
    assert check is True


@pytest.mark.parametrize(
    "name",
    [
        "",
        "octocat",
        "octocat/",
        "/hello",
        "a/b/c",
        "octo cat/x",
        "a_b/c",
        "x/..",
        "é/x",
    ],
)
def test_what_is_no_repository(tmp_path, name):
    path = sample.course(tmp_path)
    before = path.read_bytes()
    with pytest.raises(NotebookError, match="expected owner/name"):
        stamp_all(tmp_path, name)
    assert path.read_bytes() == before


def test_data_md_says_what_the_catalog_says():
    text = (ROOT / "DATA.md").read_text(encoding="utf-8")
    assert text == datasheet.write_text(), "run `make data`"
    for entry in read_catalog().values():
        assert entry.licence in text and entry.citation in text


def test_every_set_has_its_image_and_no_private_face_has():
    text = (ROOT / "DATA.md").read_text(encoding="utf-8")
    shown = re.findall(r"!\[.*?\]\((docs/images/.*?)\)", text)
    sets = {name for name, entry in read_catalog().items() if not entry.weights}
    assert (
        {Path(path).stem for path in shown}
        == sets - datasheet.PRIVATE
        == set(datasheet.STRIPS)
    )
    assert {"utkface", "face_keypoints"} <= datasheet.PRIVATE
    for path in shown:
        with Image.open(ROOT / path) as image:
            width, height = image.size
        assert height == datasheet.HEIGHT and 0 < width <= datasheet.WIDTH


def test_a_strip():
    height, gap = datasheet.HEIGHT, datasheet.GAP
    red = torch.zeros(3, 10, 20, dtype=torch.uint8)
    red[0] = 255
    # wholly transparent: white
    ghost = torch.zeros(4, height, height, dtype=torch.uint8)
    grey = torch.full((1, height, height), 7, dtype=torch.uint8)
    drawn = datasheet.strip([red, ghost, grey])
    assert drawn.shape == (3, height, 2 * height + gap + height + gap + height)
    assert (
        drawn[:, :, : 2 * height].flatten(1).float().mean(1)
        == torch.tensor([255.0, 0, 0])
    ).all()
    assert (drawn[:, :, 2 * height + gap : 3 * height + gap] == 255).all() and (
        drawn[:, :, -height:] == 7
    ).all()
    assert datasheet.strip([grey] * 50).shape[2] <= datasheet.WIDTH
