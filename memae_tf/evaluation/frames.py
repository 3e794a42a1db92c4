"""From the errors of overlapping clips to a score for each frame.

Clips start at every `clip_stride`-th frame of a video, and one more ends at its last frame. Each
clip credits errors to its frames, as `credit` says, and a frame's score is the mean of its credits:

- "clip": every frame of a clip gets the error of the whole clip.
- "frame": every frame of a clip gets its own error. This is sharper in time, but the outer frames
  of a clip are rebuilt worse than its inner ones, and the first and last frames of a video are
  outer ones in every clip.
- "center": only the middle frame of a clip, the 9th of 16, gets the error of the whole clip, as in
  the authors' code. The first 8 and the last 7 frames of a video have no score (NaN) and are not
  evaluated.

Frames without credits between two scored ones (`clip_stride` or `frame_stride` above 1) are
interpolated linearly. `smoothing` is the standard deviation of a Gaussian over a video's scores,
cut off at three of these; at the ends of a video it covers the frames that there are.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from memae_tf.config import FrameScoring
from memae_tf.data.clips import Clips, Video, span
from memae_tf.errors import UserError
from memae_tf.models import Detector


class FrameScorer:
    """The scores of a video's frames, computed clip by clip in bounded memory.

    Examples:
        >>> scorer = FrameScorer(featurizer.length, featurizer.frame_stride, scoring)
        >>> for start, answer in clips:
        ...     first, scores = scorer.add(start, answer["score"], answer["frame_score"])
        >>> first, scores = scorer.finish(num_frames)

    Args:
        length: Frames of a clip.
        frame_stride: Distance from one frame of a clip to the next.
        scoring: How frames are scored.
    """

    def __init__(self, length: int, frame_stride: int, scoring: FrameScoring):
        self.scoring = scoring
        offsets = np.arange(length) * frame_stride
        self._offsets = offsets[[length // 2]] if scoring.credit == "center" else offsets
        # By the number of a frame: the sum and the number of its credits.
        self._credits: dict[int, list[float]] = {}
        # The last frame whose score before smoothing is known.
        self._last: tuple[int, float] | None = None
        radius = math.ceil(3 * scoring.smoothing)
        self._weights = np.exp(
            -0.5 * (np.arange(-radius, radius + 1) / max(scoring.smoothing, 1e-12)) ** 2
        )
        # Scores before smoothing that are still needed, and the number of the first of them.
        self._raw, self._start = np.empty(0), 0
        # The number of the next frame to return.
        self._next = 0

    def add(self, start: int, score: float, frame_score: np.ndarray) -> tuple[int, np.ndarray]:
        """Takes a clip, which must start later than those before it.

        Args:
            start: The number of its first frame.
            score: The score of the clip.
            frame_score: The scores of its frames, float (length,).

        Returns:
            The number of a frame, and the scores, float32, of that frame and the following ones, as
            far as no later clip can change them. There may be none.
        """
        credited = frame_score
        if self.scoring.credit != "frame":
            credited = np.full(len(self._offsets), score)
        for offset, value in zip(self._offsets, credited, strict=True):
            credit = self._credits.setdefault(start + int(offset), [0.0, 0.0])
            credit[0] += float(value)
            credit[1] += 1.0
        self._settle(start + int(self._offsets[0]))
        return self._give(len(self._weights) // 2)

    def finish(self, total: int) -> tuple[int, np.ndarray]:
        """The remaining scores, as `add` returns them, of a video with `total` frames."""
        self._settle(total)
        if self._last is not None and self.scoring.credit != "center":
            # Frames after the last clip, if none ends at the last frame.
            self._extend(total - 1, self._last[1])
        first, scores = self._give(0)
        missing = total - first - len(scores)
        return first, np.concatenate([scores, np.full(missing, np.nan, "float32")])

    def _settle(self, stop: int) -> None:
        """Computes the scores of the frames before `stop`, which get no more credits."""
        for number in sorted(n for n in self._credits if n < stop):
            total, count = self._credits.pop(number)
            self._extend(number, total / count)

    def _extend(self, number: int, score: float) -> None:
        """Adds the score of a frame, and interpolated ones since the last frame with a score."""
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
        """The smoothed scores of frames that are followed by `lookahead` known scores."""
        first = self._next
        if self._last is None:
            return first, np.empty(0, "float32")
        radius = len(self._weights) // 2
        known = self._start + len(self._raw)
        # Frames before the first one with credits have no score.
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


def scored_frames(total: int, length: int, frame_stride: int, scoring: FrameScoring) -> slice:
    """The frames of a video that get a score.

    Args:
        total: Frames of the video.
        length, frame_stride, scoring: As for `FrameScorer`.
    """
    last_start = total - span(length, frame_stride)
    if last_start < 0:
        return slice(0)
    if scoring.credit != "center":
        return slice(total)
    middle = length // 2 * frame_stride
    return slice(middle, last_start + middle + 1)


def score_videos(
    detector: Detector,
    videos: Sequence[Video],
    scoring: FrameScoring,
    on_scored: Callable[[int], None] = lambda _: None,
) -> list[np.ndarray]:
    """The scores of the frames of videos, float32 (frames,) for each video.

    They are NaN for frames that get none by `scoring`, and for videos shorter than a clip.

    Args:
        detector: A detector of clips.
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
        # Checked here, as NaN means below that a frame has no score.
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
