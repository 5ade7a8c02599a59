"""The emulator of a FixedReasoner: queries in batches, in exact integers, equal to Lava's fixed_pt simulation bit for bit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import LimitError, at_least, instance_of, known_name, within
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.arithmetic import bias_current
from lava_snnlearn.fixed_point.reasoner import FixedReasoner
from lava_snnlearn.fixed_point.reasoner_kernels import add_messages, add_products, advance, multiply
from lava_snnlearn.fixed_point.reasoner_trace import ReasonerTrace
from lava_snnlearn.graphs.graph import Graph

RECORDS = ("all", "charged", "outputs", "spikes")
CACHED_NEURONS = 1 << 16
"""Neurons of all samples of a batch that advance together: their states stay in the processor's cache."""
TABLE_ENTRIES = 1 << 26
"""Entries of the distinct queries' synapses (exact mapping with relation weights) that are held at a time."""


def emulate_reasoner(
    fixed: FixedReasoner,
    graph: Graph,
    source: ArrayLike,
    query: ArrayLike,
    *,
    record: str = "outputs",
    threads: int | None = None,
) -> ReasonerTrace:
    """Run queries (source, query, ?) on a graph in exact integers.

    Args:
        fixed: the reasoner. graph: of its relations.
        source: node of each query, integers [B]. query: its relation, integers [B].
        record: "outputs"; "spikes"; "all", spikes and membranes; or "charged", spikes and membranes before the reset.
        threads: how many work at a time; None: one a processor, at most OMP_NUM_THREADS if that is set. Results do not depend
            on it.

    Returns:
        ReasonerTrace, equal to that of Lava's simulation on the same input, bit for bit.

    Raises:
        LimitError: no such node or relation, sums that Lava's 32 bits cannot hold. ValueError: an empty batch, another graph.
        UnknownNameError: an unknown record. TypeError: another kind of object.
    """
    instance_of("reasoner", fixed, FixedReasoner, "quantize a GraphReasoner first")
    known_name("record", record, RECORDS)
    fixed.check_graph(graph)
    sources, queries = checked_queries(graph, source, query)
    trace = _empty_trace(fixed, graph, len(sources), record)
    workers = _workers() if threads is None else at_least(1, "threads", threads)
    jobs = list(_parts(fixed, graph, queries, workers))
    work = partial(_run, fixed, graph, sources, queries, trace)
    if min(workers, len(jobs)) <= 1:
        counts = [work(job) for job in jobs]
    else:
        with ThreadPoolExecutor(min(workers, len(jobs))) as pool:
            counts = list(pool.map(work, jobs))
    return replace(trace, saturated=sum(count[0] for count in counts), wrapped=sum(count[1] for count in counts))


