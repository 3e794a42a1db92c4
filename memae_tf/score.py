"""Scores a file or a stream: `python -m memae_tf.score DETECTOR INPUT [-o OUT]`."""

import argparse
import contextlib
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from memae_tf import console
from memae_tf.console import Parser, bounded
from memae_tf.files import require_writable


def main(argv: Sequence[str] | None = None) -> None:
    parser = _parser()
    args = parser.parse_args(argv)

    from memae_tf.serving.client import is_address

    is_served = is_address(args.detector) and not Path(args.detector).exists()
    if is_served and args.model is None:
        parser.error(f"--model is required, to name a model of {args.detector}")
    if not is_served and (args.model, args.version, args.label) != (None, None, None):
        parser.error("--model, --version and --label need the address of a server")
    if is_served and args.precision is not None:
        parser.error("--precision: a server computes as its model was exported; use it there")

    from memae_tf.scoring.output import suffix_of

    suffix_of(args.output)
    for name, path in {"-o": args.output, "--overlay": args.overlay, "--plot": args.plot}.items():
        if path is None:
            continue
        if path.exists() and Path(args.input).exists() and path.samefile(args.input):
            parser.error(f"{name} {path}: is the input itself; give another name")
        require_writable(path)
    if is_served:
        from memae_tf.scoring.detectors import ServedDetector

        size = args.batch_size
        detector = ServedDetector(args.detector, args.model, args.version, args.label, size)
        if detector.kind != "records":
            console.import_tensorflow()
    else:
        console.import_tensorflow()
        from memae_tf.scoring.detectors import LocalDetector

        detector = LocalDetector.load(Path(args.detector), args.precision)
    with detector:
        _require_options_of(parser, args, detector.kind)
        SCORE[detector.kind](args, detector)


def _parser() -> Parser:
    parser = Parser(
        prog="python -m memae_tf.score",
        description="Score any number of records, images or frames of footage as they come. The "
        "output is CSV: which one it is, its score, and whether it is an anomaly.",
    )
    parser.add_argument(
        "detector",
        metavar="DETECTOR",
        help="run directory, detector.keras, name of a pretrained detector, or the address of a "
        "model server: host:8500 (gRPC) or http://host:8501 (REST)",
    )
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="records: CSV or Parquet file, or - for CSV on standard input. Images: file, or "
        "folder with its subfolders. Footage: video file, folder of frames, address such as "
        "rtsp://host/stream, camera such as /dev/video0, or - for a video on standard input",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        type=console.path,
        help="write to OUT.csv, or to OUT.jsonl with a line of JSON per record, image or frame "
        "(default: CSV on standard output)",
    )
    console.add_threshold(parser)
    console.add_precision(parser)
    parser.add_argument(
        "--batch-size",
        metavar="N",
        type=bounded(int, 1),
        default=1024,
        help="most records or images in a step or request (default: %(default)s)",
    )
    records = parser.add_argument_group("options for records")
    records.add_argument(
        "--explain",
        action="store_true",
        help="add the fields with the largest errors, and these errors",
    )
    footage = parser.add_argument_group("options for footage")
    footage.add_argument(
        "--overlay",
        metavar="OUT.mp4",
        type=console.path,
        help="write the footage with heat map and scores drawn over it",
    )
    footage.add_argument(
        "--plot", metavar="OUT.png", type=console.path, help="draw the scores (PNG, SVG or PDF)"
    )
    footage.add_argument(
        "--stride",
        metavar="N",
        type=bounded(int, 1),
        help="score a clip at every N-th frame, instead of the detector's own stride; more is "
        "faster",
    )
    server = parser.add_argument_group("options for a model server")
    server.add_argument("--model", metavar="NAME", help="name of the model to ask")
    chosen = server.add_mutually_exclusive_group()
    chosen.add_argument(
        "--version", metavar="N", type=int, help="version of the model (default: the newest)"
    )
    chosen.add_argument(
        "--label", metavar="NAME", help="label of the version, in place of a number"
    )
    return parser


def _score_records(args: argparse.Namespace, detector) -> None:
    from memae_tf.scoring import output, records
    from memae_tf.tables import source_name

    lines = output.FORMATS[output.suffix_of(args.output)]
    total = anomalies = 0
    with contextlib.ExitStack() as stack:
        write = stack.enter_context(output.opened(args.output))
        display = _display(args, stack)
        batches = records.batches(
            Path(args.input), detector.fields, args.batch_size, detector.coded_fields
        )
        unseen = records.UnseenCategories(detector.categories)
        batches = unseen.watched(batches)
        for answer in detector.answers(batches, args.threshold, args.explain):
            write(lines(total + 1, answer))
            total += len(answer["score"])
            anomalies += int(answer["is_anomaly"].sum())
            if display is not None:
                display.update(total, None, f"{total:,} records, {anomalies:,} anomalies")
    if args.output is not None:
        print(f"Wrote {args.output}: {total:,} records, {anomalies:,} anomalies")
    for complaint in unseen.complaints(source_name(Path(args.input))):
        warnings.warn(complaint, stacklevel=2)


def _score_images(args: argparse.Namespace, detector) -> None:
    from memae_tf.data.images import complaint
    from memae_tf.errors import UserError
    from memae_tf.scoring import output
    from memae_tf.scoring.images import ImageFolder

    folder = ImageFolder(Path(args.input), args.batch_size)
    total = anomalies = 0
    with contextlib.ExitStack() as stack:
        write_row = output.row_writer(stack.enter_context(output.opened(args.output)), args.output)
        display = _display(args, stack)
        for answer in detector.answers(folder.batches(), args.threshold):
            for row in folder.rows(answer):
                write_row(row)
            total += len(answer["score"])
            anomalies += int(answer["is_anomaly"].sum())
            if display is not None:
                display.update(total, None, f"{total:,} images, {anomalies:,} anomalies")
        for row in folder.damaged_rows():
            write_row(row)
    if args.output is not None:
        print(f"Wrote {args.output}: {total:,} images, {anomalies:,} anomalies")
    if folder.damaged:
        what = complaint(folder.damaged, len(folder.paths))
        rest = "; the others have been scored" if total else ""
        raise UserError(f"{args.input}: {what}{rest}")


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
    if footage.drops:
        scorer.warm_up()
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
    if out.frames and not out.scored:
        count = f"has {out.frames} frames"
        if footage.damage is not None:
            count = f"{footage.damage}; {out.frames} frames were read"
        raise UserError(
            f"{footage.shown_source}: {count}, but a clip of the detector needs {scorer.span}, "
            "so none has a score"
        )
    if footage.damage is not None:
        raise UserError(f"{footage.shown_source}: {footage.damage}; the frames before are scored")


def _display(args: argparse.Namespace, stack: contextlib.ExitStack):
    """On a terminal the lines themselves are the progress."""
    if args.output is None and sys.stdout.isatty():
        return None
    return stack.enter_context(console.ProgressDisplay())


def _require_options_of(parser: Parser, args: argparse.Namespace, kind: str) -> None:
    """Refuses options for another kind of input than the detector's."""
    if args.explain and kind == "clips":
        parser.error("--explain is for records; --overlay shows where errors are in footage")
    if args.explain and kind == "images":
        parser.error("--explain is for records")
    for name in ("overlay", "plot", "stride"):
        if getattr(args, name) and kind != "clips":
            parser.error(f"--{name} is for footage, and the detector takes {kind}")


SCORE = {"records": _score_records, "images": _score_images, "clips": _score_footage}


if __name__ == "__main__":
    console.run(main)
