"""For tests of `utils.fetch`: a small set, its catalog, archives, a web server."""

import gzip
import hashlib
import io
import json
import os
import stat
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from utils import fetch
from utils.fetch import catalog

RANDOM = np.random.default_rng(0)
# random pixels: 0.8 MB that no compression makes smaller
IMAGES = {"train": 1000, "t10k": 20}


def idx(values: np.ndarray) -> bytes:
    header = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return header + values.tobytes()


FILES = {}
for part, count in IMAGES.items():
    images = RANDOM.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    labels = RANDOM.integers(0, 10, count, dtype=np.uint8)
    FILES[f"raw/{part}-images-idx3-ubyte"] = idx(images)
    FILES[f"raw/{part}-labels-idx1-ubyte"] = idx(labels)

GZ = {f"{Path(path).name}.gz": gzip.compress(FILES[path], mtime=0) for path in FILES}
BIG = "train-images-idx3-ubyte.gz"

# The same files as the members of a wheel and of a Debian package, and where the
# catalog says they are.
WHEEL = {f"digits/{Path(path).name}": content for path, content in FILES.items()}
WHEEL_NAME = "digits_data-1.0-py3-none-any.whl"
DEB = {f"./usr/share/digits/{name}": content for name, content in GZ.items()}
DEB_NAME = "digits-data_1.0_all.deb"
DEBIAN = {
    "kind": "debian",
    "package": "digits-data",
    "member": "usr/share/digits/{name}.gz",
}
# as the content of a member: a link out of the folder
LINK, HARD_LINK = object(), object()

