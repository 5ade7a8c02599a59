"""GraphReasoner: what it makes of queries, its variants, its scores, and what it refuses."""

import math

import numpy as np
import pytest
import torch

from lava_snnlearn.checks import LimitError, UnknownNameError
from lava_snnlearn.graphs import Graph
from lava_snnlearn.networks import GraphReasoner
from lava_snnlearn.networks.graph_reasoner import DELAYS, VARIANTS
from lava_snnlearn.testing.graphs import random_graph

N, R, D = 10, 4, 6


@pytest.fixture
def graph():
    return random_graph(0, N, R, 50)


@pytest.fixture
def plain_graph():
    rng = np.random.default_rng(0)
    return Graph(N, 1, rng.integers(N, size=30), np.zeros(30, int), rng.integers(N, size=30))


def reasoner(relations=R, seed=0, **options):
    torch.manual_seed(seed)
    model = GraphReasoner(relations, **({"width": D, "steps": 8, "scale": 0.5} | options)).double()
    with torch.no_grad():
        model.combine.weight += 1 / D
    return model


def queries():
    return torch.tensor([2, 7, 2]), torch.tensor([0, 3, 1])


def test_query_code_shifts_the_embedding_to_the_threshold():
    model = reasoner(threshold=3.0)
    weight = model.embedding.weight.detach()
    expected = [[1.5 * float(e) + 1.5 for e in weight[q]] for q in (0, 3, 1)]
    np.testing.assert_allclose(model.query_code(queries()[1]).detach().numpy(), expected, rtol=1e-12)


def test_delays_depend_on_the_relations_of_edge_and_query():
    model, query = reasoner(max_delay=7), queries()[1]
    times = model.delay_times(query)
    assert times.shape == (3, R, D)
    for b, q in enumerate(query.tolist()):
        code = model.embedding.weight[q] + 1
        for r in range(R):
            for k in range(D):
                row = model.delay_map.weight[r * D + k]
                z = float((row * code).sum() + model.delay_map.bias[r * D + k])
                assert float(times[b, r, k].detach()) == pytest.approx(7 / (1 + math.exp(-z)), rel=1e-12)
    assert torch.equal(model.delay_steps(query), times.detach().round().long())


def test_delays_by_relation_are_those_of_every_query():
    model = reasoner(delays="relation")
    times = model.delay_times(queries()[1])
    torch.testing.assert_close(times[0], 4 * torch.sigmoid(model.delay_logit), rtol=1e-12, atol=0)
    assert torch.equal(times[0], times[1])


def test_random_delays_are_where_learned_ones_start_and_stay(graph):
    learned, fixed = reasoner(), reasoner(delays="random")
    everything = torch.arange(R)
    start = fixed.delay_times(everything)
    torch.testing.assert_close(start, learned.delay_times(everything), rtol=1e-6, atol=1e-6)
    moved = []
    for model in (learned, fixed):
        optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 0.1)
        model(graph, *queries()).square().sum().backward()
        optimiser.step()
        moved.append(model.delay_times(everything))
    assert torch.equal(moved[1], start)
    assert float((moved[0] - start).abs().max()) > 0.01
    restored = reasoner(delays="random", seed=5)
    restored.load_state_dict(fixed.state_dict())
    assert torch.equal(restored.delay_times(everything), start)


def test_initial_delays_cover_the_range():
    torch.manual_seed(0)
    steps = GraphReasoner(50).delay_steps(torch.arange(50))
    share = torch.bincount(steps.flatten(), minlength=5) / steps.numel()
    assert (share > 0.005).all()
    assert share.argmax() == 2


def test_zero_delays():
    times = reasoner(delays="zero").delay_times(queries()[1])
    assert times.shape == (3, R, D)
    assert not times.any()


def test_relation_weights_start_near_those_of_base():
    assert reasoner().relation_weights(queries()[1]) is None
    model = reasoner(variant="plus")
    omega = model.relation_weights(queries()[1])
    code = model.query_code(queries()[1])
    expected = (code @ model.relation_map.weight.T + model.relation_map.bias).view(3, R, D)
    torch.testing.assert_close(omega, expected)
    assert float(GraphReasoner(100, variant="plus").relation_weights(torch.arange(100)).mean()) == pytest.approx(1, abs=0.1)


