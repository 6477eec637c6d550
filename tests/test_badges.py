"""Badges and the Colab cell go in, come out, and change nothing else."""

import ast

import pytest
import sample

from utils.badges import stamp_all
from utils.ipynb import NotebookError, course_cells, load, source_hash, tagged


def test_stamps_stand_under_the_title_and_above_the_code(tmp_path):
    path = sample.course(tmp_path)
    assert stamp_all(tmp_path, "octocat/hello.world") == 1
    nb = load(path)
    assert [cell.id for cell in nb.cells[:3]] == [course_cells(nb)[0].id, "badges", "colab"]
    links = nb.cells[1].source
    there = "octocat/hello.world/blob/main/01-ANN/01_adding.ipynb"
    assert f"(https://colab.research.google.com/github/{there})" in links
    assert "gh/octocat/hello.world/main?urlpath=lab/tree/01-ANN/01_adding.ipynb)" in links


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
    monkeypatch.setattr("subprocess.run", lambda command, *, check: commands.append((command, check)))
    exec(compile(ast.parse(cell.source), "colab", "exec"), {})
    assert commands == []
    monkeypatch.setitem(__import__("sys").modules, "google.colab", object())
    exec(compile(ast.parse(cell.source), "colab", "exec"), {})
    ((command, check),) = commands
    assert command[1:4] == ["-m", "pip", "install"]
    assert command[-1] == "git+https://github.com/octocat/hello"
    assert check is True


@pytest.mark.parametrize(
    "name", ["", "octocat", "octocat/", "/hello", "a/b/c", "octo cat/x", "a_b/c", "x/..", "é/x"]
)
def test_what_is_no_repository(tmp_path, name):
    path = sample.course(tmp_path)
    before = path.read_bytes()
    with pytest.raises(NotebookError, match="expected owner/name"):
        stamp_all(tmp_path, name)
    assert path.read_bytes() == before
