import math
import time

import pytest
import torch
from detection_helpers import by_pycocotools, found, random_case, truth
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from utils.coco_metrics import NUMBERS, evaluate_detections


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("seed", range(8))
def test_equal_to_pycocotools_on_its_own_files(seed, tmp_path, capsys):
    predictions, targets = random_case(seed)
    names = {label: f"class {label}" for label in range(1, 6)}  # class 5 does not occur
    judge = by_pycocotools(predictions, targets, names, tmp_path)
    result = evaluate_detections(predictions, targets, categories=names)
    for name, expected in zip(NUMBERS, judge.stats, strict=False):
        value = result[name]
        assert value == expected or (math.isnan(value) and expected == -1), name
    for k, name in enumerate(names.values()):
        precision = judge.eval["precision"][:, :, k, 0, 2]
        value = result["per_class"][name]
        assert value == pytest.approx(precision.mean(), abs=1e-12) or (math.isnan(value) and k == 4)
    assert 0.05 < result["map"] < result["ap50"] < 1 and capsys.readouterr() == ("", "")


def test_ap_by_hand():
    ten, far = [0.0, 0, 10, 10], [50.0, 50, 60, 60]
    targets = [truth([ten, far]), truth([ten])]
    # Right, wrong, right, in the order of scores: precision 1 up to recall 1/3, 2/3 up to 2/3, 0 beyond.
    predictions = [found([ten, [80, 80, 90, 90]], scores=[0.9, 0.8]), found([ten], scores=[0.7])]
    result = evaluate_detections(predictions, targets, categories=["background", "thing"])
    expected = (34 * 1 + 33 * 2 / 3) / 101
    assert result["ap50"] == result["ap75"] == pytest.approx(expected)
    assert result["map"] == result["per_class"]["thing"] == result["map_small"] == pytest.approx(expected)
    assert math.isnan(result["map_medium"]) and math.isnan(result["map_large"])


def test_iou_thresholds_by_hand():
    targets, boxes = [truth([[0, 0, 10, 10]])], [[0, 0, 10, 7.6]]  # IoU 0.76: good from 0.50 to 0.75
    result = evaluate_detections([found(boxes, scores=[0.5])], targets)
    assert result["map"] == pytest.approx(0.6) and result["ap50"] == result["ap75"] == pytest.approx(1)
    assert result["per_class"] == {1: pytest.approx(0.6)}


def test_an_object_counts_once():
    box = [0, 0, 10, 10]
    targets = [truth([box, [50, 50, 60, 60]])]
    twice = [found([box, box, [50, 50, 60, 60]], scores=[0.9, 0.8, 0.7])]
    expected = (51 + 50 * 2 / 3) / 101
    assert evaluate_detections(twice, targets)["ap50"] == pytest.approx(expected)


def test_sizes_go_by_area_where_it_is_given():
    boxes, scores = [[0, 0, 40, 40]], [0.5]
    assert evaluate_detections([found(boxes, scores=scores)], [truth(boxes)])["map_medium"] == pytest.approx(
        1
    )
    result = evaluate_detections([found(boxes, scores=scores)], [truth(boxes, area=[900.0])])
    assert result["map_small"] == pytest.approx(1) and math.isnan(result["map_medium"])


def test_a_crowd_is_neither_missed_nor_wrong():
    one, crowd = [0, 0, 10, 10], [50, 50, 90, 90]
    inside = found([one, [55, 55, 65, 65], [70, 70, 80, 80]], scores=[0.3, 0.9, 0.8])
    assert evaluate_detections([inside], [truth([one, crowd], iscrowd=[0, 1])])["map"] == pytest.approx(1)
    assert evaluate_detections([inside], [truth([one, crowd], iscrowd=[0, 0])])["map"] < 0.4


