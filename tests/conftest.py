"""Shared by all tests."""

import os
import signal
import sys
from pathlib import Path

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
