"""What does not fit a chip, in words: the population, its value, the limit, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Set

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.fixed_point.graph import INPUT, FixedNetwork
from lava_snnlearn.placement.chips import Chip
from lava_snnlearn.placement.cutting import Part

UNITS = {
    "neurons": "neurons",
    "synaptic_bits": "synaptic bits",
    "input_axons": "input axons",
    "output_axons": "output axons",
    "delay_entries": "delay entries",
}
"""Names of the limits of a core, for people."""
_REMEDIES = {
    "neurons": "Use smaller layers.",
    "synaptic_bits": "Use a smaller fan-in, prune weights to zero, or do without delays.",
    "input_axons": "Use a smaller fan-in (convolutions, fewer channels, weights pruned to zero).",
    "output_axons": "Use a smaller fan-out, or a smaller network behind it.",
    "delay_entries": "Use shorter delays.",
}


def neuron_refusals(part: Part, chip: Chip, unlisted: tuple[int, int] | None) -> list[str]:
    """Limits that a neuron of this population breaks; ``unlisted``: one that sends to more cores than are listed, and them."""
    broken = part.broken | ({} if unlisted is None else {"output_axons": unlisted})
    return [
        f"population {part.population.name!r}: neuron {neuron} alone needs {value} {UNITS[name]}, a {chip.title} core has "
        f"{chip.core[name]}. {_REMEDIES[name]}"
        for name, (neuron, value) in broken.items()
    ]


def core_refusals(chip: Chip, holds: list[str], loads: Mapping[str, NDArray[np.int64]], excused: Set[str]) -> list[str]:
    """Limits that a core breaks although no single neuron does, and more chips than there are.

    Args:
        holds: populations on each core, as text. loads: of each core. excused: limits that were told of already.
    """
    found = []
    for name, load in loads.items():
        worst = int(load.argmax())
        if load[worst] > chip.core[name] and name not in excused:
            found.append(
                f"population {holds[worst]}: core {worst} needs {load[worst]} {UNITS[name]}, a {chip.title} core has "
                f"{chip.core[name]}. {_REMEDIES[name]}"
            )
    cores = len(loads["neurons"])
    if chip.chips is not None and cores > chip.cores * chip.chips:
        found.append(
            f"the network takes {cores} cores, {chip.title}'s mesh has {chip.cores * chip.chips} ({chip.chips} chips of "
            f"{chip.cores}). {_REMEDIES['neurons']}"
        )
    return found


def network_refusals(network: FixedNetwork, chip: Chip) -> list[str]:
    """Payloads where the chip has only binary spikes."""
    if chip.graded:
        return []
    found = [
        f"population {p.name!r} is of the kind {p.kind}, which sends payloads; a spike of {chip.title} is 0 or 1. "
        "Place it on loihi2."
        for p in network.populations
        if p.sends_payloads
    ]
    if network.host.form == "graded":
        found.append(
            f"the input sends payloads up to {network.largest_sent(INPUT)}; a spike of {chip.title} is 0 or 1. Quantize with "
            "input='current', or a rate or latency code."
        )
    return found


def network_remarks(network: FixedNetwork, chip: Chip) -> list[str]:
    """What no number tells: neurons that the chip has not got ready-made."""
    own = [p.name for p in network.populations if p.kind == "soft_reset_lif"]
    if not own:
        return []
    way = "in microcode" if chip.graded else "of several compartments, which are not counted here"
    return [
        f"{', '.join(own)}: reset by subtraction; the stock neuron of {chip.title} resets to zero. It takes a neuron {way}, or "
        "training with reset='zero'."
    ]
