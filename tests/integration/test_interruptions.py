"""Runs that are killed, terminated, or lose a worker, and go on: real processes and signals.

A run is killed `MEMAE_KILLS` times, 3 by default.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import run_here

from memae_tf.models import load_detector

KILLS = int(os.environ.get("MEMAE_KILLS", "3"))
# So many that the run is not over before it was killed that often.
EPOCHS = 8 * max(3, KILLS)
BATCHES = 8


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    columns = {f"x{number}": rng.normal(size=16 * BATCHES + 5) for number in range(6)}
    pd.DataFrame(columns).to_csv(folder / "records.csv", index=False)
    path = folder / "config.yaml"
    path.write_text(
        f"data: {{name: tabular, train: {folder / 'records.csv'}}}\n"
        "model: {name: dense, hidden: [8], memory: {num_slots: 6}}\n"
        f"training: {{epochs: {EPOCHS}, batch_size: 16, averaging: 0.9, deterministic: true}}\n"
    )
    return path


def start(config: Path, workdir: Path, *overrides: str, **environment) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "memae_tf.train", config, "--workdir", workdir, *overrides],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def finish(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def weights(workdir: Path) -> list[np.ndarray]:
    return load_detector(workdir / "detector.keras").get_weights()


def losses(workdir: Path) -> list[float]:
    return [entry["loss"] for entry in json.loads((workdir / "history.json").read_text())]


def last_epoch(workdir: Path) -> int:
    """Of the latest checkpoint; 0 where there is a run without any, -1 without a run."""
    epochs = [int(p.name[6:11]) for p in workdir.glob("checkpoints/epoch-*.npz")]
    return max(epochs, default=0 if workdir.exists() else -1)


def wait_for_epoch(process: subprocess.Popen, workdir: Path, epoch: int) -> None:
    """Waits for the checkpoint of an epoch or a later one, or for the end."""
    deadline = time.monotonic() + 240
    while last_epoch(workdir) < epoch and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory) -> Path:
    """A run that nothing interrupted."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    finish(start(config, workdir))
    return workdir


def assert_every_file_is_whole(workdir: Path) -> None:
    for path in workdir.rglob("*"):
        if path.name.startswith(".partial-") or path.is_dir():
            continue
        if path.suffix == ".json":
            json.loads(path.read_text())
        if path.suffix in (".npz", ".keras"):
            assert zipfile.ZipFile(path).testzip() is None
        if path.suffix == ".html":
            assert path.read_text().rstrip().endswith("</html>")


def test_killed_again_and_again_it_ends_with_the_same_bits(config, whole, tmp_path):
    workdir = tmp_path / "run"
    moments = random.Random(0)
    kills = 0
    while kills < KILLS and not (workdir / "metrics.json").exists():
        process = start(config, workdir)
        # First before there is a checkpoint, then on the way from one to another.
        wait_for_epoch(process, workdir, last_epoch(workdir) + 1)
        try:
            process.wait(timeout=moments.uniform(0, 0.4))
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        process.communicate()
        assert_every_file_is_whole(workdir)
    assert kills > 0
    print(f"killed {kills} times")
    finish(start(config, workdir))
    for a, b in zip(weights(workdir), weights(whole), strict=True):
        np.testing.assert_array_equal(a, b)
    assert losses(workdir) == losses(whole)
    assert not list(workdir.rglob(".partial-*"))


def test_a_second_process_does_not_train_in_the_same_directory(config, whole, tmp_path):
    workdir = tmp_path / "run"
    first = start(config, workdir)
    try:
        wait_for_epoch(first, workdir, 1)
        first.send_signal(signal.SIGSTOP)
        second = start(config, workdir)
        _, err = second.communicate(timeout=300)
        assert second.returncode == 2
        (line,) = err.splitlines()
        assert line.startswith(f"{workdir}: another process is training here; ")
        first.send_signal(signal.SIGCONT)
        finish(first)
    finally:
        first.kill()
    for a, b in zip(weights(workdir), weights(whole), strict=True):
        np.testing.assert_array_equal(a, b)


