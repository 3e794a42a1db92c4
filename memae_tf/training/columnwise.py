"""Training of dense networks with samples in columns: activations are (units, samples).

XLA vectorises for CPUs along the last axis. With samples in rows that axis is 3, 10 or 50 units
long, with samples in columns as long as the batch: the paper's KDD network trains 1.3 to 1.6 times
as fast (docs/results/speed.md). The numbers are the same, up to rounding.
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
    """Whether a model has nothing but float32 `Dense` layers and, maybe, a `MemoryUnit`."""
    layers = []
    for network in (model.encoder, model.decoder):
        # Not subclasses, whose `call` may do anything.
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
    """Whether a layer computes in float32 and has no regularizers, which are not counted here."""
    regular = all(variable.regularizer is None for variable in layer.variables)
    return layer.dtype_policy.name == "float32" and regular and not layer.activity_regularizer


def loss_terms(model: MemAE, x: Tensor, target: Tensor, weights: Tensor | None) -> dict:
    """Calls a model in training, and gives what `MemAE.loss_terms` would.

    Args:
        model: A built model for which `suits` holds.
        x: Inputs (samples, features).
        target: Targets of the reconstructions, of the same shape.
        weights: One for each sample; `None` is 1.
    """
    columns = _through(model.encoder, tf.transpose(x))
    penalty = tf.constant(0.0)
    if model.memory is not None:
        columns, penalty = model.memory.recall_columns(columns)
    columns = _through(model.decoder, columns)
    errors = model.element_error(tf.transpose(target), columns)
    num_features, num_samples = errors.shape
    # A weighted sum: of a mean of sums, XLA would make a single long sum.
    share = 1.0 / num_samples if model.reduction == "sum" else 1.0 / (num_samples * num_features)
    shares = share if weights is None else share * weights
    return {
        "reconstruction": tf.reduce_sum(tf.reduce_sum(errors, axis=0) * shares),
        "penalty": penalty,
    }


def _through(network: keras.Sequential, columns: Tensor) -> Tensor:
    """Calls a stack of `Dense` layers on columns; the outputs are columns, too."""
    for layer in network.layers:
        columns = tf.matmul(layer.kernel, columns, transpose_a=True)
        if layer.use_bias:
            # As a product, so that its gradient is one: XLA has better code for it than for a sum.
            ones = tf.ones((1, columns.shape[1]))
            columns += tf.matmul(tf.expand_dims(layer.bias, 1), ones)
        columns = layer.activation(columns)
    return columns
