"""Models to serve, with version policies and labels."""

from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from memae_tf import pretrained
from memae_tf.errors import UserError
from memae_tf.serving.wire.status import ServingError, invalid_argument

PLATFORM = "tensorflow"


@dataclass(frozen=True)
class VersionPolicy:
    """The newest `latest` versions, those in `specific`, or all."""

    latest: int | None = 1
    specific: frozenset[int] | None = None

    def choose(self, found: set[int]) -> set[int]:
        """The versions to serve, of those that exist."""
        if self.specific is not None:
            return found & self.specific
        if self.latest is None:
            return set(found)
        return set(sorted(found)[-self.latest :])


LATEST, ALL = VersionPolicy(), VersionPolicy(latest=None)


@dataclass(frozen=True)
class ModelConfig:
    """A model: its name, the directory of its versions, policy and labels."""

    name: str
    base_path: str
    policy: VersionPolicy = LATEST
    labels: dict[str, int] = field(default_factory=dict)


def model_config(base: str | Path, name: str | None = None) -> ModelConfig:
    """The config of a model for the base directory that the command takes.

    Raises:
        UserError: If it is not a directory of versions.
    """
    path = Path(base).resolve()
    if not path.is_dir():
        if str(base) in pretrained.names():
            raise UserError(
                f"{base} is not a directory; the pretrained detector is --pretrained {base}"
            )
        raise UserError(f"{base} is not a directory; expected one of versions, with {base}/1")
    if (path / "saved_model.pb").exists():
        raise UserError(f"{base} is a version itself; expected its parent, {path.parent}")
    if (path / "detector.keras").exists():
        raise UserError(
            f"{base} is a run; publish it first, `python -m memae_tf.export {base} --to BASE`, and "
            "serve BASE"
        )
    # If the directory is empty, the server waits for a version.
    has_versions = any(path.glob("[0-9]*/saved_model.pb"))
    below = sorted(file.parent.parent for file in path.glob("*/[0-9]*/saved_model.pb"))
    if below and not has_versions:
        raise UserError(
            f"{base} has no versions, but models that have some; expected one, {below[0]}"
        )
    if not (name or path.name):
        raise UserError(f"{base} has no name for its model; give it one, as NAME={base}")
    return ModelConfig(name or path.name, str(path))


def model_configs(config: model_server_config_pb2.ModelServerConfig) -> list[ModelConfig]:
    """The models of a ModelServerConfig.

    Raises:
        ServingError: INVALID_ARGUMENT if it cannot be served.
    """
    if config.WhichOneof("config") != "model_config_list":
        raise invalid_argument(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
            "ModelConfigList is currently supported"
        )
    models: dict[str, ModelConfig] = {}
    for entry in config.model_config_list.config:
        _check(entry)
        if entry.name in models:
            raise invalid_argument(f"Illegal to list model {entry.name} multiple times in config")
        models[entry.name] = ModelConfig(
            entry.name, entry.base_path, _policy(entry), dict(entry.version_labels)
        )
    return list(models.values())


def read_model_config_file(path: str | Path) -> list[ModelConfig]:
    """Reads a text file like that of TensorFlow Serving's `--model_config_file`."""
    config = model_server_config_pb2.ModelServerConfig()
    try:
        text_format.Parse(Path(path).read_text(), config)
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise UserError(f"{path} is not a model config: {error}") from error
    try:
        return model_configs(config)
    except ServingError as error:
        raise UserError(f"{path}: {error.message}") from error


def _check(entry: model_server_config_pb2.ModelConfig) -> None:
    # `model_type`, deprecated, is 1 for TensorFlow.
    platform = PLATFORM if entry.model_type == 1 else entry.model_platform
    if entry.model_type and entry.model_platform:
        raise invalid_argument("Illegal setting both model_type(deprecated) and model_platform.")
    if not platform:
        raise invalid_argument("Illegal setting neither model_type(deprecated) nor model_platform.")
    if platform != PLATFORM:
        raise invalid_argument(f"Unsupported model_platform: {platform}; expected {PLATFORM}")
    if not entry.name:
        raise invalid_argument("A model of the config has no name.")
    if not Path(entry.base_path).is_absolute():
        raise invalid_argument(
            f"Expected model {entry.name} to have an absolute path or URI; got "
            f"base_path()={entry.base_path}"
        )


def _policy(entry: model_server_config_pb2.ModelConfig) -> VersionPolicy:
    policy = entry.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "specific":
        if not policy.specific.versions:
            raise invalid_argument(
                f"model_version_policy of {entry.name} names no specific version"
            )
        return VersionPolicy(None, frozenset(policy.specific.versions))
    if choice == "all":
        return ALL
    return VersionPolicy(policy.latest.num_versions or 1)
