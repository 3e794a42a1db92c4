import json
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from memae_tf.config import TrainingConfig, parse_config
from memae_tf.console import summary
from memae_tf.errors import UserError
from memae_tf.models import MemAE, load_detector
from memae_tf.training import fit
from memae_tf.training.experiment import train
from memae_tf.training.run_directory import RunDirectory
from memae_tf.training.trainer import Progress, best_epoch, is_over
from memae_tf.training.training_health import diagnose_training


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    rng = np.random.default_rng(0)
    normal = pd.DataFrame(
        {"x": rng.normal(0, 1, 300), "y": rng.normal(0, 1, 300), "word": "a", "label": "normal"}
    )
    normal.loc[::3, "word"] = "b"
    odd = pd.DataFrame(
        {"x": rng.normal(9, 1, 60), "y": rng.normal(-9, 1, 60), "word": "c", "label": "odd"}
    )
    path = tmp_path_factory.mktemp("data") / "records.csv"
    pd.concat([normal, odd]).to_csv(path, index=False)
    return parse_config(
        {
            "data": {"name": "tabular", "train": str(path), "label": "label"},
            "model": {"name": "dense", "hidden": [8], "memory": {"num_slots": 6}},
            "training": {"epochs": 6, "batch_size": 32, "learning_rate": 0.01},
        }
    )


@dataclass
class Run:
    """A run that nothing interrupted: its directory, metrics and progress."""

    directory: RunDirectory
    metrics: dict
    progress: list[Progress]

    def weights(self):
        return load_detector(self.directory.detector).get_weights()


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    progress: list[Progress] = []
    directory = RunDirectory(tmp_path_factory.mktemp("whole") / "run")
    return Run(directory, train(config, directory, progress.append), progress)


def losses(run):
    return [entry["loss"] for entry in json.loads(run.history.read_text())]


def test_metrics_report_and_detector(whole):
    run, metrics, seen = whole.directory, whole.metrics, whole.progress
    assert metrics["roc_auc"] > 0.99
    assert json.loads(run.metrics.read_text()) == metrics
    assert metrics["train_records"] == 150
    assert (metrics["test_records"], metrics["test_anomalies"]) == (210, 60)
    assert metrics["thresholds"]["best_f1"]["oracle"]
    assert metrics["thresholds"]["best_f1"]["f1"] >= metrics["f1"]
    assert (seen[-1].epoch, seen[-1].step) == (6, seen[-1].steps)
    history = json.loads(run.history.read_text())
    assert [entry["epoch"] for entry in history] == [1, 2, 3, 4, 5, 6]
    assert history[-1]["loss"] < history[0]["loss"]

    detector = load_detector(run.detector)
    assert float(detector.threshold.numpy()) == pytest.approx(metrics["threshold"])
    odd = detector.detect([{"x": 50.0, "y": 0.0, "word": "a"}], explain=True)
    assert odd["is_anomaly"][0] == 1
    assert detector.field_names[odd["field_error"][0].argmax()] == "x"

    page = run.report.read_text()
    assert "simulated" not in page
    assert page.count("data:image/png;base64,") == 3
    assert any(run.tensorboard.glob("events.out.tfevents.*"))
    assert not list(run.path.glob(".partial*"))


class Gone(BaseException):
    """The end of the process, so far as the run notices."""


def test_lost_run_ends_with_the_weights_of_a_whole_one(config, whole, tmp_path):
    """Killed processes are in tests/integration/test_interruptions.py."""

    def end(progress):
        if (progress.epoch, progress.step) == (4, 4):
            raise Gone

    lost = RunDirectory(tmp_path / "lost")
    with pytest.raises(Gone):
        train(config, lost, end)
    assert not lost.detector.exists()
    assert sorted(path.name[:11] for path in lost.checkpoints.iterdir()) == [
        "epoch-00001",
        "epoch-00002",
        "epoch-00003",
    ]
    resumed: list[Progress] = []
    train(config, lost, resumed.append)
    assert resumed[0].epoch == 4
    for x, y in zip(load_detector(lost.detector).get_weights(), whole.weights(), strict=True):
        np.testing.assert_array_equal(x, y)
    assert losses(lost) == losses(whole.directory)


