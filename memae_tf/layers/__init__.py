"""Keras layers: the memory of MemAE, the featurizers, and what the convolutional nets need.

On every Keras backend: `keras.ops` only.
"""

from memae_tf.layers.batch_normalization import BatchNormalization
from memae_tf.layers.clip_featurizer import ClipFeaturizer
from memae_tf.layers.cropping3d import Cropping3D
from memae_tf.layers.image_featurizer import ImageFeaturizer
from memae_tf.layers.memory_unit import MemoryUnit
from memae_tf.layers.mirrored_conv3d import MirroredConv3D
from memae_tf.layers.record_featurizer import RecordFeaturizer

__all__ = [
    "BatchNormalization",
    "ClipFeaturizer",
    "Cropping3D",
    "ImageFeaturizer",
    "MemoryUnit",
    "MirroredConv3D",
    "RecordFeaturizer",
]
