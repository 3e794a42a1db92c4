import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
from keras import ops
from sklearn.metrics import roc_auc_score

from memae_tf.layers import MemoryUnit
from memae_tf.models import MemAE, conv2d, conv3d, dense

NUM_FEATURES = 12


def normal_data(num_samples: int, seed: int) -> np.ndarray:
    """Points around four centres in NUM_FEATURES dimensions."""
    centres = np.random.default_rng(0).normal(size=(4, NUM_FEATURES)) * 2
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(num_samples, NUM_FEATURES)) * 0.1
    return (centres[rng.integers(4, size=num_samples)] + noise).astype("float32")


def make(variant: str = "memae", **arguments) -> MemAE:
    keras.utils.set_random_seed(0)
    encoder, decoder = dense(NUM_FEATURES, hidden=(16, 8), code=3)
    memory = {
        "ae": None,
        "memae-nonspar": MemoryUnit(8, shrink=0.0, entropy_weight=0.0),
        "memae": MemoryUnit(8, shrink=1.0),
    }[variant]
    model = MemAE(encoder, memory, decoder, **arguments)
    model.build((None, NUM_FEATURES))
    return model


@pytest.mark.parametrize("variant", ["ae", "memae-nonspar", "memae"])
def test_fit_on_x_alone_finds_anomalies(variant):
    model = make(variant)
    model.compile(keras.optimizers.Adam(0.01))
    history = model.fit(normal_data(1000, seed=1), epochs=12, batch_size=50, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] / 4
    normal = normal_data(200, seed=2)
    anomalies = np.random.default_rng(3).normal(size=(200, NUM_FEATURES)).astype("float32") * 2
    scores = model.score(np.concatenate([normal, anomalies]))
    assert roc_auc_score(np.repeat([0, 1], 200), scores) > 0.95


