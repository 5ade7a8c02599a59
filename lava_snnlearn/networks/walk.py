"""A walk: one batch on its way through a network and through time.

A network says what is connected to what; the walk computes it. :class:`Walk` goes forward in time in pieces of any number of
steps, keeps the state in between, and lets either the whole temporal gradient flow (``gradient="full"``) or none of it
(``"instant"``). The trace engine, the rate engine and the conversion to fixed point are other walks through the same networks.

Signals are [T, B, *shape]; a leading 1 stands for a signal that is the same at every step of the piece, so that what depends on
a static input alone is computed once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lava_snnlearn import distributed
from lava_snnlearn.networks.delayed_maps import Rule, delayed_linear
from lava_snnlearn.networks.delays import Delays
from lava_snnlearn.networks.event_products import sparse_linear, worthwhile
from lava_snnlearn.networks.layers import Neurons, Readout
from lava_snnlearn.networks.synapse import Synapse
from lava_snnlearn.networks.synapse_maps import OperandMap, SpikeMap
from lava_snnlearn.neurons.lif import Drive
from lava_snnlearn.neurons.surrogate import FUSED

if TYPE_CHECKING:
    from lava_snnlearn.networks.network import Network

State = dict[nn.Module, Tensor]

PIECE, PIECE_STEPS = 1 << 17, 64
"""Potentials (neurons x samples x steps), and steps at most, of a piece of time whose length the user leaves open: enough rows
for efficient products, few enough that memory stays near that of a single step (measured by benchmarks/training_step.py)."""


class Standpoint(NamedTuple):
    """All that the following steps depend on: membranes, past spikes (recurrent layers, feedback, delays), steps done."""

    membranes: State
    past: State
    elapsed: int


def is_static(signal: Tensor) -> bool:
    """True for a frame that :meth:`Network.encode` spread over time as a view."""
    return signal.shape[0] > 1 and signal.stride(0) == 0


class Walk:
    """State of one batch: membranes, past spikes of feedback, and the weights in effect.

    Args:
        network: the network.
        signal: encoded input [T, B, *input shape]; see :meth:`Network.encode`.
        gradient: "full" or "instant".
        leaves: whether there will be several backward passes. Standardised weights and the current of a static input are then
            cut off and gather their gradients until :meth:`flush`.
    """

    def __init__(self, network: Network, signal: Tensor, *, gradient: str = "full", leaves: bool = False) -> None:
        self.network, self.gradient, self.leaves = network, gradient, leaves
        self.learns = torch.is_grad_enabled()  # pieces without a backward must not make the cuts without graph
        self.static = is_static(signal)
        self.signal = signal[:1] if self.static else signal
        self.steps, self.batch = signal.shape[0], signal.shape[1]
        masks = network.dropout_masks(self.batch)
        self.masks = dict(zip(network.populations, masks, strict=True))
        self.membranes: State = {}
        self.past: State = {}
        self.data = self.signal
        self.spikes: dict[int, Tensor] = {}
        self.length = 1
        self.elapsed = 0
        self.updates_statistics = self.counts = self.adds = self.reads = True
        self.charged: State | None = None
        self._sparse: bool | None = None
        self.fired = torch.zeros((), dtype=torch.float64)
        self.neurons = self.batch * sum(population.outputs for population in network.populations)
        self._cuts: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        self._frame: tuple[Synapse, Tensor, Tensor] | None = None

    def advance(self, length: int) -> Tensor:
        """Walk over the next ``length`` steps; returns the readout [length, B, classes]."""
        self.length = length
        self.data = self.signal if self.static else self.signal[self.elapsed : self.elapsed + length]
        outputs = self.network.respond(self.data, self)
        self.spikes = {}  # what the backward needs is kept by the graph
        self.elapsed += length
        return outputs if len(outputs) == length else outputs.expand(length, *outputs.shape[1:])

    def backward(self, loss: Tensor) -> None:
        """Fill gradients from the loss of the piece just walked over."""
        loss.backward()

    def length_of_piece(self, chunk: int | None, size: int = PIECE) -> int:
        """``chunk``; where it is None, as many steps as hold about ``size`` potentials. The same in all processes of a
        group.
        """
        if chunk is not None:
            return chunk
        samples = distributed.joined_count(self.batch) // distributed.world()
        size *= 2 if self.static else 1  # a static frame leaves room: it is one row, and nobody follows its trace
        return max(1, min(PIECE_STEPS, size * self.batch // (self.neurons * max(samples, 1))))

    def pieces(self, chunk: int | None) -> Iterator[int]:
        """Lengths of the pieces that lie ahead, at most ``chunk`` (None: all), and what the network's feedback allows.

        Raises:
            ValueError: several pieces under batch norm over time, which in training needs all steps at once.
        """
        longest = min(self.steps if chunk is None else chunk, self.network.longest_piece)
        if longest < self.steps and self.network.needs_all_steps:
            raise ValueError(
                f"norm='bn_time' needs all {self.steps} steps at once, but a chunk or the network's feedback takes them "
                f"{longest} at a time; use norm='bn_step', 'sws' or 'none'"
            )
        while self.elapsed < self.steps:
            yield min(longest, self.steps - self.elapsed)

    def collect(self, chunk: int | None) -> Tensor:
        """Walk over all steps that lie ahead, ``chunk`` at a time; the readout collected over time [B, classes]."""
        total: Tensor | None = None
        for length in self.pieces(chunk):
            total = self.network.readout.collect(self.advance(length), total)
        assert total is not None
        return total

    # What a network asks of its walk.

    def synapse(self, synapse: Synapse, signal: Tensor) -> Tensor:
        """Current [T, B, *shape] for spikes, or data, [T, B, *source]."""
        if synapse.delays is not None:
            return self._map_delayed(synapse, synapse.delays, signal)
        if self.static and signal is self.data:
            return self._frame_current(synapse)
        return self._map(synapse, signal)

    def normalise(self, population: Neurons, current: Tensor) -> Tensor:
        """The population's norm; a static current stands for all steps of the piece."""
        times = self.length if len(current) == 1 else 1
        return population.normalise(current, self.updates_statistics, times)

    def fire(self, population: nn.Module, current: Tensor, fresh: bool = False) -> Tensor:
        """Spikes [T, B, *shape] under a current; ``fresh``: nobody else reads the current."""
        assert isinstance(population, Neurons)
        drive, threshold = population.drive, population.level
        driven = current + drive.bias if drive.bias else current
        driven = driven * drive.gain if drive.gain != 1.0 else driven
        if population not in self.membranes and drive.start:
            self.membranes[population] = torch.full_like(driven[0], drive.start)
        if population.recurrent is not None:
            spikes = self._fire_recurrent(population, driven, drive, threshold)
        else:
            static = len(driven) == 1
            donate = not static and (fresh or driven is not current)
            spikes = self._integrate(
                population, driven[0] if static else driven, threshold, self.length if static else None, donate
            )
        self._count(spikes)
        sent = self._valued(population, spikes, drive.amplitude)
        # A user's own kind of surrogate may send other values than 0 and 1.
        if sent is spikes and type(population.neuron.surrogate) in FUSED:
            self.spikes[id(sent)] = sent
        return sent

    def read(self, readout: Readout, signal: Tensor) -> Tensor:
        """The readout of every step; empty where nobody wants it."""
        if not self.reads:
            return signal.new_empty(self.length, 0)
        return self._map(readout, signal) if self._keeps_spikes(readout, signal) else readout(signal)

    def recall(self, feedback: Synapse, delay: int) -> Tensor:
        """Spikes that the feedback's source sent ``delay`` steps before each step of this piece [length, B, *source]."""
        if feedback not in self.past:
            like = feedback.weight
            self.past[feedback] = torch.zeros(delay, self.batch, *feedback.source, dtype=like.dtype, device=like.device)
        return self.past[feedback][: self.length]

    def remember(self, feedback: Synapse, spikes: Tensor) -> None:
        """Keep the source's spikes of this piece for later pieces."""
        sent = spikes if self.gradient == "full" else spikes.detach()
        self.past[feedback] = torch.cat([self.past[feedback][self.length :], sent])

    # How it is done.

    def _valued(self, population: nn.Module, spikes: Tensor, amplitude: float) -> Tensor:
        """What spikes are worth to those that hear them, the population itself included."""
        mask = self.masks[population]
        if mask is not None:
            spikes = spikes * mask
        return spikes if amplitude == 1.0 else spikes * amplitude

    def _count(self, spikes: Tensor) -> None:
        if self.counts:
            self.fired += spikes.detach().sum().double().cpu()

    def _integrate(self, population: Neurons, current: Tensor, threshold: float, steps: int | None, donate: bool) -> Tensor:
        assert isinstance(population, nn.Module)
        found = population.integrate(
            current,
            self.membranes.get(population),
            steps=steps,
            gradient=self.gradient,
            threshold=threshold,
            donate=donate,
            once=self.leaves,
        )
        self.membranes[population] = found.membrane
        if self.charged is not None and found.charged is not None:
            self.charged[population] = found.charged[-1]
        return found.spike

    def _fire_recurrent(self, population: Neurons, current: Tensor, drive: Drive, threshold: float) -> Tensor:
        """Step by step: each step's current holds the layer's own spikes of the step before."""
        assert isinstance(population, nn.Module)
        rows = []
        for t in range(self.length):
            now = current[0 if len(current) == 1 else t]
            before = self.past.get(population)
            if before is not None:
                now = now + drive.gain * self._recurrent_current(population, before)
            spike = self._integrate(population, now.unsqueeze(0), threshold, None, before is not None).squeeze(0)
            self._remember_own(population, self._valued(population, spike, drive.amplitude))
            rows.append(spike)
        return torch.stack(rows)

    def _recurrent_current(self, population: Neurons, before: Tensor) -> Tensor:
        assert population.recurrent is not None
        return F.linear(before, population.recurrent)

    def _remember_own(self, population: nn.Module, spike: Tensor) -> None:
        self.past[population] = spike if self.gradient == "full" else spike.detach()

    def _map(self, synapse: Synapse, signal: Tensor) -> Tensor:
        weight = self.weight(synapse)
        if self._keeps_spikes(synapse, signal):
            flat = SpikeMap.apply(signal.flatten(0, 1), weight, synapse.bias, synapse)
            return flat.view(*signal.shape[: signal.dim() - len(synapse.source)], *synapse.shape)
        prepared = synapse.prepare(signal)
        if signal is self.data and self.has_events(synapse, prepared):
            flat = sparse_linear(prepared.flatten(1), weight, synapse.bias)
            synapse.observe_backward(flat, prepared)
        elif self.gradient == "instant" and torch.is_grad_enabled():
            flat = OperandMap.apply(prepared, prepared.detach(), weight, synapse.bias, None, synapse, self.adds)
        else:
            flat = synapse.map(prepared, weight, synapse.bias)
        return flat.view(*signal.shape[: signal.dim() - len(synapse.source)], *synapse.shape)

    def _map_delayed(self, synapse: Synapse, delays: Delays, signal: Tensor) -> Tensor:
        """Current under delays; the last ``delays.limit`` steps of what was read are kept for the next piece."""
        # A static frame is not static any more: it arrives at some synapses sooner than at others.
        sent = signal.expand(self.length, *signal.shape[1:]) if len(signal) < self.length else signal
        flat = sent.flatten(2)
        before = self._recent(self.past, delays, delays.limit, flat)
        rule = self._rule(synapse, delays, signal, flat)
        out = delayed_linear(flat, before, self.weight(synapse), synapse.bias, self._delay(delays), rule)
        self.past[delays] = self._behind(before, flat if self.gradient == "full" else flat.detach())
        return out.view(*sent.shape[:2], *synapse.shape)

    def _rule(self, synapse: Synapse, delays: Delays, signal: Tensor, flat: Tensor) -> Rule:
        """How the gradients of a delayed map are made; ``flat`` is the signal [T, B, n]."""
        slope = None
        if delays.filter is not None:
            before = self._recent(self.past, delays.filter, delays.limit + 2, flat)
            slope, self.past[delays.filter] = delays.filter(flat.detach(), before)
        return Rule(
            delays.axonal,
            delays.limit,
            synapse.prepare_sequence,
            synapse.input_gain,
            error_map=None if self.gradient == "full" else self.mapped(synapse).input_gradient,
            slope=slope,
            binary=self._keeps_spikes(synapse, signal),
        )

    def mapped(self, synapse: Synapse) -> Any:
        """What takes the errors of an online method back through a synapse: the synapse itself."""
        return synapse

    def _recent(self, kept: State, key: nn.Module, rows: int, like: Tensor) -> Tensor:
        """What is kept of the last steps; zeros at the start of a sample."""
        return kept[key] if key in kept else like.new_zeros(rows, *like.shape[1:])

    def _behind(self, before: Tensor, signal: Tensor) -> Tensor:
        """The last steps behind a piece, as many as ``before`` it."""
        rows, length = len(before), len(signal)
        last = torch.cat([before[length:], signal]) if length < rows else signal[length - rows :]
        return last if last.requires_grad or length < rows else last.clone()  # a view would keep the whole piece

    def _delay(self, delays: Delays) -> Tensor:
        """Present delays, cut off from their parameters as weights are in :meth:`weight`."""
        if delays not in self._cuts:
            with torch.set_grad_enabled(self.learns):
                self._cut(delays, delays())
        return self._cuts[delays][1]

    def _cut(self, module: nn.Module, source: Tensor) -> None:
        cut = source.detach().requires_grad_() if self.leaves and source.requires_grad else source
        self._cuts[module] = (source, cut)

    def has_events(self, synapse: Synapse, prepared: Tensor) -> bool:
        """Whether a dense map reads data so sparse that events are the faster way; the first piece of the walk decides."""
        if self._sparse is None:
            self._sparse = synapse.geometry is None and worthwhile(prepared)
        return self._sparse and synapse.geometry is None

    def _keeps_spikes(self, synapse: Synapse, signal: Tensor) -> bool:
        """Whether a graph over time is better off with the 0/1 spikes in bytes than with what the map reads, in floats."""
        kept = self.gradient == "full" and torch.is_grad_enabled() and id(signal) in self.spikes
        return kept and synapse.pool == 1 and synapse.upsample == 1

    def weight(self, synapse: Synapse) -> Tensor:
        """The weight in effect; a trained standardised one is cut off where there will be several backward passes.

        Its gradient then adds up and goes through the standardisation once, in :meth:`flush`, not at every pass.
        """
        if synapse.standardise is None:
            return synapse.weight
        if synapse not in self._cuts:
            with torch.set_grad_enabled(self.learns):
                self._cut(synapse, synapse.effective_weight())
        return self._cuts[synapse][1]

    def _frame_current(self, synapse: Synapse) -> Tensor:
        """The current of a static frame: one product for all steps, forward and backward."""
        if self._frame is None or self._frame[0] is not synapse:
            with torch.set_grad_enabled(self.learns):
                source = self._map(synapse, self.data)
            cut = source.detach().requires_grad_() if self.leaves and source.requires_grad else source
            self._frame = (synapse, source, cut)
        return self._frame[2]

    def flush(self) -> None:
        """Carry the gradients gathered at the cuts on to the parameters, and forget the cuts: the weights may change now."""
        cuts = [(source, cut) for source, cut in self._cuts.values() if cut is not source]
        if self._frame is not None and self._frame[2] is not self._frame[1]:
            # First: the frame's current was made with a weight that may be cut off itself.
            cuts.insert(0, self._frame[1:])
        for source, cut in cuts:
            if cut.grad is not None:
                source.backward(cut.grad)
                cut.grad = None
        self._cuts, self._frame = {}, None

    def spike_rate(self) -> float:
        """Spikes per neuron and step of a finished walk."""
        return float(self.fired) / (self.neurons * self.steps)

    def standpoint(self) -> Standpoint:
        """The present state, as a checkpoint."""
        return Standpoint(dict(self.membranes), dict(self.past), self.elapsed)

    def restore(self, state: Standpoint) -> None:
        """Go back to :meth:`standpoint`."""
        self.membranes, self.past, self.elapsed = dict(state.membranes), dict(state.past), state.elapsed
