"""Link prediction: the links of an undirected graph in three splits, with as many pairs that are no links."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import at_least, real_number, whole_number, within
from lava_snnlearn.data.knowledge_graph import SPLITS, KnowledgeGraph

# Pairs are numbered, and their numbers go through square roots of float64.
_MOST_NODES = 1 << 25


def link_prediction(
    name: str,
    nodes: int,
    links: ArrayLike,
    *,
    shares: Sequence[float] = (0.85, 0.05, 0.10),
    seed: int = 0,
    entities: Iterable[str] | None = None,
) -> KnowledgeGraph:
    """A homogeneous graph whose links are drawn into train (the facts), valid and test, each link in one of them.

    valid and test come with as many pairs without a link: never a link of any split, never (a, a), none twice. Sizes of train
    and valid are rounded down, test is the rest. Default shares: those of GRSNN.

    Args:
        name: for reports.
        nodes: N, from 2 to 2^25.
        links: integers [E, 2] of nodes, any direction and order; repeated links count once.
        shares: of train, valid and test, each above 0; their sum is 1.
        seed: of the draws, not negative.
        entities: N names; None: "0", "1", ...

    Raises:
        TypeError: other shapes and types. LimitError: a number that is no node.
        ValueError: a node linked to itself, bad shares, a split without a link, too few pairs without a link.
    """
    nodes = whole_number("nodes", nodes)
    within("nodes", nodes, 2, _MOST_NODES, "Take a part of the graph.")
    draw = np.random.default_rng(at_least(0, "seed", seed))
    pairs = np.asarray(links)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        raise TypeError(f"{name}: links have shape {pairs.shape} and dtype {pairs.dtype}; expected integers [E, 2]")
    within(f"{name}: links", pairs, 0, nodes - 1, f"There are {nodes} nodes, counted from 0.")
    loops = np.flatnonzero(pairs[:, 0] == pairs[:, 1])
    if len(loops):
        raise ValueError(f"{name}: link {loops[0]} joins node {pairs[loops[0], 0]} to itself; drop such links")
    true = np.unique(pair_numbers(pairs.astype(np.int64)))
    cuts = _cuts(name, len(true), shares)
    parts = [_triples(part) for part in np.split(draw.permutation(true), cuts)]
    counts = [len(part) for part in parts[1:]]
    free = nodes * (nodes - 1) // 2 - len(true)
    if sum(counts) > free:
        raise ValueError(f"{name}: only {free} pairs have no link, but valid and test need {sum(counts)}; make them smaller")
    drawn = draw.choice(free, sum(counts), replace=False)
    # The k-th number that is no link: k, and one more for every link at or below it.
    negatives = drawn + np.searchsorted(true - np.arange(len(true)), drawn, side="right")
    apart = np.split(negatives, counts[:1])
    names = tuple(map(str, range(nodes))) if entities is None else tuple(entities)
    if len(names) != nodes:
        raise ValueError(f"{name}: {len(names)} names for {nodes} nodes")
    splits = dict(zip(SPLITS, parts, strict=True))
    without = {f"{split}_negatives": pairs_of(part) for split, part in zip(SPLITS[1:], apart, strict=True)}
    return KnowledgeGraph(name, names, ("link",), splits["train"], **splits, homogeneous=True, **without)


def _cuts(name: str, links: int, shares: Sequence[float]) -> list[int]:
    """Where valid and test begin."""
    for share in shares:
        real_number("shares", share)
    if len(shares) != 3 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"shares are {tuple(shares)}; give three above 0 whose sum is 1, e.g. (0.85, 0.05, 0.10)")
    # not cut short by rounding: 0.07 * 100 is 7.000000000000001, 0.29 * 100 is 28.999999999999996
    train, valid = (int(links * share + 1e-6) for share in shares[:2])
    if min(train, valid, links - train - valid) < 1:
        raise ValueError(
            f"{name}: {links} links give splits of {train}, {valid} and {links - train - valid}; none may be empty"
        )
    return [train, train + valid]


def pair_numbers(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of each pair of different nodes [n, 2], whatever its direction: 0 of (0, 1), 1 of (0, 2), 2 of (1, 2), ..."""
    low, high = pairs.min(axis=1), pairs.max(axis=1)
    numbers: NDArray[np.int64] = high * (high - 1) // 2 + low
    return numbers


def pairs_of(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The pairs (low, high) of their numbers below 2^50: int64 [n, 2]."""
    high = ((1 + np.sqrt(1 + 8 * numbers.astype(np.float64))) / 2).astype(np.int64)
    high -= numbers < high * (high - 1) // 2  # the square root was rounded up
    return np.stack([numbers - high * (high - 1) // 2, high], axis=1)


def _triples(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """(low, 0, high) of the pairs of these numbers, int64 [n, 3]."""
    return np.insert(pairs_of(numbers), 1, 0, axis=1)
