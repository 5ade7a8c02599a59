"""SoftResetLIF: leaky integrate-and-fire neuron with reset by subtraction, firing at ``>=``."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess, LogConfig
from lava.magma.core.process.variable import Var
from numpy.typing import ArrayLike

from lava_snnlearn.processes.parameters import bias_exponent, neuron_parameters, plain_var, sample_times

if TYPE_CHECKING:
    from lava_snnlearn.testing.processes import ProcessCase


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
    t_start: first active phase ``tau`` of a sample (0 or more); L for a layer that lies L connections behind the input.
    t_stop: first phase that is idle again (> t_start); None means never.
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
        real_units, values = neuron_parameters("SoftResetLIF", given, shape)
        exponent = bias_exponent("SoftResetLIF", bias_exp, shape)
        start, stop, interval = sample_times("SoftResetLIF", t_start, t_stop, reset_interval)
        super().__init__(shape=shape, real_units=real_units, name=name, log_config=log_config)
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.v = Var(shape=shape, init=np.broadcast_to(values["v_init"], shape).copy())
        self.dv = plain_var(values["dv"])
        self.vth = plain_var(values["vth"])
        self.delta = plain_var(values["delta"])
        self.v_init = plain_var(values["v_init"])
        self.bias_mant = plain_var(values["bias_mant"])
        self.bias_exp = plain_var(exponent)
        self.t_start = plain_var(np.array([start]))
        self.t_stop = plain_var(np.array([stop]))
        self.reset_interval = plain_var(np.array([interval]))

    @classmethod
    def conformance_case(cls) -> ProcessCase:
        """The case with which :func:`lava_snnlearn.testing.check_process` checks this process."""
        from lava_snnlearn.testing.cases.soft_reset_lif import case

        return case()
