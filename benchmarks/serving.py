"""Latency and throughput of the embedded server beside direct calls and ONNX Runtime.

    python benchmarks/serving.py
    python benchmarks/serving.py --quick --json serving.json

See README.md in this folder.
"""

import contextlib
import functools
import http.client
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import common

MODEL = "kddcup99"
BATCHES = (1, 16, 128, 1024)
CLIENTS = (1, 2, 8, 32)
TRANSPORTS = ("gRPC", "REST")
DIRECT = {
    "direct": "the SavedModel's serving_default, in process",
    "direct encoded": "its score_encoded: without the featurizer",
    "onnx encoded": "ONNX Runtime, without the featurizer",
}
# p50 of one record over gRPC is to be at most so many times a direct call's, and a constant.
LATENCY_FACTOR, LATENCY_MILLISECONDS = 2, 1.0
# Rows per second of the largest batch over gRPC, in units of the direct call's, at least.
THROUGHPUT_SHARE = 0.8
WARMUP_CALLS = 10
# Until every client has been told when to begin.
START_SECONDS = 0.3
PREDICT = "/tensorflow.serving.PredictionService/Predict"
REST_PATH = f"/v1/models/{MODEL}:predict"


# What is served and sent. Processes that have TensorFlow prepare it, in files.


def prepare(folder: str, batches: tuple[int, ...], seed: int) -> None:
    """Exports the detector and writes a request of each size for each transport."""
    import json

    from memae_tf import pretrained
    from memae_tf.serving.export.publication import publish, read_source

    folder = Path(folder)
    source = read_source(pretrained.directory(MODEL))
    publish(source, folder / MODEL, onnx_file=folder / "model.onnx")
    for batch in batches:
        columns = records(batch, seed)
        request_path(folder, "gRPC", batch).write_bytes(_message(columns).SerializeToString())
        inputs = {name: column.tolist() for name, column in columns.items()}
        request_path(folder, "REST", batch).write_text(json.dumps({"inputs": inputs}))


def records(number: int, seed: int) -> dict:
    """Simulated connections: columns of float32 and of str."""
    from memae_tf.data import simulated_traffic

    return simulated_traffic.sample(number, seed)[0]


def request_path(folder: Path, transport: str, batch: int) -> Path:
    return Path(folder, f"{transport}-{batch}")


def _message(columns: dict):
    import tensorflow as tf
    from tensorflow_serving.apis.predict_pb2 import PredictRequest

    request = PredictRequest()
    request.model_spec.name = MODEL
    for name, column in columns.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(column))
    return request


def require_same_answers(
    folder: str, addresses: dict[str, str], batches: tuple[int, ...], seed: int
) -> None:
    """Compares the scores that come over each transport with those of a direct call."""
    import json

    import numpy as np
    import tensorflow as tf
    from tensorflow_serving.apis.predict_pb2 import PredictResponse

    function = tf.saved_model.load(f"{folder}/{MODEL}/1").signatures["serving_default"]
    for batch in batches:
        expected = function(**_tensors(records(batch, seed)))["score"].numpy()
        bodies = {
            transport: sender(transport, addresses[transport])(
                request_path(folder, transport, batch).read_bytes()
            )
            for transport in TRANSPORTS
        }
        response = PredictResponse.FromString(bodies["gRPC"])
        assert np.array_equal(tf.make_ndarray(response.outputs["score"]), expected)
        scores = json.loads(bodies["REST"])["outputs"]["score"]
        assert np.array_equal(np.float32(scores), expected)


def _tensors(columns: dict) -> dict:
    import tensorflow as tf

    return {name: tf.constant(column) for name, column in columns.items()}


# What is timed. Each returns a function that calls for a time and returns the seconds of each call.


def direct(folder: str, seed: int):
    import tensorflow as tf

    function = tf.saved_model.load(f"{folder}/{MODEL}/1").signatures["serving_default"]
    return functools.partial(_call_signature, function, lambda n: _tensors(records(n, seed)))


def direct_encoded(folder: str, seed: int):
    import tensorflow as tf

    function = tf.saved_model.load(f"{folder}/{MODEL}/1").signatures["score_encoded"]
    encode = functools.partial(_features, seed=seed)
    return functools.partial(
        _call_signature, function, lambda n: {"features": tf.constant(encode(n))}
    )


