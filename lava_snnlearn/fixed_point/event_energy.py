"""Energy estimated from counts of events, by two published sets of figures that must not be mixed.

Loihi 1: M. Davies et al., "Loihi: a neuromorphic manycore processor with on-chip learning", IEEE Micro 38(1), 2018, Table 2
(p. 96): energies of single operations, simulated before there was silicon, at 0.75 V. Static power (of the order of 0.1 W a
chip), the barriers between steps, the processors beside the cores and all input and output are left out: a lower bound.

45 nm: M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014: 0.9 pJ for a 32-bit floating-point
addition, 3.7 pJ for a multiplication. By convention a spike at a synapse costs an addition (AC), a number at a synapse both
(MAC); memory and routing are left out. Figures of arithmetic, of no chip: to compare methods by.

Of Loihi 2 no energy per operation has been published; there is no column for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from lava_snnlearn.checks import instance_of
from lava_snnlearn.fixed_point.events import EventCounts

SYNOP_PJ = 23.6
"""Loihi 1: a spike at a synapse, at least."""
UPDATE_PJ = (52.0, 81.0)
"""Loihi 1: update of a neuron in a step, inactive and active. One quantity at two levels of activity: not to be added."""
SPIKE_PJ = 1.7
"""Loihi 1: a spike to a core of the same tile; each tile farther adds 3.0 (east, west) or 4.0 (north, south)."""
LEARNING_PJ = 120.0
"""Loihi 1: update of a synapse by pairwise STDP."""
ADD_PJ = 0.9
"""45 nm: 32-bit floating-point addition."""
MULTIPLY_ADD_PJ = 4.6
"""45 nm: the same with a multiplication before (3.7 pJ)."""
LOIHI1_SOURCE = "Loihi 1 (Davies et al. 2018, Table 2, pre-silicon)"
MAC_SOURCE = "45 nm MAC/AC convention (Horowitz 2014)"


class Item(NamedTuple):
    """Events a sample, and their energy in pJ: least and most."""

    events: float
    least: float
    most: float


@dataclass(frozen=True)
class EnergyEstimate:
    """Two estimates of a sample's energy, the mean over the samples; in pJ. They answer different questions: never add them.

    Attributes:
        loihi1: events -> Item by Davies et al. 2018. mac_ac: the same by Horowitz 2014.
        ann_pj: by Horowitz 2014, an ANN of the same shape: each weight that is not zero multiplied once.
    """

    loihi1: Mapping[str, Item]
    mac_ac: Mapping[str, Item]
    ann_pj: float

    @property
    def loihi1_pj(self) -> tuple[float, float]:
        """Least (no neuron is active) and most (all are active in all steps) of the lower bound for Loihi 1."""
        items = self.loihi1.values()
        return sum(item.least for item in items), sum(item.most for item in items)

    @property
    def mac_ac_pj(self) -> float:
        """By the 45 nm convention."""
        return sum(item.most for item in self.mac_ac.values())

    def rows(self) -> list[list[str]]:
        """Header and one row a kind of events, as text cells; a column for each source."""
        rows = [["energy a sample (estimates)", "events", LOIHI1_SOURCE, MAC_SOURCE]]
        rows += [[name, f"{item.events:,.1f}", _microjoule(item), "-"] for name, item in self.loihi1.items()]
        rows += [[name, f"{item.events:,.1f}", "-", _microjoule(item)] for name, item in self.mac_ac.items()]
        rows.append(["together", "", _microjoule(Item(0, *self.loihi1_pj)), _microjoule(Item(0, *(self.mac_ac_pj,) * 2))])
        rows.append(["an ANN of this shape, one pass", "", "-", _microjoule(Item(0, self.ann_pj, self.ann_pj))])
        return rows

    def __str__(self) -> str:
        from lava_snnlearn.fixed_point.table import aligned

        return "\n".join([aligned(self.rows()), *REMARKS])


REMARKS = (
    "The two columns are of different things and must not be added or compared with each other.",
    "Loihi 1: a lower bound without static power, barriers, hops between tiles, input and output; the range is that of neurons "
    "that are inactive or active in every step. No energy per operation has been published for Loihi 2.",
    "45 nm: arithmetic alone, no memory, no routing.",
)


def estimate_energy(counts: EventCounts) -> EnergyEstimate:
    """Two estimates of the energy of a sample from its events; see the module for what they are and are not.

    Args:
        counts: from :func:`~lava_snnlearn.fixed_point.events.count_events`; counted with a placement, spikes cost on Loihi 1
            for each core that they go to, else once.

    Raises:
        TypeError: other kinds of objects.
    """
    instance_of("counts", counts, EventCounts, "pass what count_events returns")
    synops = {name: float(operations.mean()) for name, operations in counts.synops.items()}
    multiplied = sum(value for name, value in synops.items() if name in counts.graded)
    total, updates = sum(synops.values()), float(sum(counts.neuron_updates.values()))
    loihi1 = {
        "synaptic operations": _item(total, SYNOP_PJ),
        "neuron updates": Item(updates, updates * UPDATE_PJ[0], updates * UPDATE_PJ[1]),
    }
    if counts.messages is None:
        sent = float((counts.total_spikes + counts.input_events).mean())
        loihi1["spikes, to one core each"] = _item(sent, SPIKE_PJ)
    else:
        loihi1["spikes, to each of their cores"] = _item(float(counts.messages.mean()), SPIKE_PJ)
    if counts.learning_updates is not None:
        loihi1["learning updates"] = _item(float(counts.learning_updates.mean()), LEARNING_PJ)
    mac_ac = {"additions (spikes at synapses)": _item(total - multiplied, ADD_PJ)}
    if multiplied or counts.host_operations:
        mac_ac["multiplications (payloads, input current)"] = _item(multiplied + counts.host_operations, MULTIPLY_ADD_PJ)
    return EnergyEstimate(loihi1, mac_ac, counts.synapses * MULTIPLY_ADD_PJ)


def _item(events: float, each: float) -> Item:
    return Item(events, events * each, events * each)


def _microjoule(item: Item) -> str:
    least, most = f"{item.least / 1e6:.4g}", f"{item.most / 1e6:.4g}"
    return f"{most} uJ" if least == most else f"{least}..{most} uJ"
