"""What `keras.ops` does not cover: parts of TensorFlow, used only where Keras runs on it."""

import re
from collections.abc import Callable

import keras

from memae_tf.errors import OtherBackendError

IS_TENSORFLOW = keras.backend.backend() == "tensorflow"


def require_tensorflow() -> None:
    """Checks that Keras runs on TensorFlow.

    Raises:
        OtherBackendError: If it does not, naming the backend.
    """
    if not IS_TENSORFLOW:
        raise OtherBackendError(keras.backend.backend())


class Untracked:
    """A dict of what refers to a layer, to be kept in that layer.

    Keras tracks dicts that are attributes, and follows all others when it loads weights: it would
    come back to the layer, and never end.
    """

    def __init__(self):
        self.values = {}


def as_graph(function: Callable, specs) -> Callable:
    """Compiles a function of raw input and a scalar to a graph; on other backends, gives it back.

    Without a graph, TensorFlow is slower, and results differ in the last bits from an export's.

    Args:
        function: Takes a nest of tensors and a float32 scalar.
        specs: A `keras.InputSpec` for every tensor of that nest.
    """
    if not IS_TENSORFLOW:
        return function
    import tensorflow as tf

    tensors = keras.tree.map_structure(lambda spec: tf.TensorSpec(spec.shape, spec.dtype), specs)
    signature = tensors, tf.TensorSpec((), "float32")
    return own_graph(function, input_signature=signature, autograph=False)


def own_graph(function: Callable, **options) -> Callable:
    """`tf.function` for a function that every model, or every training, has one of.

    Without TensorFlow's warning, which takes them for one function that is traced again and again.
    """
    import tensorflow as tf

    graph = tf.function(function, **options)
    graph._omit_frequent_tracing_warning = True
    return graph


def fused_batch_norm(inputs, gamma, beta, epsilon: float):
    """BatchNorm in training, as one operation of TensorFlow.

    Args:
        inputs: (..., height, width, channels) in float32, bfloat16 or float16.
        gamma, beta: Scale and offset, float32 (channels,); `None` is 1 and 0.
        epsilon: Added to the variance.

    Returns:
        The outputs, of the inputs' shape and dtype, and mean and (biased) variance of the inputs,
        float32 (channels,).
    """
    import tensorflow as tf

    channels = inputs.shape[-1]
    # The operation takes tensors of rank 4 only.
    images = tf.reshape(inputs, tf.concat([[-1], tf.shape(inputs)[-3:]], axis=0))
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=images,
        scale=tf.ones(channels) if gamma is None else tf.convert_to_tensor(gamma),
        offset=tf.zeros(channels) if beta is None else tf.convert_to_tensor(beta),
        mean=tf.zeros(0),
        variance=tf.zeros(0),
        epsilon=epsilon,
        is_training=True,
    )
    # The operation normalises by the variance over n, but returns the one over n - 1, which
    # PyTorch's moving average has; Keras's has the one over n. (In int64, as int32 overflows at
    # 2**31 elements.)
    count = tf.cast(tf.size(inputs, tf.int64) // channels, "float32")
    variance *= tf.maximum(count - 1, 1) / count
    return tf.reshape(outputs, tf.shape(inputs)), mean, variance


def own_losses(losses: list) -> list:
    """The losses that layers added within a step on the calling replica.

    Layers keep the losses of all replicas of a process in one list. Where replicas take turns, as
    in the exchanges of a synchronized BatchNorm, each would find the losses of others there, too.
    Backends other than TensorFlow have no such replicas.
    """
    if not IS_TENSORFLOW:
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
