"""Reading archives without trusting them.

No archive decides where anything is written. Of a small set the catalog names each
file: its member is read as a stream, written to the catalog's path, and has to match
its size and hash. Of a set of many files all members of one folder are taken, under
names that cannot leave it, and their list has to match the catalog's. Of a repository
the files that a set is prepared from are taken, each of which has to match the list of
them.
"""

import fnmatch
import gzip
import hashlib
import io
import lzma
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
from contextlib import contextmanager
from enum import Enum
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
from tqdm.auto import tqdm

from utils.fetch.catalog import (
    MANIFEST,
    File,
    Original,
    Repository,
    Source,
    manifest_text,
    sha256,
)
from utils.fetch.preparation import PREPARE, Originals

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


def progress(**options: Any) -> tqdm:
    """Return a bar that leaves nothing behind, unless TQDM_DISABLE forbids it."""
    # the bar for notebooks does not heed the variable by itself
    disable = os.environ.get("TQDM_DISABLE", "0") not in ("", "0")
    return tqdm(leave=False, disable=disable, **options)


class SourceError(RuntimeError):
    """Why a source could not deliver, in one line."""


class Refused(SourceError):
    """A source delivered, and it is not what the catalog says, or not safe to open."""


def check_hash(archive: Path, source: Source) -> None:
    """Compare an archive, unopened, with the hash that its source states.

    A Debian package has none: apt checks Debian's signature, and the version differs
    between releases. Nor have files that a host compresses one by one, or the archives
    that it makes of a repository: the hashes of their contents decide.

    Args:
        archive: The file that the source delivered.
        source: The source, as the catalog describes it.

    Raises:
        Refused: If it is another file.
    """
    for stated in source.archives:
        if stated.name != archive.name or not (stated.sha256 or stated.md5):
            continue
        kind = "sha256" if stated.sha256 else "md5"
        expected = stated.sha256 or stated.md5
        with archive.open("rb") as stream:
            found = hashlib.file_digest(stream, kind).hexdigest()
        if not found.startswith(expected):
            raise Refused(
                f"{archive.name} is not the expected file: {archive.stat().st_size} "
                f"bytes with {kind} {found}, expected {kind} {expected}"
            )


def stage(archives: list[Path], source: Source, folder: Path) -> None:
    """Write the files of a set, checked, into a fresh folder.

    Args:
        archives: What the source delivered, after `check_hash`.
        source: The source, with the layout that it delivers.
        folder: Where to; emptied first.

    Raises:
        Refused: If an archive is damaged or unsafe, or a file is missing or not the
            catalog's.
    """
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    files = {file.path: file for file in source.layout.files}
    tree, digests, room = source.layout.tree, {}, source.layout.bytes
    count = tree.files if tree else len(files)
    if source.repositories:
        batches = [(archives[0], _prepared(archives, source, folder))]
    else:
        batches = [(archive, _contents(archive, source)) for archive in archives]
    for archive, contents in batches:
        with _naming(archive):
            for path, stream in contents:
                if path in digests:
                    raise Refused(f"{archive.name} is refused: it holds {path} twice")
                if len(digests) == count:
                    raise Refused(
                        f"there are more than the catalog's {count} files in it"
                    )
                if files:
                    digests[path] = _write_file(stream, folder, files[path])
                else:
                    what = f"the set with {path}"
                    size, digests[path] = _write(stream, folder / path, room, what)
                    room -= size
    delivered = ", ".join(archive.name for archive in archives)
    if missing := sorted(files.keys() - digests.keys()):
        raise Refused(f"{delivered} lacks {', '.join(missing)}")
    if tree is None:
        return
    if len(digests) < (count or 0):
        raise Refused(
            f"{delivered} holds {len(digests)} files of the set instead of {count}"
        )
    listed = manifest_text(digests, tree.originals).encode()
    if tree.sha256 and hashlib.sha256(listed).hexdigest() != tree.sha256:
        raise Refused(f"{delivered}: the files in it are not the catalog's")
    (folder / MANIFEST).write_bytes(listed)
    if hasattr(os, "sync"):
        os.sync()  # as fsync for each of thousands of files, in one step


@contextmanager
def _naming(archive: Path) -> Iterator[None]:
    """Say of which archive it is that reading it failed."""
    try:
        yield
    except DAMAGED as error:
        raise Refused(f"{archive.name} is damaged: {error}") from error


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

    # Some files are there already. The list goes first, the missing ones last: killed
    # in between, the set is still seen to be torn.
    def rank(path: Path) -> tuple[bool, bool, Path]:
        return path.name != MANIFEST, not (folder / path).exists(), path

    paths = [path.relative_to(staged) for path in staged.rglob("*") if path.is_file()]
    for path in sorted(paths, key=rank):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (staged / path).replace(folder / path)


