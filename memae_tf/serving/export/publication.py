"""Publishes detectors as versions under a base path for TensorFlow Serving."""

import contextlib
import importlib.metadata
import json
import math
import os
import platform
import re
import shlex
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from memae_tf import __version__, pretrained
from memae_tf.config import load_config
from memae_tf.errors import UserError
from memae_tf.files import PARTIAL, require_writable, sync, whole_file
from memae_tf.layers import ClipFeaturizer, ImageFeaturizer, RecordFeaturizer
from memae_tf.models import Detector, load_detector
from memae_tf.serving.export import manifest, onnx, saved_model, warmup
from memae_tf.serving.export.clips import ClipInterface
from memae_tf.serving.export.images import ImageInterface
from memae_tf.serving.export.interface import Interface
from memae_tf.serving.export.records import RecordInterface
from memae_tf.serving.export.saved_model import Signature
from memae_tf.training.run_directory import RunDirectory

INTERFACES = {
    RecordFeaturizer: RecordInterface,
    ImageFeaturizer: ImageInterface,
    ClipFeaturizer: ClipInterface,
}
EXAMPLE = Path("assets.extra") / "example_request.json"
# TensorFlow Serving keeps versions as signed 64-bit integers.
LARGEST_VERSION = 2**63 - 1


@dataclass(frozen=True)
class Source:
    """A detector to export, and the run that it is from.

    Attributes:
        detector: The detector.
        config: The configuration of the run; `None` for a file without a run.
        metrics: The metrics of the run.
    """

    detector: Detector
    config: dict | None = None
    metrics: dict | None = None


def read_source(path: str | Path) -> Source:
    """The detector of a finished run or of a `detector.keras`.

    Raises:
        UserError: If it is neither, or damaged.
    """
    path = Path(path)
    if path.is_file():
        return Source(load_detector(path))
    if not path.exists():
        hint = ""
        if str(path) in pretrained.names():
            hint = f"; the detector of the package is {pretrained.directory(str(path))}"
        raise UserError(f"{path}: there is no such run directory or detector{hint}")
    run = RunDirectory.existing(path)
    if not run.metrics.is_file():
        raise UserError(f"{path}: is not finished; finish it with memae_tf.train first")
    metrics = run.read_json(run.metrics)
    return Source(
        load_detector(run.detector), load_config(run.config).model_dump(mode="json"), metrics
    )


def publish(
    source: Source, base: str | Path, version: int | None = None, onnx_file: Path | None = None
) -> Path:
    """Writes a detector as a version that TensorFlow Serving can load.

    The version appears as a whole, after its warm-up requests have run, or not at all. Several
    processes may publish under the same base.

    Args:
        source: What to publish.
        base: The directory of the versions; it is made if missing.
        version: The number of the version; `None` is one more than the highest one.
        onnx_file: A file for the numeric part as an ONNX model, which is replaced if it exists.

    Returns:
        The directory of the version.

    Raises:
        UserError: If the version exists, the detector's threshold is infinite, something cannot be
            written, or a package is missing.
    """
    warmup.require_protocol()
    threshold = float(source.detector.threshold.numpy())
    if not math.isfinite(threshold):
        # JSON has no such number.
        raise UserError(f"threshold={threshold}: should be finite; --threshold gives another one")
    if onnx_file is not None:
        onnx.require_onnx()
        require_writable(Path(onnx_file))
    base = Path(base)
    free_version(base, version)
    interface = interface_of(source.detector)
    signatures = saved_model.signatures_of(interface)
    with _writing(base), _set_aside(base) as directory:
        # The version appears last, so there is no version if the file cannot be written.
        with contextlib.ExitStack() as stack:
            if onnx_file is not None:
                encoded = signatures["score_encoded"].sample["features"]
                proto = onnx.detector_to_onnx(source.detector, encoded)
                stack.enter_context(_writing(onnx_file))
                stack.enter_context(whole_file(onnx_file)).write_bytes(proto.SerializeToString())
            with _writing(base):
                _write(source, interface, signatures, directory)
        return _named(directory, version)


