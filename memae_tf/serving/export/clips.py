"""Exports of detectors of clips, which are pixels or JPEG and PNG files of frames."""

import base64

import numpy as np
import tensorflow as tf

from memae_tf.models import Detector
from memae_tf.serving.export.images import PixelInterface, decoded, some, with_known_channels
from memae_tf.serving.export.interface import Entry, examples_entry

FRAMES_BYTES = "frames_bytes"


class ClipInterface(PixelInterface):
    """The inputs and explanations of a detector that takes clips.

    All frames of a clip have the same size and number of channels, and so have all clips of pixels
    in a request.

    Args:
        detector: A detector whose featurizer is a `ClipFeaturizer`.
    """

    kind = "clips"

    def __init__(self, detector: Detector):
        super().__init__(detector)
        length = detector.featurizer.length
        clips = self._samples()
        files = np.array([[tf.io.encode_png(f).numpy() for f in clip] for clip in clips], object)
        self.raw = Entry(
            lambda inputs: self._features(with_known_channels(inputs["clips"], "clips")),
            {"clips": tf.TensorSpec((None, length, None, None, None), tf.uint8)},
            {"clips": clips},
        )
        self.files = Entry(
            lambda inputs: self._of_files(inputs[FRAMES_BYTES]),
            {FRAMES_BYTES: tf.TensorSpec((None, length), tf.string)},
            {FRAMES_BYTES: files},
        )
        self.examples = examples_entry(
            lambda serialized: self._of_files(self._parse(serialized)), list(map(_example, files))
        )

    def _samples(self) -> np.ndarray:
        """Two clips of the model's size: ramps that move down and to the right."""
        length, height, width, channels = self.detector.featurizer.feature_shape
        rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
        shift = np.arange(length)[:, None, None]
        ramps = np.stack([(rows + shift) * 8 % 256, (columns + shift) * 8 % 256])
        return np.repeat(ramps.astype("uint8")[..., None], channels, axis=-1)

    def _of_files(self, files: tf.Tensor) -> tf.Tensor:
        """Features of clips whose frames are files (batch, length)."""
        pixels = tf.TensorSpec((None, None, None), tf.uint8)

        def of_clip(frames: tf.Tensor) -> tf.Tensor:
            clip = tf.map_fn(
                lambda file: decoded(file, FRAMES_BYTES), frames, fn_output_signature=pixels
            )
            return self._features(clip[None])[0]

        featurizer = self.detector.featurizer
        spec = tf.TensorSpec(featurizer.feature_shape, tf.float32)
        return tf.map_fn(of_clip, some(files), fn_output_signature=spec)

    def _parse(self, serialized: tf.Tensor) -> tf.Tensor:
        """The files of serialized tf.Examples."""
        length = self.detector.featurizer.length
        features = {FRAMES_BYTES: tf.io.FixedLenFeature((length,), tf.string)}
        return tf.io.parse_example(serialized, features)[FRAMES_BYTES]

    def example_request(self) -> dict:
        frames = self.files.samples[FRAMES_BYTES][0]
        encoded = [{"b64": base64.b64encode(file).decode()} for file in frames]
        return {"signature_name": "score_bytes", "instances": [encoded]}


def _example(files: np.ndarray) -> tf.train.Example:
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=list(files)))
    return tf.train.Example(features=tf.train.Features(feature={FRAMES_BYTES: feature}))
