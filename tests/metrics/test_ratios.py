"""Ratios of sums over a split, against scikit-learn, and hand-computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score, recall_score

from rcnn_jax.metrics.ratios import MacroF1, MeanClassAccuracy, MeanIoU


def of_split(metric, true, predicted, mask, batch=5):
    totals = 0.0
    for start in range(0, len(true), batch):
        rows = slice(start, start + batch)
        totals = totals + np.asarray(
            jax.jit(metric.sums)(
                {"labels": jnp.asarray(predicted[rows])},
                {"labels": jnp.asarray(true[rows]), "mask": jnp.asarray(mask[rows])},
            ),
            np.float64,
        )
    return metric.value(totals)


@pytest.mark.parametrize(
    ("kind", "oracle"),
    [(MeanIoU, jaccard_score), (MacroF1, f1_score), (MeanClassAccuracy, recall_score)],
)
def test_they_are_those_of_scikit_learn_over_the_whole_split(kind, oracle):
    rng = np.random.default_rng(0)
    true = rng.integers(0, 4, (23, 6, 5)).astype(np.uint8)
    predicted = np.where(rng.random(true.shape) < 0.5, true, rng.integers(0, 4, true.shape))
    true[rng.random(true.shape) < 0.1] = 255  # void
    mask = (rng.random(23) < 0.8).astype(np.float32)
    metric = kind(classes=4, label="labels", prediction="labels")
    kept = np.broadcast_to(mask[:, None, None] > 0, true.shape) & (true != 255)
    expected = oracle(true[kept], predicted[kept], average="macro")
    assert of_split(metric, true, predicted.astype(np.int32), mask) == pytest.approx(expected)


def test_a_mean_over_batches_is_another_number():
    """Two batches: in one the rare class is right, in the other it is missed."""
    true, predicted = np.array([[0, 1], [0, 1]]), np.array([[0, 1], [0, 0]])
    metric = MeanIoU(classes=2, label="labels", prediction="labels")
    over_split = of_split(metric, true, predicted, np.ones(2, np.float32), batch=1)
    assert over_split == pytest.approx((2 / 3 + 1 / 2) / 2)
    each = [of_split(metric, true[i:][:1], predicted[i:][:1], np.ones(1)) for i in (0, 1)]
    assert np.mean(each) == pytest.approx((1 + 1 / 4) / 2)


def test_scores_are_taken_at_their_greatest_and_classes_that_never_occur_do_not_count():
    scores = np.array([[0.1, 0.9, 0.0], [0.8, 0.1, 0.1]])
    metric = MeanIoU(classes=3, label="labels", prediction="labels")
    assert of_split(metric, np.array([1, 1]), scores, np.ones(2, np.float32)) == pytest.approx(
        (1 / 2 + 0) / 2
    )
    assert np.isnan(of_split(metric, np.array([1]), scores[:1], np.zeros(1, np.float32)))


def test_what_cannot_be_compared_is_named():
    metric = MeanIoU(classes=3, label="labels", prediction="labels")
    batch = {"labels": jnp.zeros((2, 4), jnp.int32), "mask": jnp.ones(2)}
    with pytest.raises(ValueError, match=r"compares 'labels' \[2, 5\] with 'labels' \[2, 4\]"):
        metric.sums({"labels": jnp.zeros((2, 5), jnp.int32)}, batch)
