"""A recurrent spiking network that looks back: a sparse attention over its own past states.

The cell is a recurrent LIF population, and its state is membrane and spikes, h[t] = [v[t]; s[t]]::

    I[t]  = W x[t] + R s[t-1] + b
    h~[t] = LIF(v[t-1], I[t])                                  provisional state
    m_0 = 0, m_i = h after i k_att steps                       memories M: all that lie before step t
    a_i   = w^T tanh(W_q h~[t] + W_k m_i)                      score, W_a [h~; m_i] in two blocks
    z_i   = max(0, a_i - theta),  A_i = z_i / sum_j z_j        at most k_top are above 0
    c[t]  = sum_i A_i m_i                                      summary
    h[t]  = LIF(v[t-1], I[t] + P c[t])
    y[t]  = V [h[t]; c[t]] + b_y

theta is the (k_top + 1)-th largest score; while there are at most k_top memories it is -sum_j |w_j|, which no score falls below, so
that all of them are heard. Where the best scores are tied, no z_i is above 0 and the summary is 0.

theta is a constant for the gradient: memories that are not selected get a gradient of exactly 0.

Source: N. R. Ke et al., "Sparse attentive backtracking: temporal credit assignment through reminding", NeurIPS 2018, sections 3.1
and 3.2, there with an LSTM cell; the spiking cell follows the online_and_bptt spec, section 6.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lava_snnlearn.checks import instance_of, tensor, whole_number
from lava_snnlearn.neurons.lif import LIF, step


EPS = 0.0; GI=1.0; GP=0.1


class Memories(NamedTuple):
    """``state``: [N, B, m]. ``key``: [N, B, a], the memories' part of the argument of the score."""

    state: Tensor
    key: Tensor

    def plus(self, state: Tensor, key: Tensor) -> Memories:
        """These and one more: state [B, m], key [B, a]."""
        return Memories(torch.cat([self.state, state.unsqueeze(0)]), torch.cat([self.key, key.unsqueeze(0)]))


class Reminder(NamedTuple):
    """What attention found. ``summary``: [B, m]. ``chosen``: int64 [k, B], indices of memories, best first. ``weights``: [k, B], >= 0,
    their sum is 1, or 0 where nothing stands out. k is k_top, or the number of memories where that is less."""

    summary: Tensor
    chosen: Tensor
    weights: Tensor


def attend(query, memories, key, score, k_top):
    with torch.no_grad():
        scores = torch.tanh(query + memories.key) @ score
        candidates = scores.topk(min(k_top + 1, len(scores)), dim=0).indices
    samples = torch.arange(query.shape[0], device=query.device)
    chosen = candidates[:k_top]
    scores = torch.tanh(query + memories.key[chosen, samples]) @ score
    if len(candidates) > k_top:
        runner_up = memories.state[candidates[k_top], samples].detach()
        theta = torch.tanh(query + key(runner_up)) @ score
    else:
        theta = -score.abs().sum()
    raised = F.relu(scores - theta)
    total = raised.sum(0)
    weights = raised / (total + EPS)
    summary = (weights.unsqueeze(-1) * memories.state[chosen, samples]).sum(0)
    return Reminder(summary, chosen, weights)


class AttentiveRun(NamedTuple):
    """All T steps. ``outputs``: [T, B, classes]. ``spikes``: [T, B, hidden], detached. ``chosen``: int64 [T, k, B], the memories with
    a weight above 0 (memory i is the state after i k_att steps; -1: none). ``weights``: [T, k, B], detached."""

    outputs: Tensor
    spikes: Tensor
    chosen: Tensor
    weights: Tensor


