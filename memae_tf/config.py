"""What a configuration may say, and how it is read.

A YAML file and the `dotted.key=value` overrides of the command line are validated by one schema.
"""

import difflib
import math
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import pydantic
import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from memae_tf.errors import UserError

Share = Annotated[float, Field(gt=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
FiniteNonNegative = Annotated[NonNegativeFloat, Field(allow_inf_nan=False)]
Threshold = Literal["top_ratio", "true_ratio", "train_quantile", "best_f1"]
Variant = Literal["ae", "memae-nonspar", "memae"]
Scaling = Literal["log", "standard", "minmax"]


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


# data


class RecordData(Section):
    """What all sources of records share."""

    scaling: Scaling = Field("log", description="of numeric fields, see RecordFeaturizer")
    clip: Annotated[PositiveFloat, Field(allow_inf_nan=False)] = Field(
        10.0, description="largest absolute value of a feature"
    )


class KDDCup99Data(RecordData):
    """KDDCUP99, 10 percent; the attacks are the normal class (as in DAGMM)."""

    name: Literal["kddcup99"]
    dir: Path | None = Field(None, description="holds scikit_learn_data/; or $MEMAE_DATA_DIR")
    fallback: Literal["simulated", "none"] = Field(
        "simulated", description="what to do where the data cannot be had"
    )
    protocol: Literal["dagmm", "goad"] = "dagmm"
    max_records: PositiveInt | None = Field(None, description="use a random part of the records")


class TabularData(RecordData):
    """A person's own CSV or Parquet files."""

    name: Literal["tabular"]
    train: Path
    test: Path | None = Field(None, description="own test file; else a part of `train`")
    label: str | None = Field(None, description="column that says what is normal")
    normal: list[str | int | bool] = Field(
        ["normal", "benign", "0"], description="labels of normal records (case is ignored)"
    )
    numeric: list[str] = Field([], description="columns declared numeric")
    categorical: list[str] = Field([], description="columns declared categorical")
    drop: list[str] = Field([], description="columns to leave out")
    test_share: Share = Field(0.5, description="of the normal records, where there is no `test`")
    non_finite: Literal["error", "accept"] = Field(
        "error", description="of empty and infinite numbers: accept reads them as mean and clip"
    )


class ImageData(Section):
    """What all sources of images share."""

    size: PositiveInt | Annotated[list[PositiveInt], Field(min_length=2, max_length=2)] | None = (
        Field(None, description="[height, width], or both in one; default: that of the images")
    )
    channels: Literal[1, 3] | None = Field(
        None, description="grey or colour; default: grey if all training images are"
    )
    scaling: Literal["unit", "symmetric", "standard", "image"] = Field(
        "unit", description="of pixel values, see ImageFeaturizer"
    )
    max_images: PositiveInt | None = Field(None, description="train on a random part")


class TFDSData(ImageData):
    """A labelled image set of TensorFlow Datasets; one class is normal."""

    name: Literal["tfds"]
    dataset: str = Field(description="its name there: mnist, cifar10, fashion_mnist, ...")
    normal: NonNegativeInt | str = Field(description="the normal class, by number or name")
    protocol: Literal["one_class", "full_test", "validation"] = "one_class"
    anomaly_share: Share = Field(0.3, description="of the test set, unless full_test")
    dir: Path | None = Field(None, description="holds tensorflow_datasets/; or $MEMAE_DATA_DIR")


class ImageFolderData(ImageData):
    """A person's own pictures: train/normal, test/normal, test/<defect>."""

    name: Literal["image_folder"]
    dir: Path
    normal: str = Field("normal", description="what the folders of normal images are called")


class VideoData(Section):
    """What all sources of video share."""

    size: PositiveInt | Annotated[list[PositiveInt], Field(min_length=2, max_length=2)] = Field(
        256, description="[height, width] to which frames are resized, or both in one"
    )
    channels: Literal[1, 3] = Field(1, description="grey or colour")
    scaling: Literal["unit", "symmetric", "standard"] = Field(
        "symmetric", description="of pixel values, see ImageFeaturizer"
    )
    clip_length: PositiveInt = Field(16, description="frames of a clip")
    frame_stride: PositiveInt = Field(1, description="from one frame of a clip to its next")
    clip_stride: PositiveInt = Field(1, description="from one training clip's start to the next's")
    frame_rate: Annotated[PositiveFloat, Field(allow_inf_nan=False)] | None = Field(
        None, description="frames a second that video files are brought to; default: all frames"
    )
    damaged: Literal["error", "skip"] = Field(
        "error", description="what to do with a video that cannot be read to its end"
    )
    cache: Path | None = Field(
        None, description="folder of prepared frames; default: ~/.cache/memae_tf/video"
    )


class UCSDData(VideoData):
    """The UCSD pedestrians, in the layout of the original archive."""

    name: Literal["ucsd_ped2", "ucsd_ped1"]
    dir: Path | None = Field(
        None, description="holds UCSD_Anomaly_Dataset.v1p2/; or $MEMAE_DATA_DIR"
    )


class AvenueData(VideoData):
    """CUHK Avenue, in the layout of the original archives."""

    name: Literal["avenue"]
    dir: Path | None = Field(None, description="holds Avenue Dataset/; or $MEMAE_DATA_DIR")


class ShanghaiTechData(VideoData):
    """ShanghaiTech Campus, in the layout of the original archive."""

    name: Literal["shanghaitech"]
    dir: Path | None = Field(None, description="holds shanghaitech/; or $MEMAE_DATA_DIR")


class VideoFolderData(VideoData):
    """A person's own footage: train/, test/ and labels.csv."""

    name: Literal["video_folder"]
    dir: Path


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

# model


class MemoryConfig(Section):
    """Arguments of MemoryUnit."""

    num_slots: PositiveInt = 50
    similarity: Literal["cosine", "dot"] = "cosine"
    scale: Literal["learned"] | Annotated[PositiveFloat, Field(allow_inf_nan=False)] | None = None
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
    hidden: list[PositiveInt] = [60, 30, 10]
    code: PositiveInt = 3
    activation: Literal["tanh", "relu", "gelu", "elu", "silu"] = "tanh"


class Conv2DModel(ModelSection):
    """The 2-D convolutional autoencoder, for images."""

    name: Literal["conv2d"]
    filters: Annotated[list[PositiveInt], Field(min_length=1)] = [16, 32, 64]
    kernels: list[PositiveInt] = [1, 3, 3]
    strides: list[PositiveInt] = [2, 2, 2]
    code: PositiveInt | None = None
    queries: Literal["sample", "position"] = "sample"


class Conv3DModel(ModelSection):
    """The 3-D convolutional autoencoder, for clips."""

    name: Literal["conv3d"]
    filters: Annotated[list[PositiveInt], Field(min_length=1)] = [96, 128, 256, 256]


class BaselineSection(Section):
    """What a system has in common that is no autoencoder of ours."""


class OCSVMModel(BaselineSection):
    """One-class support vector machine."""

    name: Literal["ocsvm"]
    nu: Share = 0.1
    gamma: Literal["scale", "auto"] | Annotated[PositiveFloat, Field(allow_inf_nan=False)] = "scale"
    pca: Share | None = Field(0.95, description="share of the variance that components keep")
    max_samples: PositiveInt = Field(10_000, description="learn from a random part")


class KDEModel(BaselineSection):
    """Kernel density estimation."""

    name: Literal["kde"]
    bandwidth: (
        Literal["cv", "scott", "silverman"] | Annotated[PositiveFloat, Field(allow_inf_nan=False)]
    ) = "cv"
    pca: Share | None = Field(0.95, description="share of the variance that components keep")
    max_samples: PositiveInt = Field(10_000, description="learn from a random part")


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
    levels: Annotated[int, Field(ge=2, le=256)] = 256


class DSEBMModel(BaselineSection):
    """Deep structured energy-based model."""

    name: Literal["dsebm"]
    score: Literal["energy", "reconstruction"] = "energy"
    code: PositiveInt = Field(128, description="units of the last layer")
    noise: Annotated[PositiveFloat, Field(allow_inf_nan=False)] = Field(
        0.1, description="standard deviation, in training"
    )
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

# training and evaluation


class EarlyStopping(Section):
    """Ends a run that no longer improves; the detector is then that of the best epoch."""

    patience: PositiveInt = Field(description="epochs without improvement before the run ends")
    min_delta: FiniteNonNegative = Field(0.0, description="what counts as improvement")


class Augmentation(Section):
    """Random changes of training clips, alike for all frames of one."""

    flip: Probability = Field(0.0, description="probability that left and right change places")
    crop: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="largest share of height and width that is cut off; the rest is resized"
    )


class PseudoAnomalies(Section):
    """Training clips that are made abnormal, see ClipSamples."""

    skip: Probability = Field(0.0, description="share of clips with skipped frames")
    skips: Annotated[list[Annotated[int, Field(ge=2)]], Field(min_length=1)] = Field(
        [2, 3, 4, 5], description="by how much they are faster, drawn at random"
    )
    patch: Probability = Field(0.0, description="share of clips with a moving patch")
    patch_size: Share = Field(0.5, description="largest sides of a patch, as shares of a frame's")
    patch_move: Probability = Field(
        0.04, description="largest way from frame to frame, as a share of a frame's sides"
    )
    loss: Literal["restore", "repel"] = Field(
        "restore", description="give the normal clip back (LNRA), or a negative loss (PseudoBound)"
    )

    @pydantic.model_validator(mode="after")
    def _at_most_all(self) -> "PseudoAnomalies":
        if self.skip + self.patch > 1:
            raise ValueError("skip and patch should be 1 together or less")
        return self


class TrainingConfig(Section):
    """The training loop."""

    epochs: PositiveInt
    batch_size: Annotated[PositiveInt, Field(lt=2**31)] = Field(
        1024, description="samples of a step, on all replicas together"
    )
    learning_rate: Annotated[PositiveFloat, Field(allow_inf_nan=False)] = 1e-3
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="of the learning rate; cosine ends at 0"
    )
    warmup_epochs: FiniteNonNegative = Field(
        0.0, description="in which the learning rate rises from 0 to its value"
    )
    clip_norm: Annotated[PositiveFloat, Field(allow_inf_nan=False)] | None = Field(
        None, description="largest norm of the gradient of all weights together"
    )
    averaging: Share | None = Field(
        None, description="decay per step of the moving average of the weights that is kept"
    )
    validation_share: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="of the training samples, held out: their loss chooses the best epoch"
    )
    early_stopping: EarlyStopping | None = None
    keep_checkpoints: PositiveInt = Field(3, description="of the last epochs, beside the best")
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(0, description="of split, weights, order")
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    deterministic: bool = Field(
        False, description="only operations that give the same bits every time"
    )
    replicas: PositiveInt | None = Field(
        None, description="GPUs, or logical CPU devices without a GPU; default: all GPUs"
    )
    synchronized_batch_norm: bool = Field(
        True, description="statistics of the global batch, not of a replica's part"
    )
    resident_mb: FiniteNonNegative = Field(
        4096.0, description="training sets up to this size stay on the device, others stream"
    )
    augmentation: Augmentation | None = Field(None, description="of video alone")
    pseudo_anomalies: PseudoAnomalies | None = Field(None, description="of video alone")


