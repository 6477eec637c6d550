"""`utils.fetch`: what is used as it is, where the rest comes from, what is verified."""

import hashlib
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from fetch_helpers import (
    DEB,
    DEB_NAME,
    DEBIAN,
    FILES,
    GZ,
    LINK,
    LISTED,
    TREE,
    TREE_KEYS,
    WHEEL,
    WHEEL_NAME,
    is_whole,
    no_apt_repository,
    pack,
    packed_tree,
    wheel,
)
from torchvision import datasets

from utils import fetch
from utils.fetch.catalog import Entry, File, Layout, Source, entry_of, torn_here

needs_apt = pytest.mark.skipif(
    not shutil.which("apt-get"), reason="only Debian and its relatives have apt"
)
needs_dpkg = pytest.mark.skipif(
    not shutil.which("dpkg-deb"), reason="this system has no dpkg-deb"
)


# --- what is here ---


@pytest.mark.parametrize("kind", [datasets.FashionMNIST, datasets.MNIST])
def test_torchvision_reads_what_was_fetched(course, server, kind):
    course.describe(server.source, folder=kind.__name__)
    assert fetch.fetch("digits") == course.root / kind.__name__
    for train, part in ((True, "train"), (False, "t10k")):
        read = kind(course.root, train=train, download=False)
        images, labels = (
            FILES[f"raw/{part}-{rest}-ubyte"] for rest in ("images-idx3", "labels-idx1")
        )
        assert read.data.numpy().tobytes() == images[16:]
        assert bytes(read.targets.tolist()) == labels[8:]


def test_a_second_call_asks_nobody(course, server):
    course.describe(server.source)
    course.succeeds()
    course.succeeds()
    assert len(server.requests) == len(FILES)


def test_what_is_there_is_used_as_it_is(course, server):
    """A smaller sample in the same layout: no network, no lock, no change."""
    course.describe(server.source)
    for path in FILES:
        (course.set / path).parent.mkdir(parents=True, exist_ok=True)
        (course.set / path).write_bytes(b"a sample")
    before = course.tree()
    assert fetch.fetch("digits") == course.set
    assert course.tree() == before and not server.requests
    assert not (course.root / ".digits.lock").exists()


def test_a_torn_set_is_completed(course, server):
    course.describe(server.source)
    course.succeeds()
    first, second, *_ = FILES
    (course.set / first).unlink()
    other = b"of another version: may not be mixed with the new files"
    (course.set / second).write_bytes(other)
    course.succeeds()


