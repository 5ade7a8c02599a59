"""Explanations: every path is real, the best one is the best of all, and importance is the derivative by an edge's weight."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lava_snnlearn.checks import LimitError, UnknownNameError
from lava_snnlearn.data.knowledge_graph import InductiveTask, KnowledgeGraph
from lava_snnlearn.fixed_point.reasoner_emulator import emulate_reasoner, pair_scores
from lava_snnlearn.fixed_point.reasoner_quantize import quantize_reasoner
from lava_snnlearn.graphs import Graph
from lava_snnlearn.lava_backend.reasoner import run_lava_reasoner
from lava_snnlearn.networks.graph_reasoner import GraphReasoner
from lava_snnlearn.reasoning.carried import Carried, Raster, edge_importance
from lava_snnlearn.reasoning.explanation import explain
from lava_snnlearn.reasoning.paths import Path, carried_paths
from lava_snnlearn.testing.graphs import random_graph

EVERYTHING = 10**6
NO_TRIPLES = np.zeros((0, 3), np.int64)


# ------------------------------------------------------------------------------------------------------------- brute force


def messages(raster: Raster, graph: Graph) -> list[tuple[int, int, int, int, float]]:
    """(edge, sent, arrival, neuron, importance) of all messages, by loops over everything."""
    spikes, delays = np.asarray(raster.spikes), np.asarray(raster.delays)
    found = []
    for edge, (u, r, v) in enumerate(zip(graph.source, graph.relation, graph.target, strict=True)):
        for k, sent in itertools.product(range(spikes.shape[2]), range(len(spikes))):
            arrival = sent + raster.hop + int(delays[r, k])
            factor = 1.0 if raster.weights is None else float(np.asarray(raster.weights)[r, k])
            if spikes[sent, u, k] and factor and arrival < len(spikes):
                gradient = 1.0 if raster.gradient is None else float(np.asarray(raster.gradient)[arrival, v, k]) * factor
                found.append((edge, sent, arrival, k, gradient))
    return found


def bundles(raster: Raster, graph: Graph) -> dict[tuple[int, int, int], float]:
    """Importance of the messages of an edge that left and arrived together."""
    total: dict[tuple[int, int, int], float] = {}
    for edge, sent, arrival, _, importance in messages(raster, graph):
        total[edge, sent, arrival] = total.get((edge, sent, arrival), 0.0) + importance
    return total


def walks(raster: Raster, graph: Graph, source: int, target: int) -> Iterator[list[tuple[int, int, int]]]:
    """All walks of messages from source to target that a later spike of the target follows; nodes may repeat."""
    known = sorted(bundles(raster, graph))
    spiking = np.flatnonzero(np.asarray(raster.spikes)[:, target].any(axis=1))

    def grow(walk: list[tuple[int, int, int]], node: int, step: int) -> Iterator[list[tuple[int, int, int]]]:
        if walk and node == target and (spiking >= step).any():
            yield walk
        for message in known:
            if graph.source[message[0]] == node and message[1] >= step:
                yield from grow([*walk, message], int(graph.target[message[0]]), message[2])

    return grow([], source, 0)


def is_simple(walk: list[tuple[int, int, int]], graph: Graph, source: int, target: int) -> bool:
    nodes = [source, *(int(graph.target[edge]) for edge, _, _ in walk)]
    return len(set(nodes)) == len(nodes) if source != target else len(set(nodes[1:])) == len(nodes) - 1


def value(walk: list[tuple[int, int, int]], raster: Raster, known: dict[tuple[int, int, int], float]) -> tuple[float, ...]:
    """Smaller is better."""
    mean = sum(known[message] for message in walk) / len(walk)
    return (-mean, len(walk)) if raster.gradient is not None else (walk[-1][2], len(walk), -mean)


def expected_paths(raster: Raster, graph: Graph, source: int, target: int) -> dict[tuple[int, ...], tuple[float, ...]]:
    """The best value of each sequence of edges that makes a path."""
    known = bundles(raster, graph)
    best: dict[tuple[int, ...], tuple[float, ...]] = {}
    for walk in walks(raster, graph, source, target):
        if is_simple(walk, graph, source, target):
            edges = tuple(edge for edge, _, _ in walk)
            best[edges] = min(best.get(edges, (math.inf,)), value(walk, raster, known))
    return best


def plain(path: Path) -> list[tuple[int, int, int]]:
    return [(message.edge, message.sent, message.arrival) for message in path]


@st.composite
def runs(draw: st.DrawFn) -> tuple[Raster, Graph, int, int]:
    """A small graph with parallel edges and loops, a raster that has nothing to do with any dynamics, and two nodes."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    nodes, edges, steps = draw(st.integers(2, 4)), draw(st.integers(1, 7)), draw(st.integers(2, 6))
    graph = random_graph(rng, nodes, 2, edges)
    spikes = (rng.random((steps, nodes, 2)) < draw(st.sampled_from([0.2, 0.5, 0.9]))).astype(np.uint8)
    # few different values, so that ties occur
    gradient = rng.integers(-3, 4, spikes.shape) / 4 if draw(st.booleans()) else None
    weights = rng.choice([-1.0, 0.0, 1.0, 2.0], (2, 2)) if draw(st.booleans()) else None
    raster = Raster(spikes, rng.integers(0, 3, (2, 2)), draw(st.integers(1, 2)), weights, gradient)
    return raster, graph, int(rng.integers(nodes)), int(rng.integers(nodes))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(runs())
