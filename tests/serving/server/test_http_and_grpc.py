"""HTTP and gRPC as they are on the wire: limits, deadlines, health, what no client should send."""

import contextlib
import gzip
import json
import socket
import threading
import time

import clients
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tensorflow_serving.apis import predict_pb2

from memae_tf.errors import UserError
from memae_tf.serving.server.grpc_streams import MAX_REFLECTION_STREAMS
from memae_tf.serving.server.model_server import ModelServer
from memae_tf.serving.server.registry import ModelSpec

PREDICT = "/v1/models/everything:predict"
GOOD = {"signature_name": "echo_float32", "instances": [1, 2]}
ANSWER = (200, {"predictions": [1.0, 2.0]})


@pytest.fixture
def server(serve, everything) -> ModelServer:
    return serve(everything, max_request_bytes=100_000)


def connect(server: ModelServer) -> socket.socket:
    address = ("127.0.0.1", int(server.rest_address.rsplit(":", 1)[1]))
    return socket.create_connection(address, timeout=60)


def raw(server: ModelServer, sent: bytes) -> bytes:
    """What comes back for some bytes until the server closes the connection."""
    with connect(server) as connection:
        connection.sendall(sent)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return received


def request(body: bytes, *headers: str, last: bool = True) -> bytes:
    lines = [f"POST {PREDICT} HTTP/1.1", "Host: test", *headers]
    if last:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.mark.filterwarnings("error::DeprecationWarning:memae_tf.serving.server.http_server")
def test_nothing_deprecated_in_aiohttp_is_used(server):
    body = json.dumps(GOOD).encode()
    assert b"200 OK" in raw(server, request(body, f"Content-Length: {len(body)}"))


def test_requests_in_one_go_are_answered_in_order(server):
    requests = b"".join(
        request(body, f"Content-Length: {len(body)}", last=number == 4)
        for number, body in enumerate(
            json.dumps({**GOOD, "instances": [number]}).encode() for number in range(5)
        )
    )
    received = raw(server, requests)
    found = [received.find(f'{{"predictions": [{n}.0]}}'.encode()) for n in range(5)]
    assert found == sorted(found)
    assert found[0] > 0


def test_chunked_body(server):
    body = json.dumps(GOOD).encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:7], body[7:]))
    sent = request(chunks + b"0\r\n\r\n", "Transfer-Encoding: chunked")
    assert b'{"predictions": [1.0, 2.0]}' in raw(server, sent)


def test_client_that_waits_to_be_told_to_go_on(server):
    body = json.dumps(GOOD).encode()
    sent = request(body, f"Content-Length: {len(body)}", "Expect: 100-continue")
    received = raw(server, sent)
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\xff\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno header\r\n\r\n",
        request(b"{}", "Content-Length: -2"),
        request(b"{}", "Content-Length: 2", "Content-Length: 3"),
        request(b"zz\r\n", "Transfer-Encoding: chunked"),
        b"GET / HTTP/1.1\r\nA: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_malformed_http_is_refused(server, sent):
    received = raw(server, sent)
    assert received.split(b" ")[1].startswith(b"4")
    assert clients.rest(server, "POST", PREDICT, GOOD) == ANSWER


def test_body_that_does_not_come_whole(server):
    with connect(server) as connection:
        connection.sendall(request(b'{"instances": [1', "Content-Length: 1000"))
    assert clients.rest(server, "POST", PREDICT, GOOD) == ANSWER


@pytest.mark.parametrize("chunked", [False, True])
def test_too_large_a_body(server, chunked):
    body = b" " * 200_000
    if chunked:
        sent = request(b"30d40\r\n" + body + b"\r\n0\r\n\r\n", "Transfer-Encoding: chunked")
    else:
        sent = request(body[:10], "Content-Length: 200000")
    received = raw(server, sent)
    assert received.startswith(b"HTTP/1.1 413 ")
    assert b'{"error": "The request is larger than 100000 bytes"}' in received


def test_gzip_that_grows_too_large(server):
    bomb = gzip.compress(b" " * 10_000_000)
    status, answer = clients.rest(server, "POST", PREDICT, bomb, **{"Content-Encoding": "gzip"})
    assert (status, answer) == (429, {"error": "The request is larger than 100000 bytes"})


