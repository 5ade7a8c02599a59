"""SLTT: spatial learning through time (Meng et al., ICCV 2023): the *instant* engine.

grad W = sum_t g[t] s_pre[t]^T (their eq. 8): everything through the membrane's recurrence is dropped, so memory does not
depend on T. The dropped terms shrink as lam^dt: use it with small lam (published: 1/11) or rate-like data. SLTT-K runs the
backward at K of T steps, drawn anew for each batch, so the time for the backward does not depend on T either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lava_snnlearn.checks import flag, whole_number
from lava_snnlearn.methods.base import Loss, Preset, StepResult, check_loss
from lava_snnlearn.methods.online_engine import check_chunk, run_online
from lava_snnlearn.networks.network import Network
from lava_snnlearn.neurons.lif import LIF
from lava_snnlearn.neurons.surrogate import Triangle


@dataclass(frozen=True)
class SLTT:
    """Spatial learning through time.

    Args:
        k: number of time steps with a backward (SLTT-K), drawn without replacement from torch's generator; None means all.
        rescale: multiply SLTT-K's gradient by T/K, which makes it an unbiased estimate of SLTT's (official code: no).
        loss: per-step loss, divided by T (not by K).
        chunk: time steps per matrix product; None chooses by the size of network and batch. It sets memory and speed, not the
            result.

    Raises:
        ValueError: k < 1, chunk < 1, or (in gradients) k greater than the network's steps. TypeError: k or chunk is not whole,
            rescale no bool, loss not callable.
    """

    k: int | None = None
    rescale: bool = False
    loss: Loss = field(default_factory=Loss)
    chunk: int | None = None
    name = "sltt"
    optimiser_every = "batch"

    def __post_init__(self) -> None:
        flag("rescale", self.rescale)
        check_loss(self.loss)
        check_chunk(self.chunk)
        if self.k is not None and whole_number("k", self.k) < 1:
            raise ValueError(f"k is {self.k}; SLTT-K needs at least 1 step with a backward (None: all steps)")

    @property
    def engine(self) -> str | None:
        """ "instant"; None for SLTT-K, whose gradient is that of a random part of the steps."""
        return "instant" if self.k is None else None

    @property
    def preset(self) -> Preset:
        """lam 1/11 (tau 1.1), triangle surrogate, batch norm per step, T = 6."""
        return Preset(neuron=LIF(leak=10 / 11, surrogate=Triangle()), norm="bn_step")

    def gradients(self, network: Network, x: Tensor, y: Tensor, on_step: Callable[[], None] | None = None) -> StepResult:
        """Add SLTT's gradient to ``.grad``. x: [B, n] or [T, B, n] float; y: int64 [B]. ``on_step`` is not used."""
        total = network.steps
        if self.k is None or self.k == total:
            return run_online(network, x, y, self.loss, chunk=self.chunk)
        if self.k > total:
            raise ValueError(f"k is {self.k}, but the network has {total} steps; choose k in 1..{total}")
        chosen = set(torch.randperm(total)[: self.k].tolist())
        before = {name: p.grad.clone() for name, p in network.named_parameters() if self.rescale and p.grad is not None}
        result = run_online(network, x, y, self.loss, chunk=self.chunk, steps=chosen)
        if self.rescale:
            for name, parameter in network.named_parameters():
                if parameter.grad is not None:
                    kept = before.get(name, torch.zeros_like(parameter.grad))
                    parameter.grad = kept + (parameter.grad - kept) * (total / self.k)
        return result
