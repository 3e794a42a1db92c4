"""A user's own pictures: train/normal, test/normal and test/<defect> in one folder."""

from pathlib import Path

import numpy as np

from memae_tf.config import ImageFolderData
from memae_tf.data.dataset import Dataset, take
from memae_tf.data.images import files_in, image_featurizer, open_files
from memae_tf.errors import UserError


def load(config: ImageFolderData, seed: int) -> Dataset:
    """Reads a folder of images.

    Images of every folder in `test` but the normal one are anomalies. Without `test`, all images
    train and nothing is evaluated.

    Raises:
        UserError: If a folder is missing or empty, a file damaged, or `data.size` is needed.
    """
    root = config.dir
    if not root.is_dir():
        raise UserError(f"data.dir={root}: there is no such folder")
    train_paths = files_in(root / "train" / config.normal)
    if not train_paths:
        raise _nothing_to_train_on(root, config.normal)
    normal = files_in(root / "test" / config.normal)
    defects = [
        path
        for folder in sorted((root / "test").glob("*/"))
        if folder.name != config.normal and not folder.name.startswith(".")
        for path in files_in(folder)
    ]
    has_test = (root / "test").is_dir()
    if has_test and not (normal and defects):
        raise UserError(
            f"{root}: test/ should have images in {config.normal}/ and in at least one other "
            f"folder; it has {len(normal)} normal images and {len(defects)} anomalies"
        )
    files = open_files([*train_paths, *normal, *defects], str(root))
    train = take(files, slice(len(train_paths)))
    if config.max_images is not None:
        order = np.random.default_rng(seed).permutation(len(train))
        train = take(train, np.sort(order[: config.max_images]))
    return Dataset(
        name=root.resolve().name,
        protocol="given" if has_test else "unlabelled",
        simulated=False,
        featurizer=image_featurizer(config, train, str(root / "train")),
        train=train,
        test=take(files, slice(len(train_paths), None)) if has_test else None,
        labels=np.repeat([0, 1], [len(normal), len(defects)]) if has_test else None,
        threshold="train_quantile",
    )


def _nothing_to_train_on(root: Path, normal: str) -> UserError:
    """An error that says where there are images instead."""
    others = [
        f"train/{folder.name}/"
        for folder in sorted((root / "train").glob("*/"))
        if files_in(folder)
    ]
    there = f"images are in {', '.join(others)}; " if others else ""
    return UserError(
        f"{root}: has no images in train/{normal}/, which should hold the normal ones to train on; "
        f"{there}set data.normal if they are in another folder"
    )
