"""Milliseconds per step of the same integers on Lava: one process a population and connection, or one FusedNetwork.

Two graphs of many processes: that of ``run_lava``, which records what all populations send and their membranes, and the same
with a recorder of the answer alone. Each FusedNetwork is compared with the graph that leaves the same records: between a
source and a recorder, or alone, when it feeds and records itself. "An empty process" stands in the place of FusedNetwork, has
its ports and computes nothing: no process of that use can be faster. Equal records are asserted. Only steps are timed, not the
start of the processes; rounds are interleaved, medians printed. Weights are random, thresholds such that about one neuron in
ten fires.

    python benchmarks/fused.py [--quick] [--write]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from empty_process import EmptyProcess
from lava.magma.core.process.process import AbstractProcess
from lava.proc.dense.process import Dense
from lava.utils.weightutils import SignMode
from numpy.typing import NDArray
from peers.client import machine

from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput
from lava_snnlearn.lava_backend import guarded, run_config
from lava_snnlearn.lava_backend.graph import build
from lava_snnlearn.lava_backend.schedule import scheduled
from lava_snnlearn.processes import FusedNetwork, Recorder, SampleSource, SoftResetLIF

RESULTS = Path(__file__).parent / "results" / "fused.md"
WARM_STEPS = 5
RATE = 0.1
Records = dict[str, NDArray[np.int32]]
"""What is compared: "answer", and of each population what it sent and its membranes; [steps, n]."""
Way = tuple[AbstractProcess, Callable[[], Records]]


def population_graph(network: FixedNetwork, x: NDArray[np.int32]) -> Way:
    """One process a population, connection, source and recorder."""
    graph = build(network, x)

    def read() -> Records:
        sent = {f"{name} sent": recorder.spikes for name, recorder in graph.recorders.items()}
        membranes = {f"{name} membranes": recorder.membranes for name, recorder in graph.recorders.items()}
        return {"answer": sent[f"{network.output} sent"], **sent, **membranes}

    return graph.neurons[network.output], read


def lean_graph(network: FixedNetwork, x: NDArray[np.int32]) -> Way:
    """The same processes with a recorder of the answer alone."""
    rows = scheduled(network.encode(x), network.period)
    source = SampleSource(data=rows)
    port = source.s_out
    for connection, population in zip(network.connections, network.populations, strict=True):
        synapse = Dense(weights=np.asarray(connection.weight, dtype=np.int64), num_weight_bits=8, sign_mode=SignMode.MIXED)
        neuron = SoftResetLIF(
            shape=(population.size,),
            vth=population.vth,
            dv=population.dv,
            t_start=population.t_start,
            t_stop=population.t_start + network.steps,
            reset_interval=network.period,
        )
        port.connect(synapse.s_in)
        synapse.a_out.connect(neuron.a_in)
        port = neuron.s_out
    recorder = Recorder(shape=port.shape, steps=len(rows))
    port.connect(recorder.s_in)
    return source, lambda: {"answer": recorder.spikes}


def between(process: AbstractProcess, rows: NDArray[np.int32]) -> Recorder:
    """Put a process between a source of these rows and a recorder."""
    source, recorder = SampleSource(data=rows), Recorder(shape=process.s_out.shape, steps=len(rows))
    source.s_out.connect(process.s_in)
    process.s_out.connect(recorder.s_in)
    return recorder


def empty(network: FixedNetwork, x: NDArray[np.int32]) -> Way:
    """Nothing between a source and a recorder."""
    process = EmptyProcess(network.host.size, network.population(network.output).size)
    between(process, scheduled(network.encode(x), network.period))
    return process, dict


def empty_alone(network: FixedNetwork, x: NDArray[np.int32]) -> Way:
    """One process that computes nothing."""
    return EmptyProcess(network.host.size, network.population(network.output).size), dict


def fused(network: FixedNetwork, x: NDArray[np.int32], everything: bool, alone: bool) -> Way:
    """A FusedNetwork that keeps its own records of all populations, or of none; alone, or between a source and a recorder."""
    names = [population.name for population in network.populations] if everything else []
    steps = x.shape[1] * network.period
    process = FusedNetwork(network=network, also=names, data=x if alone else None, record=steps if everything or alone else 0)
    recorder = None if alone else between(process, process.rows(x))

    def read() -> Records:
        records = {"answer": process.answers if recorder is None else recorder.spikes}
        for name in names:
            records |= {f"{name} sent": process.sent_by(name), f"{name} membranes": process.membranes_of(name)}
        return records

    return process, read


def fused_over_ports(network: FixedNetwork, x: NDArray[np.int32]) -> Way:
    """All records of a FusedNetwork over its ports and a RefPort, as a process of the user's would get them."""
    names = [population.name for population in network.populations]
    process = FusedNetwork(network=network, also=names)
    source = SampleSource(data=process.rows(x))
    recorder = Recorder(shape=process.also_out.shape, steps=x.shape[1] * network.period)
    source.s_out.connect(process.s_in)
    process.also_out.connect(recorder.s_in)
    recorder.v_ref.connect_var(process.v)

    def read() -> Records:
        sent = {f"{name} sent": recorder.spikes[:, process.part(name)] for name in names}
        membranes = {f"{name} membranes": recorder.membranes[:, process.place(name)] for name in names}
        return {"answer": sent[f"{network.output} sent"], **sent, **membranes}

    return process, read