class FrameScoring(Section):
    """From the errors of overlapping clips to the scores of frames."""

    clip_stride: PositiveInt = Field(1, description="from one scored clip's start to the next's")
    credit: Literal["clip", "frame", "center"] = Field(
        "clip", description="what a clip says of its frames, see evaluation/frames.py"
    )
    error: Literal["squared", "absolute"] = Field(
        "squared",
        description="of pixels: squared as in print, or absolute as in the authors' code",
    )
    smoothing: FiniteNonNegative = Field(
        0.0, description="standard deviation, in frames, of a Gaussian over a video's scores"
    )


class EvaluationConfig(Section):
    """Thresholds; the first is the detector's, `null` is the protocol's own."""

    threshold: Threshold | None = None
    thresholds: list[Threshold] = ["true_ratio", "train_quantile", "best_f1"]
    ratio: Share = Field(0.2, description="share of the test set that top_ratio flags")
    quantile: Share = Field(0.99, description="of the training scores, for train_quantile")
    frames: FrameScoring = Field(FrameScoring(), description="of video alone")


class Config(Section):
    """One experiment."""

    data: Data
    model: Model
    training: TrainingConfig
    evaluation: EvaluationConfig = EvaluationConfig()

    def to_yaml(self) -> str:
        """The configuration with every default written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


class BenchmarkConfig(Section):
    """A grid of experiments: every combination of one choice an axis, with every seed."""

    base: Path = Field(description="configuration that the choices change, beside this file")
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    axes: dict[str, Annotated[dict[str, dict[str, Any]], Field(min_length=1)]] = Field(
        description="axis: {choice: {dotted.key: value}}"
    )
    together: dict[str, dict[str, Any]] = Field(
        {}, description="for choices that meet, joined with '/': {dotted.key: value}"
    )
    published: dict[str, dict[str, float]] = Field(
        {}, description="figures from the literature, row name: {metric: value}"
    )
    mean_of: str | None = Field(
        None, description="axis over which the table has the mean ROC AUC, such as class"
    )
    curves_over: str | None = Field(
        None, description="axis of numbers, such as slots, over which ROC AUC is drawn"
    )

    @pydantic.field_validator("together")
    @classmethod
    def _has_choices(cls, value: dict, info: pydantic.ValidationInfo) -> dict:
        choices = {choice for axis in info.data.get("axes", {}).values() for choice in axis}
        for name in value:
            for part in name.split("/"):
                if part not in choices:
                    raise ValueError(f"in '{name}', '{part}' is no choice of an axis")
        return value

    @pydantic.field_validator("mean_of", "curves_over")
    @classmethod
    def _is_an_axis(cls, value: str | None, info: pydantic.ValidationInfo) -> str | None:
        if value is not None and value not in info.data.get("axes", {value: {}}):
            raise ValueError(f"should be one of the axes, {', '.join(info.data['axes'])}")
        return value

    @pydantic.field_validator("curves_over")
    @classmethod
    def _has_numbers(cls, value: str | None, info: pydantic.ValidationInfo) -> str | None:
        for choice in info.data.get("axes", {}).get(value, {}):
            if not _is_number(choice):
                raise ValueError(f"its choices should be numbers, and '{choice}' is none")
        return value


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


# reading


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads an experiment's YAML file and applies `dotted.key=value` overrides.

    Raises:
        UserError: If the file cannot be read, or the file or an override does not fit the schema.
    """
    return parse_config(read_yaml(path), overrides, source=str(path))


