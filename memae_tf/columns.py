"""Records as users have them in Python, to columns of the dtypes that a detector takes."""

import math
import reprlib
from collections.abc import Collection, Iterable, Mapping

import numpy as np

from memae_tf.errors import UserError


def columns_of(
    records: Mapping[str, Iterable] | Iterable[Mapping],
    dtypes: Mapping[str, str],
    categories: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """The fields of records as columns; other fields are left out.

    Args:
        records: A dict of columns, a DataFrame of pandas or polars, a table of pyarrow, an array
            with named fields, or a list of dicts. `None`, NaN and pandas's NA are missing values;
            so are words for nothing ("-", "NA", ...) in numeric fields, and keys that a dict of the
            list lacks.
        dtypes: The dtype of every field, "float32" or "string".
        categories: Numeric fields whose numbers are categories; text in them is a missing value.

    Returns:
        Arrays (records,) by field: float32, NaN where missing; or objects of str, "" where missing.

    Raises:
        UserError: If a field is missing, a numeric one holds text or times, columns differ in
            length, or are no columns; or as `as_pandas` does.
    """
    records = as_pandas(records)
    if isinstance(records, np.ndarray) and records.dtype.names:
        records = {name: records[name] for name in records.dtype.names}
    if not isinstance(records, Mapping) and not hasattr(records, "columns"):
        rows = list(records) if isinstance(records, Iterable) else [records]
        if not all(isinstance(row, Mapping) for row in rows):
            raise UserError(
                "Records should be a dict of columns, a DataFrame, an array with named fields or "
                f"a list of dicts. Received: {type(records).__name__}"
            )
        keys = _keys(rows[0] if rows else (), dtypes)
        records = {name: [row.get(keys.get(name, name)) for row in rows] for name in dtypes}
    keys = _keys(records, dtypes)
    columns = {}
    for name, dtype in dtypes.items():
        if name not in keys:
            received = sorted(map(str, records))
            raise UserError(f"The records lack the field '{name}'. Received: fields={received}")
        columns[name] = _column(name, records[keys[name]], dtype, name in categories)
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"The columns are of different lengths. Received: lengths={lengths}")
    return columns


def as_pandas(table: object) -> object:
    """A table of polars, pyarrow, ... as pandas has it; anything else as it is.

    Raises:
        UserError: If pyarrow is not installed, through which polars converts its tables; or if it
            is a query of polars, which has no values yet.
    """
    if type(table).__name__ == "LazyFrame":
        raise UserError("A LazyFrame has no values yet; give what its `collect()` returns")
    if not hasattr(table, "to_pandas"):
        return table
    try:
        return table.to_pandas()
    except ImportError:
        raise UserError(
            f"A {type(table).__name__} of {type(table).__module__.partition('.')[0]} is converted "
            "to pandas, which needs pyarrow; pip install pyarrow"
        ) from None


def _keys(given: Iterable, fields: Iterable[str]) -> dict[str, object]:
    """The key of each field in records: its name, maybe with blanks around it, as in some files."""
    given = list(given)
    stripped = {key.strip(): key for key in given if isinstance(key, str)}
    exact = {name: name for name in fields if name in given}
    return {name: stripped[name.strip()] for name in fields if name.strip() in stripped} | exact


# Booleans are numbers to a detector, also as text.
TRUTH = {"true": 1.0, "false": 0.0}
# What Zeek, SQL, Python, R, ... write for a missing number. In a categorical field these are words
# like any other.
NOTHING = frozenset({"", "-", "?", "(empty)", "na", "n/a", "nan", "nil", "none", "null"})


def word(value: object) -> str:
    """A category as text: the same for 80, 80.0 and "80", and nothing for a missing value."""
    if isinstance(value, bytes):
        # Addresses and keys may be any bytes.
        return value.decode(errors="backslashreplace")
    if isinstance(value, str):
        return value
    if _is_missing(value):
        return ""
    if isinstance(value, (float, np.floating)) and value.is_integer():
        # What pandas makes of whole numbers where one of them is missing.
        return str(int(value))
    return str(value)


def as_float(value: object) -> float:
    """`float(value)`; infinite for a Python integer beyond a float's range, of over 308 digits."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def is_nothing(value: object) -> bool:
    """Whether a cell of a numeric column is a word for "no number"."""
    return isinstance(value, str) and value.strip().lower() in NOTHING


def _column(name: str, values, dtype: str, is_category: bool) -> np.ndarray:
    """One field as a float32 array or an array of str."""
    values = np.asarray(values)
    if values.ndim != 1:
        raise UserError(
            f"The field '{name}' should be a column with a value for each record; pass one record "
            f"as a list of one dict. Received: shape={values.shape}"
        )
    if dtype == "float32" and values.dtype.kind in "biuf":
        # Numbers beyond float32's range become infinite.
        with np.errstate(over="ignore"):
            return values.astype("float32")
    if dtype == "float32" and values.dtype.kind in "mM":
        # As objects, times in nanoseconds would be whole numbers.
        raise UserError(f"The numeric field '{name}' holds times; it should hold numbers.")
    values = values.astype(object)
    if dtype == "string":
        return np.array([word(value) for value in values], dtype=object)
    return np.array(_numbers(name, values, is_category), "float64").astype("float32")


def _numbers(name: str, values: np.ndarray, is_category: bool) -> list[float]:
    """The values of one field as numbers.

    Raises:
        UserError: If one is not a number, naming its record.
    """
    numbers = []
    for record, value in enumerate(values, start=1):
        try:
            numbers.append(_number(value, is_category))
        except (TypeError, ValueError):
            kind = "text" if isinstance(value, str) else f"a value of type {type(value).__name__}"
            raise UserError(
                f"The numeric field '{name}' holds {kind}: {reprlib.repr(value)} in record "
                f"{record}; it should be a number, or None if it is missing."
            ) from None
    return numbers


def _number(value: object, is_category: bool) -> float:
    if _is_missing(value):
        return np.nan
    try:
        return _strict_float(value)
    except ValueError:
        truth = TRUTH.get(str(value).strip().lower())
        if truth is None and not is_category and not is_nothing(value):
            raise
        return np.nan if truth is None else truth


def _strict_float(value: object) -> float:
    """A number, without what only Python takes for one: 1_000, and digits of other scripts."""
    if isinstance(value, str) and ("_" in value or not value.isascii()):
        raise ValueError(f"could not convert string to float: {value!r}")
    return as_float(value)


def _is_missing(value: object) -> bool:
    try:
        return value is None or bool(value != value)
    except TypeError:
        # pandas's NA compares to NA, which is neither true nor false.
        return True
