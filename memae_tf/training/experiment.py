"""A whole experiment: data, training, detector, evaluation, report."""

import json
import math
import os
import platform
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from memae_tf import __version__
from memae_tf.baselines import build_baseline
from memae_tf.config import Config, KDDCup99Data, ModelSection, TrainingConfig, essence
from memae_tf.data import Dataset, load
from memae_tf.data.clips import Clips
from memae_tf.data.dataset import Samples, count, fingerprint, take
from memae_tf.errors import UserError
from memae_tf.evaluation.evaluate import (
    OnScored,
    Scores,
    measure,
    own_threshold,
    score_sets,
    threshold_name,
)
from memae_tf.evaluation.report import write_report
from memae_tf.files import whole_file, written
from memae_tf.layers import ClipFeaturizer, ImageFeaturizer, RecordFeaturizer
from memae_tf.models import Detector, MemAE, build_memae, load_detector
from memae_tf.training.checkpoints import Checkpoints
from memae_tf.training.clip_samples import ClipSamples
from memae_tf.training.course import Course, OnProgress
from memae_tf.training.feed import MB
from memae_tf.training.loop import TrainingDivergedError, TrainingLoop
from memae_tf.training.monitoring.evaluation_summary import write_evaluation
from memae_tf.training.monitoring.memory_health import diagnose
from memae_tf.training.monitoring.monitor import Monitor, affordable, writing_results
from memae_tf.training.run_directory import RunDirectory
from memae_tf.training.samples import ArraySamples, TrainingSamples
from memae_tf.training.strategy import everyones, is_chief, make_strategy, worker
from memae_tf.training.training_health import diagnose_training

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
    threshold_name(dataset, config.evaluation)
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
    if np.ptp(everyones(strategy, zlib.crc32(about.encode()))) > 0:
        raise UserError(
            "the workers have different configurations or training data; start all of them with "
            "the same command, on the same data"
        )


def _prepared(training: TrainingConfig) -> tf.distribute.Strategy:
    """Sets TensorFlow up; before it has done anything else, or no workers can be connected."""
    if training.deterministic:
        tf.config.experimental.enable_op_determinism()
    return make_strategy(training.replicas)


def fit(
    architecture: ModelSection,
    training: TrainingConfig,
    dataset: Dataset,
    run: RunDirectory | None = None,
    strategy: tf.distribute.Strategy | None = None,
    on_progress: OnProgress = lambda _: None,
) -> tuple[Detector, list[dict]]:
    """Trains a detector; with a run directory, resumable and monitored.

    The initial weights are drawn from Keras's generators, as they were seeded; all else that is
    random follows from `training.seed`.

    Args:
        architecture: The `model` section.
        training: The `training` section.
        dataset: Its training samples are learned.
        run: Keeps checkpoints and TensorBoard's files.
        strategy: From `make_strategy`, which the `training` section describes.
        on_progress: Is told how far the training has come.

    Returns:
        The detector, its threshold not set yet, and an entry of history for each epoch: `epoch`,
        `loss`, `reconstruction`, `penalty`, `learning_rate`, `seconds`, `samples_per_second`,
        and `validation_loss` if samples are held out.
    """
    strategy = strategy or make_strategy(training.replicas)
    kept, held_out = hold_out(dataset.train, training.validation_share, training.seed)
    samples = training_set(dataset.featurizer, kept, training)
    with strategy.scope():
        model = build_memae(architecture, samples.shape[1:], training.precision)
    loop = TrainingLoop(model, samples, training, strategy)
    # What is validated, looked at and kept is a model of its own outside the distribution, with
    # the weights that the run would end with.
    final = build_memae(architecture, samples.shape[1:], training.precision)
    validation = None
    if held_out is not None:
        validation = scorer(final, dataset.featurizer, held_out, training.resident_mb)
    checkpoints = monitor = None
    if run is not None:
        checkpoints = Checkpoints(run.checkpoints, training.keep_checkpoints)
        if is_chief(strategy):
            with writing_results(run.tensorboard):
                monitor = Monitor(
                    run.tensorboard, final, samples, training.seed, dataset.featurizer
                )
    course = Course(training, loop, final, validation, checkpoints, monitor, on_progress)
    history = course.run()
    return Detector(dataset.featurizer, final, threshold=0.0), history


