"""Evaluates a finished run anew: `python -m memae_tf.evaluate DIR`."""

from collections.abc import Sequence

from memae_tf import console
from memae_tf.console import Parser, ProgressDisplay


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(
        prog="python -m memae_tf.evaluate",
        description="Evaluate the saved detector of a run on its test data. Writes metrics.json, "
        "report.html and TensorBoard's evaluation again; the detector stays as it is.",
    )
    parser.add_argument("workdir", metavar="DIR", help="run directory of memae_tf.train")
    args = parser.parse_args(argv)

    from memae_tf.config import load_config

    console.import_tensorflow()
    from memae_tf.training.experiment import evaluate
    from memae_tf.training.run_directory import RunDirectory

    run = RunDirectory.existing(args.workdir)
    with ProgressDisplay() as display:
        metrics = evaluate(load_config(run.config), run, display.videos)
    print(console.summary(metrics))
    print(f"Metrics and report are in {args.workdir}/")


if __name__ == "__main__":
    console.run(main)
