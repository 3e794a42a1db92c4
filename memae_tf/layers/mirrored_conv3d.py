"""The mirror of a strided 3-D convolution, to few channels, as a convolution without stride."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="memae_tf")
class MirroredConv3D(keras.layers.Layer):
    """Transposed convolution from frames of a size to exactly `strides` times that size.

    It is what `keras.layers.Conv3DTranspose` gives, with the same weights, without the kernel's
    half at each end, as a mirror of a convolution that pads by so much on both sides. To few
    channels it is several times faster on a CPU, where a transposed convolution is taken for the
    gradient of a convolution, whose code is made for many channels on both sides. This layer
    makes all elements of the output that belong to one of the input as channels of a convolution
    without stride, and puts them in their places (the sub-pixel convolution of
    [Shi et al., 2016](https://arxiv.org/abs/1609.05158), section 3).

    Args:
        filters: Channels of the output.
        kernel_size: Three odd numbers.
        strides: Three numbers.

    Input shape:
        `(batch, frames, height, width, channels)`

    Output shape:
        `(batch, frames * strides[0], height * strides[1], width * strides[2], filters)`

    Raises:
        ValueError: If a side of the kernel is even.
    """

    def __init__(self, filters: int, kernel_size, strides, **kwargs):
        super().__init__(**kwargs)
        if any(k % 2 == 0 for k in kernel_size):
            raise ValueError(f"`kernel_size` must be odd. Received: kernel_size={kernel_size}")
        self.filters = filters
        self.kernel_size = tuple(kernel_size)
        self.strides = tuple(strides)

    def build(self, input_shape):
        shape = (*self.kernel_size, self.filters, input_shape[-1])
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer="glorot_uniform")
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")

    def compute_output_shape(self, input_shape):
        sizes = (n and n * s for n, s in zip(input_shape[1:4], self.strides, strict=True))
        return (input_shape[0], *sizes, self.filters)

    def call(self, inputs):
        outputs = ops.conv(inputs, self._as_convolution(), 1, "same", "channels_last")
        # Channels are places * filters.
        shape = ops.shape(inputs)[1:4]
        outputs = ops.reshape(outputs, (-1, *shape, *self.strides, self.filters))
        outputs = ops.transpose(outputs, (0, 1, 4, 2, 5, 3, 6, 7))
        whole = [n * s for n, s in zip(shape, self.strides, strict=True)]
        outputs = ops.reshape(outputs, (-1, *whole, self.filters))
        return outputs + ops.cast(self.bias, outputs.dtype)

    def _as_convolution(self):
        """The kernel (*kernel_size, filters, channels) as (*reach, channels, places * filters).

        An axis by itself: element q of the output gets tap t of the kernel from element i of the
        input where q = i stride + t - half. With q = m stride + place, t - half - place is a
        multiple d of the stride, and i = m - d: taps in the order of d and place, d backwards,
        are the kernels of the places.
        """
        kernel = ops.cast(self.kernel, self.compute_dtype)
        margins, split = [], []
        for k, s in zip(self.kernel_size, self.strides, strict=True):
            half = k // 2
            behind, ahead = half // s, -(-half // s)
            reach = behind + ahead + 1
            before = ahead * s - half
            margins.append((before, reach * s - k - before))
            split += [reach, s]
        kernel = ops.pad(kernel, [*margins, (0, 0), (0, 0)])
        kernel = ops.reshape(kernel, (*split, *kernel.shape[3:]))
        for axis in (0, 2, 4):  # one by one, as Keras 3.10 has it
            kernel = ops.flip(kernel, axis)
        kernel = ops.transpose(kernel, (0, 2, 4, 7, 1, 3, 5, 6))
        places = int(np.prod(self.strides))
        return ops.reshape(kernel, (*split[::2], kernel.shape[3], places * self.filters))

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": list(self.kernel_size),
            "strides": list(self.strides),
        }
