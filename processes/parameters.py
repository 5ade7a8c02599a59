"""Checks of the parameters that the neuron Processes share: units, ranges, shapes, times."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
from lava.magma.core.process.variable import Var
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import at_least, whole_number, within
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.arithmetic import MEMBRANE_MAX

NEVER = 2**31 - 1
"""Stands for "no t_stop" and "no reset_interval": a step that no run reaches."""
PERIOD_MAX = 1 << 16
"""Most steps of a sample in which something learns."""
SEED_MAX = (1 << 62) - 1
SAMPLE_MAX = (1 << 40) - 1
"""Of the number of a sample: sample * steps, the number of a draw, stays below 2**63."""

_REAL_MAX = float(np.finfo(np.float64).max)
_REAL_TINY = float(np.finfo(np.float64).tiny)
_SCALE = "Choose a smaller scale when you quantise, or check the units."
_CHIP_LIMITS = {
    "dv": (
        0,
        limits.DECAY_MAX,
        "The leak is dv/4096: give an integer of 0 (none) to 4096, or all parameters as floats (real units).",
    ),
    "vth": (0, limits.THRESHOLD_MAX, f"Thresholds have 17 bits. {_SCALE}"),
    "delta": (0, limits.THRESHOLD_MAX, f"The amount of the reset has 17 bits, as the threshold. {_SCALE}"),
    "v_init": (-MEMBRANE_MAX, MEMBRANE_MAX, f"Membranes have 24 bits and count in 1/64 of a weight unit. {_SCALE}"),
    "bias_mant": (
        limits.BIAS_MANTISSA_MIN,
        limits.BIAS_MANTISSA_MAX,
        "The mantissa has 13 bits: use bias_exp, the bias is bias_mant * 2**bias_exp.",
    ),
    "g_limit": (0, limits.CHANNEL_MAX, "It limits a magnitude in weight units, which Lava carries as int32."),
}
_REAL_LIMITS = {
    "dv": (0.0, 1.0),
    "vth": (0.0, _REAL_MAX),
    "delta": (0.0, _REAL_MAX),
    "v_init": (-_REAL_MAX, _REAL_MAX),
    "bias_mant": (-_REAL_MAX, _REAL_MAX),
    "g_limit": (0.0, _REAL_MAX),
}


def plain_var(init: NDArray) -> Var:
    """A Var of the array's shape and values."""
    return Var(shape=init.shape, init=init)


def single_var(value: int) -> Var:
    """A Var of shape (1,) that holds one integer."""
    return plain_var(np.array([value]))


def row_shape(process: str, shape: tuple[int], axis: str = "n", what: str = "neurons") -> tuple[int]:
    """``shape``, checked: ValueError unless it is (axis,) with at least one entry, TypeError if that is not whole."""
    if len(shape) != 1:
        raise ValueError(f"{process}: shape is {shape}; it must be ({axis},), the number of {what} alone")
    return (at_least(1, f"{process}: the number of {what} in shape", shape[0]),)


def ranged(process: str, name: str, value: int, low: int, high: int, remedy: str) -> int:
    """``value`` as a Python int; raises TypeError if it is not whole, LimitError outside of low..high."""
    number = whole_number(f"{process}: {name}", value)
    within(f"{process}: {name}", number, low, high, remedy)
    return number


def integer_array(
    process: str, name: str, value: ArrayLike, axes: tuple[str, ...], limit: int, remedy: str
) -> NDArray[np.int64]:
    """A copy of an array of integers of -limit..limit with at least one entry and one dimension for each name in ``axes``.

    Raises TypeError if it holds no integers, ValueError if its dimensions do not fit, LimitError for a value out of range.
    """
    array = np.asarray(value)
    form = f"[{', '.join(axes)}]"
    if array.dtype.kind not in "iu":
        raise TypeError(f"{process}: {name} is of type {array.dtype}. Give integers {form}: quantise them first.")
    if array.ndim != len(axes) or array.size == 0:
        raise ValueError(f"{process}: {name} has shape {array.shape}. Give {form}, at least one of each.")
    within(f"{process}: {name}", array, -limit, limit, remedy)
    return array.astype(np.int64)


def neuron_parameters(process: str, given: Mapping[str, ArrayLike], shape: tuple[int, ...]) -> tuple[bool, dict[str, NDArray]]:
    """Whether the parameters are real units, and the parameters as checked arrays, float64 or int64.

    given: of dv, vth, delta, v_init, bias_mant, g_limit those that the process has. All integers are chip units; with one float
    among them all are real units. Raises ValueError and TypeError that name ``process`` and the parameter.
    """
    arrays = {name: _shaped(process, name, value, shape) for name, value in given.items()}
    real_units = any(array.dtype.kind == "f" for array in arrays.values())
    hint = f"Parameters are real units because at least one of {', '.join(given)} is a float."
    for name, array in arrays.items():
        if real_units:
            low, high = _REAL_LIMITS[name]
            remedy = f"{hint} Then the leak dv is a fraction of 0 to 1." if name == "dv" else hint
        else:
            low, high, remedy = _CHIP_LIMITS[name]
        within(f"{process}: {name}", array, low, high, remedy)
    dtype = np.float64 if real_units else np.int64
    return real_units, {name: array.astype(dtype) for name, array in arrays.items()}


