"""The contract of the protocol, on the embedded server and, where there is one, on the real one."""

import http.client
import json
import math

import grpc
import grpc_cases
import pytest
import rest_cases
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

REQUESTS = {
    "Predict": predict_pb2.PredictRequest,
    "Classify": classification_pb2.ClassificationRequest,
    "Regress": regression_pb2.RegressionRequest,
    "MultiInference": inference_pb2.MultiInferenceRequest,
    "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
    "GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
    "HandleReloadConfigRequest": model_management_pb2.ReloadConfigRequest,
}


@pytest.fixture(scope="module")
def channel(target):
    with grpc.insecure_channel(target.grpc) as channel:
        yield channel


@pytest.fixture(scope="module")
def connection(target):
    # One connection for all: every case also shows that the one before left it in order.
    connection = http.client.HTTPConnection(target.rest, timeout=60)
    yield connection
    connection.close()


def names(cases) -> list[str]:
    return [case.name for case in cases]


@pytest.mark.parametrize("case", rest_cases.CASES, ids=names(rest_cases.CASES))
def test_rest(connection, case):
    connection.request(case.method, case.path, case.payload, case.headers)
    response = connection.getresponse()
    body = response.read()
    assert response.status == case.status, body
    if case.answer is not None:
        answer = json.loads(body.decode("utf-8", "surrogateescape"))
        assert response.headers["Content-Type"] == "application/json"
        assert same(answer, case.answer), answer
    if case.error is not None:
        assert case.error in json.loads(body)["error"]


def same(a, b) -> bool:
    """Equal, of the same types, NaN equal to NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


def call(channel, method: str, request, timeout: float = 60):
    service = (
        model_service_pb2_grpc.ModelServiceStub
        if method in ("GetModelStatus", "HandleReloadConfigRequest")
        else prediction_service_pb2_grpc.PredictionServiceStub
    )
    return getattr(service(channel), method)(request, timeout=timeout)


@pytest.mark.parametrize("case", grpc_cases.CASES, ids=names(grpc_cases.CASES))
def test_grpc(channel, case):
    request = text_format.Parse(case.request, REQUESTS[case.call]())
    if case.code != "OK":
        with pytest.raises(grpc.RpcError) as refusal:
            call(channel, case.call, request)
        assert refusal.value.code().name == case.code, refusal.value.details()
        assert case.error in refusal.value.details()
        return
    response = call(channel, case.call, request)
    if case.outputs is not None:
        assert values(response) == case.outputs
        spec = response.model_spec
        assert spec.name == request.model_spec.name
        assert spec.version.value in (1, 2)
        assert spec.signature_name == (request.model_spec.signature_name or "serving_default")
    if case.answer is not None:
        assert response == text_format.Parse(case.answer, type(response)())


def values(response: predict_pb2.PredictResponse) -> dict:
    return {alias: tf.make_ndarray(out).tolist() for alias, out in response.outputs.items()}


def test_outputs_are_in_typed_fields(channel):
    request = text_format.Parse(
        f"{grpc_cases.model('echo_float32')} {grpc_cases.inputs(x=grpc_cases.floats([0.5] * 99))}",
        predict_pb2.PredictRequest(),
    )
    tensor = call(channel, "Predict", request).outputs["y"]
    assert list(tensor.float_val) == [0.5] * 99
    assert not tensor.tensor_content


def test_metadata_tells_every_signature(channel, connection):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "everything"
    response = call(channel, "GetModelMetadata", request)
    assert (response.model_spec.name, response.model_spec.version.value) == ("everything", 1)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    signature = signatures.signature_def["serving_default"]
    assert [dim.size for dim in signature.inputs["a"].tensor_shape.dim] == [-1, 4]
    assert "__saved_model_init_op" in signatures.signature_def
    assert "threshold" in signatures.signature_def["with_default"].defaults

    connection.request("GET", "/v1/models/everything/metadata")
    answer = json.loads(connection.getresponse().read())
    assert answer["model_spec"] == {"name": "everything", "version": "1", "signature_name": ""}
    told = answer["metadata"]["signature_def"]["signature_def"]
    assert told.keys() == signatures.signature_def.keys()
    assert told["serving_default"]["inputs"]["a"] == {
        "name": signature.inputs["a"].name,
        "dtype": "DT_FLOAT",
        "tensor_shape": {
            "dim": [{"size": "-1", "name": ""}, {"size": "4", "name": ""}],
            "unknown_rank": False,
        },
    }
    assert told["serving_default"]["method_name"] == "tensorflow/serving/predict"
    assert told["serving_default"]["defaults"] == {}


def test_deadline_ends_the_run(channel):
    request = text_format.Parse(
        f"{grpc_cases.model('slow')} "
        f"{grpc_cases.inputs(x=grpc_cases.typed('DT_INT32', 'int_val', 10**6))}",
        predict_pb2.PredictRequest(),
    )
    with pytest.raises(grpc.RpcError) as refusal:
        call(channel, "Predict", request, timeout=0.2)
    assert refusal.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
