import pytest
import torch
from torch import nn
from torchvision.transforms.v2.functional import horizontal_flip

from utils.models import conv_block, fashion_cnn, fashion_mlp
from utils.runtime import count_parameters
from utils.transforms import flip_each


@pytest.mark.parametrize(("build", "parameters"), [(fashion_mlp, 795_010), (fashion_cnn, 792_816)])
def test_networks_have_the_size_they_state_and_give_logits(build, parameters):
    model = build().eval()
    assert count_parameters(model) == parameters
    logits = model(torch.rand(3, 1, 28, 28))
    assert logits.shape == (3, 10)
    assert not torch.allclose(logits.sum(1), torch.ones(3))  # no softmax at the end
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_network_without_dropout_repeats_itself_in_training_mode():
    images = torch.rand(4, 1, 28, 28)
    still, shaky = fashion_cnn(dropout=0.0).train(), fashion_cnn(dropout=0.5).train()
    assert torch.equal(still(images), still(images))
    assert not torch.equal(shaky(images), shaky(images))
    assert torch.equal(shaky.eval()(images), shaky(images))


def test_conv_block_is_its_three_layers():
    block = conv_block(2, 3).eval()
    nn.init.constant_(block[1].bias, 0.4)  # or the order of batch norm and ReLU would not show
    x = torch.randn(1, 2, 5, 4)
    expected = torch.relu(block[1](nn.functional.conv2d(x, block[0].weight, padding=1)))
    torch.testing.assert_close(block(x), expected)
    assert expected.shape == (1, 3, 5, 4) and block[0].bias is None


def test_flip_each_draws_for_each_picture_and_flips_left_to_right():
    images = torch.rand(200, 3, 4, 5)
    before = images.clone()
    flipped = flip_each(images, generator=torch.Generator().manual_seed(0))
    mirrored = horizontal_flip(images)
    is_same = torch.tensor([torch.equal(a, b) for a, b in zip(flipped, images, strict=True)])
    is_mirror = torch.tensor([torch.equal(a, b) for a, b in zip(flipped, mirrored, strict=True)])
    assert torch.equal(is_same, ~is_mirror)
    assert 70 < is_mirror.sum() < 130
    assert torch.equal(images, before)
    assert torch.equal(flip_each(images, p=0), images) and torch.equal(flip_each(images, p=1), mirrored)
    repeated = flip_each(images, generator=torch.Generator().manual_seed(0))
    assert torch.equal(flipped, repeated)
    assert flip_each(images.byte()).dtype == torch.uint8
    with pytest.raises(ValueError, match="batch"):
        flip_each(images[0])
