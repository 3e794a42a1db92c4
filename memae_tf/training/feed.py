"""How training samples reach the steps: from the device, or streamed.

Both feeds give the samples of an epoch in the same order, so a run ends with the same weights
either way. The order is a function of the seed and the epoch alone: a run that is resumed in the
middle of an epoch sees the rest of what it would have seen.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from memae_tf.training.samples import Arrays, Tensor, Tensors, TrainingSamples

MB = 2**20


@dataclass(frozen=True)
class Part:
    """Rows `start` to `stop` of a global batch, and the share of the batch that they are."""

    start: int
    stop: int
    share: float


def part_of(size: int, rank: int, count: int) -> Part:
    """The part of a batch for replica `rank` of `count`; sizes of parts differ by one row at most.

    With fewer rows than replicas, some get none. They compute with a row of another replica and a
    share of 0, so that it counts only in the statistics of a synchronized BatchNorm.
    """
    start, stop = size * rank // count, size * (rank + 1) // count
    if start == stop:
        start = min(start, size - 1)
        return Part(start, start + 1, 0.0)
    return Part(start, stop, (stop - start) / size)


def shuffled(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch, int32 (num_samples,)."""
    order = tf.random.experimental.stateless_shuffle(tf.range(num_samples), seed=[seed, epoch])
    return order.numpy()


class Feed(ABC):
    """How the samples of an epoch reach the steps.

    Attributes:
        data: What is kept on every device, a value that is distributed over the replicas; `None` if
            nothing is.
    """

    data: Any = None

    @abstractmethod
    def begin(self, plan: Arrays, step: int) -> Any:
        """The source of the batches of an epoch, from `step` on."""

    @abstractmethod
    def end(self) -> None:
        """Releases what the epoch needed."""

    @abstractmethod
    def batches(self, source: Any, step: Tensor, count: Tensor, shape: tuple[int, int]) -> Tensors:
        """The next global batches, or their plan, tensors (*shape, ...). Runs inside the graph.

        Args:
            source: From `begin`.
            step: The number of the first batch.
            count: How many batches are used; the values of the others do not matter.
            shape: The number of batches and their size.
        """

    @abstractmethod
    def rows(self, batches: Tensors, data: Any, part: Part, size: int) -> Tensors:
        """The samples (batches, rows, ...) of a replica's part. Runs inside the replica.

        Args:
            batches: From `batches`.
            data: The replica's own value of `self.data`.
            part: The replica's part of a batch.
            size: The size of a global batch.
        """


def make_feed(
    samples: TrainingSamples, batch_size: int, resident_mb: float, strategy: tf.distribute.Strategy
) -> Feed:
    """The feed that suits the size of the training set.

    Args:
        samples: The training set.
        batch_size: Samples of a global batch.
        resident_mb: Largest size, in MiB, of a training set that is kept on every device.
        strategy: The strategy of the replicas.
    """
    if samples.nbytes <= resident_mb * MB:
        return ResidentFeed(samples, batch_size, strategy)
    return StreamedFeed(samples, batch_size, strategy)


def gather_on(
    devices: Sequence[str], samples: TrainingSamples
) -> Callable[[Tensor, Tensors], Tensors]:
    """`samples.gather`, in a form that runs on the devices themselves, with the same bits.

    TensorFlow has no kernel that gathers uint8 on a GPU: it would do so on the host, and copy all
    resident data there for every stretch of steps. Compiled by XLA, it runs on the device.

    Args:
        devices: Their names, as a strategy has them.
        samples: The training set.
    """
    kinds = {tf.DeviceSpec.from_string(device).device_type for device in devices}
    if "GPU" in kinds and samples.specs()["x"].dtype == "uint8":
        return tf.function(samples.gather, jit_compile=True)
    return samples.gather