class AttentiveNetwork(nn.Module):
    """Recurrent LIF neurons with sparse attention to their past, and a readout at every step; trained by :class:`SAB`.

    It runs in torch only: attention has no counterpart on the chip.

    Args:
        inputs: number of input channels.
        hidden: number of neurons; also the width of the score.
        classes: number of readout channels.
        neuron: their parameters; default ``LIF()``.
        k_top: most memories that a step hears; 0 is a plain recurrent network.
        k_att: steps from one memory to the next.

    Raises:
        ValueError: a number out of range, or a neuron whose threshold is trained.
        TypeError: a number that is not whole, a neuron that is no LIF.
    """

    def __init__(
        self, inputs: int, hidden: int, classes: int, neuron: LIF | None = None, *, k_top: int = 5, k_att: int = 2
    ) -> None:
        super().__init__()
        self.neuron = LIF() if neuron is None else neuron
        instance_of("neuron", self.neuron, LIF, "pass an instance, e.g. snn.neurons.LIF()")
        if self.neuron.trains_threshold:
            raise ValueError(f"neuron is a {type(neuron).__name__}, which trains its threshold; an attentive network takes a LIF")
        self.inputs, self.hidden = at_least(1, "inputs", inputs), at_least(1, "hidden", hidden)
        self.classes = at_least(1, "classes", classes)
        self.k_top, self.k_att = at_least(0, "k_top", k_top), at_least(1, "k_att", k_att)
        state = 2 * self.hidden
        self.input = nn.Linear(self.inputs, self.hidden)
        self.recurrent = nn.Linear(self.hidden, self.hidden, bias=False)
        self.recall = nn.Linear(state, self.hidden, bias=False)
        self.query = nn.Linear(state, self.hidden, bias=False)
        self.key = nn.Linear(state, self.hidden, bias=False)
        self.score = nn.Parameter(torch.empty(self.hidden))
        self.readout = nn.Linear(2 * state, self.classes)
        nn.init.normal_(self.input.weight, std=GI*self.neuron.threshold); self.recall.weight.data.mul_(GP)
        nn.init.uniform_(self.score, -1 / math.sqrt(self.hidden), 1 / math.sqrt(self.hidden))

    def forward(self, x: Tensor, k_trunc: int | None = None) -> Tensor:
        """Readout of every step [T, B, classes]; see :meth:`simulate`."""
        return self.simulate(x, k_trunc).outputs

    def simulate(self, x: Tensor, k_trunc: int | None = None) -> AttentiveRun:
        """Run from rest over x [T, B, inputs], floating point in the dtype of the weights.

        ``k_trunc``: the gradient of the recurrent chain is cut before every step that is a multiple of it (None: never). Memories are
        not cut: from a selected one the gradient flows back to the cut before it.

        Raises:
            ValueError: another shape or dtype, no time step or sample, NaN or infinity, k_trunc < 1.
            TypeError: x is no tensor, k_trunc not whole.
        """
        self._check(x)
        if k_trunc is not None:
            k_trunc = at_least(1, "k_trunc", k_trunc)
        currents = self.input(x)
        membrane = spike = currents.new_zeros(currents.shape[1:])
        rest = currents.new_zeros(1, x.shape[1], 2 * self.hidden)
        memories = Memories(rest, self.key(rest))
        features, spikes, reminders = [], [], []
        for t, current in enumerate(currents.unbind(0)):
            if k_trunc is not None and t % k_trunc == 0:
                membrane, spike = membrane.detach(), spike.detach()
            current = current + self.recurrent(spike)
            summary = rest[0]
            if self.k_top:
                provisional = step(self.neuron, membrane, current)
                query = self.query(torch.cat([provisional.membrane, provisional.spike], -1))
                reminders.append(attend(query, memories, self.key, self.score, self.k_top))
                summary = reminders[-1].summary
                current = current + self.recall(summary)
            spike, _, membrane = step(self.neuron, membrane, current)
            state = torch.cat([membrane, spike], -1)
            features.append(torch.cat([state, summary], -1))
            spikes.append(spike.detach())
            if (t + 1) % self.k_att == 0:
                memories = memories.plus(state, self.key(state))
        return AttentiveRun(self.readout(torch.stack(features)), torch.stack(spikes), *_record(reminders, currents))

    def _check(self, x: Tensor) -> None:
        tensor("input", x)
        if x.dim() != 3 or x.shape[-1] != self.inputs or 0 in x.shape:
            raise ValueError(
                f"input has shape {tuple(x.shape)}; this network takes [time, batch, {self.inputs}] with at least 1 step and 1 sample"
            )
        if x.dtype != self.score.dtype:
            raise ValueError(f"input has dtype {x.dtype}, the weights have {self.score.dtype}; convert one of them with .to")
        if not bool(torch.isfinite(x).all()):
            raise ValueError("input holds NaN or infinite values; clean or drop these samples")

    def extra_repr(self) -> str:
        return f"k_top={self.k_top}, k_att={self.k_att}, neuron={self.neuron}"


def at_least(least: int, name: str, value: int) -> int:
    """``value``, whole and not below ``least``; raises TypeError or ValueError."""
    number = whole_number(name, value)
    if number < least:
        raise ValueError(f"{name} is {number}; it must be at least {least}")
    return number


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
    return chosen, weights
