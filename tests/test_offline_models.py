"""The networks that `utils.weights` fills, on random weights: against torchvision and hand computation."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models
from weights_helpers import lively, published_lite0

from utils import mtcnn
from utils.offline_models import HED, EfficientNetLite0, InvertedResidual, SameConv2d, lite0_state
from utils.u2net import ResidualU, U2NetP


def test_padding_as_tensorflow_does_it():
    convolution = SameConv2d(1, 1, (3, 5), stride=(2, 1), bias=False)
    nn.init.ones_(convolution.weight)
    x = torch.arange(24.0).reshape(1, 1, 4, 6)
    padded = F.pad(x, (2, 2, 0, 1))  # rows: (2 - 1) * 2 + 3 - 4 = 1, at the end; columns: 5 + 5 - 6 = 4
    torch.testing.assert_close(convolution(x), F.conv2d(padded, convolution.weight, stride=(2, 1)))
    for size, stride, rows in ((5, 2, 3), (6, 2, 3), (1, 2, 1), (7, 3, 3)):
        assert SameConv2d(1, 1, 3, stride)(torch.zeros(1, 1, size, size)).shape == (1, 1, rows, rows)
    torch.testing.assert_close(  # a kernel smaller than the stride needs no padding
        SameConv2d(1, 1, 1, 2)(torch.zeros(1, 1, 4, 4)).shape, torch.Size([1, 1, 2, 2])
    )


def by_the_published_names(state, x):
    """EfficientNet-Lite 0 for sizes that 32 divides, straight from the names and shapes of its file."""

    def layer(x, block, convolution, norm, stride=1, active=True):
        weight = state[f"{block}{convolution}.weight"]
        extra = weight.shape[-1] - stride
        x = F.pad(x, [extra // 2, extra - extra // 2] * 2) if extra > 0 else x
        x = F.conv2d(x, weight, stride=stride, groups=x.shape[1] if weight.shape[1] == 1 else 1)
        entries = [
            state[f"{block}{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        ]
        x = F.batch_norm(x, *entries, eps=1e-3)
        return x.clamp(0, 6) if active else x

    x = layer(x, "", "_conv_stem", "_bn0", 2)
    for i in range(16):
        block, y = f"_blocks.{i}.", x
        if i > 0:
            y = layer(y, block, "_expand_conv", "_bn0")
        y = layer(y, block, "_depthwise_conv", "_bn1", 2 if i in (1, 3, 5, 11) else 1)
        y = layer(y, block, "_project_conv", "_bn2", active=False)
        x = x + y if i in (2, 4, 6, 7, 9, 10, 12, 13, 14) else y
    x = layer(x, "", "_conv_head", "_bn1").mean([2, 3])
    return F.linear(x, state["_fc.weight"], state["_fc.bias"])


def test_efficientnet_lite0_is_what_its_file_says():
    model = lively(EfficientNetLite0())
    assert sum(parameter.numel() for parameter in model.parameters()) == 4_652_008
    x, state = torch.randn(2, 3, 64, 96), published_lite0(model)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), by_the_published_names(state, x))
        assert model(torch.randn(1, 3, 33, 47)).shape == (1, 1000)
    assert list(lite0_state(state)) == list(model.state_dict())
    assert list(lite0_state({"_blocks.3._new.weight": 0, "odd": 0})) == ["features.4._new.weight", "odd."]
    drops = [block.drop.p for block in model.features[1:-1]]
    torch.testing.assert_close(drops, [0.2 * i / 16 for i in range(16)])
    assert model.features[5].drop.mode == "row"
    block = InvertedResidual((4, 4), 3, 1, 6, drop=1.0).train()
    torch.testing.assert_close(block(x[:, :1].expand(2, 4, 64, 96)), x[:, :1].expand(2, 4, 64, 96))


def test_hed_is_vgg16_with_five_sides():
    model = lively(HED())
    with torch.device("meta"):
        vgg = models.vgg16().features
    vgg = vgg.to_empty(device="cpu")
    vgg.load_state_dict(model.features.state_dict(), strict=True)
    x, maps = torch.randn(1, 3, 32, 64), []
    with torch.inference_mode():
        torch.testing.assert_close(model.features(x), vgg(x))
        for last, side in zip((3, 8, 15, 22, 29), model.sides, strict=True):
            edges = (vgg[: last + 1](x) * side.weight[0]).sum(1, keepdim=True) + side.bias
            maps.append(F.interpolate(edges, (32, 64), mode="bilinear", align_corners=False))
        expected = torch.sigmoid(
            sum(w * m for w, m in zip(model.fuse.weight[0], maps, strict=True)) + model.fuse.bias
        )
        torch.testing.assert_close(model(x), expected)
        assert model(torch.randn(2, 3, 37, 1)).shape == (2, 1, 37, 1)


def test_a_residual_u_step_by_step():
    def join(small, large):
        return torch.cat(
            [F.interpolate(small, large.shape[2:], mode="bilinear", align_corners=False), large], 1
        )

    def pool(x):
        return F.max_pool2d(x, 2, 2, ceil_mode=True)

    x = torch.randn(1, 8, 11, 14)
    with torch.inference_mode():
        stage = lively(ResidualU(8, 4))
        (a, b, c, d), (u, v, w) = stage.down, stage.up
        entry = stage.entry(x)
        first = a(entry)
        second = b(pool(first))
        third = c(pool(second))
        y = u(torch.cat([d(third), third], 1))
        y = w(join(v(join(y, second)), first))
        torch.testing.assert_close(stage(x), entry + y)
        assert [conv[0].dilation[0] for conv in (*stage.down, *stage.up)] == [1, 1, 1, 2, 1, 1, 1]

        stage = lively(ResidualU(8, 4, dilated=True))
        (a, b, c, d), (u, v, w) = stage.down, stage.up
        entry = stage.entry(x)
        second = b(first := a(entry))
        y = u(torch.cat([d(third := c(second)), third], 1))
        y = w(torch.cat([v(torch.cat([y, second], 1)), first], 1))
        torch.testing.assert_close(stage(x), entry + y)
        assert [conv[0].dilation[0] for conv in (*stage.down, *stage.up)] == [1, 2, 4, 8, 4, 2, 1]


def test_u2netp_counts_and_sizes():
    model = lively(U2NetP())
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_125_485  # of the ONNX file
    for height, width in ((64, 33), (1, 1)):
        with torch.inference_mode():
            saliency = model(torch.randn(2, 3, height, width))
        assert saliency.shape == (2, 1, height, width) and 0 <= saliency.min() <= saliency.max() <= 1


def test_boxes_of_mtcnn_by_hand():
    boxes = torch.tensor([[10.0, 20, 30, 60], [0, 0, 8, 4]])
    deltas = torch.tensor([[0.5, 0, 0, -0.25], [0, 1, 1, 0]])
    moved = mtcnn._move(boxes, deltas, 0)  # sizes 20 x 40 and 8 x 4
    assert moved.tolist() == [[20, 20, 30, 50], [0, 4, 16, 4]]
    assert mtcnn._move(boxes, deltas, 1)[1].tolist() == [0, 5, 17, 4]
    assert mtcnn._square(boxes).tolist() == [[0, 20, 40, 60], [0, -2, 8, 6]]
    ramp = torch.arange(20.0).reshape(1, 1, 4, 5).expand(1, 3, 4, 5) * 6
    crops, inside = mtcnn._crops(ramp, torch.tensor([[2.0, 2, 3.75, 3], [9, 1, 12, 4], [-3.5, -3, 1, 1]]), 2)
    assert inside.tolist() == [[2, 2, 3.75, 3], [-3.5, -3, 1, 1]]
    expected = (ramp[0, :, 1:3, 1:3] - 127.5) / 128  # pixels count from 1, the last one is in
    torch.testing.assert_close(crops[0], expected)
    torch.testing.assert_close(crops[1], torch.full((3, 2, 2), -127.5 / 128))
    (beyond,), _ = mtcnn._crops(
        ramp, torch.tensor([[4.0, 1, 7, 9]]), 2
    )  # all 4 rows, the last 2 of 5 columns
    torch.testing.assert_close(beyond[0] * 128 + 127.5, torch.tensor([[33.0, 39], [93, 99]]))
    crops, inside = mtcnn._crops(ramp, torch.zeros(0, 4), 24)
    assert crops.shape == (0, 3, 24, 24) and inside.shape == (0, 4)
    x = torch.arange(12).reshape(1, 2, 2, 3)  # [N, C, H, W]
    assert mtcnn._flatten(x).tolist() == [[0, 6, 3, 9, 1, 7, 4, 10, 2, 8, 5, 11]]


def test_suppression_by_the_smaller_box():
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 99, 99], [0, 3, 9, 12], [0, 2, 9, 11], [50, 50, 59, 59]])
    scores = torch.tensor([0.8, 0.9, 0.6, 0.7, 0.5])
    assert mtcnn._nms_by_smaller(boxes, scores, 0.7).tolist() == [1]
    # Without the one that holds all: 0.7 of the second lies in the first, 0.8 of the third.
    keep = mtcnn._nms_by_smaller(boxes[[0, 2, 3, 4]], scores[[0, 2, 3, 4]], 0.7)
    assert keep.tolist() == [0, 1, 3]
    assert mtcnn._nms_by_smaller(boxes[:0], scores[:0], 0.7).shape == (0,)


class Fixed(nn.Module):
    """In the place of a network: returns what `answer` makes of its input, and remembers the input's size."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.seen = answer, []

    def forward(self, x):
        self.seen.append(tuple(x.shape))
        return self.answer(x)


