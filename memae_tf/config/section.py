"""What all sections of a configuration share."""

from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
)

from memae_tf.paths import home_expanded

# Relative ones are relative to the current directory.
Location = Annotated[Path, AfterValidator(home_expanded)]
Share = Annotated[float, Field(gt=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
FiniteNonNegative = Annotated[NonNegativeFloat, Field(allow_inf_nan=False)]
FinitePositive = Annotated[PositiveFloat, Field(allow_inf_nan=False)]


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