def checked_queries(graph: Graph, source: ArrayLike, query: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sources and query relations as int64 [B], refused as :func:`emulate_reasoner` says."""
    sources, queries = _indices("source", source, graph.nodes), _indices("query", query, graph.relations)
    if len(sources) != len(queries):
        raise ValueError(f"source has {len(sources)} entries and query {len(queries)}; give one of each for every query")
    return sources, queries


def pair_scores(
    fixed: FixedReasoner, graph: Graph, first: ArrayLike, second: ArrayLike, *, threads: int | None = None
) -> NDArray[np.int64]:
    """Scores int64 [B] of pairs of nodes of a homogeneous graph: features first -> second and second -> first added up.

    Raises:
        ValueError: the reasoner is not homogeneous; otherwise as :func:`emulate_reasoner`.
    """
    instance_of("reasoner", fixed, FixedReasoner, "quantize a GraphReasoner first")
    if not fixed.homogeneous:
        raise ValueError("pair_scores is for homogeneous reasoners; emulate_reasoner has the scores of the others")
    ends = _indices("first", first, graph.nodes), _indices("second", second, graph.nodes)
    if len(ends[0]) != len(ends[1]):
        raise ValueError(f"first has {len(ends[0])} entries and second {len(ends[1])}; give one of each for every pair")
    nodes, place = np.unique(np.concatenate(ends), return_inverse=True)
    sums = np.zeros((len(ends[0]), fixed.width), np.int64)
    step = max(1, CACHED_NEURONS * 64 // (graph.nodes * fixed.width))
    one, other = place[: len(sums)], place[len(sums) :]
    for at in range(0, len(nodes), step):
        part = nodes[at : at + step]
        features = emulate_reasoner(fixed, graph, part, np.zeros(len(part), np.int64), threads=threads).features
        for origin, end in ((one, ends[1]), (other, ends[0])):
            here = np.flatnonzero((origin >= at) & (origin < at + step))
            sums[here] += features[origin[here] - at, end[here]]
    zeros = np.zeros(len(sums), np.int64)
    scores: NDArray[np.int64] = fixed.head.scores(sums[:, None, :], zeros)[:, 0]
    return scores


@dataclass(frozen=True)
class _Tables:
    """What a part's distinct queries bring: delays [Q, R, D], factors [Q, R, D] (int32) or matrices [Q, R, D, D] (int32)."""

    delays: NDArray[np.int64]
    factors: NDArray[np.int32]
    matrices: NDArray[np.int32] | None

    @classmethod
    def of(cls, fixed: FixedReasoner, queries: NDArray[np.int64]) -> _Tables:
        delays = np.stack([fixed.delay_table(int(q)) for q in queries])
        if fixed.mapping == "staged":
            factors = np.stack([fixed.stage(int(q)) for q in queries]).astype(np.int32)
            return cls(delays, factors, None)
        ones = np.ones(delays.shape, np.int32)
        if fixed.relation_weight is None:
            return cls(delays, ones, None)
        matrices = np.stack([fixed.synapses(int(q)).transpose(0, 2, 1) for q in queries])
        return cls(delays, ones, np.ascontiguousarray(matrices, dtype=np.int32))


def _indices(name: str, values: ArrayLike, count: int) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iu" or not array.size:
        raise ValueError(f"{name} has shape {array.shape} and dtype {array.dtype}; expected integers [B], B >= 1")
    index = array.astype(np.int64)
    within(name, index, 0, count - 1, f"There are {count}, counted from 0.")
    return index


def _empty_trace(fixed: FixedReasoner, graph: Graph, samples: int, record: str) -> ReasonerTrace:
    shape = (samples, graph.nodes, fixed.width)
    return ReasonerTrace(
        features=np.zeros(shape, np.int64),
        scores=np.zeros(shape[:2], np.int64),
        spike_counts=np.zeros(shape[:2], np.int64),
        spikes=None if record == "outputs" else np.zeros((fixed.steps, *shape), np.uint8),
        membranes=np.zeros((fixed.steps, *shape), np.int32) if record == "all" else None,
        charged=np.zeros((fixed.steps, *shape), np.int32) if record == "charged" else None,
        aggregates=np.zeros(samples, np.int64) if fixed.mapping == "staged" else None,
    )


def _workers() -> int:
    available = len(os.sched_getaffinity(0))
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(available, int(asked))) if asked.isdigit() else available


