import functools
import gc
import operator
import weakref
from contextlib import nullcontext

import keras
import numpy as np
import pytest
import tensorflow as tf

from memae_tf.config import Conv2DModel, Conv3DModel, DenseModel, TrainingConfig
from memae_tf.models import build_memae
from memae_tf.training import loop as training_loop
from memae_tf.training.loop import Position, TrainingDivergedError, TrainingLoop
from memae_tf.training.samples import ArraySamples
from memae_tf.training.strategy import make_strategy

MODEL = DenseModel(name="dense", hidden=[8], code=3, memory={"num_slots": 6})


@pytest.fixture
def xla(monkeypatch):
    """As in long runs."""
    monkeypatch.setattr(training_loop, "XLA_PAYS_FROM", 0)


def data(num_samples: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(num_samples, 10)).astype("float32")


# A flat addressing, whose entropy is far from 0.
FLAT = MODEL.model_copy(update={"memory": MODEL.memory.model_copy(update={"scale": 1.0})})


def make(
    num_samples: int = 50, x: np.ndarray | None = None, model: DenseModel = MODEL, **training
) -> TrainingLoop:
    config = TrainingConfig(**{"epochs": 3, "batch_size": 16, **training})
    keras.utils.set_random_seed(config.seed)
    strategy = make_strategy()
    policy = None if config.precision == "float32" else config.precision
    with strategy.scope():
        memae = build_memae(model, (10,), policy)
    return TrainingLoop(memae, data(num_samples) if x is None else x, config, strategy)


@pytest.mark.usefixtures("xla")
@pytest.mark.parametrize("num_samples", [7, 16, 32, 50])
def test_losses_are_those_of_the_model_over_every_sample(num_samples):
    loop = make(num_samples, model=FLAT, learning_rate=1e-12)
    losses = loop.run_epoch(0)
    x = data(num_samples)
    assert losses["reconstruction"] == pytest.approx(loop.model.score(x).mean(), rel=1e-4)
    addressing = loop.model.addressing(x).astype("float64")
    entropy = -(addressing * np.log(addressing + 1e-12)).sum(axis=1).mean()
    assert entropy > 0.1
    assert losses["penalty"] == pytest.approx(0.0002 * entropy, rel=1e-3)
    assert losses["loss"] == pytest.approx(losses["reconstruction"] + losses["penalty"])


@pytest.mark.usefixtures("xla")
def test_same_step_as_fit():
    """The custom loop and `fit` take the same step: one batch, one update."""
    loop = make(16, batch_size=16)
    keras.utils.set_random_seed(0)
    other = build_memae(MODEL, (10,))
    other.set_weights(loop.model.get_weights())
    other.compile(keras.optimizers.Adam(loop.config.learning_rate))
    loop.run_epoch(0)
    other.fit(data(16), batch_size=16, shuffle=False, verbose=0)
    for a, b in zip(loop.model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-6)


@pytest.mark.usefixtures("xla")
@pytest.mark.parametrize("batch_size", [16, 300])
def test_a_short_run_takes_the_same_steps_without_xla(monkeypatch, batch_size):
    compiled = make(650, batch_size=batch_size, model=FLAT)
    steps = compiled.steps_per_epoch * compiled.config.epochs
    monkeypatch.setattr(training_loop, "XLA_PAYS_FROM", steps + 1)
    plain = make(650, batch_size=batch_size, model=FLAT)
    for epoch in range(2):
        losses = compiled.run_epoch(epoch)
        assert losses == pytest.approx(plain.run_epoch(epoch), rel=1e-5)
    assert losses["penalty"] > 0


@pytest.mark.parametrize(("steps", "compiles"), [(12, True), (13, False)])
def test_xla_compiles_runs_that_are_long_enough(monkeypatch, steps, compiles):
    monkeypatch.setattr(training_loop, "XLA_PAYS_FROM", steps)
    loop = make(50)
    assert loop.steps_per_epoch * loop.config.epochs == 12
    element_error = loop.model.element_error

    def with_python_inside(*arguments):
        tf.numpy_function(lambda: None, [], [])
        return element_error(*arguments)

    monkeypatch.setattr(loop.model, "element_error", with_python_inside)
    with pytest.raises(tf.errors.InvalidArgumentError) if compiles else nullcontext():
        loop.run_epoch(0)


@pytest.mark.parametrize(("steps", "compiles"), [(12, True), (13, False)])
def test_what_xla_compiles_goes_column_by_column(monkeypatch, steps, compiles):
    monkeypatch.setattr(training_loop, "XLA_PAYS_FROM", steps)
    loop = make(50)
    memory = loop.model.memory
    traced = []
    recall = memory.recall_columns
    monkeypatch.setattr(memory, "recall_columns", lambda x: traced.append(x.shape) or recall(x))
    loop.run_epoch(0)
    assert set(traced) == ({(3, 16), (3, 2)} if compiles else set())


