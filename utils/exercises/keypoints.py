"""The exercises of chapter 08: keypoints."""

import math
import operator
from collections.abc import Callable

import torch
from torch.nn import functional as F

from utils.exercises import Case, Exercise

EXERCISES: dict[str, Exercise] = {}

_IDENTITY = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])

# 8.1.1: the share of joints that are found, PCK

_SHOULDER, _HIP = 9, 2  # left shoulder and right hip, the ends of the torso


def _by_a_loop_found(
    predicted: torch.Tensor,
    truth: torch.Tensor,
    visible: torch.Tensor,
    fraction: float,
) -> float:
    """Return the PCK, joint by joint with math.dist."""
    right = []
    for found, true, seen in zip(
        predicted.tolist(), truth.tolist(), visible.tolist(), strict=True
    ):
        if seen[_SHOULDER] and seen[_HIP]:
            reach = fraction * math.dist(true[_SHOULDER], true[_HIP])
            pairs = zip(found, true, seen, strict=True)
            right += [math.dist(f, t) <= reach for f, t, marked in pairs if marked]
    return sum(right) / len(right)


def _found(
    predicted: torch.Tensor,
    truth: torch.Tensor,
    visible: torch.Tensor,
    fraction: float,
    norm: float = 2,
    torso_of: Callable = lambda predicted, truth: truth,
    common: Callable = lambda torso: torso,
    counted: Callable = lambda visible, known: visible & known,
    compare: Callable = operator.le,
    power: int = 1,
    mean: Callable = lambda right, counts: right[counts].double().mean(),
) -> float:
    """Return what `_by_a_loop_found` does, or with an option what a mistake makes."""
    ends = torso_of(predicted, truth)
    torso = common((ends[:, _SHOULDER] - ends[:, _HIP]).norm(dim=1))
    distance = torch.linalg.vector_norm(predicted - truth, norm, dim=-1)
    known = (visible[:, _SHOULDER] & visible[:, _HIP])[:, None]
    right = compare(distance**power, fraction * torso[:, None] ** power)
    return float(mean(right, counted(visible, known)))


def _found_unmarked(predicted, truth, visible, fraction):
    def counted(visible, known):
        return known.expand_as(visible)

    return _found(predicted, truth, visible, fraction, counted=counted)


def _found_without_torso(predicted, truth, visible, fraction):
    def counted(visible, known):
        return visible

    return _found(predicted, truth, visible, fraction, counted=counted)


def _found_by_athlete(predicted, truth, visible, fraction):
    def mean(right, counts):
        shares = (right & counts).sum(1) / counts.sum(1)
        return shares[counts.any(1)].mean()

    return _found(predicted, truth, visible, fraction, mean=mean)


def _found_of_all(predicted, truth, visible, fraction):
    def mean(right, counts):
        return (right & counts).double().mean()

    return _found(predicted, truth, visible, fraction, mean=mean)


def _found_below(predicted, truth, visible, fraction):
    return _found(predicted, truth, visible, fraction, compare=operator.lt)


def _found_squared(predicted, truth, visible, fraction):
    return _found(predicted, truth, visible, fraction, power=2)


def _found_by_prediction(predicted, truth, visible, fraction):
    def torso_of(predicted, truth):
        return predicted

    return _found(predicted, truth, visible, fraction, torso_of=torso_of)


def _found_in_square(predicted, truth, visible, fraction):
    return _found(predicted, truth, visible, fraction, norm=math.inf)


def _found_by_mean_torso(predicted, truth, visible, fraction):
    known = visible[:, _SHOULDER] & visible[:, _HIP]

    def common(torso):
        return torso[known].mean().expand_as(torso)

    return _found(predicted, truth, visible, fraction, common=common)


