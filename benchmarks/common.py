"""What the benchmarks share: workers in processes of their own, machine description, output."""

import argparse
import contextlib
import datetime
import functools
import importlib.metadata
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

# Before anything imports TensorFlow, here and in the workers, which inherit the environment.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("memae_tf", "tensorflow", "keras", "torch", "numpy")
# Side of the matrices with which the peak is measured: large enough for the library's best.
PEAK_SIZE = 2048
# Seconds between two runs: the threads of a BLAS wait for more work, actively, and in the next
# one's time.
REST = 0.2


class Worker:
    """Something to be timed, in a process of its own: no other library's threads or memory.

    Args:
        make: Module-level function; called in the process, it prepares everything and returns
            what is to be timed, which is called with the arguments of `run`.
        arguments: Picklable arguments of `make`.
    """

    def __init__(self, make: Callable[..., Callable[..., object]], *arguments):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()
        self._receive()

    def run(self, *arguments) -> tuple[float, object]:
        """Runs it once; seconds and what it returned."""
        self.start(*arguments)
        return self.result()

    def start(self, *arguments) -> None:
        """Begins a run, of which `result` is to be asked."""
        self._connection.send(arguments)

    def result(self) -> tuple[float, object]:
        """Waits for a run; seconds and what it returned."""
        return self._receive()

    def close(self):
        self._connection.close()
        self._process.join()

    def _receive(self):
        try:
            answer = self._connection.recv()
        except EOFError:
            raise RuntimeError("the benchmark's process died; its error is above") from None
        return answer


def _serve(connection, make: Callable, arguments: tuple) -> None:
    # TensorFlow announces itself on stderr whatever its log level.
    with _quiet(), contextlib.suppress(EOFError):
        run = make(*arguments)
        connection.send("ready")
        while True:
            received = connection.recv()
            start = time.perf_counter()
            result = run(*received)
            connection.send((time.perf_counter() - start, result))


@contextlib.contextmanager
def _quiet():
    """Sends the process's standard error to nowhere, unless an exception comes out."""
    saved = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def interleave(workers: dict[str, Worker], rounds: int, warmup: int = 1) -> dict[str, list[float]]:
    """Times workers in turn, A B C A B C ..., so that a slow minute of the machine hits all.

    Returns:
        The seconds of the `rounds` runs of each worker, without those of the warm-up.
    """
    seconds = {name: [] for name in workers}
    for _ in range(warmup + rounds):
        for name, worker in workers.items():
            time.sleep(REST)
            seconds[name].append(worker.run()[0])
    return {name: runs[warmup:] for name, runs in seconds.items()}


def in_fresh_process(function: Callable, *arguments):
    """What the function returns in a process of its own, whose memory nothing else has used."""
    worker = Worker(functools.partial, function, *arguments)
    result = worker.run()[1]
    worker.close()
    return result


def matmul() -> Callable[[], object]:
    """The work by which the peak is measured: a large float32 matrix product in NumPy's BLAS."""
    import numpy as np

    matrix = np.random.default_rng(0).random((PEAK_SIZE, PEAK_SIZE), dtype="float32")
    return lambda: (matrix @ matrix).sum()


def peak_flops(seconds: list[float]) -> float:
    """Floating-point operations a second in the fastest run of `matmul`."""
    return 2 * PEAK_SIZE**3 / min(seconds)


def machine(packages: tuple[str, ...] = ()) -> dict:
    """Where and with what the figures came about; with versions of more packages."""
    versions = {}
    for package in (*PACKAGES, *packages):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "date": datetime.date.today().isoformat(),
        "processor": _processor(),
        "cores": _cores(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": versions,
    }


def _cores() -> int:
    """Those that this process may use, where the system says so."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def argument_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=7, help="timed runs of each system")
    parser.add_argument("--seed", type=int, default=0, help="of data, weights and order")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; a trial")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here too")
    return parser


def describe(where: dict, seed: int) -> str:
    """The line under every table: without it a figure says nothing."""
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    return (
        f"{where['date']}, {where['processor']}, {where['cores']} cores, load before the start "
        f"{where['load_before']}, Python {where['python']}, {versions}, seed {seed}"
    )


def write_json(path: Path | None, results: dict) -> None:
    if path is not None:
        path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
