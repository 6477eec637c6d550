import math

import pytest
import torch
import torchvision.ops as tv
from box_helpers import ODD, close, random_boxes
from torchvision.ops.boxes import _batched_nms_vanilla

from utils import boxes as ours


def scored(n, seed, *, grid=False):
    boxes, generator = random_boxes(n, seed=seed), torch.Generator().manual_seed(seed + 1000)
    scores = torch.rand(n, generator=generator)
    if grid:  # whole numbers: many IoUs are the same, and simple fractions, as thresholds are
        corner = torch.randint(0, 8, (n, 2), generator=generator).float()
        boxes = torch.cat([corner, corner + torch.randint(0, 8, (n, 2), generator=generator)], 1)
        scores = (scores * 8).round() / 8
    return boxes, scores, torch.randint(0, 4, (n,), generator=generator)


@pytest.mark.parametrize("grid", [False, True])
@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.2, 0.3, 1 / 3, 0.5, 0.6, 0.7, 1.0])
def test_nms_equals_torchvisions(threshold, grid):
    for seed in range(25):
        boxes, scores, classes = scored(60, seed, grid=grid)
        assert torch.equal(ours.nms(boxes, scores, threshold), tv.nms(boxes, scores, threshold))
        for kind in (torch.float32, torch.float64):
            kept = ours.batched_nms(boxes.to(kind), scores.to(kind), classes, threshold)
            vanilla = _batched_nms_vanilla(boxes.to(kind), scores.to(kind), classes, threshold)
            assert set(kept.tolist()) == set(vanilla.tolist())
            assert (scores[kept].diff() <= 0).all()
        if not grid:
            assert torch.equal(kept, tv.batched_nms(boxes.double(), scores.double(), classes, threshold))


def test_nms_of_odd_boxes():
    scores = torch.linspace(1, 0.1, len(ODD))
    for threshold in (0.0, 0.5):
        assert torch.equal(ours.nms(ODD, scores, threshold), tv.nms(ODD, scores, threshold))
    same = torch.tensor([[0, 0, 4, 4]]).repeat(3, 1)
    assert ours.nms(same, torch.tensor([0.5, 0.9, 0.9]), 0.5).tolist() == [1]  # of equals the first
    assert ours.nms(same, torch.ones(3), 1.0).tolist() == [0, 1, 2]
    assert ours.batched_nms(same - 9, torch.ones(3), torch.tensor([5, -1, 5]), 0.5).tolist() == [0, 1]
    nothing = torch.zeros(0, 4), torch.zeros(0)
    assert ours.nms(*nothing, 0.5).tolist() == ours.batched_nms(*nothing, torch.zeros(0), 0.5).tolist() == []
    assert ours.nms(*nothing, 0.5).dtype == torch.int64
    assert [values.tolist() for values in ours.soft_nms(*nothing)] == [[], []]


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
            iou = tv.box_iou(boxes[best : best + 1], boxes[i : i + 1]).item()
            if method == "gaussian":
                scores[i] *= math.exp(-(iou**2) / sigma)
            elif iou >= threshold:
                scores[i] *= 1 - iou
    return result


@pytest.mark.parametrize("method", ["gaussian", "linear"])
@pytest.mark.parametrize(("sigma", "threshold", "least"), [(0.5, 0.3, 0.001), (0.1, 0.5, 0.3)])
def test_soft_nms_does_what_the_paper_says(method, sigma, threshold, least):
    for seed in range(5):
        boxes, scores, _ = scored(25, seed)
        options = {"sigma": sigma, "iou_threshold": threshold, "score_threshold": least}
        kept, lowered = ours.soft_nms(boxes, scores, method=method, **options)
        expected = soft_by_the_paper(boxes, scores, method, sigma, threshold, least)
        assert kept.tolist() == [index for index, _ in expected]
        close(lowered, torch.tensor([score for _, score in expected]))
        assert (lowered.diff() <= 0).all()


def test_soft_nms_by_hand():
    boxes = torch.tensor([[0.0, 0, 4, 2], [0, 0, 4, 4], [8, 8, 9, 9]])  # IoU of the first two: 1/2
    scores = torch.tensor([0.9, 0.8, 0.7])
    kept, lowered = ours.soft_nms(boxes, scores, sigma=0.5)
    assert kept.tolist() == [0, 2, 1]
    close(lowered, torch.tensor([0.9, 0.7, 0.8 * math.exp(-0.5)]))
    kept, lowered = ours.soft_nms(boxes, scores, method="linear", iou_threshold=0.5)
    close(lowered, torch.tensor([0.9, 0.7, 0.4]))
    kept, lowered = ours.soft_nms(boxes, scores, method="linear", iou_threshold=0.51)
    assert kept.tolist() == [0, 1, 2] and torch.equal(lowered, scores)
    kept, _ = ours.soft_nms(boxes, torch.ones(3), method="linear", iou_threshold=0.51)
    assert kept.tolist() == [0, 1, 2]  # of equals the first
    kept, _ = ours.soft_nms(boxes, scores, score_threshold=0.75)
    assert kept.tolist() == [0]
    points = torch.tensor([[3.0, 3, 3, 3]]).repeat(2, 1)
    assert ours.soft_nms(points, torch.tensor([0.5, 0.4]))[1].tolist() == pytest.approx([0.5, 0.4])


def test_what_does_not_fit_is_refused():
    good, ones = random_boxes(3), torch.ones(3)
    with pytest.raises(ValueError, match=r"scores \[N\]"):
        ours.nms(good, torch.ones(2), 0.5)
    with pytest.raises(ValueError, match=r"boxes \[N, 4\]"):
        ours.nms(good[None], torch.ones(1), 0.5)
    with pytest.raises(ValueError, match="1 of 3 scores"):
        ours.nms(good, torch.tensor([1, torch.nan, 0]), 0.5)
    with pytest.raises(ValueError, match="a group for each of 3"):
        ours.batched_nms(good, ones, torch.zeros(2), 0.5)
    for options in ({"method": "hard"}, {"sigma": 0}):
        with pytest.raises(ValueError, match="gaussian or linear"):
            ours.soft_nms(good, ones, **options)
    with pytest.raises(ValueError, match="negative"):
        ours.soft_nms(good, -ones)