def hold_out(samples: Samples, share: float, seed: int) -> tuple[Samples, Samples | None]:
    """A random share of the samples apart from the others; `None` for a share of 0.

    Clips overlap: of these it is whole videos.

    Raises:
        UserError: If the one video that there is cannot be cut in two.
    """
    if share == 0:
        return samples, None
    if isinstance(samples, Clips):
        kept, held_out = samples.hold_out(share, seed)
        if not len(kept) or not len(held_out):
            raise UserError(
                f"training.validation_share={share}: the one training video is too short to have "
                "clips apart; add footage, or set it to 0"
            )
        return kept, held_out
    if count(samples) < 2:
        raise UserError(
            f"training.validation_share={share}: there is one training sample, and none to hold "
            "out; set it to 0"
        )
    order = np.random.default_rng(seed).permutation(count(samples))
    cut = min(max(1, round(len(order) * share)), len(order) - 1)
    return take(samples, np.sort(order[cut:])), take(samples, np.sort(order[:cut]))


def training_set(
    featurizer: RecordFeaturizer | ImageFeaturizer | ClipFeaturizer,
    kept: Samples,
    training: TrainingConfig,
) -> TrainingSamples:
    """The samples to train on as the loop takes them."""
    if isinstance(kept, Clips):
        return ClipSamples(kept, featurizer, training)
    return ArraySamples(featurize(featurizer, kept, training.resident_mb))


def scorer(
    model: MemAE,
    featurizer: RecordFeaturizer | ImageFeaturizer | ClipFeaturizer,
    samples: Samples,
    memory_mb: float,
) -> Callable[[], np.ndarray]:
    """A function that gives the scores of samples with the weights that a model has then.

    Features are kept, more than `memory_mb` MiB of them in a file, but for those of clips, which
    would be many times their footage.
    """
    size = featurizer.batch_size
    if isinstance(samples, Clips):

        def batches() -> Iterator:
            return (featurizer(batch) for _, batch in featurizer.batches(samples, size))
    else:
        features = featurize(featurizer, samples, memory_mb)

        def batches() -> Iterator:
            return (features[start : start + size] for start in range(0, len(features), size))

    # One by one, as Keras copies all that it is given at once, also what is in a file.
    return lambda: np.concatenate([model.score(batch, size) for batch in batches()])


def featurize(
    featurizer: RecordFeaturizer | ImageFeaturizer | ClipFeaturizer,
    samples: Samples,
    memory_mb: float = float("inf"),
) -> np.ndarray:
    """The features of all samples, float32 (samples, ...).

    More than `memory_mb` MiB of them go to a temporary file that is mapped into memory.
    """
    shape = (count(samples), *featurizer.feature_shape)
    if 4 * math.prod(shape) <= memory_mb * MB:
        features = np.empty(shape, "float32")
    else:
        with written(Path(tempfile.gettempdir())), tempfile.TemporaryFile() as file:
            # Where the disk is too small for it, now, and not by a signal that kills the process
            # when a page of it is written.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, 4 * math.prod(shape))
            # The mapping stays when the file is closed, and is the last that holds it.
            features = np.memmap(file, "float32", "w+", shape=shape)
    for places, batch in featurizer.batches(samples, featurizer.batch_size):
        features[places] = keras.ops.convert_to_numpy(featurizer(batch))
    return features


def set_threshold(detector: Detector, scores: Scores, dataset: Dataset, config: Config) -> None:
    """Gives the detector the threshold that the configuration or the protocol names."""
    _, threshold = own_threshold(scores, dataset, config.evaluation)
    detector.threshold.assign(threshold)


def set_frame_scoring(detector: Detector, config: Config) -> None:
    """Tells a detector of clips how frames are scored, before it scores any."""
    if isinstance(detector.featurizer, ClipFeaturizer):
        detector.featurizer.frame_scoring = config.evaluation.frames


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
    set_threshold(detector, scores, dataset, config)
    with writing_results(run.path):
        _write_detector(run, detector)
        run.write_json(run.history, history)
        _write_results(config, run, detector, dataset, history, scores, metrics)
    return metrics


def _evaluated(
    config: Config,
    detector: Detector,
    dataset: Dataset,
    history: list[dict],
    on_scored: OnScored,
) -> tuple[Scores, dict]:
    """A detector's scores, and all of metrics.json; its threshold stays as it is."""
    set_frame_scoring(detector, config)
    scores = score_sets(detector, dataset, config.evaluation, on_scored)
    require_finite(scores.train, config.training)
    found = outcome(detector.model, dataset, history, config)
    return scores, summarize(config, dataset, scores, history, **found)


