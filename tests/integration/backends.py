"""The layers and models on Keras's other backends: their tests, once more, in a process each."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


def run_layers_and_models(backend: str) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed (pip install -e '.[backends]')")
    # Without coverage, which the run on TensorFlow has measured already.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
    environment.update(
        KERAS_BACKEND=backend,
        PYTEST_ADDOPTS="",
        # Most of JAX's time is that of compiling each small program once.
        JAX_DISABLE_MOST_OPTIMIZATIONS="1",
        # Code for a CPU the older way, in one part a program, which compiles faster.
        XLA_FLAGS="--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
        # PyTorch's threads wait for each other actively, longer than small programs compute.
        OMP_NUM_THREADS="1",
    )
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "--numprocesses=0", TESTS / "layers", TESTS / "models"],
        env=environment,
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    # XLA ends the process where it has no such flag, and says so to stderr.
    assert result.returncode == 0, (result.stderr + result.stdout)[-3000:]
    assert " passed" in result.stdout or "100%" in result.stdout
