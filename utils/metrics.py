"""What the chapters report: thin functions over torchmetrics."""

import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the share of examples whose largest logit is that of their label.

    Args:
        logits: [B, C], any floating dtype; probabilities do as well.
        labels: [B], int64, in 0..C-1.

    Returns:
        A scalar in [0, 1], float32.

    Raises:
        ValueError: If the shapes do not belong together, or there is no example.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or len(labels) == 0:
        wanted = "logits [B, C] and labels [B] with B > 0"
        raise ValueError(f"expected {wanted}, got {list(logits.shape)} and {list(labels.shape)}")
    return (logits.argmax(1) == labels).float().mean()


def confusion_matrix(predictions: torch.Tensor, labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Count how often each class was taken for each.

    Args:
        predictions: [N], int64, the predicted classes (not logits), in 0..num_classes-1.
        labels: [N], int64, the true classes.
        num_classes: How many classes there are.

    Returns:
        [num_classes, num_classes], int64: row = true class, column = predicted class.

    Raises:
        ValueError: If shapes or values are others.

    Source: `torchmetrics.functional.classification.multiclass_confusion_matrix`.
    """
    if predictions.shape != labels.shape or predictions.ndim != 1:
        shapes = f"{list(predictions.shape)} and {list(labels.shape)}"
        raise ValueError(f"expected predictions [N] and labels [N], got {shapes}")
    both = torch.cat([predictions, labels])
    if len(both) and not 0 <= int(both.min()) <= int(both.max()) < num_classes:
        raise ValueError(
            f"classes must lie in 0..{num_classes - 1}, got {int(both.min())}..{int(both.max())}"
        )
    return multiclass_confusion_matrix(predictions, labels, num_classes)