def test_too_large_a_message(server):
    with clients.GrpcClient(server) as client:
        with pytest.raises(grpc.RpcError) as refusal:
            client.predict("everything", [0.0] * 100_000, "echo_float32")
        assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert client.predict("everything", [0.5], "echo_float32") == [0.5]


def test_tensor_of_which_little_is_sent(server):
    with clients.GrpcClient(server) as client:
        message = predict_pb2.PredictRequest(model_spec={"name": "everything"})
        message.model_spec.signature_name = "echo_float32"
        tensor = message.inputs["x"]
        tensor.dtype = 1
        tensor.tensor_shape.dim.add().size = 2**40
        with pytest.raises(grpc.RpcError) as refusal:
            client.stub.Predict(message, timeout=60)
        assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_deep_nesting(server):
    for body in (b'{"inputs": ' + b"[" * 40_000, b'{"inputs": ' + b"[" * 80 + b"]" * 80 + b"}"):
        status, answer = clients.rest(server, "POST", PREDICT, body)
        assert status == 400
        assert answer["error"]


def test_timeout_of_rest(serve, everything):
    server = serve(everything, rest_timeout=0.2)
    status, answer = clients.rest(
        server, "POST", PREDICT, {"signature_name": "slow", "inputs": [10**6]}
    )
    assert (status, answer) == (504, {"error": "Timed out waiting for notification"})


def test_message_of_an_error_is_cut(server):
    with clients.GrpcClient(server) as client, pytest.raises(grpc.RpcError) as refusal:
        client.predict("x" * 3000, [1])
    assert len(refusal.value.details()) == 1024 + len("...TRUNCATED")