def _parts(fixed: FixedReasoner, graph: Graph, queries: NDArray[np.int64], workers: int) -> Iterator[slice]:
    """Samples that are computed together: as many as the cache takes, and no more than give every thread something to do."""
    most = CACHED_NEURONS // (graph.nodes * fixed.width)
    if fixed.mapping == "exact" and fixed.relation_weight is not None:
        most = min(most, TABLE_ENTRIES // (fixed.relations * fixed.width**2))
    size = max(1, min(most, -(-len(queries) // workers)))
    for first in range(0, len(queries), size):
        yield slice(first, min(first + size, len(queries)))


def _run(
    fixed: FixedReasoner,
    graph: Graph,
    sources: NDArray[np.int64],
    queries: NDArray[np.int64],
    trace: ReasonerTrace,
    part: slice,
) -> tuple[int, int]:
    """Compute some samples, write what they did into ``trace``; returns clipped and wrapped neuron-steps."""
    source, query = sources[part], queries[part]
    shape = (len(source), graph.nodes, fixed.width)
    spikes = np.zeros((fixed.steps, *shape), np.uint8)
    arrivals = _Arrivals(fixed, graph, query, spikes)
    bias = bias_current(np.asarray(fixed.bias)[query], fixed.bias_exp)
    current, membrane = np.zeros((2, *shape), np.int32)
    charged = np.zeros(shape if trace.charged is not None else (1, 1, fixed.width), np.int32)
    kept = (charged, trace.features[part], trace.spike_counts[part], arrivals.active)
    seen = np.zeros(3, np.int64)
    for t, decode in enumerate(np.asarray(fixed.decode).tolist()):
        heard = arrivals.at(t)
        advance(current, membrane, heard, source, bias, fixed.du, fixed.dv, fixed.vth, t, decode, spikes[t], *kept, seen)
        if seen[2] > limits.FILTERED_INPUT_MAX:
            raise LimitError(
                f"a synaptic sum of step {t} is {seen[2]} weight units, Lava's LIF takes {limits.FILTERED_INPUT_MAX} at most; "
                "quantize with a smaller scale"
            )
        if trace.membranes is not None:
            trace.membranes[t, part] = membrane
        if trace.charged is not None:
            trace.charged[t, part] = charged
    if trace.spikes is not None:
        trace.spikes[:, part] = spikes
    if trace.aggregates is not None:
        trace.aggregates[part] = arrivals.aggregates
    trace.scores[part] = _scores(fixed, trace.features[part], trace.spike_counts[part] > 0, query)
    return int(seen[0]), int(seen[1])


def _scores(
    fixed: FixedReasoner, features: NDArray[np.int64], reached: NDArray[np.bool_], query: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Scores [B, N]; all nodes that no spike reached (bool [B, N]) have the same one."""
    both = 2 if fixed.homogeneous else 1
    scores = np.repeat(fixed.head.scores(np.zeros((len(query), 1, fixed.width), np.int64), query), reached.shape[1], axis=1)
    sample, node = np.nonzero(reached)
    scores[sample, node] = fixed.head.scores(both * features[sample, node][:, None], query[sample])[:, 0]
    return scores


class _Arrivals:
    """Synaptic sums of one part of the samples, step by step."""

    def __init__(self, fixed: FixedReasoner, graph: Graph, query: NDArray[np.int64], spikes: NDArray[np.uint8]) -> None:
        self.fixed, self.spikes = fixed, spikes
        distinct, self.row = np.unique(query, return_inverse=True)
        self.tables = _Tables.of(fixed, distinct)
        self.longest = int(self.tables.delays.max())
        self.edges = (graph.pair_source, graph.pair_relation, graph.pair_first, np.asarray(graph.target))
        self.active = np.full(spikes.shape[1:3], -1, np.int32)
        self.aggregates = np.zeros(len(query), np.int64)
        self._message, self._product = np.zeros((2, fixed.width), np.int32)
        self._ones = np.ones(fixed.width, np.int32)
        self._collected, self._total = np.zeros((2, *spikes.shape[1:]), np.int32)
        self._weight = _transposed(fixed.weight)
        self._self_weight = None if fixed.self_weight is None else _transposed(fixed.self_weight)
        self._offset = 0 if fixed.offset is None else np.asarray(fixed.offset, dtype=np.int32) << fixed.offset_exp

    def at(self, t: int) -> NDArray[np.int32]:
        """Sums [B, N, D] in weight units that arrive at step t."""
        total = self._total
        if t == 0:
            total[:] = 0
            return total
        total[:] = self._offset
        self._collect(t)
        if self._self_weight is not None:
            multiply(self.spikes[t - 1], self._self_weight, self.fixed.self_exp, total)
        return total

    def _collect(self, t: int) -> None:
        now, collected = t - self.fixed.hop, self._collected
        if now < 0:
            return
        common = (self.spikes, now, self.longest, self.active, self.row, self.tables.delays)
        if self.tables.matrices is not None:
            add_products(*common, self.tables.matrices, *self.edges, self._ones, self._message, self._product, self._total)
            return
        collected[:] = 0
        add_messages(*common, self.tables.factors, *self.edges, self._message, collected)
        self.aggregates += np.count_nonzero(collected, axis=(1, 2))
        multiply(collected, self._weight, 0, self._total)


def _transposed(weight: Any) -> NDArray[np.int32]:
    return np.ascontiguousarray(np.asarray(weight, dtype=np.int32).T)
