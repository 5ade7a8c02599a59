"""A FixedNetwork as a readable table."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.population import UNFILTERED

if TYPE_CHECKING:
    from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork


def population_rows(network: FixedNetwork) -> list[list[str]]:
    """Header and one row a population, as text cells."""
    rows = [["population", "neurons", "kind", "vth", "leak dv", "bias/64", "t_start", "1.0 =", "fan-in", "cores >="]]
    for p in network.populations:
        bias = p.bias
        fan_in = sum(math.prod(np.shape(c.weight)[1:]) for c in network.incoming(p.name))
        spread = f"{bias.min()}..{bias.max()}" if bias.any() else "0"
        vth = f"0..{p.top}" if p.kind == "graded" else str(p.vth) if p.counted else "-"
        cores = math.ceil(p.size / limits.NEURONS_PER_CORE)
        leak = f"{p.dv}, du {p.du}" if p.du != UNFILTERED else str(p.dv)
        row = (p.name, p.size, p.kind, vth, leak, spread, p.t_start, f"{2.0**p.scale_bits:g}", fan_in or "current", cores)
        rows.append([str(cell) for cell in row])
    return rows


def connection_rows(network: FixedNetwork) -> list[list[str]]:
    """Header and one row a connection, as text cells."""
    rows = [["connection", "shape", "weights", "exponent", "delay", "synapses", "stored", "memory kbit", "largest sum"]]
    for c in network.connections:
        weight, delay = np.asarray(c.weight), np.asarray(c.delay)
        largest = c.bound(network.largest_sent(c.source))
        row = (
            c.name,
            _shape(c),
            f"{weight.min()}..{weight.max()}",
            c.exponent,
            f"{delay.min()}..{delay.max()}" if delay.any() else "0",
            c.synapses,
            c.stored_weights,
            f"{c.stored_weights * limits.WEIGHT_BITS / 1000:.1f}",
            largest,
        )
        rows.append([str(cell) for cell in row])
    return rows


def _shape(connection: Connection) -> str:
    size = "x".join(map(str, np.shape(connection.weight)))
    return size if connection.geometry is None else f"{size} on {'x'.join(map(str, connection.geometry.input_shape))}"


def aligned(rows: list[list[str]]) -> str:
    """Rows of text cells, the header first, as lines with columns below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _cores(network: FixedNetwork) -> str:
    """Least number of Loihi 1 cores by the sums of neurons and of stored weights; a placement counts all, core by core."""
    by_neurons = math.ceil(sum(p.size for p in network.populations) / limits.NEURONS_PER_CORE)
    bits = sum(c.stored_weights for c in network.connections) * limits.WEIGHT_BITS
    by_memory = math.ceil(bits / limits.SYNAPTIC_BITS_PER_CORE)
    least = f"at least {max(by_neurons, by_memory)} cores ({by_neurons} by neurons, {by_memory} by synaptic memory)"
    return f"Loihi 1: {least}; .place() counts axons and delays as well"


def table(network: FixedNetwork) -> str:
    """The whole network as text."""
    neurons = sum(p.size for p in network.populations)
    synapses = f"{sum(c.synapses for c in network.connections)} synapses"
    if any(c.geometry is not None for c in network.connections):
        synapses += f" ({sum(c.stored_weights for c in network.connections)} stored weights)"
    host = network.host
    parts = [
        f"FixedNetwork: {neurons} neurons, {synapses}, T = {network.steps} steps ({network.period} a sample on Lava)",
        f"input: {host.form}, {host.features} features -> {host.size} channels, code {host.encoding!r}; "
        f"output: {network.output}",
        "",
        aligned(population_rows(network)),
    ]
    if network.connections:
        parts += ["", aligned(connection_rows(network))]
    parts += ["", _cores(network), *network.notes]
    return "\n".join(parts)
