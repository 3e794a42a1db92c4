"""The detectors that come with the package."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from memae_tf import UserError, load_pretrained, pretrained, score
from memae_tf.config import load_config
from memae_tf.data import simulated_traffic

ROOT = Path(__file__).parents[1]
# Of serving/examples/explain.json, as docs/serving.md shows them.
SCORES = [0.00151425, 17.6557, 17.0189]
TOP_FIELDS = ["src_bytes", "dst_host_srv_count", "hot"]
FILES = {"detector.keras", "config.yaml", "metrics.json", "README.md"}


def test_eights_of_another_source_are_told_apart():
    """scikit-learn's digits, with the margin that those of MNIST have."""
    data = load_digits()
    images = np.pad((15.9 * data.images).astype("uint8"), ((0, 0), (1, 1), (1, 1)))
    answer = load_pretrained("mnist").detect(images)
    assert roc_auc_score(data.target != 8, answer["score"]) > 0.85
    assert answer["is_anomaly"][data.target == 8].mean() < 0.1


def test_cart_is_found_in_real_footage(tmp_path):
    """Test clip 004 of Ped2: a cart and a cyclist from frame 30 on, counted from 0."""
    folder = Path(os.environ.get("MEMAE_DATA_DIR", "none")) / "UCSD_Anomaly_Dataset.v1p2"
    if not folder.is_dir():
        pytest.skip("needs UCSD Ped2 in $MEMAE_DATA_DIR")
    out = tmp_path / "scores.csv"
    score.main(["ped2", str(folder / "UCSDped2" / "Test" / "Test004"), "-o", str(out)])
    table = pd.read_csv(out)
    abnormal = table["frame"] >= 30
    assert roc_auc_score(abnormal, table["score"]) > 0.98
    assert table["is_anomaly"][~abnormal].sum() == 0
    assert table["is_anomaly"][abnormal].mean() > 0.7


def test_noise_is_no_walkway():
    """What any footage shows, without the real one."""
    # Smooth, as a floor is, but no walkway either.
    ramp = np.broadcast_to(np.linspace(60, 180, 64), (1, 16, 64, 64)).astype("uint8")
    noise = np.random.default_rng(0).integers(0, 256, (1, 16, 64, 64), "uint8")
    scores = [load_pretrained("ped2").score(clips)[0] for clips in (ramp, noise)]
    assert scores[1] > 0.4
    assert scores[1] > 3 * scores[0]


def test_each_has_its_files_and_a_configuration_that_is_still_valid():
    assert pretrained.names() == ["kddcup99", "mnist", "ped2"]
    for name in pretrained.names():
        folder = pretrained.directory(name)
        assert {path.name for path in folder.iterdir()} == FILES
        assert (folder / "detector.keras").stat().st_size < 1e6
        load_config(folder / "config.yaml")
        assert json.loads((folder / "metrics.json").read_text())["simulated"] is False


def test_unknown_name():
    with pytest.raises(UserError, match=r"^cifar: there is .*; there are kddcup99, mnist, ped2$"):
        load_pretrained("cifar")
    with pytest.raises(UserError, match="there is no such"):
        load_pretrained("../pretrained/kddcup99")


@pytest.fixture(scope="module")
def detector():
    return load_pretrained("kddcup99")


@pytest.mark.parametrize("name", pretrained.names())
def test_card_and_metrics_are_those_of_the_detector(name):
    detector, folder = load_pretrained(name), pretrained.directory(name)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert float(detector.threshold.numpy()) == np.float32(metrics["threshold"])
    card = (folder / "README.md").read_text()
    assert f"{(folder / 'detector.keras').stat().st_size:,} bytes" in card
    assert f"{detector.model.count_params() / 1000:.0f} thousand weights" in card
    for figure in ("roc_auc", "average_precision", "precision", "recall", "f1"):
        assert f"{metrics[figure]:.4f}" in card, figure


def test_simulated_traffic_is_told_apart(detector):
    records, labels = simulated_traffic.sample(4000, seed=3)
    regular, answer = labels == "normal.", detector.detect(records)
    assert roc_auc_score(regular, answer["score"]) > 0.97
    # With other weights the scores keep some order, regular traffic being the more varied, but
    # attacks are no longer rebuilt and all are flagged.
    assert answer["is_anomaly"][regular].mean() > 0.99
    assert answer["is_anomaly"][~regular].mean() < 0.3


def test_records_of_the_documentation(detector):
    """Real ones: the middle of a flood, its beginning, a regular connection."""
    records = json.loads((ROOT / "serving" / "examples" / "explain.json").read_text())["instances"]
    answer = detector.detect(records, explain=True)
    np.testing.assert_allclose(answer["score"], SCORES, rtol=1e-3)
    order = np.argsort(-answer["field_error"], axis=1)
    top = [detector.field_names[index] for index in order[:, 0]]
    assert top == TOP_FIELDS


@pytest.mark.parametrize("name", pretrained.names())
def test_oldest_keras_reads_it(name):
    """Keras of the file's own release, and later, reads it; so that is to be no later than ours."""
    requirements = (ROOT / "requirements.txt").read_text()
    with zipfile.ZipFile(pretrained.directory(name) / "detector.keras") as file:
        release = json.loads(file.read("metadata.json"))["keras_version"]
    oldest = re.search(r"^keras>=(.+)$", requirements, re.MULTILINE)[1]
    assert numbers(release)[:2] <= numbers(oldest)


def numbers(release):
    return [int(number) for number in release.split(".")]


def test_wheel_contains_them(tmp_path):
    for name in (
        *("memae_tf", "setup.py", "pyproject.toml", "requirements.txt", "README.md"),
        *("MANIFEST.in", "CHANGELOG.md"),
    ):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)

    def python(command):
        subprocess.run([sys.executable, *command.split()], cwd=tmp_path, check=True, timeout=120)

    # Of the source distribution: it, too, has to have all.
    python("setup.py -q sdist")
    (source,) = (tmp_path / "dist").iterdir()
    python(f"-m pip wheel -q {source} --no-deps --no-build-isolation --no-index -w wheels")
    (wheel,) = (tmp_path / "wheels").iterdir()
    files = zipfile.ZipFile(wheel).namelist()
    for name in pretrained.names():
        for path in FILES:
            assert f"memae_tf/pretrained/{name}/{path}" in files
