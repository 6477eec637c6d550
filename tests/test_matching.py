import math

import pytest
import torch
from box_helpers import ODD, close, random_boxes
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from utils.boxes import anchors, box_iou, decode, encode, match

GROWN = torch.tensor([0.0, 0, 3, 3])  # no box so thin that another is 62.5 times as wide
WEIGHTS = [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0), (1.0, 2.0, 3.0, 4.0)]


@pytest.mark.parametrize("weights", WEIGHTS)
def test_encode_and_decode_equal_torchvisions(weights):
    proposals, goals = random_boxes(40) + GROWN, random_boxes(40, seed=1) + GROWN
    coder = BoxCoder(weights)
    codes = encode(goals, proposals, weights)
    close(codes, coder.encode_single(goals, proposals))
    torch.testing.assert_close(decode(codes, proposals, weights), goals, atol=1e-4, rtol=1e-4)
    wild = torch.randn(40, 12, generator=torch.Generator().manual_seed(0)) * 20  # 3 classes, far steps
    close(decode(wild, proposals, weights), coder.decode_single(wild, proposals))
    assert decode(wild, proposals, weights).isfinite().all()
    empty = torch.zeros(0, 4)
    assert encode(empty, empty).shape == decode(empty, empty).shape == (0, 4)


def test_encode_by_hand():
    proposal, goal = torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[5.0, 10, 25, 20]])
    close(encode(goal, proposal), torch.tensor([[1.0, 0.25, math.log(2), -math.log(2)]]))
    grown = decode(torch.tensor([[0.0, 0, 99, 0]]), proposal)
    close(grown, torch.tensor([[5 - 312.5, 0, 5 + 312.5, 20]]))


@pytest.mark.parametrize(
    ("size", "grids", "sizes", "ratios"),
    [
        ((128, 128), [(16, 16)], [(16, 32, 64)], [(0.5, 1.0, 2.0)]),
        ((96, 160), [(12, 20), (6, 10), (3, 5)], [(16,), (32, 40), (64,)], [(0.5, 1, 2), (1,), (1, 3)]),
        ((100, 90), [(7, 9)], [(13,)], [(0.7,)]),
    ],
)
def test_anchors_equal_torchvisions(size, grids, sizes, ratios):
    generator = AnchorGenerator(tuple(sizes), tuple(ratios))
    maps = [torch.zeros(1, 1, *grid) for grid in grids]
    expected = generator(ImageList(torch.zeros(1, 3, *size), [size]), maps)[0]
    strides = [(size[0] // rows, size[1] // columns) for rows, columns in grids]
    close(anchors(grids, strides, sizes, ratios), expected)


def test_anchors_by_hand():
    found = anchors([(1, 2)], [8], [(4,)], [(1.0, 4.0)])
    assert found.tolist() == [[-2, -2, 2, 2], [-1, -4, 1, 4], [6, -2, 10, 2], [7, -4, 9, 4]]
    assert anchors([], [], [], []).shape == (0, 4)


@pytest.mark.parametrize("low_quality", [False, True])
@pytest.mark.parametrize("thresholds", [(0.7, 0.3), (0.5, 0.5), (0.9, 0.0)])
def test_match_equals_torchvisions(thresholds, low_quality):
    for seed in range(20):
        iou = box_iou(random_boxes(6, seed=seed), random_boxes(200, seed=seed + 50))
        iou = (iou * 10).round() / 10 if seed % 2 else iou  # ties, and values on the thresholds
        close(match(iou, *thresholds, low_quality), Matcher(*thresholds, low_quality)(iou))


def test_match_by_hand():
    iou = torch.tensor([[0.8, 0.4, 0.2, 0.1], [0.1, 0.45, 0.25, 0.0]])
    assert match(iou, 0.7, 0.3).tolist() == [0, -2, -1, -1]
    assert match(iou, 0.7, 0.3, True).tolist() == [0, 1, -1, -1]
    assert match(torch.tensor([[0.7, 0.3]]), 0.7, 0.3).tolist() == [0, -2]
    assert match(torch.zeros(0, 3), 0.7, 0.3).tolist() == [-1, -1, -1]
    assert match(torch.zeros(2, 0), 0.7, 0.3, True).shape == (0,)


def test_what_does_not_fit_is_refused():
    good = random_boxes(3)
    for first, second in ((good, ODD[4:7]), (ODD[4:7], good)):
        with pytest.raises(ValueError, match="remove_small_boxes"):
            encode(first, second)
    with pytest.raises(ValueError, match="a proposal"):
        encode(good, good[:1])
    for codes in (torch.zeros(3, 5), torch.zeros(2, 4)):
        with pytest.raises(ValueError, match="rel_codes"):
            decode(codes, good)
    with pytest.raises(ValueError, match="must not exceed"):
        match(torch.zeros(2, 2), 0.3, 0.7)
    with pytest.raises(ValueError, match="without NaN"):
        match(torch.full((2, 2), torch.nan), 0.7, 0.3)
    with pytest.raises(ValueError, match="objects, anchors"):
        match(torch.zeros(2), 0.7, 0.3)
    with pytest.raises(ValueError, match="as many as the maps"):
        anchors([(1, 1)], [8, 16], [(4,)], [(1.0,)])
    with pytest.raises(ValueError, match="positive"):
        anchors([(1, 1)], [8], [(0,)], [(1.0,)])
