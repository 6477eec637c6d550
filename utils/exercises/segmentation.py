"""The exercises of chapter 07: segmentation."""

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from pycocotools import mask as rle
from torch import nn
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_jaccard_index
from torchmetrics.functional.segmentation import dice_score
from torchvision.models.detection.roi_heads import (
    maskrcnn_loss,
    paste_masks_in_image,
)
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.ops import box_iou, masks_to_boxes, roi_align, sigmoid_focal_loss

from utils.exercises import Case, Exercise

EXERCISES: dict[str, Exercise] = {}

# 7.1.1: bilinear interpolation, as PyTorch does it (align_corners=False)


def _by_torch_enlarged(image: torch.Tensor, factor: int) -> torch.Tensor:
    """Return `image` [H, W] enlarged, by F.interpolate."""
    options = {"scale_factor": float(factor), "mode": "bilinear"}
    return F.interpolate(image[None, None], **options, align_corners=False)[0, 0]


def _centres(new: int, old: int) -> torch.Tensor:
    """Return where the centres of `new` pixels lie, counted in old pixels."""
    return (torch.arange(new) + 0.5) * (old / new) - 0.5


def _enlarged(
    image: torch.Tensor,
    factor: int,
    positions: Callable = _centres,
    clamp: bool = True,
    weigh: Callable = lambda weight: weight,
    outside: bool = True,
    axes: tuple[int, ...] = (0, 1),
) -> torch.Tensor:
    """Return what `_by_torch_enlarged` does, or with an option what a mistake makes."""
    for axis in (0, 1):
        if axis not in axes:
            image = image.repeat_interleave(factor, axis)
            continue
        values = image.movedim(axis, 0)
        last = len(values) - 1
        position = positions(factor * len(values), len(values))
        if clamp:
            position = position.clamp(0, last)
        before = position.floor().long()
        weight = weigh(position - before)[:, None]
        one, other = (values[at.clamp(0, last)] for at in (before, before + 1))
        if not outside:
            one = one * (before >= 0)[:, None]
            other = other * (before + 1 <= last)[:, None]
        if not clamp and outside:  # a weight below 0 before the first centre
            before = before.clamp(0, last)
            weight = (position - before)[:, None]
            one, other = values[before], values[(before + 1).clamp(max=last)]
        image = ((1 - weight) * one + weight * other).movedim(0, axis)
    return image


def _enlarged_corners(image, factor):
    def positions(new, old):
        return torch.arange(new) * (old - 1) / max(new - 1, 1)

    return _enlarged(image, factor, positions)


def _enlarged_no_half(image, factor):
    return _enlarged(image, factor, lambda new, old: torch.arange(new) * old / new)


def _enlarged_half_once(image, factor):
    def positions(new, old):
        return (torch.arange(new) + 0.5) * old / new

    return _enlarged(image, factor, positions)


def _enlarged_extrapolated(image, factor):
    return _enlarged(image, factor, clamp=False)


def _enlarged_zeros(image, factor):
    return _enlarged(image, factor, clamp=False, outside=False)


def _enlarged_swapped(image, factor):
    return _enlarged(image, factor, weigh=lambda weight: 1 - weight)


def _enlarged_nearest(image, factor):
    return _enlarged(image, factor, axes=())


def _enlarged_split(image, factor, clamp):
    """Return it with a position that is split before it is clamped, or never is."""
    for axis in (0, 1):
        values = image.movedim(axis, 0)
        last = len(values) - 1
        position = _centres(factor * len(values), len(values))
        before = position.floor().long()
        weight = (position - before)[:, None]
        before = before.clamp(0) if clamp else before
        after = (before + 1).clamp(max=last)
        blend = (1 - weight) * values[before] + weight * values[after]
        image = blend.movedim(0, axis)
    return image


def _enlarged_wrapped(image, factor):
    return _enlarged_split(image, factor, clamp=False)


def _enlarged_late(image, factor):
    return _enlarged_split(image, factor, clamp=True)


def _enlarged_rows(image, factor):
    return _enlarged(image, factor, axes=(0,))


def _enlarged_columns(image, factor):
    return _enlarged(image, factor, axes=(1,))


def _enlarging_cases() -> list[Case]:
    """Return a pixel, a row, a column, the example of the text, and random ones."""
    draw = torch.Generator().manual_seed(711)
    written = [
        ([[3.0]], 4, "which neighbours does a single pixel have?"),
        ([[0.0, 8.0]], 2, "which two old centres lie around a new one?"),
        ([[0.0, 8.0]], 4, ""),
        ([[1.0], [5.0], [2.0]], 3, ""),
        ([[1.0, 2.0], [3.0, 4.0]], 1, ""),
        ([[1.0, 2.0], [3.0, 7.0]], 2, ""),
    ]
    cases = [Case({"image": torch.tensor(i), "factor": f}, q) for i, f, q in written]
    for size, factor in (((2, 5), 2), ((4, 3), 3), ((5, 4), 4), ((3, 3), 8)):
        image = torch.randn(size, generator=draw)
        cases.append(Case({"image": image, "factor": factor}))
    return cases


# 7.1.2: transposed convolution


def _by_torch_transposed(
    image: torch.Tensor, kernel: torch.Tensor, stride: int
) -> torch.Tensor:
    """Return the transposed convolution of `image` [H, W], by F.conv_transpose2d."""
    return F.conv_transpose2d(image[None, None], kernel[None, None], stride=stride)[
        0, 0
    ]


def _stamped(
    image: torch.Tensor,
    kernel: torch.Tensor,
    stride: int,
    add: bool = True,
    steps: Callable = lambda stride: (stride, stride),
    value: Callable = lambda pixel: pixel,
) -> torch.Tensor:
    """Return what `_by_torch_transposed` does, or with an option a mistake."""
    sizes = zip(image.shape, kernel.shape, strict=True)
    output = image.new_zeros([(n - 1) * stride + k for n, k in sizes])
    rows, columns = kernel.shape
    for i, row in enumerate(image):
        for j, pixel in enumerate(row):
            y, x = i * steps(stride)[0], j * steps(stride)[1]
            place = output[y : y + rows, x : x + columns]
            stamp = value(pixel) * kernel
            place.copy_(place + stamp if add else stamp)
    return output


def _stamped_over(image, kernel, stride):
    return _stamped(image, kernel, stride, add=False)


def _stamped_turned(image, kernel, stride):
    return _stamped(image, kernel.flip(0, 1), stride)


def _stamped_averaged(image, kernel, stride):
    count = _stamped(torch.ones_like(image), torch.ones_like(kernel), stride)
    return _stamped(image, kernel, stride) / count.clamp(min=1)


def _stamped_close(image, kernel, stride):
    return _stamped(image, kernel, stride, steps=lambda stride: (1, 1))


def _stamped_rows(image, kernel, stride):
    return _stamped(image, kernel, stride, steps=lambda stride: (stride, 1))


def _stamped_columns(image, kernel, stride):
    return _stamped(image, kernel, stride, steps=lambda stride: (1, stride))


def _stamped_unscaled(image, kernel, stride):
    return _stamped(image, kernel, stride, value=lambda pixel: 1.0)


def _transposed_cases() -> list[Case]:
    """Return one pixel, the example of the text, gaps, and random ones."""
    draw = torch.Generator().manual_seed(712)
    stamp = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [0.0, 3.0, 1.0]])
    two = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    written = [
        (torch.tensor([[2.0]]), stamp, 2, "how large is one stamp?"),
        (two, stamp, 2, "how far apart do the first and the last stamp begin?"),
        (two, stamp, 1, ""),
        (two, torch.tensor([[5.0]]), 2, "what stands where no stamp reaches?"),
        (two, torch.tensor([[1.0, -1.0], [2.0, 3.0]]), 3, ""),
    ]
    cases = [
        Case({"image": i, "kernel": k, "stride": s}, asked)
        for i, k, s, asked in written
    ]
    for size, kernel, stride in (
        ((1, 4), (3, 3), 2),
        ((4, 1), (3, 3), 2),
        ((2, 3), (4, 4), 2),
        ((3, 2), (2, 5), 2),
        ((3, 4), (5, 2), 3),
    ):
        image, weights = (torch.randn(s, generator=draw) for s in (size, kernel))
        cases.append(Case({"image": image, "kernel": weights, "stride": stride}))
    return cases


EXERCISES["7.1.1"] = Exercise(
    minutes=15,
    stars=2,
    cases=_enlarging_cases,
    reference=_by_torch_enlarged,
    against="F.interpolate with align_corners=False",
    mistakes={
        "You put the first and the last new centre on the first and last old one, as "
        "align_corners=True does. Here the outer edges of the images coincide.": (
            _enlarged_corners
        ),
        "You divide the index of the new pixel by the factor. Divide the place of its "
        "centre, which lies half a pixel further.": _enlarged_no_half,
        "You add half a pixel before you divide and do not take it away afterwards: "
        "old indices count from a centre, too.": _enlarged_half_once,
        "Before the first old centre your weight is negative, and the result leaves "
        "the range of the image: clamp the position, so that the border pixel is "
        "repeated.": _enlarged_extrapolated,
        "Beyond the edge you blend with 0, which darkens the border: repeat the border "
        "pixel.": _enlarged_zeros,
        "Your index -1 takes the last row or column, from the other side of the image: "
        "clamp the position first.": _enlarged_wrapped,
        "You clamp the index after you have taken the weight: clamp the position, then "
        "split it into index and weight.": _enlarged_late,
        "Your two weights are swapped: the nearer old pixel must count more.": (
            _enlarged_swapped
        ),
        "Each new pixel is a copy of one old pixel: that is nearest. Blend two along "
        "each axis.": _enlarged_nearest,
        "You blend along the columns only, from top to bottom: do the same from left "
        "to right.": _enlarged_rows,
        "You blend along the rows only, from left to right: do the same from top to "
        "bottom.": _enlarged_columns,
    },
    hints=(
        "Write it for one axis first; the second axis is the same on the transposed "
        "result. How many new pixels are there, and where does the centre of each lie, "
        "counted in old pixels?",
        "The position rounded down is the index of the pixel before; what is left over "
        "is the weight of the pixel after.",
        "At both ends a position can fall outside 0 to n - 1, and the pixel after the "
        "last one does not exist: clamp both.",
    ),
)
EXERCISES["7.1.2"] = Exercise(
    minutes=10,
    stars=2,
    cases=_transposed_cases,
    reference=_by_torch_transposed,
    against="F.conv_transpose2d",
    mistakes={
        "Where stamps overlap, the last one wins: add them up.": _stamped_over,
        "Your stamps are turned by 180°: stamp the kernel as it is. If you insert "
        "zeros and convolve instead, turn the kernel first.": _stamped_turned,
        "Where stamps overlap, you average: a transposed convolution adds.": (
            _stamped_averaged
        ),
        "You stamp at the place of the input pixel: neighbouring stamps must lie "
        "`stride` apart.": _stamped_close,
        "Your stamps lie `stride` apart from row to row, but not from column to "
        "column.": _stamped_rows,
        "Your stamps lie `stride` apart from column to column, but not from row to "
        "row.": _stamped_columns,
        "You stamp the bare kernel: multiply it by the value of the input pixel.": (
            _stamped_unscaled
        ),
    },
    hints=(
        "Begin with zeros of the right size. The last stamp begins at "
        "(n - 1) * stride, and is as long as the kernel.",
        "One loop over the input pixels is enough: each adds one scaled kernel to a "
        "window of the output.",
    ),
)


# 7.2.1: the IoU of each class, from all pixels


