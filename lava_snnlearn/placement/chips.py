"""The chips that networks are placed on: what one core, and one chip, can hold.

Loihi 1: M. Davies et al., "Loihi: a neuromorphic manycore processor with on-chip learning", IEEE Micro 38(1), 2018: 128 cores
a chip, up to 16384 chips (p. 86); 1024 compartments, 128 KB of synapses, 4096 input and 4096 output axons a core (p. 89);
binary spikes; delays of 8 steps for 1024 compartments, up to 62 for fewer (p. 92 and Table 1).

Loihi 2: Intel, "Taking neuromorphic computing to the next level with Loihi 2", technology brief, 2021: up to 8192 neurons a
core; papers since count 120 of its 128 cores as usable, and about 192 KB of memory a core, split as needed. Axons are taken to
be as many as on Loihi 1. Intel has published no such table for Loihi 2, so its figures are advice, and no proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lava_snnlearn.fixed_point import limits

DELAY_FREE = 8
"""Longest delay that every neuron of a full Loihi 1 core can have."""


def synapse_bits(delayed: bool) -> int:
    """Memory of one synapse: its weight and, in a connection with delays, the delay field.

    Lists of targets, headers and alignment come on top of it and are not counted: a lower bound.
    """
    return limits.WEIGHT_BITS + (limits.DELAY_BITS if delayed else 0)


@dataclass(frozen=True)
class Chip:
    """What a chip can hold.

    Args:
        name, title: as in "loihi1", and for people.
        core: limit of each load of a core: "neurons", "synaptic_bits", "input_axons", "output_axons" and, where it is known,
            "delay_entries".
        cores: of a chip. chips: that can work together; None: not known.
        graded: spikes may have a payload.
        shared_kernels: a core holds the kernel of a convolution once; else every synapse of it.
        firm: the figures are the maker's own, so that breaking one is an error; else it is advice.
    """

    name: str
    title: str
    core: Mapping[str, int]
    cores: int
    chips: int | None
    graded: bool
    shared_kernels: bool
    firm: bool


LOIHI1 = Chip(
    name="loihi1",
    title="Loihi 1",
    core=MappingProxyType(
        {
            "neurons": limits.NEURONS_PER_CORE,
            "synaptic_bits": limits.SYNAPTIC_BITS_PER_CORE,
            "input_axons": limits.FAN_IN_AXONS_PER_CORE,
            "output_axons": limits.OUTPUT_AXONS_PER_CORE,
            "delay_entries": DELAY_FREE * limits.NEURONS_PER_CORE,
        }
    ),
    cores=limits.CORES_PER_CHIP,
    chips=limits.CHIPS_PER_MESH,
    graded=False,
    shared_kernels=False,
    firm=True,
)
LOIHI2 = Chip(
    name="loihi2",
    title="Loihi 2",
    core=MappingProxyType(
        {
            "neurons": 8192,
            "synaptic_bits": 192 * 1024 * 8,
            "input_axons": limits.FAN_IN_AXONS_PER_CORE,
            "output_axons": limits.OUTPUT_AXONS_PER_CORE,
        }
    ),
    cores=120,
    chips=None,
    graded=True,
    shared_kernels=True,
    firm=False,
)
CHIPS = {chip.name: chip for chip in (LOIHI1, LOIHI2)}
