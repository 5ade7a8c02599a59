"""Refusals: checks of what users pass in, each with the value, the limit and the remedy in its message."""

from __future__ import annotations

import difflib
import math
import numbers
import reprlib
from collections.abc import Iterable
from typing import Any

import numpy as np


class LimitError(ValueError):
    """A value that the number format or the chip cannot hold. The message names where, the value, the limit and the remedy."""


class UnknownNameError(ValueError):
    """A name that is not in a list of valid ones. The message gives the nearest valid name."""


class LavaMissingError(ImportError):
    """A function that needs Lava was called where Lava cannot be imported. The message says what to do."""


def known_name(kind: str, name: str, valid: Iterable[str]) -> str:
    """Return ``name`` if it is valid; otherwise raise :class:`UnknownNameError` with the nearest valid name."""
    names = sorted(valid)
    if name in names:
        return name
    near = difflib.get_close_matches(str(name).lower(), names, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UnknownNameError(f"unknown {kind} {name!r}.{hint} Valid: {', '.join(names)}")


def whole_number(where: str, value: Any) -> int:
    """``value`` as a Python int; raises TypeError for floats and bools, so that nothing is rounded in silence."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{where} is {value!r}; it must be an integer")
    return int(value)


def at_least(least: int, name: str, value: int) -> int:
    """``value`` as a Python int; raises TypeError if it is not whole, ValueError if it is below ``least``."""
    number = whole_number(name, value)
    if number < least:
        raise ValueError(f"{name} is {number}; it must be at least {least}")
    return number


def shown(value: Any) -> str:
    """``value`` for a message: short, and a class told from an instance."""
    return f"the class {value.__name__}" if isinstance(value, type) else reprlib.repr(value)


def instance_of(where: str, value: Any, kind: type | tuple[type, ...], remedy: str) -> None:
    """Raise TypeError if ``value`` is no instance of ``kind``."""
    if not isinstance(value, kind):
        raise TypeError(f"{where} is {shown(value)}; {remedy}")


def real_number(where: str, value: Any) -> None:
    """Raise TypeError if ``value`` is no single real number of Python or numpy, or is a bool."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(f"{where} is {shown(value)}; it must be a number, e.g. 0.5")


def positive(where: str, value: Any) -> None:
    """Raise TypeError if ``value`` is no real number, ValueError if it is not finite and > 0."""
    real_number(where, value)
    if not 0 < value < math.inf:
        raise ValueError(f"{where} is {value}; it must be finite and > 0")


def flag(where: str, value: Any) -> None:
    """Raise TypeError if ``value`` is neither True nor False."""
    instance_of(where, value, (bool, np.bool_), "it must be True or False")


def tensor(where: str, value: Any) -> None:
    """Raise TypeError if ``value`` is no torch tensor."""
    import torch  # here, because Lava's children read this module and must not pay for torch

    if not isinstance(value, torch.Tensor):
        raise TypeError(
            f"{where} must be a torch tensor, not {type(value).__name__}; pass torch.from_numpy(numpy.asarray(...))"
        )


def within(where: str, values: Any, low: float, high: float, remedy: str) -> None:
    """Raise :class:`LimitError` if any of ``values`` is outside [low, high]; the message names the first offender."""
    array = np.asarray(values)
    if array.size == 0 or (low <= array.min() and array.max() <= high):  # not so if there is a NaN
        return
    outside = (array < low) | (array > high) | (array != array)
    if outside.any():
        index = tuple(int(i) for i in np.argwhere(outside)[0])
        at = f" at index {index if len(index) > 1 else index[0]}" if index else ""
        raise LimitError(f"{where} is {array[index]}{at}, outside of the limit [{low}, {high}]. {remedy}")


def finite(where: str, values: np.ndarray) -> None:
    """Raise ValueError if a float array holds NaN or infinity; the message counts them and names the first."""
    if np.issubdtype(values.dtype, np.floating):
        bad = ~np.isfinite(values)
        if bad.any():
            index = tuple(int(i) for i in np.argwhere(bad)[0])
            raise ValueError(
                f"{where} holds {int(bad.sum())} values that are NaN or infinite (first at index {index}). "
                "Clean or drop these samples before training or conversion."
            )
