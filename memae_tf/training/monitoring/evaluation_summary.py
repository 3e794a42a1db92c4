"""An evaluation in TensorBoard: hyperparameters, metrics, curves."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams import summary as hparams_summary
from tensorboard.plugins.pr_curve import summary as pr_curve

from memae_tf.config import Config, flattened
from memae_tf.data import Dataset
from memae_tf.evaluation.evaluate import Scores
from memae_tf.evaluation.figures import curves_figure, score_figure
from memae_tf.training.monitoring.pictures import pixels

# A folder of its own, which TensorBoard takes for a run of its own: its table of hyperparameters
# has a column for every scalar of a run, and losses and memory figures would bury the metrics.
FOLDER = "evaluation"
METRICS = (
    "roc_auc",
    "average_precision",
    "f1",
    "micro_auc_minmax",
    "micro_auc_raw",
    "macro_auc",
)


def write_evaluation(
    directory: Path, config: Config, metrics: dict, scores: Scores, dataset: Dataset
) -> None:
    """Writes hyperparameters with their metrics, and the curves if anything is labelled.

    An earlier evaluation is replaced.

    Args:
        directory: The folder of the run's event files.
        config: The run's configuration; `model` and `training` are its hyperparameters.
        metrics: As in metrics.json.
        scores: The scores of training and test data.
        dataset: The data that were scored.
    """
    directory = Path(directory) / FOLDER
    for old in directory.glob("events.out.tfevents.*"):
        old.unlink()
    writer = tf.summary.create_file_writer(str(directory))
    with writer.as_default(step=metrics["kept_epoch"]):
        hparams.hparams(hyperparameters(config, dataset))
        for name in METRICS:
            if metrics.get(name) is not None:
                tf.summary.scalar(f"evaluation/{name}", metrics[name])
        figure = score_figure(scores, metrics["threshold"])
        tf.summary.image("evaluation/scores", pixels(figure)[None])
        if scores.labels is not None:
            tf.summary.image("evaluation/curves", pixels(curves_figure(scores))[None])
            _write_pr_curve(scores.test, scores.labels, metrics["kept_epoch"])
        ended = hparams_summary.session_end_pb(api_pb2.STATUS_SUCCESS)
        tf.summary.experimental.write_raw_pb(ended.SerializeToString())
    writer.close()


def hyperparameters(config: Config, dataset: Dataset) -> dict[str, bool | float | str]:
    """The dotted keys of `model` and `training`, and name, protocol and kind of the data.

    Keys without a value are left out, lists are written as text.
    """
    values = config.model_dump(mode="json", include={"model", "training"}, exclude_none=True)
    return {
        "data.name": dataset.name,
        "data.protocol": dataset.protocol,
        "data.simulated": dataset.simulated,
    } | {
        key: ", ".join(map(str, value)) if isinstance(value, list) else value
        for key, value in flattened(values).items()
    }


def _write_pr_curve(scores: np.ndarray, labels: np.ndarray, step: int) -> None:
    """Precision against recall for TensorBoard's own tab, which compares the curves of runs.

    The plugin uses evenly spaced thresholds in [0, 1], but scores have no bounds and long tails. So
    each score is replaced by the share of the anomalies that score less: this keeps the order, and
    spreads the points evenly over the recall.
    """
    anomalies = np.sort(scores[labels == 1])
    shares = np.searchsorted(anomalies, scores) / len(anomalies)
    curve = pr_curve.pb(
        "evaluation/precision_recall",
        labels.astype(bool),
        shares,
        description="At threshold t, a share t of the anomalies has scores too low to be found.",
    )
    tf.summary.experimental.write_raw_pb(curve.SerializeToString(), step=step)
