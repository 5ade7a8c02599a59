"""A block of samples on its way through a network, one window of time after the other."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.fixed_point.engine.neurons import Kept, Neurons, Target
from lava_snnlearn.fixed_point.engine.program import Program, Stage, Wire
from lava_snnlearn.fixed_point.engine.synapses import Sent, Sums
from lava_snnlearn.fixed_point.graph import INPUT, Population

ENDLESS = 1 << 60
"""Active steps of a population that never ends."""


@dataclass(frozen=True)
class Signal:
    """The chip's input: uint8 or int32 [rows, samples, n], C-contiguous; row 0 is that of chip step ``base``, and the block
    begins at sample ``column``. If ``static``, there is one row, which stands for ``steps`` of them."""

    values: NDArray[Any]
    base: int
    column: int
    ones: bool
    static: bool = False
    steps: int = ENDLESS

    def rows(self, first: int, last: int, batch: int) -> Sent:
        """The input of the chip steps first .. last - 1."""
        if not self.static:
            return Sent(self.values, self.base, self.column, self.ones)
        first, last = max(first, 0), min(last, self.steps)
        block = self.values[:, self.column : self.column + batch]
        return Sent(np.repeat(block, max(last - first, 0), axis=0), first, 0, self.ones)


@dataclass(frozen=True)
class Records:
    """Where spikes and membranes of populations go, [T, samples, n], and the block's first sample in them.

    ``origin``: row 0 is that of this chip step; None: of each population's own first active step.
    """

    spikes: dict[str, NDArray[Any]] = field(default_factory=dict)
    membranes: dict[str, NDArray[np.int32]] = field(default_factory=dict)
    column: int = 0
    origin: int | None = None

    def start(self, population: Population) -> int:
        """The chip step of row 0."""
        return population.t_start if self.origin is None else self.origin


def empty_records(
    sent_by: Iterable[Population], membranes_of: Iterable[Population], steps: int, samples: int
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[np.int32]]]:
    """Zeros [T, samples, n] for what some populations send (accumulators send nothing), and for membranes of some."""
    shape = steps, samples
    spikes = {p.name: np.zeros((*shape, p.size), p.sent_dtype) for p in sent_by if p.spiking}
    return spikes, {p.name: np.zeros((*shape, p.size), np.int32) for p in membranes_of}


class Block:
    """The state of a network in a block of samples, between two windows of time.

    Args:
        program: the network.
        batch: samples.
        window: largest number of chip steps that are run at a time.
        steps: active steps of each population; ENDLESS in a stream.

    Attributes:
        saturated: clipped neuron-steps of each population so far.
    """

    def __init__(self, program: Program, batch: int, window: int, steps: int = ENDLESS) -> None:
        self.program, self.batch, self.window, self.steps = program, batch, window, steps
        populations = program.network.populations
        self.neurons = {p.name: Neurons(p, batch, program.largest_sum[p.name]) for p in populations}
        self.saturated = dict.fromkeys(self.neurons, 0)
        self.counts = np.zeros((batch, program.network.population(program.network.output).size), np.int64)
        # What was sent: first what connections with delays still need of earlier windows, then this one.
        self.sent = {
            p.name: np.zeros((self._history(p.name) + window, batch, p.size), p.sent_dtype) for p in populations if p.spiking
        }
        self._states: dict[int, NDArray[np.int32] | None] = {}
        self._by_events: dict[int, bool] = {}
        self._once: dict[int, NDArray[np.int32]] = {}
        together = {p.name: p.size for stage in program.stages if stage.stepwise for p in stage.populations}
        alone = max((p.size for p in populations if p.name not in together), default=0)
        self._sums = {name: np.zeros((window, batch, size), np.int32) for name, size in together.items()}
        self._shared_sums = np.zeros(window * batch * alone, np.int32)

    def _history(self, name: str) -> int:
        return self.program.history.get(name, 0)

    def active(self, population: Population, first: int, last: int) -> tuple[int, int]:
        """Those of the chip steps first .. last - 1 in which the population is active, as begin and end."""
        begin = min(max(first, population.t_start), last)
        return begin, max(begin, min(last, population.t_start + self.steps))

    def run(self, signal: Signal, first: int, last: int, records: Records) -> None:
        """The chip steps first .. last - 1; windows follow each other without a gap."""
        for name, rows in self.sent.items():
            # Idle neurons are silent; a window before may have left spikes in these rows.
            begin, end = self.active(self.program.network.population(name), first, last)
            before = self._history(name)
            rows[before : before + begin - first] = 0
            rows[before + end - first : before + last - first] = 0
        for stage in self.program.stages:
            self._run_stage(stage, signal, first, last, records)
        self._keep(first, last, records)

    def result(self) -> NDArray[np.int64]:
        """What the network answers: spike counts, or the last membranes or states; int64 [B, n]."""
        output = self.program.network.population(self.program.network.output)
        return self.counts if output.counted else self.neurons[output.name].v.astype(np.int64)

    def _run_stage(self, stage: Stage, signal: Signal, first: int, last: int, records: Records) -> None:
        sums = {}
        for population in stage.populations:
            sums[population.name] = self._heard(population, stage.outer[population.name], signal, first, last)
        if not stage.stepwise:
            (population,) = stage.populations
            self._advance(population, sums[population.name], *self.active(population, first, last), first, records)
            return
        for step in range(first, last):
            for population in stage.populations:
                begin, end = self.active(population, step, step + 1)
                for wire in stage.inner[population.name]:
                    self._add_events(wire, self._source(wire, signal, first, last), sums[population.name], step, step + 1)
                self._advance(population, sums[population.name], begin, end, first, records)

    def _heard(self, population: Population, wires: tuple[Wire, ...], signal: Signal, first: int, last: int) -> Sums:
        """A population's sums over the window: all that is known before its stage begins."""
        shape = self.window, self.batch, population.size
        values = self._sums.get(population.name)
        if values is None:  # on its own: done before the next population begins
            values = self._shared_sums[: math.prod(shape)].reshape(shape)
        values[: last - first] = 0
        sums = Sums(values, first)
        begin, end = self.active(population, first, last)
        part = self.program.network.current_part(population.name)
        if part is not None and begin < end:
            _add_current(sums, signal, part, begin - population.t_start, end - population.t_start, begin - first)
        for wire in wires:
            self._add(wire, signal, sums, first, last, begin, end)
        return sums

    def _add(self, wire: Wire, signal: Signal, sums: Sums, first: int, last: int, begin: int, end: int) -> None:
        """Add what a wire from an earlier stage brings in the population's active steps begin .. end - 1 of a window."""
        connection = wire.connection
        if connection.source == INPUT and signal.static and wire.prompt:
            lag = 1 + connection.max_delay
            begin, end = max(begin, lag), min(end, lag + signal.steps)
            if begin < end:
                sums.values[begin - first : end - first] += self._constant(wire, signal, sums.values.shape[2])
            return
        sent = self._source(wire, signal, first, last)
        if self._takes_events(wire, sent, first, last):
            self._add_events(wire, sent, sums, first, last)
        elif begin < end:
            wire.product.add(sent, sums, begin - first, end - first)

    def _takes_events(self, wire: Wire, sent: Sent, first: int, last: int) -> bool:
        """The path of a wire: of each window anew, where the connection keeps nothing between them."""
        if wire.prompt or id(wire) not in self._by_events:
            self._by_events[id(wire)] = wire.by_events(sent, self.batch, first - 1, last - 1)
        return self._by_events[id(wire)]

    def _add_events(self, wire: Wire, sent: Sent, sums: Sums, first: int, last: int) -> None:
        if id(wire) not in self._states:
            self._states[id(wire)] = wire.events.state(self.batch)
        wire.events.add(sent, sums, first - sums.start, last - sums.start, self._states[id(wire)])

    def _constant(self, wire: Wire, signal: Signal, targets: int) -> NDArray[np.int32]:
        """What a static input brings in each step, [1, B, n]: made once."""
        found = self._once.get(id(wire))
        if found is None:
            found = self._once[id(wire)] = np.zeros((1, self.batch, targets), np.int32)
            sent = Sent(signal.values, 0, signal.column, signal.ones)
            lag = 1 + wire.connection.max_delay
            if wire.by_events(sent, self.batch, 0, 1):
                wire.events.add(sent, Sums(found, lag), 0, 1, wire.events.state(self.batch))
            else:
                wire.product.add(sent, Sums(found, lag), 0, 1)
        return found

    def _source(self, wire: Wire, signal: Signal, first: int, last: int) -> Sent:
        """What a wire's source sent, as far as it is heard in the chip steps first .. last - 1."""
        name = wire.connection.source
        if name == INPUT:
            return signal.rows(first - wire.history, last, self.batch)
        return Sent(self.sent[name], first - self._history(name), 0, wire.ones)

    def _advance(self, population: Population, sums: Sums, begin: int, end: int, first: int, records: Records) -> None:
        """The population's steps begin .. end - 1 of a window that begins at ``first``."""
        name = population.name
        to = None if name not in self.sent else Target(self.sent[name], self._history(name))
        kept = Kept()
        if name in records.membranes:
            kept = Kept(records.membranes[name], first - records.start(population), records.column)
        step = begin - population.t_start
        neurons = self.neurons[name]
        if begin < end:
            self.saturated[name] += neurons.advance(sums.values, begin - first, end - first, step, to, kept)

    def _keep(self, first: int, last: int, records: Records) -> None:
        """End a window: record, count, and keep what is still to be heard."""
        for name, rows in self.sent.items():
            population, before = self.program.network.population(name), self._history(name)
            begin, end = self.active(population, first, last)
            active = rows[before + begin - first : before + end - first]
            if name in records.spikes and begin < end:
                start = begin - records.start(population)
                records.spikes[name][start : start + end - begin, records.column : records.column + self.batch] = active
            if name == self.program.network.output and population.counted:
                self.counts += active.sum(axis=0, dtype=np.int64)
            rows[:before] = rows[last - first : last - first + before].copy()


def _add_current(sums: Sums, signal: Signal, part: slice, first: int, last: int, row: int) -> None:
    """Add a population's part of an input current of its active steps first .. last - 1, from this row of the sums on."""
    batch = sums.values.shape[1]
    block = signal.values[:, signal.column : signal.column + batch, part]
    if not signal.static:
        block = block[first - signal.base : last - signal.base]
    sums.values[row : row + last - first] += block
