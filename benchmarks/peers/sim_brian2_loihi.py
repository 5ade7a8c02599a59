"""brian2-loihi: Loihi's arithmetic as Brian2 equations, compiled."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
from brian2 import ms
from brian2_loihi import LoihiNetwork, LoihiNeuronGroup, LoihiSpikeGeneratorGroup, LoihiSpikeMonitor, LoihiSynapses
from integers import Integers
from simulator import Simulation

MIXED = 1
"""Sign mode of the weights."""


def build(integers: Integers, threads: int) -> Simulation:
    """One thread. Membranes are set to zero by an operation of the network's at the start of each sample."""
    rows = integers.rows()
    steps, cells = rows.nonzero()
    objects = [LoihiSpikeGeneratorGroup(rows.shape[1], cells, steps)]
    source = objects[0]
    for weight, vth in zip(integers.weights, integers.thresholds, strict=True):
        group = LoihiNeuronGroup(len(weight), threshold_v_mant=vth, decay_v=integers.leak, decay_I=4096)
        synapses = LoihiSynapses(source, group, sign_mode=MIXED)
        synapses.connect()
        synapses.w = weight.T.ravel()[np.asarray(synapses.i) * len(weight) + np.asarray(synapses.j)].astype(np.int64)
        reset = group.run_regularly("v = 0\nI = 0", dt=integers.period * ms, when="start")
        objects += [group, synapses, reset]
        source = group
    monitor = LoihiSpikeMonitor(source)
    network = LoihiNetwork(*objects, monitor)
    network.store()

    def run() -> float:
        seconds = [0.0]

        def report(elapsed, completed, start, duration) -> None:
            seconds[0] = float(elapsed)  # since its code is ready; the last call is at the end

        network.restore()
        # namespace: else it hashes all arrays that are variables here, element by element
        network.run(len(rows), namespace={}, report=report)
        return seconds[0]

    def spikes() -> np.ndarray:
        recorded = np.zeros((len(rows), source.N), np.uint8)
        recorded[np.asarray(monitor.t, int), np.asarray(monitor.i)] = 1
        return integers.cut(recorded, lag=1)  # the input arrives without a lag

    return Simulation(run, spikes, version("brian2-loihi"))
