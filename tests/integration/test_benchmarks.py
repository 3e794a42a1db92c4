"""The benchmarks in benchmarks/, at a size that says nothing about speed.

They take three minutes, and so run where `MEMAE_BENCHMARKS` is set.
"""

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import footage
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
slow = pytest.mark.skipif(
    "MEMAE_BENCHMARKS" not in os.environ, reason="a benchmark; MEMAE_BENCHMARKS=1 runs it"
)
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="PyTorch, the peer, is not installed"
)
needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="runs on JAX, which is not installed"
)


def run(name: str, tmp_path: Path) -> tuple[dict, str]:
    """The JSON file and the printed table of a quick run."""
    file = tmp_path / "results.json"
    result = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / f"{name}.py", "--quick", "--json", file],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    # TensorFlow's messages stay out of the table.
    assert result.stderr == ""
    results = json.loads(file.read_text())
    assert results["machine"]["versions"]["tensorflow"]
    return results, result.stdout


def sane(*values: float) -> bool:
    return all(math.isfinite(value) and value > 0 for value in values)


@slow
@needs_torch
def test_training(tmp_path):
    results, table = run("training", tmp_path)
    (result,) = results["models"].values()
    assert set(result["ratios"]) == {"torch", "fit tf.data", "fit numpy", "limit"}
    assert sane(*result["ratios"].values(), *result["rows_per_second"].values())
    assert "target: 2" in table


@slow
def test_memory_unit(tmp_path):
    results, _ = run("memory_unit", tmp_path)
    assert {row["slots"] for row in results["rows"]} == {50, 4000}
    for row in results["rows"]:
        assert sane(row["seconds"], row["training_seconds"], row["share_of_peak"])
        assert row["bytes"] >= 0


@slow
def test_replicas(tmp_path):
    results, _ = run("replicas", tmp_path)
    (result,) = results["models"].values()
    assert sane(result["speedup"], *result["rows_per_second"].values())


@slow
def test_serving(tmp_path):
    results, table = run("serving", tmp_path)
    assert {row["system"] for row in results["rows"]} == {
        *("direct", "direct encoded", "onnx encoded"),
        *("gRPC", "REST"),
    }
    for row in results["rows"]:
        assert sane(row["p50_ms"], row["p99_ms"], row["rows_per_second"])
        assert row["p50_ms"] <= row["p99_ms"]
    assert sane(*results["ratios"].values())
    assert "target: at least 0.8" in table


@pytest.mark.parametrize("name", ["training", "memory_unit", "replicas", "serving"])
def test_help(name):
    result = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / f"{name}.py", "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "--quick" in result.stdout


@needs_jax
def test_jax_conv3d():
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", ROOT / "tests/integration/conv3d_on_jax.py"],
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "PYTEST_ADDOPTS": "",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3000:]


@pytest.fixture
def elsewhere(tmp_path):
    """The environment of a machine with JAX, but without TensorFlow and PyAV."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import sys\nfor name in ('tensorflow', 'av'):\n    sys.modules[name] = None\n"
    )
    return {"KERAS_BACKEND": "jax", "PYTHONPATH": str(hidden)}


@needs_jax
def test_what_trains_elsewhere_needs_no_tensorflow(elsewhere):
    """The imports of `fit`: the whole of it is below, where there is time."""
    code = """
