"""The compiled message passing as one node of autograd's graph, and the memory that it takes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from lava_snnlearn.checks import at_least
from lava_snnlearn.graphs.graph import Graph
from lava_snnlearn.networks.propagation import Propagated, Propagation, Tables
from lava_snnlearn.neurons import message_adjoint, message_kernels
from lava_snnlearn.neurons.message_adjoint import Gradients, Slopes
from lava_snnlearn.neurons.message_kernels import WORD_BITS, Maps, Numbers, Wiring, delay_masks
from lava_snnlearn.neurons.threads import in_threads

_WORTH_A_THREAD = 1 << 16
"""Time steps x (edges + nodes) of all samples: below, starting a thread costs more than it saves."""


def memory_estimate(
    graph: Graph | tuple[int, int],
    width: int,
    *,
    steps: int,
    batch: int,
    relations: int = 1,
    max_delay: int = 4,
    hop: int = 1,
    delay_grad: str = "exact",
    dtype: torch.dtype = torch.float32,
    training: bool = True,
    threads: int | None = None,
) -> int:
    """Bytes that the compiled message passing of ``batch`` queries takes, forward and backward, besides parameters and MLP.

    With E edges, N nodes, R relations, P <= E pairs (relation, source), width D, T steps, B queries, b bytes a number (4 or 8),
    w = ceil(D / 64) words, n threads (at most B), and S = min(T, max_delay + 1 + hop) steps whose gradient is not complete:

        kept for the backward   B T N (b D + 8 w)         membranes, and spikes as bits
        features                2 B N D b                 with their gradient
        tables of delays        B R (4 b D + D + 8 w (max_delay + 1))
        wiring                  4 (E + 4 P)
        scratch                 n N D b (6 + S), with the published trace rule n N D b (6 + S + T)

    Nothing is kept per edge: memory grows with N D T, and time with E D T. It is an upper limit: without w0, nodes that nothing
    reaches take hardly any memory. Without training, membranes are not kept, features
    are B N D b and scratch is 3 n N D b.

    Args:
        graph: or (nodes, edges), whose pairs are then counted as many as its edges.
        relations: R; a graph's own is used.
        threads: None is torch's number of threads.

    Raises:
        TypeError, ValueError: a number that is not whole or below 1 (below 0: edges, max_delay).
    """
    if isinstance(graph, Graph):
        nodes, edges, pairs, relations = graph.nodes, graph.edges, len(graph.pair_source), graph.relations
    else:
        nodes, edges = at_least(1, "nodes", graph[0]), at_least(0, "edges", graph[1])
        pairs = edges
    positive = {"width": width, "steps": steps, "batch": batch, "relations": relations, "hop": hop}
    for name, value in positive.items():
        at_least(1, name, value)
    at_least(0, "max_delay", max_delay)
    number = torch.empty((), dtype=dtype).element_size()
    words = -(-width // WORD_BITS)
    workers = min(batch, torch.get_num_threads() if threads is None else at_least(1, "threads", threads))
    state = nodes * width * number
    total = 8 * batch * steps * nodes * words + 4 * (edges + 4 * pairs)
    total += batch * relations * (width * (4 * number + 1) + 8 * words * (max_delay + 1))
    if not training:
        return total + batch * state + 3 * workers * state
    rows = 6 + min(steps, max_delay + 1 + hop) + (steps if delay_grad == "trace" else 0)
    return total + batch * steps * state + 2 * batch * state + workers * rows * state


def propagate_fused(
    graph: Graph, rule: Propagation, tables: Tables, source: Tensor, row: Tensor, *, record: bool = False
) -> Propagated:
    """As :func:`lava_snnlearn.networks.message_passing.propagate`, for tables in float32 or float64 on the CPU.

    Raises:
        MemoryError: more than this machine has, with the numbers.
    """
    keep = torch.is_grad_enabled() and any(table is not None and table.requires_grad for table in tables)
    if tables.offset is not None:  # without w0 the estimate is far above what nodes take that nothing reaches
        _check_memory(graph, rule, tables.code, len(source), keep)
    call = Call.of(graph, rule, tables, source, row)
    left = call.leave(keep)
    features = Propagate.apply(call, left, *tables) if keep else call.forward(left)
    spikes = _unpack(left.bits, tables.code.shape[1]) if record else None
    return Propagated(features, spikes, int(left.counts.sum()))


def _check_memory(graph: Graph, rule: Propagation, code: Tensor, batch: int, training: bool) -> None:
    def needed(queries: int) -> int:
        return memory_estimate(
            (graph.nodes, graph.edges), code.shape[1], steps=rule.steps, batch=queries, relations=graph.relations,
            max_delay=rule.max_delay, hop=rule.hop, delay_grad=rule.delay_grad, dtype=code.dtype, training=training,
        )  # fmt: skip

    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed(batch) > there:
        gigabytes = [f"{size / 1e9:.3g} GB" for size in (needed(batch), needed(1), there)]
        raise MemoryError(
            f"{batch} queries on {graph.nodes} nodes and {graph.edges} edges, {code.shape[1]} neurons a node, {rule.steps} "
            f"steps, need {gigabytes[0]}, one of them {gigabytes[1]}; this machine has {gigabytes[2]}. Give fewer queries at a "
            "time (batch_size), a smaller width, fewer steps, or a part of the graph (snn.graphs.neighbourhood)."
        )


def _unpack(bits: NDArray[np.int64], width: int) -> Tensor:
    """uint8 [T, B, N, D] from bits [B, T, N, words]."""
    octets = np.ascontiguousarray(bits.astype("<i8", copy=False)).view(np.uint8)
    spikes = np.unpackbits(octets, axis=-1, count=width, bitorder="little")
    return torch.from_numpy(np.ascontiguousarray(spikes.swapaxes(0, 1)))


def _wiring(graph: Graph) -> Wiring:
    order = np.argsort(graph.pair_source, kind="stable")
    first = graph.pair_first
    columns = (graph.pair_source[order], graph.pair_relation[order], first[:-1][order], first[1:][order], graph.target)
    return Wiring(*(np.asarray(column, np.int32) for column in columns))


class Left(NamedTuple):
    """What a forward leaves behind: from 0, charged [B, T, N, D] (empty if no backward follows),
    bits [B, T, N, words]
    and counts [B].
    """

    charged: NDArray[Any]
    bits: NDArray[np.int64]
    counts: NDArray[np.int64]


class Call(NamedTuple):
    """What the kernels take, as they describe it. shape: (B, T, N)."""

    shape: tuple[int, int, int]
    wiring: Wiring
    hop: int
    numbers: Numbers
    maps: Maps
    slopes: Slopes
    weight: NDArray[Any]
    source: NDArray[np.int64]
    row: NDArray[np.int64]

    @classmethod
    def of(cls, graph: Graph, rule: Propagation, tables: Tables, source: Tensor, row: Tensor) -> Call:
        code, delay, omega, weight, offset = (None if x is None else x.detach().contiguous().numpy() for x in tables)
        assert code is not None
        assert delay is not None
        assert weight is not None
        kind = code.dtype.type
        steps = np.round(delay).astype(np.int8)
        maps = Maps(
            code,
            delay_masks(steps, rule.max_delay + 1),
            np.empty((0, 0, 0), kind) if omega is None else omega,
            np.ascontiguousarray(weight.T),
            np.empty(0, kind) if offset is None else offset,
            rule.decoding(tables.code).numpy(),
        )
        a, kappa, leak = rule.a, rule.kappa, 1 / rule.tau
        return cls(
            (len(source), rule.steps, graph.nodes),
            _wiring(graph),
            rule.hop,
            Numbers(kind(a), kind(kappa * rule.scale), kind(rule.threshold)),
            maps,
            Slopes(
                steps,
                steps.min(-1),
                kind(leak - 1),
                kind(a),
                rule.delay_grad == "trace",
                kind(kappa * (leak - 1)),
                kind(kappa * leak),
            ),
            weight,
            source.contiguous().numpy(),
            row.contiguous().numpy(),
        )

    def leave(self, keep: bool) -> Left:
        """Memory for what a forward leaves."""
        width, kind = self.maps.code.shape[1], self.maps.code.dtype
        return Left(
            np.zeros((*self.shape, width) if keep else (0, 0, 0, 0), kind),
            np.zeros((*self.shape, -(-width // WORD_BITS)), np.int64),
            np.zeros(self.shape[0], np.int64),
        )

    def forward(self, left: Left) -> Tensor:
        """h [B, N, D]; fills ``left``."""
        batch, _, nodes = self.shape
        features = np.zeros((batch, nodes, self.maps.code.shape[1]), self.maps.code.dtype)
        self._share(
            message_kernels.forward, left.charged, left.bits, features, left.counts, self.wiring, self.hop, self.numbers,
            self.maps, self.source, self.row,
        )  # fmt: skip
        return torch.from_numpy(features)

    def backward(self, by_feature: Tensor, charged: Tensor, bits: Tensor) -> Gradients:
        """Per sample, from dL/dh [B, N, D] and what the forward left."""
        batch, width, kind = self.shape[0], self.maps.code.shape[1], self.maps.code.dtype
        per_relation = (batch, self.maps.masks.shape[1], width)
        gradients = Gradients(
            np.zeros((batch, width), kind),
            np.zeros(per_relation, kind),
            np.zeros(per_relation if len(self.maps.omega) else (0, 0, 0), kind),
            np.zeros((batch, *self.maps.weight_t.shape), kind),
            np.zeros((batch, len(self.maps.offset)), kind),
        )
        self._share(
            message_adjoint.backward, by_feature.contiguous().numpy(), charged.numpy(), bits.numpy(), self.wiring, self.hop,
            self.numbers, self.maps, self.slopes, self.weight, self.source, self.row, gradients,
        )  # fmt: skip
        return gradients

    def per_query(self, samples: NDArray[Any]) -> Tensor:
        """Sum over the samples of each query: [Q, ...] from [B, ...]."""
        parts = torch.from_numpy(samples)
        total = parts.new_zeros(len(self.maps.code), *parts.shape[1:])
        return total.index_add_(0, torch.from_numpy(self.row), parts)

    def _share(self, kernel: Callable[..., None], *arguments: Any) -> None:
        """All samples, in at most as many threads as torch uses."""
        batch, length, nodes = self.shape
        work = batch * length * (nodes + len(self.wiring.target))
        workers = max(1, min(torch.get_num_threads(), batch, work // _WORTH_A_THREAD))
        in_threads(kernel, [batch * i // workers for i in range(workers + 1)], *arguments)


class Propagate(torch.autograd.Function):
    """Features of the tables. What the forward leaves is saved as tensors are: it goes with the first backward."""

    @staticmethod
    def forward(ctx: Any, call: Call, left: Left, *tables: Tensor | None) -> Tensor:
        features = call.forward(left)
        ctx.call = call
        ctx.save_for_backward(torch.from_numpy(left.charged), torch.from_numpy(left.bits))
        return features

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_feature: Tensor) -> tuple[Tensor | None, ...]:
        call: Call = ctx.call
        gradients = call.backward(by_feature, *ctx.saved_tensors)
        weighted = len(call.maps.omega) > 0
        found = Tables(
            call.per_query(gradients.code),
            call.per_query(gradients.delay),
            call.per_query(gradients.omega) if weighted else None,
            torch.from_numpy(gradients.weight_t).sum(0).t(),
            torch.from_numpy(gradients.offset).sum(0),
        )
        return None, None, *(g if needed else None for g, needed in zip(found, ctx.needs_input_grad[2:], strict=True))
