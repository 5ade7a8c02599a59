"""OTTTDense: synapses that learn in every step from a trace of the spikes before them and a factor from behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess, LogConfig
from lava.magma.core.process.variable import Var
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import flag, known_name
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.local_learning import TRACE_MAX, UPDATES, prepare
from lava_snnlearn.processes.parameters import PERIOD_MAX, SAMPLE_MAX, ranged, single_var
from lava_snnlearn.processes.plastic import SPIKE_BITS_MAX, plastic_constants, plastic_memory
from lava_snnlearn.processes.recorder.process import SharedRecord

if TYPE_CHECKING:
    from lava_snnlearn.testing.processes import ProcessCase


class OTTTDense(AbstractProcess):
    """Dense synapses ``W`` that carry spikes by ``W`` and factors back by ``W^T``, and learn by OTTT's three-factor rule.

    A sample is ``reset_interval`` steps long; its steps have the phases 0, 1, ... At phase 0 ``trace``, ``gradient`` and what
    is under way are set to zero before anything else. In chip units, sums one step late as in Lava's Dense::

        a_out[t+1] = (W s_in[t]) << exponent
        b_out[t+1] = clip((W^T m_in[t]) << back_exponent, -127, 127)      (rounded right shift if back_exponent < 0)
        s[t]       = (s_in[t] + half) >> spike_bits                       (half of 2**spike_bits; spikes without their noise)
        trace      <- min((trace * (4096 - dv) >> 12) + impulse * max(s[t - delay], 0), 127);      x_out[t] = trace

    ``s[t - delay]`` is zero before the sample. Then, with ``pre`` the trace or, if ``projected``, what arrives at ``r_in`` in
    the same step (the residual of the trace that HLOP leaves)::

        update "online":      memory <- memory - multiplier * m_in pre^T / 2**shift       in every step
        update "accumulate":  gradient += m_in pre^T                                      in every step
                              memory <- memory - multiplier * gradient / 2**shift,  gradient = 0     in phase learn_phase

    Sums are those of the memory before the step's update. After the last phase ``sample <- sample + 1``. Set ``memory``,
    ``multiplier`` and ``shift`` between two samples.

    ``rule`` says what the memory is. "shadow": 16-bit integers, of which spikes see the rounded upper byte (``view_of``);
    "stochastic" and "nearest": the 8-bit weights themselves, changes rounded at random (the mean is exact) or to nearest (small
    ones are lost; for comparison). ``multiplier / 2**shift`` counts shadow units, 128 to a weight unit, in all three. A random
    number per synapse and update is a hash of seed, place, and number ``sample * reset_interval + phase`` of the step.

    Ports: InPorts ``s_in`` [n_in] (spikes ``<< spike_bits``, or payloads), ``m_in`` [n_out] (factors, +-128, 128 is 1.0),
    ``r_in`` [n_in] (+-127); OutPorts ``a_out`` [n_out], ``b_out``, ``x_out`` [n_in]. int32 in the ``fixed_pt`` model, float
    in the ``floating_pt`` model. Vars: ``memory, gradient`` [n_out, n_in]; ``trace, b_buffer`` [n_in], ``a_buffer`` [n_out];
    ``multiplier, shift, seed, sample`` and the other constants (1,).
    The ``fixed_pt`` model is :mod:`lava_snnlearn.fixed_point.local_learning` and refuses factors out of range and sums beyond
    int32 (LimitError). The ``floating_pt`` model computes the same in real numbers: only noise is rounded off spikes, nothing
    is clipped.

    Source: OTTT (Xiao et al., NeurIPS 2022), eqs. 6-8: the gradient of a weight is a trace of the spikes before it times the
    error at the neuron behind it, at the same time; OTTT_O is "online", OTTT_A "accumulate". Delays and integers are this
    library's.

    Parameters
    ----------
    memory: integers [n_out, n_in]; with rule "shadow" -32767..32767, else even ones -256..254.
    reset_interval: steps of a sample, at most 65536.
    learn_phase: of "accumulate", less than reset_interval; None: the last phase.
    rule: "shadow", "stochastic" or "nearest". update: "online" or "accumulate".
    exponent: 0..7. back_exponent: -40..31.
    impulse: what a spike adds to the trace, 1..127. dv: leak of the trace, 0..4096 in units of 1/4096.
    delay: steps by which the factor of a spike's step comes later than the spike, 0 or more.
    spike_bits: a spike is sent as 2**spike_bits, 0..16.
    multiplier, shift: learning rate, 0..32767 and 0..40; multiplier 0 learns nothing.
    projected: learn from ``r_in`` in place of the trace.
    seed: of the stochastic rounding, 0 or more; give each connection another one. sample: number of the first sample.
    records: keep the memory after each of the first so many steps for :attr:`memories`.

    Raises
    ------
    ValueError: a value out of range, an odd 8-bit weight, an unknown rule or update, or a memory that is no matrix.
    TypeError: a value that is no integer (projected: no bool).
    """

    _runtime = None  # Lava's __del__ reads it, also where the constructor refused its arguments

    def __init__(
        self,
        *,
        memory: ArrayLike,
        reset_interval: int,
        learn_phase: int | None = None,
        rule: str = "shadow",
        update: str = "online",
        exponent: int = 0,
        back_exponent: int = 0,
        impulse: int = 1,
        dv: int = 0,
        delay: int = 0,
        spike_bits: int = 0,
        multiplier: int = 0,
        shift: int = 0,
        projected: bool = False,
        seed: int = 0,
        sample: int = 0,
        records: int = 0,
        name: str | None = None,
        log_config: LogConfig | None = None,
    ) -> None:
        weights = plastic_memory("OTTTDense", memory, rule)
        known_name("OTTTDense update", update, UPDATES)
        flag("OTTTDense: projected", projected)
        period = ranged(
            "OTTTDense", "reset_interval", reset_interval, 1, PERIOD_MAX, f"A sample has at most {PERIOD_MAX} steps."
        )
        constants = plastic_constants(
            "OTTTDense",
            {
                "exponent": exponent,
                "back_exponent": back_exponent,
                "multiplier": multiplier,
                "shift": shift,
                "seed": seed,
                "sample": sample,
                "learn_phase": period - 1 if learn_phase is None else learn_phase,
                "reset_interval": period,
            },
        )
        saturating = "Traces have 7 bits: scale the learning rate instead."
        constants["impulse"] = ranged("OTTTDense", "impulse", impulse, 1, TRACE_MAX, saturating)
        constants["dv"] = ranged("OTTTDense", "dv", dv, 0, limits.DECAY_MAX, "The leak of the trace is dv/4096.")
        constants["spike_bits"] = ranged(
            "OTTTDense", "spike_bits", spike_bits, 0, SPIKE_BITS_MAX, "Noise of +-1 needs two: move the rest to exponent."
        )
        waits = ranged(
            "OTTTDense", "delay", delay, 0, period - 1, f"It has to end in the sample, whose reset_interval is {period}."
        )
        kept = ranged("OTTTDense", "records", records, 0, SAMPLE_MAX, "It counts steps.")
        self._memories = SharedRecord(kept, weights.shape)
        prepare()
        super().__init__(
            rule=rule,
            accumulates=update == "accumulate",
            projected=projected,
            delay=waits,
            memories=self._memories,
            name=name,
            log_config=log_config,
        )
        n_out, n_in = weights.shape
        self.s_in, self.r_in, self.m_in = InPort(shape=(n_in,)), InPort(shape=(n_in,)), InPort(shape=(n_out,))
        self.a_out, self.b_out, self.x_out = OutPort(shape=(n_out,)), OutPort(shape=(n_in,)), OutPort(shape=(n_in,))
        self.memory, self.gradient = Var(shape=weights.shape, init=weights), Var(shape=weights.shape, init=0)
        self.trace, self.b_buffer = Var(shape=(n_in,), init=0), Var(shape=(n_in,), init=0)
        self.a_buffer = Var(shape=(n_out,), init=0)
        for constant, value in constants.items():
            setattr(self, constant, single_var(value))

    @property
    def memories(self) -> NDArray:
        """The memory after each recorded step: [steps so far, n_out, n_in], int32 or float64; at any time."""
        return self._memories.read()

    @classmethod
    def conformance_case(cls) -> ProcessCase:
        """The case with which :func:`lava_snnlearn.testing.check_process` checks this process."""
        from lava_snnlearn.testing.cases.ottt_dense import case

        return case()
