"""A walk: one batch on its way through a network and through time.

A network says what is connected to what; the walk computes it. :class:`Walk` goes forward in time in pieces of any number of
steps, keeps the state in between, and lets either the whole temporal gradient flow (``gradient="full"``) or none of it
(``"instant"``). The trace engine, the rate engine and the conversion to fixed point are other walks through the same networks.

Signals are [T, B, *shape]; a leading 1 stands for a signal that is the same at every step of the piece, so that what depends on a
static input alone is computed once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lava_snnlearn.networks.event_products import sparse_linear, worthwhile
from lava_snnlearn.networks.layers import Neurons, Readout
from lava_snnlearn.networks.synapse import Synapse

if TYPE_CHECKING:
    from lava_snnlearn.networks.network import Network

State = dict[nn.Module, Tensor]


class Standpoint(NamedTuple):
    """All that the following steps depend on: membranes, past spikes (recurrent layers, feedback), number of steps done."""

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
        leaves: whether there will be several backward passes. Standardised weights and the current of a static input are then cut
            off and gather their gradients until :meth:`flush`.
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
        self.length = 1
        self.elapsed = 0
        self.updates_statistics = self.counts = True
        self.fired = torch.zeros((), dtype=torch.float64)
        self.neurons = self.batch * sum(population.outputs for population in network.populations)
        self._cuts: dict[Synapse, tuple[Tensor, Tensor]] = {}
        self._frame: tuple[Synapse, Tensor, Tensor] | None = None

    def advance(self, length: int) -> Tensor:
        """Walk over the next ``length`` steps; returns the readout [length, B, classes]."""
        self.length = length
        self.data = self.signal if self.static else self.signal[self.elapsed : self.elapsed + length]
        outputs = self.network.respond(self.data, self)
        self.elapsed += length
        return outputs if len(outputs) == length else outputs.expand(length, *outputs.shape[1:])

    def pieces(self, chunk: int | None) -> Iterator[int]:
        """Lengths of the pieces that lie ahead, at most ``chunk`` (None: all), and what the network's feedback allows."""
        longest = min(self.steps if chunk is None else chunk, self.network.longest_piece)
        while self.elapsed < self.steps:
            yield min(longest, self.steps - self.elapsed)

    # What a network asks of its walk.

    def synapse(self, synapse: Synapse, signal: Tensor) -> Tensor:
        """Current [T, B, *shape] for spikes, or data, [T, B, *source]."""
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
        driven, amplitude, threshold = self._drive(population, current)
        if population not in self.membranes and (start := population.neuron.drive(threshold).start):
            self.membranes[population] = torch.full_like(driven[0], start)
        if population.recurrent is not None:
            spikes = self._fire_recurrent(population, driven, threshold)
        else:
            static = len(driven) == 1
            donate = not static and (fresh or driven is not current)
            spikes = self._integrate(population, driven[0] if static else driven, threshold, self.length if static else None, donate)
        self._count(spikes)
        mask = self.masks[population]
        return self._valued(spikes, amplitude, mask)

    def read(self, readout: Readout, signal: Tensor) -> Tensor:
        """The readout of every step."""
        return readout(signal)

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

    def _drive(self, population: Neurons, current: Tensor) -> tuple[Tensor, float, float]:
        """Current as it reaches the membrane, worth of a spike, threshold."""
        threshold = population.neuron.threshold if population.threshold is None else float(population.threshold.detach())
        drive = population.neuron.drive(threshold)
        if drive.bias:
            current = current + drive.bias
        if drive.gain != 1.0:
            current = current * drive.gain
        return current, drive.amplitude, threshold

    def _valued(self, spikes: Tensor, amplitude: float, mask: Tensor | None) -> Tensor:
        if mask is not None:
            spikes = spikes * mask
        return spikes if amplitude == 1.0 else spikes * amplitude

    def _count(self, spikes: Tensor) -> None:
        if self.counts:
            self.fired += spikes.detach().sum().double().cpu()

    def _integrate(
        self, population: Neurons, current: Tensor, threshold: float, steps: int | None, donate: bool
    ) -> Tensor:
        assert isinstance(population, nn.Module)
        found = population.integrate(
            current,
            self.membranes.get(population),
            steps=steps,
            gradient=self.gradient,
            threshold=threshold,
            donate=donate,
        )
        self.membranes[population] = found.membrane
        return found.spike

    def _fire_recurrent(self, population: Neurons, current: Tensor, threshold: float) -> Tensor:
        """Step by step: each step's current holds the layer's own spikes of the step before."""
        assert isinstance(population, nn.Module)
        rows = []
        for t in range(self.length):
            now = current[0 if len(current) == 1 else t]
            before = self.past.get(population)
            if before is not None:
                now = now + self._recurrent_current(population, before)
            spike = self._integrate(population, now.unsqueeze(0), threshold, None, before is not None).squeeze(0)
            self._remember_own(population, spike)
            rows.append(spike)
        return torch.stack(rows)

    def _recurrent_current(self, population: Neurons, before: Tensor) -> Tensor:
        assert population.recurrent is not None
        return F.linear(before, population.recurrent)

    def _remember_own(self, population: nn.Module, spike: Tensor) -> None:
        self.past[population] = spike if self.gradient == "full" else spike.detach()

    def _map(self, synapse: Synapse, signal: Tensor) -> Tensor:
        prepared, weight = synapse.prepare(signal), self.weight(synapse)
        if signal is self.data and synapse.geometry is None and worthwhile(prepared):
            flat = sparse_linear(prepared.flatten(1), weight, synapse.bias)
        else:
            flat = synapse.map(prepared, weight, synapse.bias)
        return flat.view(*signal.shape[: signal.dim() - len(synapse.source)], *synapse.shape)

    def weight(self, synapse: Synapse) -> Tensor:
        """The weight in effect; a trained standardised one is cut off where there will be several backward passes.

        Its gradient then adds up and goes through the standardisation once, in :meth:`flush`, not at every pass.
        """
        if synapse.standardise is None:
            return synapse.weight
        if synapse not in self._cuts:
            with torch.set_grad_enabled(self.learns):
                source = synapse.effective_weight()
            cut = source.detach().requires_grad_() if self.leaves and source.requires_grad else source
            self._cuts[synapse] = (source, cut)
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
