"""Kernel density estimation (Parzen, 1962), as scikit-learn has it."""

import numpy as np
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity

from memae_tf.baselines.shallow import FlatFeatures
from memae_tf.config import KDEModel
from memae_tf.errors import UserError

# Bandwidths for cross-validation, in units of the square root of the total variance.
RELATIVE_BANDWIDTHS = 2.0 ** np.arange(-5.0, 0.0, 0.5)
FOLDS = 5
CROSS_VALIDATED = 2000


class KDE:
    """A Gaussian kernel on each training sample, on the principal components of the features.

    With `bandwidth: cv` the bandwidth is that with the highest likelihood of held-out training
    samples (5 folds of 2,000 samples at most), as in Ruff et al.

    Reference:
        - Parzen, "On Estimation of a Probability Density Function and Mode", 1962
        - Ruff et al., "Deep One-Class Classification", ICML 2018, section 4.1 (bandwidth, PCA)
    """

    def __init__(self, config: KDEModel, seed: int):
        self.features = FlatFeatures(config.pca, config.max_samples, seed)
        self.bandwidth = config.bandwidth
        self.model: KernelDensity | None = None

    def fit(self, x: np.ndarray) -> list[dict]:
        x = self.features.fit(x)
        bandwidth = _cross_validated(x) if self.bandwidth == "cv" else self.bandwidth
        self.model = _density(len(x), bandwidth=bandwidth).fit(x)
        return []

    def score(self, x: np.ndarray) -> np.ndarray:
        """The negative logarithm of the density."""
        return -self.model.score_samples(self.features.transform(x)).astype("float32")


def _density(num_samples: int, **arguments) -> KernelDensity:
    """A density estimate that sums all kernels, by a tree with a single leaf.

    With several leaves, scikit-learn skips kernels by bounds that fail in many dimensions: on
    MNIST, log densities were wrong by up to 60.
    """
    return KernelDensity(leaf_size=num_samples, **arguments)


def _cross_validated(x: np.ndarray) -> float:
    if len(x) < 2:
        raise UserError(
            "model.bandwidth=cv: needs at least two training samples; give a number instead"
        )
    x = x[:CROSS_VALIDATED]
    scale = max(float(np.sqrt(x.var(axis=0).sum())), 1e-6)
    choices = {"bandwidth": scale * RELATIVE_BANDWIDTHS}
    search = GridSearchCV(_density(len(x)), choices, cv=min(FOLDS, len(x)), refit=False)
    return search.fit(x).best_params_["bandwidth"]
