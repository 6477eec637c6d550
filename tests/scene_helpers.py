"""Sources and scenes for the tests of the generators."""

import functools
import hashlib
from pathlib import Path

import pytest
import torch

from utils.loading import ImageSet
from utils.scenes import SceneSet, scenes

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "tests" / "data"
PLAIN = {"rotation": 0.0, "clutter": 0.0, "light": 0.0, "noise": 0.0}


@functools.cache
def sample_scenes() -> tuple[SceneSet, SceneSet]:
    """Draw scenes from the sample of Fashion-MNIST in tests/data: 130 for training, 66 for the test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CV_DATA", str(SAMPLES))
        return scenes(130, 66)


def source(n, *, width=28, first=0, classes=10):
    """Pictures of upright white rectangles [28, width], labelled in turn from `first` on."""
    images = torch.zeros(n, 1, 28, 28, dtype=torch.uint8)
    images[..., :width] = 255
    return ImageSet(images, torch.arange(n) % 5 + first, [f"class {c}" for c in range(classes)])


def digest(*sets):
    content = hashlib.sha256()
    for one in sets:
        for values in (one.images, one.numbers, one.counts, *one.objects.values()):
            content.update(values.numpy().tobytes())
    return content.hexdigest()
