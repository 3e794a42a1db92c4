"""Tables in files, CSV or Parquet, with errors that a person can act on."""

import contextlib
import difflib
import lzma
import sys
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

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
STDIN = Path("-")


def read_table(path: Path) -> pd.DataFrame:
    """A CSV file (with a header, also compressed) or a Parquet file as a data frame.

    Raises:
        UserError: If the file is missing, empty, cut off, or neither.
    """
    with _reading(path):
        table = pd.read_parquet(path) if _is_parquet(path) else _read_csv(path)
    table = table.reset_index(drop=True)
    table.columns = _names(path, table.columns)
    if len(table) == 0:
        raise _no_records(path)
    return table


def read_batches(path: Path, batch_size: int, layout: Sequence[str] = ()) -> Iterator[pd.DataFrame]:
    """The records of a file of any size, some at a time.

    Cells of CSV files are str, or NaN where they are empty: what pandas makes of a column would
    depend on the records that happen to be in a batch.

    Args:
        path: As `read_table` takes it; `-` is standard input, as CSV.
        batch_size: Records a data frame; the last one may have fewer.
        layout: The columns of a file without a header. It is taken for one where the first line
            has none of these names, and as many cells or more.

    Yields:
        Data frames, of which the index goes on from one to the next.

    Raises:
        UserError: As `read_table` does, as soon as it comes to what is wrong.
    """
    start = 0
    name = source_name(path)
    with _reading(path):
        if _is_parquet(path):
            batches = _parquet_batches(path, batch_size)
        else:
            batches = _csv_batches(path, batch_size, layout)
        for table in batches:
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
    if path != STDIN and not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        yield
    except UserError:
        raise
    except ImportError:
        raise UserError(f"{path}: reading Parquet needs pyarrow; pip install pyarrow") from None
    except pd.errors.EmptyDataError:
        raise UserError(f"{name}: is empty; it should have a header and records") from None
    except DAMAGED as error:
        # What pandas and pyarrow raise for damaged files; their first line says where.
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{name}: is damaged, cut off or of another format ({reason})") from None


def _is_parquet(path: Path) -> bool:
    return path.suffix == ".parquet"


def _no_records(name: Path | str) -> UserError:
    return UserError(f"{name}: has a header but no records")


def _parquet_batches(path: Path, batch_size: int) -> Iterator[pd.DataFrame]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size):
            table = batch.to_pandas()
            yield table.set_axis(_names(path, table.columns), axis=1)


def _csv_batches(path: Path, batch_size: int, layout: Sequence[str]) -> Iterator[pd.DataFrame]:
    source = sys.stdin.buffer if path == STDIN else path
    with pd.read_csv(source, header=None, dtype=str, iterator=True, **CSV_OPTIONS) as reader:
        first = reader.get_chunk(1)
        cells = first.iloc[0].fillna("").str.strip().tolist()
        if layout and len(cells) >= len(layout) and not set(cells) & set(layout):
            names = [*layout, *(f"column {n + 1}" for n in range(len(layout), len(cells)))]
            # The rest of the first batch, if there is more.
            rest = next(_chunks(reader, batch_size - 1), first[:0]) if batch_size > 1 else first[:0]
            yield pd.concat([first, rest]).set_axis(names, axis=1)
        else:
            names = _names(source_name(path), cells)
        for table in _chunks(reader, batch_size):
            yield table.set_axis(names, axis=1)


def _chunks(reader, size: int) -> Iterator[pd.DataFrame]:
    with contextlib.suppress(StopIteration):
        while True:
            yield reader.get_chunk(size)


def _read_csv(path: Path) -> pd.DataFrame:
    # pandas would rename a repeated column, and take the first column as an index where records
    # have one cell more than the header, under wrong names from then on.
    header = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False)
    _names(path, header.iloc[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            return pd.read_csv(path, index_col=False, low_memory=False, **CSV_OPTIONS)
        except pd.errors.ParserWarning:
            raise UserError(f"{path}: records have more cells than the header has names") from None


def _names(path: Path | str, columns) -> list[str]:
    """The names of columns without blanks around them.

    Raises:
        UserError: If one stands there twice.
    """
    names = [str(name).strip() for name in columns]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise UserError(f"{path}: has the column '{repeated[0]}' twice; rename or delete one")
    return names


def not_a_number(path: Path | str, column: pd.Series, numbers: pd.Series, advice: str) -> UserError:
    """The error of a column that is NaN in `numbers` where it holds text."""
    row = numbers.index[numbers.isna()][0]
    return UserError(
        f"{path}: column '{column.name}', record {row + 1}: '{column[row]}' is not a number; "
        f"mend it, {advice}"
    )


def missing_column(path: Path | str, column: str, needed_by: str, table: pd.DataFrame) -> UserError:
    """The error of a column that is not there; `needed_by` names what has it."""
    return UserError(f"{path}: has no column '{column}', which {needed_by}{near(column, table)}")


def near(name: str, table: pd.DataFrame) -> str:
    """Which column may have been meant by a name that is not there."""
    close = difflib.get_close_matches(name, table.columns, 1, 0.6)
    return f"; did you mean '{close[0]}'?" if close else f"; it has {', '.join(table.columns[:20])}"


def as_float32(values: np.ndarray) -> np.ndarray:
    """Numbers as float32: what it cannot hold is large, not infinite."""
    finite = np.clip(values, -LARGEST_NUMBER, LARGEST_NUMBER)
    return np.where(np.isinf(values), values, finite).astype("float32")