def stop_at(number: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a fetch end, as if killed, at its `number`-th rename into `folder`."""
    replace, count = Path.replace, 0

    def stopped(self, target):
        nonlocal count
        count += Path(target).is_relative_to(folder)
        if count == number:
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", stopped)
        fetch.fetch("digits")


def test_killed_while_files_are_renamed(course, server, monkeypatch):
    """The missing file comes last: a half-installed set is still seen to be torn."""
    course.describe(server.source)
    course.succeeds()
    first, *others = FILES
    (course.set / first).unlink()
    for path in others:
        (course.set / path).write_bytes(b"stale")
    stop_at(2, course.set, monkeypatch)
    course.succeeds()


def test_a_part_of_a_set_is_not_absence(course):
    """A stand-in may take the place of what is absent, not of what is torn."""
    course.describe({"kind": "mirror", "archives": [], "member": "{name}.gz"})
    raw = course.set / "raw"
    raw.mkdir(parents=True)
    course.fails("CV_MIRROR names none", absent=True)
    (raw / "train-images-idx3-ubyte").write_bytes(b"1")
    course.fails(f"{course.set} holds a part of it", absent=False)
    entry = entry_of("digits")
    assert torn_here(entry) == [course.set]
    for path, content in FILES.items():
        (course.set / path).write_bytes(content)
    assert torn_here(entry) == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("fashion_mnits", "Did you mean 'fashion_mnist'"),
        ("MNIST", "Did you mean 'mnist'"),
        ("CIFAR-10", "Did you mean 'cifar10'"),
        ("resnet18", "torchvision come from utils.weights.pretrained"),
        (None, "The catalog has: mnist, "),
        (["mnist"], "Did you mean 'mnist'"),
        (Path("data/mnist"), "The catalog has: mnist, "),
        ("", "The catalog has: mnist, "),
    ],
)
def test_a_name_that_the_catalog_does_not_have(name, hint):
    for call in (fetch.fetch, fetch.verify):
        with pytest.raises(ValueError, match="there is no data set") as error:
            call(name)
        assert hint in str(error.value) and repr(name) in str(error.value)


@pytest.mark.parametrize("name", ["scenes", "photos"])
def test_what_is_generated_or_comes_with_a_library_is_not_fetched(name):
    for call in (fetch.fetch, fetch.verify):
        with pytest.raises(ValueError, match=f"'{name}' has no files.*use utils.data."):
            call(name)


def test_an_entry_of_ones_own(course, server):
    """As `utils.weights` describes torchvision's weights, which no catalog has."""
    digest = hashlib.sha256(b"x").hexdigest()
    layout = Layout(folder="own", files=(File("a", 1, digest[:8]),))
    source = Source(kind="https", url=server.url, member="{name}", layout=layout)
    entry = Entry("mine", layouts=(layout,), sources=(source,))
    server.files["a"] = b"y"
    with pytest.raises(fetch.DatasetUnavailable, match="a is not the catalog's"):
        fetch.fetch(entry)
    server.files["a"] = b"x"
    assert fetch.fetch(entry) == course.root / "own"
    assert (course.root / "own" / "a").read_bytes() == b"x"


# --- where it comes from ---


def test_a_wheel_through_pip(course, shop):
    course.describe(wheel(shop, WHEEL))
    course.succeeds()


def test_another_wheel_is_refused_unopened(course, mirror, monkeypatch):
    """Same name and version, same files, other bytes."""
    source = wheel(mirror, WHEEL)
    wheel(mirror, WHEEL | {"digits/more": b"x"})
    course.describe(source | {"kind": "mirror"})
    monkeypatch.setattr(zipfile, "ZipFile", None)
    course.fails(
        f"{WHEEL_NAME} is not the expected file", source["archives"][0]["sha256"]
    )


def test_a_wheel_that_pip_does_not_have(course, shop):
    course.describe(wheel(shop, WHEEL) | {"package": "digits-data==2.0"})
    answer = "pypi digits-data==2.0: Could not find a version that satisfies"
    course.fails(answer, absent=True)


def test_no_pip(course, shop, monkeypatch, tmp_path):
    venv.create(tmp_path / "venv", with_pip=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "bin" / "python"))
    course.describe(wheel(shop, WHEEL))
    course.fails("pypi digits-data==1.0: ", "No module named pip")


@pytest.fixture
def apt(tmp_path, monkeypatch):
    """A real package in a repository on this disk, the only one that apt looks at."""
    tree, repository = tmp_path / "tree", tmp_path / "repository"
    (tree / "DEBIAN").mkdir(parents=True)
    repository.mkdir()
    control = "Package: digits-data\nVersion: 1.0\nArchitecture: all\n"
    control += "Maintainer: t\nDescription: d\n"
    (tree / "DEBIAN" / "control").write_text(control)
    for name, content in DEB.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    # what is not asked for may be there
    (tree / "usr/share/digits/link").symlink_to("/etc/passwd")
    package = repository / DEB_NAME
    subprocess.run(["dpkg-deb", "-b", tree, package], check=True, capture_output=True)
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    index = f"{control}Filename: ./{package.name}\nSize: {package.stat().st_size}\n"
    (repository / "Packages").write_text(f"{index}SHA256: {digest}\n")
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] copy:{repository} ./\n")
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc::SourceList "{tmp_path}/sources.list";\n'
        f'Dir::Etc::SourceParts "/dev/null";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    return repository


@needs_apt
def test_a_debian_package_through_apt(course, apt):
    lists = Path("/var/lib/apt/lists").stat().st_mtime_ns
    course.describe(DEBIAN)
    course.succeeds()
    # the system's own state is left as it was
    assert Path("/var/lib/apt/lists").stat().st_mtime_ns == lists


