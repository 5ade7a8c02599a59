"""The emulator: a FixedNetwork run on batches in exact integers, equal to Lava's fixed_pt simulation bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import known_name
from lava_snnlearn.fixed_point.arithmetic import NeuronStep, bias_current, soft_reset_step, zero_reset_step
from lava_snnlearn.fixed_point.graph import INPUT, Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.trace import Trace

RECORDS = ("all", "outputs", "spikes")
BATCH = 256
"""Samples emulated at a time; results do not depend on it (each sample is on its own)."""
FLOAT32_EXACT = 1 << 24
FLOAT64_EXACT = 1 << 53


def exact_dtype(bound: int) -> type[np.generic]:
    """The fastest dtype in which a sum of integers of magnitude below ``bound`` is exact in any order of summation."""
    if bound < FLOAT32_EXACT:
        return np.float32
    return np.float64 if bound < FLOAT64_EXACT else np.int64


@dataclass(frozen=True)
class Product:
    """A connection's matrices, one a distinct delay, in the fastest exact dtype."""

    source: str
    exponent: int
    dtype: type[np.generic]
    parts: tuple[tuple[int, NDArray[Any]], ...]

    @classmethod
    def of(cls, connection: Connection, largest_input: int) -> Product:
        """Prepare ``connection`` for inputs of magnitude up to ``largest_input``."""
        weight, delay = np.asarray(connection.weight, dtype=np.int64), np.asarray(connection.delay)
        dtype = exact_dtype(connection.bound(largest_input) >> connection.exponent)
        parts = tuple((int(d), np.ascontiguousarray(np.where(delay == d, weight, 0).T).astype(dtype)) for d in np.unique(delay))
        return cls(connection.source, connection.exponent, dtype, parts)

    def apply(self, matrix: NDArray[Any], inputs: NDArray[Any]) -> NDArray[np.int64]:
        """Synaptic sums [..., n_target] for inputs [..., n_source]."""
        flat = inputs.reshape(-1, inputs.shape[-1]).astype(self.dtype)
        total = (flat @ matrix).astype(np.int64) << self.exponent
        return total.reshape(*inputs.shape[:-1], matrix.shape[1])


@dataclass
class _Record:
    """What one population did in a batch: spikes, membranes [T, B, n]; the last membrane [B, n]; clipped neuron-steps."""

    spikes: NDArray[np.uint8]
    membranes: NDArray[np.int32] | None
    last: NDArray[np.int64]
    saturated: int = 0


@dataclass
class _Batch:
    """One batch on its way through the network."""

    network: FixedNetwork
    signal: NDArray[np.int32]
    keep_membranes: bool
    products: dict[str, list[Product]]
    records: dict[str, _Record] = field(default_factory=dict)

    def prepare(self, population: Population) -> None:
        shape = (self.network.steps, self.signal.shape[1], population.size)
        self.records[population.name] = _Record(
            np.zeros(shape, np.uint8),
            np.zeros(shape, np.int32) if self.keep_membranes else None,
            np.full(shape[1:], population.v_init, np.int64),
        )

    def current(self, population: Population, first: int, last: int) -> NDArray[np.int64]:
        """Input [last - first, B, n] of the population's active steps first .. last - 1."""
        total = np.zeros((last - first, self.signal.shape[1], population.size), np.int64)
        if self.network.host.target == population.name:
            total += self.signal[first:last]
        for product in self.products[population.name]:
            start = 0 if product.source == INPUT else self.network.population(product.source).t_start
            sent = self.signal if product.source == INPUT else self.records[product.source].spikes
            for delay, matrix in product.parts:
                # Active step i of the target is step t_start + i; it hears what the source sent 1 + delay steps before.
                shift = population.t_start - 1 - delay - start
                low, high = max(first, -shift), min(last, self.network.steps - shift)
                if low < high:
                    total[low - first : high - first] += product.apply(matrix, sent[low + shift : high + shift])
        return total

    def advance(self, population: Population, first: int, current: NDArray[np.int64]) -> None:
        """Run the population's active steps from ``first`` on, one for each row of ``current``."""
        record, neuron = self.records[population.name], stepper(population)
        for t, now in enumerate(current, start=first):
            result = neuron(record.last, now)
            record.last = result.membrane
            record.saturated += int(result.saturated.sum())
            if population.spiking:
                record.spikes[t] = result.spike
            if record.membranes is not None:
                record.membranes[t] = result.membrane