def _finding_cases() -> list[Case]:
    """Return one athlete, ties, athletes without a torso, and random ones."""
    draw = torch.Generator().manual_seed(811)

    def athletes(n: int, spread: float, marked: float) -> dict:
        truth = 20 + 88 * torch.rand(n, 14, 2, generator=draw)
        noise = spread * torch.randn(n, 14, 2, generator=draw)
        visible = torch.rand(n, 14, generator=draw) < marked
        visible[0, [_SHOULDER, _HIP]] = True
        truth = truth.where(visible[..., None], 0.0)
        return {"predicted": truth + noise, "truth": truth, "visible": visible}

    # a torso from (40, 20) to (40, 60): 40 px long, 0.2 of it is 8 px
    truth = torch.full((1, 14, 2), 50.0)
    truth[0, _SHOULDER], truth[0, _HIP] = torch.tensor([[40.0, 20.0], [40.0, 60.0]])
    all_marked = torch.ones(1, 14, dtype=torch.bool)
    exact, edge, corner = truth.clone(), truth.clone(), truth.clone()
    edge[0, :5, 0] += 8  # just within reach
    corner[0, 4:9] += 7  # 9.9 px away
    written = [
        (exact, truth, all_marked, 0.2, "how long is the torso?"),
        (edge, truth, all_marked, 0.2, "does exactly 0.2 of the torso count?"),
        (corner, truth, all_marked, 0.2, ""),
    ]
    keys = ("predicted", "truth", "visible", "fraction")
    cases = [
        Case(dict(zip(keys, values, strict=True)), asked) for *values, asked in written
    ]
    # the second athlete's hip is not marked
    two = athletes(2, 4.0, 1.0)
    two["visible"][1, _HIP] = False
    two["truth"][1, _HIP] = 0
    two["predicted"][1] += 6
    cases.append(Case({**two, "fraction": 0.2}, "whose torso is not marked?"))
    for n, spread, marked, fraction in (
        (1, 6.0, 0.8, 0.2),
        (6, 8.0, 0.7, 0.2),
        (12, 5.0, 0.85, 0.1),
        (8, 12.0, 0.9, 0.5),
    ):
        cases.append(Case({**athletes(n, spread, marked), "fraction": fraction}))
    return cases


EXERCISES["8.1.1"] = Exercise(
    minutes=10,
    stars=2,
    cases=_finding_cases,
    reference=_by_a_loop_found,
    against="a loop with math.dist",
    mistakes={
        "Joints that are not marked count: they stand at (0, 0) and say nothing.": (
            _found_unmarked
        ),
        "You divide by all joints, marked or not: divide by those that count.": (
            _found_of_all
        ),
        "Athletes count whose hip or shoulder is not marked: their torso would be "
        "measured from (0, 0). Leave them out.": _found_without_torso,
        "You average each athlete first and then over the athletes: count all joints "
        "together.": _found_by_athlete,
        "A joint at exactly this distance counts as found: use <=.": _found_below,
        "You compare squared lengths and have not squared the fraction.": (
            _found_squared
        ),
        "You measure the torso of the prediction: the unit comes from the truth.": (
            _found_by_prediction
        ),
        "You test x and y one by one, which is a square: take the distance.": (
            _found_in_square
        ),
        "You use the mean torso for everybody: each athlete has their own.": (
            _found_by_mean_torso
        ),
    },
    hints=(
        "Three tensors: the distance of each joint [N, 14], the torso of each athlete "
        "[N], and which joints count [N, 14].",
        "The torso needs a second axis, [N, 1], before you compare it with the "
        "distances.",
        "A mask picks the joints that count, of all athletes in one list; their mean "
        "is the answer.",
    ),
)

# 8.1.2: from heatmaps to joints, the centre of the highest cell


def _by_torch_decoded(heatmaps: torch.Tensor, cell: float) -> torch.Tensor:
    """Return the joints [N, K, 2] of heatmaps [N, K, H, W], by F.affine_grid."""
    height, width = heatmaps.shape[-2:]
    grid = F.affine_grid(_IDENTITY[None], [1, 1, height, width], align_corners=False)
    centres = (grid[0] + 1) / 2 * torch.tensor([width, height]) * cell
    return centres.flatten(0, 1)[heatmaps.flatten(2).max(2).indices]


