"""Detectors that are small and quick to make, and records that are hard."""

import keras
import numpy as np

from memae_tf.data import simulated_traffic
from memae_tf.layers import MemoryUnit, RecordFeaturizer
from memae_tf.models import Detector, MemAE, dense


def small_detector(featurizer: RecordFeaturizer, memory=True, dtype=None) -> Detector:
    """An untrained detector behind an adapted featurizer."""
    keras.utils.set_random_seed(0)
    encoder, decoder = dense(featurizer.num_features, hidden=(16, 8), dtype=dtype)
    memory = MemoryUnit(12, dtype=dtype) if memory else None
    model = MemAE(encoder, memory, decoder, dtype=dtype)
    model.build((None, featurizer.num_features))
    return Detector(featurizer, model, threshold=30.0)


def traffic_detector(**arguments) -> Detector:
    """A detector of simulated traffic, with the 41 fields of KDDCUP99."""
    records, _ = simulated_traffic.sample(2000, seed=0)
    text = [name for name, column in records.items() if column.dtype == object]
    numeric = [name for name in records if name not in (*text, "land", "logged_in")]
    featurizer = RecordFeaturizer(numeric, [*text, "land", "logged_in"])
    featurizer.adapt(records)
    return small_detector(featurizer, **arguments)


def hard_traffic(num_records: int) -> dict[str, np.ndarray]:
    """Simulated traffic with unseen categories and with missing, infinite and huge numbers."""
    records, _ = simulated_traffic.sample(num_records, seed=1)
    rng = np.random.default_rng(1)
    for column in records.values():
        odd = ["", "no such word", "ünseen"]
        if column.dtype != object:
            odd = [np.nan, np.inf, -np.inf, 3e38, -1e-40, -7.5]
        for value in odd:
            column[rng.random(num_records) < 0.02] = value
    return records
