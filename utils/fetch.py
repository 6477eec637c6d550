"""Every data set and every set of weights of the course, verified, by its name: `fetch("mnist")`.

What is there already is used as it is. What is not comes from the sources that `catalog.toml` lists, a mirror
folder first, and enters the data root only when it is complete and its hashes match.

On the command line: `python -m utils.fetch list`, `get [NAME ...]`, `mirror FOLDER [NAME ...]`,
`verify [NAME ...]`.
"""

import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from utils import manifest
from utils.archives import check_archive, install, stage
from utils.catalog import (
    catalog,
    data_root,
    describe,
    entry_of,
    layout_here,
    layout_of,
    layouts,
    megabytes,
    root_of,
    torn_here,
)
from utils.members import SourceError
from utils.sources import SOURCES, archive_names, from_mirror

__all__ = ["DatasetAbsent", "DatasetUnavailable", "catalog", "data_root", "fetch", "verify"]

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

Attempt = tuple[
    str, dict[str, Any], Callable[[Path], list[Path]]
]  # a label, the source, what brings archives


class DatasetUnavailable(RuntimeError):
    """A set is neither here nor to be had; says what was tried and what the reader can do."""


class DatasetAbsent(DatasetUnavailable):
    """It is that and no more: no source has it or can be reached; nothing was found damaged or refused."""


def fetch(name: str) -> Path:
    """Return the folder of a data set or of weights; get it first if it is not there.

    A set is there when all its files are: they were checked on their way in, and are not read again
    (`verify` does). A second process that asks for the same set waits for the first.

    Args:
        name: The set's name in the catalog, e.g. "mnist".

    Returns:
        Its folder, in a layout that torchvision's own class or `ImageFolder` reads. Where the catalog knows
        two layouts, it is the one that is here; weights lie in torchvision's own folder for them.

    Raises:
        ValueError: If the catalog has no such set, or it is generated and not fetched.
        DatasetUnavailable: If no source delivers it, or it cannot be stored; where all there is to say is
            that no source has it or can be reached, a `DatasetAbsent`.
    """
    entry = entry_of(name)
    if "sources" not in entry:
        raise ValueError(f"{name!r} is not fetched: {entry['made_by']} makes it")
    root = root_of(entry)
    try:
        layout = layout_here(entry)
        if layout is None:
            root.mkdir(parents=True, exist_ok=True)
            with alone(name, root):
                layout = layout_here(entry) or _get(name, entry, root)  # another process may have brought it
    except OSError as error:
        raise DatasetUnavailable(_storage_problem(name, entry, root, error)) from None
    return root / layout["folder"]


def verify(name: str) -> list[str]:
    """Read the files of a set and compare them with the catalog.

    Args:
        name: The set's name in the catalog.

    Returns:
        One sentence for each bad file; an empty list if all are right.

    Raises:
        ValueError: If the catalog has no such set.
    """
    entry = entry_of(name)
    layout = layout_here(entry) or entry
    folder, problems = root_of(entry) / layout["folder"], []
    if "tree" in layout:
        if not folder.is_dir():
            return [f"{folder} is missing"]
        return manifest.problems(folder, layout["tree"].get("sha256"))
    for file in layout["files"]:
        path = folder / file["path"]
        if not path.is_file():
            problems.append(f"{path} is missing")
        elif (size := path.stat().st_size) != file["bytes"]:
            problems.append(f"{path} has {size} bytes instead of {file['bytes']}")
        elif manifest.sha256(path) != file["sha256"]:
            problems.append(f"{path} has the right size and another content than the catalog's")
    return problems


