import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from memae_tf.config import DenseModel
from memae_tf.layers import MemoryUnit
from memae_tf.models import MemAE, build_memae
from memae_tf.training import columnwise

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 7)).astype("float32")
# With this, some queries keep a few slots, and others fall back.
MEMORY = {"num_slots": 9, "scale": 3.0, "shrink": 1.5, "entropy_weight": 0.1}


def dense(**memory) -> MemAE:
    keras.utils.set_random_seed(1)
    config = DenseModel(name="dense", hidden=[6, 5], code=3, memory={**MEMORY, **memory})
    return build_memae(config, (7,))


def of_layers(*encoder, memory=None, decoder=None) -> MemAE:
    model = MemAE(
        keras.Sequential([keras.Input((7,)), *encoder]),
        memory,
        decoder or keras.Sequential([layers.Dense(7)]),
    )
    model.build((None, 7))
    return model


def terms_and_gradients(loss_terms, model):
    with tf.GradientTape() as tape:
        terms = loss_terms()
        loss = terms["reconstruction"] + terms["penalty"]
    return terms, tape.gradient(loss, model.trainable_variables)


def assert_columns_are_rows(model, target=X, weights=None):
    def in_rows():
        return model.loss_terms(target, model(X, training=True), weights)

    rows, expected = terms_and_gradients(in_rows, model)
    columns, gradients = terms_and_gradients(
        lambda: columnwise.loss_terms(model, tf.constant(X), tf.constant(target), weights), model
    )
    assert columnwise.suits(model)
    assert set(columns) == set(rows)
    for name, term in rows.items():
        np.testing.assert_allclose(columns[name], term, rtol=1e-5)
    for gradient, other in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "memory",
    [
        {},
        {"similarity": "dot", "scale": None},
        {"scale": "learned"},
        {"fallback": "zero"},
        {"shrink": 0},
        {"entropy_weight": 0},
    ],
)
def test_terms_and_gradients_are_those_of_rows(memory):
    assert_columns_are_rows(dense(**memory))


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu", "elu", "silu"])
def test_activations_and_layers_without_bias(activation):
    encoder = [layers.Dense(5, activation, use_bias=False), layers.Dense(3)]
    assert_columns_are_rows(of_layers(*encoder, memory=MemoryUnit(**MEMORY)))


def test_no_memory():
    assert_columns_are_rows(of_layers(layers.Dense(3, "tanh")))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_other_targets_and_weights(reduction):
    model = dense()
    model.reduction = reduction
    weights = tf.constant(RNG.uniform(size=64).astype("float32"))
    assert_columns_are_rows(model, target=np.flip(X, axis=1).copy(), weights=weights)


def test_warm_up_counts_a_step():
    model = dense(warmup_steps=4)
    first, second = (
        columnwise.loss_terms(model, tf.constant(X), tf.constant(X), None) for _ in range(2)
    )
    assert model.memory.steps.numpy() == 2
    assert first["penalty"] == 0
    assert second["penalty"] > 0


class OtherDense(layers.Dense):
    pass


@pytest.mark.parametrize(
    "make",
    [
        lambda: of_layers(layers.Dense(3), layers.BatchNormalization()),
        lambda: of_layers(layers.Dense(3, "softmax")),
        lambda: of_layers(layers.Dense(3, kernel_regularizer="l2")),
        lambda: of_layers(layers.Dense(3, activity_regularizer="l2")),
        lambda: of_layers(layers.Dense(3, dtype="mixed_bfloat16")),
        lambda: of_layers(OtherDense(3)),
        lambda: of_layers(layers.Dense(3), memory=layers.Dense(3)),
        lambda: of_layers(layers.Dense(3), memory=MemoryUnit(5, memory_regularizer="l2")),
        lambda: of_layers(layers.Dense(3), decoder=layers.Dense(7)),
    ],
)
def test_does_not_suit_what_it_would_compute_otherwise(make):
    assert not columnwise.suits(make())
