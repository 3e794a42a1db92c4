"""Frames of footage for a detector: from files, folders of frames, and live streams.

A thread decodes and resizes some frames ahead, while the network computes.
"""

import re
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from queue import Empty, Full, Queue

import numpy as np

from memae_tf.data import decoding
from memae_tf.data.decoding import DamagedVideoError, Frame
from memae_tf.errors import UserError
from memae_tf.layers import ClipFeaturizer
from memae_tf.signals import take

# The schemes of live streams, and those of web servers, which have files and live streams.
SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "srt", "tcp")
WEB_SCHEMES = ("http", "https")
STANDARD_INPUT = "-"
CAMERAS = "/dev/video"
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0  # seconds between attempts to connect
FRAMES_AHEAD = 64
# The longest side of frames to show, some hundred of which wait for their scores in memory.
SHOWN_SIDE = 960


@dataclass(frozen=True)
class StreamFrame:
    """A frame, resized for the detector.

    Attributes:
        number: The frame's number in its source, from 0.
        time: Seconds since the first frame; for a live stream, when the frame was received, in UTC
            by ISO 8601; `None` if unknown.
        pixels: uint8 (*size, channels), with the featurizer's size and channels.
        shown: The frame in colour, uint8 (height, width, 3), with even sides of up to 960, if it
            was asked for.
        gap: Seconds of a live stream that are missing before the frame; `None` if none are.
        clock: Seconds by the footage's own clock, which a new connection may set anew; `None` if it
            has none.
    """

    number: int
    time: float | str | None
    pixels: np.ndarray
    shown: np.ndarray | None
    gap: float | None = None
    clock: float | None = None


@dataclass(frozen=True)
class Drop:
    """Comes after the last frame before a live stream dropped; the next frame has a gap."""


