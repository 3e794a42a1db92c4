"""The lines of a text file, compressed or not, or of standard input as they arrive."""

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
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TextIO

from memae_tf.errors import UserError
from memae_tf.tables.files import STDIN

# The most bytes that are read at a time.
BLOCK = 2**16
# Seconds without input after which the lines so far are passed on.
PAUSE = 0.05


def opened(path: Path) -> contextlib.AbstractContextManager:
    """The lines of a CSV file, decompressed by the suffix of its name."""
    if path == STDIN:
        if sys.stdin is None:
            raise UserError("standard input: is closed")
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
            return io.TextIOWrapper(io.BufferedReader(_Bytes(_decompressed(path))), **text)
        case ".zip":
            return _opened_zip(path, text)
        case _:
            return path.open(**text)


def _decompressed(path: Path) -> Generator[bytes, None, None]:
    """The content of a Zstandard file. The package's own readers do not notice a cut-off file."""
    import zstandard

    decompressor, frame = zstandard.ZstdDecompressor(), None
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            while block:
                frame = frame or decompressor.decompressobj()
                yield frame.decompress(block)
                block, frame = (frame.unused_data, None) if frame.eof else (b"", frame)
    if frame is not None:
        raise EOFError("Compressed file ended before the end of its last frame")


class _Bytes(io.RawIOBase):
    """A file made of blocks of bytes."""

    def __init__(self, blocks: Generator[bytes, None, None]):
        self._blocks = blocks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size

    def close(self) -> None:
        self._blocks.close()
        super().close()


@contextlib.contextmanager
def _opened_zip(path: Path, text: dict[str, str]) -> Iterator[TextIO]:
    with zipfile.ZipFile(path) as archive:
        members = archive.namelist()
        if len(members) != 1:
            raise UserError(f"{path}: has {len(members)} files; it should have one file of records")
        try:
            file = archive.open(members[0])
        except RuntimeError as error:
            # It has a password, or a compression that Python does not know.
            raise UserError(f"{path}: cannot be unpacked ({error})") from None
        with file:
            yield io.TextIOWrapper(file, **text)


def _arriving(descriptor: int) -> Iterator[str]:
    """Lines of text as they arrive, with an empty one whenever no more has arrived yet."""
    utf8 = codecs.getincrementaldecoder("utf-8-sig")()
    # Keeps the two characters of a Windows line end together, as text files do.
    decoder = io.IncrementalNewlineDecoder(utf8, translate=False)
    rest = ""
    while block := os.read(descriptor, BLOCK):
        lines = [*io.StringIO(rest + decoder.decode(block), newline="")]
        rest = lines.pop() if lines and not lines[-1].endswith(("\n", "\r")) else ""
        yield from lines
        if _pauses(descriptor):
            yield ""
    yield from io.StringIO(rest + decoder.decode(b"", final=True), newline="")


def _pauses(descriptor: int) -> bool:
    """Whether nothing more arrives for a moment."""
    try:
        return not select.select([descriptor], [], [], PAUSE)[0]
    except OSError:
        # On Windows, `select` takes sockets only.
        return False
