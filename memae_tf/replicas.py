"""What a replica of `tf.distribute` must tell apart from what is others'."""

import re

import keras


def own_losses(losses: list) -> list:
    """Of losses that layers added within a step, those of the replica that asks.

    Layers keep them in one list. Replicas of one process take turns where they exchange something,
    as synchronized BatchNorm does, and so each would find those of others in it, too. Other
    backends than TensorFlow have no such replicas.
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
    """`MirroredStrategy` puts operations of all replicas of a process but the first into one."""
    scopes = re.findall(r"(?:^|/)(replica_\d+)(?=/|$)", name)
    return scopes[-1] if scopes else None