def test_same_seed_same_weights_other_seed_others():
    def weights(seed):
        loop = make(seed=seed)
        loop.run_epoch(0)
        return loop.model.get_weights()

    first, same, other = weights(1), weights(1), weights(2)
    for a, b in zip(first, same, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


def test_sums_are_the_same_bits_in_any_groups():
    terms = np.random.default_rng(0).random(1000)
    whole = training_loop._add_in_order(0.0, terms)
    parts = 0.0
    for part in np.split(terms, [1, 137, 500]):
        parts = training_loop._add_in_order(parts, part)
    # `sum` compensates for rounding from Python 3.12 on.
    assert parts == whole == functools.reduce(operator.add, terms.tolist())


NETS = {
    "dense": (DenseModel, (10,), {"hidden": [8], "code": 3}),
    "conv2d": (Conv2DModel, (8, 8, 1), {"filters": [3, 4, 5], "queries": "position"}),
    "conv3d": (Conv3DModel, (4, 8, 8, 1), {"filters": [3, 4]}),
}


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize(
    "memory",
    [
        {"similarity": "cosine", "scale": "learned"},
        {"similarity": "dot", "fallback": "zero"},
        {"shrink": 0, "warmup_steps": 3},
    ],
    ids=["cosine", "dot", "no shrinkage"],
)
def test_no_gradient_is_a_sum_in_the_order_of_the_moment(net, memory):
    """TensorFlow adds three tensors or more in the order in which it can reuse their memory."""
    section, shape, sizes = NETS[net]
    model = build_memae(section(name=net, **sizes, memory={"num_slots": 6, **memory}), shape)

    @tf.function
    def gradients(x):
        with tf.GradientTape() as tape:
            loss = sum(model.loss_terms(x, model(x, training=True)).values())
        return tape.gradient(loss, model.trainable_variables)

    graph = gradients.get_concrete_function(tf.TensorSpec((None, *shape))).graph
    sums = [operation for operation in graph.get_operations() if operation.type == "AddN"]
    assert {len(operation.inputs) for operation in sums} == {2}


def test_every_epoch_has_a_plan_of_its_own():
    """As augmentation and pseudo-anomalies would be the same ones else."""

    class Watched(ArraySamples):
        def plan(self, order, seed, epoch):
            asked.append((seed, epoch))
            return super().plan(order, seed, epoch)

    asked = []
    loop = make(x=Watched(data(16)), seed=4)
    for epoch in range(2):
        loop.run_epoch(epoch)
    assert asked == [(4, 0), (4, 1)]


def test_positions_count_steps_and_samples():
    loop = make(50, batch_size=16)
    positions = list(loop.run(Position()))
    assert loop.steps_per_epoch == 4
    assert (positions[-1].step, positions[-1].samples) == (4, 50)
    steps = [position.step for position in positions]
    assert steps == sorted(set(steps))


@pytest.mark.usefixtures("xla")
def test_streamed_training_is_bitwise_the_resident_one(tmp_path):
    np.save(tmp_path / "x.npy", data(50))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    resident, streamed = make(50), make(x=mapped, resident_mb=0)
    for epoch in range(2):
        assert resident.run_epoch(epoch) == streamed.run_epoch(epoch)
    assert_same_state(resident, streamed)


def test_nothing_of_streamed_training_is_kept(tmp_path):
    np.save(tmp_path / "x.npy", data(50))

    class Watched(ArraySamples):
        def plan(self, *arguments):
            arrays = super().plan(*arguments)
            plans.append(weakref.ref(arrays["index"]))
            return arrays

    def train() -> weakref.ref:
        loop = make(x=Watched(np.load(tmp_path / "x.npy", mmap_mode="r")), resident_mb=0)
        for epoch in range(3):
            loop.run_epoch(epoch)
        # One that is left in the middle, too.
        *_, position = loop.run(Position(3), lambda: True)
        assert position.step < loop.steps_per_epoch
        gc.collect()
        assert [reference() for reference in plans] == [None] * 4
        return weakref.ref(loop.samples)

    plans = []
    samples = train()
    gc.collect()
    assert samples() is None


@pytest.mark.usefixtures("xla")
@pytest.mark.parametrize("compiled", [True, False])
def test_leaves_no_graphs(monkeypatch, compiled):
    if not compiled:
        monkeypatch.setattr(training_loop, "XLA_PAYS_FROM", 10**9)
    make().run_epoch(0)
    before = graphs()
    make().run_epoch(0)
    assert graphs() <= before


def graphs() -> int:
    """How many TensorFlow holds, or somebody else."""
    gc.collect()
    return sum(isinstance(item, tf.Graph) for item in gc.get_objects())


@pytest.mark.usefixtures("xla")
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("resident_mb", [0, 64])
def test_goes_on_in_the_middle_of_an_epoch_with_the_same_bits(monkeypatch, resident_mb, compiled):
    if not compiled:
        monkeypatch.setattr(training_loop, "XLA_PAYS_FROM", 10**9)
    options = {"resident_mb": resident_mb, "averaging": 0.9, "schedule": "cosine"}
    whole, stopped, resumed = (make(200, batch_size=8, **options) for _ in range(3))
    *_, end = whole.run(Position())
    # One call is one step at first.
    stop = iter([False, True])
    *_, middle = stopped.run(Position(), lambda: next(stop))
    assert 0 < middle.step < whole.steps_per_epoch
    resumed.load_state(stopped.state())
    *_, end_of_resumed = resumed.run(middle)
    assert end_of_resumed.losses == end.losses
    assert_same_state(whole, resumed)


def test_state_of_another_model_is_refused():
    loop = make()
    state = loop.state()
    state.popitem()
    with pytest.raises(ValueError, match="another model or optimizer"):
        loop.load_state(state)


@pytest.mark.usefixtures("xla")
def test_averaged_weights_are_the_moving_average():
    loop = make(16, batch_size=16, averaging=0.26, learning_rate=0.01)
    average = None
    # It starts at the weights after the first step, and forgets them sooner than later ones.
    for epoch, decay in enumerate([0, 2 / 11, 3 / 12, 0.26]):
        loop.run_epoch(epoch)
        now = loop.model.get_weights()
        average = [decay * a + (1 - decay) * w for a, w in zip(average or now, now, strict=True)]
    for kept, expected in zip(loop.weights(), average, strict=True):
        np.testing.assert_allclose(kept, expected, rtol=1e-4, atol=1e-6)
    for before, after in zip(now, loop.model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_clipping_limits_the_norm_of_the_whole_gradient():
    loop = make(16, batch_size=16, clip_norm=0.5)
    x = tf.constant(data(16))
    _, gradients = loop._compute_gradients({"x": x}, 1.0)
    norm = tf.linalg.global_norm(gradients).numpy()
    assert norm > 0.5
    loop.run_epoch(0)
    # Adam's first moment after a step is a tenth of the gradient it saw.
    moments = [v.numpy() for v in loop.optimizer.variables if "momentum" in v.path]
    seen = np.sqrt(sum((10.0 * m.astype("float64") ** 2 * 10.0).sum() for m in moments))
    assert seen == pytest.approx(0.5, rel=1e-3)


@pytest.mark.usefixtures("xla")
def test_slices_of_a_batch_give_the_gradient_of_the_whole():
    loop = make(600, batch_size=600)
    samples = {"x": tf.constant(data(600))}
    loop._slices = 1
    terms, gradients = loop._sliced_gradients(samples, 1.0)
    loop._slices = 3
    sliced_terms, sliced = loop._sliced_gradients(samples, 1.0)
    np.testing.assert_allclose(sliced_terms, terms, rtol=1e-5)
    for part, whole in zip(sliced, gradients, strict=True):
        np.testing.assert_allclose(part, whole, rtol=1e-3, atol=1e-5)


@pytest.mark.usefixtures("xla")
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_learns(precision):
    loop = make(precision=precision, learning_rate=0.01)
    losses = [loop.run_epoch(epoch)["loss"] for epoch in range(4)]
    assert losses[-1] < losses[0]


def test_scaled_losses_leave_the_gradients_as_they_are():
    """Adam would hide a wrong scale from the loss, but not from its moments."""

    def moments(precision: str) -> list[np.ndarray]:
        loop = make(16, batch_size=16, precision=precision)
        loop.run_epoch(0)
        return [v.numpy() for v in loop.optimizer.variables if "momentum" in v.path]

    scaled, plain = moments("mixed_float16"), moments("float32")
    assert len(scaled) == len(plain) > 0
    for moment, other in zip(scaled, plain, strict=True):
        assert np.linalg.norm(moment - other) < 0.1 * np.linalg.norm(other) + 1e-6


def test_cosine_schedule_ends_at_zero():
    loop = make(epochs=2, schedule="cosine", learning_rate=0.1)
    loop.run_epoch(0)
    loop.run_epoch(1)
    assert float(loop.optimizer.learning_rate) == pytest.approx(0.0, abs=1e-8)


def test_infinite_loss_stops_at_once():
    loop = make(learning_rate=1e30)
    with pytest.raises(TrainingDivergedError, match=r"epoch 1, step .*learning_rate than 1e\+30"):
        loop.run_epoch(0)


@pytest.mark.parametrize("variant", ["ae", "memae"])
def test_infinite_loss_is_seen_in_the_middle_of_an_epoch(monkeypatch, variant):
    """An autoencoder has no penalty that would be infinite, too."""
    monkeypatch.setattr(training_loop, "MOST_STEPS_PER_CALL", 1)
    model = MODEL.model_copy(update={"variant": variant})
    loop = make(160, model=model, learning_rate=1e30)
    with pytest.raises(TrainingDivergedError, match=r"epoch 1, step 2 or shortly before"):
        loop.run_epoch(0)


def test_infinite_weights_after_the_last_step_stop_too():
    # Infinite in float32: the one loss is finite, and no weight after it.
    loop = make(16, batch_size=16, learning_rate=1e39)
    with pytest.raises(TrainingDivergedError):
        loop.run_epoch(0)


def assert_same_state(a: TrainingLoop, b: TrainingLoop):
    for x, y in zip(a.state().values(), b.state().values(), strict=True):
        np.testing.assert_array_equal(x, y)