def test_with_a_wide_beam_the_paths_are_those_of_brute_force(run: tuple[Raster, Graph, int, int]) -> None:
    raster, graph, source, target = run
    known = bundles(raster, graph)
    found = carried_paths(Carried(raster, graph, source), target, paths=EVERYTHING, beam=EVERYTHING)
    expected = expected_paths(raster, graph, source, target)
    assert {tuple(message.edge for message in path) for path in found} == set(expected)
    values = [value(plain(path), raster, known) for path in found]
    for path, reached in zip(found, values, strict=True):
        np.testing.assert_allclose(reached, expected[tuple(message.edge for message in path)], rtol=1e-12)
    assert all(one <= other or np.allclose(one, other) for one, other in itertools.pairwise(values)), "best first"


@settings(max_examples=200, deadline=None, derandomize=True)
@given(runs(), st.integers(1, 3))
def test_with_a_narrow_beam_the_paths_are_real_and_none_is_missed_altogether(
    run: tuple[Raster, Graph, int, int], beam: int
) -> None:
    raster, graph, source, target = run
    found = carried_paths(Carried(raster, graph, source), target, paths=3, beam=beam)
    real = bundles(raster, graph)
    all_walks = list(walks(raster, graph, source, target))
    assert bool(found) == bool(all_walks), "a walk with loops contains a path"
    for path in found:
        assert plain(path) in all_walks
        assert is_simple(plain(path), graph, source, target)
        for message in path:
            assert math.isclose(message.importance, real[message.edge, message.sent, message.arrival], abs_tol=1e-12)
    if found and raster.gradient is None:
        assert found[0][-1].arrival == min(walk[-1][2] for walk in all_walks)


def test_the_times_of_a_path_are_chosen_together() -> None:
    """0 -> 1 -> 2: the second edge's best message (sent at 2) only allows a poor first one, the next best (at 4) a good one."""
    graph = Graph(3, 1, [0, 1], [0, 0], [1, 2])
    spikes, gradient = np.zeros((8, 3, 1), np.uint8), np.zeros((8, 3, 1))
    spikes[[1, 3], 0] = spikes[[2, 4], 1] = spikes[7, 2] = 1
    gradient[[2, 4], 1, 0] = 0.1, 1.0
    gradient[[3, 5], 2, 0] = 1.0, 0.9
    raster = Raster(spikes, np.zeros((1, 1), int), gradient=gradient)
    for beam in (2, EVERYTHING):
        (path,) = carried_paths(Carried(raster, graph, 0), 2, paths=5, beam=beam)
        assert plain(path) == [(0, 3, 4), (1, 4, 5)]


