"""Why a query got its answer: the paths that carried the spikes, over which edges, with which delays, when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import at_least, flag, instance_of, known_name, whole_number, within
from lava_snnlearn.data.knowledge_graph import KnowledgeGraph
from lava_snnlearn.graphs.graph import Graph
from lava_snnlearn.reasoning.answers import KnownAnswers
from lava_snnlearn.reasoning.carried import NEVER, Carried, Raster
from lava_snnlearn.reasoning.paths import Path, carried_paths, importance
from lava_snnlearn.reasoning.ranking import filtered_ranks

if TYPE_CHECKING:
    from lava_snnlearn.fixed_point.reasoner import FixedReasoner
    from lava_snnlearn.networks.graph_reasoner import GraphReasoner


@dataclass(frozen=True)
class CarriedEdge:
    """One edge of a path, and the spikes that it carried.

    Attributes:
        edge: its place in the order of the graph's edges.
        source, relation, target: names; an inverse relation ends with ^-1.
        sent: step at which ``neurons`` of the source spiked.
        delay: learned delay in steps of these neurons' messages; ``arrival`` = ``sent`` + hop + ``delay``.
        neurons: those whose spikes the edge carried then.
        importance: the score's gradient with respect to a factor on these messages; without a gradient, their number.
        share: importance over the sum of absolute importances of all messages that arrived at the target node (0 if that is 0).
    """

    edge: int
    source: str
    relation: str
    target: str
    sent: int
    delay: int
    arrival: int
    neurons: tuple[int, ...]
    importance: float
    share: float

    def __str__(self) -> str:
        return f"t={self.sent} {self.source} --{self.relation} (delay {self.delay})--> {self.target} t={self.arrival}"


@dataclass(frozen=True)
class CarriedPath:
    """A path from the query's source to the candidate; ``importance`` is the mean of its edges' importances."""

    steps: tuple[CarriedEdge, ...]
    importance: float

    @property
    def arrival(self) -> int:
        """The step at which the last message arrives."""
        return self.steps[-1].arrival

    def __str__(self) -> str:
        return "\n".join(map(str, self.steps))


@dataclass(frozen=True)
class Explanation:
    """What :func:`explain` found.

    Attributes:
        query: names of head, relation and tail: (head, relation, ?), of which the tail is the candidate that is explained.
        paths: the best first; empty where no spikes of the head led to spikes of the tail.
        activity: spikes per step of the nodes on the paths, in the order of a picture: head first, tail last.
        score: of the tail, in the trained model's units (logits), or None if only spikes are known.
        rank: of the tail among all nodes that are no other known answers (1 is best), or None if only spikes are known or the
            model is homogeneous.
        ranked_by: "importance", or "arrival" where the score's gradient is not known.
        note: why there are no paths, or empty.
    """

    query: tuple[str, str, str]
    paths: tuple[CarriedPath, ...]
    activity: dict[str, tuple[int, ...]]
    score: float | None
    rank: int | None
    ranked_by: str
    note: str

    def text(self) -> str:
        """The paths, a line an edge."""
        head, relation, tail = self.query
        lines = [f"{head} --{relation}--> {tail}?" + self.verdict]
        if self.note:
            return "\n".join([*lines, self.note])
        if self.ranked_by == "importance":
            order, everything = "the most important first", "all importance into"
        else:
            order, everything = "the first to arrive first", "all spikes into"
        lines.append(f"{len(self.paths)} path{'s' * (len(self.paths) > 1)} that carried the spikes, {order}:")
        for number, path in enumerate(self.paths, start=1):
            if self.ranked_by == "importance":
                about = f"importance {path.importance:+.3g}"
            else:
                about = f"{path.importance:.3g} spikes an edge"
            lines.append(f"{number}. arrives at t={path.arrival}, {about}")
            width = max(len(str(edge)) for edge in path.steps)
            for edge in path.steps:
                neurons = f"{len(edge.neurons)} neuron{'s' * (len(edge.neurons) > 1)}"
                lines.append(f"   {edge!s:{width}}   {neurons}, {edge.share:.0%} of {everything} {edge.target}")
        return "\n".join(lines)

    @property
    def verdict(self) -> str:
        """Score and rank as text, or an empty one."""
        told = [] if self.score is None else [f"score {self.score:.4g}"]
        told += [] if self.rank is None else [f"rank {self.rank}"]
        return f"  {', '.join(told)}" if told else ""

    def __str__(self) -> str:
        return self.text()


def explain(
    model: GraphReasoner | FixedReasoner | Raster,
    data: KnowledgeGraph | Graph,
    head: str | int,
    relation: str | int,
    tail: str | int,
    *,
    paths: int = 5,
    beam: int = 64,
    hide_fact: bool = False,
) -> Explanation:
    """The paths along which spikes went from ``head`` to ``tail`` when (head, relation, ?) was asked (GRSNN).

    Of a homogeneous model, whose scores are of both directions, it shows the one from head to tail.

    Args:
        model: a trained ``GraphReasoner``, whose paths are ranked by how much the score depends on them; a ``FixedReasoner``,
            whose emulated spikes are explained, ranked by arrival; or the :class:`Raster` of a run on Lava:
            ``Raster(trace.spikes[:, i], fixed.delay_table(relation), fixed.hop)`` with the relation's number.
        data: the facts (names are shown), or the bare graph that the query runs on (nodes and relations are numbers).
        head, relation, tail: names or numbers. ``"aunt^-1"``, or number r + R, asks for heads.
        paths: at most so many, over different edges.
        beam: unfinished paths that the search keeps of each length; more is slower and finds more. The path that arrives first
            is found with any beam.
        hide_fact: take the fact itself and its inverse out of the graph, as in training, so that it does not explain itself.

    Raises:
        UnknownNameError: no such entity or relation; the nearest name is given. LimitError: no such number.
        ValueError: a raster of another graph. TypeError: something else than the above.
    """
    instance_of("data", data, (KnowledgeGraph, Graph), "pass a KnowledgeGraph (task.train or task.test of a task) or a Graph")
    paths, beam = at_least(1, "paths", paths), at_least(1, "beam", beam)
    flag("hide_fact", hide_fact)
    graph = data if isinstance(data, Graph) else data.graph()
    names = _Names(data)
    source, query, target = names.node("head", head), names.query(relation), names.node("tail", tail)
    if hide_fact:
        graph = _without_fact(data, graph, source, query, target)
    raster, scores = _recorded(model, graph, source, query, target)
    rank = None
    if scores is not None:
        known = KnownAnswers(data).mask([source], [query]) if isinstance(data, KnowledgeGraph) else np.zeros_like(scores, bool)
        rank = int(filtered_ranks(scores, [target], known)[0])
    carried = Carried(raster, graph, source)
    found = carried_paths(carried, target, paths=paths, beam=beam)
    shown = tuple(CarriedPath(tuple(_edges(carried, path, names)), importance(path)) for path in found)
    nodes = _in_order(carried, found, target)
    return Explanation(
        query=(names.of_node(source), names.of_relation(query), names.of_node(target)),
        paths=shown,
        activity={names.of_node(node): tuple(np.asarray(raster.spikes)[:, node].sum(axis=1).tolist()) for node in nodes},
        score=raster.score,
        rank=rank,
        ranked_by="arrival" if raster.gradient is None else "importance",
        note="" if found else _why_none(carried, names, target),
    )


class _Names:
    """Names of nodes and relations, and the numbers of names."""

    def __init__(self, data: KnowledgeGraph | Graph) -> None:
        if isinstance(data, Graph):
            self.nodes: tuple[str, ...] | None = None
            self.relations: tuple[str, ...] | None = None
            self.counts = data.nodes, data.relations
        else:
            self.nodes = data.entities
            self.relations = tuple(map(data.relation_name, range(data.query_relations)))
            self.counts = len(self.nodes), len(self.relations)

    def node(self, where: str, value: str | int) -> int:
        return _number(where, value, "entity", self.nodes, self.counts[0])

    def query(self, value: str | int) -> int:
        return _number("relation", value, "relation", self.relations, self.counts[1])

    def of_node(self, node: int) -> str:
        return f"node {node}" if self.nodes is None else self.nodes[node]

    def of_relation(self, relation: int) -> str:
        return f"relation {relation}" if self.relations is None else self.relations[relation]


def _number(where: str, value: str | int, kind: str, names: tuple[str, ...] | None, count: int) -> int:
    if isinstance(value, str) and names is not None:
        return names.index(known_name(kind, value, names))
    number = whole_number(where, value)
    within(where, number, 0, count - 1, f"There are {count}, counted from 0.")
    return number


def _without_fact(data: KnowledgeGraph | Graph, graph: Graph, source: int, query: int, target: int) -> Graph:
    """The graph without the fact's edge and, where relations have inverse ones, that of the inverse fact."""
    columns = np.stack([np.asarray(column) for column in (graph.source, graph.relation, graph.target)])
    fact = (columns == [[source], [query], [target]]).all(axis=0)
    if isinstance(data, KnowledgeGraph):
        fact |= (columns == [[target], [data.inverse(query)], [source]]).all(axis=0)
    return graph.without(fact)


def _recorded(model: Any, graph: Graph, source: int, query: int, target: int) -> tuple[Raster, NDArray[Any] | None]:
    """The query's spikes and, where they are ranked, the scores of all nodes, [1, N]."""
    if isinstance(model, Raster):
        return model, None
    # here, so that only those who have one pay for the imports
    from lava_snnlearn.fixed_point.reasoner import FixedReasoner
    from lava_snnlearn.networks.graph_reasoner import GraphReasoner

    instance_of("model", model, (GraphReasoner, FixedReasoner), "pass a GraphReasoner, a FixedReasoner or a Raster")
    if isinstance(model, FixedReasoner):
        return _emulated(model, graph, source, query, target)
    return _traced(model, graph, source, query, target)


def _traced(model: GraphReasoner, graph: Graph, source: int, query: int, target: int) -> tuple[Raster, NDArray[Any] | None]:
    import torch

    if model.pna:
        raise ValueError(
            "with pna=True a node receives extrema of messages, in which no single one has a share; explain its spikes alone: "
            "a Raster of run(..., record=True)"
        )
    trace = model.trace_back(graph, source, query, target)
    candidates = torch.tensor([[target]]) if model.homogeneous else None  # all would be a run for each of them
    with torch.no_grad():
        scores = model(graph, torch.tensor([source]), torch.tensor([query]), candidates).cpu().numpy()
    raster = Raster(
        spikes=trace.spikes.cpu().numpy(),
        delays=trace.delays.cpu().numpy(),
        hop=model.rule.hop,
        weights=None if trace.relation_weights is None else trace.relation_weights.cpu().numpy(),
        gradient=trace.gradient.cpu().numpy(),
        score=float(scores[0, 0 if model.homogeneous else target]),
    )
    return raster, None if model.homogeneous else scores


