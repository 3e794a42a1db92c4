"""Where the replicas of a model run."""

import tensorflow as tf


def make_strategy() -> tf.distribute.Strategy:
    """A `MirroredStrategy` over all GPUs; over the one CPU where there is none."""
    gpus = tf.config.list_logical_devices("GPU")
    return tf.distribute.MirroredStrategy([gpu.name for gpu in gpus] or ["/cpu:0"])
