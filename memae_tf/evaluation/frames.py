"""From overlapping clips to a score a frame.

Clips start at every `clip_stride`-th frame, and one more ends at the last. What a clip says of its
frames is `credit`:

- "clip": of each of its frames, the error of the whole clip. A frame's score is the mean of what
  the clips that show it say.
- "frame": of each of its frames, that frame's own error, and again the mean. This is sharper in
  time, but the outer frames of a clip are rebuilt worse than its inner ones, and the first and last
  frames of a video are outer ones in every clip.
- "center": of its middle one alone, the 9th of 16, the error of the whole clip. That is what the
  authors' code does; the first 8 and the last 7 frames have no score (NaN) and are not evaluated.

Frames between two scored ones of which no clip says anything (`clip_stride` or `frame_stride` above
1) get what lies between, linearly. `smoothing` is the standard deviation of a Gaussian over a
video's scores, cut off at three of them; at the ends it takes what is there.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from memae_tf.config import FrameScoring
from memae_tf.data.clips import Clips, Video
from memae_tf.errors import UserError
from memae_tf.models import Detector


class FrameScorer:
    """The scores of a video's frames, as its clips come; keeps no more than it needs.

    Examples:
        >>> scorer = FrameScorer(featurizer.length, featurizer.frame_stride, scoring)
        >>> for start, answer in clips:
        ...     first, scores = scorer.add(start, answer["score"], answer["frame_score"])
        >>> first, scores = scorer.finish(num_frames)

    Args:
        length: Frames of a clip.
        frame_stride: From one frame of a clip to its next.
        scoring: How frames are scored.
    """

    def __init__(self, length: int, frame_stride: int, scoring: FrameScoring):
        self.scoring = scoring
        offsets = np.arange(length) * frame_stride
        self._offsets = offsets[[length // 2]] if scoring.credit == "center" else offsets
        # What clips say of frames: number of the frame to the sum and the number of credits.
        self._credits: dict[int, list[float]] = {}
        # The last frame whose score before smoothing is known.
        self._last: tuple[int, float] | None = None
        radius = math.ceil(3 * scoring.smoothing)
        self._weights = np.exp(
            -0.5 * (np.arange(-radius, radius + 1) / max(scoring.smoothing, 1e-12)) ** 2
        )
        # Scores before smoothing that are still needed, and the number of the first of them.
        self._raw, self._start = np.empty(0), 0
        # The next frame to be given out.
        self._next = 0

    def add(self, start: int, score: float, frame_score: np.ndarray) -> tuple[int, np.ndarray]:
        """Takes a clip that starts later than those before it.

        Args:
            start: The number of its first frame.
            score: Of the clip.
            frame_score: Float (length,), of its frames.

        Returns:
            The number of a frame, and the scores, float32, of it and of those behind it that no
            later clip can change. There may be none.
        """
        said = frame_score
        if self.scoring.credit != "frame":
            said = np.full(len(self._offsets), score)
        for offset, value in zip(self._offsets, said, strict=True):
            credit = self._credits.setdefault(start + int(offset), [0.0, 0.0])
            credit[0] += float(value)
            credit[1] += 1.0
        self._settle(start + int(self._offsets[0]))
        return self._give(len(self._weights) // 2)

    def finish(self, total: int) -> tuple[int, np.ndarray]:
        """The rest, as `add` gives it, of a video of `total` frames."""
        self._settle(total)
        if self._last is not None and self.scoring.credit != "center":
            # After the last clip, where none ends at the last frame.
            self._extend(total - 1, self._last[1])
        first, scores = self._give(0)
        missing = total - first - len(scores)
        return first, np.concatenate([scores, np.full(missing, np.nan, "float32")])

    def _settle(self, stop: int) -> None:
        """Frames before `stop` get no more credits; that frame itself may."""
        for number in sorted(n for n in self._credits if n < stop):
            total, count = self._credits.pop(number)
            self._extend(number, total / count)

    def _extend(self, number: int, score: float) -> None:
        """Takes the score of a frame, and what lies between it and the one known before."""
        if self._last is None:
            self._start = number
            self._raw = np.array([score])
        elif number > self._last[0]:
            before, value = self._last
            numbers = np.arange(before + 1, number + 1)
            between = np.interp(numbers, [before, number], [value, score])
            self._raw = np.concatenate([self._raw, between])
        self._last = number, score

    def _give(self, lookahead: int) -> tuple[int, np.ndarray]:
        """The scores that `lookahead` frames behind them suffice for."""
        first = self._next
        if self._last is None:
            return first, np.empty(0, "float32")
        radius = len(self._weights) // 2
        known = self._start + len(self._raw)
        # Frames before the first scored one have none.
        numbers = np.arange(max(first, self._start), known - lookahead)
        scores = np.empty(len(numbers))
        for i, number in enumerate(numbers):
            low, high = max(number - radius, self._start), min(number + radius + 1, known)
            weights = self._weights[low - number + radius : high - number + radius]
            scores[i] = weights @ self._raw[low - self._start : high - self._start] / weights.sum()
        if len(numbers):
            unscored = np.full(numbers[0] - first, np.nan)
            self._next = int(numbers[-1]) + 1
            scores = np.concatenate([unscored, scores])
            done = max(0, self._next - radius - self._start)
            self._raw, self._start = self._raw[done:], self._start + done
        return first, scores.astype("float32")


def score_videos(
    detector: Detector,
    videos: Sequence[Video],
    scoring: FrameScoring,
    on_scored: Callable[[int], None] = lambda _: None,
) -> list[np.ndarray]:
    """The scores of the frames of videos, float32 (frames,) each.

    They are NaN where `scoring` gives a frame none, and of videos that are shorter than a clip.

    Args:
        detector: One of clips.
        videos: Prepared footage.
        scoring: How frames are scored.
        on_scored: Is told how many videos are done.

    Raises:
        UserError: If a clip's score is not finite.
    """
    length, frame_stride = detector.featurizer.length, detector.featurizer.frame_stride
    scores = []
    for video in videos:
        clips = Clips.windows([video], length, frame_stride, scoring.clip_stride, to_the_end=True)
        answer = detector.detect(clips)
        # From here on, NaN means that a frame has no score.
        if not (np.isfinite(answer["score"]).all() and np.isfinite(answer["frame_score"]).all()):
            raise UserError(
                f"{video.name}: scores are not finite, so training has diverged; try a smaller "
                "training.learning_rate"
            )
        scorer = FrameScorer(length, frame_stride, scoring)
        rows = zip(clips.places[:, 1], answer["score"], answer["frame_score"], strict=True)
        parts = [scorer.add(start, score, own)[1] for start, score, own in rows]
        parts.append(scorer.finish(len(video.frames))[1])
        scores.append(np.concatenate(parts))
        on_scored(len(scores))
    return scores