# Runs in a process of its own: the catalog's path is its argument, the rest its
# environment.
CHILD = """
import pathlib, signal, sys
from utils import fetch
from utils.fetch import catalog
catalog.CATALOG = pathlib.Path(sys.argv[1])
# a shell's background job, which a test run may be, ignores Ctrl-C, and so would its
# children
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
FETCH = CHILD + "fetch.fetch('digits')"


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files`, with the faults that the server's attributes ask for."""

    def do_GET(self):
        server, name = self.server, self.path.strip("/")
        server.requests.append((name, self.headers.get("Range")))
        if name not in server.files:
            return self.send_error(404)
        body, start = server.files[name], 0
        if server.ranges and (asked := self.headers.get("Range")):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                return self.send_error(416)
        self.send_response(206 if start else 200)
        if server.lengths:
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        limits = server.faults.get(name, [])
        stop = limits.pop(0) if limits else len(body)
        self.wfile.write(body[start:stop])
        self.wfile.flush()
        if stop < len(body) and server.stall:
            server.stalled.set()
            server.go_on.wait(20)

    def do_HEAD(self):
        self.server.requests.append((self.path.strip("/"), "HEAD"))
        found = self.path.strip("/") in self.server.files
        self.send_response(200 if found else 404)
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    """A web server; `faults[name]`: per request, the byte where the answer ends."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.faults, self.requests = dict(GZ), {}, []
        self.ranges, self.lengths, self.stall = True, True, False
        self.stalled, self.go_on = threading.Event(), threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, request, client_address):
        """A client that was killed is no error here."""

    @property
    def source(self) -> dict:
        return {"kind": "https", "url": self.url, "member": "{name}.gz"}


def toml(value: object) -> str:
    """Write a value as TOML does."""
    if isinstance(value, dict):
        pairs = ", ".join(f"{key} = {toml(item)}" for key, item in value.items())
        return "{" + pairs + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


class Course:
    """A catalog with one set, `digits`, and its data root, which holds another file."""

    def __init__(self, folder: Path):
        self.folder, self.root = folder, folder / "data"
        self.catalog, self.set = folder / "catalog.toml", self.root / "FashionMNIST"
        self.children = []
        (self.root / "other").mkdir(parents=True)
        (self.root / "other" / "file").write_text("mine")

    def describe(
        self,
        *sources: dict,
        files: dict[str, bytes] = FILES,
        folder: str = "FashionMNIST",
        **more: object,
    ) -> None:
        """Write the catalog; `more` are further keys of the set."""
        keys = {
            "title": "d",
            "licence": "MIT",
            "citation": "c",
            "used_for": "u",
        } | more
        if sources:
            keys |= {"folder": folder, "sources": list(sources)}
        if sources and "tree" not in keys:
            keys["files"] = [
                {
                    "path": path,
                    "bytes": len(content),
                    "sha256": hashlib.sha256(content).hexdigest(),
                }
                for path, content in files.items()
            ]
        lines = ["[digits]", *(f"{key} = {toml(value)}" for key, value in keys.items())]
        self.catalog.write_text("\n".join(lines))

    def tree(self) -> dict[str, bytes | None]:
        """Return all below the data root but the lock: path -> content, or None."""
        paths = {
            str(path.relative_to(self.root)): path for path in self.root.rglob("*")
        }
        paths.pop(".digits.lock", None)
        return {
            name: None if path.is_dir() else path.read_bytes()
            for name, path in paths.items()
        }

    def fails(self, *words: str, absent: bool | None = None) -> str:
        """Fetch, expect `DatasetUnavailable` with `words`, and an unchanged data root.

        `absent` is whether it has to be a `DatasetAbsent`.
        """
        before = self.tree()
        with pytest.raises(fetch.DatasetUnavailable) as error:
            fetch.fetch("digits")
        assert self.tree() == before
        for word in words:
            assert word in str(error.value)
        if absent is not None:
            assert isinstance(error.value, fetch.DatasetAbsent) == absent
        return str(error.value)

    def succeeds(self) -> None:
        """Fetch, expect the files of the set, and nothing else that is new."""
        expected = {
            "other": None,
            "other/file": b"mine",
            "FashionMNIST": None,
            "FashionMNIST/raw": None,
        }
        expected |= {f"FashionMNIST/{path}": content for path, content in FILES.items()}
        assert fetch.fetch("digits") == self.set
        assert self.tree() == expected

    def child(self, code: str = FETCH) -> subprocess.Popen:
        """Start another process that fetches."""
        command = [sys.executable, "-c", code, str(self.catalog)]
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.children.append(child)
        return child

    def fetched_by_two(self, server: "Server") -> None:
        """Fetch in two processes at once; expect the second to wait for the first.

        `server` has to stall in the middle of an answer.
        """
        first = self.child()
        assert server.stalled.wait(20)
        second = self.child()
        waits = "digits: another process is fetching it; waiting ...\n"
        assert second.stdout.readline() == waits
        server.go_on.set()
        for child in (first, second):
            assert child.communicate(timeout=30)[1] == "" and child.returncode == 0


@contextmanager
def temporary_course(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Course]:
    """Make a course in `folder` the one that is seen, here and in child processes."""
    course = Course(folder)
    monkeypatch.setattr(catalog, "CATALOG", course.catalog)
    monkeypatch.setenv("TORCH_HOME", str(folder / "torch"))
    monkeypatch.setenv("CV_DATA", str(course.root))
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.delenv("CV_MIRROR", raising=False)
    yield course
    for child in course.children:
        child.kill()  # does nothing to one that has ended
        child.communicate()


@contextmanager
def running_server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.go_on.set()
        server.shutdown()
        thread.join()


def forget_proxies(monkeypatch) -> None:
    """Let urllib read the proxies anew: it keeps those of its first request."""
    monkeypatch.setattr("urllib.request._opener", None)


def described(path: Path) -> dict:
    """Return what the catalog says of an archive."""
    content = path.read_bytes()
    return {
        "name": path.name,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def wheel(folder: Path, members: dict[str, bytes]) -> dict:
    """Write a wheel of `digits-data` 1.0 that pip accepts; return its source."""
    info = "digits_data-1.0.dist-info/"
    metadata = {
        "METADATA": b"Metadata-Version: 2.1\nName: digits-data\nVersion: 1.0\n",
        "WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
        b"Tag: py3-none-any\n",
        "RECORD": b"",
    }
    more = {info + name: content for name, content in metadata.items()}
    pack(folder / WHEEL_NAME, members | more)
    return {
        "kind": "pypi",
        "package": "digits-data==1.0",
        "archives": [described(folder / WHEEL_NAME)],
        "member": "digits/{name}",
    }


def pack(path: Path, members: dict[str, object]) -> None:
    """Write an archive; its suffix says of what kind. A member may be a link."""
    if path.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                info = zipfile.ZipInfo(name)
                if content is LINK:
                    info.external_attr = (stat.S_IFLNK | 0o777) << 16
                    content = b"/etc/passwd"
                archive.writestr(info, content)
    elif path.suffix == ".deb":
        # by hand, so that it may hold what dpkg-deb would not pack
        control = "Package: digits-data\nVersion: 1.0\nArchitecture: all\n"
        control += "Maintainer: t\nDescription: d\n"
        pieces = {
            "debian-binary": b"2.0\n",
            "control.tar": tar({"./control": control.encode()}, "w"),
            "data.tar": tar(members, "w"),
        }
        with path.open("wb") as out:
            out.write(b"!<arch>\n")
            for name, data in pieces.items():
                head = f"{name:16}{0:<12}{0:<6}{0:<6}{'100644':8}{len(data):<10}`\n"
                out.write(head.encode() + data + b"\n" * (len(data) % 2))
    else:
        path.write_bytes(tar(members, f"w:{path.suffix[1:]}"))


def repository_archive(
    name: str, commit: str, members: dict[str, object], comment: str | None = ""
) -> bytes:
    """Pack a repository as `git archive` does; `comment`: the commit in its head."""
    head = {} if comment is None else {"comment": comment or commit}
    named = {f"{name}-{commit}/{path}": content for path, content in members.items()}
    return tar(named, "w:gz", f"{name}-{commit}", pax_headers=head)


def tar(members: dict[str, object], mode: str, top: str = ".", **options) -> bytes:
    """Pack a tar with a folder as its first member, as tar itself does."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode, **options) as archive:
        folder = tarfile.TarInfo(top)
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if content in (LINK, HARD_LINK):
                info.type = tarfile.SYMTYPE if content is LINK else tarfile.LNKTYPE
                info.linkname, content = "/etc/passwd", b""
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def wheel_shop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder in which pip, and nothing else, looks for wheels."""
    shop = folder / "wheels"
    shop.mkdir()
    for variable in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shop))
    return shop


def empty_mirror(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    mirror = folder / "mirror"
    mirror.mkdir()
    monkeypatch.setenv("CV_MIRROR", str(mirror))
    return mirror


def no_apt_repository(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make apt know no repository, so that a mirror alone answers."""
    lines = ['Dir::Etc::SourceList "/dev/null";', 'Dir::Etc::SourceParts "/dev/null";']
    (folder / "apt.conf").write_text("\n".join(lines))
    monkeypatch.setenv("APT_CONFIG", str(folder / "apt.conf"))


# A set of many files.
TREE = {
    f"{part}/{kind}/{n}.png": RANDOM.bytes(40)
    for part in ("train", "val")
    for kind in "ab"
    for n in range(2)
}
LISTED = "".join(
    f"{hashlib.sha256(TREE[path]).hexdigest()}  {path}\n" for path in sorted(TREE)
).encode()
TREE_KEYS = {
    "folder": "pets",
    "needs": ["train/*", "val"],
    "tree": {
        "files": len(TREE),
        "bytes": 40 * len(TREE),
        "sha256": hashlib.sha256(LISTED).hexdigest(),
    },
}


def packed_tree(folder: Path, suffix: str, members: dict[str, object] = TREE) -> dict:
    """Put an archive of `members` below `pets/` into a mirror; return its source."""
    path = folder / f"pets.{suffix}"
    # not in the order of the list
    names = {name if name[0] == "/" else f"pets/{name}": name for name in members}
    pack(path, {name: members[names[name]] for name in reversed(names)})
    return {"kind": "mirror", "archives": [described(path)], "member": "pets/{path}"}


def is_whole(folder: Path) -> bool:
    here = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    return here == TREE | {"SHA256SUMS": LISTED}
