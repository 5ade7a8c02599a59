"""GRSNN: learned synaptic delays for graph reasoning, trained by link prediction against sampled wrong answers.

Each query comes with its answer and n wrong candidates. With logits s_0 (the answer) and s_1 .. s_n the loss of a query is

    L = (softplus(-s_0) + sum_j w_j softplus(s_j)) / 2,    w_j = softmax_j(s_j / T_adv), not differentiated, or 1 / n,

and the gradient goes back through all time steps of the message passing, delays included (grsnn spec, section 1.4).

Source: M. Xiao et al., "Temporal spiking neural networks with synaptic delay for graph reasoning", ICML 2024. The weights w_j:
Z. Sun et al., "RotatE: knowledge graph embedding by relational rotation in complex space", ICLR 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from lava_snnlearn.checks import at_least, known_name, positive, tensor
from lava_snnlearn.methods.base import StepResult

if TYPE_CHECKING:
    from lava_snnlearn.graphs import Graph
    from lava_snnlearn.networks.graph_reasoner import GraphReasoner
    from lava_snnlearn.reasoning.deployed import DeployedReasoner

REMOVALS = ("none", "one_hop", "triples")


@dataclass(frozen=True)
class GRSNN:
    """Link prediction by spikes with learned delays: trains a graph reasoner to tell answers from wrong candidates.

    Of a :class:`~lava_snnlearn.networks.graph_reasoner.GraphReasoner`.

    Args:
        negatives: wrong candidates of each query; never known facts.
        adversarial_temperature: T_adv of the self-adversarial weights; None weighs all negatives alike.
        remove: edges that a batch may not use: "triples" (its own facts and their inverse edges), "one_hop" (all edges between
            head and tail, in both directions) or "none". All queries of a batch see the same graph.

    Raises:
        ValueError: negatives < 1, a temperature that is not finite and > 0. UnknownNameError: another removal. TypeError: no
            numbers.
    """

    negatives: int = 32
    adversarial_temperature: float | None = 1.0
    remove: str = "triples"
    name = "grsnn"
    optimiser_every = "batch"

    def __post_init__(self) -> None:
        at_least(1, "negatives", self.negatives)
        if self.adversarial_temperature is not None:
            positive("adversarial_temperature", self.adversarial_temperature)
        known_name("removal of edges", self.remove, REMOVALS)

    def weights(self, scores: Tensor) -> Tensor:
        """Weights w_j [B, n] of the negatives with scores [B, n]; each row sums to 1, no gradient."""
        if self.adversarial_temperature is None:
            return torch.full_like(scores, 1 / scores.shape[1]).detach()
        return torch.softmax(scores.detach() / self.adversarial_temperature, 1)

    def loss(self, scores: Tensor) -> Tensor:
        """Mean loss of a batch.

        Args:
            scores: logits [B, 1 + n], the answer first.

        Returns:
            scalar.

        Raises:
            ValueError: an empty batch, or no negatives. TypeError: no tensor.
        """
        tensor("scores", scores)
        if scores.dim() != 2 or len(scores) == 0 or scores.shape[1] < 2:
            raise ValueError(f"scores have shape {tuple(scores.shape)}; expected [B, 1 + n]: an answer, then negatives")
        positives, negatives = scores[:, 0], scores[:, 1:]
        wrong = (self.weights(negatives) * F.softplus(negatives)).sum(1)
        return ((F.softplus(-positives) + wrong) / 2).mean()

    def gradients(
        self, model: GraphReasoner, graph: Graph, source: Tensor, query: Tensor, candidates: Tensor, *, share: float = 1.0
    ) -> StepResult:
        """Add ``share`` times the gradient of the batch's loss to ``.grad`` of the model's parameters.

        Args:
            model: the network.
            graph: its edges, less those that this batch may not use.
            source, query: int64 [B], node and relation of each query.
            candidates: int64 [B, 1 + n], nodes; the answer first.
            share: the part of this batch in an update that several batches make together.

        Returns:
            ``loss``: mean over the batch, ``outputs``: scores [B, 1 + n], ``spike_rate``: spikes per neuron and step.

        Raises:
            ValueError, TypeError, LimitError: as the model and :meth:`loss` do.
        """
        scores, rate = answers(model, graph, source, query, candidates)
        loss = self.loss(scores)
        (loss * share).backward()
        return StepResult(loss.item(), scores.detach(), rate)


def answers(
    model: GraphReasoner | DeployedReasoner, graph: Graph, source: Tensor, query: Tensor, candidates: Tensor
) -> tuple[Tensor, float]:
    """Scores of candidates, as the model's forward gives them, and the spike rate that they took.

    Args:
        model, graph: as in :meth:`GRSNN.gradients`.
        source, query: int64 [B]. candidates: int64 [B, C].

    Returns:
        scores [B, C], and spikes per neuron and step.

    Raises:
        ValueError, LimitError: as the model does.
    """
    if model.homogeneous:
        return _pair_answers(model, graph, source, query, candidates)
    response = model.run(graph, source, query)
    features = response.features.gather(1, candidates.unsqueeze(2).expand(-1, -1, model.width))
    return model.scores(features, query), _rate(model, response.features.shape, response.spike_count)


def _pair_answers(
    model: GraphReasoner | DeployedReasoner, graph: Graph, source: Tensor, query: Tensor, candidates: Tensor
) -> tuple[Tensor, float]:
    """The same for links without direction: every node is asked once, however many pairs it is in."""
    nodes, place = torch.unique(torch.cat([source, candidates.flatten()]), return_inverse=True)
    response = model.run(graph, nodes, query[:1].expand(len(nodes)))
    first, second = place[: len(source)].unsqueeze(1), place[len(source) :].view_as(candidates)
    there = response.features[first, candidates]
    back = response.features[second, source.unsqueeze(1)]
    return model.scores((there + back) / 2, query), _rate(model, response.features.shape, response.spike_count)


def _rate(model: GraphReasoner | DeployedReasoner, shape: torch.Size, spikes: int) -> float:
    return spikes / (shape.numel() * model.rule.steps)


@dataclass(frozen=True)
class Recipe:
    """Network and training that suit a data set. ``scale``: c; None takes the rule of thumb, c * mean in-degree = 22, c <= 1.
    ``batch_size`` triples make a batch, ``accumulate`` batches an update of Adam."""

    width: int = 32
    steps: int = 10
    scale: float | None = 1.0
    batch_size: int = 32
    accumulate: int = 1
    learning_rate: float = 5e-3
    epochs: int = 20
    validate_every: int = 2
    method: GRSNN = field(default_factory=GRSNN)


_SMALL = Recipe(width=16, scale=None, batch_size=16, epochs=4, validate_every=1)
_INDUCTIVE_FB = Recipe(method=GRSNN(50, 0.5))
_INDUCTIVE_WN = Recipe(method=GRSNN(50, 1.0))
_LINKS = Recipe(learning_rate=2e-3, method=GRSNN(1, None, "one_hop"))

RECIPES: Mapping[str, Recipe] = {
    "fb15k-237": Recipe(scale=0.1, batch_size=5, accumulate=6, learning_rate=2e-3, method=GRSNN(256, 0.5, "one_hop")),
    "wn18rr": Recipe(batch_size=8, accumulate=4, learning_rate=2e-3, method=GRSNN(256, 1.0)),
    **{f"fb237_v{version}": _INDUCTIVE_FB for version in range(1, 5)},
    **{f"wn18rr_v{version}": _INDUCTIVE_WN for version in range(1, 5)},
    "cora": _LINKS,
    "citeseer": _LINKS,
    "pubmed": replace(_LINKS, batch_size=6, accumulate=5),
    "umls": replace(_SMALL, scale=0.3),
    "nations": replace(_SMALL, scale=0.1),
    "family": replace(_SMALL, scale=1.0),
}
"""Recipes by data set: as published (grsnn spec, section 1.6), or, for umls, nations and family, this library's own."""
DEFAULT_RECIPE = _SMALL
"""The recipe of all other data."""
