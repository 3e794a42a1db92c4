"""Thresholds by the protocols of the literature. A score above its threshold is an anomaly.

Every threshold is exact in float32, the dtype of scores, so that a saved detector decides as the
evaluation did.
"""

import numpy as np
from sklearn.metrics import precision_recall_curve


def top_ratio(scores: np.ndarray, ratio: float) -> float:
    """The threshold that flags the highest `ratio` of the test scores (fewer where scores tie).

    Reference: Zong et al., DAGMM, ICLR 2018, section 4.3 (20% on KDDCUP99).
    """
    return float(np.quantile(scores, 1 - ratio, method="lower"))


def true_ratio(scores: np.ndarray, labels: np.ndarray) -> float:
    """`top_ratio` at the share of anomalies that the test set really has.

    Reference: Bergman and Hoshen, GOAD, ICLR 2020, section 5.2.
    """
    return top_ratio(scores, float(np.mean(labels)))


def train_quantile(train_scores: np.ndarray, quantile: float) -> float:
    """A quantile of the training scores, which needs neither test data nor labels."""
    return float(np.quantile(train_scores, quantile, method="higher"))


def best_f1(scores: np.ndarray, labels: np.ndarray) -> float:
    """The threshold with the highest F1 on the test set. An oracle: it is chosen on the labels."""
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    # scikit-learn's curve flags scores at or above a threshold, a detector those above it.
    return float(np.nextafter(np.float32(thresholds[np.argmax(f1[:-1])]), np.float32(-np.inf)))
