"""GraphReasoner: a spiking network that answers (entity, relation, ?) by the times at which spikes travel a graph."""

from __future__ import annotations

from typing import NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from lava_snnlearn.checks import at_least, flag, known_name, within
from lava_snnlearn.graphs.graph import Graph, check_graph
from lava_snnlearn.networks.message_passing import BACKENDS, propagate
from lava_snnlearn.networks.message_reference import PNA_PARTS, propagate_reference
from lava_snnlearn.networks.propagation import Propagation, Tables

DELAYS = ("query", "relation", "random", "zero")
VARIANTS = ("base", "plus", "plus_full")
WIDTH_MAX = 1 << 10
"""Neurons that a node may have, in torch and on the chip."""
_INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)


class GraphResponse(NamedTuple):
    """What the graph's neurons answered to B queries.

    features: h [B, N, D], floating point, in [0, 1]. spikes: uint8 [T, B, N, D], None unless recorded. spike_count: all spikes
    of the batch; divided by T B N D it is the mean rate.
    """

    features: Tensor
    spikes: Tensor | None
    spike_count: int


class Traceback(NamedTuple):
    """One query, for those who ask which messages made the score.

    spikes: uint8 [T, N, D]. delays: int64 [R, D], whole steps. gradient: floating point [T, N, D], d score / d A[t] of the sum
    that each neuron's in-edges bring at step t (0 at t = 0); a message on an edge (u, r, v) arrives in neuron k at step t if
    spikes[t - hop - delays[r, k], u, k] is 1. score: of the target. relation_weights: [R, D] or None (ones).
    """

    spikes: Tensor
    delays: Tensor
    gradient: Tensor
    score: float
    relation_weights: Tensor | None


