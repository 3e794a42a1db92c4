"""Averaged weights with BatchNorm, and what is kept of where they began."""

import keras
import numpy as np

from memae_tf.config import Conv2DModel, TrainingConfig
from memae_tf.models import build_memae
from memae_tf.training.averaging import estimate_statistics
from memae_tf.training.samples import ArraySamples

CONFIG = TrainingConfig(epochs=1, batch_size=20, averaging=0.9)


def make():
    keras.utils.set_random_seed(0)
    config = Conv2DModel(
        name="conv2d",
        filters=[4, 4],
        kernels=[3, 3],
        strides=[2, 2],
        memory={"num_slots": 6, "warmup_steps": 5},
    )
    return build_memae(config, (8, 8, 1))


def norms_of(part):
    return [la for la in part.layers if isinstance(la, keras.layers.BatchNormalization)]


def test_statistics_are_those_of_the_training_set():
    model = make()
    x = np.random.default_rng(0).normal(2, 3, size=(20, 8, 8, 1)).astype("float32")
    before = model.get_weights()
    estimate_statistics(model, ArraySamples(x), CONFIG)
    norms = norms_of(model.encoder) + norms_of(model.decoder)
    # What comes in is known for the first one: the convolution of all the images.
    first = next(la for la in model.encoder.layers if isinstance(la, keras.layers.Conv2D))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    inputs = np.asarray(first(padded))
    np.testing.assert_allclose(norms[0].moving_mean, inputs.mean(axis=(0, 1, 2)), rtol=1e-3)
    np.testing.assert_allclose(norms[0].moving_variance, inputs.var(axis=(0, 1, 2)), rtol=1e-3)
    # All else is as it was: the steps that the memory has counted, too.
    statistics = {id(v) for norm in norms for v in (norm.moving_mean, norm.moving_variance)}
    for variable, old in zip(model.weights, before, strict=True):
        if id(variable) not in statistics:
            np.testing.assert_array_equal(variable, old)
    assert {norm.momentum for norm in norms} == {0.9}


def test_statistics_are_means_over_batches():
    model = make()
    x = np.random.default_rng(0).normal(size=(90, 8, 8, 1)).astype("float32")
    estimate_statistics(model, ArraySamples(x), CONFIG)
    norm = norms_of(model.encoder)[0]
    first = next(la for la in model.encoder.layers if isinstance(la, keras.layers.Conv2D))
    inputs = np.asarray(first(np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))))
    # Four whole batches of 20, of which the last 10 samples are none.
    order = np.random.default_rng(CONFIG.seed).permutation(90)
    batches = np.split(inputs[order[:80]], 4)
    means, variances = (
        np.mean([getattr(batch, name)(axis=(0, 1, 2)) for batch in batches], axis=0)
        for name in ("mean", "var")
    )
    np.testing.assert_allclose(norm.moving_mean, means, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(norm.moving_variance, variances, rtol=1e-4)


def test_a_network_without_batch_norm_is_left_alone():
    encoder = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    weights = encoder.get_weights()
    estimate_statistics(encoder, ArraySamples(np.ones((40, 3), "float32")), CONFIG)
    for a, b in zip(encoder.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(a, b)
