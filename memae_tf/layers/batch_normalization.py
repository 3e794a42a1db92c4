"""BatchNorm whose training step is one operation under TensorFlow."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="memae_tf")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` that trains faster under TensorFlow, with the same values.

    Keras normalises by a dozen operations, each of which goes through all of the input or of its
    gradient. What leaves the first convolution of a net is large, and on a CPU these passes take a
    good part of a training step. TensorFlow has one operation for the whole, and one for its
    gradient. It is taken in training where it says the same: for inputs of at least two axes
    between batch and channels, the channels last, in float32, bfloat16 or float16, without mask,
    renorm and synchronization. Everything else is Keras's.

    Args:
        **kwargs: As of `keras.layers.BatchNormalization`.

    Input shape:
        `(batch, ..., channels)`, or as `axis` says

    Output shape:
        The same.
    """

    def call(self, inputs, training=None, mask=None):
        if not training or mask is not None or not self._is_fusible(inputs):
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance = _fused_batch_norm(inputs, self.gamma, self.beta, self.epsilon)
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + value * (1.0 - self.momentum))
        return ops.cast(outputs, self.compute_dtype)

    def _is_fusible(self, inputs) -> bool:
        """Whether TensorFlow's operation says the same as Keras's."""
        rank = len(inputs.shape)
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        return (
            keras.backend.backend() == "tensorflow"
            and self.trainable
            and rank >= 4
            and self.axis in (-1, rank - 1)
            and dtype in ("float32", "bfloat16", "float16")
            and self.variable_dtype == "float32"
            and not self.synchronized
            # Older versions of Keras do not have it.
            and not getattr(self, "renorm", False)
        )


def _fused_batch_norm(inputs, gamma, beta, epsilon: float):
    """What `inputs` (..., height, width, channels) become, and their mean and variance."""
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
    count = tf.cast(tf.size(inputs) // channels, "float32")
    variance *= tf.maximum(count - 1, 1) / count
    return tf.reshape(outputs, tf.shape(inputs)), mean, variance
