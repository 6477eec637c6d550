"""Reading archives without trusting them.

No archive decides where anything is written. Of a small set the catalog names each file: its member is read
as a stream, written to the catalog's path, and has to match its size and hash. Of a set of many files all
members of one folder are taken, under names that cannot leave it, and their list has to match the catalog's.
"""

import fnmatch
import gzip
import hashlib
import lzma
import os
import pickle
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from utils import manifest
from utils.converters import CONVERTERS
from utils.members import SourceError, members

CHUNK = 1 << 20  # bytes read at a time

DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    pickle.UnpicklingError,
)


def check_archive(archive: Path, source: dict[str, Any]) -> None:
    """Compare an archive, unopened, with the hash that its source states.

    A Debian package has none: apt checks Debian's signature, and the version differs between releases. Nor
    have files that a host compresses one by one: the hashes of their contents decide.

    Args:
        archive: The file that the source delivered.
        source: The source's entry in the catalog.

    Raises:
        SourceError: If it is another file.
    """
    stated = next((entry for entry in source.get("archives", []) if entry["name"] == archive.name), {})
    for kind in ("sha256", "md5"):  # md5 where its publisher states nothing better
        if kind in stated:
            with archive.open("rb") as stream:
                found = hashlib.file_digest(stream, kind).hexdigest()
            if found != stated[kind]:
                size = archive.stat().st_size
                raise SourceError(
                    f"{archive.name} is not the catalog's: {size} bytes with {kind} {found}, "
                    f"expected {stated['bytes']} bytes with {kind} {stated[kind]}"
                )


def stage(archives: list[Path], source: dict[str, Any], layout: dict[str, Any], folder: Path) -> None:
    """Write the files of a set, checked, into a fresh folder.

    Args:
        archives: What the source delivered.
        source: The source's entry in the catalog; `member` is the name inside the archive, `only` what paths
            have to match, `convert` names the function that makes the files out of a member.
        layout: `files`, with `path`, `bytes`, `sha256` of each; or `tree`, with their number and size, and
            the hash of their list where it is known.
        folder: Where to; emptied first.

    Raises:
        SourceError: If an archive is damaged or unsafe, or a file is missing or not the catalog's.
    """
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    target = _Listed(folder, layout["files"]) if "files" in layout else _Tree(folder, layout["tree"])
    for archive in archives:
        try:
            for path, stream in _contents(archive, source, layout.get("files")):
                if path in target.digests:
                    raise SourceError(f"{archive.name} is refused: it holds {path} twice")
                target.accept(path, stream)
        except DAMAGED as error:
            raise SourceError(f"{archive.name} is damaged: {error}") from error
    target.finish(", ".join(archive.name for archive in archives))


class _Listed:
    """A folder that takes the files which the catalog lists, no other."""

    def __init__(self, folder: Path, files: list[dict[str, Any]]) -> None:
        self.folder, self.files, self.digests = folder, {file["path"]: file for file in files}, {}

    def accept(self, path: str, stream: BinaryIO) -> None:
        if path not in self.files:
            raise SourceError(f"{path} is not in the catalog")
        file = self.files[path]
        size, digest = _write(stream, self.folder / path, file["bytes"], path, sync=True)
        if digest != file["sha256"]:
            found = f"{size} bytes with sha256 {digest}"
            raise SourceError(f"{path} is not the catalog's: {found}, expected {file['sha256']}")
        self.digests[path] = digest

    def finish(self, archives: str) -> None:
        if missing := self.files.keys() - self.digests.keys():
            raise SourceError(f"{archives} lacks {', '.join(sorted(missing))}")


class _Tree:
    """A folder that takes all files of a set, whose number, size and list the catalog knows."""

    def __init__(self, folder: Path, tree: dict[str, Any]) -> None:
        self.folder, self.tree, self.digests, self.room = folder, tree, {}, tree["bytes"]

    def accept(self, path: str, stream: BinaryIO) -> None:
        if len(self.digests) == self.tree.get("files"):
            raise SourceError(f"there are more than the catalog's {self.tree['files']} files in it")
        size, self.digests[path] = _write(stream, self.folder / path, self.room, f"the set with {path}")
        self.room -= size

    def finish(self, archives: str) -> None:
        if len(self.digests) < self.tree.get("files", 0):
            found = f"{len(self.digests)} files of the set instead of {self.tree['files']}"
            raise SourceError(f"{archives}: holds {found}")
        listed = manifest.text(self.digests).encode()
        digest = hashlib.sha256(listed).hexdigest()
        if digest != self.tree.get("sha256", digest):
            raise SourceError(f"{archives}: the files in it are not the catalog's")
        (self.folder / manifest.NAME).write_bytes(listed)
        if hasattr(os, "sync"):
            os.sync()  # as fsync for each of thousands of files, in one step


def install(staged: Path, folder: Path) -> None:
    """Rename the files that `stage` has checked into their place.

    Args:
        staged: The folder with the files, on the same disk as `folder`.
        folder: The set's own.
    """
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        staged.rename(folder)  # one step: all or nothing
        return
    # Some files are there already. The list goes first, the missing ones last: killed in between, the set is
    # still seen to be torn.
    paths = sorted(path.relative_to(staged) for path in staged.rglob("*") if path.is_file())
    rank = {True: 1, False: 2}
    for path in sorted(
        paths, key=lambda path: 0 if path.name == manifest.NAME else rank[(folder / path).exists()]
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (staged / path).replace(folder / path)


def _write(stream: BinaryIO, target: Path, room: int, what: str, *, sync: bool = False) -> tuple[int, str]:
    """Copy `stream` to `target` while it stays within `room` bytes; return its size and SHA-256."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with target.open("wb") as out:
        while chunk := stream.read(CHUNK):
            size += len(chunk)
            if size > room:
                raise SourceError(f"{what} is larger than the catalog's {room} bytes")
            digest.update(chunk)
            out.write(chunk)
        if sync:
            out.flush()
            os.fsync(out.fileno())  # from now on its existence is taken for its content
    return size, digest.hexdigest()


def _contents(archive: Path, source: dict, files: list[dict] | None) -> Iterator[tuple[str, BinaryIO]]:
    """Yield the path and the decompressed content of each file of the set that `archive` holds."""
    if "convert" in source:
        for _, stream in members(archive, {source["member"]: ""}.get):
            yield from CONVERTERS[source["convert"]](stream)
        return
    if files is None:
        yield from members(archive, partial(_path_in_tree, source))
        return
    wanted = {member_of(source, file): file["path"] for file in files}
    for path, stream in members(archive, wanted.get):
        yield path, gzip.GzipFile(fileobj=stream) if source["member"].endswith(".gz") else stream


def member_of(source: dict[str, Any], file: dict[str, Any]) -> str:
    """Return what `file` is called in the source's archive, or below its URL."""
    name = file.get("original", PurePosixPath(file["path"]).name)
    return source["member"].format(path=file["path"], name=name)


def _path_in_tree(source: dict, member: str) -> str | None:
    """Return the path in the set of an archive's member, None if the member is not of the set."""
    prefix = source["member"].removesuffix("{path}")
    path = member.removeprefix(prefix)
    if not member.startswith(prefix) or not fnmatch.fnmatchcase(path, source.get("only", "*")):
        return None
    if set(path) & set('\\:*?"<>|') or path == manifest.NAME:  # what means something else on some system
        raise SourceError(f"the archive is refused: its member {member} has a name that no file of a set has")
    return path
