"""A person's own records: CSV or Parquet files, with a label column or without."""

import difflib
import lzma
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from memae_tf.config import TabularData
from memae_tf.data import splits
from memae_tf.data.dataset import Dataset, Records, take
from memae_tf.errors import UserError
from memae_tf.layers import RecordFeaturizer

# A text column of which this share or more are numbers was meant to be numeric.
MOSTLY_NUMERIC = 0.5
# Above it float32 does not keep all whole numbers apart.
LARGEST_CODE = 2**24
LARGEST_NUMBER = float(np.finfo("float32").max)
DAMAGED = (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)


def load(config: TabularData, seed: int) -> Dataset:
    """Reads the files, infers the kinds of columns, splits and featurizes.

    Columns of numbers are numeric, columns of text and booleans categorical, unless declared.
    With labels, the anomalies and a share of the normal records are the test set, or the `test`
    file is (and anomalies in the `train` file are left out of training). Without labels, all
    records train and nothing is evaluated.

    Raises:
        UserError: If a file or a column is missing, empty, damaged or not what it should be.
    """
    table = read_table(config.train)
    labels = _labels(config, table, config.train)
    columns = _feature_columns(config, table)
    records = _records(config, table, columns, config.train)
    test = test_labels = None
    if config.test is not None:
        protocol = "given"
        train = records if labels is None else take(records, labels == 0)
        test, test_labels = _test_file(config, columns, train)
    elif labels is not None:
        protocol = "holdout"
        if (labels == 0).sum() == 1:
            raise UserError(
                f"{config.train}: has one normal record by column '{config.label}' "
                f"(data.normal={config.normal}); training and test need at least one each"
            )
        train_rows, test_rows = splits.holdout(labels, seed, config.test_share)
        train, test = take(records, train_rows), take(records, test_rows)
        test_labels = labels[test_rows]
    else:
        protocol, train = "unlabelled", records
    _check(config, train, test_labels, columns)
    featurizer = RecordFeaturizer(
        numeric=[name for name, kind in columns.items() if kind == "numeric"],
        categorical=[name for name, kind in columns.items() if kind == "categorical"],
        scaling=config.scaling,
        clip=config.clip,
    )
    featurizer.adapt(train)
    return Dataset(
        name=config.train.stem,
        protocol=protocol,
        simulated=False,
        featurizer=featurizer,
        train=train,
        test=test,
        labels=test_labels,
        threshold="train_quantile",
    )