@contextmanager
def alone(name: str, root: Path) -> Iterator[None]:
    """Keep other processes from fetching the same set; say so when it takes a wait."""
    lock = FileLock(root / f".{name}.lock")
    try:
        lock.acquire(timeout=1)
    except Timeout:
        print(f"{name}: another process is fetching it; waiting ...", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def first_success(name: str, attempts: list[Attempt], entry: dict[str, Any], work: Path) -> tuple:
    """Try sources in order until one delivers a set that is complete and checked.

    Args:
        name: The set's name in the catalog.
        attempts: As `attempts_of` gives them.
        entry: The set's entry.
        work: A folder for what is being fetched; the checked set is in its `files` afterwards.

    Returns:
        The source that delivered, and its archives.

    Raises:
        DatasetUnavailable: If none does; says what each answered.
    """
    answers, refused = [], False
    for label, source, obtain in attempts:
        archives = []
        at_hand = label.startswith("mirror ")  # nothing to wait for, nor to say where it lacks it
        if not at_hand:
            print(f"{name}: from {label} ...", flush=True)
        try:
            archives = obtain(work)
            if at_hand:
                print(f"{name}: from {label} ...", flush=True)
            for archive in archives:
                check_archive(archive, source)
            stage(archives, source, layout_of(entry, source), work / "files")
        except SourceError as error:
            answers.append(f"  {label}: {error}")
            refused = refused or bool(archives)  # it was delivered, and is not what it should be
        else:
            return source, archives
    torn = torn_here(entry)
    answers += [f"  {folder} holds a part of it" for folder in torn]
    raise (DatasetUnavailable if refused or torn else DatasetAbsent)(_advice(name, entry, answers))


def attempts_of(name: str, entry: dict[str, Any]) -> list[Attempt]:
    """Return where a set may come from: the mirror first, then the sources in the catalog's order."""
    attempts, mirror = [], os.environ.get("CV_MIRROR")
    for source in entry["sources"] if mirror else []:
        names = archive_names(name, entry, source)
        attempts.append(
            (f"mirror {mirror}", source, lambda work, names=names: from_mirror(Path(mirror), names))
        )
    for source in entry["sources"]:
        if source["kind"] != "mirror":
            label = f"{source['kind']} {source.get('package') or source['url']}"
            attempts.append((label, source, partial(SOURCES[source["kind"]], source, entry)))
    return attempts


def _get(name: str, entry: dict[str, Any], root: Path) -> dict[str, Any]:
    """Bring a set to its place; return its layout."""
    work = root / f".{name}.part"  # beside the set, so that a rename suffices; a killed run leaves it behind
    try:
        source, _ = first_success(name, attempts_of(name, entry), entry, work)
        layout = layout_of(entry, source)
        install(work / "files", root / layout["folder"])
        return layout
    finally:
        if work.exists():
            shutil.rmtree(work)


def _advice(name: str, entry: dict[str, Any], answers: list[str]) -> str:
    online = [source for source in entry["sources"] if source["kind"] != "mirror"]
    archives = [", ".join(archive_names(name, entry, source)) for source in entry["sources"]]
    places = [f"{describe(layout)} into {root_of(entry) / layout['folder']}" for layout in layouts(entry)]
    subject = f"the weights {name!r} are" if entry.get("weights") else f"the data set {name!r} is"
    them = "them" if entry.get("weights") else "it"
    return "\n".join(
        [
            f"{subject} not here, and no source delivers {them}:",
            *(answers or ["  a mirror: CV_MIRROR names none, and the course knows no download of this set"]),
            "What you can do:",
            *(["  connect to the internet and run this again;"] if online else []),
            *([f"  or get it from its authors, {entry['page']};"] if "page" in entry else []),
            f"  or set CV_MIRROR to a folder with {', or '.join(archives)};",
            f"  or put {', or '.join(places)}",
        ]
    )


def _storage_problem(name: str, entry: dict[str, Any], root: Path, error: OSError) -> str:
    size = megabytes(entry)
    if error.errno in NO_ROOM:
        cause = "there is no room"
        remedy = f"free about {3 * size:.0f} MB there, or set CV_DATA to a folder on another disk"
    else:
        cause = f"{error.strerror or error} ({error.filename})"
        remedy = "set CV_DATA to a folder that you can write to"
    remedy = remedy.replace("CV_DATA", "TORCH_HOME") if entry.get("weights") else remedy
    return f"the data set {name!r} ({size:.0f} MB) cannot be stored in {root}: {cause}; {remedy}"


if __name__ == "__main__":
    from utils.fetch_command import main

    sys.exit(main())
