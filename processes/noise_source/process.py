"""NoiseSource: random signs, the perturbation from which OPZO learns its feedback."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lava.magma.core.process.ports.ports import OutPort
from lava.magma.core.process.process import AbstractProcess, LogConfig
from lava.magma.core.process.variable import Var

from lava_snnlearn.checks import flag
from lava_snnlearn.fixed_point import local_learning
from lava_snnlearn.processes.parameters import PERIOD_MAX, ranged, row_shape, single_var
from lava_snnlearn.processes.plastic import RANGES

if TYPE_CHECKING:
    from lava_snnlearn.testing.processes import ProcessCase


class NoiseSource(AbstractProcess):
    """Sends a random sign, -1 or 1, to every neuron of a population in ``steps`` steps of each sample, and else zeros.

    A sample is ``reset_interval`` steps long; its steps have the phases 0, 1, ... In the phases ``t_start`` to before
    ``t_start + steps``, with ``number = sample * steps + phase - t_start`` the number of the step since the first sample::

        z_out = noise = 2 * bit(seed, number) - 1                                   antithetic = False
        z_out = noise = +-(2 * bit(seed, number - number % 2) - 1)                  antithetic = True, minus in odd steps

    The bits are a hash of (seed, number, neuron), ``plasticity.random_bits(shape, 1, seed, number)``, so that simulator and
    Lava draw the same, and samples can be replayed. Antithetic noise makes pairs of steps whose signs are each other's
    opposite. At the end of each sample ``sample`` grows by 1.

    Port: OutPort ``z_out`` of shape ``shape``; int32 in the ``fixed_pt`` model, float in the ``floating_pt`` model; both send
    the same numbers. Vars: ``noise`` of shape ``shape``, what was sent last; ``seed, sample, steps, t_start, antithetic,
    reset_interval`` (1,).

    Source: OPZO (Xiao et al., arXiv 2407.12516): noise of mean zero for every neuron and step, of Rademacher's distribution,
    and its antithetic variant; the random numbers are this library's.

    Parameters
    ----------
    shape: (n,).
    seed: 0 or more; give each population another one.
    steps: steps of a sample with noise, 1 or more; even if antithetic. t_start: phase of the first of them, 0 or more.
    reset_interval: steps of a sample, at least t_start + steps.
    sample: number of the first sample, 0 or more.

    Raises
    ------
    ValueError: a value out of range, or an odd number of antithetic steps.
    TypeError: a value that is no integer (antithetic: no bool).
    """

    _runtime = None  # Lava's __del__ reads it, also where the constructor refused its arguments

    def __init__(
        self,
        *,
        shape: tuple[int],
        seed: int,
        steps: int,
        reset_interval: int,
        t_start: int = 0,
        sample: int = 0,
        antithetic: bool = True,
        name: str | None = None,
        log_config: LogConfig | None = None,
    ) -> None:
        shape = row_shape("NoiseSource", shape)
        flag("NoiseSource: antithetic", antithetic)
        most = f"A sample has at most {PERIOD_MAX} steps."
        count = ranged("NoiseSource", "steps", steps, 1, PERIOD_MAX, most)
        if antithetic and count % 2:
            raise ValueError(
                f"NoiseSource: steps is {count}, which is odd, so that a pair of opposite signs would lie in two samples. "
                "Give an even number, or antithetic=False."
            )
        start = ranged("NoiseSource", "t_start", t_start, 0, PERIOD_MAX - count, most)
        period = ranged(
            "NoiseSource",
            "reset_interval",
            reset_interval,
            start + count,
            PERIOD_MAX,
            "The steps with noise have to lie in it.",
        )
        numbers = {key: ranged("NoiseSource", key, value, *RANGES[key]) for key, value in (("seed", seed), ("sample", sample))}
        local_learning.prepare()
        super().__init__(shape=shape, name=name, log_config=log_config)
        self.z_out = OutPort(shape=shape)
        self.noise = Var(shape=shape, init=0)
        self.seed, self.sample = single_var(numbers["seed"]), single_var(numbers["sample"])
        self.steps, self.t_start, self.reset_interval = single_var(count), single_var(start), single_var(period)
        self.antithetic = single_var(int(antithetic))

    @classmethod
    def conformance_case(cls) -> ProcessCase:
        """The case with which :func:`lava_snnlearn.testing.check_process` checks this process."""
        from lava_snnlearn.testing.cases.noise_source import case

        return case()
