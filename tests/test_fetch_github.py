"""`utils.fetch` from a repository at a commit: faults, resumption, what is prepared.

The set is made as `utkface` is: photos that are scaled, and a table from their names.
"""

import hashlib
import io
import lzma
import socket
import time

import numpy as np
import pytest
from fetch_helpers import CHILD, HARD_LINK, LINK, repository_archive
from PIL import Image

from utils import fetch
from utils.fetch import catalog
from utils.fetch.__main__ import main
from utils.fetch.catalog import PREPARED_FROM, entry_of, layout_here
from utils.fetch.preparation import PREPARE
from utils.fetch.sources import sources_of

COMMIT = "0123456789" * 4
ARCHIVE = f"somebody/Faces/archive/{COMMIT}.tar.gz"
SHOTS = {"train": ["30_1_0_b", "7_0_0_a"], "val": ["50_1_0_c"]}
RANDOM = np.random.default_rng(0)


def photo() -> bytes:
    stream = io.BytesIO()
    grey = RANDOM.integers(0, 256, (300, 300), dtype=np.uint8)
    Image.fromarray(grey).convert("RGB").save(stream, "JPEG", quality=95)
    return stream.getvalue()


# what the repository holds: the photos, and things that are not wanted
PHOTOS = {f"data/{n}.jpg.chip.jpg": photo() for part in SHOTS.values() for n in part}
MORE = {"README.md": b"read", "data/link.jpg": LINK, "data/large": bytes(10**6)}
TABLES = {
    "train.csv": b"file,age,gender\r\n30_1_0_b.jpg,30,1\r\n7_0_0_a.jpg,7,0\r\n",
    "val.csv": b"file,age,gender\r\n50_1_0_c.jpg,50,1\r\n",
}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_list(folder, photos=PHOTOS, tables=TABLES) -> str:
    """Write the list of the originals beside the catalog; return its hash."""
    rows = []
    for part, names in SHOTS.items():
        for name in names:
            content = photos[path := f"data/{name}.jpg.chip.jpg"]
            row = [digest(content), len(content), f"Faces/{path}", f"{part}/{name}.jpg"]
            rows.append(row)
    rows += [[digest(tables[path]), len(tables[path]), "", path] for path in tables]
    text = "".join("\t".join(map(str, row)) + "\n" for row in rows)
    path = folder / "originals" / "utkface.tsv.xz"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(lzma.compress(text.encode()))
    return digest(path.read_bytes())


@pytest.fixture
def hub(course, server):
    """A host of repositories that gives neither lengths nor the rest of a file."""
    server.ranges = server.lengths = False
    server.files = {ARCHIVE: repository_archive("Faces", COMMIT, PHOTOS | MORE)}
    describe(course, server)
    return server


def describe(course, server, size=None, **more):
    size = size or len(server.files[ARCHIVE])
    repository = {"name": "somebody/Faces", "commit": COMMIT, "bytes": size}
    source = {
        "kind": "github",
        "url": server.url,
        "repositories": [repository],
        "originals": write_list(course.folder),
        "prepare": "utkface",
        "rule": "scaled",
    }
    tree = {"files": 5, "bytes": 10**6, "sha256": "0" * 64}
    course.set = course.root / "faces"
    course.describe(
        source | more, folder="faces", needs=["train", "val", "val.csv"], tree=tree
    )


def prepared(course) -> bool:
    """Tell whether the set is here, whole, and nothing else beside it."""
    here = {path for path in course.tree() if path.startswith("faces/")}
    expected = {f"faces/{part}/{name}.jpg" for part in SHOTS for name in SHOTS[part]}
    expected |= {"faces/train", "faces/val", "faces/SHA256SUMS"}
    expected |= {f"faces/{path}" for path in TABLES}
    return here == expected and fetch.verify("digits") == []


def test_a_set_is_prepared(course, hub, capsys):
    """Only the wanted files are read; the tables come out as the catalog says."""
    assert fetch.fetch("digits") == course.set and prepared(course)
    said = capsys.readouterr().out
    assert said == f"digits: from github somebody/Faces at {COMMIT[:10]} ...\n"
    for path, content in TABLES.items():
        assert (course.set / path).read_bytes() == content
    for part, names in SHOTS.items():
        for name in names:
            whole = Image.open(io.BytesIO(PHOTOS[f"data/{name}.jpg.chip.jpg"]))
            small = whole.resize((112, 112), Image.Resampling.LANCZOS)
            with Image.open(course.set / part / f"{name}.jpg") as image:
                error = np.asarray(image, float) - np.asarray(small)
            assert 10 * np.log10(255**2 / (error**2).mean()) > 25  # of noise
    assert fetch.fetch("digits") == course.set and len(hub.requests) == 1
    assert sorted(path.name for path in course.root.glob(".*")) == [".digits.lock"]


