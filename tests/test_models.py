"""Networks, and the random transforms that train them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from torchvision.models import mobilenet_v2
from torchvision.models.resnet import BasicBlock
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import horizontal_flip

from utils.models import (
    MobileUNet,
    PoseNet,
    ResidualBlock,
    Scale,
    conv_block,
    dcgan_discriminator,
    dcgan_generator,
    fashion_cnn,
    fashion_mlp,
    small_mask_rcnn,
    small_resnet,
)
from utils.runtime import count_parameters
from utils.transforms import crop_each, each_with_mask, flip_each

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("build", "parameters"), [(fashion_mlp, 795_010), (fashion_cnn, 792_816)]
)
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
    # or the order of batch norm and ReLU would not show
    nn.init.constant_(block[1].bias, 0.4)
    x = torch.randn(1, 2, 5, 4)
    expected = torch.relu(block[1](nn.functional.conv2d(x, block[0].weight, padding=1)))
    torch.testing.assert_close(block(x), expected)
    assert expected.shape == (1, 3, 5, 4) and block[0].bias is None


@pytest.mark.parametrize("training", [True, False])
def test_a_residual_block_is_the_basic_block_of_torchvision(training):
    ours, theirs = ResidualBlock(6).double(), BasicBlock(6, 6).double()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter)
    ours.load_state_dict(theirs.state_dict())  # strict: every key must match
    images = torch.randn(4, 6, 5, 7, dtype=torch.double)
    inputs = [images.clone().requires_grad_(), images.clone().requires_grad_()]
    outputs = [
        m.train(training)(x) for m, x in zip((ours, theirs), inputs, strict=True)
    ]
    torch.testing.assert_close(*outputs)
    for out in outputs:
        out.square().sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    # running statistics too
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


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


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: fashion_mlp(0), "hidden must be at least 1"),
        (lambda: fashion_cnn(0), "hidden must be at least 1"),
        (lambda: conv_block(0, 3), "in_channels must be at least 1"),
        (lambda: conv_block(3, 0), "out_channels must be at least 1"),
        (lambda: ResidualBlock(0), "channels must be at least 1"),
        (lambda: small_resnet(width=1), "width must be at least 2"),
        (lambda: small_resnet(classes=0), "classes must be at least 1"),
    ],
)
def test_a_network_that_would_ignore_its_input_is_not_built(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_flip_each_draws_for_each_image_and_flips_left_to_right():
    images = torch.rand(200, 3, 4, 5)
    before = images.clone()
    flipped = flip_each(images, generator=torch.Generator().manual_seed(0))
    mirrored = horizontal_flip(images)
    is_same = torch.tensor(
        [torch.equal(a, b) for a, b in zip(flipped, images, strict=True)]
    )
    is_mirror = torch.tensor(
        [torch.equal(a, b) for a, b in zip(flipped, mirrored, strict=True)]
    )
    assert torch.equal(is_same, ~is_mirror)
    assert 70 < is_mirror.sum() < 130
    assert torch.equal(images, before)
    assert torch.equal(flip_each(images, p=0), images) and torch.equal(
        flip_each(images, p=1), mirrored
    )
    repeated = flip_each(images, generator=torch.Generator().manual_seed(0))
    assert torch.equal(flipped, repeated)
    assert flip_each(images.byte()).dtype == torch.uint8
    with pytest.raises(ValueError, match="batch"):
        flip_each(images[0])


def test_crop_each_is_padding_by_reflection_and_a_crop_of_its_own_for_each_image():
    images = torch.rand(300, 3, 6, 5)
    before = images.clone()
    moved = crop_each(images, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(images, before) and moved.shape == images.shape
    padded = F.pad(images, (2, 2, 2, 2), mode="reflect")
    places = set()
    for image, large in zip(moved, padded, strict=True):
        found = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if torch.equal(large[:, y : y + 6, x : x + 5], image)
        ]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) == 25  # every place occurs among 300
    assert torch.equal(
        moved, crop_each(images, 2, generator=torch.Generator().manual_seed(0))
    )


def test_crop_each_keeps_bytes_and_takes_the_extremes():
    images = torch.randint(256, (4, 1, 3, 4), dtype=torch.uint8)
    assert torch.equal(crop_each(images, 0), images)
    assert crop_each(images, 2).dtype == torch.uint8
    assert crop_each(images[:0], 1).shape == (0, 1, 3, 4)
    for bad in (-1, 3, 1.5):
        with pytest.raises(ValueError, match="padding must be 0 to 2"):
            crop_each(images, bad)
    with pytest.raises(ValueError, match=r"expected a batch"):
        crop_each(images[0], 1)


@pytest.mark.parametrize("move", [flip_each, lambda images: crop_each(images, 1)])
def test_channels_are_first(move):
    with pytest.raises(ValueError, match=r"images\.permute\(0, 3, 1, 2\)"):
        move(torch.rand(2, 8, 8, 3))
    # narrow images, and feature maps, are none with the channels last
    for shape in ((2, 3, 8, 4), (2, 1, 4, 3), (2, 64, 5, 5)):
        assert move(torch.rand(shape)).shape == shape


@pytest.mark.parametrize("p", [50, -0.1, float("nan")])
def test_flip_each_wants_a_probability(p):
    with pytest.raises(ValueError, match="p must be a probability"):
        flip_each(torch.rand(2, 3, 4, 4), p=p)


def test_a_mask_moves_with_its_image_and_keeps_its_classes():
    """The image is its mask, so they agree wherever the move is by whole pixels."""
    masks = torch.randint(0, 4, (16, 12, 12), dtype=torch.uint8) * 85
    images = masks[:, None].repeat(1, 3, 1, 1)
    move = v2.Compose([v2.RandomCrop(8), v2.RandomHorizontalFlip()])
    torch.manual_seed(0)
    moved, moved_masks = each_with_mask(move)(images, masks)
    assert type(moved) is type(moved_masks) is torch.Tensor
    assert moved.shape == (16, 3, 8, 8) and moved_masks.shape == (16, 8, 8)
    assert torch.equal(moved[:, 0], moved_masks)
    # each is moved in its own way
    places = {
        tuple((masks[i].unfold(0, 8, 1).unfold(1, 8, 1) == m).all((2, 3)).nonzero()[0])
        for i, m in enumerate(moved_masks)
        if (masks[i].unfold(0, 8, 1).unfold(1, 8, 1) == m).all((2, 3)).any()
    }
    assert len(places) > 3
    zoom = v2.Compose([v2.RandomResizedCrop(12), v2.ColorJitter(0.5, 0.5)])
    moved, moved_masks = each_with_mask(zoom)(images, masks)
    assert set(moved_masks.unique().tolist()) <= {0, 85, 170, 255}
    assert moved_masks.dtype == torch.uint8
    assert len(moved.unique()) > 4  # the image is resized smoothly, its mask is not
    with pytest.raises(ValueError, match="expected masks"):
        each_with_mask(zoom)(images, masks[:, :6])
    with pytest.raises(ValueError, match="expected a batch"):
        each_with_mask(zoom)(images[0], masks[0])


@pytest.mark.parametrize("side", [(32, 64), (40, 50)])
def test_the_u_net_on_mobilenet_answers_for_every_pixel(side):
    torch.manual_seed(0)
    network = MobileUNet(mobilenet_v2().features, 5)
    assert count_parameters(network) == 2_415_773
    images = torch.rand(2, 3, *side)
    assert network(images).shape == (2, 5, *side)
    # what a decoder gets: the encoder's map before each halving, and what lies below
    shapes = []
    for decoder in network.decoders:
        decoder.register_forward_pre_hook(
            lambda module, inputs: shapes.append(inputs[0].shape[1:])
        )
    network(torch.rand(1, 3, 64, 96))
    assert shapes == [(416, 4, 6), (128, 8, 12), (88, 16, 24), (48, 32, 48)]


def test_the_u_net_on_mobilenet_joins_the_skip_first_and_enlarges_bilinearly():
    torch.manual_seed(0)
    network = MobileUNet(mobilenet_v2().features, 5).eval()
    images, noted = torch.rand(1, 3, 64, 96), {}
    for name, module in network.named_modules():
        module.register_forward_hook(
            lambda module, inputs, output, name=name: noted.update(
                {name: (inputs[0], output)}
            )
        )
    with torch.inference_mode():
        logits = network(images)
    for number, layer in enumerate((13, 6, 3, 1)):
        below = noted[f"decoders.{number - 1}" if number else "encoder.17"][1]
        skip = noted[f"encoder.{layer}"][1]
        below = F.interpolate(below, size=skip.shape[-2:], mode="bilinear")
        joined = noted[f"decoders.{number}"][0]
        torch.testing.assert_close(joined, torch.cat([skip, below], 1))
    enlarged = F.interpolate(noted["head"][1], size=(64, 96), mode="bilinear")
    torch.testing.assert_close(logits, enlarged)


def test_the_pose_net_adds_each_finer_map_to_the_enlarged_coarser_one():
    torch.manual_seed(0)
    network = PoseNet(mobilenet_v2().features).eval()
    images, noted = torch.rand(2, 3, 64, 96), {}
    for name, module in network.named_modules():
        module.register_forward_hook(
            lambda module, inputs, output, name=name: noted.update(
                {name: (inputs[0], output)}
            )
        )
    with torch.inference_mode():
        heatmaps = network(images)
    assert heatmaps.shape == (2, 14, 16, 24)
    for number, layer in enumerate((3, 6, 13, 17)):
        entering = noted[f"decoder.enter.{number}"][0]
        torch.testing.assert_close(entering, noted[f"encoder.{layer}"][1])
    x = noted["decoder.enter.3"][1]
    for number in range(3):
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear")
        mixed = noted[f"decoder.mix.{number}"]
        torch.testing.assert_close(
            mixed[0], noted[f"decoder.enter.{2 - number}"][1] + x
        )
        x = mixed[1]
    torch.testing.assert_close(heatmaps, noted["decoder.head"][1])
    with pytest.raises(ValueError, match="joints must be at least 1, got 0"):
        PoseNet(mobilenet_v2().features, joints=0)


def test_the_pose_net_takes_the_weights_that_8_1_left():
    stored = load_file(ROOT / "08-Keypoints-STN/weights/pose.safetensors")
    network = PoseNet(mobilenet_v2().features)
    own = network.state_dict()
    network.load_state_dict({key: w.to(own[key].dtype) for key, w in stored.items()})


def test_the_small_mask_rcnn_has_its_parts_and_its_losses():
    torch.manual_seed(0)
    network = small_mask_rcnn(11)
    heads = network.roi_heads
    sizes = {
        "backbone": count_parameters(network.backbone),
        "rpn": count_parameters(network.rpn),
        "box head": count_parameters(heads.box_head)
        + count_parameters(heads.box_predictor),
        "mask head": count_parameters(heads.mask_head)
        + count_parameters(heads.mask_predictor),
    }
    assert list(sizes.values()) == [1_385_888, 37_903, 882_999, 91_019]  # as 7.4 prints
    maps = network.backbone(torch.rand(1, 3, 128, 96))
    assert {level: tuple(one.shape) for level, one in maps.items()} == {
        "0": (1, 64, 32, 24),
        "1": (1, 64, 16, 12),
        "2": (1, 64, 8, 6),
    }
    grey, _ = network.transform([torch.full((3, 128, 128), 0.75)])
    assert grey.tensors.unique().tolist() == [1.0]  # (0.75 - 0.5) / 0.25
    masks = torch.zeros(1, 128, 128, dtype=torch.bool)
    masks[0, 20:60, 30:80] = True
    target = {
        "boxes": torch.tensor([[30.0, 20, 80, 60]]),
        "labels": torch.tensor([3]),
        "masks": masks,
    }
    losses = network.train()([torch.rand(3, 128, 128)], [target])
    assert set(losses) == {
        "loss_classifier",
        "loss_box_reg",
        "loss_mask",
        "loss_objectness",
        "loss_rpn_box_reg",
    }
    network.roi_heads.score_thresh = 0.0
    (answer,) = network.eval()([torch.rand(3, 128, 128)])
    assert len(answer["boxes"]) == 30  # and not 100, torchvision's default
    assert answer["masks"].shape == (30, 1, 128, 128)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"num_classes": 1}, "num_classes"), ({"num_classes": 3, "crops": 0}, "crops")],
)
def test_a_mask_rcnn_that_cannot_learn_is_not_built(options, message):
    with pytest.raises(ValueError, match=message):
        small_mask_rcnn(**options)


def normed(x, layer):
    """Return batch normalisation by the batch's own statistics, by F.batch_norm."""
    return F.batch_norm(x, None, None, layer.weight, layer.bias, training=True)


