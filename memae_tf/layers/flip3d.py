"""Reversal of clips along frames, height and width."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="memae_tf")
class Flip3D(keras.layers.Layer):
    """Reverses clips along frames, height and width.

    With stride 2, a convolution of Keras with padding "same" pads an even axis after its last
    element, the PyTorch code of the paper's authors before its first. Between two of these layers,
    and with its kernels reversed, Keras's convolution gives what PyTorch's does. Unlike layers that
    pad the input or crop the output, this writes no padded copy of a clip.

    Input shape:
        `(batch, frames, height, width, channels)`, of any dtype.

    Output shape:
        The same as the input's.
    """

    def call(self, inputs):
        shape = inputs.shape[1:]
        if None in shape:
            return ops.flip(inputs, axis=(1, 2, 3))
        # Reversing one merged axis is as fast as a copy, reversing three is ten times slower.
        *size, channels = shape
        row = (math.prod(size),) if channels == 1 else (math.prod(size), channels)
        flipped = ops.flip(ops.reshape(inputs, (-1, *row)), axis=1)
        return ops.reshape(flipped, (-1, *shape))

    def compute_output_shape(self, input_shape):
        return input_shape
