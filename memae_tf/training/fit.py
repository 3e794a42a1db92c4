"""From a data set to a trained detector."""

import math
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from memae_tf.config import ModelSection, TrainingConfig
from memae_tf.data import Dataset
from memae_tf.data.clips import Clips
from memae_tf.data.dataset import Samples, count, take
from memae_tf.errors import UserError
from memae_tf.files import written
from memae_tf.layers import Featurizer
from memae_tf.models import Detector, MemAE, build_memae
from memae_tf.training.checkpoints import Checkpoints
from memae_tf.training.clip_samples import ClipSamples
from memae_tf.training.feed import MB
from memae_tf.training.loop import TrainingDivergedError, TrainingLoop
from memae_tf.training.monitoring.monitor import Monitor, writing_results
from memae_tf.training.run_directory import RunDirectory
from memae_tf.training.samples import ArraySamples, TrainingSamples
from memae_tf.training.strategy import is_chief, make_strategy
from memae_tf.training.trainer import OnProgress, Trainer


def fit(
    architecture: ModelSection,
    training: TrainingConfig,
    dataset: Dataset,
    run: RunDirectory | None = None,
    strategy: tf.distribute.Strategy | None = None,
    on_progress: OnProgress = lambda _: None,
) -> tuple[Detector, list[dict]]:
    """Trains a detector; with a run directory, resumable and monitored.

    Initial weights come from Keras's random generators, which the caller seeds; everything else
    that is random follows from `training.seed`.

    Args:
        architecture: The `model` section.
        training: The `training` section.
        dataset: Trains on its training samples.
        run: The directory for checkpoints and TensorBoard's files; `None` keeps nothing.
        strategy: From `make_strategy`; `None` makes the one that `training` asks for.
        on_progress: Is told how far the training has come.

    Returns:
        The detector, whose threshold is not set yet, and the history, an entry for each epoch:
        `epoch`, `loss`, `reconstruction`, `penalty`, `learning_rate`, `seconds`,
        `samples_per_second`, and `validation_loss` if samples are held out.
    """
    strategy = strategy or make_strategy(training.replicas)
    kept, held_out = hold_out(dataset.train, training.validation_share, training.seed)
    samples = training_set(dataset.featurizer, kept, training)
    with strategy.scope():
        model = build_memae(architecture, samples.shape[1:], training.precision)
    loop = TrainingLoop(model, samples, training, strategy)
    if is_chief(strategy):
        warn_of_warm_ups(architecture, training, loop.steps_per_epoch)
    # Outside the distribution strategy: what is validated, shown and kept, see `Trainer`.
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
    trainer = Trainer(training, loop, final, validation, checkpoints, monitor, on_progress)
    history = trainer.run()
    return Detector(dataset.featurizer, final, threshold=0.0), history


def warn_of_warm_ups(
    architecture: ModelSection, training: TrainingConfig, steps_per_epoch: int
) -> None:
    """Warns of warm-ups that last longer than the run, a line each."""
    epochs = f"the run has {training.epochs} epoch{'s' if training.epochs > 1 else ''}"
    if training.warmup_epochs >= training.epochs:
        warnings.warn(
            f"training.warmup_epochs={training.warmup_epochs:g}: {epochs}, so the learning rate "
            f"does not reach {training.learning_rate:g}; it should be less",
            stacklevel=3,
        )
    warmup_steps = 0 if architecture.variant == "ae" else architecture.memory.warmup_steps
    steps = steps_per_epoch * training.epochs
    if warmup_steps > steps:
        warnings.warn(
            f"model.memory.warmup_steps={warmup_steps}: {epochs} of {steps_per_epoch} steps, so "
            f"the detector will have only {steps / warmup_steps:.0%} of the memory's shrinkage; it "
            f"should be {steps} or less",
            stacklevel=3,
        )


def hold_out(samples: Samples, share: float, seed: int) -> tuple[Samples, Samples | None]:
    """Splits samples at random into those to train on and a share to validate on, `None` for 0.

    As clips overlap, whole videos are held out.

    Raises:
        UserError: If there is one sample, or one video that cannot be cut in two.
    """
    if share == 0:
        return samples, None
    if isinstance(samples, Clips):
        kept, held_out = samples.hold_out(share, seed)
        if not len(kept) or not len(held_out):
            raise UserError(
                f"training.validation_share={share}: the only training video is too short to "
                "hold out clips; add footage, or set it to 0"
            )
        return kept, held_out
    if count(samples) < 2:
        raise UserError(
            f"training.validation_share={share}: there is only one training sample, so none can "
            "be held out; set it to 0"
        )
    order = np.random.default_rng(seed).permutation(count(samples))
    cut = min(max(1, round(len(order) * share)), len(order) - 1)
    return take(samples, np.sort(order[cut:])), take(samples, np.sort(order[:cut]))


def training_set(
    featurizer: Featurizer,
    kept: Samples,
    training: TrainingConfig,
) -> TrainingSamples:
    """Training samples in the form that the loop takes."""
    if isinstance(kept, Clips):
        return ClipSamples(kept, featurizer, training)
    return ArraySamples(featurize(featurizer, kept, training.resident_mb))


def scorer(
    model: MemAE,
    featurizer: Featurizer,
    samples: Samples,
    memory_mb: float,
) -> Callable[[], np.ndarray]:
    """A function that scores samples with the weights that the model has at the time of the call.

    Features are computed once and kept, in a file if they are more than `memory_mb` MiB; those of
    clips, many times the size of the footage, are computed in every call.
    """
    size = featurizer.batch_size
    if isinstance(samples, Clips):

        def batches() -> Iterator:
            return (featurizer(batch) for _, batch in featurizer.batches(samples, size))
    else:
        features = featurize(featurizer, samples, memory_mb)

        def batches() -> Iterator:
            return (features[start : start + size] for start in range(0, len(features), size))

    # Batch by batch, as Keras would copy all of the features into memory.
    return lambda: np.concatenate([model.score(batch, size) for batch in batches()])


def featurize(
    featurizer: Featurizer,
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
            # Reserves the space, so that a full disk raises an error here. Later, it would kill the
            # process by a signal when a page is written.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, 4 * math.prod(shape))
            # The mapping outlives the open file, and the file is gone with the mapping.
            features = np.memmap(file, "float32", "w+", shape=shape)
    for places, batch in featurizer.batches(samples, featurizer.batch_size):
        features[places] = keras.ops.convert_to_numpy(featurizer(batch))
    return features


def require_finite(scores: np.ndarray, training: TrainingConfig) -> None:
    """Checks that all training samples have finite scores.

    Raises:
        TrainingDivergedError: If one of these scores is not finite.
    """
    if not np.isfinite(scores).all():
        raise TrainingDivergedError(
            "training diverged: the scores of the training data are not finite; try a smaller "
            f"training.learning_rate than {training.learning_rate:g}"
        )
