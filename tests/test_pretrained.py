"""The detectors that come with the package."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from memae_tf import UserError, load_pretrained, pretrained
from memae_tf.config import load_config
from memae_tf.data import kddcup99, simulated_traffic
from memae_tf.data.dataset import take

ROOT = Path(__file__).parents[1]
FILES = {"detector.keras", "config.yaml", "metrics.json", "README.md"}


def test_each_has_its_files_and_a_configuration_that_is_still_valid():
    assert pretrained.names() == ["kddcup99"]
    for name in pretrained.names():
        folder = pretrained.directory(name)
        assert {path.name for path in folder.iterdir()} == FILES
        assert (folder / "detector.keras").stat().st_size < 1e6
        load_config(folder / "config.yaml")
        assert json.loads((folder / "metrics.json").read_text())["simulated"] is False


def test_unknown_name():
    with pytest.raises(UserError, match=r"^mnist: there is no such pretrained .* is kddcup99$"):
        load_pretrained("mnist")
    with pytest.raises(UserError, match="there is no such"):
        load_pretrained("../pretrained/kddcup99")


@pytest.fixture(scope="module")
def detector():
    return load_pretrained("kddcup99")


def test_card_and_metrics_are_those_of_the_detector(detector):
    folder = pretrained.directory("kddcup99")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert float(detector.threshold.numpy()) == np.float32(metrics["threshold"])
    card = (folder / "README.md").read_text()
    for figure in ("roc_auc", "average_precision", "precision", "recall", "f1"):
        assert f"{metrics[figure]:.4f}" in card, figure


def test_simulated_traffic_is_told_apart(detector):
    """An untrained detector, and one without its scales, have about 0.5 to 0.9."""
    records, labels = simulated_traffic.sample(4000, seed=3)
    answer = detector.detect(records)
    assert roc_auc_score(labels == "normal.", answer["score"]) > 0.97


def test_real_records_are_told_apart(detector):
    folder = Path(os.environ.get("MEMAE_DATA_DIR", ""), "scikit_learn_data")
    if not (folder / "kddcup99_10-py3").is_dir():
        pytest.skip("KDDCUP99 is not in $MEMAE_DATA_DIR")
    records, labels = kddcup99.fetch(str(folder))
    some = np.random.default_rng(0).permutation(len(labels))[:20_000]
    records, labels = take(records, some), labels[some] == "normal."
    answer = detector.detect(records)
    assert roc_auc_score(labels, answer["score"]) > 0.995
    # The threshold, too: what is flagged is normal traffic, and nearly all of it.
    assert labels[answer["is_anomaly"] == 1].mean() > 0.95
    assert answer["is_anomaly"][labels].mean() > 0.99


def test_wheel_contains_them(tmp_path):
    for name in ("memae_tf", "setup.py", "pyproject.toml", "requirements.txt", "README.md"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    command = "-m pip wheel -q . --no-deps --no-build-isolation --no-index -w wheels"
    subprocess.run([sys.executable, *command.split()], cwd=tmp_path, check=True, timeout=120)
    (wheel,) = (tmp_path / "wheels").iterdir()
    files = zipfile.ZipFile(wheel).namelist()
    for path in FILES:
        assert f"memae_tf/pretrained/kddcup99/{path}" in files
