"""A whole process graph as a FixedNetwork: its nodes, its input, its answer."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
from lava.magma.core.process.process import AbstractProcess
from lava.proc.conv.process import Conv
from lava.proc.dense.process import DelayDense
from lava.proc.sparse.process import DelaySparse
from numpy.typing import NDArray

from lava_snnlearn.checks import LimitError, at_least, instance_of
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.connection import Connection
from lava_snnlearn.fixed_point.graph import FixedNetwork
from lava_snnlearn.fixed_point.host import HostInput
from lava_snnlearn.fixed_point.population import INPUT, Population
from lava_snnlearn.lava_backend.housekeeping import network_of
from lava_snnlearn.lava_backend.importing.imported import Entry, LavaImport
from lava_snnlearn.lava_backend.importing.neurons import sent_rows
from lava_snnlearn.lava_backend.importing.nodes import GraphImport, Node, inlet
from lava_snnlearn.lava_backend.importing.synapses import matrix_of
from lava_snnlearn.lava_backend.importing.wiring import LavaImportError, described, full_name


def from_lava(process: AbstractProcess, steps: int, *, largest_input: int | None = None) -> LavaImport:
    """Import the process graph that ``process`` belongs to, as its ``fixed_pt`` models compute it.

    Lava's LIF, LIFReset, Dense, Sparse, DelayDense, DelaySparse, Conv and RingBuffers, this library's SoftResetLIF, EPNeuron,
    DelayConnection, SampleSource and Recorder, and containers of these, also lava-dl's netx blocks; connected in whatever way,
    with loops, several inputs, virtual ports and initial states. The processes themselves stay as they are and can be run.
    Neurons that hang together only through sinks are joined by a neuron "tie" that hears and says nothing: all parts of a
    FixedNetwork are connected.

    Args:
        process: any process of the graph; it need not have been compiled.
        steps: T, steps of a run.
        largest_input: largest magnitude of what the sources will send, for runs with other data than their own; None: that of
            their own. Sums have to stay within Lava's int32 for it.

    The graph is imported as it was built: initial values of the Vars, from step 1 on. What it has come to in a run, and values
    that were set in one, are not read; a graph that has been run is imported with a warning. Neurons may do without any input;
    synapses may not.

    Raises:
        LavaImportError: a process, a parameter or a way of connecting that a FixedNetwork does not have, or synapses that
        nothing feeds; the message names it.
        LimitError: a value out of range. TypeError: no Lava process.
    """
    instance_of("process", process, AbstractProcess, "give any process of the graph")
    at_least(1, "steps", steps)
    least = 1 if largest_input is None else at_least(1, "largest_input", largest_input)
    _warn_of_runs(process)
    graph = GraphImport(process, steps)
    if not graph.nodes:
        raise LavaImportError(f"the graph of {described(process)} has neither neurons nor connections; there is nothing to run")
    rows = {full_name(source): sent_rows(source, steps) for source in graph.parts.sources}
    host, entries = _host(graph, rows, least)
    populations = tuple(graph.population(node) for node in graph.nodes)
    connections = graph.connections()
    ties, zeros = _ties(graph.new_name("tie"), populations, connections, host)
    network = FixedNetwork((*populations, *ties), (*connections, *zeros), host, steps, _output(graph))
    _check_sums(graph, network)
    orders = {
        full_name(node.process): (node.process.s_out.shape, node.places) for node in graph.neurons.values() if node.process
    }
    result = LavaImport(
        network=network,
        signal=None,
        populations={full_name(node.process): node.name for node in graph.neurons.values() if node.process},
        sinks={name: tuple(node.name for node, _ in senders) for name, senders in graph.sinks.items()},
        sources={full_name(source): source.s_out.shape for source in graph.parts.sources},
        _rows=rows,
        _entries=entries,
        _orders=orders,
        _networks={steps: network},
        _heard={
            full_name(sink): (
                inlet(sink).shape,
                tuple((node.name, node.places[place]) for node, place in graph.sinks[full_name(sink)]),
            )
            for sink in graph.parts.sinks
        },
    )
    return replace(result, signal=result.encode({}).astype(np.int32)) if entries else result


def _warn_of_runs(process: AbstractProcess) -> None:
    if any(member.runtime is not None for member in network_of(process)):
        warnings.warn(
            f"the graph of {described(process)} has been run: it is imported as it was built, with the initial values of its "
            "Vars, not with those that the run has come to or that were set in it. To import other values, build it anew "
            "with them",
            UserWarning,
            stacklevel=3,
        )


def _host(graph: GraphImport, rows: dict[str, NDArray[np.int64]], largest: int) -> tuple[HostInput, tuple[Entry, ...]]:
    """How the sources become the network's input, and their part of it; ``largest``: what they send at least."""
    if graph.input is not None:
        node, [source] = graph.input, graph.parts.sources
        data = rows[full_name(source)]
        entries = (Entry(full_name(source), np.arange(node.size), node.places),)
        largest = max(largest, int(np.abs(data).max()))
        if data.min() >= 0 and largest == 1:
            return HostInput("spikes", node.size), entries
        return HostInput("graded", node.size, largest=largest), entries
    fed = [node for node in graph.nodes if node.direct] or graph.nodes[:1]
    found, first, least = [], 0, largest
    for node in fed:
        total = np.zeros((graph.steps, node.size), np.int64)
        for feed in node.direct:
            found.append(Entry(full_name(feed.process), feed.place, first + node.places))
            total += rows[full_name(feed.process)][:, feed.place]
        largest = max(largest, least * len(node.direct), int(np.abs(total).max()))
        first += node.size
    return HostInput("current", first, tuple(node.name for node in fed), largest=largest), tuple(found)


