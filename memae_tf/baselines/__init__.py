"""What the paper compares with: one system a file, all with `fit(x)` and `score(x)`.

They take features, float32 (samples, ...) as a featurizer gives them, and score higher what is less
normal. The networks among them run on TensorFlow.
"""

from memae_tf.baselines.build import build_baseline

__all__ = ["build_baseline"]
