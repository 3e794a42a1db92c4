import errno
import importlib.metadata
import json
import os
import re
import sys

import numpy as np
import pytest
import tensorflow as tf
from small_detectors import traffic_detector

import memae_tf
from memae_tf import pretrained
from memae_tf.errors import UserError
from memae_tf.serving.export import manifest, publication, saved_model, warmup
from memae_tf.serving.export.publication import (
    Source,
    free_version,
    how_to_serve,
    publish,
    read_source,
)


@pytest.fixture(scope="module")
def source():
    # Without a memory, whose graph is most of the time that an export takes.
    return Source(traffic_detector(memory=False))


@pytest.fixture(scope="module")
def published(source, tmp_path_factory):
    return publish(source, tmp_path_factory.mktemp("publication") / "traffic" / "models")


def paths(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_version_is_whole(published, source):
    assert published.name == "1"
    assert [path.name for path in published.parent.iterdir()] == ["1"]
    content = manifest.verify(published)
    assert set(content["files"]) | {str(manifest.MANIFEST)} == {
        path for path in paths(published) if (published / path).is_file()
    }
    assert content["config"] is content["metrics"] is None
    assert content["threshold"] == 30
    assert content["versions"]["tensorflow"] == tf.__version__
    assert content["input"]["kind"] == "records"
    assert list(content["input"]["fields"]) == source.detector.field_names
    assert content["input"]["feature_names"] == source.detector.featurizer.feature_names
    signature = content["signatures"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["flag"] == {"dtype": "string", "shape": [None]}
    assert signature["outputs"]["is_anomaly"] == {"dtype": "int64", "shape": [None]}
    warmup.replay(published)


def test_example_request_is_one_that_rest_takes(published, source):
    (instance,) = json.loads((published / publication.EXAMPLE).read_text())["instances"]
    assert set(instance) == set(source.detector.field_names)
    model = tf.saved_model.load(str(published)).signatures["serving_default"]
    answer = model(**{name: tf.constant([value]) for name, value in instance.items()})
    expected = warmup.replay(published)["serving_default"]["score"][:1]
    np.testing.assert_allclose(answer["score"].numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("taken", "version", "expected"),
    [
        ([], None, 1),
        (["2", "00007", "seven", ".partial-1-9", "-3", "٣"], None, 8),
        (["2"], 1, 1),
    ],
)
def test_free_version(tmp_path, taken, version, expected):
    for name in taken:
        (tmp_path / name).mkdir()
    assert free_version(tmp_path, version) == expected


@pytest.mark.parametrize(
    ("version", "fragment"),
    [
        (7, "00007: already exists; choose another --version, or give none"),
        (0, "--version 0: should be from 1 to 9223372036854775807"),
        (2**63, "--version 9223372036854775808: should be"),
    ],
)
def test_version_that_cannot_be_had(tmp_path, version, fragment):
    (tmp_path / "00007").mkdir()
    with pytest.raises(UserError, match=fragment):
        free_version(tmp_path, version)


def fail(error):
    def function(*_, **__):
        raise error

    return function


@pytest.mark.parametrize("base", ["models", "new/models"])
def test_what_fails_leaves_nothing(source, tmp_path, monkeypatch, base):
    (tmp_path / "models" / "1").mkdir(parents=True)
    before = paths(tmp_path)
    monkeypatch.setattr(warmup, "replay", fail(tf.errors.InvalidArgumentError(None, None, "bad")))
    with pytest.raises(tf.errors.InvalidArgumentError):
        publish(source, tmp_path / base)
    assert paths(tmp_path) == before


@pytest.mark.parametrize(
    "full",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        tf.errors.ResourceExhaustedError(None, None, "/models/x; No space left on device"),
    ],
    ids=["system", "tensorflow"],
)
def test_full_disk_is_one_line_and_leaves_nothing(source, tmp_path, monkeypatch, full):
    monkeypatch.setattr(saved_model, "save", fail(full))
    with pytest.raises(UserError, match=r"models: cannot be written \(No space left on device\)"):
        publish(source, tmp_path / "models")
    assert paths(tmp_path) == []
    # It is not the other file's fault.
    pytest.importorskip("tf2onnx")
    with pytest.raises(UserError, match=r"models: cannot be written"):
        publish(source, tmp_path / "models", onnx_file=tmp_path / "detector.onnx")
    assert paths(tmp_path) == []


@pytest.fixture
def someone_else(tmp_path, monkeypatch):
    """Publishes version 1 while another is being written."""
    replay = warmup.replay

    def meanwhile(directory):
        (tmp_path / "1").mkdir()
        (tmp_path / "1" / "saved_model.pb").write_text("theirs")
        return replay(directory)

    monkeypatch.setattr(warmup, "replay", meanwhile)


def test_version_that_someone_else_publishes_meanwhile_stays(source, tmp_path, someone_else):
    with pytest.raises(UserError, match="1: already exists"):
        publish(source, tmp_path, version=1)
    assert paths(tmp_path) == ["1", "1/saved_model.pb"]


def test_next_version_is_that_after_those_published_meanwhile(source, tmp_path, someone_else):
    assert publish(source, tmp_path) == tmp_path / "2"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]
    assert paths(tmp_path / "1") == ["saved_model.pb"]
    manifest.verify(tmp_path / "2")


