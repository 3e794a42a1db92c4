"""Dynamic batching: what runs together, what is refused."""

import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

import clients
import numpy as np
import pytest

from memae_tf.errors import UserError
from memae_tf.serving.server.batching import Batcher
from memae_tf.serving.server.batching_parameters import BatchingParameters
from memae_tf.serving.server.metrics import Metrics
from memae_tf.serving.server.servable import Servable
from memae_tf.serving.wire.status import Code, ServingError

LONG = 60_000_000


@pytest.fixture(scope="module")
def servable(everything):
    servable = Servable(f"{everything.base_path}/1")
    yield servable
    servable.close()


class Runs:
    """A servable that notes the sizes of what it runs, and may hold it."""

    def __init__(self, servable: Servable):
        self.signatures = servable.signatures
        self._run = servable.run
        self.sizes = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.entered = threading.Event()

    def run(self, feeds, fetches, timeout=None):
        self.sizes.append(len(next(iter(feeds.values()))))
        self.entered.set()
        self.go_on.wait(60)
        return self._run(feeds, fetches, timeout)


class Client:
    """Runs one signature through a Batcher."""

    def __init__(self, servable: Servable, **parameters):
        self.runs = Runs(servable)
        self.batcher = Batcher(self.runs, Metrics(), BatchingParameters(**parameters))

    def __call__(self, values, signature="echo_float32", timeout=60, dtype=np.float32):
        chosen = self.runs.signatures[signature]
        feeds = {chosen.inputs["x"].name: np.array(values, dtype)}
        aliases = sorted(chosen.outputs)
        fetches = [chosen.outputs[alias].name for alias in aliases]
        return [out.tolist() for out in self.batcher.run(feeds, fetches, timeout)]


def together(client: Client, *requests, **options) -> list:
    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(lambda request: client(request, **options), requests))


def test_requests_run_together(servable):
    client = Client(servable, max_batch_size=6, batch_timeout_micros=LONG)
    assert together(client, [1], [2, 3], [4, 5, 6]) == [[[1]], [[2, 3]], [[4, 5, 6]]]
    assert client.runs.sizes == [6]


def test_lone_request_waits_no_longer_than_the_timeout(servable):
    client = Client(servable, max_batch_size=6, batch_timeout_micros=1000)
    assert client([1]) == [[1]]
    assert client.runs.sizes == [1]


def test_batches_are_padded_to_an_allowed_size(servable):
    client = Client(servable, max_batch_size=8, allowed_batch_sizes=(4, 8))
    assert client([1, 2, 3]) == [[1, 2, 3]]
    assert client.runs.sizes == [4]


def test_request_larger_than_a_batch(servable):
    client = Client(servable, max_batch_size=4)
    with pytest.raises(
        ServingError, match="Task size 5 is larger than maximum input batch size 4"
    ) as error:
        client([1, 2, 3, 4, 5])
    assert error.value.code is Code.INVALID_ARGUMENT


def test_large_request_is_split(servable):
    client = Client(
        servable,
        max_batch_size=8,
        enable_large_batch_splitting=True,
        max_execution_batch_size=3,
    )
    assert client([1, 2, 3, 4, 5, 6, 7]) == [[1, 2, 3, 4, 5, 6, 7]]
    assert client.runs.sizes == [3, 3, 1]


def test_full_queue(servable):
    client = Client(servable, max_batch_size=1, num_batch_threads=1, max_enqueued_batches=1)
    client.runs.go_on.clear()
    with ThreadPoolExecutor(3) as pool:
        running = pool.submit(client, [1])
        client.runs.entered.wait(60)
        # One of them waits, which fills the queue.
        others = [pool.submit(client, [2]), pool.submit(client, [2])]
        done, [waiting] = wait(others, 60, FIRST_EXCEPTION)
        client.runs.go_on.set()
        assert (running.result(60), waiting.result(60)) == ([[1]], [[2]])
    with pytest.raises(ServingError, match=r"queue .* is full") as error:
        done.pop().result()
    assert error.value.code is Code.UNAVAILABLE


def test_what_waits_for_a_thread_runs_together(servable):
    client = Client(servable, max_batch_size=8, num_batch_threads=1, max_enqueued_batches=1)
    client.runs.go_on.clear()
    with ThreadPoolExecutor(9) as pool:
        running = pool.submit(client, [0])
        client.runs.entered.wait(60)
        others = [pool.submit(client, [value]) for value in range(1, 9)]
        # One batch waits, and is full.
        while client.batcher._open or not client.batcher._waiting:
            assert not any(other.done() for other in others)
        client.runs.go_on.set()
        answers = [future.result(60) for future in (running, *others)]
    assert answers == [[[value]] for value in range(9)]
    assert client.runs.sizes == [1, 8]


