"""The custom training loop: whole stretches of steps in one graph call."""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import joblib
import keras
import numpy as np
import tensorflow as tf

from memae_tf.backend import own_graph, require_tensorflow
from memae_tf.config import TrainingConfig
from memae_tf.errors import UserError
from memae_tf.models import MemAE
from memae_tf.training import columnwise
from memae_tf.training.feed import Part, make_feed, part_of, shuffled
from memae_tf.training.optimizer import make_optimizer
from memae_tf.training.samples import ArraySamples, Tensors, TrainingSamples

# A graph call has as many steps as fit into this time: progress, signals and NaN are noticed soon,
# yet the cost of calls is negligible.
SECONDS_PER_CALL = 0.25
MOST_STEPS_PER_CALL = 1024
# Bytes of samples that are gathered at a time, for a stretch of steps. With XLA, stretches are
# longer: launching a program takes 0.6 ms, which is most of a step of the KDD network.
STRETCH, COMPILED_STRETCH = 2**25, 2**27
# The speed, in floating-point operations a second, at which a stretch should fit into a call.
MODEST_FLOPS = 1e11
# The least samples in a slice: computing smaller ones in parallel costs more than it saves.
SMALLEST_SLICE = 128
# The least steps of a run with XLA. For the KDD network on one core it takes 2.7 s to compile, and
# saves 1.3 ms a step.
XLA_PAYS_FROM = 2000


class TrainingDivergedError(UserError):
    """The loss or a weight became NaN or infinite."""


@dataclass(frozen=True)
class Position:
    """Where a run stands: `step` steps into `epoch`, both from 0.

    Attributes:
        samples: Seen in this epoch.
        reconstruction, penalty: Sums of the loss terms over these samples.
        seconds: Spent on this epoch.
    """

    epoch: int = 0
    step: int = 0
    samples: int = 0
    reconstruction: float = 0.0
    penalty: float = 0.0
    seconds: float = 0.0

    @property
    def losses(self) -> dict[str, float]:
        """Means over the samples seen: `loss`, `reconstruction` and `penalty`."""
        reconstruction, penalty = self.reconstruction / self.samples, self.penalty / self.samples
        return {
            "loss": reconstruction + penalty,
            "reconstruction": reconstruction,
            "penalty": penalty,
        }


