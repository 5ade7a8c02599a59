"""The numbers and tables of spiking message passing; the equations are in :mod:`lava_snnlearn.networks.message_passing`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lava_snnlearn.checks import at_least, known_name, positive, whole_number, within
from lava_snnlearn.fixed_point.limits import DELAY_MAX
from lava_snnlearn.neurons.psp import decay_factor, input_gain

DELAY_GRADIENTS = ("exact", "trace")
STEPS_MAX = 1 << 15
"""Time steps that a reasoner may have, in torch and on the chip; memory grows with them."""


@dataclass(frozen=True)
class Propagation:
    """The numbers of the dynamics.

    Args:
        steps: T, the step t = 0 included, 1..32768.
        max_delay: longest delay in steps, 0..62.
        tau: time constant of current and membrane, in steps. threshold: Vth. scale: c.
        decay: lam of the decoding, in (0, 1].
        hop: steps that a message takes besides its delay: 1, or 2 for the network with an aggregator between the nodes.
        delay_grad: "exact" or "trace", :data:`DELAY_GRADIENTS`.

    Raises:
        LimitError: a number outside of its range. TypeError: a number of another type. UnknownNameError: another delay_grad.
    """

    steps: int = 10
    max_delay: int = 4
    tau: float = 4.0
    threshold: float = 2.0
    decay: float = 0.95
    scale: float = 1.0
    hop: int = 1
    delay_grad: str = "exact"

    def __post_init__(self) -> None:
        within("steps", at_least(1, "steps", self.steps), 1, STEPS_MAX, "A message needs some steps a hop, no more.")
        within("max_delay", whole_number("max_delay", self.max_delay), 0, DELAY_MAX, "Longer delays take several hops.")
        for name in ("tau", "threshold", "decay", "scale"):
            positive(name, getattr(self, name))
        within("decay", self.decay, 0, 1, "Earlier spikes weigh more.")
        within("hop", whole_number("hop", self.hop), 1, 2, "1 is one connection a hop, 2 one with an aggregator.")
        known_name("delay_grad", self.delay_grad, DELAY_GRADIENTS)

    @property
    def a(self) -> float:
        """exp(-1/tau)."""
        return decay_factor(self.tau)

    @property
    def kappa(self) -> float:
        """e/tau."""
        return input_gain(self.tau)

    def decoding(self, like: Tensor) -> Tensor:
        """lam^t / Z, [T], on the device and in the dtype of ``like``; computed in float64."""
        weights = self.decay ** torch.arange(self.steps, dtype=torch.float64)
        return (weights / weights.sum()).to(like)


class Tables(NamedTuple):
    """What the queries and the shared neurons bring, in one floating-point dtype.

    code: b [Q, D], one row a distinct query. delay: real-valued [Q, R, D], in 0 .. max_delay. omega: [Q, R, D] or None (ones).
    weight: W [D, D], or [D, 2 D] with the self connection first. offset: w0 [D] or None.
    """

    code: Tensor
    delay: Tensor
    omega: Tensor | None
    weight: Tensor
    offset: Tensor | None


class Propagated(NamedTuple):
    """features: h [B, N, D]. spikes: uint8 [T, B, N, D], None unless recorded. spike_count: of the whole batch."""

    features: Tensor
    spikes: Tensor | None
    spike_count: int
