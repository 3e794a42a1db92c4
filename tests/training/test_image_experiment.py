"""Whole experiments on images: scikit-learn's digits in a folder, ones normal, others not."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reports import pictures
from sklearn.datasets import load_digits

from memae_tf.config import parse_config
from memae_tf.errors import UserError
from memae_tf.layers import image_featurizer
from memae_tf.models import MemAE, build_memae, load_detector
from memae_tf.serving.export import manifest
from memae_tf.serving.export.publication import publish, read_source
from memae_tf.training.experiment import evaluate, train
from memae_tf.training.run_directory import RunDirectory

NORMAL = 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """120 zeros to train on; 58 zeros and 60 other digits to test."""
    root = tmp_path_factory.mktemp("digits")
    data = load_digits()
    images = (data.images * 15.9).astype("uint8")
    zeros, others = images[data.target == NORMAL], images[data.target != NORMAL][:60]
    for kind, part in (
        ("train/normal", zeros[:120]),
        ("test/normal", zeros[120:]),
        ("test/other", others),
    ):
        (root / kind).mkdir(parents=True)
        for number, image in enumerate(part):
            Image.fromarray(image).save(root / kind / f"{number:03}.png")
    return root


@pytest.fixture(scope="module")
def config(folder):
    return parse_config(
        {
            "data": {"name": "image_folder", "dir": str(folder)},
            "model": {
                "name": "conv2d",
                "filters": [8, 16],
                "kernels": [3, 3],
                "strides": [2, 2],
                "code": 8,
                "memory": {"num_slots": 20},
            },
            "training": {"epochs": 8, "batch_size": 16, "learning_rate": 0.01},
        }
    )


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    run = RunDirectory(tmp_path_factory.mktemp("runs") / "digits")
    metrics = train(config, run)
    assert json.loads(run.metrics.read_text()) == metrics
    return run


def test_other_digits_are_anomalies(run):
    metrics = json.loads(run.metrics.read_text())
    # Untrained, it is about 0.6.
    assert metrics["roc_auc"] > 0.95
    assert (metrics["train_records"], metrics["test_records"]) == (120, 118)
    assert metrics["threshold_name"] == "train_quantile"


def test_detector_takes_pictures_of_any_kind(run, folder):
    detector = load_detector(run.detector)
    files = [sorted((folder / kind).iterdir())[0] for kind in ("train/normal", "test/other")]
    images = [np.asarray(Image.open(file)) for file in files]
    answer = detector.detect(images, explain=True)
    assert answer["heat_map"].shape == (2, 8, 8)
    assert answer["score"][1] > answer["score"][0]
    # Four times the size and in colour, it is nearly the same picture.
    large = [
        np.asarray(Image.open(file).convert("RGB").resize((32, 32), Image.Resampling.BICUBIC))
        for file in files
    ]
    np.testing.assert_allclose(detector.score(large), answer["score"], rtol=0.3)


def test_report_and_tensorboard_show_images(run):
    titles = pictures(run.report)
    assert "Anomalies with the highest scores" in titles
    assert "Normal images with the highest scores" in titles
    assert "What slots decode to, and their share of the use" in titles
    (events,) = run.tensorboard.glob("events.out.tfevents.*")
    content = events.read_bytes()
    assert b"reconstruction/worst" in content
    assert b"memory/slots" in content


def test_evaluate_gives_the_same_figures(run, config):
    before = json.loads(run.metrics.read_text())
    after = evaluate(config, run)
    assert after["roc_auc"] == pytest.approx(before["roc_auc"], abs=1e-6)
    assert after["threshold"] == pytest.approx(before["threshold"], rel=1e-5)


def test_export_says_what_it_is(run, tmp_path):
    pytest.importorskip("tensorflow_serving.apis")
    content = manifest.verify(publish(read_source(run.path), tmp_path))
    assert content["metrics"] == json.loads(run.metrics.read_text())
    assert content["config"]["data"]["name"] == "image_folder"
    assert content["input"] == {
        "kind": "images",
        "formats": ["JPEG", "PNG"],
        "size": [8, 8],
        "channels": 1,
        "offset": [0.0],
        "scaling": "unit",
        "spread": [255.0],
    }


def test_large_held_out_sets_are_in_a_file_and_scored_in_modest_batches(
    config, tmp_path, monkeypatch
):
    scored, score = [], MemAE.score

    def noted(model, x, batch_size=1024):
        scored.append((type(x), len(x), batch_size))
        return score(model, x, batch_size)

    monkeypatch.setattr(MemAE, "score", noted)
    monkeypatch.setattr(image_featurizer, "BATCH_IMAGES", 7)
    keys = ["training.epochs=1", "training.validation_share=0.1"]
    losses = []
    for megabytes, kind in ((1024, np.ndarray), (0, np.memmap)):
        own = [*keys, f"training.resident_mb={megabytes}"]
        run = RunDirectory(tmp_path / kind.__name__)
        train(parse_config(config.model_dump(mode="json"), own), run)
        # The last ones are training data, by which a training is diagnosed.
        assert scored == [(kind, 7, 7), (kind, 5, 7), (np.ndarray, 120, 7)]
        scored.clear()
        losses.append(json.loads(run.history.read_text())[0]["validation_loss"])
    assert losses[0] == losses[1]


def test_network_of_another_kind_is_refused(config, tmp_path):
    raw = {**config.model_dump(mode="json"), "model": {"name": "dense"}}
    message = r"name=dense takes .* 1 axis, .*\(8, 8, 1\); these are images, for name=conv2d"
    with pytest.raises(UserError, match=message):
        train(parse_config(raw), RunDirectory(tmp_path / "run"))
    message = r"name=conv2d takes samples of 3 axes, .*\(56,\); these are records, for name=dense"
    with pytest.raises(UserError, match=message):
        build_memae(config.model, (56,))
