"""What all sections of a configuration share."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from memae_tf.files import home_expanded

# Relative ones are relative to the current directory.
Location = Annotated[Path, AfterValidator(home_expanded)]


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        words = "yes, on and true" if value else "no, off and false"
        raise ValueError(f"should be a number, got {value}, as YAML reads {words}")
    return value


# Python takes True for 1.
IsNumber = BeforeValidator(_no_truth)
Integer = Annotated[int, IsNumber]
Number = Annotated[float, IsNumber]
PositiveInt = Annotated[Integer, Field(gt=0)]
NonNegativeInt = Annotated[Integer, Field(ge=0)]
Share = Annotated[Number, Field(gt=0, lt=1)]
Probability = Annotated[Number, Field(ge=0, le=1)]
Finite = Annotated[float, Field(allow_inf_nan=False), IsNumber]
FiniteNonNegative = Annotated[Finite, Field(ge=0)]
FinitePositive = Annotated[Finite, Field(gt=0)]
# Marks what is for video alone.
OF_VIDEO = "of video"


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
