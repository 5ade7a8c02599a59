"""Batches: which queries are asked, negatives that are never known, edges that are hidden; against sets and loops."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lava_snnlearn.checks import LimitError, UnknownNameError
from lava_snnlearn.data import KnowledgeGraph, load_graph
from lava_snnlearn.data.places import DATA_VARIABLE
from lava_snnlearn.graphs import Graph
from lava_snnlearn.reasoning.answers import FOR_TRAINING, KnownAnswers
from lava_snnlearn.reasoning.sampling import EdgeRemoval, batch_queries, strict_negatives, with_negatives

FOLDER = Path(os.environ.get(DATA_VARIABLE, "none"))
needs_data = pytest.mark.skipif(not (FOLDER / "kg").is_dir(), reason=f"{DATA_VARIABLE} names no folder; CI sets it")
RELATIONS = 2
nodes = st.integers(0, 4)
triples = st.lists(st.tuples(nodes, st.integers(0, RELATIONS - 1), nodes), min_size=1, max_size=25)
links = st.lists(st.tuples(nodes, st.just(0), nodes).filter(lambda triple: triple[0] != triple[2]), min_size=1, max_size=12)


def toy(facts, held=(), homogeneous=False):
    """``held``: triples of valid and test."""
    facts, held = (np.array(part, np.int64).reshape(-1, 3) for part in (facts, held))
    return KnowledgeGraph("toy", tuple("abcde"), ("r",) if homogeneous else ("r", "s"), facts, facts, held, held, homogeneous)


graphs = st.one_of(st.builds(toy, triples, triples), st.builds(toy, links, links, st.just(True)))


def false_answers(data):
    """{(source, query): entities that no fact makes an answer}."""
    true = {(h, r, t) for h, r, t in data.facts.tolist()}
    if data.homogeneous:
        true |= {(t, r, h) for h, r, t in true} | {(node, 0, node) for node in range(5)}
    else:
        true |= {(t, r + RELATIONS, h) for h, r, t in true}
    every = [(x, q) for x in range(5) for q in range(data.query_relations)]
    return {(x, q): [e for e in range(5) if (x, q, e) not in true] for x, q in every}


@settings(deadline=None, derandomize=True)
@given(graphs, st.integers(0, 3))
def test_negatives_are_never_known(data, seed):
    free = false_answers(data)
    asked = [pair for pair, entities in free.items() if entities]
    source, query = np.array(asked).reshape(-1, 2).T
    known = KnownAnswers(data, FOR_TRAINING)
    drawn = strict_negatives(known, source, query, 7, np.random.default_rng(seed))
    assert drawn.shape == (len(asked), 7)
    for pair, of_query in zip(asked, drawn.tolist(), strict=True):
        assert set(of_query) <= set(free[pair])
    assert np.array_equal(drawn, strict_negatives(known, source, query, 7, np.random.default_rng(seed)))


def test_negatives_are_uniform_and_independent():
    """Three of five are left: 0, 2, 4. Pairs of neighbours in a row have nine values, each as often."""
    known = KnownAnswers(toy([(3, 1, 1), (3, 1, 3), (0, 0, 0)], held=[(3, 1, 4)]), FOR_TRAINING)
    drawn = strict_negatives(known, [3, 3], [1, 1], 9000, np.random.default_rng(0))
    pairs = Counter(map(tuple, drawn.reshape(-1, 2).tolist()))
    assert set(pairs) == {(a, b) for a in (0, 2, 4) for b in (0, 2, 4)}  # 4 is held back, not known
    assert all(abs(count - 1000) < 150 for count in pairs.values())  # 5 deviations
    assert not np.array_equal(drawn[0], drawn[1])


def test_queries_without_negatives_are_refused_and_found():
    full = toy([(0, 0, e) for e in range(5)] + [(1, 1, 2)])
    known = KnownAnswers(full, FOR_TRAINING)
    with pytest.raises(ValueError, match=r"query 1, \(entity 0, relation 0, \?\): all 5 entities are true answers"):
        strict_negatives(known, [1, 0], [1, 0], 3, np.random.default_rng(0))
    assert with_negatives(known, full, full.train).tolist() == [False] * 5 + [True]
    turned = toy([(e, 1, 3) for e in range(5)])  # (3, inverse of 1, ?) is full; each (e, 1, ?) has negatives
    assert not with_negatives(KnownAnswers(turned, FOR_TRAINING), turned, turned.train).any()
    with pytest.raises(ValueError, match="count of negatives is 0"):
        strict_negatives(known, [1], [1], 0, np.random.default_rng(0))


@pytest.mark.parametrize("size, tails", [(4, 2), (5, 3), (1, 1)])
def test_first_half_asks_for_tails(size, tails):
    batch = np.array([(i % 5, i % 2, (i + 1) % 5) for i in range(size)])
    data = toy(batch)
    expected = [(h, r, t) if row < tails else (t, r + RELATIONS, h) for row, (h, r, t) in enumerate(batch.tolist())]
    assert list(zip(*(column.tolist() for column in batch_queries(data, batch)), strict=True)) == expected


def removed_by_loop(graph, batch, relations, how):
    homogeneous = graph.relations == 1
    exact = {(h, r, t) for h, r, t in batch} | {(t, r if homogeneous else r + relations, h) for h, r, t in batch}
    joined = {(h, t) for h, _, t in exact}
    edges = zip(graph.source.tolist(), graph.relation.tolist(), graph.target.tolist(), strict=True)
    return [{"triples": (s, r, t) in exact, "one_hop": (s, t) in joined, "none": False}[how] for s, r, t in edges]


@settings(deadline=None, derandomize=True)
@given(graphs, triples, st.sampled_from(["triples", "one_hop", "none"]))
def test_hidden_edges_are_those_of_a_loop(data, others, how):
    """Batches of facts, and of triples that are none: these hide what lies between their entities, or nothing."""
    graph, relations = data.graph(), len(data.relations)
    removal = EdgeRemoval(graph, relations, how)
    others = [(h, r % relations, t) for h, r, t in others]
    for batch in (data.facts[:2].tolist(), others, []):
        mask = removal(np.array(batch, np.int64).reshape(-1, 3))
        assert mask.dtype == bool
        assert mask.tolist() == removed_by_loop(graph, batch, relations, how)


def test_repeated_edges_are_all_hidden():
    graph = Graph(3, 2, [0, 0, 1, 1, 0], [0, 0, 1, 1, 1], [1, 1, 0, 0, 1])
    assert EdgeRemoval(graph, 1)(np.array([(0, 0, 1)])).tolist() == [True, True, False, True, True]
    assert EdgeRemoval(graph, 1, "one_hop")(np.array([(1, 0, 0)])).all()


def test_self_loops_of_homogeneous_graphs_stay():
    data = toy([(0, 0, 1), (1, 0, 2)], homogeneous=True)
    for how in ("triples", "one_hop"):
        left = data.graph().without(EdgeRemoval(data.graph(), 1, how)(data.facts))
        assert left.source.tolist() == left.target.tolist() == [0, 1, 2, 3, 4]


def test_bad_removals_are_refused():
    graph = toy([(0, 1, 2)]).graph()
    with pytest.raises(UnknownNameError, match="Did you mean 'triples'"):
        EdgeRemoval(graph, 2, "triple")
    with pytest.raises(ValueError, match="the graph has 4 relations; expected 8 with the inverse ones of 4"):
        EdgeRemoval(graph, 4)
    with pytest.raises(LimitError, match="relations is 2"):
        EdgeRemoval(graph, 2)(np.array([(0, 2, 1)]))
    with pytest.raises(LimitError, match="entities is 5"):
        EdgeRemoval(graph, 2, "none")(np.array([(0, 1, 5)]))


@needs_data
def test_a_large_graph_agrees_with_sets():
    """Hubs of WN18RR: batches of its training triples, against sets of its lines."""
    data = load_graph("wn18rr")
    known, graph, count = KnownAnswers(data, FOR_TRAINING), data.graph(), len(data.relations)
    true = set(map(tuple, data.facts.tolist()))
    draw = np.random.default_rng(0)
    batch = data.train[draw.permutation(len(data.train))[:64]]
    asked = batch_queries(data, batch)
    negatives = strict_negatives(known, asked.source, asked.query, 256, draw)
    for x, q, drawn in zip(asked.source.tolist(), asked.query.tolist(), negatives.tolist(), strict=True):
        assert not any(((x, q, e) if q < count else (e, q - count, x)) in true for e in drawn)
    mask = EdgeRemoval(graph, count)(batch)
    assert mask.sum() == 2 * len(batch)
    assert mask.tolist() == removed_by_loop(graph, batch.tolist(), count, "triples")
    one_hop = EdgeRemoval(graph, count, "one_hop")(batch)
    assert one_hop.tolist() == removed_by_loop(graph, batch.tolist(), count, "one_hop")
