"""XyloSim, the C++ core of rockpool's simulator of the Xylo chip."""

from __future__ import annotations

import time
from importlib.metadata import version

import numpy as np
from integers import Integers
from simulator import Simulation
from xylosim.v1 import XyloLayer, XyloSynapse

_ALIVE: list[list[list[XyloSynapse]]] = []
"""All synapses: a layer holds bare pointers to them."""


def build(integers: Integers, threads: int) -> Simulation:
    """One thread. Xylo's neurons are others: they reset by subtraction, may spike several times in a step, and filter their
    current, of which half is kept; so the spikes differ, and the time alone can be compared."""
    hidden, answer = integers.weights
    leak = int(np.log2(4096 // integers.leak))
    layer = XyloLayer(
        synapses_in=_synapses(hidden),
        synapses_rec=[[] for _ in hidden],
        synapses_out=_synapses(answer),
        aliases=[[] for _ in hidden],
        threshold=[integers.thresholds[0]] * len(hidden),
        threshold_out=[integers.thresholds[1]] * len(answer),
        weight_shift_inp=0,
        weight_shift_rec=0,
        weight_shift_out=0,
        dash_mem=[leak] * len(hidden),
        dash_mem_out=[leak] * len(answer),
        dash_syns=[[1, 1] for _ in hidden],
        dash_syns_out=[[1] for _ in answer],
        name="net",
    )
    samples = [sample.tolist() for sample in integers.x.swapaxes(0, 1)]
    kept: list[np.ndarray] = []

    def simulate(sample: list[list[int]]) -> np.ndarray:
        layer.reset_all()
        return np.array(layer.evolve(sample))

    def run() -> float:
        begin = time.perf_counter()
        kept[:] = [simulate(sample) for sample in samples]
        return time.perf_counter() - begin

    return Simulation(run, lambda: np.stack(kept, axis=1).clip(0, 1).astype(np.uint8), version("xylosim"))


def _synapses(weight: np.ndarray) -> list[list[XyloSynapse]]:
    """Of each source, those to all targets."""
    made = [[XyloSynapse(target, 0, int(w)) for target, w in enumerate(column)] for column in weight.T]
    _ALIVE.append(made)
    return made
