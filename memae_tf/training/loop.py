"""The custom training loop: whole stretches of steps in one graph call, over data on the device."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from memae_tf.config import TrainingConfig
from memae_tf.errors import UserError
from memae_tf.models import MemAE

# Steps between two looks at the loss: a fraction of a second for the dense net, so that progress,
# Ctrl-C and NaN are noticed soon, yet calls cost nothing.
STEPS_PER_CALL = 64


class TrainingDivergedError(UserError):
    """The loss became NaN or infinite."""


class TrainingLoop:
    """Trains a MemAE on an array that fits in memory.

    Every epoch visits each sample once, in an order that depends on the seed and the epoch alone,
    so that a resumed run sees what an uninterrupted one would have seen. The last batch is as
    small as it comes out. A global batch is divided over the replicas of the strategy, and the
    loss is the mean over the global batch whatever their number.

    Args:
        model: A MemAE made under `strategy.scope()`.
        x: Float32 array (samples, ...) of normal data.
        config: The `training` section.
        strategy: From `make_strategy`.
    """

    def __init__(
        self,
        model: MemAE,
        x: np.ndarray,
        config: TrainingConfig,
        strategy: tf.distribute.Strategy,
    ):
        self.model = model
        self.config = config
        self.strategy = strategy
        self.num_samples = len(x)
        self.data = tf.constant(x)
        self.full_steps, self.last_batch = divmod(self.num_samples, config.batch_size)
        self.steps_per_epoch = self.full_steps + (self.last_batch > 0)
        with strategy.scope():
            self.optimizer = make_optimizer(config, self.steps_per_epoch)
            self.optimizer.build(model.trainable_variables)
        self._gradients = tf.function(self._compute_gradients, jit_compile=model.supports_jit)
        self._steps = tf.function(self._run_steps)

    def run_epoch(
        self, epoch: int, on_progress: Callable[[int, dict[str, float]], None] = lambda *_: None
    ) -> dict[str, float]:
        """Runs one epoch.

        Args:
            epoch: Its number, from 0.
            on_progress: Called with the steps done and the mean losses so far.

        Returns:
            The means over the epoch's samples of `loss`, `reconstruction` and `penalty`.

        Raises:
            TrainingDivergedError: As soon as a loss or weight is seen to be NaN or infinite.
        """
        order = tf.random.experimental.stateless_shuffle(
            tf.range(self.num_samples), seed=[self.config.seed, epoch]
        )
        size = self.config.batch_size
        full = tf.reshape(order[: self.full_steps * size], (self.full_steps, size))
        calls = [full[i : i + STEPS_PER_CALL] for i in range(0, self.full_steps, STEPS_PER_CALL)]
        if self.last_batch:
            calls.append(order[None, self.full_steps * size :])
        totals, samples, steps = np.zeros(2), 0, 0
        for batches in calls:
            totals += self._steps(batches).numpy()
            samples += batches.shape[0] * batches.shape[1]
            steps += batches.shape[0]
            if not np.isfinite(totals).all():
                raise self._diverged(epoch, steps)
            means = _losses(totals / samples)
            on_progress(steps, means)
        # The loss of a step is taken before its update: the last update shows in the weights.
        if not all(np.isfinite(weights).all() for weights in self.model.get_weights()):
            raise self._diverged(epoch, steps)
        return means

    def _diverged(self, epoch: int, step: int) -> TrainingDivergedError:
        return TrainingDivergedError(
            f"training diverged: loss or weights became NaN or infinite in epoch {epoch + 1}, "
            f"step {step} or shortly before; try a smaller training.learning_rate than "
            f"{self.config.learning_rate:g}"
        )

    def _run_steps(self, batches):
        """Runs a step for each row of sample indices; sums of the loss terms over all samples."""
        totals = tf.zeros([2])
        for row in tf.range(tf.shape(batches)[0]):
            # The static size of a batch is what XLA compiles for.
            indices = tf.ensure_shape(batches[row], batches.shape[1:])
            terms = self.strategy.run(self._replica_step, args=(indices,))
            terms = self.strategy.reduce(tf.distribute.ReduceOp.SUM, terms, axis=None)
            totals += terms * tf.cast(tf.shape(indices)[0], tf.float32)
        return totals

    def _replica_step(self, indices):
        """One optimizer step with this replica's part of a global batch."""
        replica = tf.distribute.get_replica_context()
        count = replica.num_replicas_in_sync
        rank = int(tf.get_static_value(replica.replica_id_in_sync_group))
        size = indices.shape[0]
        start, stop = size * rank // count, size * (rank + 1) // count
        share = (stop - start) / size
        if start == stop:
            # Fewer samples than replicas: this one computes along, and counts for nothing.
            start, stop = 0, 1
        terms, gradients = self._gradients(tf.gather(self.data, indices[start:stop]), share)
        self.optimizer.apply(gradients, self.model.trainable_variables)
        return terms

    def _compute_gradients(self, x, share):
        with tf.GradientTape() as tape:
            reconstruction = self.model(x, training=True)
            terms = self.model.loss_terms(x, reconstruction)
            terms = tf.stack([terms["reconstruction"], terms["penalty"]]) * share
            loss = self.optimizer.scale_loss(tf.reduce_sum(terms))
        return terms, tape.gradient(loss, self.model.trainable_variables)


def make_optimizer(config: TrainingConfig, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Adam with the configured schedule, and dynamic loss scaling under mixed_float16."""
    learning_rate = config.learning_rate
    if config.schedule == "cosine":
        learning_rate = keras.optimizers.schedules.CosineDecay(
            learning_rate, decay_steps=steps_per_epoch * config.epochs
        )
    optimizer = keras.optimizers.Adam(learning_rate)
    if config.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def _losses(terms: np.ndarray) -> dict[str, float]:
    reconstruction, penalty = (float(term) for term in terms)
    return {
        "loss": reconstruction + penalty,
        "reconstruction": reconstruction,
        "penalty": penalty,
    }
