"""Keras layers: the memory of MemAE, the featurizers, and what the convolutional nets need.

On every Keras backend: `keras.ops` only.
"""

from memae_tf.layers.batch_normalization import BatchNormalization
from memae_tf.layers.clip_featurizer import ClipFeaturizer
from memae_tf.layers.cropping3d import Cropping3D
from memae_tf.layers.flip3d import Flip3D
from memae_tf.layers.image_featurizer import ImageFeaturizer
from memae_tf.layers.memory_unit import MemoryUnit
from memae_tf.layers.narrow_conv3d_transpose import NarrowConv3DTranspose
from memae_tf.layers.record_featurizer import RecordFeaturizer

# From raw input of one kind to features, with all that a `Detector` asks of it.
Featurizer = RecordFeaturizer | ImageFeaturizer | ClipFeaturizer

__all__ = [
    "BatchNormalization",
    "ClipFeaturizer",
    "Cropping3D",
    "Featurizer",
    "Flip3D",
    "ImageFeaturizer",
    "MemoryUnit",
    "NarrowConv3DTranspose",
    "RecordFeaturizer",
]
