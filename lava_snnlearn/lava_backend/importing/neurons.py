"""The parameters of Lava's neurons and sources as those of a FixedNetwork."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from lava.magma.core.process.process import AbstractProcess
from lava.proc.io.source import RingBuffer as Source
from lava.proc.lif.process import LIF, LIFReset
from numpy.typing import NDArray

from lava_snnlearn.checks import LimitError
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.arithmetic import bias_current, shifted
from lava_snnlearn.lava_backend.importing.wiring import LavaImportError, described, feeds
from lava_snnlearn.processes.ep_neuron.process import EPNeuron
from lava_snnlearn.processes.sample_source.process import SampleSource
from lava_snnlearn.processes.soft_reset_lif.process import SoftResetLIF


def integers(process: AbstractProcess, name: str, value: Any) -> NDArray[np.int64]:
    """The value of a Var as integers.

    Raises:
        LavaImportError: fractions, which only ``floating_pt`` models compute with.
    """
    array = np.asarray(value)
    whole = array.dtype.kind in "biu" or (array.dtype.kind == "f" and bool((np.rint(array) == array).all()))
    if not whole:
        raise LavaImportError(
            f"{described(process)}: {name} holds fractions, e.g. "
            f"{array.reshape(-1)[np.rint(array.reshape(-1)) != array.reshape(-1)][0]}. These are parameters of a floating_pt "
            "model; from_lava imports what the fixed_pt models compute: give integers"
        )
    return array.astype(np.int64)


def one_integer(process: AbstractProcess, name: str) -> int:
    """The value of a Var that all neurons share.

    Raises:
        LavaImportError: fractions, or values that differ.
    """
    values = np.unique(integers(process, name, getattr(process, name).init))
    if len(values) > 1:
        raise LavaImportError(
            f"{described(process)}: {name} differs from neuron to neuron; split it into processes that have one value each"
        )
    return int(values[0])


def neuron_options(process: AbstractProcess, steps: int) -> dict[str, Any]:
    """What a Population takes besides name, size and shape.

    Raises:
        LavaImportError: parameters that no Population has. LimitError: a bias out of range.
    """
    return NEURONS[type(process)](process, steps)


def _lif(process: Any, steps: int) -> dict[str, Any]:
    shape = process.a_in.shape
    for name in ("vth", "du", "dv"):
        if np.asarray(getattr(process, name).init).dtype.kind == "f":
            raise LavaImportError(
                f"{described(process)}: {name} is the float {getattr(process, name).init}, with "
                "which the fixed_pt model fails. Give an integer; the leaks du and dv count in 1/4096"
            )
    states = {f"{key}_init": _spread(process, key, shape) for key in ("u", "v")}
    resets = {}
    if isinstance(process, LIFReset):
        interval = int(process.proc_params["reset_interval"])
        resets = {"reset_interval": interval, "reset_offset": int(process.proc_params["reset_offset"]) % interval}
    mantissa, exponent = _bias(process, shape)
    options = {name: one_integer(process, name) for name in ("vth", "du", "dv")}
    return {"kind": "lif", "bias_mant": mantissa, "bias_exp": exponent, **options, **states, **resets}


def _soft_reset(process: Any, steps: int) -> dict[str, Any]:
    _check_times(process, steps)
    mantissa, exponent = _bias(process, process.a_in.shape)
    options = {name: one_integer(process, name) for name in ("vth", "delta", "dv", "v_init")}
    return {"kind": "soft_reset_lif", "bias_mant": mantissa, "bias_exp": exponent, **options}


def _graded(process: Any, steps: int) -> dict[str, Any]:
    _check_times(process, steps)
    if process.proc_params["changes"] or feeds(process.y_in) or one_integer(process, "t_nudge") < steps:
        raise LavaImportError(f"{described(process)} is nudged or sends changes; only its free phase is imported")
    mantissa, exponent = _bias(process, process.a_in.shape)
    options = {name: one_integer(process, name) for name in ("shift", "top")}
    return {"kind": "graded", "bias_mant": mantissa, "bias_exp": exponent, **options}


NEURONS: dict[type[AbstractProcess], Callable[[Any, int], dict[str, Any]]] = {
    LIF: _lif,
    LIFReset: _lif,
    SoftResetLIF: _soft_reset,
    EPNeuron: _graded,
}
"""The neurons that can be imported, and how."""


def _check_times(process: Any, steps: int) -> None:
    start, stop = one_integer(process, "t_start"), one_integer(process, "t_stop")
    interval = one_integer(process, "reset_interval")
    most = min(stop, interval)
    if start or most < steps:
        remedy = "Keep" if start else f"Import at most {most} steps, or keep"
        raise LavaImportError(
            f"{described(process)} is active in the steps {start} to {stop} of samples of "
            f"{interval} steps; a graph that is imported runs all its processes in all {steps} steps. {remedy} the "
            "FixedNetwork that this graph was made of"
        )


def _spread(process: Any, name: str, shape: tuple[int, ...]) -> Any:
    """A Var [*shape] as one integer where all are equal, else flat."""
    values = np.broadcast_to(integers(process, name, getattr(process, name).init), shape).reshape(-1)
    return int(values[0]) if (values == values[0]).all() else values


def _bias(process: Any, shape: tuple[int, ...]) -> tuple[NDArray[np.int64], int]:
    """Flat mantissas and the exponent that they share."""
    mantissa, exponent = (
        np.broadcast_to(integers(process, name, getattr(process, name).init), shape).reshape(-1)
        for name in ("bias_mant", "bias_exp")
    )
    if not (np.iinfo(np.int16).min <= mantissa.min() and mantissa.max() <= np.iinfo(np.int16).max):
        raise LimitError(
            f"{described(process)}: bias_mant reaches from {mantissa.min()} to {mantissa.max()}, but Lava holds it in int16 "
            "and would wrap it; use a larger bias_exp"
        )
    low, high, top = limits.BIAS_MANTISSA_MIN, limits.BIAS_MANTISSA_MAX, limits.BIAS_EXPONENT_MAX
    if (exponent == exponent[0]).all() and 0 <= exponent[0] <= top and low <= mantissa.min() and mantissa.max() <= high:
        return mantissa, int(exponent[0])
    bias = np.where(exponent < 0, mantissa >> np.maximum(-exponent, 0), bias_current(mantissa, np.maximum(exponent, 0)))
    for common in range(top + 1):
        cut = shifted(bias, -common)
        if (bias_current(cut, common) == bias).all() and low <= cut.min() and cut.max() <= high:
            return cut, common
    raise LimitError(
        f"{described(process)}: biases from {bias.min()} to {bias.max()} cannot be written with one bias_exp of 0..{top} for "
        f"all neurons and mantissas of {low}..{high}; use multiples of a larger power of 2, or smaller biases"
    )


def sent_rows(process: Any, steps: int) -> NDArray[np.int64]:
    """What a source sends in the first steps, [steps, n] in its flat order.

    Raises:
        LavaImportError: fractions. LimitError: values that int32 does not hold.
    """
    if isinstance(process, Source):
        data = integers(process, "data", process.data.init)
        rows = np.moveaxis(data, -1, 0).reshape(data.shape[-1], -1)
        rows = rows[np.arange(steps) % len(rows)]
    else:
        data = integers(process, "data", process.proc_params["data"])
        rows = np.zeros((steps, int(np.prod(data.shape[1:]))), np.int64)
        rows[: len(data)] = data[:steps].reshape(min(steps, len(data)), -1)
    if np.abs(rows).max() > limits.CHANNEL_MAX:
        raise LimitError(f"{described(process)} sends {np.abs(rows).max()}, more than int32 holds")
    return rows


SOURCES = (Source, SampleSource)
"""The sources that can be imported."""
