"""Shared by all tests."""

import gc
import os
import signal
import sys
from pathlib import Path

import pytest

# Before anything imports TensorFlow.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "agg")

# `import commands`, and what several folders of tests import of these: `reference`,
# `small_detectors`, `served_models`.
TESTS = Path(__file__).parent
SHARED = ("", "layers", "serving", "serving/contract")
sys.path.extend(str(TESTS / folder) for folder in SHARED)

# A shell's background jobs ignore Ctrl-C, and so would the commands that tests start and interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    # What was imported stays: garbage collection need not walk through it again and again.
    gc.collect()
    gc.freeze()


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """A data folder without KDDCUP99, on a machine where no download can succeed."""
    directory = tmp_path / "data"
    directory.mkdir()
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY", "MEMAE_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "sklearn"))
    # Here, as most tests do without what it imports.
    from memae_tf.data import kddcup99

    kddcup99.fetch.cache_clear()
    yield directory
    kddcup99.fetch.cache_clear()
