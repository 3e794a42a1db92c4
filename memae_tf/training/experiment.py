"""A whole experiment: data, training, detector, evaluation, report."""

import importlib.metadata
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from memae_tf.config import Config
from memae_tf.data import Dataset, load
from memae_tf.data.dataset import Records, count, take
from memae_tf.evaluation.evaluate import Scores, measure, own_threshold, score_sets, threshold_name
from memae_tf.evaluation.report import write_report
from memae_tf.layers import RecordFeaturizer
from memae_tf.models import Detector, MemAE, build_memae, load_detector
from memae_tf.training.loop import TrainingDivergedError, TrainingLoop
from memae_tf.training.monitor import NUM_SAMPLES, Monitor
from memae_tf.training.run_directory import Checkpoints, RunDirectory, whole_file
from memae_tf.training.strategy import make_strategy

FEATURIZER_BATCH = 65_536


@dataclass(frozen=True)
class Progress:
    """How far the training has come. `losses` are the means over the epoch so far."""

    epoch: int
    epochs: int
    step: int
    steps: int
    losses: dict[str, float]


OnProgress = Callable[[Progress], None]


def train(config: Config, run: RunDirectory, on_progress: OnProgress = lambda _: None) -> dict:
    """Runs an experiment into its run directory, going on where an earlier call stopped.

    Returns:
        The metrics, as in metrics.json.

    Raises:
        UserError: If data or configuration are at fault.
        TrainingDivergedError: If the loss becomes NaN; the last good checkpoint stays.
    """
    dataset = load(config.data, config.training.seed)
    threshold_name(dataset, config.evaluation)
    # Only now that the data are good: a mistake in them leaves nothing behind.
    run.create(config)
    detector, history = fit(config, dataset, run, on_progress)
    return finish(config, run, detector, dataset, history)


def fit(
    config: Config,
    dataset: Dataset,
    run: RunDirectory | None = None,
    on_progress: OnProgress = lambda _: None,
) -> tuple[Detector, list[dict]]:
    """Trains a detector; with a run directory, resumable and monitored.

    Returns:
        The detector, its threshold not set yet, and an entry of history for each epoch: `epoch`,
        `loss`, `reconstruction`, `penalty`, `seconds`, `samples_per_second`.
    """
    training = config.training
    keras.utils.set_random_seed(training.seed)
    features = featurize(dataset.featurizer, dataset.train)
    strategy = make_strategy()
    with strategy.scope():
        policy = None if training.precision == "float32" else training.precision
        model = build_memae(config.model, features.shape[1:], policy)
    loop = TrainingLoop(model, features, training, strategy)
    checkpoints = monitor = None
    history = []
    if run is not None:
        checkpoints = Checkpoints(run, model, loop.optimizer)
        history = checkpoints.restore()
        monitor = Monitor(run.tensorboard, model, features, training.seed)
    for epoch in range(len(history), training.epochs):
        history.append(_run_epoch(loop, epoch, training.epochs, on_progress))
        if run is not None:
            checkpoints.save(history)
            monitor.write(history[-1])
    if monitor is not None:
        monitor.close()
    return Detector(dataset.featurizer, model, threshold=0.0), history


def _run_epoch(loop: TrainingLoop, epoch: int, epochs: int, on_progress: OnProgress) -> dict:
    start = time.perf_counter()

    def report(step: int, losses: dict[str, float]) -> None:
        on_progress(Progress(epoch + 1, epochs, step, loop.steps_per_epoch, losses))

    losses = loop.run_epoch(epoch, report)
    seconds = time.perf_counter() - start
    return {
        "epoch": epoch + 1,
        **losses,
        "seconds": seconds,
        "samples_per_second": loop.num_samples / seconds,
    }


def featurize(featurizer: RecordFeaturizer, records: Records) -> np.ndarray:
    """The features of all records, float32 (records, num_features)."""
    starts = range(0, count(records), FEATURIZER_BATCH)
    batches = [take(records, slice(start, start + FEATURIZER_BATCH)) for start in starts]
    return np.concatenate([keras.ops.convert_to_numpy(featurizer(batch)) for batch in batches])


def set_threshold(detector: Detector, scores: Scores, dataset: Dataset, config: Config) -> None:
    """Gives the detector the threshold that the configuration or the protocol names."""
    _, threshold = own_threshold(scores, dataset, config.evaluation)
    detector.threshold.assign(threshold)


def finish(
    config: Config, run: RunDirectory, detector: Detector, dataset: Dataset, history: list[dict]
) -> dict:
    """Sets the threshold and writes detector, report and, last, metrics."""
    scores = score_sets(detector, dataset)
    if not np.isfinite(scores.train).all():
        raise TrainingDivergedError(
            "training diverged: the scores of the training data are not finite; try a smaller "
            f"training.learning_rate than {config.training.learning_rate:g}"
        )
    set_threshold(detector, scores, dataset, config)
    with whole_file(run.detector) as aside:
        # Keras judges a file by its suffix.
        saved = aside.with_suffix(".saving.keras")
        try:
            detector.save(saved)
            saved.replace(aside)
        finally:
            saved.unlink(missing_ok=True)
    metrics = summarize(config, detector, dataset, scores, history)
    with whole_file(run.report) as aside:
        write_report(aside, metrics, scores, history, detector, dataset)
    run.write_json(run.metrics, metrics)
    return metrics


def evaluate(config: Config, run: RunDirectory) -> dict:
    """Evaluates a finished run's saved detector anew; writes metrics and report again."""
    detector = load_detector(run.detector)
    dataset = load(config.data, config.training.seed)
    return finish(config, run, detector, dataset, run.read_json(run.history))


def summarize(
    config: Config, detector: Detector, dataset: Dataset, scores: Scores, history: list[dict]
) -> dict:
    """All of metrics.json."""
    seconds = sum(epoch["seconds"] for epoch in history)
    return {
        **measure(scores, dataset, config.evaluation),
        "model": config.model.name,
        "variant": config.model.variant,
        "seed": config.training.seed,
        "epochs": len(history),
        "final_loss": history[-1]["loss"],
        "memory": memory_health(detector.model, dataset),
        "train_seconds": round(seconds, 3),
        "samples_per_second": round(len(scores.train) * len(history) / seconds, 1),
        "versions": versions(),
    }


def memory_health(model: MemAE, dataset: Dataset) -> dict | None:
    """`MemoryUnit.health` over a part of the training data; `None` without a memory."""
    if model.memory is None:
        return None
    features = featurize(dataset.featurizer, take(dataset.train, slice(NUM_SAMPLES)))
    return model.memory.health(model.addressing(features))


def versions() -> dict[str, str]:
    """Versions of what figures depend on."""
    return {
        "memae_tf": importlib.metadata.version("memae_tf"),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }
