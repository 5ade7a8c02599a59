"""Knowledge graphs: their message graphs, inverse relations, counts, refusals."""

import numpy as np
import pytest

from lava_snnlearn.checks import LimitError
from lava_snnlearn.data import InductiveTask, KnowledgeGraph

NOTHING = np.zeros((0, 3), np.int64)


def graph(facts, *, entities=4, relations=2, **options):
    splits = {"train": facts, "valid": NOTHING, "test": NOTHING} | options
    names = tuple("abcdefgh"[:entities]), tuple("rst"[:relations])
    return KnowledgeGraph("toy", *names, np.array(facts), **splits)


def edges(made):
    return sorted(zip(made.source.tolist(), made.relation.tolist(), made.target.tolist(), strict=True))


def test_each_fact_makes_two_edges():
    data = graph([(0, 1, 2), (2, 0, 0), (3, 1, 3), (0, 1, 2)])
    assert data.facts.tolist() == [[0, 1, 2], [2, 0, 0], [3, 1, 3]]  # the repeated one is dropped
    assert data.train.tolist() == [[0, 1, 2], [2, 0, 0], [3, 1, 3], [0, 1, 2]]  # queries stay
    made = data.graph()
    assert (made.nodes, made.relations) == (4, 4)
    assert edges(made) == sorted([(0, 1, 2), (2, 3, 0), (2, 0, 0), (0, 2, 2), (3, 1, 3), (3, 3, 3)])
    assert data.graph() is made


def test_homogeneous_graphs_have_no_direction():
    data = graph([(0, 0, 1), (2, 0, 1), (1, 0, 0)], relations=1, homogeneous=True)
    assert data.facts.tolist() == [[0, 0, 1], [2, 0, 1]]
    assert (data.query_relations, data.inverse(0), data.graph().relations) == (1, 0, 1)
    loops = [(node, 0, node) for node in range(4)]
    assert edges(data.graph()) == sorted([(0, 0, 1), (1, 0, 0), (2, 0, 1), (1, 0, 2), *loops])


def test_inverse_relations_have_numbers_and_names():
    data = graph([(0, 1, 2)])
    assert data.query_relations == 4
    assert [data.inverse(r) for r in range(4)] == data.inverse(np.arange(4)).tolist() == [2, 3, 0, 1]
    assert [data.relation_name(r) for r in range(4)] == ["r", "s", "r^-1", "s^-1"]
    assert graph([(0, 0, 1)], relations=1, homogeneous=True).relation_name(0) == "r"
    with pytest.raises(LimitError, match="relation is 4"):
        data.inverse(4)


def test_summary_counts_and_finds_leaks():
    data = graph([(0, 1, 2), (1, 1, 2)], valid=[(0, 0, 2), (0, 1, 2)], test=[(2, 1, 0)])
    counts = {"entities": 4, "relations": 2, "facts": 2, "train": 2, "valid": 2, "test": 1, "leaked": 1}
    assert data.summary() == {"name": "toy"} | counts
    undirected = graph([(0, 0, 2)], relations=1, homogeneous=True, test=[(2, 0, 0), (1, 0, 0)])
    assert undirected.summary()["leaked"] == 1


def test_arrays_are_copies_that_cannot_be_changed():
    mine = np.array([[0, 1, 2]])
    data = graph(mine)
    mine[:] = 0
    assert data.train.tolist() == data.facts.tolist() == [[0, 1, 2]]
    with pytest.raises(ValueError, match="read-only"):
        data.facts[0, 0] = 1


@pytest.mark.parametrize(
    "error, part, make",
    [
        (LimitError, "facts, entities is 4 at index (0, 1)", lambda: graph([(0, 0, 4)])),
        (LimitError, "relations is -1", lambda: graph([(0, -1, 1)])),
        (LimitError, "test, relations is 2", lambda: graph([(0, 0, 1)], test=[(0, 2, 1)])),
        (TypeError, "valid has shape (1, 2)", lambda: graph([(0, 0, 1)], valid=[(0, 1)])),
        (TypeError, "float64", lambda: graph([(0.0, 0.0, 1.0)])),
        (TypeError, "string 'abc'", lambda: KnowledgeGraph("x", "abc", ("r",), *[NOTHING] * 4)),
        (TypeError, "names are strings", lambda: KnowledgeGraph("x", (1, 2), ("r",), *[NOTHING] * 4)),
        (ValueError, "'a' is there more than once", lambda: KnowledgeGraph("x", ("b", "a", "a"), ("r",), *[NOTHING] * 4)),
        (ValueError, "relations is empty", lambda: KnowledgeGraph("x", ("a",), (), *[NOTHING] * 4)),
        (ValueError, "2 relations; give one", lambda: graph([(0, 0, 1)], homogeneous=True)),
        (ValueError, "row 1 links entity 2 to itself", lambda: graph([(0, 0, 1), (2, 0, 2)], relations=1, homogeneous=True)),
        (ValueError, "ranked among all", lambda: graph([(0, 0, 1)], valid_negatives=[(0, 2)])),
        (
            ValueError,
            "row 1, (1, 0), is a link",
            lambda: graph([(0, 0, 1)], relations=1, homogeneous=True, test_negatives=[(0, 2), (1, 0)]),
        ),
    ],
)
def test_bad_graphs_are_refused(error, part, make):
    with pytest.raises(error) as refusal:
        make()
    assert part in str(refusal.value)


def test_tasks_of_two_vocabularies_are_refused():
    with pytest.raises(ValueError, match=r"2 to train on, 1 to test on"):
        InductiveTask("two", graph([(0, 0, 1)]), graph([(0, 0, 1)], relations=1))
    with pytest.raises(TypeError, match="two: test"):
        InductiveTask("two", graph([(0, 0, 1)]), None)
