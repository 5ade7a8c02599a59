"""CoupledIF: one of the two binary neurons that together are a ternary neuron."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess, LogConfig
from lava.magma.core.process.variable import Var
from numpy.typing import ArrayLike

from lava_snnlearn.checks import whole_number
from lava_snnlearn.processes.parameters import plain_var, ternary_parameters

if TYPE_CHECKING:
    from lava_snnlearn.testing.processes import ProcessCase


class CoupledIF(AbstractProcess):
    """Binary neurons, each of which is one half of a couple that acts as a ternary neuron.

    P (polarity 1) integrates the input, M (polarity -1) its negative. In steps with ``t_start <= tau < t_stop``, in chip units
    (``>> 12`` rounds towards zero)::

        v[t] = v[t-1] + (c_in[t] != 0) * (delta << 6)                       not in the first active step of a sample
        v[t] = v[t] * (4096 - dv) >> 12  +  polarity * ( ((a_in[t] + g) << 6) + (bias_mant << bias_exp) )
        v[t] = clip(v[t], -(2**23 - 1), 2**23 - 1)
        s[t] = mask and v[t] >= (vth << 6)
        v[t] = v[t] - s[t] * (delta << 6)
        s_out[t] = polarity * s[t]

    ``c_in`` are the partner's spikes of the step before: connect ``s_out`` of each half to ``c_in`` of the other through a
    ``Sparse`` or ``Dense`` with the identity, which delays by one step. The correction by ``delta`` comes first of all, before
    the leak, so that it is exact with any leak; the delay does no harm, because the partner of a neuron that has fired lies at
    or below ``-vth`` and cannot fire until then. At every comparison with the threshold the membranes of P and M are each
    other's negative, and the sum of their spikes is that of :class:`~lava_snnlearn.processes.ternary_if.process.TernaryIF`.
    What a masked neuron does not send it does not subtract either: so this holds for masked neurons, too. In the first active
    step of a sample ``c_in`` is left out, as it comes from the sample before.

    ``tau`` is the number of the step (from 0), modulo ``reset_interval`` if that is given. At ``tau == 0`` ``v`` and ``g`` are
    set to 0; in every step ``g_in`` is added to ``g``. In all other steps than the active ones the neuron is idle: it ignores
    ``a_in`` and ``c_in``, keeps ``v``, sends no spike.

    Units: as for TernaryIF; chip units if ``dv, vth, delta`` and ``bias_mant`` all are integers, else real units, which the
    ``fixed_pt`` model refuses. The ``floating_pt`` model neither rounds nor clips.

    Ports, of shape ``shape``: ``a_in`` current of the synapses; ``g_in`` injected current; ``c_in`` spikes of the partner
    (their sign does not matter); ``s_out`` 0 or ``polarity``, int32 in the fixed model, float in the floating-point model.

    Vars: ``v, g, mask`` (0/1) of shape ``shape``; ``dv, vth, delta, bias_mant, bias_exp`` of shape ``shape``, or (1,) for
    scalars; ``polarity, t_start, t_stop, reset_interval`` of shape (1,).

    Source: the coupled neurons of SPIDE (arXiv 2302.00232). The arithmetic is
    :func:`lava_snnlearn.fixed_point.arithmetic.coupled_step`.

    Parameters
    ----------
    shape: shape of the population.
    polarity: 1 or -1.
    vth, delta, dv, bias_mant, bias_exp, t_start, t_stop, reset_interval: as for TernaryIF, and the same for both halves.
    mask: bools of shape ``shape``, False where a neuron never fires; None is all True.

    Raises
    ------
    ValueError: a value out of range, NaN or infinite, or of a shape that does not fit ``shape``.
    TypeError: a value that is no number, a mask that is not of bools, or a time, exponent or polarity that is no integer.
    """

    _runtime = None  # Lava's __del__ reads it, also where the constructor refused its arguments

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        polarity: int,
        vth: ArrayLike,
        delta: ArrayLike | None = None,
        dv: ArrayLike = 0,
        bias_mant: ArrayLike = 0,
        bias_exp: ArrayLike = 0,
        mask: ArrayLike | None = None,
        t_start: int = 0,
        t_stop: int | None = None,
        reset_interval: int | None = None,
        name: str | None = None,
        log_config: LogConfig | None = None,
    ) -> None:
        shape = tuple(operator.index(n) for n in shape)
        if whole_number("CoupledIF: polarity", polarity) not in (1, -1):
            raise ValueError(f"CoupledIF: polarity is {polarity}. Give 1 for the half that sends 1, -1 for the other.")
        real_units, values = ternary_parameters(
            "CoupledIF",
            shape,
            delta=delta,
            bias_exp=bias_exp,
            mask=mask,
            times=(t_start, t_stop, reset_interval),
            dv=dv,
            vth=vth,
            bias_mant=bias_mant,
        )
        super().__init__(shape=shape, real_units=real_units, name=name, log_config=log_config)
        self.a_in = InPort(shape=shape)
        self.g_in = InPort(shape=shape)
        self.c_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.v = Var(shape=shape, init=0)
        self.g = Var(shape=shape, init=0)
        self.polarity = plain_var(np.array([polarity]))
        for parameter, init in values.items():
            setattr(self, parameter, plain_var(init))

    @classmethod
    def conformance_case(cls) -> ProcessCase:
        """The case with which :func:`lava_snnlearn.testing.check_process` checks this process."""
        from lava_snnlearn.testing.cases.coupled_if import case

        return case()
