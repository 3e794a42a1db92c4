"""Reads configurations from YAML files and `dotted.key=value` overrides of the command line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic
import yaml
from pydantic import BaseModel

from memae_tf.config.benchmark import BenchmarkConfig
from memae_tf.config.experiment import Config
from memae_tf.config.explanation import explain, of_another_kind
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
    """Validates a nested dict with overrides.

    Args:
        raw: What a YAML file holds.
        overrides: `dotted.key=value` each.
        source: What messages call `raw`.

    Raises:
        UserError: If `raw` or an override does not fit the schema.
    """
    stages = [_Stage(source, raw)]
    for override in overrides:
        key, value = _parsed(override)
        raw = set_key(raw, key, value)
        stages.append(_Stage(f"override '{override}'", raw, key))
    return _validate(Config, *stages)


def _parsed(override: str) -> tuple[str, Any]:
    """The key and the value of a `dotted.key=value`."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"override '{override}': write it as dotted.key=value")
    try:
        return key, parse_yaml(text)
    except DuplicateKeyError as error:
        raise UserError(f"override '{override}': {error}") from None
    except yaml.YAMLError:
        raise UserError(
            f"override '{override}': '{text}' is not a YAML value (in a shell, quote the whole "
            "override if it has blanks)"
        ) from None


def load_benchmark(path: str | Path) -> BenchmarkConfig:
    """Reads a benchmark's YAML file.

    Raises:
        UserError: If the file cannot be read or does not fit the schema.
    """
    return _validate(BenchmarkConfig, _Stage(str(path), read_yaml(path)))


def load_model(path: str | Path) -> Model:
    """Reads the `model` section of any YAML file that has one.

    Raises:
        UserError: If the file cannot be read or the section does not fit the schema.
    """

    class ModelFile(BaseModel):
        model: Model

    raw = {"model": read_yaml(path).get("model")}
    return _validate(ModelFile, _Stage(str(path), raw)).model


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
        raise UserError(f"{path}: {error}") from None
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


@dataclass(frozen=True)
class _Stage:
    """The configuration as a file has it, or after one more override.

    Attributes:
        origin: What messages call the file or the override.
        raw: The whole configuration at this stage.
        key: The key that the override sets.
    """

    origin: str
    raw: dict
    key: str = ""


def _validate(schema: type[BaseModel], *stages: _Stage):
    """The configuration of the last stage, validated."""
    try:
        return schema.model_validate(stages[-1].raw)
    except pydantic.ValidationError:
        raise UserError("; ".join(_mistakes(schema, stages))) from None


def _mistakes(schema: type[BaseModel], stages: Sequence[_Stage]) -> list[str]:
    """The mistakes in the last stage, by the file or the override that made them."""
    found = [_problems(schema, stage.raw) for stage in stages]
    by_stage: dict[int, dict[str, dict]] = {}
    for text, problem in found[-1].items():
        number = next(n for n, problems in enumerate(found) if text in problems)
        by_stage.setdefault(number, {})[text] = problem
    mistakes = []
    for number, problems in by_stage.items():
        stage = stages[number]
        left = [p["loc"][-1] for p in problems.values() if _is_left_over(p, stage.key)]
        texts = [t for t, problem in problems.items() if not _is_left_over(problem, stage.key)]
        if left:
            section = stage.key.removesuffix(".name")
            texts.append(of_another_kind(schema, section, stages[number - 1].raw, stage.raw, left))
        mistakes.append(f"{stage.origin}: {'; '.join(texts)}")
    return mistakes


def _problems(schema: type[BaseModel], raw: dict) -> dict[str, dict]:
    """The problems that pydantic finds, by their explanations."""
    try:
        schema.model_validate(raw)
    except pydantic.ValidationError as error:
        return {explain(schema, raw, problem): problem for problem in error.errors()}
    return {}


def _is_left_over(problem: dict, key: str) -> bool:
    """Whether a key is unknown because the override `key` renamed its section."""
    place = problem["loc"]
    is_unknown = problem["type"] == "extra_forbidden" and len(place) == 3
    return is_unknown and key == f"{place[0]}.name"
