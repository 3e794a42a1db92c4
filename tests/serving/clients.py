"""Clients of a server under test: real sockets, parsed answers."""

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from memae_tf.serving.server.model_server import ModelServer


def rest_connection(server: "ModelServer | ServeCommand") -> http.client.HTTPConnection:
    return http.client.HTTPConnection(server.rest_address.removeprefix("http://"), timeout=60)


def rest(
    server: "ModelServer | ServeCommand", method: str, path: str, body=None, **headers
) -> tuple[int, object]:
    """Status and parsed body of one request on a connection of its own."""
    connection = rest_connection(server)
    payload = body if isinstance(body, bytes) or body is None else json.dumps(body)
    connection.request(method, path, payload, headers)
    response = connection.getresponse()
    content = response.read().decode("utf-8", "surrogateescape")
    connection.close()
    is_json = response.headers.get_content_type() == "application/json"
    return response.status, json.loads(content) if is_json and content else content


def wait_until(predicate: Callable[[], bool], seconds: float = 60) -> bool:
    """Whether a predicate holds within some time."""
    end = time.monotonic() + seconds
    while not predicate():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "memae_tf.serve"]


class ServeCommand:
    """The command as a process of its own, on free ports; it has addresses like a ModelServer."""

    def __init__(self, *arguments):
        ports = ("--port", "0", "--rest-port", "0")
        self.process = subprocess.Popen(
            [*COMMAND, *map(str, arguments), *ports],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self.lines = []
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if line.startswith("REST on "):
                break
        else:
            raise RuntimeError(self.process.stderr.read())
        self.grpc_address = self.lines[-2].removeprefix("gRPC on ")
        self.rest_address = self.lines[-1].removeprefix("REST on ").removesuffix("/v1/models")

    def __enter__(self) -> "ServeCommand":
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.communicate()


class GrpcClient:
    """Predicts over one channel."""

    def __init__(self, server: "ModelServer | ServeCommand"):
        self.channel = grpc.insecure_channel(server.grpc_address)
        self.stub = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    def __enter__(self) -> "GrpcClient":
        return self

    def __exit__(self, *_) -> None:
        self.channel.close()

    def predict(self, model: str, x, signature: str = "", timeout: float = 60, **spec) -> list:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        request.model_spec.signature_name = signature
        if "version" in spec:
            request.model_spec.version.value = spec["version"]
        if "label" in spec:
            request.model_spec.version_label = spec["label"]
        request.inputs["x"].CopyFrom(tf.make_tensor_proto(x, spec.get("dtype", tf.float32)))
        response = self.stub.Predict(request, timeout=timeout)
        return tf.make_ndarray(response.outputs["y"]).tolist()
