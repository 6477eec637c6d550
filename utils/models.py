"""Networks that more than one chapter uses.

Each was written out in the notebook that its docstring names.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import (
    Conv2dNormActivation,
    FeaturePyramidNetwork,
    MultiScaleRoIAlign,
)
from torchvision.transforms.v2 import Normalize


def fashion_mlp(hidden: int = 1000) -> nn.Sequential:
    """Return the fully connected network 784 - `hidden` - 10 of notebook 2.14.

    Args:
        hidden: Units in the hidden layer.

    Returns:
        From images [B, 1, 28, 28] to logits [B, 10]; 795,010 parameters with 1,000
        hidden units.

    Raises:
        ValueError: If `hidden` is less than 1.
    """
    _at_least(1, hidden=hidden)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(28 * 28, hidden), nn.ReLU(), nn.Linear(hidden, 10)
    )


def conv_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return a 3x3 convolution that keeps the size, batch normalisation and ReLU.

    Args:
        in_channels: Channels that come in.
        out_channels: Channels that go out.

    Returns:
        From [B, in_channels, H, W] to [B, out_channels, H, W]. The convolution has no
        bias: batch normalisation subtracts the mean, and any bias with it.

    Raises:
        ValueError: If a number of channels is less than 1.
    """
    _at_least(1, in_channels=in_channels, out_channels=out_channels)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def fashion_cnn(hidden: int = 82, dropout: float = 0.3) -> nn.Sequential:
    """Return the convolutional network of notebook 3.4, as large as `fashion_mlp`.

    Args:
        hidden: Units in the hidden layer of the classifier.
        dropout: Probability of a hidden unit to be zeroed in training.

    Returns:
        From images [B, 1, 28, 28] to logits [B, 10]; 792,816 parameters with 82 hidden
        units.

    Raises:
        ValueError: If `hidden` is less than 1, or `dropout` is no probability.
    """
    _at_least(1, hidden=hidden)
    return nn.Sequential(
        conv_block(1, 32),
        nn.MaxPool2d(2),  # [B, 32, 14, 14]
        conv_block(32, 64),
        conv_block(64, 64),
        nn.MaxPool2d(2),  # [B, 64, 7, 7]
        conv_block(64, 128),
        conv_block(128, 128),
        nn.Flatten(),  # [B, 6272]
        nn.Linear(128 * 7 * 7, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, 10),
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions that add a correction to what comes in (notebook 3.10).

    The parameters have the names of torchvision's `BasicBlock`: the state of one loads
    into the other.

    Args:
        channels: That come in and go out.

    Source: He, Zhang, Ren, Sun, *Deep residual learning for image recognition*, 2016,
    figure 2.
    """

    def __init__(self, channels: int) -> None:
        """See the class."""
        _at_least(1, channels=channels)
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return relu(x + correction), [B, C, H, W] like `x`."""
        correction = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(x + correction)


class Scale(nn.Module):
    """Multiply by a fixed number.

    Args:
        factor: The number.
    """

    def __init__(self, factor: float) -> None:
        """See the class."""
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `factor` times `x`."""
        return self.factor * x


def _halved(in_channels: int, out_channels: int) -> list[nn.Module]:
    """Return the layers of a convolution whose output has half the sides."""
    convolution = nn.Conv2d(
        in_channels, out_channels, kernel_size=3, padding=1, bias=False
    )
    return [convolution, nn.MaxPool2d(2), nn.BatchNorm2d(out_channels), nn.ReLU()]


def small_resnet(
    width: int = 48, classes: int = 10, *, scale: float = 0.125
) -> nn.Sequential:
    """Return the residual network of notebook 3.10, for small colour images.

    Args:
        width: The first convolution has half as many channels, the two blocks have 2
            and 4 times as many.
        classes: Logits.
        scale: The logits are multiplied by it.

    Returns:
        From images [B, 3, H, W], H and W multiples of 8, to logits [B, classes];
        1,020,922 parameters with width 48 and 10 classes.

    Raises:
        ValueError: If `width` is less than 2 or `classes` less than 1.

    Source: Page, *How to train your ResNet*, 2018, whose network it follows in half the
    resolution.
    """
    _at_least(2, width=width)
    _at_least(1, classes=classes)
    stem = width // 2
    return nn.Sequential(
        # [B, width / 2, H / 2, W / 2]
        nn.Conv2d(3, stem, kernel_size=4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(stem),
        nn.ReLU(),
        *_halved(stem, 2 * width),  # [B, 2 width, H / 4, W / 4]
        ResidualBlock(2 * width),
        *_halved(2 * width, 4 * width),  # [B, 4 width, H / 8, W / 8]
        ResidualBlock(4 * width),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, classes),
        Scale(scale),
    )


def double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return the block of the U-Net of notebook 7.2: twice convolution, norm, ReLU.

    Args:
        in_channels: Channels of the map that comes in.
        out_channels: Channels of both convolutions, 3 x 3 with a padding of 1.

    Returns:
        From [B, in_channels, H, W] to [B, out_channels, H, W].
    """
    layers = []
    for channels in (in_channels, out_channels):
        layers += [
            nn.Conv2d(channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


class MobileUNet(nn.Module):
    """The U-Net of notebook 7.2 whose encoder is torchvision's MobileNetV2.

    Args:
        features: `mobilenet_v2().features`, trained or not; its last layer is left out.
            The layers themselves are taken, not copies.
        num_classes: Logits a pixel.
        widths: Channels of the decoder's blocks, from 1/16 to 1/2 of the image's size.
    """

    taps = {1: 16, 3: 24, 6: 32, 13: 96}  # layers before each halving: their channels

    def __init__(
        self,
        features: nn.Sequential,
        num_classes: int,
        widths: Sequence[int] = (96, 64, 32, 24),
    ) -> None:
        """See the class."""
        super().__init__()
        self.encoder = features[:18]
        self.decoders = nn.ModuleList()
        below = 320
        for channels, width in zip(reversed(self.taps.values()), widths, strict=True):
            self.decoders.append(double_conv(channels + below, width))
            below = width
        self.head = nn.Conv2d(below, num_classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [B, num_classes, H, W] of images [B, 3, H, W]."""
        skips, x = [], images
        for index, layer in enumerate(self.encoder):
            x = layer(x)
            if index in self.taps:
                skips.append(x)
        for decoder in self.decoders:
            skip = skips.pop()
            x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear")
            x = decoder(torch.cat([skip, x], 1))
        return F.interpolate(self.head(x), size=images.shape[-2:], mode="bilinear")


class PoseNet(nn.Module):
    """The network of notebook 8.1: MobileNetV2, and a light decoder to heatmaps.

    Args:
        features: `mobilenet_v2().features`, trained or not; its last layer is left out.
            The layers themselves are taken, not copies.
        joints: Heatmaps an image.
        width: Channels of the decoder.
    """

    taps = {3: 24, 6: 32, 13: 96, 17: 320}  # layers at strides 4 to 32: their channels

    def __init__(
        self, features: nn.Sequential, joints: int = 14, width: int = 64
    ) -> None:
        """See the class."""
        super().__init__()
        _at_least(1, joints=joints, width=width)
        self.encoder = features[:18]
        channels = list(self.taps.values())
        self.decoder = nn.ModuleDict(
            {
                "enter": nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels),
                "mix": nn.ModuleList(conv_block(width, width) for _ in channels[1:]),
                "head": nn.Conv2d(width, joints, 1),
            }
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return heatmaps [B, joints, H / 4, W / 4] of images [B, 3, H, W].

        The images are normalised with ImageNet's statistics; H and W are multiples of
        32. The heatmaps are logits: a softmax over a map gives the joint's place.
        """
        maps, x = [], images
        for index, layer in enumerate(self.encoder):
            x = layer(x)
            if index in self.taps:
                maps.append(x)
        entered = [
            enter(m) for enter, m in zip(self.decoder["enter"], maps, strict=True)
        ]
        x = entered.pop()
        for mix in self.decoder["mix"]:
            enlarged = F.interpolate(x, scale_factor=2.0, mode="bilinear")
            x = mix(entered.pop() + enlarged)
        return self.decoder["head"](x)


def dcgan_generator(
    noise: int = 64, width: int = 16, transposed: bool = False
) -> nn.Sequential:
    """Return the generator of notebook 9.2: noise to maps of 7 x 7, enlarged twice.

    Args:
        noise: Numbers that an image is made from.
        width: Channels of the maps of 28 x 28; twice as many at 14 x 14, four times
            at 7 x 7.
        transposed: Enlarge by a transposed 4x4 convolution of stride 2, in place of
            nearest neighbours and a 3x3 convolution.

    Returns:
        From [B, noise] to images [B, 1, 28, 28], 0 to 1.

    Raises:
        ValueError: If a number is less than 1.
    """
    _at_least(1, noise=noise, width=width)
    first = 4 * width
    layers: list[nn.Module] = [
        nn.Linear(noise, first * 7 * 7, bias=False),
        nn.Unflatten(1, (first, 7, 7)),
        nn.BatchNorm2d(first),
        nn.ReLU(),
    ]
    for inputs, outputs in ((first, 2 * width), (2 * width, width)):
        if transposed:
            layers += [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
        else:
            layers += [nn.Upsample(scale_factor=2), *conv_block(inputs, outputs)]
    return _small_weights(*layers, nn.Conv2d(width, 1, 3, padding=1), nn.Sigmoid())


def dcgan_discriminator(width: int = 32) -> nn.Sequential:
    """Return the discriminator of notebook 9.2: strided convolutions to one logit.

    Args:
        width: Channels after the first convolution; they double with the second and
            with the third.

    Returns:
        From images [B, 1, 28, 28], 0 to 1, to logits [B, 1].

    Raises:
        ValueError: If `width` is less than 1.
    """
    _at_least(1, width=width)
    layers: list[nn.Module] = [
        Normalize([0.5], [0.5]),  # to -1 ... 1
        nn.Conv2d(1, width, 4, stride=2, padding=1),  # [B, width, 14, 14]
        nn.LeakyReLU(0.2),
    ]
    for inputs in (width, 2 * width):  # [B, ..., 7, 7], [B, ..., 4, 4]
        layers += [
            nn.Conv2d(inputs, 2 * inputs, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * inputs),
            nn.LeakyReLU(0.2),
        ]
    return _small_weights(*layers, nn.Flatten(), nn.Linear(4 * width * 4 * 4, 1))


def _small_weights(*layers: nn.Module) -> nn.Sequential:
    """Return the layers in a row, with the initial weights of the DCGAN paper."""
    for layer in layers:
        for part in layer.modules():
            if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                nn.init.normal_(part.weight, 0, 0.02)
    return nn.Sequential(*layers)


class SmallPyramid(nn.Module):
    """The backbone of notebook 7.4: residual blocks in three stages, and a pyramid.

    Args:
        width: The stages have 2, 6 and 9 times as many channels.
        channels: Channels of all maps of the pyramid.
    """

    def __init__(self, width: int = 16, channels: int = 64) -> None:
        """See the class."""
        super().__init__()
        _at_least(1, width=width, channels=channels)
        w = [2 * width, 6 * width, 9 * width]
        halving = partial(Conv2dNormActivation, kernel_size=3, stride=2)
        stages = [
            [Conv2dNormActivation(3, w[0], 8, 4, padding=2), ResidualBlock(w[0])],
            [halving(w[0], w[1]), ResidualBlock(w[1]), ResidualBlock(w[1])],
            [halving(w[1], w[2]), ResidualBlock(w[2]), ResidualBlock(w[2])],
        ]
        self.stages = nn.ModuleList([nn.Sequential(*stage) for stage in stages])
        self.pyramid = FeaturePyramidNetwork(w, channels)
        self.out_channels = channels  # torchvision's detectors want to know it

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return maps [B, channels, ...] of stride 4, 8, 16 of images [B, 3, H, W]."""
        maps, x = {}, images.contiguous(memory_format=torch.channels_last)
        for level, stage in enumerate(self.stages):
            x = stage(x)
            maps[str(level)] = x
        return self.pyramid(maps)


def small_mask_rcnn(
    num_classes: int,
    side: int = 128,
    width: int = 16,
    channels: int = 64,
    crops: int = 24,
    detections: int = 30,
) -> MaskRCNN:
    """Return the Mask R-CNN of notebook 7.4, from torchvision's parts.

    Args:
        num_classes: With the background.
        side: Longer side of the images in px; others are resized to it.
        width: As for `SmallPyramid`.
        channels: As for `SmallPyramid`.
        crops: Proposals of an image that the heads learn from in a training step; at
            most a third of them are objects.
        detections: Most detections of an image.

    Returns:
        For images in [0, 1]. In training mode a dict of five losses; in evaluation mode
        `boxes`, `labels`, `scores` and `masks` [n, 1, H, W] of each image.

    Raises:
        ValueError: If a number is too small.
    """
    _at_least(2, num_classes=num_classes)
    _at_least(1, side=side, crops=crops, detections=detections)
    levels = ["0", "1", "2"]
    return MaskRCNN(
        SmallPyramid(width, channels),
        min_size=side,
        max_size=side,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.25, 0.25, 0.25],
        rpn_anchor_generator=AnchorGenerator(
            sizes=((20,), (32,), (52,)), aspect_ratios=((0.5, 1.0, 2.0),) * 3
        ),
        rpn_pre_nms_top_n_train=200,
        rpn_pre_nms_top_n_test=200,
        rpn_post_nms_top_n_train=64,
        rpn_post_nms_top_n_test=64,
        rpn_batch_size_per_image=64,
        box_roi_pool=MultiScaleRoIAlign(levels, 7, sampling_ratio=1),
        box_head=TwoMLPHead(7 * 7 * channels, 256),
        box_predictor=FastRCNNPredictor(256, num_classes),
        box_batch_size_per_image=crops,
        box_positive_fraction=1 / 3,
        box_detections_per_img=detections,
        mask_roi_pool=MultiScaleRoIAlign(levels, 14, sampling_ratio=1),
        mask_head=MaskRCNNHeads(channels, (64, 64), dilation=1),
        mask_predictor=MaskRCNNPredictor(64, 64, num_classes),
    )


def _at_least(least: int, **numbers: int) -> None:
    """Refuse layers of no units: PyTorch builds them, and they ignore their input."""
    for name, number in numbers.items():
        if number < least:
            raise ValueError(f"{name} must be at least {least}, got {number}")