def _ties(
    name: str, populations: tuple[Population, ...], connections: list[Connection], host: HostInput
) -> tuple[list[Population], list[Connection]]:
    """What joins parts that only sinks join: weights of 0 by way of one neuron, as a matrix between two parts can be huge."""
    start = host.targets[0] if host.targets else INPUT
    apart = [population for population in populations if population.name not in _reached(connections, start)]
    if not apart:
        return [], []
    size = next((p.size for p in populations if p.name == start), host.size)
    ties = [Connection(start, name, np.zeros((1, size), int))]
    for population in apart:
        if population.name not in _reached([*connections, *ties], start):
            ties.append(Connection(name, population.name, np.zeros((population.size, 1), int)))
    return [Population(name, 1, "lif", vth=limits.THRESHOLD_MAX, du=limits.DECAY_MAX - 1)], ties


def _reached(connections: list[Connection], start: str) -> set[str]:
    reached, before = {start}, 0
    while len(reached) > before:
        before = len(reached)
        for connection in connections:
            ends = {connection.source, connection.target}
            reached |= ends if ends & reached else set()
    return reached


def _output(graph: GraphImport) -> str:
    """The population that answers: the last one that a sink hears, else the last one of neurons."""
    heard: list[Node] = [node for senders in graph.sinks.values() for node, _ in senders]
    return [*graph.relays.values(), *graph.neurons.values(), *heard][-1].name


def _check_sums(graph: GraphImport, network: FixedNetwork) -> None:
    """Sums that Lava makes otherwise than a FixedNetwork: Conv wraps them beyond 24 bits, and delayed ones are shifted last."""
    for process in graph.parts.synapses:
        if isinstance(process, Conv):
            weight, limit = np.asarray(process.weight.init), limits.CONV_SUM_MAX
        elif isinstance(process, (DelayDense, DelaySparse)):
            weight, limit = _clipped(process), limits.CHANNEL_MAX
        else:
            continue
        binary = graph.synapses[process.id][0].binary
        largest = sum(1 if binary else network.largest_sent(node.name) for node, _ in graph.sources_of[process.id])
        reach = int(np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(1).max()) * largest
        if reach > limit:
            raise LimitError(
                f"{described(process)}: its sums can reach {reach}, more than {limit}, beyond which Lava wraps them. Use "
                "smaller weights or payloads"
            )


def _clipped(process: DelayDense | DelaySparse) -> NDArray[np.int64]:
    """Its weights, at most as large as Lava lets them be."""
    return matrix_of(process.weights.init).clip(limits.WEIGHT_MIN, limits.UNSIGNED_WEIGHT_MAX)
