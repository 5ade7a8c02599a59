"""A FixedNetwork in real units and logical time: stages, as :func:`lava_snnlearn.fixed_point.lowering.lower` makes them.

On the chip every connection takes a step. Populations that start later take that back: a connection from a population to one
that starts k steps later, with a delay of k - 1, is instant in the steps of a sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lava_snnlearn.checks import LimitError
from lava_snnlearn.fixed_point.arithmetic import DECAY_ONE, MEMBRANE_UNIT
from lava_snnlearn.fixed_point.convolution import ConvShape
from lava_snnlearn.fixed_point.graph import INPUT, Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import DATA_FRACTION_BITS
from lava_snnlearn.fixed_point.lowering import Link, Stage
from lava_snnlearn.interchange.nir_stages import back_edges
from lava_snnlearn.neurons.lif import LIF

_HALF_UNIT = 0.5 / MEMBRANE_UNIT


@dataclass(frozen=True)
class ChipStages:
    """Stages of a chip, the answering one last, and the filters of their currents (share lost in a step) by name."""

    stages: list[Stage]
    filters: dict[str, float]


def chip_stages(network: FixedNetwork) -> ChipStages:
    """The stages of a network for which :func:`refusals` is empty."""
    ordered = _in_order(network)
    following: dict[str, list[str]] = {}
    for population in ordered:
        sources = [connection.source for connection in network.incoming(population.name)]
        for source in [INPUT] * (population.name in network.host.targets) + sources:
            following.setdefault(source, []).append(population.name)
    _, back = back_edges(INPUT, following)
    stages = [_stage(network, population, back) for population in ordered]
    filters = {
        population.name: (population.du + 1) / DECAY_ONE
        for population in network.populations
        if population.kind == "lif" and population.du + 1 < DECAY_ONE
    }
    return ChipStages(stages, filters)


def refusals(network: FixedNetwork) -> tuple[str, ...]:
    """What NIR has no words for, one line each."""
    found = []
    for population in network.populations:
        where = f"population {population.name!r}"
        if population.sends_payloads:
            found.append(f"{where}: neurons of the kind {population.kind!r}")
        if population.kind == "soft_reset_lif" and population.delta != population.vth:
            found.append(f"{where}: a spike subtracts {population.delta}, not the threshold {population.vth}")
        if population.reset_interval or np.any(population.u_init) or np.ndim(population.v_init):
            found.append(f"{where}: resets at fixed times, or states that differ at the start")
        if population.kind == "lif" and population.du + 1 < DECAY_ONE and not (population.du >= 0 and population.dv > 0):
            found.append(
                f"{where}: a filtered current without leak of current or membrane (du {population.du}, dv {population.dv})"
            )
        if population.kind == "accumulator" and population.name != network.output:
            found.append(f"{where}: an accumulator that is not the output")
        elif population.name != network.output and not any(
            link.source == population.name != link.target for link in network.connections
        ):
            # The nir package would give it an output of its own.
            found.append(f"{where}: nobody hears it, and it is not the output")
    for connection in network.connections:
        if connection.exponent < 0 and (np.asarray(connection.weight) % (1 << -connection.exponent)).any():
            found.append(f"connection {connection.name}: sums that are shifted right (exponent {connection.exponent})")
        sent = network.smallest_sent(connection.source), network.largest_sent(connection.source)
        if connection.binary and sent != (0, 1):
            found.append(f"connection {connection.name}: values that count as 1")
    if not network.population(network.output).spiking and any(link.source == network.output for link in network.connections):
        found.append(f"population {network.output!r}: an output that others hear")
    return tuple(found)


def _in_order(network: FixedNetwork) -> list[Population]:
    """By their start; the output last, which is the one that answers."""
    ordered = sorted(network.populations, key=lambda population: population.t_start)
    return sorted(ordered, key=lambda population: population.name == network.output)


def _stage(network: FixedNetwork, population: Population, back: set[tuple[str, str]]) -> Stage:
    """A population with its links; those of ``back`` close loops."""
    one = 2.0**population.scale_bits * MEMBRANE_UNIT
    bias = population.bias / one
    links: list[Link] = []
    if (part := network.current_part(population.name)) is not None:
        link, extra = _host_link(network, population, part)
        links.append(link)
        bias = bias + extra
    for connection in network.incoming(population.name):
        link, extra = _link(network, connection, population, (connection.source, population.name) in back)
        links.append(link)
        bias = bias + extra
    neuron, threshold = None, 0.0
    if population.spiking:
        level = population.vth / 2.0**population.scale_bits
        # Between two values of the membrane > and >= are the same, so that all tools fire at the same steps.
        nudge = _HALF_UNIT / 2.0**population.scale_bits if population.kind == "lif" else 0.0
        threshold = level + nudge
        reset = "zero" if population.kind == "lif" else "subtract"
        neuron = LIF(leak=population.dv / DECAY_ONE, threshold=threshold, reset=reset)
    leak = 0.0 if population.spiking else population.dv / DECAY_ONE
    start = float(np.ravel(population.v_init)[0]) / one
    shape = (population.size,) if population.shape is None else tuple(population.shape)
    return Stage(population.name, shape, neuron, threshold, tuple(links), bias, start=start, leak=leak)


def _link(network: FixedNetwork, connection: Connection, target: Population, closes: bool) -> tuple[Link, NDArray[np.float64]]:
    """A connection, and the bias that an offset of graded input makes."""
    start = network.start_of(connection.source)
    steps = np.asarray(connection.delay, np.int64) + 1 - target.t_start + start
    weight = np.asarray(connection.weight, np.float64) * 2.0 ** (connection.exponent - target.scale_bits)
    extra = np.zeros(target.size)
    if connection.source == INPUT and network.host.form == "graded" and network.host.step:
        weight = weight / network.host.step
        extra = -network.host.offset * _sums(connection, weight)
    if steps.min() < int(closes):
        raise LimitError(
            f"connection {connection.name} arrives before the step in which {target.name} needs it (t_start {start} and "
            f"{target.t_start}); in NIR nothing is heard before it was sent"
        )
    lag = int(steps.min()) if closes else 0
    rest = steps - lag
    delay = rest if rest.any() else None
    return Link(connection.source, weight, connection.geometry, lag, delay, label=connection.label), extra


def _sums(connection: Connection, weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each target neuron hears when all sources send 1."""
    if connection.geometry is None:
        return np.asarray(weight.sum(1))
    ones = torch.ones(1, math.prod(connection.geometry.input_shape), dtype=torch.float64)
    return Link(INPUT, weight, connection.geometry).apply(ones)[0].numpy()


def _host_link(network: FixedNetwork, population: Population, part: slice) -> tuple[Link, NDArray[np.float64]]:
    """The host's product for a population, in real units."""
    host, unit = network.host, 2.0**population.scale_bits
    if host.weight is None:
        return Link(INPUT, np.eye(host.size)[part] / unit), np.zeros(population.size)
    weight, bias = np.asarray(host.weight, np.float64), np.asarray(host.bias, np.float64)
    geometry: ConvShape | None = host.geometry
    spread = np.repeat(bias, host.size // len(bias))[part] / 2.0**host.shift / unit
    if geometry is None:
        return Link(INPUT, weight[part] * 2.0 ** (DATA_FRACTION_BITS - host.shift) / unit), spread
    places = host.size // len(weight)
    rows = slice(part.start // places, part.stop // places)
    return Link(INPUT, weight[rows] * 2.0 ** (DATA_FRACTION_BITS - host.shift) / unit, geometry), spread
