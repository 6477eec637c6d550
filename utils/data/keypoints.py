"""Sets of keypoints.

The faces are those of private persons: show numbers and plots of them, no images.
"""

import torch

from utils.data.dataset import PairedSet
from utils.data.readers import read_annotated, read_image
from utils.fetch import fetch

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
