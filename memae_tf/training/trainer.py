"""The epochs of a run: training, validation, checkpoints, early stopping and monitoring."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from memae_tf.config import TrainingConfig
from memae_tf.errors import UserError
from memae_tf.models import MemAE
from memae_tf.signals import DeferredSignals
from memae_tf.training.averaging import estimate_statistics
from memae_tf.training.checkpoints import Checkpoint, Checkpoints
from memae_tf.training.loop import Position, TrainingLoop
from memae_tf.training.monitoring.monitor import Monitor, writing_results
from memae_tf.training.strategy import (
    is_chief,
    is_same_on_workers,
    mean_over_workers,
    worker_loss_explained,
)

# Within a long epoch, so that no more than this is lost when the machine dies.
SECONDS_BETWEEN_CHECKPOINTS = 600.0


@dataclass(frozen=True)
class Progress:
    """How far the training has come. `losses` are the means over the epoch so far."""

    epoch: int
    epochs: int
    step: int
    steps: int
    losses: dict[str, float]


OnProgress = Callable[[Progress], None]


@dataclass
class Trainer:
    """Runs the epochs of a training, from where an earlier process left off.

    Attributes:
        training: The `training` section.
        loop: Runs the steps; its model has the weights in training.
        final: A second model of the same architecture, which gets the weights that the run would
            end with now: it is validated, shown, and in the end kept.
        validation: Gives the scores of the held-out samples by `final`; `None` without such.
        checkpoints: Where to resume from and, on the chief, save to; `None` keeps nothing.
        monitor: Writes TensorBoard's files; `None` on workers that are not the chief.
        on_progress: Is told how far the training has come.
        position: Where the run stands.
        history: An entry for every complete epoch.
        best: The checkpoint of the best epoch, with early stopping alone.
    """

    training: TrainingConfig
    loop: TrainingLoop
    final: MemAE
    validation: Callable[[], np.ndarray] | None
    checkpoints: Checkpoints | None
    monitor: Monitor | None
    on_progress: OnProgress
    position: Position = field(default_factory=Position, init=False)
    history: list[dict] = field(default_factory=list, init=False)
    best: Checkpoint | None = field(default=None, init=False)

    def run(self) -> list[dict]:
        """Trains to the end: `final` gets the weights of the run. Returns the history."""
        self._restore()
        with worker_loss_explained(self.loop.strategy), DeferredSignals() as signals:
            while not is_over(self.history, self.training):
                self._run_epoch(signals)
            if signals.requested():
                signals.leave()
        if self.best is not None:
            self.loop.load_state(self.best.state)
        self._set_final()
        if self.monitor is not None:
            with writing_results(self.monitor.directory):
                self.monitor.finish(self.best and self.best.position.epoch)
        return self.history

    def _restore(self) -> None:
        checkpoint = self.checkpoints and self.checkpoints.latest()
        if checkpoint:
            self.loop.load_state(checkpoint.state)
            self.position, self.history = checkpoint.position, checkpoint.history
            best = best_epoch(self.history, self.training)
            # `best` is 0 as long as no loss was a finite number.
            if self.training.early_stopping and best > 0:
                self.best = self.checkpoints.after_epoch(best)
        _require_agreement(self.loop.strategy, self.position)

    def _run_epoch(self, signals: DeferredSignals) -> None:
        loop, saved = self.loop, time.monotonic()
        for position in loop.run(self.position, signals.requested):
            self.position = position
            self.on_progress(
                Progress(
                    position.epoch + 1,
                    self.training.epochs,
                    position.step,
                    loop.steps_per_epoch,
                    position.losses,
                )
            )
            if time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
                self._save()
                saved = time.monotonic()
        if self.position.step < loop.steps_per_epoch:
            self._save()
            signals.leave()
        self._end_epoch()

    def _end_epoch(self) -> None:
        position = self.position
        entry = {
            "epoch": position.epoch + 1,
            **position.losses,
            "learning_rate": self.loop.learning_rate,
            "seconds": position.seconds,
            "samples_per_second": position.samples / position.seconds,
        }
        if self.validation is not None or self.monitor is not None:
            self._set_final()
        if self.validation is not None:
            loss = float(self.validation().mean())
            entry["validation_loss"] = mean_over_workers(self.loop.strategy, loss)
        self.history.append(entry)
        self.position = Position(position.epoch + 1)
        self._save()
        if self.monitor is not None:
            with writing_results(self.monitor.directory):
                self.monitor.write(entry)

    def _set_final(self) -> None:
        """Gives `final` the weights that the run would end with now."""
        self.final.set_weights(self.loop.weights())
        if self.training.averaging is not None:
            estimate_statistics(self.final, self.loop.samples, self.training)

    def _save(self) -> None:
        best = best_epoch(self.history, self.training)
        is_best = self.training.early_stopping and best == len(self.history)
        is_kept = self.checkpoints and is_chief(self.loop.strategy)
        if not (is_best or is_kept):
            return
        checkpoint = Checkpoint(self.position, list(self.history), self.loop.state())
        if is_best and self.position.step == 0:
            self.best = checkpoint
        if is_kept:
            self.checkpoints.save(checkpoint, best)


def is_over(history: list[dict], training: TrainingConfig) -> bool:
    """Whether a run with this history has had all its epochs or no longer improves."""
    if len(history) >= training.epochs:
        return True
    if training.early_stopping is None or not history:
        return False
    return len(history) - best_epoch(history, training) >= training.early_stopping.patience


def best_epoch(history: list[dict], training: TrainingConfig) -> int:
    """The number, from 1, of the epoch with the lowest validation loss; 0 if there is none.

    Without held-out samples it is the training loss. An epoch has to be better by more than
    `early_stopping.min_delta`.
    """
    figure = "validation_loss" if training.validation_share else "loss"
    min_delta = training.early_stopping.min_delta if training.early_stopping else 0.0
    best, number = float("inf"), 0
    for entry in history:
        if entry[figure] < best - min_delta:
            best, number = entry[figure], entry["epoch"]
    return number


def kept_epoch(history: list[dict], training: TrainingConfig) -> dict:
    """The entry of the epoch that a finished run has its weights from."""
    best = best_epoch(history, training) if training.early_stopping else 0
    # Without a best epoch, 0 - 1 is the last one.
    return history[best - 1]


def _require_agreement(strategy: tf.distribute.Strategy, position: Position) -> None:
    if not is_same_on_workers(strategy, position.epoch + position.step / 1e9):
        raise UserError(
            "--workdir: the workers see different checkpoints in it; it should be one folder that "
            "all of them share"
        )
