"""Detectors that are asked alike, wherever they are: in a file, or behind a server."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memae_tf.errors import UserError

if TYPE_CHECKING:
    # A client of a server does without TensorFlow.
    from memae_tf.models import Detector

NUM_TOP = 5

Answer = dict[str, np.ndarray]


def load_local(path: Path) -> "Detector":
    """The detector of a run directory, or of a `detector.keras`.

    Raises:
        UserError: If it is neither, or damaged.
    """
    from memae_tf.models import load_detector
    from memae_tf.training.run_directory import RunDirectory

    if not path.exists():
        raise UserError(
            f"{path}: there is no such run directory or detector, and it is no address of a "
            "server (such as localhost:8500 or http://localhost:8501)"
        )
    return load_detector(path if path.is_file() else RunDirectory.existing(path).detector)


class LocalDetector:
    """A detector of records that is here.

    Attributes:
        fields: The dtype of every field of the records that it takes, "float32" or "string".

    Args:
        detector: The detector.
    """

    def __init__(self, detector: "Detector"):
        self._detector = detector
        self.fields: Mapping[str, str] = detector.featurizer.input_dtypes()

    def __enter__(self) -> "LocalDetector":
        return self

    def __exit__(self, *_) -> None:
        pass

    def answers(
        self, batches: Iterable[Answer], threshold: float | None, explain: bool
    ) -> Iterator[Answer]:
        """Scores, decisions and, where asked for, explanations of batches of records.

        Yields:
            `score`, `is_anomaly` and `threshold` (records,); to explain them `top_fields` and
            `top_errors` (records, 5), the fields with the largest errors.
        """
        for batch in batches:
            size = len(next(iter(batch.values())))
            answer = self._detector.detect(batch, threshold, explain, batch_size=size)
            if explain:
                # Of equal errors the first field first, as TensorFlow's top_k has it.
                order = np.argsort(-answer["field_error"], axis=1, kind="stable")[:, :NUM_TOP]
                answer["top_fields"] = np.array(self._detector.field_names, object)[order]
                answer["top_errors"] = np.take_along_axis(answer["field_error"], order, axis=1)
            yield answer


class ServedDetector:
    """An exported detector that a model server answers for; a context manager.

    Attributes:
        fields: As those of `LocalDetector`.

    Args:
        address, model, version, label, batch_size: Those of `memae_tf.serving.Client`.

    Raises:
        UserError: If the server cannot be reached, or has no such model, or it takes no records.
    """

    def __init__(
        self, address: str, model: str, version: int | None, label: str | None, batch_size: int
    ):
        from memae_tf.serving.client import Client

        self._client = Client(address, model, version, label, batch_size=batch_size)
        try:
            fields = self._client.fields()
        except BaseException:
            self._client.close()
            raise
        if fields is None:
            raise UserError(f"{address}, model {model}: takes no records")
        self.fields: Mapping[str, str] = fields

    def __enter__(self) -> "ServedDetector":
        return self

    def __exit__(self, *_) -> None:
        self._client.close()

    def answers(
        self, batches: Iterable[Answer], threshold: float | None, explain: bool
    ) -> Iterator[Answer]:
        """What `LocalDetector.answers` gives."""
        for answer in self._client.score_batches(batches, threshold, explain):
            if explain:
                count = answer["top_fields"].shape[1]
                answer["top_errors"] = -np.sort(-answer["field_error"], axis=1)[:, :count]
            yield answer
