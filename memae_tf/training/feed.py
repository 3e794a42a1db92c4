"""How training samples reach the steps: from the device, or streamed.

Both feeds give the samples of an epoch in the same order, so a run ends with the same weights
either way. The order is a function of the seed and the epoch alone: a run that goes on in the
middle of an epoch sees the rest of what it would have seen.

A feed has three parts. `begin` makes the source of an epoch. `batches` takes the next global
batches from it, inside the graph, once a stretch of steps. `rows` picks a replica's part of them,
inside the replica.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

MB = 2**20


@dataclass(frozen=True)
class Part:
    """Rows `start` to `stop` of a global batch, which are `share` of it."""

    start: int
    stop: int
    share: float


def part_of(size: int, rank: int, count: int) -> Part:
    """The part that replica `rank` of `count` has in a batch; parts differ by one row at most.

    With fewer rows than replicas some have none of their own: they compute along with another's
    row, which counts for nothing.
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


def make_feed(x: np.ndarray, batch_size: int, resident_mb: float, strategy: tf.distribute.Strategy):
    """The feed that suits the size of the training set.

    Args:
        x: Float32 array (samples, ...), also a memory-mapped one.
        batch_size: Samples of a global batch.
        resident_mb: Largest size, in MiB, that is kept on every device.
        strategy: What the replicas belong to.
    """
    if x.nbytes <= resident_mb * MB:
        return ResidentFeed(x, batch_size, strategy)
    return StreamedFeed(x, batch_size, strategy)


class ResidentFeed:
    """The whole set as one tensor on each device; a batch is a gather."""

    def __init__(self, x: np.ndarray, batch_size: int, strategy: tf.distribute.Strategy):
        self.batch_size = batch_size
        devices = iter(strategy.extended.worker_devices)

        def place(_):
            with tf.device(next(devices)):
                return tf.identity(tf.constant(x))

        self.data = strategy.experimental_distribute_values_from_function(place)

    def begin(self, order: np.ndarray, step: int) -> tf.Tensor:
        return tf.constant(order)

    def batches(self, order, step, count, shape: tuple[int, int]) -> tf.Tensor:
        """Indices (steps, size) of the batches from `step` on, of which `count` are meant."""
        first, number = step * self.batch_size, shape[0] * shape[1]
        # The static shape is what XLA compiles for. Past the end of the epoch nobody looks.
        indices = order[first : first + number]
        indices = tf.pad(indices, [[0, number - tf.shape(indices)[0]]])
        return tf.reshape(indices, shape)

    def rows(self, batches, data, part: Part, size: int) -> tf.Tensor:
        return tf.gather(data, batches[:, part.start : part.stop])


class StreamedFeed:
    """Batches that tf.data gathers from the array ahead of the steps, several at a time.

    Of an array in a file only what a batch needs is read, and of several workers each reads its
    own part of a batch alone.
    """

    data = None

    def __init__(self, x: np.ndarray, batch_size: int, strategy: tf.distribute.Strategy):
        self.x = x
        self.batch_size = batch_size
        self.count = strategy.num_replicas_in_sync
        self.ranks: list[int] = []
        strategy.experimental_distribute_values_from_function(
            lambda context: self.ranks.append(context.replica_id_in_sync_group) or tf.constant(0)
        )

    def _local(self, size: int) -> slice:
        """The rows of a global batch that the replicas of this process take."""
        parts = [part_of(size, rank, self.count) for rank in self.ranks]
        return slice(min(part.start for part in parts), max(part.stop for part in parts))

    def begin(self, order: np.ndarray, step: int) -> Iterator:
        shape, dtype = self.x.shape[1:], tf.as_dtype(self.x.dtype)
        starts = range(step * self.batch_size, len(order), self.batch_size)

        def gather(start: np.int64) -> np.ndarray:
            indices = order[start : start + self.batch_size]
            return self.x[indices[self._local(len(indices))]]

        def read(start: tf.Tensor) -> tf.Tensor:
            batch = tf.numpy_function(gather, [start], dtype, stateful=False)
            return tf.ensure_shape(batch, (None, *shape))

        batches = tf.data.Dataset.from_tensor_slices(np.fromiter(starts, "int64"))
        batches = batches.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return iter(batches.prefetch(tf.data.AUTOTUNE))

    def batches(self, source, step, count, shape: tuple[int, int]) -> tf.Tensor:
        """The next `count` batches, (steps, size, ...), of which the rest are zeros."""
        steps, size = shape
        local = self._local(size)
        shape = (local.stop - local.start, *self.x.shape[1:])
        batches = tf.TensorArray(self.x.dtype, size=steps, element_shape=shape)
        for i in tf.range(count):
            batches = batches.write(i, tf.ensure_shape(next(source), shape))
        return batches.stack()

    def rows(self, batches, data, part: Part, size: int) -> tf.Tensor:
        first = self._local(size).start
        return batches[:, part.start - first : part.stop - first]
