import pytest
import torch
import torchvision.ops as tv
from box_helpers import ODD, close, random_boxes

from utils import boxes as ours

LOSSES = ["generalized_box_iou_loss", "distance_box_iou_loss", "complete_box_iou_loss"]


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_their_gradients_equal_torchvisions(name, reduction):
    inverted = random_boxes(20, seed=2)[:, [2, 1, 0, 3]]
    for first, second in (
        (random_boxes(20, seed=5), random_boxes(20, seed=6)),
        (inverted, random_boxes(20, seed=6)),
        (ODD[[0, 0, 0, 3, 7, 8]], ODD[[1, 2, 3, 0, 0, 0]]),
        (ODD, ODD.flip(0)),
        (random_boxes(4)[0], random_boxes(4)[1]),
        (random_boxes(4).half(), random_boxes(4, seed=1).half()),
        (torch.zeros(0, 4), torch.zeros(0, 4)),
    ):
        values = []
        for function in (getattr(ours, name), getattr(tv, name)):
            first = first.detach().clone().requires_grad_()
            loss = function(first, second, reduction=reduction)
            values.append((loss.detach(), *torch.autograd.grad(loss.sum(), first)))
        close(*values)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_right(name):
    first, second = random_boxes(6, seed=5).double().requires_grad_(), random_boxes(6, seed=6).double()
    if name.startswith("complete"):  # its alpha is a constant on purpose
        (constant,) = torch.autograd.grad(getattr(ours, name)(first, second, "sum"), first)
        close(constant, torch.autograd.grad(getattr(tv, name)(first, second, "sum"), first)[0])
    else:
        assert torch.autograd.gradcheck(lambda boxes: getattr(ours, name)(boxes, second), first)


@pytest.mark.parametrize("alpha", [0.25, 0.8, 0, -1])
@pytest.mark.parametrize("gamma", [2, 0, 0.5])
def test_focal_loss_equals_torchvisions(alpha, gamma):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(7, 5, generator=generator) * 5
    targets = (torch.rand(7, 5, generator=generator) > 0.7).float()
    for reduction in ("none", "mean", "sum"):
        arguments = (logits, targets, alpha, gamma, reduction)
        close(ours.sigmoid_focal_loss(*arguments), tv.sigmoid_focal_loss(*arguments))
    assert ours.sigmoid_focal_loss(torch.zeros(0), torch.zeros(0), reduction="mean") == 0


@pytest.mark.parametrize("name", LOSSES)
def test_losses_refuse_what_are_no_pairs(name):
    for first, second in ((3, 4), (3, 1), (0, 3)):
        with pytest.raises(ValueError, match="expected pairs"):
            getattr(ours, name)(torch.zeros(first, 4), torch.zeros(second, 4))
    with pytest.raises(ValueError, match="expected pairs"):
        getattr(ours, name)(torch.zeros(3, 5), torch.zeros(3, 5))
    with pytest.raises(ValueError, match="none, mean, sum"):
        getattr(ours, name)(ODD, ODD, "average")


def test_focal_loss_refuses_what_does_not_fit():
    ones = torch.ones(3)
    with pytest.raises(ValueError, match="alpha"):
        ours.sigmoid_focal_loss(ones, ones, alpha=2)
    with pytest.raises(ValueError, match="a target for each"):
        ours.sigmoid_focal_loss(ones, torch.ones(3, 1))
    with pytest.raises(ValueError, match="none, mean, sum"):
        ours.sigmoid_focal_loss(ones, ones, reduction="average")
