"""Cropping of clips with a fast gradient."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="memae_tf")
class Cropping3D(keras.layers.Cropping3D):
    """`keras.layers.Cropping3D` that trains faster on a CPU, with the same values and gradients.

    Keras crops by a strided slice, whose gradient TensorFlow computes on a single core. The
    gradient of a plain slice is a padding, which all cores compute.

    Args:
        cropping: As in `keras.layers.Cropping3D`: what to cut off before and after, for each of
            the three axes.
        data_format: `"channels_last"` (the default) or `"channels_first"`.

    Input shape:
        `(batch, frames, height, width, channels)`, of any dtype.

    Output shape:
        The same rank, with frames, height and width less what is cut off.

    Raises:
        ValueError: If nothing would be left of an axis.
    """

    def call(self, inputs):
        # Raises the ValueError if nothing would be left.
        self.compute_output_shape(inputs.shape)
        axes = slice(1, 4) if self.data_format == "channels_last" else slice(2, 5)
        start, shape = [0] * 5, list(ops.shape(inputs))
        start[axes] = [before for before, _ in self.cropping]
        shape[axes] = [
            size - before - after
            for size, (before, after) in zip(shape[axes], self.cropping, strict=True)
        ]
        return ops.slice(inputs, start, shape)
