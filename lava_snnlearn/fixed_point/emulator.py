"""The emulator: a FixedNetwork run on batches in exact integers, equal to Lava's fixed_pt simulation bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import known_name
from lava_snnlearn.fixed_point.arithmetic import NeuronStep, bias_current, graded_step, soft_reset_step, zero_reset_step
from lava_snnlearn.fixed_point.convolution import ConvShape, convolve
from lava_snnlearn.fixed_point.graph import INPUT, Connection, FixedNetwork, Population, check_network
from lava_snnlearn.fixed_point.trace import Trace

RECORDS = ("all", "outputs", "spikes")
BATCH = 256
"""Largest number of samples emulated at a time; results do not depend on it (each sample is on its own)."""
CACHED_NEURONS = 1 << 18
"""Neurons of all samples of a batch that advance together: their states (2 MB an array) stay near the processor."""
SLAB = 1 << 20
"""Synaptic sums (of all samples and some steps) that are held at a time."""
SPIKES = 1 << 28
"""Spikes (of all samples, steps and populations) that are held at a time for populations that come later."""
FLOAT32_EXACT = 1 << 24
FLOAT64_EXACT = 1 << 53


def exact_dtype(bound: int) -> type[np.generic]:
    """The fastest dtype in which a sum of integers of magnitude below ``bound`` is exact in any order of summation."""
    if bound < FLOAT32_EXACT:
        return np.float32
    return np.float64 if bound < FLOAT64_EXACT else np.int64


@dataclass(frozen=True)
class Product:
    """A connection's weights in the fastest exact dtype: a matrix [n_source, n_target] or kernel where all delays are equal
    (``delay`` an int), else [n_target, n_source] with delays [n_target, n_source]."""

    source: str
    exponent: int
    dtype: type[np.generic]
    weight: NDArray[Any]
    delay: int | NDArray[np.int64]
    geometry: ConvShape | None = None

    @classmethod
    def of(cls, connection: Connection, largest_input: int) -> Product:
        """Prepare ``connection`` for inputs of magnitude up to ``largest_input``."""
        weight, delay = np.asarray(connection.weight, dtype=np.int64), np.asarray(connection.delay)
        dtype = exact_dtype(connection.bound(largest_input) >> connection.exponent)
        common = connection.source, connection.exponent, dtype
        if connection.geometry is not None:
            return cls(*common, weight.astype(dtype), int(delay), connection.geometry)
        if delay.min() == delay.max():
            return cls(*common, np.ascontiguousarray(weight.T).astype(dtype), int(delay.min()))
        return cls(*common, weight.astype(dtype), delay.astype(np.int64))

    def apply(self, inputs: NDArray[Any]) -> NDArray[np.int64]:
        """Synaptic sums [..., n_target] for inputs [..., n_source] that all arrive together."""
        flat = inputs.reshape(-1, inputs.shape[-1])
        product = flat.astype(self.dtype) @ self.weight if self.geometry is None else convolve(flat, self.weight, self.geometry)
        return (product.astype(np.int64) << self.exponent).reshape(*inputs.shape[:-1], product.shape[1])


class _Rows:
    """What a connection with mixed delays has heard of a batch, a row a source neuron: uint8 [n_source, steps, B].

    ``shift``: at its active step i, the target hears what the source sent in step i + shift - delay.
    """

    def __init__(self, product: Product, sent: NDArray[Any], shift: int) -> None:
        delay, (steps, batch, sources) = np.asarray(product.delay), sent.shape
        self.product, self.sent, self.shortest = product, sent, int(delay.min()) - shift
        # Nothing was sent before step 0 and behind the last one; the target may listen there.
        self.front = max(0, int(delay.max()) - shift)
        self.rows = np.zeros((sources, self.front + steps + max(0, -self.shortest), batch), np.uint8)
        self.offset = (self.front + shift - delay) * batch
        self.known = 0

    def currents(self, first: int, last: int) -> NDArray[np.int64]:
        """Synaptic sums [last - first, B, n_target] in the target's active steps first .. last - 1; they come in order."""
        # Here, not above: graphs without mixed delays need no compiler.
        from lava_snnlearn.neurons.delay_kernels import delayed_sums

        known = min(max(last - self.shortest, self.known), len(self.sent))
        new = slice(self.front + self.known, self.front + known)
        self.rows[:, new] = self.sent[self.known : known].transpose(2, 0, 1)
        self.known = known
        batch, product = self.rows.shape[2], self.product
        flat, columns = self.rows.reshape(len(self.rows), -1), (last - first) * batch
        summed = delayed_sums(flat, product.weight, self.offset + first * batch, columns)
        return (summed.T.astype(np.int64) << product.exponent).reshape(last - first, batch, -1)


@dataclass
class _Record:
    """What one population did in a batch: spikes (or payloads) and membranes [T, B, n]; the last membrane [B, n]; clipped
    neuron-steps."""

    spikes: NDArray[np.uint8]
    membranes: NDArray[np.int32] | None
    last: NDArray[np.int64]
    saturated: int = 0


