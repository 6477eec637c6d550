"""Every data set and every set of weights of the course, by name: `fetch("mnist")`.

What is there already is used as it is. What is not comes from the sources that
`catalog.toml` lists, a mirror first, and enters the data root only when it is complete
and its hashes match.

On the command line: `python -m utils.fetch list`, `get [NAME ...]`,
`mirror FOLDER [NAME ...]`, `verify [NAME ...]`.
"""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from utils.fetch.archives import Refused, SourceError, install
from utils.fetch.catalog import (
    MANIFEST,
    Entry,
    Source,
    Tree,
    data_root,
    entry_of,
    files_below,
    is_foreign,
    layout_here,
    read_manifest,
    sha256,
    torn_here,
)
from utils.fetch.sources import archive_names, bring, sources_of

__all__ = ["DatasetAbsent", "DatasetUnavailable", "data_root", "fetch", "verify"]

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class DatasetUnavailable(RuntimeError):
    """A set is not here and not to be had; says what was tried and what to do."""


class DatasetAbsent(DatasetUnavailable):
    """No source has it or can be reached: nothing was damaged, refused, or full."""


def fetch(name: str | Entry) -> Path:
    """Return the folder of a data set or of weights; get it first if it is not there.

    A second process that asks for the same set waits for the first.

    Args:
        name: The set's name in the catalog, e.g. "mnist"; or an entry as the catalog
            has them.

    Returns:
        Its folder, in a layout that torchvision's own class or `ImageFolder` reads.
        Where the catalog knows two layouts, it is the one that is here; weights lie in
        torchvision's own folder for them.

    Raises:
        ValueError: If the catalog has no such set, or it is generated and not fetched.
        DatasetUnavailable: If no source delivers it, or it cannot be stored; where all
            there is to say is that no source has it or can be reached, a
            `DatasetAbsent`.
    """
    entry = name if isinstance(name, Entry) else entry_of(name)
    _refuse_generated(entry)
    with storing(entry, entry.root, _other_place(entry)):
        # It is here: checked on its way in, and not read again (`verify` does that).
        if layout := layout_here(entry):
            return entry.root / layout.folder

        with alone(entry.name, entry.root) as work:
            # Another process has brought it while this one waited.
            if layout := layout_here(entry):
                return entry.root / layout.folder

            # It comes from the first source that has it.
            failed = []
            for source in sources_of(entry):
                try:
                    bring(entry, source, work)
                except SourceError as error:
                    failed.append((source, error))
                    continue
                folder = entry.root / source.layout.folder
                install(work / "files", folder)
                return folder
        raise unavailable(entry, failed)


def verify(name: str) -> list[str]:
    """Read the files of a set and compare them with the catalog.

    Args:
        name: The set's name in the catalog.

    Returns:
        One sentence for each bad file; an empty list if all are right.

    Raises:
        ValueError: If the catalog has no such set, or it is generated and has no files.
    """
    entry = entry_of(name)
    _refuse_generated(entry)
    layout, problems = layout_here(entry) or entry.layouts[0], []
    folder = entry.root / layout.folder
    if layout.tree:
        return _tree_problems(folder, layout.tree)
    for file in layout.files:
        path = folder / file.path
        if not path.is_file():
            problems.append(f"{path} is missing")
        elif (size := path.stat().st_size) != file.bytes:
            problems.append(f"{path} has {size} bytes instead of {file.bytes}")
        elif sha256(path) != file.sha256:
            problems.append(
                f"{path} has the right size and another content than the catalog's"
            )
    return problems


def _tree_problems(folder: Path, tree: Tree) -> list[str]:
    """Compare every file of a tree with its list, and that with the catalog."""
    if not folder.is_dir():
        return [f"{folder} is missing"]
    listed = read_manifest(folder)
    if listed is None:
        return [
            f"{folder} was not fetched by the course, which cannot vouch for it: it "
            f"has no whole {MANIFEST}"
        ]
    if is_foreign(folder, tree):
        return [
            f"{folder / MANIFEST} is not the catalog's: delete {folder} and fetch it "
            f"again"
        ]
    here = files_below(folder)
    found = [f"{folder / path} is missing" for path in sorted(listed.keys() - here)]
    for path in sorted(here):
        if path not in listed:
            found.append(f"{folder / path} does not belong to the set")
        elif sha256(folder / path) != listed[path]:
            found.append(f"{folder / path} has another content than {MANIFEST}")
    return found


