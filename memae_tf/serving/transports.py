"""Transports of a client to a model server: gRPC and REST with the same three calls.

Each call is tried once, and is given the seconds that are left. In both transports, failures are a
`ServingError` with a canonical code.
"""

import base64
import contextlib
import http.client
import json
import numbers
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
from google.protobuf import json_format

from memae_tf.errors import UserError
from memae_tf.serving.wire import protocol, tensors
from memae_tf.serving.wire.status import Code, ServingError

Tensors = dict[str, np.ndarray]

SIGNATURE_DEF = "signature_def"
# How soon gRPC may connect again after a failure; its own default is at least a second.
RECONNECT_MILLISECONDS = 100
# Messages of gRPC's UNAVAILABLE if a server does not speak gRPC, so a retry would not help.
NO_GRPC = ("Trying to connect an http1.x server", "Failed parsing HTTP/2")
CHUNK_BYTES = 2**20
# The codes of HTTP statuses; if several codes have the same status, the most likely one.
HTTP_CODES = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    409: Code.ABORTED,
    413: Code.RESOURCE_EXHAUSTED,
    429: Code.RESOURCE_EXHAUSTED,
    499: Code.CANCELLED,
    500: Code.INTERNAL,
    501: Code.UNIMPLEMENTED,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}


@dataclass(frozen=True)
class Model:
    """The model to ask: its newest version, a given one, or the one with a label.

    Raises:
        UserError: If it has no name, both a version and a label are given, or one cannot be sent.
    """

    name: str
    version: int | None = None
    label: str | None = None

    def __post_init__(self):
        if not self.name:
            raise UserError("the name of a model is required, as a server may have several")
        for text in (self.name, self.label or ""):
            if not isinstance(text, str):
                raise UserError(f"{text!r}: names and labels of models should be text")
        if self.version is not None and self.label is not None:
            raise UserError(
                f"version {self.version} and label '{self.label}' of model {self.name}: give one "
                "of the two"
            )
        if self.version is not None and not _is_version(self.version):
            raise UserError(
                f"version {self.version!r}: should be a whole number, from 0 to {2**63 - 1}"
            )
        for text in (self.name, self.label or ""):
            try:
                text.encode()
            except UnicodeEncodeError:
                raise UserError(f"{text!r}: is not text that can be sent") from None

    def __str__(self) -> str:
        chosen = "" if self.version is None else f" version {self.version}"
        return f"model {self.name}{chosen}" + (f" label {self.label}" if self.label else "")


def _is_version(value: object) -> bool:
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return is_integer and 0 <= value < 2**63


