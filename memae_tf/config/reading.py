"""From YAML files and the `dotted.key=value` overrides of the command line to a configuration.

Both are validated by one schema.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydantic
import yaml
from pydantic import BaseModel

from memae_tf.config.benchmark import BenchmarkConfig
from memae_tf.config.experiment import Config
from memae_tf.config.explanation import explain
from memae_tf.config.model import Model
from memae_tf.config.yaml_text import DuplicateKeyError, parse_yaml
from memae_tf.errors import UserError


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
            value = parse_yaml(text)
        except DuplicateKeyError as error:
            raise UserError(f"override '{override}': {error}") from None
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
        UserError: If the file is missing, not YAML, not a mapping, or has a key twice.
    """
    try:
        raw = parse_yaml(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not a text file in UTF-8") from None
    except DuplicateKeyError as error:
        raise UserError(f"{path}: {error}; delete the other") from None
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


def _validate(schema: type[BaseModel], raw: dict, source: str):
    try:
        return schema.model_validate(raw)
    except pydantic.ValidationError as error:
        problems = dict.fromkeys(explain(schema, raw, problem) for problem in error.errors())
        raise UserError(f"{source}: {'; '.join(problems)}") from None
