"""What else a network needs to work with averaged weights."""

import keras
from keras import ops

from memae_tf.config import TrainingConfig
from memae_tf.training.feed import shuffled
from memae_tf.training.samples import TrainingSamples

# From so many batches come the statistics of BatchNorm.
BATCHES = 32


def estimate_statistics(
    model: keras.Model, samples: TrainingSamples, config: TrainingConfig
) -> None:
    """Gives BatchNorm the statistics that go with averaged weights.

    Its moving ones are those of the weights that were trained. These are the means over some
    batches, the same ones every time.

    Args:
        model: With averaged weights; nothing else of it changes.
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
    order = shuffled(len(samples), config.seed, 0)[: BATCHES * size]
    plan = samples.plan(order, config.seed, 0)
    # Whole batches: a small one would count as much as the others.
    for number, start in enumerate(range(0, len(order) - size + 1, size)):
        for norm in norms:
            norm.momentum = number / (number + 1)
        part = {name: values[start : start + size] for name, values in plan.items()}
        batch = {n: ops.convert_to_tensor(v) for n, v in samples.read(part).items()}
        model(samples.prepare(batch)[0], training=True)
    statistics = [(norm.moving_mean + 0.0, norm.moving_variance + 0.0) for norm in norms]
    # A memory counts the steps of its warm-up.
    model.set_weights(weights)
    for norm, momentum, (mean, variance) in zip(norms, momenta, statistics, strict=True):
        norm.momentum = momentum
        norm.moving_mean.assign(mean)
        norm.moving_variance.assign(variance)
