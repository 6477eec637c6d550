"""What the tests of `utils.fetch` share: a small data set, a catalog of it, and a web server with faults."""

import gzip
import hashlib
import io
import json
import os
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

from utils import catalog, fetch

RANDOM = np.random.default_rng(0)
IMAGES = {"train": 1000, "t10k": 20}  # random pixels: 0.8 MB that no compression makes smaller


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


FILES = {}
for part, count in IMAGES.items():
    FILES[f"raw/{part}-images-idx3-ubyte"] = idx(RANDOM.integers(0, 256, (count, 28, 28), dtype=np.uint8))
    FILES[f"raw/{part}-labels-idx1-ubyte"] = idx(RANDOM.integers(0, 10, count, dtype=np.uint8))

GZ = {f"{Path(path).name}.gz": gzip.compress(content, mtime=0) for path, content in FILES.items()}
BIG = "train-images-idx3-ubyte.gz"

# The same files as the members of a wheel and of a Debian package, and where the catalog says they are.
WHEEL = {f"digits/{Path(path).name}": content for path, content in FILES.items()}
DEB = {f"./usr/share/digits/{name}": content for name, content in GZ.items()}
DEBIAN = {"kind": "debian", "package": "digits-data", "member": "usr/share/digits/{name}.gz"}

# Runs in a process of its own: the catalog's path is its argument, the rest its environment.
CHILD = (
    "import pathlib, signal, sys; from utils import catalog, fetch; "
    "catalog.CATALOG = pathlib.Path(sys.argv[1]); "
    # a shell's background job, which a test run may be, ignores Ctrl-C, and so would its children
    "signal.signal(signal.SIGINT, signal.default_int_handler); "
)
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

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    """A web server on this machine; `faults[name]` lists, per request, the byte where the answer ends."""

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
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


class Course:
    """A catalog with one set, `digits`, and the data root it goes to, which already holds something else."""

    def __init__(self, folder: Path):
        self.folder, self.root, self.catalog = folder, folder / "data", folder / "catalog.toml"
        self.set = self.root / "FashionMNIST"
        self.children = []
        (self.root / "other").mkdir(parents=True)
        (self.root / "other" / "file").write_text("mine")

    def describe(
        self, *sources: dict, files: dict[str, bytes] = FILES, folder: str = "FashionMNIST", **more: object
    ) -> None:
        """Write the catalog; `more` are further keys of the set."""
        keys = {"title": "d", "licence": "MIT", "citation": "c", "used_for": "u", "folder": folder} | more
        lines = ["[digits]", *(f"{key} = {toml(value)}" for key, value in keys.items())]
        for path, content in {} if "tree" in more else files.items():
            lines += ["[[digits.files]]", f'path = "{path}"', f"bytes = {len(content)}"]
            lines.append(f'sha256 = "{hashlib.sha256(content).hexdigest()}"')
        for source in sources:
            lines.append("[[digits.sources]]")
            lines += [f"{key} = {toml(value)}" for key, value in source.items()]
        self.catalog.write_text("\n".join(lines))

    def tree(self) -> dict[str, bytes | None]:
        """Return everything below the data root but the lock: path -> content, None for a folder."""
        paths = {str(path.relative_to(self.root)): path for path in self.root.rglob("*")}
        paths.pop(".digits.lock", None)
        return {name: None if path.is_dir() else path.read_bytes() for name, path in paths.items()}

    def fails(self, *words: str) -> str:
        """Fetch, expect DatasetUnavailable with all `words` and an unchanged data root; return its text."""
        before = self.tree()
        with pytest.raises(fetch.DatasetUnavailable) as error:
            fetch.fetch("digits")
        assert self.tree() == before
        for word in words:
            assert word in str(error.value)
        return str(error.value)

    def succeeds(self) -> None:
        """Fetch, expect the files of the set, and nothing else that is new."""
        expected = {"other": None, "other/file": b"mine", "FashionMNIST": None, "FashionMNIST/raw": None}
        expected |= {f"FashionMNIST/{path}": content for path, content in FILES.items()}
        assert fetch.fetch("digits") == self.set
        assert self.tree() == expected

    def child(self, code: str = FETCH) -> subprocess.Popen:
        """Start another process that fetches."""
        command = [sys.executable, "-c", code, str(self.catalog)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.children.append(child)
        return child


@contextmanager
def temporary_course(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Course]:
    """Make a course in `folder` the one that `utils.fetch` sees, here and in child processes."""
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


def wheel(folder: Path, members: dict[str | zipfile.ZipInfo, bytes]) -> dict:
    """Write a wheel of the package `digits-data` 1.0 that pip accepts; return its source in the catalog."""
    path = folder / "digits_data-1.0-py3-none-any.whl"
    info = "digits_data-1.0.dist-info/"
    members = members | {
        info + "METADATA": b"Metadata-Version: 2.1\nName: digits-data\nVersion: 1.0\n",
        info + "WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        info + "RECORD": b"",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return describe_wheel(path)


def described(path: Path) -> dict:
    """Return what the catalog says of an archive."""
    content = path.read_bytes()
    return {"name": path.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def describe_wheel(path: Path) -> dict:
    source = {"kind": "pypi", "package": "digits-data==1.0", "archives": [described(path)]}
    return source | {"member": "digits/{name}"}


def debian_package(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> None:
    """Write a Debian package by hand, so that it may hold what dpkg-deb would not pack."""
    pieces = {"debian-binary": b"2.0\n"}
    control = b"Package: digits-data\nVersion: 1.0\nArchitecture: all\nMaintainer: t\nDescription: d\n"
    for piece, content in (("control.tar", {"./control": control}), ("data.tar", members)):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for name, data in content.items():
                info = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
                info.size = 0 if info is data else len(data)
                archive.addfile(info, None if info is data else io.BytesIO(data))
        pieces[piece] = packed.getvalue()
    with path.open("wb") as out:
        out.write(b"!<arch>\n")
        for name, data in pieces.items():
            out.write(f"{name:16}{0:<12}{0:<6}{0:<6}{'100644':8}{len(data):<10}`\n".encode() + data)
            out.write(b"\n" * (len(data) % 2))


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
