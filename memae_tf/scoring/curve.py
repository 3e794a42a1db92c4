"""The scores of footage of any length, drawn as a curve."""

import itertools
import math
from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure

from memae_tf.evaluation.figures import ANOMALY, NORMAL, literal
from memae_tf.scoring.footage import ScoredFrame

MOST_POINTS = 4096


class ScoreCurve:
    """Collects scores in bounded memory: the largest of each stretch, for up to 4,096 stretches.

    Args:
        threshold: Scores above it are anomalies.
    """

    def __init__(self, threshold: float):
        self.threshold = threshold
        # The first frame of each stretch, and its score.
        self._points: list[tuple[int, float]] = []
        # The number of frames in a stretch, and in the last one so far.
        self._stretch, self._in_last = 1, 1

    def add(self, scored: ScoredFrame) -> None:
        """Takes the next frame."""
        point = scored.frame.number, scored.score
        if self._in_last < self._stretch:
            self._points[-1] = _joined(self._points[-1], point)
            self._in_last += 1
            return
        if len(self._points) == MOST_POINTS:
            self._points = list(map(_joined, self._points[::2], self._points[1::2]))
            self._stretch *= 2
        self._points.append(point)
        self._in_last = 1

    def figure(self, title: str) -> Figure:
        """Draws the curve and the threshold; stretches above it are shaded."""
        figure = Figure(figsize=(9, 2.8), layout="constrained")
        axes = figure.add_subplot()
        frames, scores = zip(*self._points, strict=True)
        axes.plot(frames, scores, color=NORMAL, linewidth=1)
        axes.axhline(self.threshold, color="black", linestyle="--", linewidth=0.8)
        for first, last in self._above(frames, scores):
            axes.axvspan(first, last, color=ANOMALY, alpha=0.2, linewidth=0)
        axes.set(xlabel="frame", ylabel="anomaly score", title=literal(title))
        axes.set_ylim(bottom=0)
        return figure

    def _above(
        self, frames: Sequence[int], scores: Sequence[float]
    ) -> Iterator[tuple[float, float]]:
        """The ranges of frames above the threshold, each wider by half a stretch on both sides."""
        half = self._stretch / 2
        points = zip(frames, scores, strict=True)
        for above, run in itertools.groupby(points, lambda point: point[1] > self.threshold):
            if above:
                numbers = [number for number, _ in run]
                yield numbers[0] - half, numbers[-1] + half


def _joined(a: tuple[int, float], b: tuple[int, float]) -> tuple[int, float]:
    """Merges two stretches; NaN means no score."""
    return a[0], b[1] if math.isnan(a[1]) or b[1] > a[1] else a[1]