def _jaccard(
    predicted: torch.Tensor, masks: torch.Tensor, n_classes: int, ignore: int
) -> torch.Tensor:
    """Return torchmetrics' IoU of each class, nan where it occurs in neither."""
    return multiclass_jaccard_index(
        predicted,
        masks,
        n_classes,
        average="none",
        ignore_index=ignore,
        zero_division=float("nan"),
    ).double()


def _counts(
    predicted: torch.Tensor,
    masks: torch.Tensor,
    n_classes: int,
    ignore: int,
    measured: bool = True,
) -> Iterator[torch.Tensor]:
    """Return for each class: pixels right, predicted, and true."""
    if measured:
        known = masks != ignore
        predicted, masks = predicted[known], masks[known]
    right = [((predicted == k) & (masks == k)).sum() for k in range(n_classes)]
    found = [(predicted == k).sum() for k in range(n_classes)]
    true = [(masks == k).sum() for k in range(n_classes)]
    return (torch.stack(part).double() for part in (right, found, true))


def _iou_with_ignored(
    predicted: torch.Tensor, masks: torch.Tensor, n_classes: int, ignore: int
) -> torch.Tensor:
    """Make the mistake: what has no class counts as wrong."""
    right, found, true = _counts(predicted, masks, n_classes, ignore, measured=False)
    return right / (found + true - right)


def _iou_of_sums(
    predicted: torch.Tensor, masks: torch.Tensor, n_classes: int, ignore: int
) -> torch.Tensor:
    """Make the mistake: what is right is counted twice below the line."""
    right, found, true = _counts(predicted, masks, n_classes, ignore)
    return right / (found + true)


def _dice(
    predicted: torch.Tensor, masks: torch.Tensor, n_classes: int, ignore: int
) -> torch.Tensor:
    """Return the Dice coefficient."""
    right, found, true = _counts(predicted, masks, n_classes, ignore)
    return 2 * right / (found + true)


def _recall(
    predicted: torch.Tensor, masks: torch.Tensor, n_classes: int, ignore: int
) -> torch.Tensor:
    """Return the recall."""
    right, _, true = _counts(predicted, masks, n_classes, ignore)
    return right / true


def _precision(
    predicted: torch.Tensor, masks: torch.Tensor, n_classes: int, ignore: int
) -> torch.Tensor:
    """Return the precision."""
    right, found, _ = _counts(predicted, masks, n_classes, ignore)
    return right / found


def _mean_over_images(
    predicted: torch.Tensor, masks: torch.Tensor, n_classes: int, ignore: int
) -> torch.Tensor:
    """Make the mistake: a mean over images."""
    each = [
        _jaccard(one[None], mask[None], n_classes, ignore)
        for one, mask in zip(predicted, masks, strict=True)
    ]
    return torch.stack(each).nanmean(0)


def _absent_is_zero(
    predicted: torch.Tensor, masks: torch.Tensor, n_classes: int, ignore: int
) -> torch.Tensor:
    """Make the mistake: a class that does not occur scores 0."""
    return _jaccard(predicted, masks, n_classes, ignore).nan_to_num(0)


def _absent_is_one(
    predicted: torch.Tensor, masks: torch.Tensor, n_classes: int, ignore: int
) -> torch.Tensor:
    """Make the mistake: a class that does not occur scores 1."""
    return _jaccard(predicted, masks, n_classes, ignore).nan_to_num(1)


def _unseen_is_nan(
    predicted: torch.Tensor, masks: torch.Tensor, n_classes: int, ignore: int
) -> torch.Tensor:
    """Make the mistake: a class that is not in the masks has no IoU."""
    right, found, true = _counts(predicted, masks, n_classes, ignore)
    return (right / (found + true - right)).where(true > 0, torch.nan)


def _ignore_is_255(
    predicted: torch.Tensor, masks: torch.Tensor, n_classes: int, ignore: int
) -> torch.Tensor:
    """Make the mistake: another value than 255 counts as a class."""
    right, found, true = _counts(predicted, masks, n_classes, 255)
    return right / (found + true - right)


def _iou_cases() -> list[Case]:
    """Return masks with unknown pixels and absent classes, then random ones."""
    generator = torch.Generator().manual_seed(721)
    small = torch.tensor([[[0, 0, 1], [2, 2, 1]]])
    hidden = torch.tensor([[[0, 255, 1], [255, 2, 2]]])
    cases = [
        (small, small, 3),
        (small, hidden, 3),
        (small, hidden, 5),  # two classes occur nowhere
        (torch.zeros(1, 2, 3, dtype=torch.int64), torch.full((1, 2, 3), 1), 2),
        (small, torch.full((1, 2, 3), 255), 3),  # nothing is known
    ]
    for n, side, n_classes in ((3, 6, 4), (2, 9, 11), (4, 5, 3)):
        shape = (n, side, side + 1)
        masks = torch.randint(0, n_classes, shape, generator=generator)
        masks[0] = masks[0] // 2  # images differ in what they show
        wrong = torch.rand(shape, generator=generator) < 0.4
        other = torch.randint(0, n_classes, shape, generator=generator)
        predicted = torch.where(wrong, other, masks)
        masks[torch.rand(shape, generator=generator) < 0.2] = 255
        cases.append((predicted, masks, n_classes))
    names = ("predicted", "masks", "n_classes")
    listed = [
        Case(dict(zip(names, case, strict=True)) | {"ignore": 255}) for case in cases
    ]
    for ignore in (-1, 100):
        predicted, masks, n_classes = cases[-1]
        masks = masks.where(masks != 255, ignore)
        values = (predicted, masks, n_classes, ignore)
        names = ("predicted", "masks", "n_classes", "ignore")
        question = "which value of the masks is not to be counted?"
        listed.append(Case(dict(zip(names, values, strict=True)), question))
    return listed


EXERCISES["7.2.1"] = Exercise(
    minutes=15,
    stars=2,
    cases=_iou_cases,
    reference=_jaccard,
    against="torchmetrics' multiclass_jaccard_index",
    mistakes={
        "Pixels without a class still count as wrong: leave them out of the prediction "
        "as well as of the mask.": _iou_with_ignored,
        "Your denominator counts the pixels that are right twice: the union is "
        "predicted plus true, minus what is in both.": _iou_of_sums,
        "That is the Dice coefficient: the IoU is intersection over union.": _dice,
        "You divide by the true pixels alone, which gives the recall: what was "
        "predicted too much must count as well.": _recall,
        "You divide by the predicted pixels alone, which gives the precision: what was "
        "missed must count as well.": _precision,
        "You average over images: add up the pixels of all images first, and divide "
        "once.": _mean_over_images,
        "A class that occurs neither in the masks nor in the predictions has no IoU: "
        "return nan for it, not 0.": _absent_is_zero,
        "A class that occurs neither in the masks nor in the predictions has no IoU: "
        "return nan for it, not 1.": _absent_is_one,
        "A class that was predicted but is nowhere in the masks has an IoU of 0, not "
        "nan: it was predicted wrongly.": _unseen_is_nan,
        "You compare with 255: use the argument `ignore`.": _ignore_is_255,
    },
    hints=(
        "Count for each class: pixels where it was predicted, pixels where it is true, "
        "pixels where both hold.",
        "`known = masks != ignore` picks the pixels that are measured; index both "
        "tensors with it before you count anything.",
        "0 / 0 of two tensors is nan, so a class that occurs nowhere needs no special "
        "case.",
    ),
    atol=1e-6,
)


# 7.2.2: the two sides of a U-Net


def _by_line(
    image: torch.Tensor,
    encoders: Sequence[nn.Module],
    ups: Sequence[nn.Module],
    decoders: Sequence[nn.Module],
) -> torch.Tensor:
    """Return the output of a U-Net of one to three levels, written out."""
    one = encoders[0](image)
    if len(encoders) == 1:
        return one
    two = encoders[1](F.max_pool2d(one, 2))
    if len(encoders) == 2:
        return decoders[0](torch.cat([one, ups[0](two)], 1))
    three = encoders[2](F.max_pool2d(two, 2))
    x = decoders[0](torch.cat([two, ups[0](three)], 1))
    return decoders[1](torch.cat([one, ups[1](x)], 1))


def _mistaken(
    join: Callable = lambda skip, x: [skip, x],
    pool: Callable = lambda x: F.max_pool2d(x, 2),
    kept: Callable = lambda before, after: after,
    used: Callable = lambda layers: layers,
    enlarge: Callable = lambda up, x: up(x),
) -> Callable:
    """Return a U-Net that makes the mistake of an option."""

    def wrong(
        image: torch.Tensor,
        encoders: Sequence[nn.Module],
        ups: Sequence[nn.Module],
        decoders: Sequence[nn.Module],
    ) -> torch.Tensor:
        skips, x = [], image
        for level, encoder in enumerate(encoders):
            before = pool(x) if level else x
            x = encoder(before)
            skips.append(kept(before, x))
        skips.pop()
        for up, decoder in zip(used(ups), used(decoders), strict=True):
            x = decoder(torch.cat(join(skips.pop(), enlarge(up, x)), 1))
        return x

    return wrong


def _u_net_cases() -> list[Case]:
    """Return U-Nets of one, two and three levels.

    All maps have two channels, so that a wrong order shows in the numbers.
    """
    cases = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(722)
        for levels, side in ((1, (4, 4)), (2, (4, 6)), (3, (8, 4)), (3, (8, 16))):
            layers = {
                "encoders": [nn.Conv2d(2, 2, 3, padding=1) for _ in range(levels)],
                "ups": [nn.ConvTranspose2d(2, 2, 2, 2) for _ in range(levels - 1)],
                "decoders": [nn.Conv2d(4, 2, 3, padding=1) for _ in range(levels - 1)],
            }
            for layer in sum(layers.values(), []):
                layer.requires_grad_(False)
            given = {"image": torch.randn(2, 2, *side)} | layers
            cases.append(
                Case(
                    given,
                    "do the maps that meet have the same size, and are they "
                    "concatenated along the channels (dim 1)? When do you pool, and "
                    "which skip is needed first? Does it work for any number of "
                    "levels?",
                )
            )
    return cases


EXERCISES["7.2.2"] = Exercise(
    minutes=15,
    stars=2,
    cases=_u_net_cases,
    reference=_by_line,
    against="the same network, written out line by line",
    mistakes={
        "You join the maps in the wrong order: the skip comes first, then what was "
        "doubled.": _mistaken(join=lambda skip, x: [x, skip]),
        "You pool with the mean: a U-Net takes the maximum.": _mistaken(
            pool=lambda x: F.avg_pool2d(x, 2)
        ),
        "You keep what goes into an encoder: keep what comes out of it.": _mistaken(
            kept=lambda before, after: before
        ),
        "The skips are not used: the doubled map is joined with itself.": _mistaken(
            join=lambda skip, x: [x, x]
        ),
        "The skips are not used: zeros stand in their place.": _mistaken(
            join=lambda skip, x: [torch.zeros_like(x), x]
        ),
        "You join the skip with itself: what comes from below is lost.": _mistaken(
            join=lambda skip, x: [skip, skip]
        ),
        "You go through `ups` and `decoders` from their end: they are listed from "
        "bottom to top, so take them in their order.": _mistaken(
            used=lambda layers: layers[::-1]
        ),
        "You double the map yourself: `ups` do that, and they have weights.": _mistaken(
            enlarge=lambda up, x: F.interpolate(x, scale_factor=2.0)
        ),
        "You double the map yourself (bilinear): `ups` do that, and they have "
        "weights.": _mistaken(
            enlarge=lambda up, x: F.interpolate(x, scale_factor=2.0, mode="bilinear")
        ),
    },
    hints=(
        "On the way down, put what each encoder returns into a list, and pool before "
        "the next encoder, not before the first.",
        "The last encoder is the bottom: its output is no skip.",
        "On the way up, take the skips from the end of the list: `skips.pop()`.",
    ),
    atol=1e-5,
)


