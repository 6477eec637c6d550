import pytest
import torch
from detection_helpers import by_pycocotools, found, random_case, truth

from utils.detection import detection_errors
from utils.detection_errors import KINDS

OBJECT, NEARBY, FAR = [0, 0, 10, 10], [0, 0, 10, 4], [50, 50, 60, 60]  # IoU of the first two: 0.4


def kinds(predictions, targets, **options):
    """The kinds that occur, with their cases."""
    errors = detection_errors(predictions, targets, **options)
    assert errors.keys() == {*KINDS, "missed"}
    assert all(cases.dtype == torch.int64 and cases.shape[1] == 2 for cases in errors.values())
    return {kind: cases.tolist() for kind, cases in errors.items() if len(cases)}


CASES = {
    "right": (found([OBJECT], [1], [0.9]), truth([OBJECT]), {"right": [[0, 0]]}),
    "missed": (found(), truth([OBJECT]), {"missed": [[0, 0]]}),
    "nothing": (found(), truth(), {}),
    "doubled": (
        found([OBJECT, OBJECT], [1, 1], [0.8, 0.9]),
        truth([OBJECT]),
        {"right": [[0, 1]], "doubled": [[0, 0]]},
    ),
    "confused": (found([OBJECT], [2], [0.9]), truth([OBJECT]), {"confused": [[0, 0]]}),
    "misplaced": (found([NEARBY], [1], [0.9]), truth([OBJECT]), {"misplaced": [[0, 0]]}),
    "both": (
        found([NEARBY], [2], [0.9]),
        truth([OBJECT]),
        {"confused_and_misplaced": [[0, 0]], "missed": [[0, 0]]},
    ),
    "background": (
        found([FAR], [1], [0.9]),
        truth([OBJECT]),
        {"background": [[0, 0]], "missed": [[0, 0]]},
    ),
    "background of an empty picture": (found([FAR], [1], [0.9]), truth(), {"background": [[0, 0]]}),
    "misplaced before confused": (
        found([NEARBY], [1], [0.9]),
        truth([OBJECT, NEARBY], [1, 2]),
        {"misplaced": [[0, 0]], "missed": [[0, 1]]},
    ),
    "confused before doubled": (
        found([OBJECT, OBJECT], [1, 1], [0.9, 0.8]),
        truth([OBJECT, OBJECT], [1, 2]),
        {"right": [[0, 0]], "confused": [[0, 1]]},
    ),
    "in a crowd": (
        found([[2, 2, 4, 4], FAR], [1, 1], [0.9, 0.8]),
        truth([OBJECT, FAR], iscrowd=[1, 0]),
        {"ignored": [[0, 0]], "right": [[0, 1]]},
    ),
    "in a crowd of another class": (
        found([[2, 2, 4, 4]], [2], [0.9]),
        truth([OBJECT], iscrowd=[1]),
        {"background": [[0, 0]]},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_kind(case):
    prediction, target, expected = CASES[case]
    assert kinds([prediction], [target]) == expected
    shifted = {kind: [[1, index] for _, index in pairs] for kind, pairs in expected.items()}
    assert kinds([found(), prediction], [truth(), target]) == shifted


def test_thresholds():
    prediction = found([NEARBY, OBJECT], [1, 1], [0.6, 0.3])
    assert kinds([prediction], [truth([OBJECT])]) == {"misplaced": [[0, 0]]}
    assert kinds([prediction], [truth([OBJECT])], iou=0.4) == {"right": [[0, 0]]}
    expected = {"right": [[0, 1]], "misplaced": [[0, 0]]}
    assert kinds([prediction], [truth([OBJECT])], score_threshold=0.3) == expected
    tenth = found([[0, 0, 10, 1]], [1], [0.9])
    assert kinds([tenth], [truth([OBJECT])])["misplaced"] == [[0, 0]]  # from 0.1 on


def test_each_box_takes_the_object_that_it_overlaps_most():
    low, high = [0, 0, 10, 10], [0, 0, 10, 8]
    prediction = found([[0, 0, 10, 8.5], [0, 0, 10, 7]], [1, 1], [0.9, 0.8])
    assert kinds([prediction], [truth([low, high])]) == {"right": [[0, 0], [0, 1]]}
    assert kinds([prediction], [truth([low, high])], iou=0.75) == {
        "right": [[0, 0]],
        "doubled": [[0, 1]],
        "missed": [[0, 0]],
    }


def test_every_box_is_of_one_kind():
    counts = dict.fromkeys((*KINDS, "missed"), 0)
    for seed in range(8):
        predictions, targets = random_case(seed, size=60.0)
        for one in predictions:  # everything twice, and once more with another label
            labels = torch.cat([one["labels"]] * 2 + [one["labels"] % 4 + 1])
            one |= {"boxes": one["boxes"].repeat(3, 1), "labels": labels, "scores": one["scores"].repeat(3)}
        errors = detection_errors(predictions, targets, score_threshold=0.4)
        cases = torch.cat([errors[kind] for kind in KINDS])
        listed = [(i, j) for i, one in enumerate(predictions) for j in range(len(one["scores"]))]
        assert sorted(map(tuple, cases.tolist())) == [
            (i, j) for i, j in listed if predictions[i]["scores"][j] >= 0.4
        ]
        for picture, index in errors["missed"].tolist():
            assert targets[picture]["iscrowd"][index] == 0
        counts = {kind: count + len(errors[kind]) for kind, count in counts.items()}
    assert min(counts.values()) > 5, counts


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("seed", range(5))
def test_right_and_ignored_are_those_of_pycocotools(seed, tmp_path):
    predictions, targets = random_case(seed, size=100.0)
    judge = by_pycocotools(predictions, targets, range(1, 5), tmp_path)
    matched, ignored = [], []
    for result in judge.evalImgs:
        if result is not None and result["aRng"] == judge.params.areaRng[0]:
            matched += (result["dtMatches"][0] > 0).tolist()  # at an IoU of 0.50
            ignored += result["dtIgnore"][0].tolist()
    errors = detection_errors(predictions, targets, score_threshold=0.0)
    assert len(errors["ignored"]) == sum(ignored)
    assert len(errors["right"]) == sum(matched) - sum(ignored) > 5


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="as many predictions as targets"):
        detection_errors([found()], [])
    for iou in (0.1, 1.1):
        with pytest.raises(ValueError, match="iou of 0.1 to 1"):
            detection_errors([found()], [truth()], iou=iou)
    with pytest.raises(ValueError, match=r"predictions\[0\]\['boxes'\]"):
        detection_errors([found([[9, 0, 1, 1]], scores=[0.9])], [truth()])
