"""What the tests of training and evaluation share: small graphs whose facts follow rules, and small models for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from lava_snnlearn.data.knowledge_graph import InductiveTask, KnowledgeGraph
from lava_snnlearn.data.links import link_prediction
from lava_snnlearn.networks.graph_reasoner import GraphReasoner


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


def families(name: str, count: int, seed: int) -> KnowledgeGraph:
    """Grandparents with two children, who have a child each: parent, grandparent, sibling; and anyone may know anyone. Of the
    grandparents' links some are held back, which follow from the others."""
    draw = np.random.default_rng(seed)
    facts, asked = [(a, 3, b) for a, b in draw.integers(0, 5 * count, (6 * count, 2))], []
    for at in range(0, 5 * count, 5):
        elder, *children, first, second = range(at, at + 5)
        facts += [(elder, 0, child) for child in children] + [(children[0], 0, first), (children[1], 0, second)]
        facts += [(children[0], 2, children[1]), (children[1], 2, children[0])]
        asked += [(elder, 1, first), (elder, 1, second)]
    queries = draw.permutation(np.array(asked))
    cuts = [len(queries) // 2, 3 * len(queries) // 4]
    train, valid, test = np.split(queries, cuts)
    names = tuple(f"{name}{number}" for number in range(5 * count))
    known = np.concatenate([np.array(facts), train])
    return KnowledgeGraph(name, names, ("parent", "grandparent", "sibling", "knows"), known, known, valid, test)


@pytest.fixture
def kin() -> KnowledgeGraph:
    return families("kin", 8, 0)


@pytest.fixture
def task() -> InductiveTask:
    return InductiveTask("kin-to-kin", families("kin", 8, 0), families("others", 5, 1))


@pytest.fixture
def links() -> KnowledgeGraph:
    """Two cliques of ten nodes, of whose links some are held back."""
    pairs = [(a, b) for clique in (range(10), range(10, 20)) for a in clique for b in clique if a < b]
    return link_prediction("cliques", 20, np.array([*pairs, (0, 19)]), shares=(0.7, 0.15, 0.15), seed=0)


@pytest.fixture
def make_model() -> Callable[..., GraphReasoner]:
    """A small model of fixed weights for a graph."""

    def make(data: KnowledgeGraph | InductiveTask, seed: int = 0, **options: object) -> GraphReasoner:
        graph = data.train if isinstance(data, InductiveTask) else data
        torch.manual_seed(seed)
        settings = {"width": 8, "steps": 6, "homogeneous": graph.homogeneous} | options
        return GraphReasoner(graph.query_relations, **settings)  # type: ignore[arg-type]

    return make
