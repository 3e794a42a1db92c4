"""Scores the frames of footage, in bounded memory."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from memae_tf.config import FrameScoring
from memae_tf.data.clips import span
from memae_tf.evaluation.frames import FrameScorer
from memae_tf.scoring.detectors import LocalDetector, ServedDetector
from memae_tf.scoring.streams import Drop, StreamFrame

# The most frames that wait for a whole batch of clips, as they may be large pictures.
MOST_WAITING = 256
# The share of a frame in which an anomaly's errors are taken to be, see `hottest`. Absolute errors
# are spread more widely.
HOT_SHARE = {"squared": 0.02, "absolute": 0.11}


@dataclass(frozen=True)
class ScoredFrame:
    """A frame with its score.

    Attributes:
        frame: The frame.
        score: float32; NaN if the frame has none.
        is_anomaly: Whether the score exceeds the threshold; `None` without a score.
        heat: Float (height, width), the squared errors of pixels at the size at which the model
            sees them, as a mean over the clips that show the frame; `None` if none does, or it was
            not asked for.
    """

    frame: StreamFrame
    score: np.float32
    is_anomaly: bool | None
    heat: np.ndarray | None


class FootageScorer:
    """Scores frames as they come.

    The last frames are kept in a ring as long as a clip, and a clip is scored when its last frame
    has come. A frame is returned when no later clip can change its score (or, to explain, show it):
    the delay is one clip and the smoothing, at most. At a gap the footage ends, and starts anew
    after it, so that no clip spans one.

    Args:
        detector: A detector of clips.
        scoring: How frames are scored.
        threshold: Scores above it are anomalies; `None` is the detector's own.
        explain: Whether to compute heat maps.
    """

    def __init__(
        self,
        detector: LocalDetector | ServedDetector,
        scoring: FrameScoring,
        threshold: float | None,
        explain: bool,
    ):
        self.detector = detector
        self.scoring = scoring
        self.threshold = detector.threshold if threshold is None else threshold
        self.explain = explain
        featurizer = detector.featurizer
        self.span = span(featurizer.length, featurizer.frame_stride)
        self._start_piece()

    def _start_piece(self) -> None:
        featurizer = self.detector.featurizer
        self._scorer = FrameScorer(featurizer.length, featurizer.frame_stride, self.scoring)
        self._heat = _Heat(featurizer.frame_stride)
        # Scores of frames that later clips may still add heat to.
        self._scores: deque[np.float32] = deque()
        self._ring: deque[np.ndarray] = deque(maxlen=self.span)
        self._count = 0
        self._last_start: int | None = None
        # Clips to be scored: their starts and frames.
        self._clips: list[tuple[int, np.ndarray]] = []
        # Frames that were not returned yet, and the number of the first of them in the piece.
        self._waiting: deque[StreamFrame] = deque()
        self._first = 0

    def warm_up(self) -> None:
        """Scores a black clip: the first one takes longest, and a camera would not wait."""
        featurizer = self.detector.featurizer
        shape = (1, featurizer.length, *featurizer.size, featurizer.channels)
        self.detector.detect(np.zeros(shape, "uint8"), explain=self.explain)

    def run(
        self, frames: Iterable[StreamFrame | Drop | None], patient: bool
    ) -> Iterator[ScoredFrame]:
        """Scores footage, piece by piece between its gaps.

        Args:
            frames: The frames; `None` says that the next one has not come yet, `Drop` that none
                will before a gap.
            patient: Whether to wait for a whole batch of clips then.
        """
        for frame in frames:
            if frame is None:
                if not patient:
                    yield from self._score_clips()
                continue
            if isinstance(frame, Drop) or frame.gap is not None:
                yield from self._end_piece()
            if isinstance(frame, Drop):
                continue
            self._add(frame)
            enough = len(self._clips) >= self.detector.featurizer.batch_size
            if enough or len(self._waiting) >= MOST_WAITING:
                yield from self._score_clips()
        yield from self._end_piece()

    def _add(self, frame: StreamFrame) -> None:
        self._ring.append(frame.pixels)
        self._waiting.append(frame)
        self._count += 1
        start = self._count - self.span
        if start >= 0 and start % self.scoring.clip_stride == 0:
            self._add_clip(start)

    def _add_clip(self, start: int) -> None:
        frames = list(self._ring)[:: self.detector.featurizer.frame_stride]
        self._clips.append((start, np.stack(frames)))
        self._last_start = start

    def _score_clips(self) -> Iterator[ScoredFrame]:
        if not self._clips:
            return
        starts, clips = zip(*self._clips, strict=True)
        self._clips = []
        answer = self.detector.detect(np.stack(clips), explain=self.explain)
        for i, start in enumerate(starts):
            if self.explain:
                self._heat.add(start, answer["heat_map"][i])
            _, scores = self._scorer.add(start, answer["score"][i], answer["frame_score"][i])
            self._scores.extend(scores)
            yield from self._give(start + 1 if self.explain else self._count)

    def _end_piece(self) -> Iterator[ScoredFrame]:
        last = self._count - self.span
        if self._last_start is not None and last > self._last_start:
            self._add_clip(last)
        yield from self._score_clips()
        if self._count:
            self._scores.extend(self._scorer.finish(self._count)[1])
            yield from self._give(self._count)
        self._start_piece()

    def _give(self, stop: int) -> Iterator[ScoredFrame]:
        """The frames before `stop` whose scores are known."""
        while self._scores and self._first < stop:
            score = self._scores.popleft()
            frame = self._waiting.popleft()
            heat = self._heat.take(self._first) if self.explain else None
            self._first += 1
            is_anomaly = None if np.isnan(score) else bool(score > self.threshold)
            yield ScoredFrame(frame, score, is_anomaly, heat)


def hottest(detector: LocalDetector | ServedDetector, threshold: float) -> float:
    """The heat at the upper end of the colour map, which depends on the threshold only.

    For a frame whose score is the threshold and whose errors are all in `HOT_SHARE` of its pixels,
    it is the squared error of such a pixel.
    """
    featurizer = detector.featurizer
    mean = threshold
    if detector.reduction == "sum":
        mean = threshold / int(np.prod(featurizer.feature_shape))
    kind = featurizer.frame_scoring.error
    error = mean / HOT_SHARE[kind]
    return max(featurizer.channels * (error if kind == "squared" else error**2), 1e-12)


class _Heat:
    """Mean heat maps of frames, over the clips that show them."""

    def __init__(self, frame_stride: int):
        self._frame_stride = frame_stride
        self._sums: dict[int, list] = {}

    def add(self, start: int, heat_maps: np.ndarray) -> None:
        for i, heat in enumerate(heat_maps):
            entry = self._sums.setdefault(start + i * self._frame_stride, [0.0, 0])
            entry[0] = entry[0] + heat
            entry[1] += 1

    def take(self, number: int) -> np.ndarray | None:
        total, count = self._sums.pop(number, (None, 0))
        return None if total is None else total / count
