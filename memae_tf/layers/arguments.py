"""What the layers ask of arguments that they are given."""

import math
from collections.abc import Iterable
from numbers import Integral, Real


def positive_integer(name: str, value: object) -> int:
    """`value`, which may be NumPy's.

    Raises:
        ValueError: If it is none, naming the argument.
    """
    if not _is_positive_integer(value):
        raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}")
    return int(value)


def positive_integers(name: str, values: object, count: int) -> tuple[int, ...]:
    """`values`, so many of them.

    Raises:
        ValueError: If it is none, naming the argument.
    """
    given = tuple(values) if isinstance(values, Iterable) else ()
    if len(given) != count or not all(map(_is_positive_integer, given)):
        raise ValueError(f"`{name}` must be {count} positive integers. Received: {name}={values!r}")
    return tuple(map(int, given))


def is_number(value: object) -> bool:
    """Whether a value is a finite number, Python's or NumPy's; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_positive_integer(value: object) -> bool:
    return isinstance(value, Integral) and is_number(value) and value >= 1
