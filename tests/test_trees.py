"""Sets of many files: from each kind of source, with each fault; two layouts; torn sets; weights."""

import hashlib
import io
import os
import shutil
import stat
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from fetch_helpers import debian_package, describe_wheel, described, wheel
from torchvision.datasets import ImageFolder

from utils import fetch, manifest

TREE = {
    f"{part}/{kind}/{n}.png": os.urandom(40) for part in ("train", "val") for kind in "ab" for n in range(5)
}
LISTED = "".join(f"{hashlib.sha256(TREE[path]).hexdigest()}  {path}\n" for path in sorted(TREE)).encode()
SPEC = {"files": len(TREE), "bytes": 40 * len(TREE), "sha256": hashlib.sha256(LISTED).hexdigest()}
NEEDS = ["train/*", "val"]
LINK = object()  # stands for a symbolic link in the place of a file

needs_dpkg = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="this system has no dpkg-deb")
KINDS = ["mirror", "pypi", pytest.param("debian", marks=needs_dpkg), "https tar", "https zip"]


def tar(members: dict[str, object], mode: str) -> bytes:
    """Pack a tar with a folder as its first member, as tar itself does."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:
        folder = tarfile.TarInfo("pets")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if content is LINK:
                info.type, info.linkname, content = tarfile.SYMTYPE, "/etc/passwd", b""
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def zipped(members: dict[str, object]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.mkdir("pets")
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            if content is LINK:
                info.external_attr, content = (stat.S_IFLNK | 0o777) << 16, b"/etc/passwd"
            archive.writestr(info, content)
    return packed.getvalue()


@pytest.fixture
def deliver(course, server, shop, mirror, monkeypatch, tmp_path):
    """Return what puts an archive of `members` at a source of some kind, and returns its entry."""

    def deliver(kind: str, members: dict[str, object]) -> tuple[dict, Path | None]:
        members = {f"pets/{path}" if path[0] != "/" else path: data for path, data in members.items()}
        members = dict(reversed(members.items()))  # not in the order of the list
        monkeypatch.delenv("CV_MIRROR", raising=False)
        source = {"kind": kind.split()[0], "member": "pets/{path}"}
        if kind == "mirror":
            monkeypatch.setenv("CV_MIRROR", str(mirror))
            path = mirror / "pets.tar.xz"
            path.write_bytes(tar(members, "w:xz"))
            return source | {"archives": [described(path)]}, path
        if kind == "pypi":
            path = shop / "digits_data-1.0-py3-none-any.whl"
            wheel(shop, {})
            with zipfile.ZipFile(path, "a") as archive, zipfile.ZipFile(io.BytesIO(zipped(members))) as more:
                for info in more.infolist():
                    archive.writestr(info, more.read(info))
            return describe_wheel(path) | source, path
        if kind == "debian":  # apt needs a repository: here a mirror delivers what apt would
            monkeypatch.setenv("CV_MIRROR", str(mirror))
            (tmp_path / "apt.conf").write_text(
                'Dir::Etc::SourceList "/dev/null";Dir::Etc::SourceParts "/dev/null";'
            )
            monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
            path = mirror / "digits-data_1.0_all.deb"
            entries = {name: data for name, data in members.items() if data is not LINK}
            for name in members.keys() - entries.keys():
                entries[name] = tarfile.TarInfo(name)
                entries[name].type, entries[name].linkname = tarfile.SYMTYPE, "/etc/passwd"
            debian_package(path, entries)
            return source | {"package": "digits-data"}, path
        name, content = (
            ("pets.tar.gz", tar(members, "w:gz")) if kind == "https tar" else ("pets.zip", zipped(members))
        )
        (tmp_path / name).write_bytes(content)
        server.files[name] = content
        return source | {"url": server.url, "archives": [described(tmp_path / name)]}, None

    return deliver


def describe(course, *sources: dict, tree: dict = SPEC, **more: object) -> None:
    course.describe(*sources, folder="pets", needs=NEEDS, tree=tree, **more)


def whole(folder: Path) -> bool:
    here = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    return here == TREE | {"SHA256SUMS": LISTED}


@pytest.mark.parametrize("kind", KINDS)
def test_a_tree_from_each_kind_of_source(course, deliver, kind):
    source, _ = deliver(kind, TREE)
    describe(course, source)
    folder = fetch.fetch("digits")
    assert folder == course.root / "pets" and whole(folder) and fetch.verify("digits") == []
    assert len(ImageFolder(folder / "train").samples) == 10
    before = course.tree()
    assert fetch.fetch("digits") == folder and course.tree() == before
    names = {path for path in before if not path.startswith(("pets", "other"))}
    assert names == set()  # nothing else is left


CHANGED = {path: b"x" * 40 for path in list(TREE)[:1]}
HOSTILE = {
    "dots": ({"../../evil": b"x"}, "leaves the folder"),
    "absolute": ({"/tmp/evil": b"x"}, "leaves the folder"),
    "link": ({"train/a/0.png": LINK}, "is a link, not a file"),
    "bomb": ({"val/b/4.png": bytes(10**6)}, "is larger than the catalog's"),
    "changed": (CHANGED, "the files in it are not the catalog's"),
    "one more": ({"z.png": b""}, f"more than the catalog's {len(TREE)} files"),
    "a foreign name": ({"c:evil": b"x"}, "has a name that no file of a set has"),
    "the list itself": ({"SHA256SUMS": b"x"}, "has a name that no file of a set has"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", HOSTILE)
def test_a_hostile_archive(course, deliver, kind, fault):
    """Its own hash is the catalog's, so that the second line of defence is what is tested."""
    change, answer = HOSTILE[fault]
    source, _ = deliver(kind, TREE | change)
    describe(course, source)
    course.fails(answer)


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_without_a_file(course, deliver, kind):
    source, _ = deliver(kind, dict(list(TREE.items())[1:]))
    describe(course, source)
    course.fails("holds 19 files of the set instead of 20")


