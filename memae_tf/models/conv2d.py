"""The paper's 2-D convolutional autoencoder, for images (section 4.1)."""

import math
from collections.abc import Sequence

import keras

from memae_tf.layers.arguments import positive_integers
from memae_tf.models.convolution import LAST, conv_layers, conv_sizes, transposed_layers


def conv2d(
    input_shape: tuple[int, int, int],
    filters: Sequence[int] = (16, 32, 64),
    kernels: Sequence[int] = (1, 3, 3),
    strides: Sequence[int] = (2, 2, 2),
    code: int | None = None,
    queries: str = "sample",
    dtype=None,
) -> tuple[keras.Model, keras.Model]:
    """Strided convolutions and their mirror, BatchNorm and ReLU after each but the last.

    With the defaults, the network of the paper for MNIST; filters (64, 128, 128, 256), kernels
    (3, 3, 3, 3) and strides (2, 2, 2, 2) give the one for CIFAR-10. The paper's encoding of MNIST,
    4 x 4 x 64, is larger than the image, and an autoencoder with it copies anything; `code` puts a
    dense bottleneck around the memory.

    Args:
        input_shape: (height, width, channels) of the images.
        filters: Filters of the encoder's layers.
        kernels: Sizes of their square kernels.
        strides: Their strides.
        code: Size of a dense bottleneck, or `None` for the feature map as it is.
        queries: `"sample"`: the whole encoding is one query; or `"position"`: each position of the
            feature map is one (only without `code`).
        dtype: Keras dtype policy of the layers.

    Returns:
        `(encoder, decoder)`: (batch, height, width, channels) to codes and back. Codes are
        (batch, C), or with `queries="position"` (batch, height', width', C).

    Raises:
        ValueError: If `input_shape` has other axes, the lists differ in length, or `queries` and
            `code` do not go together.
    """
    if queries not in ("sample", "position") or (queries == "position" and code is not None):
        raise ValueError(
            "`queries` must be 'sample', or 'position' without `code`. "
            f"Received: queries={queries}, code={code}"
        )
    if not len(filters) == len(kernels) == len(strides) > 0:
        raise ValueError(
            "`filters`, `kernels` and `strides` must be of one length, 1 or more. "
            f"Received: filters={filters}, kernels={kernels}, strides={strides}"
        )
    input_shape = positive_integers("input_shape", input_shape, 3)
    kernels = positive_integers("kernels", kernels, len(filters))
    strides = positive_integers("strides", strides, len(filters))
    *size, channels = input_shape
    kernels = [(k, k) for k in kernels]
    strides = [(s, s) for s in strides]
    sizes = conv_sizes(size, kernels, strides)
    feature_map = (*sizes[-1], filters[-1])
    relu = keras.layers.ReLU

    encoder = [keras.Input(input_shape)]
    for width, kernel, stride in zip(filters, kernels, strides, strict=True):
        encoder += conv_layers(width, kernel, stride, relu, dtype)
    decoder = []
    outputs = [*reversed(filters[:-1]), channels]
    for step, width in enumerate(outputs, start=1):
        decoder += transposed_layers(
            width,
            kernels[-step],
            strides[-step],
            sizes[-step],
            sizes[-step - 1],
            relu if step < len(outputs) else None,
            dtype,
        )

    if queries == "position":
        decoder = [keras.Input(feature_map), *decoder]
    else:
        flat = math.prod(feature_map)
        encoder.append(keras.layers.Flatten(LAST, dtype=dtype))
        inner = []
        if code is not None:
            encoder.append(keras.layers.Dense(code, dtype=dtype))
            inner = [keras.layers.Dense(flat, "relu", dtype=dtype)]
        decoder = [
            keras.Input((code or flat,)),
            *inner,
            keras.layers.Reshape(feature_map, dtype=dtype),
            *decoder,
        ]
    return keras.Sequential(encoder, name="encoder"), keras.Sequential(decoder, name="decoder")