def hot_cells(x):
    """Like a P-net that is sure of two cells of the largest level, and of none of the others."""
    rows, columns = (x.shape[2] - 10) // 2, (x.shape[3] - 10) // 2
    scores, deltas = torch.zeros(1, rows, columns), torch.zeros(1, 4, rows, columns)
    if columns > 8:
        scores[0, 1, 4], scores[0, 4, 0] = 0.9, 0.6  # 0.6, the threshold, is enough
        deltas[0, 2, 4, 0] = 0.5
    return scores, deltas


def test_proposals_and_their_pyramid():
    model = mtcnn.MTCNN(min_face=24)
    model.pnet = Fixed(hot_cells)
    # Scale 1/2, row 1, column 4: x from (2 * 4 + 1) * 2 to (2 * 4 + 12) * 2, y from (2 * 1 + 1) * 2 to
    # (2 * 1 + 12) * 2. The other is [2, 18, 24, 40]; its right side moves by half the width of 22, and the
    # height grows to the width of 33.
    proposals = model._propose(torch.zeros(1, 3, 40, 60))
    torch.testing.assert_close(proposals, torch.tensor([[18.0, 6, 40, 28], [2, 12.5, 35, 45.5]]))
    # int(size * scale + 1); the third level would be 10 pixels high, too small
    assert model.pnet.seen == [(1, 3, 21, 31), (1, 3, 15, 22)]
    assert model._propose(torch.zeros(1, 3, 23, 60)).shape == (0, 4)
    scores, deltas = mtcnn.PNet()(torch.zeros(2, 3, 31, 20))  # 31 - 2 = 29, half of it 15, - 2 - 2 = 11
    assert scores.shape == (2, 11, 5) and deltas.shape == (2, 4, 11, 5)


