"""Keras models: MemAE, the paper's three architectures, and the detector. `keras.ops` only."""

from memae_tf.models.build import build_memae
from memae_tf.models.conv2d import conv2d
from memae_tf.models.conv3d import conv3d
from memae_tf.models.dense import dense
from memae_tf.models.detector import Detector, load_detector
from memae_tf.models.memae import MemAE

__all__ = ["Detector", "MemAE", "build_memae", "conv2d", "conv3d", "dense", "load_detector"]
