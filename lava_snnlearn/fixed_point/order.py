"""The order in which a network's data flow from population to population."""

from __future__ import annotations

from lava_snnlearn.fixed_point.graph import INPUT, FixedNetwork, Population


def topological_order(network: FixedNetwork) -> list[Population] | None:
    """Populations so that every source comes before its targets; None if the graph has a cycle."""
    groups = components(network)
    if any(len(names) > 1 for names in groups) or any(c.source == c.target for c in network.connections):
        return None
    return [network.population(name) for (name,) in groups]


def components(network: FixedNetwork) -> list[list[str]]:
    """Names of the populations in groups that hear each other in a circle (strongly connected), sources first.

    Tarjan's algorithm, with a stack of its own, so that long chains do not meet Python's limit of recursion.
    """
    sources = {p.name: [c.source for c in network.incoming(p.name) if c.source != INPUT] for p in network.populations}
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    waiting: list[str] = []
    found: list[list[str]] = []
    for root in sources:
        if root in number:
            continue
        path = [(root, iter(sources[root]))]
        number[root] = lowest[root] = len(number)
        waiting.append(root)
        while path:
            name, rest = path[-1]
            fresh = next((source for source in rest if source not in number or source in waiting), None)
            if fresh is None:
                path.pop()
                if path:
                    lowest[path[-1][0]] = min(lowest[path[-1][0]], lowest[name])
                if lowest[name] == number[name]:
                    at = waiting.index(name)
                    found.append(waiting[at:])
                    del waiting[at:]
            elif fresh in number:
                lowest[name] = min(lowest[name], number[fresh])
            else:
                number[fresh] = lowest[fresh] = len(number)
                waiting.append(fresh)
                path.append((fresh, iter(sources[fresh])))
    return found
