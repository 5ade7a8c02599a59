"""Filtered ranks and measures against loops, sets and draws."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lava_snnlearn.checks import LimitError
from lava_snnlearn.reasoning.ranking import filtered_candidates, filtered_ranks, link_measures, rank_measures, sampled_hits


def ranks_by_loop(scores, answers, known):
    ranks = []
    for row, answer in enumerate(answers):
        rivals = [e for e in range(scores.shape[1]) if e != answer and not known[row, e]]
        ranks.append(1 + sum(scores[row, e] >= scores[row, answer] for e in rivals))
    return ranks


@st.composite
def rankings(draw):
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 8)))
    levels = st.sampled_from([-np.inf, -1.5, 0.0, 0.25, 3.0, np.inf])  # few, so that there are ties
    scores = draw(arrays.arrays(np.float32, shape, elements=levels))
    known = draw(arrays.arrays(bool, shape))
    answers = draw(arrays.arrays(np.int64, shape[:1], elements=st.integers(0, shape[1] - 1)))
    return scores, answers, known


@settings(deadline=None, derandomize=True)
@given(rankings(), st.booleans())
def test_ranks_are_those_of_a_loop(ranking, as_tensor):
    scores, answers, known = ranking
    before = known.copy()
    given_scores = torch.from_numpy(scores).requires_grad_() if as_tensor else scores
    assert filtered_ranks(given_scores, answers, known).tolist() == ranks_by_loop(scores, answers, known)
    counts = [sum(not known[row, e] for e in range(scores.shape[1]) if e != answer) for row, answer in enumerate(answers)]
    assert filtered_candidates(answers, known).tolist() == counts
    assert np.array_equal(known, before)


def test_a_constant_score_gets_the_last_rank():
    known = np.zeros((2, 7), bool)
    known[1, :3] = True
    ranks = filtered_ranks(torch.zeros(2, 7), [0, 1], known)
    assert ranks.tolist() == [7, 5]
    assert ranks.dtype == np.int64
    assert (ranks - 1 == filtered_candidates([0, 1], known)).all()


def test_bad_rankings_are_refused():
    scores, known = torch.zeros(2, 3), np.zeros((2, 3), bool)
    with pytest.raises(ValueError, match="1 of 6 scores are NaN"):
        filtered_ranks(torch.tensor([[0, np.nan, 0], [0, 0, 0]]), [0, 0], known)
    with pytest.raises(ValueError, match=r"scores \(2, 3\), known \(2, 2\), answers \(2,\)"):
        filtered_ranks(scores, [0, 0], known[:, :2])
    with pytest.raises(ValueError, match=r"answers \(3,\)"):
        filtered_ranks(scores, [0, 0, 0], known)
    with pytest.raises(LimitError, match="answers is 3 at index 1"):
        filtered_ranks(scores, [0, 3], known)


def test_measures_by_hand():
    measures = rank_measures(np.array([1, 2, 4, 10, 11]))
    expected = {
        "mr": 28 / 5,
        "mrr": (1 + 1 / 2 + 1 / 4 + 1 / 10 + 1 / 11) / 5,
        "hits@1": 1 / 5,
        "hits@3": 2 / 5,
        "hits@10": 4 / 5,
    }
    assert list(measures) == list(expected)
    assert measures == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "ranks, error, part", [([], ValueError, "empty"), ([0], LimitError, "ranks is 0"), ([1.5], TypeError, "f")]
)
def test_bad_ranks_are_refused(ranks, error, part):
    for measure in (rank_measures, lambda ranks: sampled_hits(ranks, np.full(len(ranks), 9))):
        with pytest.raises(error, match=part):
            measure(np.array(ranks))


@pytest.mark.parametrize("rank, candidates", [(1, 300), (20, 300), (60, 300), (61, 200), (120, 300), (12, 20), (301, 300)])
def test_sampled_hits_are_those_of_drawn_negatives(rank, candidates):
    """20,000 draws of 50 of the candidates, the first rank - 1 of which score as high as the answer."""
    draw = np.random.default_rng(rank)
    above = (draw.integers(0, candidates, (20_000, 50)) < rank - 1).sum(axis=1)
    share = float((above < 10).mean())
    expected = sampled_hits([rank], [candidates])
    assert expected == pytest.approx(share, abs=4 * 0.5 / 20_000**0.5)
    if rank in (1, candidates + 1):
        assert expected == (rank == 1)


def test_sampled_hits_average_queries_and_count_all_samples():
    one, two = sampled_hits([30], [100]), sampled_hits([5], [40])
    assert sampled_hits([30, 5], [100, 40]) == pytest.approx((one + two) / 2, rel=1e-12)
    assert sampled_hits([3], [4], hits=1, samples=3) == pytest.approx(0.5**3, rel=1e-12)
    assert sampled_hits([5], [4], hits=4, samples=3) == 1
    assert sampled_hits([1], [0]) == 1  # nothing to be ranked against


def test_bad_samples_are_refused():
    with pytest.raises(ValueError, match=r"ranks have shape \(2,\), candidates \(1,\)"):
        sampled_hits([1, 2], [3])
    with pytest.raises(LimitError, match="at most the number of candidates"):
        sampled_hits([5], [3])
    with pytest.raises(ValueError, match="hits is 0"):
        sampled_hits([1], [3], hits=0)


@settings(deadline=None, derandomize=True)
@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=8).map(np.array),
    st.lists(st.integers(-3, 3), min_size=1, max_size=8).map(np.array),
)
def test_link_measures_are_their_definitions(links, negatives):
    measures = link_measures(torch.from_numpy(links).float(), negatives.astype(np.float64))
    wins = [(a > b) + 0.5 * (a == b) for a in links for b in negatives]
    assert measures["auroc"] == pytest.approx(np.mean(wins), rel=1e-9)
    precision, recall = [], [0.0]
    for level in sorted({*links, *negatives}, reverse=True):
        hits = (links >= level).sum()
        precision.append(hits / (hits + (negatives >= level).sum()))
        recall.append(hits / len(links))
    assert measures["ap"] == pytest.approx(float(np.dot(precision, np.diff(recall))), rel=1e-9)


def test_bad_link_scores_are_refused():
    with pytest.raises(ValueError, match=r"negatives have shape \(0,\)"):
        link_measures(torch.ones(2), torch.ones(0))
    with pytest.raises(ValueError, match=r"links have shape .*, 1 of them not finite"):
        link_measures(torch.tensor([1.0, np.inf]), torch.ones(3))