import memae_tf.config, memae_tf.data.clips, memae_tf.layers, memae_tf.models
import memae_tf.training.clip_samples, memae_tf.training.optimizer
"""
    subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **elsewhere}, cwd=ROOT, check=True
    )


@pytest.fixture(scope="module")
def camera(tmp_path_factory) -> Path:
    """The configuration of a camera folder."""
    root = tmp_path_factory.mktemp("elsewhere")
    config = root / "config.yaml"
    folder = footage.write_camera_folder(root / "camera")
    config.write_text(json.dumps(footage.camera_config(folder)))
    return config


@pytest.fixture
def train_elsewhere():
    """The module."""
    place = ROOT / "benchmarks" / "train_elsewhere.py"
    spec = importlib.util.spec_from_file_location("train_elsewhere", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "override",
    ["training.validation_share=0.2", "training.early_stopping={patience: 3}"],
)
def test_what_only_train_does_is_no_work_for_elsewhere(
    camera, train_elsewhere, monkeypatch, tmp_path, override
):
    words = ["train_elsewhere.py", "pack", str(camera), str(tmp_path / "packed.npz"), override]
    monkeypatch.setattr(sys, "argv", words)
    key = override.split("=")[0]
    with pytest.raises(SystemExit, match=rf"^{key}: is for memae_tf\.train alone"):
        train_elsewhere.main()


def test_what_was_trained_in_low_precision_is_finished_in_it(
    camera, train_elsewhere, monkeypatch, tmp_path
):
    from memae_tf.config import load_config
    from memae_tf.models import build_memae, load_detector

    config = load_config(camera, ["training.precision=mixed_bfloat16", "training.epochs=2"])
    shape = (config.data.clip_length, *config.data.size, 1)
    weights = build_memae(config.model, shape).get_weights()
    losses = {"loss": 1.0, "reconstruction": 1.0, "penalty": 0.0, "learning_rate": 0.1}
    history = [{"epoch": 1, **losses, "seconds": 1.0, "samples_per_second": 9.0}] * 2
    named = {f"weights_{i:03}": value for i, value in enumerate(weights)}
    named["config"] = json.dumps(config.model_dump(mode="json"))
    np.savez(tmp_path / "weights.npz", history=json.dumps(history), **named)
    np.savez(tmp_path / "half.npz", history=json.dumps(history[:1]), **named)
    words = ["train_elsewhere.py", "finish", tmp_path / "weights.npz"]
    words += ["--workdir", tmp_path / "run"]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    train_elsewhere.main()
    words[2] = tmp_path / "half.npz"
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    with pytest.raises(SystemExit, match=r"half\.npz: has 1 of 2 epochs; `fit` goes on"):
        train_elsewhere.main()
    detector = load_detector(tmp_path / "run" / "detector.keras")
    assert detector.model.compute_dtype == "bfloat16"
    for a, b in zip(weights, detector.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@slow
@needs_jax
def test_train_elsewhere(tmp_path, elsewhere):
    """Footage is packed, learned on JAX without TensorFlow, in two goes, and evaluated here.

    What JAX says of each clip is what the finished detector says.
    """
    from memae_tf.config import load_config
    from memae_tf.data import load
    from memae_tf.models import load_detector

    folder = footage.write_camera_folder(tmp_path / "camera")
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(footage.camera_config(folder)))

    def step(*words, status=0, **environment):
        result = subprocess.run(
            [sys.executable, ROOT / "benchmarks" / "train_elsewhere.py", *words],
            env={**os.environ, **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert result.returncode == status, result.stderr
        return result.stderr

    packed, weights = tmp_path / "packed.npz", tmp_path / "weights.npz"
    pseudo = "training.pseudo_anomalies={skip: 0.1, patch: 0.1}"
    averaging = "training.averaging=0.9"
    step("pack", config, packed, pseudo, averaging)
    step("fit", packed, weights, "--seconds=1", **elsewhere)
    epochs = len(json.loads(str(np.load(weights)["history"])))
    assert epochs < 4
    step("fit", packed, weights, "--every=2", **elsewhere)
    other = tmp_path / "other.npz"
    step("pack", config, other, pseudo, averaging, "training.seed=1")
    message = step("fit", other, weights, status=1, **elsewhere)
    assert "weights.npz: has weights of another experiment (training.seed)" in message
    step("finish", weights, "--workdir", tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["epochs"] == 4
    assert metrics["micro_auc_raw"] > 0.9
    detector = load_detector(tmp_path / "run" / "detector.keras")
    test, errors = tmp_path / "test.npz", tmp_path / "errors.npz"
    step("pack", "--test", config, test, pseudo, averaging)
    step("errors", test, tmp_path / "weights_004.npz", weights, errors, **elsewhere)
    clips = load(load_config(config).data, 0).test
    found = np.load(errors)
    np.testing.assert_array_equal(found["epochs"], [4, 4])
    np.testing.assert_array_equal(found["places"], clips.places)
    scores = detector.score(clips[np.arange(len(clips))])
    np.testing.assert_allclose(found["averages"], scores, rtol=1e-3)
    np.testing.assert_array_equal(*found["errors"])
    assert (np.abs(found["errors"][0] / scores - 1) > 1e-3).any()


@slow
@needs_torch
def test_video(tmp_path):
    results, table = run("video", tmp_path)
    assert set(results["ratios"]) == {"float32", "bfloat16"}
    assert sane(*results["ratios"].values(), *results["frames_per_second"].values())
    assert sane(*results["clips_per_second"].values(), results["share_of_peak"])
    assert "target: 38" in table
