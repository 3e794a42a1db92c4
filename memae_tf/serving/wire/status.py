"""The only error of the core: a canonical code and a message."""

import enum
import logging

logger = logging.getLogger(__name__)

MAX_GRPC_MESSAGE_BYTES = 1024


class Code(enum.IntEnum):
    """The canonical codes, numbered as gRPC and TensorFlow number them."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class ServingError(Exception):
    """The error of a request; the codecs convert the code to that of their transport."""

    def __init__(self, code: Code, message: str):
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"


def invalid_argument(message: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, message)


def not_found(message: str) -> ServingError:
    return ServingError(Code.NOT_FOUND, message)


def failed_precondition(message: str) -> ServingError:
    return ServingError(Code.FAILED_PRECONDITION, message)


def truncated(message: str) -> str:
    """The message, cut to fit into the trailers of a gRPC response."""
    encoded = message.encode("utf-8", "surrogateescape")
    if len(encoded) <= MAX_GRPC_MESSAGE_BYTES:
        return encoded.decode("utf-8", "replace")
    return encoded[:MAX_GRPC_MESSAGE_BYTES].decode("utf-8", "ignore") + "...TRUNCATED"


def load_error(error: Exception) -> ServingError:
    """The error in the status of a version that did not load."""
    if isinstance(error, ServingError):
        return error
    message = " ".join(str(getattr(error, "message", error)).split())
    code = getattr(error, "error_code", None)
    if code is not None:
        return ServingError(Code(code), message)
    if isinstance(error, OSError):
        return ServingError(Code.NOT_FOUND, message)
    return ServingError(Code.UNKNOWN, message)


def unexpected(error: Exception) -> ServingError:
    """The INTERNAL error that a client gets for a bug of ours; the log has the traceback."""
    logger.error("A request met a fault", exc_info=error)
    return ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}")
