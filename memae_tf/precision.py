"""The precisions that models compute in. Without Keras, as command lines name them, too."""

from typing import Literal, get_args

# Keras's dtype policies in which weights are float32.
Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
