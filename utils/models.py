"""Networks that more than one chapter uses; each was written out in the notebook that its docstring names."""

from torch import nn


def fashion_mlp(hidden: int = 1000) -> nn.Sequential:
    """Return the fully connected network 784 - `hidden` - 10 of notebook 2.14.

    Args:
        hidden: Units in the hidden layer.

    Returns:
        From images [B, 1, 28, 28] to logits [B, 10]; 795,010 parameters with 1,000 hidden units.
    """
    return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def conv_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return a 3x3 convolution that keeps the size, batch normalisation and ReLU.

    Args:
        in_channels: Channels that come in.
        out_channels: Channels that go out.

    Returns:
        From [B, in_channels, H, W] to [B, out_channels, H, W]. The convolution has no bias: batch
        normalisation subtracts the mean, and any bias with it.
    """
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
        From images [B, 1, 28, 28] to logits [B, 10]; 792,816 parameters with 82 hidden units.
    """
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