def test_health(server):
    with clients.GrpcClient(server) as client:
        stub = health_pb2_grpc.HealthStub(client.channel)
        for name in ("", "ModelService", "PredictionService"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=60)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as refusal:
            stub.Check(health_pb2.HealthCheckRequest(service="Other"), timeout=60)
        assert refusal.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection(server):
    with clients.GrpcClient(server) as client:
        stub = reflection_pb2_grpc.ServerReflectionStub(client.channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        [answer] = stub.ServerReflectionInfo(iter([asked]), timeout=60)
        services = {service.name for service in answer.list_services_response.service}
    assert {"tensorflow.serving.PredictionService", "grpc.health.v1.Health"} <= services


@contextlib.contextmanager
def reflections(channel, number: int):
    """Idle streams of reflection, each after its first answer or refusal."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    done = threading.Event()

    def asked():
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        done.wait()

    streams = [stub.ServerReflectionInfo(asked(), timeout=60) for _ in range(number)]
    yield streams
    done.set()
    for stream in streams:
        stream.cancel()


def test_idle_streams_take_no_thread_from_requests(serve, everything):
    server = serve(everything, threads=1)
    with clients.GrpcClient(server) as client:
        with reflections(client.channel, MAX_REFLECTION_STREAMS) as streams:
            for stream in streams:
                assert next(stream).list_services_response.service
            with reflections(client.channel, 2) as refused:
                for stream in refused:
                    with pytest.raises(grpc.RpcError, match="streams of reflection") as refusal:
                        next(stream)
                    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            health = health_pb2_grpc.HealthStub(client.channel)
            watches = [health.Watch(health_pb2.HealthCheckRequest()) for _ in range(20)]
            for watch in watches:
                assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            assert client.predict("everything", [0.5], "echo_float32", timeout=20) == [0.5]
        # What a stream took is there again when it ends.
        assert clients.wait_until(lambda: first_answer(client.channel) is not None)


def first_answer(channel):
    with reflections(channel, 1) as [stream], contextlib.suppress(grpc.RpcError):
        return next(stream)


def test_streams_end_with_the_server(serve, everything):
    states = health_pb2.HealthCheckResponse
    server = serve(everything, drain_seconds=300)
    with clients.GrpcClient(server) as client:
        stub = health_pb2_grpc.HealthStub(client.channel)
        watches = {
            name: stub.Watch(health_pb2.HealthCheckRequest(service=name), timeout=60)
            for name in ("", "PredictionService", "Other")
        }
        first = {name: next(watch).status for name, watch in watches.items()}
        assert first == {
            "": states.SERVING,
            "PredictionService": states.SERVING,
            "Other": states.SERVICE_UNKNOWN,
        }
        cancelled = stub.Watch(health_pb2.HealthCheckRequest(), timeout=60)
        next(cancelled)
        cancelled.cancel()
        with reflections(client.channel, 1) as [stream]:
            next(stream)
            started = time.monotonic()
            server.stop()
            assert time.monotonic() - started < 30
            for watch in watches.values():
                assert [answer.status for answer in watch] == [states.NOT_SERVING]
                assert watch.code() is grpc.StatusCode.OK
            with pytest.raises(grpc.RpcError):
                next(stream)


def test_cors(serve, everything):
    server = serve(everything, cors=True)
    connection = clients.rest_connection(server)
    for method in ("OPTIONS", "POST"):
        connection.request(method, PREDICT, "{}", {"Origin": "http://example.com"})
        response = connection.getresponse()
        response.read()
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert response.headers["Access-Control-Allow-Methods"] == "POST, GET"
    connection.close()


def test_ports_that_are_taken(serve, server, everything):
    grpc_port, rest_port = (
        int(address.rsplit(":", 1)[1]) for address in (server.grpc_address, server.rest_address)
    )
    with pytest.raises(UserError, match="gRPC cannot listen"):
        serve(everything, grpc_port=grpc_port)
    with pytest.raises(UserError, match="REST cannot listen"):
        serve(everything, rest_port=rest_port)
    assert clients.rest(server, "POST", PREDICT, GOOD) == ANSWER


def test_grpc_alone(serve, everything):
    server = serve(everything, rest_port=None)
    assert server.rest_address is None
    with clients.GrpcClient(server) as client:
        assert client.predict("everything", [0.5], "echo_float32") == [0.5]


def test_metrics(server):
    clients.rest(server, "POST", PREDICT, GOOD)
    clients.rest(server, "POST", PREDICT, {})
    clients.rest(server, "POST", '/v1/models/a"b%5C%0A%FF:predict', {"inputs": [1]})
    status, page = clients.rest(server, "GET", "/monitoring/prometheus/metrics")
    assert status == 200
    lines = page.splitlines()
    prefix = ":tensorflow:serving:"
    for line in (
        f"# TYPE {prefix}request_count counter",
        f'{prefix}request_count{{model_name="everything",status="OK"}} 1',
        f'{prefix}request_count{{model_name="everything",status="INVALID_ARGUMENT"}} 1',
        f'{prefix}request_count{{model_name="a\\"b\\\\\\n\ufffd",status="NOT_FOUND"}} 1',
        f"# TYPE {prefix}request_latency histogram",
        f'{prefix}request_latency_count{{model_name="everything",API="predict",'
        'entrypoint="REST"} 1',
        f'{prefix}request_latency_bucket{{model_name="everything",API="predict",'
        'entrypoint="REST",le="+Inf"} 1',
        f'{prefix}runtime_latency_count{{model_name="everything",API="Predict",runtime="TF1"}} 1',
    ):
        assert line in lines
    # Another method, another path: none.
    assert clients.rest(server, "GET", "/monitoring/prometheus/metrics/")[0] == 404


def test_stop_answers_the_requests_under_way(serve, everything):
    server = serve(everything)
    body = {"signature_name": "slow", "inputs": [300]}
    answers = {}

    def ask_rest():
        answers["rest"] = clients.rest(server, "POST", PREDICT, body)

    def ask_grpc():
        with clients.GrpcClient(server) as client:
            answers["grpc"] = client.predict("everything", [300], "slow", dtype="int32")

    threads = [threading.Thread(target=ask) for ask in (ask_rest, ask_grpc)]
    for thread in threads:
        thread.start()
    [version] = server.core.status(ModelSpec("everything"))
    assert clients.wait_until(lambda: version.leases == len(threads))
    server.stop()
    for thread in threads:
        thread.join(60)
    assert answers == {"rest": (200, {"outputs": [300]}), "grpc": [300]}


def test_stop_answers_all_who_have_connected(serve, everything):
    server = serve(everything)
    body = json.dumps(GOOD).encode()
    is_stopping = threading.Event()
    # Until then it lets nobody in.
    server._http._loop.call_soon_threadsafe(is_stopping.wait)
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(server)) for _ in range(50)]
        for connection in connections:
            connection.sendall(request(body, f"Content-Length: {len(body)}", last=False))
        threading.Timer(0.2, is_stopping.set).start()
        server.stop()
        answers = [connection.makefile("rb").read() for connection in connections]
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nConnection: close\r\n" in answer
        assert answer.endswith(b'{"predictions": [1.0, 2.0]}')
