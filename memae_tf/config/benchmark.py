"""A grid of experiments."""

import math
from typing import Annotated, Any

import pydantic
from pydantic import Field

from memae_tf.config.section import Location, NonNegativeInt, Number, Section

# The longest name of a choice. File systems take 255 bytes.
LONGEST_NAME = 60


def _named(choices: Any) -> Any:
    """Choices whose names YAML reads as numbers, with these as text again.

    The names are those of folders, too.
    """
    if not isinstance(choices, dict):
        return choices
    choices = {
        str(name) if isinstance(name, (int, float)) else name: keys
        for name, keys in choices.items()
    }
    for name in filter(lambda name: isinstance(name, str), choices):
        if not name or name in (".", "..") or "/" in name or not name.isprintable():
            raise ValueError(f"the choice {name!r} should have a name that a folder may have")
        if len(name) > LONGEST_NAME:
            raise ValueError(f"the name of choice {name!r} should be shorter than {len(name)}")
    return choices


Choices = Annotated[
    dict[str, dict[str, Any]], pydantic.BeforeValidator(_named), Field(min_length=1)
]


class BenchmarkConfig(Section):
    """A grid of experiments: all combinations of a choice for each axis, with every seed."""

    base: Location = Field(description="configuration that the choices change, next to this file")
    seeds: list[NonNegativeInt] = Field(min_length=1)
    axes: dict[str, Choices] = Field(description="axis: {choice: {dotted.key: value}}")
    together: dict[str, dict[str, Any]] = Field(
        {}, description="for combined choices, joined with '/': {dotted.key: value}"
    )
    published: dict[str, dict[str, Number]] = Field(
        {}, description="figures from the literature, row name: {metric: value}"
    )
    mean_of: str | None = Field(
        None, description="axis over which the table has the mean ROC AUC, such as class"
    )
    curves_over: str | None = Field(
        None, description="axis of numbers, such as slots, over which ROC AUC is drawn"
    )

    @pydantic.field_validator("seeds")
    @classmethod
    def _differ(cls, value: list[int]) -> list[int]:
        for seed in value:
            if value.count(seed) > 1:
                raise ValueError(f"{seed} is there twice, and would be the same run")
        return value

    @pydantic.field_validator("axes")
    @classmethod
    def _leave_seeds(cls, value: dict[str, Choices]) -> dict[str, Choices]:
        if "seed" in value:
            raise ValueError("an axis should have another name than seed; seeds lists the seeds")
        for axis, choices in value.items():
            for choice, keys in choices.items():
                if "training.seed" in keys:
                    raise ValueError(f"{axis}.{choice} sets training.seed, which seeds lists")
        return value

    @pydantic.field_validator("together")
    @classmethod
    def _has_choices(cls, value: dict, info: pydantic.ValidationInfo) -> dict:
        axes = info.data.get("axes")
        for name in value if axes else ():
            meeting = []
            for part in name.split("/"):
                having = [axis for axis, choices in axes.items() if part in choices]
                if not having:
                    raise ValueError(f"'{part}' in '{name}' is not a choice of any axis")
                if len(having) > 1:
                    raise ValueError(
                        f"'{part}' in '{name}' is a choice of {' and '.join(having)}; rename one"
                    )
                if having[0] in meeting:
                    raise ValueError(f"'{name}' has two choices of {having[0]}, which never meet")
                meeting += having
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
        numbers = set()
        for choice in info.data.get("axes", {}).get(value, {}):
            if not _is_number(choice):
                raise ValueError(f"its choices should be numbers, but '{choice}' is not")
            if float(choice) in numbers:
                raise ValueError(f"its choice '{choice}' is the same number as another one")
            numbers.add(float(choice))
        if value is not None and value == info.data.get("mean_of"):
            raise ValueError("should be another axis than mean_of")
        return value


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
