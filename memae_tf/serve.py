"""Serves exported models for development: `python -m memae_tf.serve BASE...`."""

import argparse
import contextlib
import logging
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from memae_tf import console
from memae_tf.console import Parser, bounded
from memae_tf.errors import UserError

LARGEST_PORT = 65535
NOTICE = (
    "This server is for development. In production use TensorFlow Serving itself "
    "(https://www.tensorflow.org/tfx/guide/serving), which serves the same directories."
)


def main(argv: Sequence[str] | None = None) -> None:
    parser = _parser()
    args = parser.parse_args(argv)
    if not args.bases and not args.pretrained and not args.model_config_file:
        parser.error("nothing to serve: give a BASE, --pretrained or --model-config-file")

    from memae_tf.serving.server import require_packages
    from memae_tf.serving.server.stop_signals import StopSignals

    stop = StopSignals()
    require_packages()
    with _export_folder(args) as exports:
        models = _models(args, exports)
        console.import_tensorflow()
        options = _options(args)
        _export(args.pretrained, exports)
        _serve(models, options, stop)
    sys.exit(stop.status)


def _parser() -> Parser:
    parser = Parser(
        prog="python -m memae_tf.serve",
        description="Serve SavedModels over gRPC and REST as TensorFlow Serving does. "
        "Defaults are in parentheses. " + NOTICE,
    )
    parser.add_argument(
        "bases",
        nargs="*",
        metavar="[NAME=]BASE",
        help="directory that holds the versions of a model, BASE/1, BASE/2, ...; the model has "
        "the directory's name if none is given",
    )
    parser.add_argument(
        "--pretrained",
        action="append",
        default=[],
        metavar="NAME",
        help="a detector that comes with the package, such as kddcup99, exported to a temporary "
        "folder; can be repeated",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    port = bounded(int, 0, LARGEST_PORT)
    parser.add_argument(
        "--port", type=port, default=8500, help="gRPC port, 0 for a free one (%(default)s)"
    )
    parser.add_argument(
        "--rest-port",
        type=port,
        default=8501,
        help="REST port, 0 for a free one (%(default)s)",
    )
    parser.add_argument("--no-rest", action="store_true", help="serve gRPC only")
    parser.add_argument(
        "--model-config-file",
        metavar="FILE",
        help="more models, with version policies and labels: a ModelServerConfig in text format",
    )
    parser.add_argument(
        "--allow-version-labels-for-unavailable-models",
        action="store_true",
        help="accept new labels of versions that are not available yet",
    )
    parser.add_argument(
        "--poll-seconds",
        type=bounded(float, 0, console.MOST_SECONDS),
        default=1.0,
        help="seconds between looks for new versions, 0 for never (%(default)s)",
    )
    parser.add_argument(
        "--max-load-retries",
        type=bounded(int, 0),
        default=5,
        help="how often a version that fails to load is tried again (%(default)s)",
    )
    parser.add_argument(
        "--load-retry-seconds",
        type=bounded(float, 0, console.MOST_SECONDS),
        default=1.0,
        help="seconds between two such attempts (%(default)s)",
    )
    parser.add_argument(
        "--no-warmup", action="store_true", help="skip the warm-up requests of the models"
    )
    parser.add_argument(
        "--batching-parameters-file",
        metavar="FILE",
        help="batch requests that arrive together: BatchingParameters in text format",
    )
    parser.add_argument(
        "--rest-timeout-ms",
        type=bounded(int, 1),
        default=30000,
        help="milliseconds that a REST request may take (%(default)s)",
    )
    parser.add_argument(
        "--max-request-mib",
        type=bounded(float, 0.001),
        default=256.0,
        help="largest request, in MiB (%(default)s)",
    )
    parser.add_argument(
        "--threads",
        type=bounded(int, 1),
        default=16,
        help="how many gRPC and how many REST requests to handle at a time (%(default)s)",
    )
    parser.add_argument(
        "--cors", action="store_true", help="let web pages of other origins read REST responses"
    )
    parser.add_argument(
        "--drain-seconds",
        type=bounded(float, 0, console.MOST_SECONDS),
        default=30.0,
        help="seconds that unfinished requests may take after SIGTERM (%(default)s)",
    )
    return parser


def _serve(models: list, options, stop) -> None:
    """Serves until a signal comes."""
    from memae_tf.serving.server.model_server import ModelServer

    _log_to_stderr()
    print(NOTICE, file=sys.stderr, flush=True)
    server = ModelServer(models, options)
    stop.then(server.interrupt)
    server.start(_say_waiting)
    if stop.received is None:
        for name, versions in server.registry.serving().items():
            print(f"{name}: version {', '.join(map(str, versions))}")
        print(f"gRPC on {server.grpc_address}")
        if server.rest_address is not None:
            print(f"REST on {server.rest_address}/v1/models")
        sys.stdout.flush()
        stop.wait()
        print("Stopping; unfinished requests are answered first", file=sys.stderr, flush=True)
    server.stop()


@contextlib.contextmanager
def _export_folder(args: argparse.Namespace) -> Iterator[Path | None]:
    """Where pretrained detectors are published, as long as the server runs; `None` for none."""
    if not args.pretrained:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="memae_tf-") as folder:
        yield Path(folder)


def _export(names: Sequence[str], folder: Path | None) -> None:
    """Publishes pretrained detectors under a folder."""
    from memae_tf import pretrained
    from memae_tf.serving.export.publication import publish, read_source

    for name in names:
        print(f"Exporting {name}", file=sys.stderr, flush=True)
        publish(read_source(pretrained.directory(name)), folder / name)


def _models(args: argparse.Namespace, exports: Path | None) -> list:
    """What to serve; of pretrained detectors the exports that will be in a folder."""
    from memae_tf import pretrained
    from memae_tf.serving.server.config import ModelConfig, model_config, read_model_config_file

    models = []
    for name in args.pretrained:
        pretrained.directory(name)
        models.append(ModelConfig(name, str(exports / name)))
    for base in args.bases:
        name, separator, path = base.partition("=")
        # A directory may have the sign in its own name.
        is_named = separator and "/" not in name and not Path(base).is_dir()
        if is_named and not (name and path):
            raise UserError(f"{base}: should be NAME=BASE, with a name and a folder of versions")
        models.append(model_config(path, name) if is_named else model_config(base))
    if args.model_config_file:
        models += read_model_config_file(args.model_config_file)
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two models are named {name}; give one as OTHER_NAME=BASE")
    return models


def _options(args: argparse.Namespace):
    from memae_tf.serving.server.batching_parameters import BatchingParameters
    from memae_tf.serving.server.model_server import MEBIBYTE, ServerOptions

    batching = args.batching_parameters_file
    return ServerOptions(
        host=args.host,
        grpc_port=args.port,
        rest_port=None if args.no_rest else args.rest_port,
        threads=args.threads,
        poll_seconds=args.poll_seconds,
        warmup=not args.no_warmup,
        max_load_retries=args.max_load_retries,
        retry_seconds=args.load_retry_seconds,
        batching=BatchingParameters.read(batching) if batching else None,
        rest_timeout=args.rest_timeout_ms / 1000,
        max_request_bytes=int(args.max_request_mib * MEBIBYTE),
        cors=args.cors,
        allow_unavailable_labels=args.allow_version_labels_for_unavailable_models,
        drain_seconds=args.drain_seconds,
    )


def _say_waiting(names: list[str]) -> None:
    print(f"Waiting for a version of {', '.join(names)}", file=sys.stderr, flush=True)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("memae_tf.serving")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


if __name__ == "__main__":
    console.run(main)
