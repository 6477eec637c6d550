"""Residual blocks and networks, and the moves that train them."""

import pytest
import torch
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock

from utils.models import ResidualBlock, Scale, small_resnet
from utils.runtime import count_parameters
from utils.transforms import crop_each


@pytest.mark.parametrize("training", [True, False])
def test_a_residual_block_is_the_basic_block_of_torchvision(training):
    ours, theirs = ResidualBlock(6).double(), BasicBlock(6, 6).double()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter)
    ours.load_state_dict(theirs.state_dict())  # strict: every key must match
    images = torch.randn(4, 6, 5, 7, dtype=torch.double)
    inputs = [images.clone().requires_grad_(), images.clone().requires_grad_()]
    outputs = [m.train(training)(x) for m, x in zip((ours, theirs), inputs, strict=True)]
    torch.testing.assert_close(*outputs)
    for out in outputs:
        out.square().sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())  # running statistics too


def test_small_resnet_has_the_size_it_states_and_the_shapes():
    assert count_parameters(small_resnet()) == 1_020_922
    model = small_resnet(4, 7).eval()
    for size in (32, 64):
        assert model(torch.rand(2, 3, size, size)).shape == (2, 7)
    for layers, shape in ((3, (1, 2, 16, 16)), (8, (1, 8, 8, 8)), (13, (1, 16, 4, 4))):
        assert model[:layers](torch.rand(1, 3, 32, 32)).shape == shape
    assert sum(isinstance(layer, ResidualBlock) for layer in model) == 2


def test_small_resnet_scales_its_logits():
    whole, eighth = small_resnet(4, scale=1.0).eval(), small_resnet(4).eval()
    eighth.load_state_dict(whole.state_dict())
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(eighth(images), whole(images) / 8)
    assert torch.equal(Scale(3.0)(torch.ones(2)), torch.full((2,), 3.0))


def test_crop_each_is_padding_by_reflection_and_a_crop_of_its_own_for_each_picture():
    images = torch.rand(300, 3, 6, 5)
    before = images.clone()
    moved = crop_each(images, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(images, before) and moved.shape == images.shape
    padded = F.pad(images, (2, 2, 2, 2), mode="reflect")
    places = set()
    for picture, large in zip(moved, padded, strict=True):
        found = [
            (y, x) for y in range(5) for x in range(5) if torch.equal(large[:, y : y + 6, x : x + 5], picture)
        ]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) == 25  # every place occurs among 300
    assert torch.equal(moved, crop_each(images, 2, generator=torch.Generator().manual_seed(0)))


def test_crop_each_keeps_bytes_and_takes_the_extremes():
    images = torch.randint(256, (4, 1, 3, 4), dtype=torch.uint8)
    assert torch.equal(crop_each(images, 0), images)
    assert crop_each(images, 2).dtype == torch.uint8
    assert crop_each(images[:0], 1).shape == (0, 1, 3, 4)
    for bad in (-1, 3):
        with pytest.raises(ValueError, match="padding must be 0 to 2"):
            crop_each(images, bad)
    with pytest.raises(ValueError, match=r"expected a batch"):
        crop_each(images[0], 1)
