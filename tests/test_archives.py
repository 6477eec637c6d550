"""`utils.fetch`: the catalog is whole, and archives are read without trusting them."""

import gzip
import hashlib
import os
import pickle
import pickletools
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from fetch_helpers import (
    DEB,
    DEB_NAME,
    DEBIAN,
    FILES,
    HARD_LINK,
    LINK,
    TREE,
    TREE_KEYS,
    WHEEL,
    WHEEL_NAME,
    described,
    is_whole,
    no_apt_repository,
    pack,
    packed_tree,
    wheel,
)
from platformdirs import user_cache_path

from utils import fetch
from utils.fetch import archives, catalog
from utils.fetch.sources import OBTAIN, archive_names

ENTRIES = catalog.read_catalog()
FETCHED = {name: entry for name, entry in ENTRIES.items() if entry.sources}

needs_dpkg = pytest.mark.skipif(
    not shutil.which("dpkg-deb"), reason="this system has no dpkg-deb"
)
KINDS = ["tar.xz", "tar.gz", "zip", pytest.param("deb", marks=needs_dpkg)]


def test_data_root(monkeypatch, tmp_path):
    monkeypatch.setenv("CV_DATA", str(tmp_path))
    assert catalog.data_root() == tmp_path
    monkeypatch.delenv("CV_DATA")
    assert catalog.data_root() == Path(__file__).parents[1] / "data"
    # as in site-packages: no pyproject.toml beside it
    monkeypatch.setattr(catalog, "REPOSITORY", tmp_path)
    assert catalog.data_root() == user_cache_path("cv-pytorch-course", appauthor=False)


@pytest.mark.parametrize(
    "variables", [{}, {"TORCH_HOME": "~/t"}, {"XDG_CACHE_HOME": "/x"}]
)
def test_weights_lie_where_torch_looks_for_them(monkeypatch, variables):
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert catalog.weights_root() == Path(torch.hub.get_dir()) / "checkpoints"


def is_hash(text: str) -> bool:
    return re.fullmatch("[0-9a-f]{64}", text) is not None


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_is_whole(name):
    """It says what a reader needs; all of it can be checked; every source is pinned."""
    entry = ENTRIES[name]
    assert entry.title and entry.licence and entry.citation and entry.used_for
    if name not in FETCHED:
        assert entry.made_by and set(entry.made_from) <= FETCHED.keys()
        assert bool(entry.made_from) != bool(entry.comes_with) and not entry.layouts
        return
    for layout in entry.layouts:
        assert not Path(layout.folder).is_absolute()
        assert bool(layout.files) != bool(layout.tree) == bool(layout.needs)
        for file in layout.files:
            path = Path(file.path)
            assert not path.is_absolute() and ".." not in path.parts
            assert file.bytes > 0 and is_hash(file.sha256)
        assert layout.bytes > 0 and layout.contents
    own = entry.layouts[0]
    assert own.files or is_hash(own.tree.sha256)
    # whoever has the internet gets it by its name
    assert {source.kind for source in entry.sources} - {"mirror"}
    for source in entry.sources:
        assert source.kind in OBTAIN
        # by the hash of each archive, or by those of the files in it
        assert source.archives or (source.layout.files and not source.convert)
        for archive in source.archives:
            assert archive.bytes > 0
            # a repository's files are listed, and the list has a hash
            stated = archive.sha256 or source.originals
            assert is_hash(stated) or re.fullmatch("[0-9a-f]{32}", archive.md5)
        for archive in archive_names(entry, source):
            suffixes = (".whl", ".deb", ".gz", ".xz", ".zip", ".pth", ".avi")
            assert Path(archive).suffix in suffixes


def test_the_catalog_as_dataclasses():
    """Two layouts, by a table of their own and by the set's."""
    cifar10 = ENTRIES["cifar10"]
    ours, official = cifar10.layouts
    assert (ours.folder, official.folder) == ("cifar10", "cifar-10-batches-py")
    assert ours.needs == ("train", "val") and ours.tree.files == 59000
    assert [source.layout for source in cifar10.sources] == [ours, official]
    assert official.bytes == 200_000_000 and ours.contents == "train, val"
    (fashion,) = ENTRIES["fashion_mnist"].layouts
    assert fashion.bytes == 47040016 + 60008 + 7840016 + 10008
    assert ENTRIES["mtcnn"].root == catalog.weights_root()
    assert ENTRIES["mtcnn"].layouts[0].files[0].original == "pnet.pt"
    assert ENTRIES["articles"].made_from == ("fashion_mnist",)