def ternary_parameters(
    process: str,
    shape: tuple[int, ...],
    *,
    delta: ArrayLike | None,
    bias_exp: ArrayLike,
    mask: ArrayLike | None,
    times: tuple[int, int | None, int | None],
    **given: ArrayLike,
) -> tuple[bool, dict[str, NDArray]]:
    """All parameters that neurons with the thresholds ``+-vth`` share, checked: whether they are real units, and the arrays.

    delta: None means ``2 * vth``. times: t_start, t_stop, reset_interval. given: as in :func:`neuron_parameters`; ``vth`` has
    to be above 0.
    """
    real_units, values = neuron_parameters(process, given if delta is None else {**given, "delta": delta}, shape)
    least = _REAL_TINY if real_units else 1
    within(f"{process}: vth", values["vth"], least, _REAL_MAX, "With 0 both thresholds, vth and -vth, would be met at rest.")
    if delta is None:
        values["delta"] = 2 * values["vth"]
        high = _REAL_MAX if real_units else limits.THRESHOLD_MAX
        within(f"{process}: delta (2 * vth, as none is given)", values["delta"], 0, high, _SCALE)
    values["bias_exp"] = bias_exponent(process, bias_exp, shape)
    values["mask"] = _mask(process, mask, shape)
    for name, time in zip(("t_start", "t_stop", "reset_interval"), sample_times(process, *times), strict=True):
        values[name] = np.array([time])
    return real_units, values


def bias_exponent(process: str, value: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The exponent of the bias, int64; raises TypeError if it is no integer, ValueError outside of 0..7."""
    array = _shaped(process, "bias_exp", value, shape)
    if array.dtype.kind == "f":
        raise TypeError(
            f"{process}: bias_exp is {value!r}. It is a power of two: give an integer of 0 to {limits.BIAS_EXPONENT_MAX}."
        )
    within(
        f"{process}: bias_exp", array, 0, limits.BIAS_EXPONENT_MAX, "The exponent has 3 bits: use a larger bias_mant instead."
    )
    return array.astype(np.int64)


def sample_times(process: str, t_start: int, t_stop: int | None, reset_interval: int | None) -> tuple[int, int, int]:
    """Start, stop and interval as integers, checked; None becomes NEVER."""
    given: dict[str, Any] = {"t_start": t_start, "t_stop": t_stop, "reset_interval": reset_interval}
    times: dict[str, int] = {}
    for name, value in given.items():
        try:
            times[name] = NEVER if value is None and name != "t_start" else operator.index(value)
        except TypeError:
            raise TypeError(f"{process}: {name} is {value!r}. Give a number of steps, an integer.") from None
    start = times["t_start"]
    within(f"{process}: t_start", start, 0, NEVER - 1, "Steps are counted from 0.")
    after_start = f"It has to lie behind t_start = {start}, or the neuron never is active; None means never."
    within(f"{process}: t_stop", times["t_stop"], start + 1, NEVER, after_start)
    within(f"{process}: reset_interval", times["reset_interval"], start + 1, NEVER, after_start)
    return start, times["t_stop"], times["reset_interval"]


def _mask(process: str, mask: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The mask as bools of shape ``shape``; None is all True."""
    array = np.asarray(True if mask is None else mask)
    if array.dtype != np.bool_:
        raise TypeError(f"{process}: mask is of type {array.dtype}. Give bools: True where the neuron may send spikes.")
    return _fitted(process, "mask", array, shape)


def _shaped(process: str, name: str, value: ArrayLike, shape: tuple[int, ...]) -> NDArray:
    """Numbers of shape (1,) for a scalar, else of shape ``shape``."""
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{process}: {name} is {value!r} ({array.dtype}). Give integers (chip units) or floats (real units).")
    return array.reshape(1) if array.size == 1 else _fitted(process, name, array, shape)


def _fitted(process: str, name: str, array: NDArray, shape: tuple[int, ...]) -> NDArray:
    try:
        return np.broadcast_to(array, shape).copy()
    except ValueError:
        raise ValueError(
            f"{process}: {name} has shape {array.shape}, which does not fit the population's shape {shape}. "
            "Give a scalar or one value per neuron."
        ) from None