def stepper(population: Population) -> Callable[[NDArray[Any], NDArray[Any]], NeuronStep]:
    """The integer step (membrane, current) -> NeuronStep of a population."""
    bias = bias_current(np.asarray(population.bias_mant), population.bias_exp)
    if population.kind == "lif":
        return lambda v, a: zero_reset_step(v, a, dv=population.dv, bias=bias, vth=population.vth)
    delta = population.delta if population.spiking else 0
    assert delta is not None
    return lambda v, a: soft_reset_step(v, a, dv=population.dv, bias=bias, vth=population.vth, delta=delta)


def topological_order(network: FixedNetwork) -> list[Population] | None:
    """Populations so that every source comes before its targets; None if the graph has a cycle."""
    waiting = list(network.populations)
    done: list[Population] = []
    while waiting:
        names = {population.name for population in waiting}
        ready = [p for p in waiting if not any(c.source in names for c in network.incoming(p.name))]
        if not ready:
            return None
        done += ready
        waiting = [p for p in waiting if p not in ready]
    return done


def emulate(network: FixedNetwork, x: ArrayLike, *, record: str = "all") -> Trace:
    """Run a network on a batch in exact integers.

    Args:
        network: the network.
        x: data, floats [B, features] or [T, B, features]; or integers that are taken as the chip's own input.
        record: "all", "spikes" (no membranes) or "outputs" (neither spikes nor membranes; least memory).

    Returns:
        Trace, equal to that of ``run_lava`` on the same input, bit for bit.

    Raises:
        ValueError, TypeError: input that does not fit; see :meth:`lava_snnlearn.fixed_point.host.HostInput.encode`.
        UnknownNameError: an unknown record.
    """
    if not isinstance(network, FixedNetwork):
        raise TypeError(f"emulate takes a FixedNetwork, got {type(network).__name__}; quantize a torch network first")
    known_name("record", record, RECORDS)
    signal = network.encode(x)
    products = {
        p.name: [Product.of(c, network.largest_input if c.source == INPUT else 1) for c in network.incoming(p.name)]
        for p in network.populations
    }
    parts = [_emulate_batch(network, signal[:, at : at + BATCH], record, products) for at in range(0, signal.shape[1], BATCH)]
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    return Trace(
        spikes={name: np.concatenate([part.spikes[name] for part in parts], axis=1) for name in first.spikes},
        membranes={name: np.concatenate([part.membranes[name] for part in parts], axis=1) for name in first.membranes},
        outputs=np.concatenate([part.outputs for part in parts]),
        saturated={name: sum(part.saturated[name] for part in parts) for name in first.saturated},
    )


def _emulate_batch(network: FixedNetwork, signal: NDArray[np.int32], record: str, products: dict[str, list[Product]]) -> Trace:
    batch = _Batch(network, signal, record == "all", products)
    for population in network.populations:
        batch.prepare(population)
    order = topological_order(network)
    if order is not None:
        for population in order:
            batch.advance(population, 0, batch.current(population, 0, network.steps))
    else:
        _advance_together(batch)
    final = batch.records[network.output]
    spiking = network.population(network.output).spiking
    return Trace(
        spikes={p.name: batch.records[p.name].spikes for p in network.populations if p.spiking and record != "outputs"},
        membranes={name: kept.membranes for name, kept in batch.records.items() if kept.membranes is not None},
        outputs=final.spikes.sum(axis=0, dtype=np.int64) if spiking else final.last.copy(),
        saturated={name: kept.saturated for name, kept in batch.records.items()},
    )


def _advance_together(batch: _Batch) -> None:
    """Recurrent graphs: all populations advance by one step at a time."""
    for step in range(batch.network.period):
        due = [(p, step - p.t_start) for p in batch.network.populations if 0 <= step - p.t_start < batch.network.steps]
        currents = [batch.current(population, t, t + 1) for population, t in due]
        for (population, t), current in zip(due, currents, strict=True):
            batch.advance(population, t, current)
