"""SoftResetLIF: leaky integrate-and-fire neuron with reset by subtraction, firing at ``>=``."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess, LogConfig
from lava.magma.core.process.variable import Var
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import within
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.arithmetic import MEMBRANE_MAX

if TYPE_CHECKING:
    from lava_snnlearn.testing.processes import ProcessCase

NEVER = 2**31 - 1
"""Stands for "no t_stop" and "no reset_interval": a step that no run reaches."""

_REAL_MAX = float(np.finfo(np.float64).max)
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
}
_FLOAT_HINT = "Parameters are real units because at least one of dv, vth, delta, v_init, bias_mant is a float."
_REAL_LIMITS = {
    "dv": (0.0, 1.0, f"{_FLOAT_HINT} Then the leak dv is a fraction of 0 to 1."),
    "vth": (0.0, _REAL_MAX, _FLOAT_HINT),
    "delta": (0.0, _REAL_MAX, _FLOAT_HINT),
    "v_init": (-_REAL_MAX, _REAL_MAX, _FLOAT_HINT),
    "bias_mant": (-_REAL_MAX, _REAL_MAX, _FLOAT_HINT),
}


class SoftResetLIF(AbstractProcess):
    """Leaky integrate-and-fire neurons that fire at ``v >= vth`` and subtract ``delta`` where they fire.

    In steps with ``t_start <= tau < t_stop``, in chip units (``>> 12`` rounds towards zero)::

        v[t] = v[t-1] * (4096 - dv) >> 12  +  (a_in[t] << 6)  +  (bias_mant << bias_exp)
        s[t] = v[t] >= (vth << 6)
        v[t] = clip(v[t] - s[t] * (delta << 6), -(2**23 - 1), 2**23 - 1)

    ``tau`` is the number of the step (from 0), modulo ``reset_interval`` if that is given. At ``tau == 0`` ``v`` is set to
    ``v_init`` before anything else. In all other steps the neuron is idle: it ignores its input, keeps ``v``, sends no spike.

    Units. If ``dv, vth, delta, v_init`` and ``bias_mant`` all are integers they are **chip units**: weights, ``vth`` and
    ``delta`` count in weight units, membranes (``v``, ``v_init``) and ``bias_mant * 2**bias_exp`` in 1/64 of one. If any of
    them is a float, all are **real units**: ``dv`` is a fraction, everything else has the unit of ``a_in``. The ``fixed_pt``
    model computes the equations above and refuses real units. The ``floating_pt`` model computes them without rounding and
    clipping.

    Ports: ``a_in`` and ``s_out`` of shape ``shape``; s_out is int32 in the fixed model, float in the floating-point model.
    Vars: ``v`` of shape ``shape``; ``dv, vth, delta, v_init, bias_mant, bias_exp`` of shape ``shape``, or (1,) for scalars;
    ``t_start, t_stop, reset_interval`` of shape (1,).

    Source: reset by subtraction as in the online training methods (OTTT, SLTT, rate-based backpropagation, DSR), in the integer
    idiom of Lava's LIF. The arithmetic is :func:`lava_snnlearn.fixed_point.arithmetic.soft_reset_step`.

    Parameters
    ----------
    shape: shape of the population, e.g. (128,) or (14, 14, 8).
    dv: leak, 0..4096 in units of 1/4096.
    vth: threshold, 0..131071.
    delta: amount of the reset, 0..131071; None means ``vth``.
    v_init: membrane at the start of a sample, at most 2**23 - 1 in magnitude.
    bias_mant, bias_exp: bias in each active step, mantissa -4096..4095 and exponent 0..7.
    t_start: first active phase ``tau`` of a sample (0 or more). A layer that lies L connections behind the input has t_start =
    L. t_stop: first phase that is idle again (> t_start); None means never.
    reset_interval: steps of a sample (> t_start); None means that the whole run is one sample.

    Raises
    ------
    ValueError: a value out of range, NaN or infinite, or of a shape that does not fit ``shape``.
    TypeError: a value that is no number, or a time or exponent that is no integer.
    """

    _runtime = None  # Lava's __del__ reads it, also where the constructor refused its arguments

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        vth: ArrayLike,
        dv: ArrayLike = 0,
        delta: ArrayLike | None = None,
        v_init: ArrayLike = 0,
        bias_mant: ArrayLike = 0,
        bias_exp: ArrayLike = 0,
        t_start: int = 0,
        t_stop: int | None = None,
        reset_interval: int | None = None,
        name: str | None = None,
        log_config: LogConfig | None = None,
    ) -> None:
        shape = tuple(operator.index(n) for n in shape)
        given = {"dv": dv, "vth": vth, "delta": vth if delta is None else delta, "v_init": v_init, "bias_mant": bias_mant}
        real_units, values = _parameters(given, shape)
        exponent = _exponent(bias_exp, shape)
        start, stop, interval = _times(t_start, t_stop, reset_interval)
        super().__init__(shape=shape, real_units=real_units, name=name, log_config=log_config)
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.v = Var(shape=shape, init=np.broadcast_to(values["v_init"], shape).copy())
        self.dv = _var(values["dv"])
        self.vth = _var(values["vth"])
        self.delta = _var(values["delta"])
        self.v_init = _var(values["v_init"])
        self.bias_mant = _var(values["bias_mant"])
        self.bias_exp = _var(exponent)
        self.t_start = _var(np.array([start]))
        self.t_stop = _var(np.array([stop]))
        self.reset_interval = _var(np.array([interval]))

    @classmethod
    def conformance_case(cls) -> ProcessCase:
        """The case with which :func:`lava_snnlearn.testing.check_process` checks this process."""
        from lava_snnlearn.testing.cases.soft_reset_lif import case

        return case()


def _var(init: NDArray) -> Var:
    return Var(shape=init.shape, init=init)


def _shaped(name: str, value: ArrayLike, shape: tuple[int, ...]) -> NDArray:
    """Numbers of shape (1,) for a scalar, else of shape ``shape``."""
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise TypeError(
            f"SoftResetLIF: {name} is {value!r} ({array.dtype}). Give integers (chip units) or floats (real units)."
        )
    if array.size == 1:
        return array.reshape(1)
    try:
        return np.broadcast_to(array, shape).copy()
    except ValueError:
        raise ValueError(
            f"SoftResetLIF: {name} has shape {array.shape}, which does not fit the population's shape {shape}. "
            "Give a scalar or one value per neuron."
        ) from None


def _parameters(given: Mapping[str, ArrayLike], shape: tuple[int, ...]) -> tuple[bool, dict[str, NDArray]]:
    """Whether the parameters are real units, and the parameters as checked arrays."""
    arrays = {name: _shaped(name, value, shape) for name, value in given.items()}
    real_units = any(array.dtype.kind == "f" for array in arrays.values())
    ranges: Mapping[str, tuple[float, float, str]] = _REAL_LIMITS if real_units else _CHIP_LIMITS
    for name, array in arrays.items():
        low, high, remedy = ranges[name]
        within(f"SoftResetLIF: {name}", array, low, high, remedy)
    dtype = np.float64 if real_units else np.int64
    return real_units, {name: array.astype(dtype) for name, array in arrays.items()}


def _exponent(value: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.int64]:
    array = _shaped("bias_exp", value, shape)
    if array.dtype.kind == "f":
        raise TypeError(
            f"SoftResetLIF: bias_exp is {value!r}. It is a power of two: give an integer of 0 to {limits.BIAS_EXPONENT_MAX}."
        )
    within(
        "SoftResetLIF: bias_exp", array, 0, limits.BIAS_EXPONENT_MAX, "The exponent has 3 bits: use a larger bias_mant instead."
    )
    return array.astype(np.int64)


def _times(t_start: int, t_stop: int | None, reset_interval: int | None) -> tuple[int, int, int]:
    """Start, stop and interval as integers, checked; None becomes NEVER."""
    given: dict[str, Any] = {"t_start": t_start, "t_stop": t_stop, "reset_interval": reset_interval}
    times: dict[str, int] = {}
    for name, value in given.items():
        try:
            times[name] = NEVER if value is None and name != "t_start" else operator.index(value)
        except TypeError:
            raise TypeError(f"SoftResetLIF: {name} is {value!r}. Give a number of steps, an integer.") from None
    start = times["t_start"]
    within("SoftResetLIF: t_start", start, 0, NEVER - 1, "Steps are counted from 0.")
    after_start = f"It has to lie behind t_start = {start}, or the neuron never is active; None means never."
    within("SoftResetLIF: t_stop", times["t_stop"], start + 1, NEVER, after_start)
    within("SoftResetLIF: reset_interval", times["reset_interval"], start + 1, NEVER, after_start)
    return start, times["t_stop"], times["reset_interval"]
