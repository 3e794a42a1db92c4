"""3-D convolutions of Keras's JAX backend out of what is fast on a GPU.

XLA hands a 3-D convolution to cuDNN as it is, and a training step of the paper's net takes several
times as long as one made of products and of convolutions in two dimensions. `install` puts these in
the place of the backend's; they give the same numbers, to rounding. Clips are (batch, frames,
height, width, channels) throughout, kernels (3-D taps, in, out).
"""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import keras
from jax import lax

from memae_tf.layers import narrow_conv3d_transpose as layer

# From fewer channels, a product over all that a position sees takes the place of a 2-D convolution.
FEW_CHANNELS = 8


def install() -> None:
    """From now on, these are Keras's with padding "same", and that of `NarrowConv3DTranspose`."""
    backend = keras.src.backend.nn
    conv, conv_transpose = backend.conv, backend.conv_transpose

    def conv_or_conv3d(inputs, kernel, strides=1, padding="valid", *args, **kwargs):
        if len(inputs.shape) != 5 or padding != "same":
            return conv(inputs, kernel, strides, padding, *args, **kwargs)
        return conv3d(inputs, as_kernel(kernel, inputs), as_strides(strides))

    def conv_transpose_or_3d(inputs, kernel, strides=1, padding="valid", *args, **kwargs):
        if len(inputs.shape) != 5 or padding != "same":
            return conv_transpose(inputs, kernel, strides, padding, *args, **kwargs)
        return conv3d_transpose(inputs, as_kernel(kernel, inputs), as_strides(strides))

    backend.conv, backend.conv_transpose = conv_or_conv3d, conv_transpose_or_3d
    layer.narrow_conv3d_transpose = narrow_conv3d_transpose


def as_kernel(kernel, inputs):
    return keras.ops.convert_to_tensor(kernel, inputs.dtype)


def as_strides(strides) -> tuple[int, int, int]:
    return (strides,) * 3 if isinstance(strides, int) else tuple(strides)


def conv3d(x, kernel, strides):
    """As `keras.ops.conv` with padding "same"."""
    x = _padded(x, kernel.shape[:3], strides)
    if kernel.shape[-2] < FEW_CHANNELS:
        return _from_few_channels(x, kernel, strides)
    return _over_frames(x, kernel, strides)


def conv3d_transpose(x, kernel, strides):
    """As `keras.ops.conv_transpose` with padding "same"; the kernel is (3-D taps, out, in)."""
    return _transposed(x, kernel, strides)


def _padded(x, taps, strides):
    """Clips with what padding "same" puts around them; less, where strides are longer than taps."""
    margins = []
    for n, k, s in zip(x.shape[1:4], taps, strides, strict=True):
        margin = (math.ceil(n / s) - 1) * s + k - n
        before = max(margin, 0) // 2
        margins.append((before, margin - before, 0))
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *margins, (0, 0, 0)])


def _sizes(size, taps, strides) -> list[int]:
    return [(n - k) // s + 1 for n, k, s in zip(size, taps, strides, strict=True)]


def _places(taps):
    """All taps of a kernel, in the order in which its leading axes are flattened."""
    return itertools.product(*map(range, taps))


def _strided(x, tap, sizes, strides):
    """What a tap sees, of the three axes behind the first."""
    channels = x.shape[4:]
    lengths = [(n - 1) * s + 1 for n, s in zip(sizes, strides, strict=True)]
    stops = [t + n for t, n in zip(tap, lengths, strict=True)]
    return lax.slice(
        x,
        (0, *tap, *(0 for _ in channels)),
        (x.shape[0], *stops, *channels),
        (1, *strides, *(1 for _ in channels)),
    )


def _over_frames(x, kernel, strides):
    """A 2-D convolution of frames that have the channels of all frames that a kernel spans."""
    frames, height, width, channels, filters = kernel.shape
    count = (x.shape[1] - frames) // strides[0] + 1
    length = (count - 1) * strides[0] + 1
    spanned = [lax.slice_in_dim(x, t, t + length, strides[0], axis=1) for t in range(frames)]
    spanned = jnp.concatenate(spanned, axis=-1)
    kernel = kernel.transpose(1, 2, 0, 3, 4).reshape(height, width, frames * channels, filters)
    y = lax.conv_general_dilated(
        spanned.reshape(-1, *spanned.shape[2:]),
        kernel,
        strides[1:],
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y.reshape(-1, count, *y.shape[1:])


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _transposed(x, kernel, strides):
    """The gradient of `_seen` with respect to its input, and so its own gradients.

    Left to itself JAX would find the kernel's by a convolution of `x` with zeros in between.
    """
    size = [n * s for n, s in zip(x.shape[1:4], strides, strict=True)]
    y = jax.ShapeDtypeStruct((x.shape[0], *size, kernel.shape[3]), x.dtype)
    return jax.linear_transpose(lambda y: _seen(y, kernel, strides), y)(x)[0]


def _seen(y, kernel, strides):
    return _over_frames(_padded(y, kernel.shape[:3], strides), kernel, strides)


def _transposed_forward(x, kernel, strides):
    return _transposed(x, kernel, strides), (x, kernel)


def _transposed_backward(strides, kept, gradient):
    x, kernel = kept
    own, back = jax.vjp(lambda kernel: _seen(gradient, kernel, strides), kernel)
    return own, *back(x)


_transposed.defvjp(_transposed_forward, _transposed_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def narrow_conv3d_transpose(x, kernel, strides):
    """As that of the layer.

    Its own gradients: those that JAX finds for its sums take a third of a training step.
    """
    *taps, filters, channels = kernel.shape
    given = jnp.einsum("...c,kfc->k...f", x, kernel.reshape(-1, filters, channels))
    # So many terms are not to be added in half precision.
    given = given.astype(jnp.promote_types(kernel.dtype, "float32"))
    terms = [
        lax.pad(plane, jnp.zeros((), plane.dtype), _spread(tap, taps, strides))
        for tap, plane in zip(_places(taps), given, strict=True)
    ]
    return sum(terms).astype(kernel.dtype)


def _spread(tap, taps, strides):
    """Margins and gaps that bring what a tap gives to its places in the output."""
    places = [t - max(k - s, 0) // 2 for t, k, s in zip(tap, taps, strides, strict=True)]
    margins = [(place, s - 1 - place, s - 1) for place, s in zip(places, strides, strict=True)]
    return [(0, 0, 0), *margins, (0, 0, 0)]


def _narrow_forward(x, kernel, strides):
    return narrow_conv3d_transpose(x, kernel, strides), (x, kernel)


def _narrow_backward(strides, kept, gradient):
    x, kernel = kept
    padded = _padded(gradient, kernel.shape[:3], strides)
    own, back = jax.vjp(lambda kernel: _from_few_channels(padded, kernel, strides), kernel)
    return own, *back(x)


narrow_conv3d_transpose.defvjp(_narrow_forward, _narrow_backward)


def _from_few_channels(x, kernel, strides):
    """One product of all that a position sees with the kernel."""
    sizes = _sizes(x.shape[1:4], kernel.shape[:3], strides)
    # Channels first: neighbours in memory are neighbours in a frame.
    x = jnp.moveaxis(x, -1, 0)
    seen = [
        _strided(plane, tap, sizes, strides) for tap in _places(kernel.shape[:3]) for plane in x
    ]
    return jnp.einsum("k...,kf->...f", jnp.stack(seen), kernel.reshape(len(seen), -1))