def test_a_beam_that_ends_in_a_loop_still_finds_the_way() -> None:
    """0 -> 1 -> 2 -> 4, and 2 -> 3 -> 2: a beam of one follows 3, whose spikes matter more, but they came from 2 itself."""
    graph = Graph(5, 1, [0, 1, 2, 2, 3], [0] * 5, [1, 2, 4, 3, 2])
    spikes, gradient = np.zeros((7, 5, 1), np.uint8), np.zeros((7, 5, 1))
    for node, step in ((0, 0), (1, 1), (2, 2), (3, 3), (2, 4), (4, 5)):
        spikes[step, node] = 1
    gradient[4, 2] = gradient[5, 4] = 1.0
    carried = Carried(Raster(spikes, np.zeros((1, 1), int), gradient=gradient), graph, 0)
    for beam in (1, EVERYTHING):
        (path,) = carried_paths(carried, 4, paths=5, beam=beam)
        assert [int(graph.target[message.edge]) for message in path] == [1, 2, 4]


def test_the_search_of_a_large_graph_is_bounded_by_the_beam() -> None:
    """500 nodes, all spiking all the time: 10^20 paths; the beam finds the one whose importance was planted."""
    rng = np.random.default_rng(0)
    edges = 5000
    ends = rng.integers(500, size=(2, edges))
    planted = [0, 17, 230, 411, 499]
    ends = np.concatenate([ends, [planted[:-1], planted[1:]]], axis=1)
    relation = np.append(rng.integers(3, size=edges), [3] * 4)
    graph = Graph(500, 4, ends[0], relation, ends[1])
    weights = np.full((4, 4), 0.01)
    weights[3] = 1.0
    gradient = 0.5 + rng.random((10, 500, 4))
    raster = Raster(np.ones((10, 500, 4), np.uint8), rng.integers(0, 2, (4, 4)), weights=weights, gradient=gradient)
    best = carried_paths(Carried(raster, graph, 0), 499, paths=1, beam=16)[0]
    assert [0, *(int(graph.target[message.edge]) for message in best)] == planted


# -------------------------------------------------------------------------------------------------------------- importance


