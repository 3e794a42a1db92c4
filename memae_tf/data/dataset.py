"""What every source of data gives."""

from dataclasses import dataclass

import numpy as np

from memae_tf.layers import RecordFeaturizer

# Columns of equal length by name: float32, or object arrays of str.
Records = dict[str, np.ndarray]


@dataclass(frozen=True)
class Dataset:
    """Raw training and test data, and the featurizer adapted to the training data.

    Attributes:
        name: Of the source.
        protocol: How training and test data were split.
        simulated: Whether the data stand in for the real set.
        featurizer: Layer from raw data to features, adapted to `train`.
        train: Normal records.
        test: Normal and abnormal records; `None` where nothing is labelled.
        labels: Of `test`, int64 (records,), 1 for an anomaly; `None` where nothing is labelled.
        threshold: The threshold that the protocol evaluates at (`evaluation.threshold`).
    """

    name: str
    protocol: str
    simulated: bool
    featurizer: RecordFeaturizer
    train: Records
    test: Records | None
    labels: np.ndarray | None
    threshold: str


def count(records: Records) -> int:
    """The number of records."""
    return len(next(iter(records.values())))


def take(records: Records, index: np.ndarray) -> Records:
    """The records at an index or mask, in its order."""
    return {name: column[index] for name, column in records.items()}
