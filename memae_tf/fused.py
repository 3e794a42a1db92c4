"""Fused operations of a Keras backend, for what `keras.ops` composes of several."""

import keras

HAS_FUSED_BATCH_NORM = keras.backend.backend() == "tensorflow"


def fused_batch_norm(inputs, gamma, beta, epsilon: float):
    """BatchNorm in training; only for backends with `HAS_FUSED_BATCH_NORM`.

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