class GrpcTransport:
    """TensorFlow Serving's PredictionService and ModelService.

    Args:
        address: `host:port`, or another target that gRPC knows.
        model: The model to ask.
    """

    def __init__(self, address: str, model: Model):
        import grpc

        self._error = grpc.RpcError
        self._model = model
        options = {
            # The other side sets both limits; gRPC's own limit for received messages is 4 MiB.
            "grpc.max_send_message_length": -1,
            "grpc.max_receive_message_length": -1,
            "grpc.initial_reconnect_backoff_ms": RECONNECT_MILLISECONDS,
            "grpc.min_reconnect_backoff_ms": RECONNECT_MILLISECONDS,
            "grpc.max_reconnect_backoff_ms": 10 * RECONNECT_MILLISECONDS,
        }
        self._channel = grpc.insecure_channel(address, list(options.items()))
        self._predict = self._method("PredictionService/Predict", protocol.PredictResponse)
        self._metadata = self._method(
            "PredictionService/GetModelMetadata", protocol.GetModelMetadataResponse
        )
        self._status = self._method("ModelService/GetModelStatus", protocol.GetModelStatusResponse)

    def _method(self, name: str, response: type):
        return self._channel.unary_unary(
            f"/tensorflow.serving.{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )

    def predict(self, signature: str, inputs: Tensors, _, seconds: float) -> Tensors:
        """The outputs of a signature."""
        request = protocol.PredictRequest()
        self._fill(request.model_spec)
        request.model_spec.signature_name = signature
        for alias, array in inputs.items():
            _fill_tensor(request.inputs[alias], array)
        response = self._call(self._predict, request, seconds)
        return {
            alias: _text(alias, tensors.array_of(tensor, alias))
            for alias, tensor in sorted(response.outputs.items())
        }

    def status(self, seconds: float):
        """A GetModelStatusResponse."""
        request = protocol.GetModelStatusRequest()
        self._fill(request.model_spec)
        return self._call(self._status, request, seconds)

    def metadata(self, seconds: float) -> tuple[int, object]:
        """The version that answers and its SignatureDefMap."""
        request = protocol.GetModelMetadataRequest(metadata_field=[SIGNATURE_DEF])
        self._fill(request.model_spec)
        response = self._call(self._metadata, request, seconds)
        signatures = protocol.SignatureDefMap.FromString(response.metadata[SIGNATURE_DEF].value)
        return response.model_spec.version.value, signatures

    def close(self) -> None:
        self._channel.close()

    def _fill(self, spec) -> None:
        spec.name = self._model.name
        if self._model.version is not None:
            spec.version.value = self._model.version
        if self._model.label is not None:
            spec.version_label = self._model.label

    def _call(self, method, request, seconds: float):
        try:
            return method(request, timeout=seconds)
        except ValueError as error:
            # gRPC raises this if another thread has closed the channel.
            raise ServingError(Code.CANCELLED, str(error)) from error
        except self._error as error:
            if any(words in (error.details() or "") for words in NO_GRPC):
                message = "what answers is not gRPC; is this the REST port (http://...)?"
                raise ServingError(Code.UNIMPLEMENTED, message) from error
            raise ServingError(Code(error.code().value[0]), error.details() or "") from error


def _fill_tensor(tensor, array: np.ndarray) -> None:
    """Writes an array into an empty TensorProto, numbers as raw bytes."""
    if array.dtype == object:
        tensors.fill_proto(tensor, _map(array, lambda v: v.encode() if isinstance(v, str) else v))
        return
    tensor.dtype = tensors.dtype_of(array)
    for size in array.shape:
        tensor.tensor_shape.dim.add().size = size
    tensor.tensor_content = array.tobytes()


def _text(alias: str, array: np.ndarray) -> np.ndarray:
    """Strings as str, or as bytes in outputs named `*_bytes`, as in REST."""
    if array.dtype != object or alias.endswith("_bytes"):
        return array
    return _map(array, lambda v: v.decode("utf-8", "surrogateescape"))


def _map(array: np.ndarray, function) -> np.ndarray:
    mapped = np.empty(array.size, object)
    mapped[:] = [function(value) for value in array.flat]
    return mapped.reshape(array.shape)


class RestTransport:
    """TensorFlow Serving's REST API.

    Args:
        address: `http://host:port` or `https://...`, with a path before `/v1/` if there is one.
        model: The model to ask.
    """

    def __init__(self, address: str, model: Model):
        import urllib3

        self._urllib3 = urllib3
        path = f"{address.rstrip('/')}/v1/models/{quote(model.name, safe='')}"
        if model.version is not None:
            path += f"/versions/{model.version}"
        if model.label is not None:
            path += f"/labels/{quote(model.label, safe='')}"
        self._model_url = path
        # The number of connections that are kept, for as many threads.
        self._pool = urllib3.PoolManager(maxsize=16, retries=False)

    def predict(
        self, signature: str, inputs: Tensors, dtypes: Mapping[str, np.dtype], seconds: float
    ) -> Tensors:
        """The outputs of a signature, with the given dtypes."""
        body = {
            "signature_name": signature,
            "inputs": {alias: _json(array) for alias, array in inputs.items()},
        }
        answer = self._request("POST", ":predict", seconds, json.dumps(body).encode())
        with _readable():
            outputs = answer["outputs"]
            if len(dtypes) == 1:
                # If a signature has one output, the server writes its value without the name.
                outputs = {next(iter(dtypes)): outputs}
            return {alias: _array(alias, outputs[alias], dtype) for alias, dtype in dtypes.items()}

    def status(self, seconds: float):
        """A GetModelStatusResponse."""
        answer = self._request("GET", "", seconds)
        with _readable():
            return _parse(answer, protocol.GetModelStatusResponse)

    def metadata(self, seconds: float) -> tuple[int, object]:
        """The version that answers and its SignatureDefMap."""
        answer = self._request("GET", "/metadata", seconds)
        with _readable():
            signatures = _parse(answer["metadata"][SIGNATURE_DEF], protocol.SignatureDefMap)
            return int(answer["model_spec"]["version"]), signatures

    def close(self) -> None:
        self._pool.clear()

    def _request(self, method: str, path: str, seconds: float, body: bytes | None = None) -> dict:
        deadline = time.monotonic() + seconds
        with self._failures():
            response = self._pool.request(
                method,
                self._model_url + path,
                body=body,
                headers={"Content-Type": "application/json"},
                timeout=self._urllib3.Timeout(total=max(seconds, 1e-3)),
                redirect=False,
                preload_content=False,
            )
            try:
                content = b"".join(_chunks(response, deadline))
            except BaseException:
                response.close()
                raise
            response.release_conn()
        return _content(response.status, content)

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        exceptions = self._urllib3.exceptions
        try:
            yield
        except exceptions.NewConnectionError as error:
            raise ServingError(Code.UNAVAILABLE, str(_cause(error))) from error
        except exceptions.TimeoutError as error:
            raise ServingError(Code.DEADLINE_EXCEEDED, "no answer in time") from error
        except exceptions.ProtocolError as error:
            cause = _cause(error)
            if isinstance(cause, http.client.BadStatusLine) and not isinstance(cause, OSError):
                message = "what answers is not HTTP; is this the gRPC port?"
                raise ServingError(Code.UNIMPLEMENTED, message) from error
            raise ServingError(Code.UNAVAILABLE, str(cause) or type(cause).__name__) from error
        except (exceptions.LocationValueError, exceptions.SSLError) as error:
            raise ServingError(Code.FAILED_PRECONDITION, str(error)) from error
        except exceptions.HTTPError as error:
            raise ServingError(Code.UNKNOWN, str(error)) from error


def _chunks(response, deadline: float) -> Iterator[bytes]:
    """The body, in chunks; fails if it has not arrived by the deadline."""
    # Reads what is there, whereas `stream` would wait until a chunk is full.
    while chunk := response.read1(CHUNK_BYTES):
        yield chunk
        if time.monotonic() > deadline:
            raise ServingError(Code.DEADLINE_EXCEEDED, "no complete answer in time")


def _cause(error: BaseException) -> BaseException:
    """The first error of a chain, such as that of the socket."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__
    return error


def _content(status: int, content: bytes) -> dict:
    """The JSON object in a response."""
    code = Code.OK if status == http.client.OK else HTTP_CODES.get(status, Code.UNKNOWN)
    try:
        answer = json.loads(content.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        # A proxy may answer for a server that is down; otherwise it is another kind of server.
        if code is not Code.UNAVAILABLE:
            code = Code.UNIMPLEMENTED
        raise ServingError(
            code, f"HTTP status {status} without JSON; is this TensorFlow Serving's REST port?"
        )
    if code is not Code.OK:
        raise ServingError(code, str(answer.get("error", f"HTTP status {status}")))
    return answer


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, json_format.ParseError) as error:
        raise ServingError(Code.INTERNAL, f"the answer cannot be read ({error})") from error


def _parse(answer: dict, kind: type):
    return json_format.ParseDict(answer, kind(), ignore_unknown_fields=True)


def _json(array: np.ndarray) -> object:
    """A tensor as the REST API takes it, with bytes in base64.

    Raises:
        ServingError: UNIMPLEMENTED if JSON has no such numbers; servers refuse other dtypes.
    """
    if array.dtype.kind == "c":
        raise ServingError(Code.UNIMPLEMENTED, f"{array.dtype} cannot be sent as JSON; use gRPC")
    if array.dtype == object:
        array = _map(array, lambda v: _base64(v) if isinstance(v, bytes) else v)
    return array.tolist()


def _base64(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode()}


def _array(alias: str, values: object, dtype: np.dtype) -> np.ndarray:
    """A tensor as the REST API writes it."""
    if dtype.kind != "O":
        return np.asarray(values, dtype)
    array = np.asarray(values, object)
    if alias.endswith("_bytes"):
        return _map(array, lambda v: base64.b64decode(v["b64"]))
    return array
