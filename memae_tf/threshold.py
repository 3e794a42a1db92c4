"""Thresholds as users give them. Without Keras, as clients of a server take them, too."""

import math

from memae_tf.columns import as_float
from memae_tf.errors import UserError


def as_threshold(value: object) -> float:
    """A threshold as a float; infinite if it is a whole number beyond a float's range.

    Raises:
        UserError: If it is not a number.
    """
    try:
        number = as_float(value)
    except (TypeError, ValueError):
        number = math.nan
    if math.isnan(number):
        # An array may be printed in several lines.
        received = " ".join(str(value).split())
        raise UserError(f"threshold={received}: should be a number; scores above are anomalies")
    return number
