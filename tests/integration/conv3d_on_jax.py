"""The benchmarks' 3-D convolutions against Keras's, run by test_benchmarks.py on JAX."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from keras import ops

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import jax_conv3d

from memae_tf.layers import narrow_conv3d_transpose


def close(own, reference):
    for a, b in zip(jax.tree.leaves(own), jax.tree.leaves(reference), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


def check(own, reference, x, kernel):
    """Values, and gradients with respect to both arguments."""

    def with_gradients(function):
        # One program, and not one an operation.
        @jax.jit
        def both(x, kernel):
            values, back = jax.vjp(function, x, kernel)
            gradient = np.random.default_rng(1).normal(size=values.shape).astype("float32")
            return values, back(gradient)

        return both(x, kernel)

    close(with_gradients(own), with_gradients(reference))


def arrays(*shapes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype("float32") for shape in shapes]


@pytest.mark.parametrize(
    ("taps", "strides", "channels", "filters"),
    [((3, 3, 3), (2, 2, 2), 12, 10), ((3, 1, 5), (1, 2, 2), 12, 10), ((3, 3, 3), (1, 2, 2), 1, 12)],
)
def test_conv3d(taps, strides, channels, filters):
    x, kernel = arrays((2, 9, 12, 10, channels), (*taps, channels, filters))
    check(
        lambda x, kernel: jax_conv3d.conv3d(x, kernel, strides),
        lambda x, kernel: ops.conv(x, kernel, strides, "same", "channels_last"),
        x,
        kernel,
    )


def test_conv3d_transpose():
    strides = (2, 2, 2)
    x, kernel = arrays((2, 5, 6, 7, 12), (3, 3, 3, 9, 12))
    check(
        lambda x, kernel: jax_conv3d.conv3d_transpose(x, kernel, strides),
        lambda x, kernel: ops.conv_transpose(x, kernel, strides, "same", None, "channels_last"),
        x,
        kernel,
    )


@pytest.mark.parametrize(
    ("taps", "strides"), [((3, 3, 3), (1, 2, 2)), ((5, 3, 7), (2, 3, 2)), ((3, 1, 3), (4, 1, 1))]
)
@pytest.mark.parametrize("filters", [1, 3])
def test_narrow_conv3d_transpose(taps, strides, filters):
    x, kernel = arrays((2, 3, 5, 4, 12), (*taps, filters, 12))
    check(
        lambda x, kernel: jax_conv3d.narrow_conv3d_transpose(x, kernel, strides),
        lambda x, kernel: narrow_conv3d_transpose.narrow_conv3d_transpose(x, kernel, strides),
        x,
        kernel,
    )
