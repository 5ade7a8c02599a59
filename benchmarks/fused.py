"""Milliseconds per step of the same integers on Lava: one process a population and connection, or one FusedNetwork.

``run_lava`` records what all populations send and their membranes, which costs its graph more messages; so the same graph and
FusedNetwork are measured both with all these records and with that of the answer alone. They need a source and a recorder,
whose own time is a column, too; a FusedNetwork that feeds and records itself needs none. Equal records are asserted. Only steps
are timed, not the start of the processes; rounds are interleaved, medians printed. Weights are random, thresholds such that
about one neuron in ten fires.

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
from lava.magma.core.process.process import AbstractProcess
from lava.proc.dense.process import Dense
from lava.utils.weightutils import SignMode
from numpy.typing import NDArray

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


def bare(network: FixedNetwork, x: NDArray[np.int32]) -> Way:
    """A source and a recorder with no network between them."""
    rows = scheduled(network.encode(x), network.period)
    source, recorder = SampleSource(data=rows), Recorder(shape=rows.shape[1:], steps=len(rows))
    source.s_out.connect(recorder.s_in)
    return source, dict


def fused_graph(network: FixedNetwork, x: NDArray[np.int32], everything: bool) -> Way:
    """Source, FusedNetwork, and a recorder of the answer, or of all that the graph records."""
    names = [population.name for population in network.populations]
    fused = FusedNetwork(network=network, also=names if everything else ())
    rows = fused.rows(x)
    source = SampleSource(data=rows)
    source.s_out.connect(fused.s_in)
    answer = Recorder(shape=fused.s_out.shape, steps=len(rows))
    fused.s_out.connect(answer.s_in)
    if not everything:
        return fused, lambda: {"answer": answer.spikes}
    recorder = Recorder(shape=fused.also_out.shape, steps=len(rows))
    fused.also_out.connect(recorder.s_in)
    recorder.v_ref.connect_var(fused.v)

    def read() -> Records:
        sent = {f"{name} sent": recorder.spikes[:, fused.part(name)] for name in names}
        membranes = {f"{name} membranes": recorder.membranes[:, fused.place(name)] for name in names}
        return {"answer": answer.spikes, **sent, **membranes}

    return fused, read


def one_process(network: FixedNetwork, x: NDArray[np.int32]) -> Way:
    """A FusedNetwork that feeds itself and records its answer."""
    fused = FusedNetwork(network=network, data=x, record=x.shape[1] * network.period)
    return fused, lambda: {"answer": fused.answers}


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


WAYS: dict[str, Callable[[FixedNetwork, NDArray[np.int32]], Way]] = {
    "run_lava: one process a population and connection, all records": population_graph,
    "its graph, answer alone": lean_graph,
    "FusedNetwork, all records": partial(fused_graph, everything=True),
    "FusedNetwork, answer alone": partial(fused_graph, everything=False),
    "FusedNetwork that feeds and records itself": one_process,
    "source and recorder, no network": bare,
}


def measured(network: FixedNetwork, x: NDArray[np.int32], rounds: int) -> list[float]:
    """Median milliseconds per step of every way."""
    times: list[list[float]] = [[] for _ in WAYS]
    for _ in range(rounds):
        expected: Records = {}
        for way, kept in zip(WAYS.values(), times, strict=True):
            found, spent = milliseconds(way(network, x), x.shape[1] * network.period)
            expected = expected or found
            assert all(np.array_equal(rows, expected[name]) for name, rows in found.items())
            kept.append(spent)
    return [statistics.median(kept) for kept in times]


def main() -> None:
    """Measure and print; --write keeps the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of few samples: a smoke run")
    parser.add_argument("--write", action="store_true", help="write the table to benchmarks/results/fused.md")
    options = parser.parse_args()
    layers = [[64, 32, 10]] if options.quick else [[784, 256, 10], [784, 256, 128, 64, 10]]
    rounds, samples, steps = (1, 2, 8) if options.quick else (5, 6, 32)
    heads, rows = ["way"], [[name] for name in WAYS]
    for sizes in layers:
        x = (np.random.default_rng(1).random((steps, samples, sizes[0])) < RATE).astype(np.int32)
        network = network_of(sizes, steps, x)
        medians = measured(network, x, rounds)
        heads += [f"{'-'.join(map(str, sizes))}: ms per step", "ratio to run_lava"]
        for row, spent in zip(rows, medians, strict=True):
            row += [f"{spent:.3f}", f"{medians[0] / spent:.1f}"]
    lines = ["| " + " | ".join(row) + " |" for row in (heads, *rows)]
    lines.insert(1, "|---" * len(heads) + "|")
    print("\n".join(lines))
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        setting = f"T = {steps}, {samples} samples, {rounds} rounds, equal records in every step"
        RESULTS.write_text(f"{setting}. Command: `python benchmarks/fused.py --write`\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
