import math

import matplotlib.pyplot as plt
import pytest
import torch
from captum.attr import LayerGradCam
from torch import nn
from torch.nn import functional as F

from utils.interpret import grad_cam, overlay_heatmap


class SmallNet(nn.Module):
    """A ReLU that works in place, batch norm, dropout, a head that is not linear."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.rectify = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.hidden = nn.Linear(8 * 4 * 3, 16)
        self.head = nn.Linear(16, 5)
        self.unused = nn.Conv2d(3, 1, 1)

    def forward(self, images):
        x = self.rectify(self.norm(self.second(torch.relu(self.first(images)))))
        return self.head(self.drop(torch.tanh(self.hidden(x.flatten(1)))))


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = SmallNet()
    net.norm.running_mean.normal_(std=0.2)
    net.norm.running_var.uniform_(0.02, 0.1)
    return net.eval()


IMAGES = torch.randn(4, 3, 8, 6, generator=torch.Generator().manual_seed(1))
TARGETS = torch.tensor([0, 4, 2, 2])


def test_what_is_kept_is_the_layers_output_before_a_relu_in_place(net):
    maps = [grad_cam(net, layer, IMAGES, TARGETS) for layer in (net.norm, net.rectify)]
    assert not torch.allclose(*maps)


@pytest.mark.parametrize("name", ["first", "second", "norm", "rectify"])
def test_grad_cam_is_captums(net, name):
    layer = getattr(net, name)
    ours = grad_cam(net, layer, IMAGES, TARGETS)
    theirs = LayerGradCam(net, layer).attribute(IMAGES, TARGETS, relu_attributions=True)
    assert ours.shape == (4, *((8, 6) if name == "first" else (4, 3)))
    torch.testing.assert_close(ours, theirs[:, 0].detach(), rtol=1e-5, atol=1e-7)
    assert (ours > 0).any() and (ours == 0).any() and not ours.requires_grad


def test_grad_cam_by_hand():
    class Means(nn.Module):
        def __init__(self):
            super().__init__()
            self.maps = nn.Identity()

        def forward(self, images):
            means = self.maps(images).mean((2, 3))
            return torch.stack(
                [means[:, 0] - means[:, 1], means[:, 1] - means[:, 0]], dim=1
            )

    # [2, 2, 1, 2]
    images = torch.tensor([[[[4.0, 0.0]], [[1.0, 3.0]]]]).expand(2, -1, -1, -1)
    model = Means()
    maps = grad_cam(model, model.maps, images, torch.tensor([0, 1]))
    # The gradients are +1/2 and -1/2 at both positions: (4 - 1) / 2 and (0 - 3) / 2, or
    # their opposites.
    torch.testing.assert_close(maps, torch.tensor([[[1.5, 0.0]], [[0.0, 1.5]]]))


def test_grad_cam_treats_each_image_of_a_batch_alone(net):
    together = grad_cam(net, net.second, IMAGES, TARGETS)
    for i in range(4):
        alone = grad_cam(net, net.second, IMAGES[i : i + 1], TARGETS[i : i + 1])
        torch.testing.assert_close(alone[0], together[i])
    assert grad_cam(net, net.second, IMAGES[:0], TARGETS[:0]).shape == (0, 4, 3)


def test_grad_cam_computes_in_evaluation_mode_and_stays_there(net):
    expected = grad_cam(net, net.first, IMAGES, TARGETS)
    mean = net.norm.running_mean.clone()
    net.train()
    torch.testing.assert_close(grad_cam(net, net.first, IMAGES, TARGETS), expected)
    assert not any(module.training for module in net.modules())
    assert torch.equal(net.norm.running_mean, mean)


def test_grad_cam_touches_no_gradient_and_needs_none(net):
    expected = grad_cam(net, net.second, IMAGES, TARGETS)
    images = IMAGES.clone().requires_grad_()
    net.head.weight.grad = torch.full_like(net.head.weight, 3.0)
    grad_cam(net, net.second, images, TARGETS)
    assert images.grad is None and torch.equal(
        net.head.weight.grad, torch.full((5, 16), 3.0)
    )
    assert all(
        p.grad is None for name, p in net.named_parameters() if name != "head.weight"
    )
    net.requires_grad_(False)
    with torch.no_grad():
        assert torch.equal(grad_cam(net, net.second, IMAGES, TARGETS), expected)


@pytest.mark.parametrize(
    ("name", "images", "targets", "message"),
    [
        ("second", IMAGES[0], TARGETS[:1], r"expected images \[B, 3, H, W\]"),
        ("second", IMAGES[0], TARGETS[:3], r"expected images \[B, 3, H, W\]"),
        ("second", IMAGES, TARGETS[:3], "one each"),
        ("second", IMAGES, TARGETS[:, None], "one each"),
        ("second", IMAGES, TARGETS.float(), "int64"),
        ("second", IMAGES, TARGETS - 1, r"0\.\.4"),
        ("second", IMAGES, TARGETS + 1, r"0\.\.4"),
        ("head", IMAGES, TARGETS, "earlier layer"),
        ("unused", IMAGES, TARGETS, "0 times"),
        ("second", IMAGES, 3, r"targets \[B\], one each"),
    ],
)
def test_grad_cam_refuses_what_it_cannot_answer_and_leaves_no_hook(
    net, name, images, targets, message
):
    layer = getattr(net, name)
    with pytest.raises(ValueError, match=message):
        grad_cam(net, layer, images, targets)
    assert not layer._forward_hooks
    assert not net.second._forward_hooks


def test_grad_cam_removes_its_hook_when_all_is_well_and_when_the_model_fails(net):
    grad_cam(net, net.second, IMAGES, TARGETS)
    assert not net.second._forward_hooks
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        grad_cam(net, net.second, torch.rand(1, 3, 20, 20), TARGETS[:1])
    assert not net.second._forward_hooks


def test_grad_cam_refuses_layers_that_run_twice_or_give_no_maps():
    relu = nn.ReLU()
    twice = nn.Sequential(
        nn.Conv2d(3, 4, 1),
        relu,
        nn.Conv2d(4, 4, 1),
        relu,
        nn.Flatten(),
        nn.LazyLinear(5),
    )
    twice(IMAGES)
    with pytest.raises(ValueError, match="2 times"):
        grad_cam(twice, relu, IMAGES, TARGETS)
    with pytest.raises(ValueError, match=r"logits \[B, C\]"):
        grad_cam(twice[:3], twice[0], IMAGES, TARGETS)

    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    pair = Pair()
    with pytest.raises(ValueError, match="got tuple"):
        grad_cam(nn.Sequential(pair, nn.Flatten()), pair, IMAGES, TARGETS)
    with pytest.raises(TypeError, match="must be a module of the model"):
        grad_cam(twice, "0", IMAGES, TARGETS)


class Detour(nn.Module):
    """Runs a layer whose output does not reach the logits."""

    def __init__(self, head):
        super().__init__()
        self.layer, self.head = nn.Conv2d(3, 2, 1), nn.Linear(3, 5)
        self.head.requires_grad_(head)

    def forward(self, images):
        self.layer(images)
        return self.head(images.mean((2, 3)))


@pytest.mark.parametrize("head", [True, False])
def test_grad_cam_refuses_a_layer_that_does_not_lead_to_the_logits(head):
    model = Detour(head)
    with pytest.raises(ValueError, match="no gradient leads from the logits"):
        grad_cam(model, model.layer, IMAGES, TARGETS)


def test_grad_cam_says_that_inference_mode_has_no_gradients(net):
    with (
        torch.inference_mode(),
        pytest.raises(RuntimeError, match="outside torch.inference_mode"),
    ):
        grad_cam(net, net.second, IMAGES, TARGETS)


GREY = torch.full((3, 4, 6), 100, dtype=torch.uint8)


def test_overlay_colours_by_hand():
    heat = torch.tensor([[0.0, 2.0, 1.0]])
    before = GREY.clone()
    drawn = overlay_heatmap(GREY, heat, alpha=0.5, mode="nearest")
    assert (
        drawn.shape == (3, 4, 6)
        and drawn.dtype == torch.uint8
        and torch.equal(GREY, before)
    )
    assert (drawn[:, :, :2] == 100).all()  # no heat: the image
    hot, warm = (
        torch.tensor(plt.colormaps["inferno"](level)[:3]) * 255 for level in (255, 128)
    )
    hot, warm = hot.float(), warm.float()
    torch.testing.assert_close(
        drawn[:, 0, 2].float(), (0.5 * 100 + 0.5 * hot).round(), atol=1, rtol=0
    )
    torch.testing.assert_close(
        drawn[:, 3, 5].float(), (0.75 * 100 + 0.25 * warm).round(), atol=1, rtol=0
    )
    nearly = overlay_heatmap(GREY, torch.full((1, 1), 0.999), peak=1.0, alpha=1)[
        :, 0, 0
    ]
    # the nearest colour of 256
    assert torch.equal(nearly, (0.001 * 100 + 0.999 * hot).round().byte())
    assert torch.equal(
        overlay_heatmap(GREY, heat * 7, alpha=0.5, mode="nearest"), drawn
    )
    halved = overlay_heatmap(GREY, heat, peak=4.0, alpha=0.5, mode="nearest")
    assert torch.equal(halved[:, 0, 2], drawn[:, 0, 4])  # 2 of 4 as 1 of 2
    clipped = overlay_heatmap(GREY, heat, peak=1.0, alpha=0.5, mode="nearest")
    assert torch.equal(clipped[:, 0, 4], drawn[:, 0, 2]) and torch.equal(
        clipped[:, 0, 2], drawn[:, 0, 2]
    )


def test_overlay_stretches_the_map_over_the_image_rows_to_rows():
    heat = torch.zeros(2, 3)
    heat[1, 2] = 1  # bottom right
    changed = (overlay_heatmap(GREY, heat, mode="nearest") != GREY).any(0)
    assert changed[2:, 4:].all() and changed.sum() == 4
    smooth = (overlay_heatmap(GREY, heat) != GREY).any(0)
    assert smooth.sum() > 4 and not smooth[0].any() and not smooth[:, 0].any()
    expected = F.interpolate(
        heat[None, None], (4, 6), mode="bilinear", align_corners=False
    )[0, 0]
    # fainter colours round to the image's own
    assert torch.equal(smooth, expected > 0.02)
    # 0, 1/4, 3/4, 1 at the pixels
    between = overlay_heatmap(GREY[:, :, :4], torch.tensor([[0.0, 1.0]]))
    assert torch.equal(
        between[:, 0, 1],
        overlay_heatmap(GREY, torch.full((1, 1), 0.25), peak=1.0)[:, 0, 0],
    )
    hot = overlay_heatmap(GREY, torch.ones(1, 1), alpha=1)
    assert torch.equal(
        hot,
        torch.tensor([252, 255, 164], dtype=torch.uint8)[:, None, None].expand(3, 4, 6),
    )


def test_overlay_of_no_heat_and_of_no_opacity_is_the_image():
    image = torch.randint(
        0, 256, (3, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    assert torch.equal(overlay_heatmap(image, torch.zeros(2, 2)), image)
    assert torch.equal(overlay_heatmap(image, torch.rand(2, 2), alpha=0), image)


@pytest.mark.parametrize(
    ("image", "heat", "options", "message"),
    [
        (GREY.float(), torch.ones(2, 2), {}, "uint8"),
        (GREY[:1], torch.ones(2, 2), {}, r"\[3, H, W\]"),
        (GREY[None], torch.ones(2, 2), {}, r"\[3, H, W\]"),
        (GREY[:, 0], torch.ones(2, 2), {}, r"\[3, H, W\]"),
        (GREY, torch.ones(1, 2, 2), {}, r"float \[h, w\]"),
        (GREY, torch.ones(0, 2), {}, r"float \[h, w\]"),
        (GREY, torch.ones(2, 2, dtype=torch.uint8), {}, r"float \[h, w\]"),
        (GREY, torch.tensor([[-0.1, 1.0]]), {}, "relu"),
        (GREY, torch.tensor([[torch.nan, 1.0]]), {}, "finite"),
        (GREY, torch.ones(2, 2), {"peak": 0.0}, "peak > 0"),
        (GREY, torch.ones(2, 2), {"peak": math.inf}, "peak > 0, finite"),
        (GREY, torch.ones(2, 2), {"alpha": 1.5}, "alpha in 0..1"),
        (GREY, torch.ones(2, 2), {"mode": "bicubic"}, "mode must be"),
    ],
)
def test_overlay_refuses_what_it_cannot_draw(image, heat, options, message):
    with pytest.raises(ValueError, match=message):
        overlay_heatmap(image, heat, **options)