def _emulated(fixed: FixedReasoner, graph: Graph, source: int, query: int, target: int) -> tuple[Raster, NDArray[Any] | None]:
    from lava_snnlearn.fixed_point.reasoner_emulator import emulate_reasoner, pair_scores

    trace = emulate_reasoner(fixed, graph, np.array([source]), np.array([query]), record="spikes")
    assert trace.spikes is not None
    if fixed.homogeneous:
        score = pair_scores(fixed, graph, np.array([source]), np.array([target]))[0]
    else:
        score = trace.scores[0, target]
    if fixed.mapping == "staged":
        sent = fixed.stage(query) != 0
    else:  # a neuron all of whose synapses were rounded to 0 sends nothing
        sent = np.broadcast_to((fixed.synapses(query) != 0).any(axis=1), (fixed.relations, fixed.width))
    spikes, score = trace.spikes[:, 0], float(score / fixed.head.one)
    raster = Raster(spikes, fixed.delay_table(query), fixed.hop, weights=sent, score=score)
    return raster, None if fixed.homogeneous else trace.scores


def _edges(carried: Carried, path: Path, names: _Names) -> Iterator[CarriedEdge]:
    columns = [np.asarray(column) for column in (carried.graph.source, carried.graph.relation, carried.graph.target)]
    for message in path:
        source, relation, target = (int(column[message.edge]) for column in columns)
        everything = float(np.abs(carried.into(target).importance).sum())
        yield CarriedEdge(
            edge=message.edge,
            source=names.of_node(source),
            relation=names.of_relation(relation),
            target=names.of_node(target),
            sent=message.sent,
            delay=message.arrival - message.sent - carried.raster.hop,
            arrival=message.arrival,
            neurons=carried.neurons(target, message.edge, message.sent, message.arrival),
            importance=message.importance,
            share=message.importance / everything if everything else 0.0,
        )


def _in_order(carried: Carried, found: list[Path], target: int) -> list[int]:
    """Nodes of the paths: the source, then by the earliest arrival that is shown, the target last."""
    columns = np.asarray(carried.graph.target)
    arrivals: dict[int, int] = {}
    for message in sorted((message for path in found for message in path), key=lambda message: message.arrival):
        arrivals.setdefault(int(columns[message.edge]), message.arrival)
    between = [node for node in arrivals if node not in (carried.source, target)]
    return list(dict.fromkeys([carried.source, *between, target]))


def _why_none(carried: Carried, names: _Names, target: int) -> str:
    source, end = names.of_node(carried.source), names.of_node(target)
    spikes = np.asarray(carried.raster.spikes)
    if not spikes[:, carried.source].any():
        return f"No path: {source} itself never spiked, so nothing left it (its injected current stays below the threshold)."
    into = carried.into(target)
    arrived = into.arrival[carried.reached[into.source] <= into.sent]
    if not len(arrived):
        count = int((carried.reached != NEVER).sum()) - 1
        return (
            f"No path: no spikes that {source} caused reached {end} within {len(spikes)} steps. They reached {count} other "
            f"nodes; the score of {end} owes nothing to them."
        )
    return f"No path: spikes reached {end} from t={arrived.min()}, but it did not spike then or later, so they did not count."
