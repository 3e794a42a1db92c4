import datetime
import json
import logging
import pickle
import random
import warnings
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pandas as pd
import pyarrow
import pytest
import tensorflow as tf
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import check_estimator

from memae_tf import OutlierDetector, load_detector
from memae_tf.errors import UserError

# What the network computes in float32 depends, in its last digits, on the place in a batch; these
# two ask for seven digits.
ROUNDING = {
    "check_methods_sample_order_invariance": "scores are computed in float32",
    "check_methods_subset_invariance": "scores are computed in float32",
}


def ring(size: int, seed: int = 0) -> np.ndarray:
    """Samples (size, 8) on a curve, slightly off it."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, (size, 1))
    curve = np.hstack([np.sin(angle * k + k) for k in (1, 1, 2, 2)] + [np.cos(angle)] * 4)
    return curve + rng.normal(scale=0.02, size=curve.shape)


def shuffled(x: np.ndarray) -> np.ndarray:
    """The same numbers in each column, of which no two belong together."""
    return np.random.default_rng(1).permuted(x, axis=0)


def small(**arguments) -> OutlierDetector:
    return OutlierDetector(
        **{
            "hidden": [16],
            "num_slots": 20,
            "epochs": 1,
            # One graph of a batch, for all sizes of data here.
            "batch_size": 1000,
            "random_state": 0,
            **arguments,
        }
    )


def table(size: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    protocol = rng.choice(["tcp", "udp"], size)
    return pd.DataFrame(
        {
            "bytes": np.where(protocol == "tcp", 1000, 10) * rng.uniform(0.9, 1.1, size),
            "protocol": protocol,
            "open": rng.choice([True, False], size),
        }
    )


def test_contract_of_scikit_learn():
    results = check_estimator(small(), on_skip=None, expected_failed_checks=ROUNDING)
    assert len(results) > 30


def test_scores_do_not_depend_on_what_is_beside():
    x = ring(200)
    detector = small().fit(x)
    scores = detector.score_samples(x)
    order = np.random.default_rng(0).permutation(len(x))
    np.testing.assert_allclose(detector.score_samples(x[order]), scores[order], rtol=1e-5)
    one_by_one = np.concatenate([detector.score_samples(row[None]) for row in x[:5]])
    np.testing.assert_allclose(one_by_one, scores[:5], rtol=1e-5)


def test_it_learns_what_belongs_together():
    train, normal = ring(1000), ring(300, seed=2)
    detector = small(epochs=100, learning_rate=0.01, batch_size=100, contamination=0.05).fit(train)
    x, y = np.vstack([normal, shuffled(normal)]), np.repeat([0, 1], 300)
    assert roc_auc_score(y, -detector.score_samples(x)) > 0.95
    assert roc_auc_score(y, -small().fit(train).score_samples(x)) < 0.75
    assert (detector.predict(train) == -1).sum() == 50
    assert (detector.predict(normal) == -1).mean() < 0.1
    assert (detector.predict(shuffled(normal)) == -1).mean() > 0.7
    assert len(detector.history_) == 100
    assert detector.history_[-1]["loss"] < detector.history_[0]["loss"] / 3


def test_tables_with_words_and_holes():
    train = table()
    detector = small(epochs=60, learning_rate=0.01, batch_size=50, shrink=0.0).fit(train)
    assert detector.detector_.field_names == ["bytes", "protocol", "open"]
    odd = train.head(4).assign(protocol=["icmp", "tcp", "udp", None], bytes=[1000, np.nan, 10, 10])
    scores = -detector.score_samples(odd)
    assert np.isfinite(scores).all()
    # An unseen word is odder than one that belongs to the number.
    assert scores[0] > scores[2]
    swapped = train.assign(protocol=train["protocol"].map({"tcp": "udp", "udp": "tcp"}))
    y = np.repeat([0, 1], len(train))
    assert roc_auc_score(y, -detector.score_samples(pd.concat([train, swapped]))) > 0.95
    unnamed = train.set_axis(range(3), axis="columns")
    assert small().fit(unnamed).detector_.field_names == ["x0", "x1", "x2"]
    with pytest.raises(ValueError, match="feature names"):
        detector.predict(train.rename(columns={"bytes": "octets"}))
    with pytest.raises(UserError, match="'bytes' holds text"):
        detector.predict(train.astype({"bytes": object}).assign(bytes="many"))
    with pytest.raises(ValueError, match="'bytes' contains infinity"):
        detector.predict(train.assign(bytes=np.inf))


def test_table_of_pyarrow_is_one_of_pandas():
    train = table()
    detector = small().fit(pyarrow.Table.from_pandas(train))
    assert detector.detector_.featurizer.categorical["protocol"] == ["tcp", "udp"]
    np.testing.assert_array_equal(
        detector.score_samples(pyarrow.Table.from_pandas(train)), detector.score_samples(train)
    )


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [("bool", bool), ("boolean", bool), ("bool[pyarrow]", bool), ("Int64", int), (object, int)],
)
def test_a_column_means_the_same_in_whatever_dtype(dtype, kind):
    """With a hole in training, and without one later."""
    values = np.arange(300) % 3 if kind is int else np.arange(300) % 2 == 0
    train = table().assign(more=pd.Series(values, dtype=object).where(np.arange(300) > 5))
    detector = small().fit(train)
    assert ("more" in detector.detector_.featurizer.numeric) == (kind is int)
    scores = detector.score_samples(table().assign(more=pd.Series(values, dtype=object)))
    again = detector.score_samples(table().assign(more=pd.Series(values).astype(dtype)))
    np.testing.assert_array_equal(again, scores)


def test_a_table_of_pyarrow_means_the_same():
    pytest.importorskip("pyarrow")
    train = table().assign(more=pd.Series([*range(299), "-"], dtype=str))
    arrow = train.convert_dtypes(dtype_backend="pyarrow")
    assert all(isinstance(dtype, pd.ArrowDtype) for dtype in arrow.dtypes)
    expected, detector = small().fit(train), small().fit(arrow)
    assert detector.detector_.featurizer.numeric == expected.detector_.featurizer.numeric
    np.testing.assert_array_equal(detector.score_samples(arrow), expected.score_samples(train))
    np.testing.assert_array_equal(expected.score_samples(arrow), expected.score_samples(train))


def test_a_sparse_table_means_the_same():
    train = table().assign(more=[0.0, 0.0, 1.0] * 100)
    sparse = pd.get_dummies(train, columns=["protocol"], sparse=True).assign(
        more=train["more"].astype(pd.SparseDtype("float", 0.0))
    )
    expected = pd.get_dummies(train, columns=["protocol"])
    detector = small().fit(sparse)
    np.testing.assert_array_equal(
        detector.score_samples(sparse), small().fit(expected).score_samples(expected)
    )
    np.testing.assert_array_equal(detector.score_samples(expected), detector.score_samples(sparse))


def test_categories_can_be_declared():
    column = pd.Series(np.arange(300) % 5)
    detector = small().fit(table().assign(port=column.astype("category")))
    assert detector.detector_.featurizer.categorical["port"] == ["0", "1", "2", "3", "4"]
    scores = detector.score_samples(table().assign(port=column))
    np.testing.assert_array_equal(
        detector.score_samples(table().assign(port=column.astype("category"))), scores
    )


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pd.Timestamp("2020-01-01"), "'more' holds times"),
        (pd.period_range("2020", periods=300), "'more' holds times"),
        (pd.NaT, "'more' holds times"),
        ([datetime.date(2020, 1, 1)] * 300, "'more' holds times"),
        ([[1]] * 300, "'more' holds lists"),
        (np.inf, "'more' contains infinity"),
        ([*range(299), "few"], "'more', record 300: 'few' is not a number; .* `category`"),
        ([f"id {i}" for i in range(300)], "^X: too many texts for categories: more"),
    ],
)
def test_tables_that_cannot_be_learned(column, message):
    with pytest.raises(ValueError, match=message):
        small().fit(table().assign(more=column))


def test_numbers_with_units_are_warned_of():
    samples = table().assign(load=["5%", "10%", "12%"] * 100)
    with pytest.warns(UserWarning, match=r"^X: learned as .*: load \('5%'\); .* dtype `category`$"):
        small().fit(samples)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small().fit(samples.astype({"load": "category"}))


def test_words_for_nothing_are_missing_numbers():
    numbers = [*range(299), np.nan]
    words = pd.Series([*range(299), "-"], dtype=object)
    detector = small().fit(table().assign(more=numbers))
    expected = detector.score_samples(table().assign(more=numbers))
    np.testing.assert_array_equal(detector.score_samples(table().assign(more=words)), expected)
    np.testing.assert_array_equal(
        small().fit(table().assign(more=words)).score_samples(table().assign(more=numbers)),
        expected,
    )


def test_tables_of_nothing_or_twice_the_same():
    with pytest.raises(ValueError, match="0 sample"):
        small().fit(table(0))
    with pytest.raises(ValueError, match="0 feature"):
        small().fit(table()[[]])
    twice = table().rename(columns={"open": "bytes"})
    with pytest.raises(ValueError, match=r"must differ\. Received: 'bytes' twice"):
        small().fit(twice)


def test_its_detector_serves_the_same(tmp_path):
    x = ring(200)
    detector = small(contamination=0.1).fit(x)
    detector.detector_.save(tmp_path / "detector.keras")
    records = {f"x{i}": x[:, i] for i in range(8)}
    answer = load_detector(tmp_path / "detector.keras").detect(records, explain=True)
    np.testing.assert_array_equal(answer["score"], -detector.score_samples(x))
    np.testing.assert_array_equal(answer["is_anomaly"] == 1, detector.predict(x) == -1)
    np.testing.assert_allclose(answer["threshold"], -detector.offset_)
    assert answer["field_error"].shape == x.shape
    again = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(again.predict(x), detector.predict(x))


def test_seeds_are_its_own_affair():
    x = ring(100)
    keras.utils.set_random_seed(5)
    drawn = random.random(), np.random.random(), tf.random.normal(()).numpy()
    keras.utils.set_random_seed(5)
    first, same, other = (small(random_state=seed).fit(x).score_samples(x) for seed in (1, 1, 2))
    assert drawn == (random.random(), np.random.random(), tf.random.normal(()).numpy())
    np.testing.assert_array_equal(first, same)
    assert (first != other).all()
    # As scikit-learn has it, another one each time.
    again = [small(random_state=None).fit(x).score_samples(x) for _ in range(2)]
    assert (again[0] != again[1]).all()
    with ThreadPoolExecutor(2) as pool:
        beside = list(pool.map(lambda seed: small(random_state=seed).fit(x), (1, 2)))
    np.testing.assert_array_equal(beside[0].score_samples(x), first)
    np.testing.assert_array_equal(beside[1].score_samples(x), other)


def test_what_is_set_for_others_is_not_for_it(monkeypatch):
    x = ring(100)
    scores = small().fit(x).score_samples(x)
    chief = {"cluster": {"chief": ["localhost:1"]}, "task": {"type": "chief", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(chief))
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        np.testing.assert_array_equal(small().fit(x).score_samples(x), scores)
    finally:
        keras.config.set_dtype_policy("float32")


def test_a_failed_fit_is_none():
    detector = small()
    with pytest.raises(ValueError, match="infinity"):
        detector.fit(np.full((50, 8), np.inf))
    with pytest.raises(NotFittedError):
        detector.predict(ring(50))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": 3.0}, "learned nothing: .*a lower learning_rate than 3"),
        (
            {"scale": 0.01, "shrink": 0, "entropy_weight": 0, "num_slots": 20},
            "collapsed: .*raise sc",
        ),
    ],
)
def test_a_fit_that_is_of_no_use_is_warned_of(arguments, message):
    with pytest.warns(ConvergenceWarning, match=message):
        small(**arguments).fit(ring(100))


def test_searches_over_its_arguments(caplog):
    x = ring(90)
    logging.getLogger("tensorflow").addHandler(caplog.handler)
    search = GridSearchCV(
        small(),
        {"num_slots": np.array([5, 10, 20])},
        scoring=lambda estimator, x, y=None: estimator.score_samples(x).mean(),
        cv=2,
        refit=True,
    ).fit(x)
    memory = search.best_estimator_.detector_.model.memory
    assert memory.num_slots == search.best_params_["num_slots"]
    logging.getLogger("tensorflow").removeHandler(caplog.handler)
    # TensorFlow warns of retracing where many fits trace what is theirs.
    assert not caplog.messages


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"contamination": 0.6}, r"`contamination` must be a number in \(0, 0.5\]. .*=0.6"),
        ({"contamination": "auto"}, "`contamination` must be a number"),
        ({"num_slots": 0}, "`num_slots`: input should be greater than 0. Received: num_slots=0"),
        ({"num_slots": True}, "^`num_slots`: input should be a number. Received: num_slots=True$"),
        ({"shrink": 60}, r"^`shrink` is in units .* Received: shrink=60.0, num_slots=20$"),
        ({"num_slots": 1}, "^`shrink` .* must be less than `num_slots`. Received: .*num_slots=1$"),
        ({"variant": "vae"}, "`variant`: input should be 'ae', 'memae-nonspar' or 'memae'"),
        ({"hidden": 8}, "`hidden`: input should be a valid list. Received: hidden=8"),
        ({"scaling": "robust"}, "`scaling`: input should be 'log', .* Received: scaling='robust'"),
        ({"scale": -1}, "`scale`: input should be 'learned', or .*greater than 0. Received: .*=-1"),
        ({"clip": None}, "`clip`: .* Received: clip=None"),
        ({"learning_rate": 0}, "`learning_rate`: .* Received: learning_rate=0"),
        (
            {"learning_rate": 1e38},
            "diverged: `learning_rate` should be smaller. Received: .*=1e.38",
        ),
    ],
)
def test_arguments_at_fault(arguments, message):
    with pytest.raises(ValueError, match=message):
        small(**arguments).fit(ring(50))


@pytest.mark.parametrize("variant", ["ae", "memae-nonspar"])
def test_without_shrinkage_a_memory_may_have_one_slot(variant):
    small(variant=variant, num_slots=1).fit(ring(50))
