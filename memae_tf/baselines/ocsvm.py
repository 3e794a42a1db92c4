"""The one-class support vector machine (Schölkopf et al., 2001), as scikit-learn has it."""

import numpy as np
from sklearn.svm import OneClassSVM

from memae_tf.baselines.shallow import FlatFeatures
from memae_tf.config import OCSVMModel


class OCSVM:
    """OC-SVM with a Gaussian kernel on the principal components of the features.

    As its cost grows with the square of the number of samples, it learns from a random part if
    there are more than `max_samples`. Without labels, `nu` and `gamma` cannot be tuned: nu = 0.1 is
    that of Ruff et al., gamma "scale" is scikit-learn's 1 / (components * variance).

    Reference:
        - Schölkopf et al., "Estimating the Support of a High-Dimensional Distribution", Neural
          Computation 13, 2001
        - Ruff et al., "Deep One-Class Classification", ICML 2018, section 4.1 (PCA to 95%)
    """

    def __init__(self, config: OCSVMModel, seed: int):
        self.features = FlatFeatures(config.pca, config.max_samples, seed)
        self.model = OneClassSVM(kernel="rbf", nu=config.nu, gamma=config.gamma, cache_size=1000)

    def fit(self, x: np.ndarray) -> list[dict]:
        self.model.fit(self.features.fit(x))
        return []

    def score(self, x: np.ndarray) -> np.ndarray:
        """The distance to the separating plane, negative on the side of the normal ones."""
        return -self.model.decision_function(self.features.transform(x)).astype("float32")