class TrainingLoop:
    """Trains a MemAE under a distribution strategy.

    Every epoch visits each sample once, in an order that depends on the seed and the epoch alone.
    The last batch has what is left, and may be smaller. A global batch is divided over the
    replicas, and the loss is the mean over the global batch whatever their number: losses,
    gradients, clipping and, if synchronized, BatchNorm are those of one replica, up to rounding.

    Args:
        model: A MemAE made under `strategy.scope()`. It belongs to the loop: its BatchNorm layers
            are set to be synchronized or not.
        x: Normal data, `TrainingSamples` or a float32 array (samples, ...), which may be
            memory-mapped; what is larger than `config.resident_mb` is streamed.
        config: The `training` section.
        strategy: From `make_strategy`.
    """

    def __init__(
        self,
        model: MemAE,
        x: np.ndarray | TrainingSamples,
        config: TrainingConfig,
        strategy: tf.distribute.Strategy,
    ):
        require_tensorflow()
        self.model = model
        self.config = config
        self.strategy = strategy
        self.samples = x if isinstance(x, TrainingSamples) else ArraySamples(x)
        self.num_samples = len(self.samples)
        self.full_steps, self.last_batch = divmod(self.num_samples, config.batch_size)
        self.steps_per_epoch = self.full_steps + (self.last_batch > 0)
        self.feed = make_feed(self.samples, config.batch_size, config.resident_mb, strategy)
        replicas = strategy.num_replicas_in_sync
        with strategy.scope():
            self.optimizer = make_optimizer(config, self.steps_per_epoch, replicas)
            self.optimizer.build(model.trainable_variables)
        if replicas > 1:
            _synchronize_batch_norm(model, config.synchronized_batch_norm)
        # Clipping and the search for infinities need the whole gradient before the optimizer,
        # which adds up what it is given.
        self._whole_gradient = replicas > 1 and (
            config.clip_norm is not None or config.precision == "mixed_float16"
        )
        # XLA compiles whole stretches of steps to a program in which replicas cannot communicate.
        # With several it compiles the gradients only, unless the model has state (BatchNorm).
        xla = model.supports_jit and self.steps_per_epoch * config.epochs >= XLA_PAYS_FROM
        stateless = not model.non_trainable_variables
        self._compiled = xla and replicas == 1
        self._gradients, self._slices = self._compute_gradients, 1
        if xla and stateless:
            self._slices = 1 if _has_gpu() else max(1, _cpu_threads() // replicas)
            if replicas > 1:
                self._gradients = tf.function(self._compute_gradients, jit_compile=True)
        compiled = xla and (stateless or replicas == 1)
        self._columnwise = compiled and not _has_gpu() and columnwise.suits(model)
        self._stretch = _stretch_length(self.full_steps, self._most_steps())
        self._full_batches = own_graph(self._steps_of(config.batch_size, self._stretch))
        self._partial_batch = own_graph(self._steps_of(self.last_batch, 1))
        self._weights_are_finite = own_graph(lambda: _are_finite(model.variables))
        self._steps_per_call = 1
        self._seconds_per_step = 0.0

    def _most_steps(self) -> int:
        """The most steps of a stretch."""
        step_nbytes = self.samples.sample_nbytes * self.config.batch_size
        if not self._compiled:
            return STRETCH // step_nbytes
        # For dense layers, which compiled models have: 2 operations a weight and sample in the
        # forward pass, and twice as many in the backward pass.
        flops = 6 * self.model.count_params() * self.config.batch_size
        in_time = int(SECONDS_PER_CALL * MODEST_FLOPS / flops)
        return min(COMPILED_STRETCH // step_nbytes, max(STRETCH // step_nbytes, in_time))

    def run_epoch(self, epoch: int) -> dict[str, float]:
        """Runs one epoch; the means of `loss`, `reconstruction` and `penalty` over its samples.

        Raises:
            TrainingDivergedError: As soon as a loss or weight is seen to be NaN or infinite.
        """
        for position in self.run(Position(epoch)):
            losses = position.losses
        return losses

    def run(
        self, position: Position, stop_requested: Callable[[], bool] = lambda: False
    ) -> Iterator[Position]:
        """Runs an epoch from a position in it, giving the new position after every graph call.

        Ends early, after the call that was running, when `stop_requested` says so on any of the
        workers; all of them end at the same position.

        Raises:
            TrainingDivergedError: As soon as a loss or weight is seen to be NaN or infinite.
        """
        order = shuffled(self.num_samples, self.config.seed, position.epoch)
        plan = self.samples.plan(order, self.config.seed, position.epoch)
        source = self.feed.begin(plan, position.step)
        stop = False
        try:
            while position.step < self.steps_per_epoch and not stop:
                position, stop = self._call(source, position, stop_requested())
                yield position
        finally:
            # Before the feed's end, as it may be reading ahead.
            del source
            self.feed.end()

    def _call(self, source, position: Position, stop: bool) -> tuple[Position, bool]:
        """One graph call; the position after it, and whether any worker wants to stop."""
        start = time.perf_counter()
        count = min(self._steps_per_call, self.full_steps - position.step)
        run, size = self._full_batches, self.config.batch_size
        if count == 0:
            run, size, count = self._partial_batch, self.last_batch, 1
        # Workers exchange how long a step takes them, to agree on the number of steps in a call.
        signals = tf.constant([float(stop), self._seconds_per_step])
        terms, signals = run(source, tf.constant(position.step), tf.constant(count), signals)
        stop, seconds_per_step = signals.numpy() / self.strategy.num_replicas_in_sync
        if seconds_per_step > 0:
            wanted = int(np.clip(SECONDS_PER_CALL / seconds_per_step, 1, MOST_STEPS_PER_CALL))
            # Whole stretches, as gathering a part of one takes as long.
            self._steps_per_call = wanted - wanted % self._stretch or wanted
        reconstruction, penalty = terms.numpy().astype("float64").T * size
        seconds = time.perf_counter() - start
        if size == self.config.batch_size:
            self._seconds_per_step = seconds / count
        position = replace(
            position,
            step=position.step + count,
            samples=position.samples + count * size,
            reconstruction=_add_in_order(position.reconstruction, reconstruction),
            penalty=_add_in_order(position.penalty, penalty),
            seconds=position.seconds + seconds,
        )
        self._require_finite(position)
        return position, stop > 0

    def _require_finite(self, position: Position) -> None:
        finite = np.isfinite([position.reconstruction, position.penalty]).all()
        if finite and position.step == self.steps_per_epoch:
            # Losses are computed before the update, so that of the last step shows in weights only.
            finite = self._weights_are_finite()
        if not finite:
            raise TrainingDivergedError(
                "training diverged: loss or weights became NaN or infinite in epoch "
                f"{position.epoch + 1}, step {position.step} or shortly before; try a smaller "
                f"training.learning_rate than {self.config.learning_rate:g}"
            )

    def _steps_of(self, size: int, length: int) -> Callable:
        """The function of several steps with batches of one size, in stretches of one length."""

        def run_steps(source, first, count, signals):
            """Loss terms (count, 2) of the steps from `first` on, and the sum of all signals."""
            stretches = -(-count // length)
            terms = tf.TensorArray(tf.float32, size=stretches, infer_shape=False)
            for i in tf.range(stretches):
                done = i * length
                number = tf.minimum(length, count - done)
                batches = self.feed.batches(source, first + done, number, (length, size))
                rows = self.strategy.run(take, args=(batches, self.feed.data))
                terms = terms.write(i, stretch(rows, number)[:number])
            signals = self.strategy.run(lambda: tf.identity(signals))
            return terms.concat(), self._sum(signals)

        def take(batches, data):
            """A replica's rows (length, rows, ...) of the batches of a stretch."""
            return self.feed.rows(batches, data, _own_part(size), size)

        def stretch(rows, count):
            """Loss terms (length, 2) of the first `count` steps."""
            terms = tf.TensorArray(tf.float32, size=length, element_shape=(2,))
            i = tf.constant(0)
            # Not `for i in tf.range(count)`, which XLA would compile for every `count`.
            while i < count:
                terms = terms.write(i, self._sum(self.strategy.run(step, args=(rows, i))))
                i += 1
            return terms.stack()

        def step(rows, i):
            samples = {name: values[i] for name, values in rows.items()}
            return self._replica_step(samples, _own_part(size).share)

        if self._compiled:
            stretch = tf.function(stretch, jit_compile=True)
        return run_steps

    def _sum(self, values):
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None)

    def _replica_step(self, samples: Tensors, share: float):
        """One optimizer step with this replica's share of a global batch; its loss terms (2,)."""
        terms, gradients = self._sliced_gradients(samples, share)
        if self._whole_gradient:
            replica = tf.distribute.get_replica_context()
            gradients = replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
            gradients = [gradient / replica.num_replicas_in_sync for gradient in gradients]
        self.optimizer.apply(gradients, self.model.trainable_variables)
        return terms

    def _sliced_gradients(self, samples: Tensors, share: float):
        """Loss terms and gradients of a replica's samples, in as many slices as there are cores.

        On a CPU, most operations that XLA compiles use one core; independent ones run in parallel.
        """
        size = next(iter(samples.values())).shape[0]
        count = max(1, min(self._slices, size // SMALLEST_SLICE))
        bounds = [size * number // count for number in range(count + 1)]
        slices = [
            self._gradients(
                {name: values[start:stop] for name, values in samples.items()},
                share * (stop - start) / size,
            )
            for start, stop in itertools.pairwise(bounds)
        ]
        if count == 1:
            return slices[0]
        terms, gradients = zip(*slices, strict=True)
        return tf.add_n(terms), [tf.add_n(parts) for parts in zip(*gradients, strict=True)]

    def _compute_gradients(self, samples: Tensors, share: float):
        x, target, weights = self.samples.prepare(samples)
        with tf.GradientTape() as tape:
            if self._columnwise:
                terms = columnwise.loss_terms(self.model, x, target, weights)
            else:
                reconstruction = self.model(x, training=True)
                terms = self.model.loss_terms(target, reconstruction, weights)
            terms = tf.stack([terms["reconstruction"], terms["penalty"]]) * share
            loss = self.optimizer.scale_loss(tf.reduce_sum(terms))
        return terms, tape.gradient(loss, self.model.trainable_variables)

    # State and weights.

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.optimizer.learning_rate.numpy())

    def state(self) -> dict[str, np.ndarray]:
        """Everything that the next steps depend on: weights, optimizer, counters."""
        return {name: variable.numpy() for name, variable in self._variables().items()}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Restores what `state` gave.

        Raises:
            ValueError: If it is of another model or optimizer.
        """
        variables = self._variables()
        shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
        if shapes != {name: value.shape for name, value in state.items()}:
            raise ValueError("The state is that of another model or optimizer.")
        for name, variable in variables.items():
            variable.assign(state[name])

    def _variables(self) -> dict[str, keras.Variable]:
        # By number: Keras names a second layer of a kind differently from the first.
        kinds = {"model": self.model.variables, "optimizer": self.optimizer.variables}
        return {
            f"{kind}/{number:03}": variable
            for kind, variables in kinds.items()
            for number, variable in enumerate(variables)
        }

    def weights(self) -> list[np.ndarray]:
        """The weights that the run would end with now: the averaged ones, if it averages."""
        if self.config.averaging is None:
            return self.model.get_weights()
        trainable = self.model.trainable_variables
        values = [variable.numpy() for variable in trainable]
        self.optimizer.finalize_variable_values(trainable)
        weights = self.model.get_weights()
        for variable, value in zip(trainable, values, strict=True):
            variable.assign(value)
        return weights


def _has_gpu() -> bool:
    return bool(tf.config.list_logical_devices("GPU"))


def _cpu_threads() -> int:
    """The number of threads that TensorFlow uses."""
    return tf.config.threading.get_inter_op_parallelism_threads() or joblib.cpu_count()


def _own_part(size: int) -> Part:
    """The part of a batch that the calling replica gets."""
    replica = tf.distribute.get_replica_context()
    rank = int(tf.get_static_value(replica.replica_id_in_sync_group))
    return part_of(size, rank, replica.num_replicas_in_sync)


def _stretch_length(steps: int, most: int) -> int:
    """The steps of a stretch, `most` at most, so that an epoch is divided evenly or nearly so."""
    most = int(np.clip(most, 1, MOST_STEPS_PER_CALL))
    programs = max(1, -(-steps // most))
    return max(1, -(-steps // programs))


def _are_finite(variables: list[keras.Variable]) -> tf.Tensor:
    """Whether all numbers in the variables are finite; integers always are."""
    values = [variable.value for variable in variables if "float" in variable.dtype]
    return tf.reduce_all(tf.stack([tf.reduce_all(tf.math.is_finite(value)) for value in values]))


def _add_in_order(total: float, terms: np.ndarray) -> float:
    """A sum whose bits do not depend on how the terms are split over several calls."""
    return float(np.cumsum([total, *terms])[-1])


def _synchronize_batch_norm(model: keras.Model, synchronized: bool) -> None:
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = synchronized
