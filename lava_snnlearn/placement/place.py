"""Placement of a FixedNetwork on the cores of a chip.

What a core is charged with:

- neurons; of them each takes delay entries, as many as its longest delay, at least 8 (Loihi 1: 8 x 1024 a core);
- synapses that are not zero, in the memory of the core of their target: 8 bits, 14 in a connection with delays. Lists and
  headers are not counted, so memory is a lower bound. Convolutions are laid out on Loihi 1; on Loihi 2 a core is charged once
  for the kernel of each output channel that it has neurons of;
- input axons: sources, neurons or input channels, that have a synapse on the core;
- output axons: for each neuron of the core, the cores that it has a synapse on.

Populations are cut into slices (:mod:`~lava_snnlearn.placement.cutting`); a population whose slices send to too many cores is
cut finer; slices that fill no more than half a core go to the first core with room for them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import known_name
from lava_snnlearn.fixed_point.graph import INPUT, FixedNetwork, check_network
from lava_snnlearn.placement.chips import CHIPS, Chip
from lava_snnlearn.placement.cutting import Part, Piece
from lava_snnlearn.placement.placement import Placement
from lava_snnlearn.placement.reach import Reach, union
from lava_snnlearn.placement.refusals import core_refusals, network_refusals, network_remarks, neuron_refusals

ROUNDS = 64
"""How often populations are cut finer for their output axons before this is given up."""
HALF = 0.5
"""Pieces that fill no more of a core than this look for room on one that is in use."""


def place(network: FixedNetwork, target: str = "loihi1") -> Placement:
    """Deal the neurons of a network to the cores of a chip.

    Args:
        network: from ``quantize``, a file, netx, or ``from_lava``.
        target: "loihi1", whose limits are firm (what breaks one is told in ``errors``), or "loihi2", whose figures are advice.

    Returns:
        Placement: the same network always gives the same one. A limit that a single neuron breaks is named in its
        errors or advice, and the neurons are placed by the other limits.

    Raises:
        UnknownNameError: another target. TypeError: no FixedNetwork.
    """
    check_network("place", network)
    chip = CHIPS[known_name("target", target, CHIPS)]
    parts = [Part(network, population, chip) for population in network.populations]
    pieces, unlisted = _cut(network, parts, chip.core["output_axons"])
    cores = _join(network, pieces, chip)
    loads, destinations = _measured(network, cores, chip)
    place_of = {part.population.name: np.empty(part.size, np.int64) for part in parts}
    for number, held in enumerate(cores):
        for piece in held:
            place_of[piece.name][piece.neurons] = number
    holds = [" and ".join(dict.fromkeys(repr(piece.name) for piece in held)) for held in cores]
    found = [refusal for part in parts for refusal in neuron_refusals(part, chip, unlisted.get(part.population.name))]
    told = {name for part in parts for name in part.broken} | ({"output_axons"} if unlisted else set())
    found += [*core_refusals(chip, holds, loads, told), *network_refusals(network, chip)]
    remarks = network_remarks(network, chip)
    return Placement(
        chip=chip,
        core=place_of,
        loads=loads,
        destinations=destinations,
        errors=tuple(found) if chip.firm else (),
        advice=tuple([*([] if chip.firm else found), *remarks]),
    )


def _destinations(network: FixedNetwork, pieces: Iterable[Piece]) -> dict[str, NDArray[np.int64]]:
    """Of each source neuron, how many pieces it has a synapse on."""
    counts = _silent(network)
    for piece in pieces:
        for source, reach in piece.reaches.items():
            reach.add_to(counts[source])
    return counts


def _silent(network: FixedNetwork) -> dict[str, NDArray[np.int64]]:
    """0 for each neuron of each population, and each input channel."""
    sizes = {population.name: population.size for population in network.populations} | {INPUT: network.host.size}
    return {name: np.zeros(size, np.int64) for name, size in sizes.items()}


def _cut(network: FixedNetwork, parts: list[Part], top: int) -> tuple[list[Piece], dict[str, tuple[int, int]]]:
    """Pieces of all populations whose output axons, too, are at most ``top`` each.

    Returns:
        The pieces, and the populations with a neuron that sends to more pieces than that: name -> (neuron, its pieces).
    """
    cuts = {part.population.name: part.cut() for part in parts}
    unlisted: dict[str, tuple[int, int]] = {}
    for _ in range(ROUNDS):
        # To cut one population finer gives those before it more destinations, so all are looked at again.
        counts, changed = _destinations(network, chain(*cuts.values())), False
        for part in parts:
            name = part.population.name
            sent, number = counts[name], len(cuts[name])
            worst = max(int(sent[piece.neurons].sum()) for piece in cuts[name])
            if sent.max() > top:
                unlisted[name] = int(sent.argmax()), int(sent.max())
            elif worst > top and number < part.size:
                cuts[name] = part.cut(min(part.size, max(number + 1, math.ceil(number * worst / top))))
                changed = True
        if not changed:
            break
    return list(chain(*cuts.values())), unlisted


@dataclass
class _Core:
    """A core that is being filled: its pieces, its loads, and its input axons by source, at most."""

    pieces: list[Piece]
    loads: dict[str, int]
    axons: dict[str, int]

    def fill(self, chip: Chip) -> float:
        """Of the limit that is nearest, 1.0: full."""
        return max(self.loads[name] / top for name, top in chip.core.items())

    def take(self, other: _Core, sizes: dict[str, int], chip: Chip) -> bool:
        """Take over what is on the other core if there is room; sources of both are counted twice unless all of them are."""
        axons = dict(self.axons)
        for source, count in other.axons.items():
            axons[source] = min(axons.get(source, 0) + count, sizes[source])
        loads = {name: load + other.loads[name] for name, load in self.loads.items()} | {"input_axons": sum(axons.values())}
        if any(loads[name] > top for name, top in chip.core.items()):
            return False
        self.loads, self.axons = loads, axons
        self.pieces += other.pieces
        return True


def _join(network: FixedNetwork, pieces: list[Piece], chip: Chip) -> list[list[Piece]]:
    """Pieces dealt to cores, in the order of the populations."""
    sent = _destinations(network, pieces)
    sizes = {source: len(counts) for source, counts in sent.items()}
    cores: list[_Core] = []
    for piece in pieces:
        axons = {source: reach.count for source, reach in piece.reaches.items()}
        listed = int(sent[piece.name][piece.neurons].sum())
        loads = piece.part.loads(piece.neurons) | {"input_axons": sum(axons.values()), "output_axons": listed}
        core = _Core([piece], loads, axons)
        if core.fill(chip) > HALF or not any(other.take(core, sizes, chip) for other in cores):
            cores.append(core)
    return [core.pieces for core in cores]


def _measured(
    network: FixedNetwork, cores: list[list[Piece]], chip: Chip
) -> tuple[dict[str, NDArray[np.int64]], dict[str, NDArray[np.int64]]]:
    """Exact loads of every core, and on how many cores each source has synapses."""
    loads = {name: np.zeros(len(cores), np.int64) for name in chip.core}
    sent = _silent(network)
    for number, pieces in enumerate(cores):
        for part in dict.fromkeys(piece.part for piece in pieces):
            neurons = np.concatenate([piece.neurons for piece in pieces if piece.part is part])
            for load, value in part.loads(neurons).items():
                loads[load][number] += value
        reached: dict[str, list[Reach]] = {}
        for source, reach in chain(*(piece.reaches.items() for piece in pieces)):
            reached.setdefault(source, []).append(reach)
        for source, several in reached.items():
            heard = union(several)
            heard.add_to(sent[source])
            loads["input_axons"][number] += heard.count
    for number, pieces in enumerate(cores):
        loads["output_axons"][number] = sum(int(sent[piece.name][piece.neurons].sum()) for piece in pieces)
    return loads, sent