def test_loss_of_fit_is_the_reconstruction_error_and_the_entropy():
    model = make()
    model.compile(keras.optimizers.SGD(0.0))
    # A last batch of 3: every figure is a mean over samples all the same.
    x = normal_data(19, seed=1)
    logs = model.fit(x, batch_size=8, verbose=0).history
    assert logs["reconstruction"][0] == pytest.approx(model.score(x).mean(), rel=1e-5)
    addressing = model.addressing(x).astype("float64")
    entropy = -(addressing * np.log(addressing + 1e-12)).sum(axis=1).mean()
    assert logs["penalty"][0] == pytest.approx(0.0002 * entropy, rel=1e-4)
    assert logs["loss"][0] == pytest.approx(logs["reconstruction"][0] + logs["penalty"][0])
    assert model.evaluate(x, verbose=0, return_dict=True)["loss"] == pytest.approx(logs["loss"][0])


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="is about tf.distribute")
@pytest.mark.parametrize("net", ["dense", "synchronized"])
def test_fit_on_two_replicas_is_fit_on_one(net):
    """Replicas of synchronized BatchNorm take turns, in the middle of a step.

    17 samples in batches of 8: of the last batch one replica gets nothing, which Keras means over
    replicas and collective operations do not survive.
    """
    code = """
import keras, numpy as np, sys, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from memae_tf.layers import MemoryUnit
from memae_tf.models import MemAE, conv2d, dense
is_dense = sys.argv[1] == "dense"
shape = (6,) if is_dense else (8, 8, 1)
x = np.random.default_rng(0).normal(size=(17, *shape)).astype("float32")

def losses(replicas):
    keras.utils.set_random_seed(0)
    with tf.distribute.MirroredStrategy([f"/cpu:{n}" for n in range(replicas)]).scope():
        if is_dense:
            encoder, decoder = dense(6, hidden=(5,), code=3)
        else:
            encoder, decoder = conv2d(shape, (3, 4), (3, 3), (2, 2), code=3)
            for part in (encoder, decoder):
                for layer in part.layers:
                    if hasattr(layer, "synchronized"):
                        layer.synchronized = True
        model = MemAE(encoder, MemoryUnit(8, entropy_weight=0.1), decoder)
        model.build((None, *shape))
        model.compile(keras.optimizers.SGD(0.05))
    whole = model.fit(x[:16], batch_size=8, epochs=3, shuffle=False, verbose=0).history
    if is_dense:
        partial = model.fit(x, batch_size=8, epochs=1, shuffle=False, verbose=0).history
        assert np.isfinite(partial["loss"]).all()
    return [*whole["loss"], *whole["penalty"]]

one, two = losses(1), losses(2)
assert len(one) == 6
np.testing.assert_allclose(one, two, rtol=1e-5)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, net], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_scores_follow_quantization():
    model = make()
    x = normal_data(20, seed=1)
    before = model.score(x)
    with warnings.catch_warnings():
        # Layers without weights of their own say that they have no such method.
        warnings.simplefilter("ignore")
        model.quantize("int8")
    error = x - ops.convert_to_numpy(model(x, training=False))
    np.testing.assert_allclose(model.score(x), (error**2).sum(axis=1), rtol=1e-4)
    assert np.abs(model.score(x) - before).max() > 1e-3


def test_scores_follow_lora():
    model = make()
    x = normal_data(20, seed=1)
    before = model.score(x)
    for part in (model.encoder, model.decoder):
        for layer in part.layers:
            layer.enable_lora(2)
    model.compile(keras.optimizers.Adam(0.1))
    model.fit(x, verbose=0)
    error = x - ops.convert_to_numpy(model(x, training=False))
    np.testing.assert_allclose(model.score(x), (error**2).sum(axis=1), rtol=1e-4)
    assert np.abs(model.score(x) - before).max() > 1e-3


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_convolutions_are_channels_last_whatever_keras_is_set_to(layout):
    before = keras.config.image_data_format()
    keras.config.set_image_data_format(layout)
    try:
        for shape, parts in (
            ((10, 7, 1), conv2d((10, 7, 1), (2, 3), (3, 3), (2, 2), code=4)),
            ((10, 7, 1), conv2d((10, 7, 1), (2, 3), (3, 3), (2, 2), queries="position")),
            ((4, 10, 7, 1), conv3d((4, 10, 7, 1), (5, 3))),
        ):
            encoder, decoder = parts
            assert MemAE(encoder, MemoryUnit(5), decoder).score(np.zeros((2, *shape))).shape == (2,)
    finally:
        keras.config.set_image_data_format(before)


def test_fit_tells_the_memory_that_it_trains():
    encoder, decoder = dense(NUM_FEATURES, hidden=(16, 8), code=3)
    model = MemAE(encoder, MemoryUnit(8, warmup_steps=100), decoder)
    model.compile(keras.optimizers.SGD(0.0))
    x = normal_data(19, seed=1)
    logs = model.fit(x, batch_size=8, epochs=2, verbose=0).history
    model.evaluate(x, verbose=0)
    assert int(model.memory.steps) == 6
    assert logs["penalty"][0] > 0


def test_a_loss_of_its_own_is_refused():
    model = make()
    x = normal_data(16, seed=1)
    model.compile("sgd", loss="mae")
    with pytest.raises(ValueError, match=r"its own loss.* Received: loss=mae"):
        model.fit(x, verbose=0)
    model.compile("sgd")
    model.fit(x, verbose=0)


@pytest.mark.parametrize("shape", [(16,), (16, 1), (16, 1, NUM_FEATURES)])
def test_labels_are_refused(shape):
    encoder, decoder = dense(NUM_FEATURES, hidden=(16, 8), code=3)
    model = MemAE(encoder, MemoryUnit(8), decoder)
    model.compile("sgd")
    x = normal_data(16, seed=1)
    with pytest.raises(ValueError, match=r"without labels.* Received: y.shape="):
        model.fit(x, np.zeros(shape), batch_size=16, verbose=0)
    # Nothing is lost.
    model.fit(x, batch_size=16, verbose=0)
    with pytest.raises(ValueError, match=r"without labels.* Received: y.shape="):
        model.evaluate(x, np.zeros(shape), batch_size=16, verbose=0)
    assert np.isfinite(model.score(x)).all()


def test_datasets_with_labels_are_refused():
    tf = pytest.importorskip("tensorflow")
    encoder, decoder = dense(NUM_FEATURES, hidden=(16, 8), code=3)
    model = MemAE(encoder, MemoryUnit(8), decoder)
    model.compile("sgd")
    x = normal_data(16, seed=1)
    with pytest.raises(ValueError, match=r"without labels.* Received: y.shape=\(None,\)"):
        model.fit(tf.data.Dataset.from_tensor_slices((x, np.zeros(16))).batch(8), verbose=0)
    for samples in (x, (x, x)):
        model.fit(tf.data.Dataset.from_tensor_slices(samples).batch(8), verbose=0)


@pytest.mark.parametrize(
    "parts", [(16, MemoryUnit(3), 16), (make, None, make), (None, MemoryUnit, None)]
)
def test_parts_that_are_no_layers_are_refused(parts):
    with pytest.raises(ValueError, match=r"MemAE\(encoder, memory, decoder\), all of them Keras"):
        MemAE(*parts)


def test_weights_can_be_loaded_after_scores_were_asked_for(tmp_path):
    x = normal_data(20, seed=1)
    other, model = make(), make()
    other.memory.memory.assign(2 * other.memory.memory + 1)
    other.save_weights(tmp_path / "other.weights.h5")
    for ask in (model.score, model.error, model.addressing):
        ask(x)
    model.load_weights(tmp_path / "other.weights.h5")
    np.testing.assert_array_equal(model.score(x), other.score(x))


def test_scores_do_not_depend_on_the_global_policy():
    x = 1000 * normal_data(20, seed=1)
    model = make()
    expected = model.score(x)
    again = MemAE.from_config(model.get_config())
    again.build(x.shape)
    again.set_weights(model.get_weights())
    keras.config.set_dtype_policy("mixed_float16")
    try:
        np.testing.assert_array_equal(again.score(x), expected)
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("name", ["scale", "shrink"])
def test_settings_of_the_memory_that_are_changed_count(name, tmp_path):
    x = normal_data(20, seed=1)
    model = make()
    before = model.score(x)
    setattr(model.memory, name, 3.0)
    changed = model.score(x)
    assert np.abs(changed - before).max() > 1e-4
    model.save(tmp_path / "a.keras")
    np.testing.assert_allclose(keras.saving.load_model(tmp_path / "a.keras").score(x), changed)
    model.reduction = "mean"
    np.testing.assert_allclose(model.score(x), changed / NUM_FEATURES, rtol=1e-5)


def test_metrics_compare_with_the_input():
    model = make()
    model.compile(keras.optimizers.SGD(0.0), metrics=["mae"])
    x = normal_data(16, seed=1)
    logs = model.fit(x, batch_size=16, verbose=0).history
    expected = np.abs(x - ops.convert_to_numpy(model(x))).mean()
    assert logs["mae"][0] == pytest.approx(expected, rel=1e-4)


def test_fit_with_a_target_reconstructs_the_target():
    model = make("ae")
    model.compile(keras.optimizers.SGD(0.0), metrics=["mae"])
    x, y = normal_data(16, seed=1), normal_data(16, seed=2)
    logs = model.fit(x, y, batch_size=16, verbose=0).history
    difference = model.predict(x, verbose=0) - y
    assert logs["loss"][0] == pytest.approx(np.square(difference).sum(axis=1).mean(), rel=1e-5)
    assert logs["mae"][0] == pytest.approx(np.abs(difference).mean(), rel=1e-5)


def test_sample_weights_weigh_the_errors():
    model = make("ae")
    model.compile(keras.optimizers.SGD(0.0))
    x = normal_data(16, seed=1)
    weights = np.linspace(0, 2, 16).astype("float32")
    # Keras drops sample weights where there is no target.
    loss = model.fit(x, x, sample_weight=weights, batch_size=16, verbose=0).history["loss"][0]
    assert loss == pytest.approx((model.score(x) * weights).mean(), rel=1e-5)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_score_reduces_the_element_errors(reduction):
    model = make(reduction=reduction)
    x = normal_data(10, seed=1)
    error = model.error(x, batch_size=4)
    np.testing.assert_allclose(error, (x - model.predict(x, verbose=0)) ** 2, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        model.score(x, batch_size=4), getattr(error, reduction)(axis=1), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("reduction", "error", "expected"),
    [
        ("mean", "squared", [5.0, 2.0]),
        ("sum", "squared", [20.0, 8.0]),
        ("mean", "absolute", [2.0, 1.0]),
        ("sum", "absolute", [8.0, 4.0]),
    ],
)
def test_frame_errors_by_hand(reduction, error, expected):
    model = MemAE(keras.layers.Identity(), None, keras.layers.Identity(), reduction)
    # Two frames of two pixels.
    x = np.zeros((1, 2, 1, 2, 1), "float32")
    rebuilt = np.array([1.0, -3.0, 0.0, 2.0], "float32").reshape(x.shape)
    found = ops.convert_to_numpy(model.frame_error(x, rebuilt, error))
    np.testing.assert_allclose(found, [expected], rtol=1e-6)
    if error == "squared":
        # The score of the clip is their mean.
        score = ops.convert_to_numpy(model.sample_error(x, rebuilt))
        np.testing.assert_allclose(score, [np.mean(expected)], rtol=1e-6)
    with pytest.raises(ValueError, match="Received: error=cubed"):
        model.frame_error(x, rebuilt, "cubed")


def test_no_samples_have_no_loss():
    """As on a replica that gets none of a last batch."""
    nothing = normal_data(0, seed=1)
    assert float(make("ae").loss_terms(nothing, nothing)["reconstruction"]) == 0.0


def test_addressing_is_what_the_memory_used():
    model = make()
    x = normal_data(10, seed=1)
    addressing = model.addressing(x)
    assert addressing.shape == (10, 8)
    read = addressing @ ops.convert_to_numpy(model.memory.memory)
    expected = ops.convert_to_numpy(model.decoder(read))
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-4, atol=1e-5)


def test_no_samples():
    model, nothing = make(), normal_data(0, seed=1)
    assert model.score(nothing).shape == (0,)
    assert model.error(nothing).shape == (0, NUM_FEATURES)
    assert model.addressing(nothing).shape == (0, 8)


def test_autoencoder_has_no_addressing():
    with pytest.raises(ValueError, match="no addressing"):
        make("ae").addressing(normal_data(2, seed=0))
    with pytest.raises(ValueError, match="no slots"):
        make("ae").slot_reads([0], (NUM_FEATURES,))


def test_model_that_is_not_built_has_no_slots():
    encoder, decoder = dense(NUM_FEATURES, hidden=(16, 8), code=3)
    model = MemAE(encoder, MemoryUnit(8), decoder)
    with pytest.raises(ValueError, match="call it, or `build`, first"):
        model.slot_reads([0], (NUM_FEATURES,))
    model(normal_data(1, seed=0))
    assert model.slot_reads([0], (NUM_FEATURES,)).shape == (1, 3)


def test_slot_reads_are_the_slots_at_each_position():
    model = make()
    memory = ops.convert_to_numpy(model.memory.memory)
    np.testing.assert_array_equal(model.slot_reads([5, 2], (NUM_FEATURES,)), memory[[5, 2]])
    encoder, decoder = conv2d((16, 16, 1), queries="position")
    model = MemAE(encoder, MemoryUnit(4), decoder)
    model.build((None, 16, 16, 1))
    reads = model.slot_reads(np.array([3]), (16, 16, 1))
    assert reads.shape == (1, 2, 2, 64)
    np.testing.assert_array_equal(reads[0, 1, 0], ops.convert_to_numpy(model.memory.memory)[3])
    assert model.decoder(reads, training=False).shape == (1, 16, 16, 1)


@pytest.mark.parametrize("variant", ["ae", "memae"])
def test_save_and_load(variant, tmp_path):
    model = make(variant, reduction="mean")
    model.compile("adam")
    x = normal_data(64, seed=1)
    model.fit(x, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model.score(x), again.score(x))
    assert again.reduction == "mean"
    # The optimizer came along: training goes on the same way.
    a = model.fit(x, verbose=0, shuffle=False).history["loss"]
    b = again.fit(x, verbose=0, shuffle=False).history["loss"]
    assert a == pytest.approx(b, rel=1e-5)


def test_score_follows_further_training():
    model = make()
    x = normal_data(64, seed=1)
    before = model.score(x)
    model.compile(keras.optimizers.Adam(0.01))
    model.fit(x, epochs=5, verbose=0)
    assert model.score(x).mean() < before.mean()


def test_own_encoder_and_decoder_with_a_query_a_position():
    encoder = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, strides=2, padding="same")]
    )
    decoder = keras.Sequential(
        [keras.Input((4, 4, 4)), keras.layers.Conv2DTranspose(1, 3, strides=2, padding="same")]
    )
    model = MemAE(encoder, MemoryUnit(10), decoder)
    model.compile("adam")
    x = np.random.default_rng(0).uniform(size=(6, 8, 8, 1)).astype("float32")
    model.fit(x, verbose=0)
    assert model.addressing(x).shape == (6, 4, 4, 10)
    assert model.score(x).shape == (6,)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_with_float32_scores(policy):
    encoder, decoder = dense(NUM_FEATURES, hidden=(16,), dtype=policy)
    model = MemAE(encoder, MemoryUnit(8, dtype=policy), decoder, dtype=policy)
    model.compile(keras.optimizers.Adam(0.01))
    x = normal_data(256, seed=1)
    losses = model.fit(x, epochs=4, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    assert model.score(x).dtype == np.float32


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="is about TensorFlow's XLA")
@pytest.mark.parametrize("net", [conv2d, conv3d])
def test_convolutions_never_meet_xla_on_a_cpu(net):
    if keras.distribution.list_devices("gpu"):
        pytest.skip("there is a GPU, where XLA is fine")
    shape = {conv2d: (16, 16, 1), conv3d: (16, 16, 16, 1)}[net]
    encoder, decoder = net(shape)
    model = MemAE(encoder, MemoryUnit(5), decoder)
    assert model.jit_compile is False  # what `predict` looks at without `compile`
    model.compile("adam")
    assert model.jit_compile is False
    outer = keras.Sequential([keras.Input(shape), model])
    outer.compile("adam", "mse")
    assert outer.jit_compile is False
    assert not model.supports_jit
    assert make().supports_jit


def test_decoder_of_another_shape_is_refused():
    encoder, _ = dense(NUM_FEATURES)
    _, decoder = dense(NUM_FEATURES + 1)
    with pytest.raises(ValueError, match="the shape of the input"):
        MemAE(encoder, None, decoder).build((None, NUM_FEATURES))


def test_unknown_reduction_is_refused():
    encoder, decoder = dense(NUM_FEATURES)
    with pytest.raises(ValueError, match="Received: reduction=max"):
        MemAE(encoder, None, decoder, reduction="max")


def test_parts_in_another_order_are_refused():
    encoder, decoder = dense(NUM_FEATURES)
    for parts in ((encoder, decoder, MemoryUnit(5)), (MemoryUnit(5), encoder, decoder)):
        with pytest.raises(ValueError, match=r"MemAE\(encoder, memory, decoder\)"):
            MemAE(*parts)
