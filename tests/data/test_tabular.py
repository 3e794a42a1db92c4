import decimal
import gzip
import re
import shlex
import shutil
import warnings
import zipfile

import numpy as np
import pandas as pd
import pytest
import yaml

from memae_tf.columns import columns_of
from memae_tf.config import TabularData, parse_config
from memae_tf.data import tabular
from memae_tf.errors import UserError
from memae_tf.scoring.records import batches
from memae_tf.tables import read_table

FRAME = pd.DataFrame(
    {
        "size": [1.5, 20.0, 3.0, 40.0, 5.0, 60.0],
        "hops": [3, 1, 2, 1, 3, 2],
        "kind": ["tcp", "udp", "tcp", "icmp", "udp", "tcp"],
        "fast": [True, False, True, True, False, True],
    }
)


def write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def write_parquet(path, frame):
    frame.to_parquet(path)
    return path


def load(path, seed=0, **settings):
    return tabular.load(TabularData(name="tabular", train=path, **settings), seed)


def user_error(path, **settings):
    with pytest.raises(UserError) as caught:
        load(path, **settings)
    return str(caught.value)


def assert_says(message, *fragments):
    for fragment in fragments:
        assert str(fragment) in message


def kinds(dataset):
    return {
        "numeric": dataset.featurizer.numeric,
        "categorical": list(dataset.featurizer.categorical),
    }


def size(records):
    (length,) = {len(column) for column in records.values()}
    return length


def features(dataset, records):
    return np.asarray(dataset.featurizer(records))


def feature(dataset, records, name):
    return features(dataset, records)[:, dataset.featurizer.feature_names.index(name)]


def labelled(path, labels, header="x,label"):
    """A file with a column of different numbers and the given labels."""
    return write(path, header, *(f"{i},{label}" for i, label in enumerate(labels)))


# several files


def several(tmp_path):
    """Two days in a folder, the second with its columns in another order."""
    folder = tmp_path / "days"
    folder.mkdir()
    one = write(folder / "1.csv", "size,kind,label", "1,tcp,a", "2,udp,a", "3,7,b")
    two = write(folder / "2.csv", "label,size,kind", "a,4,", "a,5.5,080", "b,6,tcp")
    return folder, one, two


@pytest.mark.parametrize("names", [["1.csv", "2.csv"], ["*.csv"], ["1.csv", "[2-9].csv"]])
def test_several_files_are_one(tmp_path, names):
    folder, *_ = several(tmp_path)
    dataset = load([folder / name for name in names], drop=["label"], categorical=["kind"])
    assert dataset.name == "days"
    assert kinds(dataset) == {"numeric": ["size"], "categorical": ["kind"]}
    np.testing.assert_array_equal(dataset.train["size"], np.float32([1, 2, 3, 4, 5.5, 6]))
    # As they stand in the files, whatever pandas makes of each.
    assert list(dataset.train["kind"]) == ["tcp", "udp", "7", "", "080", "tcp"]


def test_several_files_are_tested_on(tmp_path):
    folder, one, two = several(tmp_path)
    shutil.copy(one, folder / "11.csv")
    given = {"label": "label", "normal": ["a"], "categorical": ["kind"]}
    dataset = load(one, test=[two, folder / "11*"], **given)
    np.testing.assert_array_equal(dataset.labels, [0, 0, 1, 0, 0, 1])
    np.testing.assert_array_equal(dataset.train["size"], [1, 2])
    np.testing.assert_array_equal(dataset.test["size"], np.float32([4, 5.5, 6, 1, 2, 3]))


def test_a_name_with_a_star_is_a_file_if_it_is_there(tmp_path):
    (tmp_path / "ab.csv").write_text("x\n9\n")
    path = write(tmp_path / "a*.csv", "x", "1", "2")
    np.testing.assert_array_equal(load(path).train["x"], [1, 2])


def test_what_is_wrong_in_one_of_several_files_is_named_with_it(tmp_path):
    folder, one, two = several(tmp_path)
    three = write(folder / "3.csv", "kind,size,label", "tcp,1,a", "tcp,x,")
    both, given = [one, two, three], {"categorical": ["kind"]}
    assert_says(user_error(both, **given), three, "column 'size', record 2", "'x' is not a number")
    assert_says(user_error(both, label="label", **given), three, "record 2 has no label")
    assert user_error([one, two], drop=["nothing"]).startswith(f"{one} and 1 more: has no column")
    write(three, "kind,size,label", "tcp,1,a", "tcp,,a")
    assert_says(user_error(both, **given), three, "column 'size', record 2: the number is empty")
    assert user_error([folder / "*.csv", two]).startswith(f"{two}: is named twice")
    assert_says(user_error([folder / "*.txt"]), folder / "*.txt", "no file matches this pattern")
    write(three, "kind,bytes,label", "tcp,1,a")
    assert user_error(both) == (
        f"{three}: has no column 'size', which {one} has; it has kind, bytes, label"
    )
    write(three, "kind,size,label,bytes", "tcp,1,a,")
    assert_says(user_error(both), one, f"has no column 'bytes', which {three} has")
    assert size(load(both, drop=["bytes"], **given).train) == 7


# reading


@pytest.mark.parametrize("name", ["records.csv", "records.csv.gz", "records.parquet"])
def test_csv_compressed_csv_and_parquet_give_the_same_records(tmp_path, name):
    path = tmp_path / name
    if path.suffix == ".parquet":
        FRAME.to_parquet(path)
    else:
        FRAME.to_csv(path, index=False)
    dataset = load(path)
    assert list(dataset.train) == list(FRAME)
    for column in FRAME:
        np.testing.assert_array_equal(dataset.train[column], FRAME[column])
    assert dataset.name == path.stem
    assert not dataset.simulated


def test_blanks_around_names_and_cells_do_not_count(tmp_path):
    path = write(tmp_path / "a.csv", " x , label ", " 1, normal ", " 2,normal", "3, odd", "4,odd")
    dataset = load(path, label="label")
    assert kinds(dataset)["numeric"] == ["x"]
    assert dataset.labels.sum() == 2


def test_words_that_others_read_as_missing_are_categories(tmp_path):
    path = write(tmp_path / "a.csv", "x,kind", "1,NA", "2,None", "3,null", "4,NA")
    assert load(path).featurizer.categorical["kind"] == ["NA", "None", "null"]


# kinds of columns


def test_numbers_are_numeric_and_text_and_booleans_categorical(tmp_path):
    dataset = load(write_parquet(tmp_path / "a.parquet", FRAME))
    assert kinds(dataset) == {"numeric": ["size", "hops"], "categorical": ["kind", "fast"]}
    assert features(dataset, dataset.train).shape == (6, 2 + 3 + 2)


def test_booleans_are_one_hot(tmp_path):
    path = write(tmp_path / "a.csv", "x,up", "1,True", "2,False", "3,True")
    dataset = load(path)
    assert dataset.featurizer.categorical["up"] == [0, 1]
    np.testing.assert_array_equal(feature(dataset, dataset.train, "up=1"), [1, 0, 1])


def test_integer_codes_declared_categorical_are_one_hot(tmp_path):
    path = write(tmp_path / "a.csv", "x,port", "1,443", "2,80", "3,443", "4,22")
    dataset = load(path, categorical=["port"])
    assert kinds(dataset) == {"numeric": ["x"], "categorical": ["port"]}
    assert dataset.featurizer.categorical["port"] == [22, 80, 443]
    np.testing.assert_array_equal(feature(dataset, dataset.train, "port=443"), [1, 0, 1, 0])


