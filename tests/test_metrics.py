import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.metrics import accuracy_score
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix
from torchmetrics.functional.classification import multiclass_jaccard_index

from utils.metrics import (
    accuracy,
    confusion_matrix,
    frechet_distance,
    miou_interval,
    precision_recall,
)


def test_accuracy_equals_scikit_learns():
    generator = torch.Generator().manual_seed(0)
    logits, labels = (
        torch.randn(97, 5, generator=generator),
        torch.randint(0, 5, (97,), generator=generator),
    )
    assert accuracy(logits, labels).item() == pytest.approx(
        accuracy_score(labels, logits.argmax(1))
    )
    assert accuracy(torch.tensor([[0.0, 1.0]]), torch.tensor([1])).item() == 1
    assert accuracy(torch.tensor([[0.0, 1.0]]), torch.tensor([0])).item() == 0


@pytest.mark.parametrize(
    ("logits", "labels"),
    [((4,), (4,)), ((4, 2), (3,)), ((4, 2), (4, 2)), ((0, 2), (0,))],
)
def test_accuracy_refuses_other_shapes(logits, labels):
    with pytest.raises(ValueError, match=r"logits \[B, C\]"):
        accuracy(torch.zeros(logits), torch.zeros(labels, dtype=torch.int64))


LOGITS, LABELS = torch.eye(4, 3), torch.tensor([0, 1, 2, 0])


def test_accuracy_takes_labels_of_any_whole_numbers_and_any_dtype_of_logits():
    # the last row is a tie, which the first class wins
    for logits in (LOGITS, LOGITS.bfloat16(), LOGITS.double(), LOGITS.log()):
        for labels in (LABELS, LABELS.int(), LABELS.byte()):
            assert accuracy(logits, labels).item() == 1


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (LOGITS * torch.nan, LABELS, "a logit is nan"),
        (LOGITS.masked_fill(LOGITS == 1, torch.nan), LABELS, "a logit is nan"),
        (LOGITS, LABELS + 1, r"labels must lie in 0\.\.2, got 1\.\.3"),
        (LOGITS, LABELS - 1, r"labels must lie in 0\.\.2, got -1\.\.1"),
        (LOGITS, LABELS + 0.5, "labels must be whole numbers"),
        (LOGITS, LABELS == 0, "labels must be whole numbers"),
        (LOGITS[:, :1], LABELS * 0, r"got \[B, 1\]"),
    ],
)
def test_accuracy_refuses_what_it_would_count_wrong(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        accuracy(logits, labels)


def test_confusion_matrix_has_the_truth_in_rows():
    labels, predictions = torch.tensor([0, 0, 0, 1, 2]), torch.tensor([0, 1, 1, 1, 0])
    assert confusion_matrix(predictions, labels, 3).tolist() == [
        [1, 2, 0],
        [0, 1, 0],
        [1, 0, 0],
    ]


def test_confusion_matrix_equals_scikit_learns():
    generator = torch.Generator().manual_seed(0)
    predictions, labels = torch.randint(0, 4, (2, 200), generator=generator)
    expected = torch.from_numpy(
        sklearn_confusion_matrix(labels, predictions, labels=range(6))
    )
    assert torch.equal(confusion_matrix(predictions, labels, 6), expected)


def test_confusion_matrix_of_nothing_is_zero():
    nothing = torch.zeros(0, dtype=torch.int64)
    assert confusion_matrix(nothing, nothing, 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("predictions", "labels", "message"),
    [
        (LOGITS, LABELS, r"logits\.argmax\(1\)"),
        (LABELS[:, None], LABELS[:, None], r"predictions \[N\] and labels \[N\]"),
        (LABELS, LABELS[:3], r"predictions \[N\] and labels \[N\]"),
        (LABELS + 1, LABELS, r"predictions must lie in 0\.\.2, got 1\.\.3"),
        (LABELS, LABELS - 1, r"labels must lie in 0\.\.2, got -1\.\.1"),
        (LABELS + 0.5, LABELS, "predictions must be whole numbers"),
        (LABELS, LABELS + 0.5, "labels must be whole numbers"),
    ],
)
def test_confusion_matrix_refuses_what_it_would_count_wrong(
    predictions, labels, message
):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(predictions, labels, 3)


def test_the_interval_of_equal_blocks_is_their_miou():
    """A short last block, pixels without a class, a class that never occurs."""
    generator = torch.Generator().manual_seed(0)
    found = torch.randint(0, 4, (1, 6, 7), generator=generator).repeat(5, 1, 1)
    masks = torch.randint(0, 4, (1, 6, 7), generator=generator).repeat(5, 1, 1)
    masks[:, 0] = 255
    whole = multiclass_jaccard_index(
        found, masks, 5, average="none", ignore_index=255, zero_division=float("nan")
    )
    low, high = miou_interval(found, masks.to(torch.uint8), 5, ignore=255, block=2)
    assert low == pytest.approx(high) == pytest.approx(whole.nanmean().item())


def test_the_interval_holds_95_percent_of_the_draws():
    """Of three blocks one is right; three times the same comes in 1 draw of 27."""
    masks = torch.tensor([0, 1, 1]).view(3, 1, 1)
    found = torch.tensor([0, 0, 0]).view(3, 1, 1)
    low, high = miou_interval(found, masks, 2, ignore=255, block=1)
    # 3.7 % of the draws are three times the right block; twice it is 2 / 3 and 0
    assert high == 1 and low == 0
    found = torch.tensor([1, 1, 1]).view(3, 1, 1)
    low, high = miou_interval(found, masks, 2, ignore=255, block=1)
    assert low == 0 and high == 1  # 8 draws of 27 have only the right ones


def test_the_interval_draws_blocks_of_neighbours():
    """Ten frames that are right, ten that are wrong: two blocks, or twenty."""
    masks = torch.randint(0, 2, (20, 3, 3), generator=torch.Generator().manual_seed(0))
    found = masks.clone()
    found[10:] = 1 - found[10:]
    options = {"num_classes": 2, "ignore": 255}
    assert miou_interval(found, masks, block=10, **options) == (0, 1)
    low, high = miou_interval(found, masks, block=1, **options)
    assert 0 < low < 1 / 3 < high < 1
    again = miou_interval(found, masks, block=1, **options)
    other = miou_interval(found, masks, block=1, seed=1, **options)
    assert (low, high) == again != other
    with pytest.raises(ValueError, match="20 frames are one block of 20"):
        miou_interval(found, masks, **options)
    with pytest.raises(ValueError, match="masks alike"):
        miou_interval(found, masks[:, :2], **options)


def features(n, dimension, seed=0):
    return torch.randn(n, dimension, generator=torch.Generator().manual_seed(seed))


def test_frechet_distance_by_hand():
    # in one dimension: (m_a - m_b)^2 + (s_a - s_b)^2
    a = torch.tensor([[-1.0], [1.0]])  # mean 0, variance 2
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(a, a + 3) == pytest.approx(9)
    assert frechet_distance(a, 2 * a) == pytest.approx(2)
    # uncorrelated: the sum over the dimensions
    b = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    assert frechet_distance(b, b.flip(1)) == pytest.approx(2 * 2 / 3)


@pytest.mark.parametrize(("n", "dimension"), [(2, 1), (500, 4), (30, 7), (5, 7)])
def test_frechet_distance_equals_the_one_by_scipy(n, dimension):
    a = features(n, dimension) @ features(dimension, dimension, 1)
    b = features(n + 3, dimension, 2) * 2 + 1
    covariances = [np.atleast_2d(np.cov(x.double().numpy().T)) for x in (a, b)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    shift = ((a.double().mean(0) - b.double().mean(0)) ** 2).sum().item()
    expected = shift + np.trace(covariances[0] + covariances[1] - 2 * root).real
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-5)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("measure", [frechet_distance, precision_recall])
@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.zeros(5, 3), torch.zeros(5, 2), "the same D > 0"),
        (torch.zeros(5), torch.zeros(5), "the same D > 0"),
        (torch.zeros(5, 0), torch.zeros(5, 0), "the same D > 0"),
        (torch.zeros(1, 3), torch.zeros(5, 3), "rows in each set, got 1 and 5"),
        (torch.zeros(0, 3), torch.zeros(5, 3), "rows in each set, got 0 and 5"),
        (torch.full((5, 3), torch.nan), torch.zeros(5, 3), "infinite or nan"),
    ],
)
def test_measures_of_features_refuse_what_they_cannot_compare(measure, a, b, message):
    with pytest.raises(ValueError, match=message):
        measure(a, b)


