import json
import warnings
import zipfile

import keras
import numpy as np
import pandas as pd
import pyarrow
import pytest
from keras import ops

from memae_tf.columns import columns_of
from memae_tf.errors import UserError
from memae_tf.layers import MemoryUnit, RecordFeaturizer
from memae_tf.models import Detector, MemAE, dense, load_detector


def records(num_records: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "bytes": rng.lognormal(5, 2, num_records).astype("float32"),
        "flag": rng.choice(["SF", "S0"], num_records).astype(object),
        "land": rng.integers(2, size=num_records).astype("float32"),
    }


@pytest.fixture(scope="module")
def detector() -> Detector:
    keras.utils.set_random_seed(0)
    featurizer = RecordFeaturizer(["bytes"], ["flag", "land"])
    featurizer.adapt(records(100))
    encoder, decoder = dense(featurizer.num_features, hidden=(8,))
    model = MemAE(encoder, MemoryUnit(6), decoder)
    model.build((None, featurizer.num_features))
    return Detector(featurizer, model, threshold=2.5)


def test_answers_follow_quantization(detector):
    x = records(20, seed=1)
    quantized = keras.models.clone_model(detector)
    quantized.set_weights(detector.get_weights())
    features = ops.convert_to_numpy(detector.featurizer(x))
    before = quantized.score(x)
    # Words are tensors on TensorFlow alone.
    predicts = keras.backend.backend() == "tensorflow"
    if predicts:
        np.testing.assert_array_equal(quantized.predict(x, verbose=0)["score"], before)
    with warnings.catch_warnings():
        # Layers without weights of their own say that they have no such method.
        warnings.simplefilter("ignore")
        quantized.quantize("int8")
    wanted = ops.convert_to_numpy(quantized.score_features(features)["score"])
    assert np.abs(wanted - before).max() > 1e-3
    np.testing.assert_allclose(quantized.score(x), wanted, rtol=1e-5)
    if predicts:
        np.testing.assert_allclose(quantized.predict(x, verbose=0)["score"], wanted, rtol=1e-5)


def test_parts_in_another_order_are_refused(detector):
    for parts in ((detector.model, detector.featurizer), (detector.featurizer, keras.Sequential())):
        with pytest.raises(ValueError, match=r"Detector\(featurizer, model, threshold\)"):
            Detector(*parts, threshold=1.0)
    with pytest.raises(UserError, match="threshold=None: should be a number"):
        Detector(detector.featurizer, detector.model, None)


def test_weights_can_be_loaded_after_scores_were_asked_for(detector, tmp_path):
    x = records(20, seed=1)
    expected = detector.score(x)
    detector.save_weights(tmp_path / "a.weights.h5")
    detector.load_weights(tmp_path / "a.weights.h5")
    np.testing.assert_array_equal(detector.score(x), expected)


def test_score_is_the_model_s_on_the_features(detector):
    x = records(20, seed=1)
    features = ops.convert_to_numpy(detector.featurizer(x))
    answer = detector.detect(x)
    np.testing.assert_allclose(answer["score"], detector.model.score(features), rtol=1e-5)
    np.testing.assert_array_equal(answer["threshold"], np.full(20, 2.5, "float32"))
    np.testing.assert_array_equal(answer["is_anomaly"], answer["score"] > 2.5)
    assert 0 < answer["is_anomaly"].sum() < 20


def test_call_gives_tensors_of_the_same(detector):
    x = records(5)
    answer = {name: ops.convert_to_numpy(value) for name, value in detector(x).items()}
    assert set(answer) == {"score", "is_anomaly", "threshold"}
    assert all(value.shape == (5,) for value in answer.values())
    # Outside a graph operations are not fused: with TensorFlow 2.18 that is the last bit.
    np.testing.assert_array_max_ulp(answer["score"], detector.score(x), maxulp=1)


