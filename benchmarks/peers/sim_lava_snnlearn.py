"""This library's emulator."""

from __future__ import annotations

import time
from importlib.metadata import version

import numpy as np
from integers import Integers
from simulator import Simulation

from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, HostInput, Population


def fixed_network(integers: Integers) -> FixedNetwork:
    """The integers as a FixedNetwork."""
    names = ["input", *(f"layer{index}" for index in range(1, 1 + len(integers.weights)))]
    populations, connections = [], []
    for index, (weight, vth) in enumerate(zip(integers.weights, integers.thresholds, strict=True)):
        source, name = names[index : index + 2]
        populations.append(Population(name, len(weight), "lif", vth=vth, dv=integers.leak, t_start=index + 1))
        connections.append(Connection(source, name, weight))
    host = HostInput("spikes", integers.x.shape[2])
    return FixedNetwork(tuple(populations), tuple(connections), host, integers.steps, names[-1])


def build(integers: Integers, threads: int, record: str) -> Simulation:
    """``record``: "spikes", those of all neurons, or "outputs", the output's spike counts alone. The spikes are taken from a
    run of their own, and their counts compared."""
    network = fixed_network(integers)
    counts: list[np.ndarray] = []

    def run() -> float:
        begin = time.perf_counter()
        trace = emulate(network, integers.x, record=record, threads=threads)
        seconds = time.perf_counter() - begin
        counts[:] = [trace.outputs]
        return seconds

    def spikes() -> np.ndarray:
        found = emulate(network, integers.x, record="spikes", threads=threads).spikes[network.output]
        if not np.array_equal(found.sum(0), counts[0]):
            raise RuntimeError("the spike counts of the timed run are not those of its spikes")
        return found

    return Simulation(run, spikes, version("lava-snnlearn"))