class Footage:
    """Footage to score: a video file, a folder of frames, or a live stream.

    When a stream drops, it is connected again, for as long as it takes: after 0.5 s at first, then
    after twice as long each time, up to 30 s.

    Attributes:
        is_live: Whether frames come at their own pace, with no known end.
        drops: Whether to leave out frames that come faster than they are scored.
        shown_source: The source without user and password, for messages.
        name: For a file, its name; otherwise `shown_source`.
        damage: Why a file could not be read to its end; `None` if it could, so far.

    Args:
        source: A path; the address of a stream (rtsp://..., udp://..., ...), or of a file or stream
            on a web server (http://...); a camera (/dev/video0); or "-", a video on standard input.
        featurizer: The featurizer of the detector.
        shown: Whether to keep frames in colour, too, to show them.

    Raises:
        UserError: If there is no such file, camera or kind of address, a folder has no frames, or a
            web server does not answer.
    """

    def __init__(self, source: str, featurizer: ClipFeaturizer, shown: bool):
        self.featurizer = featurizer
        self.shown = shown
        self.damage: str | None = None
        self._is_camera = source.startswith(CAMERAS)
        scheme = source.split("://")[0].lower() if "://" in source else None
        self.drops = self._is_camera or scheme in SCHEMES
        self.is_live = self.drops or source == STANDARD_INPUT
        self._is_file = not self.is_live and (scheme is None or Path(source).exists())
        if scheme is not None and not self._is_file:
            # FFmpeg knows schemes in small letters only.
            source = scheme + source[len(scheme) :]
        self.source = source
        self.shown_source = source if self._is_file else re.sub("//[^/]*@", "//", source)
        if source == STANDARD_INPUT:
            self.shown_source = "standard input"
        self.name = Path(source).name if self._is_file else self.shown_source
        self._closed = threading.Event()
        if self._is_camera:
            _require_camera(Path(source))
        elif self._is_file:
            _require_frames(Path(source))
        elif not self.is_live and scheme not in WEB_SCHEMES:
            raise UserError(
                f"{self.shown_source}: {scheme}:// is unknown; addresses may begin with "
                + ", ".join(f"{known}://" for known in (*SCHEMES, *WEB_SCHEMES))
            )
        self._reconnects = self.drops
        if not self._is_file and scheme in WEB_SCHEMES:
            # Frames are not dropped here, as a web server does so itself if it cannot send in time.
            self.is_live = self._reconnects = self._is_without_end()

    def close(self) -> None:
        """Ends attempts to connect again."""
        self._closed.set()

    def frame_rate(self) -> float | None:
        """Frames a second, if the featurizer or a file says so."""
        if self.featurizer.frame_rate is not None:
            return self.featurizer.frame_rate
        try:
            if self._is_file:
                return decoding.frame_rate(Path(self.source))
            return None if self.is_live else decoding.frame_rate_of(self._open)
        except DamagedVideoError:
            return None

    def __iter__(self) -> "Iterator[StreamFrame | Drop]":
        """The frames, and whenever a live stream has dropped, a `Drop`.

        Raises:
            UserError: If the first one cannot be read.
        """
        if self._reconnects:
            yield from self._connections()
            return
        count = 0
        try:
            for number, frame in self._at_rate(enumerate(self._frames())):
                yield self._prepared(number, frame, _ago(0) if self.is_live else frame.time)
                count += 1
        except DamagedVideoError as error:
            if count == 0:
                # An MP4 may have its index at the end, and a pipe cannot seek.
                advice = (
                    "; pipe MPEG-TS or Matroska, and give an MP4 by its file name"
                    if self.source == STANDARD_INPUT
                    else ""
                )
                raise UserError(f"{self.shown_source}: cannot be read ({error}){advice}") from None
            self.damage = str(error)
        if count == 0 and self.damage is None:
            raise UserError(f"{self.shown_source}: has no frames")

    def _frames(self) -> Iterator[Frame]:
        channels = self.featurizer.channels
        if self._is_file:
            yield from decoding.read_frames(Path(self.source), channels, self.shown)
            return
        if not self.is_live:
            yield from decoding.decode_whole(self._open, channels, self.shown)
            return
        av = decoding.require_av()
        try:
            with self._open() as container:
                frames = decoding.decode(container, channels, self.shown)
                if self._reconnects and not decoding.has_times(container):
                    frames = _timed(frames)
                yield from frames
        except av.FFmpegError as error:
            raise DamagedVideoError(decoding.reason(error)) from None

    def _open(self):
        av = decoding.require_av()
        if self.source == STANDARD_INPUT:
            if sys.stdin is None:
                raise UserError(f"{self.shown_source}: is closed")
            # Unbuffered, as the buffer's lock, held while nothing comes, would block the exit.
            return decoding.open_container(sys.stdin.buffer.raw)
        if self._is_camera:
            if "v4l2" not in av.formats_available:
                raise UserError(
                    f"{self.source}: this build of PyAV cannot read cameras; pipe it: ffmpeg -f "
                    f"v4l2 -i {self.source} -c:v mpeg2video -q:v 2 -f mpegts - | python -m "
                    "memae_tf.score DETECTOR -"
                )
            return decoding.open_container(self.source, format="v4l2", timeout=decoding.TIMEOUT)
        # RTSP over TCP, as lost packets of UDP damage the picture.
        options = {"rtsp_transport": "tcp"} if self.source.startswith("rtsp") else {}
        return decoding.open_container(self.source, options=options, timeout=decoding.TIMEOUT)

    def _is_without_end(self) -> bool:
        """Whether neither duration nor size are known, as of a camera's MJPEG or a live HLS."""
        try:
            with self._open() as container:
                # A size that is not known is -1, and `None` since PyAV 19; that of HLS is its
                # playlist's.
                is_sized = (container.size or 0) > 0 and container.format.name != "hls"
                return container.duration is None and not is_sized
        except decoding.require_av().FFmpegError as error:
            reason = decoding.reason(error)
            raise UserError(f"{self.shown_source}: cannot be read ({reason})") from None

    def _connections(self) -> "Iterator[StreamFrame | Drop]":
        """The frames of a live stream, over as many connections as it takes."""
        numbers, last, clock, delay = 0, None, None, FIRST_DELAY
        while not self._closed.is_set():
            first, why = True, "it has ended"
            try:
                for number, frame in self._at_rate(enumerate(self._frames(), start=numbers)):
                    now = time.monotonic()
                    late = 0.0 if first else _late(now - last, clock, frame.time)
                    gap = now - last if first and last is not None else None
                    if gap is not None:
                        warnings.warn(f"{self.name}: is back after {gap:.1f} s", stacklevel=2)
                    yield self._prepared(number, frame, _ago(late), gap)
                    first, numbers, delay = False, number + 1, FIRST_DELAY
                    last, clock = now - late, frame.time
            except DamagedVideoError as error:
                why = str(error)
            if last is None:
                raise UserError(f"{self.name}: cannot be read ({why})")
            if not first:
                warnings.warn(
                    f"{self.name}: dropped after {numbers} frames ({why}); connecting again",
                    stacklevel=2,
                )
                yield Drop()
            self._closed.wait(delay)
            delay = min(2 * delay, LONGEST_DELAY)

    def _at_rate(self, numbered: Iterator[tuple[int, Frame]]) -> Iterator[tuple[int, Frame]]:
        rate = self.featurizer.frame_rate
        return decoding.at_rate(numbered, rate) if rate else numbered

    def _prepared(
        self, number: int, frame: Frame, time: float | str | None, gap: float | None = None
    ) -> StreamFrame:
        pixels = decoding.resized(frame.pixels, self.featurizer.size)
        shown = frame.shown
        if shown is not None:
            shown = decoding.resized(shown, _shown_size(*shown.shape[:2], frame.pixel_aspect))
        return StreamFrame(number, time, pixels, shown, gap, frame.time)


