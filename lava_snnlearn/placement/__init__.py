"""Placement of fixed-point networks on the cores of Loihi chips."""

from lava_snnlearn.placement.chips import CHIPS, LOIHI1, LOIHI2, Chip
from lava_snnlearn.placement.place import place
from lava_snnlearn.placement.placement import Placement

__all__ = ["CHIPS", "LOIHI1", "LOIHI2", "Chip", "Placement", "place"]