class _Spike(torch.autograd.Function):
    """Spikes at and above 0; the derivative is 4 sg(4x) (1 - sg(4x))."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> torch.Tensor:
        sigmoid = torch.sigmoid(4 * ctx.saved_tensors[0])
        return gradient * 4 * sigmoid * (1 - sigmoid)


def naive_score(
    model: GraphReasoner, graph: Graph, source: int, query: int, target: int, edge_weight: torch.Tensor
) -> torch.Tensor:
    """The equations of GRSNN, edge after edge, with a factor on all messages of each edge."""
    rule, width = model.rule, model.width
    index = torch.tensor([query])
    code, delay = model.query_code(index)[0], model.delay_times(index)[0].detach().round().long()
    omega = model.relation_weights(index)
    omega = torch.ones_like(delay, dtype=code.dtype) if omega is None else omega[0]
    leak, kappa = math.exp(-1 / rule.tau), math.e / rule.tau
    injected = torch.zeros(graph.nodes, width, dtype=code.dtype)
    injected[source] = code
    current = membrane = torch.zeros_like(injected)
    spikes: list[torch.Tensor] = []
    for t in range(rule.steps):
        if t:
            rows = [torch.zeros(width, dtype=code.dtype) for _ in range(graph.nodes)]
            for edge, (u, r, v) in enumerate(zip(graph.source, graph.relation, graph.target, strict=True)):
                entries = []
                for k in range(width):
                    sent = t - rule.hop - int(delay[r, k])
                    entries.append(spikes[sent][u, k] if sent >= 0 else torch.zeros((), dtype=code.dtype))
                rows[v] = rows[v] + edge_weight[edge] * omega[r] * torch.stack(entries)
            inputs = torch.stack(rows)
            if model.variant == "plus":
                inputs = torch.cat([spikes[-1], inputs], dim=-1)
            current = leak * current + kappa * rule.scale * model.combine(inputs)
        membrane = leak * membrane + current + injected
        spikes.append(_Spike.apply(membrane - rule.threshold))
        membrane = membrane * (1 - spikes[-1])
    kernel = rule.decay ** torch.arange(rule.steps, dtype=code.dtype)
    feature = (torch.stack(spikes)[:, target] * kernel[:, None]).sum(0) / kernel.sum()
    return model.head(torch.cat([feature, code]))[0]


@pytest.mark.parametrize("hop", [1, 2])
@pytest.mark.parametrize("variant", ["base", "plus"])
def test_edge_importance_is_the_derivative_by_a_factor_on_the_edge(variant: str, hop: int) -> None:
    rng = np.random.default_rng(3)
    graph = random_graph(rng, 6, 3, 24)
    torch.manual_seed(1)
    model = GraphReasoner(3, width=8, steps=10, scale=3.0, variant=variant, hop=hop).double()
    source, query, target = 0, 1, int(graph.target[np.flatnonzero(graph.source == 0)[0]])
    factor = torch.ones(graph.edges, dtype=torch.float64, requires_grad=True)
    score = naive_score(model, graph, source, query, target, factor)
    (expected,) = torch.autograd.grad(score, factor)
    trace = model.trace_back(graph, source, query, target)
    assert math.isclose(trace.score, float(score), rel_tol=1e-12)
    weights = None if trace.relation_weights is None else trace.relation_weights.numpy()
    raster = Raster(trace.spikes.numpy(), trace.delays.numpy(), hop, weights, trace.gradient.numpy())
    found = edge_importance(raster, graph)
    assert np.count_nonzero(expected.numpy()) >= 4, "the test would see nothing"
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-9, atol=1e-12)
    # and it is the sum over the edge's messages, which the paths are made of
    summed = np.zeros(graph.edges)
    for edge, _, _, _, importance in messages(raster, graph):
        summed[edge] += importance
    np.testing.assert_allclose(found, summed, rtol=1e-9, atol=1e-12)


def test_edge_importance_needs_a_gradient_and_the_same_graph() -> None:
    graph = Graph(2, 1, [0], [0], [1])
    raster = Raster(np.zeros((3, 2, 1), np.uint8), np.zeros((1, 1), int))
    with pytest.raises(ValueError, match="trace_back"):
        edge_importance(raster, graph)
    with pytest.raises(ValueError, match="2 nodes and 1 relations, but the graph has 3"):
        edge_importance(raster, Graph(3, 1, [0], [0], [1]))


# -------------------------------------------------------------------------------------------------------------- what is told


def family() -> KnowledgeGraph:
    """ann is bob's mother, bob is cid's father, dora is cid's mother; ann asks for her grandchildren."""
    facts = np.array([[0, 0, 1], [1, 1, 2], [3, 0, 2]])
    names = ("ann", "bob", "cid", "dora", "eve")
    test = np.array([[0, 2, 2]])
    return KnowledgeGraph("family", names, ("mother", "father", "grand"), facts, facts, NO_TRIPLES, test)


def family_raster(*, last: bool = True, score: float | None = None) -> Raster:
    """D = 2: both neurons of ann spike at 0, neuron 0 of bob at 3, neuron 1 of cid at 5 (if ``last``).

    mother has delays 1 and 2, father 0 and 4; the inverse relations 3.
    """
    spikes = np.zeros((7, 5, 2), np.uint8)
    spikes[0, 0] = spikes[3, 1, 0] = 1
    spikes[5, 2, 1] = last
    delays = np.full((6, 2), 3)
    delays[0], delays[1] = (1, 2), (0, 4)
    return Raster(spikes, delays, score=score)


def test_a_path_is_told_with_names_delays_and_times() -> None:
    found = explain(family_raster(score=2.5), family(), "ann", "grand", "cid")
    assert found.query == ("ann", "grand", "cid")
    assert found.note == ""
    (path,) = found.paths
    first, second = path.steps
    assert (first.source, first.relation, first.target) == ("ann", "mother", "bob")
    assert (second.source, second.relation, second.target) == ("bob", "father", "cid")
    # both neurons of ann are in time for bob's spike at 3 (they arrive at 2 and 3); the bundles have one neuron each
    assert (first.sent, first.delay, first.arrival) in ((0, 1, 2), (0, 2, 3))
    assert first.neurons == ((0,) if first.delay == 1 else (1,))
    assert (second.sent, second.delay, second.arrival, second.neurons) == (3, 0, 4, (0,))
    assert first.share == 0.5
    assert second.share == 1.0
    assert path.arrival == 4
    assert found.score == 2.5
    assert found.rank is None
    assert found.activity == {"ann": (2, 0, 0, 0, 0, 0, 0), "bob": (0, 0, 0, 1, 0, 0, 0), "cid": (0, 0, 0, 0, 0, 1, 0)}
    text = found.text()
    assert text == str(found)
    assert text.splitlines()[0] == "ann --grand--> cid?  score 2.5"
    assert "1 path that carried the spikes, the first to arrive first:" in text
    assert "t=3 bob --father (delay 0)--> cid t=4" in text
    assert "1 neuron, 100% of all spikes into cid" in text


