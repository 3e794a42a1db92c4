"""The commands in the process of the tests.

A process of its own costs seconds to import TensorFlow. It is worth them where the process is what
a test is about: its start, signals, what libraries write by themselves, its death.
"""

import contextlib
import importlib
import io
import resource
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from memae_tf import console


def run_here(command: str, *arguments, cwd: str | Path = ".") -> subprocess.CompletedProcess:
    """What a command writes, and the exit status that its process would have."""
    words = [str(argument) for argument in arguments]
    main = importlib.import_module(f"memae_tf.{command}").main
    stdout, stderr = io.StringIO(), io.StringIO()
    handler = signal.getsignal(signal.SIGTERM)
    with (
        pytest.MonkeyPatch.context() as patch,
        warnings.catch_warnings(),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        patch.chdir(cwd)
        # Given back in the end, as pytest has one of its own.
        patch.setattr(sys, "unraisablehook", sys.unraisablehook)
        with pytest.raises(SystemExit) as stop:
            console.run(lambda _: main(words))
    signal.signal(signal.SIGTERM, handler)
    return subprocess.CompletedProcess(words, stop.value.code, stdout.getvalue(), stderr.getvalue())


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """As if the disk were full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
