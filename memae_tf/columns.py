"""Records as people have them in Python, as columns of the dtypes that a detector takes."""

from collections.abc import Iterable, Mapping

import numpy as np

from memae_tf.errors import UserError


def columns_of(
    records: Mapping[str, Iterable] | Iterable[Mapping], dtypes: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """The fields of records as columns; other fields are left out.

    Args:
        records: A dict of columns, a pandas DataFrame, an array with named fields, or a list of
            dicts. `None` and NaN are missing values; so is what a dict of the list lacks.
        dtypes: The dtype of every field, "float32" or "string".

    Returns:
        Arrays (records,) by field: float32, or objects of str.

    Raises:
        UserError: If a field is missing, a numeric one holds text, or columns differ in length.
    """
    if isinstance(records, np.ndarray) and records.dtype.names:
        records = {name: records[name] for name in records.dtype.names}
    if not isinstance(records, Mapping) and not hasattr(records, "columns"):
        rows = list(records)
        if not all(isinstance(row, Mapping) for row in rows):
            raise UserError(
                "Records should be a dict of columns, a DataFrame, an array with named fields or "
                f"a list of dicts. Received: {type(records).__name__}"
            )
        records = {name: [row.get(name) for row in rows] for name in dtypes}
    columns = {}
    for name, dtype in dtypes.items():
        if name not in records:
            raise UserError(
                f"The records lack the field '{name}'. Received: fields={sorted(records)}"
            )
        columns[name] = _column(name, records[name], dtype)
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"The columns are of different lengths. Received: lengths={lengths}")
    return columns


def _column(name: str, values, dtype: str) -> np.ndarray:
    """One field as a float32 array or an array of str."""
    values = np.asarray(values)
    if dtype == "float32" and values.dtype.kind in "biuf":
        return values.astype("float32")
    values = values.astype(object)
    missing = np.array([v is None or v != v for v in values.flat], dtype=bool)
    if dtype == "string":
        words = [
            "" if gone else v.decode() if isinstance(v, bytes) else str(v)
            for v, gone in zip(values.flat, missing, strict=True)
        ]
        return np.array(words, dtype=object)
    numbers = np.where(missing, np.nan, values)
    try:
        return numbers.astype("float64").astype("float32")
    except (TypeError, ValueError) as error:
        raise UserError(f"The numeric field '{name}' holds text: {error}.") from None