@dataclass
class _Batch:
    """One batch on its way through the network."""

    network: FixedNetwork
    signal: NDArray[np.int32]
    products: dict[str, list[Product]]
    records: dict[str, _Record]
    rows: dict[tuple[str, str], _Rows] = field(default_factory=dict)
    ahead: dict[str, tuple[int, NDArray[np.int64]]] = field(default_factory=dict)

    def slab(self, population: Population) -> int:
        """Steps whose sums are held at a time."""
        return max(1, SLAB // (self.signal.shape[1] * population.size))

    def current(self, population: Population, first: int, last: int) -> NDArray[np.int64]:
        """Input [last - first, B, n] of the population's active steps first .. last - 1; they come in order."""
        total = self._fed(population, first, last)
        for product in self.products[population.name]:
            if product.source != INPUT:
                self._add(total, product, population, first)
        return total

    def _fed(self, population: Population, first: int, last: int) -> NDArray[np.int64]:
        """What comes from outside; known beforehand, it is made for many steps at a time also where others go step by step."""
        begin, sums = self.ahead.get(population.name, (0, np.zeros((0, 0, 0), np.int64)))
        if last > begin + len(sums):
            begin, end = first, max(last, min(first + self.slab(population), self.network.steps))
            sums = np.zeros((end - begin, self.signal.shape[1], population.size), np.int64)
            part = self.network.current_part(population.name)
            if part is not None:
                sums += self.signal[begin:end, :, part]
            for product in self.products[population.name]:
                if product.source == INPUT:
                    self._add(sums, product, population, begin)
            self.ahead[population.name] = begin, sums
        return sums[first - begin : last - begin]

    def _add(self, total: NDArray[np.int64], product: Product, population: Population, first: int) -> None:
        """Add a connection's sums to those of the population's active steps from ``first`` on, a row a step."""
        last = first + len(total)
        start = 0 if product.source == INPUT else self.network.population(product.source).t_start
        sent = self.signal if product.source == INPUT else self.records[product.source].spikes
        # Active step i of the target is step t_start + i; it hears what the source sent 1 + delay steps before.
        shift = population.t_start - 1 - start
        if not isinstance(product.delay, int):
            ends = product.source, population.name
            if ends not in self.rows:
                self.rows[ends] = _Rows(product, sent, shift)
            total += self.rows[ends].currents(first, last)
            return
        shift -= product.delay
        low, high = max(first, -shift), min(last, self.network.steps - shift)
        if low < high:
            heard = sent[low + shift : high + shift]
            # Static input is a view of one step: its sums are those of every step.
            heard = heard[:1] if heard.strides[0] == 0 else heard
            total[low - first : high - first] += product.apply(heard)

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
    if population.kind == "graded":
        return lambda v, a: _sent(graded_step(v, a, bias=bias, shift=population.shift, top=population.top))
    delta = population.delta if population.spiking else 0
    assert delta is not None
    return lambda v, a: soft_reset_step(v, a, dv=population.dv, bias=bias, vth=population.vth, delta=delta)


def _sent(state: NDArray[np.int64]) -> NeuronStep:
    """A graded neuron sends its state, which no register clips."""
    return NeuronStep(state, state, np.zeros(state.shape, dtype=bool))


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
    check_network("emulate", network)
    known_name("record", record, RECORDS)
    signal = network.encode(x)
    products = {
        p.name: [Product.of(c, network.largest_sent(c.source)) for c in network.incoming(p.name)] for p in network.populations
    }
    shape = (network.steps, signal.shape[1])
    spikes = {p.name: np.zeros((*shape, p.size), np.uint8) for p in network.populations if p.spiking and record != "outputs"}
    membranes = {p.name: np.zeros((*shape, p.size), np.int32) for p in network.populations if record == "all"}
    outputs: list[NDArray[np.int64]] = []
    saturated = dict.fromkeys((p.name for p in network.populations), 0)
    size = _batch_size(network)
    for at in range(0, shape[1], size):
        columns = slice(at, at + size)
        part = signal[:, columns]
        records = {
            p.name: _Record(
                spikes[p.name][:, columns] if p.name in spikes else np.zeros((len(part), part.shape[1], p.size), np.uint8),
                membranes[p.name][:, columns] if p.name in membranes else None,
                np.full((part.shape[1], p.size), p.v_init, np.int64),
            )
            for p in network.populations
        }
        _run(_Batch(network, part, products, records))
        final = records[network.output]
        counted = network.population(network.output).counted
        outputs.append(final.spikes.sum(axis=0, dtype=np.int64) if counted else final.last)
        for name, kept in records.items():
            saturated[name] += kept.saturated
    return Trace(spikes=spikes, membranes=membranes, outputs=np.concatenate(outputs), saturated=saturated)


def _batch_size(network: FixedNetwork) -> int:
    """Samples at a time: few where layers are large, so that states stay in the cache and spikes in memory."""
    sizes = [population.size for population in network.populations]
    return max(1, min(BATCH, CACHED_NEURONS // max(sizes), SPIKES // (network.steps * sum(sizes))))


def _run(batch: _Batch) -> None:
    """All steps of all populations: one population after the other, or step by step where the graph has a cycle."""
    steps = batch.network.steps
    order = topological_order(batch.network)
    if order is None:
        _advance_together(batch)
        return
    for population in order:
        slab = batch.slab(population)
        for first in range(0, steps, slab):
            batch.advance(population, first, batch.current(population, first, min(first + slab, steps)))


def _advance_together(batch: _Batch) -> None:
    """Recurrent graphs: all populations advance by one step at a time."""
    for step in range(batch.network.period):
        due = [(p, step - p.t_start) for p in batch.network.populations if 0 <= step - p.t_start < batch.network.steps]
        currents = [batch.current(population, t, t + 1) for population, t in due]
        for (population, t), current in zip(due, currents, strict=True):
            batch.advance(population, t, current)
