import math

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from utils.boxes import (
    check_boxes,
    decode,
    encode,
    generate_anchors,
    match_anchors,
    soft_nms,
)

NAN, INF = math.nan, math.inf


def close(a, b):
    torch.testing.assert_close(a, b, equal_nan=True)


def random_boxes(n, *, seed=0):
    """Boxes from 3 to 43 px wide: none so thin that another is 62.5 times as wide."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=generator) * 100
    return torch.cat(
        [corner, corner + 3 + torch.rand(n, 2, generator=generator) * 40], 1
    )


GOOD = random_boxes(3)
FLAT = torch.tensor([[5.0, 5, 5, 5], [5, 5, 5, 9], [1, 7, 8, 7]])  # a point, two lines


def soft_by_the_paper(boxes, scores, method, sigma, threshold, least):
    """Figure 2 of the paper, in plain Python."""
    rest, result = list(range(len(boxes))), []
    scores = scores.tolist()
    while rest:
        best = max(rest, key=lambda i: (scores[i], -i))
        if scores[best] < least:
            break
        rest.remove(best)
        result.append((best, scores[best]))
        for i in rest:
            iou = box_iou(boxes[best : best + 1], boxes[i : i + 1]).item()
            if method == "gaussian":
                scores[i] *= math.exp(-(iou**2) / sigma)
            elif iou >= threshold:
                scores[i] *= 1 - iou
    return result


@pytest.mark.parametrize("method", ["gaussian", "linear"])
@pytest.mark.parametrize(
    ("sigma", "threshold", "least"), [(0.5, 0.3, 0.001), (0.1, 0.5, 0.3)]
)
def test_soft_nms_does_what_the_paper_says(method, sigma, threshold, least):
    for seed in range(3):
        boxes = random_boxes(25, seed=seed)
        scores = torch.rand(25, generator=torch.Generator().manual_seed(seed))
        options = {"sigma": sigma, "iou_threshold": threshold, "score_threshold": least}
        kept, lowered = soft_nms(boxes, scores, method=method, **options)
        expected = soft_by_the_paper(boxes, scores, method, sigma, threshold, least)
        assert kept.tolist() == [index for index, _ in expected]
        close(lowered, torch.tensor([score for _, score in expected]))
        assert (lowered.diff() <= 0).all()


def test_soft_nms_by_hand():
    # IoU of the first two: 1/2
    boxes = torch.tensor([[0.0, 0, 4, 2], [0, 0, 4, 4], [8, 8, 9, 9]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    kept, lowered = soft_nms(boxes, scores, sigma=0.5)
    assert kept.tolist() == [0, 2, 1]
    close(lowered, torch.tensor([0.9, 0.7, 0.8 * math.exp(-0.5)]))
    kept, lowered = soft_nms(boxes, scores, method="linear", iou_threshold=0.5)
    close(lowered, torch.tensor([0.9, 0.7, 0.4]))
    kept, lowered = soft_nms(boxes, scores, method="linear", iou_threshold=0.51)
    assert kept.tolist() == [0, 1, 2] and torch.equal(lowered, scores)
    kept, _ = soft_nms(boxes, torch.ones(3), method="linear", iou_threshold=0.51)
    assert kept.tolist() == [0, 1, 2]  # of equals the first
    kept, _ = soft_nms(boxes, scores, score_threshold=0.75)
    assert kept.tolist() == [0]
    close(soft_nms(FLAT[[0, 0]], scores[:2])[1], scores[:2])  # no area, no overlap
    assert [v.tolist() for v in soft_nms(torch.zeros(0, 4), torch.zeros(0))] == [[], []]


def test_soft_nms_of_half_precision():
    # float16 ends at 65504, the area is 90000
    boxes = torch.tensor([[0.0, 0, 300, 300], [0, 0, 300, 150]]).half()
    kept, lowered = soft_nms(boxes, torch.tensor([1.0, 0.5]).half(), sigma=0.5)
    assert kept.tolist() == [0, 1] and lowered.dtype == torch.float32
    close(lowered, torch.tensor([1.0, 0.5 * math.exp(-0.5)]))
    # in float16 300.25 - 0.1 is 300.25: the IoU with itself would not be 1
    boxes = torch.tensor([[0.1, 0.1, 300.3, 300.3]]).half().repeat(2, 1)
    _, lowered = soft_nms(boxes, torch.ones(2), method="linear", score_threshold=0)
    assert lowered.tolist() == [1, 0]


WEIGHTS = [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0), (1.0, 2.0, 3.0, 4.0)]


@pytest.mark.parametrize("weights", WEIGHTS)
def test_encode_and_decode_equal_torchvisions(weights):
    proposals, goals = random_boxes(40), random_boxes(40, seed=1)
    coder = BoxCoder(weights)
    codes = encode(goals, proposals, weights)
    close(codes, coder.encode_single(goals, proposals))
    torch.testing.assert_close(
        decode(codes, proposals, weights), goals, atol=1e-4, rtol=1e-4
    )
    # 3 classes, far steps
    wild = torch.randn(40, 12, generator=torch.Generator().manual_seed(0)) * 20
    close(decode(wild, proposals, weights), coder.decode_single(wild, proposals))
    assert decode(wild, proposals, weights).isfinite().all()
    empty = torch.zeros(0, 4)
    assert encode(empty, empty).shape == decode(empty, empty).shape == (0, 4)


def test_encode_by_hand():
    proposal, goal = torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[5.0, 10, 25, 20]])
    codes = torch.tensor([[1.0, 0.25, math.log(2), -math.log(2)]])
    close(encode(goal, proposal), codes)
    close(encode(goal.long(), proposal.long()), codes)
    grown = decode(torch.tensor([[0.0, 0, 99, 0]]), proposal)
    close(grown, torch.tensor([[5 - 312.5, 0, 5 + 312.5, 20]]))


def test_encode_and_decode_are_differentiable():
    """A loss on codes, or on decoded boxes, must reach the network."""
    proposals, goals = random_boxes(4).double(), random_boxes(4, seed=1).double()
    codes = encode(goals, proposals).requires_grad_()
    assert torch.autograd.gradcheck(lambda c: decode(c, proposals), codes)
    goals.requires_grad_()
    assert torch.autograd.gradcheck(lambda boxes: encode(boxes, proposals), goals)


def test_codes_of_a_network_under_autocast_do_not_round_the_boxes():
    # bfloat16 has no 1001
    boxes = torch.tensor([[1001.0, 1001, 1101, 1101]])
    codes = torch.zeros(1, 4, dtype=torch.bfloat16)
    assert torch.equal(decode(codes, boxes), boxes)
    assert torch.equal(decode(codes.long(), boxes + 0.5), boxes + 0.5)


@pytest.mark.parametrize(
    ("size", "grids", "sizes", "ratios"),
    [
        ((128, 128), [(16, 16)], [(16, 32, 64)], [(0.5, 1.0, 2.0)]),
        (
            (96, 160),
            [(12, 20), (6, 10), (3, 5)],
            [(16,), (32, 40), (64,)],
            [(0.5, 1, 2), (1,), (1, 3)],
        ),
        ((100, 90), [(7, 9)], [(13,)], [(0.7,)]),
    ],
)
def test_anchors_equal_torchvisions(size, grids, sizes, ratios):
    generator = AnchorGenerator(tuple(sizes), tuple(ratios))
    maps = [torch.zeros(1, 1, *grid) for grid in grids]
    expected = generator(ImageList(torch.zeros(1, 3, *size), [size]), maps)[0]
    strides = [(size[0] // rows, size[1] // columns) for rows, columns in grids]
    close(generate_anchors(grids, strides, sizes, ratios), expected)


def test_anchors_by_hand():
    anchors = generate_anchors([(1, 2)], [8], [(4,)], [(1.0, 4.0)])
    assert anchors.tolist() == [
        [-2, -2, 2, 2],
        [-1, -4, 1, 4],
        [6, -2, 10, 2],
        [7, -4, 9, 4],
    ]
    assert generate_anchors([], [], [], []).shape == (0, 4)


@pytest.mark.parametrize("low_quality", [False, True])
@pytest.mark.parametrize("thresholds", [(0.7, 0.3), (0.5, 0.5), (0.9, 0.0)])
def test_match_equals_torchvisions(thresholds, low_quality):
    for seed in range(6):
        iou = box_iou(random_boxes(6, seed=seed), random_boxes(200, seed=seed + 50))
        # ties, and values on the thresholds
        iou = (iou * 10).round() / 10 if seed % 2 else iou
        close(
            match_anchors(iou, *thresholds, low_quality),
            Matcher(*thresholds, low_quality)(iou),
        )


def test_match_by_hand():
    iou = torch.tensor([[0.8, 0.4, 0.2, 0.1], [0.1, 0.45, 0.25, 0.0]])
    assert match_anchors(iou, 0.7, 0.3).tolist() == [0, -2, -1, -1]
    assert match_anchors(iou, 0.7, 0.3, True).tolist() == [0, 1, -1, -1]
    assert match_anchors(torch.tensor([[0.7, 0.3]]), 0.7, 0.3).tolist() == [0, -2]
    assert match_anchors(torch.zeros(0, 3), 0.7, 0.3).tolist() == [-1, -1, -1]
    # an object that nothing overlaps: all anchors are its best, as 6.6 shows
    assert match_anchors(torch.zeros(1, 3), 0.7, 0.3, True).tolist() == [0, 0, 0]
    assert match_anchors(torch.zeros(2, 0), 0.7, 0.3, True).shape == (0,)


TAKES_BOXES = {
    "soft_nms": lambda boxes: soft_nms(boxes, torch.ones(len(boxes))),
    "encode from": lambda boxes: encode(random_boxes(len(boxes)), boxes),
    "encode to": lambda boxes: encode(boxes, random_boxes(len(boxes))),
    "decode": lambda boxes: decode(torch.zeros(len(boxes), 4), boxes),
}


@pytest.mark.parametrize("call", TAKES_BOXES)
def test_what_is_no_box_is_refused(call):
    inverted = torch.tensor([[5.0, 0, 1, 4]])
    for bad in (
        inverted,
        inverted[:, [1, 0, 3, 2]],
        torch.full((1, 4), NAN),
        torch.tensor([[0.0, 0, INF, INF]]),
    ):
        with pytest.raises(ValueError, match="1 of 4 are not.*box_convert"):
            TAKES_BOXES[call](torch.cat([GOOD, bad]))
    for shape in ((2, 5), (4, 2), (1, 3), (4,), (1, 3, 4)):
        with pytest.raises(ValueError, match=r"\[N, 4\].*torch.zeros\(0, 4\)"):
            TAKES_BOXES[call](torch.zeros(shape))
    check_boxes(torch.zeros(0, 4))


ONES, IOU = torch.ones(3), torch.rand(2, 5, generator=torch.Generator().manual_seed(0))
ANCHORS = {"grid_sizes": [(2, 2)], "strides": [8], "sizes": [[4]]}
ANCHORS |= {"aspect_ratios": [[1.0]]}
WRONG = [
    (soft_nms, (GOOD, ONES[:2]), {}, "a score for each of 3"),
    (soft_nms, (GOOD, -ONES), {}, "scores must be 0 to 1"),
    (soft_nms, (GOOD, 90 * ONES), {}, "divide percentages"),
    (soft_nms, (GOOD, NAN * ONES), {}, "not NaN"),
    (soft_nms, (GOOD, ONES), {"method": "hard"}, "gaussian or linear"),
    *[
        (soft_nms, (GOOD, ONES), {"sigma": sigma}, "sigma positive")
        for sigma in (0, -1, NAN, INF)
    ],
    *[
        (soft_nms, (GOOD, ONES), {name: value}, "thresholds must be 0 to 1")
        for name in ("iou_threshold", "score_threshold")
        for value in (50, -0.1, NAN)
    ],
    *[
        (match_anchors, (IOU, *thresholds), {}, "0 <= low_threshold <= high_threshold")
        for thresholds in ((0.3, 0.7), (70, 30), (0.7, NAN), (NAN, 0.3), (0.7, -0.3))
    ],
    (match_anchors, (NAN * IOU, 0.7, 0.3), {}, "without NaN.*remove_small_boxes"),
    (match_anchors, (100 * IOU, 0.7, 0.3), {}, "0 to 1"),
    (match_anchors, (-IOU, 0.7, 0.3), {}, "0 to 1"),
    (match_anchors, (IOU[0], 0.7, 0.3), {}, "objects, anchors"),
    (encode, (GOOD, FLAT), {}, "remove_small_boxes"),
    (encode, (FLAT, GOOD), {}, "remove_small_boxes"),
    (encode, (GOOD, GOOD[:2]), {}, "3 boxes and 2 proposals"),
    (decode, (torch.zeros(3, 5), GOOD), {}, "rel_codes"),
    (decode, (torch.zeros(2, 4), GOOD), {}, "rel_codes"),
    (decode, (torch.full((3, 4), NAN), GOOD), {}, "12 of 12 codes are NaN"),
    *[
        (function, (GOOD, GOOD, weights), {}, "four positive numbers")
        for weights in ((1, 1), (0, 1, 1, 1), (1, 1, 1, -1), (1, 1, 1, NAN))
        for function in (encode, decode)
    ],
    *[
        (generate_anchors, (), ANCHORS | {name: value}, message)
        for name, value, message in (
            ("strides", [8, 16], "for each feature map"),
            ("sizes", [4], "a list of sizes"),
            ("aspect_ratios", [1.0], "a list of ratios"),
            ("sizes", [[0]], "positive"),
            ("sizes", [[NAN]], "positive"),
            ("aspect_ratios", [[-1.0]], "positive"),
            ("strides", [0], "positive"),
            ("grid_sizes", [(2.5, 2)], "whole"),
        )
    ],
]


@pytest.mark.parametrize(("function", "arguments", "options", "message"), WRONG)
def test_a_wrong_call_says_what_is_wrong(function, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments, **options)
