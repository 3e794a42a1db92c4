"""Clips of frames of any size to normalised clips of one size, as a Keras layer."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import ops

from memae_tf.config import FrameScoring
from memae_tf.layers.arguments import is_number, positive_integer
from memae_tf.layers.image_featurizer import ImageFeaturizer

SCALINGS = ("unit", "symmetric", "standard")
# Elements in a batch of `Detector.detect`, at most: a 3-D network's activations are far larger.
BATCH_NUMBERS = 2**21


@keras.saving.register_keras_serializable(package="memae_tf")
class ClipFeaturizer(ImageFeaturizer):
    """Turns uint8 clips into float clips of one size, with one number of channels, normalised.

    Every frame is treated as `ImageFeaturizer` treats an image. The layer also holds how the scores
    of frames follow from those of clips, since the threshold of a detector is one for frames.

    Examples:
        >>> featurizer = ClipFeaturizer(size=(64, 64), length=16)
        >>> featurizer(np.zeros((8, 16, 240, 360, 1), "uint8")).shape
        (8, 16, 64, 64, 1)

    Args:
        size: (height, width) of the output.
        length: Integer, frames of a clip.
        frame_stride: Integer, the distance from one frame of a clip to the next, in frames of the
            footage that clips are cut from.
        channels: Channels of the output, 1 (grey) or 3 (colour).
        scaling: `"unit"`, `"symmetric"` (the paper's) or `"standard"`, as in `ImageFeaturizer`.
        frame_scoring: A `FrameScoring`, or a dict of its fields: how frames are scored.
        frame_rate: Frames a second to which the training footage was brought, and to which footage
            is brought before it is scored; `None` if all frames are taken.

    Input shape:
        `(batch, length, height, width, channels)` with 1, 3 or 4 channels, values 0 to 255.

    Output shape:
        `(batch, length, *size, channels)`, float32.

    Raises:
        ValueError: If an argument is out of its range, or the input has another rank, length or
            number of channels.

    Reference:
        - [Gong et al., 2019](https://arxiv.org/abs/1904.02639), section 4.2
    """

    _item, _one = "clip", "A clip"
    _axes = ("frames", "height", "width")

    def __init__(
        self,
        size: Sequence[int],
        length: int = 16,
        frame_stride: int = 1,
        channels: int = 1,
        scaling: str = "symmetric",
        frame_scoring: FrameScoring | Mapping | None = None,
        frame_rate: float | None = None,
        **kwargs,
    ):
        if scaling not in SCALINGS:
            raise ValueError(f"`scaling` must be one of {SCALINGS}. Received: scaling={scaling}")
        super().__init__(size, channels, scaling, **kwargs)
        self.length = positive_integer("length", length)
        self.frame_stride = positive_integer("frame_stride", frame_stride)
        if frame_rate is not None and not (is_number(frame_rate) and frame_rate > 0):
            raise ValueError(
                f"`frame_rate` must be a positive number or None. Received: frame_rate={frame_rate}"
            )
        if not isinstance(frame_scoring, FrameScoring):
            frame_scoring = FrameScoring(**(frame_scoring or {}))
        self.frame_scoring = frame_scoring
        self.frame_rate = frame_rate

    @property
    def feature_shape(self) -> tuple[int, int, int, int]:
        """The shape of one clip as the model takes it."""
        return (self.length, *self.size, self.channels)

    @property
    def batch_size(self) -> int:
        """The number of clips in a batch, if nothing else is asked for."""
        return max(1, BATCH_NUMBERS // int(np.prod(self.feature_shape)))

    def resized(self, clips):
        """Float clips (batch, length, *size, channels) with values of 0 to 255."""
        shape = tuple(clips.shape)
        if len(shape) != 5 or shape[1] != self.length:
            raise ValueError(
                f"Clips must be of shape (batch, {self.length}, height, width, channels). "
                f"Received: shape={shape}"
            )
        sides = ops.shape(clips)[2:4]
        frames = super().resized(ops.reshape(clips, (-1, *sides, shape[-1])))
        return ops.reshape(frames, (-1, *self.feature_shape))

    # What a detector asks of a featurizer.

    def _with_channels(self, pixels, what, axes):
        clips = super()._with_channels(pixels, what, axes)
        if clips.shape[-4] != self.length:
            raise ValueError(
                f"{what} must have {self.length} frames, of shape ({', '.join(axes)}) or "
                f"({', '.join(axes)}, channels). Received: an array of shape {pixels.shape}"
            )
        return clips

    def as_input(self, clips):
        """Clips from a user, checked, in a form that `batches` takes.

        Args:
            clips: A uint8 array (clips, length, height, width), grey, or (clips, length, height,
                width, channels); or a sequence of arrays (length, height, width) or (length,
                height, width, channels), whose sizes may differ. Clips in a sequence are checked
                when `batches` comes to them.

        Raises:
            ValueError: If it is another kind of array, or neither an array nor a sequence.
        """
        return super().as_input(clips)

    def input_specs(self, batch):
        """The shape and dtype that a graph for batches like this one takes."""
        # With the size of the frames, so that a graph for frames of the model's size has no resize.
        return keras.InputSpec(dtype="uint8", shape=(None, *batch.shape[1:]))

    def describe_features(self) -> dict:
        """How features follow from clips, in JSON's types: see `ImageFeaturizer`, and the
        arguments `length`, `frame_stride`, `frame_rate` and `frame_scoring`."""
        own = {
            "length": self.length,
            "frame_stride": self.frame_stride,
            "frame_rate": self.frame_rate,
            "frame_scoring": self.frame_scoring.model_dump(),
        }
        return {**own, **super().describe_features()}

    def explain(self, feature_errors):
        """`heat_map` (batch, length, *size): the errors of the channels of each pixel, added up.

        Args:
            feature_errors: Float tensor (batch, length, *size, channels).
        """
        return super().explain(feature_errors)

    def get_config(self):
        return {
            **super().get_config(),
            "length": self.length,
            "frame_stride": self.frame_stride,
            "frame_scoring": self.frame_scoring.model_dump(),
            "frame_rate": self.frame_rate,
        }
