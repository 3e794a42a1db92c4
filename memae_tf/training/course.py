"""The course of a run: epoch after epoch, with what is kept, validated and shown of each."""

import time
from collections.abc import Callable
from dataclasses import dataclass

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
from memae_tf.training.strategy import agreed, everyones, is_chief, saying_who_is_gone

# Of long epochs, no more than this is lost when the machine dies.
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


class Course:
    """The epochs of a run, from where they were left to where they end."""

    def __init__(self, training, loop, final, validation, checkpoints, monitor, on_progress):
        self.training: TrainingConfig = training
        self.loop: TrainingLoop = loop
        self.final: MemAE = final
        self.validation: Callable[[], np.ndarray] | None = validation
        self.checkpoints: Checkpoints | None = checkpoints
        self.monitor: Monitor | None = monitor
        self.on_progress: OnProgress = on_progress
        self.chief = is_chief(loop.strategy)
        self.position, self.history = Position(), []
        # Of the best epoch, where it may be wanted in the end.
        self.best: Checkpoint | None = None

    def run(self) -> list[dict]:
        """Leaves the weights of the run in `final`; returns the history."""
        self._restore()
        with saying_who_is_gone(self.loop.strategy), DeferredSignals() as signals:
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
            # None is the best as long as no loss was a finite number.
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
            entry["validation_loss"] = agreed(self.loop.strategy, loss)
        self.history.append(entry)
        self.position = Position(position.epoch + 1)
        self._save()
        if self.monitor is not None:
            with writing_results(self.monitor.directory):
                self.monitor.write(entry)

    def _set_final(self) -> None:
        """The weights that the run would end with now."""
        self.final.set_weights(self.loop.weights())
        if self.training.averaging is not None:
            estimate_statistics(self.final, self.loop.samples, self.training)

    def _save(self) -> None:
        best = best_epoch(self.history, self.training)
        wanted = self.training.early_stopping and best == len(self.history)
        if not wanted and not (self.chief and self.checkpoints):
            return
        checkpoint = Checkpoint(self.position, list(self.history), self.loop.state())
        if wanted and self.position.step == 0:
            self.best = checkpoint
        if self.chief and self.checkpoints:
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
    # Where none is the best, that is the last one, too.
    best = best_epoch(history, training) if training.early_stopping else 0
    return history[best - 1]


def _require_agreement(strategy: tf.distribute.Strategy, position: Position) -> None:
    if np.ptp(everyones(strategy, position.epoch + position.step / 1e9)) > 0:
        raise UserError(
            "--workdir: the workers see different checkpoints in it; it should be one folder that "
            "all of them share"
        )
