"""PerturbedLIF: neuron that learns by a local rule: it tells its synapses a factor, and may be shaken by noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess, LogConfig
from lava.magma.core.process.variable import Var

from lava_snnlearn.checks import known_name
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.arithmetic import MEMBRANE_MAX
from lava_snnlearn.fixed_point.local_learning import POSITIONS, SURROGATES, prepare, surrogate_table
from lava_snnlearn.processes.parameters import PERIOD_MAX, plain_var, ranged, row_shape, sample_times, single_var
from lava_snnlearn.processes.plastic import SPIKE_BITS_MAX

if TYPE_CHECKING:
    from lava_snnlearn.testing.processes import ProcessCase

TABLE_SHIFT_MAX = 30


class PerturbedLIF(AbstractProcess):
    """Leaky integrate-and-fire neurons with reset by subtraction, a surrogate of their derivative, a post factor, and noise.

    A sample is ``reset_interval`` steps long; its steps have the phases 0, 1, ... In the active phases, ``t_start`` to before
    ``t_stop``, in chip units (``>> 12`` rounds towards zero)::

        v <- (v * (4096 - dv) >> 12) + (a_in << 6);     u = v + amplitude * z_in  (position "pre"; else u = v)
        spikes = u >= (vth << 6)
        psi    = table[|u - (vth << 6)| >> table_shift]                        (0 beyond the table; 1.0 is 128)
        v      <- clip(v - spikes * (vth << 6), -(2**23 - 1), 2**23 - 1)

    In all others ``spikes = psi = 0``, and v is kept. In every phase::

        s_out = (spikes << spike_bits) + z_in                     (z_in: position "post", active phases)
        m_out = factor = round(psi[t - delay] * clip(d_in, -127, 127) / 128)   (psi is 0 before the sample)

    ``m_out`` is the third factor of ``OTTTDense``: the surrogate of the step for which the signal ``d_in`` comes back,
    ``delay`` steps later. At phase 0 ``v`` and all past psi are set to zero before anything else.

    ``position`` says where the noise ``z_in`` (of ``NoiseSource``) enters. "post": it rides on the spikes, which have to be
    sent as at least 4 (``spike_bits`` of 2), so that ``OTTTDense`` can tell them apart. "pre": it moves the membrane before the
    threshold, by ``amplitude``.

    Ports: InPorts ``a_in`` (sums), ``z_in`` (noise), ``d_in`` (top-down signals, 128 is 1.0); OutPorts ``s_out``, ``m_out``;
    all of shape ``shape``, int32 in the ``fixed_pt`` model, float in the ``floating_pt`` model. Vars: ``v`` (1/64 of a weight
    unit), ``spikes, psi, factor`` of shape ``shape``; ``clipped`` (1,), membranes that were clipped since the start of the run;
    ``table`` (64,); ``dv, vth, amplitude, table_shift, spike_bits, t_start, t_stop, reset_interval`` (1,).
    The ``fixed_pt`` model is :mod:`lava_snnlearn.fixed_point.local_learning`, and refuses noise on spikes that have no room
    for it (LimitError). The ``floating_pt`` model computes the same in real numbers of the same units: nothing is rounded or
    clipped, and psi is the surrogate itself, ``128 phi'(|u - vth| / vth)``.

    Sources: OTTT (Xiao et al., NeurIPS 2022), eqs. 6-8 and its surrogates; OPZO (Xiao et al., arXiv 2407.12516) for the noise
    before and after the neuron. Integers, delays and table are this library's.

    Parameters
    ----------
    shape: (n,).
    vth: threshold, 1..131071 weight units. dv: leak, 0..4096 in units of 1/4096.
    table_shift: an entry of the table is 2**table_shift membrane units wide, 0..30.
    surrogate: "triangle" (0 at a distance of vth) or "sigmoid" (about 0 at 2 vth).
    spike_bits: a spike is sent as 2**spike_bits, 0..16.
    position: "post" or "pre". amplitude: of "pre", in membrane units, 0..8388607.
    delay: steps from a spike to the signal for it, 0..65535.
    t_start: first active phase, 0 or more. t_stop: first phase that is idle again (> t_start); None: never.
    reset_interval: steps of a sample (> t_start); None means that the whole run is one sample.

    Raises
    ------
    ValueError: a value out of range, an unknown surrogate or position. TypeError: a value that is no integer.
    """

    _runtime = None  # Lava's __del__ reads it, also where the constructor refused its arguments

    def __init__(
        self,
        *,
        shape: tuple[int],
        vth: int,
        table_shift: int,
        dv: int = 0,
        surrogate: str = "triangle",
        spike_bits: int = 0,
        position: str = "post",
        amplitude: int = 0,
        delay: int = 0,
        t_start: int = 0,
        t_stop: int | None = None,
        reset_interval: int | None = None,
        name: str | None = None,
        log_config: LogConfig | None = None,
    ) -> None:
        shape = row_shape("PerturbedLIF", shape)
        known_name("PerturbedLIF surrogate", surrogate, SURROGATES)
        known_name("PerturbedLIF position", position, POSITIONS)
        scale = "Choose a smaller scale when you quantise."
        membrane = "Membranes have 24 bits and count in 1/64 of a weight unit."
        constants = {
            "vth": ranged("PerturbedLIF", "vth", vth, 1, limits.THRESHOLD_MAX, f"Thresholds have 17 bits. {scale}"),
            "dv": ranged("PerturbedLIF", "dv", dv, 0, limits.DECAY_MAX, "The leak is dv/4096."),
            "amplitude": ranged("PerturbedLIF", "amplitude", amplitude, 0, MEMBRANE_MAX, membrane),
            "table_shift": ranged("PerturbedLIF", "table_shift", table_shift, 0, TABLE_SHIFT_MAX, membrane),
            "spike_bits": ranged("PerturbedLIF", "spike_bits", spike_bits, 0, SPIKE_BITS_MAX, "Noise of +-1 needs two."),
        }
        waits = ranged("PerturbedLIF", "delay", delay, 0, PERIOD_MAX - 1, "It is one of the steps of a sample.")
        times = sample_times("PerturbedLIF", t_start, t_stop, reset_interval)
        prepare()
        super().__init__(shape=shape, surrogate=surrogate, position=position, delay=waits, name=name, log_config=log_config)
        self.a_in, self.z_in, self.d_in = (InPort(shape=shape) for _ in range(3))
        self.s_out, self.m_out = OutPort(shape=shape), OutPort(shape=shape)
        self.v, self.spikes, self.psi, self.factor = (Var(shape=shape, init=0) for _ in range(4))
        self.clipped = single_var(0)
        self.table = plain_var(surrogate_table(surrogate, constants["vth"], constants["table_shift"]))
        for constant, value in constants.items():
            setattr(self, constant, single_var(value))
        self.t_start, self.t_stop, self.reset_interval = (single_var(time) for time in times)

    @classmethod
    def conformance_case(cls) -> ProcessCase:
        """The case with which :func:`lava_snnlearn.testing.check_process` checks this process."""
        from lava_snnlearn.testing.cases.perturbed_lif import case

        return case()
