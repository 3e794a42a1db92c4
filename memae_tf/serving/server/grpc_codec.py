"""PredictionService and ModelService over gRPC, as calls of the core."""

import contextlib
import importlib
import threading
from collections.abc import Iterator
from concurrent import futures

import grpc
import numpy as np
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from memae_tf.errors import UserError
from memae_tf.serving.server.config import model_configs
from memae_tf.serving.server.core import Core
from memae_tf.serving.server.grpc_streams import MAX_REFLECTION_STREAMS, Health, Reflection
from memae_tf.serving.server.messages import inference_tasks, serialized_examples
from memae_tf.serving.server.registry import ModelSpec, Version
from memae_tf.serving.server.servable import DEFAULT_SIGNATURE, Classification, Regression
from memae_tf.serving.wire import tensors
from memae_tf.serving.wire.status import (
    Code,
    ServingError,
    invalid_argument,
    truncated,
    unexpected,
)

# Reflection needs the descriptions of services in protobuf's pool. Before version 2.21, these files
# end with an option that protobuf no longer lets them set, but then they have filled the pool.
for name in ("prediction_service_pb2", "model_service_pb2"):
    with contextlib.suppress(AttributeError):
        importlib.import_module(f"tensorflow_serving.apis.{name}")

ENTRYPOINT = "GRPC"
# gRPC counts message sizes in int32.
MAX_MESSAGE_BYTES = 2**31 - 1
# Without a deadline, gRPC gives a very long time.
NO_DEADLINE_SECONDS = 1e8
SIGNATURE_DEF = "signature_def"

_CODES = {Code(status.value[0]): status for status in grpc.StatusCode}


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Inference and metadata."""

    def __init__(self, core: Core):
        self._core = core

    def Predict(  # noqa: N802
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        with (
            self._request("Predict", request.model_spec.name, context),
            self._lease(request) as version,
        ):
            outputs = self._core.predict(
                version,
                request.model_spec.signature_name,
                request.inputs,
                list(request.output_filter),
                time_left(context),
            )
            response = predict_pb2.PredictResponse()
            _fill_spec(response.model_spec, version, request.model_spec.signature_name)
            for alias, array in outputs.items():
                tensors.fill_proto(response.outputs[alias], array)
            return response

    def Classify(  # noqa: N802
        self, request: classification_pb2.ClassificationRequest, context: grpc.ServicerContext
    ) -> classification_pb2.ClassificationResponse:
        with (
            self._request("Classify", request.model_spec.name, context),
            self._lease(request) as version,
        ):
            signature = request.model_spec.signature_name
            answer = self._core.classify(
                version, signature, serialized_examples(request.input), time_left(context)
            )
            response = classification_pb2.ClassificationResponse()
            _fill_spec(response.model_spec, version, signature)
            _fill_classification(response.result, answer)
            return response

    def Regress(  # noqa: N802
        self, request: regression_pb2.RegressionRequest, context: grpc.ServicerContext
    ) -> regression_pb2.RegressionResponse:
        with (
            self._request("Regress", request.model_spec.name, context),
            self._lease(request) as version,
        ):
            signature = request.model_spec.signature_name
            answer = self._core.regress(
                version, signature, serialized_examples(request.input), time_left(context)
            )
            response = regression_pb2.RegressionResponse()
            _fill_spec(response.model_spec, version, signature)
            _fill_regression(response.result, answer)
            return response

    def MultiInference(  # noqa: N802
        self, request: inference_pb2.MultiInferenceRequest, context: grpc.ServicerContext
    ) -> inference_pb2.MultiInferenceResponse:
        name = request.tasks[0].model_spec.name if request.tasks else ""
        with self._request("MultiInference", name, context):
            tasks = inference_tasks(request.tasks)
            with self._core.lease(model_spec(request.tasks[0].model_spec)) as version:
                answers = self._core.multi_inference(
                    version, tasks, serialized_examples(request.input), time_left(context)
                )
            response = inference_pb2.MultiInferenceResponse()
            for (signature, _), answer in zip(tasks, answers, strict=True):
                result = response.results.add()
                _fill_spec(result.model_spec, version, signature)
                if isinstance(answer, Classification):
                    _fill_classification(result.classification_result, answer)
                else:
                    _fill_regression(result.regression_result, answer)
            return response

    def GetModelMetadata(  # noqa: N802
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        context: grpc.ServicerContext,
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        with refusing(context):
            if not request.HasField("model_spec"):
                raise invalid_argument("Missing ModelSpec")
            if not request.metadata_field:
                raise invalid_argument(
                    "GetModelMetadataRequest must specify at least one metadata_field"
                )
            for name in request.metadata_field:
                if name != SIGNATURE_DEF:
                    raise invalid_argument(f"Metadata field {name} is not supported")
            with self._core.lease(model_spec(request.model_spec)) as version:
                return metadata_response(version)

    @contextlib.contextmanager
    def _request(self, api: str, model: str, context: grpc.ServicerContext) -> Iterator[None]:
        with refusing(context), self._core.request(api, ENTRYPOINT, model):
            yield

    def _lease(self, request) -> contextlib.AbstractContextManager[Version]:
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        return self._core.lease(model_spec(request.model_spec))


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """States of versions, and reloading."""

    def __init__(self, core: Core):
        self._core = core

    def GetModelStatus(  # noqa: N802
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        with refusing(context):
            if not request.HasField("model_spec"):
                raise invalid_argument("Missing ModelSpec")
            return status_response(self._core.status(model_spec(request.model_spec)))

    def HandleReloadConfigRequest(  # noqa: N802
        self, request: model_management_pb2.ReloadConfigRequest, context: grpc.ServicerContext
    ) -> model_management_pb2.ReloadConfigResponse:
        with refusing(context):
            self._core.reload(model_configs(request.config), time_left(context))
            return model_management_pb2.ReloadConfigResponse()


class ParsingInterceptor(grpc.ServerInterceptor):
    """Parses requests instead of gRPC, which leaks 16 KiB with each one that it cannot parse.

    (Seen with grpcio 1.85.) The answers are the same.
    """

    def intercept_service(self, continuation, handler_call_details):
        """The handler of the method, but with bytes as requests."""
        handler = continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler

        def parse_and_handle(serialized: bytes, context: grpc.ServicerContext):
            try:
                request = handler.request_deserializer(serialized)
            except DecodeError:
                context.abort(grpc.StatusCode.INTERNAL, "Exception deserializing request!")
            return handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            parse_and_handle, response_serializer=handler.response_serializer
        )


class GrpcServer:
    """The gRPC side of a server.

    Args:
        core: The core, which answers.
        host: The address to listen on.
        port: The port, 0 for a free one; the attribute `port` is the one in use.
        threads: The number of requests that are handled at a time, whatever streams are open; a few
            more if none are.
        max_request_bytes: The limit of a message.
        drain_seconds: Seconds that unfinished calls may take when the server stops.

    Raises:
        UserError: If it cannot listen on this address.
    """

    def __init__(
        self,
        core: Core,
        host: str = "127.0.0.1",
        port: int = 0,
        threads: int = 16,
        max_request_bytes: int = MAX_MESSAGE_BYTES,
        drain_seconds: float = 30.0,
    ):
        self._drain_seconds = drain_seconds
        self._server = grpc.server(
            futures.ThreadPoolExecutor(threads + MAX_REFLECTION_STREAMS, "grpc"),
            interceptors=[ParsingInterceptor()],
            options=[
                ("grpc.max_receive_message_length", min(max_request_bytes, MAX_MESSAGE_BYTES)),
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
                # Otherwise two servers could share a port, and each would get some of the requests.
                ("grpc.so_reuseport", 0),
            ],
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionService(core), self._server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(core), self._server)
        self._health = Health()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._reflection = Reflection(
            [
                "tensorflow.serving.PredictionService",
                "tensorflow.serving.ModelService",
                health.SERVICE_NAME,
                reflection.SERVICE_NAME,
            ]
        )
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(self._reflection, self._server)
        try:
            self.port = self._server.add_insecure_port(address(host, port))
        except RuntimeError as error:
            raise UserError(
                f"gRPC cannot listen on {address(host, port)}; is the port taken?"
            ) from error

    def start(self) -> None:
        """Starts to answer."""
        self._server.start()

    def stop(self) -> threading.Event:
        """Refuses new calls; the event is set when the unfinished ones are answered."""
        drained = self._server.stop(self._drain_seconds)
        self._health.end()
        self._reflection.end()
        return drained


def address(host: str, port: int) -> str:
    """host:port, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextlib.contextmanager
