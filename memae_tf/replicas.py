"""Losses of one replica of `tf.distribute` among those of all."""

import re

import keras


def own_losses(losses: list) -> list:
    """The losses that layers added within a step on the calling replica.

    Layers keep the losses of all replicas of a process in one list. Where replicas take turns, as
    in the exchanges of a synchronized BatchNorm, each would find the losses of others there, too.
    Backends other than TensorFlow have no such replicas.
    """
    if keras.backend.backend() != "tensorflow":
        return losses
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return losses
    own = _replica_scope(tf.get_current_name_scope())
    return [loss for loss in losses if _replica_scope(loss.name) == own]


def _replica_scope(name: str) -> str | None:
    """The scope "replica_N" in a name; `MirroredStrategy` has none for its first replica."""
    scopes = re.findall(r"(?:^|/)(replica_\d+)(?=/|$)", name)
    return scopes[-1] if scopes else None
