"""Paths in space and time along which spikes went from a query's source to a node: a beam search from the end back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.reasoning.carried import Arrivals, Carried


@dataclass(frozen=True)
class Message:
    """One edge (its place in the graph's order) that carried spikes of ``count`` neurons from step ``sent`` to ``arrival``."""

    edge: int
    sent: int
    arrival: int
    count: int
    importance: float


Path = tuple[Message, ...]


@dataclass(frozen=True)
class _Partial:
    """The end of a path: its first node, which has to spike at step ``sent``, and the messages from there on."""

    node: int
    sent: int
    nodes: frozenset[int]
    messages: Path

    @property
    def edges(self) -> tuple[int, ...]:
        return tuple(message.edge for message in self.messages)


def importance(path: Path) -> float:
    """Mean importance of a path's messages, so that a detour through unimportant edges does not make it larger."""
    return sum(message.importance for message in path) / len(path)


def carried_paths(carried: Carried, target: int, *, paths: int, beam: int) -> list[Path]:
    """The best paths from the source to ``target`` over different sequences of edges, best first.

    A path is a sequence of messages that were really sent: the first leaves the source, the last arrives at the target, which
    spikes then or later, and each node between sends at the step of the arrival or later (which of its neurons does is open,
    since W mixes them). No node occurs twice; a path with a loop contains one without it. If source and target are the same
    node, the path goes away from it and returns.

    With a gradient, the best path is the one of the largest mean importance (then the shorter one); without, the one
    that arrives first (then the shorter one, then the one with more spikes). Each sequence of edges is reported once, with its
    best times. The search goes back from the target and keeps ``beam`` unfinished paths of each length; the path that arrives
    first is always found.
    """
    spiking = np.flatnonzero(np.asarray(carried.raster.spikes)[:, target].any(axis=1))
    last = int(spiking[-1]) if len(spiking) else -1
    found: list[Path] = []
    layer = [_Partial(target, last, frozenset([target]), ())]
    while layer:
        extended = [new for partial in layer for new in _extensions(carried, partial, beam)]
        extended = _undominated(carried, extended)
        found += [new.messages for new in extended if new.node == carried.source]
        layer = [new for new in extended if new.node != carried.source][:beam]
    first = _first_to_arrive(carried, target, last)
    best: dict[tuple[int, ...], Path] = {}
    for path in sorted([*found, *([first] if first else [])], key=lambda path: _rank(carried, path)):
        best.setdefault(tuple(message.edge for message in path), path)
    return list(best.values())[:paths]


def _rank(carried: Carried, path: Path) -> tuple[float, ...]:
    """Sorts the best path first; ties are broken by the edges and steps, so that the order is the same everywhere."""
    ties = [float(value) for message in path for value in (message.edge, message.sent, message.arrival)]
    if carried.raster.gradient is not None:
        return (-importance(path), len(path), *ties)
    return (path[-1].arrival, len(path), -importance(path), *ties)


def _extensions(carried: Carried, partial: _Partial, beam: int) -> Iterator[_Partial]:
    """The best ``beam`` unfinished and all finished paths that are one message longer at the beginning."""
    into = carried.into(partial.node)
    inside = np.fromiter(partial.nodes, np.int64, len(partial.nodes))
    allowed = (into.arrival <= partial.sent) & (carried.reached[into.source] <= into.sent)
    allowed &= (into.source == carried.source) | ~np.isin(into.source, inside)
    chosen = _pareto(carried, into, np.flatnonzero(allowed), ends=not partial.messages)
    unfinished = 0
    for index in chosen:
        source = int(into.source[index])
        unfinished += source != carried.source
        if source != carried.source and unfinished > beam:
            continue
        yield _Partial(source, int(into.sent[index]), partial.nodes | {source}, (_message(into, index), *partial.messages))


def _message(into: Arrivals, index: int) -> Message:
    edge, sent, arrival, count = (int(column[index]) for column in (into.edge, into.sent, into.arrival, into.count))
    return Message(edge, sent, arrival, count, float(into.importance[index]))


def _pareto(carried: Carried, into: Arrivals, chosen: NDArray[np.int64], *, ends: bool) -> NDArray[np.int64]:
    """Of the messages ``chosen``, best first, those that no better one of the same edge, sent as late or later, replaces.

    ``ends``: they end the path, so that without a gradient the first to arrive is best.
    """
    late = into.arrival[chosen] if ends and carried.raster.gradient is None else np.zeros(len(chosen), np.int64)
    order = np.lexsort((into.arrival[chosen], -into.sent[chosen], -into.importance[chosen], late, into.edge[chosen]))
    chosen, late = chosen[order], late[order]
    steps = np.asarray(carried.raster.spikes).shape[0]
    latest = np.maximum.accumulate(into.edge[chosen] * steps + into.sent[chosen])  # of the better ones of the edge
    kept = np.append(True, latest[1:] > latest[:-1])[: len(chosen)]
    chosen, late = chosen[kept], late[kept]
    return chosen[np.lexsort((into.edge[chosen], -into.importance[chosen], late))]


def _undominated(carried: Carried, partials: list[_Partial]) -> list[_Partial]:
    """All of one length, best first, less those that a better one over the same edges, sent as late or later, replaces."""
    latest: dict[tuple[int, ...], int] = {}
    kept = []
    for partial in sorted(partials, key=lambda partial: _rank(carried, partial.messages)):
        if partial.sent > latest.get(partial.edges, -1):
            latest[partial.edges] = partial.sent
            kept.append(partial)
    return kept


def _first_to_arrive(carried: Carried, target: int, last: int) -> Path | None:
    """The path that arrives first; it has no loop, because going back the steps at which nodes are reached decrease."""
    path: Path = ()
    node, step = target, last
    while not path or node != carried.source:
        into = carried.into(node)
        usable = np.flatnonzero((into.arrival <= step) & (carried.reached[into.source] <= into.sent))
        if not len(usable):
            return None
        early = into.arrival[usable]
        index = usable[np.lexsort((into.edge[usable], -into.count[usable], carried.reached[into.source[usable]], early))[0]]
        path = (_message(into, index), *path)
        node, step = int(into.source[index]), int(into.sent[index])
    return path