def test_nothing_found_and_nothing_there():
    box = [[0, 0, 10, 10]]
    assert evaluate_detections([found()], [truth(box)])["map"] == 0
    both = evaluate_detections([found(box, scores=[0.5]), found()], [truth(box), truth()])
    assert both["map"] == pytest.approx(1)
    wrong = evaluate_detections([found(box, scores=[0.4]), found(box, scores=[0.5])], [truth(box), truth()])
    assert wrong["map"] == pytest.approx(0.5)
    for predictions in ([found()], [found(box, scores=[0.5])]):
        result = evaluate_detections(predictions, [truth()], categories=["background", "a", "b"])
        assert all(math.isnan(result[name]) for name in NUMBERS)
        assert result["per_class"].keys() == {"a", "b"} and all(map(math.isnan, result["per_class"].values()))
    assert math.isnan(evaluate_detections([found()], [truth()])["map"])


def test_a_class_without_truth_does_not_count():
    boxes = [[0, 0, 10, 10], [20, 20, 30, 30]]
    prediction = found(boxes, [1, 3], [0.5, 0.9])
    result = evaluate_detections([prediction], [truth(boxes[:1])], categories=["background", "a", "b", "c"])
    assert [result["map"], result["per_class"]["a"]] == pytest.approx([1, 1])
    assert math.isnan(result["per_class"]["b"]) and math.isnan(result["per_class"]["c"])
    assert list(evaluate_detections([prediction], [truth(boxes[:1])])["per_class"]) == [1, 3]


def test_what_cannot_be_judged_is_refused():
    box, good = [[0, 0, 10, 10]], found([[0, 0, 10, 10]], scores=[0.5])
    for predictions, targets in (([good], []), ([], []), ([good, good], [truth(box)])):
        with pytest.raises(ValueError, match="predictions for each picture"):
            evaluate_detections(predictions, targets)
    wrong = {
        "labels \\[0\\] of|labels.*categories are": found(box, [0], [0.5]),
        "has no 'scores'": truth(box),
        "must be \\[1\\]": found(box, scores=[0.5, 0.6]),
        "must be \\[1, 4\\]": {**good, "boxes": torch.zeros(1, 5)},
        "x1 <= x2": found([[9, 0, 1, 5]], scores=[0.5]),
        "1 scores .* not finite": found(box, scores=[math.nan]),
    }
    for message, prediction in wrong.items():
        with pytest.raises(ValueError, match=message):
            evaluate_detections([prediction], [truth(box)], categories=["background", "thing"])
    with pytest.raises(ValueError, match="a name of its own"):
        evaluate_detections([good], [truth(box)], categories=["background", "thing", "thing"])
    with pytest.raises(ValueError, match=r"targets\[1\] has no 'area'"):
        evaluate_detections([good, good], [truth(box, area=[9.0]), truth(box)])


def test_most_of_the_time_is_spent_inside_pycocotools(monkeypatch):
    inside = 0.0

    def timed(function):
        def call(*arguments, **options):
            nonlocal inside
            start = time.perf_counter()
            result = function(*arguments, **options)
            inside += time.perf_counter() - start
            return result

        return call

    for owner, names in ((COCO, ["createIndex"]), (COCOeval, ["evaluate", "accumulate", "summarize"])):
        for name in names:
            monkeypatch.setattr(owner, name, timed(getattr(owner, name)))
    predictions, targets = random_case(0, pictures=500, classes=10)
    shares = []
    for _ in range(3):
        start, inside = time.perf_counter(), 0.0
        evaluate_detections(predictions, targets)
        shares.append(inside / (time.perf_counter() - start))
    assert max(shares) >= 0.8, shares


def test_scores_keep_their_last_digits():
    box = torch.tensor([[10.0, 10, 30, 30]])
    target = {"boxes": box, "labels": torch.tensor([1])}
    scores = torch.tensor([0.5, 0.5 + 1e-12], dtype=torch.float64)  # equal in float32: then the order decides
    found = {"boxes": torch.cat([box + 50, box]), "labels": torch.tensor([1, 1]), "scores": scores}
    assert evaluate_detections([found], [target])["ap50"] == pytest.approx(1)
    found["scores"] = scores.flip(0)
    assert evaluate_detections([found], [target])["ap50"] == pytest.approx(0.5, abs=0.01)
