"""Scores a file: `python -m memae_tf.score DETECTOR INPUT [-o OUT]`."""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from memae_tf import console
from memae_tf.console import Parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(
        prog="python -m memae_tf.score",
        description="Score records, batch by batch, so that there may be any number of them: "
        "number, score and decision of each, as CSV.",
    )
    parser.add_argument(
        "detector",
        metavar="DETECTOR",
        help="run directory, detector.keras, or the address of a model server: host:8500 (gRPC) "
        "or http://host:8501 (REST)",
    )
    parser.add_argument(
        "input", metavar="INPUT", type=Path, help="CSV or Parquet file; - is CSV on standard input"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        type=Path,
        help="write to OUT.csv or, as JSON, a line a record, to OUT.jsonl",
    )
    parser.add_argument(
        "--explain", action="store_true", help="add the fields with the largest errors, and those"
    )
    parser.add_argument(
        "--threshold",
        metavar="T",
        type=float,
        help="scores above T are anomalies, not the detector's own threshold",
    )
    parser.add_argument(
        "--batch-size",
        metavar="N",
        type=_positive,
        default=1024,
        help="records a step or request (%(default)s)",
    )
    server = parser.add_argument_group("of a model server")
    server.add_argument("--model", metavar="NAME", help="model to ask")
    chosen = server.add_mutually_exclusive_group()
    chosen.add_argument(
        "--version", metavar="N", type=int, help="its version (default: the newest)"
    )
    chosen.add_argument("--label", metavar="NAME", help="label of the version")
    args = parser.parse_args(argv)

    from memae_tf.serving.client import is_address

    is_served = is_address(args.detector) and not Path(args.detector).exists()
    if is_served and args.model is None:
        parser.error(f"--model is needed: which model of {args.detector}?")
    if not is_served and (args.model, args.version, args.label) != (None, None, None):
        parser.error("--model, --version and --label are for the address of a server")

    from memae_tf.scoring import output, records

    lines = output.lines_of(args.output)
    # On a terminal the lines themselves are the progress.
    display = console.ProgressDisplay() if args.output or not sys.stdout.isatty() else None
    total = anomalies = 0
    with contextlib.ExitStack() as stack:
        detector = stack.enter_context(_detector(args, is_served))
        write = stack.enter_context(output.opened(args.output))
        if display is not None:
            stack.enter_context(display)
        batches = records.batches(args.input, detector.fields, args.batch_size)
        for answer in detector.answers(batches, args.threshold, args.explain):
            write(lines(total + 1, answer))
            total += len(answer["score"])
            anomalies += int(answer["is_anomaly"].sum())
            if display is not None:
                display.update(total, None, f"{total:,} records, {anomalies:,} anomalies")
    if args.output is not None:
        print(f"Wrote {args.output}: {total:,} records, {anomalies:,} anomalies")


def _detector(args: argparse.Namespace, is_served: bool):
    if is_served:
        from memae_tf.scoring.detectors import ServedDetector

        return ServedDetector(args.detector, args.model, args.version, args.label, args.batch_size)
    console.import_tensorflow()
    from memae_tf.scoring.detectors import LocalDetector

    return LocalDetector(Path(args.detector))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number


if __name__ == "__main__":
    console.run(main)
