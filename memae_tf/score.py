"""Scores a file or a stream: `python -m memae_tf.score DETECTOR INPUT [-o OUT]`."""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from memae_tf import console
from memae_tf.console import Parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = _parser()
    args = parser.parse_args(argv)

    from memae_tf.serving.client import is_address

    is_served = is_address(args.detector) and not Path(args.detector).exists()
    if is_served and args.model is None:
        parser.error(f"--model is needed: which model of {args.detector}?")
    if not is_served and (args.model, args.version, args.label) != (None, None, None):
        parser.error("--model, --version and --label are for the address of a server")

    from memae_tf.scoring.output import suffix_of

    suffix_of(args.output)
    if is_served:
        from memae_tf.scoring.detectors import ServedDetector

        _refuse(
            parser, args, "overlay", "plot", "stride", what="footage, by a detector that is here"
        )
        served = ServedDetector(
            args.detector, args.model, args.version, args.label, args.batch_size
        )
        _score_records(args, served)
        return
    console.import_tensorflow()
    from memae_tf.errors import UserError
    from memae_tf.layers import ClipFeaturizer, RecordFeaturizer
    from memae_tf.scoring.detectors import LocalDetector, load_local

    detector = load_local(Path(args.detector))
    if isinstance(detector.featurizer, ClipFeaturizer):
        _refuse(
            parser, args, "explain", what="records; --overlay shows where errors are in footage"
        )
        _score_footage(args, detector)
    elif isinstance(detector.featurizer, RecordFeaturizer):
        _refuse(parser, args, "overlay", "plot", "stride", what="footage")
        _score_records(args, LocalDetector(detector))
    else:
        raise UserError(f"{args.detector}: takes images, and score takes records and footage")


def _parser() -> Parser:
    parser = Parser(
        prog="python -m memae_tf.score",
        description="Score records or the frames of footage as they come, so that there may be any "
        "number of them: number, score and decision of each, as CSV.",
    )
    parser.add_argument(
        "detector",
        metavar="DETECTOR",
        help="run directory, detector.keras, or (of records) the address of a model server: "
        "host:8500 (gRPC) or http://host:8501 (REST)",
    )
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="records: CSV or Parquet file, - is CSV on standard input. Footage: video file, "
        "folder of frames, address such as rtsp://host/stream, camera such as /dev/video0, - is a "
        "video on standard input",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        type=Path,
        help="write to OUT.csv or, as JSON, a line a record or frame, to OUT.jsonl",
    )
    parser.add_argument(
        "--threshold",
        metavar="T",
        type=float,
        help="scores above T are anomalies, not the detector's own threshold",
    )
    records = parser.add_argument_group("of records")
    records.add_argument(
        "--explain", action="store_true", help="add the fields with the largest errors, and those"
    )
    records.add_argument(
        "--batch-size",
        metavar="N",
        type=_positive,
        default=1024,
        help="records a step or request (%(default)s)",
    )
    footage = parser.add_argument_group("of footage")
    footage.add_argument(
        "--overlay", metavar="OUT.mp4", type=Path, help="draw heat map and scores over the footage"
    )
    footage.add_argument(
        "--plot", metavar="OUT.png", type=Path, help="draw the scores (PNG, SVG or PDF)"
    )
    footage.add_argument(
        "--stride",
        metavar="N",
        type=_positive,
        help="score a clip at every N-th frame, not as the detector has it: more is faster",
    )
    server = parser.add_argument_group("of a model server")
    server.add_argument("--model", metavar="NAME", help="model to ask")
    chosen = server.add_mutually_exclusive_group()
    chosen.add_argument(
        "--version", metavar="N", type=int, help="its version (default: the newest)"
    )
    chosen.add_argument("--label", metavar="NAME", help="label of the version")
    return parser


def _score_records(args: argparse.Namespace, detector) -> None:
    from memae_tf.scoring import output, records

    lines = output.FORMATS[output.suffix_of(args.output)]
    total = anomalies = 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(detector)
        write = stack.enter_context(output.opened(args.output))
        display = _display(args, stack)
        batches = records.batches(Path(args.input), detector.fields, args.batch_size)
        for answer in detector.answers(batches, args.threshold, args.explain):
            write(lines(total + 1, answer))
            total += len(answer["score"])
            anomalies += int(answer["is_anomaly"].sum())
            if display is not None:
                display.update(total, None, f"{total:,} records, {anomalies:,} anomalies")
    if args.output is not None:
        print(f"Wrote {args.output}: {total:,} records, {anomalies:,} anomalies")


def _score_footage(args: argparse.Namespace, detector) -> None:
    from memae_tf.errors import UserError
    from memae_tf.scoring.footage import FootageScorer
    from memae_tf.scoring.footage_output import FootageOutput
    from memae_tf.scoring.streams import Ahead, Footage

    scoring = detector.featurizer.frame_scoring
    if args.stride is not None:
        scoring = scoring.model_copy(update={"clip_stride": args.stride})
    scorer = FootageScorer(detector, scoring, args.threshold, explain=args.overlay is not None)
    footage = Footage(args.input, detector.featurizer, shown=args.overlay is not None)
    out = FootageOutput(args.output, args.overlay, args.plot, footage, scorer)
    with contextlib.ExitStack() as stack:
        stack.enter_context(out)
        stack.callback(footage.close)
        ahead = stack.enter_context(Ahead(footage, drops=footage.drops))
        display = _display(args, stack)
        for scored in scorer.run(ahead, patient=not footage.is_live):
            out.add(scored)
            if display is not None:
                display.update(out.frames, None, out.text())
    for path in (args.output, args.overlay, args.plot):
        if path is not None:
            print(f"Wrote {path}: {out.text()}")
    if footage.damage is not None:
        raise UserError(f"{args.input}: {footage.damage}; what came before it has been scored")


def _display(args: argparse.Namespace, stack: contextlib.ExitStack):
    """On a terminal the lines themselves are the progress."""
    if args.output is None and sys.stdout.isatty():
        return None
    return stack.enter_context(console.ProgressDisplay())


def _refuse(parser: Parser, args: argparse.Namespace, *names: str, what: str) -> None:
    for name in names:
        if getattr(args, name):
            parser.error(f"--{name} is for {what}")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number


if __name__ == "__main__":
    console.run(main)