def _call_signature(function, inputs: Callable, batch: int, seconds: float) -> list[float]:
    tensors = inputs(batch)
    return calls(lambda: {k: v.numpy() for k, v in function(**tensors).items()}, seconds)


def onnx_encoded(folder: str, seed: int):
    import onnxruntime

    session = onnxruntime.InferenceSession(f"{folder}/model.onnx")

    def run(batch: int, seconds: float) -> list[float]:
        inputs = {"features": _features(batch, seed)}
        return calls(lambda: session.run(["score"], inputs), seconds)

    return run


def _features(batch: int, seed: int):
    from memae_tf import load_pretrained

    return load_pretrained(MODEL).featurizer(records(batch, seed)).numpy()


MAKERS = {"direct": direct, "direct encoded": direct_encoded, "onnx encoded": onnx_encoded}


def client():
    """A client, in a process that has no TensorFlow: it sends the bytes of a request again and
    again over one connection, the next one when the reply to the last is there."""

    def run(
        transport: str, address: str, request: str, start: float, seconds: float
    ) -> list[float]:
        body = Path(request).read_bytes()
        send = sender(transport, address)
        return calls(lambda: send(body), seconds, start)

    return run


def sender(transport: str, address: str) -> Callable[[bytes], bytes]:
    """A function that sends a request and returns the reply."""
    if transport == "gRPC":
        import grpc

        # As they are: protobuf's code for the messages would import TensorFlow.
        return grpc.insecure_channel(address).unary_unary(PREDICT)
    connection = http.client.HTTPConnection(address)

    def send(body: bytes) -> bytes:
        connection.request("POST", REST_PATH, body)
        response = connection.getresponse()
        reply = response.read()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {reply[:500]}")
        return reply

    return send


def calls(function: Callable[[], object], seconds: float, start: float = 0.0) -> list[float]:
    """Calls for some seconds from a time on, and returns those that each call took."""
    for _ in range(WARMUP_CALLS):
        function()
    time.sleep(max(0.0, start - time.time()))
    durations, now = [], time.perf_counter()
    end = now + seconds
    while now < end:
        function()
        now, before = time.perf_counter(), now
        durations.append(now - before)
    return durations


@contextlib.contextmanager
def server(base: Path) -> Iterator[dict[str, str]]:
    """The embedded server as a user starts it; its address by transport."""
    command = [sys.executable, "-m", "memae_tf.serve", base, "--port", "0", "--rest-port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=common.ROOT
    )
    try:
        addresses = {}
        for line in process.stdout:
            transport, _, rest = line.partition(" on ")
            if transport in TRANSPORTS:
                addresses[transport] = rest.strip().removeprefix("http://").partition("/")[0]
            if transport == "REST":
                break
        yield addresses
    finally:
        process.terminate()
        process.wait()


# What comes out.


def measure(options, folder: str) -> list[dict]:
    """A row for every system, batch size and number of clients."""
    common.in_fresh_process(prepare, folder, options.batches, options.seed)
    with server(Path(folder, MODEL)) as addresses:
        common.in_fresh_process(
            require_same_answers, folder, addresses, options.batches, options.seed
        )
        workers = {
            system: common.Worker(make, folder, options.seed) for system, make in MAKERS.items()
        }
        clients = [common.Worker(client) for _ in range(max(options.clients))]
        samples = {}
        for _, batch in itertools.product(range(options.rounds), options.batches):
            for system, worker in workers.items():
                durations = worker.run(batch, options.seconds)[1]
                samples.setdefault((system, batch, 1), []).append(durations)
            for transport, number in itertools.product(TRANSPORTS, options.clients):
                target = (transport, addresses[transport], request_path(folder, transport, batch))
                durations = _together(clients[:number], target, options.seconds)
                samples.setdefault((transport, batch, number), []).append(durations)
        for worker in (*workers.values(), *clients):
            worker.close()
    return [_row(*cell, rounds, options.seconds) for cell, rounds in samples.items()]


def _together(clients: list[common.Worker], target: tuple, seconds: float) -> list[float]:
    """The seconds of all calls of several clients that begin at the same time."""
    start = time.time() + START_SECONDS + WARMUP_CALLS * 0.01 * len(clients)
    for worker in clients:
        worker.start(*target, start, seconds)
    return list(itertools.chain.from_iterable(worker.result()[1] for worker in clients))


