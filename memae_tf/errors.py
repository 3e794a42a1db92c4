"""What the commands say in one line."""


class UserError(ValueError):
    """A mistake of the user's, in one line that names what is wrong and what would be right.

    The commands print it and exit with status 2.
    """


class OtherBackendError(UserError):
    """Keras was told to work with another backend than the one that commands need."""

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
        code: The canonical name of what is wrong: "INTERNAL", "UNAVAILABLE", ...
    """

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


class RequestError(ServerError, UserError):
    """A model server cannot be reached in time, or refuses what it was asked for."""