def milliseconds(way: Way, steps: int) -> tuple[Records, float]:
    """The records of all steps, and the time of a step after the first few."""
    process, read = way
    with guarded(process, run_config("fixed_pt")) as running:
        running.run(WARM_STEPS)
        begin = time.perf_counter()
        running.run(steps - WARM_STEPS)
        seconds = time.perf_counter() - begin
    return read(), 1000 * seconds / (steps - WARM_STEPS)


def network_of(sizes: list[int], steps: int, x: NDArray[np.int32]) -> FixedNetwork:
    """Layer upon layer of neurons with soft reset; thresholds are doubled until few enough fire on x."""
    rng = np.random.default_rng(0)
    names = ["input", *(f"layer{index}" for index in range(1, len(sizes)))]
    edges = tuple(
        Connection(names[i], names[i + 1], 2 * rng.integers(-60, 80, (sizes[i + 1], sizes[i]))) for i in range(len(sizes) - 1)
    )
    populations: list[Population] = []
    for index, name in enumerate(names[1:]):
        for vth in (250 << shift for shift in range(9)):
            layer = Population(name, sizes[index + 1], vth=vth, dv=2048, t_start=index + 1)
            parts = (*populations, layer)
            network = FixedNetwork(parts, edges[: index + 1], HostInput("spikes", sizes[0]), steps, name)
            if emulate(network, x, record="spikes").spikes[name].mean() <= RATE:
                break
        populations.append(layer)
    return network


ALL, LEAN = "all records: run_lava's graph", "answer alone: the same graph"
WAYS: dict[str, tuple[str, Callable[[FixedNetwork, NDArray[np.int32]], Way]]] = {
    ALL: (ALL, population_graph),
    "FusedNetwork between source and recorder": (ALL, partial(fused, everything=True, alone=False)),
    "FusedNetwork, records over ports and a RefPort": (ALL, fused_over_ports),
    "FusedNetwork alone": (ALL, partial(fused, everything=True, alone=True)),
    LEAN: (LEAN, lean_graph),
    "FusedNetwork between source and recorder, answer": (LEAN, partial(fused, everything=False, alone=False)),
    "an empty process between source and recorder": (LEAN, empty),
    "FusedNetwork alone, answer": (LEAN, partial(fused, everything=False, alone=True)),
    "an empty process alone": (LEAN, empty_alone),
}
"""Ways to run a network, each with the graph that leaves the same records."""


def measured(network: FixedNetwork, x: NDArray[np.int32], rounds: int) -> dict[str, float]:
    """Median milliseconds per step of every way."""
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        expected: Records = {}
        for name, (_, way) in WAYS.items():
            found, spent = milliseconds(way(network, x), x.shape[1] * network.period)
            expected = expected or found
            assert all(np.array_equal(rows, expected[record]) for record, rows in found.items()), name
            times[name].append(spent)
    return {name: statistics.median(kept) for name, kept in times.items()}


def main() -> None:
    """Measure and print; --write keeps the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of few samples: a smoke run")
    parser.add_argument("--write", action="store_true", help="write the table to benchmarks/results/fused.md")
    options = parser.parse_args()
    layers = [[64, 32, 10]] if options.quick else [[784, 256, 10], [784, 256, 128, 64, 10]]
    rounds, samples, steps = (1, 2, 8) if options.quick else (7, 16, 32)
    heads, rows = ["way"], [[name] for name in WAYS]
    for sizes in layers:
        x = (np.random.default_rng(1).random((steps, samples, sizes[0])) < RATE).astype(np.int32)
        network = network_of(sizes, steps, x)
        medians = measured(network, x, rounds)
        heads += [f"{'-'.join(map(str, sizes))}: ms per step", "its graph takes"]
        for row, (name, spent) in zip(rows, medians.items(), strict=True):
            row += [f"{spent:.3f}", f"{medians[WAYS[name][0]] / spent:.1f}x"]
    lines = ["| " + " | ".join(row) + " |" for row in (heads, *rows)]
    lines.insert(1, "|---" * len(heads) + "|")
    print("\n".join(lines))
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        setting = f"T = {steps}, {samples} samples; {machine()}; {rounds} interleaved rounds, equal records in every step"
        RESULTS.write_text(f"{setting}. Command: `python benchmarks/fused.py --write`\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
