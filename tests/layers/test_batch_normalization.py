"""BatchNormalization beside NumPy in float64, and beside Keras's."""

import keras
import numpy as np
import pytest
from keras import ops

from memae_tf.layers import BatchNormalization

RNG = np.random.default_rng(0)
# So few elements that the estimates of the variance, by n and by n - 1, are not the same.
X = RNG.normal(3, 2, size=(2, 2, 3, 2, 4)).astype("float32")
SETTINGS = {"momentum": 0.9, "epsilon": 1e-5}

needs_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="takes gradients by TensorFlow's tape"
)


def set_up(layer, shape):
    """Weights that are all of them seen in what comes out."""
    layer.build(shape)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.uniform(0.5, 2, w.shape) for w in layer.weights])
    return layer


@pytest.mark.parametrize("shape", [X.shape, (4, 3, 2, 4)])
def test_values(shape):
    x = X.reshape(-1)[: np.prod(shape)].reshape(shape)
    layer = set_up(BatchNormalization(**SETTINGS), shape)
    gamma, beta, moving_mean, moving_variance = (w.astype("float64") for w in layer.get_weights())
    flat = x.reshape(-1, 4).astype("float64")
    mean, variance = flat.mean(0), flat.var(0)

    y = ops.convert_to_numpy(layer(x, training=True))

    expected = (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    *_, new_mean, new_variance = layer.get_weights()
    np.testing.assert_allclose(new_mean, 0.9 * moving_mean + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(new_variance, 0.9 * moving_variance + 0.1 * variance, rtol=1e-5)

    inference = ops.convert_to_numpy(layer(x))
    expected = (x - new_mean) / np.sqrt(new_variance + 1e-5) * gamma + beta
    np.testing.assert_allclose(inference, expected, rtol=1e-5, atol=1e-5)


@needs_tensorflow
def test_one_element():
    layer = set_up(BatchNormalization(**SETTINGS), (1, 1, 1, 4))
    _, beta, *moving = layer.get_weights()
    y = layer(X[:1, :1, :1, 0], training=True)
    np.testing.assert_array_equal(y, beta.reshape(1, 1, 1, 4))
    np.testing.assert_allclose(layer.get_weights()[3], 0.9 * moving[1], rtol=1e-6)


@needs_tensorflow
@pytest.mark.parametrize("shape", [X.shape, (4, 3, 2, 4)])
@pytest.mark.parametrize(
    "settings", [{}, {"scale": False}, {"center": False}, {"gamma_constraint": "non_neg"}]
)
def test_gradients_are_those_of_keras_in_one_operation(shape, settings):
    import tensorflow as tf

    x = tf.constant(X.reshape(-1)[: np.prod(shape)].reshape(shape))
    upstream = RNG.normal(size=shape).astype("float32")

    def results(layer):
        @tf.function(input_signature=[tf.TensorSpec((None, None, *shape[2:]))])
        def step(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=True)
            return y, *tape.gradient(y, [x, *layer.trainable_weights], output_gradients=upstream)

        operations = {op.type for op in step.get_concrete_function().graph.get_operations()}
        return [value.numpy() for value in step(x)] + layer.get_weights(), operations

    ours, operations = results(set_up(BatchNormalization(**SETTINGS, **settings), shape))
    theirs, _ = results(set_up(keras.layers.BatchNormalization(**SETTINGS, **settings), shape))
    assert {"FusedBatchNormV3", "FusedBatchNormGradV3"} <= operations
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def keras_only():
    """What TensorFlow's operation does not do, as name, settings, shape and call."""
    yield "axis", {"axis": 1}, X.shape, {"training": True}
    yield "dense", {}, (24, 4), {"training": True}
    yield "sequence", {}, (6, 4, 4), {"training": True}
    yield "synchronized", {"synchronized": True}, X.shape, {"training": True}
    yield "frozen", {"trainable": False}, X.shape, {"training": True}
    yield "float64", {"dtype": "float64"}, X.shape, {"training": True}
    yield "inference", {}, X.shape, {"training": False}
    yield "mask", {}, X.shape, {"training": True, "mask": X[..., 0] > 3}


@pytest.mark.parametrize(
    ("settings", "shape", "call"), [pytest.param(*rest, id=name) for name, *rest in keras_only()]
)
def test_everything_else_is_that_of_keras(settings, shape, call):
    if settings.get("synchronized") and keras.backend.backend() != "tensorflow":
        pytest.skip("Keras synchronizes on TensorFlow alone")
    x = X.reshape(-1)[: np.prod(shape)].reshape(shape).astype(settings.get("dtype", "float32"))
    ours = set_up(BatchNormalization(**SETTINGS, **settings), shape)
    theirs = set_up(keras.layers.BatchNormalization(**SETTINGS, **settings), shape)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(ours(x, **call)), ops.convert_to_numpy(theirs(x, **call))
    )
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision(policy):
    ours = set_up(BatchNormalization(**SETTINGS, dtype=policy), X.shape)
    theirs = set_up(keras.layers.BatchNormalization(**SETTINGS, dtype=policy), X.shape)
    outputs = [layer(X, training=True) for layer in (ours, theirs)]
    assert {keras.backend.standardize_dtype(y.dtype) for y in outputs} == {ours.compute_dtype}
    # One unit in the last place of bfloat16, of numbers up to 4.
    a, b = (ops.convert_to_numpy(ops.cast(y, "float32")) for y in outputs)
    np.testing.assert_allclose(a, b, atol=2**-6)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)


def test_in_a_model(tmp_path):
    model = keras.Sequential(
        [keras.Input(X.shape[1:]), BatchNormalization(**SETTINGS), keras.layers.Conv3D(1, 1)]
    )
    model.compile("sgd", "mse")
    model.fit(X, X[..., :1], batch_size=1, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(again.layers[0], BatchNormalization)
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))