def parse_config(raw: dict, overrides: Sequence[str] = (), source: str = "config") -> Config:
    """Validates a nested dict with overrides; `source` names it in errors."""
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise UserError(f"override '{override}': write it as dotted.key=value")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError(
                f"override '{override}': '{text}' is not a YAML value (in a "
                "shell, quotes go around all of it where there are blanks)"
            ) from None
        raw = set_key(raw, key, value)
    return _validate(Config, raw, source)


def load_benchmark(path: str | Path) -> BenchmarkConfig:
    """Reads a benchmark's YAML file.

    Raises:
        UserError: If the file cannot be read or does not fit the schema.
    """
    return _validate(BenchmarkConfig, read_yaml(path), str(path))


def load_model(path: str | Path) -> Model:
    """Reads the `model` section of any YAML file that has one.

    Raises:
        UserError: If the file cannot be read or the section does not fit the schema.
    """

    class ModelFile(BaseModel):
        model: Model

    return _validate(ModelFile, {"model": read_yaml(path).get("model")}, str(path)).model


def read_yaml(path: str | Path) -> dict:
    """The mapping in a YAML file.

    Raises:
        UserError: If the file is missing, not YAML, or not a mapping.
    """
    try:
        raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not a text file in UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise UserError(f"{path}{line}: is not YAML ({problem})") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path}: should be a mapping of sections (data, model, training, ...)")
    return raw


