"""Health and reflection over gRPC, whose calls may stay open as long as the server runs.

They neither make requests wait nor keep the server from stopping.
"""

import threading
from collections.abc import Callable, Iterator, Sequence

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

# The services for which TensorFlow Serving reports its health.
HEALTH_SERVICES = ("", "ModelService", "PredictionService")
# Each takes a thread, even while it is idle.
MAX_REFLECTION_STREAMS = 4


class Health(health_pb2_grpc.HealthServicer):
    """Whether the server takes requests.

    (The servicer of grpc_health cannot end a watch, and sends while it holds a lock that gRPC's
    thread waits for when another watch is closed.)
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._watches: dict[grpc.ServicerContext, Callable] = {}
        self._is_over = False

    def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        answer = self._answer(request.service)
        if answer.status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Unknown service {request.service}")
        return answer

    def Watch(  # noqa: N802
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.ServicerContext,
        send: Callable[[health_pb2.HealthCheckResponse | None], None],
    ) -> None:
        send(self._answer(request.service))
        with self._lock:
            self._watches[context] = send
            is_over = self._is_over
        if not context.add_callback(lambda: self._forget(context)):
            self._forget(context)
        if is_over:
            self._end(context)

    # It returns at once, so its thread is free.
    Watch.experimental_non_blocking = True

    def _answer(self, service: str) -> health_pb2.HealthCheckResponse:
        states = health_pb2.HealthCheckResponse
        if service not in HEALTH_SERVICES:
            return states(status=states.SERVICE_UNKNOWN)
        return states(status=states.NOT_SERVING if self._is_over else states.SERVING)

    def _forget(self, context: grpc.ServicerContext) -> Callable | None:
        with self._lock:
            return self._watches.pop(context, None)

    def _end(self, context: grpc.ServicerContext) -> None:
        # Only one caller gets it and sends, as gRPC takes the end of a call only once.
        send = self._forget(context)
        if send is not None:
            send(health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.NOT_SERVING))
            send(None)

    def end(self) -> None:
        """Tells all watchers that the server is stopping, and ends their calls."""
        with self._lock:
            self._is_over = True
            contexts = list(self._watches)
        for context in contexts:
            self._end(context)


class Reflection(reflection.ReflectionServicer):
    """The services and their messages.

    Args:
        service_names: The names of the services.
    """

    def __init__(self, service_names: Sequence[str]):
        super().__init__(service_names)
        self._free = threading.Semaphore(MAX_REFLECTION_STREAMS)
        self._open: set[grpc.ServicerContext] = set()
        self._is_over = False

    def ServerReflectionInfo(  # noqa: N802
        self,
        request_iterator: Iterator[reflection_pb2.ServerReflectionRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[reflection_pb2.ServerReflectionResponse]:
        if not self._free.acquire(blocking=False):
            context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"There are {MAX_REFLECTION_STREAMS} streams of reflection already",
            )
        try:
            self._open.add(context)
            if self._is_over:
                context.cancel()
            yield from super().ServerReflectionInfo(request_iterator, context)
        finally:
            self._open.discard(context)
            self._free.release()

    def end(self) -> None:
        """Ends all open streams."""
        self._is_over = True
        for context in list(self._open):
            context.cancel()