@needs_apt
def test_apt_does_not_deliver(course, apt, tmp_path):
    course.describe(DEBIAN | {"package": "digits-lost"})
    answer = "debian digits-lost: Unable to locate package digits-lost"
    course.fails(answer, absent=True)
    (tmp_path / "sources.list").write_text("deb [trusted=yes] http://127.0.0.1:9/ ./\n")
    course.describe(DEBIAN)
    course.fails("debian digits-data: http://127.0.0.1:9/", "refused")


def test_without_debian_tools_the_next_source_serves(
    course, mirror, server, monkeypatch, tmp_path
):
    pack(mirror / DEB_NAME, DEB)
    monkeypatch.setenv("PATH", str(tmp_path))
    course.describe(DEBIAN)
    course.fails(
        "takes dpkg-deb, which this machine does not have",
        "this machine has no apt-get",
        absent=True,
    )
    course.describe(DEBIAN, server.source)
    course.succeeds()


@needs_dpkg
def test_a_debian_package_from_a_mirror(course, mirror, monkeypatch, tmp_path):
    """Of two versions the newer."""
    no_apt_repository(tmp_path, monkeypatch)
    pack(mirror / DEB_NAME, DEB)
    (mirror / "digits-data_0.9_all.deb").write_bytes(b"old")
    course.describe(DEBIAN)
    course.succeeds()


def test_a_mirror_comes_first(course, server, mirror, monkeypatch):
    """A wheel, then single files, though the server has them too."""
    source = wheel(mirror, WHEEL)
    course.describe(server.source, source)
    course.succeeds()
    shutil.rmtree(course.set)
    (mirror / WHEEL_NAME).unlink()
    (mirror / "digits").mkdir()
    for name, content in GZ.items():
        (mirror / "digits" / name).write_bytes(content)
    monkeypatch.setenv("HOME", str(mirror.parent))
    monkeypatch.setenv("CV_MIRROR", "~/mirror")
    course.succeeds()
    assert not server.requests


def test_a_mirror_with_a_bad_archive(course, server, mirror, capsys):
    source = wheel(mirror, WHEEL)
    wheel(mirror, WHEEL | {"digits/more": b"x"})
    course.describe(source | {"kind": "mirror"}, server.source)
    course.succeeds()
    assert capsys.readouterr().out.splitlines() == [
        f"digits: from mirror {mirror} ...",
        f"digits: from {server.url} ...",
    ]


def test_a_mirror_that_is_no_help(course, mirror, capsys, monkeypatch):
    source = wheel(mirror, WHEEL) | {"kind": "mirror"}
    course.describe(source)
    (mirror / WHEEL_NAME).unlink()
    course.fails(f"mirror {mirror}: holds no {WHEEL_NAME}", absent=True)
    (mirror / WHEEL_NAME).mkdir()
    course.fails(f"{WHEEL_NAME} cannot be read", absent=False)
    for lost in (mirror / "lost", "ftp://example.org/mirror"):
        capsys.readouterr()
        monkeypatch.setenv("CV_MIRROR", str(lost))
        course.describe(source, source)
        said = course.fails(f"mirror {lost}: is not a folder", absent=True)
        assert said.count("is not a folder") == 1
        line = f"digits: CV_MIRROR names {lost}, which is not a folder\n"
        assert capsys.readouterr().out == line


