"""Shared by all tests."""

import os
import signal
import sys
from pathlib import Path

# Before anything imports TensorFlow.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "agg")

# `import commands`, and `import reference` in tests/layers.
sys.path.extend(map(str, (Path(__file__).parent, Path(__file__).parent / "layers")))

# A shell's background jobs ignore Ctrl-C, and so would the commands that tests start and interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
