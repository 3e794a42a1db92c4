"""Frames of footage for a detector: files, folders of frames, and live streams.

A thread of its own decodes and resizes some frames ahead, while the network works.
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

# Of live streams, and of web servers, which have files and live streams.
SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "srt", "tcp")
WEB_SCHEMES = ("http", "https")
STANDARD_INPUT = "-"
CAMERAS = "/dev/video"
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0  # seconds between attempts to connect
FRAMES_AHEAD = 64
# The longest side of frames that are kept to be shown: some hundred of them wait for their scores.
SHOWN_SIDE = 960


@dataclass(frozen=True)
class StreamFrame:
    """A frame as the detector takes it.

    Attributes:
        number: In its source, from 0.
        time: Seconds since the first frame; of a live stream when it was received, in UTC, as in
            ISO 8601; `None` where nothing says so.
        pixels: uint8 (*size, channels), those of the featurizer.
        shown: uint8 (height, width, 3), in colour, with even sides of 960 at most, where it was
            asked for.
        gap: Seconds of a live stream that are missing before it; `None` where nothing is.
        clock: Seconds by the footage's own clock, which a new connection may set; `None` where it
            has none.
    """

    number: int
    time: float | str | None
    pixels: np.ndarray
    shown: np.ndarray | None
    gap: float | None = None
    clock: float | None = None


class Footage:
    """What is to be scored: a video file, a folder of frames, or a live stream.

    A stream that drops is connected again, with 0.5 s between attempts at first, then twice as
    long each time up to 30 s, for as long as it takes.

    Attributes:
        is_live: Whether frames come at their own pace, and no end is in sight.
        drops: Whether frames for which there is no time are to be left out.
        shown_source: The source as it may be shown, without user and password.
        name: The same, or the name of a file.
        damage: Why a file could not be read to its end; `None` while it can.

    Args:
        source: A path; the address of a stream (rtsp://..., udp://..., ...), or of a file or stream
            on a web server (http://...); a camera (/dev/video0); or "-", a video on standard input.
        featurizer: That of the detector.
        shown: Whether frames are wanted to be shown, too.

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
            # In capital letters FFmpeg knows none.
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
            # What the server cannot send in time, it leaves out by itself.
            self.is_live = self._reconnects = self._is_without_end()

    def close(self) -> None:
        """Ends the waiting for a stream that has dropped."""
        self._closed.set()

    def frame_rate(self) -> float | None:
        """Frames a second, where a file says so."""
        if self.featurizer.frame_rate is not None:
            return self.featurizer.frame_rate
        try:
            if self._is_file:
                return decoding.frame_rate(Path(self.source))
            return None if self.is_live else decoding.frame_rate_of(self._open)
        except DamagedVideoError:
            return None

    def __iter__(self) -> Iterator[StreamFrame]:
        """The frames.

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
                # An MP4 may have its index at the end, to which nobody can go in a pipe.
                advice = (
                    "; a pipe may carry MPEG-TS or Matroska, and an MP4 is to be given by its name"
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
                yield from decoding.decode(container, channels, self.shown)
        except av.FFmpegError as error:
            raise DamagedVideoError(decoding.reason(error)) from None

    def _open(self):
        av = decoding.require_av()
        if self.source == STANDARD_INPUT:
            # Not buffered: its lock, held while nothing comes, would be in the way of an end.
            return decoding.open_container(sys.stdin.buffer.raw)
        if self._is_camera:
            if "v4l2" not in av.formats_available:
                raise UserError(
                    f"{self.source}: this build of PyAV reads no cameras; pipe it: ffmpeg -f v4l2 "
                    f"-i {self.source} -c:v mpeg2video -q:v 2 -f mpegts - | python -m "
                    "memae_tf.score DETECTOR -"
                )
            return decoding.open_container(self.source, format="v4l2", timeout=decoding.TIMEOUT)
        # Packets that get lost would make the picture fall apart.
        options = {"rtsp_transport": "tcp"} if self.source.startswith("rtsp") else {}
        return decoding.open_container(self.source, options=options, timeout=decoding.TIMEOUT)

    def _is_without_end(self) -> bool:
        """Whether nothing says how long it is, as of a camera's MJPEG or a broadcast in HLS."""
        try:
            with self._open() as container:
                # The size of HLS is that of its list.
                is_sized = container.size > 0 and container.format.name != "hls"
                return container.duration is None and not is_sized
        except decoding.require_av().FFmpegError as error:
            reason = decoding.reason(error)
            raise UserError(f"{self.shown_source}: cannot be read ({reason})") from None

    def _connections(self) -> Iterator[StreamFrame]:
        """The frames of a stream, connection after connection."""
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
    """Takes what an iterable gives in a thread of its own, some of it ahead; a context manager.

    Where `drops`, frames for which there is no room are left out, and the next one has a gap: a
    camera does not wait. Otherwise the thread does.

    Args:
        footage: The frames.
        drops: Whether to leave frames out.
    """

    def __init__(self, footage: Iterable[StreamFrame], drops: bool):
        self._footage = footage
        self._drops = drops
        self._queue: Queue = Queue(FRAMES_AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Ahead":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        # The thread may be in a read that takes its time; it ends by itself.
        self._stop.set()

    def __iter__(self) -> Iterator[StreamFrame | None]:
        """The frames, and `None` whenever the next one is not there yet.

        Raises:
            Whatever the iterable does.
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

    def _with_gaps(self) -> Iterator[StreamFrame]:
        dropped_since = None
        for frame in self._footage:
            if dropped_since is None and not self._queue.full():
                yield frame
            elif dropped_since is None:
                dropped_since = time.monotonic()
                warnings.warn(
                    "frames come faster than they are scored, and some are left out; --stride "
                    "scores fewer clips",
                    stacklevel=2,
                )
            elif self._queue.empty():
                gap = time.monotonic() - dropped_since
                yield replace(frame, gap=gap)
                dropped_since = None

    def _put(self, item: "StreamFrame | _End") -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.2)
                return
            except Full:
                continue


@dataclass(frozen=True)
class _End:
    """Behind the last frame."""

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
        raise UserError(f"{path}: has no frames (images); a video is scored by its file's name")


def _shown_size(height: int, width: int, pixel_aspect: float) -> tuple[int, int]:
    """As players show it. H.264 takes even sides."""
    wide = width * pixel_aspect
    scale = min(1.0, SHOWN_SIDE / max(height, wide))
    return tuple(max(2, round(side * scale / 2) * 2) for side in (height, wide))


def _late(waited: float, before: float | None, clock: float | None) -> float:
    """Seconds for which a frame lay here before it was decoded.

    A decoder holds the last ones back, until nothing has come for so long that the stream has
    dropped; by its own clock they came right behind the others.
    """
    # The frame before took some of the time, too.
    if waited < 0.9 * decoding.TIMEOUT or before is None or clock is None:
        return 0.0
    return max(0.0, waited - (clock - before))


def _ago(seconds: float) -> str:
    """The time so many seconds ago."""
    then = datetime.now(timezone.utc) - timedelta(seconds=seconds)
    return then.isoformat(timespec="milliseconds")
