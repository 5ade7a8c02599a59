"""The index of known answers against sets made by a loop over all triples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lava_snnlearn.checks import LimitError, UnknownNameError
from lava_snnlearn.data import KnowledgeGraph
from lava_snnlearn.reasoning.answers import FOR_TRAINING, KnownAnswers, both_queries, head_queries, tail_queries

ENTITIES, RELATIONS = 6, 3


def toy(facts, train=(), valid=(), test=(), homogeneous=False):
    relations = 1 if homogeneous else RELATIONS
    splits = (np.array(split, np.int64).reshape(-1, 3) for split in (facts, train, valid, test))
    return KnowledgeGraph("toy", tuple("abcdef"), tuple("rst"[:relations]), *splits, homogeneous)


def answers_by_sets(triples, homogeneous):
    """{(source, query): answers} of both directions."""
    found = {}
    for h, r, t in triples:
        found.setdefault((h, r), set()).add(t)
        found.setdefault((t, r if homogeneous else r + RELATIONS), set()).add(h)
    if homogeneous:
        for node in range(ENTITIES):
            found.setdefault((node, 0), set()).add(node)
    return found


nodes = st.integers(0, ENTITIES - 1)
triples = st.lists(st.tuples(nodes, st.integers(0, RELATIONS - 1), nodes), max_size=25)
linked = st.lists(st.tuples(nodes, st.just(0), nodes).filter(lambda triple: triple[0] != triple[2]), max_size=25)
graphs = st.one_of(
    st.builds(toy, triples, triples, triples, triples), st.builds(toy, linked, linked, linked, linked, st.just(True))
)


@settings(deadline=None, derandomize=True)
@given(graphs, st.sampled_from([("facts", "train", "valid", "test"), FOR_TRAINING, ("test",)]))
def test_answers_are_those_of_all_triples(data, splits):
    expected = answers_by_sets([triple for split in splits for triple in getattr(data, split).tolist()], data.homogeneous)
    known = KnownAnswers(data, splits)
    every = [(x, q) for q in range(data.query_relations) for x in range(ENTITIES)][::-1]
    source, query = np.array(every).T
    sets = [sorted(expected.get(pair, ())) for pair in every]
    assert [known.tails(x, q).tolist() for x, q in every] == sets
    assert known.count(source, query).tolist() == [len(answers) for answers in sets]
    row, answer = known.rows(source, query)
    assert list(zip(row.tolist(), answer.tolist(), strict=True)) == [(i, a) for i, answers in enumerate(sets) for a in answers]
    mask = known.mask(source, query)
    assert mask.shape == (len(every), ENTITIES)
    assert [np.flatnonzero(of_query).tolist() for of_query in mask] == sets


def test_queries_ask_for_tails_and_heads():
    data = toy([(0, 1, 2), (3, 2, 4)])
    assert [column.tolist() for column in tail_queries(data.facts)] == [[0, 3], [1, 2], [2, 4]]
    assert [column.tolist() for column in head_queries(data, data.facts)] == [[2, 4], [4, 5], [0, 3]]
    assert [column.tolist() for column in both_queries(data, data.facts)] == [[0, 3, 2, 4], [1, 2, 4, 5], [2, 4, 0, 3]]
    undirected = toy([(0, 0, 2)], homogeneous=True)
    assert [column.tolist() for column in head_queries(undirected, undirected.facts)] == [[2], [0], [0]]


def test_many_entities_need_no_table_of_all_pairs():
    """A table of queries x entities would have 4 x 10^11 places here."""
    count, data = 200_000, toy([(0, 0, 1)])
    wide = KnowledgeGraph("wide", tuple(map(str, range(count))), tuple(map(str, range(1000))), *[data.facts] * 4)
    known = KnownAnswers(wide)
    assert known.tails(0, 0).tolist() == [1]
    assert known.tails(1, 1000).tolist() == [0]
    assert known.tails(count - 1, 1999).tolist() == []


def test_bad_queries_are_refused():
    known = KnownAnswers(toy([(0, 1, 2)]))
    with pytest.raises(LimitError, match="source is 6 at index 1"):
        known.mask([0, 6], [0, 0])
    with pytest.raises(LimitError, match="query is 6"):
        known.count([0], [2 * RELATIONS])
    with pytest.raises(ValueError, match=r"source has shape \(2,\), query \(1,\)"):
        known.rows([0, 1], [0])
    with pytest.raises(UnknownNameError, match="Did you mean 'test'"):
        KnownAnswers(toy([]), ("tests",))
    with pytest.raises(TypeError, match=r"task\.train"):
        KnownAnswers(None)
