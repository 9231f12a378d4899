"""What a stack gives is refused in one line where it is not what it should be."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forecast.errors import ConfigError, DataError, reason_of

Array = NDArray[np.float64]
Kind = TypeVar("Kind")

NUMBERS = "biufO"  # kinds of arrays; not times, complex numbers or text, which NumPy would convert
LONGEST_TEXT = 80


@contextmanager
def refusing(wanted: str, remedy: str) -> Iterator[None]:
    """Makes a :class:`DataError` of what Python, NumPy and torch raise on values of other types.

    Only for what reads such values: where a model computes, these errors mean something else.

    Args:
        wanted: What should have been given.
        remedy: What to do.
    """
    try:
        yield
    except (AttributeError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise DataError(wanted, _cut(reason_of(error)), remedy) from error


def short(value: object) -> str:
    """A value as one line of an error."""
    try:
        return _cut(repr(value).replace("\n", " "))
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return f"a {type(value).__name__} too long to be shown"


def of_kind(name: str, value: object, kind: type[Kind]) -> Kind:
    """A value that has to be of a class.

    Raises:
        DataError: It is of another.
    """
    if not isinstance(value, kind):
        got = f"{type(value).__name__} {short(value)}"
        raise DataError(f"{name} as forecast.live.{kind.__name__}", got, f"correct {name}")
    return value


def floats(wanted: str, name: str, value: ArrayLike) -> Array:
    """A copy as floating-point numbers; NaN where a masked array is masked.

    Raises:
        DataError: It holds something else, or rows of several lengths.
    """
    with refusing(wanted, f"correct {name}"):
        if isinstance(value, np.ma.MaskedArray):
            value = np.ma.filled(value.astype(np.float64), np.nan)
        array = np.asarray(value)
        if array.dtype.kind not in NUMBERS:
            raise DataError(wanted, short(value), f"correct {name}")
        return array.astype(np.float64)


def finite(name: str, value: ArrayLike, shape: tuple[int, ...]) -> Array:
    """A copy as finite numbers of a shape.

    Raises:
        DataError: It is something else.
    """
    wanted = f"{name} of shape {shape}, finite numbers" if shape else f"a finite {name}"
    array = floats(wanted, name, value)
    if array.shape != shape or not np.isfinite(array).all():
        got = f"shape {array.shape}" if array.shape != shape else f"{array}"
        got = got if len(got) < LONGEST_TEXT else "NaN or infinity"
        raise DataError(wanted, got, f"correct {name}")
    return array


def number(value: object) -> float:
    """An option as a number; NaN where it is none, or one beyond all that computers count in."""
    try:
        return float(value) if isinstance(value, Real) else math.nan
    except OverflowError:
        return math.nan


def refuse_unless(fits: bool, wanted: str, got: object) -> None:
    """Refuses an option.

    Raises:
        ConfigError: It does not fit.
    """
    if not fits:
        raise ConfigError(wanted, short(got), "correct it")


def whole(name: str, number: float, least: int, most: int) -> int:
    """An option that is a whole number.

    Raises:
        ConfigError: It is something else, or out of range.
    """
    sane = isinstance(number, Real) and least <= number <= most
    refuse_unless(
        sane and int(number) == number, f"{name} as a whole number from {least} to {most}", number
    )
    return int(number)


def _cut(text: str) -> str:
    return text if len(text) < LONGEST_TEXT else f"{text[: LONGEST_TEXT - 3]}..."
