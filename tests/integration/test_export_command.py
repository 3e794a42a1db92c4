"""`python -m memae_tf.export` as a user runs it, from a run that `train` made."""

import json
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from commands import run_here

from memae_tf.models import load_detector
from memae_tf.serving.export import manifest

CONFIG = """\
data: {name: tabular, train: records.csv, label: label, test_share: 0.2}
model: {name: dense, hidden: [8], code: 2, memory: {num_slots: 5}}
training: {epochs: 2, batch_size: 64}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a finished run and its first export."""
    path = tmp_path_factory.mktemp("export")
    (path / "config.yaml").write_text(CONFIG)
    rng = np.random.default_rng(0)
    lines = [f"{rng.normal():.3f},{'ab'[i % 2]},{'odd' if i % 5 else 'normal'}" for i in range(60)]
    (path / "records.csv").write_text("\n".join(["Flow Bytes/s,kind,label", *lines]) + "\n")
    result = run_here("train", "config.yaml", "--workdir", "run", cwd=path)
    assert result.returncode == 0, result.stderr
    return path


@pytest.fixture(scope="module")
def exported(folder):
    pytest.importorskip("tf2onnx")
    words = "-m memae_tf.export run --to models/flows --onnx flows.onnx"
    result = subprocess.run(
        [sys.executable, *words.split()],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def test_run_is_published_with_what_it_says_of_itself(folder, exported):
    version = folder / "models" / "flows" / "1"
    assert exported.splitlines()[:2] == ["Published models/flows/1/", "Wrote flows.onnx"]
    content = manifest.verify(version)
    assert content["metrics"] == json.loads((folder / "run" / "metrics.json").read_text())
    assert content["config"]["model"]["memory"]["num_slots"] == 5
    assert content["config"]["training"]["epochs"] == 2
    detector = load_detector(folder / "run" / "detector.keras")
    assert set(content["signatures"]["serving_default"]["inputs"]) == set(detector.field_names)
    assert (folder / "flows.onnx").stat().st_size > 0


def test_an_infinite_threshold_is_not_published(folder, tmp_path):
    detector = load_detector(folder / "run")
    detector.threshold = np.inf
    detector.save(tmp_path / "strict.keras")
    result = run_here("export", "strict.keras", "--to", "models", cwd=tmp_path)
    assert result.returncode == 2
    assert "threshold=inf: should be finite; --threshold gives another one" in result.stderr
    assert not (tmp_path / "models").exists()


def test_another_threshold_is_published(folder):
    words = ("run", "--to", "models/strict", "--threshold", "7.5")
    assert run_here("export", *words, cwd=folder).returncode == 0
    assert manifest.verify(folder / "models" / "strict" / "1")["threshold"] == 7.5
    assert float(load_detector(folder / "run").threshold.numpy()) != 7.5


def test_another_precision_is_published(folder):
    words = ("run", "--to", "models/small", "--precision", "mixed_bfloat16")
    assert run_here("export", *words, cwd=folder).returncode == 0
    content = manifest.verify(folder / "models" / "small" / "1")
    assert content["precision"] == "mixed_bfloat16"
    detector = load_detector(folder / "run").in_precision("mixed_bfloat16")
    records = {"Flow Bytes/s": np.float32([0.5, -3]), "kind": np.array(["a", "c"], object)}
    served = tf.saved_model.load(folder / "models" / "small" / "1").signatures["serving_default"]
    answer = served(Flow_Bytes_s=records["Flow Bytes/s"], kind=tf.constant(["a", "c"]))
    expected = detector.score(records)
    np.testing.assert_allclose(answer["score"].numpy(), expected, rtol=1e-5)
    assert np.any(expected != load_detector(folder / "run").score(records))


def test_printed_lines_name_files_that_are_there(folder, exported):
    words = shlex.split(exported)
    assert f"--model_base_path={folder.resolve()}/models/flows" in words
    (request,) = [word[1:] for word in words if word.startswith("@")]
    (instance,) = json.loads((folder / request).read_text())["instances"]
    assert set(instance) == {"Flow Bytes/s", "kind"}


def test_served_scores_are_the_detector_s(folder, exported):
    records = {
        "Flow Bytes/s": np.array([0.1, np.nan, 1e30], "float32"),
        "kind": np.array(["a", "b", "c"], object),
    }
    model = tf.saved_model.load(str(folder / "models" / "flows" / "1"))
    answer = model.signatures["serving_default"](
        Flow_Bytes_s=tf.constant(records["Flow Bytes/s"]), kind=tf.constant(["a", "b", "c"])
    )
    expected = load_detector(folder / "run" / "detector.keras").detect(records)
    np.testing.assert_allclose(answer["score"], expected["score"], rtol=1e-4)
    np.testing.assert_array_equal(answer["threshold"], expected["threshold"])


def test_next_version_and_a_chosen_one_from_the_file(folder, exported):
    base = folder / "models" / "flows"
    result = run_here("export", "run/detector.keras", "--to", "models/flows", cwd=folder)
    assert result.stdout.startswith("Published models/flows/2/\n"), result.stderr
    words = ("run", "--to", "models/flows", "--version", 40)
    result = run_here("export", *words, cwd=folder)
    assert result.stdout.startswith("Published models/flows/40/\n"), result.stderr
    assert sorted(path.name for path in base.iterdir()) == ["1", "2", "40"]


def snapshot(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def damage(folder):
    """A file cut short, beside the run of the other tests."""
    whole = (folder / "run" / "detector.keras").read_bytes()
    (folder / "cut.keras").write_bytes(whole[:-300])
    shutil.copytree(folder / "run", folder / "cut", dirs_exist_ok=True)
    (folder / "cut" / "detector.keras").write_bytes(whole[:-300])
    shutil.copytree(folder / "run", folder / "unfinished", dirs_exist_ok=True)
    (folder / "unfinished" / "metrics.json").unlink()


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["nowhere", "--to", "models/flows"], "nowhere: there is no such run directory or det"),
        (
            ["models", "--to", "models/flows"],
            "models: is not a run directory (it has no config",
        ),
        (["unfinished", "--to", "models/flows"], "unfinished: is not finished; finish it with"),
        (["config.yaml", "--to", "models/flows"], "config.yaml: is not a detector (a .keras file)"),
        (["cut.keras", "--to", "models/flows"], "cut.keras: is not a detector (a .keras file)"),
        (["cut", "--to", "models/flows"], "cut/detector.keras: is not a detector (a .keras file)"),
        (["run", "--to", "models/flows", "--version", "1"], "models/flows/1: already exists"),
        (["run", "--to", "models/flows", "--version", "-1"], "--version -1: should be from 1 to"),
        (
            ["run", "--to", "models/flows", "--version", "new"],
            "--version: invalid int value: 'new'",
        ),
        (["run", "--to", "records.csv"], "records.csv: is a file; --to should be a folder of"),
        (["run", "--to", "records.csv/models"], "records.csv/models: cannot be written (Not a dir"),
        (["run", "--to", "/proc/models"], "/proc/models: cannot be written"),
        (["run", "--to", "new", "--onnx", "no/f.onnx"], "no/f.onnx: cannot be written (there is"),
        (["run"], "the following arguments are required: --to (see --help)"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(folder, exported, arguments, fragment):
    damage(folder)
    before = snapshot(folder)
    result = run_here("export", *arguments, cwd=folder)
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert fragment in result.stderr
    assert result.stdout == ""
    assert snapshot(folder) == before
