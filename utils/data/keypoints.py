"""Sets of keypoints.

The faces are those of private persons: show numbers and plots of them, no images; of
athletes, images with the head blurred.
"""

import torch

from utils.data.dataset import PairedSet
from utils.data.readers import (
    FETCH_AGAIN,
    read_annotated,
    read_image,
    read_images,
)
from utils.fetch import fetch
from utils.fetch.preparation import JOINTS

POINTS = 68
SIDE = 128  # pixels
POINT_COLUMNS = ["file"] + [
    f"{axis}{point}" for point in range(POINTS) for axis in "xy"
]


def face_keypoints() -> tuple[PairedSet, PairedSet]:
    """Load faces with 68 points each: outline, eyebrows, nose, eyes, mouth.

    The points are numbered as in 300-W. The split is by person: nobody is in both sets.
    The source's own split has its test frames in its training set too.

    Returns:
        `(train, test)`: 1,800 images of 296 people and 500 of 51 others, `(image [3,
        128, 128] uint8, keypoints [68, 2] float32)`. Keypoints are x, y in pixels; in 4
        images some lie outside. Images are padded with black on the right and below,
        which leaves keypoints as they are. The right eye is points 36 to 41, the left
        one 42 to 47. `.names` are the person's name and the frame's number. MIT; the
        frames, from YouTube Faces, are for research.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If an image has no keypoints, a row of them no image, or a file is
            not what it should be; names it.

    Source: Udacity, *P1 facial keypoints*, on GitHub; frames: Wolf, Hassner, Maoz,
    *Face recognition in unconstrained videos with matched background similarity*, 2011.
    """
    folder, sets = fetch("face_keypoints"), []
    for part in ("train", "val"):
        table = folder / f"{part}_keypoints.csv"
        files, numbers = read_annotated(folder, part, table, POINT_COLUMNS)
        images = torch.zeros(len(files), 3, SIDE, SIDE, dtype=torch.uint8)
        for square, file in zip(images, files, strict=True):
            image = read_image(file)
            height, width = image.shape[1:]
            square[:, :height, :width] = image
        keypoints = numbers.float().reshape(-1, POINTS, 2)
        sets.append(PairedSet(images, keypoints, [file.stem for file in files]))
    return sets[0], sets[1]


# the joints of `leeds_sports`, in their order; left and right are the athlete's own
POSE_JOINTS = tuple(JOINTS)
# for an image mirrored from left to right: joint i is joint POSE_MIRROR[i] of before
POSE_MIRROR = (5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6, 12, 13)
POSE_COLUMNS = ["file"] + [
    f"{axis}{joint}" for joint in range(len(POSE_JOINTS)) for axis in "xyv"
]


def leeds_sports() -> tuple[PairedSet, PairedSet]:
    """Load athletes, one in an image, each with the places of 14 joints.

    Many are upside down or hide a limb. The joints were marked by crowd workers and are
    known to be rough: some are 10 pixels off, and left and right are now and then
    swapped. Mirroring an image takes `keypoints[:, POSE_MIRROR]` besides `width - x`.

    Returns:
        `(train, test)`: 4,000 and 800 examples `(image [3, 128, 128] uint8,
        {"keypoints": [14, 2] float32, "visible": [14] bool})`. Keypoints are x, y in
        pixels, and 0, 0 where a joint is not marked, which `visible` says; at least 10
        are. `.classes` are the joints' names, POSE_JOINTS; `.names` the files' in the
        source. For research; the photos belong to their authors.

    Raises:
        DatasetUnavailable: If it is neither here nor to be had.
        ValueError: If an image has no row, a row no image, a joint is marked and has no
            place, or a file is not what it should be; names it.

    Source: Johnson, Everingham, *Learning effective human pose estimation from
    inaccurate annotation*, 2011.
    """
    folder, sets = fetch("leeds_sports"), []
    for part in ("train", "val"):
        table = folder / f"{part}_keypoints.csv"
        files, numbers = read_annotated(
            folder, part, table, POSE_COLUMNS, may_be_empty=True
        )
        numbers = numbers.reshape(-1, len(POSE_JOINTS), 3)
        places, marks = numbers[..., :2], numbers[..., 2]
        bad = (marks != 1) & (marks != 0) | (places.isnan().any(-1) != (marks == 0))
        if bad.any():
            file = files[int(bad.any(1).nonzero()[0, 0])]
            raise ValueError(
                f"{table}: {file.name} has a joint that is not x, y, 1 or empty, "
                f"empty, 0: {FETCH_AGAIN}"
            )
        targets = {
            "keypoints": places.nan_to_num(0).float(),
            "visible": marks.bool(),
        }
        names = [file.stem for file in files]
        sets.append(PairedSet(read_images(files), targets, names, POSE_JOINTS))
    return sets[0], sets[1]
