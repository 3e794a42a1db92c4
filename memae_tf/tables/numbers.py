"""Columns of numbers, in which some cells may not be numbers."""

import math
from pathlib import Path

import numpy as np
import pandas as pd

from memae_tf.columns import TRUTH, as_float, is_nothing
from memae_tf.errors import UserError
from memae_tf.tables.files import Files
from memae_tf.tables.names import reads_as_number

LARGEST_NUMBER = float(np.finfo("float32").max)


def parsed(column: pd.Series) -> pd.Series:
    """The numbers of a column, NaN for text, infinity for numbers beyond the range of a float."""
    if isinstance(column.dtype, pd.ArrowDtype):
        # From text in these, pandas makes NaN that `isna` does not find.
        column = column.astype(object)
    try:
        numbers = pd.to_numeric(column, errors="coerce")
    except OverflowError:
        # Raised for whole numbers with more than 308 digits.
        return column.map(_float_or_nan).astype("float64")
    # pandas before version 3 makes NaN from text beyond the range of a float.
    unread = column[numbers.isna() & column.notna()]
    texts = {cell for cell in unread if isinstance(cell, str)}
    infinite = column.isin([text for text in texts if math.isinf(_float_or_nan(text))])
    if infinite.any():
        numbers = numbers.astype("float64")
        numbers[infinite] = column[infinite].map(_float_or_nan).astype("float64")
    return numbers


def _float_or_nan(value: object) -> float:
    try:
        return as_float(value)
    except (TypeError, ValueError):
        return math.nan


def as_numbers(column: pd.Series) -> pd.Series:
    """The numbers of a column, 1 and 0 for True and False in any spelling, NaN for other text."""
    numbers = parsed(column)
    text = numbers.isna() & column.notna()
    if text.any():
        numbers = numbers.astype("float64")
        numbers[text] = column[text].astype(str).str.lower().map(TRUTH)
    return numbers


def stray_text(column: pd.Series, numbers: pd.Series) -> pd.Series:
    """A mask of the cells with text that is neither a number nor a word for "no number".

    Args:
        column: The cells.
        numbers: The cells as numbers, with NaN for those that are not.
    """
    stray = numbers.isna() & column.notna()
    cells = column[stray].to_numpy(dtype=object)
    # Many cells have few different words, so each is checked once.
    words = set(filter(is_nothing, {cell for cell in cells if isinstance(cell, str)}))
    kept = [not isinstance(cell, str) or cell not in words for cell in cells]
    stray[stray] = np.array(kept, dtype=bool)
    return stray


def as_float32(values: np.ndarray) -> np.ndarray:
    """Numbers as float32; those beyond its range become its largest, not infinite."""
    finite = np.clip(values, -LARGEST_NUMBER, LARGEST_NUMBER)
    return np.where(np.isinf(values), values, finite).astype("float32")


def not_a_number(
    source: Files | Path | str, column: pd.Series, stray: pd.Series, advice: str
) -> UserError:
    """The error for a column with `stray_text`."""
    row = stray.index[stray][0]
    path, record = source.place(row) if isinstance(source, Files) else (source, row + 1)
    text = str(column[row])
    if text.strip() == str(column.name):
        # This happens in files that were concatenated.
        return UserError(f"{path}: record {record} is the header again; delete all such lines")
    correct = "write it without commas, with a decimal point" if _has_commas(text) else "correct it"
    return UserError(
        f"{path}: column '{column.name}', record {record}: '{text}' is not a number; "
        f"{correct}, {advice}"
    )


def _has_commas(text: str) -> bool:
    """Whether a text would be a number without its commas."""
    return "," in text and reads_as_number(text.replace(",", ""))