def test_codes_too_large_for_float32_stay_apart(tmp_path):
    path = write(tmp_path / "a.csv", "x,id", "1,16777216", "2,16777217", "3,16777216")
    dataset = load(path, categorical=["id"])
    np.testing.assert_array_equal(features(dataset, dataset.train)[:, 1:], [[1, 0], [0, 1], [1, 0]])


def test_booleans_declared_numeric_are_numbers(tmp_path):
    dataset = load(write_parquet(tmp_path / "a.parquet", FRAME), numeric=["fast"])
    assert kinds(dataset)["numeric"] == ["size", "hops", "fast"]
    np.testing.assert_array_equal(dataset.train["fast"], [1, 0, 1, 1, 0, 1])


def test_mostly_text_is_categorical_in_spite_of_a_few_numbers(tmp_path):
    path = write(tmp_path / "a.csv", "x,room", "1,A4", "2,7", "3,B1", "4,A4")
    assert load(path).featurizer.categorical["room"] == ["7", "A4", "B1"]


def test_a_mostly_numeric_column_declared_categorical_is_text(tmp_path):
    path = write(tmp_path / "a.csv", "x,port", "1,80", "2,80", "3,other")
    assert load(path, categorical=["port"]).featurizer.categorical["port"] == ["80", "other"]


def test_dropped_columns_and_the_label_are_no_features(tmp_path):
    path = write_parquet(
        tmp_path / "a.parquet", FRAME.assign(label=["normal"] * 4 + ["odd"] * 2, id=range(6))
    )
    dataset = load(path, label="label", drop=["id", "fast"], test_share=0.25)
    assert kinds(dataset) == {"numeric": ["size", "hops"], "categorical": ["kind"]}
    assert set(dataset.train) == set(dataset.test) == {"size", "hops", "kind"}


def test_booleans_with_an_empty_cell_are_categories(tmp_path):
    dataset = load(write(tmp_path / "a.csv", "x,up", "1,True", "2,", "3,False", "4,True"))
    assert kinds(dataset) == {"numeric": ["x"], "categorical": ["up"]}
    one_hot = features(dataset, dataset.train)[:, 1:]
    np.testing.assert_array_equal(one_hot[0], one_hot[3])
    assert len(np.unique(one_hot, axis=0)) == 3


def test_nullable_booleans_of_parquet_are_categories(tmp_path):
    up = pd.array([True, None, False, True], dtype="boolean")
    path = write_parquet(tmp_path / "a.parquet", pd.DataFrame({"x": [1, 2, 3, 4], "up": up}))
    dataset = load(path)
    assert kinds(dataset) == {"numeric": ["x"], "categorical": ["up"]}
    assert len(np.unique(features(dataset, dataset.train)[:, 1:], axis=0)) == 3


@pytest.mark.parametrize(
    "values",
    [["1", "2.5", "1"], [decimal.Decimal("1"), decimal.Decimal("2.5"), decimal.Decimal("1")]],
    ids=["text", "decimal"],
)
def test_a_parquet_column_of_nothing_but_numbers_is_numeric_however_stored(tmp_path, values):
    path = write_parquet(tmp_path / "a.parquet", pd.DataFrame({"x": [1, 2, 3], "y": values}))
    dataset = load(path)
    assert kinds(dataset)["numeric"] == ["x", "y"]
    np.testing.assert_array_equal(dataset.train["y"], [1, 2.5, 1])


def test_whole_numbers_beyond_64_bits_are_numeric(tmp_path):
    path = write(tmp_path / "a.csv", "x,y", f"1,{10**22}", f"2,{2 * 10**22}", f"3,{10**22}")
    dataset = load(path)
    assert kinds(dataset)["numeric"] == ["x", "y"]
    np.testing.assert_allclose(dataset.train["y"], [1e22, 2e22, 1e22], rtol=1e-6)


@pytest.mark.parametrize("declared", [[], ["at"]], ids=["inferred", "declared"])
@pytest.mark.parametrize("dtype", ["datetime64[us]", "datetime64[ns, UTC]", "timedelta64[ns]"])
def test_times_are_no_numbers(tmp_path, dtype, declared):
    """They are counts of what unit the file has: not the same in the next one."""
    frame = pd.DataFrame({"x": [1, 2, 3], "at": pd.Series([5, 6, 7]).astype(dtype)})
    path = write_parquet(tmp_path / "a.parquet", frame)
    says = "column 'at' holds times, which cannot be learned as they are; leave it out with"
    assert_says(user_error(path, numeric=declared), path, says)
    with pytest.raises(UserError, match=r"a\.parquet: column 'at' holds times; it should hold num"):
        list(batches(path, {"x": "float32", "at": "float32"}, 2))


# labels and splits


@pytest.mark.parametrize("normal", [["BENIGN"], ["benign"], [" Benign "]])
@pytest.mark.parametrize("label", ["BENIGN", "benign", "Benign "])
def test_normal_labels_are_compared_without_case_and_blanks(tmp_path, normal, label):
    path = labelled(tmp_path / "a.csv", [label] * 6 + ["DDoS"] * 3)
    dataset = load(path, label="label", normal=normal)
    assert (size(dataset.train), size(dataset.test), dataset.labels.sum()) == (3, 6, 3)


@pytest.mark.parametrize("normal", [["0"], [0], [False], [0.0]], ids=repr)
@pytest.mark.parametrize(
    ("zero", "one"), [("0", "1"), ("0.0", "1.0"), ("False", "True"), ("0", "DDoS")]
)
def test_zero_and_false_are_one_label(tmp_path, normal, zero, one):
    path = labelled(tmp_path / "a.csv", [zero] * 6 + [one] * 3)
    dataset = load(path, label="label", normal=normal)
    assert (size(dataset.train), size(dataset.test), dataset.labels.sum()) == (3, 6, 3)


@pytest.mark.parametrize("label", ["normal", "benign", "0"])
def test_normal_benign_and_zero_are_normal_unless_said_otherwise(tmp_path, label):
    path = labelled(tmp_path / "a.csv", [label] * 6 + ["7"] * 3)
    assert load(path, label="label").labels.sum() == 3


def test_several_labels_can_be_normal(tmp_path):
    path = labelled(tmp_path / "a.csv", ["web", "mail"] * 4 + ["scan"] * 3)
    dataset = load(path, label="label", normal=["web", "mail"])
    assert (size(dataset.train), dataset.labels.sum()) == (4, 3)


@pytest.mark.parametrize(("share", "num_train"), [(0.25, 30), (0.5, 20), (0.9, 4)])
def test_a_share_of_the_normal_records_and_all_anomalies_are_the_test_set(
    tmp_path, share, num_train
):
    path = labelled(tmp_path / "a.csv", (["normal"] * 4 + ["odd"]) * 10)
    dataset = load(path, label="label", test_share=share)
    assert dataset.protocol == "holdout"
    assert dataset.threshold == "train_quantile"
    assert size(dataset.train) == num_train
    assert size(dataset.test) == len(dataset.labels) == 50 - num_train
    assert dataset.labels.sum() == 10
    np.testing.assert_array_equal(dataset.test["x"] % 5 == 4, dataset.labels == 1)
    everything = np.concatenate([dataset.train["x"], dataset.test["x"]])
    np.testing.assert_array_equal(np.sort(everything), np.arange(50))


@pytest.mark.parametrize(("normal", "share", "num_train"), [(4, 0.1, 3), (2, 0.9, 1)])
def test_of_few_normal_records_some_train_and_some_are_tested(tmp_path, normal, share, num_train):
    path = labelled(tmp_path / "a.csv", ["normal"] * normal + ["odd"] * 3)
    dataset = load(path, label="label", test_share=share)
    assert size(dataset.train) == num_train
    assert (dataset.labels == 0).sum() == normal - num_train
    with pytest.raises(UserError, match="has only one normal record by column 'label'"):
        load(labelled(tmp_path / "b.csv", ["normal", "odd", "odd"]), label="label")


def test_the_seed_decides_which_records_are_held_out(tmp_path):
    path = labelled(tmp_path / "a.csv", (["normal"] * 4 + ["odd"]) * 10)
    first, again, other = (load(path, label="label", seed=seed).train["x"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert set(first) != set(other)


def test_an_own_test_file_is_the_test_set_and_anomalies_do_not_train(tmp_path):
    train = labelled(tmp_path / "train.csv", ["normal", "odd", "normal", "normal"])
    test = write(tmp_path / "test.csv", "more,label,x", "a,odd,7", "b,normal,8", "c,odd,9")
    dataset = load(train, label="label", test=test)
    assert dataset.protocol == "given"
    np.testing.assert_array_equal(dataset.train["x"], [0, 2, 3])
    np.testing.assert_array_equal(dataset.test["x"], [7, 8, 9])
    np.testing.assert_array_equal(dataset.labels, [1, 0, 1])


def test_without_a_label_all_records_train_and_nothing_is_tested(tmp_path):
    dataset = load(write_parquet(tmp_path / "a.parquet", FRAME))
    assert dataset.protocol == "unlabelled"
    assert size(dataset.train) == len(FRAME)
    assert dataset.test is None
    assert dataset.labels is None


def test_the_featurizer_learns_from_the_training_records_alone(tmp_path):
    train = labelled(tmp_path / "train.csv", ["normal", "odd", "normal", "normal"])
    test = write(tmp_path / "test.csv", "x,label", "1000,odd", "2000,normal")
    dataset = load(train, label="label", test=test, scaling="minmax")
    np.testing.assert_allclose(feature(dataset, dataset.train, "x"), [0, 2 / 3, 1], atol=1e-6)


# categories of the test file


def one_hot_of_test(tmp_path, train_codes, test_codes):
    rows = [f"{code},{i},normal" for i, code in enumerate(train_codes)]
    train = write(tmp_path / "train.csv", "code,x,label", *rows)
    rows = [f"{code},{i},{('normal', 'odd')[i % 2]}" for i, code in enumerate(test_codes)]
    test = write(tmp_path / "test.csv", "code,x,label", *rows)
    dataset = load(train, label="label", test=test, categorical=["code"])
    return features(dataset, dataset.test)[:, 1:]


def test_unseen_words_among_the_test_files_text_are_all_zeros(tmp_path):
    one_hot = one_hot_of_test(tmp_path, ["a", "b", "a"], ["b", "c"])
    np.testing.assert_array_equal(one_hot, [[0, 1], [0, 0]])


def test_unseen_words_among_the_test_files_codes_are_all_zeros(tmp_path):
    one_hot = one_hot_of_test(tmp_path, [1, 2, 1], [2, "unknown"])
    np.testing.assert_array_equal(one_hot, [[0, 1], [0, 0]])


def test_a_test_file_with_nothing_but_numbers_has_categories_of_a_text_column(tmp_path):
    one_hot = one_hot_of_test(tmp_path, [80, "other", 80], [443, 80])
    np.testing.assert_array_equal(one_hot, [[0, 0], [1, 0]])


def test_words_in_the_test_file_for_booleans_are_all_zeros(tmp_path):
    one_hot = one_hot_of_test(tmp_path, [True, False, True], ["unknown", "other"])
    np.testing.assert_array_equal(one_hot, np.zeros((2, 2)))
    # And take nothing from the others.
    one_hot = one_hot_of_test(tmp_path, [True, False, True], ["unknown", True, "False", "TRUE"])
    np.testing.assert_array_equal(one_hot, [[0, 0], [0, 1], [1, 0], [0, 1]])


def counted_one_hot(dataset, records):
    start = len(dataset.featurizer.numeric)
    return features(dataset, records)[:, start:].sum(axis=1)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_long_codes_are_the_same_words_in_training_test_and_scoring(tmp_path, name):
    """Whole numbers beyond float32, with an empty cell, of which pandas makes fractions."""
    codes = pd.array([712345678, 2**60 + 1, None, 712345678, 4111111111], dtype="Int64")
    frame = pd.DataFrame({"x": range(5), "code": codes, "label": [0, 0, 0, 0, 1]})
    paths = {}
    for part, rows in {"train": frame[:4], "test": frame}.items():
        paths[part] = tmp_path / f"{part}_{name}"
        to_file = rows.to_csv if paths[part].suffix == ".csv" else rows.to_parquet
        to_file(paths[part], index=False)
    dataset = load(paths["train"], label="label", test=paths["test"], categorical=["code"])
    assert set(dataset.featurizer.categorical["code"]) == {"", "712345678", str(2**60 + 1)}
    np.testing.assert_array_equal(counted_one_hot(dataset, dataset.test), [1, 1, 1, 1, 0])
    fields = dataset.featurizer.input_dtypes()
    for batch_size in (1, 2, 5):
        found = list(batches(paths["test"], fields, batch_size))
        one_hot = np.concatenate([counted_one_hot(dataset, batch) for batch in found])
        np.testing.assert_array_equal(one_hot, [1, 1, 1, 1, 0])
    known = dataset.featurizer.as_input(frame.head(4).assign(code=[712345678.0, np.nan, "", None]))
    np.testing.assert_array_equal(counted_one_hot(dataset, known), 1)


def test_zeros_in_front_of_long_codes_are_kept(tmp_path):
    path = write(tmp_path / "a.csv", "x,code", "1,0123456789", "2,123456789", "3,0123456789")
    dataset = load(path, categorical=["code"])
    assert dataset.featurizer.categorical["code"] == ["0123456789", "123456789"]


# files that cannot be read


def test_a_missing_file_is_named(tmp_path):
    assert_says(user_error(tmp_path / "no.csv"), tmp_path / "no.csv", "there is no such file")


def test_a_folder_is_no_file(tmp_path):
    assert_says(user_error(tmp_path), tmp_path, "is a folder")


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_is_named(tmp_path, content):
    path = tmp_path / "a.csv"
    path.write_text(content)
    assert_says(user_error(path), path, "is empty")


def test_a_header_without_records_is_named(tmp_path):
    assert_says(
        user_error(write(tmp_path / "a.csv", "x,y")), "a.csv", "has a header but no records"
    )


def test_a_column_without_a_name_is_refused(tmp_path):
    """Row numbers as pandas writes them would be a feature."""
    path = tmp_path / "a.csv"
    pd.DataFrame({"a": [1.0, 2.0], "b": ["u", "v"]}).to_csv(path)
    assert_says(user_error(path), path, "column 1 has no name", "index=False")
    path = write(tmp_path / "b.csv", "a,b,", "1,u,", "2,v,")
    assert_says(user_error(path), path, "column 3 has no name")
    # What nobody learns from is no harm.
    (batch,) = batches(path, {"a": "float32"}, 10)
    assert batch["a"].tolist() == [1.0, 2.0]


def test_quotes_behind_blanks_in_the_header(tmp_path):
    path = write(tmp_path / "a.csv", 'a, "b,c", d, e', "1, u, v, 2", "2, u, w, 3", "3, t, v, 4")
    dataset = load(path)
    assert kinds(dataset) == {"numeric": ["a", "e"], "categorical": ["b,c", "d"]}
    assert dataset.train["d"].tolist() == ["v", "w", "v"]


@pytest.mark.parametrize("settings", [{}, {"categorical": ["many"]}])
def test_a_parquet_column_of_lists_is_refused(tmp_path, settings):
    pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    write_parquet(path, pd.DataFrame({"x": [1.0, 2.0], "many": [[1, 2], [3]]}))
    message = user_error(path, **settings)
    assert_says(message, path, "column 'many' holds lists or records", "data.drop=[many]")


def test_a_parquet_file_without_records_is_named(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", FRAME[:0])
    assert_says(user_error(path), path, "no records")


@pytest.mark.parametrize("damage", [lambda c: c[: len(c) // 2], lambda c: b"x" * 99, lambda c: b""])
def test_a_damaged_parquet_file_is_named(tmp_path, damage):
    path = write_parquet(tmp_path / "a.parquet", FRAME)
    path.write_bytes(damage(path.read_bytes()))
    assert_says(user_error(path), path, "is damaged, cut off or of another format")


def compressed_csv():
    rows = "".join(f"{i},{i * 7919 % 1009}\n" for i in range(2000))
    return bytearray(gzip.compress(f"x,y\n{rows}".encode()))


def test_a_cut_off_compressed_file_is_named(tmp_path):
    path = tmp_path / "a.csv.gz"
    content = compressed_csv()
    path.write_bytes(content[: len(content) // 2])
    assert_says(user_error(path), path, "is damaged, cut off or of another format")


def test_a_compressed_file_with_wrong_bytes_inside_is_named(tmp_path):
    path = tmp_path / "a.csv.gz"
    content = compressed_csv()
    content[12:52] = b"\xff" * 40
    path.write_bytes(content)
    assert_says(user_error(path), path, "is damaged, cut off or of another format")


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz", "zip"])
def test_a_file_that_is_not_compressed_as_its_name_says_is_named(tmp_path, suffix):
    path = write(tmp_path / f"a.csv.{suffix}", "x,y", "1,2")
    assert_says(user_error(path), path, "is damaged, cut off or of another format")


def test_a_record_with_too_many_cells_is_named_by_its_line(tmp_path):
    path = write(tmp_path / "a.csv", "x,y", "1,2", "2,3,4", "3,4")
    assert_says(
        user_error(path), path, "line 3 has 3 cells, but the header has 2; is it cut off, or is"
    )


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "csv.bz2", "csv.xz", "csv.zip"])
def test_an_empty_last_cell_is_no_cut_off_record(tmp_path, suffix):
    frame = pd.DataFrame({"text": ['"a\nb"x,y', " b", "c"], "kind": ["u", None, "v"]})
    path = tmp_path / f"a.{suffix}"
    frame.to_csv(path, index=False)
    assert read_table(path)["kind"].isna().tolist() == [False, True, False]


@pytest.mark.parametrize("end", ["", "\n", "\r\n\r\n"])
def test_a_record_that_is_cut_short_is_named_by_its_line(tmp_path, end):
    path = tmp_path / "a.csv"
    path.write_text('text,kind\n"a\nb",u\nb,v\nc' + end, newline="")
    assert_says(user_error(path), path, "line 5 has 1 cells, but the header has 2; is it cut off")


def test_a_quote_that_does_not_end_is_named_by_its_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('x,kind\n1,a\n2,"b\n3,c\n')
    says = f"{path}: line 3 begins a record with a quote that is not closed"
    assert user_error(path) == says
    with pytest.raises(UserError, match=re.escape(says)):
        list(batches(path, {"x": "float32", "kind": "string"}, 2))


def test_a_quote_that_ends_in_a_later_record_swallows_none(tmp_path):
    path = write(tmp_path / "a.csv", "x,kind,z", '1,"a,u', "2,b,u", '3,"c",u', "4,d,u")
    assert_says(user_error(path), path, "line 4 is not CSV", "is a quote in line 2, where")


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_cells_that_are_not_separated_by_commas_are_no_single_column(tmp_path, mark):
    path = write(tmp_path / "a.csv", mark.join("vw"), *(f"{i}{mark}{i}" for i in range(400)))
    assert_says(user_error(path), path, "has one column", "separated by commas", repr(mark))


def test_text_that_hardly_comes_twice_is_no_category(tmp_path):
    rows = [f"{i},key {i % 400}" for i in range(700)]
    path = write(tmp_path / "a.csv", "x,key", *rows)
    message = user_error(path)
    assert_says(message, path, "too many texts for categories: key (400 different texts in 700")
    assert_says(message, "'data.drop=[key]', or declare them in data.categorical")
    assert kinds(load(path, categorical=["key"]))["categorical"] == ["key"]
    assert kinds(load(write(path, "x,key", *rows, *rows)))["categorical"] == ["key"]


def test_all_text_that_hardly_comes_twice_is_named_at_once(tmp_path):
    rows = [f"{i},key {i},10.0.{i % 256}.{i % 7},{i % 9} s,flag {i % 3}" for i in range(700)]
    message = user_error(write(tmp_path / "a.csv", "x,uid,address,took,flag", *rows))
    assert_says(message, "uid (700 different", "address (700 different", "[uid, address]'")
    many = [",".join(f"{i} {n}" for n in range(25)) for i in range(300)]
    message = user_error(write(tmp_path / "b.csv", ",".join(f"c{n}" for n in range(25)), *many))
    assert_says(message, "c19 (300 different texts in 300 records) and 5 more; leave", "c19]'")


def test_all_columns_with_stray_text_are_named_at_once(tmp_path):
    path = write(tmp_path / "a.csv", "x,y,z,v", "1,2,few,4", "5,none at all,7,8", "9,1,2,3")
    message = user_error(path)
    assert_says(message, "column 'y', record 2: 'none at all' is not a number")
    assert message.endswith("; other columns that cannot be learned: z")


def test_records_that_all_have_too_many_cells_are_not_shifted_under_other_names(tmp_path):
    path = write(tmp_path / "a.csv", "x,y", "1,2,9", "2,3,8", "3,4,7")
    assert_says(user_error(path), path)


@pytest.mark.parametrize("header", ["x,x,y", "x,x ,y", "x ,y,x"])
def test_a_column_name_that_occurs_twice_is_refused(tmp_path, header):
    path = write(tmp_path / "a.csv", header, "1,2,3", "4,5,6")
    assert_says(user_error(path), path, "has the column 'x' twice")


def test_a_column_whose_own_name_ends_in_a_number_is_no_repetition(tmp_path):
    path = write(tmp_path / "a.csv", "x,x.1,x.2", "1,2,3", "4,5,6")
    assert kinds(load(path))["numeric"] == ["x", "x.1", "x.2"]


# columns that are not there


def test_a_missing_label_column_is_named_with_the_nearest_one(tmp_path):
    path = labelled(tmp_path / "a.csv", ["normal", "odd"])
    assert_says(
        user_error(path, label="lable"),
        f"{path}: has no label column 'lable'; did you mean 'label'?",
    )


def test_a_missing_label_column_is_named_with_all_columns_where_none_is_near(tmp_path):
    path = labelled(tmp_path / "a.csv", ["normal", "odd"])
    assert_says(user_error(path, label="qqq"), path, "'qqq'; it has x, label")


def test_of_many_columns_some_are_named_and_the_others_counted(tmp_path):
    path = write(tmp_path / "a.csv", ",".join(f"x{n}" for n in range(23)), ",".join("1" * 23))
    assert user_error(path, label="qqq").endswith("'qqq'; it has " + some("x", 20) + " and 3 more")
    other = write(tmp_path / "b.csv", "y,z", "1,2")
    assert user_error([path, other]) == (
        f"{other}: has no column 'x0' (nor {some('x', 21)[4:]} and 2 more), which {path} has; it "
        "has y, z"
    )


def some(name, count):
    return ", ".join(f"{name}{number}" for number in range(count))


@pytest.mark.parametrize("key", ["numeric", "categorical", "drop"])
def test_a_declared_column_that_is_missing_is_named_with_its_key(tmp_path, key):
    path = write(tmp_path / "a.csv", "bytes,kind", "1,a", "2,b")
    assert_says(
        user_error(path, **{key: ["byte"]}),
        f"{path}: has no column 'byte', which data.{key} names; did you mean 'bytes'?",
    )


def test_a_file_of_nothing_but_labels_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", "label", "normal", "odd")
    assert_says(user_error(path, label="label"), path, "no columns to learn")


def test_a_test_file_that_lacks_a_column_is_named(tmp_path):
    train = write(tmp_path / "train.csv", "bytes,hops,label", "1,2,normal", "2,3,normal")
    test = write(tmp_path / "test.csv", "byte,hops,label", "1,2,normal", "2,3,odd")
    assert_says(
        user_error(train, label="label", test=test),
        f"{test}: has no column 'bytes', which {train} has; did you mean 'byte'?",
    )


def test_years_may_be_names_beside_words(tmp_path):
    path = write(tmp_path / "a.csv", "country,2019,2020", "fr,1,2", "de,3,4", "fr,2,5")
    assert set(load(path).featurizer.field_names) == {"country", "2019", "2020"}


def test_a_column_that_is_there_itself_was_not_meant_by_another_name(tmp_path):
    train = write(tmp_path / "train.csv", "flow bytes,TotBytes,label", "1,2,normal", "2,3,normal")
    test = write(tmp_path / "test.csv", "flow bytes,totbytes,label", "1,2,normal", "2,3,odd")
    assert_says(
        user_error(train, label="label", test=test),
        f"{test}: has no column 'TotBytes', which {train} has; did you mean 'totbytes'?",
    )
    write(test, "flow bytes,label", "1,normal", "2,odd")
    assert_says(user_error(train, label="label", test=test), "has; it has flow bytes, label")


def test_a_training_file_is_no_test_file_by_whatever_name(tmp_path):
    labels = ["normal", "normal", "odd"]
    paths = [labelled(tmp_path / f"flows_{name}.csv", labels) for name in "ab"]
    link = tmp_path / "link.csv"
    link.symlink_to(paths[1])
    for train, test in ((tmp_path / "flows_*.csv", paths[1]), (paths[1], link)):
        message = user_error(train, label="label", test=test)
        assert_says(message, f"{test} is in train and in test, but metrics on training records")


def test_a_test_file_without_the_label_column_is_named(tmp_path):
    train = labelled(tmp_path / "train.csv", ["normal"] * 3)
    test = write(tmp_path / "test.csv", "x", "1", "2")
    assert_says(user_error(train, label="label", test=test), f"{test}: has no label column 'label'")


def test_a_test_file_needs_a_label_column_declared(tmp_path):
    train, test = (write(tmp_path / f"{name}.csv", "x", "1", "2") for name in ("train", "test"))
    assert_says(user_error(train, test=test), f"data.test={test}", "data.label")


def test_a_missing_test_file_is_named(tmp_path):
    train = labelled(tmp_path / "train.csv", ["normal"] * 3)
    test = tmp_path / "test.csv"
    assert_says(user_error(train, label="label", test=test), f"{test}: there is no such file")


# cells that are not numbers


def test_text_in_a_column_declared_numeric_is_named_by_record(tmp_path):
    path = write(tmp_path / "a.csv", "x,y", "1,a", "2,b", "3,4")
    assert_says(user_error(path, numeric=["y"]), path, "column 'y', record 1: 'a'", "not a number")


def test_an_empty_cell_is_not_taken_for_the_text_in_a_numeric_column(tmp_path):
    path = write(tmp_path / "a.csv", "x,y", "1,", "2,5", "3,oops")
    assert_says(user_error(path, numeric=["y"]), path, "column 'y', record 3: 'oops'")


@pytest.mark.parametrize("record", [1, 3, 4])
def test_a_stray_word_in_a_mostly_numeric_column_is_named_by_record(tmp_path, record):
    cells = ["5", "6", "7", "8"]
    cells[record - 1] = "oops"
    path = write(tmp_path / "a.csv", "x,y", *(f"{i},{cell}" for i, cell in enumerate(cells)))
    assert_says(
        user_error(path),
        path,
        f"column 'y', record {record}: 'oops' is not a number",
        "data.categorical",
    )


@pytest.mark.parametrize("index", [[10, 11, 12], ["a", "b", "c"]], ids=["numbers", "text"])
def test_records_of_parquet_are_counted_whatever_their_index(tmp_path, index):
    frame = pd.DataFrame({"x": [1, 2, 3], "y": ["1", "2", "oops"]}, index=index)
    path = write_parquet(tmp_path / "a.parquet", frame)
    assert_says(user_error(path), path, "column 'y', record 3: 'oops'")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_an_index_with_a_name_is_a_column(tmp_path, suffix):
    """Of Parquet, as of CSV, where pandas writes it."""
    frame = pd.DataFrame({"x": [1.5, 2, 3], "z": [3, 2, 1]}, index=pd.Index(list("aba"), name="y"))
    path = tmp_path / f"a.{suffix}"
    frame.to_csv(path) if suffix == "csv" else frame.to_parquet(path)
    assert sorted(read_table(path)) == ["x", "y", "z"]
    data = load(path)
    assert kinds(data) == {"numeric": ["x", "z"], "categorical": ["y"]}
    assert data.train["y"].tolist() == ["a", "b", "a"]
    (scored,) = batches(path, {"y": "string", "x": "float32"}, 8)
    assert scored["y"].tolist() == ["a", "b", "a"]
    assert scored["x"].tolist() == [1.5, 2, 3]


def test_a_count_as_index_is_no_column_whatever_its_name(tmp_path):
    """Of one pandas keeps the bounds alone, and scoring would not find it in the file."""
    index = pd.RangeIndex(3, name="id")
    path = tmp_path / "a.parquet"
    write_parquet(path, pd.DataFrame({"x": [1, 2, 3], "y": ["7", "08", "9"]}, index=index))
    assert list(read_table(path)) == ["x", "y"]


def test_a_column_that_parquet_has_twice_is_named(tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = [pa.array([1, 2]), pa.array([3, 4]), pa.array([5, 6])]
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.Table.from_arrays(columns, names=["x", "y", "y"]), path)
    assert_says(user_error(path), path, "has the column 'y' twice; rename or delete one")
    assert list(load(path, drop=["y"]).train) == ["x"]


def test_bytes_that_are_no_text_are_categories(tmp_path):
    """Addresses, in Parquet, and what Python has as bytes."""
    frame = pd.DataFrame({"x": [1.0, 2, 3], "y": [b"\xff\x00", b"tcp", b"\xff\x00"]})
    path = write_parquet(tmp_path / "a.parquet", frame)
    assert load(path).train["y"].tolist() == ["\\xff\x00", "tcp", "\\xff\x00"]
    (scored,) = batches(path, {"y": "string"}, 8)
    assert scored["y"].tolist() == ["\\xff\x00", "tcp", "\\xff\x00"]


@pytest.mark.parametrize("sign", ["", "-"])
def test_whole_numbers_of_more_digits_than_floats_have_are_infinite(tmp_path, sign):
    cell = sign + "9" * 400
    path = write(tmp_path / "a.csv", "x", "1", "2", cell, "4")
    assert_says(user_error(path), path, "column 'x', record 3: the number is infinite")
    (scored,) = batches(path, {"x": "float32"}, 8)
    assert scored["x"].tolist() == [1, 2, float(cell), 4]
    for number in (int(cell), cell, f"{sign}1e400"):
        column = columns_of([{"x": number}], {"x": "float32"})["x"]
        assert column.tolist() == [float(f"{sign}inf")]


@pytest.mark.parametrize("blank", [[], [""], ["  ", ""]])
def test_a_comma_behind_every_record_is_no_cell(tmp_path, blank):
    """pandas would leave it out, and `score` refuse the same file."""
    path = write(tmp_path / "a.csv", "x,y", *blank, "1,2,", "3,4,")
    line = 2 + len(blank)
    assert_says(user_error(path), path, f"line {line} has 3 cells, but the header has 2")


@pytest.mark.parametrize("text", ['{"x": 1, "y": "tcp"}', '{"x":1}', ' {"x": [1, 2]}'])
def test_lines_of_json_are_named_as_such(tmp_path, text):
    path = write(tmp_path / "a.jsonl", text, text)
    message = user_error(path)
    # Objects within, which `read_json` would write as a text each.
    assert_says(message, path, "is JSON, but should be CSV or Parquet; pandas", "json_normalize(")
    with pytest.raises(UserError, match="is JSON"):
        next(batches(path, {"x": "float32"}, 8))


def test_text_in_a_numeric_column_of_the_test_file_is_named_there(tmp_path):
    train = labelled(tmp_path / "train.csv", ["normal"] * 3)
    test = write(tmp_path / "test.csv", "x,label", "1,normal", "oops,odd")
    assert_says(user_error(train, label="label", test=test), test, "column 'x', record 2: 'oops'")


@pytest.mark.parametrize(
    ("cell", "what"),
    [
        ("", "is empty or NaN"),
        ("NaN", "is empty or NaN"),
        ("inf", "infinite"),
        ("-inf", "infinite"),
    ],
)
def test_a_number_that_is_not_finite_is_named_by_record(tmp_path, cell, what):
    path = write(tmp_path / "a.csv", "x,y", "1,5", f"2,{cell}", "3,6", f"4,{cell}")
    assert_says(user_error(path), path, "column 'y', record 2:", what, "data.non_finite=accept")


def test_a_number_that_is_not_finite_in_the_test_file_is_named_there(tmp_path):
    train = labelled(tmp_path / "train.csv", ["normal"] * 3)
    test = write(tmp_path / "test.csv", "x,label", "1,normal", "inf,odd")
    assert_says(user_error(train, label="label", test=test), test, "column 'x', record 2:")


def test_accepted_numbers_that_are_not_finite_become_the_mean_and_the_clip(tmp_path):
    path = write(tmp_path / "a.csv", "x,y", "1,2", "2,", "3,inf", "4,-inf", "5,8", "6,5")
    dataset = load(path, non_finite="accept", scaling="standard", clip=4.0)
    y = feature(dataset, dataset.train, "y")
    np.testing.assert_allclose(y[1:4], [0, 4, -4], atol=1e-6)
    np.testing.assert_allclose(y[[0, 4, 5]], [-1.2247449, 1.2247449, 0], atol=1e-5)


@pytest.mark.parametrize("scaling", ["log", "standard", "minmax"])
def test_accepted_numbers_that_are_not_finite_give_no_nan(tmp_path, scaling):
    train = write(tmp_path / "train.csv", "x,y,label", "1,nan,0", "inf,2,0", "-inf,,0", "4,3,0")
    test = write(tmp_path / "test.csv", "x,y,label", ",inf,0", "nan,-inf,1")
    dataset = load(train, label="label", test=test, non_finite="accept", scaling=scaling)
    for records in (dataset.train, dataset.test):
        assert np.isfinite(features(dataset, records)).all()
        assert np.abs(features(dataset, records)).max() <= 10


def test_a_finite_number_beyond_float32_is_read_without_a_warning(tmp_path):
    path = write(tmp_path / "a.csv", "x,y", "1,2", "2,1e300", "3,-1e300", "4,3")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = load(path)
    y = feature(dataset, dataset.train, "y")
    assert np.abs(y).max() <= 10
    assert (y.argmax(), y.argmin()) == (1, 2)


# records that mean nothing


def test_constant_columns_are_named_with_the_override_that_leaves_them_out(tmp_path):
    path = write(tmp_path / "a.csv", "x,y,id,kind", "1,7,a,k", "2,7,b,k", "3,7,c,k")
    message = user_error(path, drop=["id"])
    assert_says(message, path, "constant", ": y, kind;", "data.drop=[id, y, kind]")
    assert kinds(load(path, drop=["id", "y", "kind"])) == {"numeric": ["x"], "categorical": []}


def test_the_override_that_leaves_odd_names_out_can_be_used(tmp_path):
    names = ["1", "on", "12:30", "dst: port", "Flow #", "a; b", "it's"]
    path = write(tmp_path / "a.csv", ",".join(["x", *names]), "1" + ",7" * 7, "2" + ",7" * 7)
    (override,) = shlex.split(user_error(path).partition("leave them out with ")[2])
    raw = {
        "data": {"name": "tabular", "train": str(path)},
        "model": {"name": "dense", "hidden": [8]},
        "training": {"epochs": 1},
    }
    assert parse_config(raw, [override]).data.drop == names


def test_a_column_that_varies_in_the_anomalies_only_is_constant(tmp_path):
    rows = [f"{i},7,normal" for i in range(6)] + ["7,8,odd"]
    path = write(tmp_path / "a.csv", "x,y,label", *rows)
    assert_says(user_error(path, label="label"), path, "constant in the training records: y")


def test_a_column_without_any_number_is_constant(tmp_path):
    path = write(tmp_path / "a.csv", "x,y", "1,", "2,", "3,")
    assert_says(user_error(path, non_finite="accept"), path, "constant", "y")


@pytest.mark.parametrize(("label", "kind"), [("normal", "normal"), ("odd", "anomalous")])
def test_labels_of_one_class_are_refused(tmp_path, label, kind):
    path = labelled(tmp_path / "a.csv", [label] * 6)
    assert_says(user_error(path, label="label"), path, "column 'label'", f"all records are {kind}")


def test_labels_of_one_class_in_the_test_file_are_refused_there(tmp_path):
    train = labelled(tmp_path / "train.csv", ["normal"] * 3)
    test = labelled(tmp_path / "test.csv", ["odd"] * 3)
    message = user_error(train, label="label", test=test)
    assert_says(message, f"{test}:", "all records are anomalous")


def test_a_training_file_without_a_normal_record_is_refused(tmp_path):
    train = labelled(tmp_path / "train.csv", ["odd"] * 3)
    test = labelled(tmp_path / "test.csv", ["odd", "normal"])
    message = user_error(train, label="label", test=test)
    assert_says(message, f"{train}: all records are anomalous by column 'label'", "are odd)")


@pytest.mark.parametrize(
    ("labels", "advice"),
    [
        (["DDoS", "scan"], "data.normal should list the labels of normal"),
        (["normal"], "to train without one, leave out data.label and data.normal, and the column"),
    ],
)
def test_advice_where_all_labels_are_of_one_kind(tmp_path, labels, advice):
    """Not to train on what may be attacks."""
    message = user_error(labelled(tmp_path / "a.csv", labels * 3), label="label")
    assert_says(message, "records are", advice)
    assert ("to train without one" in message) == (labels == ["normal"])
    train = labelled(tmp_path / "train.csv", ["normal"] * 3)
    message = user_error(train, label="label", test=tmp_path / "a.csv")
    assert_says(message, tmp_path / "a.csv", advice.split(", leave")[0])
    assert "leave data.label" not in message


def test_a_single_normal_record_is_too_few_to_hold_out(tmp_path):
    path = labelled(tmp_path / "a.csv", ["normal"])
    assert_says(user_error(path, label="label"), path)


def test_labels_in_bytes_are_text(tmp_path):
    """As scikit-learn gives those of KDDCUP99."""
    frame = pd.DataFrame({"x": range(6), "label": [b"normal."] * 4 + [b"smurf."] * 2})
    path = write_parquet(tmp_path / "a.parquet", frame)
    assert load(path, label="label", normal=["normal."]).labels.sum() == 2
    message = user_error(path, label="label", normal=["normal"])
    assert_says(message, "data.normal names 'normal'", "did you mean 'normal.'?")
    assert_says(user_error(path, label="label"), "the labels are normal., smurf.)")


def test_labels_of_several_values_are_refused(tmp_path):
    frame = pd.DataFrame({"x": range(3), "label": [["normal"], ["dos", "scan"], []]})
    path = write_parquet(tmp_path / "a.parquet", frame)
    says = "column 'label' holds lists or records, not single values; data.label should name"
    assert_says(user_error(path, label="label"), path, says)


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_a_single_normal_record_is_not_said_to_be_none(tmp_path, share):
    path = labelled(tmp_path / "a.csv", ["normal", "odd", "odd"])
    message = user_error(path, label="label", test_share=share)
    assert_says(message, path)
    assert "all records are anomalous" not in message


@pytest.mark.parametrize(
    ("normal", "typo", "meant"),
    [(["benign", "Trustd"], "Trustd", "trusted"), (["BENING"], "BENING", "benign")],
)
def test_a_mistyped_label_is_named(tmp_path, normal, typo, meant):
    path = labelled(tmp_path / "a.csv", ["benign", "benign", "trusted", "odd"])
    message = user_error(path, label="label", normal=normal)
    assert_says(message, path, f"data.normal names '{typo}'", f"did you mean '{meant}'?")


@pytest.mark.parametrize("normal", [["benign", "class1"], ["benign", "abnormal"], ["benign", "x"]])
def test_labels_that_are_not_there_may_be_named(tmp_path, normal):
    path = labelled(tmp_path / "a.csv", ["benign", "benign", "class2", "normal"])
    assert load(path, label="label", normal=normal).labels.sum() == 2


def test_normal_labels_without_a_label_column_are_refused(tmp_path):
    path = labelled(tmp_path / "a.csv", ["benign", "odd"])
    raw = {"data": {"name": "tabular", "train": str(path), "normal": ["benign"]}}
    rest = {"model": {"name": "dense"}, "training": {"epochs": 1}}
    with pytest.raises(UserError, match=r"data: normal also needs label"):
        parse_config({**raw, **rest})
    again = parse_config({"data": {"name": "tabular", "train": str(path)}, **rest}).to_yaml()
    assert parse_config(yaml.safe_load(again)).to_yaml() == again


@pytest.mark.parametrize("cells", [["nix"] * 8 + ["0.5", "7", "8"], ["0,5", "0,25", "0,5", "1,5"]])
def test_numbers_that_are_written_otherwise_are_no_categories(tmp_path, cells):
    path = tmp_path / "a.csv"
    pd.DataFrame({"x": range(len(cells)), "y": cells}).to_csv(path, index=False)
    assert_says(user_error(path), path, "column 'y', record 1", "is not a number")
    assert load(path, categorical=["y"]).featurizer.field_names == ["x", "y"]


TIMES_OR_UNITS = """
12%|12.5 %|3 ms|0.5s|10 KB|1.5MB|10 MiB|100 Mbps|10 kbit/s|120 B|5 h|2.5 minutes|3,5 ms|1 234
1'234.5|2017-07-05|2017/07/05|5/7/2017|5/7/17|05.07.2017|5/7/2017 8:42|03/07/2017 08:55:58 AM
05-Jul-2017
2017-07-05T08:55:12Z|2017-07-05 08:55:12.123456|2017-07-05 08:55:12 +0200|08:55:12|8:55 PM
05/Jul/2017:08:55:12 +0000|Jul  5 08:55:12|Wed Jul  5 08:55:12 2017|Wed, 05 Jul 2017 08:55:12 GMT
"""
CATEGORIES = """
10.0.0.1|10.0.0.0/8|192.168.1.1:80|10.100.200.123|fe80::1|00:1a:2b:3c:4d:5e|12:34:56:78:9a:bc|443/tcp
HTTP/1.1|TLSv1.2|SSH-2.0|1.2.3|2026.1.3|v1.2|2.4GHz|5G|4K|3D|64bit|802.11b|100BASE-T|10/100/1000|AES256
S0|ftp_data|0x1f|1-2|18-24|1st|555-1234|mon|May|Jul|2x
"""


def words(text):
    return "|".join(text.split("\n")).strip("|").split("|")


@pytest.mark.parametrize("text", words(TIMES_OR_UNITS))
def test_categories_that_look_like_times_or_numbers_with_units_are_warned_of(tmp_path, text):
    path = tmp_path / "a.csv"
    table = pd.DataFrame({"x": range(6), "key": list("abcabc"), "y": [text, "-", "low"] * 2})
    table["z"] = [text, "-", f" {text}"] * 2
    table.to_csv(path, index=False)
    with pytest.warns(UserWarning, match="look like times") as caught:
        load(path, drop=["key"])
    assert [str(warning.message) for warning in caught] == [
        f"{path}: learned as categories, though they look like times or numbers with units: "
        f"y ('{text}'), z ('{text}'); write plain numbers, leave them out with "
        "'data.drop=[key, y, z]', or declare them in data.categorical"
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(path, categorical=["y", "z"])


def test_categories_are_not_warned_of(tmp_path):
    texts = words(CATEGORIES)
    path = tmp_path / "a.csv"
    table = pd.DataFrame({f"c{n}": [text, "no"] for n, text in enumerate(texts)})
    table.assign(x=[1, 2]).to_csv(path, index=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load(path).featurizer.categorical) == len(texts)
    # A few that look so, of many, make no column of measures.
    few = [*texts, *words(TIMES_OR_UNITS)[:5]]
    pd.DataFrame({"x": range(len(few)), "y": few}).to_csv(path, index=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kinds(load(path))["categorical"] == ["y"]


def test_many_numbers_with_a_unit_are_said_to_be_that(tmp_path):
    path = write(tmp_path / "a.csv", "x,rtt", *(f"{i},{i} ms" for i in range(300)))
    assert_says(
        user_error(path),
        "too many texts for categories: rtt (300 different texts in 300 records, times or numbers "
        "with units, such as '0 ms': write plain numbers); leave them out with 'data.drop=[rtt]',",
    )


@pytest.mark.parametrize("nothing", ["-", "NA", "N/A", "null", "None", "?", "(empty)", " "])
def test_words_for_nothing_are_missing_numbers(tmp_path, nothing):
    rows = [f"{i},{0.5 + i % 3},{'dns' if i % 2 else nothing}" for i in range(9)]
    path = write(tmp_path / "a.csv", "x,y,service", *rows, f'9,"{nothing}",dns')
    message = user_error(path)
    assert_says(
        message, path, "column 'y', record 10", f"missing ('{nothing}'", "non_finite=accept"
    )
    dataset = load(path, non_finite="accept")
    assert kinds(dataset) == {"numeric": ["x", "y"], "categorical": ["service"]}
    y = feature(dataset, dataset.train, "y")
    assert y[9] == pytest.approx(y[:9].mean(), abs=1e-6)
    # Of categories it is a word like any other.
    declared = load(path, categorical=["y"]).featurizer.categorical
    assert nothing in declared["y"]
    assert declared["service"] == sorted(["dns", nothing.strip()])


def test_the_most_frequent_categories_are_those_of_the_file_in_its_spelling(tmp_path):
    rows = [f"{i},{word}" for i, word in enumerate(["080", "80", "web", "", "web", "080"])]
    path = write(tmp_path / "a.csv", "x,port", *rows)
    port = load(path, categorical=["port"]).featurizer.categorical["port"]
    assert port == ["", "080", "80", "web"]


def test_a_column_of_words_for_nothing_alone_has_no_numbers(tmp_path):
    path = write(tmp_path / "a.csv", "x,y", "1,-", "2,-", "3,NA")
    assert kinds(load(path)) == {"numeric": ["x"], "categorical": ["y"]}


def test_a_repeated_column_may_be_left_out(tmp_path):
    path = write(tmp_path / "a.csv", "x,y,y,label", "1,2,2,normal", "2,3,3,normal", "3,1,1,odd")
    message = user_error(path, label="label")
    assert_says(message, path, "the column 'y' twice", "leave both out with data.drop")
    assert load(path, label="label", drop=["y"]).featurizer.field_names == ["x"]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["0.25,0.75,tcp", "0.5,0.5,udp"], "the first line looks like a record (0.25, 0.75, tcp"),
        (["-0.1,80,tcp", "0.5,53,udp", "1,80,tcp"], "the first line looks like a record (-0.1, 80"),
        (["0,0,tcp", "1,2,udp"], "the first line should be a header"),
        (["#separator \\x09", "#fields\tts\tuid"], "is a log of Zeek"),
        (["x,y,z", "1,2,a", "2,3,b", "x,y,z", "3,4,a"], "record 3 is the header again; delete"),
        (
            ["x,y,z", "1,2,a", "Summary", "flows,bytes,packets,avg_bps", "1,2,1,8"],
            "line 3 has 1 cells, but the header has 3; it is nfdump's summary, not a record: ",
        ),
    ],
)
def test_lines_that_are_no_records_or_no_header_are_refused(tmp_path, lines, says):
    path = write(tmp_path / "a.csv", *lines)
    message = user_error(path)
    assert_says(message, path, says)
    assert "other columns" not in message


def test_names_that_are_whole_numbers_are_names(tmp_path):
    path = write(tmp_path / "a.csv", "0,1,2", "0.5,1,2", "1,2,3")
    assert load(path).featurizer.field_names == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("x,word\n1,a\n2,caf\u00e9\n".encode("cp1252"), "line 3 is not text in UTF-8"),
        ("x,word\n1,a\n2,b\n".encode("utf-16"), "is UTF-16, but should be text in UTF-8"),
        (gzip.compress(b"x,word\n1,a\n2,b\n"), "is compressed (gzip)"),
        (b"\0\0\0 ftypisom\0\0\2\0\xf1\n" * 20, "is not text; it should be CSV or JSON lines"),
    ],
    ids=["windows", "utf-16", "gzip", "video"],
)
def test_a_file_of_another_encoding_is_said_to_be(tmp_path, content, says):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    assert_says(user_error(path), path, says)


def test_a_workbook_is_said_to_be_one(tmp_path):
    path = tmp_path / "flows.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", "<worksheet/>" * 100)
    assert user_error(path) == f"{path}: is a workbook; save the sheet as CSV, in UTF-8"


@pytest.mark.parametrize("name", ["train", "test"])
def test_a_record_without_a_label_is_named(tmp_path, name):
    files = {
        "train": labelled(tmp_path / "train.csv", ["normal"] * 3),
        "test": labelled(tmp_path / "test.csv", ["normal", "odd", "odd"]),
    }
    labelled(files[name], ["normal", "", ""])
    message = user_error(files["train"], label="label", test=files["test"])
    assert_says(message, f"{files[name]}: record 2 has no label in column 'label'")


def test_row_numbers_are_warned_of(tmp_path):
    def day(name, first=1, step=1):
        lines = [f"{first + step * row},{row % 7 + first}" for row in range(300)]
        return write(tmp_path / name, "id,x", *lines)

    first, second, sparse = day("1.csv"), day("2.csv", 5), day("3.csv", step=2)
    quiet = {"drop": ["id"]}, {"numeric": ["id"]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load([sparse])
        for settings in quiet:
            load([first], **settings)
    for files in [first], [first, second]:
        with pytest.warns(
            UserWarning, match=r"count the records: id; leave .* 'data\.drop=\[id\]'"
        ):
            load(files)


@pytest.mark.parametrize("unit", [1, 1000, 10**9])
def test_unix_times_are_warned_of(tmp_path, unit):
    """All that comes after the training would be odder, the later the more."""
    rng = np.random.default_rng(0)
    times = (1_767_225_600 + rng.uniform(0, 3e6, 300)) * unit
    path = tmp_path / "a.csv"
    table = pd.DataFrame({"ts": times, "size": rng.lognormal(9, 9, 300)})
    table.to_csv(path, index=False)
    with pytest.warns(UserWarning, match=r"though they look like Unix times: ts; leave .*=\[ts\]'"):
        load(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(path, drop=["ts"])
        load(path, numeric=["ts"])
