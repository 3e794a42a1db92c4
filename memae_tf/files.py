"""Paths as users write them, and files that appear whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from memae_tf.errors import UserError

# The names of files and folders that are still being written begin with this.
PARTIAL = ".partial-"


def home_expanded(path: str | Path) -> Path:
    """A path with `~` or `~user` expanded, as a shell does.

    Shells do not do so after a `=`, and nobody else does so in files.

    Raises:
        ValueError: If there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"{path}: there is no such home folder") from None


@contextlib.contextmanager
def written(path: Path | str) -> Iterator[None]:
    """Turns an `OSError` into a line that says what cannot be written, and why.

    A `BrokenPipeError` stays one: whoever reads a pipe may stop.

    Raises:
        UserError: In its place.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None


def require_writable(path: Path) -> None:
    """Refuses a file that could not be written, before there is anything to write.

    Raises:
        UserError: If it is a folder, or its own folder is missing or takes no files.
    """
    if path.is_dir():
        raise UserError(f"{path}: is a folder; it should be a file")
    if not path.parent.is_dir():
        raise UserError(f"{path}: cannot be written (there is no folder {path.parent})")
    # To ask for permission is not enough: a folder may take no files from anybody.
    with written(path), tempfile.TemporaryFile(dir=path.parent):
        pass


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a path to write to; it is renamed to `path` at the end, if no error was raised."""
    aside = path.with_name(f"{PARTIAL}{os.getpid()}-{path.name}")
    try:
        yield aside
        _sync_file(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def sync(folder: Path) -> None:
    """Flushes the files in a folder to disk; to be called before the folder is renamed."""
    for path in folder.rglob("*"):
        if path.is_file():
            _sync_file(path)


def _sync_file(path: Path) -> None:
    # Open for writing, as Windows requires.
    with open(path, "r+b") as file:
        os.fsync(file.fileno())
