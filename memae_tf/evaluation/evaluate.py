"""Scores of a data set by a detector, and the metrics of metrics.json."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from memae_tf.config import EvaluationConfig, FrameScoring
from memae_tf.data import Dataset
from memae_tf.data.clips import Clips
from memae_tf.errors import UserError
from memae_tf.evaluation.frames import score_videos, scored_frames
from memae_tf.evaluation.metrics import (
    VideoScores,
    decision_metrics,
    find_threshold,
    frame_aucs,
    ranking_metrics,
)
from memae_tf.models import Detector

# Is told how many videos are scored, of how many.
OnScored = Callable[[int, int], None]


@dataclass(frozen=True)
class Scores:
    """Anomaly scores of a data set.

    Attributes:
        train: Scores of the training samples, float32; for video, of the frames that have one.
        test: Scores of the test samples, likewise; `None` if there are none.
        labels: The labels of `test`; `None` if nothing is labelled.
        videos: The test videos with the scores of their frames; empty for other data.
    """

    train: np.ndarray
    test: np.ndarray | None
    labels: np.ndarray | None
    videos: tuple[VideoScores, ...] = ()


def score_sets(
    detector: Detector,
    dataset: Dataset,
    config: EvaluationConfig,
    on_scored: OnScored = lambda *_: None,
) -> Scores:
    """Scores the training and the test samples through the detector, as a user would.

    Args:
        detector: The detector.
        dataset: The samples.
        config: Says how frames are scored.
        on_scored: Is told how many videos are scored, of how many, if there are any.
    """
    if isinstance(dataset.train, Clips):
        return _score_footage(detector, dataset, config.frames, on_scored)
    test = None if dataset.test is None else detector.score(dataset.test)
    return Scores(detector.score(dataset.train), test, dataset.labels)


def _score_footage(
    detector: Detector, dataset: Dataset, scoring: FrameScoring, on_scored: OnScored
) -> Scores:
    """`score_sets` for video: the scores of all frames that have one."""
    videos = [*dataset.train.videos, *(dataset.test.videos if dataset.test is not None else ())]
    all_scores = score_videos(detector, videos, scoring, lambda n: on_scored(n, len(videos)))
    count = len(dataset.train.videos)
    train, scores = np.concatenate(all_scores[:count]), all_scores[count:]
    train = train[np.isfinite(train)]
    if dataset.test is None:
        return Scores(train, None, None)
    videos = tuple(
        VideoScores(video.name, own, labels)
        for video, own, labels in zip(
            dataset.test.videos, scores, _labels_of_videos(dataset), strict=True
        )
    )
    test = np.concatenate(scores)
    scored = np.isfinite(test)
    labels = None if dataset.labels is None else dataset.labels[scored]
    return Scores(train, test[scored], labels, videos)


def _labels_of_videos(dataset: Dataset) -> list[np.ndarray | None]:
    """The labels of each test video; `None` where nothing is labelled."""
    videos = dataset.test.videos
    if dataset.labels is None:
        return [None] * len(videos)
    return np.split(dataset.labels, np.cumsum([len(video.frames) for video in videos])[:-1])


def require_evaluable(dataset: Dataset, config: EvaluationConfig) -> None:
    """Refuses what could not be evaluated; meant for the time before a training.

    Raises:
        UserError: If the threshold needs a test set, and there is none, or if all frames that get
            a score are of one kind.
    """
    threshold_name(dataset, config)
    if isinstance(dataset.test, Clips) and dataset.labels is not None:
        _require_both_kinds_scored(dataset, config.frames)


def _require_both_kinds_scored(dataset: Dataset, scoring: FrameScoring) -> None:
    clips = dataset.test
    scored = np.concatenate(
        [
            labels[scored_frames(len(labels), clips.length, clips.frame_stride, scoring)]
            for labels in _labels_of_videos(dataset)
        ]
    )
    if len(np.unique(scored)) == 2:
        return
    help_ = "only videos that are as long as a clip have scores"
    if scoring.credit == "center":
        help_ = "evaluation.frames.credit=clip scores the first and last frames of a video, too"
    raise UserError(
        f"{dataset.name}: all {len(scored)} test frames that get a score are of one kind, and an "
        f"evaluation needs both kinds; {help_}"
    )


def threshold_name(dataset: Dataset, config: EvaluationConfig) -> str:
    """The name of the threshold that the detector gets.

    Raises:
        UserError: If the configuration names one that needs a test set, and there is none.
    """
    name = config.threshold or dataset.threshold
    if dataset.labels is None and name != "train_quantile":
        raise UserError(
            f"evaluation.threshold={name}: needs labelled test data, but there are none; "
            "use train_quantile"
        )
    return name


def measure(scores: Scores, dataset: Dataset, config: EvaluationConfig) -> dict:
    """The evaluation's part of metrics.json: every figure is `None` where nothing is labelled.

    `threshold` is the one that the detector gets, and the figures at the top are those at it;
    `thresholds` holds the same for the others that `evaluation.thresholds` asks for. "best_f1" is
    an oracle and says so.
    """
    name = threshold_name(dataset, config)
    threshold = find_threshold(name, config, scores.test, scores.labels, scores.train)
    metrics = {
        "dataset": dataset.name,
        "simulated": dataset.simulated,
        "protocol": dataset.protocol,
        "roc_auc": None,
        "average_precision": None,
        "threshold_name": name,
        "threshold": threshold,
        "precision": None,
        "recall": None,
        "f1": None,
        "thresholds": {},
        "train_records": len(scores.train),
        "test_records": 0 if scores.test is None else len(scores.test),
        "test_anomalies": 0,
    }
    if scores.labels is None:
        return metrics
    metrics.update(ranking_metrics(scores.test, scores.labels))
    if scores.videos:
        metrics.update(frame_aucs(scores.videos))
    metrics.update(decision_metrics(scores.test, scores.labels, threshold))
    for other in config.thresholds:
        value = find_threshold(other, config, scores.test, scores.labels, scores.train)
        figures = decision_metrics(scores.test, scores.labels, value)
        metrics["thresholds"][other] = {**figures, "oracle": other == "best_f1"}
    metrics["test_anomalies"] = int(scores.labels.sum())
    return metrics
