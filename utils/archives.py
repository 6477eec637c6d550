"""Reading archives without trusting them.

Nothing is unpacked to the names that an archive chooses. The members that the catalog names are read as
streams, written to the paths that the catalog gives, and have to match its sizes and hashes.
"""

import gzip
import hashlib
import io
import os
import pickle
import shutil
import stat
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np

CHUNK = 1 << 20  # bytes read at a time

DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    pickle.UnpicklingError,
)

Member = tuple[str, bool, Callable[[], BinaryIO]]  # its name, whether it is a plain file, what opens it


class SourceError(RuntimeError):
    """Why a source could not deliver, in one line."""


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_archive(archive: Path, source: dict[str, Any]) -> None:
    """Compare an archive, unopened, with the `sha256` of its source.

    A Debian package has none: apt checks Debian's signature, and the version differs between releases.

    Args:
        archive: The file that the source delivered.
        source: The source's entry in the catalog.

    Raises:
        SourceError: If it is another file.
    """
    if "sha256" in source and (found := sha256(archive)) != source["sha256"]:
        size = archive.stat().st_size
        raise SourceError(
            f"{archive.name} is not the catalog's: {size} bytes with sha256 {found}, "
            f"expected {source['bytes']} bytes with sha256 {source['sha256']}"
        )


def stage(archives: list[Path], source: dict[str, Any], files: list[dict[str, Any]], folder: Path) -> None:
    """Write the files of a set, checked, into a fresh folder.

    Args:
        archives: What the source delivered.
        source: The source's entry in the catalog; `member` is the name inside the archive, `convert` names
            the function that makes the files out of it.
        files: The files to write: `path` below `folder`, `bytes`, `sha256`.
        folder: Where to; emptied first.

    Raises:
        SourceError: If an archive is damaged or unsafe, or a file is missing or not the catalog's.
    """
    if folder.exists():
        shutil.rmtree(folder)
    missing = {file["path"]: file for file in files}
    for archive in archives:
        try:
            for path, stream in _contents(archive, source, files):
                if path not in missing:
                    raise SourceError(f"{archive.name} is refused: it holds {path} twice")
                _write(stream, folder / path, missing.pop(path))
        except DAMAGED as error:
            raise SourceError(f"{archive.name} is damaged: {error}") from error
    if missing:
        raise SourceError(f"{archives[0].name} lacks {', '.join(missing)}")


def install(staged: Path, folder: Path, files: list[dict[str, Any]]) -> None:
    """Rename the files that `stage` has checked into their place.

    Args:
        staged: The folder with the files, on the same disk as `folder`.
        folder: The set's own.
        files: The set's files, as the catalog has them.
    """
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        staged.rename(folder)  # one step: all or nothing
        return
    # Some files are there already. The missing ones go last: killed in between, the set still counts as torn.
    for file in sorted(files, key=lambda file: not (folder / file["path"]).exists()):
        target = folder / file["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        (staged / file["path"]).replace(target)


def _write(stream: BinaryIO, target: Path, file: dict[str, Any]) -> None:
    """Copy `stream` to `target` while it stays within the catalog's size, then compare the hash."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with target.open("wb") as out:
        while chunk := stream.read(CHUNK):
            size += len(chunk)
            if size > file["bytes"]:
                raise SourceError(f"{file['path']} is larger than the catalog's {file['bytes']} bytes")
            digest.update(chunk)
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())  # from now on its existence is taken for its content
    if digest.hexdigest() != file["sha256"]:
        found = f"{size} bytes with sha256 {digest.hexdigest()}"
        raise SourceError(f"{file['path']} is not the catalog's: {found}, expected {file['sha256']}")


def _contents(archive: Path, source: dict, files: list[dict]) -> Iterator[tuple[str, BinaryIO]]:
    """Yield the path and the decompressed content of each file of the set that `archive` holds."""
    if "convert" in source:
        for _, stream in _members(archive, {source["member"]}):
            yield from CONVERTERS[source["convert"]](stream)
        return
    wanted = {member_of(source, file): file["path"] for file in files}
    for name, stream in _members(archive, set(wanted)):
        yield wanted[name], gzip.GzipFile(fileobj=stream) if name.endswith(".gz") else stream


def member_of(source: dict[str, Any], file: dict[str, Any]) -> str:
    """Return what `file` is called in the source's archive, or below its URL."""
    return source["member"].format(path=file["path"], name=PurePosixPath(file["path"]).name)


def _members(archive: Path, wanted: set[str]) -> Iterator[tuple[str, BinaryIO]]:
    """Yield name and stream of the `wanted` members; refuse the archive for an unsafe one."""
    readers = {".whl": _zip_members, ".zip": _zip_members, ".deb": _deb_members, ".gz": _gz_member}
    for name, is_file, open_member in readers[archive.suffix](archive):
        path = PurePosixPath(name)  # drops a leading "./"
        if path.is_absolute() or ".." in path.parts:
            raise SourceError(f"{archive.name} is refused: its member {name} leaves the folder")
        if str(path) in wanted:
            if not is_file:
                raise SourceError(f"{archive.name} is refused: its member {name} is a link, not a file")
            with open_member() as stream:
                yield str(path), stream


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as content:
        for info in content.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)  # zero where the archive was not made on Unix
            is_file = kind in (0, stat.S_IFREG) and not info.is_dir()
            yield info.filename, is_file, partial(content.open, info)


def _deb_members(archive: Path) -> Iterator[Member]:
    if not shutil.which("dpkg-deb"):
        raise SourceError("opening a Debian package takes dpkg-deb, which this machine does not have")
    command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as content,
    ):
        for info in content:
            yield info.name, info.isreg(), partial(content.extractfile, info)


def _gz_member(archive: Path) -> Iterator[Member]:
    yield archive.name, True, partial(archive.open, "rb")


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that builds NumPy arrays and refuses whatever else a pickle may name."""

    admitted = {
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return the object `module.name` if it is one of those that make an array."""
        if (module, name) not in self.admitted:
            raise pickle.UnpicklingError(f"its pickle asks for {module}.{name}; only arrays are admitted")
        return self.admitted[module, name]


def _mnist_pickle(stream: BinaryIO) -> Iterator[tuple[str, BinaryIO]]:
    """Turn the Theano tutorials' `mnist.pkl.gz` back into the four idx files that it was made from.

    It holds (images [N, 784] in pixel / 256, labels [N]) for 50,000 + 10,000 + 10,000 digits; the first two
    parts in this order are the official training set.
    """
    training, validation, test = _ArrayUnpickler(gzip.GzipFile(fileobj=stream), encoding="latin1").load()
    for part, pieces in (("train", (training, validation)), ("t10k", (test,))):
        images = np.concatenate([images for images, _ in pieces]).reshape(-1, 28, 28)
        yield f"raw/{part}-images-idx3-ubyte", _idx((images * 256).round())
        yield f"raw/{part}-labels-idx1-ubyte", _idx(np.concatenate([labels for _, labels in pieces]))


def _idx(values: np.ndarray) -> BinaryIO:
    """Write an array as an idx file of unsigned bytes: magic number, sizes, values."""
    header = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return io.BytesIO(header + values.astype(np.uint8).tobytes())


CONVERTERS = {"mnist_pickle": _mnist_pickle}
