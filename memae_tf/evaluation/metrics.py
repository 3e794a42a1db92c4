"""Metrics of anomaly scores, with anomalies as the positive class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_fscore_support, roc_auc_score

from memae_tf.config import EvaluationConfig
from memae_tf.evaluation import thresholds


@dataclass(frozen=True)
class VideoScores:
    """A test video with its scores.

    Attributes:
        name: The name of the video.
        scores: The scores of its frames, float32 (frames,); NaN for frames without one.
        labels: Int64 (frames,), 1 = abnormal; `None` if nothing is labelled.
    """

    name: str
    scores: np.ndarray
    labels: np.ndarray | None

    def scored(self) -> tuple[np.ndarray, np.ndarray]:
        """The scores and labels of the frames that have a score."""
        there = np.isfinite(self.scores)
        return self.scores[there], self.labels[there]


def frame_aucs(videos: Sequence[VideoScores]) -> dict[str, float | None]:
    """The three metrics that the literature calls frame-level AUC.

    Args:
        videos: Labelled test videos.

    Returns:
        - `micro_auc_minmax`: the AUC of all frames together, after the scores of each video are
          scaled to [0, 1]. The paper and nearly everyone else report this one; a live system cannot
          have it, as scaling needs the whole video.
        - `micro_auc_raw`: the AUC of all frames together, with the scores as they are. It equals
          `roc_auc`.
        - `macro_auc`: the mean of the AUCs of those videos that have frames of both kinds; `None`
          if there are none.
    """
    parts = [video.scored() for video in videos]
    parts = [(scores, labels) for scores, labels in parts if len(scores)]
    labels = np.concatenate([labels for _, labels in parts])
    own = [auc for auc in (video_auc(video) for video in videos) if auc is not None]
    return {
        "micro_auc_minmax": float(
            roc_auc_score(labels, np.concatenate([minmax(scores) for scores, _ in parts]))
        ),
        "micro_auc_raw": float(roc_auc_score(labels, np.concatenate([s for s, _ in parts]))),
        "macro_auc": float(np.mean(own)) if own else None,
    }


def video_auc(video: VideoScores) -> float | None:
    """The AUC within a video; `None` if its frames are all of one kind."""
    scores, labels = video.scored()
    return float(roc_auc_score(labels, scores)) if len(np.unique(labels)) == 2 else None


def minmax(scores: np.ndarray) -> np.ndarray:
    """Scores scaled to [0, 1], or to 0 if all are the same; NaN stay NaN."""
    low, high = np.nanmin(scores), np.nanmax(scores)
    return (scores - low) / max(high - low, 1e-12)


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
    """Computes a threshold of the `evaluation` section by its name.

    Args:
        name: "top_ratio", "true_ratio", "train_quantile" or "best_f1".
        config: Has `ratio` and `quantile`.
        scores: Scores of the test set; only "train_quantile" does without.
        labels: Labels of the test set, for "true_ratio" and "best_f1".
        train_scores: Scores of the training data.

    Raises:
        ValueError: If there is no threshold of that name.
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
