"""Exports a detector: `python -m memae_tf.export DIR --to BASE [--version N] [--onnx FILE]`."""

import dataclasses
from collections.abc import Sequence

from memae_tf import console
from memae_tf.console import Parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(
        prog="python -m memae_tf.export",
        description="Publish a trained detector for TensorFlow Serving: writes a SavedModel with "
        "its warm-up requests and manifest to BASE/N.",
    )
    parser.add_argument("source", metavar="DIR", help="finished run directory, or detector.keras")
    parser.add_argument(
        "--to",
        metavar="BASE",
        required=True,
        type=console.path,
        help="folder of all versions",
    )
    parser.add_argument(
        "--version",
        metavar="N",
        type=int,
        help="number of the version (default: the next one)",
    )
    parser.add_argument(
        "--onnx",
        metavar="FILE",
        type=console.path,
        help="also write the numeric part as an ONNX model",
    )
    console.add_threshold(parser)
    console.add_precision(parser)
    args = parser.parse_args(argv)

    console.import_tensorflow()
    from memae_tf.serving.export.publication import how_to_serve, publish, read_source

    source = read_source(args.source)
    if args.precision is not None:
        detector = source.detector.in_precision(args.precision)
        source = dataclasses.replace(source, detector=detector)
    if args.threshold is not None:
        source.detector.threshold = args.threshold
    published = publish(source, args.to, args.version, args.onnx)
    print(f"Published {published}/")
    if args.onnx is not None:
        print(f"Wrote {args.onnx}")
    print(how_to_serve(published))


if __name__ == "__main__":
    console.run(main)
