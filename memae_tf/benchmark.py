"""Runs a grid of experiments: `python -m memae_tf.benchmark CONFIG [--workdir DIR] [...]`."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from memae_tf import console
from memae_tf.console import Parser, ProgressDisplay


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(
        prog="python -m memae_tf.benchmark",
        description="Run a grid of experiments and print its table. Finished cells are kept; the "
        "same command resumes where it was stopped.",
    )
    parser.add_argument("config", help="YAML file of the grid, see configs/benchmarks/")
    parser.add_argument(
        "--workdir",
        type=console.path,
        help="folder of the cells and the table (default: runs/benchmarks/<name of the config>)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        help="processes that share the cores (default: 1)",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="AXIS=CHOICE",
        help="run only this choice of an axis, or this seed (seed=N); repeat it for other axes, or "
        "for several choices of one (the table has all finished cells)",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="dotted.key=value",
        help="sets a key in every cell",
    )
    args = parser.parse_intermixed_args(argv)
    if args.workers < 1:
        parser.error(f"--workers {args.workers}: should be 1 or more")

    from memae_tf.config import load_benchmark

    path = Path(args.config)
    benchmark = load_benchmark(path)
    workdir = args.workdir or Path("runs") / "benchmarks" / path.stem

    console.import_tensorflow()
    from memae_tf.training.grid import (
        FailedCellError,
        GridProgress,
        cells,
        finished,
        run_grid,
        select,
    )
    from memae_tf.training.grid_results import write_results

    grid = cells(benchmark, path, args.overrides)
    part = select(grid, args.only)
    # Complains of finished cells of another configuration now, not after hours.
    finished(grid, workdir)
    with ProgressDisplay() as display:

        def show(progress: GridProgress) -> None:
            left = ""
            if progress.seconds_left is not None:
                left = f", about {timedelta(seconds=round(progress.seconds_left))} left"
            display.update(
                progress.done, progress.total, f"{progress.done}/{progress.total} cells{left}"
            )

        failure = None
        try:
            run_grid(part, workdir, args.workers, show)
        except FailedCellError as error:
            failure = error
    # With those of earlier calls, which may have run other parts of the grid.
    results = finished(grid, workdir)
    if results:
        print(write_results(benchmark, results, workdir))
        print(f"Cells, results.json and table.md are in {workdir}/")
    if failure is not None:
        raise failure


if __name__ == "__main__":
    console.run(main, resumes=True)
