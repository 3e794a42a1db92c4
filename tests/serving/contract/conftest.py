"""The servers that the contract suite runs against."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

pytest.importorskip("tensorflow_serving.apis")

import served_models
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from memae_tf.serving.server.config import read_model_config_file
from memae_tf.serving.server.model_server import ModelServer, ServerOptions

NO_SERVER = (
    "no real server: set TFS_GRPC and TFS_REST to the addresses of one that serves the models of "
    "served_models.py, or TENSORFLOW_MODEL_SERVER to its binary"
)


@dataclass
class Target:
    """Addresses of a server, host:port."""

    grpc: str
    rest: str


@pytest.fixture(scope="session")
def contract_models(tmp_path_factory) -> Path:
    return served_models.write_all(tmp_path_factory.mktemp("contract") / "new")


@pytest.fixture(scope="session", params=["embedded", "real"])
def target(request, contract_models) -> Iterator[Target]:
    start = _embedded if request.param == "embedded" else _real
    with start(contract_models) as target:
        yield target


@contextmanager
def _embedded(config: Path) -> Iterator[Target]:
    options = ServerOptions(grpc_port=0, rest_port=0, poll_seconds=0)
    with ModelServer(read_model_config_file(config), options) as server:
        yield Target(server.grpc_address, server.rest_address.removeprefix("http://"))


@contextmanager
def _real(config: Path) -> Iterator[Target]:
    addresses = os.environ.get("TFS_GRPC"), os.environ.get("TFS_REST")
    binary = os.environ.get("TENSORFLOW_MODEL_SERVER")
    if all(addresses):
        yield Target(addresses[0], addresses[1].removeprefix("http://").rstrip("/"))
        return
    if not binary:
        pytest.skip(NO_SERVER)
    target = Target(*(f"127.0.0.1:{_free_port()}" for _ in range(2)))
    process = subprocess.Popen(
        [
            binary,
            f"--port={target.grpc.split(':')[1]}",
            f"--rest_api_port={target.rest.split(':')[1]}",
            f"--model_config_file={config}",
            # It reads the labels before it loads the versions.
            "--allow_version_labels_for_unavailable_models",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with grpc.insecure_channel(target.grpc) as channel:
            # It opens its ports when every model is there.
            model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(
                get_model_status_pb2.GetModelStatusRequest(model_spec={"name": "everything"}),
                wait_for_ready=True,
                timeout=120,
            )
        yield target
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