def test_scores_are_of_features_and_code(graph):
    model = reasoner()
    source, query = queries()
    run = model.run(graph, source, query, record=True)
    weights = 0.95 ** torch.arange(8, dtype=torch.float64)
    features = torch.einsum("tbnd,t->bnd", run.spikes.double(), weights / weights.sum())
    torch.testing.assert_close(run.features, features, rtol=1e-12, atol=1e-12)
    first, _, last = model.head
    scores = model(graph, source, query)
    for b in range(3):
        for v in range(N):
            joined = torch.cat([features[b, v], model.query_code(query)[b]])
            hidden = (first.weight @ joined + first.bias).clamp(min=0)
            torch.testing.assert_close(scores[b, v], (last.weight @ hidden + last.bias)[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("delays", DELAYS)
def test_candidates_are_columns_of_all_scores(graph, variant, delays):
    model = reasoner(variant=variant, delays=delays)
    source, query = queries()
    candidates = torch.tensor([[1, 1, 9], [0, 3, 2], [4, 2, 2]])
    everything = model(graph, source, query)
    torch.testing.assert_close(model(graph, source, query, candidates), everything.gather(1, candidates), rtol=1e-12, atol=0)


def test_lists_and_arrays_are_taken(graph):
    model = reasoner()
    source, query = queries()
    expected = model(graph, source, query)
    assert torch.equal(model(graph, source.tolist(), query.numpy().astype(np.int32)), expected)


def test_homogeneous_scores_are_those_of_both_directions(plain_graph):
    model = reasoner(1, homogeneous=True, scale=1.5)
    assert model.delay_kind == "relation"
    source, candidates = torch.tensor([0, 3]), torch.tensor([[3, 5], [0, 5]])
    scores = model(plain_graph, source, torch.zeros(2, dtype=torch.int64), candidates)
    assert float(scores[0, 0].detach()) == float(scores[1, 0].detach())
    one = torch.zeros(1, dtype=torch.int64)
    there, back = (model.run(plain_graph, torch.tensor([x]), one).features[:, [y]] for x, y in ((3, 5), (5, 3)))
    assert not torch.equal(there, back)
    torch.testing.assert_close(scores[1:, 1:], model.scores((there + back) / 2, one), rtol=1e-10, atol=1e-12)
    everything = model(plain_graph, source, torch.zeros(2, dtype=torch.int64))
    torch.testing.assert_close(everything.gather(1, candidates), scores, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("pna", [False, True])
def test_plus_full_normalises_and_aggregates(graph, pna):
    """One query in numpy, node by node; the in-edges of a node one by one."""
    model = reasoner(variant="plus_full", pna=pna, delays="zero", steps=5)
    with torch.no_grad():
        model.norm.weight += 0.5
        model.norm.bias += 0.7
    omega = model.relation_weights(torch.tensor([1]))[0].detach().numpy()
    weight, offset = (p.detach().numpy() for p in (model.combine.weight, model.combine.bias))
    gain, shift = (p.detach().numpy() for p in (model.norm.weight, model.norm.bias))
    degree = np.bincount(graph.target, minlength=N)
    size = np.log1p(degree) / np.log1p(degree).mean()
    a, kappa = math.exp(-1 / 4), math.e / 4
    spikes, current, membrane = [], np.zeros((N, D)), np.zeros((N, D))
    for t in range(5):
        if t:
            for v in range(N):
                edges = zip(graph.source, graph.relation, graph.target, strict=True)
                messages = np.array([spikes[-1][u] * omega[r] for u, r, w in edges if w == v]).reshape(-1, D)
                received = messages.sum(0)
                if pna:
                    m = messages if len(messages) else np.zeros((1, D))
                    deviation = np.sqrt(np.maximum(m.var(0), 1e-6))
                    moments = np.concatenate([m.mean(0), m.max(0), m.min(0), deviation])
                    received = np.concatenate([moments, moments * size[v], moments / max(size[v], 1e-2)])
                x = 0.5 * (weight @ np.concatenate([spikes[-1][v], received]) + offset)
                x = (x - x.mean()) / np.sqrt(x.var() + 1e-5) * gain + shift
                current[v] = a * current[v] + kappa * x
        membrane = a * membrane + current
        membrane[2] += model.query_code(torch.tensor([1])).detach().numpy()[0]
        spikes.append((membrane >= 2).astype(float))
        membrane = membrane * (1 - spikes[-1])
    found = model.run(graph, torch.tensor([2]), torch.tensor([1]), record=True).spikes[:, 0]
    np.testing.assert_array_equal(found.numpy(), np.array(spikes))
    assert 0.1 < np.mean(spikes) < 0.9


def test_plus_full_learns_all_parameters(graph):
    model = reasoner(variant="plus_full", pna=True)
    model(graph, *queries()).square().sum().backward()
    assert all(bool(p.grad.any()) for p in model.parameters())


def test_a_saved_state_gives_the_same_scores(graph):
    model, other = reasoner(variant="plus"), reasoner(variant="plus", seed=9)
    before = other(graph, *queries())
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(graph, *queries()), model(graph, *queries()))
    assert not torch.equal(other(graph, *queries()), before)


def test_numbers_and_options_are_shown():
    text = repr(reasoner(hop=2, variant="plus"))
    assert "relations=4, width=6, steps=8, max_delay=4, delays=query, variant=plus, hop=2" in text


@pytest.mark.parametrize(
    "options, error, text",
    [
        ({"relations": 0}, ValueError, "relations is 0"),
        ({"relations": 2.0}, TypeError, "2.0"),
        ({"width": 0}, ValueError, "width"),
        ({"steps": 0}, ValueError, "steps"),
        ({"max_delay": 63}, LimitError, r"63.*\[0, 62\]"),
        ({"width": 10**9}, LimitError, "1000000000.*1024"),
        ({"steps": 10**12}, LimitError, "1000000000000.*32768"),
        ({"max_delay": -1}, LimitError, "-1"),
        ({"tau": 0.0}, ValueError, "tau"),
        ({"threshold": -2.0}, ValueError, "threshold"),
        ({"decay": 1.5}, LimitError, "1.5"),
        ({"scale": float("inf")}, ValueError, "scale"),
        ({"hop": 3}, LimitError, "hop"),
        ({"delays": "learned"}, UnknownNameError, "learned"),
        ({"delay_grad": "exactly"}, UnknownNameError, "exact"),
        ({"variant": "plus-full"}, UnknownNameError, "plus_full"),
        ({"backend": "numba"}, UnknownNameError, "numba"),
        ({"bias": 1}, TypeError, "bias"),
        ({"pna": True}, ValueError, "plus_full"),
        ({"variant": "plus_full", "backend": "fused"}, ValueError, "plus_full"),
        ({"homogeneous": True}, ValueError, "relations is 4"),
    ],
    ids=str,
)
def test_bad_options_are_refused(options, error, text):
    with pytest.raises(error, match=text):
        GraphReasoner(**({"relations": R} | options))


@pytest.mark.parametrize(
    "changed, error, text",
    [
        ({"graph": "umls"}, TypeError, "Graph"),
        ({"graph": Graph(N, 2, [0], [1], [1])}, ValueError, "2 relations, the reasoner 4"),
        ({"source": [0, N, 1]}, LimitError, "source is 10 at index 1"),
        ({"source": [-1, 0, 1]}, LimitError, "-1"),
        ({"query": [0, 1, R]}, LimitError, "query is 4 at index 2"),
        ({"query": [0, 1]}, ValueError, "3 sources, but 2"),
        ({"source": []}, ValueError, "source"),
        ({"source": [0.0, 1.0, 2.0]}, ValueError, "float32"),
        ({"query": [[0], [1], [2]]}, ValueError, r"\[3, 1\]"),
        ({"candidates": [[0], [N], [1]]}, LimitError, "candidates"),
        ({"candidates": [[0], [1]]}, ValueError, "candidates of 2"),
        ({"candidates": [0, 1, 2]}, ValueError, r"\[B, C\]"),
    ],
    ids=str,
)
def test_bad_input_is_refused(graph, changed, error, text):
    given = {"graph": graph, "source": [0, 1, 2], "query": [0, 1, 2]} | changed
    with pytest.raises(error, match=text):
        reasoner()(**given)


def test_trace_back_refuses_what_has_no_sum(graph):
    with pytest.raises(ValueError, match="pna"):
        reasoner(variant="plus_full", pna=True).trace_back(graph, 0, 0, 1)
    with pytest.raises(LimitError, match="10"):
        reasoner().trace_back(graph, 0, 0, N)