def test_precision_and_recall_by_hand():
    # with k = 1 the balls of the real ones reach 1, 1 and 8
    real = torch.tensor([[0.0], [1.0], [9.0]])
    fake = torch.tensor([[0.5], [0.75], [30.0]])
    # 0.5 and 0.75 lie inside, 30 does not; the fakes' balls reach 0.25, 0.25 and 29.25:
    # 1 lies in the second, 9 in the third, 0 in none
    assert precision_recall(real, fake, k=1) == pytest.approx((2 / 3, 2 / 3))
    assert precision_recall(real, real + 1000, k=1) == (0, 0)
    assert precision_recall(real, real, k=1) == (1, 1)


def test_precision_and_recall_tell_a_narrow_set_from_a_wide_one():
    real = features(1500, 2)  # more than the rows of one piece
    narrow, wide = features(1500, 2, 1) / 10, features(1500, 2, 2) * 10
    precision, recall = precision_recall(real, narrow)
    assert precision > 0.9 and recall < 0.3
    precision, recall = precision_recall(real, wide)
    assert precision < 0.3 and recall > 0.9


@pytest.mark.parametrize("k", [0, 1.5])
def test_precision_and_recall_need_a_neighbour(k):
    with pytest.raises(ValueError, match="k must be a whole number"):
        precision_recall(torch.zeros(5, 2), torch.zeros(5, 2), k=k)


def test_a_set_needs_more_rows_than_neighbours():
    with pytest.raises(ValueError, match="at least 4 rows in each set, got 3 and 5"):
        precision_recall(torch.zeros(3, 2), torch.zeros(5, 2), k=3)
    precision_recall(torch.zeros(4, 2), torch.zeros(5, 2), k=3)