DAMAGE = {
    "cut": lambda content: content[: len(content) * 2 // 3],
    "another": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "no archive": lambda _: b"<html>sign in to this network</html>",
    "empty": lambda _: b"",
    "scrambled": lambda content: content[: len(content) // 2] + bytes(99) + content[len(content) // 2 + 99 :],
}
DAMAGED = [
    pytest.param(kind, damage, pinned, marks=needs_dpkg if kind == "debian" else [])
    for kind in ("mirror", "pypi", "debian", "https tar", "https zip")
    for damage in DAMAGE
    for pinned in (True, False)
    # without a hash of the archive those of its contents decide, and its last byte means nothing
    if damage != "another" or (pinned and kind != "debian")
]


@pytest.mark.parametrize("kind, damage, pinned", DAMAGED)
def test_a_damaged_archive(course, deliver, server, mirror, kind, damage, pinned, monkeypatch):
    """Refused by its hash; and, where the hash is that of the damaged file, when it is read."""
    source, path = deliver(kind, TREE)
    if kind == "pypi":  # pip itself refuses what is no wheel: let a mirror deliver it
        path = Path(shutil.move(path, mirror))
        monkeypatch.setenv("CV_MIRROR", str(mirror))
    good = path.read_bytes() if path else server.files[source["archives"][0]["name"]]
    bad = DAMAGE[damage](good)
    if path:
        path.write_bytes(bad)
    else:
        server.files[source["archives"][0]["name"]] = bad
    if "archives" in source and not pinned:
        source["archives"][0] |= {"sha256": hashlib.sha256(bad).hexdigest(), "bytes": len(bad)}
    describe(course, source)
    said = course.fails()
    if "archives" in source and pinned:
        assert "is not the catalog's: " in said
    else:
        assert any(word in said for word in ("is damaged", "instead of 20", "are not the catalog's"))


def test_a_host_that_states_md5_only(course, deliver, server):
    source, _ = deliver("https zip", TREE)
    content = server.files["pets.zip"]
    source["archives"][0].pop("sha256")
    describe(course, source | {"archives": [source["archives"][0] | {"md5": "0" * 32}]})
    course.fails("pets.zip is not the catalog's", "md5")
    md5 = hashlib.md5(content).hexdigest()
    describe(course, source | {"archives": [source["archives"][0] | {"md5": md5}]})
    assert whole(fetch.fetch("digits"))


def test_an_archive_on_the_web_that_goes_on_for_ever(course, deliver, server):
    source, _ = deliver("https tar", TREE)
    server.files["pets.tar.gz"] += bytes(10**6)
    describe(course, source)
    course.fails("more than it can have")


def test_a_pattern_selects(course, deliver):
    source, _ = deliver("pypi", TREE | {"train/a/notes.txt": b"x", "link": LINK})
    describe(course, source | {"only": "*.png"})
    assert whole(fetch.fetch("digits"))


@pytest.mark.parametrize("loss", ["file", "list", "last line", "end of line"])
def test_a_torn_tree_is_completed(course, deliver, loss):
    source, _ = deliver("mirror", TREE)
    describe(course, source)
    folder = fetch.fetch("digits")
    (folder / "train/a/0.png").write_bytes(b"of another version")
    if loss == "file":
        (folder / "val/b/3.png").unlink()
    elif loss == "list":
        (folder / manifest.NAME).write_bytes(b"")
    elif loss == "last line":
        (folder / manifest.NAME).write_bytes(b"".join(LISTED.splitlines(keepends=True)[:-1]))
    else:
        (folder / manifest.NAME).write_bytes(LISTED[:-10])
    assert whole(fetch.fetch("digits"))


def test_killed_while_a_torn_tree_is_completed(course, deliver, monkeypatch):
    """Whatever was renamed before the end, the set is still seen to be torn."""
    source, _ = deliver("mirror", TREE)
    describe(course, source)
    folder = course.root / "pets"
    (folder / "train" / "a").mkdir(parents=True)
    (folder / "train/a/0.png").write_bytes(b"of another version")
    replace = Path.replace
    for stop in range(1, len(TREE) + 1):
        count = 0

        def stopped(self, target, stop=stop):
            nonlocal count
            count += Path(target).is_relative_to(folder)
            if count == stop:
                raise KeyboardInterrupt
            return replace(self, target)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Path, "replace", stopped)
            fetch.fetch("digits")
    assert whole(fetch.fetch("digits"))


def test_a_tree_by_its_owners_hand_is_used_as_it_is(course, deliver):
    source, _ = deliver("mirror", TREE)
    describe(course, source)
    folder = course.root / "pets"
    for part in ("train/a", "val"):
        (folder / part).mkdir(parents=True)
    before = course.tree()
    assert fetch.fetch("digits") == folder and course.tree() == before
    assert "cannot vouch for it" in fetch.verify("digits")[0]


def test_two_layouts(course, deliver):
    """The mirror's, and that of the official host; either is taken if it is here."""
    ours, _ = deliver("mirror", TREE)
    other, _ = deliver("https zip", {"all/x": b"1", "all/y": b"2"})
    official = {"folder": "pets", "needs": ["all/x"], "tree": {"bytes": 2}}
    describe(course, ours, other | {"layout": "official"}, official=official)
    assert fetch.fetch("digits") == course.root / "pets" and fetch.verify("digits") == []
    assert (course.root / "pets/all/y").read_bytes() == b"2" and not (course.root / "pets/train").exists()
    official["tree"]["bytes"] = 1
    shutil.rmtree(course.root / "pets")
    describe(course, ours, other | {"layout": "official"}, official=official)
    said = course.fails("is larger than the catalog's")
    assert "all/x into" in said and "train/*, val into" in said


def test_verify_names_what_is_wrong(course, deliver):
    source, _ = deliver("mirror", TREE)
    describe(course, source)
    assert fetch.verify("digits") == [f"{course.root / 'pets'} is missing"]
    folder = fetch.fetch("digits")
    (folder / "train/a/0.png").write_bytes(b"x" * 40)
    (folder / "train/a/1.png").unlink()
    (folder / "val/b/99.png").write_bytes(b"")
    problems = "\n".join(fetch.verify("digits"))
    assert "0.png has another content" in problems and "1.png is missing" in problems
    assert "99.png does not belong to the set" in problems and len(problems.splitlines()) == 3
    (folder / manifest.NAME).write_bytes(LISTED[: -len(LISTED.splitlines(keepends=True)[-1])])
    assert "SHA256SUMS is not the catalog's" in fetch.verify("digits")[0]


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="this system has no sha256sum")
def test_the_list_is_what_sha256sum_checks(course, deliver):
    source, _ = deliver("mirror", TREE)
    describe(course, source)
    command = ["sha256sum", "--check", "--strict", "--quiet", manifest.NAME]
    assert subprocess.run(command, cwd=fetch.fetch("digits")).returncode == 0


def test_weights_go_to_torchs_folder(course, deliver, tmp_path):
    source, _ = deliver("mirror", {"pnet.pt": b"weights"})
    file = {"path": "mtcnn_pnet.pt", "original": "pnet.pt", "bytes": 7}
    file["sha256"] = hashlib.sha256(b"weights").hexdigest()
    root = tmp_path / "torch" / "hub" / "checkpoints"
    root.mkdir(parents=True)
    (root / "mine.pth").write_bytes(b"mine")
    course.describe(source | {"member": "pets/{name}"}, files={}, folder=".", weights=True)
    with course.catalog.open("a") as catalog:
        catalog.write("\n[[digits.files]]\n" + "\n".join(f"{key} = {value!r}" for key, value in file.items()))
    assert fetch.fetch("digits") == root and fetch.verify("digits") == []
    here = {path.name: path.read_bytes() for path in root.iterdir() if path.name[0] != "."}
    assert here == {"mine.pth": b"mine", "mtcnn_pnet.pt": b"weights"}
