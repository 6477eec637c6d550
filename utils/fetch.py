"""Every data set of the course, verified, by its name: `fetch("mnist")`.

What is there already is used as it is. What is not comes from the sources that `catalog.toml` lists, a mirror
folder first, and enters the data root only when it is complete and its hashes match.

On the command line: `python -m utils.fetch list`, `get [NAME ...]`, `verify [NAME ...]`.
"""

import argparse
import difflib
import errno
import os
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from utils.archives import SourceError, check_archive, install, sha256, stage
from utils.sources import SOURCES, archive_names, from_mirror

CATALOG = Path(__file__).with_name("catalog.toml")
REPOSITORY = Path(__file__).resolve().parents[1]
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class DatasetUnavailable(RuntimeError):
    """A set is neither here nor to be had; says what was tried and what the reader can do."""


def data_root() -> Path:
    """Return the folder of all data sets.

    Returns:
        `$CV_DATA`; else `data/` at the top of the repository; else, where `utils` is installed without it,
        the user's cache folder. It need not exist yet.
    """
    if chosen := os.environ.get("CV_DATA"):
        return Path(chosen).expanduser().absolute()
    if (REPOSITORY / "pyproject.toml").is_file():
        return REPOSITORY / "data"
    return user_cache_path("cv-pytorch-course", appauthor=False)


def catalog() -> dict[str, dict[str, Any]]:
    """Return the catalog: for each name its title, licence, citation, used_for, folder, files and sources."""
    return tomllib.loads(CATALOG.read_text(encoding="utf-8"))


def fetch(name: str) -> Path:
    """Return the folder of a data set; get it first if it is not there.

    A set is there when all its files are: they were checked on their way in, and are not read again
    (`verify` does). A second process that asks for the same set waits for the first.

    Args:
        name: The set's name in the catalog, e.g. "mnist".

    Returns:
        Its folder, in the layout that torchvision's own class reads below `data_root()`.

    Raises:
        ValueError: If the catalog has no such set.
        DatasetUnavailable: If no source delivers it, or it cannot be stored.
    """
    entry = _entry(name)
    root = data_root()
    folder = root / entry["folder"]
    try:
        if _is_here(folder, entry):
            return folder
        root.mkdir(parents=True, exist_ok=True)
        with _alone(name, root):
            if not _is_here(folder, entry):  # another process may have brought it meanwhile
                _get(name, entry, root)
    except OSError as error:
        raise DatasetUnavailable(_storage_problem(name, entry, root, error)) from None
    return folder


def verify(name: str) -> list[str]:
    """Read the files of a set and compare them with the catalog.

    Args:
        name: The set's name in the catalog.

    Returns:
        One sentence for each bad file; an empty list if all are right.

    Raises:
        ValueError: If the catalog has no such set.
    """
    entry, problems = _entry(name), []
    for file in entry["files"]:
        path = data_root() / entry["folder"] / file["path"]
        if not path.is_file():
            problems.append(f"{path} is missing")
        elif (size := path.stat().st_size) != file["bytes"]:
            problems.append(f"{path} has {size} bytes instead of {file['bytes']}")
        elif sha256(path) != file["sha256"]:
            problems.append(f"{path} has the right size and another content than the catalog's")
    return problems


def _entry(name: str) -> dict[str, Any]:
    known = catalog()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"there is no data set {name!r}.{hint} The catalog has: {', '.join(known)}")
    return known[name]


def _is_here(folder: Path, entry: dict[str, Any]) -> bool:
    return all((folder / file["path"]).is_file() for file in entry["files"])


@contextmanager
def _alone(name: str, root: Path) -> Iterator[None]:
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


def _get(name: str, entry: dict[str, Any], root: Path) -> None:
    """Try the sources in order; put the set in its place once all its files are complete and checked."""
    work = root / f".{name}.part"  # beside the set, so that a rename suffices; a killed run leaves it behind
    answers = []
    try:
        for label, source, obtain in _attempts(name, entry):
            print(f"{name}: from {label} ...", flush=True)
            try:
                archives = obtain(work)
                for archive in archives:
                    check_archive(archive, source)
                stage(archives, source, entry["files"], work / "files")
            except SourceError as error:
                answers.append(f"  {label}: {error}")
            else:
                install(work / "files", root / entry["folder"], entry["files"])
                return
    finally:
        if work.exists():
            shutil.rmtree(work)
    raise DatasetUnavailable(_advice(name, entry, root, answers))


def _attempts(name: str, entry: dict[str, Any]) -> Iterator[tuple[str, dict, Callable[[Path], list[Path]]]]:
    """Yield a label, the source, and what brings its archives, given a folder to work in: mirror first."""
    if mirror := os.environ.get("CV_MIRROR"):
        for source in entry["sources"]:
            names = archive_names(name, entry, source)
            yield f"mirror {mirror}", source, lambda work, names=names: from_mirror(Path(mirror), names)
    for source in entry["sources"]:
        label = f"{source['kind']} {source.get('package') or source['url']}"
        yield label, source, partial(SOURCES[source["kind"]], source, entry)


def _advice(name: str, entry: dict[str, Any], root: Path, answers: list[str]) -> str:
    archives = [", ".join(archive_names(name, entry, source)) for source in entry["sources"]]
    return "\n".join(
        [
            f"the data set {name!r} is not here, and no source delivers it:",
            *answers,
            "What you can do:",
            "  connect to the internet and run this again;",
            f"  or set CV_MIRROR to a folder with {', or '.join(archives)};",
            f"  or put {', '.join(file['path'] for file in entry['files'])} into {root / entry['folder']}",
        ]
    )


def _storage_problem(name: str, entry: dict[str, Any], root: Path, error: OSError) -> str:
    size = _megabytes(entry)
    if error.errno in NO_ROOM:
        cause = "there is no room"
        remedy = f"free about {3 * size:.0f} MB there, or set CV_DATA to a folder on another disk"
    else:
        cause = f"{error.strerror or error} ({error.filename})"
        remedy = "set CV_DATA to a folder that you can write to"
    return f"the data set {name!r} ({size:.0f} MB) cannot be stored in {root}: {cause}; {remedy}"


def _megabytes(entry: dict[str, Any]) -> float:
    return sum(file["bytes"] for file in entry["files"]) / 1e6


def _row(name: str) -> str:
    entry = _entry(name)
    here = "here" if _is_here(data_root() / entry["folder"], entry) else "not here"
    kinds = ", ".join(source["kind"] for source in entry["sources"])
    return f"{name:16} {_megabytes(entry):6.0f} MB  {here:8}  {entry['licence']:14} from {kinds}"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code, 1 if a set is not to be had or bad."""
    parser = argparse.ArgumentParser(prog="python -m utils.fetch", description="The data sets of the course.")
    parser.add_argument("command", choices=["list", "get", "verify"])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="data sets; without it all, or all that are here"
    )
    options = parser.parse_args(arguments)
    code = 0
    for name in options.names or catalog():
        try:
            if options.command == "list":
                print(_row(name))
            elif options.command == "get":
                print(f"{name}: {fetch(name)}")
            elif options.names or _is_here(data_root() / _entry(name)["folder"], _entry(name)):
                problems = verify(name)
                print(*(problems or [f"{name}: all files are right"]), sep="\n")
                code = code or int(bool(problems))
        except (ValueError, DatasetUnavailable) as error:
            print(error, file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