def test_threshold_of_a_call_replaces_the_own(detector):
    x = records(20, seed=1)
    score = detector.score(x)
    assert detector.detect(x, threshold=1e9)["is_anomaly"].sum() == 0
    with pytest.raises(UserError, match="threshold=nan: should be a number"):
        detector.detect(x, threshold=np.nan)
    with pytest.raises(UserError, match=r"^threshold=\[\[1\. 2\.\] \[1\. 2\.\]\]: should be"):
        detector.detect(x, threshold=np.array([[1.0, 2.0]] * 2))
    # More than a float holds.
    assert detector.detect(x, threshold=10**400)["threshold"][0] == np.inf
    assert detector.detect(x, threshold=-(10**400))["is_anomaly"].all()
    assert detector.detect(x, threshold=detector.threshold)["threshold"][0] == 2.5
    # A score on its threshold is normal.
    assert detector.detect(x, threshold=float(score.max()))["is_anomaly"].sum() == 0
    per_record = {name: ops.convert_to_numpy(v) for name, v in detector(x, score - 1).items()}
    assert per_record["is_anomaly"].all()
    assert detector.detect(x)["threshold"][0] == 2.5


def test_field_errors_add_up_to_the_score(detector):
    answer = detector.detect(records(10), explain=True)
    assert answer["field_error"].shape == (10, 3)
    assert detector.field_names == ["bytes", "flag", "land"]
    np.testing.assert_allclose(answer["field_error"].sum(axis=1), answer["score"], rtol=1e-5)


def test_explanation_points_at_the_odd_field(detector):
    odd = {"bytes": [1e30], "flag": ["SF"], "land": [0]}
    errors = detector.detect(odd, explain=True)["field_error"][0]
    assert detector.field_names[errors.argmax()] == "bytes"


def test_columns_rows_and_frames_are_one(detector):
    x = records(7)
    expected = detector.score(x)
    rows = [{name: column[i] for name, column in x.items()} for i in range(7)]
    np.testing.assert_array_equal(detector.score(rows), expected)
    frame = pd.DataFrame(x).assign(other=1)
    np.testing.assert_array_equal(detector.score(frame), expected)
    as_bytes = {**x, "flag": np.array([word.encode() for word in x["flag"]])}
    np.testing.assert_array_equal(detector.score(as_bytes), expected)
    np.testing.assert_array_equal(detector.score(x, batch_size=3), expected)


def test_missing_unseen_and_infinite_values_score(detector):
    rows = [
        {"bytes": None, "flag": None, "land": None},
        {},
        {"bytes": float("nan"), "flag": "REJ", "land": 9},
        {"bytes": float("inf"), "flag": "", "land": float("-inf")},
    ]
    answer = detector.detect(rows, explain=True)
    assert np.isfinite(answer["score"]).all()
    assert np.isfinite(answer["field_error"]).all()
    assert answer["score"][0] == answer["score"][1]


def test_no_records_give_no_scores(detector):
    x = {name: column[:0] for name, column in records(1).items()}
    assert detector.score(x).shape == (0,)


def test_one_file_holds_everything(detector, tmp_path):
    detector.threshold.assign(1.25)
    detector.save(tmp_path / "detector.keras")
    again = load_detector(tmp_path / "detector.keras")
    x = records(10, seed=3)
    expected, answer = detector.detect(x, explain=True), again.detect(x, explain=True)
    detector.threshold.assign(2.5)
    for name in expected:
        np.testing.assert_array_equal(answer[name], expected[name])
    assert answer["threshold"][0] == 1.25


def test_missing_field_is_named(detector):
    x = records(3)
    del x["flag"]
    with pytest.raises(ValueError, match="lack the field 'flag'"):
        detector.detect(x)


@pytest.mark.parametrize("x", [None, 3, "a,b", ["a"], np.zeros((2, 3))])
def test_what_is_no_record_is_refused(detector, x):
    with pytest.raises(UserError, match=rf"^Records should be .* Received: {type(x).__name__}$"):
        detector.detect(x)


def test_text_in_a_numeric_field_is_named_with_its_record(detector):
    right = {"bytes": 1, "flag": "SF", "land": 0}
    with pytest.raises(ValueError, match=r"'bytes' holds text: 'many' in record 3; it should be a"):
        detector.detect([right, right, {**right, "bytes": "many"}])
    with pytest.raises(UserError, match=r"'bytes' holds a value of type list: \[1\] in record 2"):
        detector.detect(pd.DataFrame([right, {**right, "bytes": [1]}]))


@pytest.mark.parametrize("dtype", ["datetime64[ns]", "datetime64[us]", "timedelta64[ns]"])
def test_times_are_no_numbers(detector, dtype):
    with pytest.raises(UserError, match="'bytes' holds times; it should hold numbers"):
        detector.detect({**records(3), "bytes": np.zeros(3, dtype)})


