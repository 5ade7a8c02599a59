"""The neurons of DSR (Meng et al. 2022): spikes of the height of a trained threshold, fired at a fraction of it.

    IF    v <- v + I[t];                          s[t] = Vth 1[v >= alpha Vth];  v <- v - s[t];  out = s[t]
    LIF   v <- beta v + (1 - beta) I[t];          s[t] = Vth 1[v >= alpha Vth];  v <- v - s[t];  out = s[t] / dt

with beta = exp(-dt / tau). They run here in the equivalent form with one threshold (online_and_bptt spec, D4), which is what a
chip has: v' = v + (1 - alpha) Vth starts at (1 - alpha) Vth, fires at Vth, and the LIF gets the bias
(1 - beta) (1 - alpha) Vth in every step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from lava_snnlearn.checks import positive
from lava_snnlearn.neurons.feedback import FeedbackLIF
from lava_snnlearn.neurons.lif import LIF, Drive


@dataclass(frozen=True)
class DSRNeuron(LIF):
    """What both have: a threshold trained per layer, kept above ``bound``, and the fraction ``alpha`` of it that fires."""

    alpha: float = 0.5
    bound: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("alpha", "bound"):
            positive(name, getattr(self, name))
        if self.alpha > 1:
            raise ValueError(f"alpha is {self.alpha}; the neuron fires at alpha * threshold, so it must lie in (0, 1]")
        if self.reset != "subtract":
            raise ValueError("DSR needs reset by subtraction: its mapping from input to spike rate rests on it")

    @property
    def trains_threshold(self) -> bool:
        """True: the threshold is a parameter of the layer."""
        return True


@dataclass(frozen=True)
class DSRIF(DSRNeuron):
    """Integrate-and-fire neuron of DSR. The mean output over T steps is about clamp(mean input, 0, threshold).

    Args:
        threshold: initial Vth (published: 6).
        alpha: fires at alpha * Vth (published: 0.5, which rounds the rate instead of cutting it).
        bound: least Vth.

    Raises:
        ValueError: a parameter out of range. TypeError: a parameter that is no number.
    """

    leak: float = field(default=0.0, init=False)
    threshold: float = 6.0

    def drive(self, threshold: float) -> Drive:
        """Spikes are worth Vth; the membrane starts at (1 - alpha) Vth."""
        return Drive(start=(1 - self.alpha) * threshold, amplitude=threshold)


@dataclass(frozen=True)
class DSRLIF(DSRNeuron):
    """Leaky neuron of DSR. The weighted mean output is about clamp(mean input / tau, 0, threshold / dt).

    Args:
        threshold: initial Vth (published: 0.3 for T = 20, 0.6 for T = 5).
        alpha: fires at alpha * Vth (published: 0.3 and 0.5).
        bound: least Vth.
        tau, dt: time constant and step; beta = exp(-dt / tau) (published: 1 and 0.05, or 1 and 0.1).

    Raises:
        ValueError: a parameter out of range. TypeError: a parameter that is no number.
    """

    leak: float = field(default=0.0, init=False)
    threshold: float = 0.3
    alpha: float = 0.3
    bound: float = 5e-4
    tau: float = 1.0
    dt: float = 0.05

    def __post_init__(self) -> None:
        for name in ("tau", "dt"):
            positive(name, getattr(self, name))
        object.__setattr__(self, "leak", 1 - math.exp(-self.dt / self.tau))
        super().__post_init__()

    def drive(self, threshold: float) -> Drive:
        """The current is scaled by 1 - beta and spikes are worth Vth / dt."""
        raised = (1 - self.alpha) * threshold
        return Drive(gain=self.leak, bias=raised, start=raised, amplitude=threshold / self.dt)


def readout_leak(neuron: LIF) -> float:
    """Leak of a readout behind these neurons: those of DSR, IDE and SPIDE are read as lam^(T-1-t) weighs them."""
    return neuron.leak if isinstance(neuron, (DSRLIF, FeedbackLIF)) else 0.0
