"""Cropping of clips whose gradient is a padding."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="memae_tf")
class Cropping3D(keras.layers.Cropping3D):
    """`keras.layers.Cropping3D` that trains faster on a CPU, with the same values and gradients.

    Keras crops by a strided slice, whose gradient TensorFlow computes on one core: a fifth of a
    training step of the net of `configs/ped2.yaml`. That of a plain slice is a padding.
    """

    def call(self, inputs):
        axes = slice(1, 4) if self.data_format == "channels_last" else slice(2, 5)
        start, shape = [0] * 5, list(ops.shape(inputs))
        start[axes] = [before for before, _ in self.cropping]
        shape[axes] = [
            size - before - after
            for size, (before, after) in zip(shape[axes], self.cropping, strict=True)
        ]
        return ops.slice(inputs, start, shape)
