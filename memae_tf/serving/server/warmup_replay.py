"""Runs the warm-up requests of a version before it becomes available."""

from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from memae_tf.serving.server.messages import inference_tasks, serialized_examples
from memae_tf.serving.server.servable import Servable
from memae_tf.serving.wire.status import invalid_argument

FILE = Path("assets.extra") / "tf_serving_warmup_requests"
MAX_REQUESTS = 1000


def has_requests(servable: Servable) -> bool:
    """Whether a version has warm-up requests."""
    return (Path(servable.path) / FILE).exists()


def warm_up(servable: Servable) -> None:
    """Runs the warm-up requests of a version.

    Raises:
        ServingError: If one fails, cannot be read, or cannot be replayed.
    """
    for log in requests(servable):
        replay(servable, log)


def requests(servable: Servable) -> Iterator[prediction_log_pb2.PredictionLog]:
    """The warm-up requests of a version.

    Raises:
        ServingError: If one cannot be read, or there are too many.
    """
    path = Path(servable.path) / FILE
    try:
        records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
        for number, record in enumerate(records, 1):
            if number > MAX_REQUESTS:
                raise invalid_argument(
                    f"Number of warmup records exceeds the maximum ({MAX_REQUESTS}) at {path}"
                )
            yield _parse(record, path)
    except tf.errors.DataLossError as error:
        raise invalid_argument(
            f"Failed to read warmup record: {error.message} Please verify your data: {path}"
        ) from error


def replay(servable: Servable, log: prediction_log_pb2.PredictionLog) -> object:
    """Answers the request in a log as if it came from a client."""
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        request = log.predict_log.request
        return servable.predict(
            request.model_spec.signature_name, request.inputs, list(request.output_filter)
        )
    if kind == "classify_log":
        request = log.classify_log.request
        examples = serialized_examples(request.input)
        return servable.classify(request.model_spec.signature_name, examples)
    if kind == "regress_log":
        request = log.regress_log.request
        examples = serialized_examples(request.input)
        return servable.regress(request.model_spec.signature_name, examples)
    if kind == "multi_inference_log":
        request = log.multi_inference_log.request
        return servable.infer(inference_tasks(request.tasks), serialized_examples(request.input))
    raise invalid_argument(f"Unsupported log_type for warmup: {kind or 'none'}")


def _parse(record: bytes, path: Path) -> prediction_log_pb2.PredictionLog:
    try:
        return prediction_log_pb2.PredictionLog.FromString(record)
    except DecodeError as error:
        raise invalid_argument(f"Failed to parse warmup record: {path}") from error
