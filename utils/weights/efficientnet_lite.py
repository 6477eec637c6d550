"""EfficientNet-Lite 0, whose weights need no internet."""

import re
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

# Kernel, channels out, repeats, stride of the first, expansion: the blocks of
# EfficientNet-B0 and Lite 0.
LITE_STAGES = [(3, 16, 1, 1, 1), (3, 24, 2, 2, 6), (5, 40, 2, 2, 6), (3, 80, 3, 2, 6)]
LITE_STAGES += [(5, 112, 3, 1, 6), (5, 192, 4, 2, 6), (3, 320, 1, 1, 6)]


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME.

    An odd row or column of zeros goes to the end, and the output has
    ceil(size / stride) rows. PyTorch's symmetric padding would shift the image by a
    pixel.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [B, C in, H, W] to [B, C out, ceil(H / stride), ceil(W / stride)]."""
        pads = []
        for axis in (1, 0):  # F.pad wants the width first
            size, kernel, stride = (
                x.shape[2 + axis],
                self.kernel_size[axis],
                self.stride[axis],
            )
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads))


def _conv_bn(
    channels: tuple[int, int], kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    convolution = SameConv2d(*channels, kernel, stride, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(channels[1], eps=1e-3, momentum=0.01)]


class InvertedResidual(nn.Module):
    """Expand the channels, filter each, project back; add the input where shapes agree.

    Args:
        channels: Channels in and out.
        kernel: Size of the depthwise convolution.
        stride: Its stride.
        expansion: How many times more channels there are in between.
        drop: Probability in training that the block is skipped for an image.
    """

    def __init__(
        self,
        channels: tuple[int, int],
        kernel: int,
        stride: int,
        expansion: int,
        drop: float,
    ) -> None:
        """See the class."""
        super().__init__()
        inputs, outputs = channels
        hidden = inputs * expansion
        expand = [*_conv_bn((inputs, hidden), 1), nn.ReLU6()] if expansion > 1 else []
        self.expand = nn.Sequential(*expand)
        self.depthwise = nn.Sequential(
            *_conv_bn((hidden, hidden), kernel, stride, hidden), nn.ReLU6()
        )
        self.project = nn.Sequential(*_conv_bn((hidden, outputs), 1))
        self.drop = StochasticDepth(drop, "row")
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [B, C in, H, W] to [B, C out, ceil(H / stride), ceil(W / stride)]."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + self.drop(y) if self.has_shortcut else y


class EfficientNetLite0(nn.Module):
    """EfficientNet-B0 for phones: 4.65 M parameters.

    No squeeze and excitation, and ReLU6 in the place of Swish. Has `.features` and
    `.classifier`, like torchvision's MobileNetV2.

    Source: Tan and Le, *EfficientNet: Rethinking Model Scaling for Convolutional Neural
    Networks*, 2019; equal to the package efficientnet-lite-pytorch 0.1.0.
    """

    def __init__(self) -> None:
        """See the class."""
        super().__init__()
        blocks, inputs = [], 32
        count = sum(repeats for _, _, repeats, _, _ in LITE_STAGES)
        for kernel, outputs, repeats, stride, expansion in LITE_STAGES:
            for repeat in range(repeats):
                step, drop = (stride if repeat == 0 else 1), 0.2 * len(blocks) / count
                blocks.append(
                    InvertedResidual((inputs, outputs), kernel, step, expansion, drop)
                )
                inputs = outputs
        stem = nn.Sequential(*_conv_bn((3, 32), 3, stride=2), nn.ReLU6())
        head = nn.Sequential(*_conv_bn((inputs, 1280), 1), nn.ReLU6())
        self.features = nn.Sequential(stem, *blocks, head)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images [B, 3, H, W] to logits [B, 1000]."""
        if x.ndim != 4:
            raise ValueError(
                f"expected a batch of images [B, 3, H, W], got {list(x.shape)}; "
                f"image[None] makes a batch of one image"
            )
        x = self.features(x).mean([2, 3])  # [B, 1280]
        return self.classifier(x)


def lite0_state(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the entries of the published file to those of `EfficientNetLite0`.

    Args:
        state: As read from `efficientnet-lite0-57934424.pth`.

    Returns:
        The same tensors; a name that the file should not have is left as it is, for a
        strict load to find.
    """
    outside = {
        "_conv_stem": "features.0.0",
        "_bn0": "features.0.1",
        "_conv_head": "features.17.0",
    }
    outside |= {"_bn1": "features.17.1", "_fc": "classifier.1"}
    inside = {
        "_expand_conv": "expand.0",
        "_bn0": "expand.1",
        "_depthwise_conv": "depthwise.0",
    }
    inside |= {"_bn1": "depthwise.1", "_project_conv": "project.0", "_bn2": "project.1"}
    renamed = {}
    for key, value in state.items():
        if block := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key):
            number, layer, entry = block.groups()
            key = f"features.{int(number) + 1}.{inside.get(layer, layer)}.{entry}"
        else:
            layer, _, entry = key.partition(".")
            key = f"{outside.get(layer, layer)}.{entry}"
        renamed[key] = value
    return renamed
