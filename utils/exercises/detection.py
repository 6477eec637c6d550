"""The exercises of chapter 06: object detection."""

import contextlib
import io
import math
from collections.abc import Callable

import numpy as np
import torch
from pycocotools.cocoeval import COCOeval
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_convert

from utils.exercises import Case, Exercise

# 6.3.1: the matching of detections with objects, as pycocotools does it


def _coco_matching(iou: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Return which detections [n] are right, by COCOeval.evaluateImg."""
    judge = COCOeval(iouType="bbox")
    judge.params.iouThrs = [threshold]
    size = {"area": 1.0, "iscrowd": 0, "ignore": 0}
    judge._gts = {(0, 0): [{"id": j + 1, **size} for j in range(iou.shape[1])]}
    judge._dts = {
        (0, 0): [{"id": i + 1, "score": s, **size} for i, s in enumerate(scores)]
    }
    judge.ious = {(0, 0): iou[np.argsort(-scores, kind="stable")]}
    judged = judge.evaluateImg(0, 0, [0, np.inf], len(scores))
    hits = np.zeros(len(scores), dtype=bool)
    if judged is not None:  # None: neither a detection nor an object
        hits[np.array(judged["dtIds"], dtype=int) - 1] = judged["dtMatches"][0] > 0
    return hits


def _matched(
    iou: np.ndarray,
    scores: np.ndarray,
    threshold: float,
    order: np.ndarray | None = None,
    reaches: Callable = np.greater_equal,
    only_free: bool = True,
    takes: bool = True,
) -> np.ndarray:
    """Return what `_coco_matching` does, or with an option what a mistake makes."""
    hits, free = np.zeros(len(scores), dtype=bool), np.ones(iou.shape[1], dtype=bool)
    for i in np.argsort(-scores, kind="stable") if order is None else order:
        if iou.shape[1] and free.any():
            best = np.where(free, iou[i], -1).argmax() if only_free else iou[i].argmax()
            hits[i] = free[best] and reaches(iou[i, best], threshold)
            free[best] &= not (takes and hits[i])
    return hits


def _matched_as_given(iou, scores, threshold):
    return _matched(iou, scores, threshold, order=np.arange(len(scores)))


def _matched_from_the_lowest(iou, scores, threshold):
    return _matched(iou, scores, threshold, order=np.argsort(scores, kind="stable"))


def _matched_ties_reversed(iou, scores, threshold):
    order = np.argsort(scores, kind="stable")[::-1]
    return _matched(iou, scores, threshold, order=order)


def _matched_takes_below(iou, scores, threshold):
    hits, free = np.zeros(len(scores), dtype=bool), np.ones(iou.shape[1], dtype=bool)
    for i in np.argsort(-scores, kind="stable"):
        if free.any():
            best = np.where(free, iou[i], -1).argmax()
            hits[i], free[best] = iou[i, best] >= threshold, False
    return hits


def _matched_first_that_reaches(iou, scores, threshold):
    hits, free = np.zeros(len(scores), dtype=bool), np.ones(iou.shape[1], dtype=bool)
    for i in np.argsort(-scores, kind="stable"):
        reached = np.flatnonzero(free & (iou[i] >= threshold))
        if len(reached):
            hits[i], free[reached[0]] = True, False
    return hits


def _matched_in_order_of_scores(iou, scores, threshold):
    return _matched(iou, scores, threshold)[np.argsort(-scores, kind="stable")]


def _matching_cases() -> list[Case]:
    """Return the cases that tell the rules apart, then random ones."""
    rng = np.random.default_rng(631)
    written = [
        ([[0.8], [0.9]], [0.9, 0.6], 0.5),  # two on one object
        ([[0.5]], [0.9], 0.5),  # on the threshold
        ([[0.49], [0.7]], [0.9, 0.3], 0.5),  # the first must not take the object
        ([[0.6], [0.9]], [0.3, 0.8], 0.5),  # the worse one is given first
        ([[0.7], [0.9]], [0.5, 0.5], 0.5),  # equal scores
        ([[0.9, 0.1], [0.8, 0.6]], [0.9, 0.8], 0.5),  # the second best is free
        ([[0.9, 0.0], [0.8, 0.0]], [0.9, 0.8], 0.5),  # what is free is not touched
        ([[0.6, 0.8], [0.7, 0.1]], [0.9, 0.8], 0.5),  # the best, not the first
        ([[0.1], [0.8], [0.6]], [0.2, 0.9, 0.5], 0.5),
        ([[0.2, 0.74], [0.75, 0.3], [0.1, 0.9]], [0.7, 0.4, 0.1], 0.75),
    ]
    cases = [
        Case(
            {"iou": np.zeros((2, 0)), "scores": np.array([0.9, 0.8]), "threshold": 0.5},
            "can anything be right in an image without objects?",
        ),
        Case(
            {"iou": np.zeros((0, 2)), "scores": np.zeros(0), "threshold": 0.5},
            "how many results are there when nothing was detected?",
        ),
    ]
    for iou, scores, threshold in written:
        arguments = {"iou": np.array(iou), "scores": np.array(scores)}
        cases.append(Case({**arguments, "threshold": threshold}))
    for n, m, threshold in ((4, 2, 0.5), (6, 3, 0.3), (6, 4, 0.7), (8, 3, 0.5)):
        iou = rng.permutation(np.arange(n * m) / (n * m)).reshape(n, m).round(3)
        arguments = {"iou": iou, "scores": rng.integers(1, 10, n) / 10}
        cases.append(Case({**arguments, "threshold": threshold}))
    # long, with two scores only: a sort that is not stable changes their order
    rng = np.random.default_rng(6310)
    iou = rng.permutation(np.arange(800) / 800).reshape(40, 20).round(3)
    arguments = {"iou": iou, "scores": rng.integers(1, 3, 40) / 4}
    cases.append(Case({**arguments, "threshold": 0.5}))
    return cases


# 6.3.2: average precision from sorted hits, as pycocotools does it


def _coco_average_precision(
    hits: np.ndarray, objects: int, recalls: np.ndarray
) -> float:
    """Return the AP by COCOeval.accumulate; NaN where that writes -1."""
    judge = COCOeval(iouType="bbox")
    settings = {"imgIds": [0], "catIds": [0], "areaRng": [[0, 1]], "iouThrs": [0.5]}
    for name, value in settings.items():
        setattr(judge.params, name, value)
    judge.params.maxDets, judge.params.recThrs = [len(hits)], recalls
    judge._paramsEval = judge.params
    judged = {"dtScores": -np.arange(len(hits)), "gtIgnore": np.zeros(objects)}
    judged |= {"dtMatches": hits[None], "dtIgnore": np.zeros((1, len(hits)))}
    judge.evalImgs = [judged]
    with contextlib.redirect_stdout(io.StringIO()):
        judge.accumulate()
    precision = judge.eval["precision"].ravel()
    return float(precision.mean()) if (precision >= 0).all() else math.nan


def _averaged(
    hits: np.ndarray,
    objects: int,
    recalls: np.ndarray,
    total: int | None = None,
    envelope: Callable = lambda precision, at: precision[at].max(initial=0.0),
    reaches: Callable = np.greater_equal,
) -> float:
    """Return what `_coco_average_precision` does, or with an option a mistake."""
    if objects == 0:
        return math.nan
    found = hits.cumsum()
    precision = found / np.arange(1, len(hits) + 1)
    recall = found / max(objects if total is None else total, 1)
    at = (np.flatnonzero(reaches(recall, r)) for r in recalls)
    return float(np.mean([envelope(precision, places) for places in at]))


def _averaged_no_envelope(hits, objects, recalls):
    def first(precision, at):
        return precision[at[0]] if len(at) else 0.0

    return _averaged(hits, objects, recalls, envelope=first)


def _averaged_envelope_from_the_left(hits, objects, recalls):
    def before(precision, at):
        return precision[: at[0] + 1].max() if len(at) else 0.0

    return _averaged(hits, objects, recalls, envelope=before)


def _averaged_own_recalls(hits, objects, recalls):
    return _averaged(hits, objects, np.linspace(0, 1, len(recalls)))


def _averaged_fixed_recalls(hits, objects, recalls):
    return _averaged(hits, objects, np.linspace(0, 1, 101))


def _averaged_with_tolerance(hits, objects, recalls):
    return _averaged(hits, objects, recalls, reaches=lambda r, at: r >= at - 1e-9)


def _averaged_at_hits(hits, objects, recalls):
    if objects == 0:
        return math.nan
    precision = hits.cumsum() / np.arange(1, len(hits) + 1)
    return float(precision[hits].sum() / objects)


def _averaged_over_reached(hits, objects, recalls):
    top = hits.sum() / objects if objects else 0.0
    reached = recalls[recalls <= top]
    if not len(hits) or not len(reached):
        return math.nan
    return _averaged(hits, objects, reached)


def _averaged_nan_for_empty(hits, objects, recalls):
    return _averaged(hits, objects, recalls) if len(hits) else math.nan


def _averaged_zero_without_objects(hits, objects, recalls):
    return _averaged(hits, objects, recalls) if objects else 0.0


def _precision_cases() -> list[Case]:
    """Return the empty cases, short ones, the worked example, and random ones."""
    coco, voc = np.linspace(0, 1, 101), np.arange(11) / 10
    rng = np.random.default_rng(632)
    never = "what counts at a recall that is never reached?"
    undefined = "of how many objects is recall the share here?"
    written = [
        ("", 3, voc, "what is the AP when nothing was detected?"),
        ("", 0, voc, undefined),
        ("00", 0, voc, undefined),
        ("0", 1, voc, never),
        ("1", 1, voc, ""),
        ("1", 2, voc, never),
        ("01", 1, voc, ""),
        ("101", 2, np.array([0.0, 0.5, 0.75, 1.0]), ""),
        ("1110001", 5, voc, never),  # the worked example
        ("1110001", 5, coco, never),
        ("0010011", 4, coco, never),
        ("1111111", 10, coco, never),
        ("000", 4, coco, never),
    ]
    drawn = [(12, 0.6, 10, coco), (15, 0.5, 10, voc), (30, 0.7, 24, coco)]
    for n, share, objects, recalls in drawn:
        hits = "".join("01"[hit] for hit in (rng.random(n) < share).astype(int))
        written.append((hits, objects, recalls, never))
    return [
        Case(
            {
                "hits": np.array([letter == "1" for letter in hits], dtype=bool),
                "objects": objects,
                "recalls": recalls,
            },
            question,
        )
        for hits, objects, recalls, question in written
    ]


MATCHING = Exercise(
    minutes=15,
    stars=2,
    cases=_matching_cases,
    reference=_coco_matching,
    against="pycocotools' COCOeval.evaluateImg",
    mistakes={
        "An object counts for everyone in your code: once a detection has matched it, "
        "it is taken, and the next one that overlaps it is wrong.": (
            lambda iou, scores, threshold: _matched(iou, scores, threshold, takes=False)
        ),
        "Your detections choose in the order in which they are given: the one with the "
        "highest score must choose first.": _matched_as_given,
        "Your detections choose from the lowest score up: sort the other way, so that "
        "the highest score chooses first.": _matched_from_the_lowest,
        "You compare with `>`: an IoU that equals the threshold is enough.": (
            lambda iou, scores, threshold: _matched(
                iou, scores, threshold, reaches=np.greater
            )
        ),
        "In your code a detection is wrong as soon as the object that it overlaps most "
        "is taken (the rule of PASCAL VOC): in COCO it looks among the objects that "
        "are still free.": (
            lambda iou, scores, threshold: _matched(
                iou, scores, threshold, only_free=False
            )
        ),
        "Your result stands in the order of the scores: put each answer back to the "
        "place of its detection.": _matched_in_order_of_scores,
        "Of two equal scores the second chooses first in your code, as in a sorted "
        "list that is reversed: sort so that equal scores keep their order.": (
            _matched_ties_reversed
        ),
        "In your code a detection takes its object even when the IoU is too small: "
        "only a right one takes it.": _matched_takes_below,
        "You take the first object that reaches the threshold: take the one that the "
        "detection overlaps most.": _matched_first_that_reaches,
    },
    hints=(
        "Two arrays help: the answers, all False at first, and which objects are still "
        "free, all True.",
        "The order: `np.argsort(-scores, kind='stable')`, which keeps the order of "
        "equal scores. The loop runs over the indices that this gives.",
        "For one detection, give the taken objects an IoU below 0, and look at the "
        "largest one that is left. Is there an object at all? The threshold itself is "
        "enough.",
    ),
)

AVERAGE_PRECISION = Exercise(
    minutes=20,
    stars=3,
    cases=_precision_cases,
    reference=_coco_average_precision,
    against="pycocotools' COCOeval.accumulate",
    mistakes={
        "You read the precision where a recall is first reached: read the best one at "
        "this recall or a higher one.": _averaged_no_envelope,
        "Your envelope takes the best precision of those higher up in the list: look "
        "down the list, to recalls that are at least as high.": (
            _averaged_envelope_from_the_left
        ),
        "Your recall is a share of the detections: divide by the number of objects.": (
            lambda hits, objects, recalls: _averaged(hits, objects, recalls, len(hits))
        ),
        "Your recall ends at 1 in every case: divide by all objects, those that were "
        "never found too.": (
            lambda hits, objects, recalls: _averaged(
                hits, objects, recalls, int(hits.sum())
            )
        ),
        "You make the recall points anew with `linspace`, where 0.6 is "
        "0.6000000000000001, which 3 of 5 objects do not reach: use `recalls`.": (
            _averaged_own_recalls
        ),
        "You compare with `>`: a recall point that is reached exactly counts.": (
            lambda hits, objects, recalls: _averaged(
                hits, objects, recalls, reaches=np.greater
            )
        ),
        "A class without objects gets an AP of 0 in your code: it has none, so return "
        "`float('nan')`.": _averaged_zero_without_objects,
        "You average the precision at the hits, as scikit-learn does: read the "
        "envelope at `recalls` and take the mean of those.": _averaged_at_hits,
        "You leave out the recalls that are never reached: they count as 0.": (
            _averaged_over_reached
        ),
        "You do not use `recalls`: the number of points and their places are given.": (
            _averaged_fixed_recalls
        ),
        "You compare recalls with a tolerance, or in float32: pycocotools compares "
        "exactly, in float64, see *What goes wrong* below.": _averaged_with_tolerance,
        "An empty list has no AP in your code: where there are objects and none was "
        "found, AP is 0.": _averaged_nan_for_empty,
    },
    hints=(
        "First two arrays, one value for each place in the list: `hits.cumsum()` "
        "divided by the number of detections so far, and by the number of objects.",
        "For one recall r: which places of the list have a recall of at least r? The "
        "largest precision among them is what you read at r.",
        "`values.max(initial=0.0)` gives 0 where there is no such place.",
    ),
)


EXERCISES: dict[str, Exercise] = {
    "6.3.1": MATCHING,
    "6.3.2": AVERAGE_PRECISION,
}


# 6.8: a YOLO


def _grid_case(
    boxes: list[list[float]],
    labels: list[int],
    rows: int,
    columns: int,
    stride: int = 8,
    question: str = "",
) -> Case:
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor(labels, dtype=torch.int64)
    names = ("boxes", "labels", "rows", "columns", "stride")
    return Case(dict(zip(names, (boxes, labels, rows, columns, stride))), question)  # noqa: B905


def _assign_cases() -> list[Case]:
    generator = torch.Generator().manual_seed(681)
    cases = [
        _grid_case([], [], 3, 4, question="an image without objects"),
        # x and y differ, and so do width and height
        _grid_case(
            [[22, 4, 46, 26]],
            [3],
            3,
            6,
            question="3 rows, 6 columns: which of x and y counts columns?",
        ),
        _grid_case(
            [[70, 4, 86, 28]],
            [1],
            4,
            12,
            question="4 rows, 12 columns: which of x and y counts columns?",
        ),
        _grid_case([[16, 16, 32, 48]], [2], 8, 8),  # the centre on the edge of a cell
        _grid_case([[0, 0, 8, 6]], [1], 8, 8),
        _grid_case(
            [[56, 20, 72, 30]],
            [4],
            8,
            8,
            question="the centre lies on the right edge of the image: in which column?",
        ),
        _grid_case(
            [[20, 54, 31, 74]],
            [5],
            8,
            8,
            question="the centre lies on the lower edge of the image: in which row?",
        ),
        # the first of two in a cell keeps it, also one of class 0; the third is alone
        _grid_case(
            [[10, 20, 40, 52], [14, 26, 38, 50], [40, 8, 60, 30]], [1, 7, 2], 8, 8
        ),
        _grid_case(
            [[40, 8, 60, 30], [6, 20, 46, 52], [10, 20, 40, 52]], [4, 9, 1], 8, 8
        ),
        _grid_case([[30, 10, 90, 100], [60, 64, 128, 128]], [6, 2], 8, 10, 16),
    ]
    for _ in range(6):
        centres = torch.rand(3, 2, generator=generator) * 96
        sides = 12 + 40 * torch.rand(3, 2, generator=generator)
        boxes = torch.cat([centres - sides / 2, centres + sides / 2], 1)
        labels = torch.randint(1, 11, (3,), generator=generator)
        cases.append(_grid_case(boxes.tolist(), labels.tolist(), 12, 12))
    return cases


def _assign_reference(
    boxes: torch.Tensor, labels: torch.Tensor, rows: int, columns: int, stride: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Torchvision's box coder, whose shifts count from the middle of a cell."""
    classes = torch.full((rows, columns), -1)
    numbers = torch.zeros(rows, columns, 4)
    centres = box_convert(boxes, "xyxy", "cxcywh")[:, :2]
    x_edges, y_edges = (stride * torch.arange(1, n) for n in (columns, rows))
    column = torch.bucketize(centres[:, 0].contiguous(), x_edges, right=True)
    row = torch.bucketize(centres[:, 1].contiguous(), y_edges, right=True)
    corners = torch.stack([column, row], 1) * stride
    cells = torch.cat([corners, corners + stride], 1).to(boxes.dtype)
    codes = BoxCoder((1.0, 1.0, 1.0, 1.0)).encode_single(boxes, cells)
    for i in reversed(range(len(boxes))):  # the first is written last
        classes[row[i], column[i]] = labels[i] - 1
        numbers[row[i], column[i]] = codes[i] + torch.tensor([0.5, 0.5, 0, 0])
    return classes, numbers


def _assign_with(
    *,
    cell_of: Callable = lambda box: ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2),
    swapped_cell: bool = False,
    numbers_of: Callable = lambda x, y, column, row, w, h: [
        x - column,
        y - row,
        math.log(w),
        math.log(h),
    ],
    first_label: int = 1,
    last_wins: bool = False,
    in_pixels: bool = False,
    offsets_in_pixels: bool = False,
    whole: Callable = int,
) -> Callable:
    """Return an assignment by hand, with one of the known mistakes."""

    def assign(
        boxes: torch.Tensor, labels: torch.Tensor, rows: int, columns: int, stride: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        classes = torch.full((rows, columns), -1)
        numbers = torch.zeros(rows, columns, 4)
        for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
            box = [edge / stride for edge in box]
            x, y = cell_of(box)
            down, across = (x, y) if swapped_cell else (y, x)
            row = min(max(whole(down), 0), rows - 1)
            column = min(max(whole(across), 0), columns - 1)
            if classes[row, column] >= 0 and not last_wins:
                continue
            width, height = box[2] - box[0], box[3] - box[1]
            if in_pixels:
                width, height = width * stride, height * stride
            classes[row, column] = label - first_label
            numbers[row, column] = torch.tensor(
                numbers_of(x, y, column, row, width, height)
            )
            if offsets_in_pixels:
                numbers[row, column, :2] *= stride
        return classes, numbers

    return assign


def _decode_cases() -> list[Case]:
    generator = torch.Generator().manual_seed(682)

    def case(*shape: int, stride: int = 8, question: str = "") -> Case:
        numbers = torch.rand(*shape, 4, generator=generator)
        numbers[..., 2:] = 3 * numbers[..., 2:] - 1
        return Case({"numbers": numbers, "stride": stride}, question)

    shape = "numbers are [..., rows, columns, 4]: rows and columns need not be equal"
    return [
        case(1, 1, question="a grid of one cell"),
        Case({"numbers": torch.zeros(2, 2, 4), "stride": 8}),
        case(3, 3),
        case(2, 5, question=shape),
        case(5, 2, stride=16, question=shape),
        case(2, 3, 4, question="two images: a batch comes before rows and columns"),
    ]


def _cells(numbers: torch.Tensor) -> torch.Tensor:
    """Return (column, row) of each cell, [rows, columns, 2]."""
    rows, columns = numbers.shape[-3:-1]
    grid = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
    return grid.flip(1).reshape(rows, columns, 2)


def _decode_reference(numbers: torch.Tensor, stride: int) -> torch.Tensor:
    """Torchvision's box coder, whose shifts count from the middle of a cell."""
    cells = stride * _cells(numbers).expand(*numbers.shape[:-1], 2).reshape(-1, 2)
    anchors = torch.cat([cells, cells + stride], 1).to(numbers.dtype)
    codes = numbers.reshape(-1, 4) - torch.tensor([0.5, 0.5, 0, 0])
    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
    return coder.decode_single(codes, anchors).reshape(numbers.shape)


def _decode_with(
    *,
    cells_of: Callable = _cells,
    sizes_of: Callable = torch.exp,
    share: float = 0.5,
    corners: bool = True,
    scaled: tuple[bool, bool] = (True, True),
    offsets_of: Callable = lambda offsets: offsets,
    cornered: bool = False,
) -> Callable:
    """Return a decoding by hand, with one of the known mistakes."""

    def decode(numbers: torch.Tensor, stride: int) -> torch.Tensor:
        centres = cells_of(numbers) + offsets_of(numbers[..., :2])
        sizes = sizes_of(numbers[..., 2:])
        if cornered:
            centres = centres + 0.5 * sizes
        centres, sizes = (
            stride * part if in_pixels else part
            for part, in_pixels in zip((centres, sizes), scaled, strict=True)
        )
        if not corners:
            return torch.cat([centres, sizes], -1)
        return torch.cat([centres - share * sizes, centres + share * sizes], -1)

    return decode


EXERCISES["6.8.1"] = Exercise(
    minutes=15,
    stars=2,
    cases=_assign_cases,
    reference=_assign_reference,
    against="torchvision's BoxCoder, the cells as anchors",
    mistakes={
        "In your function x chooses the row: x runs to the right and counts columns, y "
        "runs down and counts rows.": _assign_with(
            swapped_cell=True,
            numbers_of=lambda x, y, column, row, w, h: [
                x - row,
                y - column,
                math.log(w),
                math.log(h),
            ],
        ),
        "Your numbers have y before x: their order is x, y, width, height.": (
            _assign_with(
                numbers_of=lambda x, y, column, row, w, h: [
                    y - row,
                    x - column,
                    math.log(h),
                    math.log(w),
                ]
            )
        ),
        "You look up the cell of the upper left corner of the box: the cell that holds "
        "its centre is responsible.": _assign_with(cell_of=lambda box: box[:2]),
        "You round to the nearest whole number: a centre at 3.7 lies in cell 3.": (
            _assign_with(whole=round)
        ),
        "Your first two numbers say where the centre lies in the image: they must say "
        "where it lies in its cell, from 0 to 1.": _assign_with(
            numbers_of=lambda x, y, column, row, w, h: [x, y, math.log(w), math.log(h)]
        ),
        "Your sizes are in pixels: divide them by the stride before you take the "
        "logarithm.": _assign_with(in_pixels=True),
        "Your classes are the labels: labels count from 1, since 0 is the background, "
        "but the classes of a cell count from 0.": _assign_with(first_label=0),
        "Your sizes are not logarithms: take `log`.": _assign_with(
            numbers_of=lambda x, y, column, row, w, h: [x - column, y - row, w, h]
        ),
        "Your offsets count from the middle of the cell: count from its upper left "
        "corner.": _assign_with(
            numbers_of=lambda x, y, column, row, w, h: [
                x - column - 0.5,
                y - row - 0.5,
                math.log(w),
                math.log(h),
            ]
        ),
        "Your offsets are in pixels: divide by the stride first.": _assign_with(
            offsets_in_pixels=True
        ),
        "Where two objects share a cell, yours keeps the last: the first in the list, "
        "which is in front, keeps the cell.": _assign_with(last_wins=True),
    },
    hints=(
        "Divide all four edges by the stride first: then everything is in cells, and "
        "the centre at (4.25, 7.5) lies in column 4 and row 7.",
        "The part of the centre before the point is the cell, and what is behind the "
        "point is the offset. A centre on the right or lower edge of the image belongs "
        "to the last column or row.",
        "Go through the objects in their order, and leave one out if its cell already "
        "has a class.",
    ),
    atol=1e-4,
)

EXERCISES["6.8.2"] = Exercise(
    minutes=10,
    stars=2,
    cases=_decode_cases,
    reference=_decode_reference,
    against="torchvision's BoxCoder, the cells as anchors",
    mistakes={
        "You add the row to x and the column to y: x runs to the right, and so do the "
        "columns.": _decode_with(cells_of=lambda numbers: _cells(numbers).flip(-1)),
        "The last two numbers are logarithms: take `exp` of them.": _decode_with(
            sizes_of=lambda sizes: sizes
        ),
        "Your boxes are twice as wide and high: from the centre it is half a width to "
        "each side.": _decode_with(share=1.0),
        "Your boxes are in cells: multiply by the stride.": _decode_with(
            scaled=(False, False)
        ),
        "Only your centres are in pixels: the sizes are in cells, too, so multiply "
        "them by the stride as well.": _decode_with(scaled=(True, False)),
        "You add the offsets to the middle of the cell: they count from its upper left "
        "corner.": _decode_with(cells_of=lambda numbers: _cells(numbers) + 0.5),
        "You do not add the column and row of the cell.": _decode_with(
            cells_of=lambda numbers: torch.zeros_like(_cells(numbers))
        ),
        "The first two numbers give the centre, not the corner.": _decode_with(
            cornered=True
        ),
        "The offsets are ready: no sigmoid.": _decode_with(offsets_of=torch.sigmoid),
        "You return centre and size: return the edges, left, top, right, bottom.": (
            _decode_with(corners=False)
        ),
    },
    hints=(
        "Do it in cells first, and multiply by the stride at the very end.",
        "`torch.meshgrid` with `indexing='ij'` gives the row and the "
        "column of each cell. Which of the two belongs to x?",
        "A slice `numbers[..., :2]` works with and without a batch; add a grid [rows, "
        "columns, 2] to it.",
    ),
    atol=1e-4,
)
