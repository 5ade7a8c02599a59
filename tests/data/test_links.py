"""Link prediction: every link in one split, negatives that are none, draws that depend on the seed alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lava_snnlearn.checks import LimitError
from lava_snnlearn.data import link_prediction
from lava_snnlearn.data.links import pair_numbers, pairs_of


def pairs(rows):
    """Undirected pairs of rows [n, 2] or [n, 3]."""
    return [frozenset((int(row[0]), int(row[-1]))) for row in rows]


@st.composite
def links(draw):
    nodes = draw(st.integers(5, 12))
    every = [(a, b) for a in range(nodes) for b in range(a)]
    chosen = draw(st.lists(st.sampled_from(every), min_size=5, max_size=len(every) // 2, unique=True))
    turned = draw(st.lists(st.booleans(), min_size=len(chosen), max_size=len(chosen)))
    return nodes, [pair[::-1] if turn else pair for pair, turn in zip(chosen, turned, strict=True)]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(links(), st.integers(0, 5))
def test_splits_and_negatives_are_apart(graph, seed):
    nodes, given_links = graph
    data = link_prediction("toy", nodes, np.array(given_links), shares=(0.5, 0.25, 0.25), seed=seed)
    parts = [pairs(getattr(data, split)) for split in ("train", "valid", "test")]
    count = len(given_links)
    assert [len(part) for part in parts] == [count // 2, count // 4, count - count // 2 - count // 4]
    assert set().union(*parts) == set(pairs(given_links))
    assert sum(map(len, parts)) == count  # so none is there twice
    negatives = pairs(data.valid_negatives) + pairs(data.test_negatives)
    assert [len(data.valid_negatives), len(data.test_negatives)] == [len(part) for part in parts[1:]]
    assert len(set(negatives)) == len(negatives)
    assert not set(negatives) & set().union(*parts)
    assert all(len(pair) == 2 for pair in negatives)
    assert data.facts.tolist() == data.train.tolist()
    assert data.homogeneous
    assert not data.train[:, 1].any()


def test_every_pair_without_a_link_can_be_drawn():
    """6 nodes, 10 links in 15 pairs: 5 negatives are all there are; and over many seeds all are equally likely to be first."""
    every = [(a, b) for a in range(6) for b in range(a)]
    free = {frozenset(pair) for pair in every[::3]}
    rest = np.array([pair for pair in every if frozenset(pair) not in free])
    first: dict[frozenset[int], int] = dict.fromkeys(free, 0)
    for seed in range(500):
        data = link_prediction("toy", 6, rest, shares=(0.5, 0.1, 0.4), seed=seed)
        assert set(pairs(data.valid_negatives) + pairs(data.test_negatives)) == free
        first[pairs(data.valid_negatives)[0]] += 1
    assert min(first.values()) > 60  # 100 expected, deviation 9
    with pytest.raises(ValueError, match="only 5 pairs have no link, but valid and test need 6"):
        link_prediction("toy", 6, rest, shares=(0.4, 0.2, 0.4))


def test_pairs_are_numbered_without_gaps():
    every = [(a, b) for b in range(1, 50) for a in range(b)]
    numbers = np.arange(len(every))
    assert [tuple(pair) for pair in pairs_of(numbers).tolist()] == every
    assert np.array_equal(pair_numbers(np.array(every)[:, ::-1]), numbers)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.integers(0, (1 << 24) * ((1 << 25) - 1) - 1), min_size=1), st.integers(1, (1 << 25) - 1))
def test_numbers_of_pairs_of_many_nodes_are_exact(numbers, node):
    """Up to the last of 2^25 nodes; and at the first and last pair of a node, where a square root may be rounded up."""
    numbers += [node * (node - 1) // 2 + offset for offset in (-1, 0, node - 1) if node > 1 or offset >= 0]
    found = pairs_of(np.array(numbers))
    assert (found >= 0).all()
    assert (found[:, 0] < found[:, 1]).all()
    assert [b * (b - 1) // 2 + a for a, b in found.tolist()] == numbers


def test_draws_depend_on_the_seed_alone():
    given_links = np.stack([np.arange(40), np.arange(1, 41)], 1)
    fields = ("train", "valid", "test", "valid_negatives", "test_negatives")
    first, again, other = (link_prediction("toy", 41, given_links, seed=seed) for seed in (1, 1, 2))
    # neither order nor direction nor repetition of the given links matters
    turned = link_prediction("toy", 41, np.concatenate([given_links[::-1, ::-1], given_links[:3]]), seed=1)
    for field in fields:
        assert np.array_equal(getattr(first, field), getattr(again, field))
        assert np.array_equal(getattr(first, field), getattr(turned, field))
        assert not np.array_equal(getattr(first, field), getattr(other, field))


PATH = np.stack([np.arange(20), np.arange(1, 21)], 1)


@pytest.mark.parametrize(
    "error, part, arguments, options",
    [
        (ValueError, "link 1 joins node 3 to itself", (21, [(0, 1), (3, 3)]), {}),
        (LimitError, "links is 20", (20, PATH), {}),
        (LimitError, "nodes is 1", (1, PATH), {}),
        (TypeError, "shape (2, 20)", (21, PATH.T), {}),
        (TypeError, "float64", (21, PATH * 1.0), {}),
        (ValueError, "sum is 1", (21, PATH), {"shares": (0.9, 0.1, 0.1)}),
        (ValueError, "above 0", (21, PATH), {"shares": (0.9, 0.1, 0.0)}),
        (ValueError, "4 links give splits of 3, 0 and 1", (21, PATH[:4]), {}),
        (ValueError, "2 names for 21 nodes", (21, PATH), {"entities": ("a", "b")}),
        (ValueError, "seed is -1", (21, PATH), {"seed": -1}),
    ],
)
def test_bad_links_are_refused(error, part, arguments, options):
    nodes, given_links = arguments
    with pytest.raises(error) as refusal:
        link_prediction("toy", nodes, given_links, **options)
    assert part in str(refusal.value)
