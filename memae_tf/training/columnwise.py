"""Training of dense networks with samples in columns: activations are (units, samples).

What XLA compiles for CPUs works along the last axis. In rows that is one of 3, 10 or 50 units, in
columns one of all samples of a batch: the KDD net trains 1.3 times as fast. The numbers are the
same, to rounding.
"""

import keras
import tensorflow as tf

from memae_tf.layers import MemoryUnit
from memae_tf.models import MemAE
from memae_tf.training.samples import Tensor

ELEMENTWISE = tuple(
    keras.activations.get(name) for name in ("linear", "tanh", "relu", "gelu", "elu", "silu")
)


def suits(model: MemAE) -> bool:
    """Whether a model is nothing but float32 `Dense` layers about a `MemoryUnit`, or without."""
    layers = []
    for network in (model.encoder, model.decoder):
        # What subclasses do in their own `call` is not known.
        if type(network) is not keras.Sequential:
            return False
        layers += network.layers
    memory = [] if model.memory is None else [model.memory]
    return (
        type(model) is MemAE
        and len(model.encoder.input_shape) == 2
        and all(type(layer) is keras.layers.Dense for layer in layers)
        and all(layer.activation in ELEMENTWISE for layer in layers)
        and all(type(layer) is MemoryUnit for layer in memory)
        and all(_is_plain(layer) for layer in [*layers, *memory])
    )


def _is_plain(layer: keras.layers.Layer) -> bool:
    """Whether it is of float32, and adds nothing to the losses but what `loss_terms` counts."""
    regular = all(variable.regularizer is None for variable in layer.variables)
    return layer.dtype_policy.name == "float32" and regular and not layer.activity_regularizer


def loss_terms(model: MemAE, x: Tensor, target: Tensor, weights: Tensor | None) -> dict:
    """What `MemAE.loss_terms` gives after a call in training, of a model that this suits.

    Args:
        model: Built.
        x: Inputs (samples, features).
        target: What they should become, of the same shape.
        weights: One for each sample; `None` is 1.
    """
    columns = _through(model.encoder, tf.transpose(x))
    penalty = tf.constant(0.0)
    if model.memory is not None:
        columns, penalty = model.memory.recall_columns(columns)
    columns = _through(model.decoder, columns)
    errors = model.element_error(tf.transpose(target), columns)
    num_features, num_samples = errors.shape
    # Weighted, and not as the mean of sums, of which XLA would make one long sum.
    share = 1.0 / num_samples if model.reduction == "sum" else 1.0 / (num_samples * num_features)
    shares = share if weights is None else share * weights
    return {
        "reconstruction": tf.reduce_sum(tf.reduce_sum(errors, axis=0) * shares),
        "penalty": penalty,
    }


def _through(network: keras.Sequential, columns: Tensor) -> Tensor:
    """What a stack of `Dense` layers makes of columns, in columns."""
    for layer in network.layers:
        columns = tf.matmul(layer.kernel, columns, transpose_a=True)
        if layer.use_bias:
            # As a product: so is its gradient then, for which XLA has better code than for sums.
            ones = tf.ones((1, columns.shape[1]))
            columns += tf.matmul(tf.expand_dims(layer.bias, 1), ones)
        columns = layer.activation(columns)
    return columns
