import keras
import numpy as np
import pytest

from memae_tf.data.dataset import Dataset
from memae_tf.layers import MemoryUnit, RecordFeaturizer
from memae_tf.models import MemAE
from memae_tf.training.run_metrics import memory_health, some_features


def test_memory_health_looks_at_all_kinds_of_a_sorted_file():
    half = np.ones(5000, "float32")
    records = {"x": np.concatenate([half, -half]), "y": np.concatenate([-half, half])}
    featurizer = RecordFeaturizer(["x", "y"], scaling="standard")
    featurizer.adapt(records)
    identity = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(2, kernel_initializer="identity")]
    )
    memory = MemoryUnit(2, scale=10.0, shrink=0.0)
    model = MemAE(identity, memory, keras.models.clone_model(identity))
    model.build((None, 2))
    memory.memory.assign([[1.0, -1.0], [-1.0, 1.0]])
    dataset = Dataset("sorted", "given", False, featurizer, records, None, None, "train_quantile")
    health = memory_health(model, some_features(model, dataset), dataset.featurizer.batch_size)
    assert health["slots_used"] == 2
    assert health["perplexity"] == pytest.approx(2.0, rel=1e-3)