class ResidentFeed(Feed):
    """Keeps the whole training set on each device; batches are gathered there."""

    def __init__(self, samples: TrainingSamples, batch_size: int, strategy: tf.distribute.Strategy):
        self.samples = samples
        self.batch_size = batch_size
        self.gather = gather_on(strategy.extended.worker_devices, samples)
        devices = iter(strategy.extended.worker_devices)
        resident = samples.resident()

        def place(_):
            with tf.device(next(devices)):
                return tf.identity(tf.constant(resident))

        self.data = strategy.experimental_distribute_values_from_function(place)

    def begin(self, plan: Arrays, step: int) -> Tensors:
        return {name: tf.constant(values) for name, values in plan.items()}

    def end(self) -> None:
        """Does nothing, as nothing is kept of an epoch."""

    def batches(self, source: Tensors, step, count, shape: tuple[int, int]) -> Tensors:
        """The plan of the batches."""
        first, number = step * self.batch_size, shape[0] * shape[1]

        def some(values):
            # Padded to a static shape, which XLA needs; rows past the end of the epoch are unused.
            rows = values[first : first + number]
            missing = [[0, number - tf.shape(rows)[0]]] + [[0, 0]] * (values.shape.rank - 1)
            return tf.reshape(tf.pad(rows, missing), (*shape, *values.shape[1:]))

        return {name: some(values) for name, values in source.items()}

    def rows(self, batches: Tensors, data, part: Part, size: int) -> Tensors:
        own = {name: values[:, part.start : part.stop] for name, values in batches.items()}
        return self.gather(data, own)


class StreamedFeed(Feed):
    """Batches that tf.data reads ahead of the steps, several at a time.

    A batch reads only the data that it needs, and only the part that this worker has of it.
    """

    def __init__(self, samples: TrainingSamples, batch_size: int, strategy: tf.distribute.Strategy):
        self.samples = samples
        self.batch_size = batch_size
        self.count = strategy.num_replicas_in_sync
        # What `begin`'s functions refer to, emptied by `end`: TensorFlow keeps for ever the Python
        # functions that a graph calls.
        self._reading: dict[str, object] = {}
        self.ranks: list[int] = []
        strategy.experimental_distribute_values_from_function(
            lambda context: self.ranks.append(context.replica_id_in_sync_group) or tf.constant(0)
        )

    def _local(self, size: int) -> slice:
        """The rows of a global batch that the replicas of this process take."""
        parts = [part_of(size, rank, self.count) for rank in self.ranks]
        return slice(min(part.start for part in parts), max(part.stop for part in parts))

    def begin(self, plan: Arrays, step: int) -> Iterator:
        specs = self.samples.specs()
        starts = range(step * self.batch_size, len(self.samples), self.batch_size)

        reading = self._reading = {"feed": self, "plan": plan}

        def gather(start: np.int64) -> list[np.ndarray]:
            return reading["feed"]._gather(reading["plan"], start)

        def read(start: tf.Tensor) -> Tensors:
            dtypes = [spec.dtype for spec in specs.values()]
            batch = tf.numpy_function(gather, [start], dtypes, stateful=False)
            return {
                name: tf.ensure_shape(values, (None, *spec.shape))
                for (name, spec), values in zip(specs.items(), batch, strict=True)
            }

        batches = tf.data.Dataset.from_tensor_slices(np.fromiter(starts, "int64"))
        batches = batches.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return iter(batches.prefetch(tf.data.AUTOTUNE))

    def end(self) -> None:
        self._reading.clear()

    def _gather(self, plan: Arrays, start: np.int64) -> list[np.ndarray]:
        batch = {name: values[start : start + self.batch_size] for name, values in plan.items()}
        local = self._local(len(next(iter(batch.values()))))
        rows = self.samples.read({name: values[local] for name, values in batch.items()})
        return [rows[name] for name in self.samples.specs()]

    def batches(self, source: Iterator, step, count, shape: tuple[int, int]) -> Tensors:
        """The part of the batches that the replicas of this process take."""
        steps, size = shape
        local = self._local(size)
        shapes = {
            name: (local.stop - local.start, *spec.shape)
            for name, spec in self.samples.specs().items()
        }
        batches = {
            name: tf.TensorArray(spec.dtype, size=steps, element_shape=shapes[name])
            for name, spec in self.samples.specs().items()
        }
        for i in tf.range(count):
            batch = next(source)
            batches = {
                name: array.write(i, tf.ensure_shape(batch[name], shapes[name]))
                for name, array in batches.items()
            }
        return {name: array.stack() for name, array in batches.items()}

    def rows(self, batches: Tensors, data, part: Part, size: int) -> Tensors:
        first = self._local(size).start
        own = slice(part.start - first, part.stop - first)
        return {name: values[:, own] for name, values in batches.items()}