@pytest.mark.parametrize("transposed", [False, True])
def test_the_dcgan_generator_is_its_formula(transposed):
    torch.manual_seed(0)
    generator = dcgan_generator(noise=5, width=3, transposed=transposed)
    for layer in generator:  # or a missing scale would not show
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.5, 0.5)
    weights = [x for x in generator if not isinstance(x, nn.BatchNorm2d)]
    weights = [x for x in weights if hasattr(x, "weight")]
    norms = [x for x in generator if isinstance(x, nn.BatchNorm2d)]
    assert [list(x.weight.shape[:2]) for x in weights[1:]] == (
        [[12, 6], [6, 3], [1, 3]] if transposed else [[6, 12], [3, 6], [1, 3]]
    )
    noise = torch.randn(4, 5)
    x = (noise @ weights[0].weight.T).view(4, 12, 7, 7)
    x = normed(x, norms[0]).relu()
    for layer, norm in zip(weights[1:3], norms[1:], strict=True):
        if transposed:
            x = F.conv_transpose2d(x, layer.weight, stride=2, padding=1)
        else:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = F.conv2d(x, layer.weight, padding=1)
        x = normed(x, norm).relu()
    x = F.conv2d(x, weights[3].weight, weights[3].bias, padding=1).sigmoid()
    assert x.shape == (4, 1, 28, 28)
    torch.testing.assert_close(generator(noise), x)
    assert all(0.013 < layer.weight.std() < 0.027 for layer in weights)
    assert weights[0].bias is weights[1].bias is weights[2].bias is None
    with pytest.raises(ValueError, match="noise must be at least 1, got 0"):
        dcgan_generator(noise=0)


