"""A Keras callback that shows in TensorBoard what a memory learns."""

import time
import warnings
from pathlib import Path

import keras
import numpy as np

from memae_tf.layers.arguments import positive_integer
from memae_tf.models import MemAE
from memae_tf.training.monitoring.monitor import Monitor


class MemoryMonitor(keras.callbacks.Callback):
    """Writes TensorBoard files during the training of a MemAE, and warns of a collapsed memory.

    The files show losses, learning rate, the health of the memory, its addressing as a heat map,
    inputs beside reconstructions, what the slots decode to, and slots and encodings in the
    projector. It works on every Keras backend, but TensorFlow has to be installed, as it writes the
    files.

    At the end of `fit`, a `UserWarning` says so in a line if the memory has collapsed, and what to
    try.

    Examples:
        >>> model = MemAE(encoder, MemoryUnit(100), decoder)
        >>> model.compile("adam")
        >>> model.fit(x, epochs=20, callbacks=[MemoryMonitor("logs", x)])

    Then `tensorboard --logdir logs`.

    What it says at the end of the training is of the weights at that time: if `EarlyStopping` is to
    restore those of an earlier epoch first, list it before this callback.

    Args:
        log_dir: The folder to write to.
        x: Array (samples, ...) or DataFrame of normal data to show; up to 4,096 samples are used.
        every: Integer, writes after every so many epochs, and always after the last one.
        seed: Seed of the choice of samples.
        featurizer: The adapted `RecordFeaturizer` that made `x`, if one did; with it, records are
            shown in their original units.

    Raises:
        ValueError: If `x` is no array of samples or has none, `every` is not a positive integer, or
            the model is not a `MemAE`.
    """

    def __init__(
        self,
        log_dir: str | Path,
        x: np.ndarray,
        every: int = 1,
        seed: int = 0,
        featurizer: keras.layers.Layer | None = None,
    ):
        super().__init__()
        self.log_dir = Path(log_dir)
        self.x = np.asarray(x)
        if self.x.dtype.kind not in "biuf" or self.x.ndim < 2:
            raise ValueError(
                "`x` must be an array of samples, as the model takes them. "
                f"Received: {type(x).__name__} of shape {self.x.shape}"
            )
        if self.x.size == 0:
            raise ValueError(
                f"`x` must have a sample to look at. Received: x of shape {self.x.shape}"
            )
        self.every = positive_integer("every", every)
        self.seed = seed
        self.featurizer = featurizer

    def set_model(self, model):
        if not isinstance(model, MemAE):
            raise ValueError(
                f"MemoryMonitor takes part in the training of a MemAE. Received: model={model}"
            )
        super().set_model(model)

    def on_train_begin(self, logs=None):
        self.monitor = Monitor(self.log_dir, self.model, self.x, self.seed, self.featurizer)
        self.entry = None

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self.start
        self.entry = _entry(epoch, logs or {}, seconds, self.params.get("steps"))
        self.entry["learning_rate"] = float(
            keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        )
        if self.entry["epoch"] % self.every == 0:
            self._write()

    def on_train_end(self, logs=None):
        if self.entry is not None:
            self._write()
        self.monitor.finish()
        diagnosis = self.monitor.diagnosis()
        if diagnosis is not None:
            warnings.warn(diagnosis, stacklevel=2)

    def _write(self):
        self.monitor.write(self.entry)
        self.entry = None


def _entry(epoch: int, logs: dict, seconds: float, steps: int | None) -> dict:
    """An entry of the history for `Monitor.write`, from what Keras passes to a callback."""
    entry = {
        "epoch": epoch + 1,
        "seconds": seconds,
        **{name: logs[name] for name in ("loss", "reconstruction", "penalty") if name in logs},
    }
    if "val_loss" in logs:
        entry["validation_loss"] = logs["val_loss"]
    if steps:
        entry["steps_per_second"] = steps / seconds
    return entry
