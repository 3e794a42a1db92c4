"""A grid of experiments."""

import math
from typing import Annotated, Any

import pydantic
from pydantic import Field

from memae_tf.config.section import Location, NonNegativeInt, Number, Section


def _named(choices: Any) -> Any:
    """Choices whose names YAML reads as numbers, with these as text again."""
    if not isinstance(choices, dict):
        return choices
    return {
        str(name) if isinstance(name, (int, float)) else name: keys
        for name, keys in choices.items()
    }


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

    @pydantic.field_validator("together")
    @classmethod
    def _has_choices(cls, value: dict, info: pydantic.ValidationInfo) -> dict:
        choices = {choice for axis in info.data.get("axes", {}).values() for choice in axis}
        for name in value:
            for part in name.split("/"):
                if part not in choices:
                    raise ValueError(f"'{part}' in '{name}' is not a choice of any axis")
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
                raise ValueError(f"its choices should be numbers, but '{choice}' is not")
        return value


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