def member_of(source: Source, file: File) -> str:
    """Return what `file` is called in the source's archive, or below its URL."""
    name = file.original or PurePosixPath(file.path).name
    return source.member.format(path=file.path, name=name)


def _write_file(stream: BinaryIO, folder: Path, file: File) -> str:
    """Write one of the files that the catalog lists; return its SHA-256."""
    size, digest = _write(stream, folder / file.path, file.bytes, file.path, sync=True)
    if not digest.startswith(file.sha256):
        raise Refused(
            f"{file.path} is not the catalog's: {size} bytes with sha256 {digest}, "
            f"expected {file.sha256}"
        )
    return digest


def _write(
    stream: BinaryIO, target: Path, room: int, what: str, *, sync: bool = False
) -> tuple[int, str]:
    """Copy `stream` to `target`, at most `room` bytes; return its size and SHA-256."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with target.open("wb") as out:
        while chunk := stream.read(CHUNK):
            size += len(chunk)
            if size > room:
                raise Refused(f"{what} is larger than the catalog's {room} bytes")
            digest.update(chunk)
            out.write(chunk)
        if sync:
            out.flush()
            os.fsync(out.fileno())  # from now on its existence is taken for its content
    return size, digest.hexdigest()


def _contents(archive: Path, source: Source) -> Iterator[tuple[str, BinaryIO]]:
    """Yield path in the set and decompressed content of each file that it holds."""
    files = source.layout.files
    if source.convert:
        for _, stream in _members(archive, {source.member: ""}.get):
            yield from CONVERTERS[source.convert](stream)
    elif files:
        wanted = {member_of(source, file): file.path for file in files}
        for path, stream in _members(archive, wanted.get):
            packed = source.member.endswith(".gz")
            yield path, gzip.GzipFile(fileobj=stream) if packed else stream
    else:
        yield from _members(archive, partial(_path_in_tree, source))


def _prepared(
    archives: list[Path], source: Source, folder: Path
) -> Iterator[tuple[str, BinaryIO]]:
    """Yield path in the set and content of each file that is made of the originals.

    They are all unpacked and checked first, beside `folder`.
    """
    listed = _read_originals(source)
    work = folder.with_name("originals")
    if work.exists():
        shutil.rmtree(work)
    wanted = {each.source: each for each in listed if each.source}
    for archive, repository in zip(archives, source.repositories, strict=True):
        _expect_commit(archive, repository)
        _unpack(archive, repository, wanted, work)
    made = {each.path: each.sha256 for each in listed if not each.source}
    prepared = PREPARE[source.prepare](Originals(work, wanted.values()))
    for path, content in progress(
        iterable=prepared, total=source.layout.tree.files, desc="prepared"
    ):
        if path in made and hashlib.sha256(content).hexdigest() != made[path]:
            raise Refused(
                f"{path}, as prepared here, is not what the catalog says; please "
                f"report it with the versions of numpy, scipy and Pillow"
            )
        yield path, io.BytesIO(content)
    shutil.rmtree(work)


def _read_originals(source: Source) -> list[Original]:
    """Read the list of the files that a set is prepared from."""
    path = source.originals_list
    if not path.is_file() or sha256(path) != source.originals:
        raise Refused(
            f"{path} is not the list that the catalog knows: install the course again"
        )
    lines = lzma.decompress(path.read_bytes()).decode().splitlines()
    rows = (line.split("\t") for line in lines)
    return [Original(digest, int(size), *names) for digest, size, *names in rows]


def _expect_commit(archive: Path, repository: Repository) -> None:
    """Refuse an archive whose head states another commit, as `git archive` does it."""
    with _naming(archive), tarfile.open(archive, mode="r:gz") as content:
        content.next()
        found = content.pax_headers.get("comment", repository.commit)
    if found != repository.commit:
        raise Refused(
            f"{archive.name} is refused: it holds the commit {found} of "
            f"{repository.name}"
        )


def _unpack(
    archive: Path, repository: Repository, wanted: dict[str, Original], work: Path
) -> None:
    """Unpack the wanted files of a repository, checked, into `work`."""
    name, found = repository.short_name, set()

    def source_of(member: str) -> str | None:
        # the first folder, which holds all, is called after name and commit
        path = f"{name}/{member.partition('/')[2]}"
        return path if path in wanted else None

    count = sum(path.startswith(f"{name}/") for path in wanted)
    with _naming(archive), progress(total=count, desc=f"unpacked of {name}") as bar:
        for path, stream in _members(archive, source_of):
            original = wanted[path]
            size, digest = _write(stream, work / path, original.bytes, path)
            if digest != original.sha256:
                raise Refused(
                    f"{archive.name} is refused: {path} is another file than the "
                    f"catalog's, {size} bytes with sha256 {digest}, expected "
                    f"{original.sha256}"
                )
            found.add(path)
            bar.update()
    if missing := sorted({p for p in wanted if p.startswith(f"{name}/")} - found):
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise Refused(f"{archive.name} lacks {', '.join(missing[:3])}{more}")


def _path_in_tree(source: Source, member: str) -> str | None:
    """Return the path in the set of a member of an archive, None if it is not of it."""
    prefix = source.member.removesuffix("{path}")
    path = member.removeprefix(prefix)
    if not member.startswith(prefix) or not fnmatch.fnmatchcase(path, source.only):
        return None
    # what means something else on some system
    if set(path) & set('\\:*?"<>|') or path == MANIFEST:
        raise Refused(
            f"the archive is refused: its member {member} has a name that no file of a "
            f"set has"
        )
    return path


class _Kind(Enum):
    """What a member of an archive is; a link or a device is OTHER."""

    FILE, FOLDER, OTHER = range(3)


# its name, what it is, what opens it
_Member = tuple[str, _Kind, Callable[[], BinaryIO]]


def _members(
    archive: Path, path_of: Callable[[str], str | None]
) -> Iterator[tuple[str, BinaryIO]]:
    """Yield path in the set and content of the wanted members of an archive.

    Args:
        archive: A .whl, .zip, .deb, .tar.gz, .tar.xz, or else a single file.
        path_of: From a member's name to its path in the set, None for a member that is
            not wanted.
    """
    if archive.suffix in (".whl", ".zip"):
        found = _zip_members(archive)
    elif archive.suffix == ".deb":
        found = _deb_members(archive)
    elif archive.name.endswith((".tar.gz", ".tar.xz")):
        found = _tar_members(archive)
    else:
        found = iter([(archive.name, _Kind.FILE, partial(archive.open, "rb"))])
    for name, kind, open_member in found:
        path = PurePosixPath(name)  # drops a leading "./"
        if path.is_absolute() or ".." in path.parts:
            raise Refused(
                f"{archive.name} is refused: its member {name} leaves the folder"
            )
        if kind is _Kind.FOLDER or (target := path_of(str(path))) is None:
            continue
        if kind is _Kind.OTHER:
            raise Refused(
                f"{archive.name} is refused: its member {name} is a link, not a file"
            )
        with open_member() as stream:
            yield target, stream


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as content:
        for info in content.infolist():
            # zero where the archive was not made on Unix
            mode = stat.S_IFMT(info.external_attr >> 16)
            kind = _Kind.FILE if mode in (0, stat.S_IFREG) else _Kind.OTHER
            kind = _Kind.FOLDER if info.is_dir() else kind
            yield info.filename, kind, partial(content.open, info)


def _tar_members(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive, mode="r:*") as content:
        yield from _in_tar(content)


def _deb_members(archive: Path) -> Iterator[_Member]:
    if not shutil.which("dpkg-deb"):
        raise SourceError(
            "opening a Debian package takes dpkg-deb, which this machine does not have"
        )
    command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with (
        subprocess.Popen(command, **pipes) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as content,
    ):
        yield from _in_tar(content)


def _in_tar(content: tarfile.TarFile) -> Iterator[_Member]:
    for info in content:
        kind = _Kind.FILE if info.isreg() else _Kind.OTHER
        kind = _Kind.FOLDER if info.isdir() else kind
        yield info.name, kind, partial(content.extractfile, info)


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that builds NumPy arrays and refuses all else a pickle may name."""

    admitted = {
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return the object `module.name` if it is one of those that make an array."""
        if (module, name) not in self.admitted:
            raise pickle.UnpicklingError(
                f"its pickle asks for {module}.{name}; only arrays are admitted"
            )
        return self.admitted[module, name]


def _mnist_pickle(stream: BinaryIO) -> Iterator[tuple[str, BinaryIO]]:
    """Turn the Theano tutorials' `mnist.pkl.gz` back into the four idx files.

    It holds (images [N, 784] in pixel / 256, labels [N]) for 50,000 + 10,000 + 10,000
    digits; the first two parts in this order are the official training set.
    """
    content = gzip.GzipFile(fileobj=stream)
    training, validation, test = _ArrayUnpickler(content, encoding="latin1").load()
    for part, pieces in (("train", (training, validation)), ("t10k", (test,))):
        images = np.concatenate([images for images, _ in pieces]).reshape(-1, 28, 28)
        labels = np.concatenate([labels for _, labels in pieces])
        yield f"raw/{part}-images-idx3-ubyte", _idx((images * 256).round())
        yield f"raw/{part}-labels-idx1-ubyte", _idx(labels)


def _idx(values: np.ndarray) -> BinaryIO:
    """Write an array as an idx file of unsigned bytes: magic number, sizes, values."""
    header = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return io.BytesIO(header + values.astype(np.uint8).tobytes())


CONVERTERS = {"mnist_pickle": _mnist_pickle}
