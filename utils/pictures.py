"""Picture files as tensors: every file is either read right or named in an error."""

import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional

from utils import manifest

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # PPM: .pgm and .pbm as well
MODES = {"L": 1, "RGB": 3, "RGBA": 4}
DEEP_MODES = ("F", "I")  # Pillow's names for pictures of more than 8 bits a pixel: I, I;16, I;16B, F
LEFT_BY_SYSTEMS = {".DS_Store", ".ipynb_checkpoints", "Thumbs.db", "desktop.ini", manifest.NAME}

Labelled = tuple[list[Path], torch.Tensor]  # files and their labels [N] int64


def _decode_jpeg(content: bytes) -> np.ndarray | None:
    """Decode a whole JPEG to RGB [H, W, 3] as Pillow does, six times quicker; None: leave it to Pillow."""
    whole = content.startswith(b"\xff\xd8\xff") and content.endswith(b"\xff\xd9")
    if not whole:  # OpenCV before 5.0 fills the missing part of a JPEG with grey
        return None
    try:
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if picture is None else cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def _decode(content: bytes, mode: str) -> np.ndarray:
    """Decode the bytes of a file with Pillow to [H, W] or [H, W, C]."""
    with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
        if picture.mode.startswith(DEEP_MODES):
            raise ValueError(f"has more than 8 bits a pixel (Pillow's mode {picture.mode})")
        if mode != "RGBA" and picture.has_transparency_data:
            if np.asarray(picture.convert("RGBA"))[..., 3].min() < 255:
                raise ValueError(f"has transparent pixels, which {mode} cannot hold: read it as RGBA")
        if mode == "L" and picture.mode not in ("1", "L", "LA"):
            raise ValueError(f"is a colour picture (Pillow's mode {picture.mode}), expected a grey one")
        return np.asarray(ImageOps.exif_transpose(picture).convert(mode))


def _read(path: Path, mode: str) -> np.ndarray:
    """Read one file as uint8 [H, W, C]."""
    with open(path, "rb") as file:
        content = file.read()
    picture = _decode_jpeg(content) if mode == "RGB" else None
    if picture is None:
        try:
            picture = _decode(content, mode)
        except Image.UnidentifiedImageError:
            what = "is empty" if not content else f"is no picture in a format of {', '.join(FORMATS)}"
            raise ValueError(f"{path} {what}") from None
        except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            raise ValueError(f"{path} is a broken picture: {error}") from error
        except ValueError as error:
            raise ValueError(f"{path} {error}") from error
    return picture if picture.ndim == 3 else picture[..., None]


def _check(mode: str, size: int | None = None) -> None:
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    if size is not None and size < 1:
        raise ValueError(f"size must be at least 1 pixel, got {size}")


def read_picture(path: Path, mode: str = "RGB") -> torch.Tensor:
    """Read a picture file.

    What the file holds counts, not its suffix. It is turned upright as its EXIF orientation says. Grey and
    CMYK files become RGB; of an animation, the first frame is read. Pixels that are damaged in the middle
    of a JPEG are not found: the format has no checksum.

    Args:
        path: A JPEG, PNG, PPM, PGM, BMP, GIF, TIFF or WebP file.
        mode: "RGB", "L" (grey) or "RGBA".

    Returns:
        [3, H, W], [1, H, W] or [4, H, W], uint8.

    Raises:
        ValueError: If the file is empty, cut short, not a picture, or one that `mode` cannot hold: more than
            8 bits a pixel, transparent pixels as "RGB" or "L", colour as "L". The message names it.
        OSError: If there is no such file.
    """
    _check(mode)
    return torch.from_numpy(_read(path, mode).transpose(2, 0, 1).copy())


def fit_square(image: torch.Tensor, size: int) -> torch.Tensor:
    """Resize a picture so that its shorter side is `size`, then crop the middle of the longer side.

    Args:
        image: [..., H, W], uint8 or float.
        size: In pixels.

    Returns:
        [..., size, size], resized bilinearly with antialiasing. Smaller pictures are enlarged.

    Raises:
        ValueError: If `size` is not positive or a side of the picture is 0.
    """
    _check("RGB", size)
    height, width = image.shape[-2:]
    if not height or not width:
        raise ValueError(f"expected a picture [..., H, W] with pixels in it, got {list(image.shape)}")
    if min(height, width) != size:
        image = functional.resize(image, [size], antialias=True)
    return functional.center_crop(image, [size, size])


