"""Parquet files, read by pyarrow, which is an extra and imported only for these."""

from collections.abc import Collection, Iterator
from pathlib import Path

import pandas as pd

from memae_tf.tables.names import require_columns, require_once, stripped


def is_parquet(path: Path) -> bool:
    """Whether a file is a Parquet file by its name."""
    return path.suffix == ".parquet"


def table(path: Path) -> pd.DataFrame:
    """Reads a whole file, with the dtypes that pandas chooses.

    A named index becomes a column, unless it is a `RangeIndex`.
    """
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        frame = file.read().to_pandas()
    if isinstance(frame.index, pd.RangeIndex):
        # pandas stores only the bounds of these: the file has no cells for `cells` and `batches`.
        return frame
    named = [name for name in frame.index.names if name is not None]
    return frame.reset_index(named, allow_duplicates=True) if named else frame


def cells(path: Path, column: str) -> pd.Series:
    """A column, in which whole numbers stay integers even if there are empty cells."""
    import pyarrow.parquet

    names = pyarrow.parquet.read_schema(path).names
    name = names[stripped(path, names).index(column)]
    table = pyarrow.parquet.read_table(path, columns=[name])
    return table.to_pandas(integer_object_nulls=True, ignore_metadata=True).iloc[:, 0]


def batches(path: Path, batch_size: int, wanted: Collection[str]) -> Iterator[pd.DataFrame]:
    """The wanted columns, `batch_size` records at a time, with cells as in `cells`.

    Raises:
        UserError: If a column is missing, or there more than once.
    """
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        given = file.schema_arrow.names
        names = stripped(path, given)
        require_columns(path, wanted, names)
        require_once(path, [name for name in names if name in wanted])
        columns = [raw for raw, name in zip(given, names, strict=True) if name in wanted]
        for batch in file.iter_batches(batch_size, columns=columns):
            # Without the metadata, an index of pandas stays a column, as in the file.
            table = batch.to_pandas(integer_object_nulls=True, ignore_metadata=True)
            yield table.set_axis(stripped(path, table.columns), axis=1)
