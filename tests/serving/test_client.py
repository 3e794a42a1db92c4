"""`memae_tf.serving.Client` over real sockets, gRPC and REST."""

import contextlib
import http.server
import logging
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("tensorflow_serving.apis")

import clients
from served_models import publish
from small_detectors import hard_traffic

from memae_tf.errors import RequestError, ServerError, UserError
from memae_tf.serving import Client
from memae_tf.serving import client as client_module
from memae_tf.serving.client import VersionStatus
from memae_tf.serving.server.config import ALL, ModelConfig
from memae_tf.serving.signatures import Tensor
from memae_tf.serving.transports import GrpcTransport, Model
from memae_tf.serving.wire.status import ServingError

TRANSPORTS = ["grpc", "rest"]
RECORDS = hard_traffic(700)
LIMIT = 4 * 2**20


def address(server, transport: str) -> str:
    return server.grpc_address if transport == "grpc" else server.rest_address


@pytest.fixture(params=TRANSPORTS)
def transport(request) -> str:
    return request.param


@pytest.fixture
def ask(traffic, transport):
    """A client of the traffic detector."""
    with Client(address(traffic.server, transport), "traffic", label="stable") as client:
        yield client


@pytest.fixture
def everything_client(serve, everything, transport):
    with Client(address(serve(everything), transport), "everything") as client:
        yield client


@contextlib.contextmanager
def on_retry(act):
    """Calls `act` whenever a client is about to try again; gives the list of what it logged."""
    messages = []

    class Handler(logging.Handler):
        def emit(self, record):
            messages.append(record.getMessage())
            act()

    handler = Handler()
    client_module.logger.addHandler(handler)
    client_module.logger.setLevel(logging.INFO)
    yield messages
    client_module.logger.removeHandler(handler)
    client_module.logger.setLevel(logging.NOTSET)


def refused(error: type, code: str, call) -> str:
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert caught.value.code == code
    assert "\n" not in str(caught.value)
    return str(caught.value)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


# answers


@pytest.mark.parametrize("threshold", [None, 12.5])
def test_batches_have_the_detector_s_bits(traffic, ask, threshold):
    ask.batch_size = 150
    expected = traffic.detector.detect(RECORDS, threshold, explain=True, batch_size=150)
    scored, explained = ask.score(RECORDS, threshold), ask.explain(RECORDS, threshold)
    for name, values in expected.items():
        for answer in [explained, *([scored] if name in scored else [])]:
            assert answer[name].dtype == values.dtype
            np.testing.assert_array_equal(answer[name], values)
    top = np.argsort(-expected["field_error"], axis=1, kind="stable")[:, :5]
    names = np.array(traffic.detector.field_names)[top]
    np.testing.assert_array_equal(explained["top_fields"], names)
    assert 0 < scored["is_anomaly"].sum() < len(scored["is_anomaly"])


def test_every_kind_of_records_gives_the_same(traffic, ask):
    few = {name: column[:20] for name, column in RECORDS.items()}
    frame = pd.DataFrame({**few, "label": "normal."})
    expected = traffic.detector.score(few)
    for records in (few, frame, frame.to_dict("records"), frame.to_records(index=False)):
        np.testing.assert_array_equal(ask.score(records)["score"], expected)
    # What a dict lacks is missing.
    lacking = [
        {name: value for name, value in row.items() if value == value}
        for row in frame.to_dict("records")
    ]
    np.testing.assert_array_equal(ask.score(lacking)["score"], expected)


@pytest.mark.parametrize(
    ("threshold", "told"),
    [
        (np.nan, "nan"),
        ("a", "a"),
        ([1.0, 2.0], r"\[1.0, 2.0\]"),
        (np.zeros((2, 2)), r"\[\[0\. 0\.\] \[0\. 0\.\]\]"),
    ],
)
@pytest.mark.parametrize("rows", [1, 2])
def test_threshold_that_is_no_number(transport, threshold, told, rows):
    records = {name: column[:rows] for name, column in RECORDS.items()}
    # Told before anybody is asked: there is nobody.
    with Client(at(transport, free_port()), "m", retries=0) as client:
        for call in (client.score, client.explain):
            with pytest.raises(
                UserError, match=f"^threshold={told}: should be a number; scores above"
            ):
                call(records, threshold=threshold)


