"""A video of footage with heat maps and scores drawn over it."""

from collections import deque
from fractions import Fraction
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw

from memae_tf.data import decoding
from memae_tf.scoring.footage import ScoredFrame
from memae_tf.scoring.streams import SHOWN_SIDE

# Frames a second, where footage does not say: in folders of frames, and where a stream starts anew.
FRAME_RATE = 10
# The unit of time stamps.
TICK = Fraction(1, 90_000)
# The least width of the video in pixels, to which small frames are enlarged; the height of the
# curve, and the number of frames that it shows.
LEAST_WIDTH = 360
CURVE_HEIGHT, CURVE_FRAMES = 64, 200
# The opacity of the heat map where it is hottest.
OPACITY = 0.75
INK, RED, PAPER = (59, 110, 165), (192, 57, 43), (255, 255, 255)


class Overlay:
    """Writes a video of the footage under its heat map, with the scores of the last frames below.

    Heat is the squared error. Abnormal frames have a red border; the dashed line is the threshold.

    The file is H.264 in a fragmented MP4, which browsers play: it can be played as far as it has
    been written. Its last frames are written when it is closed.

    Args:
        path: The MP4 file to write.
        threshold: Scores above it are anomalies.
        hottest: The heat at the upper end of the colour map.
        rate: Frames a second; `None` is 10. Frames with a clock are as far apart as that says.
    """

    def __init__(self, path: Path, threshold: float, hottest: float, rate: float | None):
        self.path = path
        self.threshold = threshold
        self._hottest = hottest
        self._rate = Fraction(rate or FRAME_RATE).limit_denominator(1000)
        self._scores: deque[float] = deque(maxlen=CURVE_FRAMES)
        # The last frame's tick; and the clock and the tick of the last frame with a new clock.
        self._tick: int | None = None
        self._anchor: tuple[float | None, int] = (None, 0)
        self._file = self._container = self._stream = self._size = self._width = None

    def close(self) -> None:
        """Writes the last frames and closes the file."""
        if self._container is not None:
            with self._file:
                self._container.mux(self._stream.encode())
                self._container.close()

    def add(self, scored: ScoredFrame) -> None:
        """Draws the next frame."""
        picture = scored.frame.shown
        if self._container is None:
            self._open(*picture.shape[:2])
        picture = decoding.resized(picture, self._size)
        if scored.heat is not None:
            picture = _heated(picture, scored.heat / self._hottest)
        self._scores.append(scored.score)
        if scored.is_anomaly:
            picture = _bordered(picture)
        picture = np.concatenate([_centred(picture, self._width), self._curve()])
        self._tick = self._next_tick(scored.frame.clock)
        self._encode(picture, self._tick)

    def _next_tick(self, time: float | None) -> int:
        """The next frame's time stamp: a frame later, if the clock was set or there is none."""
        before, tick = self._anchor
        if self._tick is None:
            tick = 0
        elif time is not None and time == before:
            # A frame again, to fill up the rate: the next one is as far from the first of them.
            return self._tick + round(1 / self._rate / TICK)
        elif None in (time, before) or not 0 < time - before <= decoding.LONGEST_STEP:
            tick = self._tick + round(1 / self._rate / TICK)
        else:
            tick = max(self._tick + 1, tick + round((time - before) / TICK))
        self._anchor = time, tick
        return tick

    def _open(self, height: int, width: int) -> None:
        av = decoding.require_av()
        # Enlarged to the least width, but not beyond the height of large frames.
        scale = max(1, min(-(-LEAST_WIDTH // width), SHOWN_SIDE // height))
        self._size = height * scale, width * scale
        self._width = max(LEAST_WIDTH, self._size[1])
        # The header waits for the first frame. Before, the decoder's delay of the first frame is
        # unknown, and players would start that much later.
        flags = "frag_keyframe+delay_moov"
        # PyAV's own file would not say that the last frames found no room.
        self._file = self.path.open("wb")
        self._container = av.open(self._file, "w", format="mp4", options={"movflags": flags})
        self._stream = self._container.add_stream("libx264", rate=self._rate)
        self._stream.height, self._stream.width = self._size[0] + CURVE_HEIGHT, self._width
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = TICK
        self._stream.options = {"crf": "20", "preset": "veryfast"}

    def _encode(self, picture: np.ndarray, tick: int) -> None:
        av = decoding.require_av()
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts, frame.time_base = tick, TICK
        self._container.mux(self._stream.encode(frame))
        self._file.flush()

    def _curve(self) -> np.ndarray:
        """A strip with the scores of the last frames, up to twice the threshold."""
        width = self._width
        strip = Image.new("RGB", (width, CURVE_HEIGHT), PAPER)
        draw = ImageDraw.Draw(strip)
        line = _height(1.0)
        for left in range(0, width, 8):
            draw.line([(left, line), (left + 3, line)], fill=(0, 0, 0))
        scores = np.array(self._scores) / max(self.threshold, 1e-12)
        columns = (np.arange(len(scores)) + CURVE_FRAMES - len(scores) + 1) * width / CURVE_FRAMES
        for i in range(1, len(scores)):
            if np.isfinite(scores[i - 1 : i + 1]).all():
                points = [(columns[j], _height(scores[j])) for j in (i - 1, i)]
                draw.line(points, fill=RED if scores[i] > 1 else INK, width=2)
        return np.asarray(strip)


def _height(score: float) -> float:
    """The row of a score, in units of the threshold, in the curve."""
    return (CURVE_HEIGHT - 3) * (1 - min(score, 2.0) / 2) + 1


def _heated(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A picture under its heat map, float (height, width), 1 where it is hottest."""
    # The square root, as otherwise only the largest errors would show.
    heat = np.sqrt(np.clip(heat, 0, 1)).astype("float32")
    heat = np.asarray(Image.fromarray(heat).resize(picture.shape[1::-1], Image.Resampling.BILINEAR))
    colours = colormaps["inferno"](heat, bytes=True)[..., :3]
    share = (OPACITY * heat)[..., None]
    return (picture * (1 - share) + colours * share).astype("uint8")


def _centred(picture: np.ndarray, width: int) -> np.ndarray:
    """A picture padded to a width, equally on both sides."""
    left = (width - picture.shape[1]) // 2
    centred = np.full((len(picture), width, 3), PAPER, "uint8")
    centred[:, left : left + picture.shape[1]] = picture
    return centred


def _bordered(picture: np.ndarray) -> np.ndarray:
    picture = picture.copy()
    width = max(2, min(picture.shape[:2]) // 60)
    for side in (np.s_[:width], np.s_[-width:], np.s_[:, :width], np.s_[:, -width:]):
        picture[side] = RED
    return picture
