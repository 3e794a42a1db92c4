"""BatchNorm whose training step is one operation under TensorFlow."""

import keras
from keras import ops

from memae_tf.fused import HAS_FUSED_BATCH_NORM, fused_batch_norm


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
        outputs, mean, variance = fused_batch_norm(inputs, self.gamma, self.beta, self.epsilon)
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + value * (1.0 - self.momentum))
        return ops.cast(outputs, self.compute_dtype)

    def _is_fusible(self, inputs) -> bool:
        """Whether TensorFlow's operation says the same as Keras's."""
        rank = len(inputs.shape)
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        return (
            HAS_FUSED_BATCH_NORM
            and self.trainable
            and rank >= 4
            and self.axis in (-1, rank - 1)
            and dtype in ("float32", "bfloat16", "float16")
            and self.variable_dtype == "float32"
            and not self.synchronized
            # Older versions of Keras do not have it.
            and not getattr(self, "renorm", False)
        )
