import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from memae_tf.evaluation import thresholds

SCORES = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], "float32")


def test_top_ratio_flags_that_share():
    assert (thresholds.top_ratio(SCORES, 0.2) < SCORES).sum() == 2
    assert (thresholds.top_ratio(SCORES, 0.45) < SCORES).sum() == 5


def test_true_ratio_is_the_share_of_anomalies():
    labels = np.array([0, 0, 0, 0, 0, 1, 0, 1, 1, 0])
    assert (thresholds.true_ratio(SCORES, labels) < SCORES).sum() == 3


def test_train_quantile_lets_that_share_pass():
    scores = np.arange(1000, dtype="float32")
    assert (scores > thresholds.train_quantile(scores, 0.99)).sum() <= 10


def test_best_f1_by_hand():
    # Above 5: three of four anomalies, no false one.
    labels = np.array([0, 1, 0, 0, 0, 0, 0, 1, 1, 1])
    threshold = thresholds.best_f1(SCORES, labels)
    assert (threshold < SCORES).sum() == 3


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**16))
def test_best_f1_is_not_beaten(seed):
    rng = np.random.default_rng(seed)
    labels = np.append(rng.integers(2, size=30), [0, 1])
    scores = (rng.normal(size=32) + labels).round(1).astype("float32")
    best = f1_score(labels, scores > thresholds.best_f1(scores, labels))
    cuts = [-np.inf, *np.unique(scores)]
    assert best == pytest.approx(max(f1_score(labels, scores > cut) for cut in cuts))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**16), ratio=st.floats(0.01, 0.99))
def test_float32_and_float64_decide_alike(seed, ratio):
    scores = np.random.default_rng(seed).normal(size=100).astype("float32")
    threshold = thresholds.top_ratio(scores, ratio)
    np.testing.assert_array_equal(
        scores > np.float32(threshold), scores.astype("float64") > threshold
    )
