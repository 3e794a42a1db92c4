"""One experiment: all sections, and how two of them differ."""

from typing import Any

import pydantic
import yaml
from pydantic import BaseModel

from memae_tf.config.data import Data, VideoData
from memae_tf.config.evaluation import EvaluationConfig
from memae_tf.config.model import Model
from memae_tf.config.section import OF_VIDEO, Section
from memae_tf.config.training import TrainingConfig


class Config(Section):
    """One experiment."""

    data: Data
    model: Model
    training: TrainingConfig
    evaluation: EvaluationConfig = EvaluationConfig()

    @pydantic.model_validator(mode="after")
    def _video_alone(self) -> "Config":
        if isinstance(self.data, VideoData):
            return self
        for name, section in (("training", self.training), ("evaluation", self.evaluation)):
            for key, field in type(section).model_fields.items():
                if OF_VIDEO in field.metadata and getattr(section, key) != field.default:
                    raise ValueError(
                        f"{name}.{key}: is for video, and these data are none; leave it out"
                    )
        return self

    def to_yaml(self) -> str:
        """The configuration with every default written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


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
    own, other = essence(a), essence(b)
    return [key for key in {**own, **other} if own.get(key) != other.get(key)]


def essence(config: Config) -> dict[str, Any]:
    """What a run comes from, by dotted keys: all but `EXECUTION_KEYS`, in JSON's types."""
    flat = flattened(config.model_dump(mode="json"))
    return {key: value for key, value in flat.items() if key not in EXECUTION_KEYS}


def flattened(section: dict, prefix: str = "") -> dict[str, Any]:
    """What a nest of dicts holds, by dotted keys."""
    flat = {}
    for key, value in section.items():
        if isinstance(value, dict):
            flat.update(flattened(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
