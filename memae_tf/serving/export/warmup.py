"""Warm-up requests, which TensorFlow Serving runs before it makes a version available."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from memae_tf.errors import UserError
from memae_tf.serving.export.saved_model import CLASSIFY, PREDICT, Signature


def require_protocol() -> None:
    """Imports the messages of TensorFlow Serving's protocol.

    Raises:
        UserError: If the package is not installed.
    """
    try:
        import tensorflow_serving.apis.prediction_log_pb2  # noqa: F401
    except ImportError:
        raise UserError(
            "the package tensorflow-serving-api is not installed; "
            "pip install 'memae_tf[serving]' installs it"
        ) from None


def write(signatures: dict[str, Signature], directory: Path) -> None:
    """Writes a request with the sample of every signature into a SavedModel's directory."""
    from memae_tf.serving.server.warmup_replay import FILE

    path = directory / FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for name, signature in signatures.items():
            writer.write(_log(name, signature).SerializeToString())


def _log(name: str, signature: Signature):
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    log = PredictionLog()
    if signature.method == PREDICT:
        request = log.predict_log.request
        for alias, values in signature.sample.items():
            tensor = tf.make_tensor_proto(values, signature.inputs[alias].dtype)
            request.inputs[alias].CopyFrom(tensor)
    else:
        request = (log.classify_log if signature.method == CLASSIFY else log.regress_log).request
        for serialized in signature.sample["inputs"]:
            request.input.example_list.examples.add().ParseFromString(serialized)
    request.model_spec.signature_name = name
    return log


def replay(directory: Path) -> dict[str, object]:
    """Loads a SavedModel and runs its warm-up requests, as a server does.

    Returns:
        The answers by signature; answers to Predict are outputs by alias.

    Raises:
        ServingError: If a request fails.
        RuntimeError: If an output does not have one value per sample.
    """
    from memae_tf.serving.server import warmup_replay
    from memae_tf.serving.server.servable import Servable

    servable, answers = Servable(directory), {}
    try:
        for log in warmup_replay.requests(servable):
            request = getattr(log, log.WhichOneof("log_type")).request
            answer = warmup_replay.replay(servable, log)
            if log.HasField("predict_log"):
                _check_batch(request, answer)
            answers[request.model_spec.signature_name] = answer
    finally:
        servable.close()
    return answers


def _check_batch(request, outputs: dict[str, np.ndarray]) -> None:
    """Checks that outputs have one value per sample, so that servers can batch requests."""
    batch = next(iter(request.inputs.values())).tensor_shape.dim[0].size
    for alias, values in outputs.items():
        if values.shape[:1] != (batch,):
            raise RuntimeError(
                f"signature {request.model_spec.signature_name}: output {alias} has the shape "
                f"{values.shape} for {batch} samples"
            )
