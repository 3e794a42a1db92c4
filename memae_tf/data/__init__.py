"""Data sources: one file a source, all giving a `Dataset`."""

from memae_tf.config import ImageFolderData, KDDCup99Data, Section, TabularData, TFDSData
from memae_tf.data import image_folder, kddcup99, tabular, tfds
from memae_tf.data.dataset import Dataset

__all__ = ["Dataset", "load"]


def load(config: Section, seed: int) -> Dataset:
    """Loads, splits and featurizes what the `data` section of a configuration names.

    Args:
        config: A `KDDCup99Data`, `TabularData`, `TFDSData` or `ImageFolderData`.
        seed: Of the split.

    Raises:
        UserError: If the data are missing, damaged, or do not fit the configuration.
    """
    match config:
        case KDDCup99Data():
            return kddcup99.load(config, seed)
        case TabularData():
            return tabular.load(config, seed)
        case TFDSData():
            return tfds.load(config, seed)
        case ImageFolderData():
            return image_folder.load(config, seed)
