"""The published tables say what the stored runs measured, or nothing is published."""

import base64
import os
import subprocess
import sys

import pytest
import sample

from utils.ipynb import NotebookError, load, save, tagged
from utils.results import main, published, stale, with_table

KEY = "01-ANN/01_adding"


def expect(root, ranges, name=KEY):
    (root / "tests/expected.toml").write_text(f'["{name}"]\n{ranges}\n', encoding="utf-8")


def test_both_tables_are_read_out_of_the_notebook(tmp_path):
    sample.course(tmp_path)
    texts = {path.name: content.decode() for path, content in published(tmp_path).items()}
    link = "[1.1 Adding: what `+` does](01-ANN/01_adding.ipynb)"
    assert texts["RESULTS.md"].splitlines()[-2:] == [
        rf"| {link} | `total` | 3.5 | 3 to 4 | 1 | cpu (Abacus \| 9000, 2 threads) | 2.14.1 |",
        "|  | `terms` | 3 | 1 to 5 |  |  |  |",
    ]
    promise = "Add numbers by hand, and know at the end why the order does not matter."
    assert f"| {link} | {promise} | `total` 3.5 | 1 |\n<!-- notebooks:end -->" in texts["README.md"]
    assert texts["README.md"].startswith("# Course\n\n<!-- notebooks:start -->\n| Notebook |")
    assert texts["README.md"].endswith("\n\nThe end.\n")


def test_the_command_writes_until_nothing_is_stale(tmp_path, monkeypatch, capsys):
    path = sample.course(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert len(stale(tmp_path)) == 2
    main([])
    assert capsys.readouterr().out == "wrote RESULTS.md\nwrote README.md\n"
    assert stale(tmp_path) == []
    main(["--check"])

    nb = load(path)
    tagged(nb, "result")[0].outputs[0].data["text/plain"] = "{'total': 3.25, 'terms': 3}"
    save(nb, path)
    with pytest.raises(SystemExit, match="RESULTS.md is not what the stored runs say: run `make results`"):
        main(["--check"])
    assert "3.5" in (tmp_path / "RESULTS.md").read_text()


@pytest.mark.parametrize(("kind", "suffix"), [("png", "png"), ("jpeg", "jpg")])
def test_a_tagged_picture_is_taken_out_of_the_stored_run(tmp_path, monkeypatch, kind, suffix):
    nb = sample.notebook()
    picture = next(cell for cell in nb.cells if "plt.show()" in cell.source)
    picture.metadata.tags = ["readme-picture"]
    content = b"\x89PNG of the stored run"
    data = {"text/plain": "<Figure>", f"image/{kind}": base64.b64encode(content).decode()}
    picture.outputs = [sample.output("stream", text="before"), sample.output("display_data", data=data)]
    sample.course(tmp_path, nb)
    monkeypatch.chdir(tmp_path)
    main([])
    target = tmp_path / f"01-ANN/images/01_adding.{suffix}"
    assert target.read_bytes() == content
    target.write_bytes(b"another")
    assert stale(tmp_path) == [f"01_adding.{suffix} is not what the stored runs say: run `make results`"]
    picture.outputs = []
    sample.course(tmp_path, nb)
    with pytest.raises(NotebookError, match="no PNG or JPEG picture"):
        published(tmp_path)


@pytest.mark.parametrize(
    ("ranges", "sentence"),
    [
        ("total = [3.6, 4]\nterms = [1, 5]", f"{KEY}: total is 3.5, and must lie between 3.6 and 4"),
        ("total = [3, 3.4]\nterms = [1, 5]", f"{KEY}: total is 3.5, and must lie between 3 and 3.4"),
        ("total = [3, 4]", f"no range for terms of {KEY}, now 3"),
        ("total = [3, 4]\nterms = [1, 5]\nspeed = [0, 1]", f"a range for speed, which {KEY} does not report"),
        ("total = [4, 3]\nterms = [1, 5]", r"total must be \[lowest, highest\]"),
        ("total = 3.5\nterms = [1, 5]", r"total must be \[lowest, highest\]"),
        ("total = [", "expected.toml: Invalid value"),
    ],
)
def test_what_is_not_as_expected_is_not_published(tmp_path, monkeypatch, ranges, sentence):
    sample.course(tmp_path)
    expect(tmp_path, ranges)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=sentence):
        main([])
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
    with pytest.raises(NotebookError, match=f"code of {KEY} has changed .* `make execute NB={KEY}.ipynb`"):
        published(tmp_path)
    del nb.metadata["cv_course"]
    sample.course(tmp_path, nb)
    with pytest.raises(NotebookError, match=f"{KEY} has no stored run"):
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
    readme = with_table("a\n<!-- notebooks:start -->\nold\n<!-- notebooks:end -->\nb\n", "new\n")
    assert readme == "a\n<!-- notebooks:start -->\nnew\n<!-- notebooks:end -->\nb\n"


def test_in_another_folder_it_says_where_to_run(tmp_path):
    command = [sys.executable, "-m", "utils.results"]
    done = subprocess.run(command, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: there is no tests/expected.toml: run this at the top of the course\n"
