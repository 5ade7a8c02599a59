"""A FixedNetwork that runs step by step and without end, one sample after the other: what FusedNetwork's models are made of.

Every step costs its neurons and, of the synapses, those of the neurons that send. In integers it is equal, in every step of
every population, to the Lava graph of one process a population; in real numbers it is the same without rounding and clipping.

It is not the emulator's :class:`~lava_snnlearn.fixed_point.engine.run.Block`, with which it shares the kernels of neurons: that
works through windows of time, where this one answers in every step, and has neither real numbers nor samples that follow each
other. Synapses are added up here in a way of its own, so that equality with the emulator proves both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.fixed_point.convolution import expand
from lava_snnlearn.fixed_point.delays import Fanout, Synapses
from lava_snnlearn.fixed_point.delays import prepare as prepare_delays
from lava_snnlearn.fixed_point.graph import INPUT, Connection, FixedNetwork
from lava_snnlearn.fixed_point.running_kernels import add_rows
from lava_snnlearn.fixed_point.running_neurons import ChipNeurons, Neurons, active_steps, real_neurons
from lava_snnlearn.fixed_point.running_neurons import prepare as prepare_neurons
from lava_snnlearn.fixed_point.sums import carries_values


@cache
def prepare() -> None:
    """Have the kernels compiled, or loaded from numba's cache, in this process: forked children find them ready."""
    prepare_delays()
    prepare_neurons()
    for dtype in (np.int32, np.float64):
        add_rows(np.zeros(1, dtype), np.zeros(1, dtype), np.zeros((1, 1), dtype), True)


class _Wires:
    """A connection and what is under way on it: a ring of ``max_delay + 1`` rows, one for each of the next steps."""

    def __init__(self, connection: Connection, graded: bool, real: bool) -> None:
        self.source, self.graded = connection.source, graded
        self._shift = 0 if real else max(0, -connection.exponent)
        scale = np.array(2.0**connection.exponent) if real else np.array(1 << max(0, connection.exponent), np.int32)
        self._matrix: NDArray[Any] | None = None
        self._synapses: Synapses | None = None
        if connection.geometry is None and not connection.max_delay:
            matrix: NDArray[Any] = np.ascontiguousarray(np.transpose(connection.weight), dtype=scale.dtype)
            self._matrix = matrix * scale
        else:
            self._synapses = _sorted_synapses(connection, scale)
        self._ring = np.zeros((connection.max_delay + 1, connection.shape[0]), scale.dtype)
        self._place = 0

    def arriving(self) -> NDArray[Any]:
        """Sums [n_target] of this step; a view, until :meth:`send`."""
        return self._ring[self._place]

    def send(self, sent: NDArray[Any]) -> None:
        """End the step: what arrived is gone, what the source sends is under way."""
        row = self._ring[self._place]
        row[:] = 0
        self._place = (self._place + 1) % len(self._ring)
        if self._synapses is not None:
            self._synapses.deliver(self._ring, self._place, sent, self.graded)
        elif self._matrix is not None:
            add_rows(row, sent, self._matrix, self.graded)
        if self._shift:
            # As in Lava's Dense, the sum is cut, not each weight. Such connections have no delay, and one row.
            row >>= self._shift


def _sorted_synapses(connection: Connection, scale: NDArray[Any]) -> Synapses:
    """The synapses of a convolution or of a connection with delays, one by one; weights times ``scale``, of its dtype."""
    weight = np.asarray(connection.weight)
    if connection.geometry is None:
        (target, source), values = np.indices(weight.shape).reshape(2, -1), weight.reshape(-1)
        delays = np.broadcast_to(connection.delay, weight.shape).reshape(-1)
    else:
        entries = expand(weight, connection.geometry).tocoo()
        target, source, values = entries.row, entries.col, entries.data
        delays = np.broadcast_to(connection.delay, values.shape)
    index = np.arange(len(values))
    fanout = Fanout.of(connection.shape[1], source, target, index, index)
    return fanout.carrying(values.astype(scale.dtype) * scale, delays)


@dataclass(frozen=True)
class _Part:
    """A population: its place among all neurons, its neurons, its wires, which of the input's currents are its own, and room
    for what arrives, [n]."""

    place: slice
    neurons: Neurons
    wires: list[_Wires]
    current: slice | None
    arriving: NDArray[Any]


class RunningNetwork:
    """The neurons and wires of a network between two steps.

    Args:
        network: the network. Membranes and messages of its populations stand in one row each, [neurons of all populations], in
            the order of ``network.populations``; see :meth:`place`.
        real: compute in real numbers (float64) instead of the chip's integers (int32).
        endless: the one sample has no end: populations that have started never stop.
    """

    def __init__(self, network: FixedNetwork, real: bool = False, endless: bool = False) -> None:
        make: Callable[..., Neurons] = real_neurons if real else ChipNeurons
        self.sent: NDArray[Any] = np.zeros(neuron_count(network), np.float64 if real else np.int32)
        self._parts = {
            population.name: _Part(
                place(network, population.name),
                make(population, active_steps(population, None if endless else network.steps, network.one_by_one)),
                [
                    _Wires(connection, carries_values(network, connection), real)
                    for connection in network.incoming(population.name)
                ],
                network.current_part(population.name),
                np.zeros(population.size, self.sent.dtype),
            )
            for population in network.populations
        }

    def advance(self, phase: int, membranes: NDArray[Any], current: NDArray[Any] | None = None) -> NDArray[Any]:
        """Run all neurons for one step; returns what they send, [neurons], valid until the next call.

        Args:
            phase: number of the step in its sample, from 0.
            membranes: [neurons], int32 or float64; updated in place. An accumulator sends its membrane.
            current: of an input of the form "current": [n_in], what the populations hear of it in this very step.
        """
        for part in self._parts.values():
            arriving = part.arriving
            arriving[:] = 0 if part.current is None or current is None else current[part.current]
            for wires in part.wires:
                arriving += wires.arriving()
            self.sent[part.place] = part.neurons.step(phase, membranes[part.place], arriving)
        return self.sent

    def listen(self, signal: NDArray[Any] | None = None) -> None:
        """End the step: put under way what the neurons sent in it, and what the input sends, ``signal`` [n_in].

        The messages have the dtype of the membranes, and are contiguous.
        """
        for part in self._parts.values():
            for wires in part.wires:
                if wires.source != INPUT:
                    wires.send(self.sent[self._parts[wires.source].place])
                elif signal is not None:
                    wires.send(signal)


def neuron_count(network: FixedNetwork) -> int:
    """Neurons of all populations."""
    return sum(population.size for population in network.populations)


def place(network: FixedNetwork, name: str) -> slice:
    """Where the neurons of this population stand among those of all."""
    names = [population.name for population in network.populations]
    network.population(name)
    first = sum(population.size for population in network.populations[: names.index(name)])
    return slice(first, first + network.population(name).size)
