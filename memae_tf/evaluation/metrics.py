"""Figures of merit of scores, with the anomalies as the positive class."""

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_fscore_support, roc_auc_score

from memae_tf.config import EvaluationConfig
from memae_tf.evaluation import thresholds


def ranking_metrics(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """`roc_auc` and `average_precision` of scores (samples,) and labels (samples,), 1 = anomaly."""
    return {
        "roc_auc": float(roc_auc_score(labels, scores)),
        "average_precision": float(average_precision_score(labels, scores)),
    }


def decision_metrics(scores: np.ndarray, labels: np.ndarray, threshold: float) -> dict[str, float]:
    """`threshold`, and `precision`, `recall`, `f1` of flagging the scores above it."""
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, scores > threshold, average="binary", zero_division=0.0
    )
    return {
        "threshold": threshold,
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
    }


def find_threshold(
    name: str,
    config: EvaluationConfig,
    scores: np.ndarray | None,
    labels: np.ndarray | None,
    train_scores: np.ndarray,
) -> float:
    """The threshold of a name that `evaluation` may hold.

    Args:
        name: "top_ratio", "true_ratio", "train_quantile" or "best_f1".
        config: Gives `ratio` and `quantile`.
        scores: Of the test set, `None` where there is none.
        labels: Of the test set, `None` where there is none.
        train_scores: Of the training data.
    """
    match name:
        case "train_quantile":
            return thresholds.train_quantile(train_scores, config.quantile)
        case "top_ratio":
            return thresholds.top_ratio(scores, config.ratio)
        case "true_ratio":
            return thresholds.true_ratio(scores, labels)
        case "best_f1":
            return thresholds.best_f1(scores, labels)
        case _:
            raise ValueError(f"`name` must be a threshold's name. Received: name={name}")