def test_threshold_beyond_what_a_float_holds():
    with Client(at("grpc", free_port()), "m", retries=0) as client:
        # It is one, and so the server is asked, which is not there.
        refused(RequestError, "UNAVAILABLE", lambda: client.score(RECORDS, threshold=10**400))


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ([1.0], "threshold should have one value a row, and rows and values are] [2] [1]"),
        ([1.0] * 3, "threshold should have one value a row, and rows and values are] [2] [3]"),
        ([], "threshold should have one value a row, and rows and values are] [2] [0]"),
        (1.0, "not compatible with expected shape [?]"),
        ([[1.0], [1.0]], "not compatible with expected shape [?]"),
        ([1.0, np.nan], "threshold should be numbers, and one is NaN, which no score exceeds"),
    ],
)
def test_thresholds_that_are_not_one_number_a_row(ask, thresholds, message):
    inputs = {name: column[:2] for name, column in RECORDS.items()} | {"threshold": thresholds}
    call = lambda: ask.predict(inputs, "score_with_threshold")  # noqa: E731
    assert message in refused(RequestError, "INVALID_ARGUMENT", call)


def test_no_records(traffic, ask):
    none = {name: column[:0] for name, column in RECORDS.items()}
    for name, values in traffic.detector.detect(none, explain=True).items():
        answer = ask.explain(none)[name]
        assert (answer.shape, answer.dtype) == (values.shape, values.dtype)


def test_many_batches_one_after_another(traffic, ask):
    sizes = [3, 1, 7, 2, 5, 4]
    starts = np.cumsum([0, *sizes])
    batches = (
        {k: v[start : start + size] for k, v in RECORDS.items()}
        for start, size in zip(starts, sizes, strict=False)
    )
    answers = list(ask.score_batches(batches, threshold=1.0))
    assert [len(answer["score"]) for answer in answers] == sizes
    expected = traffic.detector.detect(
        {k: v[: sum(sizes)] for k, v in RECORDS.items()}, threshold=1.0
    )
    for name, values in expected.items():
        joined = np.concatenate([answer[name] for answer in answers])
        np.testing.assert_allclose(joined, values, rtol=1e-6)


def test_threads_share_a_client(traffic, ask):
    ask.batch_size = 16
    parts = [{k: v[n * 40 : n * 40 + 40] for k, v in RECORDS.items()} for n in range(16)]
    expected = [traffic.detector.score(part, batch_size=16) for part in parts]
    with ThreadPoolExecutor(8) as pool:
        for answer, values in zip(pool.map(ask.score, parts), expected, strict=True):
            np.testing.assert_array_equal(answer["score"], values)


@pytest.mark.parametrize(
    ("chosen", "version"),
    [({}, 2), ({"version": 1}, 1), ({"version": 2}, 2), ({"label": "old"}, 1)],
)
def test_version_and_label(serve, tmp_path, transport, chosen, version):
    for number in (1, 2):
        publish(tmp_path / "adder", number, 10 * number)
    server = serve(ModelConfig("adder", str(tmp_path / "adder"), ALL, {"old": 1}))
    with Client(address(server, transport), "adder", **chosen) as client:
        assert client.predict([1])["y"].tolist() == [1 + 10 * version]
        assert client.metadata().version == version


def test_status_and_metadata(traffic, transport):
    with Client(address(traffic.server, transport), "traffic") as client:
        assert client.status() == [VersionStatus(1, "AVAILABLE", "")]
        signatures = client.metadata().signatures
        assert client.fields() == traffic.detector.featurizer.input_dtypes()
    assert "explain" in signatures
    assert not any(name.startswith("__") for name in signatures)
    default = signatures["serving_default"]
    assert default.inputs["flag"] == Tensor("string", (None,))
    assert default.outputs["is_anomaly"] == Tensor("int64", (None,))
    assert default.method == "tensorflow/serving/predict"
    assert signatures["score_encoded"].inputs["features"].shape == (
        None,
        traffic.detector.featurizer.num_features,
    )


