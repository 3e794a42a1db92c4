import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from memae_tf.config import DenseModel, TrainingConfig
from memae_tf.models import build_memae
from memae_tf.training.loop import TrainingDivergedError, TrainingLoop
from memae_tf.training.strategy import make_strategy

MODEL = DenseModel(name="dense", hidden=[8], code=3, memory={"num_slots": 6})


def data(num_samples: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(num_samples, 10)).astype("float32")


def make(num_samples: int = 50, **training) -> TrainingLoop:
    config = TrainingConfig(**{"epochs": 3, "batch_size": 16, **training})
    keras.utils.set_random_seed(config.seed)
    strategy = make_strategy()
    policy = None if config.precision == "float32" else config.precision
    with strategy.scope():
        model = build_memae(MODEL, (10,), policy)
    return TrainingLoop(model, data(num_samples), config, strategy)


@pytest.mark.parametrize("num_samples", [7, 16, 32, 50])
def test_losses_are_those_of_the_model_over_every_sample(num_samples):
    loop = make(num_samples, learning_rate=1e-12)
    losses = loop.run_epoch(0)
    x = data(num_samples)
    assert losses["reconstruction"] == pytest.approx(loop.model.score(x).mean(), rel=1e-4)
    addressing = loop.model.addressing(x).astype("float64")
    entropy = -(addressing * np.log(addressing + 1e-12)).sum(axis=1).mean()
    assert losses["penalty"] == pytest.approx(0.0002 * entropy, rel=1e-3)
    assert losses["loss"] == pytest.approx(losses["reconstruction"] + losses["penalty"])


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


def test_same_seed_same_weights_other_seed_others():
    def weights(seed):
        loop = make(seed=seed)
        loop.run_epoch(0)
        return loop.model.get_weights()

    first, same, other = weights(1), weights(1), weights(2)
    for a, b in zip(first, same, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


def test_progress_counts_steps():
    loop = make(50, batch_size=16)
    seen = []
    loop.run_epoch(0, lambda step, losses: seen.append(step))
    assert loop.steps_per_epoch == 4
    assert seen[-1] == 4


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_learns(precision):
    loop = make(precision=precision, learning_rate=0.01)
    losses = [loop.run_epoch(epoch)["loss"] for epoch in range(4)]
    assert losses[-1] < losses[0]


def test_cosine_schedule_ends_at_zero():
    loop = make(epochs=2, schedule="cosine", learning_rate=0.1)
    loop.run_epoch(0)
    loop.run_epoch(1)
    assert float(loop.optimizer.learning_rate) == pytest.approx(0.0, abs=1e-8)


def test_infinite_loss_stops_at_once():
    loop = make(learning_rate=1e30)
    with pytest.raises(TrainingDivergedError, match=r"epoch 1, step .*learning_rate than 1e\+30"):
        loop.run_epoch(0)


def test_infinite_weights_after_the_last_step_stop_too():
    loop = make(16, batch_size=16, learning_rate=1e38)
    loop.model.layers[0].layers[0].kernel.assign(tf.fill((10, 8), 3e38))
    with pytest.raises(TrainingDivergedError):
        loop.run_epoch(0)


def test_two_replicas_train_as_one():
    """Over two logical CPUs, in a process of its own: devices are configured before use."""
    code = f"""
import numpy as np, tensorflow as tf, keras
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from memae_tf.config import TrainingConfig
from memae_tf.models import build_memae
from memae_tf.training.loop import TrainingLoop
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_loop import MODEL, data
losses = []
for devices in (["/cpu:0"], ["/cpu:0", "/cpu:1"]):
    keras.utils.set_random_seed(0)
    strategy = tf.distribute.MirroredStrategy(devices)
    with strategy.scope():
        model = build_memae(MODEL, (10,))
    # The last batch has one sample: fewer than replicas.
    loop = TrainingLoop(model, data(33), TrainingConfig(epochs=3, batch_size=16), strategy)
    losses.append([loop.run_epoch(epoch)["loss"] for epoch in range(3)])
np.testing.assert_allclose(*losses, rtol=1e-5)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr[-3000:]
