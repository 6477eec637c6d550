"""What goes wrong before the first notebook is said in one plain sentence."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOWHERE = {
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "PIP_NO_CACHE_DIR": "1",
}


@pytest.fixture
def clone(tmp_path):
    """A folder with what the set-up reads, and nothing else."""
    for name in (
        ".ci/setup",
        ".ci/jupyterlab.json",
        "pyproject.toml",
        "constraints.txt",
        "Makefile",
        "README.md",
        "LICENSE",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    program(tmp_path / "bin/df", "echo head; echo /dev/x 100 90 104857600 9% /")  # 100 GB are free
    shutil.copytree(ROOT / "utils", tmp_path / "utils", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def set_up(clone, python=sys.executable, **environment):
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    return subprocess.run(
        ["sh", ".ci/setup"],
        cwd=clone,
        env={**kept, "PATH": f"{clone / 'bin'}:{os.environ['PATH']}", "PYTHON": str(python), **environment},
        capture_output=True,
        text=True,
        timeout=100,
    )


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def sentence(done):
    """Return the last line of what was said; there is no traceback in it."""
    assert done.returncode == 1 and "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


def test_no_python(clone):
    said = sentence(set_up(clone, "python-that-is-not-here"))
    assert said.startswith("Python 3.11 or newer is needed, and 'python-that-is-not-here' was not found")
    assert not (clone / ".venv").exists()


def test_an_old_python(clone):
    old = program(clone / "bin/python3", 'case "$1" in -V) echo Python 3.8.10;; *) exit 1;; esac')
    assert "is 3.8.10: name a newer one" in sentence(set_up(clone, old))


def test_no_disk(clone):
    program(clone / "bin/df", "echo head; echo /dev/x 100 90 1048576 99% /")
    said = sentence(set_up(clone))
    assert "only 1 GB are free" in said and not (clone / ".venv").exists()


def test_a_disk_that_fills_up_on_the_way(clone):
    fake = 'case "$*" in *install*) echo "ERROR: [Errno 28] No space left on device" >&2; exit 1;; esac'
    program(clone / ".venv/bin/python", fake)
    assert sentence(set_up(clone)).startswith("The disk is full")
    assert not (clone / ".venv/.ready").exists()


def test_no_venv_module(clone):
    python = program(clone / "bin/python3", 'case "$*" in *venv*) exit 1;; esac')
    assert "python3-venv" in sentence(set_up(clone, python))


def test_no_network(clone):
    said = sentence(set_up(clone, **NOWHERE))
    assert said.startswith("The Python package index cannot be reached")
    assert not (clone / ".venv/.ready").exists()


def test_set_up_runs_again_only_when_what_it_reads_changed(clone):
    ready = clone / ".venv/.ready"
    ready.parent.mkdir()
    ready.touch()

    def is_up_to_date():
        return subprocess.run(["make", "-q", ".venv/.ready"], cwd=clone, capture_output=True).returncode == 0

    for name in ("pyproject.toml", "constraints.txt"):
        os.utime(ready, (2e9, 2e9))
        assert is_up_to_date()
        os.utime(clone / name, (2.1e9, 2.1e9))
        assert not is_up_to_date()
        os.utime(clone / name, (1e9, 1e9))


def test_help_lists_every_target():
    alone = {
        key: value for key, value in os.environ.items() if not key.startswith("MAKE")
    }  # not as a part of one
    done = subprocess.run(["make", "help"], cwd=ROOT, env=alone, capture_output=True, text=True, check=True)
    listed = {line.split()[0] for line in done.stdout.splitlines()}
    targets = (ROOT / "Makefile").read_text().split(".PHONY:")[1].split()
    assert listed == set(targets)


def test_the_constraints_name_exact_versions_of_what_the_project_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + project["optional-dependencies"]["dev"]
    lines = (ROOT / "constraints.txt").read_text().lower().replace("_", "-").splitlines()
    pinned = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert {name.split(">")[0].replace("_", "-") for name in asked} <= pinned.keys()
    assert (pinned["torch"], pinned["torchvision"]) == ("2.14.1", "0.29.1")
    assert {"torch>=2.9", "torchvision>=0.24"} <= set(project["dependencies"])
