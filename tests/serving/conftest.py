"""Servers that the tests of the client and of the embedded server ask."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    # What these fixtures need is an extra, without which other tests run.
    from memae_tf.models import Detector
    from memae_tf.serving.server.config import ModelConfig
    from memae_tf.serving.server.model_server import ModelServer


@pytest.fixture(scope="session")
def everything(tmp_path_factory) -> "ModelConfig":
    import served_models

    from memae_tf.serving.server.config import ModelConfig

    base = tmp_path_factory.mktemp("everything")
    served_models.Everything().save(base / "1")
    return ModelConfig("everything", str(base))


@pytest.fixture
def serve() -> "Iterator[Callable[..., ModelServer]]":
    """Starts servers on free ports that poll only when they are told to."""
    from memae_tf.serving.server.model_server import ModelServer, ServerOptions

    servers = []

    def start(*models: "ModelConfig", **options) -> ModelServer:
        chosen = {"grpc_port": 0, "rest_port": 0, "poll_seconds": 0, "retry_seconds": 0, **options}
        server = ModelServer(models, ServerOptions(**chosen))
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()


@dataclass
class Traffic:
    """A detector of traffic, and a server of what it was exported to."""

    detector: "Detector"
    server: "ModelServer"


@pytest.fixture(scope="session")
def traffic(tmp_path_factory) -> Iterator[Traffic]:
    from small_detectors import traffic_detector

    from memae_tf.serving.export.publication import Source, publish
    from memae_tf.serving.server.config import ModelConfig
    from memae_tf.serving.server.model_server import ModelServer, ServerOptions

    detector = traffic_detector()
    base = tmp_path_factory.mktemp("traffic")
    publish(Source(detector), base)
    config = ModelConfig("traffic", str(base), labels={"stable": 1})
    with ModelServer([config], ServerOptions(grpc_port=0, rest_port=0)) as server:
        yield Traffic(detector, server)
