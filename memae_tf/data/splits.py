"""Splits into training and test samples by the protocols of the literature.

Each takes `labels` (samples,), 1 for an anomaly, and a seed, and returns the indices of the
training samples, which are all normal, and of the test samples.
"""

import numpy as np

Split = tuple[np.ndarray, np.ndarray]


def dagmm(labels: np.ndarray, seed: int) -> Split:
    """A random half of all records is the test set; the normal ones of the other half train.

    Reference: Zong et al., "Deep Autoencoding Gaussian Mixture Model for Unsupervised Anomaly
    Detection", ICLR 2018, section 4.3; also the protocol of MemAE, section 4.3.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    half = len(labels) // 2
    train, test = order[:half], order[half:]
    return train[labels[train] == 0], test


def goad(labels: np.ndarray, seed: int) -> Split:
    """Half of the normal records train; the other half and all anomalies are the test set.

    Reference: Bergman and Hoshen, "Classification-Based Anomaly Detection for General Data",
    ICLR 2020, section 5.2.
    """
    return holdout(labels, seed, test_share=0.5)


def holdout(labels: np.ndarray, seed: int, test_share: float) -> Split:
    """A share of the normal records and all anomalies are the test set; the rest trains.

    With two normal records or more, each of the two has at least one of them, whatever the share.
    """
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(labels == 0))
    cut = min(max(1, round(len(normal) * test_share)), len(normal) - 1)
    return normal[cut:], np.concatenate([normal[:cut], np.flatnonzero(labels == 1)])


def one_class(labels: np.ndarray, seed: int, anomaly_share: float = 0.3) -> Split:
    """Two thirds of the normal samples train; the others and some anomalies are the test set.

    Anomalies are drawn at random from all of them, so many that they are `anomaly_share` of the
    test set.

    Reference: Gong et al., MemAE, ICCV 2019, section 4.1 (normal samples split 2:1, about 30% of
    the test set anomalies).
    """
    rng = np.random.default_rng(seed)
    normal = rng.permutation(np.flatnonzero(labels == 0))
    anomalies = rng.permutation(np.flatnonzero(labels == 1))
    cut = round(len(normal) / 3)
    number = round(cut * anomaly_share / (1 - anomaly_share))
    return normal[cut:], np.concatenate([normal[:cut], anomalies[:number]])
