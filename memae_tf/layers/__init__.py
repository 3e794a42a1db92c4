"""Keras layers: the memory of MemAE and the featurizer for records. `keras.ops` only."""

from memae_tf.layers.memory_unit import MemoryUnit
from memae_tf.layers.record_featurizer import RecordFeaturizer

__all__ = ["MemoryUnit", "RecordFeaturizer"]
