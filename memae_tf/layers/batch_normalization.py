"""BatchNorm that trains by one fused operation under TensorFlow."""

import keras
from keras import ops

from memae_tf.backend import IS_TENSORFLOW, fused_batch_norm


@keras.saving.register_keras_serializable(package="memae_tf")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` that trains faster under TensorFlow, with the same values.

    Keras normalises in a dozen operations, each of them a pass over the input or its gradient. The
    outputs of a network's first convolution are large, and on a CPU these passes take a good part
    of a training step. TensorFlow has one fused operation for all of it, and one for its gradient.
    They are used in training where they give the same values: for inputs with two or more axes
    between batch and channels, channels last, in float32, bfloat16 or float16, without mask, renorm
    or synchronization. Everything else is Keras's own code.

    Args:
        **kwargs: The arguments of `keras.layers.BatchNormalization`.

    Input shape:
        `(batch, ..., channels)`, or with the channels at `axis`.

    Output shape:
        The same as the input's.
    """

    def call(self, inputs, training=None, mask=None):
        if not training or mask is not None or not self._is_fusible(inputs):
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance = fused_batch_norm(inputs, self.gamma, self.beta, self.epsilon)
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + value * (1.0 - self.momentum))
        return ops.cast(outputs, self.compute_dtype)

    def _is_fusible(self, inputs) -> bool:
        """Whether the fused operation gives the same values as Keras's."""
        rank = len(inputs.shape)
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        return (
            IS_TENSORFLOW
            and self.trainable
            and rank >= 4
            and self.axis in (-1, rank - 1)
            and dtype in ("float32", "bfloat16", "float16")
            and self.variable_dtype == "float32"
            and not self.synchronized
            # Older versions of Keras do not have it.
            and not getattr(self, "renorm", False)
        )
