"""What the chapters report: of classifiers, of masks, and of generated images."""

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


def frechet_distance(features_a: torch.Tensor, features_b: torch.Tensor) -> float:
    """Return the Frechet distance of two sets of features, each taken as a Gaussian.

    It is |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) with the means m and the
    covariances C. Small samples make it too large: compare distances of equally many.

    Args:
        features_a: [N, D], floating point; N may be smaller than D.
        features_b: [M, D].

    Returns:
        The distance, computed in float64; 0 where means and covariances agree.

    Raises:
        ValueError: If the shapes are others, a set has fewer than two rows, or a
            feature is not finite.

    Source: Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter, *GANs trained by a two
    time-scale update rule converge to a local Nash equilibrium*, 2017, equation 6.
    """
    _check_features(features_a, features_b, least=2)
    a, b = features_a.double(), features_b.double()
    covariance_a, covariance_b = torch.cov(a.T), torch.cov(b.T)
    if a.shape[1] == 1:
        covariance_a, covariance_b = covariance_a[None, None], covariance_b[None, None]
    # C_a C_b has the eigenvalues of R C_b R, which is symmetric, with R = C_a^(1/2)
    values, vectors = torch.linalg.eigh(covariance_a)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    product = torch.linalg.eigvalsh(root @ covariance_b @ root)
    shift = (a.mean(0) - b.mean(0)).square().sum()
    spread = covariance_a.trace() + covariance_b.trace()
    distance = shift + spread - 2 * product.clamp(min=0).sqrt().sum()
    return max(0.0, float(distance))


def precision_recall(
    real: torch.Tensor, fake: torch.Tensor, k: int = 3
) -> tuple[float, float]:
    """Return how many samples look real, and how much of what is real they cover.

    Around each feature lies a ball that reaches to its k-th nearest neighbour in its
    own set. Precision is the share of fakes inside a ball of the real ones; recall is
    the share of real ones inside a ball of the fakes.

    Args:
        real: [N, D], floating point, features of real images, N > k.
        fake: [M, D], features of generated images, M > k; best as many as `real`.
        k: Which neighbour a ball reaches to.

    Returns:
        Precision and recall, each in [0, 1].

    Raises:
        ValueError: If the shapes are others, k is less than 1 or a set has k rows or
            fewer, or a feature is not finite.

    Source: Kynkäänniemi, Karras, Laine, Lehtinen, Aila, *Improved precision and recall
    metric for assessing generative models*, 2019, equations 1 and 2.
    """
    if not isinstance(k, int) or k < 1:
        raise ValueError(f"k must be a whole number, at least 1, got {k!r}")
    _check_features(real, fake, least=k + 1)
    real, fake = real.double(), fake.double()

    def covered(balls: torch.Tensor, points: torch.Tensor) -> float:
        # the nearest neighbour of a feature in its own set is itself
        radii = [
            torch.cdist(rows, balls).kthvalue(k + 1, 1).values
            for rows in balls.split(1000)
        ]
        radii = torch.cat(radii)
        inside = [
            (torch.cdist(rows, balls) <= radii).any(1) for rows in points.split(1000)
        ]
        return torch.cat(inside).double().mean().item()

    return covered(real, fake), covered(fake, real)


def _check_features(a: torch.Tensor, b: torch.Tensor, least: int) -> None:
    """Refuse what is no pair of sets of features."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1:] != b.shape[1:] or not a.shape[1]:
        raise ValueError(
            f"expected features [N, D] and [M, D] with the same D > 0, got "
            f"{list(a.shape)} and {list(b.shape)}"
        )
    if min(len(a), len(b)) < least:
        raise ValueError(
            f"expected at least {least} rows in each set, got {len(a)} and {len(b)}"
        )
    if not (a.isfinite().all() and b.isfinite().all()):
        raise ValueError("a feature is infinite or nan: look at the network's output")


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
