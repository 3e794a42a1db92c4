"""Data sources: one file a source, all giving a `Dataset`."""

from memae_tf.config import (
    AvenueData,
    ImageFolderData,
    KDDCup99Data,
    Section,
    ShanghaiTechData,
    TabularData,
    TFDSData,
    UCSDData,
    VideoFolderData,
)
from memae_tf.data import (
    avenue,
    image_folder,
    kddcup99,
    shanghaitech,
    tabular,
    tfds,
    ucsd,
    video_folder,
)
from memae_tf.data.dataset import Dataset
from memae_tf.data.video_cache import OnPrepared

__all__ = ["Dataset", "load"]


def load(config: Section, seed: int, on_prepared: OnPrepared = lambda *_: None) -> Dataset:
    """Loads, splits and featurizes what the `data` section of a configuration names.

    Args:
        config: One of the kinds of `Data` in memae_tf/config/data.py.
        seed: Of the split.
        on_prepared: Is told how many videos are ready, of how many, where there are any.

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
        case UCSDData():
            return ucsd.load(config, on_prepared)
        case AvenueData():
            return avenue.load(config, on_prepared)
        case ShanghaiTechData():
            return shanghaitech.load(config, on_prepared)
        case VideoFolderData():
            return video_folder.load(config, on_prepared)