def test_a_face_inside_a_surer_one_is_dropped():
    model = mtcnn.MTCNN(min_face=24)
    model.pnet = Fixed(hot_cells)
    model.rnet = Fixed(lambda x: (torch.tensor([0.9, 0.8]), torch.zeros(2, 4)))
    # The second, [2, 12.5, 35, 45.5], has 34 pixels a side; it shrinks to [20, 10, 30, 20], inside the first.
    inside = torch.tensor([[0.0] * 4, [18 / 34, -2.5 / 34, -5 / 34, -25.5 / 34]])
    points = torch.tensor([0.5, 0.25]).expand(2, 5, 2)
    model.onet = Fixed(lambda x: (torch.tensor([0.95, 0.75]), inside, points))
    boxes, scores, keypoints = model(torch.rand(3, 40, 60))
    torch.testing.assert_close((boxes, scores), (torch.tensor([[18.0, 6, 40, 28]]), torch.tensor([0.95])))
    torch.testing.assert_close(keypoints, torch.tensor([28.5, 10.75]).expand(1, 5, 2))  # 23 * 0.5 + 18 - 1
    assert model.rnet.seen == [(2, 3, 24, 24)] and model.onet.seen == [(2, 3, 48, 48)]


def test_what_mtcnn_takes():
    model = lively(mtcnn.MTCNN(thresholds=(0.0, 2.0, 2.0)))
    for empty in (model(torch.zeros(3, 15, 30)), model(torch.zeros(3, 30, 25, dtype=torch.uint8))):
        assert [part.shape for part in empty] == [(0, 4), (0,), (0, 5, 2)]
        assert not any(part.requires_grad for part in empty)
    for bad in (torch.zeros(1, 3, 30, 30), torch.zeros(30, 30, 3), torch.zeros(3, 0, 30)):
        with pytest.raises(ValueError, match=re.escape(f"one picture [3, H, W], got {list(bad.shape)}")):
            model(bad)
    for bad in (torch.full((3, 30, 30), 255.0), torch.full((3, 30, 30), -0.1), torch.ones(3, 30, 30).long()):
        with pytest.raises(ValueError, match=f"uint8, or float in .* got {bad.dtype}"):
            model(bad)
    for wrong in ({"shrink": 1.0}, {"min_face": 0}):
        with pytest.raises(ValueError, match="shrink must"):
            mtcnn.MTCNN(**wrong)