def read_pictures(paths: Iterable[Path], mode: str = "RGB", *, size: int | None = None) -> torch.Tensor:
    """Read picture files into one tensor.

    Args:
        paths: As for `read_picture`; at least one.
        mode: As for `read_picture`.
        size: Pass each picture through `fit_square` with this size. Without it all must be equally large.

    Returns:
        [N, C, H, W], uint8, in the order of `paths`.

    Raises:
        ValueError: If there is no path, some files cannot be read as `read_picture` says (all of them are
            named), or sizes differ (all pictures are named whose size is not the most frequent one).
        OSError: If there is no such file.
    """
    _check(mode, size)
    pictures, faults, paths = [], [], list(paths)
    if not paths:
        raise ValueError("expected at least one picture, got none")
    for path in paths:
        try:
            picture = _read(path, mode)
        except ValueError as error:
            faults.append(str(error))
            continue
        if size is not None:  # at once, so that large files are not all in memory
            channels_first = torch.from_numpy(picture.transpose(2, 0, 1).copy())
            picture = fit_square(channels_first, size).permute(1, 2, 0).numpy()
        pictures.append(picture)
    if faults:
        raise ValueError(f"{len(faults)} of {len(paths)} files cannot be used:\n" + "\n".join(faults))
    _check_sizes(paths, [picture.shape[:2] for picture in pictures])
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def _check_sizes(paths: list[Path], sizes: list[tuple[int, int]]) -> None:
    """Raise ValueError with the names of all pictures that are not as large as most."""
    usual = Counter(sizes).most_common(1)[0][0]
    odd = [f"{path} is {w}x{h}" for path, (h, w) in zip(paths, sizes, strict=True) if (h, w) != usual]
    if odd:
        raise ValueError(f"most pictures are {usual[1]}x{usual[0]}, but not all:\n" + "\n".join(odd))


def list_pictures(folder: Path) -> list[Path]:
    """List the files of a folder that should hold nothing but pictures, in the order of their names.

    Whether each is a picture shows when it is read. What systems leave behind unasked (`.DS_Store`,
    `.ipynb_checkpoints`, `Thumbs.db`, `desktop.ini`) is not listed.

    Args:
        folder: The folder.

    Returns:
        The paths, sorted by name.

    Raises:
        ValueError: If there is no such folder, a folder lies in it, or it is empty.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"expected a folder of pictures at {folder}, which is not there")
    paths = sorted(path for path in folder.iterdir() if path.name not in LEFT_BY_SYSTEMS)
    if not paths:
        raise ValueError(f"expected pictures in {folder}, which is empty")
    if folders := [path.name for path in paths if path.is_dir()]:
        raise ValueError(f"expected only pictures in {folder}, found the folder(s) {', '.join(folders)}")
    return paths


def class_folders(folder: Path, names: Sequence[str], leave_out: Sequence[Path] = ()) -> Labelled:
    """List the pictures of a folder that holds one folder for each class, and nothing else.

    Args:
        folder: The folder.
        names: What the folders of the classes are called, in the order of the labels.
        leave_out: Files that are known to be no pictures of the set.

    Returns:
        The files, class by class and sorted by name in each, and their labels [N] int64.

    Raises:
        ValueError: If a class's folder is missing or holds no picture, or something else lies beside them.
    """
    found = {p.name for p in folder.iterdir()} - LEFT_BY_SYSTEMS if folder.is_dir() else set()
    if problems := [f"no {name}" for name in names if name not in found] + sorted(found - set(names)):
        raise ValueError(
            f"expected in {folder} the {len(names)} folders {', '.join(names)}; found {', '.join(problems)}. "
            "Delete it and fetch the set again"
        )
    files, labels = [], []
    for label, name in enumerate(names):
        in_class = [path for path in list_pictures(folder / name) if path not in leave_out]
        if not in_class:
            raise ValueError(f"expected pictures in {folder / name}, found none")
        files += in_class
        labels += [label] * len(in_class)
    return files, torch.tensor(labels)


def wrong_layout(folder: Path, *layouts: str) -> ValueError:
    """Return the error for a folder in an unknown layout: what was expected, and what is there."""
    found = sorted(path.name for path in folder.iterdir())
    listed = ", ".join(found[:8]) + (", ..." if len(found) > 8 else "") if found else "nothing"
    return ValueError(
        f"expected in {folder} {' or '.join(layouts)}; found {listed}. Delete it and fetch the set again"
    )
