"""What every source of data gives."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from memae_tf.data.clips import Clips
from memae_tf.data.images import ImageFiles
from memae_tf.layers import Featurizer

# Columns of equal length by name: float32, or object arrays of str.
Records = dict[str, np.ndarray]
# One uint8 array (images, height, width, channels), an array of arrays (height, width, channels)
# of several sizes, or files of such.
Images = np.ndarray | ImageFiles
Samples = Records | Images | Clips
# Samples by which data are known again.
KNOWN_BY = 256


@dataclass(frozen=True)
class Dataset:
    """Raw training and test data, and the featurizer adapted to the training data.

    Attributes:
        name: Of the source.
        protocol: How training and test data were split.
        simulated: Whether the data stand in for the real set.
        featurizer: Layer from raw data to features, adapted to `train`.
        train: Normal samples.
        test: Normal and abnormal samples; `None` where there are none. Of video they may be
            unlabelled.
        labels: Of `test`, int64 (samples,), 1 for an anomaly; `None` where nothing is labelled. Of
            video, one for each frame of its videos.
        threshold: The threshold that the protocol evaluates at (`evaluation.threshold`).
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
    """By what training data are known again: source, number, and a checksum of some samples."""
    total = count(dataset.train)
    some = take(dataset.train, np.unique(np.linspace(0, total - 1, KNOWN_BY).astype(int)))
    checksum = 0
    for _, batch in dataset.featurizer.batches(some, KNOWN_BY):
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
