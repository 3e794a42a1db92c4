"""Which files a table comes from, and what may be wrong with them as files."""

import contextlib
import glob
import lzma
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from memae_tf.errors import UserError

DAMAGED = (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")
# What files that are no text begin with.
OTHER_FORMATS = {
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"\x1f\x8b": "compressed (gzip)",
    b"BZh": "compressed (bzip2)",
    b"\xfd7zX": "compressed (xz)",
    b"\x28\xb5\x2f\xfd": "compressed (zstd)",
    b"PK\x03\x04": "a ZIP archive",
    b"PAR1": "Parquet",
}
WORKBOOKS = (".xlsx", ".xls", ".ods")
STDIN = Path("-")


@dataclass(frozen=True)
class Files:
    """Where the records of one table come from.

    Attributes:
        paths: The files, one after the other.
        starts: The number of records before each of them.
    """

    paths: tuple[Path, ...]
    starts: tuple[int, ...]

    def __str__(self) -> str:
        """What a message calls them."""
        first, *others = self.paths
        return f"{first} and {len(others)} more" if others else str(first)

    @property
    def name(self) -> str:
        """Of the data: that of a single file, or of the folder of several."""
        first, *others = self.paths
        return first.resolve().parent.name if others else first.stem

    def place(self, row: int) -> tuple[Path, int]:
        """The file of a row of the table, and which of its records it is, from 1."""
        number = bisect_right(self.starts, row) - 1
        return self.paths[number], row - self.starts[number] + 1


def matching(name: Path) -> list[Path]:
    """The files of a pattern, sorted; what exists is none, whatever it is called."""
    if name.exists() or not glob.has_magic(str(name)):
        return [name]
    paths = [Path(path) for path in sorted(glob.glob(str(name)))]
    if not paths:
        raise UserError(f"{name}: no file matches this pattern")
    return paths


def source_name(path: Path) -> Path | str:
    """What a message calls a file."""
    return "standard input" if path == STDIN else path


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """What goes wrong with a file inside, in words.

    Raises:
        UserError: If it is no file, or reading it fails.
    """
    name = source_name(path)
    if path != STDIN and path.is_dir():
        raise UserError(f"{path}: is a folder; it should be one file of records")
    if path != STDIN and not path.exists():
        raise UserError(f"{path}: there is no such file")
    if path != STDIN and not path.is_file():
        # Some are read more than once.
        raise UserError(
            f"{path}: is a pipe or a device; it should be a file, or, for memae_tf.score, - to "
            "read records from standard input"
        )
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        # Its message names the package.
        needed = "pyarrow" if "pyarrow" in str(error) else "zstandard"
        raise UserError(f"{path}: reading it needs {needed}; pip install {needed}") from None
    except pd.errors.EmptyDataError:
        raise UserError(f"{name}: is empty; it should have a header and records") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: {_encoding(path, error)}") from None
    except _damaged() as error:
        # What pandas and pyarrow raise for damaged files; their first line says where.
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{name}: is damaged, cut off or of another format ({reason})") from None


def _damaged() -> tuple[type[Exception], ...]:
    """What readers raise for damaged files."""
    try:
        import zstandard
    except ImportError:
        return DAMAGED
    return (*DAMAGED, zstandard.ZstdError)


def _encoding(path: Path, error: UnicodeDecodeError) -> str:
    """What a file is that is not text in UTF-8, and what would be right."""
    if path.suffix.lower() in WORKBOOKS:
        # They are ZIP archives, and should not be named so.
        return "is a workbook; save the sheet as CSV, in UTF-8"
    start, line = bytes(error.object[:4]), ""
    if path != STDIN and path.suffix not in COMPRESSED:
        with path.open("rb") as file:
            for number, content in enumerate(file, start=1):
                start = content[:4] if number == 1 else start
                try:
                    content.decode()
                except UnicodeDecodeError:
                    line = f"line {number} "
                    break
    for magic, format_ in OTHER_FORMATS.items():
        if start.startswith(magic):
            return f"is {format_}, but should be text in UTF-8, or have a suffix for its format"
    return (
        f"{line}is not text in UTF-8; if it is from Windows, `iconv -f WINDOWS-1252 -t UTF-8` "
        "converts it"
    )


def no_records(name: Path | str) -> UserError:
    """The error of a file that has none."""
    return UserError(f"{name}: has a header but no records")
