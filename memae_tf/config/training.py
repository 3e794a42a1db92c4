"""The `training` section."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from memae_tf.config.section import (
    OF_VIDEO,
    FiniteNonNegative,
    FinitePositive,
    Integer,
    Number,
    PositiveInt,
    Probability,
    Section,
    Share,
)
from memae_tf.precision import Precision


class EarlyStopping(Section):
    """Ends a run that no longer improves; the detector is then that of the best epoch."""

    patience: PositiveInt = Field(description="epochs without improvement before the run ends")
    min_delta: FiniteNonNegative = Field(0.0, description="what counts as improvement")


class Augmentation(Section):
    """Random changes of training clips, alike for all frames of one."""

    flip: Probability = Field(0.0, description="probability of a horizontal flip")
    crop: Annotated[Number, Field(ge=0, lt=1)] = Field(
        0.0, description="largest share of height and width that is cut off; the rest is resized"
    )


class PseudoAnomalies(Section):
    """Training clips that are made abnormal, see ClipSamples."""

    skip: Probability = Field(0.0, description="share of clips with skipped frames")
    skips: Annotated[list[Annotated[Integer, Field(ge=2)]], Field(min_length=1)] = Field(
        [2, 3, 4, 5], description="how many times faster they are, at random"
    )
    patch: Probability = Field(0.0, description="share of clips with a moving patch")
    patch_size: Share = Field(0.5, description="largest sides of a patch, as a share of a frame's")
    patch_move: Probability = Field(
        0.04, description="largest move from frame to frame, as a share of a frame's sides"
    )
    loss: Literal["restore", "repel"] = Field(
        "restore",
        description="give the normal clip back (LNRA), or count its error negatively (STEAL)",
    )

    @pydantic.model_validator(mode="after")
    def _at_most_all(self) -> "PseudoAnomalies":
        if self.skip + self.patch > 1:
            raise ValueError("the sum of skip and patch should be 1 or less")
        return self


class TrainingConfig(Section):
    """The training loop."""

    epochs: PositiveInt
    batch_size: Annotated[PositiveInt, Field(lt=2**31)] = Field(
        1024, description="samples in a step, on all replicas together"
    )
    learning_rate: FinitePositive = 1e-3
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="schedule of the learning rate; cosine ends at 0"
    )
    warmup_epochs: FiniteNonNegative = Field(
        0.0, description="epochs in which the learning rate rises from 0"
    )
    clip_norm: FinitePositive | None = Field(
        None, description="largest norm of the gradient of all weights together"
    )
    averaging: Share | None = Field(
        None, description="decay per step of the moving average of the weights that is kept"
    )
    validation_share: Annotated[Number, Field(ge=0, lt=1)] = Field(
        0.0, description="share of training samples to hold out; their loss chooses the best epoch"
    )
    early_stopping: EarlyStopping | None = None
    keep_checkpoints: PositiveInt = Field(
        3, description="number of last epochs to keep, besides the best"
    )
    seed: Annotated[Integer, Field(ge=0, lt=2**31)] = Field(
        0, description="seed of split, weights and order"
    )
    precision: Precision = "float32"
    deterministic: bool = Field(
        False, description="only operations that give the same bits every time"
    )
    replicas: PositiveInt | None = Field(
        None, description="GPUs, or logical CPU devices without a GPU; default: all GPUs"
    )
    synchronized_batch_norm: bool = Field(
        True, description="use the statistics of the global batch"
    )
    resident_mb: FiniteNonNegative = Field(
        4096.0, description="training sets up to this size stay on the device, others stream"
    )
    augmentation: Annotated[Augmentation | None, OF_VIDEO] = Field(
        None, description="for video only"
    )
    pseudo_anomalies: Annotated[PseudoAnomalies | None, OF_VIDEO] = Field(
        None, description="for video only"
    )
