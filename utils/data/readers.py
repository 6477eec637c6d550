"""Files as tensors: every file is either read correctly or named in an error."""

import csv
import io
import math
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from numbers import Integral
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional

from utils.fetch.catalog import MANIFEST

FETCH_AGAIN = "delete the set's folder and fetch it again"

# PPM: .pgm and .pbm as well
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# Pillow's names for images of more than 8 bits a pixel: I, I;16, I;16B, F
DEEP_MODES = ("F", "I")


def _decode_jpeg(content: bytes) -> np.ndarray | None:
    """Decode a whole JPEG as Pillow does, six times quicker; None if it cannot."""
    whole = content.startswith(b"\xff\xd8\xff") and content.endswith(b"\xff\xd9")
    if not whole:  # OpenCV before 5.0 fills the missing part of a JPEG with grey
        return None
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if pixels is None else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _decode(content: bytes, mode: str) -> np.ndarray:
    """Decode the bytes of a file with Pillow to [H, W] or [H, W, C]."""
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        if image.mode.startswith(DEEP_MODES):
            raise ValueError(
                f"has more than 8 bits a pixel (Pillow's mode {image.mode})"
            )
        if mode != "RGBA" and image.has_transparency_data:
            if np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
                raise ValueError(
                    f"has transparent pixels, which {mode} cannot hold: read it as RGBA"
                )
        if mode == "L" and image.mode not in ("1", "L", "LA"):
            raise ValueError(
                f"is a colour image (Pillow's mode {image.mode}), expected a grey one"
            )
        return np.asarray(ImageOps.exif_transpose(image).convert(mode))


def read_image(path: Path, mode: str = "RGB") -> torch.Tensor:
    """Read an image file.

    What the file holds counts, not its suffix. It is turned upright as its EXIF
    orientation says. Grey and CMYK files become RGB; of an animation, the first frame
    is read. Pixels that are damaged in the middle of a JPEG are not found: the format
    has no checksum.

    Args:
        path: A JPEG, PNG, PPM, PGM, BMP, GIF, TIFF or WebP file.
        mode: "RGB", "L" (grey) or "RGBA".

    Returns:
        [3, H, W], [1, H, W] or [4, H, W], uint8.

    Raises:
        ValueError: If the file is empty, cut short, not an image, or one that `mode`
            cannot hold: more than 8 bits a pixel, transparent pixels as "RGB" or "L",
            colour as "L". The message names it.
        OSError: If there is no such file.
    """
    content = Path(path).read_bytes()
    pixels = _decode_jpeg(content) if mode == "RGB" else None
    if pixels is None:
        try:
            pixels = _decode(content, mode)
        except Image.UnidentifiedImageError:
            formats = f"is not an image in a format of {', '.join(FORMATS)}"
            raise ValueError(f"{path} {formats if content else 'is empty'}") from None
        except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            raise ValueError(f"{path} is a broken image: {error}") from error
        except ValueError as error:
            raise ValueError(f"{path} {error}") from error
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def check_size(size: int) -> None:
    """Raise ValueError if `size` is not a whole number of pixels, at least 1."""
    if not isinstance(size, Integral) or size < 1:
        raise ValueError(f"size must be a whole number of pixels from 1 on, got {size}")


def fit_square(image: torch.Tensor, size: int) -> torch.Tensor:
    """Resize an image so that its shorter side is `size`, then crop the longer side.

    Args:
        image: [..., H, W], uint8 or float.
        size: In pixels.

    Returns:
        [..., size, size], the middle of the image, resized bilinearly with
        antialiasing. Smaller images are enlarged.

    Raises:
        ValueError: If `size` is not a positive whole number.
    """
    check_size(size)
    if image.shape[-2:] == (size, size):
        return image
    if min(image.shape[-2:]) != size:
        image = functional.resize(image, [size], antialias=True)
    return functional.center_crop(image, [size, size])


