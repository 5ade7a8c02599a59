"""The neurons of feedback networks at equilibrium: IDE (Xiao et al. 2021) and SPIDE (Xiao et al. 2023).

    u <- lam u + I[t];     s[t] = 1[u >= V];     u <- u - (V - U_r) s[t],     u = 0 before the first step

What a spike subtracts is Delta = V - U_r. IDE resets to U_r = 0 (Delta = V), SPIDE to U_r = -V: then the membrane stays within
[-Delta/2, Delta/2), and the mean rate rounds its input instead of cutting it. Both have the equilibrium
a = clamp(I / Delta, 0, 1).

As with DSR's neurons, they run in the form with one threshold (ide_spide spec, 2.1): u' = u + (Delta - V) starts at Delta - V,
fires at Delta and subtracts it, and a leaky neuron gets the bias (1 - lam) (Delta - V) in every step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lava_snnlearn.checks import real_number
from lava_snnlearn.neurons.lif import LIF, Drive


@dataclass(frozen=True)
class FeedbackLIF(LIF):
    """Integrate-and-fire neuron that fires at ``firing * threshold`` and subtracts ``threshold``.

    Args:
        leak: 1 - lam (IDE on MNIST: 0.05; 0 is an IF neuron).
        threshold: Delta, what a spike subtracts; the equilibrium rate is clamp(current / Delta, 0, 1).
        firing: V / Delta in (0, 1]: 1 is IDE's neuron (V = 2, U_r = 0), 0.5 is SPIDE's (V = 1, U_r = -1).

    Raises:
        ValueError: a parameter out of range, reset to zero. TypeError: a parameter that is no number.
    """

    leak: float = 0.0
    threshold: float = 2.0
    firing: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        real_number("firing", self.firing)
        if not (math.isfinite(self.firing) and 0 < self.firing <= 1):
            raise ValueError(
                f"firing is {self.firing}; the neuron fires at firing * threshold: it must lie in (0, 1] (1: IDE, 0.5: SPIDE)"
            )
        if self.reset != "subtract":
            raise ValueError(f"reset is {self.reset!r}; rates at equilibrium need reset by subtraction")

    def drive(self, threshold: float) -> Drive:
        """The membrane is counted from (1 - firing) Delta below rest."""
        raised = (1 - self.firing) * threshold
        return Drive(bias=self.leak * raised, start=raised)
