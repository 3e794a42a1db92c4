"""What a column of a table is to a detector: numbers, categories, or no feature at all."""

import datetime
from collections.abc import Mapping

import numpy as np
import pandas as pd

from memae_tf.columns import word
from memae_tf.errors import UserError
from memae_tf.tables import Files, not_a_number, parsed, stray_text

# A text column of whose cells, or of whose different texts, this share or more are numbers was
# meant to be numeric: a word for "nothing" that nobody knows may stand in most of them.
MOSTLY_NUMERIC = 0.5
# A text column with more different ones than this, and this share of its records or more, names
# records (addresses, times, keys) and has no categories.
MOST_CATEGORIES = 256
MOSTLY_DIFFERENT = 0.5
TIMES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64, pd.Period)


def infer_kind(column: pd.Series, source: Files | str, leave_out: str, declare: str) -> str:
    """The kind of a column that nobody has declared: "numeric" or "categorical".

    Args:
        column: Its cells.
        source: What a message calls the table.
        leave_out, declare: What a message advises: how to do without the column, how to have it as
            categories.

    Raises:
        UserError: If it is text but mostly numbers, maybe with commas: a stray word would
            otherwise turn a numeric column into a categorical one, silently. Or if hardly any text
            comes twice, or its cells are times or hold many values.
    """
    require_values(column, source, leave_out)
    if is_boolean(column):
        return "categorical"
    given = column.dropna()
    if column.dtype.kind in "mM" or any(isinstance(value, TIMES) for value in given.iloc[:1]):
        raise UserError(
            f"{source}: column '{column.name}' holds times, which are no feature as they are; "
            f"{leave_out}"
        )
    if isinstance(column.dtype, pd.CategoricalDtype):
        return "categorical"
    numbers = parsed(given)
    stray = stray_text(given, numbers)
    if pd.api.types.is_numeric_dtype(column) or (numbers.notna().any() and not stray.any()):
        return "numeric"
    texts = pd.Series(given.unique()).map(word).str.replace(",", "")
    share = parsed(texts).notna().mean()
    if stray.any() and max(share, numbers.notna().mean()) >= MOSTLY_NUMERIC:
        raise not_a_number(source, column, stray, f"or {declare}")
    different = given.nunique()
    if different > max(MOST_CATEGORIES, MOSTLY_DIFFERENT * len(given)):
        raise UserError(
            f"{source}: column '{column.name}' has {different:,} different texts in "
            f"{len(given):,} records, which are hardly categories; {leave_out}, or {declare}"
        )
    return "categorical"


def require_values(column: pd.Series, source: Files | str, leave_out: str) -> None:
    """Refuses cells that hold many values, as those of Parquet may.

    Raises:
        UserError: If there are such.
    """
    many = (list, tuple, set, Mapping, np.ndarray)
    if column.dtype == object and any(isinstance(value, many) for value in column):
        raise UserError(
            f"{source}: column '{column.name}' holds lists or records, which are no feature; "
            f"{leave_out}"
        )


def is_boolean(column: pd.Series) -> bool:
    """Whether a column holds booleans and, maybe, empty cells."""
    if pd.api.types.is_bool_dtype(column):
        return True
    given = column.dropna()
    return len(given) > 0 and all(isinstance(value, (bool, np.bool_)) for value in given)
