"""From the `model` section of a configuration to a baseline."""

from typing import Protocol

import numpy as np

from memae_tf.baselines.dsebm import DSEBM
from memae_tf.baselines.kde import KDE
from memae_tf.baselines.ocsvm import OCSVM
from memae_tf.baselines.pixelcnn import PixelCNN
from memae_tf.baselines.vae import VAE
from memae_tf.config import (
    BaselineSection,
    DSEBMModel,
    KDEModel,
    OCSVMModel,
    PixelCNNModel,
    TrainingConfig,
    VAEModel,
)
from memae_tf.errors import UserError


class Baseline(Protocol):
    """The interface of all baselines."""

    def fit(self, x: np.ndarray) -> list[dict]:
        """Learns from features of normal samples; returns an entry for each epoch, if any."""

    def score(self, x: np.ndarray) -> np.ndarray:
        """Anomaly scores, float32 (samples,)."""


def build_baseline(
    config: BaselineSection, shape: tuple[int, ...], training: TrainingConfig
) -> Baseline:
    """Builds the baseline that a configuration describes.

    Args:
        config: Its `model` section.
        shape: The shape of one sample's features.
        training: Has the seed and, for networks, epochs, batch size and learning rate.

    Raises:
        UserError: If the configuration does not fit the input.
    """
    try:
        match config:
            case OCSVMModel():
                return OCSVM(config, training.seed)
            case KDEModel():
                return KDE(config, training.seed)
            case VAEModel():
                return VAE(config, shape, training)
            case PixelCNNModel():
                return PixelCNN(config, shape, training)
            case DSEBMModel():
                return DSEBM(config, shape, training)
    except ValueError as error:
        raise UserError(f"model: {error}") from None
