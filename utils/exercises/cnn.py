"""The exercises of chapter 03: convolutional networks."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock

from utils.exercises import Case, Exercise

EXERCISES: dict[str, Exercise] = {}


def _play_block(
    answer: Callable,
    x: torch.Tensor,
    stride: int,
    shortcut: str,
    training: bool,
) -> dict[str, Any] | None:
    """Call `answer` with layers whose statistics and factors are as after training.

    Returns:
        What it returns, x afterwards, and the gradient of the sum with respect to x.
    """
    channels = x.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3101)
        layers = [
            nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.Identity(),
        ]
        if shortcut != "nn.Identity()":
            layers[-1] = nn.Sequential(
                nn.Conv2d(channels, channels, 1, stride, bias=False),
                nn.BatchNorm2d(channels),
            )
        block = nn.ModuleList(layers)
        for layer in block.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias, std=0.5)
                nn.init.normal_(layer.running_mean, std=0.3)
                nn.init.uniform_(layer.running_var, 0.2, 0.8)
    block.train(training)
    leaf = x.clone().requires_grad_()
    with torch.enable_grad():
        given = 1 * leaf  # a leaf that needs a gradient could not be changed in place
        output = answer(given, *layers)
    if output is None:
        return None
    gradient = torch.zeros_like(x)
    if torch.equal(given, x) and getattr(output, "requires_grad", False):
        (gradient,) = torch.autograd.grad(
            output.sum(), leaf, allow_unused=True, materialize_grads=True
        )
    return {
        "output": output,
        "x afterwards": given,
        "gradient of its sum with respect to x": gradient,
    }


def _residual_cases() -> list[Case]:
    identity, projection = "nn.Identity()", "1x1 convolution, batch norm"
    # The channels stay, and where the size is halved 1x1 positions remain: so a block
    # that has overwritten x fits as well, and its mistake can be named.
    kinds = [  # shape of x, stride, shortcut, training
        ((1, 1, 1, 1), 1, identity, False),
        ((1, 2, 3, 3), 1, identity, False),
        ((2, 3, 5, 4), 1, identity, True),
        ((2, 3, 4, 4), 1, projection, False),
        ((3, 2, 4, 4), 1, projection, True),
        ((2, 4, 2, 2), 2, projection, False),
        ((6, 3, 2, 1), 2, projection, True),
    ]
    generator = torch.Generator().manual_seed(3102)
    return [
        Case(
            {
                "x": torch.randn(shape, generator=generator),
                "stride": stride,
                "shortcut": shortcut,
                "training": training,
            },
            "which layers change the shape here, and does x go through the shortcut "
            "before it is added?"
            if stride == 2
            else "in which order do the layers follow each other?",
        )
        for shape, stride, shortcut, training in kinds
    ]


def _basic_block(
    x: torch.Tensor,
    conv1: nn.Conv2d,
    bn1: nn.BatchNorm2d,
    conv2: nn.Conv2d,
    bn2: nn.BatchNorm2d,
    shortcut: nn.Module,
) -> torch.Tensor:
    """Return what torchvision's block gives with these layers."""
    block = BasicBlock(
        conv1.in_channels, conv1.out_channels, conv1.stride[0], downsample=shortcut
    )
    block.train(bn1.training)
    block.conv1, block.bn1, block.conv2, block.bn2 = conv1, bn1, conv2, bn2
    return block(x)


def _correction(
    x: torch.Tensor,
    conv1: nn.Conv2d,
    bn1: nn.BatchNorm2d,
    conv2: nn.Conv2d,
    bn2: nn.BatchNorm2d,
) -> torch.Tensor:
    return bn2(conv2(F.relu(bn1(conv1(x)))))


