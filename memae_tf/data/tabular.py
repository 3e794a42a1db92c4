"""A user's own records: CSV or Parquet files, with or without a label column."""

import difflib
import shlex
import warnings
from collections.abc import Collection

import numpy as np
import pandas as pd
import yaml

from memae_tf.columns import word
from memae_tf.config import TabularData
from memae_tf.data import splits
from memae_tf.data.dataset import Dataset, Records, take
from memae_tf.data.kinds import (
    check_categories,
    infer_kind,
    is_boolean,
    require_no_times,
    require_values,
)
from memae_tf.errors import UserError
from memae_tf.layers import RecordFeaturizer
from memae_tf.tables import (
    Files,
    as_float32,
    as_numbers,
    listed,
    missing_column,
    near,
    not_a_number,
    parsed,
    read_tables,
    read_words,
    stray_text,
)

# How alike two labels must be for one to be a misspelling of the other (1 is equal).
NEARLY = 0.8
# The most labels that a message lists.
MOST_LABELS = 10
# A column of whole numbers has row numbers if there are more records than this number, and it grows
# by 1 in this share of them.
MOST_UNCOUNTED = 256
MOSTLY_COUNTED = 0.99
# Seconds from 2001 to 2033, and the parts of one that times are counted in.
UNIX_TIMES = 1e9, 2e9
UNIX_UNITS = 1, 1e3, 1e6, 1e9
# The largest number up to which float32 tells all whole numbers apart.
LARGEST_CODE = 2**24


def load(config: TabularData, seed: int) -> Dataset:
    """Reads the files, infers the kinds of columns, splits and featurizes.

    Columns of numbers are numeric, columns of text and booleans categorical, unless declared.
    With labels, the anomalies and a share of the normal records are the test set, or the `test`
    file is (and anomalies in the `train` file are left out of training). Without labels, all
    records train and nothing is evaluated.

    Raises:
        UserError: If a file or a column is missing, empty, damaged or not what it should be.
    """
    table, files = read_tables(config.train, config.drop)
    labels = _labels(config, table, files, is_tested=config.test is None)
    columns = _feature_columns(config, table, files)
    records = _records(config, table, columns, files)
    test = test_labels = None
    if config.test is not None:
        protocol = "given"
        train = records if labels is None else take(records, labels == 0)
        test, test_labels = _test_files(config, columns, train, files)
    elif labels is not None:
        protocol = "holdout"
        if (labels == 0).sum() == 1:  # `_labels` has refused 0.
            raise UserError(
                f"{files}: has only one normal record by column '{config.label}' "
                f"(data.normal={config.normal}); training and test need at least one each"
            )
        train_rows, test_rows = splits.holdout(labels, seed, config.test_share)
        train, test = take(records, train_rows), take(records, test_rows)
        test_labels = labels[test_rows]
    else:
        protocol, train = "unlabelled", records
    _require_no_constants(config, train, columns, files)
    featurizer = RecordFeaturizer(
        numeric=[name for name, kind in columns.items() if kind == "numeric"],
        categorical=[name for name, kind in columns.items() if kind == "categorical"],
        scaling=config.scaling,
        clip=config.clip,
    )
    featurizer.adapt(train)
    return Dataset(
        name=files.name,
        protocol=protocol,
        simulated=False,
        featurizer=featurizer,
        train=train,
        test=test,
        labels=test_labels,
        threshold="train_quantile",
    )


def _labels(
    config: TabularData, table: pd.DataFrame, files: Files, is_tested: bool
) -> np.ndarray | None:
    """1 for an anomaly, 0 for a normal record; `None` without a label column.

    Args:
        config: The `data` section.
        table: The records.
        files: The files that they are from, for messages.
        is_tested: Whether there must be anomalies among the records.

    Raises:
        UserError: If the column is missing, or a cell of it empty; if a label in `data.normal` is
            misspelt, or no record is normal; if `is_tested` and none is an anomaly.
    """
    if config.label is None:
        return None
    if config.label not in table:
        raise UserError(
            f"{files}: has no label column '{config.label}'{near(config.label, list(table))}"
        )
    column = table[config.label]
    require_values(column, files, "data.label should name another column")
    if column.isna().any():
        path, record = files.place(int(np.flatnonzero(column.isna())[0]))
        raise UserError(f"{path}: record {record} has no label in column '{config.label}'")
    normal = {_label_text(label) for label in config.normal}
    others = [value for value in column.unique() if _label_text(value) not in normal]
    labels = column.isin(others).to_numpy("int64")
    _require_no_typo(config, column, labels, files)
    if labels.all():
        advice = "data.normal should list the labels of normal records"
        raise _all_of_one_kind(config, column, "anomalous", advice, files)
    if is_tested and not labels.any():
        how = "leave out data.test"
        if config.test is None:
            drop = _drop(config, config.label)
            how = f"leave out data.label and data.normal, and the column with {drop}"
        advice = f"an evaluation needs both kinds; to train without one, {how}"
        raise _all_of_one_kind(config, column, "normal", advice, files)
    return labels


