import json
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from keras.src import testing

from memae_tf.layers import MemoryUnit, memory_unit

ON_TENSORFLOW = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="is about TensorFlow's graphs, XLA or replicas"
)


def make(memory: np.ndarray, **arguments) -> MemoryUnit:
    """A built MemoryUnit with the given slots."""
    unit = MemoryUnit(len(memory), **arguments)
    unit.build((None, memory.shape[1]))
    unit.memory.assign(memory.astype("float32"))
    return unit


def call(unit: MemoryUnit, queries) -> tuple[np.ndarray, np.ndarray, float]:
    """Read, addressing and the sum of the losses."""
    read, addressing = unit(np.asarray(queries, "float32"), return_addressing=True)
    losses = sum(float(ops.convert_to_numpy(loss)) for loss in unit.losses)
    return ops.convert_to_numpy(read), ops.convert_to_numpy(addressing), losses


def random_case(seed: int, num_queries=16, num_slots=20, channels=6):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(num_queries, channels)), rng.normal(size=(num_slots, channels))


class KerasLayerTest(testing.TestCase):
    """Keras's own test of a layer: shapes, serialization, a training step, mixed precision."""

    def test_every_rank(self):
        for shape in [(4, 8), (4, 5, 8), (2, 3, 3, 8), (2, 2, 3, 3, 8)]:
            self.run_layer_test(
                MemoryUnit,
                init_kwargs={"num_slots": 10, "scale": 5.0, "shrink": 0.5},
                input_shape=shape,
                expected_output_shape=shape,
                expected_num_trainable_weights=1,
                expected_num_non_trainable_weights=0,
                expected_num_losses=1,
                supports_masking=True,
            )

    def test_learned_scale_dot_product_and_regularizer(self):
        self.run_layer_test(
            MemoryUnit,
            init_kwargs={
                "num_slots": 10,
                "similarity": "dot",
                "scale": "learned",
                "fallback": "zero",
                "entropy_weight": 0.0,
                "memory_regularizer": "l2",
                "memory_constraint": "unit_norm",
            },
            input_shape=(4, 8),
            expected_output_shape=(4, 8),
            expected_num_trainable_weights=2,
            expected_num_losses=1,
        )

    def test_warm_up(self):
        self.run_layer_test(
            MemoryUnit,
            init_kwargs={"num_slots": 10, "warmup_steps": 3},
            input_shape=(4, 8),
            expected_output_shape=(4, 8),
            expected_num_trainable_weights=1,
            expected_num_non_trainable_weights=1,
            expected_num_non_trainable_variables=1,
            expected_num_losses=1,
            supports_masking=True,
        )


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("shrink", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("fallback", ["softmax", "zero"])
def test_agrees_with_the_float64_reference(similarity, shrink, fallback):
    queries, memory = random_case(seed=1)
    scale = 4.0 if similarity == "cosine" else 0.7
    unit = make(
        memory,
        similarity=similarity,
        scale=scale,
        shrink=shrink,
        entropy_weight=1.0,
        fallback=fallback,
    )
    read, addressing, loss = call(unit, queries)
    expected = reference.address(queries, memory, similarity, scale, shrink, fallback)
    np.testing.assert_allclose(addressing, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(read, expected @ memory, rtol=1e-4, atol=1e-5)
    assert loss == pytest.approx(reference.entropy(expected), rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    scale=st.floats(0.1, 50),
    shrink=st.floats(0, 4),
    magnitude=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_addressing_is_a_sparse_convex_combination(seed, scale, shrink, magnitude):
    queries, memory = random_case(seed)
    unit = make(memory, scale=scale, shrink=shrink)
    read, addressing, loss = call(unit, queries * magnitude)
    assert (addressing >= 0).all()
    np.testing.assert_allclose(addressing.sum(axis=1), 1, rtol=1e-5)
    assert (read <= memory.max(axis=0) + 1e-4).all()
    assert (read >= memory.min(axis=0) - 1e-4).all()
    assert 0 <= loss / unit.entropy_weight <= np.log(unit.num_slots) + 1e-4


def test_two_slots_by_hand():
    # Cosines 1 and 0, scale ln 3: weights 3/4 and 1/4. The threshold 1/2 leaves the first.
    unit = make(np.eye(2), scale=float(np.log(3)), shrink=0.0, entropy_weight=1.0)
    _, addressing, loss = call(unit, [[5.0, 0.0]])
    np.testing.assert_allclose(addressing, [[0.75, 0.25]], rtol=1e-6)
    assert loss == pytest.approx(-0.75 * np.log(0.75) - 0.25 * np.log(0.25), rel=1e-5)

    unit = make(np.eye(2), scale=float(np.log(3)), shrink=1.0, entropy_weight=1.0)
    read, addressing, loss = call(unit, [[5.0, 0.0]])
    np.testing.assert_allclose(addressing, [[1.0, 0.0]])
    np.testing.assert_allclose(read, [[1.0, 0.0]])
    assert loss == pytest.approx(0.0, abs=1e-6)


def test_renormalises_after_shrinkage_by_hand():
    # Dot products ln 6, ln 3, ln 1: weights .6, .3, .1. The threshold .25 drops the last.
    memory = np.log([[6.0], [3.0], [1.0]])
    unit = make(memory, similarity="dot", shrink=0.75)
    _, addressing, _ = call(unit, [[1.0]])
    np.testing.assert_allclose(addressing, [[2 / 3, 1 / 3, 0.0]], rtol=1e-5)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("fallback", ["softmax", "zero"])
def test_a_query_that_is_nan_reads_nan(fallback, similarity):
    queries, memory = random_case(0)
    unit = make(memory, fallback=fallback, similarity=similarity, shrink=2.0)
    expected = ops.convert_to_numpy(unit(queries.astype("float32")))
    queries[3, 1] = np.nan
    read, addressing, loss = call(unit, queries)
    assert np.isnan(read[3]).all()
    assert np.isnan(addressing[3]).all()
    assert np.isnan(loss)
    others = np.arange(len(queries)) != 3
    np.testing.assert_allclose(read[others], expected[others], rtol=1e-6)
    assert np.isnan(ops.convert_to_numpy(unit(queries.astype("float32")))[3]).all()


@pytest.mark.parametrize(("fallback", "expected"), [("softmax", [0.5, 0.5]), ("zero", [0.0, 0.0])])
def test_query_with_all_weights_shrunk(fallback, expected):
    # Equally far from both slots: both weights are 1/2, which does not exceed 1 / 2.
    unit = make(np.eye(2), fallback=fallback)
    read, addressing, loss = call(unit, [[1.0, 1.0]])
    np.testing.assert_allclose(addressing, [expected], atol=1e-6)
    np.testing.assert_allclose(read, [expected], atol=1e-6)
    assert np.isfinite(loss)


def test_paper_setting_of_video_falls_back_everywhere():
    # The trap: a cosine without a scale, 2000 slots, threshold 2/N. Every weight is below it.
    rng = np.random.default_rng(0)
    unit = make(rng.uniform(-1, 1, (2000, 256)) / 16, scale=1.0, shrink=2.0)
    _, addressing, _ = call(unit, rng.normal(size=(8, 256)))
    assert unit.health(addressing)["live_share"] == 0
    assert (addressing > 0).all()


def test_zero_query_and_zero_slot_are_finite():
    memory = np.array([[0.0, 0.0], [1.0, 0.0]])
    unit = make(memory)
    read, addressing, loss = call(unit, [[0.0, 0.0], [1.0, 0.0]])
    assert np.isfinite(read).all()
    assert np.isfinite(addressing).all()
    assert np.isfinite(loss)


def test_norms_of_queries_that_a_cosine_takes():
    queries, memory = random_case(seed=5)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    unit = make(memory, shrink=0)
    _, expected, _ = call(unit, queries)
    for norm in (1.1e-6, 1e19):
        np.testing.assert_allclose(call(unit, norm * queries)[1], expected, rtol=1e-4, atol=1e-6)
    for norm in (1e-10, 1e20):
        np.testing.assert_allclose(call(unit, norm * queries)[1], 1 / len(memory), rtol=0.01)


def test_zero_query_has_no_gradient():
    """It has no direction; as a very short one it would have the largest gradient of all."""
    queries, memory = random_case(0, num_queries=6)
    queries[[1, 4]] = 0.0
    embedding = keras.layers.Embedding(6, queries.shape[1])
    model = keras.Sequential([keras.Input((1,), dtype="int32"), embedding, make(memory)])
    embedding.set_weights([queries])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.train_on_batch(np.arange(6)[:, None], np.zeros((6, 1, queries.shape[1])))
    change = embedding.get_weights()[0] - queries.astype("float32")
    sizes = np.linalg.norm(change, axis=-1)
    np.testing.assert_array_equal(sizes[[1, 4]], 0.0)
    assert (sizes[[0, 2, 3, 5]] > 0).all()
    assert sizes.max() < 100


def test_read_of_many_slots_in_float16():
    """Their sum, 120,000, is beyond its range; their mean is not."""
    unit = make(np.full((2000, 3), 60.0), scale=1.0, shrink=0.0, dtype="mixed_float16")
    read = unit(np.ones((4, 3), "float16"))
    np.testing.assert_allclose(ops.convert_to_numpy(read), 60.0, rtol=1e-2)


def test_norms_of_slots_are_not_those_of_float16():
    """Their squares, 90,000, are beyond its range."""
    unit = make(300 * np.eye(3), shrink=0.0, dtype="mixed_float16")
    _, addressing, _ = call(unit, [[1.0, 0.0, 0.0]])
    largest = np.exp(10) / (np.exp(10) + 2)
    np.testing.assert_allclose(addressing, [[largest, *[(1 - largest) / 2] * 2]], rtol=1e-2)


def test_shrinkage_is_relative_to_the_number_of_slots():
    for num_slots in (10, 1000):
        queries, memory = random_case(0, num_queries=64, num_slots=num_slots)
        _, addressing, _ = call(make(memory, shrink=1.0), queries)
        plain = reference.address(queries, memory, shrink=0.0)
        np.testing.assert_array_equal(addressing > 0, plain > 1 / num_slots)


def test_feature_map_is_addressed_position_by_position():
    rng = np.random.default_rng(3)
    queries, memory = rng.normal(size=(2, 3, 4, 5, 6)), rng.normal(size=(12, 6))
    unit = make(memory)
    read, addressing, _ = call(unit, queries)
    flat_read, flat_addressing, _ = call(unit, queries.reshape(-1, 6))
    assert addressing.shape == (2, 3, 4, 5, 12)
    np.testing.assert_allclose(read.reshape(-1, 6), flat_read, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(addressing.reshape(-1, 12), flat_addressing, rtol=1e-4, atol=1e-6)


def numerical_gradient(function, x, step=1e-3):
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[index] += step
        down[index] -= step
        gradient[index] = (function(up) - function(down)) / (2 * step)
    return gradient


@pytest.mark.parametrize("shrink", [0.0, 1.0])
def test_trains_slots_along_the_gradient_of_the_reference(shrink):
    """One SGD step moves the slots by -lr times the numerical gradient in float64."""
    queries, memory = random_case(seed=5, num_queries=4, num_slots=5, channels=3)
    target = np.random.default_rng(6).normal(size=queries.shape)
    weight = 0.1

    def loss(slots):
        addressing = reference.address(queries, slots, scale=3.0, shrink=shrink)
        error = np.mean((addressing @ slots - target) ** 2)
        return error + weight * reference.entropy(addressing)

    unit = make(memory, scale=3.0, shrink=shrink, entropy_weight=weight)
    model = keras.Sequential([keras.Input((3,)), unit])
    model.compile(keras.optimizers.SGD(1.0), loss="mse")
    model.fit(queries, target, batch_size=len(queries), epochs=1, verbose=0)
    step = memory - ops.convert_to_numpy(unit.memory)
    np.testing.assert_allclose(step, numerical_gradient(loss, memory), rtol=2e-3, atol=2e-4)


def test_learned_scale_is_trained_and_stays_positive():
    queries, memory = random_case(seed=7)
    unit = make(memory, scale="learned", shrink=0.0)
    model = keras.Sequential([keras.Input((6,)), unit])
    model.compile(keras.optimizers.SGD(0.5), loss="mse")
    before = float(ops.convert_to_numpy(unit.log_scale))
    model.fit(queries, queries, epochs=3, verbose=0)
    assert before == pytest.approx(np.log(10.0))
    assert float(ops.convert_to_numpy(unit.log_scale)) != pytest.approx(before, abs=1e-4)


@pytest.mark.parametrize(("similarity", "scale"), [("cosine", 10.0), ("dot", 1.0)])
def test_learned_scale_starts_at_the_default(similarity, scale):
    queries, memory = random_case(seed=7)
    expected = reference.address(queries, memory, similarity, scale)
    for given_scale in (None, "learned"):
        _, addressing, _ = call(make(memory, similarity=similarity, scale=given_scale), queries)
        np.testing.assert_allclose(addressing, expected, rtol=1e-4, atol=1e-6)


def test_slots_start_within_the_bounds_of_the_authors_code():
    unit = MemoryUnit(1000)
    unit.build((None, 16))
    assert 0.24 < np.abs(ops.convert_to_numpy(unit.memory)).max() <= 0.25


def test_slots_obey_their_constraint():
    queries, memory = random_case(seed=7)
    unit = make(memory, memory_constraint=keras.constraints.UnitNorm(axis=1))
    model = keras.Sequential([keras.Input((6,)), unit])
    model.compile("sgd", loss="mse")
    model.fit(queries, queries, batch_size=len(queries), verbose=0)
    slots = ops.convert_to_numpy(unit.memory)
    np.testing.assert_allclose(np.linalg.norm(slots, axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_keeps_addressing_in_float32(policy):
    queries, memory = random_case(seed=8)
    unit = MemoryUnit(len(memory), dtype=policy)
    unit.build((None, memory.shape[1]))
    unit.memory.assign(memory.astype("float32"))
    read, addressing = unit(np.asarray(queries, "float32"), return_addressing=True)
    assert keras.backend.standardize_dtype(read.dtype) == unit.compute_dtype
    assert keras.backend.standardize_dtype(addressing.dtype) == "float32"
    assert all(keras.backend.standardize_dtype(loss.dtype) == "float32" for loss in unit.losses)
    addressing = ops.convert_to_numpy(addressing)
    np.testing.assert_allclose(addressing.sum(axis=-1), 1, rtol=1e-5)
    expected = reference.address(queries, memory)
    # Slots near the threshold may go either way; the weights themselves are close.
    assert np.abs(addressing - expected).mean() < 0.01


@pytest.fixture
def float64():
    """Keras computes in float64, as by `~/.keras/keras.json`."""
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(before[0])
    keras.config.set_dtype_policy(before[1])


@pytest.mark.usefixtures("float64")
def test_trains_in_float64():
    """TensorFlow adds no losses up whose types differ."""
    inputs = keras.Input((3,))
    model = keras.Model(inputs, MemoryUnit(7, scale="learned", memory_regularizer="l2")(inputs))
    model.compile("sgd", loss="mse")
    x = np.random.default_rng(0).normal(size=(8, 3))
    history = model.fit(x, x, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_functional_model_with_addressing():
    inputs = keras.Input((3,))
    read, addressing = MemoryUnit(7)(inputs, return_addressing=True)
    assert read.shape == (None, 3)
    assert addressing.shape == (None, 7)
    model = keras.Model(inputs, [read, addressing])
    outputs = model.predict(np.ones((2, 3), "float32"), verbose=0)
    assert [output.shape for output in outputs] == [(2, 3), (2, 7)]


def test_saved_model_reads_the_same(tmp_path):
    model = keras.Sequential(
        [keras.Input((3,)), MemoryUnit(7, memory_initializer="glorot_uniform", scale="learned")]
    )
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model.predict(x, verbose=0), again.predict(x, verbose=0))


def test_health_by_hand():
    unit = MemoryUnit(4, shrink=1.0)
    addressing = np.array([[0.5, 0.5, 0, 0], [1.0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25]])
    health = unit.health(addressing[:2])
    assert health["live_share"] == 1.0
    assert health["slots_per_query"] == 1.5
    assert health["slots_used"] == 2
    assert health["dead_slots"] == 2
    assert health["largest_weight"] == 0.75
    assert health["perplexity"] == pytest.approx(np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25)))
    # The third query fell back to its unshrunk weights.
    assert unit.health(addressing)["live_share"] == pytest.approx(2 / 3)
    # A query that fell back to zeros reads nothing: the one slot that is used is all the use.
    health = unit.health(np.array([[1.0, 0, 0, 0], [0, 0, 0, 0]]))
    assert (health["live_share"], health["perplexity"]) == (0.5, 1.0)
    assert unit.health(np.zeros((2, 4)))["perplexity"] == 1.0


@pytest.mark.parametrize("shape", [(0, 4), (2, 0, 4), (8, 3), (8, 8), ()])
def test_health_is_that_of_queries_to_this_memory(shape):
    unit = MemoryUnit(4)
    with pytest.raises(ValueError, match=rf"\(\.\.\., 4\)\. Received: .*{re.escape(str(shape))}"):
        unit.health(np.ones(shape, "float32"))


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_slots": 0},
        {"num_slots": 2.5},
        {"num_slots": True},
        {"similarity": "euclid"},
        {"scale": 0.0},
        {"scale": float("nan")},
        {"scale": "auto"},
        {"scale": True},
        {"shrink": -0.1},
        {"shrink": 10},
        {"shrink": "1"},
        {"entropy_weight": -1.0},
        {"entropy_weight": float("inf")},
        {"entropy_weight": None},
        {"fallback": "nearest"},
        {"warmup_steps": -1},
        {"warmup_steps": 2.0},
        {"warmup_steps": True},
    ],
)
def test_invalid_arguments_are_named(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=rf"Received: {name}="):
        MemoryUnit(**{"num_slots": 10, **arguments})


def test_numbers_of_numpy_are_python_s_in_the_configuration():
    unit = MemoryUnit(
        np.int64(10),
        scale=np.float32(3),
        shrink=np.float64(2),
        entropy_weight=np.float32(0.5),
        warmup_steps=np.int32(4),
    )
    again = json.loads(json.dumps(unit.get_config()))
    values = [again[k] for k in ("num_slots", "scale", "shrink", "entropy_weight", "warmup_steps")]
    assert values == [10, 3.0, 2.0, 0.5, 4]


def test_no_queries():
    unit = make(np.eye(6), entropy_weight=1.0)
    read, addressing = unit(np.zeros((0, 3, 6), "float32"), return_addressing=True)
    assert tuple(read.shape) == (0, 3, 6)
    assert tuple(addressing.shape) == (0, 3, 6)
    assert float(unit.losses[0]) == 0.0
    assert tuple(unit(np.zeros((0, 6), "float32")).shape) == (0, 6)


def test_queries_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="last axis"):
        MemoryUnit(10).build((None, None))
    with pytest.raises(ValueError, match="expected min_ndim=2, found ndim=1"):
        MemoryUnit(10)(np.ones(3, "float32"))
    with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 3"):
        make(np.eye(3))(np.ones((2, 4), "float32"))


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="XLA is for the TensorFlow and JAX backends"
)
def test_xla_gives_the_same():
    queries, memory = random_case(seed=9)
    unit = make(memory)
    expected, _, _ = call(unit, queries)
    model = keras.Sequential([keras.Input((6,)), unit])
    model.compile(jit_compile=True)
    np.testing.assert_allclose(model.predict(queries, verbose=0), expected, rtol=1e-5, atol=1e-6)