def read_table(path: Path) -> pd.DataFrame:
    """A CSV file (with a header, also compressed) or a Parquet file as a data frame.

    Raises:
        UserError: If the file is missing, empty, cut off, or neither.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    except UserError:
        raise
    except ImportError:
        raise UserError(f"{path}: reading Parquet needs pyarrow; pip install pyarrow") from None
    except pd.errors.EmptyDataError:
        raise UserError(f"{path}: is empty; it should have a header and records") from None
    except DAMAGED as error:
        # What pandas and pyarrow raise for damaged files; their first line says where.
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: is damaged, cut off or of another format ({reason})") from None
    table = table.reset_index(drop=True)
    table.columns = _names(path, table.columns)
    if len(table) == 0:
        raise UserError(f"{path}: has a header but no records")
    return table


def _read_csv(path: Path) -> pd.DataFrame:
    # pandas would rename a repeated column, and take the first column as an index where records
    # have one cell more than the header, under wrong names from then on.
    header = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False)
    _names(path, header.iloc[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            return pd.read_csv(
                path,
                index_col=False,
                # Only empty cells are missing: "NA" or "None" may well be somebody's category.
                keep_default_na=False,
                na_values=["", "nan", "NaN"],
                skipinitialspace=True,
                low_memory=False,
            )
        except pd.errors.ParserWarning:
            raise UserError(f"{path}: records have more cells than the header has names") from None


def _names(path: Path, columns) -> list[str]:
    """The names of columns without blanks around them.

    Raises:
        UserError: If one stands there twice.
    """
    names = [str(name).strip() for name in columns]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise UserError(f"{path}: has the column '{repeated[0]}' twice; rename or delete one")
    return names


def _labels(config: TabularData, table: pd.DataFrame, path: Path) -> np.ndarray | None:
    """1 for an anomaly, 0 for a normal record; `None` without a label column."""
    if config.label is None:
        return None
    if config.label not in table:
        raise UserError(f"{path}: has no label column '{config.label}'{_near(config.label, table)}")
    column = table[config.label]
    if column.isna().any():
        row = int(np.flatnonzero(column.isna())[0])
        raise UserError(f"{path}: record {row + 1} has no label in column '{config.label}'")
    normal = {_label_text(label) for label in config.normal}
    return np.array([_label_text(value) not in normal for value in column], dtype="int64")


def _label_text(value) -> str:
    """How labels are compared: 0, 0.0, "0" and False are one, case and blanks do not matter."""
    if isinstance(value, (bool, np.bool_)):
        value = int(value)
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    return str(value).strip().lower()


def _feature_columns(config: TabularData, table: pd.DataFrame) -> dict[str, str]:
    """The kind of every column that is a feature: "numeric" or "categorical"."""
    declared = dict.fromkeys(config.numeric, "numeric")
    declared.update(dict.fromkeys(config.categorical, "categorical"))
    both = set(config.numeric) & set(config.categorical)
    if both:
        raise UserError(f"data: column '{min(both)}' is declared numeric and categorical")
    for key in ("numeric", "categorical", "drop"):
        for name in getattr(config, key):
            if name not in table:
                raise UserError(
                    f"{config.train}: has no column '{name}', which data.{key} names"
                    f"{_near(name, table)}"
                )
    left_out = {*config.drop, config.label}
    names = [name for name in table.columns if name not in left_out]
    if not names:
        raise UserError(f"{config.train}: has no columns besides the label and data.drop")
    return {name: declared.get(name) or _infer_kind(config, table[name]) for name in names}


def _infer_kind(config: TabularData, column: pd.Series) -> str:
    """The kind of an undeclared column.

    Raises:
        UserError: If it is text but mostly numbers: a stray word would otherwise turn a numeric
            column into a categorical one, silently.
    """
    types = pd.api.types
    if _is_boolean(column):
        return "categorical"
    if types.is_datetime64_any_dtype(column) or types.is_timedelta64_dtype(column):
        raise UserError(
            f"{config.train}: column '{column.name}' holds times, which are no feature as they "
            f"are; leave it out with data.drop=[{','.join([*config.drop, str(column.name)])}]"
        )
    given = column.dropna()
    numbers = pd.to_numeric(given, errors="coerce")
    if types.is_numeric_dtype(column) or (len(given) and numbers.notna().all()):
        return "numeric"
    if len(given) and numbers.notna().mean() >= MOSTLY_NUMERIC:
        raise _not_a_number(config.train, column, numbers, "or declare it in data.categorical")
    return "categorical"


def _is_boolean(column: pd.Series) -> bool:
    """Whether a column holds booleans and, maybe, empty cells."""
    if pd.api.types.is_bool_dtype(column):
        return True
    given = column.dropna()
    return len(given) > 0 and all(isinstance(value, (bool, np.bool_)) for value in given)


def _not_a_number(path: Path, column: pd.Series, numbers: pd.Series, advice: str) -> UserError:
    row = numbers.index[numbers.isna()][0]
    return UserError(
        f"{path}: column '{column.name}', record {row + 1}: '{column[row]}' is not a number; "
        f"mend it, {advice}"
    )


def _records(
    config: TabularData, table: pd.DataFrame, columns: dict[str, str], path: Path
) -> Records:
    return {name: _column(config, table[name], kind, path) for name, kind in columns.items()}


def _column(config: TabularData, column: pd.Series, kind: str, path: Path) -> np.ndarray:
    """A column as the featurizer takes it: float32, or an object array of str."""
    if kind == "numeric":
        return _numbers(config, column, path)
    if _is_boolean(column):
        return column.astype("boolean").to_numpy(dtype="float32", na_value=np.nan)
    if pd.api.types.is_numeric_dtype(column) and column.abs().max() <= LARGEST_CODE:
        return column.to_numpy(dtype="float32", na_value=np.nan)
    return _text(column)


def _text(column: pd.Series) -> np.ndarray:
    return np.array(["" if pd.isna(value) else str(value) for value in column], dtype=object)


def _numbers(config: TabularData, column: pd.Series, path: Path) -> np.ndarray:
    numbers = pd.to_numeric(column, errors="coerce")
    text = numbers.isna() & column.notna()
    if text.any():
        raise _not_a_number(path, column, numbers.where(~column.isna(), 0), "or leave it empty")
    values = numbers.to_numpy(dtype="float64", na_value=np.nan)
    if config.non_finite == "error" and not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        what = "is empty or NaN" if np.isnan(values[row]) else "is infinite"
        raise UserError(
            f"{path}: column '{column.name}', record {row + 1}: the number {what}; mend it, or "
            "set data.non_finite=accept to read it as the mean, or as the largest feature"
        )
    # What float32 cannot hold is large, not infinite.
    finite = np.clip(values, -LARGEST_NUMBER, LARGEST_NUMBER)
    return np.where(np.isinf(values), values, finite).astype("float32")


def _test_file(
    config: TabularData, columns: dict[str, str], train: Records
) -> tuple[Records, np.ndarray]:
    """The records and labels of the `test` file, its columns of the dtypes of `train`.

    Raises:
        UserError: If it lacks a column of the training file, or no labels are declared.
    """
    table = read_table(config.test)
    for name in columns:
        if name not in table:
            raise UserError(
                f"{config.test}: has no column '{name}', which {config.train} has"
                f"{_near(name, table)}"
            )
    labels = _labels(config, table, config.test)
    if labels is None:
        raise UserError(f"data.test={config.test}: needs data.label, the column with its labels")
    records = _records(config, table, columns, config.test)
    for name, column in records.items():
        # Of categories that are text in one file and numbers in the other, none is a known one.
        if train[name].dtype == object and column.dtype != object:
            records[name] = _text(table[name])
        elif train[name].dtype != object and column.dtype == object:
            numbers = pd.to_numeric(table[name], errors="coerce")
            records[name] = numbers.to_numpy(dtype="float32", na_value=np.nan)
    return records, labels


def _check(
    config: TabularData,
    train: Records,
    test_labels: np.ndarray | None,
    columns: dict[str, str],
) -> None:
    """Refuses what would train but mean nothing.

    Raises:
        UserError: If no normal record trains, the test labels are of one class only, or a column
            is constant.
    """
    if test_labels is not None and len(np.unique(test_labels)) < 2:
        kind = "anomalous" if test_labels[0] else "normal"
        raise UserError(
            f"{config.test or config.train}: by column '{config.label}' all records are {kind} "
            f"(data.normal={config.normal}); an evaluation needs both, training alone no data.label"
        )
    num_records = len(next(iter(train.values())))
    if num_records == 0:
        raise UserError(
            f"{config.train}: no record is normal by column '{config.label}' "
            f"(data.normal={config.normal})"
        )
    constant = [name for name in columns if _is_constant(train[name])]
    if constant and num_records > 1:
        raise UserError(
            f"{config.train}: constant in the training records: {', '.join(constant)}; "
            f"leave out with data.drop=[{','.join([*config.drop, *constant])}]"
        )


def _is_constant(column: np.ndarray) -> bool:
    if column.dtype == object:
        return bool((column == column[0]).all())
    return bool(((column == column[0]) | (np.isnan(column) & np.isnan(column[0]))).all())


def _near(name: str, table: pd.DataFrame) -> str:
    near = difflib.get_close_matches(name, table.columns, 1, 0.6)
    return f"; did you mean '{near[0]}'?" if near else f"; it has {', '.join(table.columns[:20])}"
