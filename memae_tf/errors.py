"""Errors that the commands show as one line."""


class UserError(ValueError):
    """A mistake of the user's: one line that says what is wrong and what would be right.

    The commands print it and exit with status 2.
    """


class OtherBackendError(UserError):
    """Keras is configured to use another backend than TensorFlow, which the commands need."""

    def __init__(self, backend: str):
        super().__init__(
            f"KERAS_BACKEND={backend}: commands and training run on TensorFlow; unset it, or "
            "set it to tensorflow"
        )


class WorkerLostError(RuntimeError):
    """Another worker of a distributed run is gone. The commands exit with status 1."""


class ServerError(RuntimeError):
    """A model server failed. The commands exit with status 1.

    Attributes:
        code: The name of the gRPC status: "INTERNAL", "UNAVAILABLE", ...
    """

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


class RequestError(ServerError, UserError):
    """A model server cannot be reached in time, or refuses a request."""
