"""SHA256SUMS: what a set of many files consists of, in the format of the `sha256sum` command.

A set whose files are too many for the catalog carries this list in its folder; the catalog holds the hash of
the list. `sha256sum -c SHA256SUMS` checks it without the course.
"""

import hashlib
import os
from pathlib import Path

NAME = "SHA256SUMS"


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def text(digests: dict[str, str]) -> str:
    """Return the list as text, sorted by path.

    Args:
        digests: Path, with `/`, below the set's folder -> SHA-256 in hexadecimal.
    """
    return "".join(f"{digests[path]}  {path}\n" for path in sorted(digests))


def read(folder: Path) -> dict[str, str] | None:
    """Return the list in `folder`, path -> SHA-256; None if it has none, or one that is not whole."""
    try:
        lines = (folder / NAME).read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    except FileNotFoundError:
        return None
    whole = all(len(line) > 67 and line[64:66] == "  " and line.endswith("\n") for line in lines)
    return {line[66:-1]: line[:64] for line in lines} if lines and whole else None


def files_below(folder: Path) -> set[str]:
    """Return the paths, with `/`, of all files below `folder` but the list itself."""
    found = set()
    for parent, _, names in os.walk(folder):
        prefix = Path(parent).relative_to(folder).as_posix()
        found.update(names if prefix == "." else (f"{prefix}/{name}" for name in names))
    return found - {NAME}


def problems(folder: Path, digest: str | None) -> list[str]:
    """Read every file of a set and compare it with the list in its folder.

    Args:
        folder: The set's folder.
        digest: The SHA-256 of the list itself, where the catalog has it.

    Returns:
        One sentence for each bad, missing or foreign file; an empty list if all are right.
    """
    listed = read(folder)
    if listed is None:
        return [f"{folder} was not fetched by the course, which cannot vouch for it: it has no whole {NAME}"]
    if digest and sha256(folder / NAME) != digest:
        return [f"{folder / NAME} is not the catalog's: delete {folder} and fetch it again"]
    here = files_below(folder)
    found = [f"{folder / path} is missing" for path in sorted(listed.keys() - here)]
    found += [f"{folder / path} does not belong to the set" for path in sorted(here - listed.keys())]
    both = sorted(listed.keys() & here)
    return found + [
        f"{folder / path} has another content than {NAME}"
        for path in both
        if sha256(folder / path) != listed[path]
    ]
