import json
import sys

import keras
import numpy as np
import pytest
from small_detectors import hard_traffic, traffic_detector

from memae_tf.errors import UserError
from memae_tf.layers import MemoryUnit
from memae_tf.models import MemAE, conv2d, conv3d, dense
from memae_tf.serving.export import onnx

pytest.importorskip("tf2onnx")
onnxruntime = pytest.importorskip("onnxruntime")

NETS = {
    "dense": ((20,), lambda dtype: dense(20, (16,), code=3, dtype=dtype)),
    # A stride that exceeds the kernel, as in the paper's net, on odd sides.
    "conv2d": ((13, 15, 1), lambda dtype: conv2d((13, 15, 1), (4, 8), (1, 3), (2, 2), dtype=dtype)),
    "conv2d thirds": ((13, 16, 2), lambda dtype: conv2d((13, 16, 2), (4,), (1,), (3,))),
    "conv2d positions": ((12, 12, 3), lambda _: conv2d((12, 12, 3), queries="position")),
    "conv2d code": ((12, 12, 3), lambda _: conv2d((12, 12, 3), code=4)),
    "conv3d": ((5, 9, 12, 1), lambda dtype: conv3d((5, 9, 12, 1), (4, 8), dtype=dtype)),
    "conv3d tanh": ((5, 9, 12, 1), lambda dtype: conv3d((5, 9, 12, 1), (4, 8), "tanh", dtype)),
}


def small_memae(net, memory=True, dtype=None):
    keras.utils.set_random_seed(0)
    shape, architecture = NETS[net]
    encoder, decoder = architecture(dtype)
    memory = MemoryUnit(20, shrink=1.0, dtype=dtype) if memory else None
    model = MemAE(encoder, memory, decoder, dtype=dtype)
    model.build((None, *shape))
    # BatchNorm with statistics of its own.
    weights = model.get_weights()
    rng = np.random.default_rng(0)
    model.set_weights([w + rng.uniform(0, 0.1, w.shape) for w in weights])
    return model


def inputs_of(net, number):
    shape, _ = NETS[net]
    return np.random.default_rng(1).normal(size=(number, *shape)).astype("float32")


def run(proto, features):
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(["score", "reconstruction"], {"features": features})


@pytest.mark.parametrize("net", NETS)
def test_every_architecture_gives_the_same_answers(net):
    model = small_memae(net)
    proto = onnx.memae_to_onnx(model, inputs_of(net, 2))
    for number in (1, 5):
        features = inputs_of(net, number)
        score, reconstruction = run(proto, features)
        np.testing.assert_allclose(score, model.score(features), rtol=1e-5)
        expected = model.predict(features, verbose=0)
        np.testing.assert_allclose(reconstruction, expected, atol=1e-5)


def test_autoencoder_without_memory():
    model = small_memae("dense", memory=False)
    proto = onnx.memae_to_onnx(model, inputs_of("dense", 2))
    features = inputs_of("dense", 9)
    np.testing.assert_allclose(run(proto, features)[0], model.score(features), rtol=1e-5)


@pytest.mark.parametrize("net", ["dense", "conv2d", "conv3d"])
def test_models_of_16_bits_are_written_in_float32(net):
    model = small_memae(net, dtype="mixed_bfloat16")
    before = model.get_weights()
    features = inputs_of(net, 4)
    score, reconstruction = run(onnx.memae_to_onnx(model, features), features)
    assert score.dtype == reconstruction.dtype == np.float32
    np.testing.assert_allclose(score, model.score(features), rtol=0.05)
    assert model.encoder.layers[0].dtype_policy.name == "mixed_bfloat16"
    for value, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("mode", ["int8", "float8"])
def test_quantized_models_are_refused(mode):
    """Their weights without the scales gave other scores, and the check has the same weights."""
    model = small_memae("dense")
    model.quantize(mode)
    with pytest.raises(UserError, match=rf"^--onnx: layer \w+ is quantized \({mode}\), "):
        onnx.memae_to_onnx(model, inputs_of("dense", 2))


def test_detector_s_numeric_part_with_threshold_and_features():
    detector = traffic_detector()
    records = hard_traffic(200)
    features = detector.featurizer(records).numpy()
    proto = onnx.detector_to_onnx(detector, features[:2])
    np.testing.assert_allclose(run(proto, features)[0], detector.score(records), rtol=1e-4)
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    assert float(metadata["threshold"]) == 30
    assert json.loads(metadata["feature_names"]) == detector.featurizer.feature_names


def test_a_model_with_other_answers_is_noticed():
    model, other = small_memae("dense"), small_memae("dense")
    other.set_weights([w * 1.01 for w in model.get_weights()])
    features = inputs_of("dense", 50)
    proto = onnx.memae_to_onnx(model, features)

    def answer(x):
        return onnx._answer(other, x)

    with pytest.raises(RuntimeError, match=r"score differs by more than 0\.001 for"):
        onnx.check(proto, answer, features)


def test_differences_in_places_are_noticed_where_there_are_no_places():
    wanted = np.ones((1, 100), "float32")
    values = wanted.copy()
    values[0, :40] += 0.03
    assert onnx._agree(wanted, wanted, 1e-4, 0.0).all()
    assert not onnx._agree(values, wanted, 1e-4, 0.0).any()
    assert onnx._agree(values, wanted, 1e-4, 0.05).all()
    values[0, :60] += 0.03
    assert not onnx._agree(values, wanted, 1e-4, 0.05).any()
    values[0] = np.nan
    assert not onnx._agree(values, wanted, 1e-4, 0.05).any()
    # One query a sample, and no shrinkage, have none.
    assert not onnx._has_places(small_memae("dense"), (20,))
    assert onnx._has_places(small_memae("conv3d"), (5, 9, 12, 1))


@pytest.mark.parametrize("package", ["tf2onnx", "onnxruntime"])
def test_what_is_not_installed_is_named(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"{package} is not installed; pip install .*\[onnx\]"):
        onnx.require_onnx()