def set_key(raw: dict, dotted: str, value: Any, prefix: str = "") -> dict:
    """A copy of a nested dict with one dotted key set; `prefix` is for errors.

    Raises:
        UserError: If the key leads through something that is not a section.
    """
    head, _, rest = dotted.partition(".")
    if not rest:
        return {**raw, head: value}
    section = raw.get(head)
    if section is None:
        section = {}
    if not isinstance(section, dict):
        raise UserError(f"{prefix}{dotted}: {prefix}{head} is a value, not a section")
    return {**raw, head: set_key(section, rest, value, f"{prefix}{head}.")}


# How a run is carried out, not what it comes to.
EXECUTION_KEYS = (
    # Where the data are; which they are, the run directory knows by a checksum. For a grid, see
    # `is_the_data`.
    "data.dir",
    "data.cache",
    "training.replicas",
    "training.resident_mb",
    "training.keep_checkpoints",
)


def is_the_data(section: BaseModel, key: str) -> bool:
    """Whether a key of the `data` section says which data are meant, not only where they are."""
    field = type(section).model_fields.get(key)
    return field is not None and field.is_required()


def differing_keys(a: Config, b: Config) -> list[str]:
    """The dotted keys in which two configurations differ, but for `EXECUTION_KEYS`."""
    flat_a, flat_b = (_flatten(c.model_dump(mode="json")) for c in (a, b))
    keys = [key for key in {**flat_a, **flat_b} if key not in EXECUTION_KEYS]
    return [key for key in keys if flat_a.get(key) != flat_b.get(key)]