@pytest.mark.parametrize(
    "dtype",
    ["float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
     "uint64", "bool"],
)  # fmt: skip
def test_dtypes(everything_client, dtype):
    if dtype == "uint16" and everything_client.address.startswith("http"):
        pytest.skip("TensorFlow Serving's REST API takes no uint16")
    values = np.array([0, 1, 1, 0, 1], dtype)
    everything_client.batch_size = 2
    # What is not an array yet, or of another dtype that the values fit in, is turned into it.
    given_as = [values, values.tolist()]
    if dtype != "bool":
        given_as.append(values.astype("float64"))
    for x in given_as:
        y = everything_client.predict(x, f"echo_{dtype}")["y"]
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, values)


def test_integers_on_both_sides_of_int64_keep_their_digits(everything_client):
    values = [2**63 + 1, 1, 2**64 - 1]
    assert everything_client.predict(values, "echo_uint64")["y"].tolist() == values


def test_integers_beyond_64_bits_are_floats(everything_client):
    assert everything_client.predict([2**64, 1], "echo_float64")["y"].tolist() == [2.0**64, 1]


def test_dtypes_that_only_grpc_carries(serve, everything):
    server = serve(everything)
    half = np.array([0.5, 2], "float16")
    with Client(server.grpc_address, "everything") as client:
        assert client.predict(half, "echo_float16")["y"].tolist() == [0.5, 2]
        assert client.predict([1 + 2j], "echo_complex64")["y"].tolist() == [1 + 2j]
    with Client(server.rest_address, "everything") as client:
        for x, signature in ((half, "echo_float16"), ([1 + 2j], "echo_complex64")):
            call = partial(client.predict, x, signature)
            assert signature in refused(RequestError, "UNIMPLEMENTED", call)


def test_strings(everything_client):
    texts = ["", "ünseen", 'a "quoted"\n', b"bytes"]
    answer = everything_client.predict({"x": texts}, "strings")
    assert answer["text"].tolist() == ["", "ünseen", 'a "quoted"\n', "bytes"]
    assert answer["same_bytes"].tolist() == [t if type(t) is bytes else t.encode() for t in texts]


def test_numbers_that_are_not_finite(everything_client):
    answer = everything_client.predict([1.0], "not_finite")["y"]
    np.testing.assert_array_equal(answer, [[np.inf, -np.inf, np.nan]])


def test_signatures_without_one_row_a_sample(everything_client):
    assert everything_client.predict(1, "scalar")["y"] == 2
    assert everything_client.predict("a", "echo_string")["y"] == "a"
    everything_client.batch_size = 3
    assert everything_client.predict([1, 2, 3], "uneven")["first"].tolist() == [1]
    with pytest.raises(UserError, match=r"output first does not have one value per sample.* all 4"):
        everything_client.predict([1, 2, 3, 4], "uneven")


# what is wrong


@pytest.mark.parametrize(
    ("inputs", "signature", "message"),
    [
        ({"y": [1]}, "echo_float32", "signature echo_float32 takes x, not y"),
        ({}, "pair", "signature pair takes number, text, not nothing"),
        ([1], "pair", "signature pair has several inputs, number, text; give them by name"),
        (["a"], "echo_float32", "input x takes float, not <U1"),
        ([1.5], "echo_int64", "input x takes int64, which cannot hold its values"),
        ([256], "echo_uint8", "input x takes uint8, which cannot hold its values"),
        ([2**63, -1], "echo_uint64", "input x takes uint64, which cannot hold its values"),
        ([2**63, 0.5], "echo_uint64", "input x takes uint64, which cannot hold its values"),
        ([float("nan")], "echo_int32", "input x takes int32, which cannot hold its values"),
        ([2**64], "echo_uint64", "input x takes uint64, which cannot hold its values"),
        ([-(2**63) - 1, 1], "echo_int64", "input x takes int64, which cannot hold its values"),
        ([10**400], "echo_float32", "input x takes float, which cannot hold its values"),
        ([1], "echo_bool", "input x takes bool, not int64"),
        ([1j], "echo_float32", "input x takes float, not complex128"),
        ([1], "echo_string", "input x takes text, str or bytes"),
    ],
)
def test_inputs_that_are_not_the_signature_s(serve, everything, inputs, signature, message):
    with Client(serve(everything).grpc_address, "everything") as client:
        with pytest.raises(UserError) as caught:
            client.predict(inputs, signature)
        assert str(caught.value) == message


