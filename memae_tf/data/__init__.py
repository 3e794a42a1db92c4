"""Data sources: one file a source, all giving a `Dataset`."""

from memae_tf.config import KDDCup99Data, RecordData, TabularData
from memae_tf.data import kddcup99, tabular
from memae_tf.data.dataset import Dataset

__all__ = ["Dataset", "load"]


def load(config: RecordData, seed: int) -> Dataset:
    """Loads, splits and featurizes what the `data` section of a configuration names.

    Args:
        config: A `KDDCup99Data` or `TabularData`.
        seed: Of the split.

    Raises:
        UserError: If the data are missing, damaged, or do not fit the configuration.
    """
    match config:
        case KDDCup99Data():
            return kddcup99.load(config, seed)
        case TabularData():
            return tabular.load(config, seed)
