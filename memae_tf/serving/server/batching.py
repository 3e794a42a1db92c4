"""Dynamic batching: requests for one signature that arrive together run as one.

It has no threads of its own. The request that opens a batch waits for others, runs the batch and
hands out the results.
"""

import threading
import time
from collections.abc import Mapping, Sequence

import numpy as np

from memae_tf.serving.server.batching_parameters import BatchingParameters
from memae_tf.serving.server.metrics import Metrics
from memae_tf.serving.server.servable import Servable
from memae_tf.serving.wire.status import (
    Code,
    ServingError,
    failed_precondition,
    invalid_argument,
    unexpected,
)

MICROSECONDS = 1e6


class _Batch:
    """Requests, or parts of them, that run together."""

    def __init__(self):
        self.tasks: list[_Task] = []
        self.size = 0
        self.closed = threading.Event()
        self.done = threading.Event()


class _Task:
    """A request or a part of one."""

    def __init__(self, feeds: Mapping[str, np.ndarray], size: int, deadline: float | None):
        self.feeds = feeds
        self.size = size
        self.enqueued = time.monotonic()
        self.deadline = deadline
        self.batch: _Batch | None = None
        self.results: list[np.ndarray] | None = None
        self.error: ServingError | None = None


class Batcher:
    """Runs a servable with batches of requests for one signature.

    Only requests for all outputs of a signature are batched, as in TensorFlow Serving.

    Args:
        servable: The servable that runs the batches.
        metrics: The metrics that record the time in the queue.
        parameters: The parameters of batching.
    """

    def __init__(self, servable: Servable, metrics: Metrics, parameters: BatchingParameters):
        self._servable = servable
        self._metrics = metrics
        self._parameters = parameters
        self._lock = threading.Lock()
        # Batches that can still take requests.
        self._open: dict[tuple, _Batch] = {}
        self._waiting = 0
        self._threads = threading.Semaphore(parameters.num_batch_threads)
        self._signatures = {
            (
                frozenset(info.name for info in signature.inputs.values()),
                frozenset(info.name for info in signature.outputs.values()),
            )
            for signature in servable.signatures.values()
            if signature.inputs
        }

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        timeout: float | None = None,
    ) -> list[np.ndarray]:
        """Like `Servable.run`, maybe together with other requests."""
        signature = (frozenset(feeds), frozenset(fetches))
        if signature not in self._signatures:
            return self._servable.run(feeds, fetches, timeout)
        size = _batch_size(feeds)
        if size > self._parameters.max_batch_size:
            raise invalid_argument(
                f"Task size {size} is larger than maximum input batch size "
                f"{self._parameters.max_batch_size}"
            )
        names = sorted(signature[1])
        deadline = None if timeout is None else time.monotonic() + timeout
        tasks = [
            _Task(part, len(next(iter(part.values()))), deadline)
            for part in self._parts(feeds, size)
        ]
        key = (*signature, self._inner_shapes(feeds))
        for batch in self._enqueue(key, tasks):
            self._lead(key, batch, names)
        results = dict(zip(names, _collect(tasks), strict=True))
        return [results[name] for name in fetches]

    def _parts(self, feeds: Mapping[str, np.ndarray], size: int) -> list[Mapping]:
        step = self._parameters.execution_size
        if size <= step:
            return [feeds]
        return [
            {name: array[start : start + step] for name, array in feeds.items()}
            for start in range(0, size, step)
        ]

    def _inner_shapes(self, feeds: Mapping[str, np.ndarray]) -> tuple:
        """What requests in a batch must have in common besides the signature."""
        if self._parameters.pad_variable_length_inputs:
            return tuple(sorted((name, array.ndim) for name, array in feeds.items()))
        return tuple(sorted((name, array.shape[1:]) for name, array in feeds.items()))

    def _enqueue(self, key: tuple, tasks: Sequence[_Task]) -> list[_Batch]:
        """Puts tasks into batches, and returns the new ones, which this request must lead."""
        limit = self._parameters.execution_size
        opened = []
        with self._lock:
            self._check_room(key, tasks, limit)
            for task in tasks:
                batch = self._open.get(key)
                if batch is None or batch.size + task.size > limit:
                    if batch is not None:
                        batch.closed.set()
                    batch = self._open[key] = _Batch()
                    self._waiting += 1
                    opened.append(batch)
                task.batch = batch
                batch.tasks.append(task)
                batch.size += task.size
                if batch.size >= limit:
                    batch.closed.set()
                    del self._open[key]
        return opened

    def _check_room(self, key: tuple, tasks: Sequence[_Task], limit: int) -> None:
        batch = self._open.get(key)
        room, needed = (limit - batch.size if batch else -1), 0
        for task in tasks:
            if task.size > room:
                needed, room = needed + 1, limit
            room -= task.size
        if self._waiting + needed > self._parameters.max_enqueued_batches:
            raise ServingError(
                Code.UNAVAILABLE,
                "The batch scheduling queue to which this task was submitted is full; "
                f"currently {self._waiting} batches enqueued and max_enqueued_batches is "
                f"{self._parameters.max_enqueued_batches}",
            )

    def _lead(self, key: tuple, batch: _Batch, names: list[str]) -> None:
        """Waits for others to join a batch, and runs it."""
        batch.closed.wait(self._parameters.batch_timeout_micros / MICROSECONDS)
        with self._threads:
            # Others may join until the batch starts.
            with self._lock:
                if self._open.get(key) is batch:
                    del self._open[key]
                self._waiting -= 1
            try:
                self._run(batch.tasks, names)
            except Exception as error:
                error = error if isinstance(error, ServingError) else unexpected(error)
                for task in batch.tasks:
                    task.error = error
            finally:
                batch.done.set()

    def _run(self, tasks: Sequence[_Task], names: list[str]) -> None:
        now = time.monotonic()
        for task in tasks:
            self._metrics.queuing_latency.observe((now - task.enqueued) * MICROSECONDS)
        deadlines = [task.deadline for task in tasks]
        timeout = None if None in deadlines else max(deadlines) - now
        if timeout is not None and timeout <= 0:
            raise ServingError(
                Code.DEADLINE_EXCEEDED, "Run() timeout exceeded while waiting in batching queue"
            )
        size = sum(task.size for task in tasks)
        allowed = next((n for n in self._parameters.allowed_batch_sizes if n >= size), size)
        feeds = {
            name: self._merged([task.feeds[name] for task in tasks], allowed - size)
            for name in tasks[0].feeds
        }
        results = self._servable.run(feeds, names, timeout)
        for result in results:
            if not result.ndim:
                raise failed_precondition("Batched output tensor has 0 dimensions")
            if len(result) != allowed:
                raise failed_precondition(
                    "Batched output tensor's 0th dimension does not equal the sum of the 0th "
                    "dimension sizes of the input tensors"
                )
        start = 0
        for task in tasks:
            task.results = [result[start : start + task.size] for result in results]
            start += task.size

    def _merged(self, arrays: list[np.ndarray], missing: int) -> np.ndarray:
        if self._parameters.pad_variable_length_inputs:
            arrays = _same_shape(arrays)
        if missing:
            # Filled up with a row that is certainly valid, the first one of the last request.
            arrays = [*arrays, np.repeat(arrays[-1][:1], missing, axis=0)]
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _collect(tasks: Sequence[_Task]) -> list[np.ndarray]:
    for task in tasks:
        left = None if task.deadline is None else max(0.0, task.deadline - time.monotonic())
        if not task.batch.done.wait(left):
            raise ServingError(Code.DEADLINE_EXCEEDED, "Timed out waiting for notification")
        if task.error is not None:
            # Every thread raises an exception of its own.
            raise ServingError(task.error.code, task.error.message)
    if len(tasks) == 1:
        return tasks[0].results
    return [np.concatenate(parts) for parts in zip(*(t.results for t in tasks), strict=True)]


def _batch_size(feeds: Mapping[str, np.ndarray]) -> int:
    if any(not array.ndim for array in feeds.values()):
        raise invalid_argument(
            "Batching session Run() input tensors must have at least one dimension"
        )
    sizes = {len(array) for array in feeds.values()}
    if len(sizes) > 1:
        raise invalid_argument(
            "Batching session Run() input tensors must have equal 0th-dimension size"
        )
    if sizes == {0}:
        raise invalid_argument("Batching session Run() input tensors must not be empty")
    return sizes.pop()


def _same_shape(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The arrays, padded to the same inner shape with their first value."""
    shape = np.max([array.shape for array in arrays], axis=0)
    padded = []
    for array in arrays:
        widths = [(0, 0)] + [
            (0, int(want) - have) for want, have in zip(shape[1:], array.shape[1:], strict=True)
        ]
        if not any(after for _, after in widths):
            padded.append(array)
            continue
        if not array.size:
            raise invalid_argument("An empty tensor cannot be padded")
        padded.append(np.pad(array, widths, constant_values=array.flat[0]))
    return padded