class GraphReasoner(nn.Module):
    """Spiking message passing with learned synaptic delays (GRSNN).

    Every node of a graph is a group of ``width`` neurons with shared weights, so the network works on graphs it has never seen,
    as long as the relations are the same. A query injects its code into the source's neurons; the spikes travel the edges, each
    relation with delays of its own, and a target's score comes from the times at which its neurons fired. The dynamics are in
    :mod:`lava_snnlearn.networks.message_passing`.

    Source: M. Xiao et al., "Temporal spiking neural networks with synaptic delay for graph reasoning", ICML 2024.

    Args:
        relations: R, number of relations of edges and queries, inverse ones included; 1 if ``homogeneous``.
        width: D, neurons a node, 1..1024. steps: T, time steps, the one at t = 0 included.
        max_delay: longest delay in steps, 0..62. tau: time constant in steps. threshold: Vth. decay: factor a step of the
            decoding kernel. scale: c, a factor of the neurons' input. About 20 to 25 divided by the mean in-degree is a good
            start: less leaves the graph silent, more saturates it.
        delays: how they are found. "query": max_delay sg(V b + v0), by relation of the edge and of the query; "relation": by
            relation of the edge alone; "random": those that "query" starts with, never changed; "zero".
        delay_grad: "exact" or "trace", the gradient of the delays; see :mod:`lava_snnlearn.neurons.psp`.
        hop: steps that a message takes besides its delay, 1, or 2 for the network with an aggregator.
        bias: whether the neurons have w0.
        variant: "base"; "plus": weights of relations and a self connection as well; "plus_full": "plus" with LayerNorm before
            the neurons (it does not run on event-driven hardware).
        pna: aggregate mean, maximum, minimum and deviation, scaled by degree, instead of the sum; only with "plus_full".
        homogeneous: one relation without direction: a score is the same for (x, y) and (y, x). Delays are by "relation" then.
        backend: "auto" (compiled kernels where they can run), "fused" (them or an error), "torch".

    Raises:
        UnknownNameError: an option that is unknown. LimitError, ValueError: one that is out of range, or does not fit the
            others. TypeError: one of another type.
    """

    def __init__(
        self,
        relations: int,
        *,
        width: int = 32,
        steps: int = 10,
        max_delay: int = 4,
        tau: float = 4.0,
        threshold: float = 2.0,
        decay: float = 0.95,
        scale: float = 1.0,
        delays: str = "query",
        delay_grad: str = "exact",
        hop: int = 1,
        bias: bool = True,
        variant: str = "base",
        pna: bool = False,
        homogeneous: bool = False,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.relations = at_least(1, "relations", relations)
        self.width = at_least(1, "width", width)
        within("width", self.width, 1, WIDTH_MAX, "Parameters and synapses grow with its square.")
        self.rule = Propagation(steps, max_delay, tau, threshold, decay, scale, hop, delay_grad)
        self.variant = known_name("variant", variant, VARIANTS)
        self.backend = known_name("backend", backend, BACKENDS)
        flag("bias", bias)
        flag("pna", pna)
        flag("homogeneous", homogeneous)
        known_name("delays", delays, DELAYS)
        self.delay_kind = "relation" if homogeneous and delays == "query" else delays
        self.pna, self.homogeneous = bool(pna), bool(homogeneous)
        self._check_options()
        size = self.relations * self.width
        self.embedding = nn.Embedding(self.relations, self.width)
        if self.delay_kind in ("query", "random"):
            self.delay_map = nn.Linear(self.width, size)
        if self.delay_kind == "random":
            self.delay_map.requires_grad_(False)
            self.register_buffer("delay_code", self._code(self.embedding.weight.detach()))
        if self.delay_kind == "relation":
            self.delay_logit = nn.Parameter(torch.randn(self.relations, self.width))
        parts = PNA_PARTS if pna else 1
        self.combine = nn.Linear((parts + (variant != "base")) * self.width, self.width, bias=bool(bias))
        if variant != "base":
            self.relation_map = nn.Linear(self.width, size)
            nn.init.ones_(self.relation_map.bias)  # near the weight 1 of "base"
        self.norm = nn.LayerNorm(self.width) if variant == "plus_full" else None
        self.head = nn.Sequential(nn.Linear(2 * self.width, 2 * self.width), nn.ReLU(), nn.Linear(2 * self.width, 1))

    def _check_options(self) -> None:
        if self.pna and self.variant != "plus_full":
            raise ValueError(f'pna is for variant="plus_full", not {self.variant!r}')
        if self.variant == "plus_full" and self.backend == "fused":
            raise ValueError('backend="fused" has no kernels for variant="plus_full"; use backend="auto"')
        if self.homogeneous and self.relations != 1:
            raise ValueError(f"a homogeneous graph has one relation; relations is {self.relations}")

    # ------------------------------------------------------------------------------------------------------------ per query

    def query_code(self, query: Tensor) -> Tensor:
        """b = Vth/2 (embedding + 1) of ``query`` int64 [B], the current injected into the source; [B, D]."""
        return self._code(self.embedding(self._indices("query", query, self.relations, "relations")))

    def delay_times(self, query: Tensor) -> Tensor:
        """Real-valued delays in steps, [B, R, D], of ``query`` int64 [B]; the network uses them rounded (half to even)."""
        query = self._indices("query", query, self.relations, "relations")
        if self.delay_kind == "zero":
            return self.combine.weight.new_zeros(len(query), self.relations, self.width)
        if self.delay_kind == "relation":
            logit = self.delay_logit.expand(len(query), -1, -1)
        else:
            code = self.delay_code[query] if self.delay_kind == "random" else self.query_code(query)
            logit = self.delay_map(code).view(-1, self.relations, self.width)
        return self.rule.max_delay * torch.sigmoid(logit)

    def delay_steps(self, query: Tensor) -> Tensor:
        """The delays that messages take, whole steps in 0 .. max_delay, int64 [B, R, D]."""
        return self.delay_times(query).detach().round().long()

    def relation_weights(self, query: Tensor) -> Tensor | None:
        """omega [B, R, D], the factors of the messages; None in variant "base" (all 1)."""
        if self.variant == "base":
            return None
        return self.relation_map(self.query_code(query)).view(-1, self.relations, self.width)

    def _code(self, embedding: Tensor) -> Tensor:
        return self.rule.threshold / 2 * (embedding + 1)

    # -------------------------------------------------------------------------------------------------------------- forward

    def run(self, graph: Graph, source: Tensor, query: Tensor, *, record: bool = False) -> GraphResponse:
        """Let the spikes of B queries (source int64 [B], query int64 [B]) travel the graph, each on its own.

        Raises:
            ValueError: a graph of another number of relations, an empty batch, different lengths. LimitError: no such node or
                relation.
        """
        source, query = self._batch(graph, source, query)
        flag("record", record)
        tables, row = self._tables(query)
        if self.variant == "plus_full":
            run = propagate_reference(graph, self.rule, tables, source, row, norm=self.norm, pna=self.pna)
            return GraphResponse(*run.propagated(record))
        return GraphResponse(*propagate(graph, self.rule, tables, source, row, record=record, backend=self.backend))

    def scores(self, features: Tensor, query: Tensor) -> Tensor:
        """MLP([h; b]) of ``features`` [B, C, D] for ``query`` int64 [B]; [B, C]."""
        return self._head(features, self.query_code(query))

    def forward(self, graph: Graph, source: Tensor, query: Tensor, candidates: Tensor | None = None) -> Tensor:
        """Scores (logits) of the ``candidates`` int64 [B, C] as targets of (source, query), [B, C]; None: all nodes, [B, N].

        A homogeneous network runs the queries of all candidates as well, and uses the mean of the features of both directions.

        Raises:
            As :meth:`run`; ValueError: candidates of another shape.
        """
        source, query = self._batch(graph, source, query)
        chosen = None if candidates is None else self._candidates(graph, candidates, len(source))
        if self.homogeneous:
            if chosen is None:
                chosen = torch.arange(graph.nodes, device=source.device).expand(len(source), -1)
            return self.scores(self._symmetric_features(graph, source, chosen), query)
        features = self.run(graph, source, query).features
        if chosen is not None:
            features = features.gather(1, chosen.unsqueeze(2).expand(-1, -1, self.width))
        return self.scores(features, query)

    def trace_back(self, graph: Graph, source: int, query: int, target: int) -> Traceback:
        """One query with the gradient of its target's score by all that arrived anywhere, for explanations.

        Of a homogeneous network, the direction from source to target. It runs in plain torch.

        Raises what :meth:`run` raises.
        """
        sources, queries = self._batch(graph, torch.tensor([source]), torch.tensor([query]))
        targets = self._candidates(graph, torch.tensor([[target]]), 1)
        if self.pna:
            raise ValueError("a network with pna has no sum of messages to trace back; train it with pna=False")
        tables, row = self._tables(queries)
        code, delay, weight = (table.detach().requires_grad_() for table in (tables.code, tables.delay, tables.weight))
        omega, offset = (None if table is None else table.detach() for table in (tables.omega, tables.offset))
        tables = Tables(code, delay, omega, weight, offset)
        with torch.enable_grad():
            run = propagate_reference(graph, self.rule, tables, sources, row, norm=self.norm)
            score = self._head(run.features[:, targets[0]], tables.code).sum()
        gradient = torch.zeros_like(run.spikes[:, 0])
        if run.aggregates:
            parts = torch.autograd.grad(score, run.aggregates)
            gradient[1:] = torch.stack(parts)[:, 0]
        spikes = run.spikes[:, 0].detach().to(torch.uint8)
        return Traceback(
            spikes, self.delay_steps(queries)[0], gradient, float(score.detach()), None if omega is None else omega[0]
        )

    def memory(self, graph: Graph, batch: int, *, training: bool = True) -> int:
        """Bytes that ``batch`` queries on this graph take in the compiled kernels, by the formula of
        :func:`lava_snnlearn.networks.message_fused.memory_estimate`.

        Raises:
            TypeError, ValueError: no graph, one of other relations, or a batch below 1.
        """
        from lava_snnlearn.networks.message_fused import memory_estimate  # numba, which plain torch does without

        check_graph(graph, self.relations)
        rule = self.rule
        return memory_estimate(
            graph,
            self.width,
            steps=rule.steps,
            batch=batch,
            max_delay=rule.max_delay,
            hop=rule.hop,
            delay_grad=rule.delay_grad,
            dtype=self.combine.weight.dtype,
            training=training,
        )

    def extra_repr(self) -> str:
        rule = self.rule
        return (
            f"relations={self.relations}, width={self.width}, steps={rule.steps}, max_delay={rule.max_delay}, "
            f"delays={self.delay_kind}, variant={self.variant}, hop={rule.hop}, scale={rule.scale}"
        )

    # -------------------------------------------------------------------------------------------------------------- helpers

    def _indices(self, name: str, values: ArrayLike | Tensor, count: int, of: str, axes: int = 1) -> Tensor:
        """``values`` as int64 on the network's device, with so many axes, each value one of ``count``."""
        index = torch.as_tensor(values)
        if index.dtype not in _INTEGERS or index.dim() != axes or not index.numel():
            shape = "[B]" if axes == 1 else "[B, C]"
            raise ValueError(f"{name}: shape {list(index.shape)}, dtype {index.dtype}; expected integers {shape}, at least one")
        within(name, index.cpu().numpy(), 0, count - 1, f"There are {count} {of}, counted from 0.")
        return index.to(self.combine.weight.device, torch.int64)

    def _batch(self, graph: Graph, source: ArrayLike | Tensor, query: ArrayLike | Tensor) -> tuple[Tensor, Tensor]:
        check_graph(graph, self.relations)
        sources = self._indices("source", source, graph.nodes, "nodes")
        queries = self._indices("query", query, self.relations, "relations")
        if len(sources) != len(queries):
            raise ValueError(f"{len(sources)} sources, but {len(queries)} queries; pass one source a query")
        return sources, queries

    def _candidates(self, graph: Graph, candidates: ArrayLike | Tensor, batch: int) -> Tensor:
        index = self._indices("candidates", candidates, graph.nodes, "nodes", axes=2)
        if len(index) != batch:
            raise ValueError(f"candidates of {len(index)} queries, but there are {batch}; pass [B, C]")
        return index

    def _tables(self, query: Tensor) -> tuple[Tables, Tensor]:
        """Codes, delays and weights of the distinct queries, and the row [B] of each query in them."""
        distinct, row = torch.unique(query, return_inverse=True)
        code, delay, omega = self.query_code(distinct), self.delay_times(distinct), self.relation_weights(distinct)
        return Tables(code, delay, omega, self.combine.weight, self.combine.bias), row

    def _head(self, features: Tensor, code: Tensor) -> Tensor:
        query = code.unsqueeze(1).expand(-1, features.shape[1], -1)
        return self.head(torch.cat([features, query], -1)).squeeze(-1)

    def _symmetric_features(self, graph: Graph, source: Tensor, chosen: Tensor) -> Tensor:
        """Mean of the features of source -> candidate and of candidate -> source, [B, C, D]."""
        starts, place = torch.unique(torch.cat([source.unsqueeze(1), chosen], 1), return_inverse=True)
        features = self.run(graph, starts, torch.zeros_like(starts)).features
        there = features[place[:, :1], chosen]
        back = features[place[:, 1:], source.unsqueeze(1)]
        return (there + back) / 2
