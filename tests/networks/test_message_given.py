"""A given forward has the gradient of the compiled one: the same states give the same numbers."""

import numpy as np
import pytest
import torch

from lava_snnlearn.graphs import Graph
from lava_snnlearn.networks.message_given import propagate_given
from lava_snnlearn.networks.message_passing import propagate
from lava_snnlearn.networks.message_reference import propagate_reference
from lava_snnlearn.networks.propagation import Propagation, Tables

NODES, RELATIONS = 9, 3


def case(width, hop, plus):
    rng = np.random.default_rng(width)
    graph = Graph(NODES, RELATIONS, *(rng.integers(top, size=30) for top in (NODES, RELATIONS, NODES)))
    columns = width * (2 if plus else 1)
    arrays = {
        "code": rng.normal(1.5, 1, (2, width)),
        "delay": rng.uniform(0, 4, (2, RELATIONS, width)),
        "omega": rng.normal(1, 0.3, (2, RELATIONS, width)) if plus else None,
        "weight": rng.normal(0.3, 1, (width, columns)) / np.sqrt(width),
        "offset": rng.normal(0, 0.1, width),
    }
    tables = Tables(*(None if a is None else torch.tensor(a, requires_grad=True) for a in arrays.values()))
    source, row = torch.from_numpy(rng.integers(NODES, size=5)), torch.tensor([0, 1, 1, 0, 1])
    return graph, Propagation(9, hop=hop), tables, source, row


@pytest.mark.parametrize("width, hop, plus", [(4, 1, False), (4, 2, True), (70, 1, True)])
def test_the_same_states_give_the_same_gradient(width, hop, plus):
    graph, rule, tables, source, row = case(width, hop, plus)
    present = [table for table in tables if table is not None]
    run = propagate(graph, rule, tables, source, row, record=True)
    factor = torch.randn(run.features.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.autograd.grad((run.features * factor).sum(), present)
    charged = membranes(graph, rule, tables, source, row)
    features = propagate_given(graph, rule, tables, source, row, run.features.detach(), charged, run.spikes)
    assert torch.equal(features, run.features)
    for found, wanted in zip(torch.autograd.grad((features * factor).sum(), present), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_other_features_pass_unchanged_and_other_states_change_the_gradient():
    graph, rule, tables, source, row = case(4, 1, False)
    run = propagate(graph, rule, tables, source, row, record=True)
    charged = membranes(graph, rule, tables, source, row)
    given = torch.full_like(run.features, 0.25).detach()
    found = propagate_given(graph, rule, tables, source, row, given, charged, run.spikes)
    assert torch.equal(found, given)
    same, other = (
        torch.autograd.grad(propagate_given(graph, rule, tables, source, row, given, u, run.spikes).sum(), tables.weight)[0]
        for u in (charged, charged + 0.5)
    )
    assert not torch.allclose(same, other)


def membranes(graph, rule, tables, source, row):
    """u before the reset [T, B, N, D], step by step from the reference's aggregates."""
    with torch.no_grad():
        run = propagate_reference(graph, rule, tables, source, row)
        width = tables.code.shape[1]
        injected = torch.zeros(len(source), NODES, width, dtype=torch.float64)
        injected[torch.arange(len(source)), source] = tables.code[row]
        current = membrane = torch.zeros_like(injected)
        steps = []
        for t in range(rule.steps):
            if t:
                own = [run.spikes[t - 1]] if tables.weight.shape[1] > width else []
                x = torch.cat([*own, run.aggregates[t - 1]], -1) @ tables.weight.T + tables.offset
                current = rule.a * current + rule.kappa * rule.scale * x
            charged = rule.a * membrane + current + injected
            membrane = charged * (1 - run.spikes[t])
            steps.append(charged)
    return torch.stack(steps)
