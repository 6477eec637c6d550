"""The exercises of chapter 08: keypoints and spatial transformers."""

import math
import operator
from collections.abc import Callable

import torch
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import (
    heatmaps_to_keypoints,
    keypoints_to_heatmap,
)

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


def _found_without_marks(predicted, truth, visible, fraction):
    def counted(visible, known):
        return torch.ones_like(visible)

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
        "You do not use `visible` at all: leave out what is not marked, and athletes "
        "without a marked shoulder or hip.": _found_without_marks,
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

# 8.2.1: from the joints of a person to the cells of their box


def _by_torchvision_celled(
    joints: torch.Tensor, box: torch.Tensor, size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cells and which joints count, by keypoints_to_heatmap."""
    cells, counts = keypoints_to_heatmap(joints[None], box[None], size)
    return cells[0], counts[0].bool()


def _celled(
    joints: torch.Tensor,
    box: torch.Tensor,
    size: int,
    origin: bool = True,
    square: bool = False,
    whole: Callable = torch.floor,
    last: bool = True,
    clamped: bool = False,
    marked: bool = True,
    swapped: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `_by_torchvision_celled` does, or with an option a mistake."""
    sides = box[2:] - box[:2]
    sides = sides[:1].expand(2) if square else sides
    places = whole((joints[:, :2] - origin * box[:2]) / sides * size).long()
    if last:
        places[joints[:, :2] == box[2:]] = size - 1
    if clamped:
        places = places.clamp(0, size - 1)
    counts = ((places >= 0) & (places < size)).all(1)
    if marked:
        counts &= joints[:, 2] > 0
    column, row = places.flip(1).T if swapped else places.T
    return (row * size + column) * counts, counts


def _cell_cases() -> list[Case]:
    """Return corners, edges, joints outside or not marked, none, and random ones."""
    draw = torch.Generator().manual_seed(821)
    box = torch.tensor([10.0, 20.0, 50.0, 40.0])  # cells of 10 x 5 px at size 4
    written = [
        ([[31.0, 22.0, 2.0]], "in which column and row does the joint lie?"),
        ([[38.0, 39.0, 2.0], [10.0, 20.0, 1.0]], ""),
        ([[50.0, 40.0, 2.0], [50.0, 24.0, 2.0], [12.0, 40.0, 2.0]], ""),
        ([[9.0, 30.0, 2.0], [30.0, 19.0, 2.0], [51.0, 30.0, 2.0]], ""),
        ([[30.0, 44.0, 2.0], [0.0, 0.0, 0.0], [30.0, 30.0, 0.0]], ""),
    ]
    cases = [
        Case({"joints": torch.tensor(j), "box": box, "size": 4}, asked)
        for j, asked in written
    ]
    cases.append(Case({"joints": torch.zeros(0, 3), "box": box, "size": 4}))
    for size in (7, 14, 28, 56):
        low = 60 * torch.rand(2, generator=draw)
        box = torch.cat([low, low + 15 + 50 * torch.rand(2, generator=draw)])
        share = 1.4 * torch.rand(14, 2, generator=draw) - 0.2  # some lie outside
        joints = box[:2] + share * (box[2:] - box[:2])
        mark = 2.0 * (torch.rand(14, 1, generator=draw) < 0.8)
        cases.append(
            Case({"joints": torch.cat([joints, mark], 1), "box": box, "size": size})
        )
    return cases


EXERCISES["8.2.1"] = Exercise(
    minutes=10,
    stars=2,
    cases=_cell_cases,
    reference=_by_torchvision_celled,
    against="torchvision's keypoints_to_heatmap",
    mistakes={
        "You number the cells column by column: the cell is row * size + column, and "
        "the row comes from y.": lambda *given: _celled(*given, swapped=True),
        "You measure from the corner of the image: a cell is counted from the corner "
        "of the box.": lambda *given: _celled(*given, origin=False),
        "You take the width of the box for x and for y: its height is another one.": (
            lambda *given: _celled(*given, square=True)
        ),
        "You round to the nearest whole number: a joint lies in the cell that begins "
        "before it, so round down.": lambda *given: _celled(*given, whole=torch.round),
        "You cut off the decimals, which moves -0.3 up to 0: joints just outside the "
        "box count. Round down first.": lambda *given: _celled(
            *given, whole=torch.trunc
        ),
        "Joints outside the box are pressed into its outermost cells: they do not "
        "count.": lambda *given: _celled(*given, clamped=True),
        "Joints that are not marked count: look at the third column.": (
            lambda *given: _celled(*given, marked=False)
        ),
        "A joint exactly on the right or lower edge of the box falls out: it belongs "
        "to the last cell.": lambda *given: _celled(*given, last=False),
    },
    hints=(
        "Work on x and y together: (joint - corner of the box) / sides of the box lies "
        "between 0 and 1 for a joint inside.",
        "Multiply by `size` and round down with `floor` before you turn the result "
        "into whole numbers. Which joints lie on an edge?",
        "Three conditions make a joint count: the column lies in 0 ... size - 1, the "
        "row does, and the joint is marked.",
    ),
)

# 8.2.2: from the heatmaps of a person back to the joints


def _by_torchvision_read(heatmaps: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    """Return the joints [K, 2] of a box, by heatmaps_to_keypoints."""
    return heatmaps_to_keypoints(heatmaps[None], box[None])[0][0, :, :2]


def _read(
    heatmaps: torch.Tensor,
    box: torch.Tensor,
    whole: Callable = math.ceil,
    enlarged: bool = True,
    exchanged: bool = False,
    half: float = 0.5,
    after: float = 0.0,
    stretched: bool = True,
    swapped: bool = False,
    origin: bool = True,
    **options: str | bool,
) -> torch.Tensor:
    """Return what `_by_torchvision_read` does, or with an option a mistake."""
    width, height = (box[2:] - box[:2]).tolist()
    size = whole(height), whole(width)
    if enlarged:
        heatmaps = F.interpolate(
            heatmaps[None],
            size=size[::-1] if exchanged else size,
            **{"mode": "bicubic", "align_corners": False, **options},
        )[0]
    rows, columns = heatmaps.shape[1:]
    best = heatmaps.flatten(1).argmax(1)
    places = torch.stack([best % columns, best // columns], 1)
    scale = torch.tensor([width / columns, height / rows]) if stretched else 1.0
    joints = (places + half) * scale + after
    return (joints.flip(1) if swapped else joints) + origin * box[:2]


def _reading_cases() -> list[Case]:
    """Return a box as large as its map, wide and high ones, and random ones."""
    draw = torch.Generator().manual_seed(822)

    def maps(joints: int, size: int) -> torch.Tensor:
        return torch.randn(joints, size, size, generator=draw)

    written = [
        (maps(1, 4), [0.0, 0.0, 4.0, 4.0], "where is the centre of a pixel?"),
        (maps(2, 4), [7.0, 3.0, 19.0, 11.0], ""),
        (maps(3, 4), [2.0, 5.0, 8.0, 21.0], ""),
        (maps(2, 5), [3.3, 1.8, 12.7, 8.2], ""),  # 9.4 x 6.4 px
        (maps(3, 6), [0.4, 9.1, 5.0, 30.8], ""),
    ]
    cases = [
        Case({"heatmaps": m, "box": torch.tensor(b)}, asked) for m, b, asked in written
    ]
    for size in (8, 14, 28):
        low = 60 * torch.rand(2, generator=draw)
        box = torch.cat([low, low + 15 + 40 * torch.rand(2, generator=draw)])
        cases.append(Case({"heatmaps": maps(14, size), "box": box}))
    return cases


EXERCISES["8.2.2"] = Exercise(
    minutes=15,
    stars=3,
    cases=_reading_cases,
    reference=_by_torchvision_read,
    against="torchvision's heatmaps_to_keypoints",
    mistakes={
        "You take the highest cell of the small map: resize the map to the box "
        "first.": lambda *given: _read(*given, enlarged=False),
        "You resize to (width, height): `F.interpolate` wants the height first.": (
            lambda *given: _read(*given, exchanged=True)
        ),
        "You round the sides of the box down: round up.": (
            lambda *given: _read(*given, whole=math.floor)
        ),
        "You resize bilinearly: torchvision uses bicubic interpolation here.": (
            lambda *given: _read(*given, mode="bilinear")
        ),
        "You resize with align_corners=True, which shifts the map.": (
            lambda *given: _read(*given, align_corners=True)
        ),
        "You answer with the corner of the pixel: its centre is half a pixel "
        "further.": lambda *given: _read(*given, half=0.0),
        "You add half a pixel after scaling: the pixel is scaled, and its half "
        "too.": lambda *given: _read(*given, half=0.0, after=0.5),
        "The map now has whole pixels, the box has not: scale x by width / columns "
        "and y by height / rows.": lambda *given: _read(*given, stretched=False),
        "You give (row, column): x is the column and comes first.": (
            lambda *given: _read(*given, swapped=True)
        ),
        "You measure from the corner of the box: add it, to come back to the "
        "image.": lambda *given: _read(*given, origin=False),
    },
    hints=(
        "Four steps: resize the maps to whole pixels, find the highest pixel of each, "
        "turn its number into x and y, move into the image.",
        "`argmax` of a flattened map gives row * columns + column. `%` and `//` take "
        "it apart.",
        "A box 9.4 px wide gets a map of 10 columns. Each column is then 0.94 px wide.",
    ),
)

# 8.3.1: the sampling grid of an affine transform, as PyTorch does it


def _by_torch_gridded(theta: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return the grid [H, W, 2] of theta [2, 3], by F.affine_grid."""
    return F.affine_grid(theta[None], [1, 1, height, width], align_corners=False)[0]


def _pixel_centres(size: int) -> torch.Tensor:
    """Return the centres of pixels if the edges of the image lie at -1 and 1."""
    return (2 * torch.arange(size) + 1) / size - 1


def _gridded(
    theta: torch.Tensor,
    height: int,
    width: int,
    centres: Callable = _pixel_centres,
    swapped: bool = False,
    turned: bool = False,
) -> torch.Tensor:
    """Return what `_by_torch_gridded` does, or with an option what a mistake makes."""
    y, x = torch.meshgrid(centres(height), centres(width), indexing="ij")
    places = torch.stack([y, x] if swapped else [x, y], -1)
    matrix = theta[:, :2] if turned else theta[:, :2].T
    return places @ matrix + theta[:, 2]


def _gridded_inverse(theta: torch.Tensor, height: int, width: int) -> torch.Tensor:
    inverse = torch.linalg.inv(theta[:, :2])
    back = torch.cat([inverse, -inverse @ theta[:, 2:]], 1)
    return _gridded(back, height, width)


def _gridded_before(theta: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Move before the matrix is applied."""
    y, x = map(_pixel_centres, (height, width))
    y, x = torch.meshgrid(y, x, indexing="ij")
    return (torch.stack([x, y], -1) + theta[:, 2]) @ theta[:, :2].T


def _affine_cases() -> list[Case]:
    draw = torch.Generator().manual_seed(831)
    turned = torch.tensor([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0]])
    moved = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, -0.25]])
    written = [
        (_IDENTITY, 1, 1, "where is the centre of the only pixel?"),
        (_IDENTITY, 2, 4, "which coordinate does each of the four columns have?"),
        (moved, 2, 2, ""),
        (turned, 3, 3, ""),
        (turned, 2, 5, ""),
    ]
    cases = [
        Case({"theta": theta, "height": h, "width": w}, asked)
        for theta, h, w, asked in written
    ]
    for height, width in ((4, 4), (5, 3), (3, 7)):
        theta = _IDENTITY + 0.5 * torch.randn(2, 3, generator=draw)
        cases.append(Case({"theta": theta, "height": height, "width": width}))
    return cases


EXERCISES["8.3.1"] = Exercise(
    minutes=10,
    stars=2,
    cases=_affine_cases,
    reference=_by_torch_gridded,
    against="F.affine_grid with align_corners=False",
    mistakes={
        "Your first and last centres lie on -1 and 1, as with align_corners=True. Here "
        "the edges of the image lie there; a centre is half a pixel further in.": (
            lambda theta, height, width: _gridded(
                theta, height, width, lambda n: torch.linspace(-1, 1, n)
            )
        ),
        "You divide by size - 1, which puts the outermost centres on -1 and 1 and "
        "fails for a single pixel: from edge to edge there are `size` pixels.": (
            lambda theta, height, width: _gridded(
                theta, height, width, lambda n: 2 * torch.arange(n) / (n - 1) - 1
            )
        ),
        "You take the left and upper edge of each pixel for its centre: add half a "
        "pixel.": (
            lambda theta, height, width: _gridded(
                theta, height, width, lambda n: 2 * torch.arange(n) / n - 1
            )
        ),
        "You apply theta to row and column numbers: turn them into coordinates from -1 "
        "to 1 first.": (
            lambda theta, height, width: _gridded(
                theta, height, width, lambda n: torch.arange(n).float()
            )
        ),
        "You give theta (y, x, 1): its first column is for x.": (
            lambda theta, height, width: _gridded(theta, height, width, swapped=True)
        ),
        "Your last axis holds (y, x): PyTorch wants x first.": (
            lambda theta, height, width: _gridded(theta, height, width).flip(-1)
        ),
        "You multiply from the wrong side, which turns the other way: each row of "
        "theta gives one new coordinate.": (
            lambda theta, height, width: _gridded(theta, height, width, turned=True)
        ),
        "You apply the inverse of theta: theta itself leads from a place in the output "
        "to the place in the input where it is read.": _gridded_inverse,
        "You move first and turn afterwards: the last column of theta is added at the "
        "end.": _gridded_before,
        "You leave out the last column of theta, which moves the grid.": (
            lambda theta, height, width: _gridded(theta, height, width) - theta[:, 2]
        ),
    },
    hints=(
        "Work out one axis first. The image reaches from -1 to 1; with 4 columns each "
        "is 0.5 wide. Where are their centres?",
        "`torch.meshgrid(..., indexing='ij')` makes the x and the y of all pixels, "
        "both of shape [height, width].",
        "The new x is the first row of theta times (x, y, 1), the new y the second "
        "row. `torch.stack(..., -1)` puts them together.",
    ),
)

# 8.3.2: bilinear sampling with zeros outside, as PyTorch does it


def _by_torch_sampled(image: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Return image [C, H, W] at the places grid [h, w, 2], by F.grid_sample."""
    return F.grid_sample(image[None], grid[None], align_corners=False)[0]


def _sampled(
    image: torch.Tensor,
    grid: torch.Tensor,
    position: Callable = lambda place, size: ((place + 1) * size - 1) / 2,
    lower: Callable = torch.floor,
    weigh: Callable = lambda weight: weight,
    outside: str = "zeros",
) -> torch.Tensor:
    """Return what `_by_torch_sampled` does, or with an option what a mistake makes."""
    sizes = image.shape[-1:-3:-1]  # width, height
    places = [position(grid[..., axis], sizes[axis]) for axis in (0, 1)]
    firsts = [lower(place) for place in places]
    shares = [weigh(p - first) for p, first in zip(places, firsts, strict=True)]
    result = torch.zeros(len(image), *grid.shape[:2])
    for right in (0, 1):
        for down in (0, 1):
            weight, inside, indices = 1.0, True, []
            for axis, step in enumerate((right, down)):
                index, last = firsts[axis] + step, sizes[axis] - 1
                weight = weight * (shares[axis] if step else 1 - shares[axis])
                if outside != "border":
                    inside = inside & (index <= last)
                if outside == "zeros":
                    inside = inside & (index >= 0)
                indices.append(
                    (
                        index % (last + 1)
                        if outside == "wrap"
                        else index.clamp(0, last)
                    ).long()
                )
            values = image[:, indices[1], indices[0]]
            result = result + weight * values * torch.as_tensor(inside)
    return result


def _sampled_nearest(image: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    options = {"mode": "nearest", "align_corners": False}
    return F.grid_sample(image[None], grid[None], **options)[0]


def _sampled_cut(image: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Set to 0 what is read outside -1 to 1, and repeat the border inside of it."""
    within = ((grid >= -1) & (grid <= 1)).all(-1)
    return _sampled(image, grid, outside="border") * within


def _sampling_cases() -> list[Case]:
    draw = torch.Generator().manual_seed(832)
    little = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])

    def at(*places: tuple[float, float]) -> torch.Tensor:
        return torch.tensor([places])

    written = [
        (
            little,
            at((-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5)),
            "which neighbour is outside, and what is its value?",
        ),
        (little, at((0.0, 0.0)), "what is between all four pixels?"),
        (little, at((-1.0, -0.5), (1.0, 0.5)), "what lies beyond the edge?"),
        (little, at((3.0, 0.0), (-0.5, -3.0)), "what is far outside the image?"),
        (little, at((-1.25, 0.25), (0.25, -1.375)), ""),
        (torch.tensor([[[5.0]]]), at((0.0, 0.0), (0.5, 0.0)), "one pixel: what is it?"),
    ]
    cases = [Case({"image": i, "grid": g}, asked) for i, g, asked in written]
    for size, shape in (((1, 3, 4), (4, 4)), ((2, 5, 3), (3, 5)), ((3, 4, 6), (6, 2))):
        image = torch.rand(size, generator=draw)
        grid = 1.6 * (2 * torch.rand(*shape, 2, generator=draw) - 1)
        cases.append(Case({"image": image, "grid": grid}))
    return cases