def test_records_that_are_wrong(ask):
    with pytest.raises(UserError, match="lack the field 'count'"):
        ask.score({"duration": [1], "flag": ["SF"]})
    with pytest.raises(UserError, match=r"'duration' holds text: .*'long'"):
        ask.score([{"duration": "long"}])
    with pytest.raises(UserError, match=r"list of dicts\. Received: ndarray"):
        ask.score(np.zeros((2, 41)))
    with pytest.raises(UserError, match="different lengths"):
        ask.score({**RECORDS, "flag": ["SF"]})


def test_models_that_are_no_detectors(everything_client):
    with pytest.raises(UserError, match="everything, signature serving_default: is not a detector"):
        everything_client.score([{}])


@pytest.mark.parametrize(
    ("model", "chosen", "code", "message"),
    [
        (
            "other",
            {},
            "NOT_FOUND",
            "model other: NOT_FOUND: Servable not found for request: Latest",
        ),
        ("traffic", {"version": 9}, "NOT_FOUND", "model traffic version 9: NOT_FOUND: "),
        ("traffic", {"label": "old"}, "INVALID_ARGUMENT", "model traffic label old: INVALID_ARG"),
    ],
)
def test_models_that_are_not_there(traffic, transport, model, chosen, code, message):
    with Client(address(traffic.server, transport), model, **chosen) as client:
        assert message in refused(RequestError, code, lambda: client.score([{}]))


def test_what_the_server_refuses_is_told_and_not_asked_again(serve, everything, transport):
    server = serve(everything)
    with Client(address(server, transport), "everything") as client:
        message = refused(RequestError, "INVALID_ARGUMENT", lambda: client.predict([-1], "picky"))
        assert "model everything, signature picky: INVALID_ARGUMENT: " in message
        assert "negative value" in message
        message = refused(RequestError, "NOT_FOUND", lambda: client.predict([1], "none"))
        assert "model everything: has no signature none; it has " in message
    _, page = clients.rest(server, "GET", "/monitoring/prometheus/metrics")
    counter = 'request_count{model_name="everything",status="INVALID_ARGUMENT"} 1'
    assert counter in page


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (
            ("localhost", "m"),
            {},
            "'localhost' is not the address of a server, such as localhost:8500",
        ),
        (("ftp://localhost", "m"), {}, "is not the address"),
        (("localhost:1", ""), {}, "the name of a model is required"),
        (
            ("localhost:1", "m", 1, "stable"),
            {},
            "version 1 and label 'stable' of model m: give one of the two",
        ),
        (("localhost:1", "m"), {"timeout": 1e10}, "timeout=10000000000.0: should be a positive"),
        (("localhost:99999", "m"), {}, "'localhost:99999': a port is 65535 at most"),
        (("http://localhost:99999/", "m"), {}, "a port is 65535 at most"),
        (("localhost:1", "m"), {"timeout": 0}, "timeout=0: should be a positive number"),
        (("localhost:1", "m"), {"timeout": "5"}, "timeout='5': should be a positive number of"),
        (("localhost:1", "m"), {"timeout": None}, "timeout=None: should be a positive number of"),
        (("localhost:1", "m"), {"retries": -1}, "retries=-1: should be a whole number, 0 or more"),
        (("localhost:1", "m"), {"retries": 1.5}, "retries=1.5: should be a whole number, 0 or"),
        (("localhost:1", "m"), {"batch_size": 0}, "batch_size=0: should be a whole number, 1"),
        (("localhost:1", "m"), {"timeout": float("inf")}, "timeout=inf: should be a positive"),
        (("localhost:1", "m", 2**63), {}, "version 9223372036854775808: should be a whole number,"),
        (("http://localhost:1", "m", -1), {}, "version -1: should be a whole number, from 0 to"),
        (("localhost:1", "m", "2"), {}, "version '2': should be a whole number, from 0 to"),
        (("http://localhost:1", "m", True), {}, "version True: should be a whole number, from 0"),
        ((8500, "m"), {}, "^8500 is not the address of a server"),
        (("localhost:1", 3), {}, "3: names and labels of models should be text"),
        (("localhost:1", "m", None, 1), {}, "1: names and labels of models should be text"),
        (("localhost:1", "m", None, "\udcff"), {}, r"'\\udcff': is not text that can be sent"),
    ],
)
def test_arguments_out_of_range(arguments, options, message):
    with pytest.raises(UserError, match=message):
        Client(*arguments, **options)