def _decoded(
    heatmaps: torch.Tensor,
    cell: float,
    offset: float = 0.5,
    divide_by: int = -1,
    swapped: bool = False,
) -> torch.Tensor:
    """Return what `_by_torch_decoded` does, or with an option what a mistake makes."""
    best, side = heatmaps.flatten(2).argmax(2), heatmaps.shape[divide_by]
    places = torch.stack([best % side, best // side], -1)
    return ((places.flip(-1) if swapped else places) + offset) * cell


def _decoded_swapped(heatmaps, cell):
    return _decoded(heatmaps, cell, swapped=True)


def _decoded_corner(heatmaps, cell):
    return _decoded(heatmaps, cell, offset=0.0)


def _decoded_counted(heatmaps, cell):
    return _decoded(heatmaps, cell, offset=1.0)


def _decoded_half_pixel(heatmaps, cell):
    return _decoded(heatmaps, cell, offset=0.0) + 0.5


def _decoded_minus_half(heatmaps, cell):
    return _decoded(heatmaps, cell) - 0.5


def _decoded_by_height(heatmaps, cell):
    return _decoded(heatmaps, cell, divide_by=-2)


def _decoded_in_cells(heatmaps, cell):
    return _decoded(heatmaps, 1.0)


def _decoded_to_the_edges(heatmaps, cell):
    height, width = heatmaps.shape[-2:]
    size = torch.tensor([width, height])
    return _decoded(heatmaps, 1.0, offset=0.0) / (size - 1).clamp(min=1) * size * cell


def _decoded_mean(heatmaps, cell):
    height, width = heatmaps.shape[-2:]
    weights = heatmaps.flatten(2).softmax(2).unflatten(2, (height, width))
    x = (weights.sum(2) * (torch.arange(width) + 0.5)).sum(-1)
    y = (weights.sum(3) * (torch.arange(height) + 0.5)).sum(-1)
    return torch.stack([x, y], -1) * cell


def _decoding_cases() -> list[Case]:
    """Return one cell, a row, a column, the corners, and random maps of any shape."""
    draw = torch.Generator().manual_seed(812)
    corners = torch.zeros(1, 4, 3, 5)
    for joint, (row, column) in enumerate([(0, 0), (0, 4), (2, 0), (2, 4)]):
        corners[0, joint, row, column] = 1 + joint
    written = [
        (torch.ones(1, 1, 1, 1), 4.0, "where is the centre of the only cell?"),
        (torch.tensor([[[[0.0, 0.0, 2.0, 1.0]]]]), 4.0, ""),
        (torch.tensor([[[[-3.0], [-1.0], [-2.0]]]]), 2.0, ""),
        (corners, 4.0, "how long is a row of this map?"),
    ]
    cases = [Case({"heatmaps": h, "cell": c}, asked) for h, c, asked in written]
    for size, cell in (((2, 3, 4, 4), 4.0), ((3, 2, 6, 4), 8.0), ((1, 14, 5, 8), 2.5)):
        maps = torch.randn(size, generator=draw)
        cases.append(Case({"heatmaps": maps, "cell": cell}))
    return cases


EXERCISES["8.1.2"] = Exercise(
    minutes=10,
    stars=1,
    cases=_decoding_cases,
    reference=_by_torch_decoded,
    against="the cell centres of F.affine_grid",
    mistakes={
        "Your x and y are swapped: the row gives y, the column x, and x comes first.": (
            _decoded_swapped
        ),
        "You return the upper left corner of the cell: its centre lies half a cell "
        "further, to the right and down.": _decoded_corner,
        "You return the lower right corner of the cell: its centre lies half a cell "
        "before it.": _decoded_counted,
        "You add half a pixel after you have multiplied: it is half a cell.": (
            _decoded_half_pixel
        ),
        "You take half a pixel away at the end, as if (0, 0) were the centre of the "
        "first pixel. In this data set (0, 0) is the corner of the image.": (
            _decoded_minus_half
        ),
        "You divide the index by the number of rows: a row is as long as there are "
        "columns.": _decoded_by_height,
        "You return cells: multiply by the side of a cell, in pixels.": (
            _decoded_in_cells
        ),
        "You put the first and the last cell's centre on the edges of the image: they "
        "lie half a cell inside.": _decoded_to_the_edges,
        "You average over the whole map, after a softmax: take the highest cell.": (
            _decoded_mean
        ),
    },
    hints=(
        "Flatten the last two axes: argmax then gives one index for each map. How do "
        "you get the row and the column back from it?",
        "With W columns, the index is row * W + column: whole division and remainder.",
        "The first cell reaches from 0 to `cell`. Where is its centre?",
    ),
)