EXERCISES["8.3.2"] = Exercise(
    minutes=20,
    stars=3,
    cases=_sampling_cases,
    reference=_by_torch_sampled,
    against="F.grid_sample with align_corners=False",
    mistakes={
        "Your -1 and 1 are the outermost centres, as with align_corners=True. Here "
        "they are the edges of the image: it is `size` pixels wide, not size - 1.": (
            lambda image, grid: _sampled(
                image, grid, lambda g, n: (g + 1) * (n - 1) / 2
            )
        ),
        "Your positions count from the edge of the image: index 0 is the centre of the "
        "first pixel, half a pixel further.": (
            lambda image, grid: _sampled(image, grid, lambda g, n: (g + 1) * n / 2)
        ),
        "You read the grid as (y, x): its first number is x, which chooses the "
        "column.": lambda image, grid: _sampled(image, grid.flip(-1)),
        "Beyond the edge you repeat the border pixel: there the image is 0.": (
            lambda image, grid: _sampled(image, grid, outside="border")
        ),
        "You decide for the whole place whether it is inside. Decide for each of the "
        "four neighbours: one outside counts as 0, also where the place is inside.": (
            _sampled_cut
        ),
        "Your index -1 takes the last row or column, from the other side of the image: "
        "a neighbour with a negative index counts as 0.": (
            lambda image, grid: _sampled(image, grid, outside="wrap")
        ),
        "You round towards 0, as int(), .long() and .trunc() do: the neighbour before "
        "-0.25 is -1. Use floor.": (
            lambda image, grid: _sampled(image, grid, lower=torch.trunc)
        ),
        "Your weights are swapped: the nearer neighbour must count more.": (
            lambda image, grid: _sampled(image, grid, weigh=lambda w: 1 - w)
        ),
        "You copy the nearest pixel: blend four of them.": _sampled_nearest,
    },
    hints=(
        "First turn x from -1 ... 1 into a position counted in pixels, where 0 is the "
        "centre of the first column: -1 becomes -0.5, and 1 becomes width - 0.5.",
        "The four neighbours have the columns floor(x), floor(x) + 1 and the rows "
        "floor(y), floor(y) + 1. The weight of one is "
        "(1 - its distance in x) * (1 - its distance in y).",
        "An index outside the image would raise an error, or count from the end: clamp "
        "it for reading, and multiply what was read by whether it was inside.",
    ),
)
