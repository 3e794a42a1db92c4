"""BatchNorm folded into convolutions at inference."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from memae_tf.models import conv2d, conv3d
from memae_tf.models.folding import call_folded


def trained(model: keras.Model) -> keras.Model:
    """With statistics, scales and biases that are none of a new model's."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) == 1:
            values = rng.uniform(0.5, 1.5, weight.shape)
            signs = 1 if "variance" in weight.path else rng.choice([-1, 1], weight.shape)
            weight.assign(values * signs)
    return model


def samples(*shape) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(3, *shape)).astype("float32")


def same(model: keras.Model, x: np.ndarray) -> None:
    folded = ops.convert_to_numpy(call_folded(model, x))
    plain = ops.convert_to_numpy(model(x, training=False))
    np.testing.assert_allclose(folded, plain, rtol=0, atol=2e-5 * np.abs(plain).max())


@pytest.fixture
def no_norms(monkeypatch):
    """A BatchNorm that is called is an error."""

    def call(self, *args, **kwargs):
        raise AssertionError(f"{self.name} was called")

    def check(model, x):
        with monkeypatch.context() as patch:
            patch.setattr(layers.BatchNormalization, "call", call)
            call_folded(model, x)

    return check


def test_conv3d(no_norms):
    # An odd size, whose mirror is cropped differently.
    encoder, decoder = map(trained, conv3d((4, 18, 14, 1), filters=(8, 12)))
    x = samples(4, 18, 14, 1)
    same(encoder, x)
    code = ops.convert_to_numpy(encoder(x, training=False))
    same(decoder, code)
    no_norms(encoder, x)
    no_norms(decoder, code)


def test_conv2d(no_norms):
    encoder, decoder = map(
        trained, conv2d((15, 13, 3), (8, 12), (3, 3), (2, 2), code=None, queries="position")
    )
    x = samples(15, 13, 3)
    same(encoder, x)
    code = ops.convert_to_numpy(encoder(x, training=False))
    same(decoder, code)
    no_norms(encoder, x)
    no_norms(decoder, code)


@pytest.mark.parametrize(
    "stack",
    [
        # Without scale, center or bias.
        [
            layers.Conv2D(4, 3, use_bias=False, groups=1),
            layers.BatchNormalization(scale=False, center=False),
        ],
        [
            layers.Conv2D(4, 3, strides=2, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
        ],
        [layers.Conv2DTranspose(4, 3, strides=2, output_padding=1), layers.BatchNormalization()],
        [layers.Conv2DTranspose(4, 3, dilation_rate=2), layers.BatchNormalization()],
        # These are to be left as they are.
        [layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization()],
        [layers.Conv2D(4, 3), layers.BatchNormalization(axis=1)],
        [layers.SeparableConv2D(4, 3), layers.BatchNormalization()],
        [layers.Conv2D(4, 3), layers.ReLU(), layers.BatchNormalization()],
        [layers.BatchNormalization(), layers.Conv2D(4, 3)],
        [layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(5), layers.BatchNormalization()],
        [layers.Dropout(0.5), keras.Sequential([layers.Conv2D(4, 3), layers.BatchNormalization()])],
    ],
)
def test_any_stack(stack):
    model = keras.Sequential([keras.Input((9, 8, 3)), *stack])
    same(trained(model), samples(9, 8, 3))


class Shifted(layers.BatchNormalization):
    def call(self, inputs, *args, **kwargs):
        return super().call(inputs, *args, **kwargs) + 1


class Cropped(layers.Cropping2D):
    def call(self, inputs):
        return super().call(inputs) + 1


class Doubled(keras.Sequential):
    def call(self, inputs, *args, **kwargs):
        return 2 * super().call(inputs, *args, **kwargs)


@pytest.mark.parametrize(
    "model",
    [
        keras.Sequential([layers.Conv2D(3, 3), Shifted()]),
        keras.Sequential([layers.Conv2D(3, 3), Cropped(1), layers.BatchNormalization()]),
        Doubled([layers.Conv2D(3, 3), layers.BatchNormalization()]),
    ],
)
def test_what_a_person_made_of_a_layer_is_called(model):
    model.build((None, 6, 6, 2))
    same(trained(model), samples(6, 6, 2))


def test_losses_of_activities_are_those_of_the_layers():
    stack = [layers.Conv2D(3, 3, activity_regularizer="l2"), layers.BatchNormalization()]
    model = keras.Sequential([keras.Input((6, 6, 2)), *stack])
    x = samples(6, 6, 2)
    model(2 * x)
    (expected,) = map(float, model.losses)
    # Of others, so that what is there is not what is to come.
    model(x)
    call_folded(model, 2 * x)
    assert float(model.losses[-1]) == pytest.approx(expected, rel=1e-5)


def test_what_is_no_sequence_is_called():
    inputs = keras.Input((6, 6, 2))
    outputs = layers.BatchNormalization()(layers.Conv2D(3, 3)(inputs))
    same(trained(keras.Model(inputs, outputs)), samples(6, 6, 2))
