"""Records in CSV and Parquet files, as the batches that a detector is asked about."""

import json
from collections.abc import Collection, Iterator, Mapping
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd

from memae_tf import tables
from memae_tf.columns import word


def batches(
    path: Path, fields: Mapping[str, str], batch_size: int, categories: Collection[str] = ()
) -> Iterator[dict[str, np.ndarray]]:
    """The fields of a file's records, batch by batch, so that it may be of any size.

    Columns that are no fields, such as labels, are left out. Empty cells are missing values, and so
    are words for nothing ("-", "NA", ...) in numeric fields. The files in which KDDCUP99 was
    published have no header; they are known by that.

    Args:
        path: A CSV or Parquet file; `-` is standard input.
        fields: The dtype of every field, "float32" or "string".
        batch_size: Records a batch, at most.
        categories: Numeric fields whose numbers are categories, of which text is none.

    Yields:
        Arrays (records,) by field: float32, NaN where missing; or objects of str, "" where missing.

    Raises:
        UserError: If the file lacks a field, has text for a number, or is damaged.
    """
    kddcup99 = _kddcup99_fields()
    layout = kddcup99 if set(fields) == set(kddcup99) else ()
    name = tables.source_name(path)
    for table in tables.read_batches(path, batch_size, fields, layout):
        yield {
            field: _column(name, table, field, dtype, field in categories)
            for field, dtype in fields.items()
        }


def _kddcup99_fields() -> list[str]:
    file = resources.files("memae_tf").joinpath("data", "simulated_traffic.json")
    return json.loads(file.read_text())["fields"]


def _column(
    name: Path | str, table: pd.DataFrame, field: str, dtype: str, is_category: bool
) -> np.ndarray:
    column = table[field]
    if dtype == "string":
        cells = column.to_numpy(dtype=object)
        if pd.api.types.infer_dtype(cells, skipna=True) == "string":
            return np.where(pd.isna(cells), "", cells)
        return np.array([word(cell) for cell in cells], dtype=object)
    # Most columns are numbers alone; what else there may be takes several times as long.
    values = tables.parsed(column).to_numpy("float64", na_value=np.nan)
    if not np.isnan(values).any():
        return tables.as_float32(values)
    numbers = tables.as_numbers(column)
    stray = tables.stray_text(column, numbers)
    if stray.any() and not is_category:
        raise tables.not_a_number(name, column, stray, "or leave it empty")
    return tables.as_float32(numbers.to_numpy("float64", na_value=np.nan))
