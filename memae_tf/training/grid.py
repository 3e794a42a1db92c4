"""A benchmark: a grid of experiments, cell by cell, each finished cell a file."""

import itertools
import json
import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from memae_tf.config import (
    BenchmarkConfig,
    Config,
    differing_keys,
    identifies_data,
    parse_config,
    read_yaml,
    set_key,
)
from memae_tf.console import import_tensorflow, shortage
from memae_tf.errors import UserError, WorkerLostError
from memae_tf.files import whole_file, written
from memae_tf.signals import DeferredSignals

# The cells of which a message says why they failed, at most; it only names the others.
SHOWN_FAILURES = 5


@dataclass(frozen=True, eq=False)
class Cell:
    """One experiment of a grid: a choice on every axis, and a seed."""

    choices: tuple[tuple[str, str], ...]
    seed: int
    config: Config

    @property
    def name(self) -> str:
        return "/".join([*(choice for _, choice in self.choices), f"seed-{self.seed}"])


class FailedCellError(UserError):
    """Experiments of a grid have failed; the others go on."""


@dataclass(frozen=True)
class GridProgress:
    """How far a benchmark has come. `seconds_left` is `None` until a cell has finished."""

    done: int
    total: int
    seconds_left: float | None


def cells(benchmark: BenchmarkConfig, path: Path, overrides: Sequence[str] = ()) -> list[Cell]:
    """All cells of a grid, seeds outermost, so that an unfinished grid has a bit of everything.

    Args:
        benchmark: The grid.
        path: Its file; `base` is relative to it.
        overrides: `dotted.key=value`, for every cell.

    Raises:
        UserError: If the base or a choice does not fit the schema of experiments, or an override
            would give all cells one seed, or cells differ in the number of replicas.
    """
    if any(override.split("=")[0].strip() == "training.seed" for override in overrides):
        raise UserError("training.seed: each cell has its own; --only seed=N runs one seed's cells")
    _warn_of_overridden(benchmark, overrides)
    base = read_yaml(path.parent / benchmark.base)
    grid = []
    for seed, *names in itertools.product(benchmark.seeds, *benchmark.axes.values()):
        choices = dict(zip(benchmark.axes, names, strict=True))
        raw = base
        for keys in (*_changes(benchmark, choices), {"training.seed": seed}):
            for key, value in keys.items():
                raw = set_key(raw, key, value)
        source = f"{path} ({', '.join(names)})"
        grid.append(Cell(tuple(choices.items()), seed, parse_config(raw, overrides, source)))
    if len({cell.config.training.replicas for cell in grid}) > 1:
        raise UserError(
            f"{path}: training.replicas: a process can have one number of them, and the cells have "
            "several; use a grid for each number"
        )
    return grid


def _warn_of_overridden(benchmark: BenchmarkConfig, overrides: Sequence[str]) -> None:
    """Warns of overrides of what choices set, as tables keep the names of the choices."""
    for override in overrides:
        key = override.split("=")[0].strip()
        for axis, choices in benchmark.axes.items():
            for choice, keys in choices.items():
                if any(
                    f"{key}.".startswith(f"{k}.") or f"{k}.".startswith(f"{key}.") for k in keys
                ):
                    warnings.warn(
                        f"{override}: replaces what the choice {axis}={choice} sets", stacklevel=3
                    )


