"""The configuration of an experiment, with all sections, and differences between two of them."""

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
    """The configuration of one experiment."""

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
                        f"{name}.{key}: is for video only; leave it out for these data"
                    )
        return self

    @pydantic.model_validator(mode="after")
    def _bounded_loss(self) -> "Config":
        pseudo = self.training.pseudo_anomalies
        is_linear = getattr(self.model, "output_activation", None) == "linear"
        if is_linear and pseudo is not None and pseudo.loss == "repel":
            raise ValueError(
                "training.pseudo_anomalies: with linear outputs, nothing bounds loss=repel; set "
                "model.output_activation: tanh"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _outputs_reach_the_data(self) -> "Config":
        output = getattr(self.model, "output_activation", None)
        if output == "tanh" and getattr(self.data, "scaling", None) == "standard":
            raise ValueError(
                "model.output_activation: tanh gives values from -1 to 1, and "
                "data.scaling=standard exceeds these; use symmetric or unit"
            )
        return self

    def to_yaml(self) -> str:
        """The configuration with every default written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


# Keys that say how a run is carried out, and do not change its result.
EXECUTION_KEYS = (
    # Where the data are. A run directory checks that they are the same by a fingerprint, a grid by
    # `identifies_data`.
    "data.dir",
    "data.cache",
    "training.replicas",
    "training.resident_mb",
    "training.keep_checkpoints",
)


def identifies_data(section: BaseModel, key: str) -> bool:
    """Whether a key of the `data` section says which data are meant, not only where they are."""
    field = type(section).model_fields.get(key)
    return field is not None and field.is_required()


def differing_keys(a: Config, b: Config) -> list[str]:
    """The dotted keys in which two configurations differ, without `EXECUTION_KEYS`."""
    own, other = essence(a), essence(b)
    return [key for key in {**own, **other} if own.get(key) != other.get(key)]


def essence(config: Config) -> dict[str, Any]:
    """What determines a run's result: all dotted keys but `EXECUTION_KEYS`, in JSON's types."""
    flat = flattened(config.model_dump(mode="json"))
    return {key: value for key, value in flat.items() if key not in EXECUTION_KEYS}


def flattened(section: dict, prefix: str = "") -> dict[str, Any]:
    """The values of nested dicts by dotted keys."""
    flat = {}
    for key, value in section.items():
        if isinstance(value, dict):
            flat.update(flattened(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