def _flatten(section: dict, prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in section.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


# errors for people


def _validate(schema: type[BaseModel], raw: dict, source: str):
    try:
        return schema.model_validate(raw)
    except pydantic.ValidationError as error:
        problems = dict.fromkeys(_explain(schema, problem) for problem in error.errors())
        raise UserError(f"{source}: {'; '.join(problems)}") from None


def _explain(schema: type[BaseModel], problem: dict) -> str:
    """One problem of pydantic's as `dotted.key: what is wrong and what would be right`."""
    path, section = _locate(schema, problem["loc"])
    key = ".".join(path)
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        return f"{key}: unknown key{_suggest(schema, path, section)}"
    if kind == "missing":
        return f"{key}: is required"
    if kind == "union_tag_not_found":
        return f"{key}.name: is required, one of {_tags(section, path)}"
    if kind == "union_tag_invalid":
        tag, expected = context["tag"], context["expected_tags"].replace("'", "")
        near = difflib.get_close_matches(tag, expected.split(", "), 1, 0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{key}.name: '{tag}' is not one of {expected}{hint}"
    if kind == "literal_error":
        return f"{key}: '{problem['input']}' is not one of {context['expected']}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"{key}: should be a section with keys of its own, got {problem['input']!r}"
    if kind == "value_error":
        # Of our own validators.
        return f"{key}: {context['error']}"
    message = problem["msg"][:1].lower() + problem["msg"][1:]
    return f"{key}: {message}, got {problem['input']!r}"


def _locate(schema: type[BaseModel], location: tuple) -> tuple[list[str], type[BaseModel] | None]:
    """The keys of a pydantic location, without the tags of unions, and the section they end in."""
    path, section = [], schema
    parts = list(location)
    while parts:
        part = str(parts.pop(0))
        path.append(part)
        if section is None or part not in section.model_fields:
            # Inside a list, a plain value or a dict; or an unknown key of `section`.
            if section is not None and part not in section.model_fields:
                return path, section
            continue
        options = _sections(section.model_fields[part].annotation)
        if len(options) > 1 and parts:
            tag = parts.pop(0)
            section = next(o for o in options if tag in typing.get_args(_name_type(o)))
        elif len(options) == 1 and parts:
            section = options[0]
        elif parts:
            # The rest are indices, or branches of a union of plain values.
            path += [str(p) for p in parts if isinstance(p, int)]
            parts = []
    return path, section


def _sections(annotation) -> list[type[BaseModel]]:
    """The sections that a field's type allows."""
    if typing.get_origin(annotation) is Annotated:
        return _sections(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return [s for option in typing.get_args(annotation) for s in _sections(option)]
    if typing.get_origin(annotation) is not None:
        # A list[...] or dict[...], which Python 3.10 takes for a type.
        return []
    is_section = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return [annotation] if is_section else []


def _name_type(section: type[BaseModel]):
    return section.model_fields["name"].annotation


def _tags(section: type[BaseModel], path: list[str]) -> str:
    options = _sections(section.model_fields[path[-1]].annotation)
    return ", ".join(name for option in options for name in typing.get_args(_name_type(option)))


def _suggest(schema: type[BaseModel], path: list[str], section: type[BaseModel]) -> str:
    """The nearest right key: in the same section, else anywhere in the configuration."""
    prefix = ".".join([*path[:-1], ""])
    near = difflib.get_close_matches(path[-1], section.model_fields, 1, 0.6)
    if near:
        return f"; did you mean {prefix}{near[0]}?"
    own = ".".join(path)  # a key of another kind of this section
    elsewhere = [k for k in _all_keys(schema) if k.split(".")[-1] == path[-1] and k != own]
    if elsewhere:
        return f"; did you mean {elsewhere[0]}?"
    return f"; {prefix[:-1] or 'the file'} may have {', '.join(section.model_fields)}"


def _all_keys(schema: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in schema.model_fields.items():
        keys.append(prefix + name)
        for section in _sections(field.annotation):
            keys += _all_keys(section, f"{prefix}{name}.")
    return keys