EXERCISES["3.10.1"] = Exercise(
    minutes=10,
    stars=2,
    cases=_residual_cases,
    play=_play_block,
    reference=_basic_block,
    against="torchvision.models.resnet.BasicBlock",
    mistakes={
        "What you return does not depend on the shortcut: this is the plain block. Add "
        "what the shortcut makes of x before the last ReLU.": (
            lambda x, conv1, bn1, conv2, bn2, shortcut: F.relu(
                _correction(x, conv1, bn1, conv2, bn2)
            )
        ),
        "Your ReLU stands before the addition, so the correction can only add: move it "
        "behind the sum.": (
            lambda x, conv1, bn1, conv2, bn2, shortcut: (
                shortcut(x) + F.relu(_correction(x, conv1, bn1, conv2, bn2))
            )
        ),
        "You apply ReLU to the correction before the addition, and once more to the "
        "sum: the first one forbids the correction to subtract.": (
            lambda x, conv1, bn1, conv2, bn2, shortcut: F.relu(
                shortcut(x) + F.relu(_correction(x, conv1, bn1, conv2, bn2))
            )
        ),
        "The sum can be negative: after the addition a ReLU is missing.": (
            lambda x, conv1, bn1, conv2, bn2, shortcut: (
                shortcut(x) + _correction(x, conv1, bn1, conv2, bn2)
            )
        ),
        "Between your two convolutions there is no ReLU: together they are one linear "
        "map.": (
            lambda x, conv1, bn1, conv2, bn2, shortcut: F.relu(
                shortcut(x) + bn2(conv2(bn1(conv1(x))))
            )
        ),
        "Your first ReLU stands before the batch normalization: it belongs between bn1 "
        "and conv2.": (
            lambda x, conv1, bn1, conv2, bn2, shortcut: F.relu(
                shortcut(x) + bn2(conv2(bn1(F.relu(conv1(x)))))
            )
        ),
        "You add x itself wherever it has the shape of the correction: a shortcut may "
        "change x there as well, so call it in every case.": (
            lambda x, conv1, bn1, conv2, bn2, shortcut: _where_it_fits(
                x, _correction(x, conv1, bn1, conv2, bn2), shortcut
            )
        ),
        "You replaced x before the shortcut had used it: keep the block's input under "
        "its own name.": (
            lambda x, conv1, bn1, conv2, bn2, shortcut: _sum_of_one(
                _correction(x, conv1, bn1, conv2, bn2), shortcut
            )
        ),
        "You replaced x before the convolutions had used it: keep the block's input "
        "under its own name.": (
            lambda x, conv1, bn1, conv2, bn2, shortcut: _basic_sum(
                shortcut(x), conv1, bn1, conv2, bn2
            )
        ),
        "A batch normalization is missing: bn1 follows conv1.": (
            lambda x, conv1, bn1, conv2, bn2, shortcut: F.relu(
                shortcut(x) + bn2(conv2(F.relu(conv1(x))))
            )
        ),
        "A batch normalization is missing: bn2 follows conv2.": (
            lambda x, conv1, bn1, conv2, bn2, shortcut: F.relu(
                shortcut(x) + conv2(F.relu(bn1(conv1(x))))
            )
        ),
        "The batch normalizations are missing: bn1 follows conv1, bn2 follows conv2.": (
            lambda x, conv1, bn1, conv2, bn2, shortcut: F.relu(
                shortcut(x) + conv2(F.relu(conv1(x)))
            )
        ),
    },
    hints=(
        "First compute the correction alone: convolution, batch normalization, ReLU, "
        "convolution, batch normalization. Nothing comes after the second batch "
        "normalization yet.",
        "The shortcut is a function of x. With nn.Identity it returns x as it is; "
        "where the block halves the size, it returns a smaller map with more channels.",
        "The last operation is a ReLU. What goes into it is a sum of two terms that "
        "have the same shape.",
    ),
)


def _sum_of_one(correction: torch.Tensor, shortcut: nn.Module) -> torch.Tensor:
    """Add to the correction what the shortcut makes of it."""
    return F.relu(correction + shortcut(correction))


def _basic_sum(x: torch.Tensor, *layers: nn.Module) -> torch.Tensor:
    """Add x to the correction of it."""
    return F.relu(x + _correction(x, *layers))


def _where_it_fits(
    x: torch.Tensor, correction: torch.Tensor, shortcut: nn.Module
) -> torch.Tensor:
    """Add x to the correction if the shapes agree, else what the shortcut gives."""
    return F.relu(correction + (x if x.shape == correction.shape else shortcut(x)))