def test_asked_to_end_it_saves_and_says_so(config, whole, tmp_path):
    workdir = tmp_path / "run"
    for number, status, said in (
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGINT, 130, "interrupted"),
    ):
        process = start(config, workdir)
        wait_for_epoch(process, workdir, last_epoch(workdir) + 2)
        process.send_signal(number)
        _, err = process.communicate(timeout=300)
        assert process.returncode == status
        assert err.splitlines()[-1] == f"{said}; the same command resumes from here"
        assert "Traceback" not in err
        assert not (workdir / "detector.keras").exists()
    finish(start(config, workdir))
    for a, b in zip(weights(workdir), weights(whole), strict=True):
        np.testing.assert_array_equal(a, b)


def start_workers(
    config: Path, workdir: Path, count: int = 2, others: tuple[str, ...] = ()
) -> list[subprocess.Popen]:
    """So many of two workers; the second one with `others` for overrides."""
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            ports.append(probe.getsockname()[1])
    cluster = {"worker": [f"localhost:{port}" for port in ports]}
    return [
        start(
            config,
            workdir,
            *(others if index else ()),
            TF_CONFIG=json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}),
        )
        for index in range(count)
    ]


def test_two_workers_train_as_one_and_survive_the_loss_of_one(config, whole, tmp_path):
    workdir = tmp_path / "run"
    chief, other = start_workers(config, workdir)
    wait_for_epoch(chief, workdir, 2)
    other.kill()
    other.communicate()
    _, err = chief.communicate(timeout=300)
    assert chief.returncode == 1
    assert "another worker is gone; start all workers again" in err.splitlines()[-1]
    assert "Traceback" not in err

    outputs = [finish(process) for process in start_workers(config, workdir)]
    assert "Detector, metrics and report are in" in outputs[0]
    assert "the first one has the results" in outputs[1]
    np.testing.assert_allclose(losses(workdir), losses(whole), rtol=1e-5)
    for a, b in zip(weights(workdir), weights(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3)


def test_workers_of_different_experiments_are_refused(config, tmp_path):
    # With fewer records one would wait for ever for steps that the other does not take.
    records = pd.read_csv(config.parent / "records.csv")
    records[:40].to_csv(tmp_path / "records.csv", index=False)
    others = (f"data.train={tmp_path / 'records.csv'}",)
    for worker in start_workers(config, tmp_path / "run", others=others):
        _, err = worker.communicate(timeout=300)
        assert worker.returncode == 2, err
        assert "the workers have different configurations or training data" in err
    assert not (tmp_path / "run").exists()


def test_a_worker_that_waits_for_others_says_so_and_can_be_ended(config, tmp_path):
    (worker,) = start_workers(config, tmp_path / "run", count=1)
    assert worker.stderr.readline().startswith("waiting for localhost:")
    worker.send_signal(signal.SIGTERM)
    # By the handler, where it did not wait yet.
    assert worker.wait(60) in (-signal.SIGTERM, 143)
    worker.communicate()


def test_an_address_that_is_taken_is_named(config, tmp_path):
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        address = f"localhost:{taken.getsockname()[1]}"
        task = {"type": "worker", "index": 0}
        setting = json.dumps({"cluster": {"worker": [address]}, "task": task})
        process = start(config, tmp_path / "run", TF_CONFIG=setting)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 2
    assert err.splitlines()[-1].startswith(f"TF_CONFIG: worker 0 cannot start at {address} (")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "value",
    [
        "{",
        '{"cluster": {}}',
        '{"cluster": {"worker": []}}',
        '{"cluster": {"worker": ["localhost"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": "localhost:1"}, "task": {"type": "worker", "index": 0}}',
    ],
)
def test_tf_config_that_cannot_be_read(config, tmp_path, monkeypatch, value):
    monkeypatch.setenv("TF_CONFIG", value)
    # Determinism would stay in this process.
    words = (config, "--workdir", tmp_path / "run", "training.deterministic=false")
    result = run_here("train", *words)
    assert result.returncode == 2
    assert result.stderr.startswith("TF_CONFIG: should be like")
    assert not (tmp_path / "run").exists()
