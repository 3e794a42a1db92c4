import json
import keyword

import numpy as np
import pytest
import tensorflow as tf
from exports import assert_batch_major_and_rest_safe, assert_same, export
from small_detectors import hard_traffic, small_detector, traffic_detector

from memae_tf.data import simulated_traffic
from memae_tf.layers import RecordFeaturizer
from memae_tf.serving.export import saved_model, warmup
from memae_tf.serving.export.publication import interface_of
from memae_tf.serving.wire.status import ServingError

BATCHES = [1, 7, 64, 500]
DECISION = {"score", "is_anomaly", "threshold"}
EXPLANATION = {"field_error", "top_fields"}
SLOTS = {"top_slots", "top_weights"}
NO_SCORE = {"reconstruct", "classify", "regress", "describe"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export(traffic_detector(), tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def in_process(exported):
    """The detector as a graph, which TensorFlow optimizes as it does a SavedModel."""
    return tf.function(exported.detector, autograph=False)


def tensors(records):
    return {
        name: tf.constant(column.tolist() if column.dtype == object else column)
        for name, column in records.items()
    }


def examples(records, leave_out=()):
    """The records as serialized tf.Examples."""
    serialized = []
    for i in range(len(next(iter(records.values())))):
        example = tf.train.Example()
        for name, column in records.items():
            if name in leave_out:
                continue
            if column.dtype == object:
                example.features.feature[name].bytes_list.value.append(column[i].encode())
            else:
                example.features.feature[name].float_list.value.append(column[i])
        serialized.append(example.SerializeToString())
    return np.array(serialized, object)


@pytest.mark.parametrize("batch", BATCHES)
def test_answers_are_those_in_process_to_the_last_bit(exported, in_process, batch):
    records = hard_traffic(batch)
    expected = {name: value.numpy() for name, value in in_process(tensors(records)).items()}
    assert np.isfinite(expected["score"]).all()
    assert_same(exported.run("serving_default", records), expected)
    loaded = exported.loaded.signatures["serving_default"]
    assert_same({k: v.numpy() for k, v in loaded(**tensors(records)).items()}, expected)


def test_answers_are_bitwise_those_of_the_detector(exported):
    records = hard_traffic(500)
    expected = exported.detector.detect(records, explain=True)
    answer = exported.run("explain", records)
    for name, value in expected.items():
        np.testing.assert_array_equal(answer[name], value)
    assert 0 < answer["is_anomaly"].sum() < 500
    score = exported.run("serving_default", records)["score"]
    np.testing.assert_array_equal(score, exported.detector.score(records))


@pytest.mark.parametrize("batch", BATCHES)
def test_every_way_in_gives_the_same_scores(exported, batch):
    records = hard_traffic(batch)
    expected = exported.run("serving_default", records)
    features = exported.run("reconstruct", records)["features"]
    serialized = {"inputs": examples(records)}
    assert_same(exported.run("score_encoded", {"features": features}), expected)
    assert_same(exported.run("examples", serialized), expected)
    explanation = exported.run("explain", records)
    assert_same({name: explanation[name] for name in DECISION}, expected)
    assert_same(exported.run("regress", serialized), {"outputs": expected["score"]})
    classes = exported.run("classify", serialized)
    np.testing.assert_array_equal(classes["classes"], [[b"normal", b"anomaly"]] * batch)
    np.testing.assert_array_equal(classes["scores"][:, 0], expected["threshold"])
    np.testing.assert_array_equal(classes["scores"][:, 1], expected["score"])
    # Of two equal scores the first is the larger one: a score on its threshold is normal.
    np.testing.assert_array_equal(classes["scores"].argmax(axis=1), expected["is_anomaly"])


def test_thresholds_of_a_request(exported):
    records = hard_traffic(50)
    own = exported.run("serving_default", records)
    np.testing.assert_array_equal(own["threshold"], np.full(50, 30, "float32"))
    thresholds = own["score"] + np.tile(np.array([-1, 0], "float32"), 25)
    answer = exported.run("score_with_threshold", {**records, "threshold": thresholds})
    np.testing.assert_array_equal(answer["score"], own["score"])
    np.testing.assert_array_equal(answer["threshold"], thresholds)
    np.testing.assert_array_equal(answer["is_anomaly"], np.tile([1, 0], 25))


def test_fields_that_an_example_lacks_are_missing(exported):
    records = hard_traffic(5)
    lacking = ("src_bytes", "service", "land")
    missing = {name: np.full(5, "" if name == "service" else np.nan, object) for name in lacking}
    missing = {k: v if k == "service" else v.astype("float32") for k, v in missing.items()}
    assert_same(
        exported.run("examples", {"inputs": examples(records, leave_out=lacking)}),
        exported.run("serving_default", {**records, **missing}),
    )
    assert np.isfinite(exported.run("examples", {"inputs": np.array([b""], object)})["score"])


def test_reconstruction_is_the_model_s(exported):
    records = hard_traffic(20)
    answer = exported.run("reconstruct", records)
    features = exported.detector.featurizer(tensors(records)).numpy()
    np.testing.assert_array_equal(answer["features"], features)
    expected = exported.detector.model(features).numpy()
    np.testing.assert_allclose(answer["reconstruction"], expected, rtol=1e-4, atol=1e-5)


def test_explanation_names_the_odd_field_and_the_slots(exported):
    records, _ = simulated_traffic.sample(4)
    records["src_bytes"][3] = 3e38
    answer = exported.run("explain", records)
    assert set(answer) == DECISION | EXPLANATION | SLOTS
    fields = exported.detector.field_names
    order = np.argsort(-answer["field_error"], axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(answer["top_fields"].astype(str), np.array(fields)[order])
    assert answer["top_fields"][3, 0] == b"src_bytes"
    features = exported.run("reconstruct", records)["features"]
    addressing = exported.detector.model.addressing(features)
    weights = np.take_along_axis(addressing, answer["top_slots"], axis=1)
    np.testing.assert_allclose(answer["top_weights"], weights, rtol=1e-4)
    np.testing.assert_allclose(weights, -np.sort(-addressing, axis=1)[:, :5], rtol=1e-4)


def test_no_records_give_no_answers(exported):
    records = {name: column[:0] for name, column in hard_traffic(1).items()}
    features = np.zeros((0, exported.detector.featurizer.num_features), "float32")
    serialized = {"inputs": np.array([], object)}
    inputs = {
        "serving_default": records,
        "reconstruct": records,
        "explain": records,
        "score_with_threshold": {**records, "threshold": np.zeros(0, "float32")},
        "score_encoded": {"features": features},
        "examples": serialized,
        "classify": serialized,
        "regress": serialized,
        "describe": serialized,
    }
    assert inputs.keys() == saved_model.signature_definitions(exported.directory).keys()
    for name, empty in inputs.items():
        for values in exported.run(name, empty).values():
            assert len(values) == 0


def test_description_says_what_a_client_must_know(exported):
    (text, again) = exported.run("describe", {"inputs": np.array(["", "any"], object)})[
        "description"
    ]
    assert text == again
    description = json.loads(text)
    assert description == interface_of(exported.detector).description()
    assert description["threshold"] == 30
    assert description["input"]["fields"]["service"] == "string"


def test_multi_inference_gives_class_and_score_at_once(exported, tmp_path):
    pytest.importorskip("tensorflow_serving.apis")
    from multi_inference import assert_classify_and_regress_share_a_run

    records = hard_traffic(50)
    assert_classify_and_regress_share_a_run(exported.directory, tmp_path, examples(records))
    # In Python, which knows no input by its tensor, either is the function that it was.
    serialized = tf.constant(examples(records).tolist())
    expected = exported.run("serving_default", records)
    for name, outputs in {"classify": {"classes", "scores"}, "regress": {"outputs"}}.items():
        answer = exported.loaded.signatures[name](inputs=serialized)
        assert set(answer) == outputs
        score = answer["outputs"] if name == "regress" else answer["scores"][:, 1]
        np.testing.assert_array_equal(score.numpy(), expected["score"])


def test_methods_are_those_that_multi_inference_asks_for(exported):
    methods = {name: d.method_name.split("/")[-1] for name, d in exported.definitions.items()}
    assert methods.pop("classify") == "classify"
    assert methods.pop("regress") == "regress"
    methods.pop("__saved_model_init_op", None)
    assert set(methods.values()) == {"predict"}


def test_every_output_is_batch_major_and_rest_safe(exported):
    definitions = saved_model.signature_definitions(exported.directory)
    assert_batch_major_and_rest_safe(definitions)
    assert len(definitions["serving_default"]["inputs"]) == 41
    assert definitions["classify"]["outputs"]["scores"] == {"dtype": "float32", "shape": [None, 2]}
    assert definitions["regress"]["outputs"]["outputs"] == {"dtype": "float32", "shape": [None]}


def test_saved_model_names_no_path_of_this_machine(exported):
    for path in exported.directory.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"memae_tf/serving" not in content
            assert str(exported.directory).encode() not in content


def test_no_fingerprint_of_another_graph_stays(exported):
    assert (exported.directory / "saved_model.pb").exists()
    assert not (exported.directory / "fingerprint.pb").exists()


def test_warm_up_has_a_request_for_every_signature(exported):
    answers = warmup.replay(exported.directory)
    assert answers.keys() == saved_model.signature_definitions(exported.directory).keys()
    samples = interface_of(exported.detector).raw.samples
    assert_same(answers["serving_default"], exported.run("serving_default", samples))
    assert all(np.isfinite(answers[name]["score"]).all() for name in answers.keys() - NO_SCORE)


def test_warm_up_of_a_signature_that_is_not_there_fails(exported, tmp_path):
    signatures = saved_model.signatures_of(interface_of(exported.detector))
    plain = {"serving_default": signatures["serving_default"]}
    saved_model.save(exported.detector, plain, tmp_path)
    warmup.write(signatures, tmp_path)
    with pytest.raises(ServingError, match='"score_with_threshold" not found'):
        warmup.replay(tmp_path)


# other detectors


def test_autoencoder_without_memory_explains_without_slots(tmp_path):
    exported = export(traffic_detector(memory=False), tmp_path)
    assert set(exported.run("explain", hard_traffic(3))) == DECISION | EXPLANATION


def test_outputs_of_16_bit_models_are_float32(tmp_path):
    exported = export(traffic_detector(dtype="mixed_bfloat16"), tmp_path)
    records = hard_traffic(3)
    for name in ("serving_default", "reconstruct", "explain"):
        for values in exported.run(name, records).values():
            assert values.dtype in (np.float32, np.int64, object)
    score = exported.run("serving_default", records)["score"]
    np.testing.assert_allclose(score, exported.detector.score(records), rtol=0.05)


def test_any_field_name_can_be_sent(tmp_path):
    numeric = ["Flow Duration", "Fwd IAT/s", "Fwd_IAT_s", "threshold", "inputs", "features", "A"]
    text = ["self", "1st", "_x", "ärt", "a:b", "class", "None", "a", "SELF"]
    rng = np.random.default_rng(0)
    records = {name: rng.normal(size=30).astype("float32") for name in numeric}
    records.update({name: rng.choice(["a", "b"], 30).astype(object) for name in text})
    featurizer = RecordFeaturizer(numeric, text)
    featurizer.adapt(records)
    exported = export(small_detector(featurizer, memory=False), tmp_path)
    expected = exported.detector.score(records)
    answer = exported.run("serving_default", records)
    np.testing.assert_allclose(answer["score"], expected, rtol=1e-4)
    own = {**records, "threshold_": np.zeros(30, "float32")}
    np.testing.assert_array_equal(exported.run("score_with_threshold", own)["is_anomaly"], 1)
    answer = exported.run("examples", {"inputs": examples(records)})
    np.testing.assert_allclose(answer["score"], expected, rtol=1e-4)
    warmup.replay(tmp_path)
    # Python allows fewer names.
    arguments = saved_model.argument_names(records)
    loaded = exported.loaded.signatures["serving_default"]
    answer = loaded(**{arguments[name]: value for name, value in tensors(records).items()})
    np.testing.assert_allclose(answer["score"].numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize(("numeric", "text"), [(["x"], []), ([], ["x"])])
def test_one_field_is_enough(tmp_path, numeric, text):
    values = np.array(["a", "b"], object) if text else np.array([1, 2], "float32")
    featurizer = RecordFeaturizer(numeric, text)
    featurizer.adapt({"x": values})
    exported = export(small_detector(featurizer, memory=False), tmp_path)
    assert exported.run("explain", {"x": values})["top_fields"].shape == (2, 1)
    warmup.replay(tmp_path)


def test_samples_have_known_codes_with_all_their_digits():
    featurizer = RecordFeaturizer(["x"], ["code"])
    codes = np.array([1234567, 1234570, 1234570], "float32")
    featurizer.adapt({"x": np.float32([1234567, 1, 2]), "code": codes})
    interface = interface_of(small_detector(featurizer, memory=False))
    samples = interface.raw.samples
    np.testing.assert_array_equal(samples["code"], np.float32([1234567, np.nan]))
    assert interface.example_request()["instances"][0]["code"] == 1234567
    # Numbers of sizes and times are rounded, as before.
    np.testing.assert_array_equal(samples["x"], [np.float32(f"{x:.6g}") for x in samples["x"]])


def test_argument_names_are_names_and_different():
    aliases = ["a b", "a_b", "a/b", "self", "1", "", "_", "ok", "from", "field_from", "match"]
    names = saved_model.argument_names(aliases)
    assert names["ok"] == "ok"
    assert len(set(names.values())) == len(aliases)
    assert all(name.isidentifier() and name != "self" for name in names.values())
    assert not any(keyword.iskeyword(name) for name in names.values())
