import math

import pytest
import torch
import torchvision.ops as tv
from box_helpers import ODD, close, random_boxes

from utils import boxes as ours
from utils.boxes import box_area, box_convert, box_iou, decode, encode

PAIRWISE = ["box_iou", "generalized_box_iou", "distance_box_iou", "complete_box_iou"]
SETS = {
    "random": (random_boxes(60), random_boxes(50, seed=1)),
    "odd": (ODD, ODD.flip(0)),
    "large": (random_boxes(20, scale=1e12), random_boxes(20, seed=3, scale=1e12)),
    "huge": (random_boxes(5, scale=1e20), random_boxes(5, seed=3, scale=1e20)),  # their areas overflow
    "empty": (torch.zeros(0, 4), random_boxes(3)),
    "both empty": (torch.zeros(0, 4), torch.zeros(0, 4)),
    "batches": (random_boxes(24).view(2, 3, 4, 4), random_boxes(30, seed=1).view(2, 3, 5, 4)),
    "double": (random_boxes(9).double(), random_boxes(8, seed=1).double()),
    "integers": (random_boxes(30).long(), random_boxes(30, seed=1).long()),
}


@pytest.mark.parametrize("case", SETS)
@pytest.mark.parametrize("name", PAIRWISE)
def test_all_pairs_equal_torchvisions(name, case):
    first, second = SETS[case]
    close(getattr(ours, name)(first, second), getattr(tv, name)(first, second))


@pytest.mark.parametrize("name", PAIRWISE)
def test_float16_is_as_exact_as_its_boxes(name):
    first, second = (boxes.half() for boxes in SETS["random"])
    value = getattr(ours, name)(first, second)
    assert value.dtype == torch.float32
    close(value, getattr(tv, name)(first.float(), second.float()))
    torch.testing.assert_close(value, getattr(tv, name)(first, second), atol=0.02, rtol=0)
    same = torch.tensor([[0.1, 0.1, 300.3, 300.3]]).half()
    assert box_iou(same, same).item() == 1
    assert box_area(same).item() == pytest.approx(300.15**2, rel=1e-3)  # float16 ends at 65504


def test_iou_by_hand():
    first = torch.tensor([[0.0, 0, 4, 2]])
    second = torch.tensor([[2.0, 1, 6, 5], [4, 0, 8, 2], [4, 2, 5, 3], [0, 0, 4, 2], [9, 9, 10, 10]])
    close(box_iou(first, second), torch.tensor([[2 / 22, 0, 0, 1, 0]]))
    around = torch.tensor([[30, 16, 15, 8, 100]])
    union = torch.tensor([[22, 16, 9, 8, 9]])
    expected = box_iou(first, second) - (around - union) / around
    close(ours.generalized_box_iou(first, second), expected)
    distance = torch.tensor([[(4 + 4) / (36 + 25), 16 / (64 + 4), (6.25 + 2.25) / (25 + 9), 0, 0]])
    close(ours.distance_box_iou(first, second)[:, :4], (box_iou(first, second) - distance)[:, :4])
    v = 4 / math.pi**2 * (math.atan(2) - math.atan(1)) ** 2
    expected = 2 / 22 - 8 / 61 - v**2 / (1 - 2 / 22 + v)
    assert ours.complete_box_iou(first, second)[0, 0].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("fmt", ["xyxy", "xywh", "cxcywh"])
def test_formats_of_area_and_iou(fmt):
    first, second = (box_convert(boxes, "xyxy", fmt) for boxes in SETS["random"])
    close(box_area(first, fmt), tv.box_area(first, fmt))
    close(box_iou(first, second, fmt), tv.box_iou(first, second, fmt))


@pytest.mark.parametrize("boxes", [ODD, ODD[0], torch.zeros(0, 4), ODD[:8].long(), ODD[:8].view(2, 4, 4)])
def test_area_equals_torchvisions(boxes):
    close(box_area(boxes), tv.box_area(boxes))


def test_areas_of_small_integers_do_not_overflow():
    boxes = torch.tensor([[0, 0, 200, 200]], dtype=torch.uint8)
    assert box_area(boxes).item() == 40000 and box_area(boxes).dtype == torch.int64
    apart = torch.tensor([[0, 0, 10, 10], [20, 20, 30, 30]], dtype=torch.uint8)
    assert box_iou(apart, apart).tolist() == [[1, 0], [0, 1]]
    far = torch.tensor([[0, 0, 100_000, 100_000]], dtype=torch.int32)
    assert box_area(far).item() == 10**10 and box_iou(far, far).item() == 1


