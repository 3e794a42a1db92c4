import numpy as np
import pytest

from memae_tf.config import EvaluationConfig
from memae_tf.evaluation.metrics import decision_metrics, find_threshold, ranking_metrics

SCORES = np.array([0.1, 0.4, 0.35, 0.8], "float32")
LABELS = np.array([0, 0, 1, 1])


def test_ranking_by_hand():
    # Of the four pairs of an anomaly and a normal, three are in order.
    figures = ranking_metrics(SCORES, LABELS)
    assert figures["roc_auc"] == pytest.approx(0.75)
    assert figures["average_precision"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_decision_by_hand():
    figures = decision_metrics(SCORES, LABELS, 0.3)
    assert figures["precision"] == pytest.approx(2 / 3)
    assert figures["recall"] == 1.0
    assert figures["f1"] == pytest.approx(0.8)
    assert decision_metrics(SCORES, LABELS, 1.0)["f1"] == 0.0


def test_score_on_the_threshold_is_normal():
    assert decision_metrics(SCORES, LABELS, float(SCORES[3]))["recall"] == 0.0


def test_thresholds_by_name():
    train = np.arange(100, dtype="float32")
    config = EvaluationConfig(ratio=0.25, quantile=0.5)
    assert find_threshold("top_ratio", config, SCORES, LABELS, train) == np.float32(0.4)
    assert find_threshold("true_ratio", config, SCORES, LABELS, train) == np.float32(0.35)
    assert find_threshold("train_quantile", config, None, None, train) == 50
    with pytest.raises(ValueError, match="Received: name=other"):
        find_threshold("other", config, SCORES, LABELS, train)
