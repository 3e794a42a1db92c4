"""The commands as a user runs them, on KDDCUP99 or, without it, on simulated traffic."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import run_here

from memae_tf.models import load_detector

CONFIG = Path(__file__).parents[2] / "configs" / "kddcup.yaml"
SMALL = ["data.max_records=20000", "training.epochs=6", "training.batch_size=256"]


def run(command: str, *arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", f"memae_tf.{command}", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "kddcup"
    result = run("train", CONFIG, "--workdir", path, *SMALL)
    assert result.returncode == 0, result.stderr
    assert "ROC AUC" in result.stdout
    assert "epoch 6/6" in result.stderr
    assert "oneDNN" not in result.stderr
    return path


def test_metrics_are_as_the_contract_says(workdir):
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert metrics["roc_auc"] > 0.97
    assert metrics["f1"] > 0.9
    assert {"dataset", "simulated", "model", "variant", "seed", "average_precision"} <= set(metrics)
    assert {"threshold", "precision", "recall", "epochs", "train_seconds"} <= set(metrics)
    assert {"samples_per_second", "versions"} <= set(metrics)
    assert (metrics["protocol"], metrics["threshold_name"]) == ("dagmm", "top_ratio")
    assert set(metrics["thresholds"]) == {"true_ratio", "train_quantile", "best_f1"}
    for name in ("config.yaml", "history.json", "detector.keras", "report.html"):
        assert (workdir / name).stat().st_size > 0


def test_finished_run_says_so(workdir):
    before = (workdir / "detector.keras").read_bytes()
    result = run_here("train", CONFIG, "--workdir", workdir, *SMALL)
    assert result.returncode == 0
    assert "is finished already" in result.stdout
    assert (workdir / "detector.keras").read_bytes() == before


def test_detector_takes_raw_records(workdir):
    detector = load_detector(workdir / "detector.keras")
    assert len(detector.field_names) == 41
    record = dict.fromkeys(detector.field_names, 0)
    record.update(protocol_type="icmp", service="ecr_i", flag="SF", src_bytes=1032)
    record.update(count=511, srv_count=511, same_srv_rate=1.0, dst_host_count=255)
    record.update(dst_host_srv_count=255, dst_host_same_srv_rate=1.0)
    record.update(dst_host_same_src_port_rate=1.0)
    # A smurf packet is the most usual record of all; one of an unknown service is not.
    odd = {**record, "service": "no such service", "duration": 1e9}
    answer = detector.detect([record, odd, {}], explain=True)
    np.testing.assert_array_equal(answer["is_anomaly"][:2], [0, 1])
    assert np.isfinite(answer["field_error"]).all()


def test_evaluate_gives_the_same_figures(workdir):
    before = json.loads((workdir / "metrics.json").read_text())
    result = run_here("evaluate", workdir)
    assert result.returncode == 0, result.stderr
    after = json.loads((workdir / "metrics.json").read_text())
    assert after.keys() == before.keys()
    for name in ("roc_auc", "average_precision", "f1"):
        assert after[name] == pytest.approx(before[name])
    assert after["threshold"] == pytest.approx(before["threshold"], rel=1e-5)
    assert after["train_seconds"] == before["train_seconds"]


def test_evaluate_leaves_the_detector_and_its_threshold(workdir, tmp_path):
    copy = shutil.copytree(workdir, tmp_path / "run")
    detector = load_detector(copy / "detector.keras")
    detector.threshold = 123.0
    detector.save(copy / "detector.keras")
    (copy / "metrics.json").unlink()
    (copy / "report.html").unlink()
    before = (copy / "detector.keras").read_bytes()
    result = run_here("evaluate", copy)
    assert result.returncode == 0, result.stderr
    assert (copy / "detector.keras").read_bytes() == before
    assert json.loads((copy / "metrics.json").read_text())["threshold"] < 123
    assert "to the first one. Now it is 123.0000." in (copy / "report.html").read_text()


def test_evaluate_of_other_data_or_without_history_changes_nothing(workdir, tmp_path):
    copy = shutil.copytree(workdir, tmp_path / "run")
    known = json.loads((copy / "data.json").read_text())
    (copy / "data.json").write_text(json.dumps({**known, "checksum": 1}))
    before = (copy / "metrics.json").read_text()
    result = run_here("evaluate", copy)
    assert result.returncode == 2
    assert "was started with other training data (checksum 1, now " in result.stderr
    (copy / "history.json").write_text("[")
    result = run_here("evaluate", copy)
    assert result.returncode == 2
    assert "history.json: is damaged; delete it and metrics.json, and memae_tf.train makes" in (
        result.stderr
    )
    (copy / "history.json").unlink()
    result = run_here("evaluate", copy)
    assert result.returncode == 2
    assert "history.json: cannot be read (No such file or directory)" in result.stderr
    assert (copy / "metrics.json").read_text() == before


def test_a_finished_run_whose_data_are_gone_is_finished(workdir, tmp_path, offline):
    copy = shutil.copytree(workdir, tmp_path / "run")
    known = json.loads((copy / "data.json").read_text())
    (copy / "data.json").write_text(json.dumps({**known, "simulated": False}))
    result = run_here("train", CONFIG, "--workdir", copy, *SMALL, f"data.dir={offline}")
    assert result.returncode == 0, result.stderr
    assert "is finished already." in result.stdout
    assert "its data can no longer be compared (data: KDDCUP99 is not on this" in result.stderr
    assert "SIMULATED" not in result.stderr


def test_evaluate_of_no_run(tmp_path):
    result = run("evaluate", tmp_path)
    assert result.returncode == 2
    assert result.stderr.strip() == f"{tmp_path}: is not a run directory (it has no config.yaml)"


@pytest.fixture
def grid(tmp_path) -> Path:
    values = np.random.default_rng(0).normal(size=(60, 2))
    lines = [f"{x},{y},{'odd' if i % 5 else 'normal'}" for i, (x, y) in enumerate(values)]
    (tmp_path / "records.csv").write_text("\n".join(["x,y,label", *lines]) + "\n")
    (tmp_path / "base.yaml").write_text(
        f"data: {{name: tabular, train: {tmp_path}/records.csv, label: label}}\n"
        "model: {name: dense, hidden: [8], code: 2, memory: {num_slots: 5}}\n"
        "training: {epochs: 40, batch_size: 16}\n"
    )
    path = tmp_path / "grid.yaml"
    path.write_text(
        "base: base.yaml\n"
        "seeds: [0, 1]\n"
        "axes:\n"
        "  variant:\n"
        "    ae: {model.variant: ae}\n"
        "    memae: {}\n"
        "published:\n"
        "  Paper: {f1: 0.9641}\n"
    )
    return path


def test_benchmark_runs_and_resumes_cell_by_cell(grid, tmp_path):
    command = ("benchmark", grid, "training.epochs=2", "--workdir", tmp_path / "out")
    out = tmp_path / "out"
    result = run(*command, "--workers", 2, "--only", "variant=ae")
    assert result.returncode == 0, result.stderr
    cells = sorted(out.rglob("seed-*.json"))
    assert [str(cell.relative_to(out)) for cell in cells] == [
        "cells/ae/seed-0.json",
        "cells/ae/seed-1.json",
    ]
    stamps = [cell.stat().st_mtime_ns for cell in cells]
    result = run_here(*command)
    assert result.returncode == 0, result.stderr
    assert [cell.stat().st_mtime_ns for cell in cells] == stamps
    results = json.loads((out / "results.json").read_text())
    assert [r["seed"] for r in results] == [0, 0, 1, 1]
    rows = (out / "table.md").read_text().splitlines()
    assert rows[2].startswith("| Paper, published |")
    assert [row.split(" | ")[:2] for row in rows[3:]] == [["| ae", "2"], ["| memae", "2"]]
    metrics = [json.loads(cell.read_text())["metrics"] for cell in cells]
    mean = np.mean([m["f1"] for m in metrics])
    assert f"{mean:.4f} ±" in rows[3]
    # The table of a part has what other calls have finished.
    result = run_here(*command, "--only", "variant=ae")
    assert result.returncode == 0, result.stderr
    assert (out / "table.md").read_text().splitlines() == rows


def test_benchmark_refuses_cells_of_another_configuration(grid, tmp_path):
    cell = tmp_path / "out" / "cells" / "ae" / "seed-0.json"
    cell.parent.mkdir(parents=True)
    cell.write_text(json.dumps({"config": {}}))
    result = run_here("benchmark", grid, "--workdir", tmp_path / "out")
    assert result.returncode == 2
    assert "was made with another configuration" in result.stderr
    cell.write_text("{")
    result = run_here("benchmark", grid, "--workdir", tmp_path / "out")
    assert result.returncode == 2
    assert "is damaged" in result.stderr


def test_benchmark_names_an_unknown_choice(grid):
    result = run_here("benchmark", grid, "--only", "variant=vae")
    assert result.returncode == 2
    assert result.stderr == "--only variant=vae: variant has no choice 'vae'; it has ae, memae\n"
