"""The `data` section: a class for each source."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from memae_tf.config.section import (
    FinitePositive,
    IsNumber,
    Location,
    NonNegativeInt,
    PositiveInt,
    Section,
    Share,
)

# Paths and patterns of files that are read as one table; a single one needs no list.
Files = Annotated[
    list[Location],
    Field(min_length=1),
    pydantic.BeforeValidator(lambda value: value if isinstance(value, list) else [value]),
]
Scaling = Literal["log", "standard", "minmax"]
Channels = Annotated[Literal[1, 3], IsNumber]


class RecordData(Section):
    """What all sources of records share."""

    scaling: Scaling = Field("log", description="scaling of numeric fields, see RecordFeaturizer")
    # Squared errors are summed in float32, whose range ends at 3e38.
    clip: Annotated[FinitePositive, Field(le=1e12)] = Field(
        10.0, description="largest absolute value of a feature"
    )


class KDDCup99Data(RecordData):
    """KDDCUP99, 10 percent; the attacks are the normal class (as in DAGMM)."""

    name: Literal["kddcup99"]
    dir: Location | None = Field(None, description="has scikit_learn_data/; or $MEMAE_DATA_DIR")
    fallback: Literal["simulated", "none"] = Field(
        "simulated", description="what to do if the data are not available"
    )
    protocol: Literal["dagmm", "goad"] = "dagmm"
    max_records: PositiveInt | None = Field(None, description="use a random part of the records")


class TabularData(RecordData):
    """A user's own CSV or Parquet files."""

    name: Literal["tabular"]
    train: Files = Field(description="file, pattern of files, or list of both")
    test: Files | None = Field(None, description="test files; default: a part of `train`")
    label: str | None = Field(None, description="column that says what is normal")
    normal: list[str | int | bool] = Field(
        ["normal", "benign", "0"], description="labels of normal records (case is ignored)"
    )
    numeric: list[str] = Field([], description="columns declared numeric")
    categorical: list[str] = Field([], description="columns declared categorical")
    drop: list[str] = Field([], description="columns to leave out")
    test_share: Share = Field(0.5, description="share of normal records, without `test`")
    non_finite: Literal["error", "accept"] = Field(
        "error", description="empty and infinite numbers; accept reads them as mean and clip"
    )

    @pydantic.model_validator(mode="after")
    def _normal_of_a_label(self) -> "TabularData":
        # The default is fine without a label, too: a resolved configuration spells it out.
        if self.label is None and self.normal != type(self).model_fields["normal"].default:
            raise ValueError("normal also needs label, the column with the labels")
        return self

    @pydantic.model_validator(mode="after")
    def _one_use_of_a_column(self) -> "TabularData":
        if self.label in self.drop:
            raise ValueError(f"column '{self.label}' is the label, so it should not be in drop")
        for column in self.numeric:
            if column in self.categorical:
                raise ValueError(
                    f"column '{column}' is in numeric and in categorical; it should be in one only"
                )
        for key in ("numeric", "categorical"):
            for column in getattr(self, key):
                if column == self.label:
                    raise ValueError(
                        f"column '{column}' is the label, so it should not be in {key}"
                    )
                if column in self.drop:
                    raise ValueError(
                        f"column '{column}' is in {key} and in drop; it should be in one only"
                    )
        return self

    @pydantic.model_validator(mode="after")
    def _share_of_train(self) -> "TabularData":
        default = type(self).model_fields["test_share"].default
        if self.test is not None and self.test_share != default:
            raise ValueError("test_share is the part of train to test on, so it goes without test")
        return self


class ImageData(Section):
    """What all sources of images share."""

    size: PositiveInt | Annotated[list[PositiveInt], Field(min_length=2, max_length=2)] | None = (
        Field(None, description="[height, width], or one number for both; default: as they are")
    )
    channels: Channels | None = Field(
        None, description="grey or colour; default: grey if all training images are"
    )
    scaling: Literal["unit", "symmetric", "standard", "image"] = Field(
        "unit", description="scaling of pixel values, see ImageFeaturizer"
    )
    max_images: PositiveInt | None = Field(
        None, description="the most training images, chosen at random"
    )


class TFDSData(ImageData):
    """A labelled image set of TensorFlow Datasets; one class is normal."""

    name: Literal["tfds"]
    dataset: str = Field(description="name of the set: mnist, cifar10, fashion_mnist, ...")
    normal: NonNegativeInt | str = Field(description="the normal class, by number or name")
    protocol: Literal["one_class", "full_test", "validation"] = "one_class"
    anomaly_share: Share = Field(0.3, description="share of the test set, unless full_test")
    dir: Location | None = Field(None, description="has tensorflow_datasets/; or $MEMAE_DATA_DIR")


class ImageFolderData(ImageData):
    """A user's own pictures: train/normal, test/normal, test/<defect>."""

    name: Literal["image_folder"]
    dir: Location
    normal: str = Field("normal", description="name of the folders with normal images")


class VideoData(Section):
    """What all sources of video share."""

    size: PositiveInt | Annotated[list[PositiveInt], Field(min_length=2, max_length=2)] = Field(
        256, description="size of resized frames, [height, width], or one number for both"
    )
    channels: Channels = Field(1, description="grey or colour")
    scaling: Literal["unit", "symmetric", "standard"] = Field(
        "symmetric", description="scaling of pixel values, see ImageFeaturizer"
    )
    clip_length: PositiveInt = Field(16, description="frames of a clip")
    frame_stride: PositiveInt = Field(
        1, description="distance from one frame of a clip to the next"
    )
    clip_stride: PositiveInt = Field(1, description="distance from one training clip to the next")
    frame_rate: FinitePositive | None = Field(
        None, description="frames per second to take of video files; default: all"
    )
    damaged: Literal["error", "skip"] = Field(
        "error", description="what to do with a video that cannot be read to its end"
    )
    cache: Location | None = Field(
        None, description="folder of prepared frames; default: ~/.cache/memae_tf/video"
    )


class UCSDData(VideoData):
    """The UCSD pedestrians, in the layout of the original archive."""

    name: Literal["ucsd_ped2", "ucsd_ped1"]
    dir: Location | None = Field(
        None, description="has UCSD_Anomaly_Dataset.v1p2/; or $MEMAE_DATA_DIR"
    )


class AvenueData(VideoData):
    """CUHK Avenue, in the layout of the original archives."""

    name: Literal["avenue"]
    dir: Location | None = Field(None, description="has Avenue Dataset/; or $MEMAE_DATA_DIR")


class ShanghaiTechData(VideoData):
    """ShanghaiTech Campus, in the layout of the original archive."""

    name: Literal["shanghaitech"]
    dir: Location | None = Field(None, description="has shanghaitech/; or $MEMAE_DATA_DIR")


class VideoFolderData(VideoData):
    """A user's own footage: train/, test/ and labels.csv."""

    name: Literal["video_folder"]
    dir: Location


Data = Annotated[
    KDDCup99Data
    | TabularData
    | TFDSData
    | ImageFolderData
    | UCSDData
    | AvenueData
    | ShanghaiTechData
    | VideoFolderData,
    Field(discriminator="name"),
]
