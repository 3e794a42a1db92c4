"""What all sections of a configuration share."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from memae_tf.files import home_expanded

# A path; a relative one is relative to the current directory.
Location = Annotated[Path, AfterValidator(home_expanded)]


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        words = "yes, on and true" if value else "no, off and false"
        raise ValueError(f"should be a number, got {value} (YAML reads {words} so)")
    return value


# Without it, True would be read as 1.
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
# Marks fields that are for video only.
OF_VIDEO = "of video"


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, and values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
