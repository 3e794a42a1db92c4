"""The `model` section: a class for each architecture and each baseline."""

from typing import Annotated, Literal

from pydantic import Field

from memae_tf.config.section import (
    FiniteNonNegative,
    FinitePositive,
    Integer,
    NonNegativeInt,
    PositiveInt,
    Section,
    Share,
)

Variant = Literal["ae", "memae-nonspar", "memae"]


class MemoryConfig(Section):
    """Arguments of MemoryUnit."""

    num_slots: PositiveInt = 50
    similarity: Literal["cosine", "dot"] = "cosine"
    scale: Literal["learned"] | FinitePositive | None = None
    shrink: FiniteNonNegative = 1.0
    entropy_weight: FiniteNonNegative = 0.0002
    fallback: Literal["softmax", "zero"] = "softmax"
    warmup_steps: NonNegativeInt = 0


class ModelSection(Section):
    """What all architectures share."""

    variant: Variant = "memae"
    memory: MemoryConfig = MemoryConfig()
    reduction: Literal["sum", "mean"] = "sum"


class DenseModel(ModelSection):
    """The fully connected autoencoder, for records."""

    name: Literal["dense"]
    hidden: list[PositiveInt] = Field([60, 30, 10])
    code: PositiveInt = 3
    activation: Literal["tanh", "relu", "gelu", "elu", "silu"] = "tanh"


class Conv2DModel(ModelSection):
    """The 2-D convolutional autoencoder, for images."""

    name: Literal["conv2d"]
    filters: list[PositiveInt] = Field([16, 32, 64], min_length=1)
    kernels: list[PositiveInt] = Field([1, 3, 3])
    strides: list[PositiveInt] = Field([2, 2, 2])
    code: PositiveInt | None = None
    queries: Literal["sample", "position"] = "sample"


class Conv3DModel(ModelSection):
    """The 3-D convolutional autoencoder, for clips."""

    name: Literal["conv3d"]
    filters: list[PositiveInt] = Field([96, 128, 256, 256], min_length=1)
    output_activation: Literal["linear", "tanh"] = Field(
        "linear", description="tanh keeps reconstructions in [-1, 1], which bounds their errors"
    )


class BaselineSection(Section):
    """What all baselines share."""


class OCSVMModel(BaselineSection):
    """One-class support vector machine."""

    name: Literal["ocsvm"]
    nu: Share = 0.1
    gamma: Literal["scale", "auto"] | FinitePositive = "scale"
    pca: Share | None = Field(0.95, description="share of the variance that components keep")
    max_samples: PositiveInt = Field(
        10_000, description="the most samples to learn from, chosen at random"
    )


class KDEModel(BaselineSection):
    """Kernel density estimation."""

    name: Literal["kde"]
    bandwidth: Literal["cv", "scott", "silverman"] | FinitePositive = "cv"
    pca: Share | None = Field(0.95, description="share of the variance that components keep")
    max_samples: PositiveInt = Field(
        10_000, description="the most samples to learn from, chosen at random"
    )


Net = Annotated[DenseModel | Conv2DModel, Field(discriminator="name")]


class VAEModel(BaselineSection):
    """Variational autoencoder."""

    name: Literal["vae"]
    code: PositiveInt = 32
    net: Net | None = Field(None, description="sizes of the layers; default: the paper's MemAE")


class PixelCNNModel(BaselineSection):
    """Gated PixelCNN."""

    name: Literal["pixelcnn"]
    filters: PositiveInt = 32
    layers: PositiveInt = 6
    levels: Annotated[Integer, Field(ge=2, le=256)] = 256


class DSEBMModel(BaselineSection):
    """Deep structured energy-based model."""

    name: Literal["dsebm"]
    score: Literal["energy", "reconstruction"] = "energy"
    code: PositiveInt = Field(128, description="units of the last layer")
    noise: FinitePositive = Field(0.1, description="standard deviation, in training")
    net: Net | None = Field(None, description="sizes of the layers; default: the paper's MemAE")


Model = Annotated[
    DenseModel
    | Conv2DModel
    | Conv3DModel
    | OCSVMModel
    | KDEModel
    | VAEModel
    | PixelCNNModel
    | DSEBMModel,
    Field(discriminator="name"),
]
