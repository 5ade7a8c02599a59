"""Events of a network, counted sample by sample: spikes, synaptic operations, neuron updates, learning updates.

A synaptic operation (SynOp) is a spike, or a payload other than 0, that comes to a synapse whose weight is not zero; so the
count of a connection is the sum over its sources of the spikes sent times the fan-out. Spikes of a sample's last steps count
as well, though the target may not hear them any more: the chip delivers them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import instance_of
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.engine.signal import chip_input
from lava_snnlearn.fixed_point.fan import fan_out
from lava_snnlearn.fixed_point.graph import INPUT, FixedNetwork, check_network
from lava_snnlearn.fixed_point.trace import Trace

if TYPE_CHECKING:
    from lava_snnlearn.placement import Placement

HELD = 1 << 26
"""Spikes of all populations, steps and samples that are held at a time."""
SentCounts: TypeAlias = dict[str, NDArray[np.int64]]
"""How often each input channel and neuron sent in a sample, int64 [B, n], by source."""


@dataclass(frozen=True, eq=False)
class EventCounts:
    """Exact counts for each of B samples; a value that all samples share is an int.

    Attributes:
        samples: B.
        spikes: per population that sends, int64 [B]; payloads of 0 are no spikes.
        input_events: int64 [B], spikes or payloads other than 0 that the host sends over connections. An input current is
            held by biases and sends none.
        synops: per connection, int64 [B].
        graded: connections that carry payloads, so that each operation multiplies.
        neuron_updates: per population, its neurons times its active steps.
        messages: int64 [B], spikes times the cores that they go to; None without a placement.
        host_operations: multiplications of the host that make a sample's input current, on no chip.
        synapses: all weights that are not zero, those of the host as well: what an ANN of this shape multiplies in one pass.
        learning_updates: int64 [B], synapses changed by learning on the chip; None if nothing learns.
    """

    samples: int
    spikes: Mapping[str, NDArray[np.int64]]
    input_events: NDArray[np.int64]
    synops: Mapping[str, NDArray[np.int64]]
    graded: tuple[str, ...]
    neuron_updates: Mapping[str, int]
    messages: NDArray[np.int64] | None
    host_operations: int
    synapses: int
    learning_updates: NDArray[np.int64] | None

    @property
    def total_synops(self) -> NDArray[np.int64]:
        """Of all connections, int64 [B]."""
        return sum(self.synops.values(), np.zeros(self.samples, np.int64))

    @property
    def total_spikes(self) -> NDArray[np.int64]:
        """Of all populations, int64 [B]; without those of the input."""
        return sum(self.spikes.values(), np.zeros(self.samples, np.int64))

    def rows(self) -> list[list[str]]:
        """Header and one row a count, as text cells: the mean over samples, and the range."""
        per_sample = {f"spikes of {name}": counts for name, counts in self.spikes.items()}
        per_sample |= {"input events": self.input_events}
        per_sample |= {f"SynOps of {name}": counts for name, counts in self.synops.items()}
        per_sample |= {"SynOps": self.total_synops, "neuron updates": self._constant(sum(self.neuron_updates.values()))}
        if self.messages is not None:
            per_sample["spikes times cores"] = self.messages
        if self.learning_updates is not None:
            per_sample["learning updates"] = self.learning_updates
        return [
            ["events a sample", "mean", "range"],
            *([name, f"{counts.mean():,.1f}", f"{counts.min():,}..{counts.max():,}"] for name, counts in per_sample.items()),
        ]

    def _constant(self, value: int) -> NDArray[np.int64]:
        return np.full(self.samples, value, np.int64)

    def __str__(self) -> str:
        from lava_snnlearn.fixed_point.table import aligned

        return aligned(self.rows())


def synaptic_operations(sent: ArrayLike, fan: ArrayLike) -> NDArray[np.int64]:
    """The counting formula: spikes [B, n] of each source times its synapses [n], summed: int64 [B]."""
    operations: NDArray[np.int64] = np.asarray(sent) @ np.asarray(fan)
    return operations


def count_events(
    network: FixedNetwork,
    x_or_trace: ArrayLike | Trace,
    *,
    x: ArrayLike | None = None,
    placement: Placement | None = None,
    learning_updates: ArrayLike | None = None,
) -> EventCounts:
    """Count the events of each sample.

    Args:
        network: the network.
        x_or_trace: data as for ``emulate``, which are emulated in small batches and not kept; or a Trace with its spikes.
        x: the data that a Trace was made of; needed where spikes come in from outside.
        placement: of this network; then spikes are also counted once for each core that they go to.
        learning_updates: integers [B] of a network that learns, see :func:`lava_snnlearn.on_chip.count_learning_updates`.

    Raises:
        ValueError: a trace without spikes, or of other populations; data that do not fit it or the network.
        TypeError: no FixedNetwork.
    """
    check_network("count_events", network)
    if isinstance(x_or_trace, Trace):
        batches = iter([_sent_by_trace(network, x_or_trace, x)])
    elif x is not None:
        raise ValueError("x belongs to a Trace; pass the data alone, or the Trace and x")
    else:
        batches = _sent_in_batches(network, chip_input(network, x_or_trace))
    fans = {connection.name: (connection.source, fan_out(connection)) for connection in network.connections}
    tallies = [_tally(network, sent, fans, placement) for sent in batches]
    counts = {kind: np.concatenate([tally[kind] for tally in tallies]) for kind in tallies[0]}
    samples = len(counts[INPUT, INPUT])
    return EventCounts(
        samples=samples,
        spikes={p.name: counts["spikes", p.name] for p in network.populations if p.spiking},
        input_events=counts[INPUT, INPUT],
        synops={name: counts["synops", name] for name in fans},
        graded=tuple(c.name for c in network.connections if _has_payload(network, c.source)),
        neuron_updates={p.name: p.size * network.steps for p in network.populations},
        messages=counts.get(("messages", INPUT)),
        host_operations=_host_operations(network, x_or_trace if x is None else x),
        synapses=sum(int(fan.sum()) for _, fan in fans.values()) + _host_synapses(network),
        learning_updates=None if learning_updates is None else _updates(learning_updates, samples),
    )


def _tally(
    network: FixedNetwork, sent: SentCounts, fans: Mapping[str, tuple[str, NDArray[np.int64]]], placement: Placement | None
) -> dict[tuple[str, str], NDArray[np.int64]]:
    """Counts [B] by (kind, name); ``fans``: connection -> (source, its fan-out)."""
    counts = {("spikes", name): times.sum(axis=1) for name, times in sent.items() if name != INPUT}
    heard = any(source == INPUT for source, _ in fans.values())
    counts[INPUT, INPUT] = sent[INPUT].sum(axis=1) * int(heard)
    counts |= {("synops", name): synaptic_operations(sent[source], fan) for name, (source, fan) in fans.items()}
    if placement is not None:
        counts["messages", INPUT] = _messages(sent, placement)
    return counts


def _has_payload(network: FixedNetwork, source: str) -> bool:
    return network.host.form == "graded" if source == INPUT else network.population(source).sends_payloads


def _sent_in_batches(network: FixedNetwork, signal: NDArray[np.integer]) -> Iterator[SentCounts]:
    """Of the chip's input [T or 1, B, n], some samples at a time."""
    neurons = sum(population.size for population in network.populations)
    for part in _batches(signal, max(1, HELD // (network.steps * neurons))):
        trace = emulate(network, part, record="spikes")
        yield {INPUT: _arrivals(part, network.steps)} | {name: _times(spikes) for name, spikes in trace.spikes.items()}


def _batches(signal: NDArray[np.integer], size: int) -> Iterator[NDArray[np.integer]]:
    """Some samples at a time; those of static input as [B, n], one step of it."""
    for at in range(0, signal.shape[1], size):
        part = signal[:, at : at + size]
        yield part[0] if len(signal) == 1 else part


def _arrivals(signal: NDArray[np.integer], steps: int) -> NDArray[np.int64]:
    """How often each channel was not 0, int64 [B, n], of [T, B, n] or static [B, n]."""
    return _times(signal) if signal.ndim == 3 else (signal != 0).astype(np.int64) * steps


def _times(sent: NDArray[np.generic]) -> NDArray[np.int64]:
    """Of [T, B, n] how often it is not 0 over T, int64 [B, n]."""
    counts = np.zeros(sent.shape[1:], np.int64)
    for step in sent:
        counts += step != 0
    return counts


def _sent_by_trace(network: FixedNetwork, trace: Trace, x: ArrayLike | None) -> SentCounts:
    """Of what was recorded."""
    wanted = {p.name: p.size for p in network.populations if p.spiking}
    samples = len(trace.outputs)
    found = {name: np.shape(spikes) for name, spikes in trace.spikes.items()}
    if found != {name: (network.steps, samples, size) for name, size in wanted.items()}:
        raise ValueError(
            f"the trace holds spikes of the shapes {found}, but this network has populations {wanted} and {network.steps} "
            "steps; emulate it with record='all' or 'spikes'"
        )
    if x is None:
        if any(connection.source == INPUT for connection in network.connections):
            raise ValueError("spikes come in from outside, and a trace does not hold them; pass the data as x=...")
        arrived = np.zeros((samples, network.host.size), np.int64)
    else:
        arrived = np.concatenate([_arrivals(part, network.steps) for part in _batches(chip_input(network, x), samples)])
        if len(arrived) != samples:
            raise ValueError(f"x has {len(arrived)} samples, but the trace has {samples}")
    return {INPUT: arrived} | {name: _times(spikes) for name, spikes in trace.spikes.items()}


def _messages(sent: SentCounts, placement: Placement) -> NDArray[np.int64]:
    """Spikes times the cores that they go to."""
    for name, counts in sent.items():
        if name not in placement.destinations or len(placement.destinations[name]) != counts.shape[1]:
            raise ValueError(f"the placement is of another network: it has no {name!r} of {counts.shape[1]}; place this one")
    return sum(
        (synaptic_operations(counts, placement.destinations[name]) for name, counts in sent.items()),
        np.zeros(len(sent[INPUT]), np.int64),
    )


def _host_synapses(network: FixedNetwork) -> int:
    """Weights of the host's product that are not zero, laid out."""
    host = network.host
    if host.weight is None:
        return 0
    if host.geometry is None:
        return int(np.count_nonzero(host.weight))
    from lava_snnlearn.fixed_point.convolution import synapse_count

    return synapse_count(np.asarray(host.weight), host.geometry)


def _host_operations(network: FixedNetwork, x: ArrayLike | Trace) -> int:
    """Multiplications that make a sample's current: once for a static sample, else in each step; none of integers."""
    if network.host.weight is None or isinstance(x, Trace) or np.asarray(x).dtype.kind != "f":
        return 0
    return _host_synapses(network) * (network.steps if np.ndim(x) == 3 or network.host.encoding != "direct" else 1)


def _updates(values: ArrayLike, samples: int) -> NDArray[np.int64]:
    updates = np.asarray(values)
    instance_of("learning_updates", values, (np.ndarray, list, tuple), "pass integers, one a sample")
    if updates.shape != (samples,) or updates.dtype.kind not in "iu" or updates.min() < 0:
        raise ValueError(
            f"learning_updates has shape {updates.shape} and dtype {updates.dtype}; expected integers >= 0, {samples} of them"
        )
    return updates.astype(np.int64)
