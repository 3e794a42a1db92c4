"""The deep structured energy-based model (Zhai et al., 2016)."""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from memae_tf.baselines.network import Network, NetworkBaseline, net_for
from memae_tf.config import Conv2DModel, DSEBMModel, TrainingConfig
from memae_tf.models.convolution import LAST, conv_layers


class DSEBM(NetworkBaseline):
    """A network whose output is the energy of its input, trained by denoising score matching.

    E(x) = 1/2 ||x - b||^2 - sum_j h_j(x), h being the last layer of softplus units. Its gradient
    makes an autoencoder with tied weights, f(x) = x - dE/dx, which learns to rebuild samples from
    noisy ones. The score is the energy ("DSEBM-e") or the error ||x - f(x)||^2 ("DSEBM-r").

    Reference:
        - Zhai et al., "Deep Structured Energy Based Models for Anomaly Detection", ICML 2016,
          sections 3 (energy of dense and convolutional nets) and 5 (the two scores)
    """

    def __init__(self, config: DSEBMModel, shape: tuple[int, ...], training: TrainingConfig):
        net = net_for(config.net, shape)
        super().__init__(_DSEBM(_layers(net, config.code), shape, config), training)

    def reconstruct(self, x: np.ndarray) -> np.ndarray:
        """f(x), of the shape of `x`."""
        return ops.convert_to_numpy(self.network.reconstruct(ops.convert_to_tensor(x)))


def _layers(net, code: int) -> list[keras.layers.Layer]:
    last = keras.layers.Dense(code, "softplus")
    if not isinstance(net, Conv2DModel):
        return [*(keras.layers.Dense(units, "softplus") for units in net.hidden), last]
    layers = []
    for filters, kernel, stride in zip(net.filters, net.kernels, net.strides, strict=True):
        layers += conv_layers(filters, (kernel,) * 2, (stride,) * 2, None, None)
        layers.append(keras.layers.Activation("softplus"))
    return [*layers, keras.layers.Flatten(LAST), last]


class _DSEBM(Network):
    def __init__(self, layers: list, shape: tuple[int, ...], config: DSEBMModel):
        super().__init__(name="dsebm")
        self.hidden = keras.Sequential([keras.Input(shape), *layers])
        self.bias = self.add_weight(name="bias", shape=shape, initializer="zeros")
        self.noise = config.noise
        self.by_energy = config.score == "energy"
        self.generator = keras.random.SeedGenerator()

    def energy(self, x):
        """The energies of samples, (batch,)."""
        axes = tuple(range(1, len(x.shape)))
        return 0.5 * ops.sum(ops.square(x - self.bias), axis=axes) - ops.sum(
            self.hidden(x), axis=-1
        )

    def reconstruct(self, x):
        """f(x) = x - dE/dx."""
        with tf.GradientTape() as tape:
            tape.watch(x)
            energy = self.energy(x)
        return x - tape.gradient(energy, x)

    def sample_loss(self, x):
        noisy = x + self.noise * keras.random.normal(ops.shape(x), seed=self.generator)
        return _squared_error(x, self.reconstruct(noisy))

    def sample_score(self, x):
        return self.energy(x) if self.by_energy else _squared_error(x, self.reconstruct(x))


def _squared_error(x, y):
    return ops.sum(ops.square(x - y), axis=tuple(range(1, len(x.shape))))