def test_inverse_relations_numbers_and_bare_graphs() -> None:
    data, raster = family(), family_raster()
    by_number = explain(raster, data, 0, 2, 2)
    assert by_number == explain(raster, data, "ann", "grand", "cid")
    bare = explain(raster, data.graph(), 0, 2, 2)
    assert [str(edge) for edge in bare.paths[0].steps][1] == "t=3 node 1 --relation 1 (delay 0)--> node 2 t=4"
    back = explain(raster, data, "bob", "mother^-1", "ann")
    assert back.query == ("bob", "mother^-1", "ann")
    assert not back.paths
    spikes = np.array(raster.spikes)
    spikes[6, 1] = 1
    spikes[0, 2] = 1  # cid's spike goes to bob over the inverse edge
    (path,) = explain(Raster(spikes, raster.delays), data, "cid", "grand^-1", "bob").paths
    assert str(path) == "t=0 cid --father^-1 (delay 3)--> bob t=4"
    assert path.steps[0].neurons == (0, 1)


def test_what_has_no_path_says_why() -> None:
    data, raster = family(), family_raster()
    unreached = explain(raster, data, "ann", "grand", "eve")
    assert unreached.paths == ()
    assert "no spikes that ann caused reached eve within 7 steps. They reached 2 other nodes" in unreached.text()
    silent_source = explain(raster, data, "eve", "grand", "cid")
    assert "eve itself never spiked" in silent_source.note
    silent_target = explain(family_raster(last=False), data, "ann", "grand", "cid")
    assert "spikes reached cid from t=4, but it did not spike then or later" in silent_target.note
    assert silent_target.activity == {"ann": (2, 0, 0, 0, 0, 0, 0), "cid": (0,) * 7}


def test_a_known_fact_can_be_kept_from_explaining_itself() -> None:
    data = family()
    spikes = np.ones((7, 5, 2), np.uint8)
    raster = Raster(spikes, np.zeros((6, 2), int))
    shown = explain(raster, data, "bob", "father", "cid", paths=1)
    assert str(shown.paths[0]).startswith("t=0 bob --father (delay 0)--> cid")
    hidden = explain(raster, data, "bob", "father", "cid", hide_fact=True)
    assert not hidden.paths, "it was the only way"
    backwards = explain(raster, data, "cid", "father^-1", "bob", hide_fact=True)
    assert not backwards.paths
    kept = explain(raster, data.graph(), 1, 1, 2, hide_fact=True)
    assert not kept.paths


def a_model(relations: int, **options: object) -> GraphReasoner:
    torch.manual_seed(0)
    return GraphReasoner(relations, width=8, steps=10, scale=2.0, **options)  # type: ignore[arg-type]