def test_what_was_prepared_from_another_list_is_not_taken_for_whole(course, hub):
    folder = fetch.fetch("digits")
    entry = entry_of("digits")
    assert layout_here(entry) is entry.layouts[1]
    listed = folder / "SHA256SUMS"
    lines = listed.read_text().splitlines(keepends=True)
    assert lines[0] == f"{PREPARED_FROM}{entry.sources[0].originals}\n"
    for text in (lines[:-1], lines[1:], [f"{PREPARED_FROM}{'1' * 64}\n", *lines[1:]]):
        listed.write_text("".join(text))
        assert layout_here(entry) is None
        assert "is not the catalog's" in fetch.verify("digits")[0]
    fetch.fetch("digits")
    assert prepared(course)
    (folder / "train" / "7_0_0_a.jpg").write_bytes(b"x")
    (problem,) = fetch.verify("digits")
    assert problem.endswith("7_0_0_a.jpg has another content than SHA256SUMS")


FIRST = next(iter(PHOTOS))
FAULTS = {
    "wrong commit": ({}, "1" * 40, f"holds the commit {'1' * 40} of somebody/Faces"),
    "missing path": ({FIRST: None}, COMMIT, f"lacks Faces/{FIRST}"),
    "changed file": (
        {FIRST: PHOTOS[FIRST][:-1] + b"x"},
        COMMIT,
        f"Faces/{FIRST} is another file than the catalog's, {len(PHOTOS[FIRST])} bytes",
    ),
    "shorter file": ({FIRST: PHOTOS[FIRST][:-1]}, COMMIT, "is another file than"),
    "bomb": ({FIRST: bytes(10**7)}, COMMIT, "is larger than the catalog's"),
    "link": ({FIRST: LINK}, COMMIT, f"{FIRST} is a link, not a file"),
    "hard link": ({FIRST: HARD_LINK}, COMMIT, f"{FIRST} is a link, not a file"),
    "dots": ({"../../evil": b"x"}, COMMIT, "leaves the folder"),
    "no file": ({path: None for path in PHOTOS}, COMMIT, "lacks Faces/data/30_1_0_b"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_repository(course, hub, fault):
    change, commit, answer = FAULTS[fault]
    members = {p: c for p, c in (PHOTOS | MORE | change).items() if c is not None}
    good = hub.files[ARCHIVE]
    hub.files[ARCHIVE] = repository_archive("Faces", COMMIT, members, comment=commit)
    describe(course, hub)
    said = course.fails(answer, f"Faces-{COMMIT}.tar.gz", absent=False)
    assert f"  github somebody/Faces at {COMMIT[:10]}: " in said
    hub.files[ARCHIVE] = good
    describe(course, hub)
    fetch.fetch("digits")
    assert prepared(course)


def test_an_archive_that_states_no_commit_is_judged_by_its_files(course, hub):
    hub.files[ARCHIVE] = repository_archive("Faces", COMMIT, PHOTOS, comment=None)
    describe(course, hub)
    fetch.fetch("digits")
    assert prepared(course)


@pytest.mark.parametrize("length", [0, 100, -200, "html"])
def test_a_cut_archive(course, hub, length):
    whole = hub.files[ARCHIVE]
    hub.files[ARCHIVE] = b"<html>" * 50 if length == "html" else whole[:length]
    course.fails(f"Faces-{COMMIT}.tar.gz is damaged: ", absent=False)


def test_an_archive_that_is_too_large(course, hub):
    size = len(hub.files[ARCHIVE])
    hub.files[ARCHIVE] += bytes(100_000)
    course.fails(f"goes on after {size} bytes, more than it can have", absent=False)


def test_a_repository_that_is_gone(course, hub):
    hub.files.clear()
    said = course.fails("HTTP Error 404: Not Found", absent=True)
    assert "connect to the internet and run this again" in said
    assert f"https address with Faces-{COMMIT}.tar.gz" in said


def test_a_host_that_cannot_be_reached(course, hub):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    describe(course, hub, url=url)
    course.fails("github somebody/Faces", "refused", absent=True)


def test_a_list_that_is_not_the_catalogs(course, hub):
    path = course.folder / "originals" / "utkface.tsv.xz"
    path.write_bytes(path.read_bytes() + b"x")
    course.fails("is not the list that the catalog knows", absent=False)
    path.unlink()
    course.fails("is not the list that the catalog knows", absent=False)


def test_annotations_that_come_out_otherwise_are_refused(course, hub):
    other = TABLES | {"val.csv": TABLES["val.csv"].replace(b"50,1", b"51,1")}
    describe(course, hub, originals=write_list(course.folder, tables=other))
    # the fixture's list is written by `describe`, so the other one goes after it
    write_list(course.folder, tables=other)
    course.fails(
        "val.csv, as prepared here, is not what the catalog says", absent=False
    )


FULL = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))"
REPORT = """
try:
    fetch.fetch('digits')
except fetch.DatasetUnavailable as error:
    print(type(error).__name__, error)
"""


