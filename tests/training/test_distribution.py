"""Several replicas, in one process or in one each, train as one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
from test_loop import make

from memae_tf.training import loop as training
from memae_tf.training.loop import Position, TrainingLoop

REPLICAS = """
import numpy as np, tensorflow as tf, keras
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from memae_tf.config import Conv2DModel, TrainingConfig
from memae_tf.models import build_memae
from memae_tf.training.loop import TrainingLoop
from memae_tf.training.strategy import make_strategy
import sys; sys.path.insert(0, {folder!r})
from test_distribution import losses_of_steps, training
from test_loop import MODEL, data

def train(model, x, epochs, numbers=(1, 2), **options):
    losses, weights = [], []
    config = TrainingConfig(epochs=epochs, **{{"batch_size": 16, **options}})
    for replicas in numbers:
        keras.utils.set_random_seed(0)
        strategy = make_strategy(replicas)
        assert strategy.num_replicas_in_sync == replicas
        with strategy.scope():
            memae = build_memae(model, x.shape[1:])
        loop = TrainingLoop(memae, x, config, strategy)
        losses.append(losses_of_steps(loop, epochs))
        weights.append(loop.weights())
    return losses, weights

{body}
"""


def losses_of_steps(loop: TrainingLoop, epochs: int) -> list[float]:
    """Of each step by itself."""
    training.SECONDS_PER_CALL = 0
    losses = []
    for epoch in range(epochs):
        before = Position(epoch)
        for position in loop.run(before):
            loss = position.reconstruction + position.penalty
            loss -= before.reconstruction + before.penalty
            losses.append(loss / (position.samples - before.samples))
            before = position
    assert len(losses) == epochs * loop.steps_per_epoch
    return losses


def run_with_two_devices(body: str) -> None:
    """In a process of its own: devices are configured before use."""
    code = REPLICAS.format(folder=str(Path(__file__).parent), body=body)
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr[-3000:]


def test_two_replicas_train_as_one():
    run_with_two_devices("""
# As in long runs.
training.XLA_PAYS_FROM = 0
# 51 steps. The last batch of an epoch has one sample: fewer than replicas.
plain = train(MODEL, data(33), 17)
np.testing.assert_allclose(*plain[0], rtol=1e-5)
options = dict(clip_norm=0.5, averaging=0.9, warmup_epochs=1, resident_mb=0)
memory = type(MODEL.memory)(**{**MODEL.memory.model_dump(), "warmup_steps": 20})
others = train(MODEL.model_copy(update={"memory": memory}), data(33), 17, **options)
np.testing.assert_allclose(*others[0], rtol=1e-5)
assert len(plain[0][0]) == 51
assert others[0][0] != plain[0][0]
for a, b in zip(*others[1]):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
""")


def test_two_replicas_with_batch_norm_and_with_loss_scaling():
    run_with_two_devices("""
model = Conv2DModel(name="conv2d", filters=[4, 4], kernels=[3, 3], strides=[2, 2],
                    memory={"num_slots": 6, "entropy_weight": 2.0})
x = np.random.default_rng(0).normal(size=(24, 8, 8, 1)).astype("float32")
one, two = train(model, x, 3, batch_size=8)[0]
# With an entropy that counts: each replica is to have its own alone.
np.testing.assert_allclose(one, two, rtol=1e-4)
(apart,) = train(model, x, 3, (2,), batch_size=8, synchronized_batch_norm=False)[0]
assert abs(apart[-1] / one[-1] - 1) > 1e-4
scaled = train(MODEL, data(32), 3, precision="mixed_float16", clip_norm=0.5)[0]
np.testing.assert_allclose(*scaled, rtol=1e-2)
from test_clip_samples import EVERYTHING, MODEL as CONV3D, samples_of, video
clips = samples_of([video(13)], **EVERYTHING)
one, two = train(CONV3D, clips, 1, batch_size=4)[1]
variables = build_memae(CONV3D, clips.shape[1:]).variables
for variable, a, b in zip(variables, one, two, strict=True):
    # The gradient of a bias before BatchNorm is rounding alone, of which Adam makes whole steps.
    before_batch_norm = variable.path.endswith("/bias") and variable is not variables[-1]
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-3 if before_batch_norm else 1e-4)
""")


WORKER = """
import json, keras, sys
from memae_tf.config import TrainingConfig
from memae_tf.models import build_memae
from memae_tf.training.loop import TrainingLoop
from memae_tf.training.strategy import make_strategy
sys.path.insert(0, {folder!r})
from test_distribution import losses_of_steps, training
from test_loop import MODEL, data
training.XLA_PAYS_FROM = 0

strategy = make_strategy()
keras.utils.set_random_seed(0)
with strategy.scope():
    memae = build_memae(MODEL, (10,))
config = TrainingConfig(epochs=17, batch_size=16, clip_norm=0.5)
loop = TrainingLoop(memae, data(33), config, strategy)
print(json.dumps([strategy.num_replicas_in_sync, losses_of_steps(loop, 17)]))
"""


def test_two_workers_have_the_losses_of_one_step_by_step(monkeypatch):
    code = [sys.executable, "-c", WORKER.format(folder=str(Path(__file__).parent))]
    with socket.socket() as one, socket.socket() as other:
        one.bind(("localhost", 0))
        other.bind(("localhost", 0))
        addresses = [f"localhost:{probe.getsockname()[1]}" for probe in (one, other)]
    tasks = [{"type": "worker", "index": index} for index in range(2)]
    settings = [{"cluster": {"worker": addresses}, "task": task} for task in tasks]
    environments = [{"TF_CONFIG": json.dumps(setting)} for setting in settings]
    processes = [
        subprocess.Popen(code, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
        for environment in environments
    ]
    monkeypatch.setattr(training, "SECONDS_PER_CALL", 0)
    monkeypatch.setattr(training, "XLA_PAYS_FROM", 0)
    single = losses_of_steps(make(33, epochs=17, clip_norm=0.5), 17)
    outputs = [process.communicate(timeout=300)[0].splitlines()[-1] for process in processes]
    (together, first), (_, second) = map(json.loads, outputs)
    assert (together, len(single)) == (2, 51)
    assert first == second
    np.testing.assert_allclose(first, single, rtol=1e-5)
