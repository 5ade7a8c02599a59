"""How large sums can grow, and which populations keep step: facts that follow from the graph of a FixedNetwork."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lava_snnlearn.checks import LimitError
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.population import INPUT

if TYPE_CHECKING:
    from lava_snnlearn.fixed_point.connection import Connection
    from lava_snnlearn.fixed_point.graph import FixedNetwork


def largest_sent(network: FixedNetwork, source: str, through: tuple[str, ...] = ()) -> int:
    """Largest magnitude of a value that this source ("input" or a population) sends.

    ``through``: relays that this one feeds.

    Raises:
        LimitError: relays that feed each other in a circle, whose sums have no bound.
    """
    if source == INPUT:
        return network.largest_input
    population = network.population(source)
    if population.kind != "relay":
        return population.top if population.kind == "graded" else 1
    if source in through:
        raise LimitError(
            f"relays {[*through[through.index(source) :], source]} feed each other in a circle, so that their sums have no "
            "bound; put neurons between them"
        )
    return largest_sum(network, source, (*through, source))


def largest_sum(network: FixedNetwork, name: str, through: tuple[str, ...] = ()) -> int:
    """Largest magnitude of what a population hears in a step: all its connections, and its part of an input current."""
    heard = sum(connection.bound(largest_sent(network, connection.source, through)) for connection in network.incoming(name))
    return heard + (network.largest_input if name in network.host.targets else 0)


def carries_values(network: FixedNetwork, connection: Connection) -> bool:
    """Whether synapses hear the value of what is sent, and not only that something is."""
    values = network.smallest_sent(connection.source), network.largest_sent(connection.source)
    return not connection.binary and values != (0, 1)


def message_bits(network: FixedNetwork, connection: Connection) -> int:
    """Bits of a message on Lava and on the chip: 0 for spikes, 8 for payloads 0..255, else 24."""
    if not carries_values(network, connection):
        return 0
    least, largest = network.smallest_sent(connection.source), network.largest_sent(connection.source)
    return limits.GRADED_BITS if least == 0 and largest <= limits.GRADED_MAX else limits.PAYLOAD_BITS


def in_lockstep(network: FixedNetwork, connection: Connection) -> bool:
    """True if the target hears nothing that a source sends outside of its active steps.

    Stock LIFs and relays go on sending before and after them, others do not: their target must hear step i in its own step i.
    """
    if connection.source == INPUT:
        return True
    source, target = network.population(connection.source), network.population(connection.target)
    if source.pauses:
        return True
    one_delay = bool(np.min(connection.delay) == np.max(connection.delay))
    return one_delay and target.t_start == network.first_arrival(connection)
