"""Writes scored frames: lines, an overlay video, a plot."""

import contextlib
import math
from pathlib import Path

from memae_tf.errors import UserError
from memae_tf.files import written
from memae_tf.scoring.curve import ScoreCurve
from memae_tf.scoring.footage import FootageScorer, ScoredFrame, hottest
from memae_tf.scoring.output import kept_file, opened, row_writer
from memae_tf.scoring.overlay import Overlay
from memae_tf.scoring.streams import Footage


class FootageOutput:
    """Takes scored frames, one by one; a context manager.

    Lines have `frame`, `time`, `score`, `is_anomaly` and, for live streams, `gap`; see
    `StreamFrame` and `ScoredFrame`. Files appear when they are whole, or when Ctrl-C or SIGTERM
    ends the scoring; those of a live stream exist from the beginning.

    Attributes:
        frames: The number of frames.
        anomalies: The number of abnormal frames.
        scored: The number of frames with a score.

    Args:
        lines: File for CSV or JSON lines; `None` is standard output.
        overlay: MP4 file, or `None`.
        plot: Picture of the scores, or `None`.
        footage: The footage that is scored.
        scorer: What scores it.

    Raises:
        UserError: If the suffix of a file is not one of its formats, or a stream's file exists
            already.
    """

    def __init__(
        self,
        lines: Path | None,
        overlay: Path | None,
        plot: Path | None,
        footage: Footage,
        scorer: FootageScorer,
    ):
        self.frames = self.anomalies = self.scored = 0
        self._footage = footage
        self._lines, self._overlay, self._plot = lines, overlay, plot
        self._scorer = scorer
        self._stack = contextlib.ExitStack()
        if plot is not None and plot.suffix not in (".png", ".svg", ".pdf"):
            raise UserError(f"{plot}: should end in .png, .svg or .pdf")
        if overlay is not None and overlay.suffix != ".mp4":
            raise UserError(f"{overlay}: should end in .mp4")
        for path in filter(None, (lines, overlay, plot)):
            if footage.is_live and path.exists():
                raise UserError(f"{path}: already exists; the scores of a stream need a new file")

    def __enter__(self) -> "FootageOutput":
        with contextlib.ExitStack() as stack:
            grows, threshold = self._footage.is_live, self._scorer.threshold
            self._draw = self._curve = None
            # Lines are entered last, so they are finished first: a failing picture costs no scores.
            if self._plot is not None:
                self._curve = ScoreCurve(threshold)
                aside = stack.enter_context(kept_file(self._plot, grows))
                stack.callback(self._save_plot, aside)
            if self._overlay is not None:
                aside = stack.enter_context(kept_file(self._overlay, grows))
                heat = hottest(self._scorer.detector, threshold)
                rate = self._footage.frame_rate()
                self._draw = Overlay(aside, threshold, heat, rate)
                stack.callback(self._close_overlay)
            write = stack.enter_context(opened(self._lines, grows))
            self._write_row = row_writer(write, self._lines)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error) -> bool | None:
        return self._stack.__exit__(*error)

    def add(self, scored: ScoredFrame) -> None:
        """Writes the next frame."""
        self._write_row(self._values(scored))
        if self._draw is not None:
            with written(self._overlay):
                self._draw.add(scored)
        if self._curve is not None:
            self._curve.add(scored)
        self.frames += 1
        self.anomalies += bool(scored.is_anomaly)
        self.scored += scored.is_anomaly is not None

    def text(self) -> str:
        """The numbers of frames, abnormal ones and ones without a score, as text."""
        without = self.frames - self.scored
        unscored = f", {without:,} without a score" if without else ""
        return f"{self.frames:,} frames, {self.anomalies:,} abnormal{unscored}"

    def _values(self, scored: ScoredFrame) -> dict[str, object]:
        frame, has_score = scored.frame, not math.isnan(scored.score)
        values = {
            "frame": frame.number,
            "time": round(frame.time, 6) if isinstance(frame.time, float) else frame.time,
            # In as many digits as tell float32 apart.
            "score": float(str(scored.score)) if has_score else None,
            "is_anomaly": int(scored.is_anomaly) if has_score else None,
        }
        if self._footage.is_live:
            values["gap"] = None if frame.gap is None else round(frame.gap, 3)
        return values

    def _close_overlay(self) -> None:
        with written(self._overlay):
            self._draw.close()

    def _save_plot(self, aside: Path) -> None:
        if self.frames:
            kind = self._plot.suffix[1:]
            with written(self._plot):
                self._curve.figure(self._footage.name).savefig(aside, format=kind, dpi=110)
