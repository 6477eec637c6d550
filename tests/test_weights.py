"""`utils.weights`: the networks that need no internet, from files of random weights."""

import re
import shutil
from types import SimpleNamespace

import h5py
import pytest
import torch
from skimage import data
from torch.nn import functional as F
from torchvision import models
from weights_helpers import FILES, cut_off, lively, published_lite0, write_hed, write_u2netp

from utils import mtcnn, weights
from utils.fetch import DatasetUnavailable
from utils.offline_models import HED, EfficientNetLite0
from utils.u2net import U2NetP


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Files in the published layouts, of networks with random weights: the folder, the networks by name."""
    folder, made = tmp_path_factory.mktemp("written"), {}
    builders = {
        "mobilenet_v2": models.mobilenet_v2,
        "efficientnet_lite0": EfficientNetLite0,
        "hed_vgg16": HED,
    }
    for name, build in (builders | {"mtcnn": mtcnn.MTCNN, "u2netp": U2NetP}).items():
        made[name] = lively(build())
    torch.save(made["mobilenet_v2"].state_dict(), folder / FILES["mobilenet_v2"][0])
    torch.save(published_lite0(made["efficientnet_lite0"]), folder / FILES["efficientnet_lite0"][0])
    for net in ("pnet", "rnet", "onet"):
        torch.save(getattr(made["mtcnn"], net).state_dict(), folder / f"mtcnn_{net}.pt")
    write_hed(folder / FILES["hed_vgg16"][0], made["hed_vgg16"])
    write_u2netp(folder / FILES["u2netp"][0], made["u2netp"])
    return SimpleNamespace(folder=folder, models=made)


@pytest.fixture
def offline(tmp_path, monkeypatch):
    return cut_off(tmp_path, monkeypatch)


@pytest.mark.parametrize("name", FILES)
def test_a_network_that_needs_no_internet(name, written, offline, monkeypatch):
    monkeypatch.setattr(weights, "fetch", lambda asked: {name: written.folder}[asked])
    before = torch.get_rng_state()
    model, transform, categories = weights.pretrained(name)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module.training for module in model.modules())
    torch.testing.assert_close(model.state_dict(), written.models[name].state_dict(), rtol=0, atol=0)
    assert len(categories) == {"hed_vgg16": 0, "u2netp": 0, "mtcnn": 1}.get(name, 1000)
    side = {"hed_vgg16": (40, 60), "mtcnn": (40, 60), "u2netp": (320, 320)}.get(name, (224, 224))
    batch = transform(torch.randint(256, (2, 3, 40, 60), dtype=torch.uint8))
    assert batch.shape == (2, 3, *side) and batch.dtype == torch.float32
    with torch.inference_mode():
        result = model(batch[0]).boxes if name == "mtcnn" else model(batch[:1])
    assert result.shape[1:] == {"mtcnn": (4,), "hed_vgg16": (1, 40, 60), "u2netp": (1, 320, 320)}.get(
        name, (1000,)
    )


def test_transforms_by_hand(written, monkeypatch):
    monkeypatch.setattr(weights, "fetch", lambda _: written.folder)
    torch.manual_seed(0)
    images = torch.randint(256, (2, 3, 256, 256), dtype=torch.uint8)
    middle = images[..., 16:240, 16:240].float()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    dark = torch.randint(51, (3, 320, 320), dtype=torch.uint8)
    dark[0, 0, 0] = 51
    photos = torch.stack([dark, dark * 5, dark * 0])
    caffe = torch.tensor([104.00699, 116.66877, 122.67892]).view(3, 1, 1)
    for name, taken, expected in (
        ("mobilenet_v2", images, (middle / 255 - mean) / std),
        ("efficientnet_lite0", images, (middle - 127) / 128),
        ("mtcnn", images, images / 255),
        ("hed_vgg16", images, images[:, [2, 1, 0]] - caffe),
        ("u2netp", photos, (torch.stack([dark / 51, dark / 51, dark * 0.0]) - mean) / std),
    ):
        transform = weights.pretrained(name).transform
        for given in (taken, taken / 255):
            torch.testing.assert_close(transform(given), expected, rtol=1e-5, atol=1e-4)
            torch.testing.assert_close(transform(given[0]), expected[0], rtol=1e-5, atol=1e-4)


def test_lite0_resizes_by_bicubic_interpolation(written, monkeypatch):
    monkeypatch.setattr(weights, "fetch", lambda _: written.folder)
    image = torch.from_numpy(data.cat()).permute(2, 0, 1)  # [3, 300, 451]
    resized = F.interpolate(image[None].float(), (256, 384), mode="bicubic", antialias=True)[0].clamp(0, 255)
    expected = (resized[:, 16:240, 80:304] - 127) / 128
    transform = weights.pretrained("efficientnet_lite0").transform
    torch.testing.assert_close(transform(image), expected, rtol=0, atol=1.2 / 128)  # it rounds to whole steps


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_named(name, written, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "fetch", lambda _: tmp_path)
    file = tmp_path / FILES[name][0]

    def refused(*words):
        with pytest.raises(ValueError, match=f"(?s){re.escape(str(file))}.*delete it.*{'.*'.join(words)}"):
            weights.pretrained(name)

    for path in FILES[name]:
        shutil.copy(written.folder / path, tmp_path)
    if name == "hed_vgg16":
        with h5py.File(file, "a") as content:
            del content["dsn5/vars/1"]
        refused("KeyError")
    elif name == "u2netp":
        write_u2netp(file, written.models[name], skip=1)
        refused("expected 238", "got 236")
    else:
        state = torch.load(file)
        state["foreign"] = state.pop(last := list(state)[-1])
        torch.save(state, file)
        refused("Missing key", last.rpartition(".")[2], "Unexpected key", "foreign")
    file.write_bytes(file.read_bytes()[:-1000])
    refused()
    file.write_bytes(b"<html>not found</html>")
    refused()
    file.unlink()
    with pytest.raises(FileNotFoundError):  # no fault of a file
        weights.pretrained(name)


@pytest.mark.parametrize("name", ["mobilenet_v2", "u2netp"])
def test_no_source_for_what_needs_no_internet(name, monkeypatch):
    def fail(_):
        raise DatasetUnavailable("tried this and that")

    monkeypatch.setattr(weights, "fetch", fail)
    with pytest.raises(weights.WeightsUnavailable, match="tried this and that") as error:
        weights.pretrained(name)
    assert ("mobilenet_v2" in str(error.value)) == (name != "mobilenet_v2")


def test_an_unknown_name():
    for wrong, right in {"resnt18": "resnet18", "mobilenetv2": "mobilenet_v2", "u2net": "u2netp"}.items():
        with pytest.raises(
            ValueError, match=f"no pretrained network '{wrong}'. Did you mean '{right}'.*mtcnn"
        ):
            weights.pretrained(wrong)
    with pytest.raises(ValueError, match="'quantized_resnet18'"):
        weights.pretrained("quantized_resnet18")
