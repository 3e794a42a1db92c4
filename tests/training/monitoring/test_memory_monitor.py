import importlib.util
import os
import subprocess
import sys
import warnings

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import memae_tf
from memae_tf import MemAE, MemoryMonitor, MemoryUnit, dense

X = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")


def make(memory=None, **arguments) -> MemAE:
    keras.utils.set_random_seed(0)
    encoder, decoder = dense(6, hidden=(8,), code=3)
    model = MemAE(encoder, memory or MemoryUnit(5, **arguments), decoder)
    model.compile(keras.optimizers.Adam(0.01))
    return model


def events(directory, tag: str) -> list:
    accumulator = EventAccumulator(str(directory), size_guidance={"tensors": 0})
    accumulator.Reload()
    return accumulator.Tensors(tag)


def scalars(directory, tag: str) -> dict[int, float]:
    return {
        event.step: float(tf.make_ndarray(event.tensor_proto)) for event in events(directory, tag)
    }


def steps(directory, tag: str) -> list[int]:
    return [event.step for event in events(directory, tag)]


def test_it_is_public():
    assert memae_tf.MemoryMonitor is MemoryMonitor
    assert "MemoryMonitor" in dir(memae_tf)


def test_losses_and_memory_of_fit(tmp_path):
    # The figures are those of the same training without the callback.
    history = make().fit(X, epochs=3, batch_size=16, validation_data=(X,), verbose=0).history
    model = make()
    model.fit(
        X,
        epochs=3,
        batch_size=16,
        validation_data=(X,),
        verbose=0,
        callbacks=[MemoryMonitor(tmp_path, X)],
    )
    for tag, name in [("total", "loss"), ("penalty", "penalty"), ("validation", "val_loss")]:
        got = scalars(tmp_path, f"loss/{tag}")
        assert list(got) == [1, 2, 3]
        np.testing.assert_allclose(list(got.values()), history[name], rtol=1e-4)
    assert scalars(tmp_path, "training/learning_rate")[3] == pytest.approx(0.01)
    assert scalars(tmp_path, "training/steps_per_second")[3] > 0
    expected = model.memory.health(model.addressing(X))["perplexity"]
    assert scalars(tmp_path, "memory/perplexity")[3] == pytest.approx(expected, rel=1e-4)
    assert (tmp_path / "projector_config.pbtxt").exists()


def test_a_data_frame(tmp_path):
    frame = pd.DataFrame(X)
    make().fit(frame, verbose=0, callbacks=[MemoryMonitor(tmp_path, frame)])
    assert list(scalars(tmp_path, "loss/total")) == [1]


def test_every_second_epoch_and_the_last(tmp_path):
    make().fit(X, epochs=5, verbose=0, callbacks=[MemoryMonitor(tmp_path, X, every=2)])
    assert list(scalars(tmp_path, "loss/total")) == [2, 4, 5]


def test_pictures_come_at_doubling_epochs_whatever_is_written(tmp_path):
    """Of 3, 6, 9, 12, 15 and 18 none is a power of 2."""
    make().fit(X, epochs=18, verbose=0, callbacks=[MemoryMonitor(tmp_path, X, every=3)])
    assert steps(tmp_path, "addressing/heat_map") == [3, 6, 9, 18]


def test_learning_rate_of_a_schedule(tmp_path):
    model = make()
    schedule = keras.optimizers.schedules.CosineDecay(0.1, decay_steps=4)
    model.compile(keras.optimizers.Adam(schedule))
    model.fit(X, epochs=2, batch_size=32, verbose=0, callbacks=[MemoryMonitor(tmp_path, X)])
    rates = scalars(tmp_path, "training/learning_rate")
    assert rates[1] == pytest.approx(0.05)
    assert rates[2] == pytest.approx(0.0, abs=1e-8)


def test_a_collapsed_memory_is_warned_of(tmp_path):
    model = make(MemoryUnit(50, similarity="dot", scale=1e-3, shrink=5.0))
    with pytest.warns(UserWarning, match=r"memory has collapsed: only 0% of the queries"):
        model.fit(X, verbose=0, callbacks=[MemoryMonitor(tmp_path, X)])


def test_a_sound_memory_and_none_are_not(tmp_path):
    for model in (make(), MemAE(*dense(6, (8,), 3)[:1], None, dense(6, (8,), 3)[1])):
        model.compile("adam")
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            model.fit(X, verbose=0, callbacks=[MemoryMonitor(tmp_path, X)])


def test_other_models_are_refused(tmp_path):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6)])
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match=r"training of a MemAE\. Received: model="):
        model.fit(X, X, verbose=0, callbacks=[MemoryMonitor(tmp_path, X)])


@pytest.mark.parametrize("every", [0, 1.5])
def test_every_is_a_positive_integer(tmp_path, every):
    with pytest.raises(ValueError, match=f"Received: every={every}"):
        MemoryMonitor(tmp_path, X, every=every)


def test_there_is_a_sample_to_look_at(tmp_path):
    with pytest.raises(ValueError, match=r"Received: x of shape \(0, "):
        MemoryMonitor(tmp_path, X[:0])


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_on_other_backends(tmp_path, backend):
    """A process of its own, as the backend is chosen before Keras is imported."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed (pip install -e '.[backends]')")
    code = f"""
import numpy as np
from memae_tf import MemAE, MemoryMonitor, MemoryUnit, dense
x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
encoder, decoder = dense(6, hidden=(8,), code=3)
model = MemAE(encoder, MemoryUnit(5), decoder)
model.compile("adam")
model.fit(x, batch_size=64, verbose=0, callbacks=[MemoryMonitor({str(tmp_path)!r}, x)])
print(model.memory.health(model.addressing(x))["perplexity"])
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    got = scalars(tmp_path, "memory/perplexity")
    assert got[1] == pytest.approx(float(result.stdout), rel=1e-3)
