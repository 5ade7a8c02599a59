"""TernaryIF: neuron with the two thresholds ``+vth`` and ``-vth``, which sends spikes of -1, 0 or 1."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess, LogConfig
from lava.magma.core.process.variable import Var
from numpy.typing import ArrayLike

from lava_snnlearn.checks import whole_number, within
from lava_snnlearn.processes.parameters import NEVER, plain_var, ternary_parameters

if TYPE_CHECKING:
    from lava_snnlearn.testing.processes import ProcessCase

_NO_LIMIT = int(np.iinfo(np.int64).max)


class TernaryIF(AbstractProcess):
    """Ternary neurons, which carry the errors of SPIDE backwards: a signed value as the rate of signed spikes.

    In steps with ``t_start <= tau < t_stop``, in chip units (``>> 12`` rounds towards zero)::

        v[t] = v[t-1] * (4096 - dv) >> 12  +  ((a_in[t] + g) << 6)  +  (bias_mant << bias_exp)
        v[t] = clip(v[t], -(2**23 - 1), 2**23 - 1)
        s[t] = (v[t] >= (vth << 6)) - (v[t] <= -(vth << 6))
        v[t] = v[t] - s[t] * (delta << 6)
        s_out[t] = mask * s[t]

    ``tau`` is the number of the step (from 0), modulo ``reset_interval`` if that is given. In all other steps the neuron is
    idle: it ignores ``a_in``, keeps ``v``, sends no spike. A sample, from ``tau == 0`` on::

        tau == 0         v, g, count, forward_count = 0, and mask = 0 if mask_steps is given
        every step       g += g_in;  forward_count += (h_in != 0)
        tau == t_start   mask = 0 < forward_count < mask_steps, if that is given
                         g = clip(g, -g_limit, g_limit), if that is given; clipped += number of neurons that this changed
        active steps     the equations above; count += s_out

    in this order within a step. So the injected current is held: one message on ``g_in`` at any time of a sample drives the
    neuron in all its active steps.

    Units. If ``dv, vth, delta, bias_mant`` and ``g_limit`` all are integers they are **chip units**: weights, ``vth``,
    ``delta``, ``g`` and ``g_limit`` count in weight units, ``v`` and ``bias_mant * 2**bias_exp`` in 1/64 of one. If any of them
    is a float, all are **real units**: ``dv`` is a fraction, everything else has the unit of ``a_in``. The ``fixed_pt`` model
    computes the equations above and refuses real units. The ``floating_pt`` model computes them without rounding and without
    the clip to 24 bit.

    Ports, of shape ``shape``: ``a_in`` current of the synapses; ``g_in`` injected current; ``h_in`` spikes of the aligned
    neuron of the forward phase; ``s_out`` -1, 0 or 1, int32 in the fixed model, float in the floating-point model. Each may
    stay unconnected. Lava's connections carry signed spikes with ``num_message_bits >= 1``; with 0 they turn -1 into 1.

    Vars: ``v, g, mask`` (0/1), ``count`` (sum of the spikes sent in the sample) and ``forward_count`` of shape ``shape``;
    ``clipped`` (neurons clipped by ``g_limit``, summed over the run) of shape (1,); ``dv, vth, delta, bias_mant, bias_exp`` of
    shape ``shape``, or (1,) for scalars; ``g_limit`` likewise; ``mask_steps`` (0 for none), ``t_start, t_stop, reset_interval``
    of shape (1,).

    Source: SPIDE (arXiv 2302.00232), backward phase with the reset target -V_B, where ``delta = 2 * vth``; mask of the neurons
    that fired at least once and not in every step. The arithmetic is
    :func:`lava_snnlearn.fixed_point.arithmetic.ternary_step`.

    Parameters
    ----------
    shape: shape of the population.
    vth: threshold, 1..131071; above 0 in real units.
    delta: amount of the reset, 0..131071; None means ``2 * vth``.
    dv: leak, 0..4096 in units of 1/4096.
    bias_mant, bias_exp: bias in each active step, mantissa -4096..4095 and exponent 0..7.
    mask: bools of shape ``shape``, False where a neuron may send nothing (its ``v`` evolves all the same); None is all True.
    mask_steps: length T_F of the forward phase, at least 2: the mask is then computed from ``h_in`` in each sample. None: the
        mask is ``mask``.
    g_limit: limit of the injected current, 0..2**31 - 1. ``delta`` is the current at which a neuron spikes in every step. None
        means no limit.
    t_start: first active phase ``tau`` of a sample (0 or more). t_stop: first phase that is idle again (> t_start); None means
        never. reset_interval: steps of a sample (> t_start); None means that the whole run is one sample.

    Raises
    ------
    ValueError: a value out of range, NaN or infinite, or of a shape that does not fit ``shape``; both ``mask`` and
        ``mask_steps``.
    TypeError: a value that is no number, a mask that is not of bools, or a time or exponent that is no integer.
    """

    _runtime = None  # Lava's __del__ reads it, also where the constructor refused its arguments

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        vth: ArrayLike,
        delta: ArrayLike | None = None,
        dv: ArrayLike = 0,
        bias_mant: ArrayLike = 0,
        bias_exp: ArrayLike = 0,
        mask: ArrayLike | None = None,
        mask_steps: int | None = None,
        g_limit: ArrayLike | None = None,
        t_start: int = 0,
        t_stop: int | None = None,
        reset_interval: int | None = None,
        name: str | None = None,
        log_config: LogConfig | None = None,
    ) -> None:
        shape = tuple(operator.index(n) for n in shape)
        forward_steps = _mask_steps(mask_steps, mask)
        real_units, values = ternary_parameters(
            "TernaryIF",
            shape,
            delta=delta,
            bias_exp=bias_exp,
            mask=mask,
            times=(t_start, t_stop, reset_interval),
            **{"dv": dv, "vth": vth, "bias_mant": bias_mant, **({} if g_limit is None else {"g_limit": g_limit})},
        )
        if g_limit is None:
            values["g_limit"] = np.array([np.inf if real_units else _NO_LIMIT])
        if forward_steps:
            values["mask"][...] = False
        super().__init__(shape=shape, real_units=real_units, name=name, log_config=log_config)
        self.a_in = InPort(shape=shape)
        self.g_in = InPort(shape=shape)
        self.h_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.v = Var(shape=shape, init=0)
        self.g = Var(shape=shape, init=0)
        self.count = Var(shape=shape, init=0)
        self.forward_count = Var(shape=shape, init=0)
        self.clipped = Var(shape=(1,), init=0)
        self.mask_steps = plain_var(np.array([forward_steps]))
        for parameter, init in values.items():
            setattr(self, parameter, plain_var(init))

    @classmethod
    def conformance_case(cls) -> ProcessCase:
        """The case with which :func:`lava_snnlearn.testing.check_process` checks this process."""
        from lava_snnlearn.testing.cases.ternary_if import case

        return case()


def _mask_steps(mask_steps: int | None, mask: ArrayLike | None) -> int:
    """The length of the forward phase, or 0 where the mask does not depend on it."""
    if mask_steps is None:
        return 0
    if mask is not None:
        raise ValueError("TernaryIF: mask and mask_steps are both given. Give the mask itself, or T_F to have it computed.")
    steps = whole_number("TernaryIF: mask_steps", mask_steps)
    within("TernaryIF: mask_steps", steps, 2, NEVER, "It is T_F: with fewer than 2 steps no count lies between 0 and T_F.")
    return steps
