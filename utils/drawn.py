"""Drawn pictures with transparency: emoji, rendered at any size, and playing cards."""

import io
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import resvg_py
import torch
from PIL import Image

from utils.fetch import fetch
from utils.paired import FETCH_AGAIN, expect_files
from utils.pictures import read_pictures

__all__ = ["Cards", "Emoji", "cards", "emoji"]

SUITS = ["Clubs", "Diamonds", "Hearts", "Spades"]
RANKS = ["A", "2", "3", "4", "5", "6", "7", "8", "9", "10", "J", "Q", "K"]
UNSEEN = {0x200D, 0xFE0F}  # they join code points and ask for colour, and are no part of a name


class Emoji(NamedTuple):
    """N emoji."""

    images: torch.Tensor  # [N, 4, size, size] uint8 RGBA, colour not multiplied by opacity
    names: list[str]  # the Unicode names of the code points, joined by " + "
    codes: list[str]  # code points in hexadecimal, joined by "-", as in "1F468-200D-1F33E"


class Cards(NamedTuple):
    """The 52 cards, suit by suit, from the ace to the king."""

    images: torch.Tensor  # [52, 4, 190, 140] uint8 RGBA, colour not multiplied by opacity
    ranks: torch.Tensor  # [52] int64, indices into RANKS
    suits: torch.Tensor  # [52] int64, indices into SUITS


def _name(code: str) -> str:
    """Return the Unicode name behind "1F468-200D-1F33E"; what this Python has no name for stays U+1F468."""
    points = [int(point, 16) for point in code.split("-")]
    names = [unicodedata.name(chr(point), f"U+{point:04X}") for point in points if point not in UNSEEN]
    return " + ".join(names)


def _draw(path: Path, size: int) -> torch.Tensor:
    """Render an SVG file to [4, size, size] uint8 RGBA."""
    try:
        png = resvg_py.svg_to_bytes(svg_path=str(path), width=size, skip_system_fonts=True)
    except ValueError as error:
        raise ValueError(f"{path} cannot be drawn ({error}): {FETCH_AGAIN}") from error
    with Image.open(io.BytesIO(png)) as picture:
        image = torch.from_numpy(np.array(picture.convert("RGBA"))).permute(2, 0, 1)
    if image.shape != (4, size, size) or not image[3].any():
        found = f"{image.shape[2]}x{image.shape[1]}" if image[3].any() else "nothing"
        raise ValueError(f"{path} should draw a square picture, draws {found}: {FETCH_AGAIN}")
    return image


def _choose(folder: Path, codes: Sequence[str] | None, count: int | None) -> list[Path]:
    """Return the files of `codes`, or `count` of all files in equal steps, or all."""
    if codes is not None:
        if count is not None or not codes:
            raise ValueError(f"give some codes, or a count, or none of both; got {codes} and {count}")
        expect_files(folder, [f"{code}.svg" for code in codes])
        return [folder / f"{code}.svg" for code in codes]
    paths = sorted(folder.glob("*.svg"))
    if not paths:
        raise ValueError(f"expected SVG files in {folder}, found none: {FETCH_AGAIN}")
    if count is None:
        return paths
    if not 0 < count <= len(paths):
        raise ValueError(f"asked for {count} of {len(paths)} emoji")
    return [paths[index * len(paths) // count] for index in range(count)]


def emoji(size: int = 64, *, codes: Sequence[str] | None = None, count: int | None = None) -> Emoji:
    """Draw emoji of OpenMoji, some 1.5 milliseconds each at 64 pixels.

    Args:
        size: Height and width in pixels.
        codes: Only these, in this order, as code points: "1F600", "1F468-200D-1F33E".
        count: Only so many, in equal steps through all of them.

    Returns:
        All 4,495 by default, in the order of their codes. Codes that start with E or F are OpenMoji's own and
        have no Unicode name. CC BY-SA 4.0.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If there is no such emoji, or not so many, or a file draws nothing; names it.

    Source: OpenMoji, the open-source emoji and icon project of HfG Schwäbisch Gmünd.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel, got {size}")
    paths = _choose(fetch("emoji"), codes, count)
    images = torch.stack([_draw(path, size) for path in paths])
    return Emoji(images, [_name(path.stem) for path in paths], [path.stem for path in paths])


def cards() -> Cards:
    """Load playing cards, 190x140 (height x width).

    Returns:
        52 pictures; the corners are transparent. CC0.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If a card is missing, or a file is not what it should be; names it.

    Source: Kenney, *Boardgame pack*; the files come with the package arcade.
    """
    folder = fetch("cards")
    names = [f"card{suit}{rank}.png" for suit in SUITS for rank in RANKS]
    expect_files(folder, names)
    images = read_pictures([folder / name for name in names], "RGBA")
    return Cards(
        images,
        torch.arange(len(RANKS)).repeat(len(SUITS)),
        torch.arange(len(SUITS)).repeat_interleave(len(RANKS)),
    )
