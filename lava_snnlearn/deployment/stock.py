"""Whether a network consists of Lava's stock processes, which are the ones with Loihi microcode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.arithmetic import MEMBRANE_SHIFT
from lava_snnlearn.fixed_point.graph import FixedNetwork, Population
from lava_snnlearn.fixed_point.sums import largest_sum
from lava_snnlearn.fixed_point.trace import Trace


@dataclass(frozen=True)
class NotStock:
    """Populations that are not stock processes, and why the first of them is not."""

    populations: tuple[str, ...]
    reason: str


def not_stock(network: FixedNetwork, trace: Trace) -> NotStock:
    """What of a network is no stock process.

    Stock LIFs are. An accumulator is a stock LIF with the highest threshold, as long as its membrane, in this trace of the
    samples that will run, stays below it, its sums do not wrap, and it starts at zero.
    """
    reasons = {p.name: reason for p in network.populations if (reason := _reason(network, p, trace))}
    return NotStock(tuple(reasons), next(iter(reasons.values()), ""))


def _reason(network: FixedNetwork, population: Population, trace: Trace) -> str:
    kind = population.kind
    if kind == "lif":
        return ""
    if kind != "accumulator":
        return {"soft_reset_lif": "reset by subtraction", "graded": "graded neurons"}[kind]
    if population.v_init:
        return "an accumulator that starts at a membrane other than 0"
    if largest_sum(network, population.name) > limits.WRAP_FREE_MAX:
        return "an accumulator whose sums may wrap in the current register of a LIF"
    if np.max(trace.membranes[population.name]) > limits.THRESHOLD_MAX << MEMBRANE_SHIFT:
        return "an accumulator whose membrane exceeds the highest threshold of a LIF"
    return ""
