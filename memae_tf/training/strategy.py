"""Where the replicas of a model run, and which process of several this is."""

import contextlib
import functools
import json
import os
import re
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from memae_tf.errors import UserError, WorkerLostError
from memae_tf.signals import default_signals

ADDRESS = re.compile(r".+:\d+")
# What TensorFlow raises for a cluster that it cannot start.
NO_CLUSTER = (tf.errors.OpError, RuntimeError, TypeError, ValueError)
CONNECTION_LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.UnavailableError,
)


def make_strategy(replicas: int | None = None) -> tf.distribute.Strategy:
    """The distribution that this process trains under.

    With `TF_CONFIG` in the environment, a `MultiWorkerMirroredStrategy` over all its workers
    (made before TensorFlow has done anything else; it waits until all of them are there).
    Otherwise `local_strategy`.

    Args:
        replicas: Number of replicas in this process; `None` for all GPUs, or one CPU.

    Raises:
        UserError: If there are fewer GPUs, or `TF_CONFIG` cannot be read.
    """
    if "TF_CONFIG" in os.environ:
        return _multi_worker(replicas)
    return local_strategy(replicas)


def local_strategy(replicas: int | None = None) -> tf.distribute.Strategy:
    """A `MirroredStrategy` of this machine alone, whatever `TF_CONFIG` says.

    It is over all GPUs, over the first `replicas` of them, or, where there is no GPU, over that
    many logical CPU devices.

    Raises:
        UserError: If there are fewer GPUs.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus and replicas and replicas > len(gpus):
        raise UserError(f"training.replicas={replicas}: this machine has {len(gpus)} GPUs")
    if not gpus:
        _make_logical_cpus(replicas or 1)
    kind = "GPU" if gpus else "CPU"
    devices = tf.config.list_logical_devices(kind)[: replicas or (len(gpus) or 1)]
    return _mirrored(tuple(device.name for device in devices))


# A second strategy over the same devices would give its collective operations the numbers that
# those of the first one have.
@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(devices)


def _make_logical_cpus(count: int) -> None:
    if count == 1:
        return
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * count
        )
    except RuntimeError:
        # TensorFlow has started already, and with it the devices are what they are.
        there = len(tf.config.list_logical_devices("CPU"))
        if there < count:
            raise UserError(
                f"training.replicas={count}: this process has {there} devices, and TensorFlow can "
                "make others only before it starts"
            ) from None


def _multi_worker(replicas: int | None) -> tf.distribute.Strategy:
    if replicas is not None:
        raise UserError("training.replicas: leave it out if TF_CONFIG names the workers")
    workers, index = _workers()
    try:
        # It waits in C++, where no handler of Python's runs; there is nothing to save yet.
        with default_signals():
            return tf.distribute.MultiWorkerMirroredStrategy()
    except NO_CLUSTER as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"TF_CONFIG: worker {index} cannot start at {workers[index]} ({reason})"
        ) from None


def other_workers() -> list[str]:
    """The addresses of the other workers, which this process waits for, from `TF_CONFIG`.

    Raises:
        UserError: If it cannot be read.
    """
    if "TF_CONFIG" not in os.environ:
        return []
    workers, index = _workers()
    return workers[:index] + workers[index + 1 :]


def _workers() -> tuple[list[str], int]:
    """The addresses in `TF_CONFIG`, and which of them is this process."""
    try:
        spec = json.loads(os.environ["TF_CONFIG"])
        workers, task = spec["cluster"]["worker"], spec["task"]
        if (
            not isinstance(workers, list)
            or not all(ADDRESS.fullmatch(address) for address in workers)
            or task["type"] != "worker"
            or not 0 <= task["index"] < len(workers)
        ):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise UserError(
            'TF_CONFIG: should be like {"cluster": {"worker": ["host:port", ...]}, '
            '"task": {"type": "worker", "index": 0}}'
        ) from None
    return workers, task["index"]


def worker(strategy: tf.distribute.Strategy) -> tuple[int, int]:
    """This process's number among the workers, from 0, and how many there are."""
    resolver = strategy.cluster_resolver
    if resolver is None or resolver.task_id is None:
        return 0, 1
    return resolver.task_id, len(resolver.cluster_spec().as_dict()["worker"])


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes files."""
    return worker(strategy)[0] == 0


@contextlib.contextmanager
def worker_loss_explained(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Replaces TensorFlow's error for a lost connection to another worker by one that says so.

    Raises:
        WorkerLostError: In its place, with several workers.
    """
    try:
        yield
    except CONNECTION_LOST as error:
        if worker(strategy)[1] == 1:
            raise
        raise WorkerLostError(
            "another worker is gone; start all workers again with the same command to resume from "
            "the last checkpoint"
        ) from error


def mean_over_workers(strategy: tf.distribute.Strategy, value: float) -> float:
    """The mean of the workers' values, the same on all of them."""
    return float(np.mean(_gather(strategy, value)))


def is_same_on_workers(strategy: tf.distribute.Strategy, value: float) -> bool:
    """Whether all workers have the same value."""
    return bool(np.ptp(_gather(strategy, value)) == 0)


def _gather(strategy: tf.distribute.Strategy, value: float) -> np.ndarray:
    """The values of all replicas, each that of its worker: the same array on all workers."""
    if worker(strategy)[1] == 1:
        return np.array([value])
    count = strategy.num_replicas_in_sync

    def own():
        place = tf.distribute.get_replica_context().replica_id_in_sync_group
        return tf.one_hot(place, count, dtype=tf.float64) * value

    return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(own), axis=None).numpy()
