"""What the set-up installs, and that what goes wrong in it is said in one sentence."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
# with the setuptools that is here, so that no network is needed
NO_NETWORK = ["--no-deps", "--no-build-isolation", "--no-index"]
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
    # 100 GB are free
    program(tmp_path / "bin/df", "echo head; echo /dev/x 100 90 104857600 9% /")
    return tmp_path


@pytest.fixture
def source(clone):
    """A clone with the package, too."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "utils", clone / "utils", ignore=ignored)
    return clone


def set_up(clone, python=sys.executable, **environment):
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith("PIP_")
    }
    return subprocess.run(
        ["sh", ".ci/setup"],
        cwd=clone,
        env={
            **kept,
            "PATH": f"{clone / 'bin'}:{os.environ['PATH']}",
            "PYTHON": str(python),
            **environment,
        },
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
    """Return the last line of what was said, without a traceback."""
    assert done.returncode == 1 and "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


def test_no_python(clone):
    said = sentence(set_up(clone, "python-that-is-not-here"))
    assert said.startswith(
        "Python 3.11 or newer is needed, and 'python-that-is-not-here' was not found"
    )
    assert not (clone / ".venv").exists()


def test_an_old_python(clone):
    old = program(
        clone / "bin/python3", 'case "$1" in -V) echo Python 3.8.10;; *) exit 1;; esac'
    )
    assert "is 3.8.10: name a newer one" in sentence(set_up(clone, old))


def test_no_disk(clone):
    program(clone / "bin/df", "echo head; echo /dev/x 100 90 1048576 99% /")
    said = sentence(set_up(clone))
    assert "only 1 GB are free" in said and not (clone / ".venv").exists()


def test_a_disk_that_fills_up_on_the_way(clone):
    fake = (
        'case "$*" in *install*) echo "ERROR: [Errno 28] No space left on device" '
        ">&2; exit 1;; esac"
    )
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
        return (
            subprocess.run(
                ["make", "-q", ".venv/.ready"], cwd=clone, capture_output=True
            ).returncode
            == 0
        )

    for name in ("pyproject.toml", "constraints.txt"):
        os.utime(ready, (2e9, 2e9))
        assert is_up_to_date()
        os.utime(clone / name, (2.1e9, 2.1e9))
        assert not is_up_to_date()
        os.utime(clone / name, (1e9, 1e9))


def names_of(package):
    """What a wheel of the folder `package` must hold."""
    kinds = (".py", ".toml", ".xz")
    files = [path for path in package.rglob("*") if path.suffix in kinds]
    return {path.relative_to(package.parent).as_posix() for path in files}


def test_the_wheel_holds_every_module_and_the_catalog(source, tmp_path):
    subprocess.run([*PIP, "wheel", *NO_NETWORK, "."], cwd=source, check=True)
    (wheel,) = source.glob("cv_pytorch_course-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if name.startswith("utils/")}
    assert inside == names_of(ROOT / "utils")
    lists = "utils/fetch/originals/bccd.tsv.xz"
    assert {"utils/fetch/catalog.toml", "utils/weights/mtcnn.py", lists} <= inside

    target = tmp_path / "installed"
    command = [*PIP, "install", "--no-deps", "--no-index", "--target", target, wheel]
    subprocess.run(command, check=True)
    program = f"""import sys
sys.path.insert(0, {str(target)!r})
import utils.data, utils.fetch, utils.weights
from utils.fetch.catalog import read_catalog
print(utils.data.__file__, utils.weights.__file__, "mnist" in read_catalog())"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path / "bin",
        capture_output=True,
        text=True,
    )
    folder = target / "utils"
    paths = f"{folder / 'data/__init__.py'} {folder / 'weights/__init__.py'}"
    assert done.stdout == f"{paths} True\n", done.stderr


def test_an_editable_install_leaves_nothing_beside_the_chapters(source):
    before = {path.name for path in source.iterdir()}
    # what pip calls for `-e .`; pip itself would replace what is installed here
    program = """from setuptools import build_meta
build_meta.get_requires_for_build_editable()
build_meta.build_editable("bin")"""
    subprocess.run([sys.executable, "-c", program], cwd=source, check=True)
    assert list(source.glob("bin/*.whl"))
    assert {path.name for path in source.iterdir()} == before


def test_the_package_asks_for_what_it_imports():
    asked = {
        re.match(r"[\w-]+", name)[0].replace("_", "-").lower()
        for name in PROJECT["dependencies"]
    }
    providers = importlib.metadata.packages_distributions()
    for path in (ROOT / "utils").rglob("*.py"):
        if path.parent.name == "course":  # the extra `dev`
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import(names=names):
                    modules = [alias.name for alias in names]
                case ast.ImportFrom(module=module):
                    modules = [module]
                case _:
                    continue
            for top in {module.partition(".")[0] for module in modules}:
                if top != "utils" and top not in sys.stdlib_module_names:
                    distribution = providers[top][0].replace("_", "-").lower()
                    assert distribution in asked, f"{path.name} imports {top}"


def test_help_lists_every_target():
    alone = {
        key: value for key, value in os.environ.items() if not key.startswith("MAKE")
    }  # not as a part of one
    done = subprocess.run(
        ["make", "help"],
        cwd=ROOT,
        env=alone,
        capture_output=True,
        text=True,
        check=True,
    )
    listed = {line.split()[0] for line in done.stdout.splitlines()}
    targets = (ROOT / "Makefile").read_text().split(".PHONY:")[1].split()
    assert listed == set(targets)


def test_the_constraints_name_exact_versions_of_what_the_project_asks_for():
    asked = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
    lines = (
        (ROOT / "constraints.txt").read_text().lower().replace("_", "-").splitlines()
    )
    pinned = dict(
        line.split("==") for line in lines if line and not line.startswith("#")
    )
    assert {name.split(">")[0].replace("_", "-") for name in asked} <= pinned.keys()
    assert (pinned["torch"], pinned["torchvision"]) == ("2.14.1", "0.29.1")
    assert {"torch>=2.9", "torchvision>=0.24"} <= set(PROJECT["dependencies"])
