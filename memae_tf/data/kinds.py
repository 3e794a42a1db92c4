"""What a column of a table is to a detector: numbers, categories, or no feature at all."""

import datetime
import re
import warnings
from collections.abc import Callable, Collection, Mapping

import numpy as np
import pandas as pd

from memae_tf.columns import is_nothing, word
from memae_tf.errors import UserError
from memae_tf.tables import MOST_NAMED, Files, listed, not_a_number, parsed, stray_text

# A text column of whose cells, or of whose different texts, this share or more are numbers was
# meant to be numeric: a word for "nothing" that nobody knows may stand in most of them.
MOSTLY_NUMERIC = 0.5
# A text column with more different ones than this, and this share of its records or more, names
# records (addresses, times, keys) and has no categories.
MOST_CATEGORIES = 256
MOSTLY_DIFFERENT = 0.5
TIMES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64, pd.Period)

# Numbers that text keeps from being some: with a unit, or with blanks or apostrophes between
# thousands. Of units those that come with many values: frequencies, say, are names of bands.
NUMBER = r"[-+]?\d+(?:[.,'\s]\d+)*"
UNITS = (
    r"%|[nuµμm]?s|secs?|seconds?|mins?|minutes?|hrs?|hours?|days?|bytes?|[kmgt]i?b"
    r"|[kmgt]?b(?:ps|it/s|/s)|\s[bhd]"
)
GROUPED = r"[-+]?\d{1,3}(?:['\s]\d{3})+(?:[.,]\d+)?"
# Dates, with or without a time, and times of day. With dots the year comes last: 2026.1.3 is a
# version.
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
    """The kind of a column that nobody has declared: "numeric" or "categorical".

    Args:
        column: Its cells.
        source: What a message calls the table.
        leave_out, declare: What a message advises: how to do without the column, how to have it as
            categories.

    Raises:
        UserError: If it is text but mostly numbers, maybe with commas: a stray word would
            otherwise turn a numeric column into a categorical one, silently. Or if its cells are
            times or hold many values.
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
    """Refuses columns, inferred to be categorical, of which hardly any text comes twice.

    Those that seem to be measured it warns of, in one line: as categories they have no order, and
    most of what is new is unseen.

    Args:
        columns: Their cells.
        source: What a message calls the table.
        advise: What else may be done with columns of these names.

    Raises:
        UserError: Naming all that hold hardly any text twice.
    """
    keys = {column.name: said for column in columns if (said := _as_key(column)) is not None}
    if keys:
        first = list(keys)[:MOST_NAMED]
        named = listed([f"{name} ({said})" for name, said in keys.items()])
        raise UserError(f"{source}: hardly categories: {named}; {advise(first)}")
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
    """One of the texts of a column, if most of them are numbers with a unit, or times."""
    if _is_declared(column):
        return None
    texts = [word(value).strip() for value in column.dropna().unique()]
    given = [text for text in texts if not is_nothing(text)]
    found = [text for text in given if DISGUISED.fullmatch(text)]
    return found[0] if found and len(found) >= MOSTLY_NUMERIC * len(given) else None


def require_values(column: pd.Series, source: Files | str, leave_out: str) -> None:
    """Refuses cells that hold many values, as those of Parquet may.

    Raises:
        UserError: If there are such.
    """
    many = (list, tuple, set, Mapping, np.ndarray)
    if column.dtype == object and any(isinstance(value, many) for value in column):
        raise UserError(
            f"{source}: column '{column.name}' holds lists or records, where a value should be; "
            f"{leave_out}"
        )


def require_no_times(column: pd.Series, source: Files | str, leave_out: str) -> None:
    """Refuses times and durations, which are counts of whatever unit a file has.

    Raises:
        UserError: If there are such.
    """
    if column.dtype.kind in "mM" or any(isinstance(v, TIMES) for v in column.dropna().iloc[:1]):
        raise UserError(
            f"{source}: column '{column.name}' holds times, which are no feature as they are; "
            f"{leave_out}"
        )


def is_boolean(column: pd.Series) -> bool:
    """Whether a column holds booleans and, maybe, empty cells."""
    if pd.api.types.is_bool_dtype(column):
        return True
    given = column.dropna()
    return len(given) > 0 and all(isinstance(value, (bool, np.bool_)) for value in given)
