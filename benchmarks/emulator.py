"""Speed of the same integers in three ways: Lava's simulator, Lava's models in one process, the emulator on each of its paths.

Network 784-256-10, T = 32, 8-bit weights, random spikes of several densities; equal outputs are asserted. Rounds are
interleaved, medians printed.

    python benchmarks/emulator.py [--quick] [--write]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import lava_snnlearn as snn
from lava_snnlearn.fixed_point.engine.batch import run_batch
from lava_snnlearn.fixed_point.engine.program import Program
from lava_snnlearn.fixed_point.engine.signal import chip_input
from lava_snnlearn.fixed_point.graph import FixedNetwork
from lava_snnlearn.fixed_point.trace import Trace
from lava_snnlearn.lava_backend.graph import run_in_process, run_lava

RESULTS = Path(__file__).parent / "results" / "emulator.md"
DENSITIES = (0.02, 0.05, 0.1, 0.2, 0.5)
"""Spikes per input and step; rate-coded images have about 0.05 to 0.2."""
USUAL = 0.1
THREADS = 2


def timed(run: Callable[[], Trace], samples: int) -> tuple[Trace, float]:
    """Trace and samples per second."""
    begin = time.perf_counter()
    trace = run()
    return trace, samples / (time.perf_counter() - begin)


def medians(ways: dict[str, tuple[int, Callable[[], Trace]]], rounds: int) -> dict[str, float]:
    """Samples per second of each way, (samples, call), interleaved; all give the same outputs for samples they share."""
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        outputs = []
        for name, (samples, run) in ways.items():
            trace, speed = timed(run, samples)
            speeds[name].append(speed)
            outputs.append(trace.outputs)
        for other in outputs:
            shared = min(len(other), len(outputs[0]))
            assert np.array_equal(other[:shared], outputs[0][:shared])
    return {name: statistics.median(values) for name, values in speeds.items()}


def emulators(chip: FixedNetwork, x: NDArray[np.uint8]) -> dict[str, tuple[int, Callable[[], Trace]]]:
    """The emulator as it is, on one thread, and held to each of its paths."""
    samples = x.shape[1]
    programs = {path: Program(chip, path) for path in ("events", "product")}

    def held(path: str) -> Callable[[], Trace]:
        return lambda: run_batch(programs[path], chip_input(chip, x), "outputs", THREADS)

    return {
        f"emulate, {THREADS} threads": (samples, lambda: snn.emulate(chip, x, record="outputs", threads=THREADS)),
        "emulate, 1 thread": (samples, lambda: snn.emulate(chip, x, record="outputs", threads=1)),
        f"events only, {THREADS} threads": (samples, held("events")),
        f"products only, {THREADS} threads": (samples, held("product")),
        f"emulate with all records, {THREADS} threads": (samples, lambda: snn.emulate(chip, x, threads=THREADS)),
    }


def report(chip: FixedNetwork, rounds: int, few: int, many: int) -> list[str]:
    """Lines of the two tables."""
    rng = np.random.default_rng(0)
    trains = {d: (rng.random((chip.steps, many, 784)) < d).astype(np.uint8) for d in DENSITIES}
    x = trains[USUAL]
    lava: dict[str, tuple[int, Callable[[], Trace]]] = {
        "Lava simulator (fixed_pt)": (few, lambda: run_lava(chip, x[:, :few])),
        "Lava models in one process": (few, lambda: run_in_process(chip, x[:, :few])),
    }
    for way in emulators(chip, x).values():
        way[1]()  # kernels are loaded, weights prepared
    found = medians(lava | emulators(chip, x), rounds)
    base = found["Lava simulator (fixed_pt)"]
    rows = [f"| way ({USUAL:.0%} of the inputs spike in a step) | samples/s (median) | ratio |", "|---|---|---|"]
    rows += [f"| {name} | {value:.1f} | {value / base:.1f} |" for name, value in found.items()]
    tables = [medians(emulators(chip, trains[d]), rounds) for d in DENSITIES]
    rows += [
        "",
        f"| samples/s at a density of | {' | '.join(f'{d:.0%}' for d in DENSITIES)} |",
        "|---|" + "---|" * len(DENSITIES),
    ]
    rows += [f"| {name} | {' | '.join(f'{table[name]:.0f}' for table in tables)} |" for name in tables[0]]
    return rows


def main() -> None:
    """Measure and print; --write keeps the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of few samples: a smoke run")
    parser.add_argument("--write", action="store_true", help="write the tables to benchmarks/results/emulator.md")
    options = parser.parse_args()
    torch.manual_seed(0)
    network = snn.networks.mlp([784, 256, 10], steps=4 if options.quick else 32)
    chip = snn.quantize(network, input="spikes")
    rounds, few, many = (1, 2, 64) if options.quick else (5, 16, 1024)
    rows = report(chip, rounds, few, many)
    print("\n".join(rows))
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        setting = (
            f"784-256-10, T = {chip.steps}, {rounds} rounds of {many} samples (Lava: {few}), spikes as uint8, equal outputs"
        )
        text = f"{setting}. Command: `python benchmarks/emulator.py --write`\n\n"
        RESULTS.write_text(text + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
