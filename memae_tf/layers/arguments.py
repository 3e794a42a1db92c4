"""Checks of arguments that several layers share."""

import math
from collections.abc import Iterable
from numbers import Integral, Real


def positive_integer(name: str, value: object) -> int:
    """`value` as an int, after a check that it is a positive integer (NumPy's are fine).

    Raises:
        ValueError: If it is not, naming the argument.
    """
    if not _is_positive_integer(value):
        raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}")
    return int(value)


def positive_integers(name: str, values: object, count: int) -> tuple[int, ...]:
    """`values` as a tuple of ints, after a check that they are `count` positive integers.

    Raises:
        ValueError: If they are not, naming the argument.
    """
    given = tuple(values) if isinstance(values, Iterable) else ()
    if len(given) != count or not all(map(_is_positive_integer, given)):
        raise ValueError(f"`{name}` must be {count} positive integers. Received: {name}={values!r}")
    return tuple(map(int, given))


def is_number(value: object) -> bool:
    """Whether a value is a finite number of Python's or NumPy's; booleans do not count."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_positive_integer(value: object) -> bool:
    return isinstance(value, Integral) and is_number(value) and value >= 1
