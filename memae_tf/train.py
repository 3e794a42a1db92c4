"""Trains a detector: `python -m memae_tf.train CONFIG [--workdir DIR] [dotted.key=value ...]`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from memae_tf import console
from memae_tf.console import Parser, ProgressDisplay


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(
        prog="python -m memae_tf.train",
        description="Train a detector and evaluate it. The same command resumes a run that was "
        "stopped; a finished run says so.",
    )
    parser.add_argument("config", help="YAML file of the experiment, see configs/")
    parser.add_argument(
        "--workdir",
        type=console.path,
        help="run directory (default: runs/<name of the config>)",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="dotted.key=value",
        help="sets a key: training.epochs=5",
    )
    args = parser.parse_intermixed_args(argv)

    from memae_tf.config import load_config

    config = load_config(args.config, args.overrides)
    workdir = args.workdir or Path("runs") / Path(args.config).stem

    console.import_tensorflow()
    from memae_tf.training.run_directory import RunDirectory

    run = RunDirectory(workdir)
    run.check(config)
    if run.metrics.exists():
        from memae_tf.training.experiment import require_same_data

        with ProgressDisplay() as display:
            require_same_data(config, run, display.videos)
        print(f"{workdir} is finished already.")
        metrics = run.read_json(run.metrics)
    else:
        from memae_tf.training.experiment import train
        from memae_tf.training.strategy import other_workers
        from memae_tf.training.trainer import Progress

        if others := other_workers():
            print(f"waiting for {', '.join(others)}", file=sys.stderr, flush=True)
        with ProgressDisplay() as display:

            def show(progress: Progress) -> None:
                display.update(
                    (progress.epoch - 1) * progress.steps + progress.step,
                    progress.epochs * progress.steps,
                    f"epoch {progress.epoch}/{progress.epochs} loss {progress.losses['loss']:.4f}",
                )

            metrics = train(config, run, show, display.videos)
        if metrics is None:
            print(f"This worker is done; the first one has the results in {workdir}/")
            return
    print(console.summary(metrics))
    print(f"Detector, metrics and report are in {workdir}/")


if __name__ == "__main__":
    console.run(main, resumes=True)