@pytest.mark.parametrize("text", ["1_000", "\u0661", "0x10"])
def test_what_is_a_number_to_python_alone_is_text(detector, text):
    """As it is in files."""
    with pytest.raises(UserError, match=f"'bytes' holds text: .*{text}"):
        detector.detect([{"bytes": text, "flag": "SF", "land": 0}])


def test_a_word_for_nothing_is_a_missing_number(detector):
    def score(value):
        return detector.detect([{"bytes": value, "flag": "SF", "land": 0}])["score"][0]

    assert score("-") == score("n/a") == score(None) == score(float("nan"))


def test_a_threshold_that_is_assigned_is_saved(detector, tmp_path):
    before = float(detector.threshold.numpy())
    try:
        detector.threshold = 7.5
        assert detector.detect(records(5))["threshold"][0] == 7.5
        detector.save(tmp_path / "detector.keras")
        # The directory of a run will do, too.
        assert float(load_detector(tmp_path).threshold.numpy()) == 7.5
        with pytest.raises(UserError, match="threshold=x: should be a number"):
            detector.threshold = "x"
        assert float(detector.threshold.numpy()) == 7.5
    finally:
        detector.threshold = before


@pytest.mark.parametrize("threshold", ["x", float("nan"), [1.0, 2.0]])
def test_a_threshold_that_is_no_number_is_refused(detector, threshold):
    with pytest.raises(UserError, match="should be a number"):
        detector.detect(records(5), threshold)


def test_tables_that_become_those_of_pandas(detector):
    """Those of pyarrow; polars, which is not installed here, converts its own alike."""
    x = records(5)
    table = pyarrow.table(x)
    for given in (table, table.to_batches()[0]):
        np.testing.assert_array_equal(detector.score(given), detector.score(x))


def test_tables_that_cannot_become_those_of_pandas(detector):
    class DataFrame:
        """As polars has it."""

        def to_pandas(self):
            raise ModuleNotFoundError("pa.Table requires 'pyarrow' module to be installed")

    with pytest.raises(UserError, match="which needs pyarrow; pip install pyarrow"):
        detector.detect(DataFrame())


def test_a_query_without_values_is_refused(detector):
    class LazyFrame:
        """As polars has it."""

    with pytest.raises(UserError, match=r"no values yet; give what its `collect\(\)` returns"):
        detector.detect(LazyFrame())


def test_blanks_around_names_are_no_part_of_them(detector):
    x = records(5)
    blank = {f" {name} ": values for name, values in x.items()}
    np.testing.assert_array_equal(detector.score(blank), detector.score(x))
    rows = [dict(zip(blank, row, strict=True)) for row in zip(*blank.values(), strict=True)]
    np.testing.assert_array_equal(detector.score(rows), detector.score(x))
    # Where there are both, the name itself.
    both = {**x, " bytes ": np.zeros(5)}
    np.testing.assert_array_equal(detector.score(both), detector.score(x))
    # A field may have blanks of its own.
    columns = columns_of({" a": [1.0], "a": [2.0]}, {" a": "float32"})
    assert columns[" a"].tolist() == [1.0]
    assert columns_of([{" a": 1.0}], {" a": "float32"})[" a"].tolist() == [1.0]


def test_file_that_is_no_detector_is_refused(detector, tmp_path):
    with pytest.raises(ValueError, match="there is no such detector"):
        load_detector(tmp_path / "none.keras")
    detector.save(tmp_path / "whole.keras")
    cut = tmp_path / "cut.keras"
    cut.write_bytes((tmp_path / "whole.keras").read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"cut\.keras: is not a detector \(a \.keras file\)"):
        load_detector(cut)
    # As if a later version had written what this one does not know.
    newer = tmp_path / "newer.keras"
    with (
        zipfile.ZipFile(tmp_path / "whole.keras") as whole,
        zipfile.ZipFile(newer, "w") as archive,
    ):
        for name in whole.namelist():
            content = whole.read(name)
            if name == "metadata.json":
                content = json.dumps({**json.loads(content), "keras_version": "99.1.0"})
            elif name == "config.json":
                content = content.replace(b'"num_slots"', b'"number_of_slots"')
            archive.writestr(name, content)
    with pytest.raises(UserError) as caught:
        load_detector(newer)
    assert str(caught.value).endswith(
        f"detector (it was saved by Keras 99.1.0, and this is {keras.__version__})"
    )
    detector.model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="holds a MemAE, not a Detector"):
        load_detector(tmp_path / "model.keras")
