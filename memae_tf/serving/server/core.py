"""The core of the server, which does not depend on a transport.

The codecs turn requests of their transport into calls of `Core`, and its results or a
`ServingError` into responses.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from memae_tf.serving.server.config import ModelConfig
from memae_tf.serving.server.metrics import Metrics
from memae_tf.serving.server.registry import ModelSpec, Registry, Version
from memae_tf.serving.server.servable import (
    CLASSIFY_METHOD,
    REGRESS_METHOD,
    Classification,
    Regression,
    Servable,
)
from memae_tf.serving.server.warmup_replay import has_requests, warm_up
from memae_tf.serving.wire.status import Code, ServingError, load_error, unexpected

MICROSECONDS = 1e6


class Core:
    """The models, and their answers to requests.

    Args:
        warmup: Whether new versions first run the requests in their `assets.extra`.
        batch: Wraps a servable for batching, as `batching.Batcher` does; `None` runs every request
            alone.
        registry: Options of the Registry.
    """

    def __init__(
        self,
        warmup: bool = True,
        batch: Callable[[Servable, Metrics], object] | None = None,
        **registry,
    ):
        self.metrics = Metrics()
        self._warmup = warmup
        self._batch = batch
        self.registry = Registry(self._load, **registry)

    def _load(self, version: Version) -> Servable:
        servable = Servable(version.path)
        try:
            if self._warmup:
                self._warm_up(servable)
            if self._batch is not None:
                servable.runner = self._batch(servable, self.metrics)
        except BaseException:
            servable.close()
            raise
        return servable

    def _warm_up(self, servable: Servable) -> None:
        if not has_requests(servable):
            return
        started, status = time.perf_counter(), Code.OK
        try:
            warm_up(servable)
        except Exception as error:
            status = load_error(error).code
            raise
        finally:
            self.metrics.warmup_latency.observe(
                _microseconds_since(started), servable.path, status.name
            )

    @contextlib.contextmanager
    def request(self, api: str, entrypoint: str, model: str) -> Iterator[None]:
        """A context that counts and times a request, and turns all errors into a ServingError."""
        started, status = time.perf_counter(), Code.OK
        try:
            yield
        except Exception as error:
            error = error if isinstance(error, ServingError) else unexpected(error)
            status = error.code
            raise error from None
        finally:
            self.metrics.requests.add(model, status.name)
            if status is Code.OK:
                self.metrics.request_latency.observe(
                    _microseconds_since(started), model, api, entrypoint
                )

    def lease(self, spec: ModelSpec) -> contextlib.AbstractContextManager[Version]:
        """Holds the version that a request names."""
        return self.registry.lease(spec)

    def predict(
        self,
        version: Version,
        signature: str,
        inputs: Mapping[str, object],
        output_filter: Sequence[str] = (),
        timeout: float | None = None,
    ) -> dict[str, np.ndarray]:
        """Outputs of a signature by alias; see `Servable.predict`."""
        with self._runtime(version, "Predict"):
            return version.servable.predict(signature, inputs, output_filter, timeout)

    def classify(
        self,
        version: Version,
        signature: str,
        examples: Sequence[bytes],
        timeout: float | None = None,
    ) -> Classification:
        """Classes of serialized tf.Examples."""
        [answer] = self._infer(
            "Classify", version, [(signature, CLASSIFY_METHOD)], examples, timeout
        )
        return answer

    def regress(
        self,
        version: Version,
        signature: str,
        examples: Sequence[bytes],
        timeout: float | None = None,
    ) -> Regression:
        """Values of serialized tf.Examples."""
        [answer] = self._infer("Regress", version, [(signature, REGRESS_METHOD)], examples, timeout)
        return answer

    def multi_inference(
        self,
        version: Version,
        tasks: Sequence[tuple[str, str]],
        examples: Sequence[bytes],
        timeout: float | None = None,
    ) -> list[Classification | Regression]:
        """Answers of several (signature, method) pairs on the same examples."""
        return self._infer("MultiInference", version, tasks, examples, timeout)

    def _infer(
        self,
        api: str,
        version: Version,
        tasks: Sequence[tuple[str, str]],
        examples: Sequence[bytes],
        timeout: float | None,
    ) -> list[Classification | Regression]:
        with self._runtime(version, api):
            answers = version.servable.infer(tasks, examples, timeout)
        self.metrics.example_counts.observe(len(examples), version.name)
        self.metrics.example_count_total.add(version.name, by=len(examples))
        return answers

    @contextlib.contextmanager
    def _runtime(self, version: Version, api: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.metrics.runtime_latency.observe(_microseconds_since(started), version.name, api, "TF1")

    def status(self, spec: ModelSpec) -> list[Version]:
        """Versions of a model with their states."""
        return self.registry.status(spec)

    def reload(self, configs: Sequence[ModelConfig], timeout: float | None = None) -> None:
        """Replaces the models that are served."""
        self.registry.reload(configs, timeout)


def _microseconds_since(started: float) -> float:
    return (time.perf_counter() - started) * MICROSECONDS
