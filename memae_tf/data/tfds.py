"""Labelled image sets of TensorFlow Datasets, one class against the rest."""

import difflib
import importlib
import logging
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from memae_tf.config import TFDSData
from memae_tf.data import splits
from memae_tf.data.data_folder import data_folder
from memae_tf.data.dataset import Dataset, take
from memae_tf.data.images import as_images, image_featurizer
from memae_tf.errors import UserError


@dataclass(frozen=True)
class LabelledImages:
    """The splits "train" and "test" of a set, one after the other.

    Attributes:
        images: uint8 (images, height, width, channels), or an array of arrays of several sizes.
        labels: int64 (images,).
        class_names: The names of the labels 0, 1, ...
        num_train: The number of images of the split "train", which come first.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    num_train: int


def load(config: TFDSData, seed: int) -> Dataset:
    """Loads a set and splits it by the configuration's protocol.

    Raises:
        UserError: If the set is unknown, has no labelled images, is not available or damaged, or
            has no such class.
    """
    data = fetch(config.dataset, data_folder(config.dir, "tensorflow_datasets"))
    normal = _class_index(config, data.class_names)
    labels = (data.labels != normal).astype("int64")
    source = f"data.dataset={config.dataset}"
    match config.protocol:
        case "one_class":
            train, test = splits.one_class(labels, seed, config.anomaly_share)
        case "validation":
            train, test = splits.one_class(labels[: data.num_train], seed, config.anomaly_share)
        case "full_test":
            if data.num_train == len(labels):
                raise UserError(f"{source}: has no split 'test'; use data.protocol=one_class")
            train = np.flatnonzero(labels[: data.num_train] == 0)
            test = np.arange(data.num_train, len(labels))
    if config.max_images is not None:
        train = np.random.default_rng(seed).permutation(train)[: config.max_images]
    if len(train) == 0 or len(np.unique(labels[test])) < 2:
        raise UserError(
            f"{source}: class '{data.class_names[normal]}' leaves nothing to train on, or nothing "
            "to tell apart in the test set; choose another data.normal"
        )
    train_images = take(data.images, train)
    return Dataset(
        name=config.dataset,
        protocol=config.protocol,
        simulated=False,
        featurizer=image_featurizer(config, train_images, source),
        train=train_images,
        test=take(data.images, test),
        labels=labels[test],
        threshold="train_quantile",
    )


def _class_index(config: TFDSData, names: tuple[str, ...]) -> int:
    """The label of the class that `data.normal` names, by its name or its number.

    Raises:
        UserError: If there is none.
    """
    wanted = str(config.normal)
    if wanted in names:
        return names.index(wanted)
    if isinstance(config.normal, int) and 0 <= config.normal < len(names):
        return config.normal
    near = difflib.get_close_matches(wanted, names, 1, 0.6)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise UserError(
        f"data.normal: {config.dataset} has no class '{wanted}'; it has {', '.join(names[:20])}"
        f"{', ...' if len(names) > 20 else ''}{hint}"
    )


# The cells of a benchmark use one set after another.
@lru_cache(maxsize=1)
def fetch(name: str, data_dir: str | None) -> LabelledImages:
    """A set through TensorFlow Datasets: from `data_dir`, from its own folder, or downloaded.

    Raises:
        UserError: If that does not work, or the set is not one of labelled images.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(
            f"data.name=tfds: the package {error.name} is not installed; "
            "pip install 'memae_tf[images]' installs it"
        ) from None
    try:
        # The package hides errors of its own imports until later, such as incompatible versions.
        importlib.import_module("tensorflow_datasets.public_api")
    except Exception as error:
        raise UserError(
            f"data.name=tfds: the package tensorflow-datasets does not work here ({error})"
        ) from None
    builder = _builder(tfds, name, data_dir)
    keys = _keys(tfds, name, builder.info)
    splits_there = [split for split in ("train", "test") if split in builder.info.splits]
    parts = [_read(builder, split, keys) for split in splits_there]
    if not parts:
        raise UserError(
            f"data.dataset={name}: has no split 'train'; it has {', '.join(builder.info.splits)}"
        )
    labels = np.concatenate([labels for _, labels in parts])
    feature = builder.info.features[keys[1]]
    names = getattr(feature, "names", None) or map(str, range(int(labels.max()) + 1))
    return LabelledImages(
        images=_joined([images for images, _ in parts]),
        labels=labels,
        class_names=tuple(names),
        num_train=len(parts[0][1]) if "train" in builder.info.splits else 0,
    )


def _builder(tfds, name: str, data_dir: str | None):
    """The builder of a set that is prepared."""
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        near = difflib.get_close_matches(name, tfds.list_builders(), 3, 0.6)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UserError(f"data.dataset: TensorFlow Datasets has no set '{name}'{hint}") from None
    except Exception as error:
        raise UserError(f"data.dataset={name}: cannot be opened ({_first_line(error)})") from None
    if not builder.is_prepared():
        # Without a network, it would log every attempt at every file.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        try:
            builder.download_and_prepare()
        except Exception as error:  # The network, the disk, a checksum, a package, ...
            raise UserError(
                f"data.dataset={name}: is not on this machine and cannot be downloaded "
                f"({_first_line(error)}); put it into data.dir or $MEMAE_DATA_DIR as "
                "tensorflow_datasets/"
            ) from None
    return builder


def _keys(tfds, name: str, info) -> tuple[str, str]:
    """The keys of image and label in the examples of a set.

    Raises:
        UserError: If it is not a set of images with one label each.
    """
    # Sets that users stored themselves have no `supervised_keys`.
    keys = info.supervised_keys or ("image", "label")
    if len(keys) != 2 or not all(isinstance(k, str) and k in info.features for k in keys):
        raise UserError(f"data.dataset={name}: is not a set of images and labels")
    image, label = (info.features[key] for key in keys)
    if not isinstance(image, tfds.features.Image) or label.shape != ():
        raise UserError(f"data.dataset={name}: is not a set of images with one label each")
    return keys


def _read(builder, split: str, keys: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of a split."""
    import tensorflow as tf

    # Whether images are of several sizes.
    mixed = None in builder.info.features[keys[0]].shape
    try:
        examples = builder.as_dataset(split=split)
        examples = examples.map(lambda example: tuple(example[key] for key in keys))
        if mixed:
            images, labels = zip(*examples.as_numpy_iterator(), strict=True)
            return as_images(images), np.array(labels)
        whole = examples.batch(builder.info.splits[split].num_examples)
        images, labels = whole.get_single_element()
        return images.numpy(), labels.numpy()
    except (tf.errors.OpError, OSError) as error:
        raise UserError(
            f"{builder.data_dir}: is damaged or cut off ({_first_line(error)}); delete the folder "
            "and start again"
        ) from None


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    if len({part.shape[1:] for part in parts}) == 1:
        return np.concatenate(parts)
    return as_images([image for part in parts for image in part])


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
