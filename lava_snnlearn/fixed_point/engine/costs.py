"""Which path is cheaper, events or products. Results are the same on both; only time depends on this choice.

Costs are counted for one source neuron and step, in multiply-adds of a float32 product of matrices (of convolutions: of their
product). ``benchmarks/paths.py`` measures the constants on layers of 10 to 2048 neurons and convolutions of 4 to 64 channels,
at densities from 2 % to 100 %, and what is lost where the choice is wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.fixed_point.engine.synapses import ConvEvents, DenseEvents, Events, ScatteredEvents
from lava_snnlearn.fixed_point.graph import Connection

SCAN, SCAN_PAYLOADS = 20.0, 30.0
"""Finding out whether a source has sent a spike, and whether a payload."""
CONVERT = 15.0
"""Making floating-point numbers of what it sent."""
SPIKE, PAYLOAD, CONVOLVED, SCATTERED = 0.75, 1.5, 1.8, 40.0
"""A synapse that an event passes: of a dense matrix, the same with a payload, of a convolution, synapse by synapse."""
LEAST = 65.0
"""An event, however few synapses it passes in a dense matrix."""
DELAYED = 4.0
"""A synapse of a product in which each has its own delay."""
_SAMPLED = 1 << 16
"""About so many values are looked at to find the density."""


def density(sent: NDArray[Any]) -> float:
    """Part of what was sent, [rows, B, n], that is not zero; estimated from some of the rows."""
    rows = sent.reshape(-1, sent.shape[-1])
    some = rows[:: max(1, rows.size // _SAMPLED)]
    return float(np.count_nonzero(some)) / max(1, some.size)


def events_are_cheaper(connection: Connection, events: Events, active: float) -> bool:
    """Compare the two paths of a connection where the part ``active`` of its sources sends in a step."""
    targets, sources = connection.shape
    if isinstance(events, ConvEvents):
        fan_out = connection.synapses / sources
        return SCAN + active * CONVOLVED * fan_out < CONVERT + fan_out
    if isinstance(events, DenseEvents):
        scan, synapse = (SCAN, SPIKE) if events.spikes else (SCAN_PAYLOADS, PAYLOAD)
        return scan + active * max(LEAST, synapse * targets) < CONVERT + targets
    assert isinstance(events, ScatteredEvents)
    mixed = bool(np.min(connection.delay) < np.max(connection.delay))
    synapses = SCATTERED * events.synapses / sources
    return SCAN + active * synapses < CONVERT + (DELAYED if mixed else 1.0) * targets