# Inference in blocks.


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 100 weights: 5 queries to 20 slots."""
    monkeypatch.setattr(memory_unit, "BLOCK", 100)


def total_loss(unit: MemoryUnit) -> float:
    return sum(float(ops.convert_to_numpy(loss)) for loss in unit.losses)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("shape", [(5,), (6,), (23,), (3, 7), (2, 3, 4), (2, 2, 3, 3)])
def test_blocks_give_the_same_as_all_at_once(shape):
    _, memory = random_case(seed=10)
    queries = np.random.default_rng(11).normal(size=(*shape, 6)).astype("float32")
    unit = make(memory, entropy_weight=1.0)
    expected = ops.convert_to_numpy(unit(queries, training=True))
    loss = total_loss(unit)
    read = unit(queries, training=False)
    assert tuple(read.shape) == (*shape, 6)
    np.testing.assert_allclose(ops.convert_to_numpy(read), expected, rtol=1e-6, atol=1e-6)
    # The padding of the last block counts for nothing.
    assert total_loss(unit) == pytest.approx(loss, rel=1e-6)


@pytest.mark.usefixtures("small_blocks")
def test_more_slots_than_weights_of_a_block():
    """Then a block is one query."""
    queries, memory = random_case(seed=10, num_queries=3, num_slots=101)
    read = make(memory)(queries.astype("float32"))
    expected = reference.address(queries, memory) @ memory
    np.testing.assert_allclose(ops.convert_to_numpy(read), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("jit_compile", [False, True])
def test_blocks_where_the_batch_is_unknown(jit_compile):
    if jit_compile and keras.backend.backend() == "torch":
        pytest.skip("XLA is for the TensorFlow and JAX backends")
    queries, memory = random_case(seed=12, num_queries=33)
    queries = queries.astype("float32")
    unit = make(memory, entropy_weight=1.0)
    model = keras.Sequential([keras.Input((6,)), unit])
    model.compile(loss="mse", jit_compile=jit_compile)
    addressing = reference.address(queries, memory)
    # Batches of several blocks, of less than one, and a partial one.
    for batch_size in (33, 2, 16):
        read = model.predict(queries, batch_size=batch_size, verbose=0)
        np.testing.assert_allclose(read, addressing @ memory, rtol=1e-4, atol=1e-5)
    loss = model.evaluate(queries, read, batch_size=33, verbose=0)
    assert loss == pytest.approx(reference.entropy(addressing), rel=1e-4)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch exports no SavedModel")
@pytest.mark.usefixtures("small_blocks")
def test_exported_blocks_take_any_batch(tmp_path):
    tf = pytest.importorskip("tensorflow")
    queries, memory = random_case(seed=13, num_queries=33)
    queries = queries.reshape(11, 3, 6).astype("float32")
    unit = make(memory)
    model = keras.Sequential([keras.Input((None, 6)), unit])
    model.export(tmp_path / "model", verbose=False)
    exported = tf.saved_model.load(tmp_path / "model")
    for part in (queries, queries[:1], queries[:4, :2]):
        expected, _, _ = call(unit, part)
        np.testing.assert_allclose(exported.serve(part), expected, rtol=1e-5, atol=1e-6)


@ON_TENSORFLOW
@pytest.mark.usefixtures("small_blocks")
def test_entropy_is_left_out_where_nobody_asks_for_the_losses():
    import tensorflow as tf

    unit = make(np.eye(6), scale="learned", entropy_weight=1.0)
    read = tf.function(unit, input_signature=[tf.TensorSpec((None, 6))]).get_concrete_function()
    # A branch that reads a weight would be stateful, and TensorFlow would run it in any case.
    branches = {op.type for op in read.graph.get_operations() if op.type.endswith("If")}
    assert branches == {"StatelessIf"}


@ON_TENSORFLOW
def test_empty_batch_under_xla():
    import tensorflow as tf

    unit = make(np.eye(6))
    signature = [tf.TensorSpec((None, 6))]
    read = tf.function(unit, input_signature=signature, jit_compile=True)
    assert read(tf.zeros((0, 6))).shape == (0, 6)


@pytest.mark.usefixtures("small_blocks")
def test_blocks_pass_gradients_on():
    """A layer before a frozen memory may be trained through it."""
    queries, memory = random_case(seed=14, num_queries=23)
    kernels = []
    for training in (True, False):
        dense = keras.layers.Dense(6, use_bias=False, kernel_initializer="identity")
        inputs = keras.Input((6,))
        model = keras.Model(inputs, make(memory)(dense(inputs), training=training))
        model.compile(keras.optimizers.SGD(1.0), loss="mse")
        model.fit(queries, queries, batch_size=23, epochs=1, verbose=0)
        kernels.append(ops.convert_to_numpy(dense.kernel))
    assert np.abs(kernels[0] - np.eye(6)).max() > 1e-3
    np.testing.assert_allclose(kernels[0], kernels[1], rtol=1e-4, atol=1e-6)


# Warm-up.


def test_threshold_and_entropy_weight_grow_with_the_training_calls():
    queries, memory = random_case(seed=15)
    queries = queries.astype("float32")
    unit = make(memory, scale=4.0, shrink=2.0, entropy_weight=1.0, warmup_steps=4)
    for step in range(6):
        warmth = min(step / 4, 1.0)
        expected = reference.address(queries, memory, scale=4.0, shrink=2.0 * warmth)
        entropy = warmth * reference.entropy(expected)
        # Inference does not count, and agrees with the training call that follows.
        for training in (False, None, True):
            read = ops.convert_to_numpy(unit(queries, training=training))
            np.testing.assert_allclose(read, expected @ memory, rtol=1e-4, atol=1e-5)
            assert total_loss(unit) == pytest.approx(entropy, rel=1e-4, abs=1e-6)
    assert int(unit.steps) == 4


@pytest.mark.parametrize("jit_compile", [False, True])
def test_warm_up_counts_steps_of_fit_and_is_saved(tmp_path, jit_compile):
    if jit_compile and keras.backend.backend() == "torch":
        pytest.skip("XLA is for the TensorFlow and JAX backends")
    queries, _ = random_case(seed=16)
    model = keras.Sequential([keras.Input((6,)), MemoryUnit(7, warmup_steps=100)])
    model.compile("sgd", loss="mse", jit_compile=jit_compile)
    model.fit(queries, queries, batch_size=8, epochs=3, verbose=0)
    model.evaluate(queries, queries, verbose=0)
    assert int(model.layers[0].steps) == 6
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert int(again.layers[0].steps) == 6
    np.testing.assert_allclose(
        again.predict(queries, verbose=0), model.predict(queries, verbose=0), rtol=1e-6
    )


def test_without_warm_up_there_is_no_counter():
    unit = make(np.eye(2))
    unit(np.ones((1, 2), "float32"), training=True)
    assert len(unit.weights) == 1


@ON_TENSORFLOW
def test_every_replica_counts_the_same_steps():
    code = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from memae_tf.layers import MemoryUnit
strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
with strategy.scope():
    unit = MemoryUnit(5, warmup_steps=10)
    unit.build((None, 3))
step = tf.function(lambda: strategy.run(lambda: unit(tf.ones((4, 3)), training=True)))
for _ in range(3):
    step()
steps = strategy.experimental_local_results(unit.steps.value)
assert [int(count) for count in steps] == [3, 3], steps
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr[-3000:]
