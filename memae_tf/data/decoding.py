"""Frames of video files and of folders of images, one by one."""

import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from memae_tf.data import images
from memae_tf.data.images import UNREADABLE, read_image
from memae_tf.errors import UserError
from memae_tf.layers.image_featurizer import LUMA

# The suffixes of FFmpeg's usual containers, and of raw streams that cameras and recorders write.
VIDEO_SUFFIXES = (
    *(".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".asf", ".flv", ".3gp", ".ogv", ".vob", ".mxf", ".dav"),
    *(".h264", ".264", ".h265", ".265", ".hevc", ".mjpeg", ".mjpg"),
)
LONGEST_STEP = 10.0  # seconds from one frame to the next
# How far times may go back where frames are in disorder; beyond it, another file was joined on.
TOLERATED_DISORDER = 1.0  # seconds
# Seconds for a server to answer, and to send the next packet.
TIMEOUT = 10.0
# How many packets in a row of a stream may be damaged.
MOST_DAMAGED = 100
# How much of a video may be missing: a container may count frames that its edit list leaves out.
TOLERATED_SHARE, TOLERATED_FRAMES = 0.01, 2
# FFmpeg's names of containers that state their duration in the header, but no number of frames.
DURATION_FORMATS = ("matroska,webm", "flv")


class DamagedVideoError(Exception):
    """A video cannot be read, or not to its end; the message says why."""


@dataclass(frozen=True)
class Frame:
    """A decoded frame.

    Attributes:
        pixels: uint8 (height, width, channels).
        time: Seconds since the video's first frame; `None` if unknown.
        shown: The frame in colour, uint8 (height, width, 3), if it was asked for.
        pixel_aspect: Width of a pixel divided by its height.
    """

    pixels: np.ndarray
    time: float | None
    shown: np.ndarray | None = None
    pixel_aspect: float = 1.0


def read_frames(path: Path, channels: int, shown: bool = False) -> Iterator[Frame]:
    """All frames of a video file or of a folder of images, in order, each of its own size.

    Args:
        path: A file that FFmpeg reads, or a folder whose images are frames in the order of the
            numbers in their names.
        channels: Channels of the frames, 1 (grey) or 3 (colour).
        shown: Whether to give the frames in colour, too.

    Raises:
        DamagedVideoError: If it cannot be read, or not to its end.
    """
    read = _read_folder if path.is_dir() else _read_file
    return read(path, channels, shown)


def frame_rate(path: Path) -> float | None:
    """The frames a second of a video file; `None` for a folder, or if the file does not say.

    Raises:
        DamagedVideoError: If it cannot be opened.
    """
    if path.is_dir():
        return None
    return frame_rate_of(lambda: open_file(path))


def frame_rate_of(opened: Callable) -> float | None:
    """The frames a second of a video; `None` if it does not say, or has no end.

    Args:
        opened: A function that opens its container.

    Raises:
        DamagedVideoError: If it cannot be opened.
    """
    av = require_av()
    try:
        with opened() as container:
            stream = _stream(container)
            rate = stream.average_rate if stream.frames or container.duration else None
    except av.FFmpegError as error:
        raise DamagedVideoError(reason(error)) from None
    return float(rate) if rate else None


def frame_files(folder: Path) -> list[Path]:
    """The images of a folder, in the order of the numbers in their names."""
    suffixes = images.image_suffixes()
    files = (
        path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    )
    return sorted(files, key=natural_order)


def natural_order(path: Path) -> tuple:
    """A sort key by which `frame 10` comes after `frame 9`."""
    return tuple(
        (int(part), "") if part.isdecimal() else (-1, part)
        for part in re.split(r"(\d+)", path.name)
        if part
    )


def resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A frame in another size; pixel values differ by at most 1 from `ImageFeaturizer`'s.

    Args:
        pixels: uint8 (height, width, 1 or 3).
        size: (height, width).
    """
    if pixels.shape[:2] == tuple(size):
        return pixels
    grey = pixels.shape[-1] == 1
    image = Image.fromarray(pixels[..., 0] if grey else pixels)
    # Pillow's filter is as wide as the reduction: that is antialiasing.
    small = np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR))
    return small[..., None] if grey else small


def at_rate(numbered: Iterator[tuple[int, Frame]], rate: float) -> Iterator[tuple[int, Frame]]:
    """Resamples a video to a rate: the frames seen at the times 0, 1 / rate, ..., and the last.

    Frames of a slower video are repeated, some of a faster one are left out; those without a time
    are all kept. Where times go back or leap by more than 10 s, the clock was set, and the next
    frame is taken to follow immediately.

    Args:
        numbered: Frames with their numbers.
        rate: Frames a second.
    """
    count, last, leapt = 0, None, 0.0
    for number, frame in numbered:
        if frame.time is None:
            yield number, frame
            continue
        step = 0.0 if last is None else frame.time - last[1].time
        if not 0 <= step <= LONGEST_STEP:
            leapt += step - 1 / rate
        # With a tolerance, as files round times to milliseconds or worse.
        while last is not None and (count + 0.05) / rate < frame.time - leapt:
            yield last
            count += 1
        last = number, frame
    if last is not None:
        yield last


def require_av():
    """The package PyAV.

    Raises:
        UserError: If it is not installed.
    """
    try:
        import av
    except ImportError:
        raise UserError(
            "video: the package av is not installed; pip install 'memae_tf[video]' installs it"
        ) from None
    return av


def open_container(source, **options):
    """PyAV's container of a file, an address or an open file, to read from."""
    av = require_av()
    if int(av.__version__.partition(".")[0]) < 19:
        # Titles and other metadata, which are not used, may be in any encoding.
        options["metadata_errors"] = "replace"
    return av.open(source, **options)


def open_file(path: Path):
    """PyAV's container of a file."""
    # FFmpeg would take what stands before a colon in a relative path for a protocol.
    return open_container(os.path.abspath(path))


def has_times(container) -> bool:
    """Whether the frames of an open container have times; FFmpeg makes some up for others."""
    return not container.format.flags & require_av().format.Flags.no_timestamps.value


def _read_folder(folder: Path, channels: int, shown: bool) -> Iterator[Frame]:
    for path in frame_files(folder):
        try:
            pixels = read_image(path)
        except UNREADABLE as error:
            raise DamagedVideoError(f"{path.name}: {images.reason(error, path)}") from None
        colour = _in_channels(pixels, 3) if shown else None
        yield Frame(_in_channels(pixels, channels), None, colour)


def _in_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 1:
        return np.rint(pixels @ np.array(LUMA, "float32")).astype("uint8")[..., None]
    return np.repeat(pixels, channels, axis=-1)


def decode(container, channels: int, shown: bool = False) -> Iterator[Frame]:
    """The frames of an open PyAV container, without those that cannot be decoded.

    Raises:
        DamagedVideoError: If it has no video.
        av.FFmpegError: If it cannot be read on, or too many frames in a row cannot be decoded.
    """
    stream = _stream(container)
    packets = _flushing(container.demux(stream), stream)
    yield from _decoded(packets, stream, channels, shown, most_damaged=MOST_DAMAGED)


def _flushing(packets: Iterable, stream) -> Iterator:
    """Packets and, where they break off, the empty one that gets the last frames of the decoder."""
    av = require_av()
    try:
        yield from packets
    except av.FFmpegError:
        end = av.Packet()
        end.stream, end.time_base = stream, stream.time_base
        yield end
        raise


def _decoded(
    packets: Iterable, stream, channels: int, shown: bool, most_damaged: int = 0
) -> Iterator[Frame]:
    """Decoded frames; of packets that cannot be decoded, so many in a row are left out."""
    stream.thread_type = "AUTO"
    clock, time, damaged = _Clock(stream.average_rate), None, 0
    for packet in packets:
        try:
            frames = packet.decode()
        except require_av().error.InvalidDataError as error:
            damaged += 1
            if damaged > most_damaged:
                raise
            warnings.warn(f"frames that are damaged are left out ({reason(error)})", stacklevel=2)
            continue
        damaged = 0
        for frame in frames:
            time = _time(frame, stream, time)
            colour = pixels_of(frame, 3) if shown else None
            since = clock.since_start(time)
            yield Frame(pixels_of(frame, channels), since, colour, _pixel_aspect(frame, stream))


class _Clock:
    """The time since the first frame, which never goes back.

    Those of frames do where files were joined: what comes then follows at once.

    Args:
        rate: Frames a second; `None` or 0 where nothing says so.
    """

    def __init__(self, rate: Fraction | None):
        self._step = float(1 / rate) if rate else 0.0
        self._start: float | None = None
        self._last = 0.0

    def since_start(self, time: float | None) -> float | None:
        if time is None:
            return None
        if self._start is None:
            self._start = time
        if time - self._start < self._last - TOLERATED_DISORDER:
            self._start = time - self._last - self._step
        self._last = max(self._last, time - self._start)
        return self._last


def _pixel_aspect(frame, stream) -> float:
    # Before rotation. An old recorder may have 960 columns for a picture of 4:3.
    aspect = float(stream.sample_aspect_ratio or 1)
    return 1 / aspect if _turns(frame) % 2 else aspect


def _time(frame, stream, last: float | None) -> float | None:
    """The time to show a frame, in seconds; `last` is that of the frame before."""
    if "avi" not in stream.container.format.name:
        return frame.time
    # AVI has times of decoding only, which PyAV's `frame.time` gives in the wrong order.
    if frame.dts is not None:
        return float(frame.dts * stream.time_base)
    rate = stream.average_rate
    return None if last is None or not rate else last + float(1 / rate)


def _read_file(path: Path, channels: int, shown: bool) -> Iterator[Frame]:
    # FFmpeg's own message would speak of invalid data.
    if path.is_file() and path.stat().st_size == 0:
        raise DamagedVideoError("the file is empty")
    yield from decode_whole(lambda: open_file(path), channels, shown)


def decode_whole(opened: Callable, channels: int, shown: bool = False) -> Iterator[Frame]:
    """The frames of a video that has an end, with a check that none are missing there.

    Args:
        opened: A function that opens its PyAV container.
        channels, shown: As in `read_frames`.

    Raises:
        DamagedVideoError: If it cannot be read, or not to its end.
    """
    av = require_av()
    number, whole = 0, None
    try:
        with opened() as container:
            stream = _stream(container)
            whole = _Whole(stream)
            packets = whole.watched(container.demux(stream))
            for frame in _decoded(packets, stream, channels, shown):
                yield frame
                number += 1
    except av.FFmpegError as error:
        where = f"after {number} frames: " if number else ""
        raise DamagedVideoError(f"{where}{reason(error)}") from None
    whole.check(number)


class _Whole:
    """Checks that a video is complete, if its container says how many frames or seconds it has.

    Args:
        stream: Its stream.
    """

    def __init__(self, stream):
        container = stream.container
        self._rate = stream.average_rate
        self._frames: int = stream.frames
        # Without a number of frames, these containers state a duration; others estimate it from
        # what is there. It is that of the longest stream, which with sound may be another one.
        says_duration = container.format.name in DURATION_FORMATS and len(container.streams) == 1
        self._seconds = (container.duration or 0) / 1e6 if says_duration else 0
        # AVI counts empty frames, too, which repeat the one before.
        self._counts_repeats = container.format.name == "avi"
        if self._counts_repeats and self._rate:
            self._seconds = self._frames / float(self._rate)
        self._hidden, self._end = 0, 0.0

    def watched(self, packets: Iterable) -> Iterator:
        """Passes packets on to the decoder, and takes note of their times."""
        for packet in packets:
            # A file that was cut without re-encoding has frames before the first one to show.
            self._hidden += packet.is_discard
            time = packet.dts if packet.pts is None else packet.pts
            if time is not None:
                end = (time + (packet.duration or 0)) * packet.time_base
                self._end = max(self._end, float(end))
            yield packet

    def check(self, number: int) -> None:
        """Checks that the decoded frames are all frames.

        Args:
            number: How many were decoded.

        Raises:
            DamagedVideoError: If some are missing, saying how many there are.
        """
        there = number + self._hidden
        short = there < self._frames - max(TOLERATED_FRAMES, TOLERATED_SHARE * self._frames)
        if short and not (self._counts_repeats and self._reaches_the_end(there)):
            raise DamagedVideoError(f"is cut off: has {there} of {self._frames} frames")
        if not self._frames and not self._reaches_the_end(there):
            raise DamagedVideoError(
                f"is cut off: has {self._end:.1f} of {self._seconds:.1f} seconds"
            )

    def _reaches_the_end(self, there: int) -> bool:
        """Whether so many frames last as long as the container says, if it says so."""
        if not self._rate:
            return True
        frame = 1 / float(self._rate)
        if self._counts_repeats:
            # Each stands for those that are empty, too.
            frame = self._seconds / max(there, 1)
        tolerated = max(TOLERATED_FRAMES * frame, TOLERATED_SHARE * self._seconds)
        return self._end >= self._seconds - tolerated


def _stream(container):
    # Of several, the one that players take; a picture of the cover may be a stream, too.
    stream = container.streams.best("video")
    if stream is None:
        raise DamagedVideoError("has no video stream")
    return stream


def pixels_of(frame, channels: int) -> np.ndarray:
    """The pixels of a PyAV frame, uint8 (height, width, channels), upright as its camera says."""
    pixels = frame.to_ndarray(format="gray" if channels == 1 else "rgb24")
    if channels == 1:
        pixels = pixels[..., None]
    turns = _turns(frame)
    return np.rot90(pixels, turns) if turns else pixels


def _turns(frame) -> int:
    """Quarter turns counterclockwise that make a PyAV frame upright."""
    return round(Fraction(frame.rotation, 90)) % 4


def reason(error: Exception) -> str:
    """The message of an error of FFmpeg's."""
    # What PyAV raises after its `timeout`.
    if isinstance(error, require_av().error.ExitError):
        return f"nothing received for {TIMEOUT:g} s"
    return getattr(error, "strerror", None) or str(error)
