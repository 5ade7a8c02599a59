"""EPNeuron: graded neuron that settles with its neighbours, and is nudged in the second phase of a sample."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess, LogConfig
from lava.magma.core.process.variable import Var
from numpy.typing import ArrayLike

from lava_snnlearn.checks import flag, whole_number, within
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.arithmetic import NUDGE_ONE
from lava_snnlearn.processes.parameters import NEVER, bias_exponent, neuron_parameters, plain_var, sample_times

if TYPE_CHECKING:
    from lava_snnlearn.testing.processes import ProcessCase


class EPNeuron(AbstractProcess):
    """Graded neurons of equilibrium propagation: the state is a clipped sum, and is sent in each step.

    In steps with ``t_start <= tau < t_stop`` (``>>`` rounds down)::

        s[t] = clip((a[t] + (bias_mant << bias_exp)) >> shift, 0, top)                     a free step, tau < t_nudge
        s[t] = ... + ((beta * (target - s[t-1]) + 128) >> 8)                               a nudged step, tau >= t_nudge

    and ``s_out = s[t]``, with ``a[t] = a_in[t]``. With ``changes=True`` the neuron sends ``s[t] - s[t-1]`` instead, and takes
    what it receives as changes too, ``a[t] = a[t-1] + a_in[t]``: the states are the same, but messages cease where nothing
    moves. Then all that it hears must send changes (a constant input: its value in one step, and zeros).

    ``tau`` is the number of the step (from 0), modulo ``reset_interval`` if that is given. At ``tau == 0`` ``v, a, target`` and
    ``events`` are set to zero before anything else. ``target <- max(target, y_in)`` in every step, so that a target may come in
    any step before it is needed. In steps that are not active the neuron ignores a_in, keeps its state and sends nothing (0).

    Units: ``top`` is a state of 1.0, and targets are in the same unit; sums and bias count 1 / 2**shift of that unit; ``beta``
    counts in 1/256. The nudge may drive the state out of 0..top, by up to beta * top and more.
    The ``fixed_pt`` model is :func:`lava_snnlearn.fixed_point.arithmetic.graded_step`. The ``floating_pt`` model computes the
    same without rounding.

    Ports: InPorts ``a_in``, ``y_in`` and OutPort ``s_out`` of shape ``shape``; int32 in the fixed model, float in the
    floating-point model. Vars: ``v`` (the state s), ``a``, ``target`` and ``events`` (messages other than 0 in this sample) of
    shape ``shape``; ``bias_mant, bias_exp`` of shape ``shape`` or (1,); the other parameters (1,).

    Source: Ernoult et al. (NeurIPS 2019), prototypical setting, hard sigmoid; the integers are this library's.

    Parameters
    ----------
    shape: shape of the population.
    shift: 0..23. top: 1..255.
    bias_mant, bias_exp: bias in each active step, mantissa -4096..4095 and exponent 0..7.
    beta: strength of the nudge, -256..256. t_nudge: first nudged phase ``tau``; None means never.
    changes: whether messages are changes.
    t_start, t_stop, reset_interval: as in SoftResetLIF.

    Raises
    ------
    ValueError: a value out of range, or of a shape that does not fit ``shape``.
    TypeError: a value that is no integer.
    """

    _runtime = None  # Lava's __del__ reads it, also where the constructor refused its arguments

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        shift: int,
        top: int = 127,
        bias_mant: ArrayLike = 0,
        bias_exp: ArrayLike = 0,
        beta: int = 0,
        t_nudge: int | None = None,
        changes: bool = False,
        t_start: int = 0,
        t_stop: int | None = None,
        reset_interval: int | None = None,
        name: str | None = None,
        log_config: LogConfig | None = None,
    ) -> None:
        shape = tuple(operator.index(n) for n in shape)
        real_units, values = neuron_parameters("EPNeuron", {"bias_mant": bias_mant}, shape)
        if real_units:
            raise TypeError("EPNeuron: bias_mant holds floats; round them, the bias is bias_mant * 2**bias_exp")
        exponent = bias_exponent("EPNeuron", bias_exp, shape)
        nudge = NEVER if t_nudge is None else t_nudge
        for key, value, low, high, remedy in (
            ("shift", shift, 0, limits.GRADED_SHIFT_MAX, "The state is the sum >> shift."),
            ("top", top, 1, limits.GRADED_MAX, "The state is sent as a payload of 8 bits."),
            ("beta", beta, -NUDGE_ONE, NUDGE_ONE, "It counts in 1/256."),
            ("t_nudge", nudge, 0, NEVER, "Steps are counted from 0; None means never."),
        ):
            within(f"EPNeuron: {key}", whole_number(f"EPNeuron: {key}", value), low, high, remedy)
        flag("EPNeuron: changes", changes)
        start, stop, interval = sample_times("EPNeuron", t_start, t_stop, reset_interval)
        super().__init__(shape=shape, real_units=False, changes=bool(changes), name=name, log_config=log_config)
        self.a_in, self.y_in, self.s_out = InPort(shape=shape), InPort(shape=shape), OutPort(shape=shape)
        self.v, self.a, self.target, self.events = (Var(shape=shape, init=0) for _ in range(4))
        self.bias_mant = plain_var(values["bias_mant"])
        self.bias_exp = plain_var(exponent)
        self.shift, self.top, self.beta, self.t_nudge, self.t_start, self.t_stop, self.reset_interval = (
            plain_var(np.array([value])) for value in (shift, top, beta, nudge, start, stop, interval)
        )

    @classmethod
    def conformance_case(cls) -> ProcessCase:
        """The case with which :func:`lava_snnlearn.testing.check_process` checks this process."""
        from lava_snnlearn.testing.cases.ep_neuron import case

        return case()
