"""GRSNN: its loss by hand, the weights of its negatives, its gradients, its recipes, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.data.knowledge import GRAPHS
from lava_snnlearn.graphs import Graph
from lava_snnlearn.methods.grsnn import GRSNN, RECIPES, answers
from lava_snnlearn.networks.graph_reasoner import GraphReasoner
from lava_snnlearn.testing.graphs import random_graph


def by_hand(scores: list[list[float]], temperature: float | None) -> float:
    """The loss with plain numbers."""
    total = 0.0
    for answer, *wrong in scores:
        powers = [1.0 if temperature is None else math.exp(s / temperature) for s in wrong]
        weighed = sum(power / sum(powers) * math.log(1 + math.exp(s)) for power, s in zip(powers, wrong, strict=True))
        total += (math.log(1 + math.exp(-answer)) + weighed) / 2
    return total / len(scores)


@pytest.mark.parametrize("temperature", [None, 0.5, 1.0, 7.0])
def test_loss_by_hand(temperature: float | None) -> None:
    scores = [[0.3, -1.0, 2.0, 0.0], [-2.0, 0.5, 0.5, 1.5]]
    found = GRSNN(3, temperature).loss(torch.tensor(scores, dtype=torch.float64))
    assert float(found) == pytest.approx(by_hand(scores, temperature), rel=1e-12)


def test_weights_of_negatives() -> None:
    """Two negatives whose scores differ by ln 3: at T = 1 one weighs three times the other, at T = 0.5 nine times."""
    scores = torch.tensor([[0.0, math.log(3)]], dtype=torch.float64, requires_grad=True)
    for temperature, expected in ((1.0, [0.25, 0.75]), (0.5, [0.1, 0.9]), (None, [0.5, 0.5])):
        weights = GRSNN(2, temperature).weights(scores)
        assert not weights.requires_grad
        np.testing.assert_allclose(weights.numpy(), [expected], rtol=1e-12)


@pytest.mark.parametrize("temperature", [None, 0.5])
def test_the_weights_are_not_differentiated(temperature: float | None) -> None:
    """dL/ds_j = w_j sg(s_j) / 2B and dL/ds_0 = -sg(-s_0) / 2B; with differentiated weights there would be more terms."""
    torch.manual_seed(0)
    scores = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    method = GRSNN(4, temperature)
    method.loss(scores).backward()
    expected = torch.cat([-torch.sigmoid(-scores[:, :1]), method.weights(scores[:, 1:]) * torch.sigmoid(scores[:, 1:])], 1) / 6
    np.testing.assert_allclose(scores.grad, expected.detach(), rtol=1e-12)


def test_large_scores_stay_finite() -> None:
    loss = GRSNN(2).loss(torch.tensor([[-1e4, 1e4, -1e4]]))
    assert float(loss) == pytest.approx(1e4)


def small_model(homogeneous: bool = False, **options: Any) -> tuple[GraphReasoner, Graph]:
    """A model in float64, and a graph on which its neurons fire."""
    torch.manual_seed(1)
    relations = 1 if homogeneous else 4
    graph = random_graph(0, 9, relations, 40)
    model = GraphReasoner(relations, width=6, steps=6, homogeneous=homogeneous, **options).double()
    return model, graph


def batch(model: GraphReasoner) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(3)
    source = torch.randint(0, 9, (5,), generator=draw)
    return source, torch.randint(0, model.relations, (5,), generator=draw), torch.randint(0, 9, (5, 4), generator=draw)


@pytest.mark.parametrize("homogeneous", [False, True])
@pytest.mark.parametrize("variant", ["base", "plus"])
def test_answers_are_the_scores_of_the_model(homogeneous: bool, variant: str) -> None:
    model, graph = small_model(homogeneous, variant=variant)
    source, query, candidates = batch(model)
    found, rate = answers(model, graph, source, query, candidates)
    expected = model(graph, source, query, candidates)
    np.testing.assert_allclose(found.detach(), expected.detach(), rtol=1e-10)
    asked = torch.unique(torch.cat([source, candidates.flatten()])) if homogeneous else source
    codes = query.new_zeros(len(asked)) if homogeneous else query
    spikes = model.run(graph, asked, codes, record=True).spikes
    assert spikes is not None
    assert rate == pytest.approx(float(spikes.double().mean()))
    assert rate > 0


def test_gradients_are_those_of_the_loss_and_add_up() -> None:
    model, graph = small_model()
    source, query, candidates = batch(model)
    method = GRSNN(3)
    method.loss(model(graph, source, query, candidates)).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert {"embedding.weight", "combine.weight", "delay_map.weight"} <= expected.keys()
    assert all(bool(gradient.any()) for gradient in expected.values())
    model.zero_grad()
    first = method.gradients(model, graph, source, query, candidates, share=0.25)
    method.gradients(model, graph, source, query, candidates, share=0.75)
    for name, p in model.named_parameters():
        np.testing.assert_allclose(p.grad, expected[name], rtol=1e-9, atol=1e-15)
    assert first.loss == pytest.approx(float(method.loss(first.outputs)))
    assert first.outputs.shape == (5, 4)
    assert not first.outputs.requires_grad


def test_recipes_are_those_of_the_paper() -> None:
    """The published table: width, steps, batch x accumulated, rate, epochs, c, temperature, negatives, one-hop removal."""
    table = {
        "fb15k-237": (32, 10, 5, 6, 2e-3, 20, 0.1, 0.5, 256, "one_hop"),
        "wn18rr": (32, 10, 8, 4, 2e-3, 20, 1, 1, 256, "triples"),
        "fb237_v3": (32, 10, 32, 1, 5e-3, 20, 1, 0.5, 50, "triples"),
        "wn18rr_v1": (32, 10, 32, 1, 5e-3, 20, 1, 1, 50, "triples"),
        "cora": (32, 10, 32, 1, 2e-3, 20, 1, None, 1, "one_hop"),
        "citeseer": (32, 10, 32, 1, 2e-3, 20, 1, None, 1, "one_hop"),
        "pubmed": (32, 10, 6, 5, 2e-3, 20, 1, None, 1, "one_hop"),
    }
    for name, row in table.items():
        recipe, method = RECIPES[name], RECIPES[name].method
        network = (recipe.width, recipe.steps, recipe.batch_size, recipe.accumulate, recipe.learning_rate, recipe.epochs)
        assert (*network, recipe.scale, method.adversarial_temperature, method.negatives, method.remove) == row
        assert recipe.validate_every == 2
    assert RECIPES.keys() <= GRAPHS.keys()


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"negatives": 0}, ValueError, "negatives is 0; it must be at least 1"),
        ({"negatives": 2.5}, TypeError, "negatives is 2.5"),
        ({"adversarial_temperature": 0.0}, ValueError, "adversarial_temperature is 0.0; it must be finite and > 0"),
        ({"adversarial_temperature": "hot"}, TypeError, "adversarial_temperature"),
        ({"remove": "triple"}, UnknownNameError, "Did you mean 'triples'"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        GRSNN(**options)


@pytest.mark.parametrize("shape", [(0, 3), (4, 1), (4,), (2, 3, 4)])
def test_scores_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \[B, 1 \+ n\]"):
        GRSNN().loss(torch.zeros(shape))
    with pytest.raises(TypeError, match="scores must be a torch tensor"):
        GRSNN().loss(np.zeros((2, 3)))  # type: ignore[arg-type]