class Ahead:
    """Reads frames ahead, in a thread of its own; a context manager.

    If too many frames wait, the thread waits, too. With `drops` it leaves out frames instead, as a
    camera does not wait, and the next one has a gap.

    Args:
        footage: The frames.
        drops: Whether to leave out frames.
    """

    def __init__(self, footage: Iterable[StreamFrame | Drop], drops: bool):
        self._footage = footage
        self._drops = drops
        self._queue: Queue = Queue(FRAMES_AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Ahead":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        # Not joined, as the thread may be in a long read, after which it ends by itself.
        self._stop.set()

    def __iter__(self) -> Iterator[StreamFrame | Drop | None]:
        """What the footage gives, and `None` whenever the next frame has not come yet.

        Raises:
            Whatever reading the frames raises.
        """
        while True:
            try:
                item = self._queue.get_nowait()
            except Empty:
                yield None
                item = take(self._queue)
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item

    def _run(self) -> None:
        error = None
        try:
            for frame in self._with_gaps() if self._drops else self._footage:
                self._put(frame)
                if self._stop.is_set():
                    break
        except BaseException as caught:
            error = caught
        self._put(_End(error))

    def _with_gaps(self) -> Iterator[StreamFrame | Drop]:
        dropped_since = None
        for frame in self._footage:
            is_passed_on = dropped_since is None and not self._queue.full()
            if is_passed_on or isinstance(frame, Drop):
                yield frame
            elif dropped_since is None:
                dropped_since = time.monotonic()
                warnings.warn(
                    "frames come faster than they are scored, so some are left out; a larger "
                    "--stride scores fewer clips",
                    stacklevel=2,
                )
            elif self._queue.empty():
                gap = time.monotonic() - dropped_since
                yield replace(frame, gap=gap)
                dropped_since = None

    def _put(self, item: "StreamFrame | Drop | _End") -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.2)
                return
            except Full:
                continue


@dataclass(frozen=True)
class _End:
    """Comes after the last frame, with the error that ended the footage, if one did."""

    error: BaseException | None


def _require_camera(path: Path) -> None:
    if not path.exists():
        there = map(str, sorted(path.parent.glob("video*"), key=decoding.natural_order))
        raise UserError(f"{path}: there is no such camera; there are {', '.join(there) or 'none'}")


def _require_frames(path: Path) -> None:
    if not path.exists():
        raise UserError(
            f"{path}: there is no such file or folder; footage may be a video file, a folder of "
            "frames, an address such as rtsp://host/stream, a camera such as /dev/video0, or - for "
            "standard input"
        )
    if path.is_dir() and not decoding.frame_files(path):
        raise UserError(f"{path}: has no frames (images); for a video, give the name of its file")


def _shown_size(height: int, width: int, pixel_aspect: float) -> tuple[int, int]:
    """The size at which to show a frame, with square pixels and, for H.264, even sides."""
    wide = width * pixel_aspect
    scale = min(1.0, SHOWN_SIDE / max(height, wide))
    return tuple(max(2, round(side * scale / 2) * 2) for side in (height, wide))


def _late(waited: float, before: float | None, clock: float | None) -> float:
    """The seconds for which the decoder held back a frame that it had received.

    It holds back the last frames until the stream has dropped, as nothing came for `TIMEOUT`. By
    the stream's own clock, these came right after the others.

    Args:
        waited: Seconds since the frame before.
        before, clock: The times of that frame and of this one by the stream's own clock.
    """
    # A little less than `TIMEOUT`, part of which had passed when the frame before came.
    if waited < 0.9 * decoding.TIMEOUT or before is None or clock is None:
        return 0.0
    return max(0.0, waited - (clock - before))


def _timed(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Frames with times by when they came, of streams without any, such as a camera's MJPEG."""
    start = None
    for frame in frames:
        now = time.monotonic()
        start = now if start is None else start
        yield replace(frame, time=now - start)


def _ago(seconds: float) -> str:
    """The time some seconds ago, in UTC by ISO 8601."""
    then = datetime.now(timezone.utc) - timedelta(seconds=seconds)
    return then.isoformat(timespec="milliseconds")
