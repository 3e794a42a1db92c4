"""Operations that a Keras backend has in one piece, where `keras.ops` composes them."""

import keras

HAS_FUSED_BATCH_NORM = keras.backend.backend() == "tensorflow"


def fused_batch_norm(inputs, gamma, beta, epsilon: float):
    """BatchNorm in training, where `HAS_FUSED_BATCH_NORM`.

    Args:
        inputs: (..., height, width, channels) in float32, bfloat16 or float16.
        gamma, beta: Scale and offset, float32 (channels,); `None` is 1 and 0.
        epsilon: Is added to the variance.

    Returns:
        The outputs, as the inputs are, and their mean and (biased) variance, float32 (channels,).
    """
    import tensorflow as tf

    channels = inputs.shape[-1]
    # The operation knows images only.
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
    # The operation normalises by the variance of the batch, but gives the estimate of that of all
    # data, by n - 1, which PyTorch has in its moving average and Keras has not.
    # Beyond 2**31 elements, int32 would be negative.
    count = tf.cast(tf.size(inputs, tf.int64) // channels, "float32")
    variance *= tf.maximum(count - 1, 1) / count
    return tf.reshape(outputs, tf.shape(inputs)), mean, variance
