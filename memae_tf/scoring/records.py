"""Records in CSV and Parquet files, as batches for a detector."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd

from memae_tf import tables
from memae_tf.columns import word
from memae_tf.errors import UserError

# The most known categories that a message lists.
MOST_NAMED = 5


def batches(
    path: Path, fields: Mapping[str, str], batch_size: int, categories: Collection[str] = ()
) -> Iterator[dict[str, np.ndarray]]:
    """The records of a file, which may be of any size, batch by batch.

    Columns that are not fields, such as labels, are left out. Empty cells are missing values, and
    so are words for nothing ("-", "NA", ...) in numeric fields. A file without a header is read as
    one of KDDCUP99, as it was published, if the fields are those of KDDCUP99.

    Args:
        path: A CSV or Parquet file; `-` is standard input.
        fields: The dtype of every field, "float32" or "string".
        batch_size: Records in a batch, at most.
        categories: Numeric fields whose numbers are categories; text in them is a missing value.

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


class UnseenCategories:
    """Counts records with categories that a detector does not know; missing ones do not count.

    Args:
        known: The categories of every categorical field, text or numbers.
    """

    def __init__(self, known: Mapping[str, Sequence]):
        self._known = known
        self._counts = {field: [0, 0] for field in known}
        self._examples: dict[str, object] = {}

    def watched(self, batches: Iterable[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
        """Passes on batches, as `batches` gives them, and counts."""
        for batch in batches:
            for field, known in self._known.items():
                self._count(field, batch[field], known)
            yield batch

    def _count(self, field: str, values: np.ndarray, known: Sequence) -> None:
        present = ~np.isnan(values) if values.dtype.kind == "f" else values != ""
        # Compared in the dtype of the values: a server's numbers come as decimals of float32.
        unseen = present & ~pd.Series(values).isin(np.array(known, values.dtype)).to_numpy()
        self._counts[field][0] += int(unseen.sum())
        self._counts[field][1] += int(present.sum())
        if unseen.any():
            self._examples.setdefault(field, values[unseen.argmax()])

    def complaints(self, name: Path | str) -> Iterator[str]:
        """A line for every field in which most records of a file have an unknown category."""
        for field, (unseen, records) in self._counts.items():
            if unseen * 2 > records:
                known = tables.listed([_shown(word) for word in self._known[field]], MOST_NAMED)
                yield (
                    f"{name}: in column '{field}' {unseen:,} of {records:,} records have a "
                    f"category that the detector does not know, such as "
                    f"{_shown(self._examples[field])}; it knows {known}"
                )


def _shown(category: str | float) -> str:
    return category if isinstance(category, str) else f"{category:.7g}"


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
    if column.dtype.kind in "mM":
        # Their numbers depend on the unit in which the file has them.
        raise UserError(f"{name}: column '{field}' holds times; it should hold numbers")
    # Most columns have numbers only; looking for anything else takes several times as long.
    values = tables.parsed(column).to_numpy("float64", na_value=np.nan)
    if not np.isnan(values).any():
        return tables.as_float32(values)
    numbers = tables.as_numbers(column)
    stray = tables.stray_text(column, numbers)
    if stray.any() and not is_category:
        raise tables.not_a_number(name, column, stray, "or leave it empty")
    return tables.as_float32(numbers.to_numpy("float64", na_value=np.nan))
