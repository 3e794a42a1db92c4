"""Detectors that are small and quick to make, and records that are hard."""

import keras
import numpy as np
from sklearn.datasets import load_digits

from memae_tf.data import simulated_traffic
from memae_tf.layers import ClipFeaturizer, ImageFeaturizer, MemoryUnit, RecordFeaturizer
from memae_tf.models import Detector, MemAE, conv2d, conv3d, dense


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


def digits() -> np.ndarray:
    """scikit-learn's handwritten digits, uint8 (1797, 8, 8, 1)."""
    return (load_digits().images * 15.9).astype("uint8")[..., None]


def digits_detector(channels=1, queries="sample") -> Detector:
    """A detector of images of 8 x 8 pixels, trained for a moment on handwritten zeros."""
    keras.utils.set_random_seed(0)
    zeros = digits()[load_digits().target == 0]
    featurizer = ImageFeaturizer((8, 8), channels, scaling="standard")
    featurizer.adapt(zeros)
    encoder, decoder = conv2d(featurizer.feature_shape, (8, 16), (3, 3), (2, 2), queries=queries)
    model = MemAE(encoder, MemoryUnit(20), decoder)
    model.compile(optimizer=keras.optimizers.Adam(0.01), jit_compile=False)
    features = featurizer(zeros)
    model.fit(features, epochs=3, batch_size=32, verbose=0)
    return Detector(featurizer, model, threshold=np.quantile(model.score(features), 0.9))


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


def clips_detector(channels=1, precision=None) -> Detector:
    """An untrained detector of clips of 4 frames of 8 x 10 pixels."""
    keras.utils.set_random_seed(0)
    featurizer = ClipFeaturizer((8, 10), 4, channels=channels)
    encoder, decoder = conv3d(featurizer.feature_shape, (4, 8), dtype=precision)
    model = MemAE(encoder, MemoryUnit(20, dtype=precision), decoder, "mean", dtype=precision)
    model.build((None, *featurizer.feature_shape))
    return Detector(featurizer, model, threshold=1.0)
