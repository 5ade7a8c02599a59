"""A network made ready for the engine: its populations in the order of the flow of data, and each connection on both paths."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lava_snnlearn.fixed_point.engine.costs import density, events_are_cheaper
from lava_snnlearn.fixed_point.engine.products import Product
from lava_snnlearn.fixed_point.engine.synapses import Events, Sent, events
from lava_snnlearn.fixed_point.graph import INPUT, Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.order import components
from lava_snnlearn.fixed_point.sums import largest_sum

PATHS = ("auto", "events", "product")


@dataclass(frozen=True, eq=False)
class Wire:
    """A connection, ready for events and for products (each is prepared when it is first used).

    largest: largest magnitude of what the source sends. ones: the source sends zeros and ones only. path: "auto": whichever is
    cheaper for what is sent; results are the same.
    """

    connection: Connection
    largest: int
    ones: bool
    path: str

    @cached_property
    def events(self) -> Events:
        return events(self.connection, self.largest, self.ones)

    @cached_property
    def product(self) -> Product:
        return Product.of(self.connection, self.largest)

    @cached_property
    def history(self) -> int:
        """So many steps back a target hears its source."""
        return 1 + self.connection.max_delay

    @cached_property
    def prompt(self) -> bool:
        """All synapses have the same delay."""
        return bool(np.min(self.connection.delay) == np.max(self.connection.delay))

    def by_events(self, sent: Sent, batch: int, first: int, last: int) -> bool:
        """Whether events are the way for what was sent in the chip steps first .. last - 1."""
        if self.path != "auto":
            return self.path == "events"
        rows = sent.values[max(first - sent.base, 0) : max(last - sent.base, 0), sent.column : sent.column + batch]
        return events_are_cheaper(self.connection, self.events, density(rows))


@dataclass(frozen=True, eq=False)
class Stage:
    """Populations that hear each other in a circle, or a single one; with the wires from earlier stages and their own."""

    populations: tuple[Population, ...]
    outer: dict[str, tuple[Wire, ...]]
    inner: dict[str, tuple[Wire, ...]]

    @property
    def stepwise(self) -> bool:
        """True if the populations have to advance together, step by step."""
        return any(self.inner.values())


class Program:
    """A network's stages, in the order of the flow of data.

    Args:
        network: the network.
        path: "auto", or the path that all connections take which do not lie in a circle (those are always events).
    """

    def __init__(self, network: FixedNetwork, path: str = "auto") -> None:
        self.network = network
        wires: dict[str, list[Wire]] = {population.name: [] for population in network.populations}
        self.history: dict[str, int] = {}
        for connection in network.connections:
            source = connection.source
            wire = Wire(connection, network.largest_sent(source), self.sends_ones(source), path)
            wires[connection.target].append(wire)
            self.history[source] = max(self.history.get(source, 0), wire.history)
        self.stages = tuple(_stage(network, names, wires) for names in components(network))
        self.largest_sum = {population.name: largest_sum(network, population.name) for population in network.populations}

    def sends_ones(self, source: str) -> bool:
        """True if this source sends zeros and ones only."""
        if source == INPUT:
            return self.network.host.form == "spikes"
        return self.network.population(source).counted


def program_of(network: FixedNetwork, path: str = "auto") -> Program:
    """The network's program; it is kept as long as the network, which cannot change."""
    kept = vars(network).setdefault("_programs", {})
    if path not in kept:
        kept[path] = Program(network, path)
    program: Program = kept[path]
    return program


def _stage(network: FixedNetwork, names: list[str], wires: dict[str, list[Wire]]) -> Stage:
    return Stage(
        tuple(network.population(name) for name in names),
        {name: tuple(wire for wire in wires[name] if wire.connection.source not in names) for name in names},
        {name: tuple(wire for wire in wires[name] if wire.connection.source in names) for name in names},
    )
