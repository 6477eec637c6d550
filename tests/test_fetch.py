"""`utils.fetch`: what is used as it is, what is fetched, what is verified, the command line."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fetch_helpers import FILES, running_server, temporary_course
from platformdirs import user_cache_path
from torchvision import datasets

from utils import fetch


@pytest.fixture
def course(tmp_path, monkeypatch):
    with temporary_course(tmp_path, monkeypatch) as course:
        yield course


@pytest.fixture
def server():
    with running_server() as server:
        yield server


def test_data_root(monkeypatch, tmp_path):
    monkeypatch.setenv("CV_DATA", str(tmp_path))
    assert fetch.data_root() == tmp_path
    monkeypatch.delenv("CV_DATA")
    assert fetch.data_root() == Path(__file__).parents[1] / "data"
    monkeypatch.setattr(fetch, "REPOSITORY", tmp_path)  # as in site-packages: no pyproject.toml beside utils
    assert fetch.data_root() == user_cache_path("cv-pytorch-course", appauthor=False)


@pytest.mark.parametrize("name", fetch.catalog())
def test_the_catalog_is_complete(name):
    entry = fetch.catalog()[name]
    assert all(entry[key] for key in ("title", "licence", "citation", "used_for", "folder", "sources"))
    for file in entry["files"]:
        assert not Path(file["path"]).is_absolute() and ".." not in Path(file["path"]).parts
        assert file["bytes"] > 0 and re.fullmatch("[0-9a-f]{64}", file["sha256"])
    for source in entry["sources"]:
        pinned = re.fullmatch("[0-9a-f]{64}", source.get("sha256", "")) and source["bytes"] > 0
        assert pinned or (source["kind"] in ("debian", "https") and "convert" not in source)


@pytest.mark.parametrize("kind", [datasets.FashionMNIST, datasets.MNIST])
def test_torchvision_reads_what_was_fetched(course, server, kind):
    course.describe(server.source, folder=kind.__name__)
    assert fetch.fetch("digits") == course.root / kind.__name__
    for train, part in ((True, "train"), (False, "t10k")):
        read = kind(course.root, train=train, download=False)
        assert read.data.numpy().tobytes() == FILES[f"raw/{part}-images-idx3-ubyte"][16:]
        assert bytes(read.targets.tolist()) == FILES[f"raw/{part}-labels-idx1-ubyte"][8:]


def test_a_second_call_asks_nobody(course, server):
    course.describe(server.source)
    course.succeeds()
    course.succeeds()
    assert len(server.requests) == len(FILES)


def test_what_is_there_is_used_as_it_is(course, server):
    """A smaller sample in the same layout, with other hashes: no network, no lock, no change."""
    course.describe(server.source)
    for path in FILES:
        (course.set / path).parent.mkdir(parents=True, exist_ok=True)
        (course.set / path).write_bytes(b"a sample")
    before = course.tree()
    assert fetch.fetch("digits") == course.set
    assert course.tree() == before and not server.requests and not (course.root / ".digits.lock").exists()


def test_a_torn_set_is_completed(course, server):
    course.describe(server.source)
    course.succeeds()
    first, second, *_ = FILES
    (course.set / first).unlink()
    (course.set / second).write_bytes(b"of another version: may not be mixed with the new files")
    course.succeeds()


def test_killed_while_files_are_renamed(course, server, monkeypatch):
    """The missing file comes last, so that a half-installed set is still seen to be torn."""
    course.describe(server.source)
    course.succeeds()
    first, *others = FILES
    (course.set / first).unlink()
    for path in others:
        (course.set / path).write_bytes(b"stale")
    replace, count = Path.replace, 0

    def stop_at_second(self, target):
        nonlocal count
        count += Path(target).is_relative_to(course.set)
        if count == 2:
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", stop_at_second)
        fetch.fetch("digits")
    course.succeeds()


def test_an_unknown_name():
    with pytest.raises(
        ValueError, match="no data set 'fashion_mnits'. Did you mean 'fashion_mnist'.*mnist, "
    ):
        fetch.fetch("fashion_mnits")


def test_verify_and_the_command_line(course, server, capsys):
    course.describe(server.source)
    assert fetch.main(["verify", "digits"]) == 1
    assert capsys.readouterr().out.count("is missing") == len(FILES)
    assert fetch.main(["verify"]) == 0  # of all that are here, none is bad
    assert fetch.main(["list"]) == 0 and "not here" in capsys.readouterr().out
    assert fetch.main(["get"]) == 0 and fetch.verify("digits") == []
    first, second, *_ = FILES
    content = bytearray(FILES[first])
    content[-1] ^= 1
    (course.set / first).write_bytes(content)
    (course.set / second).write_bytes(FILES[second][:-1])
    changed, short = fetch.verify("digits")
    assert first in changed and "another content" in changed
    assert second in short and f"{len(FILES[second]) - 1} bytes" in short
    assert fetch.main(["verify"]) == 1
    shutil.rmtree(course.set)
    course.describe({"kind": "https", "url": server.url, "member": "gone/{name}"})
    assert fetch.main(["get", "digits"]) == 1 and "404" in capsys.readouterr().err
    assert fetch.main(["get", "digit"]) == 1 and "Did you mean 'digits'" in capsys.readouterr().err


def test_the_module_is_a_command(tmp_path):
    command = [sys.executable, "-m", "utils.fetch", "list"]
    listed = subprocess.run(
        command, env=os.environ | {"CV_DATA": str(tmp_path)}, capture_output=True, text=True
    )
    names = [line.split()[0] for line in listed.stdout.splitlines() if "not here" in line]
    assert names == list(fetch.catalog()) and listed.stderr == ""
