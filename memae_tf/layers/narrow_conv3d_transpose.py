"""A transposed 3-D convolution to few channels, as one product and sums."""

import math

import keras
from keras import ops

from memae_tf.layers.arguments import positive_integer, positive_integers


@keras.saving.register_keras_serializable(package="memae_tf")
class NarrowConv3DTranspose(keras.layers.Layer):
    """`keras.layers.Conv3DTranspose` with padding "same", to few channels, and faster.

    It has the same weights and gives the same, but for rounding. To few channels it is several
    times faster on a CPU, where a transposed convolution is taken for the gradient of a
    convolution, whose code is made for many channels on both sides. This layer takes the product
    of all elements of the input with all taps of the kernel, planes of the size of the input, and
    adds those up, shifted, that belong to the same element of the output.

    Args:
        filters: Channels of the output.
        kernel_size: Three numbers.
        strides: Three numbers.

    Input shape:
        `(batch, frames, height, width, channels)`

    Output shape:
        `(batch, frames * strides[0], height * strides[1], width * strides[2], filters)`

    Raises:
        ValueError: If an argument is not positive; if frames, height, width or channels of the
            input are not known.
    """

    def __init__(self, filters: int, kernel_size, strides, **kwargs):
        super().__init__(**kwargs)
        self.filters = positive_integer("filters", filters)
        self.kernel_size = positive_integers("kernel_size", kernel_size, 3)
        self.strides = positive_integers("strides", strides, 3)

    def build(self, input_shape):
        if None in input_shape[1:]:
            raise ValueError(
                "All axes of the input but the first must be known. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        shape = (*self.kernel_size, self.filters, input_shape[-1])
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer="glorot_uniform")
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")

    def compute_output_shape(self, input_shape):
        sizes = (n * s for n, s in zip(input_shape[1:4], self.strides, strict=True))
        return (input_shape[0], *sizes, self.filters)

    def call(self, inputs):
        outputs = narrow_conv3d_transpose(
            inputs, ops.cast(self.kernel, self.compute_dtype), self.strides
        )
        return outputs + ops.cast(self.bias, outputs.dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": list(self.kernel_size),
            "strides": list(self.strides),
        }


def narrow_conv3d_transpose(inputs, kernel, strides):
    """The layer's outputs before its bias is added.

    Args:
        inputs: (batch, frames, height, width, channels)
        kernel: (3-D taps, filters, channels), of the same dtype, which the outputs have, too.
        strides: Three numbers.

    Returns:
        (batch, frames * strides[0], height * strides[1], width * strides[2], filters)
    """
    *taps, filters, channels = kernel.shape
    size = inputs.shape[1:4]
    # Planes first: neighbours in memory are neighbours in a frame.
    given = ops.einsum(
        "nc,kc->kn", ops.reshape(inputs, (-1, channels)), ops.reshape(kernel, (-1, channels))
    )
    # So many terms are not to be added in half precision.
    given = ops.cast(given, keras.backend.result_type(kernel.dtype, "float32"))
    outputs = [given]
    for axis, (count, stride) in enumerate(zip(taps, strides, strict=True)):
        behind = math.prod(size[axis + 1 :])
        shape = (count, -1, size[axis], behind)
        outputs = [y for given in outputs for y in _added(ops.reshape(given, shape), stride)]
    outputs = ops.reshape(ops.stack(outputs), (*strides, filters, -1, *size))
    outputs = ops.transpose(outputs, (4, 5, 0, 6, 1, 7, 2, 3))
    whole = [n * s for n, s in zip(size, strides, strict=True)]
    return ops.cast(ops.reshape(outputs, (-1, *whole, filters)), kernel.dtype)


def _added(given, stride: int) -> list:
    """What elements get along an axis, (before, elements, behind) for each of `stride` places.

    Element q gets tap t of the kernel from element i of the input where q = i stride + t - cut,
    with what is cut off in front. With q = m stride + place, t - cut - place is a multiple d of
    the stride, and i = m - d.

    Args:
        given: What the taps of the axis give, (taps, before, elements, behind).
        stride: From one element of the input to the next, in elements of the output.
    """
    cut = max(given.shape[0] - stride, 0) // 2
    # The gradient of a split is one array; that of as many slices, a sum of as many arrays.
    taps = [ops.squeeze(tap, 0) for tap in ops.split(given, given.shape[0])]
    places = [ops.zeros_like(taps[0])] * stride
    for t, tap in enumerate(taps):
        d, place = divmod(t - cut, stride)
        places[place] = places[place] + _shifted(tap, d)
    return places


def _shifted(x, by: int):
    """`x` with element i - `by` of its second axis in place i, and zeros where there is none."""
    count = x.shape[1]
    by = max(-count, min(by, count))
    if by > 0:
        return ops.pad(ops.split(x, [count - by], axis=1)[0], ((0, 0), (by, 0), (0, 0)))
    if by < 0:
        return ops.pad(ops.split(x, [-by], axis=1)[1], ((0, 0), (0, -by), (0, 0)))
    return x
