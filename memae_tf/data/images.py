"""What the sources of images share: reading files, and a featurizer that fits the images."""

import functools
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from memae_tf.config import ImageData
from memae_tf.errors import UserError
from memae_tf.layers import ImageFeaturizer

# What Pillow raises for files that are damaged, cut off, huge, or not images. The last three of the
# first line come from its readers of TIFF and EXIF (text for a number), AVIF (a damaged file) and
# DDS (an unknown pixel format).
UNREADABLE = (
    *(OSError, SyntaxError, ValueError, EOFError, TypeError, RuntimeError, struct.error),
    Image.DecompressionBombError,
)
ORIENTATION = 0x0112  # EXIF tag
# The operation that makes a picture upright, by its orientation.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# The most damaged files that a message names.
SHOWN_FILES = 5


class ImageFiles:
    """Images in files, decoded each time they are indexed, as a folder may exceed the memory.

    An integer as index gives an image, uint8 (height, width, channels); a slice, an array of
    integers or a mask gives the files at these places.
    """

    def __init__(self, paths: Sequence[Path], shapes: Sequence[tuple[int, int, int]]):
        self.paths = np.array(paths, dtype=object)
        self.shapes = np.array(shapes, dtype="int64").reshape(-1, 3)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index):
        if isinstance(index, (int, np.integer)):
            return read_image(self.paths[index])
        return ImageFiles(self.paths[index], self.shapes[index])


def read_image(path: Path) -> np.ndarray:
    """Reads an image file as uint8 (height, width, 1 or 3), upright by its EXIF orientation.

    Raises:
        One of `UNREADABLE`: If the file is damaged or not an image.
    """
    with Image.open(path) as picture:
        picture = _upright(picture)
        if picture.mode.startswith("I"):
            values = np.asarray(picture, "int64")
            if values.min() < 0 or values.max() > 65535:
                raise ValueError("holds pixel values of more than 16 bits")
            return np.rint(values / 257).astype("uint8")[..., None]
        if picture.mode == "F":
            raise ValueError("holds floats, not pixel values of 8 or 16 bits")
        if picture.mode in ("1", "L", "LA"):
            return np.asarray(picture.convert("L"))[..., None]
        return np.asarray(picture.convert("RGB"))


def _upright(picture: Image.Image) -> Image.Image:
    # Not `ImageOps.exif_transpose`, which rewrites EXIF and fails at anything odd in it.
    try:
        turn = TURNS.get(picture.getexif().get(ORIENTATION))
    except UNREADABLE:
        return picture
    return picture if turn is None else picture.transpose(turn)


def open_files(paths: Sequence[Path], source: str) -> ImageFiles:
    """Decodes every file once, so that damaged ones are found before training begins.

    Raises:
        UserError: Naming the files that cannot be read.
    """

    def shape(path: Path) -> tuple[int, int, int] | str:
        try:
            return read_image(path).shape
        except UNREADABLE as error:
            return reason(error, path)

    with ThreadPoolExecutor() as pool:
        shapes = list(pool.map(shape, paths))
    damaged = [(path, s) for path, s in zip(paths, shapes, strict=True) if isinstance(s, str)]
    if damaged:
        raise UserError(f"{source}: {complaint(damaged, len(paths))}; repair or delete them")
    return ImageFiles(paths, shapes)


def reason(error: Exception, path: Path) -> str:
    """Why a file is `UNREADABLE`, in one line."""
    # Without the file's name, which Pillow repeats.
    return " ".join(str(error).replace(repr(str(path)), "").split())


def complaint(damaged: Sequence[tuple[Path, str]], total: int, kind: str = "images") -> str:
    """A message on damaged files: how many there are, and the first ones with their reasons."""
    named = ", ".join(f"{path} ({why})" for path, why in damaged[:SHOWN_FILES])
    more = len(damaged) - SHOWN_FILES
    return (
        f"{len(damaged)} of {total} {kind} cannot be read: {named}"
        f"{f', and {more} more' if more > 0 else ''}"
    )


@functools.cache
def image_suffixes() -> frozenset[str]:
    """The suffixes of files that Pillow can open as a picture, such as ".png".

    It registers more: formats that it only writes (PDF), and ones that it cannot decode itself
    (HDF5, MPEG).
    """
    kinds = Image.registered_extensions()
    openers = {kind: Image.OPEN[kind][0] for kind in set(kinds.values()) & set(Image.OPEN)}
    pictures = {
        kind
        for kind, opener in openers.items()
        if kind != "MPEG"
        and not (isinstance(opener, type) and issubclass(opener, ImageFile.StubImageFile))
    }
    return frozenset(suffix for suffix, kind in kinds.items() if kind in pictures)


def files_in(folder: Path) -> list[Path]:
    """The files in a folder and its subfolders that have the suffix of an image, sorted by name."""
    suffixes = image_suffixes()
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    )


def as_images(images: Sequence[np.ndarray]) -> np.ndarray:
    """Images as one array if they have one shape, else as an object array of arrays."""
    if len({image.shape for image in images}) == 1:
        return np.stack(images)
    array = np.empty(len(images), dtype=object)
    array[:] = images
    return array


def shapes_of(images) -> np.ndarray:
    """The shape of every image, int64 (images, 3)."""
    if isinstance(images, ImageFiles):
        return images.shapes
    if images.dtype == object:
        return np.array([image.shape for image in images], "int64").reshape(-1, 3)
    return np.tile(np.array(images.shape[1:], "int64"), (len(images), 1))


def image_featurizer(config: ImageData, train, source: str) -> ImageFeaturizer:
    """A featurizer adapted to training images, by default with their size and channels.

    Raises:
        UserError: If the images are of several sizes and `data.size` names none.
    """
    shapes = shapes_of(train)
    size = [config.size] * 2 if isinstance(config.size, int) else config.size
    if size is None:
        sizes = np.unique(shapes[:, :2], axis=0)
        if len(sizes) > 1:
            small, large = ("x".join(map(str, side)) for side in (sizes[0], sizes[-1]))
            raise UserError(
                f"{source}: the training images have {len(sizes)} sizes, from {small} to "
                f"{large}; set data.size=[height, width] to resize them"
            )
        size = sizes[0]
    channels = config.channels or (1 if shapes[:, 2].max() == 1 else 3)
    featurizer = ImageFeaturizer(size, channels, config.scaling)
    featurizer.adapt(train)
    return featurizer
