"""Exports of detectors of images, which are pixels or JPEG and PNG files."""

import base64

import numpy as np
import tensorflow as tf

from memae_tf.layers.image_featurizer import CHANNELS
from memae_tf.models import Detector
from memae_tf.serving.export.interface import (
    Entry,
    Interface,
    Tensors,
    checked,
    example,
    examples_entry,
)

FORMATS = ("JPEG", "PNG")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# For a name with this suffix, servers read and write base64 in JSON.
IMAGE_BYTES = "image_bytes"


class PixelInterface(Interface):
    """The common part of interfaces for images and for clips.

    Args:
        detector: A detector whose featurizer is an `ImageFeaturizer`, or one derived from it.
    """

    def _features(self, samples: tf.Tensor) -> tf.Tensor:
        """Features of samples (batch, ..., height, width, 1 to 4), whose shape is known only when
        the graph runs."""
        channels = tf.shape(samples)[-1]
        # With an even number of channels, the last one is alpha.
        opaque = samples[..., : channels - (1 - channels % 2)]

        def of(number: int):
            pixels = tf.ensure_shape(opaque, (*opaque.shape[:-1], number))
            return self.detector.featurizer(pixels)

        return tf.cond(tf.shape(opaque)[-1] == 1, lambda: of(1), lambda: of(3))

    def describe(self) -> dict:
        return {
            "kind": self.kind,
            "formats": list(FORMATS),
            **self.detector.featurizer.describe_features(),
        }


class ImageInterface(PixelInterface):
    """The inputs and explanations of a detector that takes images.

    All images of pixels in a request have the same size and number of channels; files may differ.

    Args:
        detector: A detector whose featurizer is an `ImageFeaturizer`.
    """

    kind = "images"

    def __init__(self, detector: Detector):
        super().__init__(detector)
        images = self._samples()
        files = [tf.io.encode_png(images[0]).numpy(), tf.io.encode_jpeg(images[1]).numpy()]
        self.raw = Entry(
            self._of_pixels,
            {"images": tf.TensorSpec((None, None, None, None), tf.uint8)},
            {"images": images},
        )
        self.files = Entry(
            lambda inputs: self._of_files(inputs[IMAGE_BYTES]),
            {IMAGE_BYTES: tf.TensorSpec((None,), tf.string)},
            {IMAGE_BYTES: np.array(files, object)},
        )
        self.examples = examples_entry(
            lambda serialized: self._of_files(_parse(serialized)),
            [example({IMAGE_BYTES: file}) for file in files],
        )

    def _samples(self) -> np.ndarray:
        """Two images of the model's size, which get brighter downwards and to the right."""
        height, width, channels = self.detector.featurizer.feature_shape
        rows, columns = np.linspace(0, 1, height), np.linspace(0, 1, width)
        ramps = np.stack(np.meshgrid(rows, columns, indexing="ij"))
        return np.repeat(np.rint(255 * ramps).astype("uint8")[..., None], channels, axis=-1)

    def _of_pixels(self, inputs: Tensors) -> tf.Tensor:
        return self._features(with_known_channels(inputs["images"], "images"))

    def _of_files(self, files: tf.Tensor) -> tf.Tensor:
        """Features of encoded images (batch,), which may be of several sizes."""
        return tf.map_fn(
            lambda file: self._features(decoded(file, IMAGE_BYTES)[None])[0],
            some(files),
            fn_output_signature=tf.TensorSpec(self.detector.featurizer.feature_shape, tf.float32),
        )

    def example_request(self) -> dict:
        encoded = base64.b64encode(self.files.samples[IMAGE_BYTES][0]).decode()
        return {"signature_name": "score_bytes", "instances": [{"b64": encoded}]}


def _parse(serialized: tf.Tensor) -> tf.Tensor:
    """The image files of serialized tf.Examples."""
    features = {IMAGE_BYTES: tf.io.FixedLenFeature((), tf.string)}
    return tf.io.parse_example(serialized, features)[IMAGE_BYTES]


def decoded(file: tf.Tensor, alias: str) -> tf.Tensor:
    """The pixels of a JPEG or PNG file, uint8 (height, width, 1 to 4)."""
    is_jpeg = tf.io.is_jpeg(file)
    is_png = tf.equal(tf.strings.substr(file, 0, len(PNG_SIGNATURE)), PNG_SIGNATURE)
    complaint = f"{alias} should be a {' or '.join(FORMATS)} file, and is neither"
    file = checked(file, is_jpeg | is_png, complaint)
    return tf.cond(
        is_jpeg,
        # Gives the same pixels as Pillow, which decoded the training images.
        lambda: tf.io.decode_jpeg(file, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_png(file),
    )


def with_known_channels(pixels: tf.Tensor, alias: str) -> tf.Tensor:
    """Pixels (batch, ..., channels), after a check that they can be scored."""
    pixels = some(pixels)
    channels = tf.shape(pixels)[-1]
    known = tf.reduce_any(tf.equal(channels, CHANNELS))
    complaint = f"{alias} should have one of {CHANNELS} channels, and have"
    return checked(pixels, known, complaint, channels)


def some(batch: tf.Tensor) -> tf.Tensor:
    """A batch, checked not to be empty: convolutions of empty batches have wrong shapes."""
    return checked(batch, tf.shape(batch)[0] > 0, "a request should have one sample or more")