def _write_detector(run: RunDirectory, detector: Detector) -> None:
    with whole_file(run.detector) as aside:
        # Keras judges a file by its suffix.
        saved = aside.with_suffix(".saving.keras")
        try:
            detector.save(saved)
            saved.replace(aside)
        finally:
            saved.unlink(missing_ok=True)


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
    threshold_name(dataset, config.evaluation)
    keras.utils.set_random_seed(config.training.seed)
    if isinstance(config.model, ModelSection):
        detector, history = fit(config.model, config.training, dataset, strategy=strategy)
        set_frame_scoring(detector, config)
        scores = score_sets(detector, dataset, config.evaluation)
        own = outcome(detector.model, dataset, history, config)
    else:
        (scores, history), own = _run_baseline(config, dataset), {}
    require_finite(scores.train, config.training)
    return summarize(config, dataset, scores, history, **own)


def _run_baseline(config: Config, dataset: Dataset) -> tuple[Scores, list[dict]]:
    """The scores of a baseline, and its history; what has no epochs has one of its whole fit."""
    if isinstance(dataset.train, Clips):
        raise UserError(
            f"model.name={config.model.name}: baselines take records and images, and no video"
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


def require_finite(scores: np.ndarray, training: TrainingConfig) -> None:
    """Refuses a detector that has no scores for what it was trained on.

    Raises:
        TrainingDivergedError: If one of these scores is not finite.
    """
    if not np.isfinite(scores).all():
        raise TrainingDivergedError(
            "training diverged: the scores of the training data are not finite; try a smaller "
            f"training.learning_rate than {training.learning_rate:g}"
        )


def summarize(
    config: Config,
    dataset: Dataset,
    scores: Scores,
    history: list[dict],
    diagnosis: str | None = None,
    memory: dict | None = None,
) -> dict:
    """All of metrics.json; `diagnosis` and `memory` are from `outcome`, which baselines lack."""
    seconds = sum(epoch["seconds"] for epoch in history)
    return {
        **measure(scores, dataset, config.evaluation),
        "model": config.model.name,
        # Baselines have no variants.
        "variant": getattr(config.model, "variant", None),
        "seed": config.training.seed,
        "epochs": len(history),
        "final_loss": history[-1]["loss"],
        "diagnosis": diagnosis,
        "memory": memory,
        "train_seconds": round(seconds, 3),
        "samples_per_second": round(_trained(dataset, history) / seconds, 1),
        "versions": versions(),
    }


def _trained(dataset: Dataset, history: list[dict]) -> float:
    """Samples of all epochs; without those that are held out, of which baselines have none."""
    everything = count(dataset.train)
    return sum(
        entry["samples_per_second"] * entry["seconds"]
        if "samples_per_second" in entry
        else everything
        for entry in history
    )


def outcome(model: MemAE, dataset: Dataset, history: list[dict], config: Config) -> dict:
    """What training and memory came to, by a part of the training data.

    Returns:
        `diagnosis`, what is wrong with the training in words, and `memory`, see `memory_health`;
        both are `None` where there is nothing to say.
    """
    features = some_features(model, dataset)
    return {
        "diagnosis": diagnose_training(
            model, features, history, config.training, dataset.featurizer.batch_size
        ),
        "memory": memory_health(model, features, dataset.featurizer.batch_size),
    }


def some_features(model: MemAE, dataset: Dataset) -> np.ndarray:
    """Features of a part of the training data, of all kinds of them."""
    most = affordable(model, dataset.featurizer.feature_shape)
    # The first ones would all be of the first video, or of one kind where a file is sorted.
    part = slice(None, None, -(-count(dataset.train) // most))
    return featurize(dataset.featurizer, take(dataset.train, part))


def memory_health(model: MemAE, features: np.ndarray, batch_size: int) -> dict | None:
    """`MemoryUnit.health` over features; `None` without a memory.

    Its `diagnosis` says in words what is wrong; it is `None` where nothing is.
    """
    if model.memory is None:
        return None
    health = model.memory.health(model.addressing(features, batch_size))
    return {**health, "diagnosis": diagnose(health, model.memory.num_slots)}


def versions() -> dict[str, str]:
    """Versions of what figures depend on."""
    return {
        "memae_tf": __version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }
