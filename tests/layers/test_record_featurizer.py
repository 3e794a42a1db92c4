import keras
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from memae_tf.errors import UserError
from memae_tf.layers import RecordFeaturizer

RECORDS = {
    "bytes": np.array([0.0, np.e - 1, np.e - 1, np.e**2 - 1], "float32"),
    "rate": np.array([0.0, 0.5, 0.5, 1.0], "float32"),
    "flag": np.array(["SF", "S0", "SF", "SF"], object),
    "land": np.array([0.0, 1.0, 0.0, 0.0], "float32"),
}


def make(**arguments) -> RecordFeaturizer:
    featurizer = RecordFeaturizer(["bytes", "rate"], ["flag", "land"], **arguments)
    featurizer.adapt(RECORDS)
    return featurizer


def features(featurizer: RecordFeaturizer, **changes) -> np.ndarray:
    records = {name: np.asarray(changes.get(name, RECORDS[name])) for name in RECORDS}
    return ops.convert_to_numpy(featurizer(records))


def test_log_scaling_by_hand():
    # log(1 + bytes) is 0, 1, 1, 2: mean 1, standard deviation sqrt(1/2).
    got = features(make())
    np.testing.assert_allclose(got[:, 0], np.array([-1, 0, 0, 1]) * np.sqrt(2), atol=1e-5)
    np.testing.assert_array_equal(got[:, 2:4], [[0, 1], [1, 0], [0, 1], [0, 1]])  # S0, SF
    np.testing.assert_array_equal(got[:, 4:6], [[1, 0], [0, 1], [1, 0], [1, 0]])  # 0, 1


def test_minmax_and_standard_scaling_by_hand():
    np.testing.assert_allclose(features(make(scaling="minmax"))[:, 1], [0, 0.5, 0.5, 1])
    expected = (RECORDS["rate"] - 0.5) / RECORDS["rate"].std()
    np.testing.assert_allclose(features(make(scaling="standard"))[:, 1], expected, rtol=1e-5)


def test_negative_numbers_are_logged_by_size():
    featurizer = RecordFeaturizer(["x"])
    featurizer.adapt({"x": np.array([-7.0, 7.0])})
    got = ops.convert_to_numpy(featurizer({"x": np.array([-7.0, 0.0, 7.0], "float32")}))
    np.testing.assert_allclose(got[:, 0], [-1, 0, 1], atol=1e-6)


def test_unseen_missing_and_extreme_values():
    featurizer = make(scaling="minmax")
    got = features(
        featurizer,
        bytes=np.array([np.nan, np.inf, -np.inf, 1e30], "float32"),
        flag=np.array(["REJ", "", "SF", "S0"], object),
        land=np.array([7.0, np.nan, 0.0, 1.0], "float32"),
    )
    # The mean feature for a missing number, the clip for what is beyond all bounds.
    values = RECORDS["bytes"] / RECORDS["bytes"].max()
    assert got[0, 0] == pytest.approx(values.mean())
    np.testing.assert_array_equal(got[1:, 0], [10, -10, 10])
    np.testing.assert_array_equal(got[:2, 2:], 0)


def test_missing_number_is_the_mean_of_what_others_give():
    # Mean 10, standard deviation 30: nine features of -1/3, and 3, which is clipped to 1.
    featurizer = RecordFeaturizer(["x"], scaling="standard", clip=1.0)
    featurizer.adapt({"x": np.array([0.0] * 9 + [100.0])})
    got = ops.convert_to_numpy(featurizer({"x": np.array([np.nan], "float32")}))
    np.testing.assert_allclose(got, [[-0.2]], rtol=1e-5)


@pytest.mark.parametrize("scaling", ["log", "standard", "minmax"])
def test_scales_are_those_of_the_finite_numbers(scaling):
    weights = []
    for rest in ([], [np.inf, -np.inf, np.nan]):
        featurizer = RecordFeaturizer(["x"], scaling=scaling)
        featurizer.adapt({"x": np.array([1.0, 2.0, 6.0, *rest])})
        weights.append(featurizer.get_weights())
    np.testing.assert_array_equal(*weights)
    nothing = RecordFeaturizer(["x"], scaling=scaling)
    nothing.adapt({"x": np.array([np.nan, np.inf])})
    assert [float(w[0]) for w in nothing.get_weights()] == [0.0, 1.0, 0.0]


def test_missing_text_in_a_data_frame():
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0], "flag": ["SF", None, np.nan]})
    featurizer = RecordFeaturizer(["x"], ["flag"])
    featurizer.adapt(frame)
    assert featurizer.feature_names == ["x", "flag=", "flag=SF"]
    got = ops.convert_to_numpy(featurizer(frame))
    np.testing.assert_array_equal(got[:, 1:], [[0, 1], [1, 0], [1, 0]])


def test_one_category_is_no_list():
    with pytest.raises(ValueError, match=r"a list of categories .* Received: flag='SF'"):
        RecordFeaturizer(["x"], {"flag": "SF"})


def test_a_field_has_one_value_a_row():
    featurizer = RecordFeaturizer(["x"], ["flag"], scaling="standard")
    flags = np.array([["SF"], ["REJ"]], dtype=object)
    with pytest.raises(ValueError, match=r"'x' must be of shape .* Received: shape=\(2, 2\)"):
        featurizer.adapt({"x": np.ones((2, 2)), "flag": flags})
    featurizer.adapt({"x": np.array([[1.0], [3.0]]), "flag": flags})
    assert featurizer.feature_names == ["x", "flag=REJ", "flag=SF"]
    np.testing.assert_array_equal(featurizer.offset, [2.0])


def test_one_name_is_no_list():
    with pytest.raises(ValueError, match=r"must be lists of names\. Received: numeric='dur'"):
        RecordFeaturizer("dur")


def test_missing_category_seen_in_training_is_a_category():
    featurizer = RecordFeaturizer(categorical=["flag"])
    featurizer.adapt({"flag": np.array(["", "SF"], object)})
    assert featurizer.feature_names == ["flag=", "flag=SF"]
    got = ops.convert_to_numpy(featurizer({"flag": np.array(["", "SF"], object)}))
    np.testing.assert_array_equal(got, np.eye(2))


@settings(max_examples=50, deadline=None)
@given(
    number=st.floats(width=32),
    code=st.floats(width=32),
    flag=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=5),
    scaling=st.sampled_from(["log", "standard", "minmax"]),
)
def test_no_input_gives_nan_or_exceeds_the_clip(number, code, flag, scaling):
    featurizer = make(scaling=scaling, clip=3.0)
    record = {
        "bytes": np.array([number], "float32"),
        "rate": np.array([number], "float32"),
        "flag": np.array([flag], object),
        "land": np.array([code], "float32"),
    }
    got = ops.convert_to_numpy(featurizer(record))
    assert np.isfinite(got).all()
    assert np.abs(got).max() <= 3.0


def test_constant_field_has_scale_one():
    featurizer = RecordFeaturizer(["x"], scaling="standard")
    # But for what sums leave over: they are no variation to warn of.
    featurizer.adapt({"x": np.full(1000, 0.1) + np.resize([0, 1e-17, 2e-17], 1000)})
    got = ops.convert_to_numpy(featurizer({"x": np.array([0.1, 2.1], "float32")}))
    np.testing.assert_allclose(got[:, 0], [0, 2], atol=1e-5)


@pytest.mark.parametrize("scaling", ["log", "standard"])
def test_a_field_that_varies_by_less_than_float32_tells_apart_is_constant(scaling):
    times = 1.7e9 + np.random.default_rng(0).uniform(0, 600, 1000)
    featurizer = RecordFeaturizer(["x"], scaling=scaling)
    with pytest.warns(UserWarning, match="less than float32 can tell count as constant: 'x'"):
        featurizer.adapt({"x": times})
    assert np.abs(featurizer({"x": times.astype("float32")})).max() < 0.3


@pytest.mark.parametrize("unit", [1e-7, 1e-20, 1e20])
@pytest.mark.parametrize("scaling", ["standard", "minmax"])
def test_the_unit_of_a_field_does_not_matter(scaling, unit):
    x = np.random.default_rng(0).normal(size=100)
    features = []
    for numbers in (x, x * unit):
        featurizer = RecordFeaturizer(["x"], scaling=scaling)
        featurizer.adapt({"x": numbers})
        features.append(ops.convert_to_numpy(featurizer({"x": numbers.astype("float32")})))
    np.testing.assert_allclose(*features, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scaling", ["log", "standard", "minmax"])
def test_the_largest_and_smallest_numbers_give_features(scaling):
    for numbers in ([-3e38, 0, 3e38], [-1e300, 0, 1e300], [0, 1e-45, 1e-42]):
        x = np.array(numbers)
        featurizer = RecordFeaturizer(["x"], scaling=scaling)
        featurizer.adapt({"x": x})
        with np.errstate(over="ignore"):
            got = ops.convert_to_numpy(featurizer({"x": x.astype("float32")}))
        assert np.isfinite(got).all()


def test_only_the_most_frequent_categories_are_kept():
    words = np.array(["a"] * 3 + ["b"] + ["c"] * 2, object)
    featurizer = RecordFeaturizer(categorical=["word"], max_categories=2)
    featurizer.adapt({"word": words})
    assert featurizer.categorical["word"] == ["a", "c"]
    got = ops.convert_to_numpy(featurizer({"word": np.array(["b"], object)}))
    np.testing.assert_array_equal(got, [[0, 0]])


def test_of_as_frequent_categories_the_first_in_order_are_kept():
    featurizer = RecordFeaturizer(categorical=["word"], max_categories=2)
    featurizer.adapt({"word": np.array(["c", "b", "a"], object)})
    assert featurizer.categorical["word"] == ["a", "b"]


def test_numbers_that_are_one_in_float32_are_one_category():
    featurizer = RecordFeaturizer(categorical=["code"])
    featurizer.adapt({"code": np.array([0.1, 0.1 + 1e-12, 2.0])})
    assert featurizer.feature_names == ["code=0.1", "code=2"]


@pytest.mark.parametrize("word", ["[UNK]", "(none)", "[MASK]"])
def test_words_that_mean_something_elsewhere_are_categories_like_others(word):
    featurizer = RecordFeaturizer(categorical=["c"])
    featurizer.adapt({"c": np.array([word, "a", word], dtype=object)})
    assert featurizer.feature_names == [f"c={word}", "c=a"]
    found = featurizer({"c": np.array(["a", word, "b"], dtype=object)})
    np.testing.assert_array_equal(found, [[0, 1], [1, 0], [0, 0]])


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT, float("nan")])
def test_missing_values_as_people_have_them(missing):
    featurizer = RecordFeaturizer(numeric=["x"], categorical=["c", "k"])
    featurizer.adapt(
        {
            "x": np.array([1.0, 3.0]),
            "c": np.array(["a", "b"], dtype=object),
            "k": np.array([1.0, 2.0], "float32"),
        }
    )
    expected = featurizer({"x": [np.nan], "c": np.array([""], dtype=object), "k": [np.nan]})
    for records in (
        [{"x": missing, "c": missing, "k": missing}],
        {"x": [missing], "c": [missing], "k": [missing]},
        pd.DataFrame({"x": [missing], "c": [missing], "k": [missing]}, dtype=object),
    ):
        np.testing.assert_array_equal(featurizer(featurizer.as_input(records)), expected)
    frame = pd.DataFrame({"x": [1], "c": ["a"], "k": [True]}).convert_dtypes()
    given = {"x": [1.0], "c": np.array(["a"], dtype=object), "k": [1.0]}
    as_given = featurizer(featurizer.as_input(frame))
    np.testing.assert_array_equal(as_given, featurizer(given))
    text = featurizer.as_input([{"x": 1, "c": "a", "k": "none of the numbers"}])
    assert np.isnan(text["k"]).all()
    # As CSV readers give booleans.
    truth = featurizer.as_input([{"x": "False", "c": "a", "k": "True"}])
    assert (truth["x"][0], truth["k"][0]) == (0.0, 1.0)


def test_one_record_is_no_column():
    with pytest.raises(UserError, match=r"as a list of one dict. Received: shape=\(\)"):
        RecordFeaturizer(numeric=["x"]).as_input({"x": 1.0})


def test_names_and_dtypes():
    featurizer = make()
    assert featurizer.field_names == ["bytes", "rate", "flag", "land"]
    assert featurizer.feature_names == ["bytes", "rate", "flag=S0", "flag=SF", "land=0", "land=1"]
    assert featurizer.num_features == 6
    assert featurizer.input_dtypes() == {
        "bytes": "float32",
        "rate": "float32",
        "flag": "string",
        "land": "float32",
    }


def test_names_of_coded_categories_have_all_their_digits():
    featurizer = RecordFeaturizer(categorical=["c"])
    featurizer.adapt({"c": np.array([0.1, -2.5, 1234567, 1234570, 16777216], "float32")})
    names = ["c=-2.5", "c=0.1", "c=1234567", "c=1234570", "c=16777216"]
    assert featurizer.feature_names == names


def test_field_errors_add_up_per_field():
    errors = np.array([[1, 2, 3, 4, 5, 6]], "float32")
    got = ops.convert_to_numpy(make().field_errors(errors))
    np.testing.assert_array_equal(got, [[1, 2, 7, 11]])


@pytest.mark.parametrize("scaling", ["log", "standard", "minmax"])
def test_inverse_gives_the_records_back(scaling):
    featurizer = make(scaling=scaling)
    records = featurizer.inverse(features(featurizer))
    assert list(records) == featurizer.field_names
    for name, column in RECORDS.items():
        assert records[name].dtype == column.dtype
        if column.dtype == object:
            assert records[name].tolist() == column.tolist()
        else:
            np.testing.assert_allclose(records[name], column, rtol=1e-5, atol=1e-6)


def test_inverse_by_hand():
    # bytes: log(1 + bytes) has mean 1 and standard deviation sqrt(1/2).
    rebuilt = np.array(
        [
            [np.sqrt(2), 0.0, 0.4, 0.9, 0.6, 0.7],
            [-3 * np.sqrt(2), 0.0, 0.5, 0.2, 0.1, -1.0],
        ]
    )
    records = make().inverse(rebuilt)
    np.testing.assert_allclose(records["bytes"], [np.e**2 - 1, -(np.e**2 - 1)], rtol=1e-5)
    assert records["flag"].tolist() == ["SF", "(none)"]
    np.testing.assert_array_equal(records["land"], [1.0, np.nan])


def test_no_category_becomes_zeros_again():
    featurizer = make()
    records = featurizer.inverse(np.zeros((1, 6)))
    np.testing.assert_array_equal(ops.convert_to_numpy(featurizer(records))[0, 2:], 0)


def test_inverse_clips_as_call_does():
    featurizer = make(scaling="minmax", clip=2.0)
    records = featurizer.inverse(np.full((1, 6), 1e30))
    assert records["rate"][0] == pytest.approx(2.0)
    # Beyond float32 it is infinite, and no warning.
    huge = RecordFeaturizer(["x"])
    huge.adapt({"x": np.array([0.0, 3e38])})
    assert huge.inverse(np.full((1, 1), 10.0))["x"][0] == np.inf


def test_inverse_refuses_other_shapes_and_use_before_adapt():
    with pytest.raises(ValueError, match=r"\(batch, 6\).*Received: .*\(2, 5\)"):
        make().inverse(np.zeros((2, 5)))
    with pytest.raises(ValueError, match="before `adapt`"):
        RecordFeaturizer(["bytes"], ["flag"]).inverse(np.zeros((1, 1)))


def test_config_and_weights_restore_it():
    featurizer = make(scaling="minmax", clip=4.0)
    again = RecordFeaturizer.from_config(featurizer.get_config())
    again.set_weights(featurizer.get_weights())
    np.testing.assert_array_equal(features(featurizer), features(again))


def test_config_before_adapt_restores_it():
    config = RecordFeaturizer(["a"], ["b"]).get_config()
    again = RecordFeaturizer.from_config(config)
    assert not again.is_adapted
    assert again.field_names == ["a", "b"]


def test_missing_field_is_named():
    with pytest.raises(ValueError, match=r"lack the field\(s\) \['rate'\]"):
        make()({name: RECORDS[name] for name in ("bytes", "flag", "land")})


def test_use_before_adapt_is_refused():
    with pytest.raises(ValueError, match="before `adapt`"):
        RecordFeaturizer(["bytes"], ["flag"])(RECORDS)
    # It could not say which fields are text.
    with pytest.raises(ValueError, match="before `adapt`"):
        RecordFeaturizer(["bytes"], ["flag"]).as_input(RECORDS)


def test_missing_categories_of_a_data_frame():
    frame = pd.DataFrame({"c": ["a", None, "b", np.nan, 80, 80.0]})
    featurizer = RecordFeaturizer(categorical=["c"])
    featurizer.adapt(frame)
    assert featurizer.feature_names == ["c=", "c=80", "c=a", "c=b"]
    found = ops.convert_to_numpy(featurizer(featurizer.as_input(frame)))
    np.testing.assert_array_equal(found.argmax(axis=1), [2, 0, 3, 0, 1, 1])


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="is about TensorFlow's graphs")
def test_columns_of_unknown_rank():
    """As they come out of a tf.py_function."""
    import tensorflow as tf

    records = {name: RECORDS[name] for name in ("bytes", "rate")}
    featurizer = RecordFeaturizer(list(records))
    featurizer.adapt(records)
    specs = {name: tf.TensorSpec(None, tf.float32) for name in records}
    found = tf.function(featurizer, input_signature=[specs])(records)
    np.testing.assert_allclose(found, featurizer(records), rtol=1e-5)


def test_columns_with_an_axis_of_one():
    """What Keras makes of a field of `keras.Input((1,))`."""
    featurizer = make()
    expected = ops.convert_to_numpy(featurizer(RECORDS))
    columns = {name: values[:, None] for name, values in RECORDS.items()}
    np.testing.assert_array_equal(ops.convert_to_numpy(featurizer(columns)), expected)
    with pytest.raises(ValueError, match=r"'rate' must be of shape \(batch,\) or \(batch, 1\)"):
        featurizer({**RECORDS, "rate": np.zeros((4, 2), "float32")})


def test_no_records_are_refused():
    with pytest.raises(ValueError, match="no records"):
        RecordFeaturizer(["x"]).adapt({"x": np.array([])})


@pytest.mark.parametrize(
    "arguments",
    [
        {"scaling": "robust"},
        {"clip": 0.0},
        {"clip": "10"},
        {"clip": np.inf},
        {"max_categories": 0},
        {"numeric": [], "categorical": []},
        {"numeric": ["a", "a"]},
        {"numeric": ["a"], "categorical": ["a"]},
    ],
)
def test_invalid_arguments_are_named(arguments):
    with pytest.raises(ValueError, match="Received: "):
        RecordFeaturizer(**{"numeric": ["x"], **arguments})
