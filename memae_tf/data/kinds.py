"""The kind of a table's column to a detector: numeric, categorical, or not a feature."""

import datetime
import re
import warnings
from collections.abc import Callable, Collection, Mapping

import numpy as np
import pandas as pd

from memae_tf.columns import is_nothing, word
from memae_tf.errors import UserError
from memae_tf.tables import MOST_NAMED, Files, listed, not_a_number, parsed, stray_text

# A text column was meant to be numeric if this share of its cells, or of its different texts, are
# numbers: most cells may hold an unknown word for "nothing".
MOSTLY_NUMERIC = 0.5
# A text column identifies records (addresses, times, keys) instead of having categories if it has
# more different texts than this number and than this share of its records.
MOST_CATEGORIES = 256
MOSTLY_DIFFERENT = 0.5
TIMES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64, pd.Period)

# Numbers that are not parsed as such: with a unit, or with blanks or apostrophes between thousands.
# Only units of quantities with many values: frequencies, for example, are names of bands.
NUMBER = r"[-+]?\d+(?:[.,'\s]\d+)*"
UNITS = (
    r"%|[nuµμm]?s|secs?|seconds?|mins?|minutes?|hrs?|hours?|days?|bytes?|[kmgt]i?b"
    r"|[kmgt]?b(?:ps|it/s|/s)|\s[bhd]"
)
GROUPED = r"[-+]?\d{1,3}(?:['\s]\d{3})+(?:[.,]\d+)?"
# Dates, with or without a time, and times of day. With dots, the year must be last, as 2026.1.3 is
# a version.
CLOCK = r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)?(?:\s?[ap]m)?"
MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
DATE = (
    r"(?:[a-z]{3},?\s)?(?:"
    rf"\d{{4}}([-/])\d{{1,2}}\1\d{{1,2}}|\d{{1,2}}([-/.\s])(?:\d{{1,2}}|{MONTH})\2\d{{4}}"
    rf"|\d{{1,2}}/\d{{1,2}}/\d\d|{MONTH}\s+\d{{1,2}}(?:,?\s\d{{4}})?)"
)
ZONE = r"\s?(?:z|utc|gmt|[-+]\d\d:?\d\d)"
LOOKS = "times or numbers with units"
DISGUISED = re.compile(
    rf"{NUMBER}\s?(?:{UNITS})|{GROUPED}|{CLOCK}"
    rf"|{DATE}(?:[t\s:,]+{CLOCK}(?:{ZONE})?(?:\s\d{{4}})?)?",
    re.IGNORECASE,
)


def infer_kind(column: pd.Series, source: Files | str, leave_out: str, declare: str) -> str:
    """The kind of a column that was not declared: "numeric" or "categorical".

    Args:
        column: The column.
        source: The name of the table in messages.
        leave_out, declare: Advice in messages: how to leave the column out, and how to declare it
            as categorical.

    Raises:
        UserError: If it is text but mostly numbers (maybe with commas), as otherwise a stray word
            would silently turn a numeric column into a categorical one. If cells are times or hold
            several values.
    """
    require_values(column, source, leave_out)
    if is_boolean(column):
        return "categorical"
    require_no_times(column, source, leave_out)
    given = column.dropna()
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
    return "categorical"


def check_categories(
    columns: Collection[pd.Series], source: Files | str, advise: Callable[[Collection[str]], str]
) -> None:
    """Refuses columns, inferred to be categorical, in which hardly any text comes twice.

    Warns, in one line, of those that seem to hold times or numbers with units: as categories they
    have no order, and most new values are unseen ones.

    Args:
        columns: The columns that were inferred to be categorical.
        source: The name of the table in messages.
        advise: Gives advice, for names of columns, on what else to do with them.

    Raises:
        UserError: Naming all columns in which hardly any text comes twice.
    """
    keys = {column.name: said for column in columns if (said := _as_key(column)) is not None}
    if keys:
        first = list(keys)[:MOST_NAMED]
        named = listed([f"{name} ({said})" for name, said in keys.items()])
        raise UserError(f"{source}: too many texts for categories: {named}; {advise(first)}")
    texts = {c.name: text for c in columns if (text := _disguised(c)) is not None}
    if texts:
        named = listed([f"{name} ('{text}')" for name, text in texts.items()])
        warnings.warn(
            f"{source}: learned as categories, though they look like {LOOKS}: {named}; write plain "
            f"numbers, {advise(texts)}",
            stacklevel=3,
        )


def _as_key(column: pd.Series) -> str | None:
    """How many texts a column has, and what they look like, if they are too many for categories."""
    given = column.dropna()
    different = 0 if _is_declared(column) else given.nunique()
    if different <= max(MOST_CATEGORIES, MOSTLY_DIFFERENT * len(given)):
        return None
    text = _disguised(column)
    but = "" if text is None else f", {LOOKS}, such as '{text}': write plain numbers"
    return f"{different:,} different texts in {len(given):,} records{but}"


def _is_declared(column: pd.Series) -> bool:
    """Whether the dtype of a column says that it holds categories."""
    return is_boolean(column) or isinstance(column.dtype, pd.CategoricalDtype)


def _disguised(column: pd.Series) -> str | None:
    """An example of a column's texts if most of them are times or numbers with units, or `None`."""
    if _is_declared(column):
        return None
    texts = [word(value).strip() for value in column.dropna().unique()]
    given = [text for text in texts if not is_nothing(text)]
    found = [text for text in given if DISGUISED.fullmatch(text)]
    return found[0] if found and len(found) >= MOSTLY_NUMERIC * len(given) else None


def require_values(column: pd.Series, source: Files | str, leave_out: str) -> None:
    """Checks that no cell holds several values, as cells of Parquet may.

    Raises:
        UserError: If one does.
    """
    many = (list, tuple, set, Mapping, np.ndarray)
    if column.dtype == object and any(isinstance(value, many) for value in column):
        raise UserError(
            f"{source}: column '{column.name}' holds lists or records, not single values; "
            f"{leave_out}"
        )


def require_no_times(column: pd.Series, source: Files | str, leave_out: str) -> None:
    """Checks that cells are not times or durations, whose numbers depend on the file's unit.

    Raises:
        UserError: If they are.
    """
    if column.dtype.kind in "mM" or any(isinstance(v, TIMES) for v in column.dropna().iloc[:1]):
        raise UserError(
            f"{source}: column '{column.name}' holds times, which cannot be learned as they are; "
            f"{leave_out}"
        )


def is_boolean(column: pd.Series) -> bool:
    """Whether a column holds nothing but booleans and, maybe, empty cells."""
    if pd.api.types.is_bool_dtype(column):
        return True
    given = column.dropna()
    return len(given) > 0 and all(isinstance(value, (bool, np.bool_)) for value in given)