def test_convert_equals_torchvisions_and_goes_back():
    formats, boxes = ["xyxy", "xywh", "cxcywh"], random_boxes(20)
    for start in formats:
        given = tv.box_convert(boxes, "xyxy", start)
        for end in formats:
            for kind in (torch.float32, torch.float64, torch.int64):
                close(box_convert(given.to(kind), start, end), tv.box_convert(given.to(kind), start, end))
            assert box_convert(torch.zeros(0, 4), start, end).shape == (0, 4)
            close(box_convert(box_convert(given, start, end), end, start), given)
    assert box_convert(boxes, "xyxy", "xyxy").data_ptr() != boxes.data_ptr()
    assert box_convert(torch.tensor([1.0, 2, 4, 8]), "xyxy", "cxcywh").tolist() == [2.5, 5, 3, 6]


@pytest.mark.parametrize("size", [(50, 70), (0, 0), (1, 200)])
def test_clip_equals_torchvisions(size):
    for boxes in (random_boxes(50) * 1.5 - 30, torch.zeros(0, 4), ODD, ODD.long(), ODD[:8].view(2, 4, 4)):
        close(ours.clip_boxes_to_image(boxes, size), tv.clip_boxes_to_image(boxes, size))


def test_remove_small_equals_torchvisions():
    for boxes in (random_boxes(80), ODD, torch.zeros(0, 4)):
        for least in (0, 2, 4.0, 10, 1e9):
            assert torch.equal(ours.remove_small_boxes(boxes, least), tv.remove_small_boxes(boxes, least))


GOOD, INVERTED = random_boxes(3), torch.tensor([[5.0, 0, 1, 4]])
CALLS = {
    "box_area": lambda boxes: box_area(boxes),
    "convert": lambda boxes: box_convert(boxes, "xyxy", "xywh"),
    "convert to itself": lambda boxes: box_convert(boxes, "xyxy", "xyxy"),
    "clip": lambda boxes: ours.clip_boxes_to_image(boxes, (9, 9)),
    "remove_small": lambda boxes: ours.remove_small_boxes(boxes, 1),
    "nms": lambda boxes: ours.nms(boxes, torch.ones(len(boxes)), 0.5),
    "batched_nms": lambda boxes: ours.batched_nms(boxes, torch.ones(len(boxes)), torch.ones(len(boxes)), 0.5),
    "soft_nms": lambda boxes: ours.soft_nms(boxes, torch.ones(len(boxes))),
    "encode from": lambda boxes: encode(torch.ones(len(boxes), 4).cumsum(1), boxes),
    "encode to": lambda boxes: encode(boxes, torch.ones(len(boxes), 4).cumsum(1)),
    "decode": lambda boxes: decode(torch.zeros(len(boxes), 4), boxes),
}
CALLS |= {f"{name} first": lambda boxes, name=name: getattr(ours, name)(boxes, GOOD) for name in PAIRWISE}
CALLS |= {f"{name} second": lambda boxes, name=name: getattr(ours, name)(GOOD, boxes) for name in PAIRWISE}


@pytest.mark.parametrize("call", CALLS)
def test_what_is_no_box_is_refused(call):
    down, missing = INVERTED[:, [1, 0, 3, 2]], torch.full((1, 4), torch.nan)
    for bad in (INVERTED, down, missing, torch.cat([GOOD, INVERTED])):
        with pytest.raises(ValueError, match="x1 <= x2 and y1 <= y2"):
            CALLS[call](bad)
    for shape in ((2, 5), (4, 2), (1, 3)):
        with pytest.raises(ValueError, match=r"4\]"):
            CALLS[call](torch.zeros(shape))


def test_refusals_say_what_to_do():
    with pytest.raises(ValueError, match="1 of 4 are not, first .*5.0, 0.0, 1.0, 4.0.*box_convert"):
        box_area(torch.cat([GOOD, INVERTED]))
    with pytest.raises(ValueError, match=r"torch.zeros\(0, 4\)"):
        box_iou(torch.zeros(0), GOOD)
    with pytest.raises(ValueError, match=r"boxes\[None\]"):
        box_iou(GOOD, GOOD[0])
    with pytest.raises(ValueError, match="really xywh"):
        box_convert(torch.tensor([[0, 0, 3, -1]]), "xywh", "xyxy")
    with pytest.raises(ValueError, match="'xxyy'"):
        box_convert(GOOD, "xxyy", "xyxy")
    with pytest.raises(ValueError, match="'xxyy'"):
        box_area(GOOD, "xxyy")
    with pytest.raises(ValueError, match="height, width"):
        ours.clip_boxes_to_image(GOOD, (-1, 4))
