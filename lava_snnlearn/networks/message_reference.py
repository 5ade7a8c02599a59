"""Spiking message passing in plain torch: every device, both floating-point types, gradients by autograd.

One time step after another, as the equations in :mod:`lava_snnlearn.networks.message_passing` are written. For the backward it
keeps every message of every distinct (relation, source) pair, some times T B P D numbers. The compiled kernels equal it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lava_snnlearn.graphs.graph import Graph
from lava_snnlearn.networks.propagation import Propagated, Propagation, Tables
from lava_snnlearn.neurons.psp import exact_slope, published_trace
from lava_snnlearn.neurons.surrogate import Sigmoid

PNA_PARTS = 12
"""Aggregates of a node in :func:`propagate_reference` with ``pna``."""


class ReferenceRun(NamedTuple):
    """features [B, N, D]; spikes [T, B, N, D], 0 or 1 in the dtype of the tables; aggregates: A[t] [B, N, D], t = 1 .. T-1."""

    features: Tensor
    spikes: Tensor
    aggregates: list[Tensor]

    def propagated(self, record: bool) -> Propagated:
        spikes = self.spikes.detach()
        return Propagated(self.features, spikes.to(torch.uint8) if record else None, int(spikes.count_nonzero()))


def propagate_reference(
    graph: Graph,
    rule: Propagation,
    tables: Tables,
    source: Tensor,
    row: Tensor,
    *,
    norm: nn.Module | None = None,
    pna: bool = False,
) -> ReferenceRun:
    """All time steps of all queries; arguments as :func:`lava_snnlearn.networks.message_passing.propagate`.

    ``norm`` acts on x [B, N, D] before the current; with ``pna``, W takes :data:`PNA_PARTS` aggregates instead of the sum.
    """
    wiring = _Wiring.of(graph, tables.code)
    delay, weight = tables.delay[row], None if tables.omega is None else tables.omega[row]
    injected = tables.code.new_zeros(len(source), graph.nodes, tables.code.shape[1])
    injected = injected.index_put((torch.arange(len(source), device=source.device), source), tables.code[row])
    fire = Sigmoid(4.0)
    current, membrane = torch.zeros_like(injected), torch.zeros_like(injected)
    spikes: list[Tensor] = []
    slopes: list[Tensor] = []
    aggregates = []
    for t in range(rule.steps):
        if t:
            message = _messages(rule, wiring, spikes, slopes, delay, weight)
            received = torch.cat(_pna_aggregates(wiring, message) if pna else [wiring.sum(message)], -1)
            aggregates.append(received)
            self_connected = tables.weight.shape[1] > received.shape[-1]
            inputs = torch.cat([spikes[-1], received], -1) if self_connected else received
            x = rule.scale * nn.functional.linear(inputs, tables.weight, tables.offset)
            current = rule.a * current + rule.kappa * (x if norm is None else norm(x))
        membrane = rule.a * membrane + current + injected
        spike = fire.spike(membrane - rule.threshold)
        membrane = membrane * (1 - spike)
        spikes.append(spike)
        slopes = _extend_slopes(rule, slopes, spikes)
    raster = torch.stack(spikes)
    return ReferenceRun(torch.einsum("tbnd,t->bnd", raster, rule.decoding(raster)), raster, aggregates)


class _Wiring(NamedTuple):
    """The graph as tensors: the pairs' sources and relations [P], and per edge [E] its pair and target."""

    nodes: int
    pair_source: Tensor
    pair_relation: Tensor
    edge_pair: Tensor
    edge_target: Tensor

    @classmethod
    def of(cls, graph: Graph, like: Tensor) -> _Wiring:
        columns = (graph.pair_source, graph.pair_relation, graph.edge_pair, np.asarray(graph.target))
        return cls(graph.nodes, *(torch.from_numpy(column.copy()).to(like.device) for column in columns))

    def sum(self, message: Tensor) -> Tensor:
        """Sum of the messages [B, P, D] over the edges into each node, [B, N, D]: one product with a sparse 0/1 matrix."""
        batch, pairs, width = message.shape
        index = torch.stack([self.edge_target, self.edge_pair])
        ones = message.new_ones(len(self.edge_pair))
        matrix = torch.sparse_coo_tensor(index, ones, (self.nodes, pairs))
        total = torch.sparse.mm(matrix, message.transpose(0, 1).reshape(pairs, batch * width))
        return total.view(self.nodes, batch, width).transpose(0, 1)


def _messages(
    rule: Propagation,
    wiring: _Wiring,
    spikes: Sequence[Tensor],
    slopes: Sequence[Tensor],
    delay: Tensor,
    weight: Tensor | None,
) -> Tensor:
    """m [B, P, D] at step t = len(spikes): the delayed spike of each pair, with its slope as the real delay's gradient."""
    delay = delay[:, wiring.pair_relation]
    steps = delay.detach().round()
    message = torch.zeros_like(steps)
    slope = torch.zeros_like(steps)
    newest = len(spikes) - rule.hop
    for d in range(min(rule.max_delay, newest) + 1):
        here = steps == d
        message = torch.where(here, spikes[newest - d][:, wiring.pair_source], message)
        slope = torch.where(here, slopes[newest - d][:, wiring.pair_source], slope)
    message = message + (delay - delay.detach()) * slope  # adds 0, with the gradient ``slope``
    return message if weight is None else message * weight[:, wiring.pair_relation]


def _extend_slopes(rule: Propagation, slopes: list[Tensor], spikes: Sequence[Tensor]) -> list[Tensor]:
    """Append the slope of the delay's gradient at the newest step."""
    if rule.delay_grad == "exact":
        return [*slopes, exact_slope(torch.stack([s.detach() for s in spikes[-2:]]), rule.tau)[-1]]
    return [*slopes, published_trace(torch.stack([s.detach() for s in spikes]), rule.tau)[-1]]


def _pna_aggregates(wiring: _Wiring, message: Tensor) -> list[Tensor]:
    """Principal neighbourhood aggregation, 12 x [B, N, D]: mean, max, min, std of the edges' messages x {1, g, 1/g}.

    g is log(1 + in-degree) over its mean over the nodes. A node without in-edges has 0, the deviation a floor of 1e-3.
    """
    batch, _, width = message.shape
    edges = message[:, wiring.edge_pair]
    target = wiring.edge_target.view(1, -1, 1).expand(batch, -1, width)
    zeros = message.new_zeros(batch, wiring.nodes, width)
    degree = torch.bincount(wiring.edge_target, minlength=wiring.nodes).to(message.dtype).view(1, -1, 1)
    count = degree.clamp(min=1)
    mean = wiring.sum(message) / count
    variance = wiring.sum(message**2) / count - mean**2
    largest = zeros.scatter_reduce(1, target, edges, "amax", include_self=False)
    least = zeros.scatter_reduce(1, target, edges, "amin", include_self=False)
    size = torch.log1p(degree)
    size = size / size.mean()
    moments = [mean, largest, least, variance.clamp(min=1e-6).sqrt()]
    return [*moments, *(m * size for m in moments), *(m / size.clamp(min=1e-2) for m in moments)]
