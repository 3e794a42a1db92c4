"""The REST API, with paths and JSON, as calls of the core."""

import http
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2

from memae_tf.serving.server import json_document, json_examples, json_tensors, metrics
from memae_tf.serving.server.core import Core
from memae_tf.serving.server.grpc_codec import SIGNATURE_DEF, metadata_response, status_response
from memae_tf.serving.server.registry import MAX_VERSION, ModelSpec, Version
from memae_tf.serving.server.servable import DEFAULT_SIGNATURE
from memae_tf.serving.wire.status import Code, ServingError, invalid_argument, unexpected

ENTRYPOINT = "REST"
JSON = "application/json"
CORS_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
HTTP_STATUS = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}

_MODEL = r"/v1/models/([^/:]+)(?:/versions/([0-9]+)|/labels/([^/:]+))?"
_INFERENCE = re.compile(rf"{_MODEL}:(classify|regress|predict)", re.IGNORECASE)
_INFORMATION = re.compile(
    r"/v1/models(?:/([^/:]+))?(?:/versions/([0-9]+)|/labels/([^/:]+))?(?:/(metadata))?",
    re.IGNORECASE,
)
_API = re.compile("/v1/.*", re.IGNORECASE | re.DOTALL)


@dataclass
class Request:
    """An HTTP request: the target, as it was sent, and the whole body."""

    method: str
    target: str
    body: bytes | bytearray = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Reply:
    """An HTTP response."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


class RestCodec:
    """Answers requests of the REST API.

    Args:
        core: The core, which answers.
        timeout: Seconds that a request may take.
        max_request_bytes: The limit of a body after decompression.
        cors: Whether web pages of other origins may read the responses.
    """

    def __init__(
        self,
        core: Core,
        timeout: float = 30.0,
        max_request_bytes: int = 2**31 - 1,
        cors: bool = False,
    ):
        self._core = core
        self._timeout = timeout
        self._max_request_bytes = max_request_bytes
        self._cors = cors

    def handle(self, request: Request) -> Reply:
        """The response to any request."""
        if request.target == metrics.PATH and request.method == "GET":
            return Reply(200, self._core.metrics.page().encode(), "text/plain")
        if not _API.fullmatch(request.target):
            return _page_not_found()
        if request.method == "OPTIONS":
            reply = self._preflight(request)
        else:
            try:
                reply = Reply(200, self._answer(request))
            except _EmptyReplyError:
                reply = Reply(400, b"")
            except Exception as error:
                reply = refusal(error if isinstance(error, ServingError) else unexpected(error))
        if self._cors:
            reply.headers.update(CORS_HEADERS)
        return reply

    def _preflight(self, request: Request) -> Reply:
        origin = request.headers.get("Origin", "")
        if origin.startswith(("http://", "https://")):
            return Reply(200, b"")
        return refusal(_malformed(request))

    def _answer(self, request: Request) -> bytes:
        if request.method == "POST":
            match = _INFERENCE.fullmatch(request.target)
            # Paths are case-insensitive, verbs are not.
            answer = _VERBS.get(match[4]) if match else None
            if answer is None or "?" in request.target:
                raise _malformed(request)
            return answer(self, _spec(match), self._body(request))
        match = _INFORMATION.fullmatch(request.target) if request.method == "GET" else None
        if match is None or "?" in request.target:
            raise _malformed(request)
        if not match[1]:
            raise invalid_argument("Missing model name in request.")
        return self._metadata(_spec(match)) if match[4] else self._status(_spec(match))

    def _body(self, request: Request) -> bytes | bytearray:
        if request.headers.get("Content-Encoding", "").strip().lower() != "gzip":
            return request.body
        return decompress(request.body, self._max_request_bytes)

    def _predict(self, spec: ModelSpec, body: bytes | bytearray) -> bytes:
        with self._core.request("predict", ENTRYPOINT, spec.name):
            document = json_document.parse_object(body)
            signature = _signature_name(document)
            with self._core.lease(spec) as version:
                inputs, in_rows = json_tensors.parse_inputs(
                    document, _input_infos(version, signature)
                )
                outputs = self._core.predict(version, signature, inputs, (), self._timeout)
            encode = json_tensors.predictions if in_rows else json_tensors.column_outputs
            return encode(outputs)

    def _classify(self, spec: ModelSpec, body: bytes | bytearray) -> bytes:
        with self._core.request("classify", ENTRYPOINT, spec.name):
            document = json_document.parse_object(body)
            signature, examples = _signature_name(document), json_examples.parse_examples(document)
            with self._core.lease(spec) as version:
                answer = self._core.classify(version, signature, examples, self._timeout)
            return json_tensors.classifications(answer.rows())

    def _regress(self, spec: ModelSpec, body: bytes | bytearray) -> bytes:
        with self._core.request("regress", ENTRYPOINT, spec.name):
            document = json_document.parse_object(body)
            signature, examples = _signature_name(document), json_examples.parse_examples(document)
            with self._core.lease(spec) as version:
                answer = self._core.regress(version, signature, examples, self._timeout)
            return json_tensors.regressions(answer.values)

    def _status(self, spec: ModelSpec) -> bytes:
        return json_document.encode(_printed(status_response(self._core.status(spec))))

    def _metadata(self, spec: ModelSpec) -> bytes:
        with self._core.lease(spec) as version:
            response = metadata_response(version)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata[SIGNATURE_DEF].Unpack(signatures)
        return json_document.encode(
            {
                "model_spec": _printed(response.model_spec),
                "metadata": {SIGNATURE_DEF: _printed(signatures)},
            }
        )


_VERBS = {
    "predict": RestCodec._predict,
    "classify": RestCodec._classify,
    "regress": RestCodec._regress,
}


class _EmptyReplyError(Exception):
    """TensorFlow Serving answers such a request with a status and no body."""


def refusal(error: ServingError, status: int | None = None) -> Reply:
    """The response for an error."""
    body = json_document.encode({"error": error.message})
    return Reply(status or HTTP_STATUS[error.code], body)


def too_large(limit: int) -> Reply:
    """The response to a body that is too large."""
    error = ServingError(Code.RESOURCE_EXHAUSTED, f"The request is larger than {limit} bytes")
    return refusal(error, http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def decompress(body: bytes | bytearray, limit: int) -> bytes:
    """The content of a gzip file, up to a limit.

    Raises:
        ServingError: If it is not a gzip file, or its content is too large.
    """
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        content = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise invalid_argument("Failed to uncompress the gzipped request body") from error
    if len(content) > limit:
        raise ServingError(Code.RESOURCE_EXHAUSTED, f"The request is larger than {limit} bytes")
    if not inflater.eof:
        raise invalid_argument("Failed to uncompress the gzipped request body")
    return content


def _spec(match: re.Match) -> ModelSpec:
    name, version, label = (
        None if group is None else unquote(group, errors="surrogateescape")
        for group in match.groups()[:3]
    )
    if version is not None and (len(version) > 30 or int(version) > MAX_VERSION):
        raise _EmptyReplyError
    return ModelSpec(name, None if version is None else int(version), label)


def _malformed(request: Request) -> ServingError:
    return invalid_argument(f"Malformed request: {request.method} {request.target}")


def _page_not_found() -> Reply:
    page = (
        b"<HTML><HEAD><TITLE>404 Not Found</TITLE></HEAD><BODY><H1>Not Found</H1></BODY></HTML>\n"
    )
    return Reply(404, page, "text/html")


def _signature_name(document: dict) -> str:
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid_argument(
            f"JSON Value: {json_document.shown(document)} not formatted correctly. "
            "'signature_name' key must be a string value."
        )
    return name


def _input_infos(version: Version, signature: str) -> json_tensors.Infos:
    name = signature or DEFAULT_SIGNATURE
    signatures = version.servable.signatures
    if name not in signatures:
        raise invalid_argument(f'Serving signature name: "{name}" not found in signature def')
    if not signatures[name].inputs:
        raise invalid_argument(f"Failed to get input map for signature: {signature or 'DEFAULT'}")
    # The map of a message fails if a key is not UTF-8.
    return dict(signatures[name].inputs)


def _printed(message) -> dict:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
