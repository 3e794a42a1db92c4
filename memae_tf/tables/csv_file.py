"""CSV files. pandas reads them wherever it would notice if something is wrong.

It fills up records that are too short, and does not check quotes. So tables that may have short
records are checked a second time; and in batches, lines that are not plain are read by Python's
csv module.
"""

import contextlib
import csv
import io
import warnings
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from memae_tf.columns import NOTHING
from memae_tf.errors import UserError
from memae_tf.tables.files import source_name
from memae_tf.tables.lines import opened
from memae_tf.tables.names import listed, require_columns, require_once, stripped

# Only empty cells are missing, as "NA" and "None" may be categories.
MISSING = ("", "nan", "NaN")
# Options of every `read_csv`.
OPTIONS = {"keep_default_na": False, "na_values": list(MISSING), "skipinitialspace": True}
# In columns of numbers, words for nothing are missing values, too.
NO_NUMBER = sorted(
    {form(word) for word in NOTHING for form in (str.lower, str.upper, str.capitalize)}
    | set(MISSING)
)
# The number of lines that are checked at a time.
LINES = 4096


def table(path: Path) -> pd.DataFrame:
    """Reads a whole file with a header; pandas chooses the dtypes.

    Raises:
        UserError: If a record has more or fewer cells than the header.
    """
    # pandas would rename a repeated column. If records have one cell more than the header, it would
    # take the first column as an index, and all names would be wrong.
    names = _header(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            with opened(path) as text:
                table = pd.read_csv(text, index_col=False, low_memory=False, **OPTIONS)
        except pd.errors.ParserWarning:
            raise UserError(f"{path}: records have more cells than the header has names") from None
        except pd.errors.ParserError:
            # Its message is about C; this one names the record that is too long.
            _require_whole_records(path)
            raise
    # pandas would invent names for columns without one.
    table.columns = names
    # With an empty last cell, pandas may have filled up a short record; a cell of several lines may
    # be several records, up to the next quote.
    if table.iloc[:, -1].isna().any() or _has_cells_of_several_lines(table):
        _require_whole_records(path)
    return table


def _has_cells_of_several_lines(table: pd.DataFrame) -> bool:
    texts = table.select_dtypes(exclude=["number", "bool"])
    return any(cells.astype(str).str.contains("[\r\n]").any() for _, cells in texts.items())


def cells(path: Path, column: str) -> pd.Series:
    """A column as text, with NaN for empty cells."""
    place = _header(path).index(column)
    with opened(path) as text:
        return pd.read_csv(text, usecols=[place], dtype=str, **OPTIONS).iloc[:, 0]


def _header(path: Path) -> list[str]:
    """The names of the columns, unchanged.

    Raises:
        UserError: If the first record has more or fewer cells, as pandas drops a surplus last cell
            that is empty.
    """
    with opened(path) as text:
        lines = _Lines(text)
        names = _names(path, lines)
        for block in _blocks(lines, 1):
            # A block of blank lines has no record.
            if _is_plain(block, len(names)) or _rows(path, block, lines, len(names)):
                break
    return names


def batches(
    path: Path, batch_size: int, dtypes: Mapping[str, str], layout: Sequence[str]
) -> Iterator[pd.DataFrame]:
    """Yields what `read_batches` does, for a CSV file."""
    name = source_name(path)
    with opened(path) as text:
        lines = _Lines(text)
        names = _names(name, lines, dtypes, layout)
        for block in _blocks(lines, batch_size):
            if _is_plain(block, len(names)):
                yield _parsed(block, names, dtypes)
            elif rows := _rows(name, block, lines, len(names)):
                yield pd.DataFrame(rows, columns=names, dtype=object)[list(dtypes)]


def _require_whole_records(path: Path) -> None:
    with opened(path) as text:
        lines = _Lines(text)
        names = _names(path, lines)
        for block in _blocks(lines, LINES):
            if not _is_plain(block, len(names)):
                _rows(path, block, lines, len(names))


class _Lines:
    """Lines of text, with their numbers; an empty one stands for a pause.

    Attributes:
        number: The number of the last line, from 1.
        first: The number of the first line of the record that the last line belongs to.
    """

    def __init__(self, text: Iterable[str]):
        self.number = 0
        self.first = 1
        self._text = iter(text)
        self._given_back: deque[str] = deque()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._given_back.popleft() if self._given_back else next(self._text)
        self.number += bool(line)
        return line

    def give_back(self, taken: Sequence[str]) -> None:
        """Goes back by the last lines, which are `taken`."""
        self.number -= sum(map(bool, taken))
        self._given_back.extendleft(reversed(taken))


def _names(
    name: Path | str, lines: _Lines, wanted: Collection[str] = (), layout: Sequence[str] = ()
) -> list[str]:
    """The names of the columns. Without a header, those of the layout come first."""
    taken = []

    def recorded() -> Iterator[str]:
        for line in lines:
            if line.lstrip().startswith("{"):
                raise UserError(
                    f"{name}: is JSON, but should be CSV or Parquet; pandas converts it: "
                    "json_normalize([*map(json.loads, open(...))]).to_csv(..., index=False)"
                )
            taken.append(line)
            yield line

    with _naming_lines(name, lines):
        first = next((row for row in _records(recorded(), lines) if not _is_blank(row)), None)
    if first is None:
        raise pd.errors.EmptyDataError
    cells = [cell.strip() for cell in first]
    if layout and len(cells) >= len(layout) and not set(cells) & set(layout):
        lines.give_back(taken)
        return [*layout, *(f"column {n + 1}" for n in range(len(layout), len(cells)))]
    names = stripped(name, cells)
    if wanted and not {*map(str.casefold, wanted)} & {*map(str.casefold, names)}:
        # It is most likely a record, which a list of its cells as columns would hide.
        raise UserError(
            f"{name}: the first line ({listed(names, 3)}) names none of the columns that the "
            f"detector takes; it should be a header, with {listed(list(wanted))}"
        )
    require_columns(name, wanted, names)
    require_once(name, [cell for cell in names if cell in wanted])
    return names


def _blocks(lines: _Lines, size: int) -> Iterator[list[str]]:
    """Blocks of `size` lines; a block ends early at a pause."""
    block = []
    for line in lines:
        if line:
            block.append(line)
        if block and (not line or len(block) == size):
            yield block
            block = []
    if block:
        yield block


def _is_plain(block: Sequence[str], num_cells: int) -> bool:
    """Whether every line is a record as long as the header that pandas and csv read alike.

    They may differ about quotes, which may hold commas and line ends, and about `\\r` and NUL.
    """
    text = "".join(block).replace("\r\n", "\n")
    return not any(mark in text for mark in '"\r\0') and all(
        line.count(",") == num_cells - 1 and not line.isspace() for line in block
    )


def _parsed(block: Sequence[str], names: Sequence[str], dtypes: Mapping[str, str]) -> pd.DataFrame:
    """The columns of plain lines that have a dtype."""
    places = {names.index(column): dtype for column, dtype in dtypes.items()}
    missing = {
        place: MISSING if dtype == "string" else NO_NUMBER for place, dtype in places.items()
    }
    table = pd.read_csv(
        io.StringIO("".join(block)),
        header=None,
        usecols=list(places),
        dtype={place: str for place, dtype in places.items() if dtype == "string"},
        low_memory=False,
        **(OPTIONS | {"na_values": missing}),
    )
    return table.rename(columns=dict(enumerate(names)))


def _rows(
    name: Path | str, block: Sequence[str], lines: _Lines, num_cells: int
) -> list[list[str | float]]:
    """The records in the last lines; the last record may extend into the lines that follow.

    Raises:
        UserError: If a record has more or fewer cells than the header, or is not CSV.
    """
    last = lines.number
    lines.give_back(block)
    records = _records(lines, lines)
    rows = []
    with _naming_lines(name, lines):
        while lines.number < last:
            row = next(records)
            if _is_blank(row):
                continue
            if len(row) != num_cells:
                hint = _open_quote(lines) or "; is it cut off, or is a comma not in quotes?"
                if row == ["Summary"]:
                    hint = "; it is nfdump's summary, not a record: delete it and all lines below"
                raise UserError(
                    f"{name}: line {lines.number} has {len(row)} cells, but the header has "
                    f"{num_cells}{hint}"
                )
            rows.append([np.nan if cell in MISSING else cell for cell in row])
    return rows


def _records(text: Iterable[str], lines: _Lines) -> Iterator[list[str]]:
    """The records that Python's csv reads; keeps track of the line in which a record begins."""
    reader = csv.reader(text, skipinitialspace=True, strict=True)
    lines.first = lines.number + 1
    for row in reader:
        yield row
        lines.first = lines.number + 1


@contextlib.contextmanager
def _naming_lines(name: Path | str, lines: _Lines) -> Iterator[None]:
    """Turns errors of a reader into ones that name the line."""
    try:
        yield
    except csv.Error as error:
        if "field limit" in str(error):
            raise UserError(
                f"{name}: line {lines.first} begins a record with a cell of more than "
                f"{csv.field_size_limit():,} characters; is a quote in it not closed?"
            ) from None
        if "unexpected end" in str(error):
            raise UserError(
                f"{name}: line {lines.first} begins a record with a quote that is not closed"
            ) from None
        raise UserError(
            f"{name}: line {lines.number} is not CSV ({error}){_open_quote(lines)}"
        ) from None


def _open_quote(lines: _Lines) -> str:
    """A hint at an open quote, if the record began in an earlier line than that of the error."""
    if lines.first == lines.number:
        return ""
    return f"; is a quote in line {lines.first}, where its record begins, not closed?"


def _is_blank(row: Sequence[str]) -> bool:
    """Whether a row is a blank line or a pause."""
    return not row or (len(row) == 1 and not row[0].strip())
