"""The data set that every source of data gives."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from memae_tf.data.clips import Clips
from memae_tf.data.images import ImageFiles
from memae_tf.layers import Featurizer

# Columns of equal length by name: float32, or object arrays of str.
Records = dict[str, np.ndarray]
# A uint8 array (images, height, width, channels), an object array of arrays (height, width,
# channels) of several sizes, or image files.
Images = np.ndarray | ImageFiles
Samples = Records | Images | Clips
# Samples that go into a fingerprint.
FINGERPRINT_SAMPLES = 256


@dataclass(frozen=True)
class Dataset:
    """Raw training and test data, and the featurizer adapted to the training data.

    Attributes:
        name: The name of the source.
        protocol: How training and test data were split.
        simulated: Whether the data stand in for the real set.
        featurizer: Layer from raw data to features, adapted to `train`.
        train: Normal samples.
        test: Normal and abnormal samples; `None` if there are none. Video may be unlabelled.
        labels: The labels of `test`, int64 (samples,), 1 for an anomaly; for video, one for each
            frame. `None` if nothing is labelled.
        threshold: The protocol's threshold, if `evaluation.threshold` names no other one.
    """

    name: str
    protocol: str
    simulated: bool
    featurizer: Featurizer
    train: Samples
    test: Samples | None
    labels: np.ndarray | None
    threshold: str


def count(samples: Samples) -> int:
    """The number of samples."""
    return len(next(iter(samples.values())) if isinstance(samples, dict) else samples)


def take(samples: Samples, index: np.ndarray | slice) -> Samples:
    """The samples at an index or mask, in its order."""
    if isinstance(samples, dict):
        return {name: column[index] for name, column in samples.items()}
    return samples[index]


def fingerprint(dataset: Dataset) -> dict[str, object]:
    """What identifies training data: source, number of samples, and a checksum of some samples."""
    total = count(dataset.train)
    places = np.unique(np.linspace(0, total - 1, FINGERPRINT_SAMPLES).astype(int))
    some = take(dataset.train, places)
    checksum = 0
    for _, batch in dataset.featurizer.batches(some, FINGERPRINT_SAMPLES):
        for part in _bytes(batch):
            checksum = zlib.crc32(part, checksum)
    return {
        "name": dataset.name,
        "simulated": dataset.simulated,
        "samples": total,
        "checksum": checksum,
    }


def _bytes(batch: Records | np.ndarray) -> Iterator[bytes]:
    if isinstance(batch, dict):
        for name, column in batch.items():
            yield name.encode()
            yield from _bytes(column)
    elif batch.dtype == object:
        yield "\0".join(batch).encode()
    else:
        yield np.ascontiguousarray(batch).tobytes()
