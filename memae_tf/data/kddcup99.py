"""KDDCUP99, the 10 percent set of 494,021 connection records, through scikit-learn.

As in the literature on anomaly detection, the attacks (80%) are the normal class and the
connections labelled `normal.` the anomalies.
"""

import socket
import urllib.error
import warnings
from functools import lru_cache
from pathlib import Path

import numpy as np

from memae_tf.config import KDDCup99Data
from memae_tf.data import simulated_traffic, splits
from memae_tf.data.data_folder import data_folder
from memae_tf.data.dataset import Dataset, Records, take
from memae_tf.errors import UserError
from memae_tf.layers import RecordFeaturizer

CATEGORICAL = (
    "protocol_type",
    "service",
    "flag",
    "land",
    "logged_in",
    "is_host_login",
    "is_guest_login",
)
ANOMALY_LABEL = "normal."
# The threshold that each protocol's paper evaluates at.
PROTOCOL_THRESHOLDS = {"dagmm": "top_ratio", "goad": "true_ratio"}
# The set's folder within that of scikit-learn's loaders.
CACHE = "kddcup99_10-py3"
DOWNLOAD_TIMEOUT = 30.0  # seconds without a byte


def load(config: KDDCup99Data, seed: int) -> Dataset:
    """Loads the records and splits them by the configuration's protocol.

    Raises:
        UserError: If the data are damaged, or not available and `fallback` is "none".
    """
    records, label_names, simulated = _load_records(config)
    if config.max_records is not None:
        rng = np.random.default_rng(seed)
        part = rng.permutation(len(label_names))[: config.max_records]
        records, label_names = take(records, part), label_names[part]
    labels = (label_names == ANOMALY_LABEL).astype("int64")
    train, test = getattr(splits, config.protocol)(labels, seed)
    if len(train) == 0 or len(np.unique(labels[test])) < 2:
        raise UserError(
            f"data.max_records={config.max_records}: too few to have attacks and normal "
            "connections on both sides of the split; take 100 or more"
        )
    train_records = take(records, train)
    featurizer = RecordFeaturizer(
        numeric=[name for name in records if name not in CATEGORICAL],
        categorical=CATEGORICAL,
        scaling=config.scaling,
        clip=config.clip,
    )
    featurizer.adapt(train_records)
    return Dataset(
        name="kddcup99",
        protocol=config.protocol,
        simulated=simulated,
        featurizer=featurizer,
        train=train_records,
        test=take(records, test),
        labels=labels[test],
        threshold=PROTOCOL_THRESHOLDS[config.protocol],
    )


def _load_records(config: KDDCup99Data) -> tuple[Records, np.ndarray, bool]:
    """The records, their class names, and whether they are simulated."""
    try:
        return *fetch(data_folder(config.dir, "scikit_learn_data", CACHE)), False
    except DataUnavailableError as error:
        if config.fallback == "none":
            raise UserError(
                f"data: KDDCUP99 is not on this machine and cannot be downloaded ({error}); put it "
                "into data.dir or $MEMAE_DATA_DIR as scikit_learn_data/, or allow "
                "data.fallback=simulated"
            ) from None
        warnings.warn(
            f"KDDCUP99 is not available ({error}): continuing with SIMULATED traffic, so the "
            "metrics are not results; data.fallback=none forbids this",
            stacklevel=2,
        )
        return *simulated_traffic.sample(), True


class DataUnavailableError(Exception):
    """The set is neither on this machine nor can it be downloaded."""


@lru_cache(maxsize=1)
def fetch(data_home: str | None) -> tuple[Records, np.ndarray]:
    """The records and class names through `sklearn.datasets.fetch_kddcup99`.

    Raises:
        DataUnavailableError: If the set is not there and the download fails.
        UserError: If the file that is there is damaged.
    """
    from sklearn.datasets import fetch_kddcup99, get_data_home

    try:
        folder = Path(get_data_home(data_home)) / CACHE
    except OSError as error:
        raise DataUnavailableError(f"{error.filename}: {error.strerror}") from None
    archive = folder / "kddcup99_10_data"
    had_archive = archive.exists()
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        with warnings.catch_warnings():
            # A damaged archive is downloaded anew; if that fails, the error below says so.
            warnings.simplefilter("ignore")
            bunch = fetch_kddcup99(data_home=data_home, percent10=True, n_retries=1)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        if had_archive:
            raise UserError(
                f"{archive}: is damaged or cut off (its checksum is wrong); replace or delete it"
            ) from None
        raise DataUnavailableError(getattr(error, "reason", error)) from None
    except OSError as error:
        if "cache for fetch_kddcup99 is invalid" in str(error):
            raise UserError(
                f"{folder}: its files are damaged or cut off; delete the folder and start again"
            ) from None
        raise UserError(f"{folder}: {error.strerror or error}") from None
    finally:
        socket.setdefaulttimeout(timeout)
    records = {
        name: _typed(bunch.data[:, column]) for column, name in enumerate(bunch.feature_names)
    }
    return records, _typed(bunch.target)


def _typed(column: np.ndarray) -> np.ndarray:
    """A column of Python objects as float32, or as str where it holds bytes."""
    if isinstance(column[0], bytes):
        return np.array([value.decode() for value in column], dtype=object)
    return column.astype("float32")
