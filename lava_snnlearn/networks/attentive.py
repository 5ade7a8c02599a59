"""A recurrent spiking network that looks back: a sparse attention over its own past states.

The cell is a recurrent LIF population of n neurons, and its state is membrane and spikes, h[t] = [v[t]; s[t]]::

    I[t]  = W x[t] + R s[t-1] + b
    h~[t] = LIF(v[t-1], I[t])                                  provisional state
    m_0 = 0, m_i = h after i k_att steps                       memories: all that lie before step t
    a_i   = w^T tanh(W_q h~[t] + W_k m_i)                      score, W_a [h~; m_i] in two blocks
    z_i   = max(0, a_i - theta),  A_i = z_i / sum_j z_j        at most k_top are above 0
    c[t]  = sum_i A_i m_i                                      summary
    h[t]  = LIF(v[t-1], I[t] + P c[t] / sqrt(2n))
    y[t]  = V [h[t]; c[t]] + b_y

theta is the (k_top + 1)-th largest score; while there are at most k_top memories it is -sum_j |w_j|, which no score falls
below, so that all of them are heard. Where the best scores are tied, no z_i is above 0 and the summary is 0.

Gradients reach selected memories only. The memory that sets theta is a constant; the weights that score it are not.

P starts at 0 and is divided by sqrt(2n): a loop from the memories back into the cell that grows fast makes training diverge.

Source: N. R. Ke et al., "Sparse attentive backtracking: temporal credit assignment through reminding", NeurIPS 2018, section
3.1, there with an LSTM cell to whose state the summary is added.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lava_snnlearn.checks import at_least, instance_of, positive, tensor
from lava_snnlearn.neurons.lif import LIF, step


class Reminder(NamedTuple):
    """What attention found. ``summary``: c, [B, m]. ``chosen``: int64 [k, B], indices of memories, best first. ``weights``: A,
    [k, B]. k is k_top, or the number of memories where that is less."""

    summary: Tensor
    chosen: Tensor
    weights: Tensor


class Attention(nn.Module):
    """Sparse additive attention of states [B, width] to memories [N, B, width]. ``recall`` is P.

    Args:
        width: numbers in a state.
        hidden: length of w, and rows of P.
        k_top: most memories with a weight above 0, at least 1.
    """

    def __init__(self, width: int, hidden: int, k_top: int) -> None:
        super().__init__()
        self.k_top = k_top
        self.query = nn.Linear(width, hidden, bias=False)
        self.key = nn.Linear(width, hidden, bias=False)
        self.recall = nn.Linear(width, hidden, bias=False)
        self.score = nn.Parameter(torch.empty(hidden))
        nn.init.zeros_(self.recall.weight)
        nn.init.uniform_(self.score, -1 / math.sqrt(hidden), 1 / math.sqrt(hidden))

    def forward(self, state: Tensor, memories: Tensor, keys: Tensor) -> Reminder:
        """``keys``: W_k m of the memories, [N, B, hidden], which a caller can keep from step to step."""
        query = self.query(state)
        with torch.no_grad():
            # All are scored without a graph, so that what is kept for the backward grows with k_top and not with N.
            best = self._scores(query, keys).topk(min(self.k_top + 1, len(keys)), dim=0).indices
        samples = torch.arange(len(query), device=query.device)
        chosen = best[: self.k_top]
        if len(best) > self.k_top:
            theta = self._scores(query, self.key(memories[best[-1], samples].detach()))
        else:
            theta = -self.score.abs().sum()
        raised = F.relu(self._scores(query, keys[chosen, samples]) - theta)
        total = raised.sum(0)
        weights = raised / torch.where(total > 0, total, 1.0)
        summary = (weights.unsqueeze(-1) * memories[chosen, samples]).sum(0)
        return Reminder(summary, chosen, weights)

    def _scores(self, query: Tensor, keys: Tensor) -> Tensor:
        return torch.tanh(query + keys) @ self.score


class AttentiveRun(NamedTuple):
    """All T steps. ``outputs``: [T, B, classes]. ``spikes``: [T, B, hidden], detached. ``chosen``: int64 [T, k, B], the
    memories with a weight above 0 (memory i is the state after i k_att steps; -1: none). ``weights``: [T, k, B], detached."""

    outputs: Tensor
    spikes: Tensor
    chosen: Tensor
    weights: Tensor


class AttentiveNetwork(nn.Module):
    """Recurrent LIF neurons with sparse attention to their past, and a readout at every step. See the module for the equations.

    It is trained by :class:`~lava_snnlearn.methods.sab.SAB` and runs in torch only: attention has no counterpart on the chip.

    Args:
        inputs: number of input channels.
        hidden: number of neurons n; also the length of w.
        classes: number of readout channels.
        neuron: their parameters; default ``LIF(reset="zero")``, which keeps the membranes, and with them the memories, small.
        k_top: most memories that a step hears; 0 is a plain recurrent network.
        k_att: steps from one memory to the next.
        input_scale: deviation of the initial input weights, in thresholds. The default suits inputs with one spike a step;
            divide it by the root of the number of spikes.

    Raises:
        ValueError: a number out of range, or a neuron whose threshold is trained.
        TypeError: a number of another type, a neuron that is no LIF.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        classes: int,
        neuron: LIF | None = None,
        *,
        k_top: int = 5,
        k_att: int = 2,
        input_scale: float = 2.0,
    ) -> None:
        super().__init__()
        self.neuron = LIF(reset="zero") if neuron is None else neuron
        instance_of("neuron", self.neuron, LIF, "pass an instance, e.g. snn.neurons.LIF()")
        if self.neuron.trains_threshold:
            raise ValueError(
                f"neuron is a {type(neuron).__name__}, which trains its threshold; an attentive network takes a LIF"
            )
        self.inputs, self.hidden = at_least(1, "inputs", inputs), at_least(1, "hidden", hidden)
        self.classes = at_least(1, "classes", classes)
        self.k_top, self.k_att = at_least(0, "k_top", k_top), at_least(1, "k_att", k_att)
        positive("input_scale", input_scale)
        width = 2 * self.hidden
        self.input = nn.Linear(self.inputs, self.hidden)
        self.recurrent = nn.Linear(self.hidden, self.hidden, bias=False)
        self.readout = nn.Linear(2 * width, self.classes)
        self.attention = Attention(width, self.hidden, self.k_top) if self.k_top else None
        nn.init.normal_(self.input.weight, std=input_scale * self.neuron.threshold)

    def forward(self, x: Tensor) -> Tensor:
        """Readout of every step [T, B, classes]; see :meth:`simulate`."""
        return self.simulate(x).outputs

    def simulate(self, x: Tensor, k_trunc: int | None = None) -> AttentiveRun:
        """Run from rest over x [T, B, inputs], floating point in the dtype of the weights.

        ``k_trunc``: the gradient of the recurrent chain is cut before every step that is a multiple of it (None: never).
        Memories are not cut: from a selected one the gradient flows back to the cut before it.

        Raises:
            ValueError: another shape or dtype, no time step or sample, NaN or infinity, k_trunc < 1.
            TypeError: x is no tensor, k_trunc not whole.
        """
        self._check(x)
        if k_trunc is not None:
            k_trunc = at_least(1, "k_trunc", k_trunc)
        currents = self.input(x)
        membrane = spike = currents.new_zeros(currents.shape[1:])
        memories = currents.new_zeros(1, x.shape[1], 2 * self.hidden)
        keys = currents.new_zeros(1, x.shape[1], self.hidden)
        features, spikes, reminders = [], [], []
        for t, current in enumerate(currents.unbind(0)):
            if k_trunc is not None and t % k_trunc == 0:
                membrane, spike = membrane.detach(), spike.detach()
            current = current + self.recurrent(spike)
            summary = memories[0]
            if self.attention is not None:
                provisional = step(self.neuron, membrane, current)
                reminders.append(self.attention(torch.cat([provisional.membrane, provisional.spike], -1), memories, keys))
                summary = reminders[-1].summary
                current = current + self.attention.recall(summary) / math.sqrt(2 * self.hidden)
            spike, _, membrane = step(self.neuron, membrane, current)
            state = torch.cat([membrane, spike], -1)
            features.append(torch.cat([state, summary], -1))
            spikes.append(spike.detach())
            if self.attention is not None and (t + 1) % self.k_att == 0:
                memories = torch.cat([memories, state.unsqueeze(0)])
                keys = torch.cat([keys, self.attention.key(state).unsqueeze(0)])
        return AttentiveRun(self.readout(torch.stack(features)), torch.stack(spikes), *_record(reminders, currents))

    def _check(self, x: Tensor) -> None:
        tensor("input", x)
        if x.dim() != 3 or x.shape[-1] != self.inputs or 0 in x.shape:
            raise ValueError(
                f"input has shape {tuple(x.shape)}; this network takes [time, batch, {self.inputs}] with at least 1 step and "
                "1 sample"
            )
        dtype = self.input.weight.dtype
        if x.dtype != dtype:
            raise ValueError(f"input has dtype {x.dtype}, the weights have {dtype}; convert one of them with .to")
        if not bool(torch.isfinite(x).all()):
            raise ValueError("input holds NaN or infinite values; clean or drop these samples")

    def extra_repr(self) -> str:
        return f"k_top={self.k_top}, k_att={self.k_att}, neuron={self.neuron}"


def _record(reminders: list[Reminder], like: Tensor) -> tuple[Tensor, Tensor]:
    """Chosen memories and weights of all steps, [T, k, B]; steps that had fewer memories are filled up."""
    steps, batch = like.shape[:2]
    most = max((len(reminder.weights) for reminder in reminders), default=0)
    weights = like.new_zeros(steps, most, batch)
    chosen = torch.full(weights.shape, -1, dtype=torch.int64, device=like.device)
    for t, reminder in enumerate(reminders):
        k = len(reminder.weights)
        weights[t, :k] = reminder.weights.detach()
        chosen[t, :k] = torch.where(reminder.weights > 0, reminder.chosen, -1)
    return chosen, weights.detach()
