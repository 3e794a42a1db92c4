"""NarrowConv3DTranspose beside Keras's Conv3DTranspose."""

import keras
import numpy as np
import pytest
from keras import ops

from memae_tf.layers import NarrowConv3DTranspose

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("filters", [1, 3])
@pytest.mark.parametrize(
    ("kernel", "strides"),
    [
        ((3, 3, 3), (1, 2, 2)),
        ((3, 3, 3), (2, 2, 2)),
        ((5, 7, 1), (2, 3, 2)),
        ((1, 3, 5), (1, 1, 1)),
        ((7, 3, 9), (4, 3, 5)),
        ((4, 2, 6), (2, 1, 4)),
        # Some taps see nothing but what is outside.
        ((9, 1, 11), (1, 1, 2)),
    ],
)
def test_values_are_those_of_keras(filters, kernel, strides):
    x = RNG.normal(size=(2, 3, 5, 4, 6)).astype("float32")
    theirs = keras.layers.Conv3DTranspose(
        filters, kernel, strides, padding="same", bias_initializer="uniform"
    )
    expected = ops.convert_to_numpy(theirs(x))
    ours = NarrowConv3DTranspose(filters, kernel, strides)
    ours.build(x.shape)
    ours.set_weights(theirs.get_weights())
    found = ops.convert_to_numpy(ours(x))
    assert found.shape == ours.compute_output_shape(x.shape)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_terms_are_added_in_float32():
    """In bfloat16, 256 and 1 are 256."""
    layer = NarrowConv3DTranspose(1, (3, 1, 1), (1, 1, 1), dtype="mixed_bfloat16")
    layer.build((1, 3, 1, 1, 1))
    layer.set_weights([np.array([1.0, 256.0, 1.0]).reshape(3, 1, 1, 1, 1), np.zeros(1)])
    found = ops.convert_to_numpy(ops.cast(layer(np.ones((1, 3, 1, 1, 1))), "float32"))
    assert found.ravel()[1] == 258


def test_checks_of_a_layer():
    x = RNG.normal(size=(2, 2, 3, 4, 5)).astype("float32")
    layer = NarrowConv3DTranspose(1, (3, 3, 3), (1, 2, 2), name="last")
    again = NarrowConv3DTranspose.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    assert model.output_shape == (None, 2, 6, 8, 1)
    mixed = NarrowConv3DTranspose(1, (3, 3, 3), (1, 2, 2), dtype="mixed_bfloat16")
    assert keras.backend.standardize_dtype(mixed(x).dtype) == "bfloat16"
    assert keras.backend.standardize_dtype(mixed.kernel.dtype) == "float32"
    for arguments in (0, (3, 3, 3), (1, 1, 1)), (1, (3, 3), (1, 1, 1)), (1, (3, 3, 3), (0, 1, 1.0)):
        with pytest.raises(ValueError, match=r"must be .*positive.* Received: "):
            NarrowConv3DTranspose(*arguments)
    with pytest.raises(ValueError, match=r"must be known. Received: input_shape=\(None, None, 3"):
        NarrowConv3DTranspose(1, (3, 3, 3), (1, 2, 2)).build((None, None, 3, 4, 5))
