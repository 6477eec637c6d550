"""What `python -m utils.fetch` does: list, get, mirror and verify the data sets of the course."""

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from utils.archives import check_archive
from utils.catalog import catalog, entry_of, layout_here, megabytes
from utils.fetch import DatasetUnavailable, alone, attempts_of, fetch, first_success, verify
from utils.members import SourceError
from utils.sources import archive_names, from_mirror

DESCRIPTION = """The data sets and weights of the course.

list    what there is: size, whether it is here, where it would come from, licence
get     bring sets here; without a name all that need no internet beyond a package index
mirror  put the archives of sets into FOLDER, for a class room without internet that sets CV_MIRROR to it;
        without a name all that can be had
verify  read the files of sets and compare them with the catalog; without a name all that are here
"""

ROW = "{:18} {:>5}  {:4}  {:45}  {}"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code, 1 if a set is not to be had or bad."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.fetch",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=["list", "get", "mirror", "verify"])
    parser.add_argument("names", nargs="*", metavar="NAME", help="data sets; of mirror, FOLDER [NAME ...]")
    options = parser.parse_args(arguments)
    command, names = options.command, options.names
    if command == "mirror":
        if not names:
            parser.error("mirror needs the folder to fill: python -m utils.fetch mirror FOLDER [NAME ...]")
        folder = Path(names.pop(0)).expanduser().absolute()
    if command == "list":
        print(ROW.format("name", "MB", "here", "would come from", "licence"))
    act = {
        "list": _list,
        "get": _get,
        "mirror": lambda name: _mirror(name, folder),
        "verify": _verify,
    }[command]
    code = 0
    for name in names or DEFAULTS[command]():
        try:
            code = act(name) or code
        except (ValueError, DatasetUnavailable) as error:
            print(error, file=sys.stderr)
            code = 1
    return code


def _list(name: str) -> None:
    entry = entry_of(name)
    if "sources" in entry:
        size, here = f"{megabytes(entry):.1f}", "yes" if layout_here(entry) else "no"
    else:
        size, here = "", "yes" if all(layout_here(entry_of(part)) for part in entry["made_from"]) else "no"
    print(ROW.format(name, size, here, origin(name, entry), entry["licence"]))


def origin(name: str, entry: dict[str, Any]) -> str:
    """Return in a few words where a set would come from now."""
    if "sources" not in entry:
        parts = " and ".join(entry["made_from"])
        return f"generated from {parts}" if parts else entry["comes_with"]
    if source := _in_mirror(name, entry):
        return f"the mirror: {', '.join(archive_names(name, entry, source))}"
    source = entry["sources"][0]
    if source["kind"] == "mirror" and len(entry["sources"]) > 1:
        source = entry["sources"][1]
    if source["kind"] == "mirror":
        return f"only a mirror: {source['archives'][0]['name']}"
    kinds = {"pypi": "PyPI", "debian": "Debian"}
    where = source.get("package") or urlsplit(source["url"]).hostname
    return f"{kinds.get(source['kind'], 'internet')}: {where}"


def _in_mirror(name: str, entry: dict[str, Any]) -> dict[str, Any] | None:
    """Return the source whose archives lie in `$CV_MIRROR`, if there is one."""
    mirror = os.environ.get("CV_MIRROR")
    for source in entry["sources"] if mirror else []:
        try:
            from_mirror(Path(mirror), archive_names(name, entry, source))
        except SourceError:
            continue
        return source
    return None


def _get(name: str) -> None:
    entry = entry_of(name)
    if "sources" in entry:
        print(f"{name}: {fetch(name)}")
        return
    for part in entry["made_from"]:
        fetch(part)
    print(f"{name}: {origin(name, entry)}, made by {entry['made_by']}")


def _verify(name: str) -> int:
    if "sources" not in entry_of(name):
        print(f"{name}: generated, no files to verify")
        return 0
    problems = verify(name)
    print(*(problems or [f"{name}: all files are right"]), sep="\n")
    return int(bool(problems))


def _mirror(name: str, folder: Path) -> None:
    """Put the archives of one source of a set, checked by opening them, into `folder`."""
    entry = entry_of(name)
    if "sources" not in entry:
        print(f"{name}: nothing to mirror, {entry['made_by']} makes it")
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with alone(name, folder):
            if not _is_mirrored(name, entry, folder):
                _fill(name, entry, folder)
    except OSError as error:
        reason = error.strerror or error
        raise DatasetUnavailable(f"{name} cannot be stored in {folder}: {reason}") from None
    print(f"{name}: {folder}")


def _is_mirrored(name: str, entry: dict[str, Any], folder: Path) -> bool:
    for source in entry["sources"]:
        try:
            for archive in from_mirror(folder, archive_names(name, entry, source)):
                check_archive(archive, source)
        except SourceError:
            continue
        return True
    return False


def _fill(name: str, entry: dict[str, Any], folder: Path) -> None:
    work = folder / f".{name}.part"
    try:
        source, archives = first_success(name, attempts_of(name, entry), entry, work)
        patterns = archive_names(name, entry, source)
        for archive, pattern in zip(archives, patterns, strict=True):
            target = folder / Path(pattern).parent / archive.name
            target.parent.mkdir(parents=True, exist_ok=True)
            part = work / "copy"
            shutil.copyfile(archive, part)
            part.replace(target)
    finally:
        if work.exists():
            shutil.rmtree(work)


def _needs_no_internet() -> list[str]:
    """Return the sets that a package index or the mirror has, and those that are generated."""
    return [
        name
        for name, entry in catalog().items()
        if "sources" not in entry
        or any(source["kind"] in ("pypi", "debian") for source in entry["sources"])
        or _in_mirror(name, entry)
    ]


def _obtainable() -> list[str]:
    """Return the sets for which there is a download, or which lie in the mirror."""
    return [
        name
        for name, entry in catalog().items()
        if "sources" in entry
        and (any(source["kind"] != "mirror" for source in entry["sources"]) or _in_mirror(name, entry))
    ]


def _here() -> list[str]:
    return [name for name, entry in catalog().items() if "sources" in entry and layout_here(entry)]


DEFAULTS = {"list": catalog, "get": _needs_no_internet, "mirror": _obtainable, "verify": _here}