# 7.3: RoI Align


def _bilinear_reference(features: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """RoI Align of one bin with one point: the middle of a box of one cell."""
    box = torch.tensor([[0, x, y, x + 1, y + 1]], dtype=features.dtype)
    return roi_align(features[None], box, 1, 1.0, 1, aligned=True)[0, :, 0, 0]


def _bilinear_with(
    *,
    swapped: bool = False,
    shift: float = 0.0,
    share: Callable = lambda a: a,
    outside: str = "border",
    never_zero: bool = False,
) -> Callable:
    """Return an interpolation by hand, with one of the known mistakes."""

    def bilinear(features: torch.Tensor, x: float, y: float) -> torch.Tensor:
        if swapped:
            features = features.transpose(1, 2)
        rows, columns = features.shape[1:]
        x, y = x + shift, y + shift
        zero = torch.zeros_like(features[:, 0, 0])
        far = not (-1 <= x <= columns and -1 <= y <= rows)
        if far and not never_zero:
            return zero
        if outside == "border":
            x, y = min(max(x, 0), columns - 1), min(max(y, 0), rows - 1)
        left, top = math.floor(x), math.floor(y)
        a, b = share(x - left), share(y - top)

        def value(row: int, column: int) -> torch.Tensor:
            if outside == "wraps":
                return features[:, row % rows, column % columns]
            if outside == "zero" and not (0 <= row < rows and 0 <= column < columns):
                return zero
            return features[:, min(row, rows - 1), min(column, columns - 1)]

        upper = (1 - a) * value(top, left) + a * value(top, left + 1)
        lower = (1 - a) * value(top + 1, left) + a * value(top + 1, left + 1)
        return (1 - b) * upper + b * lower

    return bilinear


def _bilinear_cases() -> list[Case]:
    generator = torch.Generator().manual_seed(731)

    def case(x: float, y: float, question: str = "", shape: tuple = (2, 3, 5)) -> Case:
        features = torch.rand(*shape, generator=generator).round(decimals=2)
        return Case({"features": features, "x": x, "y": y}, question)

    last = "the last row or column: is there a neighbour behind it?"
    edge = "up to one cell outside, the value at the border counts"
    far = "more than one cell outside, the result is 0"
    return [
        case(1.0, 2.0, last),
        case(3.0, 1.0),
        case(2.25, 0.5),
        case(3.75, 1.125),
        case(4.0, 0.5, last),
        case(4.0, 2.0, last),
        case(-0.25, 1.5, edge),
        case(1.75, -0.75, edge),
        case(4.5, 0.25, edge),
        case(0.5, 2.75, edge),
        case(5.0, 1.25, edge),
        case(2.5, 3.0, edge),
        case(-1.25, 1.0, far),
        case(2.0, -1.5, far),
        case(5.25, 1.0, far),
        case(1.5, 3.125, far),
        case(0.0, 0.0, "a map of one cell", (1, 1, 1)),
        case(0.75, -0.5, edge, (3, 1, 1)),
        *[
            case(round(4 * x, 3), round(2 * y, 3))
            for x, y in torch.rand(4, 2, generator=generator).tolist()
        ],
    ]


def _align_reference(
    features: torch.Tensor, box: tuple, size: int, stride: int, points: int
) -> torch.Tensor:
    """Torchvision's RoI Align of one box."""
    boxes = [torch.tensor([box], dtype=features.dtype)]
    return roi_align(features[None], boxes, size, 1 / stride, points, aligned=True)[0]


def _aligned_by_default(
    features: torch.Tensor, box: tuple, size: int, stride: int, points: int
) -> torch.Tensor:
    boxes = [torch.tensor([box], dtype=features.dtype)]
    return roi_align(features[None], boxes, size, 1 / stride, points)[0]


def _nearest(features: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """Return the nearest cell, as Python rounds: halves to the even one."""
    rows, columns = features.shape[1:]
    if not (-1 <= x <= columns and -1 <= y <= rows):
        return torch.zeros_like(features[:, 0, 0])
    x, y = min(max(x, 0), columns - 1), min(max(y, 0), rows - 1)
    return features[:, round(y), round(x)]


def _aligned_with(
    *,
    box_of: Callable = lambda box: box,
    cells_of: Callable = lambda edge, stride: edge / stride - 0.5,
    place_of: Callable = lambda i, points: (i + 0.5) / points,
    joined: Callable = torch.mean,
    turned: bool = False,
    one_point: bool = False,
) -> Callable:
    """Return a RoI Align by hand, with one of the known mistakes."""
    value_at = _bilinear_with()

    def align(
        features: torch.Tensor, box: tuple, size: int, stride: int, points: int
    ) -> torch.Tensor:
        points = 1 if one_point else points
        left, top, right, bottom = (cells_of(edge, stride) for edge in box_of(box))
        width, height = (right - left) / size, (bottom - top) / size
        places = [place_of(i, points) for i in range(size * points)]
        samples = torch.stack(
            [
                value_at(features, left + u * width, top + v * height)
                for v in places
                for u in places
            ],
            1,
        ).reshape(-1, size, points, size, points)
        pooled = joined(samples.transpose(2, 3).flatten(3), 3)
        return pooled.transpose(1, 2) if turned else pooled

    return align


def _align_cases() -> list[Case]:
    generator = torch.Generator().manual_seed(732)

    def case(
        box: tuple,
        size: int,
        stride: int,
        points: int,
        question: str = "",
        shape: tuple = (2, 5, 6),
    ) -> Case:
        features = torch.rand(*shape, generator=generator).round(decimals=2)
        values = (features, box, size, stride, points)
        names = ("features", "box", "size", "stride", "points")
        return Case(dict(zip(names, values, strict=True)), question)

    border = "a part of this box lies outside of the map"
    return [
        case((1.0, 1.0, 3.0, 2.0), 1, 1, 1),
        case((16.0, 8.0, 32.0, 24.0), 2, 8, 1),
        case((11.0, 9.5, 37.0, 29.0), 2, 8, 2),
        case((20.0, 20.0, 20.0, 20.0), 2, 8, 2, "a box without an area"),
        case((7.0, 30.0, 40.0, 33.0), 3, 8, 2),
        case((0.0, 0.0, 48.0, 40.0), 3, 8, 2, border),
        case((-6.0, -3.0, 14.0, 25.0), 2, 8, 2, border),
        case((30.0, 21.0, 62.0, 55.0), 2, 8, 3, border),
        case((-60.0, 5.0, -30.0, 30.0), 2, 8, 2, border),
        case((13.0, 22.0, 70.0, 61.0), 3, 16, 2),
        case((41.0, 12.0, 90.0, 66.0), 2, 16, 3),
        case((5.0, 9.0, 23.0, 17.0), 2, 4, 2, "", (1, 6, 7)),
    ]


EXERCISES["7.3.1"] = Exercise(
    minutes=10,
    stars=2,
    cases=_bilinear_cases,
    reference=_bilinear_reference,
    against="torchvision.ops.roi_align with one sampling point",
    mistakes={
        "You take the nearest cell (`round`): mix the four cells around the "
        "position.": _nearest,
        "In your function x chooses the row: x counts columns and y counts rows, and "
        "the map is [C, rows, columns].": _bilinear_with(swapped=True),
        "You take the value of the nearest cell: mix the four around the position.": (
            _bilinear_with(share=round)
        ),
        "You round the position down and read one cell: mix the four around the "
        "position.": _bilinear_with(share=lambda a: 0.0),
        "Your weights are the wrong way round: the nearer a cell is, the more it "
        "counts.": _bilinear_with(share=lambda a: 1 - a),
        "You take half a cell off: here x and y already count from the middle of the "
        "first cell.": _bilinear_with(shift=-0.5),
        "A neighbour outside of the map counts as 0 in your code, as in `grid_sample`: "
        "up to one cell outside, use the value at the border.": (
            _bilinear_with(outside="zero")
        ),
        "Your index -1 takes the last row or column, from the other side of the map: "
        "move the position to the border first.": _bilinear_with(outside="wraps"),
        "Far outside you return the value at the border: beyond one cell the result is "
        "0.": _bilinear_with(never_zero=True),
    },
    hints=(
        "Treat the three kinds of positions in turn: more than one cell outside, up to "
        "one cell outside (move it to the border with `min` and `max`), inside.",
        "Inside, `math.floor` gives the column to the left and the row above. The "
        "decimals of the position are the weight of the column to the right and of the "
        "row below.",
        "In the last column there is none to the right: `min(left + 1, columns - 1)` "
        "repeats it, and its weight is 0.",
    ),
    atol=1e-5,
)

EXERCISES["7.3.2"] = Exercise(
    minutes=15,
    stars=2,
    cases=_align_cases,
    reference=_align_reference,
    against="torchvision.ops.roi_align, aligned=True",
    mistakes={
        "You cut the edges of the box down to whole cells: keep the decimals.": (
            _aligned_with(cells_of=lambda edge, stride: math.floor(edge / stride) - 0.5)
        ),
        "You round the edges of the box with `round`, to whole cells: keep the "
        "decimals.": _aligned_with(
            cells_of=lambda edge, stride: round(edge / stride) - 0.5
        ),
        "Half a cell is missing: the value of a cell belongs to its middle, so take "
        "0.5 off after you have divided by the stride.": _aligned_with(
            cells_of=lambda edge, stride: edge / stride
        ),
        "You read half a cell off and widen boxes of less than a cell, as torchvision "
        "does with its default `aligned=False`: take 0.5 off after you have divided by "
        "the stride, and leave the size of the box alone.": _aligned_by_default,
        "You take half a pixel off before you divide by the stride: it must be half a "
        "cell, after the division.": _aligned_with(
            cells_of=lambda edge, stride: (edge - 0.5) / stride
        ),
        "You round the edges of the box to whole cells, as RoI pooling does: keep them "
        "as they are.": _aligned_with(
            cells_of=lambda edge, stride: math.floor(edge / stride + 0.5) - 0.5
        ),
        "You do not divide by the stride: the box is in pixels, the map in cells.": (
            _aligned_with(cells_of=lambda edge, stride: edge - 0.5)
        ),
        "You add up the sampling points of a bin: take their mean.": _aligned_with(
            joined=torch.sum
        ),
        "You take the largest sampling point of a bin, as RoI pooling does: take the "
        "mean.": _aligned_with(joined=torch.amax),
        "Your sampling points begin at the corner of the bin: with `points` on a side, "
        "each stands in the middle of its part of the bin.": _aligned_with(
            place_of=lambda i, points: i / points
        ),
        "Your rows and columns are swapped: the result is [C, rows, columns], and x "
        "runs along the columns.": _aligned_with(turned=True),
        "You read one point, in the middle of each bin: read `points` x `points`.": (
            _aligned_with(one_point=True)
        ),
        "You read the box as left, top, width, height: its last two numbers are the "
        "right and the lower edge.": _aligned_with(
            box_of=lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
        ),
    },
    hints=(
        "First bring the four edges to the positions that `bilinear` wants: divide by "
        "the stride, take half a cell off. Then width and height of one bin.",
        "All sampling points of a box form one regular grid, `size * points` on a "
        "side. The first one stands half a step from the corner of the box.",
        "With the values as [C, size * points, size * points], the mean of each bin is "
        "an average pooling: `F.avg_pool2d`.",
    ),
    atol=1e-5,
)


# 7.4: the loss of a mask head, and a mask stretched over its box


def _mask_loss_reference(
    logits: torch.Tensor, targets: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Torchvision's loss, with boxes that cut the targets out as they are."""
    side = targets.shape[-1]
    edges = torch.tensor([-0.5, -0.5, side - 0.5, side - 0.5])
    boxes = edges.expand(len(targets), 4)
    own = torch.arange(len(targets))
    return maskrcnn_loss(logits, [boxes], [targets], [labels], [own])


def _mask_loss_with(
    *,
    channel: Callable = lambda logits, labels: logits[range(len(labels)), labels],
    wanted: Callable = lambda targets: targets,
    joined: Callable = torch.mean,
    when_empty: float = 0.0,
) -> Callable:
    """Return a mask loss by hand, with one of the known mistakes."""

    def loss(
        logits: torch.Tensor, targets: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        if len(labels) == 0:
            return torch.tensor(when_empty)
        own, goal = channel(logits, labels), wanted(targets)
        entropy = F.softplus(own) - own * goal  # of sigmoid(own) with goal
        return joined(entropy)

    return loss


def _mask_loss_softmax(logits, targets, labels):
    share = logits.softmax(1)[range(len(labels)), labels].clamp(1e-7, 1 - 1e-7)
    return F.binary_cross_entropy(share, targets) if len(labels) else torch.zeros(())


def _mask_loss_cells(logits, targets, labels):
    goal = labels[:, None, None].expand_as(targets)
    return F.cross_entropy(logits, goal) if len(labels) else torch.zeros(())


def _mask_loss_all(logits, targets, labels):
    goal = targets[:, None].expand_as(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, goal, reduction="none")
    return entropy.mean() if len(labels) else torch.zeros(())


def _mask_loss_others(logits, targets, labels, joined):
    goal = torch.zeros_like(logits)
    goal[range(len(labels)), labels] = targets
    entropy = F.binary_cross_entropy_with_logits(logits, goal, reduction="none")
    return joined(entropy) if len(labels) else torch.zeros(())


def _mask_loss_others_mean(logits, targets, labels):
    return _mask_loss_others(logits, targets, labels, torch.mean)


def _mask_loss_others_sum(logits, targets, labels):
    return _mask_loss_others(logits, targets, labels, lambda e: e.sum(1).mean())


def _nan_without_objects(loss: Callable) -> Callable:
    """Return the same loss, but nan where there is no object."""

    def with_nan(
        logits: torch.Tensor, targets: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        return loss(logits, targets, labels) if len(labels) else torch.tensor(math.nan)

    return with_nan


def _mask_loss_cases() -> list[Case]:
    generator = torch.Generator().manual_seed(741)

    def case(n: int, classes: int, side: int, labels: list, question: str = "") -> Case:
        logits = 3 * torch.randn(n, classes, side, side, generator=generator)
        targets = torch.rand(n, side, side, generator=generator)
        targets = (2 * targets - 0.5).clamp(0, 1)  # many 0 and 1, some between
        values = (logits, targets, torch.tensor(labels, dtype=torch.int64))
        return Case(dict(zip(("logits", "targets", "labels"), values)), question)  # noqa: B905

    empty = "what is the mean over no object at all?"
    return [
        case(0, 3, 4, [], empty),
        case(1, 2, 1, [1]),
        case(1, 3, 2, [2], "which channel belongs to label 2?"),
        case(2, 3, 4, [2, 1], "each object has its own label"),
        case(3, 4, 4, [1, 1, 3]),
        case(2, 11, 7, [10, 4], "the last class"),
        case(5, 11, 28, [3, 9, 3, 1, 10]),
    ]


def _paste_reference(
    mask: torch.Tensor, box: tuple, height: int, width: int
) -> torch.Tensor:
    """Sample the mask at the middle of each pixel, by F.grid_sample."""
    return _sampled(mask, box, height, width, "border", align_corners=False)


def _sampled(mask, box, height, width, padding, align_corners):
    left, top, right, bottom = box
    x = 2 * (torch.arange(width) + 0.5 - left) / (right - left) - 1
    y = 2 * (torch.arange(height) + 0.5 - top) / (bottom - top) - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
    options = {"padding_mode": padding, "align_corners": align_corners}
    found = F.grid_sample(mask[None, None], grid, **options)[0, 0]
    return found * ((x.abs() < 1) & (y.abs() < 1)[:, None])


def _paste_zeros(mask, box, height, width):
    return _sampled(mask, box, height, width, "zeros", align_corners=False)


def _paste_corners(mask, box, height, width):
    return _sampled(mask, box, height, width, "border", align_corners=True)


def _paste_torchvision(mask, box, height, width):
    boxes = torch.tensor([box])
    return paste_masks_in_image(mask[None, None], boxes, (height, width))[0, 0]


def _paste_with(
    *,
    box_of: Callable = lambda box: box,
    pixel: float = 0.5,
    cell: float = 0.5,
    outside: bool = False,
    nearest: Callable | None = None,
    turned: bool = False,
) -> Callable:
    """Return a pasting by hand, with one of the known mistakes."""

    def weights(n: int, low: float, high: float, cells: int) -> torch.Tensor:
        position = (torch.arange(n) + pixel - low) / (high - low) * cells
        inside = (position > 0) & (position < cells) | outside
        position = (position - cell).clamp(0, cells - 1)
        if nearest:
            position = nearest(position)
        near = 1 - (position[:, None] - torch.arange(cells)).abs()
        return near.clamp(min=0) * inside[:, None]

    def paste(mask: torch.Tensor, box: tuple, height: int, width: int) -> torch.Tensor:
        left, top, right, bottom = box_of(box)
        if not (left < right and top < bottom):
            return torch.zeros(height, width)
        rows = weights(height, top, bottom, len(mask))
        columns = weights(width, left, right, len(mask))
        return rows @ (mask.T if turned else mask) @ columns.T

    return paste


def _paste_cases() -> list[Case]:
    generator = torch.Generator().manual_seed(742)

    def case(box: tuple, cells: int, shape: tuple, question: str = "") -> Case:
        mask = torch.rand(cells, cells, generator=generator).round(decimals=2)
        values = (mask, box, *shape)
        names = ("mask", "box", "height", "width")
        return Case(dict(zip(names, values, strict=True)), question)

    edge = "which pixels have their middle inside of the box?"
    return [
        case((0.0, 0.0, 4.0, 4.0), 4, (4, 4), "a pixel for each cell"),
        case((1.0, 2.0, 4.0, 4.0), 1, (5, 6), "a mask of one cell"),
        case((1.0, 1.0, 5.0, 3.0), 2, (4, 7)),
        case((1.5, 0.5, 4.5, 5.5), 3, (6, 6), edge),  # middles on the edges
        case((2.375, 1.125, 6.875, 4.625), 4, (6, 8), edge),
        case((-2.25, 1.0, 3.25, 7.25), 3, (6, 5), "a part of the box is not in sight"),
        case((2.0, -1.75, 9.25, 3.25), 4, (5, 7), "a part of the box is not in sight"),
        case((8.0, 1.0, 12.0, 3.0), 2, (4, 6), "the whole box is not in sight"),
        case((2.625, 2.125, 2.875, 2.375), 3, (5, 5), "a box without a pixel's middle"),
        case((0.125, 1.875, 12.125, 8.375), 5, (10, 13)),
        case((3.125, 2.375, 17.625, 21.875), 28, (24, 20)),
    ]


EXERCISES["7.4.1"] = Exercise(
    minutes=10,
    stars=2,
    cases=_mask_loss_cases,
    reference=_mask_loss_reference,
    against="maskrcnn_loss of torchvision",
    mistakes={
        "You let the classes compete (softmax over the channels): take the channel of "
        "the label, and its sigmoid alone.": _mask_loss_softmax,
        "You ask each cell for a class (cross-entropy over the channels), and the mask "
        "is not used: ask the channel of the label whether the cell belongs to the "
        "object.": _mask_loss_cells,
        "You compare all channels with the target: only the channel of the object's "
        "own label counts.": _mask_loss_all,
        "You want the channels of the other classes to be 0: here they get no loss at "
        "all.": _mask_loss_others_mean,
        "You add up the channels, and want those of the other classes to be 0: they "
        "get no loss at all.": _mask_loss_others_sum,
        "You take channel 0, the background's: each object has its own channel, its "
        "label's.": _mask_loss_with(channel=lambda logits, labels: logits[:, 0]),
        "You take the channel before the label's: labels count from 1, but channel 0 "
        "is the background's, so nothing is to be subtracted.": _mask_loss_with(
            channel=lambda logits, labels: logits[range(len(labels)), labels - 1]
        ),
        "You take the channel of the first object's label for all objects.": (
            _mask_loss_with(channel=lambda logits, labels: logits[:, labels[0]])
        ),
        "You take the largest of the channels: take the one of the label, however "
        "small it is.": _mask_loss_with(channel=lambda logits, labels: logits.amax(1)),
        "You add the pixels up: take their mean.": _mask_loss_with(joined=torch.sum),
        "You average the pixels of each object and add the objects up: take their "
        "mean.": _mask_loss_with(joined=lambda entropy: entropy.mean((1, 2)).sum()),
        "You add up the pixels of each object and average over objects alone: take the "
        "mean over the pixels, too.": _mask_loss_with(
            joined=lambda entropy: entropy.sum((1, 2)).mean()
        ),
        "Without any object your loss is nan, the mean of nothing: return 0, or one "
        "such batch destroys all weights.": _mask_loss_with(when_empty=math.nan),
        "You apply the sigmoid twice: `..._with_logits` takes the logits as they "
        "are.": _mask_loss_with(
            channel=lambda logits, labels: logits[range(len(labels)), labels].sigmoid()
        ),
        "You round the targets to 0 and 1: a cell that the object fills by half has "
        "the target one half.": _mask_loss_with(wanted=lambda t: (t > 0.5).float()),
    },
    hints=(
        "`logits[places, labels]` with `places = torch.arange(len(labels))` picks one "
        "channel for each object: [N, m, m].",
        "Each value of that channel is a yes-or-no question of its own: "
        "`F.binary_cross_entropy_with_logits`.",
        "The mean of nothing is nan. The sum of nothing is 0, and it can be "
        "differentiated: return that where there is no object.",
    ),
)

# the same mistakes in an answer that has not thought of a batch without objects either
EXERCISES["7.4.1"].mistakes.update(
    {
        f"{sentence} And without any object your loss is nan: return 0.": (
            _nan_without_objects(mistake)
        )
        for sentence, mistake in EXERCISES["7.4.1"].mistakes.items()
        if "Without any object" not in sentence
    }
)

EXERCISES["7.4.2"] = Exercise(
    minutes=15,
    stars=3,
    cases=_paste_cases,
    reference=_paste_reference,
    against="F.grid_sample, 0 outside of the box",
    mistakes={
        "You paste as torchvision does: it cuts the box down to whole pixels and makes "
        "it a pixel longer. Keep the decimals.": _paste_torchvision,
        "You round the edges of the box to whole pixels: keep the decimals.": (
            _paste_with(box_of=lambda box: tuple(map(round, box)))
        ),
        "You cut the edges of the box down to whole pixels: keep the decimals.": (
            _paste_with(box_of=lambda box: tuple(map(math.floor, box)))
        ),
        "You ask for the mask at the corner of a pixel: its value belongs to the "
        "middle, half a pixel further.": _paste_with(pixel=0.0),
        "Your mask lies half a cell off: the value of a cell belongs to its middle, so "
        "the first one is at 0.5 cells.": _paste_with(cell=0.0),
        "You put the middles of the first and the last cell on the edges of the box "
        "(align_corners=True): the outer edges of the cells belong there.": (
            _paste_corners
        ),
        "You blend with 0 along the edges of the box: up to half a cell from the edge, "
        "use the value of the first or last cell.": _paste_zeros,
        "You take the cell that the pixel's middle lies in: blend the four around "
        "it.": _paste_with(nearest=lambda position: (position + 0.5).floor()),
        "You round to the nearest cell: blend the four around the pixel's middle.": (
            _paste_with(nearest=torch.round)
        ),
        "Outside of the box you go on with the border's values: it is 0 there.": (
            _paste_with(outside=True)
        ),
        "Your rows and columns are swapped: mask[row, column], and x runs along the "
        "columns.": _paste_with(turned=True),
        "You read the box as left, top, width, height: its last two numbers are the "
        "right and the lower edge.": _paste_with(
            box_of=lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
        ),
    },
    hints=(
        "Go from the image to the mask: where in the box lies the middle of pixel i, "
        "as a share of the box's side? Times the cells on a side, that is its position "
        "in cells.",
        "The value of a cell belongs to its middle: take 0.5 off the position, and "
        "clamp it to 0 and the last cell. Then blend as in 7.1.",
        "Bilinear weights can be written without an index: cell k gets the weight "
        "1 - |position - k|, but at least 0. As matrices, rows @ mask @ columns.T.",
    ),
    atol=1e-5,
)


# 7.5.1: what is to be seen of objects that hide each other


def _painted(masks: torch.Tensor) -> torch.Tensor:
    """Return the visible parts, by painting the objects from back to front."""
    canvas = torch.full(masks.shape[1:], -1)
    for number in reversed(range(len(masks))):
        canvas[masks[number]] = number
    return canvas == torch.arange(len(masks))[:, None, None]


def _visible_with(hidden_by: Callable) -> Callable:
    """Return the function that takes away what `hidden_by(masks, number)` covers."""

    def visible(masks: torch.Tensor) -> torch.Tensor:
        parts = [mask & ~hidden_by(masks, i) for i, mask in enumerate(masks)]
        return torch.stack(parts) if parts else masks.clone()

    return visible


def _visible_cases() -> list[Case]:
    generator = torch.Generator().manual_seed(751)
    y, x = torch.meshgrid(torch.arange(8), torch.arange(9), indexing="ij")

    def block(left: int, top: int, right: int, bottom: int) -> torch.Tensor:
        return (x >= left) & (x < right) & (y >= top) & (y < bottom)

    chain = torch.stack([block(0, 0, 4, 4), block(2, 2, 6, 6), block(4, 3, 9, 8)])
    behind = torch.stack([block(1, 1, 7, 7), block(2, 2, 5, 5), block(0, 4, 8, 8)])
    alone = block(2, 1, 5, 6)[None]
    cases = [
        Case({"masks": alone}, "what hides a single object?"),
        Case({"masks": torch.zeros(0, 8, 9, dtype=torch.bool)}, "no object at all"),
        Case({"masks": chain}),
        Case({"masks": behind}, "the second is hidden completely"),
    ]
    for n in (2, 5, 9):
        cases.append(Case({"masks": torch.rand(n, 6, 7, generator=generator) < 0.4}))
    return cases


EXERCISES["7.5.1"] = Exercise(
    minutes=10,
    stars=1,
    cases=_visible_cases,
    reference=_painted,
    against="painting the objects from back to front",
    mistakes={
        "You let the objects behind hide those in front: object i is hidden by those "
        "before it in the list.": _visible_with(lambda masks, i: masks[i + 1 :].any(0)),
        "You look at the next object in front alone: all of those before it can hide "
        "an object.": _visible_with(
            lambda masks, i: masks[i - 1] if i else torch.zeros_like(masks[0])
        ),
        "You look at the first object alone: all of those before it can hide an "
        "object.": _visible_with(
            lambda masks, i: masks[0] if i else torch.zeros_like(masks[0])
        ),
        "You take the overlaps away from all objects: the one in front keeps "
        "them.": _visible_with(lambda masks, i: masks.sum(0) > 1),
        "You return the whole masks: take away what is hidden.": _visible_with(
            lambda masks, i: torch.zeros_like(masks[0])
        ),
        "You return the hidden parts: take them away from the whole.": _visible_with(
            lambda masks, i: ~masks[:i].any(0)
        ),
        "You let an object hide itself: only those before it do.": _visible_with(
            lambda masks, i: masks[: i + 1].any(0)
        ),
        "You return every pixel that one object covers so far: keep those of the "
        "object's own mask.": lambda masks: masks.cumsum(0) == 1,
    },
    hints=(
        "A pixel belongs to object i if its mask covers it, and the mask of no object "
        "before it does.",
        "Keep a mask `covered` of all pixels that the objects so far have taken: the "
        "next one sees `mask & ~covered`.",
        "Without a loop: `masks.cumsum(0)` counts, at each pixel, the objects up to "
        "this one.",
    ),
)


# 7.5.2: suppression by masks


def _mask_ious(masks: torch.Tensor) -> torch.Tensor:
    """Return the IoU [N, N] of masks, by pycocotools."""
    if not len(masks):
        return torch.zeros(0, 0, dtype=torch.float64)
    coded = [rle.encode(np.asfortranarray(one.numpy(), np.uint8)) for one in masks]
    return torch.from_numpy(rle.iou(coded, coded, [0] * len(coded)))


def _suppressed_with(
    overlap_of: Callable = _mask_ious,
    order_of: Callable = lambda scores: scores.argsort(descending=True),
    too_much: Callable = operator.gt,
    among: str = "kept",
    answered: Callable = lambda keep: keep,
) -> Callable:
    """Return greedy suppression of masks, or the one that makes a mistake."""

    def suppress(
        masks: torch.Tensor, scores: torch.Tensor, threshold: float
    ) -> torch.Tensor:
        overlap, kept, seen = overlap_of(masks), [], []
        for i in order_of(scores).tolist():
            rivals = {"kept": kept, "seen": seen, "best": kept[:1], "last": kept[-1:]}
            if not any(too_much(overlap[i, j], threshold) for j in rivals[among]):
                kept.append(i)
            seen.append(i)
        return answered(torch.isin(torch.arange(len(masks)), torch.tensor(kept)))

    return suppress


def _box_ious(masks: torch.Tensor) -> torch.Tensor:
    """Return the IoU [N, N] of the boxes around masks."""
    boxes = masks_to_boxes(masks)  # the last pixels, not the edges
    boxes[:, 2:] += 1
    return box_iou(boxes, boxes)


def _shares(divide: Callable) -> Callable:
    """Return the overlaps [N, N], divided by what `divide` makes of two areas."""

    def shares(masks: torch.Tensor) -> torch.Tensor:
        flat = masks.flatten(1).double()
        areas = flat.sum(1)
        return flat @ flat.T / divide(areas[:, None], areas)

    return shares


def _suppression_cases() -> list[Case]:
    generator = torch.Generator().manual_seed(752)
    y, x = torch.meshgrid(torch.arange(16), torch.arange(18), indexing="ij")

    def block(left: int, top: int, right: int, bottom: int) -> torch.Tensor:
        return (x >= left) & (x < right) & (y >= top) & (y < bottom)

    def case(masks: list, scores: list, threshold: float, question: str = "") -> Case:
        values = (torch.stack(masks), torch.tensor(scores), threshold)
        names = ("masks", "scores", "threshold")
        return Case(dict(zip(names, values, strict=True)), question)

    stripe, other = (x - y).abs() < 3, (x + y - 15).abs() < 3
    steps = [block(k, 2, k + 8, 12) for k in (0, 3, 6, 9)]
    inside = [block(2, 2, 14, 14), block(4, 4, 10, 10), block(0, 0, 3, 3)]
    nothing = {
        "masks": torch.zeros(0, 16, 18, dtype=torch.bool),
        "scores": torch.zeros(0),
        "threshold": 0.5,
    }
    cases = [
        case([block(1, 1, 9, 9), block(2, 1, 10, 9)], [0.6, 0.9], 0.5),
        Case(nothing, "nothing was found"),
        case([stripe, other], [0.7, 0.8], 0.5, "their boxes cover each other"),
        case(
            [block(0, 0, 4, 4), block(0, 0, 4, 8)], [0.9, 0.8], 0.5, "IoU exactly 0.5"
        ),
        case(steps, [0.9, 0.8, 0.7, 0.6], 0.4, "the second overlaps first and third"),
        case(inside, [0.9, 0.8, 0.7], 0.5, "a small mask inside a large one"),
        case(inside, [0.7, 0.8, 0.9], 0.5),
    ]
    for n in (6, 12, 20):
        masks = []
        for _ in range(n):
            left, top = torch.randint(0, 8, (2,), generator=generator).tolist()
            w, h = torch.randint(4, 10, (2,), generator=generator).tolist()
            slanted = (x - y - left + top).abs() < 4
            some = block(left, top, left + w, top + h)
            masks.append(some & slanted if len(masks) % 2 else some)
        scores = torch.randperm(n, generator=generator) / n
        cases.append(case(masks, scores.tolist(), 0.3))
    return cases


EXERCISES["7.5.2"] = Exercise(
    minutes=15,
    stars=2,
    cases=_suppression_cases,
    reference=_suppressed_with(),
    against="the same rule with pycocotools' IoU of masks",
    mistakes={
        "You compare the boxes around the masks: count the pixels that two masks "
        "share, and those that either has.": _suppressed_with(_box_ious),
        "You divide by the smaller mask: divide by the pixels that either mask "
        "has.": _suppressed_with(_shares(torch.minimum)),
        "You divide by both areas together: the shared pixels would be counted "
        "twice.": _suppressed_with(_shares(operator.add)),
        "You divide by the larger mask: divide by the pixels that either mask "
        "has.": _suppressed_with(_shares(torch.maximum)),
        "You suppress from the threshold on: only an IoU above it is too "
        "much.": _suppressed_with(too_much=operator.ge),
        "A mask that was suppressed suppresses others: compare with those that were "
        "kept.": _suppressed_with(among="seen"),
        "You compare with the best mask alone: compare with all that were "
        "kept.": _suppressed_with(among="best"),
        "You compare with the last mask that was kept alone: compare with all of "
        "them.": _suppressed_with(among="last"),
        "You go through the masks as they come: the one with the highest score "
        "first.": _suppressed_with(order_of=lambda scores: torch.arange(len(scores))),
        "You begin with the lowest score: the highest comes first.": _suppressed_with(
            order_of=lambda scores: scores.argsort()
        ),
        "You answer in the order of the scores: put each answer at the place of its "
        "mask.": lambda masks, scores, threshold: _suppressed_with()(
            masks, scores, threshold
        )[scores.argsort(descending=True)],
        "You divide by the mask's own pixels: divide by the pixels that either mask "
        "has.": _suppressed_with(_shares(lambda one, other: one + 0 * other)),
        "You return which masks are thrown away: True is for those that stay.": (
            _suppressed_with(answered=operator.inv)
        ),
        "You keep what overlaps: a mask is kept if its IoU with each of those kept is "
        "at most the threshold.": _suppressed_with(too_much=operator.le),
    },
    hints=(
        "`flat = masks.flatten(1).float()` makes a row of each mask; `flat @ flat.T` "
        "counts the pixels that each pair shares.",
        "The union is the sum of both areas, minus what is shared.",
        "Go through `scores.argsort(descending=True)`, and keep an index if its IoU "
        "with no index kept so far is above the threshold. At the end, set those "
        "places of the result to True.",
    ),
)


# 7.6.1: atrous convolution


def _by_torch_atrous(
    image: torch.Tensor, kernel: torch.Tensor, rate: int
) -> torch.Tensor:
    """Return the atrous convolution of `image` [H, W], as large, by F.conv2d."""
    padding = [rate * (side // 2) for side in kernel.shape]
    options = {"dilation": rate, "padding": padding}
    return F.conv2d(image[None, None], kernel[None, None], **options)[0, 0]


def _moved(values: torch.Tensor, axis: int, by: int, beyond: str) -> torch.Tensor:
    """Return the value that lies `by` places further along an axis, for each place."""
    places = torch.arange(values.shape[axis]) + by
    inside = (places >= 0) & (places < len(places))
    if beyond == "wrap":
        places = places % len(places)
    moved = values.index_select(axis, places.clamp(0, len(places) - 1))
    if beyond == "zero":
        moved = moved * (inside[:, None] if axis == 0 else inside)
    return moved


def _atrous_with(
    *,
    steps: Callable = lambda rate: (rate, rate),
    turned: bool = False,
    beyond: str = "zero",
    centred: bool = True,
) -> Callable:
    """Return an atrous convolution by hand, with one of the known mistakes."""

    def atrous(image: torch.Tensor, kernel: torch.Tensor, rate: int) -> torch.Tensor:
        kernel = kernel.flip(0, 1) if turned else kernel
        centre = [side // 2 if centred else 0 for side in kernel.shape]
        output = torch.zeros_like(image)
        for i, row in enumerate(kernel):
            for j, weight in enumerate(row):
                tap = image
                for axis, place in enumerate((i, j)):
                    by = (place - centre[axis]) * steps(rate)[axis]
                    tap = _moved(tap, axis, by, beyond)
                output = output + weight * tap
        return output

    return atrous


def _atrous_cases() -> list[Case]:
    """Return a pixel, taps that all fall outside, the text's line, and random ones."""
    draw = torch.Generator().manual_seed(761)
    line = torch.tensor([[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]])
    written = [
        (torch.tensor([[3.0]]), torch.arange(9.0).view(3, 3), 1, "is it padded?"),
        (line, torch.tensor([[1.0, 0.0, 2.0]]), 2, "where do the three taps lie?"),
        (line, torch.tensor([[5.0]]), 3, ""),
        (line[:, :4], torch.tensor([[1.0, 10.0, 100.0]]), 4, "what lies outside?"),
    ]
    cases = [
        Case({"image": i, "kernel": k, "rate": r}, asked) for i, k, r, asked in written
    ]
    for size, kernel, rate in (
        ((4, 5), (3, 3), 1),
        ((7, 6), (3, 3), 2),
        ((5, 9), (3, 3), 3),
        ((6, 8), (1, 3), 2),
        ((8, 6), (3, 1), 2),
        ((9, 6), (5, 3), 2),
        ((6, 9), (3, 5), 2),
    ):
        image, weights = (torch.randn(s, generator=draw) for s in (size, kernel))
        cases.append(Case({"image": image, "kernel": weights, "rate": rate}))
    return cases


# 7.6.2: strides that become dilation


def _plan_of_resnet(strides: list[int], output_stride: int) -> list[tuple[int, int]]:
    """Return (stride, dilation) of layers that torchvision's ResNet builds."""
    plan, reached = [], 1
    with torch.device("meta"):
        network = ResNet(Bottleneck, [1, 1, 1, 1])
        network.inplanes, network.dilation = 4, 1
        for stride in strides:
            dilate = reached * stride > output_stride
            convolution = network._make_layer(Bottleneck, 1, 1, stride, dilate)[0].conv2
            plan.append((convolution.stride[0], convolution.dilation[0]))
            reached *= 1 if dilate else stride
    return plan


def _plan_with(
    *,
    grow: Callable = lambda rate, stride: rate * stride,
    early: bool = False,
    keep: Callable = lambda reached, stride, output_stride: (
        reached * stride <= output_stride
    ),
    stays: bool = False,
    forgets: bool = False,
    everywhere: bool = False,
) -> Callable:
    """Return a plan by hand, with one of the known mistakes."""

    def plan(strides: list[int], output_stride: int) -> list[tuple[int, int]]:
        found, reached, rate = [], 1, 1
        for stride in strides:
            if keep(reached, stride, output_stride):
                found.append((stride, rate))
                reached *= stride
                rate = 1 if forgets else rate
                continue
            after = grow(rate, stride)
            found.append((stride if stays else 1, after if early else rate))
            rate = after
        return [(stride, rate) for stride, _ in found] if everywhere else found

    return plan


def _plan_from_the_front(
    strides: list[int], output_stride: int
) -> list[tuple[int, int]]:
    """Remove the first strides, until the product of the others fits."""
    found, rate, left = [], 1, math.prod(strides)
    for stride in strides:
        removed = left > output_stride and stride > 1
        found.append((1 if removed else stride, rate))
        if removed:
            left, rate = left // stride, rate * stride
    return found


def _plan_for_one_layer(
    strides: list[int], output_stride: int
) -> list[tuple[int, int]]:
    """Make the mistake: only the layer after a removed stride is dilated."""
    found, reached, rate = [], 1, 1
    for stride in strides:
        kept = reached * stride <= output_stride
        found.append((stride if kept else 1, rate))
        reached, rate = (reached * stride, 1) if kept else (reached, stride)
    return found


def _plan_cases() -> list[Case]:
    """Return no layer, one, MobileNetV2's strides, and others."""
    asked = "may a network have no layer?"
    cases = [Case({"strides": [], "output_stride": 8}, asked)]
    for strides, output_stride in (
        ([1], 1),
        ([2], 2),
        ([2], 1),
        ([2, 2, 2], 8),
        ([2, 2, 2], 16),
        ([2, 2], 1),
        ([2, 1, 2, 1, 2, 1], 4),
        ([2, 1, 2, 1, 1, 2, 1, 1], 2),
        ([1, 2, 2, 1, 2, 2, 1], 2),
        ([2, 2, 2, 2, 1, 2, 1], 8),
        ([2, 2, 2, 2, 1, 2, 1], 16),
        ([2, 2, 2, 2, 2], 1),
        ([2, 2, 2], 6),  # "at most": no power of 2
        ([2, 1, 2], 3),
    ):
        cases.append(Case({"strides": strides, "output_stride": output_stride}))
    return cases


EXERCISES["7.6.1"] = Exercise(
    minutes=10,
    stars=2,
    cases=_atrous_cases,
    reference=_by_torch_atrous,
    against="F.conv2d with dilation=rate",
    mistakes={
        "Your rate has no effect, this is an ordinary convolution: neighbouring taps "
        "lie `rate` pixels apart.": _atrous_with(steps=lambda rate: (1, 1)),
        "You leave `rate` pixels out between two taps. They lie `rate` pixels apart, "
        "so rate - 1 are left out.": (
            _atrous_with(steps=lambda rate: (rate + 1, rate + 1))
        ),
        "Your taps lie `rate` apart from row to row, but not from column to column.": (
            _atrous_with(steps=lambda rate: (rate, 1))
        ),
        "Your taps lie `rate` apart from column to column, but not from row to row.": (
            _atrous_with(steps=lambda rate: (1, rate))
        ),
        "Your kernel is turned by 180°: kernel[0, 0] belongs to the pixel above and to "
        "the left. PyTorch's convolution does not flip.": _atrous_with(turned=True),
        "Your kernel begins at the output's pixel: its centre must lie there, with as "
        "many taps above as below and left as right.": _atrous_with(centred=False),
        "What leaves the image on one side comes back on the other, as torch.roll "
        "does: pad with zeros.": _atrous_with(beyond="wrap"),
        "Beyond the border you repeat the last pixel: pad with zeros.": (
            _atrous_with(beyond="repeat")
        ),
    },
    hints=(
        "Each weight of the kernel multiplies one moved copy of the whole image. Two "
        "short loops over the kernel are enough; the pixels need no loop.",
        "Pad the image once, with as many zeros on each side as the outermost tap "
        "reaches. The moved copies are slices of the padded image.",
        "A kernel of 3 reaches one tap to each side, that is `rate` pixels; a kernel "
        "of 5 reaches two. Rows and columns of the kernel may differ.",
    ),
)
EXERCISES["7.6.2"] = Exercise(
    minutes=10,
    stars=2,
    cases=_plan_cases,
    reference=_plan_of_resnet,
    against="torchvision's ResNet with replace_stride_with_dilation",
    mistakes={
        "The layer whose stride you remove is dilated already: its own input is as "
        "dense as before, only the layers after it need the larger rate.": (
            _plan_with(early=True)
        ),
        "You remove strides and never dilate: the layers after them see less than they "
        "were trained to see.": _plan_with(grow=lambda rate, stride: 1),
        "With the second stride that you remove, your rate does not grow: the rates "
        "multiply.": _plan_with(grow=lambda rate, stride: stride),
        "You add the stride to the rate: the rates multiply.": (
            _plan_with(grow=lambda rate, stride: rate + stride)
        ),
        "After the next layer your rate is 1 again: all later layers see the denser "
        "map, and keep the rate.": _plan_with(forgets=True),
        "You remove one stride too many: a layer may use its stride if the product "
        "with it is still at most output_stride.": (
            _plan_with(keep=lambda reached, stride, most: reached * stride < most)
        ),
        "You remove one stride too few: look at the product with this layer's own "
        "stride, before the layer uses it.": (
            _plan_with(keep=lambda reached, stride, most: reached <= most)
        ),
        "You keep strides until the product has reached output_stride, and it may jump "
        "over it: at most output_stride is allowed.": (
            _plan_with(keep=lambda reached, stride, most: reached < most)
        ),
        "You dilate, and keep the strides as well: where the rate grows, the stride "
        "becomes 1.": _plan_with(stays=True),
        "You dilate all layers alike: those before the first removed stride stay as "
        "they are.": _plan_with(everywhere=True),
        "You remove the first strides: remove the last ones.": _plan_from_the_front,
        "Only the layer right after a removed stride is dilated in your plan: all "
        "layers after it see the denser map.": _plan_for_one_layer,
    },
    hints=(
        "Go through the layers once and carry two numbers along: the product of the "
        "strides used so far, and the current rate. Both begin at 1.",
        "A stride that would make the product larger than `output_stride` is not "
        "used; the layer gets stride 1 instead.",
        "What changes for the layers after such a layer? Their neighbouring values now "
        "lie closer together, by the factor of the stride that was removed.",
    ),
)


# 7.7.1: the focal loss of several classes; pixels 255 count nowhere


def _focal_by_torchvision(
    logits: torch.Tensor, masks: torch.Tensor, gamma: float
) -> torch.Tensor:
    """Return the mean of torchvision's focal loss of "is it the true class?"."""
    labelled = masks != 255
    rows, truth = logits.movedim(1, -1)[labelled], masks[labelled].long()[:, None]
    # the log-odds of the true class, whose sigmoid is its softmax probability
    others = rows.scatter(1, truth, -torch.inf).logsumexp(1)
    odds = rows.gather(1, truth)[:, 0] - others
    ones = torch.ones_like(odds)
    return sigmoid_focal_loss(odds, ones, alpha=-1, gamma=gamma, reduction="mean")


def _focal_with(
    *,
    factor: Callable = lambda p, gamma: (1 - p) ** gamma,
    probability: Callable = lambda logits: logits.log_softmax(1).exp(),
    mean: Callable = lambda loss, factor, labelled: loss[labelled].mean(),
    labels: Callable = lambda masks, classes: masks.where(masks != 255, 0),
    all_labelled: bool = False,
) -> Callable:
    """Return a focal loss by hand, with one of the known mistakes."""

    def loss(logits: torch.Tensor, masks: torch.Tensor, gamma: float) -> torch.Tensor:
        truth = labels(masks.long(), logits.shape[1])
        labelled = (masks != 255) | all_labelled
        p = probability(logits).gather(1, truth[:, None])[:, 0]
        scale = factor(p, gamma)
        values = scale * F.cross_entropy(logits, truth, reduction="none")
        return mean(values, scale, labelled)

    return loss


def _focal_of_the_mean(
    logits: torch.Tensor, masks: torch.Tensor, gamma: float
) -> torch.Tensor:
    loss = F.cross_entropy(logits, masks.long(), ignore_index=255)
    return (1 - (-loss).exp()) ** gamma * loss


def _play_loss(
    answer: Callable, logits: torch.Tensor, masks: torch.Tensor, gamma: float
) -> dict[str, Any]:
    """Return a loss and its gradient at the logits, 0 where it has none."""
    logits = logits.clone().requires_grad_()
    loss, gradient = answer(logits, masks, gamma), torch.zeros_like(logits)
    if isinstance(loss, torch.Tensor) and loss.requires_grad and loss.numel() == 1:
        (gradient,) = torch.autograd.grad(loss.sum(), logits, allow_unused=True)
    return {"loss": loss, "gradient": gradient}


def _without_gradient(function: Callable) -> Callable:
    return lambda *arguments: function(*arguments).detach()


def _negative(function: Callable) -> Callable:
    return lambda *arguments: -function(*arguments)


def _focal_cases() -> list[Case]:
    generator = torch.Generator().manual_seed(771)
    kind = "the masks are uint8: which type does your loss want?"

    def case(
        shape: tuple, gamma: float, ignored: float = 0.0, question: str = kind
    ) -> Case:
        batch, classes, height, width = shape
        logits = (3 * torch.randn(shape, generator=generator)).round(decimals=1)
        masks = torch.randint(classes, (batch, height, width), generator=generator)
        nothing = torch.rand(masks.shape, generator=generator) < ignored
        masks = masks.masked_fill(nothing, 255).to(torch.uint8)
        return Case({"logits": logits, "masks": masks, "gamma": gamma}, question)

    void = "255 is no class: what becomes of those pixels?"
    return [
        case((1, 2, 1, 2), 2.0),
        case((1, 3, 1, 1), 0.0),
        case((1, 4, 2, 3), 1.0),
        case((2, 3, 2, 2), 2.0),
        case((1, 3, 3, 2), 2.0, 0.4, void),
        case((2, 4, 2, 3), 0.0, 0.4, void),
        case((2, 5, 4, 3), 0.5, 0.3, void),
        case((3, 4, 3, 4), 3.0, 0.3, void),
        case((2, 11, 4, 5), 2.0, 0.1, void),
    ]


EXERCISES["7.7.1"] = Exercise(
    minutes=10,
    stars=2,
    cases=_focal_cases,
    reference=_focal_by_torchvision,
    against="torchvision.ops.sigmoid_focal_loss of the true class",
    mistakes={
        "Your factor is p to the power gamma, which keeps the easy pixels: take 1 - p, "
        "so that the easy ones count little.": _focal_with(
            factor=lambda p, gamma: p**gamma
        ),
        "You take the mean first and then one factor for the whole batch: each pixel "
        'needs its own factor, so ask for the losses of all pixels (reduction="none").'
        "": _focal_of_the_mean,
        "You divide by the number of all pixels: those without a label have no loss, "
        "and must not be in the mean either.": _focal_with(
            mean=lambda loss, factor, labelled: (loss * labelled).mean()
        ),
        "Pixels without a label count as class 0 in your mean: leave them out of it.": (
            _focal_with(all_labelled=True)
        ),
        "Pixels without a label count as the last class in your mean: leave them out "
        "of it.": _focal_with(
            labels=lambda masks, classes: masks.clamp(max=classes - 1),
            all_labelled=True,
        ),
        "You divide by the sum of the factors: take the plain mean over the labelled "
        "pixels.": _focal_with(
            mean=lambda loss, factor, labelled: (
                loss[labelled].sum() / factor[labelled].sum()
            )
        ),
        "You add up the pixels: take their mean.": _focal_with(
            mean=lambda loss, factor, labelled: loss[labelled].sum()
        ),
        "You multiply by alpha = 0.25 as well, which belongs to one class against all "
        "others: leave it out.": _focal_with(
            factor=lambda p, gamma: 0.25 * (1 - p) ** gamma
        ),
        "Your probability comes from a sigmoid, which sees one logit alone: use the "
        "softmax over the classes.": _focal_with(probability=torch.sigmoid),
        "Your softmax runs over an axis of the image: the classes are axis 1.": (
            _focal_with(probability=lambda logits: logits.softmax(-1))
        ),
        "Your factor is gamma times 1 - p: gamma is an exponent.": _focal_with(
            factor=lambda p, gamma: gamma * (1 - p)
        ),
        "Your loss is below 0: the logarithm of a probability is negative, so put a "
        "minus in front.": _negative(_focal_with()),
        "Your loss has no gradient, and nothing would learn: return the tensor, "
        "without `.item()` or `.detach()`.": _without_gradient(_focal_with()),
        "Your factor is cut off from the gradient: leave `.detach()` out, it is a part "
        "of the loss.": _focal_with(factor=lambda p, gamma: (1 - p.detach()) ** gamma),
        "You take the softmax twice: `F.cross_entropy` and `log_softmax` want the "
        "logits themselves.": lambda logits, masks, gamma: _focal_with()(
            logits.softmax(1), masks, gamma
        ),
        "Your factor looks at the largest probability: take that of the true "
        "class.": _focal_with(
            probability=lambda logits: (
                logits.softmax(1).amax(1, keepdim=True).expand_as(logits)
            )
        ),
    },
    play=_play_loss,
    hints=(
        '`F.cross_entropy(..., reduction="none", ignore_index=255)` gives minus the '
        "logarithm of the true class's probability, for each pixel.",
        "The probability of the true class is then `torch.exp(-loss)`; you need no "
        "softmax of your own.",
        "The mean goes over the labelled pixels alone: index with `masks != 255`.",
    ),
)


# 7.7.2: the soft Dice loss of the classes that occur; pixels 255 count nowhere

EIGHTHS = 8


def _dice_by_torchmetrics(
    probabilities: torch.Tensor, masks: torch.Tensor
) -> torch.Tensor:
    """Return 1 minus torchmetrics' Dice of the classes that occur.

    A pixel with a probability of 3/8 counts as eight pixels, three of which are
    predicted: torchmetrics knows hard predictions alone.
    """
    labelled, classes = masks != 255, probabilities.shape[1]
    rows = probabilities.movedim(1, -1)[labelled]
    counts = (EIGHTHS * rows).round().long()
    predicted = (
        torch.arange(classes).repeat(len(rows)).repeat_interleave(counts.flatten())
    )
    truth = masks[labelled].long()
    repeated = truth.repeat_interleave(EIGHTHS)
    each = dice_score(
        predicted[None],
        repeated[None],
        classes,
        average="none",
        input_format="index",
        aggregation_level="global",
    )[0]
    return 1 - each[truth.unique()].mean()


def _dice_with(
    *,
    score: Callable = lambda both, predicted, true: 2 * both / (predicted + true),
    ignore_predicted: bool = True,
    clamp: bool = False,
    zeroed: bool = False,
    join: Callable = lambda scores, true: scores[true > 0].mean(),
    hard: bool = False,
    power: int = 1,
) -> Callable:
    """Return a Dice loss by hand, with one of the known mistakes."""

    def loss(probabilities: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        classes, p = probabilities.shape[1], probabilities
        if hard:
            p = F.one_hot(p.argmax(1), classes).movedim(-1, 1).to(p.dtype)
        labelled = (masks != 255)[:, None]
        if clamp or zeroed:
            labels = masks.long().clamp(max=classes - 1)
            labels = labels if clamp else labels.where(masks != 255, 0)
            truth = F.one_hot(labels, classes).movedim(-1, 1).to(p.dtype)
        else:
            labels = masks.long().where(masks != 255, 0)
            truth = F.one_hot(labels, classes).movedim(-1, 1) * labelled
            p = p * labelled if ignore_predicted else p
        axes = (0, 2, 3)
        both, predicted, true = (
            part.sum(axes) for part in (p * truth, p**power, truth.to(p.dtype))
        )
        return 1 - join(score(both, predicted, true), true)

    return loss


def _dice_per_image(probabilities: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    loss = _dice_with()
    pairs = zip(probabilities.split(1), masks.split(1), strict=True)
    each = [loss(p, m) for p, m in pairs if (m != 255).any()]
    return torch.stack(each).mean()


def _dice_of_pairs(probabilities: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    scores = _dice_with(join=lambda scores, true: scores[true > 0].sum())
    pairs = zip(probabilities.split(1), masks.split(1), strict=True)
    total = sum(1 - scores(p, m) for p, m in pairs)
    found = [mask[mask != 255].unique().numel() for mask in masks]
    return 1 - total / sum(found)


def _dice_of_all(probabilities: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    labelled = masks != 255
    rows, truth = probabilities.movedim(1, -1)[labelled], masks[labelled].long()
    both = rows.gather(1, truth[:, None]).sum()
    return 1 - 2 * both / (rows.sum() + len(truth))


def _dice_cases() -> list[Case]:
    generator = torch.Generator().manual_seed(772)

    def case(
        shape: tuple,
        present: tuple,
        ignored: float = 0.0,
        question: str = "",
        perfect: bool = False,
    ) -> Case:
        batch, classes, height, width = shape
        places = torch.randint(
            len(present), (batch, height, width), generator=generator
        )
        masks = torch.tensor(present)[places]
        draws = torch.randint(
            classes, (EIGHTHS, batch, height, width), generator=generator
        )
        if perfect:
            draws = masks.expand(EIGHTHS, -1, -1, -1)
        probabilities = F.one_hot(draws, classes).float().mean(0).movedim(-1, 1)
        nothing = torch.rand(masks.shape, generator=generator) < ignored
        masks = masks.masked_fill(nothing, 255).to(torch.uint8)
        return Case({"probabilities": probabilities, "masks": masks}, question)

    void = "255 is no class: what becomes of those pixels?"
    absent = "a class occurs in no mask"
    return [
        case((1, 2, 1, 2), (0, 1)),
        case((1, 3, 2, 2), (0, 1, 2), 0.0, "a perfect prediction", True),
        case((1, 3, 2, 3), (0, 2), 0.0, absent),
        case((1, 4, 2, 3), (1, 2), 0.0, absent, True),
        case((1, 3, 3, 3), (0, 1, 2), 0.3, void),
        case((1, 3, 3, 3), (0, 1, 2), 0.3, void, True),
        case((2, 3, 3, 3), (0, 1, 2), 0.2, void),
        case((2, 5, 3, 4), (0, 1, 3), 0.3, absent),
        case((3, 4, 4, 4), (0, 1, 2, 3), 0.2),
    ]


EXERCISES["7.7.2"] = Exercise(
    minutes=15,
    stars=2,
    cases=_dice_cases,
    reference=_dice_by_torchmetrics,
    against="torchmetrics.functional.segmentation.dice_score",
    mistakes={
        "What is predicted on pixels without a label counts as wrong in your code: set "
        "the probabilities of those pixels to 0 as well.": _dice_with(
            ignore_predicted=False
        ),
        "Pixels without a label count as the last class in your code: they must count "
        "nowhere.": _dice_with(clamp=True),
        "Pixels without a label count as class 0 in your code: they must count "
        "nowhere.": _dice_with(zeroed=True),
        "A class that occurs in no mask scores 0 in your mean, however good the "
        "prediction is: take the mean over the classes that occur.": _dice_with(
            join=lambda scores, true: scores.nan_to_num(0).mean()
        ),
        "A class that occurs in no mask is in your mean wherever something was "
        "predicted for it: take the mean over the classes that occur.": _dice_with(
            join=lambda scores, true: scores.nanmean()
        ),
        "You add up each image by itself: add up over the whole batch, then divide.": (
            _dice_per_image
        ),
        "You take the mean over all pairs of an image and a class: add up over the "
        "whole batch, then divide, and take the mean over the classes.": (
            _dice_of_pairs
        ),
        "You take a softmax of what are probabilities already: use them as they "
        "are.": lambda probabilities, masks: _dice_with()(
            probabilities.softmax(1), masks
        ),
        "You add up all classes before you divide, so that the frequent ones decide: "
        "divide for each class, then take the mean.": _dice_of_all,
        "Your score is the IoU: Dice divides by the sum of both areas, and counts the "
        "overlap twice.": _dice_with(
            score=lambda both, predicted, true: both / (predicted + true - both)
        ),
        "The factor 2 is missing: a perfect prediction must reach a score of 1.": (
            _dice_with(score=lambda both, predicted, true: both / (predicted + true))
        ),
        "You add 1 to numerator and denominator, which scores small classes too well: "
        "leave it out, the classes that occur have an area.": _dice_with(
            score=lambda both, predicted, true: (2 * both + 1) / (predicted + true + 1)
        ),
        "You square the probabilities in the denominator, as the first paper does: "
        "here the predicted area is their plain sum.": _dice_with(power=2),
        "You return the score: the loss is 1 minus it.": lambda *arguments: (
            1 - _dice_with()(*arguments)
        ),
        "You take the class with the largest probability, which has no gradient: use "
        "the probabilities themselves.": _dice_with(hard=True),
    },
    hints=(
        "Make a one-hot truth [B, C, H, W] of the masks. `F.one_hot` refuses 255: put "
        "any class there first, and set both truth and probabilities of those pixels "
        "to 0 afterwards.",
        "Three sums for each class, over the axes 0, 2 and 3: the probabilities where "
        "the truth is 1, all probabilities, the truth.",
        "The classes that occur are those whose truth has a sum above 0.",
    ),
)


# 7.8.1: the kernel of bilinear interpolation


def _interpolated_impulse(factor: int) -> torch.Tensor:
    """Return what F.interpolate makes of a single 1, without the zeros around it."""
    impulse = torch.zeros(1, 1, 5, 5)
    impulse[0, 0, 2, 2] = 1
    enlarged = F.interpolate(impulse, scale_factor=float(factor), mode="bilinear")[0, 0]
    edge = 2 * factor + factor // 2 - (2 * factor - factor % 2) // 2
    return enlarged[edge:-edge, edge:-edge] if edge else enlarged


def _tent(
    factor: int,
    side: Callable = lambda factor: 2 * factor - factor % 2,
    centre: Callable = lambda side: (side - 1) / 2,
    slope: Callable = lambda away, factor, side: 1 - away / factor,
    join: Callable = lambda along: along[:, None] * along,
) -> torch.Tensor:
    """Return the kernel, or with an option what a mistake makes."""
    sides = side(factor)
    away = (torch.arange(sides) - centre(sides)).abs()
    return join(slope(away, factor, sides))


def _tent_with(**options: Callable) -> Callable:
    """Return `_tent` with a mistake."""

    def wrong(factor: int) -> torch.Tensor:
        return _tent(factor, **options)

    return wrong


def _kernel_cases() -> list[Case]:
    """Return even and odd factors; with 1 nothing is enlarged."""
    return [
        Case({"factor": factor}, "how far is each place from the centre of the kernel?")
        for factor in (2, 1, 3, 4, 5, 8, 16)
    ]


EXERCISES["7.8.1"] = Exercise(
    minutes=15,
    stars=3,
    cases=_kernel_cases,
    reference=_interpolated_impulse,
    against="F.interpolate makes of a single 1",
    mistakes={
        "Your kernel adds up to 1: it spreads one value over factor x factor pixels, "
        "so it must add up to factor squared. Do not normalise.": lambda factor: (
            _tent(factor) / _tent(factor).sum()
        ),
        "The centre of your kernel is off: with `side` values, numbered from 0, it "
        "lies at (side - 1) / 2.": _tent_with(centre=lambda side: side // 2),
        "The centre of your kernel is off where the factor is even: it lies at "
        "(side - 1) / 2, between two places.": lambda factor: _tent(
            factor, centre=lambda side: factor - 1
        ),
        "Your kernel falls to 0 at its own edge: it must fall to 0 at the distance "
        "`factor` from its centre.": _tent_with(
            slope=lambda away, factor, side: 1 - away / max((side - 1) / 2, 1)
        ),
        "Your weights fall to 0 at both ends of the kernel: they must fall to 0 at the "
        "distance `factor` from its centre, just outside of it.": lambda factor: _tent(
            factor,
            slope=lambda away, factor, side: 1 - torch.linspace(-1, 1, side).abs(),
        ),
        "Your weights fall with the sum of both distances: multiply one weight for "
        "each axis.": lambda factor: _away_with(torch.add, factor),
        "Your weights fall with the larger of both distances: multiply one weight for "
        "each axis.": lambda factor: _away_with(torch.maximum, factor),
        "That repeats the nearest value: the weights must fall with the distance from "
        "the centre.": lambda factor: torch.ones(2 * [2 * factor - factor % 2]),
        "You add the weights along the two axes, or take their mean: multiply "
        "them.": _tent_with(join=lambda along: (along[:, None] + along) / 2),
        "Your weights fall with the straight distance from the centre: bilinear "
        "interpolation multiplies one weight for each axis.": lambda factor: _cone(
            factor
        ),
    },
    hints=(
        "Begin along one axis: `side` places, and the distance of each from the "
        "middle, (side - 1) / 2.",
        "The weight is 1 at distance 0 and falls in a straight line to 0 at the "
        "distance `factor`, the centre of the neighbour.",
        "`along[:, None] * along` makes the square of the line.",
    ),
)


def _away_with(join: Callable, factor: int) -> torch.Tensor:
    """Make the mistake: weights by one distance, joined from those of both axes."""
    side = 2 * factor - factor % 2
    away = (torch.arange(side) - (side - 1) / 2).abs()
    rows, columns = torch.meshgrid(away, away, indexing="ij")
    return (1 - join(rows, columns) / factor).clamp(min=0)


def _cone(factor: int) -> torch.Tensor:
    """Make the mistake: weights by the straight distance."""
    return _away_with(torch.hypot, factor)


# 7.8.2: scores added from coarse to fine


def _fused(scores: list[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
    """Return the sum of one to three maps of scores, written out."""
    options = {"mode": "bilinear", "align_corners": False}
    if len(scores) == 1:
        return F.interpolate(scores[0], size, **options)
    two = scores[1] + F.interpolate(scores[0], scale_factor=2.0, **options)
    if len(scores) == 2:
        return F.interpolate(two, size, **options)
    three = scores[2] + F.interpolate(two, scale_factor=2.0, **options)
    return F.interpolate(three, size, **options)


def _fused_with(
    double: Callable = lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear"),
    add: Callable = lambda x, finer: x + finer,
    enlarge: Callable = lambda x, size: F.interpolate(x, size, mode="bilinear"),
) -> Callable:
    """Return a fusion that makes the mistake of an option."""

    def wrong(scores: list[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
        total = scores[0]
        for finer in scores[1:]:
            total = add(double(total), finer)
        return enlarge(total, size)

    return wrong


def _each_enlarged(scores: list[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
    """Make the mistake: each map is enlarged to the full size at once."""
    return sum(F.interpolate(one, size, mode="bilinear") for one in scores)


def _in_place(scores: list[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
    """Make the mistake: only the coarsest map is used."""
    return F.interpolate(scores[0], size, mode="bilinear")


def _from_fine_to_coarse(
    scores: list[torch.Tensor], size: tuple[int, int]
) -> torch.Tensor:
    """Make the mistake: begin with the last map, and shrink it."""
    total = scores[-1]
    for coarser in scores[-2::-1]:
        shrunk = F.interpolate(total, coarser.shape[-2:], mode="bilinear")
        total = shrunk + coarser
    return F.interpolate(total, size, mode="bilinear")


def _aligned(x: torch.Tensor, **size: object) -> torch.Tensor:
    """Enlarge with the corners aligned."""
    return F.interpolate(x, **size, mode="bilinear", align_corners=True)


def _fuse_cases() -> list[Case]:
    """Return one map alone, then two and three."""
    generator = torch.Generator().manual_seed(782)
    cases = []
    questions = (
        "one map alone is only enlarged",
        *2 * ["which two are equally large?"],
    )
    for n, (h, w), factor in ((1, (2, 3), 4), (2, (2, 3), 4), (3, (3, 2), 2)):
        scores = [
            torch.randn(2, 3, h * 2**k, w * 2**k, generator=generator) for k in range(n)
        ]
        size = (h * 2 ** (n - 1) * factor, w * 2 ** (n - 1) * factor)
        cases.append(Case({"scores": scores, "size": size}, questions[n - 1]))
    return cases


EXERCISES["7.8.2"] = Exercise(
    minutes=10,
    stars=2,
    cases=_fuse_cases,
    reference=_fused,
    against="the same sum, written out line by line",
    mistakes={
        "You enlarge each map to the full size and add them there: enlarge the sum so "
        "far to the size of the next finer map, and add that.": _each_enlarged,
        "You begin with the finest map: `scores[0]` is the coarsest, begin with "
        "it.": _from_fine_to_coarse,
        "You use the coarsest map alone: the finer ones are added to it.": _in_place,
        "You take the mean of the two maps: add them.": _fused_with(
            add=lambda x, finer: (x + finer) / 2
        ),
        "You double with align_corners=True: leave it False, so that pixels are "
        "squares whose centres are interpolated.": _fused_with(
            double=lambda x: _aligned(x, scale_factor=2.0),
            enlarge=lambda x, size: _aligned(x, size=size),
        ),
        "You double by repeating the nearest value: interpolate bilinearly.": (
            _fused_with(
                double=lambda x: F.interpolate(x, scale_factor=2.0),
                enlarge=lambda x, size: F.interpolate(x, size),
            )
        ),
        "In the loop you repeat the nearest value: interpolate bilinearly there, "
        "too.": _fused_with(double=lambda x: F.interpolate(x, scale_factor=2.0)),
        "At the end you repeat the nearest value: interpolate bilinearly there, "
        "too.": _fused_with(enlarge=lambda x, size: F.interpolate(x, size)),
        "You multiply the scores by 2: double their height and width, not the "
        "values.": _fused_with(
            double=lambda x: 2 * F.interpolate(x, scale_factor=2.0, mode="bilinear")
        ),
        "You use the finest map alone: it is added to the sum of the coarser "
        "ones.": _fused_with(add=lambda x, finer: finer),
        "The finer maps are lost: you double the sum, but do not add them.": (
            _fused_with(add=lambda x, finer: x)
        ),
    },
    hints=(
        "Start with `total = scores[0]` and go through `scores[1:]`.",
        'F.interpolate(total, scale_factor=2.0, mode="bilinear") doubles a map.',
        "After the loop, one more F.interpolate with `size=size`.",
    ),
    atol=1e-5,
)
