"""Sets that show people: points of faces, ages, a street with pedestrians.

The faces are those of private persons: show numbers and plots of them, no pictures.
"""

from pathlib import Path

import cv2
import torch
from torch.nn import functional

from utils.fetch import fetch
from utils.paired import FETCH_AGAIN, PairedSet, expect_files, expect_same, read_numbers, read_table
from utils.pictures import list_pictures, read_picture, read_pictures

__all__ = ["face_keypoints", "pedestrians", "utkface"]

POINTS = 68
SIDE = 128  # pixels
POINT_COLUMNS = ["file"] + [f"{axis}{point}" for point in range(POINTS) for axis in "xy"]
GENDERS = ["male", "female"]
OLDEST = 125  # years: nobody has been older


def _read_annotated(
    folder: Path, part: str, table: Path, columns: list[str]
) -> tuple[list[Path], torch.Tensor]:
    """Return the pictures of `folder`/`part` and the numbers of their rows in `table`, in the same order."""
    rows = read_table(table, columns)
    expect_files(folder, [part])
    files = list_pictures(folder / part)
    expect_same([path.name for path in files], [row[0] for row in rows], table)
    numbers = read_numbers(table, rows)
    order = {row[0]: index for index, row in enumerate(rows)}
    return files, numbers[[order[path.name] for path in files]]


def _pad_to_square(path: Path) -> torch.Tensor:
    """Read a picture and pad it with black, on the right and below, to [3, SIDE, SIDE]."""
    image = read_picture(path)
    height, width = image.shape[1:]
    if max(height, width) > SIDE:
        raise ValueError(f"{path} is {width}x{height}, expected {SIDE} pixels a side at most: {FETCH_AGAIN}")
    return functional.pad(image, (0, SIDE - width, 0, SIDE - height))


def face_keypoints() -> tuple[PairedSet, PairedSet]:
    """Load faces with 68 points each: outline, eyebrows, nose, eyes, mouth, numbered as in 300-W.

    The split is by person: nobody is in both sets. The source's own split has its test frames in its training
    set too.

    Returns:
        `(train, test)`: 1,800 pictures of 296 people and 500 of 51 others, `(image [3, 128, 128] uint8,
        keypoints [68, 2] float32)`. Keypoints are x, y in pixels; in 4 pictures some lie outside. Pictures
        are padded with black on the right and below, which leaves keypoints as they are. The right eye is
        points 36 to 41, the left one 42 to 47. `.names` are the person's name and the frame's number. MIT;
        the frames, from YouTube Faces, are for research.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If a picture has no keypoints, a row of them no picture, a person is in both sets, or a
            file is not what it should be; names it.

    Source: Udacity, *P1 facial keypoints*, on GitHub; frames: Wolf, Hassner, Maoz, *Face recognition in
    unconstrained videos with matched background similarity*, 2011.
    """
    folder, sets = fetch("face_keypoints"), []
    for part in ("train", "val"):
        table = folder / f"{part}_keypoints.csv"
        files, numbers = _read_annotated(folder, part, table, POINT_COLUMNS)
        keypoints = numbers.float().reshape(-1, POINTS, 2)
        images = torch.stack([_pad_to_square(path) for path in files])
        sets.append(PairedSet(images, keypoints, [path.stem for path in files]))
    train, test = ({name.rpartition("_")[0] for name in part.names} for part in sets)
    if both := sorted(train & test):
        raise ValueError(
            f"{folder}: {both[0]} is in train and in val, so that one tests the other: {FETCH_AGAIN}"
        )
    return sets[0], sets[1]


def utkface() -> tuple[PairedSet, PairedSet]:
    """Load aligned faces with age and gender, as their source has labelled them, partly by machine.

    Who is who is not known, so a person may be in both sets. Pictures are in the order of their files' names,
    hence by age: shuffle them.

    Returns:
        `(train, test)`: 3,300 and 700 examples `(image [3, 112, 112] uint8, {"age": [], "gender": []})`, both
        int64: years, and 0 male, 1 female (`.classes`). The source's race code is not used. Only for
        non-commercial research; the photos belong to their owners.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If a picture has no row, a row no picture, an age is not within 0 and 125 or a gender not
            0 or 1, or a file is not what it should be; names it.

    Source: Zhang, Song, Qi, *Age progression/regression by conditional adversarial autoencoder*, 2017.
    """
    folder, sets = fetch("utkface"), []
    for part in ("train", "val"):
        table = folder / f"{part}.csv"
        files, numbers = _read_annotated(folder, part, table, ["file", "age", "gender"])
        ages, genders = numbers.unbind(1)
        wrong = (ages < 0) | (ages > OLDEST) | ((genders != 0) & (genders != 1)) | (ages != ages.round())
        if wrong.any():
            name = files[int(wrong.nonzero()[0])].name
            limits = f"a whole age of 0 to {OLDEST} and a gender of 0 or 1"
            raise ValueError(f"{table}: expected {limits} for {name}, got others: {FETCH_AGAIN}")
        targets = {"age": ages.long(), "gender": genders.long()}
        sets.append(PairedSet(read_pictures(files), targets, classes=GENDERS))
    return sets[0], sets[1]


def pedestrians(count: int | None = None, *, step: int = 10, start: int = 0) -> torch.Tensor:
    """Load frames of a video: people who cross a yard, seen by a camera that does not move.

    The video has 795 frames, 10 a second; a frame takes 1.3 MB.

    Args:
        count: How many frames. Default: all up to the end of the video.
        step: Take every `step`-th frame: 10 is one a second.
        start: The number of the first frame taken.

    Returns:
        [T, 3, 576, 768], uint8 RGB; T is `count`. By default 80 frames, 106 MB. As OpenCV: Apache 2.0.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If the video has not that many frames, ends before its header says, or cannot be read.

    Source: OpenCV's sample `vtest.avi`.
    """
    if step < 1 or start < 0 or (count is not None and count < 1):
        raise ValueError(f"step and count must be at least 1, start at least 0, got {step}, {count}, {start}")
    folder = fetch("pedestrians")
    expect_files(folder, ["vtest.avi"])
    return _read_frames(folder / "vtest.avi", start, step, count)


def _read_frames(path: Path, start: int, step: int, count: int | None) -> torch.Tensor:
    """Read the frames `start`, `start + step`, ... of a video into [T, 3, H, W]."""
    video, frames = cv2.VideoCapture(str(path)), []
    try:
        if not video.isOpened():
            raise ValueError(f"{path} is no video that OpenCV can read: {FETCH_AGAIN}")
        total = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        wanted = range(start, total, step)[:count]
        if not wanted or (count is not None and len(wanted) < count):
            asked = f"{count or 'all'} frames from {start} on, every {step}th"
            raise ValueError(f"{path} has {total} frames, too few for {asked}: ask for fewer")
        for number in range(wanted[-1] + 1):
            there, frame = video.grab(), None
            if there and number in wanted:
                there, frame = video.retrieve()  # [H, W, 3], blue first
            if not there:
                raise ValueError(f"{path} ends at frame {number} of {total}: {FETCH_AGAIN}")
            if frame is not None:
                frames.append(torch.from_numpy(frame))
    finally:
        video.release()
    return torch.stack(frames).flip(-1).permute(0, 3, 1, 2).contiguous()
