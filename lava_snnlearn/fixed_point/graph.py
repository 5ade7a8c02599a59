"""FixedNetwork: an immutable graph of populations and connections in Loihi's integers.

Units: weights, currents and thresholds count *weight units*; membranes, biases and v_init count 1/64 of one (Loihi shifts
weights and thresholds left by 6 bits). ``2 ** scale_bits`` weight units of a population are one real unit of the trained net.

Time: a connection delivers one step late, ``a[t] = W s[t-1-delay]``, as on Lava. A population is active in the ``steps``
steps from ``t_start`` on; outside of that it ignores its input and does not spike. The state is reset between samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import known_name
from lava_snnlearn.fixed_point.connection import SIGN_MODES, Connection
from lava_snnlearn.fixed_point.convolution import ConvShape
from lava_snnlearn.fixed_point.host import HostInput
from lava_snnlearn.fixed_point.population import INPUT, KINDS, Population, frozen_integers
from lava_snnlearn.fixed_point.sums import in_lockstep, largest_sent

if TYPE_CHECKING:
    from lava_snnlearn.placement import Placement

__all__ = [
    "INPUT",
    "KINDS",
    "SIGN_MODES",
    "Connection",
    "FixedNetwork",
    "HostInput",
    "Population",
    "check_network",
    "frozen_integers",
]


@dataclass(frozen=True, eq=False)
class FixedNetwork:
    """A network that a Loihi chip can hold: integers only, checked, immutable.

    Args:
        populations, connections: the graph.
        host: how data become the chip's input.
        steps: T, active steps of every population in a sample.
        output: name of the population that answers (an accumulator: its membrane at the end; graded neurons: their last state;
            else its spike counts).
        notes: what quantisation chose and lost, one line each.

    Raises:
        LimitError, ValueError, TypeError: the graph is not consistent or does not fit; the message names the place.
    """

    populations: tuple[Population, ...]
    connections: tuple[Connection, ...]
    host: HostInput
    steps: int
    output: str
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "populations", tuple(self.populations))
        object.__setattr__(self, "connections", tuple(self.connections))
        object.__setattr__(self, "notes", tuple(self.notes))
        from lava_snnlearn.fixed_point.validate import validate

        validate(self)

    def population(self, name: str) -> Population:
        """The population of this name."""
        names = [population.name for population in self.populations]
        return self.populations[names.index(known_name("population", name, names))]

    @property
    def last_step(self) -> int:
        """Steps from the start of a sample until every population has had its active steps."""
        return max(population.t_start for population in self.populations) + self.steps

    def start_of(self, source: str) -> int:
        """Step of a sample, from 0, in which this source ("input" or a population) sends first."""
        return 0 if source == INPUT else self.population(source).t_start

    def first_arrival(self, connection: Connection) -> int:
        """Step of a sample, from 0, in which the target can hear something over this connection for the first time."""
        return self.start_of(connection.source) + 1 + int(np.min(connection.delay))

    @property
    def period(self) -> int:
        """Steps from the start of one sample to the start of the next: until the last population is done and the last spike
        in flight has landed where it is ignored."""
        early = any(self.population(connection.target).t_start == 0 for connection in self.connections)
        return self.last_step + max((connection.max_delay for connection in self.connections), default=0) + int(early)

    @property
    def largest_input(self) -> int:
        """Largest magnitude of a value that the host sends: 1 for spikes, 255 for graded spikes if it does not say more."""
        return max(map(abs, self.host.value_range))

    def largest_sent(self, source: str) -> int:
        """Largest magnitude of a value that this source ("input" or a population) sends."""
        return largest_sent(self, source)

    def smallest_sent(self, source: str) -> int:
        """Least value that this source sends: below 0 for relays, and for hosts that send negative payloads."""
        if source == INPUT:
            return self.host.value_range[0]
        return -self.largest_sent(source) if self.population(source).kind == "relay" else 0

    @property
    def one_by_one(self) -> bool:
        """True if Lava runs every sample as a run of its own.

        A stock LIF or a relay cannot pause between samples. In one long run over many samples that is harmless in a graph whose
        populations follow each other in lockstep; in any other graph, or where a sample begins with a state, it is not.
        """
        if any(population.running for population in self.populations):
            return True
        return not all(in_lockstep(self, connection) for connection in self.connections)

    def incoming(self, name: str) -> list[Connection]:
        """Connections that end at this population."""
        return [connection for connection in self.connections if connection.target == name]

    def current_part(self, name: str) -> slice | None:
        """Which columns of an input of the form "current" go into this population; None if none do."""
        if name not in self.host.targets:
            return None
        before = self.host.targets[: self.host.targets.index(name)]
        first = sum(self.population(other).size for other in before)
        return slice(first, first + self.population(name).size)

    def encode(self, x: ArrayLike) -> NDArray[np.int32]:
        """The chip's integer input [T, B, n] for data x; see :meth:`lava_snnlearn.fixed_point.host.HostInput.encode`."""
        return self.host.encode(np.asarray(x), self.steps)

    def place(self, target: str = "loihi1") -> Placement:
        """Deal the neurons to the cores of "loihi1" or "loihi2"; see :func:`lava_snnlearn.placement.place`."""
        from lava_snnlearn.placement import place

        return place(self, target)

    def __str__(self) -> str:
        from lava_snnlearn.fixed_point.table import table

        return table(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dict of numbers, strings and arrays; :meth:`from_dict` is its inverse."""
        keys = ("steps", "output")
        return {key: getattr(self, key) for key in keys} | {
            "notes": list(self.notes),
            "host": _plain(self.host),
            "populations": [_plain(population) for population in self.populations],
            "connections": [_plain(connection) for connection in self.connections],
        }

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> FixedNetwork:
        """Rebuild, and check, a network from :meth:`to_dict`'s form."""
        return cls(
            populations=tuple(Population(**entry) for entry in tree["populations"]),
            connections=tuple(Connection(**_with_geometry(entry)) for entry in tree["connections"]),
            host=HostInput(**_with_geometry(tree["host"])),
            steps=tree["steps"],
            output=tree["output"],
            notes=tuple(tree["notes"]),
        )

    def save(self, path: str | PathLike[str]) -> None:
        """Write an HDF5 file, atomically (the old file stays until the new one is complete)."""
        from lava_snnlearn.files import write_tree

        write_tree(path, self.to_dict(), content="FixedNetwork")

    @classmethod
    def load(cls, path: str | PathLike[str]) -> FixedNetwork:
        """Read a file written by :meth:`save`; no pickle, everything is checked.

        Raises:
            FileFormatError: the file is missing, truncated, foreign, or its content is not a valid network.
        """
        from lava_snnlearn.files import read_object

        return read_object(path, "FixedNetwork", cls.from_dict)


def check_network(function: str, network: Any) -> None:
    """Raise TypeError, in the name of ``function``, if this is no FixedNetwork."""
    if not isinstance(network, FixedNetwork):
        found = type(network).__name__
        remedy = "quantize a torch network first"
        if found == "FixedReasoner":
            remedy = "for reasoners lava_snnlearn.reasoning has emulate_reasoner, run_lava_reasoner and verify_reasoner"
        raise TypeError(f"{function} takes a FixedNetwork, got {found}; {remedy}")


def _plain(part: Population | Connection | HostInput) -> dict[str, Any]:
    """Fields of a part, its geometry as a dict of its own."""
    return {key: dict(vars(value)) if isinstance(value, ConvShape) else value for key, value in vars(part).items()}


def _with_geometry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of :func:`_plain`: the fields, with the geometry rebuilt."""
    geometry = entry.get("geometry")
    return dict(entry) | {"geometry": None if geometry is None else ConvShape(**geometry)}
