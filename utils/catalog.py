"""What the catalog says of a data set or a set of weights, and whether it is here already."""

import difflib
import os
import tomllib
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from utils import manifest

CATALOG = Path(__file__).with_name("catalog.toml")
REPOSITORY = Path(__file__).resolve().parents[1]


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


def weights_root() -> Path:
    """Return the folder in which torchvision, too, looks for weights before it downloads them.

    Returns:
        `$TORCH_HOME/hub/checkpoints`, by default below `~/.cache/torch`. It need not exist yet.

    Source: `torch.hub.get_dir`, whose import would take seconds.
    """
    cache_home = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(cache_home, "torch"))
    return Path(home).expanduser().absolute() / "hub" / "checkpoints"


def catalog() -> dict[str, dict[str, Any]]:
    """Return the catalog: by name, what `catalog.toml` explains at its top."""
    return tomllib.loads(CATALOG.read_text(encoding="utf-8"))


def entry_of(name: str) -> dict[str, Any]:
    """Return the entry called `name`.

    Raises:
        ValueError: If there is none.
    """
    known = catalog()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"there is no data set {name!r}.{hint} The catalog has: {', '.join(known)}")
    return known[name]


def root_of(entry: dict[str, Any]) -> Path:
    """Return the folder below which an entry has its own: that of the data, or that of weights."""
    return weights_root() if entry.get("weights") else data_root()


def layout_of(entry: dict[str, Any], source: dict[str, Any]) -> dict[str, Any]:
    """Return what a source delivers: a table with `folder`, and `files` or `tree` and `needs`."""
    return entry[source["layout"]] if "layout" in source else entry


def layouts(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the layouts in which a set may be here: the catalog's first, then those of other hosts."""
    found = [entry]
    for source in entry.get("sources", []):
        if (layout := layout_of(entry, source)) not in found:
            found.append(layout)
    return found


def layout_here(entry: dict[str, Any]) -> dict[str, Any] | None:
    """Return the layout in which an entry's set is here and whole, None if it is not."""
    return next((layout for layout in layouts(entry) if _is_whole(root_of(entry), layout)), None)


def torn_here(entry: dict[str, Any]) -> list[Path]:
    """Return the folders that hold a part of an entry's set; none if it is here and whole."""
    if layout_here(entry) is not None:
        return []
    folders = {root_of(entry) / layout["folder"]: layout.get("files") for layout in layouts(entry)}
    return [
        folder
        for folder, files in folders.items()  # a folder with listed files may hold those of other sets too
        if (any((folder / file["path"]).exists() for file in files) if files else any(folder.glob("*")))
    ]


def _is_whole(root: Path, layout: dict[str, Any]) -> bool:
    """Tell whether all files are there, by their names: their content was checked on its way in."""
    folder = root / layout["folder"]
    if "files" in layout:
        return all((folder / file["path"]).is_file() for file in layout["files"])
    if not all(any(folder.glob(pattern)) for pattern in layout["needs"]):
        return False
    if not (folder / manifest.NAME).exists():
        return True  # as its owner put it there
    digest = layout["tree"].get("sha256")
    if digest and manifest.sha256(folder / manifest.NAME) != digest:
        return False  # torn, or of an older catalog
    listed = manifest.read(folder)
    return listed is not None and listed.keys() <= manifest.files_below(folder)


def megabytes(layout: dict[str, Any]) -> float:
    """Return how much room the files of a layout take, in MB."""
    files = layout.get("files") or [layout["tree"]]
    return sum(file["bytes"] for file in files) / 1e6


def describe(layout: dict[str, Any]) -> str:
    """Return in words what belongs into the folder of a layout."""
    return (
        ", ".join(file["path"] for file in layout["files"])
        if "files" in layout
        else ", ".join(layout["needs"])
    )
