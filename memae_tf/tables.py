"""Tables in files, CSV or Parquet, with errors that a person can act on."""

import bz2
import codecs
import contextlib
import csv
import difflib
import glob
import gzip
import io
import itertools
import lzma
import os
import select
import sys
import warnings
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd

from memae_tf.columns import TRUTH, is_nothing, word
from memae_tf.errors import UserError

DAMAGED = (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
LARGEST_NUMBER = float(np.finfo("float32").max)
# What every reading of a CSV file has in common.
CSV_OPTIONS = {
    # Only empty cells are missing: "NA" or "None" may well be somebody's category.
    "keep_default_na": False,
    "na_values": ["", "nan", "NaN"],
    "skipinitialspace": True,
}
MISSING = frozenset(CSV_OPTIONS["na_values"])
OTHER_DELIMITERS = ";\t|"
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
STDIN = Path("-")
# Bytes that are read from standard input at a time, at most.
BLOCK = 2**16
# Seconds without more of it, after which what came is not kept waiting.
PAUSE = 0.05


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


def read_tables(
    names: Sequence[Path], unwanted: Collection[str] = ()
) -> tuple[pd.DataFrame, Files]:
    """Files that `read_table` takes, one or more with the same columns, as one data frame.

    Args:
        names: Paths or patterns (`*`, `?`, `[...]`) of the files. The order of the columns is that
            of the first.
        unwanted: Names of columns that a file may lack, or have several times.

    Raises:
        UserError: As `read_table` does; if a file has other columns than the first one.
    """
    paths = [path for name in names for path in _matching(name)]
    repeated = [path for path in paths if paths.count(path) > 1]
    if repeated:
        raise UserError(f"{repeated[0]}: is named twice; name or match every file once")
    tables = [read_table(path, unwanted) for path in paths]
    first = paths[0], tables[0]
    for other in zip(paths[1:], tables[1:], strict=True):
        for (path, table), (whose, model) in ((other, first), (first, other)):
            missing = [n for n in model if n not in table and n not in unwanted]
            if missing:
                raise missing_column(path, missing, f"{whose} has", table)
    starts = itertools.accumulate(map(len, tables[:-1]), initial=0)
    return pd.concat(tables, ignore_index=True), Files(tuple(paths), tuple(starts))


def _matching(name: Path) -> list[Path]:
    """The files of a pattern, sorted; what exists is none, whatever it is called."""
    if name.exists() or not glob.has_magic(str(name)):
        return [name]
    paths = [Path(path) for path in sorted(glob.glob(str(name)))]
    if not paths:
        raise UserError(f"{name}: there are no files of such names")
    return paths


def read_table(path: Path, unwanted: Collection[str] = ()) -> pd.DataFrame:
    """A CSV file (with a header, also compressed) or a Parquet file as a data frame.

    Args:
        path: The file.
        unwanted: Names of columns of which there may be several; of each the first is kept.

    Raises:
        UserError: If the file is missing, empty, cut off, or neither; if a record is cut short, or
            the first line is one.
    """
    with _reading(path):
        table = pd.read_parquet(path) if _is_parquet(path) else _read_csv(path)
    table = table.reset_index(drop=True)
    table.columns = _names(path, table.columns)
    once = [name for name in table.columns if name not in unwanted]
    _require_once(path, once, "rename or delete one, or leave both out with data.drop")
    _require_header(path, table.columns)
    if len(table) == 0:
        raise _no_records(path)
    return table.loc[:, ~(table.columns.duplicated() & table.columns.isin(list(unwanted)))]


def read_words(files: Files, column: str) -> np.ndarray:
    """The cells of one column of files that `read_table` takes as `word` has them.

    What it makes of numbers depends on the other cells: of codes, one empty cell makes fractions,
    and zeros in front are gone.

    Returns:
        An array of str (records,).
    """
    return np.concatenate([_words_of(path, column) for path in files.paths])


def _words_of(path: Path, column: str) -> np.ndarray:
    with _reading(path):
        if _is_parquet(path):
            import pyarrow.parquet

            names = pyarrow.parquet.read_schema(path).names
            place = _names(path, names).index(column)
            table = pyarrow.parquet.read_table(path, columns=[names[place]])
            cells = table.to_pandas(integer_object_nulls=True).iloc[:, 0]
        else:
            place = _header(path).index(column)
            cells = pd.read_csv(path, usecols=[place], dtype=str, **CSV_OPTIONS).iloc[:, 0]
    return np.array([word(cell) for cell in cells], dtype=object)


def read_batches(
    path: Path, batch_size: int, wanted: Collection[str], layout: Sequence[str] = ()
) -> Iterator[pd.DataFrame]:
    """The records of a file of any size, some at a time.

    Cells of CSV files are str, or NaN where they are empty: what pandas makes of a column would
    depend on the records that happen to be in a batch.

    Args:
        path: As `read_table` takes it; `-` is standard input, as CSV.
        batch_size: Records a data frame. The last one may have fewer, and so may any where
            standard input makes a pause.
        wanted: The columns that have to be there, once.
        layout: The columns of a file without a header. It is taken for one where the first line
            has none of these names, and as many cells or more.

    Yields:
        Data frames, of which the index goes on from one to the next.

    Raises:
        UserError: As `read_table` does, as soon as it comes to what is wrong, or if a column is
            missing.
    """
    start = 0
    name = source_name(path)
    with _reading(path):
        if _is_parquet(path):
            batches = _parquet_batches(path, batch_size, wanted)
        else:
            batches = _csv_batches(path, batch_size, wanted, layout)
        for table in batches:
            if start == 0:
                _require_columns(name, wanted, table)
            table.index = pd.RangeIndex(start, start + len(table))
            start += len(table)
            yield table
    if start == 0:
        raise _no_records(name)


def source_name(path: Path) -> Path | str:
    """What a message calls a file."""
    return "standard input" if path == STDIN else path


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    name = source_name(path)
    if path != STDIN and path.is_dir():
        raise UserError(f"{path}: is a folder; it should be one file of records")
    if path != STDIN and not path.is_file():
        raise UserError(f"{path}: there is no such file")
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
    except DAMAGED as error:
        # What pandas and pyarrow raise for damaged files; their first line says where.
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{name}: is damaged, cut off or of another format ({reason})") from None


def _encoding(path: Path, error: UnicodeDecodeError) -> str:
    """What a file is that is not text in UTF-8, and what would be right."""
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
            return f"is {format_}, and should be text in UTF-8, or be named by what it is"
    return (
        f"{line}is not text in UTF-8; if it is of Windows, `iconv -f WINDOWS-1252 -t UTF-8` "
        "converts it"
    )


def _is_parquet(path: Path) -> bool:
    return path.suffix == ".parquet"


def _no_records(name: Path | str) -> UserError:
    return UserError(f"{name}: has a header but no records")


def _parquet_batches(
    path: Path, batch_size: int, wanted: Collection[str]
) -> Iterator[pd.DataFrame]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        _require_once(
            path, [name for name in _names(path, file.schema_arrow.names) if name in wanted]
        )
        for batch in file.iter_batches(batch_size):
            # Whole numbers stay what they are in a batch with empty cells.
            table = batch.to_pandas(integer_object_nulls=True)
            yield table.set_axis(_names(path, table.columns), axis=1)


def _csv_batches(
    path: Path, batch_size: int, wanted: Collection[str], layout: Sequence[str]
) -> Iterator[pd.DataFrame]:
    records = _csv_records(path, wanted, layout)
    names = next(records)
    # A blank record: nothing to wait with.
    for is_whole, group in itertools.groupby(records, key=bool):
        if is_whole:
            while batch := list(itertools.islice(group, batch_size)):
                yield pd.DataFrame(batch, columns=names, dtype=object)


def _csv_records(
    path: Path, wanted: Collection[str] = (), layout: Sequence[str] = ()
) -> Iterator[list[str | float]]:
    """The names of a CSV file's columns, then the cells of its records, NaN where they are empty.

    An empty list is no record: standard input makes a pause.
    """
    name = source_name(path)
    with _opened(path) as lines, _naming_lines(name, lines) as reader:
        rows = (row for row in reader if not _is_blank(row))
        first = next(filter(None, rows), None)
        if first is None:
            raise pd.errors.EmptyDataError
        cells = [cell.strip() for cell in first]
        if layout and len(cells) >= len(layout) and not set(cells) & set(layout):
            names = [*layout, *(f"column {n + 1}" for n in range(len(layout), len(cells)))]
            rows = itertools.chain([first], rows)
        else:
            names = _names(name, cells)
            _require_once(name, [cell for cell in names if cell in wanted])
        yield names
        for row in rows:
            if row and len(row) != len(names):
                raise UserError(
                    f"{name}: line {reader.line_num} has {len(row)} cells and the header "
                    f"{len(names)}; is it cut off, or a comma in a cell without quotes?"
                )
            yield [np.nan if cell in MISSING else cell for cell in row]


@contextlib.contextmanager
def _naming_lines(name: Path | str, lines: Iterable[str]) -> Iterator:
    """A reader of CSV whose errors say where."""
    reader = csv.reader(lines, skipinitialspace=True, strict=True)
    try:
        yield reader
    except csv.Error as error:
        raise UserError(f"{name}: line {reader.line_num} is no CSV ({error})") from None


def _is_blank(row: list[str]) -> bool:
    """Whether it is a line of blanks; a pause has no cell at all."""
    return len(row) == 1 and not row[0].strip()


def _opened(path: Path) -> contextlib.AbstractContextManager:
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


def _read_csv(path: Path) -> pd.DataFrame:
    # pandas would rename a repeated column, and take the first column as an index where records
    # have one cell more than the header, under wrong names from then on.
    names = _header(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            table = pd.read_csv(path, index_col=False, low_memory=False, **CSV_OPTIONS)
        except pd.errors.ParserWarning:
            raise UserError(f"{path}: records have more cells than the header has names") from None
    # pandas would invent some.
    table.columns = names
    if table.iloc[:, -1].isna().any():
        # An empty cell, or a record that is cut short, which pandas fills up.
        for _ in _csv_records(path):
            pass
    return table


def _header(path: Path) -> list[str]:
    """The names of a CSV file's columns as they stand there."""
    header = pd.read_csv(
        path, header=None, nrows=1, dtype=str, keep_default_na=False, skipinitialspace=True
    )
    return _names(path, header.iloc[0])


def _names(path: Path | str, columns) -> list[str]:
    """The names of columns without blanks around them.

    Raises:
        UserError: If a single one looks like several, or they are those of a log of Zeek.
    """
    names = [str(name).strip() for name in columns]
    if names and names[0].startswith("#separator"):
        raise UserError(
            f"{path}: is a log of Zeek, with a header of its own; it should be CSV, with the names "
            "of its #fields in the first line"
        )
    found = [mark for mark in OTHER_DELIMITERS if mark in names[0]] if len(names) == 1 else []
    if found:
        raise UserError(
            f"{path}: has one column, {names[0]!r}; cells should be separated by commas, and are "
            f"by {found[0]!r}"
        )
    return names


def _require_once(
    path: Path | str, names: Sequence[str], advice: str = "rename or delete one"
) -> None:
    # Several may lack one: nobody asks for those.
    repeated = [name for name in names if name and names.count(name) > 1]
    if not repeated:
        return
    if _is_number(repeated[0]):
        advice = "the first line should be a header, with the names of the columns"
    raise UserError(f"{path}: has the column '{repeated[0]}' twice; {advice}")


def _require_header(path: Path | str, names: Sequence[str]) -> None:
    # Numbers that are counted or are years may well be names.
    numbers = [name for name in names if _is_number(name) and not name.isdecimal()]
    if len(numbers) * 2 > len(names):
        raise UserError(
            f"{path}: the first line looks like a record ({', '.join(names[:3])}, ...); it should "
            "be a header, with the names of the columns"
        )


def _require_columns(path: Path | str, wanted: Iterable[str], table: pd.DataFrame) -> None:
    missing = [name for name in wanted if name not in table]
    if missing:
        raise missing_column(path, missing, "the detector takes", table)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def not_a_number(
    source: Files | Path | str, column: pd.Series, stray: pd.Series, advice: str
) -> UserError:
    """The error of a column with `stray_text`."""
    row = stray.index[stray][0]
    path, record = source.place(row) if isinstance(source, Files) else (source, row + 1)
    text = str(column[row])
    mend = "write it without commas, with a decimal point" if _has_commas(text) else "mend it"
    return UserError(
        f"{path}: column '{column.name}', record {record}: '{text}' is not a number; "
        f"{mend}, {advice}"
    )


def _has_commas(text: str) -> bool:
    """Whether commas are all that keeps a text from being a number."""
    return "," in text and _is_number(text.replace(",", ""))


def missing_column(
    path: Path | str, columns: Sequence[str], needed_by: str, table: pd.DataFrame
) -> UserError:
    """The error of columns that are not there; `needed_by` names what has them."""
    first, *others = columns
    more = f" (and not {', '.join(others)})" if others else ""
    return UserError(
        f"{path}: has no column '{first}', which {needed_by}{near(first, table)}{more}"
    )


def near(name: str, table: pd.DataFrame) -> str:
    """Which column may have been meant by a name that is not there."""
    close = difflib.get_close_matches(name, table.columns, 1, 0.6)
    return f"; did you mean '{close[0]}'?" if close else f"; it has {', '.join(table.columns[:20])}"


def as_numbers(column: pd.Series) -> pd.Series:
    """The numbers of a column, 1 and 0 for True and False in any spelling, NaN for other text."""
    numbers = pd.to_numeric(column, errors="coerce")
    text = numbers.isna() & column.notna()
    if text.any():
        numbers = numbers.astype("float64")
        numbers[text] = column[text].astype(str).str.lower().map(TRUTH)
    return numbers


def stray_text(column: pd.Series, numbers: pd.Series) -> pd.Series:
    """Where a column holds text that is no number, nor a word for none.

    Args:
        column: Its cells.
        numbers: What they are as numbers, NaN where they are none.
    """
    stray = numbers.isna() & column.notna()
    cells = column[stray].to_numpy(dtype=object)
    # A few words, in many cells.
    words = set(filter(is_nothing, {cell for cell in cells if isinstance(cell, str)}))
    kept = [not isinstance(cell, str) or cell not in words for cell in cells]
    stray[stray] = np.array(kept, dtype=bool)
    return stray


def as_float32(values: np.ndarray) -> np.ndarray:
    """Numbers as float32: what it cannot hold is large, not infinite."""
    finite = np.clip(values, -LARGEST_NUMBER, LARGEST_NUMBER)
    return np.where(np.isinf(values), values, finite).astype("float32")
