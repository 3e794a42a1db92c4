"""A transposed 3-D convolution to few channels, as one matrix product and sums."""

import math

import keras
from keras import ops

from memae_tf.layers.arguments import positive_integer, positive_integers


@keras.saving.register_keras_serializable(package="memae_tf")
class NarrowConv3DTranspose(keras.layers.Layer):
    """`keras.layers.Conv3DTranspose` with padding "same", faster for few output channels.

    It has the same weights and, up to rounding, the same outputs. For few channels it is several
    times faster on a CPU, where a transposed convolution is computed as the gradient of a
    convolution, by code that is made for many channels on both sides. This layer multiplies all
    elements of the input with all taps of the kernel, which gives a plane of the input's size for
    each tap; then it shifts these planes and sums those that belong to the same output elements.

    Args:
        filters: Integer, the number of output channels.
        kernel_size: Three integers.
        strides: Three integers.

    Input shape:
        `(batch, frames, height, width, channels)`

    Output shape:
        `(batch, frames * strides[0], height * strides[1], width * strides[2], filters)`

    Raises:
        ValueError: If an argument is not positive, or frames, height, width or channels of the
            input are unknown.
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
        kernel: (*kernel_size, filters, channels), of the inputs' dtype, which the outputs have,
            too.
        strides: Three integers.

    Returns:
        (batch, frames * strides[0], height * strides[1], width * strides[2], filters)
    """
    *taps, filters, channels = kernel.shape
    size = inputs.shape[1:4]
    # Taps first, so that neighbours in a frame are neighbours in memory.
    products = ops.einsum(
        "nc,kc->kn", ops.reshape(inputs, (-1, channels)), ops.reshape(kernel, (-1, channels))
    )
    # These are too many terms for sums in half precision.
    products = ops.cast(products, keras.backend.result_type(kernel.dtype, "float32"))
    outputs = [products]
    for axis, (count, stride) in enumerate(zip(taps, strides, strict=True)):
        after = math.prod(size[axis + 1 :])
        shape = (count, -1, size[axis], after)
        outputs = [phase for x in outputs for phase in _phases(ops.reshape(x, shape), stride)]
    outputs = ops.reshape(ops.stack(outputs), (*strides, filters, -1, *size))
    outputs = ops.transpose(outputs, (4, 5, 0, 6, 1, 7, 2, 3))
    whole = [n * s for n, s in zip(size, strides, strict=True)]
    return ops.cast(ops.reshape(outputs, (-1, *whole, filters)), kernel.dtype)


def _phases(products, stride: int) -> list:
    """The sums along one axis, for each phase of the stride a tensor (before, elements, after).

    Output element q gets tap t of input element i where q = i * stride + t - cut; `cut` elements
    are cut off in front. With t - cut = d * stride + phase, that is element i + d of the phase.

    Args:
        products: The products with the taps of the axis, (taps, before, elements, after).
        stride: From one element of the input to the next, in elements of the output.
    """
    cut = max(products.shape[0] - stride, 0) // 2
    # Split, not sliced: the gradient of a split is one array, that of slices a sum of as many.
    taps = [ops.squeeze(tap, 0) for tap in ops.split(products, products.shape[0])]
    phases = [ops.zeros_like(taps[0])] * stride
    for t, tap in enumerate(taps):
        d, phase = divmod(t - cut, stride)
        phases[phase] = phases[phase] + _shifted(tap, d)
    return phases


def _shifted(x, by: int):
    """`x` with its second axis shifted by `by` places, and zeros in those that become free."""
    count = x.shape[1]
    by = max(-count, min(by, count))
    if by > 0:
        return ops.pad(ops.split(x, [count - by], axis=1)[0], ((0, 0), (by, 0), (0, 0)))
    if by < 0:
        return ops.pad(ops.split(x, [-by], axis=1)[1], ((0, 0), (0, -by), (0, 0)))
    return x
