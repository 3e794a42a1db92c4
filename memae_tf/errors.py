"""What the commands say in one line."""


class UserError(ValueError):
    """A mistake of the user's, in one line that names what is wrong and what would be right.

    The commands print it and exit with status 2.
    """


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
