"""Clips back to front."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="memae_tf")
class Flip3D(keras.layers.Layer):
    """The last frame first, and every frame upside down and mirrored.

    A convolution with stride 2 and padding "same" pads behind the last element of an even axis, one
    of PyTorch in front of the first. Between two of these layers, with its kernels back to front as
    well, the first gives what the second does, and pads as it goes: no layer of its own writes
    the padded clip, or crops what a transposed convolution gives.

    Input shape:
        `(batch, frames, height, width, channels)`

    Output shape:
        The same.
    """

    def call(self, inputs):
        shape = inputs.shape[1:]
        if None in shape:
            return ops.flip(inputs, axis=(1, 2, 3))
        # A row is turned around at the speed of a copy, three axes at a tenth of it.
        *size, channels = shape
        row = (math.prod(size),) if channels == 1 else (math.prod(size), channels)
        flipped = ops.flip(ops.reshape(inputs, (-1, *row)), axis=1)
        return ops.reshape(flipped, (-1, *shape))

    def compute_output_shape(self, input_shape):
        return input_shape
