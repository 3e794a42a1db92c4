"""The paper's 3-D convolutional autoencoder, for video clips (section 4.2)."""

from collections.abc import Sequence
from functools import partial

import keras

from memae_tf.models.convolution import conv_layers, conv_sizes, transposed_layers


def conv3d(
    input_shape: tuple[int, int, int, int],
    filters: Sequence[int] = (96, 128, 256, 256),
    dtype=None,
) -> tuple[keras.Model, keras.Model]:
    """3 x 3 x 3 convolutions and their mirror, BatchNorm and LeakyReLU after each but the last.

    The first convolution has stride (1, 2, 2), the others (2, 2, 2). With the defaults and clips
    of 16 x 256 x 256 x 1, the network of the paper: 6.5 million parameters, codes of
    2 x 16 x 16 x 256, each position one query.

    Args:
        input_shape: (frames, height, width, channels) of the clips.
        filters: Filters of the encoder's layers.
        dtype: Keras dtype policy of the layers.

    Returns:
        `(encoder, decoder)`: (batch, frames, height, width, channels) to codes
        (batch, frames', height', width', filters[-1]) and back.
    """
    *size, channels = input_shape
    kernels = [(3, 3, 3)] * len(filters)
    strides = [(1, 2, 2)] + [(2, 2, 2)] * (len(filters) - 1)
    sizes = conv_sizes(size, kernels, strides)
    leaky_relu = partial(keras.layers.LeakyReLU, negative_slope=0.2)

    encoder = [keras.Input(tuple(input_shape))]
    for width, kernel, stride in zip(filters, kernels, strides, strict=True):
        encoder += conv_layers(width, kernel, stride, leaky_relu, dtype)
    decoder = [keras.Input((*sizes[-1], filters[-1]))]
    outputs = [*reversed(filters[:-1]), channels]
    for step, width in enumerate(outputs, start=1):
        decoder += transposed_layers(
            width,
            kernels[-step],
            strides[-step],
            sizes[-step],
            sizes[-step - 1],
            leaky_relu if step < len(outputs) else None,
            dtype,
        )
    return keras.Sequential(encoder, name="encoder"), keras.Sequential(decoder, name="decoder")
