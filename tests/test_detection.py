import copy
import io
import json
import math
import weakref
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors

from utils.data import make_loader, scenes
from utils.detection import (
    KINDS,
    NUMBERS,
    coco_evaluate,
    collate,
    detection_errors,
    evaluate_detections,
    match_detections,
    paste_masks,
    resampled_ap,
    train_detector_one_epoch,
)
from utils.runtime import has_fast_bfloat16

CPU, NAN = torch.device("cpu"), math.nan
TEN, FAR = [0.0, 0, 10, 10], [50.0, 50, 60, 60]
NEARBY = [0.0, 0, 10, 4]  # IoU with TEN: 0.4


def found(boxes=(), labels=(), scores=()):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return {
        "boxes": boxes,
        "labels": torch.tensor(labels or [1] * len(boxes), dtype=torch.int64),
        "scores": torch.tensor(scores or [0.5] * len(boxes), dtype=torch.float32),
    }


def truth(boxes=(), labels=(), **more):
    target = found(boxes, labels)
    del target["scores"]
    return target | {name: torch.tensor(values) for name, values in more.items()}


def random_case(seed, *, images=12, size=300.0):
    """Targets, and predictions near some; scores in steps, so that many are equal."""
    generator = torch.Generator().manual_seed(seed)
    predictions, targets = [], []
    for _ in range(images):
        n, extra = (
            int(torch.randint(0, high, (), generator=generator)) for high in (6, 5)
        )
        corner = torch.rand(n + extra, 2, generator=generator) * size
        side = torch.rand(n + extra, 2, generator=generator) ** 2 * 150 + 1
        boxes = torch.cat([corner, corner + side], 1)
        labels = torch.randint(1, 5, (n + extra,), generator=generator)
        crowd = (torch.rand(n, generator=generator) < 0.1).long()
        area = side[:n].prod(1) * 0.7
        targets.append(
            {"boxes": boxes[:n], "labels": labels[:n], "iscrowd": crowd, "area": area}
        )
        keep = torch.rand(n + extra, generator=generator) < 0.8
        moved = boxes + torch.randn(
            boxes.shape, generator=generator
        ) * 0.08 * side.repeat(1, 2)
        moved = torch.cat([moved[:, :2], torch.maximum(moved[:, :2], moved[:, 2:])], 1)
        scores = (torch.rand(n + extra, generator=generator) * 5).round() / 5
        predictions.append(
            {"boxes": moved[keep], "labels": labels[keep], "scores": scores[keep]}
        )
    return predictions, targets


def with_masks(one, size=128):
    """Add an ellipse in each box, as a mask on a canvas of size x (size + 20)."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size + 20), indexing="ij")
    middle, half = (
        ((one["boxes"][:, 2:] + sign * one["boxes"][:, :2]) / 2)[..., None, None]
        for sign in (1, -1)
    )
    distance = ((x - middle[:, 0]) / half[:, 0]) ** 2
    return one | {"masks": distance + ((y - middle[:, 1]) / half[:, 1]) ** 2 <= 1}


def with_keypoints(one, joints, seed):
    """Add keypoints at fixed places of each box, of which a third are not labelled."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(joints, 2, generator=torch.Generator().manual_seed(0))
    points = one["boxes"][:, None, :2] + places * (
        one["boxes"][:, None, 2:] - one["boxes"][:, None, :2]
    )
    shape = (len(points), joints, 1)
    points = points + torch.randn(*shape[:2], 2, generator=generator)
    visible = torch.randint(0, 3, shape, generator=generator).float()
    visible[:1] = 0  # nothing of the first is labelled: it does not count
    return one | {"keypoints": torch.cat([points, visible], 2)}


def entries(images, kind):
    """A dict in COCO's format for each thing in `images`."""
    listed = []
    for number, image in enumerate(images):
        for i, (x1, y1, x2, y2) in enumerate(image["boxes"].tolist()):
            entry = {
                "image_id": number + 7,
                "id": len(listed) + 1,
                "category_id": image["labels"][i].item(),
                "iscrowd": 0,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
            }
            for key in ("scores", "area", "iscrowd"):
                if key in image:
                    entry[key.removesuffix("s")] = image[key][i].item()
            if kind == "segm":
                mask = np.asfortranarray(image["masks"][i].numpy().astype(np.uint8))
                coded = rle.encode(mask)
                entry["segmentation"] = coded | {"counts": coded["counts"].decode()}
                entry["area"] = entry.get("area", int(mask.sum()))
            if kind == "keypoints":
                points = image["keypoints"][i]
                entry["keypoints"] = points.double().flatten().tolist()
                entry["num_keypoints"] = int((points[:, 2] > 0).sum())
            if kind != "bbox" and "scores" in image:
                del entry["bbox"], entry["id"]
                entry.pop("area", None)  # pycocotools has to take it from the shapes
            listed.append(entry)
    return listed


def by_pycocotools(predictions, targets, labels, folder, kind="bbox", sigmas=None):
    """What pycocotools says when it reads everything from its own files."""
    size = {"height": 128, "width": 148}
    content = {
        "images": [{"id": number + 7, **size} for number in range(len(targets))],
        "categories": [{"id": label, "name": str(label)} for label in labels],
        "annotations": entries(targets, kind),
    }
    (folder / "truth.json").write_text(json.dumps(content))
    (folder / "results.json").write_text(json.dumps(entries(predictions, kind)))
    with redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / "truth.json"))
        judge = COCOeval(coco, coco.loadRes(str(folder / "results.json")), kind)
        if sigmas is not None:
            judge.params.kpt_oks_sigmas = np.array(sigmas)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge


def same(value, expected):
    return value == expected or (math.isnan(value) and expected == -1)


def flat(result):
    """All numbers of a result, which `approx` compares; a class under its own name."""
    classes = {f"class {name}": ap for name, ap in result["per_class"].items()}
    return {**{name: result[name] for name in NUMBERS}, **classes}