def _row(system: str, batch: int, number: int, rounds: list[list[float]], seconds: float) -> dict:
    durations = sorted(itertools.chain.from_iterable(rounds))
    # Of the calls and not of the clock: a call that was under way at the end counts whole.
    speeds = [batch * number * len(calls) / sum(calls) for calls in rounds]
    return {
        "system": system,
        "batch": batch,
        "clients": number,
        "calls": len(durations),
        "p50_ms": 1e3 * statistics.median(durations),
        "p99_ms": 1e3 * durations[min(len(durations) - 1, int(0.99 * len(durations)))],
        "rows_per_second": statistics.median(speeds),
    }


def ratios(rows: list[dict]) -> dict[str, float]:
    """What the targets are about, and the same of the other systems."""
    cells = {(row["system"], row["batch"], row["clients"]): row for row in rows}
    smallest, largest = (f(batch for _, batch, _ in cells) for f in (min, max))

    def latency(system: str) -> float:
        return cells[system, smallest, 1]["p50_ms"]

    def speed(system: str) -> float:
        return max(r["rows_per_second"] for c, r in cells.items() if c[:2] == (system, largest))

    limit = LATENCY_FACTOR * latency("direct") + LATENCY_MILLISECONDS
    return {
        "gRPC p50 / limit": latency("gRPC") / limit,
        "gRPC p50 / direct": latency("gRPC") / latency("direct"),
        "REST p50 / direct": latency("REST") / latency("direct"),
        "gRPC rows / direct": speed("gRPC") / speed("direct"),
        "REST rows / direct": speed("REST") / speed("direct"),
        "direct encoded rows / onnx": speed("direct encoded") / speed("onnx encoded"),
    }


def report(options, rows: list[dict], figures: dict[str, float]) -> str:
    smallest, largest = min(options.batches), max(options.batches)
    targets = {
        "gRPC p50 / limit": f"target: at most 1, which is {LATENCY_FACTOR} direct + "
        f"{LATENCY_MILLISECONDS:g} ms",
        "gRPC rows / direct": f"target: at least {THROUGHPUT_SHARE:g}",
    }
    lines = [
        f"p50 in batches of {smallest}, one client; rows/s in batches of {largest}, "
        "at the best number of clients"
    ]
    for name, ratio in figures.items():
        target = f"   ({targets[name]})" if name in targets else ""
        lines.append(f"  {name:<28}{ratio:>6.2f}{target}")
    lines.append(f"  {'':<16}{'batch':>6}{'clients':>9}{'p50':>11}{'p99':>11}{'rows/s':>12}")
    for row in sorted(rows, key=lambda r: (r["batch"], [*DIRECT, *TRANSPORTS].index(r["system"]))):
        lines.append(
            f"  {row['system']:<16}{row['batch']:>6}{row['clients']:>9}{row['p50_ms']:>8.2f} ms"
            f"{row['p99_ms']:>8.2f} ms{row['rows_per_second']:>12,.0f}"
        )
    lines += [f"  {system}: {text}" for system, text in DIRECT.items()]
    return "\n".join(lines)


def main() -> None:
    parser = common.argument_parser(__doc__.partition("\n")[0])
    parser.set_defaults(rounds=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS, help="processes")
    options = parser.parse_args()
    if 1 not in options.clients:
        parser.error("--clients must include 1, of which the latency is compared")
    if options.quick:
        options.rounds, options.seconds = 1, 0.2
        options.batches, options.clients = (1, 1024), (1, 2)
    where = common.machine(("onnxruntime", "grpcio", "aiohttp"))
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(options, folder)
    figures = ratios(rows)
    print(report(options, rows, figures))
    print(
        f"{MODEL} of memae_tf.pretrained, simulated records; medians over {options.rounds} x "
        f"{options.seconds:g} s"
    )
    print(common.describe(where, options.seed))
    settings = {name: getattr(options, name) for name in ("rounds", "seconds", "seed")}
    common.write_json(
        options.json, {"machine": where, "settings": settings, "ratios": figures, "rows": rows}
    )


if __name__ == "__main__":
    main()
