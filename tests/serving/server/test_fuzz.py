"""Whatever is sent is answered well-formed, and a good request after it is answered right.

MEMAE_FUZZ_REQUESTS says how many requests of each of the four kinds are made.
"""

import http.client
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import clients
import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from served_models import DTYPES
from tensorflow_serving.apis import predict_pb2

from memae_tf.serving.server.rest_codec import HTTP_STATUS

REQUESTS = int(os.environ.get("MEMAE_FUZZ_REQUESTS", "300"))
# Buffers that the allocator keeps; and a run that fails under a deadline leaves about 1 KiB behind
# in TensorFlow's own Session.
MAX_GROWTH = 64 * 2**20 + REQUESTS * 2**10
TIMEOUT = 30
FUZZ = settings(
    max_examples=REQUESTS,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
PREDICT = "/v1/models/everything:predict"
SERVICES = {
    "PredictionService": ("Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata"),
    "ModelService": ("GetModelStatus",),
}
METHODS = [f"/tensorflow.serving.{s}/{m}" for s, methods in SERVICES.items() for m in methods]
SIGNATURES = [
    *(f"echo_{dtype}" for dtype in DTYPES),
    *("", "pair", "scalar", "total", "cube", "strings", "uneven", "picky", "with_default"),
    *("classify", "regress", "wrong_alias", "__saved_model_init_op", "none"),
]


class Fuzzed:
    """A server under fire, and the good requests to it."""

    def __init__(self, server: clients.ServeCommand):
        self.server = server
        self.client = clients.GrpcClient(server)
        self._connection = clients.rest_connection(server)

    def post(self, method: str, path: str, body: bytes, headers: dict) -> tuple[int, bytes]:
        """Status and body over a connection that is kept as long as the server keeps it."""
        try:
            return self._send(method, path, body, headers)
        except (http.client.RemoteDisconnected, ConnectionError, http.client.CannotSendRequest):
            self._connection.close()
            return self._send(method, path, body, headers)

    def _send(self, method: str, path: str, body: bytes, headers: dict) -> tuple[int, bytes]:
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        return response.status, response.read()

    def check_rest(self) -> None:
        body = b'{"signature_name": "pair", "instances": [{"number": 21, "text": "abc"}]}'
        status, answer = self.post("POST", PREDICT, body, {})
        assert status == 200
        assert json.loads(answer) == {"predictions": [{"twice": 42, "length": 3}]}

    def check_grpc(self) -> None:
        assert self.client.predict("everything", [1.5], "echo_float32") == [1.5]


@pytest.fixture(scope="module")
def fuzzed(everything) -> Iterator[Fuzzed]:
    # A process of its own: it may crash, and its memory is not that of what makes the requests.
    options = ("--poll-seconds", 0, "--max-request-mib", 1)
    with clients.ServeCommand(f"everything={everything.base_path}", *options) as server:
        fuzzed = Fuzzed(server)
        fuzzed.check_rest()
        fuzzed.check_grpc()
        before = resident_bytes(server)
        yield fuzzed
        assert server.process.poll() is None
        growth = resident_bytes(server) - before
        print(f"The server's memory has grown by {growth / 2**20:.0f} MiB")
        assert growth < MAX_GROWTH
        fuzzed.client.channel.close()
        server.process.terminate()
        assert server.process.wait(60) == 0
        assert "Traceback" not in server.process.stderr.read()


def resident_bytes(server: clients.ServeCommand) -> int:
    statm = Path(f"/proc/{server.process.pid}/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


@st.composite
def mutated(draw, originals: list[bytes]) -> bytes:
    """A good request, bytes of it replaced, inserted, deleted, repeated or cut off."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["replace", "insert", "delete", "repeat", "cut"]))
        some = draw(st.binary(min_size=1, max_size=4))
        if kind == "replace":
            data[at : at + len(some)] = some
        elif kind == "insert":
            data[at:at] = some
        elif kind == "delete":
            del data[at : at + len(some)]
        elif kind == "repeat":
            data[at:at] = data[max(0, at - 16) : at] * 3
        else:
            del data[at:]
    return bytes(data)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.fixed_dictionaries({"b64": st.text("AZaz09+/=-_ ", max_size=8)}),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)
aliases = st.sampled_from(["x", "a", "number", "text", "inputs", "shift", "threshold", "none"])
rows = st.lists(values | st.dictionaries(aliases, values, max_size=3), max_size=4)
documents = st.fixed_dictionaries(
    {},
    optional={
        "signature_name": st.sampled_from(SIGNATURES) | values,
        "instances": rows | values,
        "inputs": values | st.dictionaries(aliases, values, max_size=3),
        "examples": rows | values,
        "context": st.dictionaries(aliases, values, max_size=3) | values,
    },
)
GOOD_BODIES = [
    b'{"signature_name": "pair", "instances": [{"number": 1, "text": "abc"}]}',
    b'{"inputs": [[1, 2.5, -3e-2, 4]]}',
    b'{"signature_name": "strings", "inputs": {"x": ["\\u00e9", {"b64": "YWJj"}]}}',
    b'{"signature_name": "cube", "instances": [[[1, 2], [3, 4]]]}',
    b'{"signature_name": "classify", "context": {"shift": 1.0}, "examples": [{"x": [1.0, 2]}]}',
]
bodies = (
    documents.map(lambda document: json.dumps(document).encode())
    | mutated(GOOD_BODIES)
    | st.binary(max_size=64)
)
paths = st.sampled_from(
    [
        *(f"/v1/models/everything:{verb}" for verb in ("predict", "classify", "regress")),
        "/v1/models/everything",
        "/v1/models/everything/metadata",
        "/v1/models/everything/versions/1:predict",
    ]
) | st.text("/v1models:predictlabesn0.?%Az9-", max_size=40).map(lambda text: "/v1/models" + text)


@FUZZ
@given(
    method=st.sampled_from(["POST"] * 5 + ["GET", "PUT", "OPTIONS", "DELETE"]),
    path=paths,
    body=bodies,
    headers=st.sampled_from([{}] * 4 + [{"Content-Encoding": "gzip"}]),
)
def test_rest(fuzzed, method, path, body, headers):
    status, answer = fuzzed.post(method, path, body, headers)
    assert status in {*HTTP_STATUS.values(), 404} - {500}, answer
    text = answer.decode("utf-8", "surrogateescape")
    if status != 200 and text and not text.startswith("<HTML>"):
        assert list(json.loads(text)) == ["error"]
    elif status == 200 and text:
        assert isinstance(json.loads(text), dict)
    fuzzed.check_rest()


GOOD_HTTP = [
    b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s"
    % (PREDICT.encode(), len(body), body)
    for body in GOOD_BODIES
] + [
    b"GET /v1/models/everything HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    % PREDICT.encode(),
]


@FUZZ
@given(sent=mutated(GOOD_HTTP) | st.binary(max_size=200))
def test_http(fuzzed, sent):
    address = fuzzed.server.rest_address.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1])), timeout=TIMEOUT) as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            received = connection.recv(65536)
        except ConnectionError:
            # It had seen enough.
            received = b""
    assert not received or received.startswith(b"HTTP/")
    assert b" 500 " not in received.split(b"\r\n")[0]
    fuzzed.check_rest()


def check_call(fuzzed: Fuzzed, method: str, message: bytes) -> None:
    call = fuzzed.client.channel.unary_unary(method).future(message, timeout=TIMEOUT)
    code, details = call.code(), call.details()
    assert code not in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE), details
    if code is grpc.StatusCode.INTERNAL:
        # gRPC's own word for bytes that are no message.
        assert "deserializing request" in details
    fuzzed.check_grpc()


def good_message() -> bytes:
    request = predict_pb2.PredictRequest(model_spec={"name": "everything"})
    request.model_spec.signature_name = "pair"
    number, text = request.inputs["number"], request.inputs["text"]
    number.dtype, text.dtype = 9, 7
    for tensor in (number, text):
        tensor.tensor_shape.dim.add().size = 2
    number.int64_val.extend([1, 2])
    text.string_val.extend([b"a", b"bc"])
    return request.SerializeToString()


@FUZZ
@given(method=st.sampled_from(METHODS), message=mutated([good_message()]) | st.binary(max_size=64))
def test_grpc_bytes(fuzzed, method, message):
    check_call(fuzzed, method, message)


sizes = st.integers(-1, 3) | st.sampled_from([2**20, 2**31, 2**62])
tensors = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.integers(0, 30) | st.integers(100, 130),
        "tensor_shape": st.lists(st.builds(lambda n: {"size": n}, sizes), max_size=4).map(
            lambda dims: {"dim": dims}
        ),
        "tensor_content": st.binary(max_size=16),
        "float_val": st.lists(st.floats(width=32), max_size=4),
        "double_val": st.lists(st.floats(), max_size=3),
        "int_val": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4),
        "int64_val": st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
        "uint64_val": st.lists(st.integers(0, 2**64 - 1), max_size=3),
        "string_val": st.lists(st.binary(max_size=4), max_size=3),
        "bool_val": st.lists(st.booleans(), max_size=3),
        "half_val": st.lists(st.integers(-1, 2**17), max_size=3),
        "scomplex_val": st.lists(st.floats(width=32), max_size=3),
    },
)


@FUZZ
@given(
    signature=st.sampled_from(SIGNATURES),
    inputs=st.dictionaries(aliases, tensors, max_size=3),
    output_filter=st.lists(st.sampled_from(["y", "twice", "none"]), max_size=2),
)
def test_grpc_tensors(fuzzed, signature, inputs, output_filter):
    request = predict_pb2.PredictRequest(
        model_spec={"name": "everything", "signature_name": signature},
        output_filter=output_filter,
    )
    for alias, fields in inputs.items():
        request.inputs[alias].MergeFrom(type(request.inputs[alias])(**fields))
    check_call(fuzzed, METHODS[0], request.SerializeToString())
