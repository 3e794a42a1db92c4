"""The lines of a text file, compressed or not, or of standard input as they come."""

import bz2
import codecs
import contextlib
import gzip
import io
import lzma
import os
import select
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from memae_tf.errors import UserError
from memae_tf.tables.files import STDIN

# Bytes that are read from standard input at a time, at most.
BLOCK = 2**16
# Seconds without more of it, after which what came is not kept waiting.
PAUSE = 0.05


def opened(path: Path) -> contextlib.AbstractContextManager:
    """The lines of a CSV file, decompressed as its name says."""
    if path == STDIN:
        return contextlib.nullcontext(_arriving(sys.stdin.fileno()))
    text = {"encoding": "utf-8-sig", "newline": ""}
    match path.suffix:
        case ".gz":
            return gzip.open(path, "rt", **text)
        case ".bz2":
            return bz2.open(path, "rt", **text)
        case ".xz":
            return lzma.open(path, "rt", **text)
        case ".zst":
            import zstandard

            return zstandard.open(path, "rt", **text)
        case ".zip":
            return _opened_zip(path, text)
        case _:
            return path.open(**text)


@contextlib.contextmanager
def _opened_zip(path: Path, text: dict[str, str]) -> Iterator[TextIO]:
    with zipfile.ZipFile(path) as archive:
        members = archive.namelist()
        if len(members) != 1:
            raise UserError(f"{path}: has {len(members)} files; it should have one, of records")
        with archive.open(members[0]) as file:
            yield io.TextIOWrapper(file, **text)


def _arriving(descriptor: int) -> Iterator[str]:
    """Lines of text as they come; an empty one where the next is not there yet."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    rest = ""
    while block := os.read(descriptor, BLOCK):
        *lines, rest = (rest + decoder.decode(block)).split("\n")
        for line in lines:
            yield f"{line}\n"
        if _pauses(descriptor):
            yield ""
    yield rest + decoder.decode(b"", final=True)


def _pauses(descriptor: int) -> bool:
    """Whether nothing more comes for a moment."""
    try:
        return not select.select([descriptor], [], [], PAUSE)[0]
    except OSError:
        # Windows asks sockets only.
        return False
