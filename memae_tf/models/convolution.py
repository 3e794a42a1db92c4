"""Strided convolutions and their exact mirrors, shared by the 2-D and 3-D autoencoders.

Padding is symmetric, k // 2 on both sides, as in PyTorch: TensorFlow's "same" pads only at the
end when the stride is 2, with which the weights of the authors' code would not be usable.
"""

from collections.abc import Callable, Sequence

import keras

from memae_tf.layers import BatchNormalization, Cropping3D, MirroredConv3D

# What PyTorch has. With Keras's defaults (0.99, 1e-3) the moving averages lag behind what leaves
# the memory, and errors at inference are many times those in training.
BATCH_NORM = {"momentum": 0.9, "epsilon": 1e-5}

# The last layer has so few.
FEW_CHANNELS = 4

Size = tuple[int, ...]


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
    rank = len(kernel)
    layers = []
    if any(k > 1 for k in kernel):
        padding = {2: keras.layers.ZeroPadding2D, 3: keras.layers.ZeroPadding3D}[rank]
        layers.append(padding(tuple((k // 2, k // 2) for k in kernel), dtype=dtype))
    conv = {2: keras.layers.Conv2D, 3: keras.layers.Conv3D}[rank]
    layers.append(conv(filters, kernel, stride, dtype=dtype))
    return layers + _norm_and_activation(activation, dtype)


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
    rank = len(kernel)
    crop = {2: keras.layers.Cropping2D, 3: Cropping3D}[rank]
    if rank == 3 and filters <= FEW_CHANNELS:
        layers = [MirroredConv3D(filters, kernel, stride, dtype=dtype)]
        margins = [(0, n * s - wanted) for n, s, wanted in zip(size, stride, target, strict=True)]
    else:
        conv = {2: keras.layers.Conv2DTranspose, 3: keras.layers.Conv3DTranspose}[rank]
        own = tuple(max(s - k, 0) for k, s in zip(kernel, stride, strict=True))
        extra, margins = [], []
        for n, k, s, wanted, least in zip(size, kernel, stride, target, own, strict=True):
            reached = (n - 1) * s + k
            extra.append(max(least, k // 2 + wanted - reached))
            margins.append((k // 2, reached + extra[-1] - k // 2 - wanted))
        # What Keras adds by itself does not suffice where a wide stride leaves a rest.
        padding = None if tuple(extra) == own else tuple(extra)
        layers = [conv(filters, kernel, stride, output_padding=padding, dtype=dtype)]
    if any(map(any, margins)):
        layers.append(crop(tuple(margins), dtype=dtype))
    return layers + _norm_and_activation(activation, dtype)


def _norm_and_activation(activation: Callable | None, dtype) -> list[keras.layers.Layer]:
    if activation is None:
        return []
    return [BatchNormalization(**BATCH_NORM, dtype=dtype), activation(dtype=dtype)]