def _all_of_one_kind(
    config: TabularData, column: pd.Series, kind: str, advice: str, files: Files
) -> UserError:
    values = [word(value) for value in column.unique()]
    there = ", ".join(values[:MOST_LABELS]) + (", ..." if len(values) > MOST_LABELS else "")
    return UserError(
        f"{files}: all records are {kind} by column '{config.label}' "
        f"(data.normal={config.normal}, but the labels are {there}); {advice}"
    )


def _require_no_typo(
    config: TabularData, column: pd.Series, labels: np.ndarray, files: Files
) -> None:
    """Checks for a label in `data.normal` that no record has, but that resembles one of anomalies.

    Raises:
        UserError: If there is one, naming both labels.
    """
    if config.normal == TabularData.model_fields["normal"].default:
        return
    normal = {_label_text(value) for value in column[labels == 0].unique()}
    others = {_label_text(value): value for value in column[labels == 1].unique()}
    for label in config.normal:
        text = _label_text(label)
        # Not "class 2" for "class 1", nor "abnormal" for "normal".
        alike = [
            other
            for other in others
            if _digits(other) == _digits(text) and abs(len(other) - len(text)) <= 1
        ]
        close = difflib.get_close_matches(text, alike, 1, NEARLY)
        if close and text not in normal:
            raise UserError(
                f"{files}: data.normal names '{label}', which no record has in column "
                f"'{config.label}'; did you mean '{word(others[close[0]])}'?"
            )


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


def _label_text(value) -> str:
    """A label as text to compare: 0, 0.0, "0" and False are equal; case and blanks are ignored."""
    if isinstance(value, (bool, np.bool_)):
        value = int(value)
    return word(value).strip().lower()


def _feature_columns(config: TabularData, table: pd.DataFrame, files: Files) -> dict[str, str]:
    """The kind of every column that is a feature: "numeric" or "categorical"."""
    declared = dict.fromkeys(config.numeric, "numeric")
    declared.update(dict.fromkeys(config.categorical, "categorical"))
    for key in ("numeric", "categorical", "drop"):
        for name in getattr(config, key):
            if name not in table:
                raise missing_column(files, [name], f"data.{key} names", list(table))
    left_out = {*config.drop, config.label}
    names = [name for name in table.columns if name not in left_out]
    if not names:
        raise UserError(f"{files}: has no columns to learn, only the label and those in data.drop")
    if "" in names:
        raise UserError(
            f"{files}: column {list(table.columns).index('') + 1} has no name; give it one, "
            "or delete it (pandas writes row numbers like this, unless told index=False)"
        )
    for name in set(names) & set(declared):
        require_values(table[name], files, _leave_out(config, name))
    inferred = _inferred_kinds(config, table, [n for n in names if n not in declared], files)
    _check_inferred(config, table, inferred, files)
    return {name: declared.get(name) or inferred[name] for name in names}


def _inferred_kinds(
    config: TabularData, table: pd.DataFrame, names: Collection[str], files: Files
) -> dict[str, str]:
    """The kinds of columns that were not declared; refuses all that cannot be learned at once."""
    kinds, refusals = {}, {}
    for name in names:
        try:
            kinds[name] = infer_kind(
                table[name], files, _leave_out(config, name), "declare it in data.categorical"
            )
        except UserError as refusal:
            refusals[name] = str(refusal)
    if refusals:
        first, *_ = refusals.values()
        # What is said of one column may be true of others, word for word.
        others = [name for name, said in refusals.items() if said != first]
        more = f"; other columns that cannot be learned: {listed(others)}" if others else ""
        raise UserError(f"{first}{more}")
    return kinds


def _check_inferred(
    config: TabularData, table: pd.DataFrame, kinds: dict[str, str], files: Files
) -> None:
    """Refuses, or warns of, columns whose inferred kinds are wrong, or may be."""

    def advise(found: Collection[str]) -> str:
        return f"leave them out with {_drop(config, *found)}, or declare them in data.categorical"

    categorical = [table[name] for name, kind in kinds.items() if kind == "categorical"]
    check_categories(categorical, files, advise)
    numeric = [name for name, kind in kinds.items() if kind == "numeric"]
    for what, is_so in NO_MEASURES.items():
        found = [name for name in numeric if is_so(table[name])]
        if found:
            warnings.warn(
                f"{files}: learned as numbers, though they {what}: {', '.join(found)}; leave them "
                f"out with {_drop(config, *found)}, or declare them in data.numeric",
                stacklevel=5,
            )


def _counts_records(column: pd.Series) -> bool:
    """Whether a column holds row numbers, maybe of several files one after the other."""
    if len(column) <= MOST_UNCOUNTED or not pd.api.types.is_integer_dtype(column):
        return False
    return bool((column.diff() == 1).mean() >= MOSTLY_COUNTED)