def test_a_trained_model_is_explained_with_score_rank_and_importance() -> None:
    data = family()
    model = a_model(6)
    found = explain(model, data, "ann", "grand", "cid")
    scores = model(data.graph(), torch.tensor([0]), torch.tensor([2]), None)[0].detach()
    assert math.isclose(found.score or 0.0, float(scores[2]), rel_tol=1e-6)
    assert found.rank == 1 + sum(float(scores[node]) >= float(scores[2]) for node in (0, 1, 3, 4))
    assert found.ranked_by == "importance"
    assert f"rank {found.rank}" in found.text()
    assert "of all importance into" in found.text()
    assert found.paths, "seed 0 reaches cid"
    values = [path.importance for path in found.paths]
    assert values == sorted(values, reverse=True)
    trace = model.trace_back(data.graph(), 0, 2, 2)
    for edge in (edge for path in found.paths for edge in path.steps):
        source, target = (data.entities.index(name) for name in (edge.source, edge.target))
        relation = [data.relation_name(r) for r in range(6)].index(edge.relation)
        expected = [
            k
            for k in range(8)
            if trace.spikes[edge.sent, source, k] and edge.sent + 1 + int(trace.delays[relation, k]) == edge.arrival
        ]
        assert list(edge.neurons) == expected
        gradient = float(trace.gradient[edge.arrival, target, expected].sum())
        assert math.isclose(edge.importance, gradient, rel_tol=1e-5, abs_tol=1e-9)
    assert explain(model, data, "ann", "grand", "cid") == found


@pytest.mark.parametrize(("variant", "hop"), [("base", 1), ("plus", 1), ("base", 2), ("plus", 2)])
def test_a_fixed_reasoner_is_explained_by_its_emulated_spikes(variant: str, hop: int) -> None:
    data = family()
    fixed = quantize_reasoner(a_model(6, variant=variant, hop=hop))
    trace = emulate_reasoner(fixed, data.graph(), [0], [2], record="spikes")
    assert trace.spikes is not None
    found = explain(fixed, data, "ann", "grand", "cid")
    assert found.ranked_by == "arrival"
    assert found.score == int(trace.scores[0, 2]) / fixed.head.one
    assert found.rank == 1 + int((trace.scores[0, [0, 1, 3, 4]] >= trace.scores[0, 2]).sum())
    raster = Raster(trace.spikes[:, 0], fixed.delay_table(2), fixed.hop)
    earliest = min(walk[-1][2] for walk in walks(raster, data.graph(), 0, 2))
    assert found.paths[0].arrival == earliest
    for edge in (edge for path in found.paths for edge in path.steps):
        source = data.entities.index(edge.source)
        assert edge.arrival == edge.sent + edge.delay + hop
        assert trace.spikes[edge.sent, 0, source, list(edge.neurons)].all()
        assert edge.importance == len(edge.neurons), "without a gradient, the number of spikes"


def test_synapses_that_were_rounded_to_nothing_carry_nothing() -> None:
    data = family()
    fixed = quantize_reasoner(a_model(6))
    silent = np.array(fixed.weight)
    silent[:, :4] = 0  # nothing hears the neurons 0..3
    found = explain(replace(fixed, weight=silent), data, "ann", "grand", "cid")
    assert found.paths
    assert all(min(edge.neurons) >= 4 for path in found.paths for edge in path.steps)


def test_a_run_on_lava_is_explained_as_the_emulated_one() -> None:
    data = family()
    fixed = quantize_reasoner(a_model(6))
    trace = run_lava_reasoner(fixed, data.graph(), [4, 0], [2, 2])
    assert trace.spikes is not None
    on_lava = explain(Raster(trace.spikes[:, 1], fixed.delay_table(2), fixed.hop), data, "ann", "grand", "cid")
    emulated = explain(fixed, data, "ann", "grand", "cid")
    assert on_lava.paths
    assert on_lava == replace(emulated, score=None, rank=None)


def test_a_homogeneous_model_is_explained_in_one_direction_with_the_score_of_both() -> None:
    names = ("a", "b", "c", "d")
    links = np.array([[0, 0, 1], [1, 0, 2]])
    data = KnowledgeGraph("links", names, ("link",), links, links, NO_TRIPLES, NO_TRIPLES, homogeneous=True)
    model = a_model(1, homogeneous=True)
    there, back = explain(model, data, "a", "link", "c"), explain(model, data, "c", "link", "a")
    expected = float(model(data.graph(), torch.tensor([0]), torch.tensor([0]), torch.tensor([[2]]))[0, 0])
    assert math.isclose(there.score or 0.0, expected, rel_tol=1e-6)
    assert math.isclose(back.score or 0.0, expected, rel_tol=1e-5)
    assert there.rank is None
    assert [edge.source for edge in there.paths[0].steps] == ["a", "b"]
    assert [edge.source for edge in back.paths[0].steps] == ["c", "b"]
    fixed = quantize_reasoner(model)
    score = int(pair_scores(fixed, data.graph(), [0], [2])[0]) / fixed.head.one
    assert math.isclose(score, expected, abs_tol=0.005), "integers of the same score"
    assert explain(fixed, data, "a", "link", "c").score == explain(fixed, data, "c", "link", "a").score == score


