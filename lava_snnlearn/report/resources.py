"""What a network takes of a chip, for the report of a run: cores, events, estimated energy."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import ArrayLike

from lava_snnlearn.fixed_point.event_energy import REMARKS, estimate_energy
from lava_snnlearn.fixed_point.events import EventCounts, count_events
from lava_snnlearn.fixed_point.graph import FixedNetwork
from lava_snnlearn.fixed_point.trace import Trace
from lava_snnlearn.placement import Placement, place
from lava_snnlearn.report.pages import Figures


@dataclass(frozen=True)
class Resources:
    """The parts of a report about one network."""

    network: FixedNetwork
    placement: Placement
    counts: EventCounts

    @property
    def tables(self) -> dict[str, list[list[str]]]:
        """Events and energies of a sample: heading -> rows."""
        return {"Events": self.counts.rows(), "Energy": estimate_energy(self.counts).rows()}

    @property
    def figures(self) -> Figures:
        """The cores."""
        caption = (
            f"Cores of {self.placement.chip.title}, coloured by how full they are; the numbers are below, under Resources."
        )
        return {"Placement": (self.placement.plot(), caption)}

    @property
    def text(self) -> str:
        """The placement, what the energies are not, and what quantisation chose and lost."""
        return "\n".join([str(self.placement), "", "Energy:", *REMARKS, "", *self.network.notes])


def resources(network: FixedNetwork, trace: Trace, x: ArrayLike) -> Resources:
    """Place a network on Loihi 1, or on Loihi 2 if Loihi 1 cannot hold it, and count the events of some samples.

    Args:
        network: the network. trace: of the samples, with spikes. x: their data.
    """
    placement = place(network, "loihi1")
    if placement.errors:
        placement = place(network, "loihi2")
    return Resources(network, placement, count_events(network, trace, x=x, placement=placement))
