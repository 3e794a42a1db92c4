"""A whole experiment: data, training, detector, evaluation, report."""

import json
import time
import warnings
import zlib
from collections.abc import Callable
from functools import partial

import keras
import tensorflow as tf

from memae_tf.baselines import build_baseline
from memae_tf.config import Config, KDDCup99Data, ModelSection, TrainingConfig, essence
from memae_tf.data import Dataset, load
from memae_tf.data.clips import Clips
from memae_tf.data.dataset import fingerprint
from memae_tf.errors import UserError
from memae_tf.evaluation.evaluate import OnScored, Scores, require_evaluable, score_sets
from memae_tf.evaluation.report import write_report
from memae_tf.files import whole_file
from memae_tf.layers import ClipFeaturizer
from memae_tf.models import Detector, load_detector
from memae_tf.training.fit import featurize, fit, require_finite
from memae_tf.training.monitoring.evaluation_summary import write_evaluation
from memae_tf.training.monitoring.monitor import writing_results
from memae_tf.training.run_directory import RunDirectory
from memae_tf.training.run_metrics import summarize
from memae_tf.training.strategy import is_chief, is_same_on_workers, make_strategy, worker
from memae_tf.training.trainer import OnProgress

# What videos are ("ready", "scored"), how many of them, and how many there are.
OnVideos = Callable[[str, int, int], None]


def train(
    config: Config,
    run: RunDirectory,
    on_progress: OnProgress = lambda _: None,
    on_videos: OnVideos = lambda *_: None,
) -> dict | None:
    """Runs an experiment into its run directory, going on where an earlier call stopped.

    Args:
        config: The experiment.
        run: Its directory.
        on_progress: Is told how far the training has come.
        on_videos: Is told how many videos are ready or scored, of how many, where there are any.

    Returns:
        The metrics, as in metrics.json; `None` on a worker that is not the chief.

    Raises:
        UserError: If data or configuration are at fault.
        TrainingDivergedError: If the loss becomes NaN; the last good checkpoint stays.
        WorkerLostError: If another worker is gone; the last checkpoint stays.
        KeyboardInterrupt, Terminated: After Ctrl-C or SIGTERM, when a checkpoint is saved.
    """
    if not isinstance(config.model, ModelSection):
        raise UserError(
            f"model.name={config.model.name}: is a baseline, which memae_tf.benchmark runs; train "
            "takes dense, conv2d or conv3d"
        )
    strategy = _prepared(config.training)
    dataset = load(config.data, config.training.seed, partial(on_videos, "ready"))
    require_evaluable(dataset, config.evaluation)
    _require_one_experiment(strategy, config, dataset)
    keras.utils.set_random_seed(config.training.seed)
    # Only now that the data are good: a mistake in them leaves nothing behind.
    if not is_chief(strategy):
        fit(config.model, config.training, dataset, run, strategy, on_progress)
        return None
    with run.begun(config):
        run.require_same_data(fingerprint(dataset))
        detector, history = fit(config.model, config.training, dataset, run, strategy, on_progress)
        return finish(config, run, detector, dataset, history, partial(on_videos, "scored"))


def _require_one_experiment(
    strategy: tf.distribute.Strategy, config: Config, dataset: Dataset
) -> None:
    """Refuses workers that would wait for steps that others do not take, or differ in them."""
    if worker(strategy)[1] == 1:
        return
    about = json.dumps([essence(config), fingerprint(dataset)], sort_keys=True)
    if not is_same_on_workers(strategy, zlib.crc32(about.encode())):
        raise UserError(
            "the workers have different configurations or training data; start all of them with "
            "the same command, on the same data"
        )


def _prepared(training: TrainingConfig) -> tf.distribute.Strategy:
    """Sets TensorFlow up; before it has done anything else, or no workers can be connected."""
    if training.deterministic:
        tf.config.experimental.enable_op_determinism()
    return make_strategy(training.replicas)


def finish(
    config: Config,
    run: RunDirectory,
    detector: Detector,
    dataset: Dataset,
    history: list[dict],
    on_scored: OnScored = lambda *_: None,
) -> dict:
    """Sets the threshold and writes detector, history, report and, last, metrics."""
    scores, metrics = _evaluated(config, detector, dataset, history, on_scored)
    detector.threshold = metrics["threshold"]
    with writing_results(run.path):
        with whole_file(run.detector) as aside:
            detector.save(aside)
        run.write_json(run.history, history)
        _write_results(config, run, detector, dataset, history, scores, metrics)
    return metrics


