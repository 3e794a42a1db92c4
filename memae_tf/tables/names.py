"""Checks of the names of a table's columns."""

import difflib
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import pandas as pd

from memae_tf.errors import UserError

OTHER_DELIMITERS = ";\t|"
# The most names that a message lists.
MOST_NAMED = 20


def stripped(path: Path | str, columns: Iterable) -> list[str]:
    """The names of columns without blanks around them.

    Raises:
        UserError: If a single name looks like several, or they are the header of a log of Zeek.
    """
    names = [str(name).strip() for name in columns]
    if names and names[0].startswith("#separator"):
        raise UserError(
            f"{path}: is a log of Zeek, with a header of its own; it should be CSV, with the names "
            "of its #fields in the first line"
        )
    found = [mark for mark in OTHER_DELIMITERS if mark in names[0]] if len(names) == 1 else []
    if found:
        raise UserError(
            f"{path}: has one column, {names[0]!r}; cells should be separated by commas, but "
            f"are by {found[0]!r}"
        )
    return names


def require_once(
    path: Path | str, names: Sequence[str], advice: str = "rename or delete one"
) -> None:
    """Checks that no name is there twice.

    Raises:
        UserError: If one is, naming the first.
    """
    # Several columns may have no name, as nobody asks for those.
    repeated = [name for name in names if name and names.count(name) > 1]
    if not repeated:
        return
    if reads_as_number(repeated[0]):
        advice = "the first line should be a header, with the names of the columns"
    raise UserError(f"{path}: has the column '{repeated[0]}' twice; {advice}")


def require_header(path: Path | str, table: pd.DataFrame) -> None:
    """Checks that the first line is a header.

    Raises:
        UserError: If most names are numbers, or some are and another name is a cell of its column.
    """
    names = list(table.columns)
    numbers = [name for name in names if reads_as_number(name)]
    # Counted numbers and years may be names.
    odd = [name for name in numbers if not name.isdecimal()]
    if len(odd) * 2 > len(names) or (numbers and _comes_again(table, numbers)):
        raise UserError(
            f"{path}: the first line looks like a record ({', '.join(names[:3])}, ...); it should "
            "be a header, with the names of the columns"
        )


def _comes_again(table: pd.DataFrame, numbers: Collection[str]) -> bool:
    """Whether a name that is not a number is also a cell of its column, as a category would be."""
    return any(
        (cells == name).any()
        for name, cells in table.items()
        if name not in numbers and not pd.api.types.is_numeric_dtype(cells)
    )


def require_columns(path: Path | str, wanted: Collection[str], names: Sequence[str]) -> None:
    """Checks that a table has the columns of a detector.

    Raises:
        UserError: If columns are missing, naming them.
    """
    missing = [name for name in wanted if name not in names]
    if missing:
        raise missing_column(path, missing, "the detector takes", names, wanted)


def reads_as_number(text: str) -> bool:
    """Whether Python reads a text as a float."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def missing_column(
    path: Path | str,
    columns: Sequence[str],
    needed_by: str,
    names: Sequence[str],
    wanted: Collection[str] = (),
) -> UserError:
    """The error for missing columns.

    Args:
        path: The path of the table.
        columns: The missing columns.
        needed_by: What needs them, and a verb: "the detector takes".
        names: The columns that the table has.
        wanted: Columns that are needed themselves, so that no other name can mean them.
    """
    first, *others = columns
    more = f" (nor {listed(others)})" if others else ""
    return UserError(
        f"{path}: has no column '{first}'{more}, which {needed_by}{near(first, names, wanted)}"
    )


def near(name: str, names: Sequence[str], wanted: Collection[str] = ()) -> str:
    """A hint at the column, other than the wanted ones, that a missing name may mean."""
    free = {other.casefold(): other for other in names if other not in wanted}
    close = difflib.get_close_matches(name.casefold(), free, 1, 0.6)
    return f"; did you mean '{free[close[0]]}'?" if close else f"; it has {listed(names)}"


def listed(names: Sequence[str], most: int = MOST_NAMED) -> str:
    """The first names, joined by commas, and how many more there are."""
    shown, more = ", ".join(names[:most]), len(names) - most
    return f"{shown} and {more} more" if more > 0 else shown