# time and retries


def test_deadline(serve, everything, transport):
    # The server's own patience ends later, but lets it stop soon.
    server = serve(everything, rest_timeout=2)
    with Client(address(server, transport), "everything") as client:
        client.metadata()
        call = lambda: client.predict([10**6], "slow", timeout=0.3)  # noqa: E731
        message = refused(RequestError, "DEADLINE_EXCEEDED", call)
        assert "signature slow: DEADLINE_EXCEEDED" in message
        assert client.predict([1], "echo_float32")["y"].tolist() == [1]


def test_server_that_comes_up_late(serve, tmp_path, transport):
    publish(tmp_path / "adder", 1, 10)
    port = free_port()
    started = []

    def start():
        if not started:
            started.append(serve(adder(tmp_path), **{f"{transport}_port": port}))

    with on_retry(start) as messages, Client(at(transport, port), "adder", retries=30) as client:
        assert client.predict([1])["y"].tolist() == [11]
    assert "refused" in messages[0]
    assert "trying again in 0." in messages[0]


def adder(folder) -> ModelConfig:
    return ModelConfig("adder", str(folder / "adder"))


def at(transport: str, port: int) -> str:
    return f"127.0.0.1:{port}" if transport == "grpc" else f"http://127.0.0.1:{port}"


def test_server_that_is_restarted_between_calls(serve, tmp_path, transport):
    publish(tmp_path / "adder", 1, 10)
    port = free_port()
    server = serve(adder(tmp_path), **{f"{transport}_port": port})
    with Client(at(transport, port), "adder", retries=30) as client:
        assert client.predict([1])["y"].tolist() == [11]
        server.stop()
        publish(tmp_path / "adder", 2, 20)
        serve(adder(tmp_path), **{f"{transport}_port": port})
        assert client.predict([1])["y"].tolist() == [21]


def test_nobody_there(transport):
    with (
        on_retry(lambda: None) as messages,
        Client(at(transport, free_port()), "m", retries=2) as client,
    ):
        message = refused(RequestError, "UNAVAILABLE", client.status)
    assert len(messages) == 2
    assert "refused" in message


@pytest.mark.parametrize("address", ["localhost:1", "http://localhost:1"])
def test_closed_client_asks_no_more(address):
    client = Client(address, "m")
    client.close()
    with pytest.raises(RequestError, match="CANCELLED: this client is closed") as error:
        client.status()
    assert error.value.code == "CANCELLED"
    with pytest.raises(UserError, match="timeout=inf: should be a number of seconds"):
        client.status(timeout=float("inf"))
    with pytest.raises(UserError, match="timeout='5': should be a number of seconds"):
        client.status(timeout="5")


def test_close_ends_what_is_under_way():
    with socket.create_server(("localhost", 0)) as server, ThreadPoolExecutor(1) as pool:
        client = Client(f"localhost:{server.getsockname()[1]}", "m")
        answer = pool.submit(client.status)
        # It is on its way to one who says nothing.
        connection, _ = server.accept()
        client.close()
        assert "this client is closed" in refused(RequestError, "CANCELLED", answer.result)
        connection.close()


def test_channel_that_another_thread_closes_before_the_call():
    transport = GrpcTransport("localhost:1", Model("m"))
    transport.close()
    with pytest.raises(ServingError, match="CANCELLED"):
        transport.status(1.0)


def test_text_that_cannot_be_sent(everything_client):
    with pytest.raises((UserError, RequestError), match=r"not text that can be sent|surrogate"):
        everything_client.predict({"x": np.array(["a", "\ud800"], object)}, "echo_string")


def test_close_ends_the_waiting(transport):
    client = Client(at(transport, free_port()), "m", retries=1000, timeout=3600)
    with on_retry(client.close) as messages:
        refused(RequestError, "UNAVAILABLE", client.status)
    assert len(messages) == 1


