"""The systems that the paper compares with: a file for each, all with `fit(x)` and `score(x)`.

They take features, float32 (samples, ...), from a featurizer; scores are higher for less normal
samples. The networks among them run on TensorFlow.
"""

from memae_tf.baselines.build import build_baseline

__all__ = ["build_baseline"]