def _evaluated(
    config: Config,
    detector: Detector,
    dataset: Dataset,
    history: list[dict],
    on_scored: OnScored = lambda *_: None,
) -> tuple[Scores, dict]:
    """Scores the data by a detector, whose threshold stays as it is; gives all of metrics.json."""
    if isinstance(detector.featurizer, ClipFeaturizer):
        detector.featurizer.frame_scoring = config.evaluation.frames
    scores = score_sets(detector, dataset, config.evaluation, on_scored)
    require_finite(scores.train, config.training)
    return scores, summarize(config, dataset, scores, history, detector.model)


def _write_results(
    config: Config,
    run: RunDirectory,
    detector: Detector,
    dataset: Dataset,
    history: list[dict],
    scores: Scores,
    metrics: dict,
) -> None:
    """Writes what TensorBoard shows of the evaluation, the report and, last, metrics."""
    write_evaluation(run.tensorboard, config, metrics, scores, dataset)
    with whole_file(run.report) as aside:
        write_report(aside, metrics, scores, history, detector, dataset)
    run.write_json(run.metrics, metrics)


def evaluate(config: Config, run: RunDirectory, on_videos: OnVideos = lambda *_: None) -> dict:
    """Evaluates a finished run's saved detector anew; writes metrics and report again.

    What TensorBoard shows of the evaluation is replaced, too. The detector's file stays as it is:
    somebody may have saved another threshold in it since.

    Raises:
        UserError: If the data are at fault or not those of the run, or its history is not there.
    """
    history = run.read_json(run.history)
    detector = load_detector(run.detector)
    dataset = load(config.data, config.training.seed, partial(on_videos, "ready"))
    if run.data.exists():
        # Of other data, some of those to test on may have been trained on.
        run.require_same_data(fingerprint(dataset))
    require_evaluable(dataset, config.evaluation)
    scores, metrics = _evaluated(config, detector, dataset, history, partial(on_videos, "scored"))
    with writing_results(run.path):
        _write_results(config, run, detector, dataset, history, scores, metrics)
    return metrics


def require_same_data(
    config: Config, run: RunDirectory, on_videos: OnVideos = lambda *_: None
) -> None:
    """Refuses to take a finished run for one on data that have changed since.

    Raises:
        UserError: Naming what is different.
    """
    if not run.data.exists():
        return
    data = config.data
    if isinstance(data, KDDCup99Data) and not run.read_json(run.data)["simulated"]:
        # What stands in for data that are gone is no other data.
        data = data.model_copy(update={"fallback": "none"})
    try:
        dataset = load(data, config.training.seed, partial(on_videos, "ready"))
    except UserError as error:
        # The run is what it is without them.
        warnings.warn(f"{run.path}: its data can no longer be compared ({error})", stacklevel=2)
        return
    run.require_same_data(fingerprint(dataset))


def measure_system(config: Config) -> dict:
    """Trains and measures what a configuration describes, baselines too, and keeps nothing else.

    Returns:
        All of metrics.json.

    Raises:
        UserError: If data or configuration are at fault, or the training diverges.
    """
    strategy = _prepared(config.training)
    dataset = load(config.data, config.training.seed)
    require_evaluable(dataset, config.evaluation)
    keras.utils.set_random_seed(config.training.seed)
    if isinstance(config.model, ModelSection):
        detector, history = fit(config.model, config.training, dataset, strategy=strategy)
        return _evaluated(config, detector, dataset, history)[1]
    scores, history = _run_baseline(config, dataset)
    require_finite(scores.train, config.training)
    return summarize(config, dataset, scores, history)


def _run_baseline(config: Config, dataset: Dataset) -> tuple[Scores, list[dict]]:
    """The scores of a baseline, and its history; what has no epochs has one of its whole fit."""
    if isinstance(dataset.train, Clips):
        raise UserError(
            f"model.name={config.model.name}: baselines take records and images, not video"
        )
    x = featurize(dataset.featurizer, dataset.train)
    baseline = build_baseline(config.model, x.shape[1:], config.training)
    start = time.perf_counter()
    history = baseline.fit(x) or [
        {"epoch": 1, "loss": None, "seconds": time.perf_counter() - start}
    ]
    test = None
    if dataset.test is not None:
        test = baseline.score(featurize(dataset.featurizer, dataset.test))
    return Scores(baseline.score(x), test, dataset.labels), history
