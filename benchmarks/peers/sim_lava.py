"""Lava's simulator (fixed_pt, CPU), one long run over all samples: stock processes, this library's run_lava, or netx."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
from integers import Integers
from lava.magma.core.process.process import AbstractProcess
from lava.proc.dense.process import Dense
from lava.proc.io.source import RingBuffer
from lava.proc.lif.process import LIFReset
from lava.utils.weightutils import SignMode
from sim_lava_snnlearn import fixed_network
from simulator import Simulation

from lava_snnlearn.interchange import to_netx
from lava_snnlearn.lava_backend import guarded, run_config
from lava_snnlearn.lava_backend.graph import build as process_graph
from lava_snnlearn.processes import Recorder

Way = tuple[AbstractProcess, Recorder]
"""A process of the network, and what records the output."""


def stock(integers: Integers) -> Way:
    """RingBuffer, Dense and LIFReset. A Lava application of this network has no fewer processes."""
    rows = integers.rows()
    source = RingBuffer(data=np.ascontiguousarray(rows.T).astype(np.int32))
    port = source.s_out
    for index, (weight, vth) in enumerate(zip(integers.weights, integers.thresholds, strict=True)):
        synapse = Dense(weights=weight.astype(np.int64), num_weight_bits=8, sign_mode=SignMode.MIXED)
        reset = {"reset_interval": integers.period, "reset_offset": index + 2}
        neuron = LIFReset(shape=(len(weight),), vth=vth, du=4095, dv=integers.leak, **reset)
        port.connect(synapse.s_in)
        synapse.a_out.connect(neuron.a_in)
        port = neuron.s_out
    return source, _recorded(port, len(rows))


def of_library(integers: Integers) -> Way:
    """What run_lava runs: it records the spikes and membranes of all neurons."""
    network = fixed_network(integers)
    graph = process_graph(network, integers.x)
    return graph.neurons[network.output], graph.recorders[network.output]


def netx(integers: Integers) -> Way:
    """A netx file, read by lava-dl."""
    from lava.lib.dl.netx.hdf5 import Network

    folder = Path(tempfile.mkdtemp())  # netx keeps the file open
    network = fixed_network(integers)
    run = to_netx(network, folder / "net.net")
    net = Network(net_config=str(folder / "net.net"), **run.arguments)
    rows = integers.rows()
    source = RingBuffer(data=np.ascontiguousarray(rows.T).astype(np.int32))
    source.s_out.connect(net.inp)
    return source, _recorded(net.out, len(rows))


def _recorded(port, steps: int) -> Recorder:
    recorder = Recorder(shape=port.shape, steps=steps)
    port.connect(recorder.s_in)
    return recorder


WAYS: dict[str, Callable[[Integers], Way]] = {"stock": stock, "run_lava": of_library, "netx": netx}


def build(integers: Integers, threads: int, way: str) -> Simulation:
    """Only steps are timed, after a first sample; compiling and starting the processes is not. ``threads`` plays no part: every
    process is an operating system's process of its own."""
    kept: list[np.ndarray] = []

    def run() -> float:
        process, recorder = WAYS[way](integers)
        with guarded(process, run_config("fixed_pt")) as running:
            running.run(integers.period)
            begin = time.perf_counter()
            running.run((integers.samples - 1) * integers.period)
            seconds = time.perf_counter() - begin
        kept[:] = [recorder.spikes]
        return seconds * integers.samples / (integers.samples - 1)

    return Simulation(run, lambda: integers.cut(kept[0]), version("lava-dl" if way == "netx" else "lava-nc"))
