"""The digits that scikit-learn has, as a set of TensorFlow Datasets; and MNIST, where it is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from memae_tf.config import TFDSData
from memae_tf.data import tfds as source
from memae_tf.data.dataset import count
from memae_tf.errors import UserError

tfds = pytest.importorskip("tensorflow_datasets")
CLASSES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def digits() -> tuple[np.ndarray, np.ndarray]:
    data = load_digits()
    return (data.images[..., None] * 15.9).astype("uint8"), data.target


def store(root: Path, name: str, features: dict, splits: dict) -> Path:
    folder = root / "tensorflow_datasets"
    builder = tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="1.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets={key: list(enumerate(rows)) for key, rows in splits.items()},
        data_dir=str(folder),
    )
    assert builder is not None
    return root


def rows(images, labels):
    return [
        {"image": image, "label": int(label)} for image, label in zip(images, labels, strict=True)
    ]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data")
    images, labels = digits()
    label = tfds.features.ClassLabel(names=CLASSES)
    image = tfds.features.Image(shape=(8, 8, 1))
    both = {"train": rows(images[:1200], labels[:1200]), "test": rows(images[1200:], labels[1200:])}
    store(path, "digits", {"image": image, "label": label}, both)
    store(path, "one_split", {"image": image, "label": label}, {"train": both["train"][:200]})
    rng = np.random.default_rng(0)
    mixed = [
        {"image": rng.integers(0, 256, (6 + i % 3, 7, 3), "uint8"), "label": i % 2}
        for i in range(30)
    ]
    store(
        path,
        "mixed",
        {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(num_classes=2)},
        {"train": mixed},
    )
    store(
        path,
        "numbers",
        {"image": tfds.features.Scalar(np.int64), "label": label},
        {"train": [{"image": np.int64(1), "label": 0}]},
    )
    return path


def load(root, dataset="digits", seed=0, **settings):
    settings = {"normal": 3, **settings}
    return source.load(TFDSData(name="tfds", dataset=dataset, dir=root, **settings), seed)


def as_set(images) -> list[bytes]:
    return sorted(image.tobytes() for image in images)


def test_one_class_splits_the_normal_images_two_to_one_and_adds_anomalies(root):
    images, labels = digits()
    threes = int((labels == 3).sum())
    dataset = load(root, anomaly_share=0.4)
    tests = round(threes / 3)
    assert count(dataset.train) == threes - tests
    assert (dataset.labels == 0).sum() == tests
    assert dataset.labels.mean() == pytest.approx(0.4, abs=0.01)
    normal = [*dataset.train, *dataset.test[dataset.labels == 0]]
    assert as_set(normal) == as_set(images[labels == 3])
    others = {image.tobytes() for image in images[labels != 3]}
    assert all(image.tobytes() in others for image in dataset.test[dataset.labels == 1])
    assert (dataset.name, dataset.protocol) == ("digits", "one_class")
    assert dataset.featurizer.feature_shape == (8, 8, 1)


def test_full_test_keeps_the_set_s_own_splits(root):
    images, labels = digits()
    dataset = load(root, protocol="full_test")
    assert as_set(dataset.train) == as_set(images[:1200][labels[:1200] == 3])
    assert as_set(dataset.test) == as_set(images[1200:])
    np.testing.assert_array_equal(np.bincount(dataset.labels), np.bincount(labels[1200:] != 3))
    with pytest.raises(UserError, match="has no split 'test'"):
        load(root, "one_split", protocol="full_test")


def test_validation_never_sees_the_test_split(root):
    images, labels = digits()
    dataset = load(root, protocol="validation")
    assert count(dataset.train) + (dataset.labels == 0).sum() == (labels[:1200] == 3).sum()
    held_back = {image.tobytes() for image in images[1200:]} - {
        image.tobytes() for image in images[:1200]
    }
    assert not any(image.tobytes() in held_back for image in [*dataset.train, *dataset.test])


def test_seeds_differ_and_repeat(root):
    a, b, c = (load(root, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a.train, b.train)
    np.testing.assert_array_equal(a.test, b.test)
    assert as_set(a.train) != as_set(c.train)


def test_max_images_leaves_the_test_set(root):
    part, whole = load(root, max_images=20), load(root)
    assert count(part.train) == 20
    np.testing.assert_array_equal(part.test, whole.test)


def test_classes_have_names_and_numbers(root):
    np.testing.assert_array_equal(load(root, normal="three").test, load(root, normal=3).test)
    with pytest.raises(UserError, match=r"no class 'thre'; it has zero, .*did you mean 'three'\?"):
        load(root, normal="thre")
    with pytest.raises(UserError, match="no class '10'"):
        load(root, normal=10)


def test_images_of_several_sizes_need_a_size(root):
    with pytest.raises(UserError, match=r"have 3 sizes, from 6x7 to 8x7; set data.size="):
        load(root, "mixed", normal=0)
    dataset = load(root, "mixed", normal=0, size=[8, 6])
    assert dataset.featurizer.feature_shape == (8, 6, 3)
    assert {image.shape for image in dataset.train} <= {(6, 7, 3), (7, 7, 3), (8, 7, 3)}


def test_sets_that_are_none_are_named(root):
    with pytest.raises(UserError, match=r"has no set 'mnits'; did you mean .*mnist"):
        load(root, "mnits")
    with pytest.raises(UserError, match="numbers: is not a set of images with one label each"):
        load(root, "numbers")
    with pytest.raises(UserError, match="there is no such folder"):
        load(root / "nowhere")


def test_damaged_files_are_named(root, tmp_path):
    shutil.copytree(root / "tensorflow_datasets", tmp_path / "tensorflow_datasets")
    for file in (tmp_path / "tensorflow_datasets" / "digits").rglob("*train*tfrecord*"):
        file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"digits/1\.0\.0: is damaged or cut off"):
        load(tmp_path)


def test_mnist():
    root = os.environ.get("MEMAE_DATA_DIR")
    if not root or not (Path(root) / "tensorflow_datasets" / "mnist").is_dir():
        pytest.skip("needs MNIST in $MEMAE_DATA_DIR")
    dataset = load(None, "mnist", normal=8)
    # 6,825 eights in all 70,000 digits.
    assert count(dataset.train) == 6825 - 2275
    assert np.bincount(dataset.labels).tolist() == [2275, 975]
    assert dataset.featurizer.feature_shape == (28, 28, 1)


def test_packages_that_do_not_go_together_are_named(tmp_path):
    """TensorFlow Datasets would be an empty module."""
    (tmp_path / "tensorflow_metadata").mkdir()
    (tmp_path / "tensorflow_metadata" / "__init__.py").write_text("raise ValueError('too new')")
    code = "from memae_tf.data.tfds import fetch; fetch('mnist', None)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stderr.splitlines()[-1] == (
        "memae_tf.errors.UserError: data.name=tfds: the package tensorflow-datasets does not work "
        "here (too new)"
    )
