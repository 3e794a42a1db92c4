"""Paths as people write them, and files that appear whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from memae_tf.errors import UserError

# What is not whole yet begins with it.
PARTIAL = ".partial-"


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


@contextlib.contextmanager
def written(path: Path) -> Iterator[None]:
    """Says what cannot be written, and why.

    Raises:
        UserError: In place of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to that becomes `path` at the end, if all went well."""
    aside = path.with_name(f"{PARTIAL}{os.getpid()}-{path.name}")
    try:
        yield aside
        _sync_file(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def sync(folder: Path) -> None:
    """Has the disk hold the files of a folder, before that gets its name."""
    for path in folder.rglob("*"):
        if path.is_file():
            _sync_file(path)


def _sync_file(path: Path) -> None:
    # Windows syncs what is open for writing.
    with open(path, "r+b") as file:
        os.fsync(file.fileno())
