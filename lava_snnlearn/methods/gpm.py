"""GPM: gradient projection memory (Saha et al., ICLR 2021): the baseline whose subspaces come from an SVD.

After a task, each synapse's presynaptic activity on some of its samples is taken, R [n, N], and what the memory holds already
is removed, R^ = R - M M^T R. The first left singular vectors of R^ join the memory, as few as make it hold a share
``threshold`` of the energy (their eqs. 8-9):

    |R_in memory|^2 + |R^_k|^2  >=  threshold |R|^2

Later gradients are projected on the complement, g <- g - (g M) M^T (their eqs. 6-7). Unlike HLOP it sees the samples again and
solves for the subspace at once; the projection is the same.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lava_snnlearn.checks import at_least, real_number, tensor
from lava_snnlearn.methods.base import Method, StepResult
from lava_snnlearn.methods.ottt import OTTT
from lava_snnlearn.methods.projection import ProjectedMethod, run_projected, synapses_of
from lava_snnlearn.networks.network import Network

_BATCH = 100
"""Samples that are run at once when the activity is taken."""


@dataclass(frozen=True)
class GPM(ProjectedMethod):
    """Gradient projection memory around any base method with presynaptic activity.

    Tasks, norms, parameters of one dimension and the optimiser are as with :class:`~lava_snnlearn.methods.HLOP`.

    Args:
        base: the method whose gradients are projected.
        threshold: share of the activity's energy that the memory must hold, in (0, 1].
        samples: of a task, drawn from what :meth:`end_task` gets.
        rows: activities per batch of 100 samples, about, at most; convolutions have many more patches.
        readout: whether the readout is protected. False where each task has a readout of its own.

    Raises:
        ValueError: a number out of range, a base method whose gradients cannot be projected. TypeError: a value of another
            type.
    """

    base: Method = field(default_factory=OTTT)
    threshold: float = 0.95
    samples: int = 300
    rows: int = 2048
    readout: bool = True
    name = "gpm"

    def __post_init__(self) -> None:
        self.check_common()
        real_number("threshold", self.threshold)
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}; it must lie in (0, 1]")
        at_least(1, "samples", self.samples)

    def begin_task(self, network: Network, task: int) -> None:
        """Task 0 forgets all that an earlier sequence left.

        Raises:
            ValueError: an earlier task was not ended, or a network of another kind.
        """
        at_least(0, "task", task)
        synapses = synapses_of(network, self.readout)
        if task == 0:
            self.forget(network)
        elif set(self.old(network)) != set(synapses):
            raise ValueError(f"task {task} begins, but the one before has not ended; call end_task(network, x) after each task")

    def end_task(self, network: Network, x: Tensor) -> None:
        """Add the directions of the task's activity to the memory. x: [N, n] or [T, N, n] float, the task's training samples;
        ``samples`` of them are drawn from torch's generator.

        Raises:
            ValueError: no samples, or samples that do not fit. TypeError: x is no tensor.
        """
        tensor("input", x)
        dim = x.dim() - 2
        if dim not in (0, 1) or x.shape[dim] == 0:
            raise ValueError(f"x has shape {tuple(x.shape)}; pass the task's samples, [N, n] or [T, N, n] with N >= 1")
        chosen = torch.randperm(x.shape[dim])[: self.samples].to(x.device)
        activity, old = self._activity(network, x.index_select(dim, chosen)), self.old(network)
        for name, rows in activity.items():
            network.memory[f"gpm.old.{name}"] = extended(old.get(name, rows[:0]), rows, self.threshold)

    def gradients(self, network: Network, x: Tensor, y: Tensor, on_step: Callable[[], None] | None = None) -> StepResult:
        """Add the projected gradient to ``.grad``. x: [B, n] or [T, B, n] float; y: int64 [B]; ``on_step`` as the base method
        has it.

        Raises:
            ValueError: a network with standardised weights, recurrent layers or transposed convolutions; all that the base
                method raises. TypeError: no spiking network.
        """
        return run_projected(self, network, x, y, on_step)[0]

    def _activity(self, network: Network, x: Tensor) -> dict[str, Tensor]:
        """Rows [N, fan-in] of every synapse, on a copy in eval mode: gradients, memory and statistics stay as they are."""
        twin = copy.deepcopy(network).eval().requires_grad_(True)
        names = list(synapses_of(twin, self.readout))
        self.forget(twin)  # nothing is projected or at rest, and whoever learns is heard
        found: dict[str, list[Tensor]] = {name: [] for name in names}
        for part in x.split(_BATCH, x.dim() - 2):
            labels = torch.zeros(part.shape[-2], dtype=torch.int64, device=part.device)
            for name, rows in run_projected(self, twin, part, labels, learning=names)[1].items():
                found[name].append(rows)
            twin.zero_grad()
        return {name: torch.cat(rows) for name, rows in found.items()}


@torch.no_grad()
def extended(memory: Tensor, activity: Tensor, threshold: float) -> Tensor:
    """``memory`` [M, n], orthonormal rows, with as many principal directions of the rest of ``activity`` [N, n] as make it hold
    a share ``threshold`` of the energy; [M + k, n]."""
    rows, x = memory.double(), activity.double()
    rest = x - (x @ rows.t()) @ rows
    total = x.square().sum()
    _, values, directions = torch.linalg.svd(rest, full_matrices=False)
    held = total - rest.square().sum() + torch.cat([values.new_zeros(1), values.square().cumsum(0)])
    # The last sums may miss the whole by rounding.
    enough = (held >= threshold * total * (1 - 1e-12)).nonzero()
    count = min(int(enough[0]), rows.shape[1] - len(rows))
    return torch.cat([rows, directions[:count]]).to(memory)
