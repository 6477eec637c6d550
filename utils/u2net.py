"""U2-Net small, which finds the salient object of a picture."""

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

CHANNELS = 64  # of every stage's output
INNER = 16  # channels inside a stage


def _conv(inputs: int, outputs: int, dilation: int = 1) -> nn.Sequential:
    # The published file has its batch normalisations folded into the convolutions.
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation), nn.ReLU())


def _merge(below: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
    """Enlarge `below` to the size of `skip` and put the two side by side."""
    return torch.cat([F.interpolate(below, skip.shape[-2:], mode="bilinear"), skip], dim=1)


class ResidualU(nn.Module):
    """A stage: a small U-Net whose output is added to its input.

    Args:
        inputs: Channels that come in.
        depth: Convolutions on the way down.
        dilated: Widen the view by dilation and keep the size, in the place of pooling.
    """

    def __init__(self, inputs: int, depth: int, *, dilated: bool = False) -> None:
        """See the class."""
        super().__init__()
        dilations = [2**i for i in range(depth)] if dilated else [1] * (depth - 1) + [2]
        back = dilations[-2::-1] if dilated else [1] * (depth - 1)
        widths = [CHANNELS] + [INNER] * depth
        self.entry = _conv(inputs, CHANNELS)
        self.down = nn.ModuleList(_conv(widths[i], INNER, dilation) for i, dilation in enumerate(dilations))
        self.up = nn.ModuleList(_conv(2 * INNER, INNER, dilation) for dilation in back[:-1])
        self.up.append(_conv(2 * INNER, CHANNELS, back[-1]))
        self.pools = 0 if dilated else depth - 2  # the deepest convolution dilates in the place of a pooling

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [B, inputs, H, W] to [B, 64, H, W]."""
        x = self.entry(x)
        y, skips = x, []
        for i, conv in enumerate(self.down):
            if 1 <= i <= self.pools:
                y = F.max_pool2d(y, 2, ceil_mode=True)
            y = conv(y)
            skips.append(y)
        skips.pop()
        for conv in self.up:
            y = conv(_merge(y, skips.pop()))
        return x + y


class U2NetP(nn.Module):
    """U2-Net small: a U of U-shaped stages, with a saliency map from each stage of the way up.

    Trained at 320x320; takes other sizes, too.

    Source: Qin, Zhang, Huang, Dehghan, Zaiane, Jagersand, *U2-Net: Going Deeper with Nested U-Structure for
    Salient Object Detection*, 2020; equal to the published ONNX graph.
    """

    def __init__(self) -> None:
        """See the class."""
        super().__init__()
        self.down = nn.ModuleList([ResidualU(3, 7)])
        self.down += [ResidualU(CHANNELS, depth) for depth in (6, 5, 4)]
        self.down += [ResidualU(CHANNELS, 4, dilated=True) for _ in range(2)]
        self.up = nn.ModuleList([ResidualU(2 * CHANNELS, 4, dilated=True)])
        self.up += [ResidualU(2 * CHANNELS, depth) for depth in (4, 5, 6, 7)]
        self.sides = nn.ModuleList(nn.Conv2d(CHANNELS, 1, 3, padding=1) for _ in range(6))
        self.fuse = nn.Conv2d(6, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images [B, 3, H, W] to saliency [B, 1, H, W], 0 to 1."""
        size, skips = x.shape[-2:], []
        for stage in self.down:
            x = stage(x if not skips else F.max_pool2d(x, 2, ceil_mode=True))
            skips.append(x)
        levels = [skips.pop()]  # the smallest first
        for stage in self.up:
            levels.append(stage(_merge(levels[-1], skips.pop())))
        maps = [side(level) for side, level in zip(self.sides, reversed(levels), strict=True)]
        maps = [F.interpolate(saliency, size, mode="bilinear") for saliency in maps]
        return self.fuse(torch.cat(maps, dim=1)).sigmoid()


def read_u2netp(file: Path) -> dict[str, torch.Tensor]:
    """Read the weights of U2-Net small from an ONNX file.

    Args:
        file: `u2netp.onnx`. Its convolutions stand in the order in which `U2NetP` lists and calls them.

    Returns:
        The state of `U2NetP`.

    Raises:
        ValueError: If the graph has not as many convolutions.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(file).graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    inputs = [name for node in graph.node if node.op_type == "Conv" for name in node.input[1:]]
    with torch.device("meta"):
        keys = list(U2NetP().state_dict())
    if len(keys) != len(inputs):
        raise ValueError(f"expected {len(keys)} weights and biases of convolutions, got {len(inputs)}")
    return {key: torch.tensor(tensors[name]) for key, name in zip(keys, inputs, strict=True)}
