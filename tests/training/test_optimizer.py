import keras
import numpy as np
import pytest

from memae_tf.config import TrainingConfig
from memae_tf.training.optimizer import learning_rate_schedule, make_optimizer


def rates(steps: list[int], **training) -> list[float]:
    config = TrainingConfig(epochs=10, learning_rate=0.1, **training)
    schedule = learning_rate_schedule(config, steps_per_epoch=10)
    return [float(schedule(step)) for step in steps]


def test_constant():
    config = TrainingConfig(epochs=10, learning_rate=0.1)
    assert learning_rate_schedule(config, steps_per_epoch=10) == 0.1


def test_warm_up_rises_linearly_and_stays():
    found = rates([0, 5, 10, 20, 60, 99], warmup_epochs=2)
    np.testing.assert_allclose(found, [0, 0.025, 0.05, 0.1, 0.1, 0.1], rtol=1e-6)


def test_cosine_falls_to_zero():
    np.testing.assert_allclose(
        rates([0, 50, 100], schedule="cosine"), [0.1, 0.05, 0.0], rtol=1e-6, atol=1e-9
    )


def test_cosine_after_a_warm_up_ends_at_the_same_step():
    found = rates([0, 10, 20, 60, 100], schedule="cosine", warmup_epochs=2)
    np.testing.assert_allclose(found, [0, 0.05, 0.1, 0.05, 0.0], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("replicas", "norm"), [(1, 3.0), (4, 0.75)])
def test_clipping_is_of_a_replicas_share(replicas, norm):
    optimizer = make_optimizer(TrainingConfig(epochs=1, clip_norm=3.0), 1, replicas)
    assert optimizer.global_clipnorm == norm


def test_loss_scaling_under_float16_alone():
    half = make_optimizer(TrainingConfig(epochs=1, precision="mixed_float16"), 1)
    assert isinstance(half, keras.optimizers.LossScaleOptimizer)
    brain = make_optimizer(TrainingConfig(epochs=1, precision="mixed_bfloat16"), 1)
    assert not isinstance(brain, keras.optimizers.LossScaleOptimizer)
