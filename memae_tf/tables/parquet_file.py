"""Parquet files, which pyarrow reads; it is an extra, and imported where one is."""

from collections.abc import Collection, Iterator
from pathlib import Path

import pandas as pd

from memae_tf.tables.names import require_columns, require_once, stripped


def is_parquet(path: Path) -> bool:
    """Whether a file is one, by its name."""
    return path.suffix == ".parquet"


def table(path: Path) -> pd.DataFrame:
    """A file as a whole, with the dtypes that pandas finds; an index with a name and cells is one
    of its columns.
    """
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        frame = file.read().to_pandas()
    if isinstance(frame.index, pd.RangeIndex):
        # Of a plain count pandas keeps its bounds alone, with a name or without: there are no cells
        # that `cells` and `batches` could read.
        return frame
    named = [name for name in frame.index.names if name is not None]
    return frame.reset_index(named, allow_duplicates=True) if named else frame


def cells(path: Path, column: str) -> pd.Series:
    """A column, in which whole numbers stay what they are beside empty cells."""
    import pyarrow.parquet

    names = pyarrow.parquet.read_schema(path).names
    name = names[stripped(path, names).index(column)]
    table = pyarrow.parquet.read_table(path, columns=[name])
    return table.to_pandas(integer_object_nulls=True, ignore_metadata=True).iloc[:, 0]


def batches(path: Path, batch_size: int, wanted: Collection[str]) -> Iterator[pd.DataFrame]:
    """The wanted columns of so many records at a time, with cells as `cells` has them.

    Raises:
        UserError: If a column is missing, or there several times.
    """
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        given = file.schema_arrow.names
        names = stripped(path, given)
        require_columns(path, wanted, names)
        require_once(path, [name for name in names if name in wanted])
        columns = [raw for raw, name in zip(given, names, strict=True) if name in wanted]
        for batch in file.iter_batches(batch_size, columns=columns):
            # What pandas had as its index is a column of the file.
            table = batch.to_pandas(integer_object_nulls=True, ignore_metadata=True)
            yield table.set_axis(stripped(path, table.columns), axis=1)