def test_names_that_need_no_internet():
    """What the README promises of a machine that reaches a package index only."""
    offline = {
        name
        for name, entry in FETCHED.items()
        if {source.kind for source in entry.sources} & {"pypi", "debian"}
    }
    sets = "mnist fashion_mnist trees faces emoji cards rgbd imagenet_samples"
    more = "voc_sample pedestrians mobilenet_v2 efficientnet_lite0 mtcnn hed_vgg16"
    assert offline == {*sets.split(), *more.split()}


LABELS = "digits/t10k-labels-idx1-ubyte"
HOSTILE = {
    "dots": ({"../evil": b"x"}, "../evil leaves the folder"),
    "absolute": ({"/tmp/evil": b"x"}, "/tmp/evil leaves the folder"),
    "link": ({LABELS: LINK}, "t10k-labels-idx1-ubyte is a link, not a file"),
    "bomb": ({LABELS: bytes(10**7)}, "is larger than the catalog's 28 bytes"),
    "changed": ({LABELS: bytes(28)}, "t10k-labels-idx1-ubyte is not the catalog's"),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_hostile_wheel(course, mirror, fault):
    """Its own hash is the catalog's: the second line of defence is what is tested."""
    change, answer = HOSTILE[fault]
    course.describe(wheel(mirror, WHEEL | change) | {"kind": "mirror"})
    course.fails(answer, absent=False)


def test_a_wheel_without_a_file_and_a_cut_one(course, mirror):
    course.describe(wheel(mirror, dict(list(WHEEL.items())[:-1])) | {"kind": "mirror"})
    course.fails("lacks raw/t10k-labels-idx1-ubyte", absent=False)
    path = mirror / WHEEL_NAME
    path.write_bytes(path.read_bytes()[:500_000])
    source = {"archives": [described(path)], "member": "digits/{name}"}
    course.describe(source | {"kind": "mirror"})
    course.fails(f"{WHEEL_NAME} is damaged", absent=False)


DEB_LABELS = "./usr/share/digits/t10k-labels-idx1-ubyte.gz"
HOSTILE_DEB = {
    "dots": ({"./usr/../../evil": b"x"}, "leaves the folder"),
    "link": ({DEB_LABELS: LINK}, "is a link, not a file"),
    "hard link": ({DEB_LABELS: HARD_LINK}, "is a link, not a file"),
    "bomb": (
        {DEB_LABELS: gzip.compress(bytes(10**7))},
        "is larger than the catalog's 28 bytes",
    ),
    "cut": ({}, f"{DEB_NAME} is damaged"),
}


@needs_dpkg
@pytest.mark.parametrize("fault", HOSTILE_DEB)
def test_a_hostile_debian_package(course, mirror, fault, monkeypatch, tmp_path):
    """The catalog has no hash of it."""
    change, answer = HOSTILE_DEB[fault]
    path = mirror / DEB_NAME
    pack(path, DEB | change)
    if fault == "cut":
        path.write_bytes(path.read_bytes()[:400_000])
    no_apt_repository(tmp_path, monkeypatch)
    course.describe(DEBIAN)
    course.fails(f"mirror {mirror}: ", answer, absent=False)


HOSTILE_TREE = {
    "dots": ({"../../evil": b"x"}, "leaves the folder"),
    "absolute": ({"/tmp/evil": b"x"}, "leaves the folder"),
    "link": ({"train/a/0.png": LINK}, "is a link, not a file"),
    "bomb": ({"val/b/1.png": bytes(10**6)}, "is larger than the catalog's"),
    "changed": ({"val/b/1.png": b"x" * 40}, "the files in it are not the catalog's"),
    "one more": ({"z.png": b""}, f"more than the catalog's {len(TREE)} files"),
    "a foreign name": ({"c:evil": b"x"}, "has a name that no file of a set has"),
    "the list itself": ({"SHA256SUMS": b"x"}, "has a name that no file of a set has"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", HOSTILE_TREE)
def test_a_hostile_archive_of_a_tree(course, mirror, kind, fault):
    change, answer = HOSTILE_TREE[fault]
    course.describe(packed_tree(mirror, kind, TREE | change), **TREE_KEYS)
    course.fails(answer, absent=False)


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_without_a_file(course, mirror, kind):
    source = packed_tree(mirror, kind, dict(list(TREE.items())[1:]))
    course.describe(source, **TREE_KEYS)
    course.fails("holds 7 files of the set instead of 8", absent=False)


DAMAGE = {
    "cut": lambda content: content[: len(content) * 2 // 3],
    "no archive": lambda _: b"<html>sign in to this network</html>",
    "empty": lambda _: b"",
    "scrambled": lambda content: (
        content[: len(content) // 2] + bytes(99) + content[len(content) // 2 + 99 :]
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_archive(course, mirror, kind, damage):
    """Refused by its hash; and, where that of the damaged file is stated, when read."""
    source = packed_tree(mirror, kind)
    path = mirror / source["archives"][0]["name"]
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    course.describe(source, **TREE_KEYS)
    course.fails(f"{path.name} is not the expected file: ", absent=False)
    course.describe(source | {"archives": [described(path)]}, **TREE_KEYS)
    said = course.fails(absent=False)
    faults = ("is damaged", "instead of 8", "are not the catalog's")
    assert any(fault in said for fault in faults)


def test_one_byte_of_an_archive(course, mirror):
    source = packed_tree(mirror, "zip")
    path = mirror / "pets.zip"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # of no meaning in a zip
    course.describe(source, **TREE_KEYS)
    digest = source["archives"][0]["sha256"]
    course.fails("pets.zip is not the expected file", f"expected sha256 {digest}")


def test_a_host_that_states_md5_only(course, mirror):
    source = packed_tree(mirror, "zip")
    archive = {"name": "pets.zip", "bytes": 1}
    course.describe(source | {"archives": [archive | {"md5": "0" * 32}]}, **TREE_KEYS)
    course.fails("pets.zip is not the expected file", "expected md5 0000")
    md5 = hashlib.md5((mirror / "pets.zip").read_bytes()).hexdigest()
    course.describe(source | {"archives": [archive | {"md5": md5}]}, **TREE_KEYS)
    assert is_whole(fetch.fetch("digits"))


def as_python_2_wrote_it(pickled: bytes) -> bytes:
    """Turn a pickle of arrays into what Python 2 and its NumPy wrote."""
    content = bytearray(pickled)
    for code, _, position in pickletools.genops(pickled):
        if code.name in ("BINBYTES", "SHORT_BINBYTES"):
            content[position] = ord("T") if code.name == "BINBYTES" else ord("U")
    return bytes(content).replace(b"cnumpy._core.", b"cnumpy.core.")


def digits_pickle() -> bytes:
    def part(name: str, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        images, labels = (
            np.frombuffer(FILES[f"raw/{name}-{rest}-ubyte"], np.uint8, offset=offset)
            for rest, offset in (("images-idx3", 16), ("labels-idx1", 8))
        )
        images = images.reshape(-1, 784)[start:stop].astype(np.float32) / 256
        return images, labels[start:stop].astype(np.int64)

    parts = part("train", 0, 800), part("train", 800, 1000), part("t10k", 0, 20)
    return as_python_2_wrote_it(pickle.dumps(parts, protocol=3))


class Malice:
    """Pickled, it makes a folder when it is loaded."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def describe_pickle(course, mirror, pickled: bytes) -> None:
    source = wheel(mirror, {"digits/mnist.pkl.gz": gzip.compress(pickled, 1)})
    source |= {"kind": "mirror", "convert": "mnist_pickle"}
    course.describe(source | {"member": "digits/mnist.pkl.gz"})


def test_mnist_out_of_its_pickle(course, mirror):
    describe_pickle(course, mirror, digits_pickle())
    course.succeeds()


def test_a_malicious_pickle_is_not_executed(course, mirror, tmp_path):
    evil = tmp_path / "evil"
    pickled = pickle.dumps((Malice(evil), 1, 2))
    describe_pickle(course, mirror, pickled)
    course.fails("mkdir; only arrays are admitted", absent=False)
    assert not evil.exists()
    pickle.loads(pickled)
    assert evil.exists()  # so it was dangerous


def test_an_archive_that_holds_a_file_twice(course, mirror):
    source = packed_tree(mirror, "zip")
    with (
        zipfile.ZipFile(mirror / "pets.zip", "a") as archive,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        archive.writestr("pets/val/b/1.png", b"x")
    described_again = [described(mirror / "pets.zip")]
    course.describe(source | {"archives": described_again}, **TREE_KEYS)
    course.fails("pets.zip is refused: it holds val/b/1.png twice", absent=False)


def test_a_file_that_is_listed_and_not_wanted_is_not_written(tmp_path, mirror):
    """Of a set of listed files no other member is taken, whatever it is."""
    pack(mirror / "a.zip", {"a": b"x", "b": b"y", "link": LINK})
    file = catalog.File("a", 1, hashlib.sha256(b"x").hexdigest())
    layout = catalog.Layout(folder="a", files=(file,))
    source = catalog.Source(kind="mirror", member="{path}", layout=layout)
    archives.stage([mirror / "a.zip"], source, tmp_path / "staged")
    assert [path.name for path in (tmp_path / "staged").iterdir()] == ["a"]
