"""Reads tables from files, whole or batch by batch."""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from memae_tf.columns import word
from memae_tf.errors import UserError
from memae_tf.tables import csv_file, parquet_file
from memae_tf.tables.files import Files, matching, no_records, reading, source_name
from memae_tf.tables.names import missing_column, require_header, require_once, stripped


def read_tables(
    names: Sequence[Path], unwanted: Collection[str] = ()
) -> tuple[pd.DataFrame, Files]:
    """Reads one or more files with the same columns as one data frame.

    Args:
        names: Paths or patterns (`*`, `?`, `[...]`) of files that `read_table` takes. The columns
            have the order of the first file.
        unwanted: Names of columns that a file may lack, or have several times.

    Raises:
        UserError: As in `read_table`; if a file has other columns than the first one.
    """
    paths = [path for name in names for path in matching(name)]
    repeated = [path for path in paths if paths.count(path) > 1]
    if repeated:
        raise UserError(f"{repeated[0]}: is named twice; name or match every file once")
    tables = [read_table(path, unwanted) for path in paths]
    first = paths[0], tables[0]
    for other in zip(paths[1:], tables[1:], strict=True):
        for (path, table), (whose, model) in ((other, first), (first, other)):
            missing = [n for n in model if n not in table and n not in unwanted]
            if missing:
                raise missing_column(path, missing, f"{whose} has", list(table), list(model))
    starts = itertools.accumulate(map(len, tables[:-1]), initial=0)
    return pd.concat(tables, ignore_index=True), Files(tuple(paths), tuple(starts))


def read_table(path: Path, unwanted: Collection[str] = ()) -> pd.DataFrame:
    """Reads a CSV file (with a header, maybe compressed) or a Parquet file as a data frame.

    Args:
        path: The file.
        unwanted: Names that several columns may have; the first column of each is kept.

    Raises:
        UserError: If the file is missing, empty, cut off, or of another format; if a record is too
            short, or the first line is a record.
    """
    with reading(path):
        table = _file(path).table(path)
    table = table.reset_index(drop=True)
    table.columns = stripped(path, table.columns)
    once = [name for name in table.columns if name not in unwanted]
    require_once(path, once, "rename or delete one, or leave both out with data.drop")
    require_header(path, table)
    if len(table) == 0:
        raise no_records(path)
    return table.loc[:, ~(table.columns.duplicated() & table.columns.isin(list(unwanted)))]


def read_words(files: Files, column: str) -> np.ndarray:
    """The cells of one column as text, in the form that `word` gives them.

    They are read again, as what `read_table` gives depends on all cells of a column: codes lose
    leading zeros, and become fractions if one cell is empty.

    Returns:
        An array of str (records,).
    """
    return np.concatenate([_words_of(path, column) for path in files.paths])


def _words_of(path: Path, column: str) -> np.ndarray:
    with reading(path):
        cells = _file(path).cells(path, column)
    return np.array([word(cell) for cell in cells], dtype=object)


def _file(path: Path):
    """The module that reads a file of this kind."""
    return parquet_file if parquet_file.is_parquet(path) else csv_file


def read_batches(
    path: Path, batch_size: int, dtypes: Mapping[str, str], layout: Sequence[str] = ()
) -> Iterator[pd.DataFrame]:
    """Reads a file of any size batch by batch.

    Args:
        path: A file that `read_table` takes; `-` is CSV on standard input.
        batch_size: Records in a data frame. The last one may have fewer, and so may others if
            standard input pauses.
        dtypes: The columns to read, "float32" or "string"; each must be there once. In CSV files,
            cells of "string" columns are str; "float32" columns are numbers, or str if some cells
            of the batch are not numbers. Empty cells are NaN.
        layout: The columns of a file without a header. A file is taken for one if its first line
            has none of these names, and at least as many cells.

    Yields:
        Data frames with these columns, whose index continues from one to the next.

    Raises:
        UserError: As in `read_table`, when it gets to what is wrong; or if a column is missing.
    """
    start = 0
    with reading(path):
        if parquet_file.is_parquet(path):
            batches = parquet_file.batches(path, batch_size, dtypes)
        else:
            batches = csv_file.batches(path, batch_size, dtypes, layout)
        for table in batches:
            table.index = pd.RangeIndex(start, start + len(table))
            start += len(table)
            yield table
    if start == 0:
        raise no_records(source_name(path))