def test_without_labels_nothing_is_evaluated(config, tmp_path):
    data = {**config.data.model_dump(mode="json"), "label": None, "drop": ["label"]}
    raw = {**config.model_dump(mode="json"), "data": data}
    metrics = train(parse_config(raw, ["training.epochs=1"]), RunDirectory(tmp_path / "run"))
    assert metrics["roc_auc"] is None
    assert metrics["f1"] is None
    assert metrics["threshold_name"] == "train_quantile"
    with pytest.raises(UserError, match="best_f1: needs labelled test data"):
        train(parse_config(raw, ["evaluation.threshold=best_f1"]), RunDirectory(tmp_path / "other"))
    assert not (tmp_path / "other").exists()


def test_early_stopping_keeps_the_best_epoch(config, tmp_path):
    overrides = [
        "training.epochs=40",
        "training.learning_rate=0.1",
        "training.validation_share=0.2",
        "training.early_stopping={patience: 3}",
        "training.keep_checkpoints=1",
    ]
    config = parse_config(config.model_dump(mode="json"), overrides)
    run = RunDirectory(tmp_path / "run")
    metrics = train(config, run)
    history = json.loads(run.history.read_text())
    validation = [entry["validation_loss"] for entry in history]
    best = int(np.argmin(validation)) + 1
    assert len(history) == best + 3 < 40
    names = sorted(path.name[:11] for path in run.checkpoints.iterdir())
    assert names == [f"epoch-{best:05}", f"epoch-{best + 3:05}"]
    assert (metrics["epochs"], metrics["kept_epoch"]) == (best + 3, best)
    assert metrics["final_loss"] == history[best - 1]["loss"]
    assert f"{best + 3} epochs in" in run.report.read_text()
    assert f"epoch {best} was the best and is kept" in run.report.read_text()
    # The weights are those of that epoch: without stopping it would have been the last.
    shorter = parse_config(
        config.model_dump(mode="json"), [f"training.epochs={best}", "training.early_stopping=null"]
    )
    other = RunDirectory(tmp_path / "other")
    train(shorter, other)
    for a, b in zip(
        load_detector(run.detector).get_weights(),
        load_detector(other.detector).get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    # So are the pictures that TensorBoard shows last.
    shown = last_shown(run.tensorboard)
    assert {step for step, _ in shown.values()} == {best}
    assert shown == last_shown(other.tensorboard)


def last_shown(directory: Path) -> dict[str, tuple]:
    """Step and content of the last pictures and tables, by tag."""
    events = EventAccumulator(str(directory), size_guidance={"tensors": 0})
    events.Reload()
    tags = ("addressing/heat_map", "memory/slots", "reconstruction/typical", "reconstruction/worst")
    last = {tag: events.Tensors(tag)[-1] for tag in tags}
    return {tag: (event.step, event.tensor_proto.string_val) for tag, event in last.items()}


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_a_run_whose_first_validation_loss_is_no_number_goes_on(
    config, tmp_path, monkeypatch, loss
):
    overrides = ["training.validation_share=0.2", "training.early_stopping={patience: 5}"]
    config = parse_config(config.model_dump(mode="json"), [*overrides, "training.epochs=3"])
    run = RunDirectory(tmp_path / "run")

    def end(progress):
        if progress.epoch == 2:
            raise Gone

    with monkeypatch.context() as patch:
        patch.setattr(fit, "scorer", lambda *_: lambda: np.array([loss]))
        with pytest.raises(Gone):
            train(config, run, end)
    assert train(config, run)["epochs"] == 3
    first, *others = (entry["validation_loss"] for entry in json.loads(run.history.read_text()))
    assert not np.isfinite(first)
    assert np.isfinite(others).all()


def test_best_epoch_and_the_end_by_hand(config):
    def training(**stopping):
        return TrainingConfig(epochs=9, validation_share=0.1, early_stopping=stopping or None)

    losses = [5.0, 3.0, 2.9, 2.95, 2.85, 4.0]
    history = [
        {"epoch": number, "loss": 9 - number, "validation_loss": loss}
        for number, loss in enumerate(losses, start=1)
    ]
    assert best_epoch([], training()) == 0
    assert best_epoch(history, training()) == 5
    assert best_epoch(history, training(patience=1, min_delta=0.5)) == 2
    assert best_epoch(history, TrainingConfig(epochs=9)) == 6
    assert not is_over(history, training(patience=2))
    assert is_over(history, training(patience=1))
    assert is_over(history, training(patience=4, min_delta=0.5))
    assert not is_over(history, training())
    assert is_over(history, TrainingConfig(epochs=6))


def test_large_sets_stream_to_the_same_weights(config, whole, tmp_path):
    assert config.training.resident_mb > 1
    run = RunDirectory(tmp_path / "run")
    train(parse_config(config.model_dump(mode="json"), ["training.resident_mb=0"]), run)
    for a, b in zip(load_detector(run.detector).get_weights(), whole.weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_collapsed_memory_is_named(config, whole, tmp_path):
    """A dot product and l = 5/N: almost no weight of a flat softmax is kept."""
    overrides = [
        "training.epochs=1",
        "training.learning_rate=1e-5",
        "model.memory={num_slots: 2000, similarity: dot, shrink: 5}",
    ]
    metrics = train(
        parse_config(config.model_dump(mode="json"), overrides), RunDirectory(tmp_path / "run")
    )
    assert metrics["memory"]["live_share"] < 0.1
    assert "the memory has collapsed: only" in metrics["memory"]["diagnosis"]
    assert f"Warning: {metrics['memory']['diagnosis']}" in summary(metrics)
    assert "has collapsed" in (tmp_path / "run" / "report.html").read_text()
    assert whole.metrics["memory"]["diagnosis"] is None
    assert "Warning" not in summary(whole.metrics)


@pytest.mark.parametrize("variant", ["ae", "memae-nonspar"])
def test_other_variants(config, tmp_path, variant):
    raw = config.model_dump(mode="json")
    metrics = train(parse_config(raw, [f"model.variant={variant}"]), RunDirectory(tmp_path / "run"))
    assert metrics["roc_auc"] > 0.99
    assert (metrics["memory"] is None) == (variant == "ae")


def test_whole_file_leaves_the_old_one_when_writing_fails(tmp_path):
    from memae_tf.files import whole_file

    path = Path(tmp_path / "file.json")
    path.write_text("old")

    def fail():
        with whole_file(path) as aside:
            aside.write_text("half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]


def test_a_diverged_training_is_named(config, whole, tmp_path):
    """All numbers are finite, and the loss falls from epoch to epoch."""
    overrides = ["training.learning_rate=100"]
    metrics = train(
        parse_config(config.model_dump(mode="json"), overrides), RunDirectory(tmp_path / "run")
    )
    message = metrics["diagnosis"]
    assert message.startswith("the model has learned nothing: the mean error of training samples")
    assert "a lower training.learning_rate than 100, or more epochs, may help" in message
    assert "\n" not in message
    assert f"Warning: {message}" in summary(metrics)
    assert "has learned nothing" in (tmp_path / "run" / "report.html").read_text()
    assert whole.metrics["diagnosis"] is None


def test_a_loss_that_rose_is_named():
    model = MemAE(keras.layers.Identity(), None, keras.layers.Identity())
    features = np.ones((8, 2), "float32")

    def of(*losses, **training):
        settings = TrainingConfig(epochs=3, learning_rate=0.5, **training)
        entries = [
            {"epoch": n + 1, "loss": loss, "reconstruction": loss} for n, loss in enumerate(losses)
        ]
        return diagnose_training(model, features, entries, settings, 64)

    assert of(2.0, 1.0, 1.3) is None
    assert of(2.0, 1.0, 1.4) == (
        "the training loss rose again, from 1 in epoch 2 to 1.4 in epoch 3; a lower "
        "training.learning_rate than 0.5, or fewer training.epochs, may help"
    )
    # Of what the first epoch has, hardly anything is left.
    assert of(2.0, 0.01, 0.03) is None
    assert of(2.0, 0.01, 0.031).startswith("the training loss rose again, from 0.01 in epoch 2 ")
    assert of(2.0, 1.0, 1.4, early_stopping={"patience": 3}) is None
    assert of(2.0, 1.0, 4.1) == (
        "the training loss rose, from 2 in epoch 1 to 4.1 in epoch 3; a lower "
        "training.learning_rate than 0.5 may help"
    )
    # What is kept is the second epoch.
    assert of(2.0, 1.0, 4.1, early_stopping={"patience": 3}) is None
    repel = {"patch": 0.5, "loss": "repel"}
    assert of(-1.0, -1.0, -1.0, pseudo_anomalies=repel) is None
    assert of(2.0, 1.0, 0.5, pseudo_anomalies=repel) == (
        "the network does not tell the clips that repel from others yet: their errors should bring "
        "the reconstruction loss below 0, and in epoch 3 it is 0.5; more training.epochs, or "
        "larger shares in training.pseudo_anomalies, may help"
    )
