"""Warm-up requests: TensorFlow Serving runs them before it makes a version available."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from memae_tf.errors import UserError
from memae_tf.serving.export.saved_model import CLASSIFY, PREDICT, Signature

REQUESTS = Path("assets.extra") / "tf_serving_warmup_requests"


def require_protocol() -> None:
    """Imports the messages of TensorFlow Serving's protocol.

    Raises:
        UserError: If they are not installed.
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
    path = directory / REQUESTS
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


def replay(directory: Path) -> dict[str, dict[str, np.ndarray]]:
    """Loads a SavedModel as the model server does and runs its warm-up requests.

    Returns:
        The outputs by signature.

    Raises:
        RuntimeError: If a request is for no signature, or an output has not one value a sample.
        tf.errors.OpError: If a request fails.
    """
    logs = list(tf.data.TFRecordDataset(str(directory / REQUESTS)).as_numpy_iterator())
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(directory))
        return dict(_run(session, meta_graph.signature_def, log) for log in logs)


def _run(session, definitions, serialized: bytes) -> tuple[str, dict[str, np.ndarray]]:
    name, inputs = _request(serialized)
    if name not in definitions:
        raise RuntimeError(f"a warm-up request is for a signature that is not there: {name}")
    definition = definitions[name]
    feeds = {definition.inputs[alias].name: values for alias, values in inputs.items()}
    fetches = {alias: tensor.name for alias, tensor in definition.outputs.items()}
    outputs = session.run(fetches, feeds)
    batch = len(next(iter(inputs.values())))
    for alias, values in outputs.items():
        if values.shape[:1] != (batch,):
            raise RuntimeError(
                f"signature {name}: output {alias} has the shape {values.shape} for {batch} samples"
            )
    return name, outputs


def _request(serialized: bytes) -> tuple[str, dict[str, np.ndarray]]:
    """The signature that a PredictionLog is for, and the inputs."""
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    log = PredictionLog.FromString(serialized)
    request = getattr(log, log.WhichOneof("log_type")).request
    if log.HasField("predict_log"):
        inputs = {alias: tf.make_ndarray(tensor) for alias, tensor in request.inputs.items()}
    else:
        examples = request.input.example_list.examples
        inputs = {"inputs": np.array([e.SerializeToString() for e in examples], object)}
    return request.model_spec.signature_name, inputs
