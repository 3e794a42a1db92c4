"""Cropping3D beside a slice in NumPy."""

import keras
import numpy as np
import pytest
from keras import ops

from memae_tf.layers import Cropping3D

CROPPING = ((1, 0), (0, 2), (1, 1))
X = np.arange(2 * 4 * 5 * 6 * 3, dtype="float32").reshape(2, 4, 5, 6, 3)
INSIDE = (slice(None), slice(1, None), slice(0, 3), slice(1, 5))


@pytest.mark.parametrize("channels_first", [False, True])
def test_values(channels_first):
    x, expected = X, X[INSIDE]
    if channels_first:
        x, expected = np.moveaxis(x, -1, 1), np.moveaxis(expected, -1, 1)
    data_format = "channels_first" if channels_first else "channels_last"
    layer = Cropping3D(CROPPING, data_format=data_format)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), expected)
    again = Cropping3D.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    np.testing.assert_array_equal(ops.convert_to_numpy(again(x)), expected)


def test_in_a_model_of_any_batch():
    model = keras.Sequential([keras.Input(X.shape[1:]), Cropping3D(CROPPING)])
    assert model.output_shape == (None, 3, 3, 4, 3)
    np.testing.assert_array_equal(model.predict(X, batch_size=1, verbose=0), X[INSIDE])


def test_nothing_left_is_an_error():
    with pytest.raises(ValueError, match="should be smaller than the corresponding spatial"):
        Cropping3D(((2, 2), (0, 0), (0, 0)))(X)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="takes gradients by TensorFlow's tape"
)
def test_gradient_is_a_padding():
    import tensorflow as tf

    upstream = np.random.default_rng(0).normal(size=X[INSIDE].shape).astype("float32")

    @tf.function(input_signature=[tf.TensorSpec((None, *X.shape[1:]))])
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(Cropping3D(CROPPING)(x) * upstream)
        return tape.gradient(y, x)

    expected = np.zeros_like(X)
    expected[INSIDE] = upstream
    np.testing.assert_array_equal(gradient(X), expected)
    # That of Keras's layer is a StridedSliceGrad, right but slow.
    operations = {op.type for op in gradient.get_concrete_function().graph.get_operations()}
    assert "Pad" in operations
    assert "StridedSliceGrad" not in operations