def _changes(benchmark: BenchmarkConfig, choices: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The dotted keys and values of each choice, then those of choices that meet."""
    for axis, choice in choices.items():
        yield benchmark.axes[axis][choice]
    for names, keys in benchmark.together.items():
        if set(choices.values()).issuperset(names.split("/")):
            yield keys


def select(grid: list[Cell], only: Sequence[str]) -> list[Cell]:
    """The cells that match `only`: on every axis named there, they have one of the choices named.

    Args:
        grid: From `cells`.
        only: `axis=choice` each; "seed" is an axis, too.

    Raises:
        UserError: If an axis or a choice does not exist; the message names those that do.
    """
    wanted: dict[str, set[str]] = {}
    for text in only:
        axis, _, choice = text.partition("=")
        wanted.setdefault(axis, set()).add(choice)
        _require_choice(grid, axis, choice, text)
    return [
        cell
        for cell in grid
        if all(_choice(cell, axis) in choices for axis, choices in wanted.items())
    ]


def _require_choice(grid: list[Cell], axis: str, choice: str, text: str) -> None:
    # `dict.fromkeys` drops duplicates and, unlike a set, keeps the order of the file.
    axes = [*dict.fromkeys(name for cell in grid for name, _ in cell.choices), "seed"]
    if axis not in axes:
        raise UserError(f"--only {text}: no axis is named '{axis}'; the axes are {', '.join(axes)}")
    found = dict.fromkeys(_choice(cell, axis) for cell in grid)
    choices = [name for name in found if name is not None]
    if choice not in choices:
        raise UserError(
            f"--only {text}: {axis} has no choice '{choice}'; it has {', '.join(choices)}"
        )


def _choice(cell: Cell, axis: str) -> str | None:
    return str(cell.seed) if axis == "seed" else dict(cell.choices).get(axis)


def run_grid(
    grid: list[Cell],
    workdir: Path,
    workers: int = 1,
    on_progress: Callable[[GridProgress], None] = lambda _: None,
) -> list[dict]:
    """Runs the cells that have no file in `workdir/cells/` yet.

    One that fails stops no other.

    Args:
        grid: From `cells`.
        workdir: Where `cells/<choices>/seed-<n>.json` go.
        workers: Processes; they share the cores, which suits nets too small to fill them.
        on_progress: Called after every cell.

    Returns:
        A dict for each cell: `choices`, `seed`, and what metrics.json has.

    Raises:
        UserError: If a finished cell in `workdir` was made with another configuration.
        FailedCellError: In the end, if cells failed, naming them.
        WorkerLostError: If a worker was killed.
    """
    results = {cell: _read(cell, workdir) for cell in grid}
    open_cells = [cell for cell, result in results.items() if result is None]
    failed: dict[Cell, FailedCellError] = {}

    def show() -> None:
        seconds = {c: r["cell_seconds"] for c, r in results.items() if r and "cell_seconds" in r}
        to_run = [c for c, result in results.items() if result is None and c not in failed]
        left = seconds_left(to_run, seconds)
        done = sum(result is not None for result in results.values())
        on_progress(GridProgress(done, len(grid), left and left / workers))

    show()
    for cell, error in _finish(open_cells, workdir, workers):
        if error is None:
            results[cell] = _read(cell, workdir)
        else:
            failed[cell] = error
        show()
    if failed:
        raise _failure(failed, len(grid))
    return list(results.values())


def _failure(failed: dict[Cell, FailedCellError], total: int) -> FailedCellError:
    """An error that says why the first failed cells failed, and names the others."""
    reasons = "; ".join(map(str, list(failed.values())[:SHOWN_FAILURES]))
    others = ", ".join(cell.name for cell in list(failed)[SHOWN_FAILURES:])
    more = f"; and {others}" if others else ""
    return FailedCellError(
        f"{len(failed)} of {total} cells failed (finished ones are kept): {reasons}{more}"
    )


def finished(grid: list[Cell], workdir: Path) -> list[dict]:
    """The results of those cells that have run, as `run_grid` gives them.

    Raises:
        UserError: If one was made with another configuration.
    """
    results = (_read(cell, workdir) for cell in grid)
    return [result for result in results if result is not None]


def seconds_left(open_cells: Sequence[Cell], seconds: dict[Cell, float]) -> float | None:
    """How long the open cells will take, each as long as the finished cells most like it.

    The more choices two cells have in common, the more alike they are: a cell of PixelCNN takes
    as long as others of PixelCNN, not as those of an OC-SVM.

    Args:
        open_cells: Still to run.
        seconds: Of the finished cells.

    Returns:
        `None` where no cell has finished.
    """
    if not seconds:
        return None

    def estimate(cell: Cell) -> float:
        alike = {other: len(set(cell.choices) & set(other.choices)) for other in seconds}
        most = max(alike.values())
        return float(np.mean([seconds[other] for other, count in alike.items() if count == most]))

    return sum(map(estimate, open_cells))


def _finish(
    open_cells: list[Cell], workdir: Path, workers: int
) -> Iterator[tuple[Cell, FailedCellError | None]]:
    """Runs cells and yields each when it is done, with the error if it failed."""
    if workers == 1:
        for cell in open_cells:
            yield cell, _error_of(partial(run_cell, cell, workdir))
        return
    pool = ProcessPoolExecutor(
        workers,
        # Forked processes would inherit a TensorFlow that has started its threads.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(max(1, joblib.cpu_count() // workers),),
    )
    try:
        # A signal must not come while processes start: they would print tracebacks.
        with DeferredSignals() as signals:
            futures: dict[Future, Cell] = {
                pool.submit(run_cell, cell, workdir): cell for cell in open_cells
            }
        if signals.requested():
            signals.leave()
        for future in as_completed(futures):
            yield futures[future], _error_of(future.result)
    except BrokenProcessPool:
        raise WorkerLostError(
            "a worker process was killed, as the system does when memory is short; finished cells "
            "are kept, and the same command goes on (fewer --workers need less memory)"
        ) from None
    except BaseException:
        # A signal to this process alone does not reach its workers.
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _error_of(run: Callable[[], None]) -> FailedCellError | None:
    try:
        run()
    except FailedCellError as error:
        return error
    return None


def _start_worker(threads: int) -> None:
    import_tensorflow()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def run_cell(cell: Cell, workdir: Path) -> None:
    """Runs one experiment and writes its file.

    Raises:
        FailedCellError: Naming the cell, if it fails.
        UserError: If its file cannot be written, as on a full disk.
    """
    import keras

    from memae_tf.training.experiment import measure_system

    start = time.monotonic()
    path = _path(cell, workdir)
    with written(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        metrics = measure_system(cell.config)
    except UserError as error:
        raise FailedCellError(f"{cell.name}: {error}") from None
    except Exception as error:
        missing = shortage(error)
        if missing is None:
            raise
        raise FailedCellError(f"{cell.name}: out of memory{missing}") from None
    finally:
        # Or the graphs of all cells would stay in memory.
        keras.backend.clear_session()
    config = cell.config.model_dump(mode="json")
    if "cache" in config["data"]:
        # The result does not depend on this path of one machine.
        config["data"]["cache"] = None
    result = {
        "choices": dict(cell.choices),
        "seed": cell.seed,
        "config": config,
        "metrics": metrics,
        "cell_seconds": round(time.monotonic() - start, 1),
    }
    with written(path), whole_file(path) as aside:
        aside.write_text(json.dumps(result, indent=1) + "\n")


def _path(cell: Cell, workdir: Path) -> Path:
    return workdir / "cells" / f"{cell.name}.json"


def _read(cell: Cell, workdir: Path) -> dict | None:
    """The result of a finished cell."""
    path = _path(cell, workdir)
    if not path.exists():
        return None
    try:
        result = json.loads(path.read_text())
        stored = result["config"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: is damaged; delete it, and the cell runs again") from None
    try:
        # Through the schema, so that a key that is newer than the file has its default.
        own = parse_config(stored)
        keys = differing_keys(own, cell.config)
        if identifies_data(own.data, "dir") and own.data.dir != cell.config.data.dir:
            keys.append("data.dir")
    except UserError:
        keys = ["keys that no longer exist"]
    if keys:
        raise UserError(
            f"{path}: was made with another configuration, which differs in {', '.join(keys)}; "
            "delete it, or choose another --workdir"
        )
    # Axes and choices may have other names by now.
    return {**result, "choices": dict(cell.choices)}
