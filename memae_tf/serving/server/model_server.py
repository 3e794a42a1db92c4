"""The whole server: core, poll thread, gRPC and REST."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from memae_tf.errors import UserError
from memae_tf.serving.server.batching import Batcher
from memae_tf.serving.server.batching_parameters import BatchingParameters
from memae_tf.serving.server.config import ModelConfig
from memae_tf.serving.server.core import Core
from memae_tf.serving.server.grpc_codec import GrpcServer, address
from memae_tf.serving.server.http_server import HttpServer
from memae_tf.serving.server.registry import Registry
from memae_tf.serving.server.rest_codec import RestCodec
from memae_tf.serving.wire.status import ServingError

logger = logging.getLogger(__name__)

MEBIBYTE = 2**20


@dataclass(frozen=True)
class ServerOptions:
    """How to serve.

    Args:
        host: The address to listen on.
        grpc_port: The gRPC port, 0 for a free one.
        rest_port: The REST port, 0 for a free one; `None` for no REST.
        threads: The number of gRPC and of REST requests that are handled at a time.
        poll_seconds: Seconds between looks for new versions; 0 for never.
        warmup: Whether versions run their warm-up requests first.
        max_load_retries: How often a version that fails to load is tried again.
        retry_seconds: Seconds between two attempts.
        batching: Parameters of dynamic batching; `None` for no batching.
        rest_timeout: Seconds that a REST request may take.
        max_request_bytes: The limit of a request.
        cors: Whether web pages of other origins may read REST responses.
        allow_unavailable_labels: Whether new labels may name versions that are not available yet.
        drain_seconds: Seconds that unfinished requests may take when the server stops.
    """

    host: str = "127.0.0.1"
    grpc_port: int = 8500
    rest_port: int | None = 8501
    threads: int = 16
    poll_seconds: float = 1.0
    warmup: bool = True
    max_load_retries: int = 5
    retry_seconds: float = 1.0
    batching: BatchingParameters | None = None
    rest_timeout: float = 30.0
    max_request_bytes: int = 256 * MEBIBYTE
    cors: bool = False
    allow_unavailable_labels: bool = False
    drain_seconds: float = 30.0


class ModelServer:
    """Serves models over gRPC and REST.

    Examples:
            with ModelServer([ModelConfig("kddcup99", "/models/kddcup99")]) as server:
                print(server.grpc_address, server.rest_address)

    Args:
        models: The models to serve.
        options: How to serve them.
    """

    def __init__(self, models: Sequence[ModelConfig], options: ServerOptions | None = None):
        self.options = options or ServerOptions()
        self._models = list(models)
        batching = self.options.batching
        self.core = Core(
            warmup=self.options.warmup,
            batch=None if batching is None else lambda *loaded: Batcher(*loaded, batching),
            max_load_retries=self.options.max_load_retries,
            retry_seconds=self.options.retry_seconds,
            allow_unavailable_labels=self.options.allow_unavailable_labels,
        )
        self._grpc: GrpcServer | None = None
        self._http: HttpServer | None = None
        self._poller: threading.Thread | None = None
        self._stopping = threading.Event()

    def __enter__(self) -> "ModelServer":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    @property
    def registry(self) -> Registry:
        """The models and their versions."""
        return self.core.registry

    @property
    def grpc_address(self) -> str:
        """The address of gRPC."""
        return address(self.options.host, self._grpc.port)

    @property
    def rest_address(self) -> str | None:
        """The address of REST; `None` without REST."""
        if self._http is None:
            return None
        return f"http://{address(self.options.host, self._http.port)}"

    def start(self, waiting: Callable[[list[str]], None] = lambda names: None) -> None:
        """Loads the models, and listens when each has a version that answers.

        Args:
            waiting: Is told the names of the models that have no version yet.

        Raises:
            UserError: If a version does not load, or an address is in use.
        """
        try:
            self._load_models(waiting)
            if not self._stopping.is_set():
                self._listen()
        except BaseException:
            self.stop()
            raise

    def _load_models(self, waiting: Callable[[list[str]], None]) -> None:
        self.registry.configure(self._models)
        told: list[str] = []
        while not self._stopping.is_set():
            self.registry.poll_once()
            failures = self.registry.failures()
            if failures:
                message = self.registry.failure_message(failures)
                raise UserError(f"Failed to start server. Error: UNKNOWN: {message}")
            pending = self.registry.pending()
            if not pending:
                break
            if pending != told:
                waiting(told := pending)
            self._stopping.wait(self.options.poll_seconds or 1.0)
        else:
            return
        try:
            self.registry.check_labels()
        except ServingError as error:
            raise UserError(f"Failed to start server. Error: {error}") from error

    def _listen(self) -> None:
        options = self.options
        self._grpc = GrpcServer(
            self.core,
            options.host,
            options.grpc_port,
            options.threads,
            options.max_request_bytes,
            options.drain_seconds,
        )
        if options.rest_port is not None:
            codec = RestCodec(
                self.core, options.rest_timeout, options.max_request_bytes, options.cors
            )
            self._http = HttpServer(
                codec,
                options.host,
                options.rest_port,
                options.threads,
                options.max_request_bytes,
                options.drain_seconds,
            )
        self._grpc.start()
        if options.poll_seconds:
            self._poller = threading.Thread(
                target=self.registry.poll_every,
                args=(options.poll_seconds,),
                name="poll",
                daemon=True,
            )
            self._poller.start()

    def interrupt(self) -> None:
        """Makes `start` return if it is waiting for a model."""
        self._stopping.set()

    def stop(self) -> None:
        """Refuses new requests, answers the unfinished ones, and unloads everything."""
        self._stopping.set()
        self.registry.stop_polling()
        # Both transports at once, as otherwise one would accept requests while the other drains.
        drained = None if self._grpc is None else self._grpc.stop()
        if self._http is not None:
            self._http.stop()
        if drained is not None:
            drained.wait()
        if self._poller is not None:
            self._poller.join()
        self._grpc = self._http = self._poller = None
        self.registry.close()
