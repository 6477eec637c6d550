"""What is inside an archive, read as streams: nothing is unpacked to the names that it chooses."""

import shutil
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from enum import Enum
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO


class SourceError(RuntimeError):
    """Why a source could not deliver, in one line."""


class Kind(Enum):
    """What a member of an archive is; a link or a device is OTHER."""

    FILE, FOLDER, OTHER = range(3)


Member = tuple[str, Kind, Callable[[], BinaryIO]]  # its name, what it is, what opens it


def members(archive: Path, path_of: Callable[[str], str | None]) -> Iterator[tuple[str, BinaryIO]]:
    """Yield the wanted members of an archive.

    Args:
        archive: A .whl, .zip, .deb, .tar.gz, .tar.xz, or a single .gz file, by its suffix.
        path_of: From a member's name to its path in the set, None for a member that is not wanted.

    Yields:
        The path in the set, and the member's content.

    Raises:
        SourceError: If a member's name leaves the folder, or a wanted member is no plain file.
    """
    readers = {".whl": _zip_members, ".zip": _zip_members, ".deb": _deb_members, ".xz": _tar_members}
    read = _tar_members if archive.name.endswith(".tar.gz") else readers.get(archive.suffix, _gz_member)
    for name, kind, open_member in read(archive):
        path = PurePosixPath(name)  # drops a leading "./"
        if path.is_absolute() or ".." in path.parts:
            raise SourceError(f"{archive.name} is refused: its member {name} leaves the folder")
        if kind is Kind.FOLDER or (target := path_of(str(path))) is None:
            continue
        if kind is Kind.OTHER:
            raise SourceError(f"{archive.name} is refused: its member {name} is a link, not a file")
        with open_member() as stream:
            yield target, stream


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as content:
        for info in content.infolist():
            mode = stat.S_IFMT(info.external_attr >> 16)  # zero where the archive was not made on Unix
            kind = Kind.FOLDER if info.is_dir() else Kind.FILE if mode in (0, stat.S_IFREG) else Kind.OTHER
            yield info.filename, kind, partial(content.open, info)


def _tar_members(archive: Path) -> Iterator[Member]:
    with tarfile.open(archive, mode="r:*") as content:
        yield from _in_tar(content)


def _deb_members(archive: Path) -> Iterator[Member]:
    if not shutil.which("dpkg-deb"):
        raise SourceError("opening a Debian package takes dpkg-deb, which this machine does not have")
    command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as content,
    ):
        yield from _in_tar(content)


def _in_tar(content: tarfile.TarFile) -> Iterator[Member]:
    for info in content:
        kind = Kind.FILE if info.isreg() else Kind.FOLDER if info.isdir() else Kind.OTHER
        yield info.name, kind, partial(content.extractfile, info)


def _gz_member(archive: Path) -> Iterator[Member]:
    yield archive.name, Kind.FILE, partial(archive.open, "rb")