def test_onnx_file_appears_with_the_version_only(source, tmp_path, monkeypatch):
    pytest.importorskip("tf2onnx")
    file = tmp_path / "detector.onnx"
    publish(source, tmp_path / "models", onnx_file=file)
    written = file.read_bytes()
    monkeypatch.setattr(warmup, "replay", fail(RuntimeError("bad")))
    with pytest.raises(RuntimeError, match="bad"):
        publish(source, tmp_path / "models", onnx_file=file)
    assert file.read_bytes() == written
    assert sorted(path.name for path in tmp_path.iterdir()) == ["detector.onnx", "models"]


def test_without_the_onnx_file_there_is_no_version(source, tmp_path):
    pytest.importorskip("tf2onnx")
    taken = tmp_path / "detector.onnx"
    taken.mkdir()
    with pytest.raises(UserError, match=r"detector\.onnx: is a folder; it should be a file"):
        publish(source, tmp_path / "models", onnx_file=taken)
    missing = tmp_path / "none" / "detector.onnx"
    with pytest.raises(UserError, match=r"cannot be written \(there is no folder"):
        publish(source, tmp_path / "models", onnx_file=missing)
    assert [path.name for path in tmp_path.rglob("*") if path.name.isdigit()] == []


def test_missing_protocol_is_named(source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis.prediction_log_pb2", None)
    with pytest.raises(UserError, match=r"tensorflow-serving-api .*pip install .*\[serving\]"):
        publish(source, tmp_path / "models")
    assert paths(tmp_path) == []


def test_detector_file_is_a_source(source, tmp_path):
    source.detector.save(tmp_path / "detector.keras")
    again = read_source(tmp_path / "detector.keras")
    assert again.detector.field_names == source.detector.field_names
    assert again.config is again.metrics is None


def test_detector_of_the_package_is_hinted_at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hint = f"; the detector of the package is {pretrained.directory('kddcup99')}"
    with pytest.raises(UserError, match=f"kddcup99: there is no such .*{re.escape(hint)}$"):
        read_source("kddcup99")
    with pytest.raises(UserError, match=r"or detector$"):
        read_source("kdd")


def test_lines_that_serve_are_quoted(tmp_path):
    text = how_to_serve(tmp_path / "my model:s" / "3")
    assert f"'{tmp_path.resolve()}/my model:s'" in text
    assert f"memae_tf.serve 'my_model_s={tmp_path.resolve()}/my model:s'" in text
    assert "--model_name=my_model_s " in text
    assert "http://localhost:8501/v1/models/my_model_s:predict" in text
    assert f"@'{tmp_path.resolve()}/my model:s/3/assets.extra/example_request.json'" in text


def test_an_uninstalled_checkout_knows_its_version(monkeypatch):
    version = importlib.metadata.version

    def others(name):
        if name == "memae_tf":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", others)
    assert publication._versions()["memae_tf"] == memae_tf.__version__
