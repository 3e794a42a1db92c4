"""Images of any size to normalised images of one size, as a Keras layer."""

import math
from collections.abc import Iterator, Sequence

import keras
import numpy as np
from keras import ops

from memae_tf.layers.arguments import positive_integers

# Grey, colour, and colour with an alpha channel.
CHANNELS = (1, 3, 4)
# Weights of red, green and blue in ITU-R 601, which image libraries call luma or "L".
LUMA = (0.299, 0.587, 0.114)
SCALINGS = ("unit", "symmetric", "standard", "image")
# (offset, spread) of pixel values 0 to 255, for scalings that learn nothing.
FIXED = {"unit": (0.0, 255.0), "symmetric": (127.5, 127.5)}
# Smallest standard deviation to divide by, one pixel value: noise of even images stays small.
LEAST_SPREAD = 1.0
# Limits of a batch of `Detector.detect`: elements of its features, images, bytes of raw images.
BATCH_NUMBERS, BATCH_IMAGES, BATCH_BYTES = 2**22, 1024, 2**25


@keras.saving.register_keras_serializable(package="memae_tf")
class ImageFeaturizer(keras.layers.Layer):
    """Turns uint8 images into float images of one size, with one number of channels, normalised.

    Grey images become colour ones by repetition, colour ones grey by their luma; an alpha channel
    is dropped. Images of other sizes than `size` are resized bilinearly, with antialiasing; the
    aspect ratio is not kept.

    Examples:
        >>> featurizer = ImageFeaturizer(size=(32, 32), channels=3)
        >>> featurizer(np.zeros((8, 100, 80, 1), "uint8")).shape
        (8, 32, 32, 3)

    Args:
        size: (height, width) of the output.
        channels: Channels of the output, 1 (grey) or 3 (colour).
        scaling: `"unit"`, to [0, 1]; `"symmetric"`, to [-1, 1]; `"standard"`, a z-score for each
            channel, which `adapt` learns; `"image"`, a z-score within each image over all of its
            pixels and channels, so that neither brightness nor contrast, nor how much ink a digit
            has, makes an error large. An image of one colour becomes zeros.

    Input shape:
        `(batch, height, width, channels)` with 1, 3 or 4 channels, values 0 to 255.

    Output shape:
        `(batch, *size, channels)`, float32.

    Raises:
        ValueError: If an argument is out of its range, or the input has another rank or number of
            channels.
    """

    # For messages: what a sample is called, and its axes before the channels.
    _item, _one = "image", "An image"
    _axes: tuple[str, ...] = ("height", "width")

    def __init__(self, size: Sequence[int], channels: int = 1, scaling: str = "unit", **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.size = positive_integers("size", size, 2)
        if isinstance(channels, bool) or channels not in (1, 3):
            raise ValueError(f"`channels` must be 1 or 3. Received: channels={channels}")
        if scaling not in SCALINGS:
            raise ValueError(f"`scaling` must be one of {SCALINGS}. Received: scaling={scaling}")
        self.channels = channels
        self.scaling = scaling
        # feature = (pixel value - offset) / spread. With "image" each image has its own, and these,
        # of a typical image, are for `inverse` alone.
        offset, spread = FIXED.get(scaling, FIXED["unit"])
        self.offset = self._statistic("offset", offset)
        self.spread = self._statistic("spread", spread)
        self.built = True

    def _statistic(self, name: str, value: float):
        return self.add_weight(
            name=name,
            shape=(self.channels,),
            initializer=keras.initializers.Constant(value),
            dtype="float32",
            trainable=False,
        )

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """The shape of one image as the model takes it."""
        return (*self.size, self.channels)

    @property
    def batch_size(self) -> int:
        """The number of images in a batch, if nothing else is asked for."""
        return max(1, min(BATCH_IMAGES, BATCH_NUMBERS // int(np.prod(self.feature_shape))))

    def adapt(self, images) -> None:
        """Learns mean and standard deviation of each channel, where `scaling` is "standard".

        With "image", what it learns serves `inverse` alone: the means of the images' own mean and
        standard deviation.

        Args:
            images: Training images, as `as_input` takes them.

        Raises:
            ValueError: If there are none, or they are not images.
        """
        images = self.as_input(images)
        if len(images) == 0:
            raise ValueError("`adapt` needs one image or more. Received: no images")
        if self.scaling == "standard":
            self._adapt_channels(images)
        elif self.scaling == "image":
            self._adapt_typical(images)

    def _adapt_channels(self, images) -> None:
        count, total, squares = 0, 0.0, 0.0
        for _, batch in self.batches(images, self.batch_size):
            values = ops.convert_to_numpy(self.resized(batch)).astype("float64")
            values = values.reshape(-1, self.channels)
            count += len(values)
            total = total + values.sum(axis=0)
            squares = squares + np.square(values).sum(axis=0)
        mean = total / count
        spread = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
        self.offset.assign(mean)
        # The spread of images of one colour is 0, up to rounding.
        self.spread.assign(np.where(spread < 1e-3, 1.0, spread))

    def _adapt_typical(self, images) -> None:
        totals = np.zeros(2)
        for _, batch in self.batches(images, self.batch_size):
            moments = _image_moments(self.resized(batch))
            totals += [ops.convert_to_numpy(m).astype("float64").sum() for m in moments]
        offset, spread = totals / len(images)
        self.offset.assign(np.full(self.channels, offset))
        self.spread.assign(np.full(self.channels, spread))

    def call(self, images):
        x = self.resized(images)
        offset, spread = self.offset, self.spread
        if self.scaling == "image":
            offset, spread = _image_moments(x)
        return (x - offset) / spread

    def resized(self, images):
        """Float images (batch, *size, channels) with values of 0 to 255."""
        shape = images.shape
        if len(shape) != 4 or shape[-1] not in CHANNELS:
            raise ValueError(
                "Images must be of shape (batch, height, width, channels), with 1, 3 or 4 "
                f"channels. Received: shape={tuple(shape)}"
            )
        x = ops.cast(images, "float32")[..., :3]
        if self.channels == 1 and x.shape[-1] == 3:
            x = ops.sum(x * ops.convert_to_tensor(LUMA, "float32"), axis=-1, keepdims=True)
        if tuple(shape[1:3]) != self.size:
            x = ops.image.resize(
                x, self.size, interpolation="bilinear", antialias=True, data_format="channels_last"
            )
            # Rounded weights may not sum to 1, so that values leave the range.
            x = ops.clip(x, 0.0, 255.0)
        return ops.repeat(x, 3, axis=-1) if self.channels == 3 and x.shape[-1] == 1 else x

    def inverse(self, features) -> np.ndarray:
        """The images that features stand for, uint8 (batch, *size, channels).

        With `scaling="image"`, of the brightness and contrast of a typical training image.

        Args:
            features: Float array (batch, *size, channels).
        """
        features = ops.convert_to_numpy(features)
        spread, offset = (ops.convert_to_numpy(v) for v in (self.spread, self.offset))
        return np.clip(np.rint(features * spread + offset), 0, 255).astype("uint8")

    # What a detector asks of a featurizer.

    def as_input(self, images):
        """Images from a user, checked, in a form that `batches` takes.

        Args:
            images: A uint8 array (images, height, width), grey, or (images, height, width,
                channels); or a sequence of arrays (height, width) or (height, width, channels),
                whose sizes may differ. Images in a sequence are checked when `batches` comes to
                them.

        Raises:
            ValueError: If it is another kind of array, or neither an array nor a sequence.
        """
        if not _is_indexable(images):
            raise ValueError(
                f"{self._item.title()}s must be an array or a list of arrays. "
                f"Received: {type(images).__name__}"
            )
        if not isinstance(images, np.ndarray) or images.dtype == object:
            return images
        if len(self._axes) == 2 and _looks_like_one_image(images) and self.size[1] > 4:
            raise ValueError(
                "This looks like one image in colour, and images must be a batch of them: one is "
                f"image[None]. Received: an array of shape {images.shape}"
            )
        return self._with_channels(
            images, f"{self._item.title()}s", (f"{self._item}s", *self._axes)
        )

    def count(self, images) -> int:
        """The number of images that `as_input` gave."""
        return len(images)

    def batches(self, images, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The images in batches of one size each, with their places (batch,) among all images.

        Batches of large images are smaller: 32 MiB of pixels at a time, or a single image.
        """
        if isinstance(images, np.ndarray) and images.dtype != object:
            fitting = BATCH_BYTES // max(1, math.prod(images.shape[1:]))
            step = max(1, min(batch_size, fitting))
            for start in range(0, len(images), step):
                yield np.arange(start, min(start + step, len(images))), images[start : start + step]
            return
        groups: dict[tuple, list] = {}
        count = nbytes = 0
        for place in range(len(images)):
            image = self._with_channels(self._as_array(images[place]), self._one, self._axes)
            groups.setdefault(image.shape, []).append((place, image))
            count, nbytes = count + 1, nbytes + image.nbytes
            if count == batch_size or nbytes >= BATCH_BYTES:
                yield from _stacked(groups)
                groups, count, nbytes = {}, 0, 0
        yield from _stacked(groups)

    def empty(self) -> np.ndarray:
        """One black image, to find out what answers look like where there are no images."""
        return np.zeros((1, *self.feature_shape), "uint8")

    def input_specs(self, batch):
        """The shape and dtype that a graph for batches like this one takes."""
        return keras.InputSpec(dtype="uint8", shape=(None, None, None, batch.shape[-1]))

    def describe_features(self) -> dict:
        """How features follow from images, in JSON's types: an image is resized to `size` (height,
        width), and a feature is (pixel value - `offset`) / `spread`, with one of each for each of
        the `channels`. With the `scaling` "image" both are missing, as they are the mean and the
        standard deviation (at least 1) of each image."""
        about = {"size": list(self.size), "channels": self.channels, "scaling": self.scaling}
        if self.scaling == "image":
            return about
        offset, spread = (ops.convert_to_numpy(v).tolist() for v in (self.offset, self.spread))
        return {**about, "offset": offset, "spread": spread}

    def explain(self, feature_errors):
        """`heat_map` (batch, *size): the errors of the channels of each pixel, added up.

        Args:
            feature_errors: Float tensor (batch, *size, channels).
        """
        return {"heat_map": ops.sum(feature_errors, axis=-1)}

    def _as_array(self, image) -> np.ndarray:
        """One image, which may be nested lists, as an array.

        Raises:
            ValueError: If its rows differ in length.
        """
        try:
            return np.asarray(image)
        except ValueError:
            # NumPy's own message speaks of an inhomogeneous shape.
            raise ValueError(
                f"{self._one} must be one array, all parts of which have the same size. Received: "
                f"a {type(image).__name__} of parts whose sizes differ"
            ) from None

    def _with_channels(self, pixels: np.ndarray, what: str, axes: tuple[str, ...]) -> np.ndarray:
        """Pixels with an axis of channels after `axes`, which is added to grey ones without it.

        Raises:
            ValueError: If they are not uint8, have other axes or another number of channels, or
                there are no pixels.
        """
        if pixels.dtype != np.uint8:
            raise ValueError(
                f"{self._item.title()}s must be uint8 arrays, with values of 0 to 255: the "
                f"detector normalises them itself. Received: dtype={pixels.dtype}"
            )
        if pixels.ndim == len(axes):
            pixels = pixels[..., None]
        if pixels.ndim != len(axes) + 1:
            grey = ", ".join(axes)
            raise ValueError(
                f"{what} must be an array ({grey}) or ({grey}, channels). "
                f"Received: an array of shape {pixels.shape}"
            )
        if pixels.shape[-1] not in CHANNELS or 0 in pixels.shape[-3:]:
            raise ValueError(
                f"{what} must have pixels of 1, 3 or 4 channels. "
                f"Received: an array of shape {pixels.shape}"
            )
        return pixels

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.feature_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "size": list(self.size),
            "channels": self.channels,
            "scaling": self.scaling,
        }


def _is_indexable(samples: object) -> bool:
    """Whether samples can be had by their place, as those of a list can.

    NumPy's arrays and this package's images in files can, though they are no `Sequence`; what has
    keys, as records do, cannot.
    """
    is_text = isinstance(samples, (str, bytes))
    has_items = hasattr(samples, "__len__") and hasattr(samples, "__getitem__")
    return has_items and not is_text and not hasattr(samples, "keys")


def _looks_like_one_image(array: np.ndarray) -> bool:
    """Whether an array is (height, width, channels) rather than grey images that are as narrow."""
    return array.ndim == 3 and array.shape[-1] in (3, 4)


def _stacked(groups: dict[tuple, list]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for group in groups.values():
        places, arrays = zip(*group, strict=True)
        yield np.array(places), np.stack(arrays)


def _image_moments(x):
    """Mean and standard deviation of every image (batch, height, width, channels), (batch, 1, 1, 1)
    each."""
    axes = (1, 2, 3)
    offset = ops.mean(x, axes, keepdims=True)
    # From differences: the mean square minus the squared mean would lose digits in float32.
    variance = ops.mean(ops.square(x - offset), axes, keepdims=True)
    return offset, ops.maximum(ops.sqrt(variance), LEAST_SPREAD)
