"""Flip3D beside NumPy."""

import keras
import numpy as np
import pytest
from keras import ops

from memae_tf.layers import Flip3D


@pytest.mark.parametrize("channels", [1, 3])
def test_back_to_front(channels):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5, channels)).astype("float32")
    layer = Flip3D(name="flip")
    found = ops.convert_to_numpy(layer(x))
    np.testing.assert_array_equal(found, x[:, ::-1, ::-1, ::-1])
    np.testing.assert_array_equal(layer(found), x)
    again = Flip3D.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


def test_sizes_that_are_not_known():
    model = keras.Sequential([keras.Input((None, None, 4, 2)), Flip3D()])
    assert model.output_shape == (None, None, None, 4, 2)
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 4, 2)).astype("float32")
    np.testing.assert_array_equal(model.predict(x, verbose=0), x[:, ::-1, ::-1, ::-1])