def refusing(context: grpc.ServicerContext) -> Iterator[None]:
    """Ends the call with code and message of an error that is raised in the context."""
    try:
        yield
    except Exception as error:
        error = error if isinstance(error, ServingError) else unexpected(error)
        refusal = error
    else:
        return
    context.abort(_CODES[refusal.code], truncated(refusal.message))


def time_left(context: grpc.ServicerContext) -> float | None:
    """Seconds until the deadline of the call; `None` if it has none.

    Raises:
        ServingError: DEADLINE_EXCEEDED if it has passed.
    """
    left = context.time_remaining()
    if left is None or left > NO_DEADLINE_SECONDS:
        return None
    if left <= 0:
        raise ServingError(Code.DEADLINE_EXCEEDED, "Deadline exceeded before the run")
    return left


def model_spec(message: model_pb2.ModelSpec) -> ModelSpec:
    """The core's ModelSpec for that of a message."""
    choice = message.WhichOneof("version_choice")
    return ModelSpec(
        message.name,
        message.version.value if choice == "version" else None,
        message.version_label if choice == "version_label" else None,
    )


def status_response(versions: list[Version]) -> get_model_status_pb2.GetModelStatusResponse:
    """The states of versions as a GetModelStatusResponse."""
    response = get_model_status_pb2.GetModelStatusResponse()
    for version in versions:
        entry = response.model_version_status.add(version=version.number, state=version.state)
        error = version.error
        entry.status.error_code = error.code if error else Code.OK
        entry.status.error_message = truncated(error.message) if error else ""
    return response


def metadata_response(version: Version) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """The signatures of a version as a GetModelMetadataResponse."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in version.servable.signatures.items():
        signatures.signature_def[name].CopyFrom(signature)
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = version.name
    response.model_spec.version.value = version.number
    response.metadata[SIGNATURE_DEF].Pack(signatures)
    return response


def _fill_spec(spec: model_pb2.ModelSpec, version: Version, signature: str) -> None:
    spec.name = version.name
    spec.version.value = version.number
    spec.signature_name = signature or DEFAULT_SIGNATURE


def _fill_classification(
    result: classification_pb2.ClassificationResult, answer: Classification
) -> None:
    for row in answer.rows():
        classes = result.classifications.add().classes
        for label, score in row:
            classes.add(label=label, score=score)


def _fill_regression(result: regression_pb2.RegressionResult, answer: Regression) -> None:
    for value in np.asarray(answer.values).tolist():
        result.regressions.add(value=value)