def test_known_answers_do_not_count_as_rivals() -> None:
    names = ("a", "b", "c", "d")
    facts = np.array([[0, 0, 1], [2, 0, 1]])
    model = a_model(2)
    scores = model(
        KnowledgeGraph("g", names, ("r",), facts, facts, NO_TRIPLES, NO_TRIPLES).graph(), torch.tensor([0]), torch.tensor([0])
    )[0]
    order = scores.argsort().tolist()  # the best is last
    worst, best = order[0], order[-1]
    plain_graph = KnowledgeGraph("g", names, ("r",), facts, facts, NO_TRIPLES, np.array([[0, 0, worst]]))
    with_known = KnowledgeGraph("g", names, ("r",), facts, facts, np.array([[0, 0, best]]), np.array([[0, 0, worst]]))
    ranks = [explain(model, data, 0, 0, worst).rank or 0 for data in (plain_graph, with_known)]
    known = [{1, worst}, {1, best, worst}]
    assert ranks == [1 + sum(float(scores[n]) >= float(scores[worst]) for n in range(4) if n not in seen) for seen in known]


def test_wrong_questions_are_refused() -> None:
    data, raster = family(), family_raster()
    task = InductiveTask("t", data, replace(data, test=data.train))
    with pytest.raises(UnknownNameError, match="bob"):
        explain(raster, data, "bobb", "grand", "cid")
    with pytest.raises(UnknownNameError, match="grand"):
        explain(raster, data, "ann", "grnd", "cid")
    with pytest.raises(LimitError, match="tail is 5"):
        explain(raster, data, "ann", "grand", 5)
    with pytest.raises(LimitError, match="relation is 6"):
        explain(raster, data, "ann", 6, "cid")
    with pytest.raises(TypeError, match="head is 'ann'"):
        explain(raster, data.graph(), "ann", 2, 2)
    with pytest.raises(TypeError, match=r"task\.train"):
        explain(raster, task, "ann", "grand", "cid")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="GraphReasoner"):
        explain(np.zeros(3), data, "ann", "grand", "cid")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="paths is 0"):
        explain(raster, data, "ann", "grand", "cid", paths=0)
    with pytest.raises(ValueError, match="beam is 0"):
        explain(raster, data, "ann", "grand", "cid", beam=0)
    with pytest.raises(ValueError, match="5 nodes and 2 relations"):
        explain(Raster(raster.spikes, np.asarray(raster.delays)[:2]), data, "ann", "grand", "cid")
    pna = a_model(6, variant="plus_full", pna=True)
    with pytest.raises(ValueError, match="pna"):
        explain(pna, data, "ann", "grand", "cid")


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"spikes": np.zeros((3, 1, 5, 2))}, ValueError, "query by query"),
        ({"delays": np.zeros((6, 3), int)}, ValueError, r"\[R, D\]"),
        ({"delays": np.zeros((6, 2))}, TypeError, "integers"),
        ({"delays": np.full((6, 2), -1)}, LimitError, "-1"),
        ({"spikes": np.full((7, 5, 2), 2)}, LimitError, "2"),
        ({"hop": 0}, ValueError, "hop is 0"),
        ({"weights": np.ones((5, 2))}, ValueError, r"weights has shape \(5, 2\)"),
        ({"gradient": np.ones((7, 5, 1))}, ValueError, "gradient has shape"),
        ({"gradient": np.full((7, 5, 2), np.nan)}, ValueError, "NaN"),
    ],
)
def test_a_raster_checks_itself(fields: dict[str, object], error: type[Exception], message: str) -> None:
    good = family_raster()
    with pytest.raises(error, match=message):
        Raster(**({"spikes": good.spikes, "delays": good.delays} | fields))  # type: ignore[arg-type]
