"""The `evaluation` section."""

from typing import Annotated, Literal

from pydantic import Field

from memae_tf.config.section import OF_VIDEO, FiniteNonNegative, PositiveInt, Section, Share

Threshold = Literal["top_ratio", "true_ratio", "train_quantile", "best_f1"]


class FrameScoring(Section):
    """From the errors of overlapping clips to the scores of frames."""

    clip_stride: PositiveInt = Field(1, description="distance from one scored clip to the next")
    credit: Literal["clip", "frame", "center"] = Field(
        "clip", description="what error a clip gives its frames, see evaluation/frames.py"
    )
    error: Literal["squared", "absolute"] = Field(
        "squared",
        description="error of pixels: squared as in the paper, or absolute as in the authors' code",
    )
    smoothing: FiniteNonNegative = Field(
        0.0, description="standard deviation, in frames, of a Gaussian over a video's scores"
    )


class EvaluationConfig(Section):
    """The detector's threshold (`null` is the protocol's own), and others to report."""

    threshold: Threshold | None = None
    thresholds: list[Threshold] = Field(["true_ratio", "train_quantile", "best_f1"])
    ratio: Share = Field(0.2, description="share of the test set that top_ratio flags")
    quantile: Share = Field(0.99, description="quantile of the training scores, for train_quantile")
    frames: Annotated[FrameScoring, OF_VIDEO] = Field(FrameScoring(), description="for video only")