def read_images(
    paths: Iterable[Path], mode: str = "RGB", *, size: int | None = None
) -> torch.Tensor:
    """Read image files into one tensor.

    Args:
        paths: As for `read_image`; at least one.
        mode: As for `read_image`.
        size: Pass each image through `fit_square` with this size. Without it all must
            be equally large.

    Returns:
        [N, C, H, W], uint8, in the order of `paths`.

    Raises:
        ValueError: If there is no path, some files cannot be read as `read_image`
            says (all of them are named), or sizes differ (all images are named whose
            size is not the most frequent one).
        OSError: If there is no such file.
    """
    images, faults, paths = [], [], list(paths)
    if not paths:
        raise ValueError("expected at least one image, got none")
    for path in paths:
        try:
            image = read_image(path, mode)
        except ValueError as error:
            faults.append(str(error))
            continue
        # at once, so that large images are not all in memory
        images.append(image if size is None else fit_square(image, size))
    if faults:
        raise ValueError(
            f"{len(faults)} of {len(paths)} files cannot be used:\n" + "\n".join(faults)
        )
    usual = Counter(image.shape for image in images).most_common(1)[0][0]
    odd = [
        f"{path} is {image.shape[2]}x{image.shape[1]}"
        for path, image in zip(paths, images, strict=True)
        if image.shape != usual
    ]
    if odd:
        raise ValueError(
            f"most images are {usual[2]}x{usual[1]}, but not all:\n" + "\n".join(odd)
        )
    return torch.stack(images)


LEFT_BY_SYSTEMS = {
    ".DS_Store",
    ".ipynb_checkpoints",
    "Thumbs.db",
    "desktop.ini",
    MANIFEST,
}
Labelled = tuple[list[Path], torch.Tensor]  # files and their labels [N] int64


def _listed(names: Sequence[str]) -> str:
    """Join the first eight names."""
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more


def list_images(folder: Path) -> list[Path]:
    """List the files of a folder that should hold nothing but images, sorted by name.

    Whether each is an image shows when it is read. What systems leave behind unasked
    (`.DS_Store`, `.ipynb_checkpoints`, `Thumbs.db`, `desktop.ini`) is not listed.

    Args:
        folder: The folder.

    Returns:
        The paths.

    Raises:
        ValueError: If there is no such folder, a folder lies in it, or it is empty.
    """
    if not folder.is_dir():
        raise ValueError(
            f"expected a folder of images at {folder}, which is not there: "
            f"{FETCH_AGAIN}"
        )
    paths = sorted(p for p in folder.iterdir() if p.name not in LEFT_BY_SYSTEMS)
    if not paths:
        raise ValueError(f"expected images in {folder}, which is empty: {FETCH_AGAIN}")
    if folders := [path.name for path in paths if path.is_dir()]:
        raise ValueError(
            f"expected only images in {folder}, found the folder(s) {_listed(folders)}"
        )
    return paths


def class_folders(folder: Path, names: Sequence[str], leave_out: str = "") -> Labelled:
    """List the images of a folder that holds one folder for each class, nothing else.

    Args:
        folder: The folder.
        names: What the folders of the classes are called, in the order of the labels.
        leave_out: A pattern of names of files that are not images of the set.

    Returns:
        The files, class by class and sorted by name in each, and their labels [N]
        int64.

    Raises:
        ValueError: If a class's folder is missing or holds no image, or something
            else lies beside them.
    """
    here = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    missing = [f"no {name}" for name in names if name not in here]
    if problems := missing + sorted(here - LEFT_BY_SYSTEMS - set(names)):
        raise ValueError(
            f"expected in {folder} the {len(names)} folders {', '.join(names)}; found "
            f"{', '.join(problems)}: {FETCH_AGAIN}"
        )
    files, labels = [], []
    for label, name in enumerate(names):
        in_class = [
            path
            for path in list_images(folder / name)
            if not fnmatch(path.name, leave_out)
        ]
        if not in_class:
            raise ValueError(f"expected images in {folder / name}, found none")
        files += in_class
        labels += [label] * len(in_class)
    return files, torch.tensor(labels)


def expect_files(folder: Path, names: Iterable[str]) -> None:
    """Raise ValueError if a file or folder called one of `names` is not in `folder`."""
    if missing := [name for name in names if not (folder / name).exists()]:
        raise ValueError(
            f"expected {_listed(missing)} in {folder}, not there: {FETCH_AGAIN}"
        )


def expect_same(images: Iterable[str], annotated: Iterable[str], where: Path) -> None:
    """Check that every image has one annotation and every annotation an image.

    Args:
        images: Names of the images that are there.
        annotated: Names of the images that have an annotation.
        where: What the message names.

    Raises:
        ValueError: If a name is in only one of the two, or more often in one of them.
    """
    images, annotated = Counter(images), Counter(annotated)
    for lacks, names in (
        ("annotation", images - annotated),
        ("image", annotated - images),
    ):
        if names:
            raise ValueError(
                f"{where}: no {lacks} of its own for {_listed(sorted(names))}: "
                f"{FETCH_AGAIN}"
            )


