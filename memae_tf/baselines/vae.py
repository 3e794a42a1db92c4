"""The variational autoencoder (Kingma and Welling, 2014)."""

import math

import keras
import numpy as np
from keras import ops

from memae_tf.baselines.network import Network, NetworkBaseline, net_for
from memae_tf.config import Conv2DModel, TrainingConfig, VAEModel
from memae_tf.models import conv2d, dense


class VAE(NetworkBaseline):
    """A VAE with a Gaussian decoder; the score is the negative evidence lower bound.

    The encoder gives mean and log variance of a Gaussian over codes, the decoder the mean of a
    Gaussian over samples. The variance of the latter is a single learned number (Rybkin et al.), so
    that error and divergence need no relative weight. In scoring, the code is the mean, so that
    scores are not random.

    Reference:
        - Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014
        - Rybkin et al., "Simple and Effective VAE Training with Calibrated Decoders", ICML 2021
    """

    def __init__(self, config: VAEModel, shape: tuple[int, ...], training: TrainingConfig):
        net = net_for(config.net, shape)
        encoder, decoder = (
            _half(net, shape, code)[half] for half, code in ((0, 2 * config.code), (1, config.code))
        )
        super().__init__(_VAE(encoder, decoder), training)

    def reconstruct(self, x: np.ndarray) -> np.ndarray:
        """The mean of the decoder at the mean of the encoder, of the shape of `x`."""
        return ops.convert_to_numpy(self.network.reconstruct(ops.convert_to_tensor(x)))


def _half(net, shape, code):
    if isinstance(net, Conv2DModel):
        return conv2d(shape, net.filters, net.kernels, net.strides, code)
    return dense(shape[0], net.hidden, code, net.activation)


class _VAE(Network):
    def __init__(self, encoder: keras.Model, decoder: keras.Model):
        super().__init__(name="vae")
        self.encoder = encoder
        self.decoder = decoder
        self.noise = keras.random.SeedGenerator()
        self.log_sigma = self.add_weight(name="log_sigma", shape=(), initializer="zeros")

    def sample_loss(self, x):
        mean, log_variance = self._posterior(x, training=True)
        noise = keras.random.normal(ops.shape(mean), seed=self.noise)
        code = mean + ops.exp(0.5 * log_variance) * noise
        return self._negative_bound(x, code, mean, log_variance, training=True)

    def sample_score(self, x):
        mean, log_variance = self._posterior(x, training=False)
        return self._negative_bound(x, mean, mean, log_variance, training=False)

    def reconstruct(self, x):
        return self.decoder(self._posterior(x, training=False)[0], training=False)

    def _posterior(self, x, training: bool):
        mean, log_variance = ops.split(self.encoder(x, training=training), 2, axis=-1)
        # Clipped, as exp would overflow.
        return mean, ops.clip(log_variance, -20.0, 20.0)

    def _negative_bound(self, x, code, mean, log_variance, training: bool):
        error = ops.square(x - self.decoder(code, training=training))
        log_likelihood = -0.5 * error * ops.exp(-2 * self.log_sigma) - self.log_sigma
        log_likelihood = log_likelihood - 0.5 * math.log(2 * math.pi)
        divergence = 0.5 * (ops.square(mean) + ops.exp(log_variance) - 1 - log_variance)
        axes = tuple(range(1, len(x.shape)))
        return ops.sum(divergence, axis=-1) - ops.sum(log_likelihood, axis=axes)
