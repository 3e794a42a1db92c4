"""The files of a table, and what may be wrong with them as files."""

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

DAMAGED = (EOFError, OSError, ValueError, KeyError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")
# The first bytes of files that are not text in UTF-8.
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
# Bytes of a file that say whether it is text; no text in UTF-8 or an older encoding has a zero.
BEGINNING = 4096
WORKBOOKS = (".xlsx", ".xls", ".ods")
STDIN = Path("-")


@dataclass(frozen=True)
class Files:
    """The files of one table.

    Attributes:
        paths: The files, in the order of their records.
        starts: The number of records before each file.
    """

    paths: tuple[Path, ...]
    starts: tuple[int, ...]

    def __str__(self) -> str:
        """The name of the files in messages."""
        first, *others = self.paths
        return f"{first} and {len(others)} more" if others else str(first)

    @property
    def name(self) -> str:
        """The name of the data: the stem of a single file, or the folder of several."""
        first, *others = self.paths
        return first.resolve().parent.name if others else first.stem

    def place(self, row: int) -> tuple[Path, int]:
        """The file of a row of the table, and the number of the record in it, from 1."""
        number = bisect_right(self.starts, row) - 1
        return self.paths[number], row - self.starts[number] + 1


def matching(name: Path) -> list[Path]:
    """The files that match a pattern, sorted. The name of an existing file is not a pattern."""
    if name.exists() or not glob.has_magic(str(name)):
        return [name]
    paths = [Path(path) for path in sorted(glob.glob(str(name)))]
    if not paths:
        raise UserError(f"{name}: no file matches this pattern")
    return paths


def source_name(path: Path) -> Path | str:
    """The name of a file in messages."""
    return "standard input" if path == STDIN else path


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns errors of reading a file into messages for users.

    Raises:
        UserError: If it is not a file, or reading it fails.
    """
    name = source_name(path)
    if path != STDIN and path.is_dir():
        raise UserError(f"{path}: is a folder; it should be one file of records")
    if path != STDIN and not path.exists():
        raise UserError(f"{path}: there is no such file")
    if path != STDIN and not path.is_file():
        # Some files are read more than once, which a pipe cannot be.
        raise UserError(
            f"{path}: is a pipe or a device; it should be a file, or, for memae_tf.score, - to "
            "read records from standard input"
        )
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        # The error message names the package.
        needed = "pyarrow" if "pyarrow" in str(error) else "zstandard"
        raise UserError(f"{path}: reading it needs {needed}; pip install {needed}") from None
    except pd.errors.EmptyDataError:
        raise UserError(f"{name}: is empty; it should have a header and records") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: {_encoding(path, error)}") from None
    except _damaged() as error:
        # pandas and pyarrow say in the first line what is wrong, and where.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{name}: is damaged, cut off or of another format ({reason})") from None


def _damaged() -> tuple[type[Exception], ...]:
    """The exceptions of readers for damaged files."""
    try:
        import zstandard
    except ImportError:
        return DAMAGED
    return (*DAMAGED, zstandard.ZstdError)


def _encoding(path: Path, error: UnicodeDecodeError) -> str:
    """Says what a file is instead of text in UTF-8, and what would be right."""
    if path.suffix.lower() in WORKBOOKS:
        # Checked first, as workbooks are ZIP archives.
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
    if b"\0" in error.object[:BEGINNING]:
        return "is not text; it should be CSV or JSON lines in UTF-8, or Parquet"
    return (
        f"{line}is not text in UTF-8; if it is from Windows, `iconv -f WINDOWS-1252 -t UTF-8` "
        "converts it"
    )


def no_records(name: Path | str) -> UserError:
    """The error for a file without records."""
    return UserError(f"{name}: has a header but no records")
