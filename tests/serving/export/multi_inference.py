"""MultiInference of an export, which needs the packages of the server."""

import grpc
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from memae_tf.serving.server.config import ModelConfig
from memae_tf.serving.server.model_server import ModelServer, ServerOptions


def assert_classify_and_regress_share_a_run(directory, base, examples):
    """MultiInference by the embedded server answers both, to the last bit as each alone.

    Args:
        directory: Of the export.
        base: A folder to serve it from.
        examples: Serialized tf.Examples (batch,).
    """
    (base / "1").symlink_to(directory)
    config = ModelConfig("detector", str(base))
    options = ServerOptions(grpc_port=0, rest_port=None, poll_seconds=0)
    with (
        ModelServer([config], options) as server,
        grpc.insecure_channel(server.grpc_address) as channel,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = inference_pb2.MultiInferenceRequest()
        for method in ("classify", "regress"):
            task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
            task.model_spec.name, task.model_spec.signature_name = "detector", method
        for serialized in examples:
            request.input.example_list.examples.add().ParseFromString(serialized)
        answer = stub.MultiInference(request, timeout=60)
        both = [result.WhichOneof("result") for result in answer.results]
        assert both == ["classification_result", "regression_result"]
        alone = classification_pb2.ClassificationRequest(input=request.input)
        alone.model_spec.CopyFrom(request.tasks[0].model_spec)
        classes = stub.Classify(alone, timeout=60).result
        alone = regression_pb2.RegressionRequest(input=request.input)
        alone.model_spec.CopyFrom(request.tasks[1].model_spec)
        values = stub.Regress(alone, timeout=60).result
    assert answer.results[0].classification_result == classes
    assert answer.results[1].regression_result == values
    scores = [row.classes[1].score for row in classes.classifications]
    assert scores == [regression.value for regression in values.regressions]
    assert len(scores) == len(examples)