@pytest.mark.parametrize("kind", ["wheel", "single files"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_mirror_on_a_web_server(course, server, kind, slash, monkeypatch, capsys):
    source = wheel(course.folder, WHEEL) if kind == "wheel" else server.source
    content = {f"digits/{name}": data for name, data in GZ.items()}
    if kind == "wheel":
        content = {WHEEL_NAME: (course.folder / WHEEL_NAME).read_bytes()}
    server.files = {f"my%20mirror/{name}": data for name, data in content.items()}
    mirror = f"{server.url}my%20mirror{slash}"
    monkeypatch.setenv("CV_MIRROR", mirror)
    course.describe(source)
    course.succeeds()
    assert capsys.readouterr().out == f"digits: from mirror {mirror} ...\n"
    asked = len(server.requests)
    course.succeeds()  # it is here
    assert len(server.requests) == asked


def test_a_mirror_on_a_web_server_is_resumed(course, server, monkeypatch):
    source = wheel(course.folder, WHEEL)
    content = (course.folder / WHEEL_NAME).read_bytes()
    server.files[WHEEL_NAME], server.faults[WHEEL_NAME] = content, [len(content) // 2]
    monkeypatch.setenv("CV_MIRROR", server.url)
    course.describe(source)
    course.succeeds()
    assert server.requests == [
        (WHEEL_NAME, None),
        (WHEEL_NAME, f"bytes={len(content) // 2}-"),
    ]


def test_a_mirror_on_a_web_server_that_is_no_help(course, server, monkeypatch):
    source = wheel(course.folder, WHEEL) | {"kind": "mirror"}
    content = (course.folder / WHEEL_NAME).read_bytes()
    course.describe(source)
    monkeypatch.setenv("CV_MIRROR", server.url)
    course.fails(f"mirror {server.url}: {WHEEL_NAME}: HTTP Error 404", absent=True)
    server.files[WHEEL_NAME] = content[:-1]
    course.fails(f"{WHEEL_NAME} is not the expected file", absent=False)
    server.files[WHEEL_NAME] = content + b"more"
    course.fails(f"{WHEEL_NAME} goes on after {len(content)} bytes", absent=False)
    server.files[WHEEL_NAME] = content
    course.succeeds()
    shutil.rmtree(course.set)
    course.describe(DEBIAN | {"kind": "mirror"})
    course.fails("a web server cannot be searched for digits-data_*.deb", absent=True)
    monkeypatch.setenv("CV_MIRROR", "http://127.0.0.1:9/")
    course.describe(source)
    course.fails("Connection refused", absent=True)


# --- sets of many files ---


@pytest.mark.parametrize("kind", ["tar.xz", "whl", "tar.gz", "zip"])
def test_a_tree_from_each_kind_of_archive(course, server, mirror, kind, monkeypatch):
    source = packed_tree(mirror, kind)
    if kind in ("tar.gz", "zip"):
        monkeypatch.delenv("CV_MIRROR")
        server.files[f"pets.{kind}"] = (mirror / f"pets.{kind}").read_bytes()
        source |= {"kind": "https", "url": server.url}
    course.describe(source, **TREE_KEYS)
    folder = fetch.fetch("digits")
    assert folder == course.root / "pets" and is_whole(folder)
    assert fetch.verify("digits") == []
    assert len(datasets.ImageFolder(folder / "train").samples) == 4
    before = course.tree()
    assert fetch.fetch("digits") == folder and course.tree() == before
    names = {path for path in before if not path.startswith(("pets", "other"))}
    assert names == set()  # nothing else is left


def test_a_pattern_selects(course, mirror):
    members = TREE | {"train/a/notes.txt": b"x", "link": LINK}
    source = packed_tree(mirror, "tar.xz", members)
    course.describe(source | {"only": "*.png"}, **TREE_KEYS)
    assert is_whole(fetch.fetch("digits"))


@pytest.mark.parametrize("loss", ["file", "list", "last line", "end of line"])
def test_a_torn_tree_is_completed(course, mirror, loss):
    course.describe(packed_tree(mirror, "tar.xz"), **TREE_KEYS)
    folder = fetch.fetch("digits")
    (folder / "train/a/0.png").write_bytes(b"of another version")
    if loss == "file":
        (folder / "val/b/1.png").unlink()
    else:
        lines = LISTED.splitlines(keepends=True)
        short = {"list": b"", "last line": b"".join(lines[:-1])}
        (folder / "SHA256SUMS").write_bytes(short.get(loss, LISTED[:-10]))
    assert is_whole(fetch.fetch("digits"))


def test_killed_while_a_torn_tree_is_completed(course, mirror, monkeypatch):
    """Whatever was renamed before the end, the set is still seen to be torn."""
    course.describe(packed_tree(mirror, "tar.xz"), **TREE_KEYS)
    folder = course.root / "pets"
    (folder / "train" / "a").mkdir(parents=True)
    (folder / "train/a/0.png").write_bytes(b"of another version")
    for number in range(1, len(TREE) + 1):
        stop_at(number, folder, monkeypatch)
    assert is_whole(fetch.fetch("digits"))


def test_a_tree_by_its_owners_hand_is_used_as_it_is(course, mirror):
    course.describe(packed_tree(mirror, "tar.xz"), **TREE_KEYS)
    folder = course.root / "pets"
    for part in ("train/a", "val"):
        (folder / part).mkdir(parents=True)
    before = course.tree()
    assert fetch.fetch("digits") == folder and course.tree() == before
    assert "cannot vouch for it" in fetch.verify("digits")[0]


def test_two_layouts(course, mirror, tmp_path):
    """The mirror's, and that of the official host; either is taken if it is here."""
    ours = packed_tree(mirror, "tar.xz")
    other = packed_tree(mirror, "zip", {"all/x": b"1", "all/y": b"2"})
    (mirror / "pets.tar.xz").unlink()
    official = {"folder": "pets", "needs": ["all/x"], "tree": {"bytes": 2}}
    sources = ours, other | {"layout": "official"}
    course.describe(*sources, **TREE_KEYS, official=official)
    folder = course.root / "pets"
    for _ in range(2):
        assert fetch.fetch("digits") == folder and fetch.verify("digits") == []
        assert (folder / "all/y").read_bytes() == b"2"
        assert not (folder / "train").exists()
    official["tree"]["bytes"] = 1
    shutil.rmtree(folder)
    course.describe(*sources, **TREE_KEYS, official=official)
    said = course.fails("is larger than the catalog's")
    assert "all/x into" in said and "train/*, val into" in said


def test_weights_go_to_torchs_folder(course, mirror, tmp_path):
    """Beside what is there already, and under the course's name for the file."""
    source = packed_tree(mirror, "tar.xz", {"pnet.pt": b"weights"})
    course.describe(
        source | {"member": "pets/{name}"},
        files={"mtcnn_pnet.pt": b"weights"},
        folder=".",
        weights=True,
    )
    text = course.catalog.read_text()
    original = 'path = "mtcnn_pnet.pt", original = "pnet.pt"'
    course.catalog.write_text(text.replace('path = "mtcnn_pnet.pt"', original))
    root = tmp_path / "torch" / "hub" / "checkpoints"
    root.mkdir(parents=True)
    (root / "mine.pth").write_bytes(b"mine")
    assert fetch.fetch("digits") == root and fetch.verify("digits") == []
    here = {
        path.name: path.read_bytes() for path in root.iterdir() if path.name[0] != "."
    }
    assert here == {"mine.pth": b"mine", "mtcnn_pnet.pt": b"weights"}


# --- what is verified ---


def test_verify_reads_every_file(course, server):
    course.describe(server.source)
    missing = fetch.verify("digits")
    assert len(missing) == len(FILES)
    assert all("is missing" in problem for problem in missing)
    course.succeeds()
    assert fetch.verify("digits") == []
    first, second, *_ = FILES
    content = bytearray(FILES[first])
    content[-1] ^= 1
    (course.set / first).write_bytes(content)
    (course.set / second).write_bytes(FILES[second][:-1])
    changed, short = fetch.verify("digits")
    assert first in changed and "another content" in changed
    assert second in short and f"{len(FILES[second]) - 1} bytes" in short


def test_verify_names_what_is_wrong_in_a_tree(course, mirror):
    course.describe(packed_tree(mirror, "tar.xz"), **TREE_KEYS)
    assert fetch.verify("digits") == [f"{course.root / 'pets'} is missing"]
    folder = fetch.fetch("digits")
    (folder / "train/a/0.png").write_bytes(b"x" * 40)
    (folder / "train/a/1.png").unlink()
    (folder / "val/b/99.png").write_bytes(b"")
    missing, changed, foreign = fetch.verify("digits")
    assert "1.png is missing" in missing and "0.png has another content" in changed
    assert "99.png does not belong to the set" in foreign
    last = LISTED.splitlines(keepends=True)[-1]
    (folder / "SHA256SUMS").write_bytes(LISTED[: -len(last)])
    assert "SHA256SUMS is not the catalog's" in fetch.verify("digits")[0]


@pytest.mark.skipif(
    not shutil.which("sha256sum"), reason="this system has no sha256sum"
)
def test_the_list_is_what_sha256sum_checks(course, mirror):
    course.describe(packed_tree(mirror, "tar.xz"), **TREE_KEYS)
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(command, cwd=fetch.fetch("digits")).returncode == 0
