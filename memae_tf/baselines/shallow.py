"""What OC-SVM and KDE share: flat features, reduced by PCA."""

import numpy as np
from sklearn.decomposition import PCA


class FlatFeatures:
    """Flattens features and, unless `share` is `None`, projects them by PCA.

    Args:
        share: Share of the variance that the components keep.
        max_samples: Of more samples than this, a random part is used.
        seed: Seed of the choice of that part.
    """

    def __init__(self, share: float | None, max_samples: int, seed: int):
        self.pca = None if share is None else PCA(share, svd_solver="full")
        self.max_samples = max_samples
        self.seed = seed

    def fit(self, x: np.ndarray) -> np.ndarray:
        """The training samples, (samples, components) in float64."""
        order = np.random.default_rng(self.seed).permutation(len(x))[: self.max_samples]
        x = _flat(x[order])
        return x if self.pca is None else self.pca.fit_transform(x)

    def transform(self, x: np.ndarray) -> np.ndarray:
        x = _flat(x)
        return x if self.pca is None else self.pca.transform(x)


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1).astype("float64")