def read_annotated(
    folder: Path,
    part: str,
    table: Path,
    columns: Sequence[str],
    *,
    may_be_empty: bool = False,
) -> tuple[list[Path], torch.Tensor]:
    """Read a CSV table that has a row of numbers for each image of a folder.

    Args:
        folder: The set's folder.
        part: The folder of the images in it.
        table: The table.
        columns: What its first line holds; the first column names the image's file.
        may_be_empty: Take an empty field for NaN; without it, it is an error.

    Returns:
        The files, sorted by name, and the numbers of each one's row, [N, columns - 1]
        float64.

    Raises:
        ValueError: If the table has other columns, an image has no row or a row no
            image, or a field is no finite number.
    """

    def number(field: str) -> float:
        value = math.nan if may_be_empty and not field else float(field)
        if field and not math.isfinite(value):
            raise ValueError("a table has no such number")
        return value

    numbers = {}
    with table.open(newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        header = next(lines, [])
        if header != list(columns):
            raise ValueError(
                f"{table}: expected {len(columns)} columns ({_listed(columns)}), got "
                f"{len(header)} ({_listed(header)}): {FETCH_AGAIN}"
            )
        names = []
        for name, *fields in filter(None, lines):
            names.append(name)
            try:
                numbers[name] = list(map(number, fields))
            except ValueError:
                numbers[name] = []
            if len(numbers[name]) != len(columns) - 1:
                raise ValueError(
                    f"{table}, line {lines.line_num}: expected {len(columns) - 1} "
                    f"numbers after the name, got {_listed(fields)}: {FETCH_AGAIN}"
                )
    files = list_images(folder / part)
    expect_same([path.name for path in files], names, table)
    rows = [numbers[path.name] for path in files]
    return files, torch.tensor(rows, dtype=torch.float64)


def read_idx(path: Path) -> torch.Tensor:
    """Read a file in the idx format of MNIST: magic number, sizes, then the bytes.

    Args:
        path: The file, not compressed.

    Returns:
        uint8, in the shape that the file states.

    Raises:
        ValueError: If the header is not that of unsigned bytes, or the length does not
            match it.

    Source: the format's description on the MNIST page (LeCun, Cortes, Burges).
    """
    content = path.read_bytes()
    remedy = "delete it and fetch the set again"
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise ValueError(f"{path} is not an idx file of unsigned bytes: {remedy}")
    header = 4 + 4 * content[3]  # content[3] is the number of dimensions
    if len(content) < header:
        raise ValueError(f"{path} is cut short within its header: {remedy}")
    shape = struct.unpack(f">{content[3]}I", content[4:header])
    if len(content) - header != math.prod(shape):
        raise ValueError(
            f"{path} holds {len(content) - header} bytes of data, but its header "
            f"promises {shape}: {remedy}"
        )
    values = torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header)
    return values.reshape(shape)


MILLIMETRES = 1000.0  # in a metre


def read_depth(path: Path) -> torch.Tensor:
    """Read a depth map from a 16-bit PNG of millimetres.

    Args:
        path: The file; 0 in it means no measurement.

    Returns:
        [H, W], float32, metres; NaN where there is no measurement, so that a mean over
        it is NaN too.

    Raises:
        ValueError: If the file is not a 16-bit image of one channel; names it.
    """
    try:
        with Image.open(path) as image:
            millimetres = np.asarray(image)
    except (OSError, SyntaxError) as error:  # SyntaxError: Pillow's for a broken PNG
        raise ValueError(
            f"{path} is a broken image ({error}): {FETCH_AGAIN}"
        ) from error
    # Pillow has no 16-bit images of several channels
    if millimetres.dtype != np.uint16:
        found = f"{millimetres.dtype} {list(millimetres.shape)}"
        raise ValueError(
            f"{path} should hold 16-bit depths [H, W], holds {found}: {FETCH_AGAIN}"
        )
    metres = torch.from_numpy(millimetres.astype(np.float32)) / MILLIMETRES
    return torch.where(metres > 0, metres, torch.nan)
