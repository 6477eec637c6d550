"""What the chapters report: accuracy and the confusion matrix of a classifier."""

import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the share of examples whose largest logit is that of their label.

    Args:
        logits: [B, C] with C > 1, not nan; probabilities do as well.
        labels: [B], int64, in 0..C-1.

    Returns:
        A scalar in [0, 1], float32.

    Raises:
        ValueError: If shapes do not belong together, there is no example or one class
            alone, a logit is nan, or a label is no class.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or len(labels) == 0:
        wanted = "logits [B, C] and labels [B] with B > 0"
        raise ValueError(
            f"expected {wanted}, got {list(logits.shape)} and {list(labels.shape)}"
        )
    if logits.shape[1] == 1:
        raise ValueError(
            "expected one logit for each class, got [B, 1], of which the first is "
            "always the largest: for two classes with one logit, compare `logits > 0` "
            "with the labels"
        )
    _check_classes("labels", labels, logits.shape[1])
    if logits.isnan().any():
        raise ValueError(
            "a logit is nan: training has diverged (lower the learning rate), or the "
            "images hold nan"
        )
    return (logits.argmax(1) == labels).float().mean()


def confusion_matrix(
    predictions: torch.Tensor, labels: torch.Tensor, num_classes: int
) -> torch.Tensor:
    """Count how often each class was taken for each.

    Args:
        predictions: [N], int64, the predicted classes (not logits), in
            0..num_classes-1.
        labels: [N], int64, the true classes.
        num_classes: How many classes there are, at least 2.

    Returns:
        [num_classes, num_classes], int64: row = true class, column = predicted class.

    Raises:
        ValueError: If shapes, dtypes or values are others.

    Source: `torchmetrics.functional.classification.multiclass_confusion_matrix`.
    """
    if predictions.shape != labels.shape or predictions.ndim != 1:
        shapes = f"{list(predictions.shape)} and {list(labels.shape)}"
        raise ValueError(
            f"expected predictions [N] and labels [N], got {shapes}: the classes of "
            f"logits [N, C] are logits.argmax(1)"
        )
    _check_classes("predictions", predictions, num_classes)
    _check_classes("labels", labels, num_classes)
    return multiclass_confusion_matrix(predictions, labels, num_classes)


def miou_interval(
    predicted: torch.Tensor,
    masks: torch.Tensor,
    num_classes: int,
    *,
    ignore: int,
    block: int = 20,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return a 95 % interval of the mIoU of the frames of a video, by the bootstrap.

    Neighbouring frames are alike, so blocks of consecutive frames are drawn, with
    replacement, and not single frames: these would make the interval too narrow. It
    covers the choice of frames, not that of the seed a network was trained with.

    Args:
        predicted: [N, H, W], int64, the classes that were found, 0..num_classes - 1.
        masks: [N, H, W], whole numbers, the ground truth, in the order of the video.
        num_classes: How many classes there are.
        ignore: The value of `masks` that is not measured.
        block: Frames in a block; the last one may be shorter.
        resamples: How often as many blocks are drawn as there are.
        seed: Of the draws.

    Returns:
        The 2.5th and the 97.5th percentile of the mIoU, the mean over the classes that
        occur in a draw.

    Raises:
        ValueError: If the shapes differ, or there are fewer than two blocks.
    """
    if predicted.shape != masks.shape or predicted.ndim != 3:
        raise ValueError(
            f"expected predicted [N, H, W] and masks alike, got "
            f"{list(predicted.shape)} and {list(masks.shape)}"
        )
    if len(masks) <= block:
        raise ValueError(
            f"{len(masks)} frames are one block of {block}, and there is nothing to "
            f"draw from: make the blocks shorter"
        )
    confusions = []
    for found, mask in zip(predicted.split(block), masks.split(block), strict=True):
        known = mask != ignore
        pairs = num_classes * mask[known].long() + found[known]
        confusions.append(pairs.bincount(minlength=num_classes**2))
    confusions = torch.stack(confusions).view(-1, num_classes, num_classes).double()
    generator = torch.Generator().manual_seed(seed)
    n = len(confusions)
    draws = torch.randint(n, (resamples, n), generator=generator)
    times = torch.zeros(resamples, n).scatter_add_(1, draws, torch.ones(draws.shape))
    drawn = torch.einsum("rn,nij->rij", times.double(), confusions)
    right = drawn.diagonal(dim1=1, dim2=2)
    iou = (right / (drawn.sum(1) + drawn.sum(2) - right)).nanmean(1)
    low, high = iou.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    return low.item(), high.item()


def _check_classes(name: str, classes: torch.Tensor, num_classes: int) -> None:
    """Refuse numbers that are no classes."""
    if classes.is_floating_point() or classes.dtype == torch.bool:
        raise ValueError(
            f"{name} must be whole numbers, int64, got {classes.dtype}: convert with "
            f"`.long()`, if that loses nothing"
        )
    if classes.numel() == 0:
        return
    lowest, highest = map(int, classes.aminmax())
    if lowest < 0 or highest >= num_classes:
        raise ValueError(
            f"{name} must lie in 0..{num_classes - 1}, got {lowest}..{highest}"
        )
