"""What the commands say in one line."""


class UserError(ValueError):
    """A mistake of the user's, in one line that names what is wrong and what would be right.

    The commands print it and exit with status 2.
    """


class WorkerLostError(RuntimeError):
    """Another worker of a distributed run is gone. The commands exit with status 1."""
