"""Strided 2-D convolutions and their exact mirrors.

Padding is symmetric, k // 2 on both sides, as in PyTorch, so that the weights of the authors' code
can be used. TensorFlow's "same" pads only at the end where the stride is 2.
"""

from collections.abc import Callable, Sequence

import keras

from memae_tf.layers import BatchNormalization

# PyTorch's defaults. With Keras's (0.99, 1e-3), the moving averages lag behind the reads of the
# memory, and errors at inference are many times those in training.
BATCH_NORM = {"momentum": 0.9, "epsilon": 1e-5}

# Where the channels are, whatever default Keras is configured to have.
LAST = "channels_last"

Size = tuple[int, int]


def conv_sizes(size: Size, kernels: Sequence[Size], strides: Sequence[Size]) -> list[Size]:
    """The spatial sizes before, between and after strided convolutions.

    Raises:
        ValueError: If the lists are of different lengths.
    """
    sizes = [tuple(size)]
    for kernel, stride in zip(kernels, strides, strict=True):
        sizes.append(
            tuple(
                (n + 2 * (k // 2) - k) // s + 1
                for n, k, s in zip(sizes[-1], kernel, stride, strict=True)
            )
        )
    return sizes


def conv_layers(
    filters: int, kernel: Size, stride: Size, activation: Callable | None, dtype
) -> list[keras.layers.Layer]:
    """A convolution with symmetric padding; without `activation`, no BatchNorm either."""
    layers = []
    if any(k > 1 for k in kernel):
        padding = tuple((k // 2, k // 2) for k in kernel)
        layers.append(keras.layers.ZeroPadding2D(padding, LAST, dtype=dtype))
    layers.append(keras.layers.Conv2D(filters, kernel, stride, data_format=LAST, dtype=dtype))
    return layers + norm_and_activation(activation, dtype)


def transposed_layers(
    filters: int,
    kernel: Size,
    stride: Size,
    size: Size,
    target: Size,
    activation: Callable | None,
    dtype,
) -> list[keras.layers.Layer]:
    """The mirror of `conv_layers`: from spatial `size` to exactly `target`."""
    default = tuple(max(s - k, 0) for k, s in zip(kernel, stride, strict=True))
    extra, margins = [], []
    for n, k, s, wanted, least in zip(size, kernel, stride, target, default, strict=True):
        reached = (n - 1) * s + k
        extra.append(max(least, k // 2 + wanted - reached))
        margins.append((k // 2, reached + extra[-1] - k // 2 - wanted))
    # Keras's default is too small where a wide stride does not divide the size.
    padding = None if tuple(extra) == default else tuple(extra)
    layers = [
        keras.layers.Conv2DTranspose(
            filters, kernel, stride, output_padding=padding, data_format=LAST, dtype=dtype
        )
    ]
    if any(map(any, margins)):
        layers.append(keras.layers.Cropping2D(tuple(margins), LAST, dtype=dtype))
    return layers + norm_and_activation(activation, dtype)


def norm_and_activation(activation: Callable | None, dtype) -> list[keras.layers.Layer]:
    """What follows a convolution; nothing where `activation` is `None`, as after the last one."""
    if activation is None:
        return []
    return [BatchNormalization(**BATCH_NORM, dtype=dtype), activation(dtype=dtype)]
