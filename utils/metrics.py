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