def test_error_reaches_all_of_a_batch(servable):
    client = Client(servable, max_batch_size=2, batch_timeout_micros=LONG)
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(client, [value], "picky") for value in (1, -1)]
        for future in futures:
            with pytest.raises(ServingError, match="negative value"):
                future.result(60)


def test_shapes_that_do_not_go_together(servable):
    client = Client(servable, max_batch_size=2, batch_timeout_micros=1000)
    answers = together(client, [[[1, 2]]], [[[3]]], signature="cube", dtype=np.int32)
    assert answers == [[[[[1, 2]]], [3]], [[[[3]]], [3]]]
    assert client.runs.sizes == [1, 1]


def test_padding_of_inner_shapes(servable):
    client = Client(
        servable, max_batch_size=2, batch_timeout_micros=LONG, pad_variable_length_inputs=True
    )
    answers = together(client, [[[1, 2]]], [[[3]]], signature="cube", dtype=np.int32)
    assert answers == [[[[[1, 2]]], [3]], [[[[3, 3]]], [6]]]
    assert client.runs.sizes == [2]


@pytest.mark.parametrize(
    ("signature", "error"), [("total", "has 0 dimensions"), ("uneven", "does not equal the sum")]
)
def test_outputs_that_cannot_be_split(servable, signature, error):
    client = Client(servable)
    with pytest.raises(ServingError, match=error) as caught:
        client([1, 2], signature)
    assert caught.value.code is Code.FAILED_PRECONDITION


def test_inputs_that_cannot_be_merged(servable):
    client = Client(servable)
    with pytest.raises(ServingError, match="at least one dimension"):
        client(1.0, "scalar")


def test_deadline_in_the_queue(servable):
    client = Client(servable, max_batch_size=2, batch_timeout_micros=20_000)
    with pytest.raises(ServingError) as error:
        client([1], timeout=0.001)
    assert error.value.code is Code.DEADLINE_EXCEEDED


def test_server_with_batching(serve, everything):
    parameters = BatchingParameters(max_batch_size=4, batch_timeout_micros=1000)
    server = serve(everything, batching=parameters)

    def ask(value: float):
        with clients.GrpcClient(server) as client:
            return client.predict("everything", [value], "echo_float32")

    with ThreadPoolExecutor(8) as pool:
        values = [float(n) for n in range(64)]
        assert list(pool.map(ask, values)) == [[value] for value in values]
    body = {"signature_name": "echo_float32", "inputs": [1, 2, 3, 4, 5]}
    status, answer = clients.rest(server, "POST", "/v1/models/everything:predict", body)
    assert status == 400
    assert answer["error"] == "Task size 5 is larger than maximum input batch size 4"
    body = {"signature_name": "regress", "examples": [{"x": [1.0, 2.0]}]}
    answer = clients.rest(server, "POST", "/v1/models/everything:regress", body)
    assert answer == (200, {"results": [3.0]})
    _, page = clients.rest(server, "GET", "/monitoring/prometheus/metrics")
    assert ":tensorflow:serving:batching_session:queuing_latency_count{}" in page


def test_parameters_in_a_file(tmp_path):
    path = tmp_path / "batching.config"
    path.write_text("""
        max_batch_size { value: 128 } batch_timeout_micros { value: 500 }
        max_enqueued_batches { value: 7 } num_batch_threads { value: 2 }
        thread_pool_name { value: "pool" } allowed_batch_sizes: 64 allowed_batch_sizes: 128
        pad_variable_length_inputs: true
    """)
    assert BatchingParameters.read(path) == BatchingParameters(
        max_batch_size=128,
        batch_timeout_micros=500,
        max_enqueued_batches=7,
        num_batch_threads=2,
        allowed_batch_sizes=(64, 128),
        pad_variable_length_inputs=True,
    )


@pytest.mark.parametrize(
    "text",
    [
        "max_batch_size: 3",
        "nothing { value: 1 }",
        "max_batch_size { value: 0 }",
        "batch_timeout_micros { value: -1 }",
        "max_batch_size { value: 4 } allowed_batch_sizes: 2",
        "max_batch_size { value: 4 } allowed_batch_sizes: 4 allowed_batch_sizes: 2",
    ],
)
def test_parameters_that_are_wrong(tmp_path, text):
    path = tmp_path / "batching.config"
    path.write_text(text)
    with pytest.raises(UserError):
        BatchingParameters.read(path)