def test_a_full_disk(course, hub):
    describe(course, hub, size=50_000_000)
    before = course.tree()
    code = f"{CHILD}{FULL}{REPORT}"
    said, errors = course.child(code).communicate(timeout=30)
    last = said.splitlines()[-1]
    assert last.startswith("DatasetUnavailable the data set 'digits' (1 MB) cannot be")
    # the archive, what is taken out of it, and the set
    assert "there is no room; free about 101 MB there" in last
    assert errors == "" and course.tree() == before


@pytest.mark.parametrize("ranges", [False, True])
def test_killed_half_way_then_begun_again(course, hub, ranges):
    """Resumed where the host allows it; else all of it is sent again."""
    hub.ranges = ranges
    before = course.tree()
    hub.stall, hub.faults[ARCHIVE] = True, [150_000]
    child = course.child()
    assert hub.stalled.wait(20)
    part = course.root / ".digits.part" / "github" / f"Faces-{COMMIT}.tar.gz.part"
    while not part.exists() or part.stat().st_size < 100_000:
        time.sleep(0.01)
    child.kill()
    child.communicate()
    assert before.items() <= course.tree().items() and not course.set.exists()
    left = part.stat().st_size
    (part.parents[1] / "originals").mkdir()  # as if killed at a later moment
    (part.parents[1] / "originals" / "Faces").write_bytes(b"half a file")
    fetch.fetch("digits")
    assert hub.requests[-1] == (ARCHIVE, f"bytes={left}-") and prepared(course)


def test_two_processes_at_once(course, hub):
    hub.stall, hub.faults[ARCHIVE], hub.lengths = True, [150_000], True
    course.fetched_by_two(hub)
    assert len(hub.requests) == 2 and prepared(course)


def test_a_mirror_of_it_serves_a_classroom(course, hub, monkeypatch, capsys):
    stick = course.folder / "stick"
    main(["list"])
    assert "internet: 127.0.0.1" in capsys.readouterr().out
    assert main(["get"]) == 0 and not course.set.exists()  # a package index has it not
    assert main(["mirror", str(stick), "digits"]) == 0
    archive = stick / f"Faces-{COMMIT}.tar.gz"
    assert archive.read_bytes() == hub.files[ARCHIVE]
    hub.files.clear()
    monkeypatch.setenv("CV_MIRROR", str(stick))
    main(["list"])
    assert f"the mirror: {archive.name}" in capsys.readouterr().out
    assert main(["get", "digits"]) == 0 and prepared(course)
    assert len(hub.requests) == 1


def test_the_real_catalog_names_what_is_on_disk():
    """Its lists are there, of the stated hash; each function has one, and a set."""
    found = {}
    for name, entry in catalog.read_catalog().items():
        for source in sources_of(entry):
            if source.kind == "github":
                found[name] = source
                rows = lzma.open(source.originals_list, "rt").read().splitlines()
                rows = [row.split("\t") for row in rows]
                assert digest(source.originals_list.read_bytes()) == source.originals
                paths = [path for *_, path in rows if path]
                assert len(paths) == len(set(paths)) == entry.layouts[0].tree.files
                wanted = [row[2] for row in rows if row[2]]
                assert len(wanted) == len(set(wanted))
                names = {each.short_name for each in source.repositories}
                assert {row[2].partition("/")[0] for row in rows} - {""} == names
                assert source.rule and len(names) == len(source.repositories)
                assert all(len(each.commit) == 40 for each in source.repositories)
    assert sorted(found) == sorted(PREPARE)
