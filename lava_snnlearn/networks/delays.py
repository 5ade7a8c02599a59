"""Delays of synapses: real-valued in training, whole steps in every forward pass.

    d = max_delay sigmoid(theta),        dhat = round(d)  (half to even),        m[t] = s[t - dhat]  (0 before the first step)

The forward pass uses dhat, the gradient goes straight through the rounding to d. What a delay does to a spike train has a
derivative in the model whose trains are linear between the steps (gradient="exact"): at a whole d the mean of both sides,

    dm[t]/dd = (s[t-d-1] - s[t-d+1]) / 2,        at the ends of the range from inside: s[t-1] - s[t] (d = 0), s[t-d] - s[t-d+1]
                                                 (d = max_delay)

or is given by the published rule (gradient="trace"), which puts :func:`lava_snnlearn.neurons.psp.published_trace` of s in its
place.

Source: M. Xiao et al., "Temporal spiking neural networks with synaptic delay for graph reasoning", ICML 2024 (GRSNN); grsnn
spec, section 1.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lava_snnlearn.checks import at_least, flag, instance_of, known_name, positive, tensor, within
from lava_snnlearn.fixed_point.limits import DELAY_MAX
from lava_snnlearn.neurons.psp import continued_trace

KINDS = ("axonal", "synaptic")
GRADIENTS = ("exact", "trace")
_SPREAD = 0.05
"""New delays lie this share of the range away from its ends, where the sigmoid is too flat to learn."""


@dataclass(frozen=True)
class DelaySettings:
    """How a synapse's delays are made.

    Args:
        kind: "axonal" (one delay for all that a source neuron sends) or "synaptic" (one for each weight).
        max_delay: largest delay in steps, 1..62 (what Loihi's delay field holds).
        learned: False keeps the random delays that a new network starts with.
        gradient: "exact" or "trace"; see the module.
        tau: time constant of the published trace in steps (gradient="trace" only).

    Raises:
        UnknownNameError: an unknown kind or gradient. LimitError: max_delay outside 1..62. ValueError: tau not > 0.
        TypeError: an option of another type.
    """

    kind: str = "synaptic"
    max_delay: int = 8
    learned: bool = True
    gradient: str = "exact"
    tau: float = 4.0

    def __post_init__(self) -> None:
        known_name("kind of delays", self.kind, KINDS)
        known_name("gradient of delays", self.gradient, GRADIENTS)
        at_least(1, "max_delay", self.max_delay)
        within("max_delay", self.max_delay, 1, DELAY_MAX, "Loihi's delay field holds 0..62 steps.")
        flag("learned", self.learned)
        positive("tau", self.tau)

    @classmethod
    def of(cls, delays: str | DelaySettings | None, max_delay: int | None = None) -> DelaySettings | None:
        """Settings from a kind's name and ``max_delay`` (None: the default), or settings as they are.

        Raises:
            ValueError: ``max_delay`` without delays, or beside settings, which have their own.
            TypeError: neither name nor settings.
        """
        if isinstance(delays, str):
            return cls(delays) if max_delay is None else cls(delays, max_delay)
        if max_delay is not None:
            what = "no delays are asked for" if delays is None else "the settings of the delays have their own"
            raise ValueError(f"max_delay is {max_delay}, but {what}; leave it out, or give delays='axonal' or 'synaptic'")
        if delays is not None:
            instance_of("delays", delays, cls, "give 'axonal', 'synaptic', a DelaySettings or None")
        return delays


class Delays(nn.Module):
    """Delays of a dense synapse, in steps.

    Args:
        settings: kind, range and gradient.
        inputs, outputs: neurons at both ends.

    Attributes:
        theta: [n_in] (axonal) or [n_out, n_in] (synaptic); a parameter, or a buffer where delays are not learned. It starts so
            that d is uniform over its range but for a twentieth at either end.
        filter: the published rule's filter; None for the exact gradient.
    """

    theta: Tensor

    def __init__(self, settings: DelaySettings, inputs: int, outputs: int) -> None:
        super().__init__()
        self.settings = settings
        self.outputs = outputs
        shape = (inputs,) if settings.kind == "axonal" else (outputs, inputs)
        theta = torch.logit(torch.empty(shape).uniform_(_SPREAD, 1 - _SPREAD))
        if settings.learned:
            self.theta = nn.Parameter(theta)
        else:
            self.register_buffer("theta", theta)
        self.filter = PublishedTrace(settings.tau) if settings.gradient == "trace" else None

    @property
    def axonal(self) -> bool:
        """Whether a source neuron has one delay for all its targets."""
        return self.settings.kind == "axonal"

    @property
    def limit(self) -> int:
        """Largest delay in steps."""
        return self.settings.max_delay

    def times(self) -> Tensor:
        """d, real numbers in (0, max_delay), of the shape of theta."""
        return self.limit * torch.sigmoid(self.theta)

    @torch.no_grad()
    def steps(self) -> Tensor:
        """dhat, int64 in 0..max_delay, of the shape of theta."""
        return torch.round(self.times()).long()

    def matrix(self) -> Tensor:
        """dhat of every synapse, int64 [n_out, n_in]."""
        return self.steps().expand(self.outputs, self.theta.shape[-1])

    def forward(self) -> Tensor:
        """dhat as floating point, with the gradient of d."""
        times = self.times()
        return times + (torch.round(times) - times).detach()

    @torch.no_grad()
    def put(self, steps: Tensor | int) -> None:
        """Set the delays to whole steps, a number or of the shape of theta; d stays a quarter of a step off 0 and max_delay.

        Raises:
            LimitError: steps outside 0..max_delay. ValueError: another shape. TypeError: no integers.
        """
        wanted = torch.as_tensor(steps)
        tensor("delays", wanted)
        if wanted.is_floating_point() or wanted.dtype == torch.bool:
            raise TypeError(f"delays have dtype {wanted.dtype}; they are whole numbers of steps")
        if wanted.dim() and wanted.shape != self.theta.shape:
            raise ValueError(f"delays have shape {tuple(wanted.shape)}, expected {tuple(self.theta.shape)}")
        within("delays", wanted.cpu().numpy(), 0, self.limit, "Build the synapse with a larger max_delay.")
        share = wanted.to(self.theta.device, torch.float64).clamp(0.25, self.limit - 0.25) / self.limit
        self.theta.copy_(torch.logit(share).expand(self.theta.shape))

    def extra_repr(self) -> str:
        settings = self.settings
        learned = "learned" if settings.learned else "fixed"
        by = f", {settings.gradient} gradient" if settings.learned else ""
        return f"{settings.kind}, 0..{settings.max_delay} steps, {learned}{by}"


class PublishedTrace(nn.Module):
    """The published rule's filter of spikes, run over a sequence piece by piece."""

    def __init__(self, tau: float) -> None:
        super().__init__()
        self.tau = tau

    @torch.no_grad()
    def forward(self, spikes: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """The trace of [L, B, n], behind the H steps that ``before`` [H + 2, B, n] holds: ([H + L, B, n], the next ``before``).

        The last two rows of ``before`` are the filter's state; zeros at the start of a sequence.
        """
        trace, state = continued_trace(spikes, self.tau, before[-2:])
        whole = torch.cat([before[:-2], trace])
        return whole, torch.cat([whole[len(spikes) :], state])

    def extra_repr(self) -> str:
        return f"tau={self.tau:g}"


def delays_of(module: nn.Module) -> list[Delays]:
    """All delays within a module."""
    return [part for part in module.modules() if isinstance(part, Delays)]
