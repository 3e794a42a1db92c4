"""The paper's 3-D convolutional autoencoder, for video clips (section 4.2)."""

from collections.abc import Callable, Sequence
from functools import partial

import keras

from memae_tf.layers import Cropping3D, Flip3D, NarrowConv3DTranspose
from memae_tf.layers.arguments import positive_integers
from memae_tf.models.convolution import LAST, norm_and_activation

# Up to this number of output channels, the last layer is a `NarrowConv3DTranspose`.
FEW_CHANNELS = 4


def conv3d(
    input_shape: tuple[int, int, int, int],
    filters: Sequence[int] = (96, 128, 256, 256),
    output_activation: str | Callable = "linear",
    dtype=None,
) -> tuple[keras.Model, keras.Model]:
    """3 x 3 x 3 convolutions and their mirror, BatchNorm and LeakyReLU after each but the last.

    The first convolution has stride (1, 2, 2), the others (2, 2, 2). With the defaults and clips
    of 16 x 256 x 256 x 1, the network of the paper: 6.5 million parameters, codes of
    2 x 16 x 16 x 256, each position one query. Encoder and decoder begin and end with a `Flip3D`:
    with the kernels of the authors' code reversed, they give what that code gives.

    Args:
        input_shape: (frames, height, width, channels) of the clips.
        filters: Filters of the encoder's layers.
        output_activation: Keras activation of the reconstructions. The paper has none; "tanh"
            keeps them in [-1, 1], as in STEAL, whose loss has no bound otherwise.
        dtype: Keras dtype policy of the layers.

    Returns:
        `(encoder, decoder)`: (batch, frames, height, width, channels) to codes
        (batch, frames', height', width', filters[-1]) and back.

    Raises:
        ValueError: If `input_shape` has other axes, or `filters` is empty or no list of numbers.
    """
    input_shape = positive_integers("input_shape", input_shape, 4)
    *size, channels = input_shape
    filters = positive_integers("filters", filters, max(len(filters), 1))
    kernel, strides = (3, 3, 3), [(1, 2, 2)] + [(2, 2, 2)] * (len(filters) - 1)
    sizes = [tuple(size)]
    for stride in strides:
        sizes.append(tuple(-(-n // s) for n, s in zip(sizes[-1], stride, strict=True)))
    leaky_relu = partial(keras.layers.LeakyReLU, negative_slope=0.2)

    encoder = [keras.Input(input_shape), Flip3D(dtype=dtype)]
    for width, stride in zip(filters, strides, strict=True):
        encoder.append(keras.layers.Conv3D(width, kernel, stride, "same", LAST, dtype=dtype))
        encoder += norm_and_activation(leaky_relu, dtype)
    encoder.append(Flip3D(dtype=dtype))
    decoder = [keras.Input((*sizes[-1], filters[-1])), Flip3D(dtype=dtype)]
    outputs = [*reversed(filters[:-1]), channels]
    for step, width in enumerate(outputs, start=1):
        stride, reached, wanted = strides[-step], sizes[-step], sizes[-step - 1]
        if width <= FEW_CHANNELS:
            decoder.append(NarrowConv3DTranspose(width, kernel, stride, dtype=dtype))
        else:
            decoder.append(
                keras.layers.Conv3DTranspose(width, kernel, stride, "same", LAST, dtype=dtype)
            )
        # An odd axis becomes one element too long.
        margins = [n * s - m for n, s, m in zip(reached, stride, wanted, strict=True)]
        if any(margins):
            decoder.append(Cropping3D(tuple((margin, 0) for margin in margins), LAST, dtype=dtype))
        decoder += norm_and_activation(leaky_relu if step < len(outputs) else None, dtype)
    if keras.activations.get(output_activation) is not keras.activations.linear:
        decoder.append(keras.layers.Activation(output_activation, dtype=dtype))
    decoder.append(Flip3D(dtype=dtype))
    return keras.Sequential(encoder, name="encoder"), keras.Sequential(decoder, name="decoder")