def interface_of(detector: Detector) -> Interface:
    """The interface for the kind of input that a detector takes."""
    return INTERFACES[type(detector.featurizer)](detector)


def free_version(base: Path, version: int | None) -> int:
    """The number to publish under.

    Raises:
        UserError: If it is taken, or the base is not a directory.
    """
    if base.exists() and not base.is_dir():
        raise UserError(f"{base}: is a file; --to should be a folder of versions")
    with _writing(base):
        taken = {int(p.name): p for p in base.glob("*") if re.fullmatch("[0-9]+", p.name)}
    if version is None:
        version = max(taken, default=0) + 1
    if not 1 <= version <= LARGEST_VERSION:
        raise UserError(f"--version {version}: should be from 1 to {LARGEST_VERSION}")
    if version in taken:
        raise UserError(f"{taken[version]}: already exists; choose another --version, or give none")
    return version


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror
    except tf.errors.ResourceExhaustedError as error:
        # TensorFlow's error for a full disk, for example: "file; reason".
        reason = error.message.rsplit("; ", 1)[-1]
    else:
        return
    raise UserError(f"{path}: cannot be written ({reason})")


@contextlib.contextmanager
def _set_aside(base: Path) -> Iterator[Path]:
    """A directory under the base to write a version to; it is removed if anything fails."""
    made = [path for path in (base, *base.parents) if not path.exists()]
    # The name is not an integer, so that no server takes it for a version.
    aside = base / f"{PARTIAL}{uuid.uuid4().hex}"
    try:
        aside.mkdir(parents=True)
        yield aside
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise


def _named(aside: Path, version: int | None) -> Path:
    """Renames a complete version to its number.

    As others may publish at the same time, the next number is chosen only now.
    """
    sync(aside)
    while True:
        target = aside.with_name(str(free_version(aside.parent, version)))
        try:
            os.rename(aside, target)
        except OSError:
            if target.exists():
                continue
            raise
        return target


def _write(
    source: Source, interface: Interface, signatures: dict[str, Signature], directory: Path
) -> None:
    saved_model.save(source.detector, signatures, directory)
    warmup.write(signatures, directory)
    warmup.replay(directory)
    request = json.dumps(interface.example_request(), indent=2)
    (directory / EXAMPLE).write_text(request + "\n")
    content = {
        "versions": _versions(),
        **interface.description(),
        "precision": source.detector.model.dtype_policy.name,
        "config": source.config,
        "metrics": source.metrics,
        "signatures": saved_model.signature_definitions(directory),
    }
    manifest.write(directory, content)


def _versions() -> dict[str, str]:
    packages = ("tensorflow", "keras", "numpy", "tensorflow-serving-api")
    return {
        "python": platform.python_version(),
        "memae_tf": __version__,
        **{name: importlib.metadata.version(name) for name in packages},
    }


def how_to_serve(published: Path) -> str:
    """Command lines that serve and query a published version."""
    base = published.parent.resolve()
    # A name that needs no quoting in an address.
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", base.name) or "detector"
    source, request = shlex.quote(str(base)), shlex.quote(str(published.resolve() / EXAMPLE))
    embedded = source if name == base.name else shlex.quote(f"{name}={base}")
    mount = shlex.quote(f"type=bind,source={base},target=/models/{name},readonly")
    return f"""\
Serve it with one of
  python -m memae_tf.serve {embedded}
  tensorflow_model_server --port=8500 --rest_api_port=8501 --model_name={name} \\
      --model_base_path={source}
  docker run --rm -p 8500:8500 -p 8501:8501 -e MODEL_NAME={name} \\
      --mount {mount} tensorflow/serving
and ask it with
  curl --data @{request} http://localhost:8501/v1/models/{name}:predict"""
