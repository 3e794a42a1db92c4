"""Thresholds that people give, without Keras: detectors and clients take the same."""

import math

from memae_tf.errors import UserError


def as_threshold(value: object) -> float:
    """A threshold as a float; infinite where it is a number beyond what a float holds.

    Raises:
        UserError: If it is no number.
    """
    try:
        number = float(value)
    except OverflowError:
        number = math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        number = math.nan
    if math.isnan(number):
        # Arrays are written in several lines.
        received = " ".join(str(value).split())
        raise UserError(f"threshold={received}: should be a number, above which scores are odd")
    return number
