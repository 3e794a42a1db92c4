"""Paths as people write them."""

from pathlib import Path


def home_expanded(path: str | Path) -> Path:
    """A path whose `~` is somebody's home, as in a shell.

    Shells leave it as it is behind a `=`, and in files nobody else replaces it.

    Raises:
        ValueError: If nobody has that name.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"{path}: there is no such home folder") from None
