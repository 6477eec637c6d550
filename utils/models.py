"""Networks that more than one chapter uses.

Each was written out in the notebook that its docstring names.
"""

import torch
from torch import nn
from torch.nn import functional as F


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


def _at_least(least: int, **numbers: int) -> None:
    """Refuse layers of no units: PyTorch builds them, and they ignore their input."""
    for name, number in numbers.items():
        if number < least:
            raise ValueError(f"{name} must be at least {least}, got {number}")
