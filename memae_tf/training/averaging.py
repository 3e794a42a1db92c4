"""BatchNorm statistics for averaged weights."""

import keras
import numpy as np
from keras import ops

from memae_tf.config import TrainingConfig
from memae_tf.training.samples import TrainingSamples

# The number of batches that the statistics are estimated from.
BATCHES = 32


def estimate_statistics(
    model: keras.Model, samples: TrainingSamples, config: TrainingConfig
) -> None:
    """Estimates the statistics of BatchNorm layers anew, for averaged weights.

    The moving statistics belong to the weights in training. The new ones are means over some
    batches of training samples, always the same ones.

    Args:
        model: A model with averaged weights; only the statistics change.
        samples: The training set.
        config: The `training` section.

    Reference:
        - Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI
          2018, section 3.2
    """
    norms = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    if not norms:
        return
    momenta, weights = [norm.momentum for norm in norms], model.get_weights()
    size = min(config.batch_size, len(samples))
    order = np.random.default_rng(config.seed).permutation(len(samples))[: BATCHES * size]
    plan = samples.plan(order, config.seed, 0)
    # Whole batches only, as a small one would count as much as the others.
    for number, start in enumerate(range(0, len(order) - size + 1, size)):
        for norm in norms:
            # With this momentum, the moving average is the mean over the batches so far.
            norm.momentum = number / (number + 1)
        part = {name: values[start : start + size] for name, values in plan.items()}
        batch = {n: ops.convert_to_tensor(v) for n, v in samples.read(part).items()}
        model(samples.prepare(batch)[0], training=True)
    statistics = [(norm.moving_mean + 0.0, norm.moving_variance + 0.0) for norm in norms]
    # The calls above changed other state, too: a memory counts the steps of its warm-up.
    model.set_weights(weights)
    for norm, momentum, (mean, variance) in zip(norms, momenta, statistics, strict=True):
        norm.momentum = momentum
        norm.moving_mean.assign(mean)
        norm.moving_variance.assign(variance)
