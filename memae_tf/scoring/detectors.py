"""One interface for detectors in a file and behind a model server."""

import io
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from memae_tf.errors import RequestError, UserError
from memae_tf.precision import Precision
from memae_tf.serving.export import NUM_TOP

if TYPE_CHECKING:
    # Not at run time, as a client of a server does not need TensorFlow.
    from memae_tf.layers import ClipFeaturizer
    from memae_tf.models import Detector

Answer = dict[str, np.ndarray]


class LocalDetector:
    """A detector in this process; a context manager.

    Attributes:
        kind: What it takes, "records", "images" or "clips".
        threshold: Scores above it are anomalies.
        reduction: Whether a score is the "sum" or the "mean" of a sample's errors.
        featurizer: The detector's featurizer.

    Args:
        detector: The detector.
    """

    def __init__(self, detector: "Detector"):
        from memae_tf.layers import ClipFeaturizer, ImageFeaturizer

        self._detector = detector
        self.featurizer = detector.featurizer
        self.kind = "records"
        if isinstance(self.featurizer, ImageFeaturizer):
            # A ClipFeaturizer is one, too.
            self.kind = "clips" if isinstance(self.featurizer, ClipFeaturizer) else "images"
        self.threshold = float(detector.threshold.numpy())
        self.reduction = detector.model.reduction

    @classmethod
    def load(cls, path: Path, precision: Precision | None = None) -> "LocalDetector":
        """Loads a detector from a run directory or a `detector.keras`, or a pretrained one by name.

        Args:
            path: The directory, file or name.
            precision: What `Detector.in_precision` takes; `None` is that of the training.

        Raises:
            UserError: If there is no such detector, or it is damaged or quantized.
        """
        from memae_tf import pretrained
        from memae_tf.models import load_detector
        from memae_tf.training.run_directory import RunDirectory

        if path.exists():
            file = path if path.is_file() else RunDirectory.existing(path).detector
            detector = load_detector(file)
        elif str(path) in pretrained.names():
            detector = pretrained.load_pretrained(str(path))
        else:
            raise UserError(
                f"{path}: there is no such run directory or detector; nor is it the address of a "
                "server (such as localhost:8500 or http://localhost:8501), or one of the "
                f"pretrained detectors {', '.join(pretrained.names())}"
            )
        return cls(detector if precision is None else detector.in_precision(precision))

    def __enter__(self) -> "LocalDetector":
        return self

    def __exit__(self, *_) -> None:
        pass

    @property
    def fields(self) -> Mapping[str, str]:
        """The dtype of every field of records, "float32" or "string"."""
        return self.featurizer.input_dtypes()

    @property
    def coded_fields(self) -> list[str]:
        """The numeric fields of records whose numbers are categories."""
        return self.featurizer.coded_fields

    @property
    def categories(self) -> Mapping[str, list]:
        """The known categories of every categorical field."""
        return self.featurizer.categorical

    def answers(
        self, batches: Iterable, threshold: float | None, explain: bool = False
    ) -> Iterator[Answer]:
        """Scores, decisions and, if asked for, explanations of batches.

        Args:
            batches: Records as columns by field, or lists of images, uint8 (height, width,
                channels).
            threshold: Replaces the detector's own.
            explain: Whether to name the fields of records with the largest errors.

        Yields:
            For each batch `score`, `is_anomaly` and `threshold` (samples,) and, with `explain`,
            `top_fields` and `top_errors` (records, 5).
        """
        for batch in batches:
            size = len(next(iter(batch.values()))) if isinstance(batch, dict) else None
            answer = self._detector.detect(batch, threshold, explain, batch_size=size)
            if explain:
                # For equal errors in the order of fields, like TensorFlow's `top_k` in exports.
                order = np.argsort(-answer["field_error"], axis=1, kind="stable")[:, :NUM_TOP]
                answer["top_fields"] = np.array(self._detector.field_names, object)[order]
                answer["top_errors"] = np.take_along_axis(answer["field_error"], order, axis=1)
            yield answer

    def detect(self, clips: np.ndarray, explain: bool) -> Answer:
        """The answer of `Detector.detect` for clips."""
        return self._detector.detect(clips, explain=explain)


class ServedDetector:
    """An exported detector behind a model server; a context manager.

    It has the methods and attributes of `LocalDetector`.

    Args:
        address, model, version, label, batch_size: As in `memae_tf.serving.Client`.

    Raises:
        UserError: If the server cannot be reached or has no such model, or it is not a detector.
    """

    def __init__(
        self, address: str, model: str, version: int | None, label: str | None, batch_size: int
    ):
        from memae_tf.serving.client import Client

        self._client = Client(address, model, version, label, batch_size=batch_size)
        try:
            description = self._description()
        except BaseException:
            self._client.close()
            raise
        self._input = description["input"]
        self.kind = self._input["kind"]
        self.threshold: float = description["threshold"]
        self.reduction: str = description["reduction"]

    def _description(self) -> dict:
        try:
            return self._client.describe()
        except RequestError as error:
            if "has no signature" not in str(error):
                raise
            raise UserError(
                f"{error}: it does not say what it takes; export it again if it is a detector"
            ) from None

    def __enter__(self) -> "ServedDetector":
        return self

    def __exit__(self, *_) -> None:
        self._client.close()

    @cached_property
    def fields(self) -> Mapping[str, str]:
        """The dtype of every field of records, "float32" or "string"."""
        return self._client.fields()

    @cached_property
    def coded_fields(self) -> list[str]:
        """The numeric fields of records whose numbers are categories."""
        return [field for field in self.categories if self.fields[field] == "float32"]

    @cached_property
    def categories(self) -> Mapping[str, list]:
        """The known categories of every categorical field."""
        names, known = self._input["feature_names"], {}
        for field, dtype in self.fields.items():
            if field not in names:
                start, kind = f"{field}=", float if dtype == "float32" else str
                known[field] = [kind(n.removeprefix(start)) for n in names if n.startswith(start)]
        return known

    @cached_property
    def featurizer(self) -> "ClipFeaturizer":
        """A featurizer with what cutting footage into clips needs; the server normalises them."""
        from memae_tf.layers import ClipFeaturizer

        names = ("size", "length", "frame_stride", "channels", "frame_scoring", "frame_rate")
        return ClipFeaturizer(**{name: self._input[name] for name in names})

    def answers(
        self, batches: Iterable, threshold: float | None, explain: bool = False
    ) -> Iterator[Answer]:
        """What `LocalDetector.answers` gives."""
        if self.kind == "images":
            batches = ([_png(image) for image in batch] for batch in batches)
        for answer in self._client.score_batches(batches, threshold, explain):
            if explain:
                count = answer["top_fields"].shape[1]
                answer["top_errors"] = -np.sort(-answer["field_error"], axis=1)[:, :count]
            yield answer

    def detect(self, clips: np.ndarray, explain: bool) -> Answer:
        """The answer of `Detector.detect` for clips."""
        return self._client.explain(clips) if explain else self._client.score(clips)


def _png(image: np.ndarray) -> bytes:
    """An image as a PNG file, losslessly, as images in a request may have several sizes."""
    file = io.BytesIO()
    pixels = image[..., 0] if image.shape[-1] == 1 else image
    Image.fromarray(pixels).save(file, "png", compress_level=1)
    return file.getvalue()