@contextmanager
def alone(name: str, root: Path) -> Iterator[Path]:
    """Keep other processes from fetching the same set; say so when it takes a wait.

    Args:
        name: The set's name.
        root: The folder below which its own will be; made if it is not there.

    Yields:
        A folder to work in, beside the set's own, so that a rename suffices. It is
        removed at the end; a killed process leaves it to the next.
    """
    root.mkdir(parents=True, exist_ok=True)
    lock, work = FileLock(root / f".{name}.lock"), root / f".{name}.part"
    try:
        held = lock.acquire(timeout=1)
    except Timeout:
        print(f"{name}: another process is fetching it; waiting ...", flush=True)
        held = lock.acquire()
    with held:
        try:
            yield work
        finally:
            if work.exists():
                shutil.rmtree(work)


@contextmanager
def storing(entry: Entry, root: Path, elsewhere: str) -> Iterator[None]:
    """Turn what a disk raises into `DatasetUnavailable`.

    Args:
        entry: The set.
        root: Where it was to go.
        elsewhere: What the reader can do to have it go to another place.
    """
    try:
        yield
    except OSError as error:
        size, remedy = entry.layouts[0].bytes / 1e6, elsewhere
        if error.errno in NO_ROOM:
            cause = "there is no room"
            # an archive, and what is taken out of it
            archives = (sum(a.bytes for a in each.archives) for each in entry.sources)
            room = max(3 * size, *(size + 2 * n / 1e6 for n in archives))
            remedy = f"free about {room:.0f} MB there, or {elsewhere}"
        elif isinstance(error, FileExistsError):
            cause = f"{error.filename} is a file, not a folder"
        else:
            cause = f"{error.strerror or error} ({error.filename})"
        raise DatasetUnavailable(
            f"{_called(entry)} ({size:.0f} MB) cannot be stored in {root}: {cause}; "
            f"{remedy}"
        ) from None


def unavailable(
    entry: Entry, failed: list[tuple[Source, SourceError]]
) -> DatasetUnavailable:
    """Return the error that says what each source answered, and what can be done."""
    torn = torn_here(entry)
    answers = [f"  {source.label}: {error}" for source, error in failed]
    answers += [f"  {folder} holds a part of it" for folder in torn]
    if not answers:
        answers = [
            "  a mirror: CV_MIRROR names none, and the course knows no download of it"
        ]
    lines = [
        f"{_called(entry)} is not here, and no source delivers it:",
        *dict.fromkeys(answers),
        "What you can do:",
    ]
    if any(source.kind != "mirror" for source in entry.sources):
        lines.append("  connect to the internet and run this again;")
    if entry.page:
        lines.append(f"  or get it from its authors, {entry.page};")
    archives = [", ".join(archive_names(entry, source)) for source in entry.sources]
    places = [
        f"{layout.contents} into {entry.root / layout.folder}"
        for layout in entry.layouts
    ]
    lines.append(
        f"  or set CV_MIRROR to a folder or an https address with "
        f"{', or '.join(archives)};"
    )
    lines.append(f"  or put {', or '.join(dict.fromkeys(places))}")
    damaged = any(isinstance(error, Refused) for _, error in failed)
    kind = DatasetUnavailable if damaged or torn else DatasetAbsent
    return kind("\n".join(lines))


def _refuse_generated(entry: Entry) -> None:
    if not entry.sources:
        raise ValueError(
            f"{entry.name!r} has no files to fetch or verify: use {entry.made_by}"
        )


def _called(entry: Entry) -> str:
    return f"the {'set of weights' if entry.weights else 'data set'} {entry.name!r}"


def _other_place(entry: Entry) -> str:
    variable = "TORCH_HOME" if entry.weights else "CV_DATA"
    return f"set {variable} to a folder elsewhere that you can write to"