# Judged as COCO does.


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("seed", range(4))
def test_boxes_equal_pycocotools_on_its_own_files(seed, tmp_path, capsys):
    predictions, targets = random_case(seed)
    names = {label: f"class {label}" for label in range(1, 6)}  # class 5 does not occur
    judge = by_pycocotools(predictions, targets, names, tmp_path)
    result = evaluate_detections(predictions, targets, categories=names)
    for name, expected in zip(NUMBERS, judge.stats, strict=False):
        assert same(result[name], expected), name
    for k, name in enumerate(names.values()):
        precision = judge.eval["precision"][:, :, k, 0, 2]
        value = result["per_class"][name]
        assert value == pytest.approx(precision.mean(), abs=1e-12) or (
            math.isnan(value) and k == 4
        )
    assert 0.05 < result["map"] < result["ap50"] < 1 and capsys.readouterr() == ("", "")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("given", [("area", "iscrowd"), ("iscrowd",), ()])
def test_masks_equal_pycocotools_on_its_own_files(given, tmp_path):
    predictions, targets = random_case(1, images=25, size=60.0)
    predictions, targets = (
        [with_masks(one) for one in group] for group in (predictions, targets)
    )
    for target in targets:
        for key in {"area", "iscrowd"} - set(given):
            del target[key]
    judge = by_pycocotools(predictions, targets, range(1, 5), tmp_path, "segm")
    result = evaluate_detections(predictions, targets, kind="masks")
    assert all(map(same, (result[name] for name in NUMBERS), judge.stats))
    assert 0.1 < result["map"] < 0.9
    assert result["map"] != evaluate_detections(predictions, targets)["map"]
    # boxes are not needed, and torchvision's Mask R-CNN returns [n, 1, H, W] floats
    for one in predictions:
        del one["boxes"]
        one["masks"] = torch.where(one["masks"], 0.51, 0.5)[:, None]
    again = evaluate_detections(predictions, targets, kind="masks")
    assert flat(again) == pytest.approx(flat(result), nan_ok=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("sigmas", [None, [0.05, 0.1, 0.02, 0.2, 0.3]])
def test_keypoints_equal_pycocotools_on_its_own_files(sigmas, tmp_path):
    predictions, targets = random_case(2, images=25, size=100.0)
    joints = 17 if sigmas is None else len(sigmas)
    predictions, targets = (
        [with_keypoints(one, joints, k) for k, one in enumerate(group)]
        for group in (predictions, targets)
    )
    judge = by_pycocotools(
        predictions, targets, range(1, 5), tmp_path, "keypoints", sigmas
    )
    result = evaluate_detections(
        predictions, targets, kind="keypoints", oks_sigmas=sigmas
    )
    judged = [result[name] for name in NUMBERS if name != "map_small"]
    assert all(map(same, judged, judge.stats)) and math.isnan(result["map_small"])
    assert 0.02 < result["map"] < 0.98
    per_class = judge.eval["precision"][:, :, :, 0, 0].mean((0, 1))
    assert list(result["per_class"].values()) == pytest.approx(per_class.tolist())


def test_keypoints_by_hand():
    """Off by d, a keypoint counts exp(-d^2 / (8 s^2 area)) to the similarity."""
    target = truth([[0, 0, 50, 50]], area=[2500.0])
    target["keypoints"] = torch.tensor([[[10.0, 10, 2], [40, 40, 1], [0, 0, 0]]])
    guess = {"labels": torch.tensor([1]), "scores": torch.tensor([0.5])}
    # a similarity of (1 + 0.42) / 2 = 0.71: good from 0.50 to 0.70
    off = math.sqrt(-8 * 0.1**2 * 2500 * math.log(0.42))
    guess["keypoints"] = torch.tensor([[[10.0, 10, 1], [40 + off, 40, 1], [99, 99, 1]]])
    result = evaluate_detections(
        [guess], [target], kind="keypoints", oks_sigmas=[0.1, 0.1, 0.1]
    )
    assert [result["map"], result["map_medium"]] == pytest.approx([0.5, 0.5])


def test_ap_by_hand():
    targets = [truth([TEN, FAR]), truth([TEN])]
    # Right, wrong, right, in the order of scores: precision 1 up to recall 1/3, 2/3 up
    # to 2/3, 0 beyond.
    predictions = [
        found([TEN, [80, 80, 90, 90]], scores=[0.9, 0.8]),
        found([TEN], scores=[0.7]),
    ]
    result = evaluate_detections(
        predictions, targets, categories=["background", "thing"]
    )
    expected = (34 * 1 + 33 * 2 / 3) / 101
    for value in (*map(result.get, NUMBERS[:4]), result["per_class"]["thing"]):
        assert value == pytest.approx(expected)
    assert math.isnan(result["map_medium"]) and math.isnan(result["map_large"])


def test_iou_thresholds_by_hand():
    # IoU 0.76: good from 0.50 to 0.75
    result = evaluate_detections([found([[0, 0, 10, 7.6]])], [truth([TEN])])
    assert result["map"] == pytest.approx(0.6)
    assert [result["ap50"], result["ap75"]] == pytest.approx([1, 1])
    assert result["per_class"] == {1: pytest.approx(0.6)}


def test_an_object_counts_once():
    targets = [truth([TEN, FAR])]
    twice = [found([TEN, TEN, FAR], scores=[0.9, 0.8, 0.7])]
    expected = (51 + 50 * 2 / 3) / 101
    assert evaluate_detections(twice, targets)["ap50"] == pytest.approx(expected)


def test_a_hundred_detections_of_a_class_count_in_an_image():
    """Of 14 objects all are found: by 10 detections an image only 10 of them would."""
    boxes = [[20.0 * k, 0, 20 * k + 10, 10] for k in range(14)]
    result = evaluate_detections([found(boxes)], [truth(boxes)])
    assert [result["map"], result["per_class"][1]] == pytest.approx([1, 1])


def test_sizes_go_by_area_where_it_is_given():
    box = [[0, 0, 40, 40]]
    result = evaluate_detections([found(box)], [truth(box)])
    assert result["map_medium"] == pytest.approx(1)
    result = evaluate_detections([found(box)], [truth(box, area=[900.0])])
    assert result["map_small"] == pytest.approx(1) and math.isnan(result["map_medium"])


def test_a_crowd_is_neither_missed_nor_wrong():
    crowd = [50, 50, 90, 90]
    inside = found([TEN, [55, 55, 65, 65], [70, 70, 80, 80]], scores=[0.3, 0.9, 0.8])
    maps = [
        evaluate_detections([inside], [truth([TEN, crowd], iscrowd=[0, marked])])["map"]
        for marked in (1, 0)
    ]
    assert maps[0] == pytest.approx(1) and maps[1] < 0.4


def test_nothing_found_and_nothing_there():
    assert evaluate_detections([found()], [truth([TEN])])["map"] == 0
    both = evaluate_detections([found([TEN]), found()], [truth([TEN]), truth()])
    assert both["map"] == pytest.approx(1)
    wrong = evaluate_detections(
        [found([TEN], scores=[0.4]), found([TEN])], [truth([TEN]), truth()]
    )
    assert wrong["map"] == pytest.approx(0.5)
    for predictions in ([found()], [found([TEN])]):
        result = evaluate_detections(
            predictions, [truth()], categories=["background", "a", "b"]
        )
        assert all(math.isnan(result[name]) for name in NUMBERS)
        assert list(result["per_class"]) == ["a", "b"]
        assert all(map(math.isnan, result["per_class"].values()))
    assert math.isnan(evaluate_detections([found()], [truth()])["map"])
    for empty in (torch.zeros(0, 5, 5), torch.zeros(0, 1, 5, 5)):
        nothing, there = ({**found(), "masks": empty}, {**truth(), "masks": empty})
        result = evaluate_detections([nothing], [there], kind="masks")
        assert math.isnan(result["map"])


def test_a_class_without_truth_does_not_count():
    boxes = [[0, 0, 10, 10], [20, 20, 30, 30]]
    prediction, target = found(boxes, [1, 3], [0.5, 0.9]), truth(boxes[:1])
    result = evaluate_detections(
        [prediction], [target], categories=["background", "a", "b", "c"]
    )
    assert [result["map"], result["per_class"]["a"]] == pytest.approx([1, 1])
    assert math.isnan(result["per_class"]["b"]) and math.isnan(result["per_class"]["c"])
    assert list(evaluate_detections([prediction], [target])["per_class"]) == [1, 3]


def test_scores_keep_their_last_digits():
    # equal in float32: then the order decides
    scores = torch.tensor([0.5, 0.5 + 1e-12], dtype=torch.float64)
    one = found([FAR, TEN]) | {"scores": scores}
    assert evaluate_detections([one], [truth([TEN])])["ap50"] == pytest.approx(1)
    one["scores"] = scores.flip(0)
    result = evaluate_detections([one], [truth([TEN])])
    assert result["ap50"] == pytest.approx(0.5, abs=0.01)


def masked(one, masks):
    return one | {"masks": torch.as_tensor(masks)}


SQUARE, ONE, THERE = torch.zeros(1, 8, 8), found([TEN]), truth([TEN])
POINTS = {"keypoints": torch.zeros(1, 17, 3)}
CLASSES = {"categories": ["background", "thing"]}
BOTH = {"kind": "keypoints"}
WRONG = [
    ([ONE], [], {}, "as many predictions as targets"),
    ([], [], {}, "as many predictions as targets"),
    ([ONE, ONE], [THERE], {}, "as many predictions as targets"),
    ([ONE], [THERE], {"kind": "mask"}, "one of boxes, masks, keypoints, got 'mask'"),
    ([found([TEN], [0])], [THERE], CLASSES, r"labels \[0\], the categories are \[1\]"),
    ([THERE], [THERE], {}, r"predictions\[0\] has no 'scores'"),
    ([found([TEN], scores=[0.5, 0.6])], [THERE], {}, r"must be a tensor \[1\]"),
    ([ONE | {"scores": [0.5]}], [THERE], {}, r"tensor \[1\], got list"),
    ([ONE | {"boxes": torch.zeros(1, 5)}], [THERE], {}, r"\[1, 4\]"),
    ([found([[9, 0, 1, 5]])], [THERE], {}, "boxes of the predictions.*x1 <= x2"),
    ([ONE], [truth([[9, 0, 1, 5]])], {}, "boxes of the targets.*x1 <= x2"),
    ([found([TEN], scores=[NAN])], [THERE], {}, "1 scores .* not finite"),
    ([ONE | {"labels": torch.tensor([1.5])}], [THERE], {}, "labels .* whole.* 1.5"),
    ([ONE], [THERE | {"labels": torch.tensor([NAN])}], {}, "targets must be whole"),
    ([ONE], [truth([TEN], area=[NAN])], {}, "area of the targets must be finite"),
    ([ONE], [truth([TEN], area=[-9.0])], {}, "area of the targets must be finite"),
    ([ONE], [truth([TEN], area=[math.inf])], {}, "area of the targets must be finite"),
    ([ONE], [truth([TEN], iscrowd=[2])], {}, "iscrowd .* 0 or 1"),
    ([ONE], [truth([TEN], iscrowd=[0.5])], {}, "iscrowd .* whole numbers"),
    ([ONE, ONE], [truth([TEN], area=[9.0]), THERE], {}, r"targets\[1\] has no 'area'"),
    ([ONE], [THERE], {"categories": ["", "a", "a"]}, "a name of its own"),
    ([ONE], [THERE], {"kind": "masks"}, "has no 'masks': it holds boxes, labels"),
    ([masked(ONE, SQUARE[0])], [THERE], {"kind": "masks"}, r"got \[8, 8\]"),
    ([masked(ONE, SQUARE - 3)], [THERE], {"kind": "masks"}, "`sigmoid`"),
    ([masked(ONE, SQUARE + 255)], [THERE], {"kind": "masks"}, "with 0 and 1"),
    ([masked(ONE, SQUARE * NAN)], [THERE], {"kind": "masks"}, "0 and 1"),
    ([ONE | {"masks": [[1]]}], [THERE], {"kind": "masks"}, "a tensor.*got list"),
    (
        [masked(ONE, torch.cat([SQUARE, SQUARE]))],
        [masked(THERE, SQUARE)],
        {"kind": "masks"},
        r"predictions\[0\]\['labels'\] must be a tensor \[2\]",
    ),
    (
        [masked(ONE, SQUARE)],
        [masked(THERE, SQUARE[:, :4])],
        {"kind": "masks"},
        r"masks of image 0 differ in \(height, width\), \[\(4, 8\), \(8, 8\)\]",
    ),
    ([ONE | POINTS], [THERE], BOTH, r"targets\[0\] has no 'keypoints'"),
    (
        [ONE | POINTS],
        [THERE | {"keypoints": torch.zeros(1, 17, 2)}],
        BOTH,
        r"tensor \[1, 17, 3\], got \[1, 17, 2\]; other keypoints .* `oks_sigmas`",
    ),
    ([ONE | POINTS], [THERE | POINTS], BOTH | {"oks_sigmas": [0.1] * 5}, r"\[1, 5, 3"),
    ([ONE | POINTS], [THERE | POINTS], BOTH | {"oks_sigmas": [0] * 17}, "a positive"),
    ([ONE | POINTS], [THERE | {"keypoints": torch.ones(1, 17, 3) * 9}], BOTH, "hidden"),
    (
        [ONE | {"keypoints": torch.full((1, 17, 3), NAN)}],
        [THERE | POINTS],
        BOTH,
        "keypoints of the predictions must be finite",
    ),
]


@pytest.mark.parametrize(("predictions", "targets", "options", "message"), WRONG)
def test_what_cannot_be_judged_is_refused(predictions, targets, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate_detections(predictions, targets, **options)


def test_other_types_are_refused():
    for function in (evaluate_detections, detection_errors):
        with pytest.raises(TypeError, match="predictions must be a list with one dict"):
            function(ONE, THERE)
        with pytest.raises(TypeError, match="targets must be a list with one dict"):
            function([ONE], [THERE["boxes"]])
        with pytest.raises(TypeError, match="targets must be a list"):
            function([ONE], iter([THERE]))
    with pytest.raises(TypeError, match="a list of names, got 'thing'"):
        evaluate_detections([ONE], [THERE], categories="thing")


# Kinds of errors.


def kinds(predictions, targets, **options):
    """The kinds that occur, with their cases."""
    errors = detection_errors(predictions, targets, **options)
    assert errors.keys() == {*KINDS, "missed"}
    assert all(
        cases.dtype == torch.int64 and cases.shape[1] == 2 for cases in errors.values()
    )
    return {kind: cases.tolist() for kind, cases in errors.items() if len(cases)}


CASES = {
    "right": (found([TEN]), truth([TEN]), {"right": [[0, 0]]}),
    "missed": (found(), truth([TEN]), {"missed": [[0, 0]]}),
    "nothing": (found(), truth(), {}),
    "doubled": (
        found([TEN, TEN], [1, 1], [0.8, 0.9]),
        truth([TEN]),
        {"right": [[0, 1]], "doubled": [[0, 0]]},
    ),
    # two more boxes than objects: the two worst are the duplicates, whatever they fit
    "doubled, of several": (
        found([TEN, FAR, TEN, FAR], scores=[0.6, 0.9, 0.8, 0.7]),
        truth([TEN, FAR]),
        {"right": [[0, 1], [0, 2]], "doubled": [[0, 3], [0, 0]]},
    ),
    "confused": (found([TEN], [2]), truth([TEN]), {"confused": [[0, 0]]}),
    "misplaced": (found([NEARBY]), truth([TEN]), {"misplaced": [[0, 0]]}),
    "both": (
        found([NEARBY], [2]),
        truth([TEN]),
        {"confused_and_misplaced": [[0, 0]], "missed": [[0, 0]]},
    ),
    "background": (
        found([FAR]),
        truth([TEN]),
        {"background": [[0, 0]], "missed": [[0, 0]]},
    ),
    "background of an empty image": (found([FAR]), truth(), {"background": [[0, 0]]}),
    "misplaced before confused": (
        found([NEARBY]),
        truth([TEN, NEARBY], [1, 2]),
        {"misplaced": [[0, 0]], "missed": [[0, 1]]},
    ),
    "confused before doubled": (
        found([TEN, TEN], scores=[0.9, 0.8]),
        truth([TEN, TEN], [1, 2]),
        {"right": [[0, 0]], "confused": [[0, 1]]},
    ),
    "in a crowd": (
        found([[2, 2, 4, 4], FAR], scores=[0.9, 0.8]),
        truth([TEN, FAR], iscrowd=[1, 0]),
        {"ignored": [[0, 0]], "right": [[0, 1]]},
    ),
    "a point beside a crowd": (
        found([[30, 30, 30, 30]]),
        truth([TEN], iscrowd=[1]),
        {"background": [[0, 0]]},
    ),
    "in a crowd of another class": (
        found([[2, 2, 4, 4]], [2]),
        truth([TEN], iscrowd=[1]),
        {"background": [[0, 0]]},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_kind_of_error(case):
    prediction, target, expected = CASES[case]
    assert kinds([prediction], [target]) == expected
    shifted = {
        kind: [[1, index] for _, index in pairs] for kind, pairs in expected.items()
    }
    assert kinds([found(), prediction], [truth(), target]) == shifted


def test_thresholds_of_errors():
    prediction = found([NEARBY, TEN], [1, 1], [0.6, 0.3])
    assert kinds([prediction], [truth([TEN])]) == {"misplaced": [[0, 0]]}
    assert kinds([prediction], [truth([TEN])], iou=0.4) == {"right": [[0, 0]]}
    expected = {"right": [[0, 1]], "misplaced": [[0, 0]]}
    assert kinds([prediction], [truth([TEN])], score_threshold=0.3) == expected
    tenth = found([[0, 0, 10, 1]])
    assert kinds([tenth], [truth([TEN])])["misplaced"] == [[0, 0]]  # from 0.1 on


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
            one |= {
                "boxes": one["boxes"].repeat(3, 1),
                "labels": labels,
                "scores": one["scores"].repeat(3),
            }
        errors = detection_errors(predictions, targets, score_threshold=0.4)
        cases = torch.cat([errors[kind] for kind in KINDS])
        assert sorted(map(tuple, cases.tolist())) == [
            (i, j)
            for i, one in enumerate(predictions)
            for j, score in enumerate(one["scores"])
            if score >= 0.4
        ]
        for image, index in errors["missed"].tolist():
            assert targets[image]["iscrowd"][index] == 0
        counts = {kind: count + len(errors[kind]) for kind, count in counts.items()}
    assert min(counts.values()) > 5, counts


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("seed", range(4))
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


WRONG_ERRORS = [
    ([ONE], [], {}, "as many predictions as targets"),
    *[
        ([ONE], [THERE], {"iou": value}, "iou of 0.1 to 1")
        for value in (0.1, 1.1, 50, NAN)
    ],
    *[
        ([ONE], [THERE], {"score_threshold": value}, "score_threshold of 0 to 1")
        for value in (-0.1, 50, NAN)
    ],
    ([found([[9, 0, 1, 1]])], [THERE], {}, "boxes of the predictions"),
    ([ONE], [truth([[9, 0, 1, 1]])], {}, "boxes of the targets"),
    ([found([TEN], scores=[NAN])], [THERE], {}, "scores .* not NaN"),
    ([found([TEN], scores=[90.0])], [THERE], {}, "divide percentages by 100"),
    ([ONE | {"labels": torch.tensor([0.5])}], [THERE], {}, "whole numbers, got 0.5"),
    ([THERE], [THERE], {}, r"predictions\[0\] has no 'scores'"),
]


@pytest.mark.parametrize(("predictions", "targets", "options", "message"), WRONG_ERRORS)
def test_errors_of_what_does_not_fit_are_refused(
    predictions, targets, options, message
):
    with pytest.raises(ValueError, match=message):
        detection_errors(predictions, targets, **options)


# Detectors.


class Flats(Dataset):
    """Flat grey images of several sizes, each with as many objects as its number."""

    classes = ["background", "a", "b"]

    def __init__(self, count=7):
        self.targets = []
        for number in range(count):
            boxes = [[4.0 * k, 2, 4 * k + 3, 6] for k in range(number % 4)]
            self.targets.append(truth(boxes, [k % 2 + 1 for k in range(number % 4)]))

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, number):
        image = torch.full((3, 20, 20 + number), 10 * number, dtype=torch.uint8)
        return image, self.targets[number]


class Detector(nn.Module):
    """Knows the truth by the grey of an image, and tells it in evaluation mode."""

    def __init__(self, targets, kind="boxes"):
        super().__init__()
        self.layer, self.norm = nn.Linear(2, 3), nn.BatchNorm2d(3)
        self.norm.eval()  # frozen, as detectors have it
        self.targets, self.kind = targets, kind
        self.seen, self.forgotten = [], set()

    def forward(self, images, targets=None):
        assert isinstance(images, list) and all(
            image.dtype == torch.float32 for image in images
        )
        if self.training:
            factor = self.layer.weight.square().sum()
            boxes = sum(len(target["boxes"]) for target in targets) / len(targets)
            return {"a": factor * boxes, "b": factor * 0 + 2}
        assert not torch.is_grad_enabled() and not self.norm.training
        numbers = [round(float(image.mean()) * 25.5) for image in images]
        self.seen.append(numbers)
        outputs = []
        for number in numbers:
            target = self.targets[number]
            keep = slice(0, 0) if number in self.forgotten else slice(None)
            output = {name: target[name][keep] for name in (self.kind, "labels")}
            outputs.append({**output, "scores": torch.ones(len(output["labels"]))})
        return outputs


def loader_of(dataset, batch_size=3, **options):
    return DataLoader(dataset, batch_size, collate_fn=collate, **options)


def test_coco_evaluate_judges_every_image_and_leaves_the_model_as_it_was():
    dataset = Flats()
    model = Detector(dataset.targets)
    weights = copy.deepcopy(model.state_dict())
    result = coco_evaluate(model, loader_of(dataset), device=CPU)
    assert [result["map"], result["ap50"]] == pytest.approx([1, 1])
    assert set(result["per_class"]) == {"a", "b"} and result["parameters"] == 15
    # the first batch warms up, the last is short
    assert model.seen == [[0, 1, 2], [0, 1, 2], [3, 4, 5], [6]]
    assert model.training and model.layer.training and not model.norm.training
    assert all(
        torch.equal(weights[name], value) for name, value in model.state_dict().items()
    )
    assert next(model.parameters()).requires_grad and torch.is_grad_enabled()
    model.forgotten = {6}  # found in the last batch, or not
    assert 0.5 < coco_evaluate(model, loader_of(dataset), device=CPU)["map"] < 0.9


def test_coco_evaluate_takes_every_kind_of_loader(sample_data):
    dataset, _ = scenes(6, 1)
    for k, image in enumerate(dataset.images):
        image[:] = 10 * k
    targets = [target for _, target in dataset]
    model = Detector(targets).eval()
    model.forgotten = {0, 4}
    predictions = [
        found() if k in model.forgotten else target | {"scores": torch.ones(len(boxes))}
        for k, target in enumerate(targets)
        for boxes in [target["boxes"]]
    ]
    expected = evaluate_detections(predictions, targets, categories=dataset.classes)
    assert 0.2 < expected["map"] < 0.8
    loaders = {
        "shuffled, [B, 3, H, W]": make_loader(dataset, 4, shuffle=True),
        "uint8 batches": [dataset[[0, 1, 2, 3]], dataset[[4, 5]]],
        "lists of images": loader_of(list(dataset)),
    }
    for name, loader in loaders.items():
        result = coco_evaluate(model, loader, device=CPU, categories=dataset.classes)
        assert flat(result) == pytest.approx(flat(expected), nan_ok=True), name
        assert not model.training
    names = coco_evaluate(model, loaders["shuffled, [B, 3, H, W]"], device=CPU)
    assert list(names["per_class"]) == dataset.classes[1:]
    labels = coco_evaluate(model, loaders["uint8 batches"], device=CPU)["per_class"]
    assert set(labels) == {label for t in targets for label in t["labels"].tolist()}


def test_coco_evaluate_hands_on_areas_and_crowds():
    dataset = Flats()
    for target in dataset.targets:  # every other object is a crowd
        n = len(target["boxes"])
        target["iscrowd"] = torch.arange(n) % 2
        target["area"] = torch.full((n,), 2000.0)
    model, loader = Detector(dataset.targets), loader_of(dataset)
    result = coco_evaluate(model, loader, device=CPU)
    # all of class b are crowds, none of which has to be found
    assert [result["map"], result["map_medium"]] == pytest.approx([1, 1])
    assert math.isnan(result["per_class"]["b"]) and math.isnan(result["map_small"])


def test_coco_evaluate_judges_masks_without_keeping_them():
    dataset = Flats()
    for target in dataset.targets:
        target["masks"] = tv_tensors.Mask(with_masks(target, size=20)["masks"])
    alive = []

    class MaskRCNN(Detector):
        """As torchvision's: masks are probabilities [n, 1, H, W]."""

        def forward(self, images):
            # the last call's are still in the hands of its caller
            assert sum(one() is not None for one in alive[:-3]) == 0
            outputs = super().forward(images)
            for one in outputs:
                one["masks"] = (one["masks"] * 0.6)[:, None].clone()
                alive.append(weakref.ref(one["masks"]))
            return outputs

    model = MaskRCNN(dataset.targets, "masks")
    result = coco_evaluate(model, loader_of(dataset), device=CPU, kind="masks")
    assert result["map"] == pytest.approx(1) and len(alive) == 3 + 7
    model.forgotten = {3}
    result = coco_evaluate(model, loader_of(dataset), device=CPU, kind="masks")
    assert result["per_class"]["a"] == pytest.approx(0.6, abs=0.1)


def test_coco_evaluate_judges_keypoints():
    dataset = Flats()
    dataset.targets = [
        with_keypoints(target, 4, seed) | {"area": torch.full_like(boxes[:, 0], 2000)}
        for seed, target in enumerate(dataset.targets)
        for boxes in [target["boxes"]]
    ]
    model, loader = Detector(dataset.targets, "keypoints"), loader_of(dataset)
    options = {"device": CPU, "kind": "keypoints", "oks_sigmas": [0.1] * 4}
    result = coco_evaluate(model, loader, **options)
    assert [result["map"], result["map_medium"]] == pytest.approx([1, 1])
    with pytest.raises(ValueError, match="`oks_sigmas`"):
        coco_evaluate(model, loader, device=CPU, kind="keypoints")


def test_the_time_is_the_mean_over_all_images_without_the_first_call(monkeypatch):
    """By a clock that only the model moves: 1 s to warm up, then 5, 30 and 100 ms."""
    now, steps = [0.0], iter([1.0, 0.005, 0.030, 0.100])
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    class Slow(Detector):
        def forward(self, images):
            now[0] += next(steps)
            return super().forward(images)

    dataset = Flats()
    result = coco_evaluate(Slow(dataset.targets), loader_of(dataset), device=CPU)
    assert result["milliseconds_per_picture"] == pytest.approx(135 / 7)


class Returns(nn.Module):
    """Returns the same whatever comes."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs, self.weight = outputs, nn.Parameter(torch.ones(1))

    def forward(self, images, targets=None):
        return self.outputs


def test_coco_evaluate_refuses_what_is_no_detector():
    loader = loader_of(Flats(3))
    for outputs in (torch.zeros(3, 10), [found()] * 2, [truth()] * 3, {"boxes": 1}):
        model = Returns(outputs)
        with pytest.raises(
            TypeError, match="a detector returns 3 dicts of boxes, labels, scores"
        ):
            coco_evaluate(model, loader, device=CPU)
        assert model.training
    with pytest.raises(TypeError, match="3 dicts of masks, labels, scores"):
        coco_evaluate(Returns([found()] * 3), loader, device=CPU, kind="masks")
    with pytest.raises(ValueError, match="kind must be one of"):
        coco_evaluate(Returns([]), loader, device=CPU, kind="segm")


IMAGE = torch.zeros(3, 8, 8)
WRONG_LOADERS = {
    "nothing": ([], "no batch"),
    "images only": ([IMAGE[None]], "collate_fn=collate"),
    "a classifier's": ([(IMAGE[None], torch.tensor([1]))], "collate_fn=collate"),
    "stacked targets": (
        DataLoader([(IMAGE, truth([TEN]))] * 2, batch_size=2),
        "collate_fn=collate",
    ),
    "targets missing": ([([IMAGE] * 2, [truth()])], "as many targets"),
    "int64": ([([IMAGE.long()], [truth()])], "uint8 or float"),
    "floats up to 255": ([([IMAGE + 255], [truth()])], r"in \[0, 1\].* up to 255"),
    "NaN": ([([IMAGE * NAN], [truth()])], "up to nan"),
    "[H, W]": ([([IMAGE[0].byte()], [truth()])], r"must be \[3, H, W\]"),
}


@pytest.mark.parametrize("loader", WRONG_LOADERS)
def test_a_loader_of_something_else_is_refused(loader):
    batches, message = WRONG_LOADERS[loader]
    model = Detector([truth()])
    with pytest.raises(ValueError, match=message):
        coco_evaluate(model, batches, device=CPU)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with pytest.raises(ValueError, match=message):
        train_detector_one_epoch(model, batches, optimizer=optimizer, device=CPU)


def test_collate_keeps_images_of_any_size():
    pairs = [(torch.zeros(3, 4, 5), truth()), (torch.ones(3, 6, 7), truth([TEN]))]
    images, targets = collate(pairs)
    assert images == [pairs[0][0], pairs[1][0]]
    assert targets == [pairs[0][1], pairs[1][1]]


def test_training_steps_and_means_over_images():
    model = Detector([]).eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    with torch.no_grad():
        model.layer.weight.fill_(1.0)
    batches = list(loader_of(Flats(4)))  # 3 images with 3 boxes, and one with 3
    factor, total = 6.0, 0.0
    for (_, targets), rate in zip(batches, (0.01, 0.005), strict=True):
        boxes = sum(len(target["boxes"]) for target in targets)
        total += factor * boxes
        factor *= (1 - 2 * rate * boxes / len(targets)) ** 2
    losses = train_detector_one_epoch(
        model, batches, optimizer=optimizer, device=CPU, scheduler=scheduler
    )
    assert losses == pytest.approx({"loss": total / 4 + 2, "a": total / 4, "b": 2})
    assert model.layer.weight.square().sum().item() == pytest.approx(factor, rel=1e-5)
    assert model.training and optimizer.param_groups[0]["lr"] == 0.0025
    before = model.layer.weight.detach().clone()
    train_detector_one_epoch(
        model, batches[1:], optimizer=optimizer, device=CPU, max_norm=1.0
    )
    moved = (model.layer.weight - before).norm().item()
    assert moved == pytest.approx(0.0025, rel=1e-3)


@pytest.mark.parametrize("amp", [False, True])
def test_training_in_low_precision_takes_the_weights_of_each_step(amp):
    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1, 1, bias=False)
            self.seen = []

        def forward(self, images, targets):
            self.seen.append(torch.is_autocast_enabled("cpu"))
            out = self.layer(torch.ones(1, 1))
            self.seen.append(out.item())
            return {"loss": out.sum()}

    model = Detector()
    image = torch.zeros(1, 3, 8, 8)
    loader = [(image, [truth([TEN])])] * 3
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    train_detector_one_epoch(model, loader, optimizer=optimizer, device=CPU, amp=amp)
    assert model.seen[::2] == 3 * [amp and has_fast_bfloat16(CPU)]
    first, second, third = model.seen[1::2]
    assert first - second == pytest.approx(0.5, abs=0.02)
    assert second - third == pytest.approx(0.5, abs=0.02)


def test_training_refuses_what_cannot_learn():
    model, batches = Detector([]), list(loader_of(Flats(2)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with pytest.raises(ValueError, match="no parameter of this model"):
        train_detector_one_epoch(Detector([]), batches, optimizer=optimizer, device=CPU)
    with pytest.raises(TypeError, match="a dict of losses, got list"):
        wrong = Returns([found()] * 2)
        optimizer_of_wrong = torch.optim.SGD(wrong.parameters(), lr=0.01)
        train_detector_one_epoch(
            wrong, batches, optimizer=optimizer_of_wrong, device=CPU
        )
    with torch.no_grad():
        model.layer.weight.fill_(torch.inf)
    with pytest.raises(FloatingPointError, match="step 1"):
        train_detector_one_epoch(model, batches, optimizer=optimizer, device=CPU)
    assert model.layer.weight.isinf().all()


# AP of images that are drawn with replacement.


def without_crowds(seed):
    """A random case with whole classes, and scores that are all different."""
    predictions, targets = random_case(seed)
    generator = torch.Generator().manual_seed(seed)
    for one in predictions:
        one["scores"] = torch.rand(len(one["scores"]), generator=generator)
    for one in targets:
        del one["iscrowd"], one["area"]
    return predictions, targets


@pytest.mark.parametrize("kind", ["boxes", "masks"])
@pytest.mark.parametrize("seed", range(4))
def test_the_first_ap_is_that_of_pycocotools_at_each_threshold(kind, seed):
    predictions, targets = without_crowds(seed)
    if kind == "masks":
        predictions, targets = (
            [with_masks(one) for one in many] for many in (predictions, targets)
        )
    taken = match_detections(predictions, targets, kind=kind)
    stated = evaluate_detections(predictions, targets, kind=kind)
    ap = resampled_ap(predictions, targets, taken, resamples=0)
    assert ap.shape == (1, 10)
    # pycocotools misses a recall that is reached exactly: 3 / 5 < linspace's 0.6
    assert -1e-6 < ap.mean().item() - stated["map"] < 1e-3
    assert -1e-6 < ap[0, 0].item() - stated["ap50"] < 3e-3
    assert -1e-6 < ap[0, 5].item() - stated["ap75"] < 3e-3


def test_a_draw_is_the_ap_of_the_images_drawn():
    predictions, targets = without_crowds(5)
    taken = match_detections(predictions, targets)
    ap = resampled_ap(predictions, targets, taken, resamples=5, seed=3)
    draws = torch.Generator().manual_seed(3)
    for row, drawn in enumerate(torch.randint(12, (5, 12), generator=draws).tolist()):
        some = [[many[i] for i in drawn] for many in (predictions, targets)]
        stated = evaluate_detections(*some)
        assert -1e-6 < ap[1 + row].mean().item() - stated["map"] < 1e-3


def test_matching_by_hand():
    # the better one of its class comes second in the list, and takes the object
    predictions = [found([NEARBY, TEN, TEN], [1, 1, 2], [0.5, 0.9, 0.95])]
    targets = [truth([TEN], [1])]
    taken = match_detections(predictions, targets, thresholds=[0.3, 0.4, 0.5, 1.0])
    assert taken[0].tolist() == [[-1] * 4, [0] * 4, [-1] * 4]
    taken = match_detections([found([NEARBY])], targets, thresholds=[0.3, 0.41])
    assert taken[0].tolist() == [[0, -1]]
    nothing = match_detections([found()], [truth()])
    assert nothing[0].shape == (0, 10)
    assert match_detections([found([TEN])], [truth()])[0].tolist() == [[-1] * 10]


def test_masks_of_probabilities_are_matched_above_one_half():
    probable = torch.zeros(1, 1, 4, 4)
    probable[..., :2] = 0.7
    probable[..., 2:] = 0.4  # no part of the mask
    half = torch.zeros(1, 4, 4, dtype=torch.bool)
    half[..., :2] = True
    label = torch.tensor([1])
    predictions = [{"labels": label, "scores": torch.ones(1), "masks": probable}]
    targets = [{"labels": label, "masks": half}]
    taken = match_detections(predictions, targets, kind="masks", thresholds=[1.0])
    assert taken[0].tolist() == [[0]]


def test_objects_that_do_not_count_are_neither_missed_nor_wrong():
    predictions = [found([TEN, FAR, NEARBY], scores=[0.9, 0.8, 0.7])]
    targets = [truth([TEN, FAR])]
    taken = match_detections(predictions, targets, thresholds=[0.5])
    options = {"resamples": 0}
    first, second, none = (
        [torch.tensor(some)] for some in ([True, False], [False, True], [False, False])
    )
    ap = resampled_ap(predictions, targets, taken, counted=first, **options)
    assert ap.item() == 1  # FAR is left out, NEARBY comes after the object
    ap = resampled_ap(predictions, targets, taken, counted=second, **options)
    assert ap.item() == 1
    assert resampled_ap(predictions, targets, taken, **options).item() == 1
    ap = resampled_ap(predictions, targets, taken, counted=none, **options)
    assert ap.isnan().all()
    # a detection that takes nothing is wrong whatever is counted; the one object that
    # is counted stands for both
    predictions[0]["scores"] = torch.tensor([0.6, 0.8, 0.7])
    taken = [torch.tensor([[0], [1], [-1]])]
    ap = resampled_ap(predictions, targets, taken, counted=first, **options)
    assert ap.item() == pytest.approx(2 / 3)


def test_a_random_half_of_the_objects_has_the_ap_of_all():
    """Without the normalisation it would be far below: half against all mistakes."""
    generator = torch.Generator().manual_seed(0)
    n = 2000
    labels, scores = (
        torch.ones(n, dtype=torch.int64),
        torch.rand(n, generator=generator),
    )
    right = torch.rand(n, generator=generator) < scores
    taken = [torch.where(right, torch.arange(n), -1)[:, None]]
    prediction, target = {"labels": labels, "scores": scores}, {"labels": labels}
    half = torch.rand(n, generator=generator) < 0.5
    of_all, *of_halves = (
        resampled_ap([prediction], [target], taken, counted=counted, resamples=0).item()
        for counted in (None, [half], [~half])
    )
    assert of_halves == pytest.approx([of_all, of_all], abs=0.03)


def test_a_class_that_a_draw_has_not_is_left_out_of_its_mean():
    predictions = [found([TEN], [1], [0.9]), found()]
    targets = [truth([TEN], [1]), truth([TEN], [2])]
    taken = match_detections(predictions, targets, thresholds=[0.5])
    ap = resampled_ap(predictions, targets, taken, resamples=40)
    assert ap[0].item() == 0.5
    assert sorted(ap[1:].unique().tolist()) == [0, 0.5, 1]


def test_matching_and_draws_refuse_what_does_not_belong_together():
    one, target = [found([TEN])], [truth([TEN])]
    with pytest.raises(ValueError, match="boxes' or 'masks"):
        match_detections(one, target, kind="keypoints")
    for bad in ([], [0.0], [1.1]):
        with pytest.raises(ValueError, match="above 0 and up to 1"):
            match_detections(one, target, thresholds=bad)
    with pytest.raises(ValueError, match="as many predictions"):
        match_detections(one * 2, target)
    taken = match_detections(one, target)
    with pytest.raises(ValueError, match="a row for each detection"):
        resampled_ap([found()], target, taken)
    with pytest.raises(ValueError, match="a value for each object"):
        resampled_ap(one, target, taken, counted=[torch.ones(2, dtype=torch.bool)])


# Masks stretched over their boxes.


def test_a_pasted_mask_is_read_by_grid_sample():
    generator = torch.Generator().manual_seed(0)
    grids = torch.rand(3, 7, 7, generator=generator)
    boxes = torch.tensor([[3.3, 8.1, 31.9, 36.4], [-4.2, 5, 9.6, 50], [30, 2, 31, 3.0]])
    pasted = paste_masks(grids, boxes, 40, 36)
    for grid, (left, top, right, bottom), mask in zip(
        grids, boxes, pasted, strict=True
    ):
        x = 2 * (torch.arange(36) + 0.5 - left) / (right - left) - 1
        y = 2 * (torch.arange(40) + 0.5 - top) / (bottom - top) - 1
        places = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
        options = {"padding_mode": "border", "align_corners": False}
        wanted = F.grid_sample(grid[None, None], places, **options)[0, 0]
        wanted = wanted * ((x.abs() < 1) & (y.abs() < 1)[:, None])
        torch.testing.assert_close(mask, wanted, rtol=1e-4, atol=1e-5)


def test_pasted_masks_by_hand():
    grids = torch.tensor([[[0.0, 1], [0.5, 0.25]]])
    pasted = paste_masks(grids, torch.tensor([[1.0, 0, 3, 2]]), 3, 4)
    assert pasted[0].tolist() == [[0, 0, 1, 0], [0, 0.5, 0.25, 0], [0, 0, 0, 0]]
    nothing = paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), 5, 6)
    assert nothing.shape == (0, 5, 6)
    with pytest.raises(ValueError, match="m, m"):
        paste_masks(torch.zeros(1, 1, 28, 28), torch.ones(1, 4), 5, 6)
    for boxes in (torch.ones(2, 4), torch.tensor([[1.0, 1, 1, 3]])):
        with pytest.raises(ValueError, match="a box with an area"):
            paste_masks(grids, boxes, 5, 6)