def test_the_dcgan_discriminator_is_its_formula():
    torch.manual_seed(0)
    discriminator = dcgan_discriminator(width=3)
    weights = [x for x in discriminator if isinstance(x, nn.Conv2d | nn.Linear)]
    norms = [x for x in discriminator if isinstance(x, nn.BatchNorm2d)]
    images = torch.rand(4, 1, 28, 28)
    x = F.conv2d(2 * images - 1, weights[0].weight, weights[0].bias, 2, 1)
    assert x.shape == (4, 3, 14, 14)
    x = F.leaky_relu(x, 0.2)
    for layer, norm, shape in zip(
        weights[1:3], norms, [(4, 6, 7, 7), (4, 12, 4, 4)], strict=True
    ):
        x = normed(F.conv2d(x, layer.weight, stride=2, padding=1), norm)
        assert x.shape == shape
        x = F.leaky_relu(x, 0.2)
    x = F.linear(x.flatten(1), weights[3].weight, weights[3].bias)
    torch.testing.assert_close(discriminator(images), x)
    assert x.shape == (4, 1)
    assert all(0.01 < layer.weight.std() < 0.03 for layer in weights)
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        dcgan_discriminator(0)


def test_the_classifier_takes_the_weights_that_9_2_left():
    stored = load_file(ROOT / "09-GAN/weights/features.safetensors")
    classifier = fashion_cnn()
    own = classifier.state_dict()
    weights = {key: w.to(own[key].dtype) for key, w in stored.items()}
    classifier.load_state_dict(weights)
    features = classifier.eval()[:10](torch.rand(4, 1, 28, 28))
    assert features.shape == (4, 82) and features.min() >= 0 and features.max() > 0