@contextlib.contextmanager
def http_server(*answers: tuple[int, bytes]):
    """A server that gives these answers, then the last again; gives address and paths asked."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = answers[min(len(asked), len(answers) - 1)]
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


BUSY = (503, b'{"error": "queue is full"}')
STATUS = (200, b'{"model_version_status": [{"version": "3", "state": "AVAILABLE"}]}')


def test_busy_server_is_asked_again():
    with (
        http_server(BUSY, (502, b"<html>bad gateway</html>"), STATUS) as (url, asked),
        Client(f"{url}/prefix/", "a b") as client,
    ):
        assert [status.version for status in client.status()] == [3]
    assert asked == ["/prefix/v1/models/a%20b"] * 3


def test_retries_end_before_the_deadline():
    with (
        http_server(BUSY) as (url, asked),
        Client(url, "m", timeout=0.5, retries=1000) as client,
    ):
        assert "queue is full" in refused(RequestError, "UNAVAILABLE", client.status)
    # Delays of 0.1, 0.2 and 0.4 s, less up to a half.
    assert 1 <= len(asked) <= 5


@pytest.mark.parametrize(
    ("answer", "error", "code", "message"),
    [
        ((500, b'{"error": "our fault"}'), ServerError, "INTERNAL", "INTERNAL: our fault"),
        ((200, b'{"model_version_status": 7}'), ServerError, "INTERNAL", "cannot be read"),
        ((404, b"<html>"), RequestError, "UNIMPLEMENTED", "is this TensorFlow Serving's REST"),
        ((200, b"[]"), RequestError, "UNIMPLEMENTED", "is this TensorFlow Serving's REST"),
        ((200, b"[" * 10**5), RequestError, "UNIMPLEMENTED", "is this TensorFlow Serving's REST"),
        ((401, b'{"error": "who?"}'), RequestError, "UNAUTHENTICATED", "UNAUTHENTICATED: who?"),
        ((418, b'{"error": "tea"}'), ServerError, "UNKNOWN", "UNKNOWN: tea"),
    ],
)
def test_other_answers_are_not_asked_for_again(answer, error, code, message):
    with http_server(answer) as (url, asked), Client(url, "m") as client:
        assert message in refused(error, code, client.status)
    assert len(asked) == 1


FORK = """
import os, sys
from memae_tf.serving import Client
client = Client(sys.argv[1], "m")
client.status()
if os.fork() == 0:
    client.status()
else:
    os.wait()
    client.status()
"""


def test_forked_process_is_told_to_make_a_client_of_its_own():
    with http_server(STATUS) as (url, asked):
        done = subprocess.run(
            [sys.executable, "-c", FORK, url], cwd=clients.ROOT, capture_output=True, text=True
        )
    assert done.returncode == 0
    assert "was made before the process forked; make one in each" in done.stderr
    # The parent's is as good as before.
    assert len(asked) == 2


def test_answer_that_comes_byte_by_byte():
    body, sent = b" " * 500, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    sent.append(byte)
                    time.sleep(0.02)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request, daemon=True)
        thread.start()
        with Client(f"http://127.0.0.1:{server.server_port}", "m", timeout=0.2) as client:
            assert "no complete answer" in refused(RequestError, "DEADLINE_EXCEEDED", client.status)
        thread.join()
    # The client did not wait for all of it.
    assert len(sent) < len(body)


def test_wrong_port(traffic):
    rest_port = traffic.server.rest_address.removeprefix("http://")
    for address, port in (
        (f"http://{traffic.server.grpc_address}", "is this the gRPC port?"),
        (rest_port, "is this the REST port (http://...)?"),
    ):
        # It is not tried again.
        with on_retry(lambda: None) as retries, Client(address, "traffic") as client:
            assert port in refused(RequestError, "UNIMPLEMENTED", client.status)
        assert retries == []


# sizes


def test_messages_stay_below_what_servers_take(serve, everything):
    server = serve(everything, max_request_bytes=LIMIT)
    texts = [letter * (LIMIT // 5 * 2) for letter in "abcde"]
    with Client(server.grpc_address, "everything") as client:
        # The answer to each batch is twice its size.
        answer = client.predict(texts, "strings")
        assert answer["text"].tolist() == texts
        call = lambda: client.predict(["x" * (LIMIT + 1)], "strings")  # noqa: E731
        refused(RequestError, "RESOURCE_EXHAUSTED", call)