def _are_unix_times(column: pd.Series) -> bool:
    """Whether it has seconds since 1970, or thousandths, ..., of which all new ones are larger."""
    if not pd.api.types.is_numeric_dtype(column):
        return False
    (first, last), given = UNIX_TIMES, column.dropna()
    if not any(given.between(first * unit, last * unit).all() for unit in UNIX_UNITS):
        return False
    # Counted last, as that takes a hundred times as long.
    return given.nunique() > MOST_UNCOUNTED


# What columns of numbers do that say nothing of new records.
NO_MEASURES = {"count the records": _counts_records, "look like Unix times": _are_unix_times}


def _records(
    config: TabularData, table: pd.DataFrame, columns: dict[str, str], files: Files
) -> Records:
    return {name: _column(config, table[name], kind, files) for name, kind in columns.items()}


def _column(config: TabularData, column: pd.Series, kind: str, files: Files) -> np.ndarray:
    """A column as the featurizer takes it: float32, or an object array of str."""
    if kind == "numeric":
        return _numbers(config, column, files)
    if is_boolean(column):
        return column.astype("boolean").to_numpy(dtype="float32", na_value=np.nan)
    if pd.api.types.is_numeric_dtype(column) and column.abs().max() <= LARGEST_CODE:
        return column.to_numpy(dtype="float32", na_value=np.nan)
    if pd.api.types.infer_dtype(column, skipna=True) == "string":
        # Text already. Otherwise pandas has parsed numbers, and the file's own text is read again.
        return column.astype(object).where(column.notna(), "").to_numpy()
    return read_words(files, column.name)


def _numbers(config: TabularData, column: pd.Series, files: Files) -> np.ndarray:
    require_no_times(column, files, _leave_out(config, column.name))
    numbers = parsed(column)
    stray = stray_text(column, numbers)
    if stray.any():
        raise not_a_number(files, column, stray, "or leave it empty")
    values = numbers.to_numpy(dtype="float64", na_value=np.nan)
    if config.non_finite == "error" and not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        path, record = files.place(row)
        what, cell = "infinite" if np.isinf(values[row]) else "empty or NaN", column.iloc[row]
        if isinstance(cell, str) and np.isnan(values[row]):
            what = f"missing ('{cell}'; if that is a category, declare it in data.categorical)"
        raise UserError(
            f"{path}: column '{column.name}', record {record}: the number is {what}; correct "
            "it, or set data.non_finite=accept to read missing numbers as the mean and infinite "
            "ones as the largest feature"
        )
    return as_float32(values)


def _test_files(
    config: TabularData, columns: dict[str, str], train: Records, train_files: Files
) -> tuple[Records, np.ndarray]:
    """The records of the `test` files, in columns with the dtypes of `train`, and their labels.

    Raises:
        UserError: If they lack a column of the training files, `data.label` is not given, or one is
            a training file, too.
    """
    table, files = read_tables(config.test, config.drop)
    trained = {path.resolve() for path in train_files.paths}
    for path in files.paths:
        if path.resolve() in trained:
            raise UserError(
                f"data: {path} is in train and in test, but metrics on training records mean "
                "nothing; without test, a part of train is held out (test_share)"
            )
    missing = [name for name in columns if name not in table]
    if missing:
        raise missing_column(files, missing, f"{train_files} has", list(table), columns)
    labels = _labels(config, table, files, is_tested=True)
    if labels is None:
        raise UserError(f"data.test={files}: needs data.label, the column with its labels")
    records = _records(config, table, columns, files)
    for name, column in records.items():
        # Categories that are text in one file and numbers in the other would all be unseen.
        if train[name].dtype == object and column.dtype != object:
            records[name] = read_words(files, name)
        elif train[name].dtype != object and column.dtype == object:
            numbers = as_numbers(table[name])
            records[name] = numbers.to_numpy(dtype="float32", na_value=np.nan)
    return records, labels


def _require_no_constants(
    config: TabularData, train: Records, columns: dict[str, str], files: Files
) -> None:
    """Checks that no column is constant, unless there is one record only.

    Raises:
        UserError: If columns are, naming them.
    """
    num_records = len(next(iter(train.values())))
    constant = [name for name in columns if _is_constant(train[name])]
    if constant and num_records > 1:
        raise UserError(
            f"{files}: constant in the training records: {', '.join(constant)}; "
            f"leave them out with {_drop(config, *constant)}"
        )


def _leave_out(config: TabularData, name: str) -> str:
    """The advice to leave a column out."""
    return f"leave it out with {_drop(config, name)}"


def _drop(config: TabularData, *names: str) -> str:
    """The override that leaves out these columns, too, quoted for a shell."""
    columns = [*config.drop, *map(str, names)]
    # YAML quotes names that would be read as a number or a list.
    text = yaml.safe_dump(columns, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return shlex.quote(f"data.drop={text.strip()}")


def _is_constant(column: np.ndarray) -> bool:
    if column.dtype == object:
        return bool((column == column[0]).all())
    return bool(((column == column[0]) | (np.isnan(column) & np.isnan(column[0]))).all())
