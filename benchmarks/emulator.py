"""Speed of the same integers in three ways: Lava's simulator, Lava's models in one process, the batched emulator.

Network 784-256-10, T = 32, 8-bit weights, random currents; equal outputs are asserted. Rounds are interleaved, medians printed.

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

import lava_snnlearn as snn
from lava_snnlearn.fixed_point.trace import Trace
from lava_snnlearn.lava_backend.graph import run_in_process, run_lava

RESULTS = Path(__file__).parent / "results" / "emulator.md"


def timed(run: Callable[[], Trace], samples: int) -> tuple[Trace, float]:
    """Trace and samples per second."""
    begin = time.perf_counter()
    trace = run()
    return trace, samples / (time.perf_counter() - begin)


def main() -> None:
    """Measure and print; --write keeps the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of few samples: a smoke run")
    parser.add_argument("--write", action="store_true", help="write the table to benchmarks/results/emulator.md")
    options = parser.parse_args()
    torch.manual_seed(0)
    network = snn.networks.mlp([784, 256, 10], steps=4 if options.quick else 32)
    chip = snn.quantize(network)
    rounds, few, many = (1, 2, 64) if options.quick else (5, 16, 1024)
    x = np.random.default_rng(0).normal(size=(many, 784)).astype(np.float32)
    speeds: dict[str, list[float]] = {"Lava simulator (fixed_pt)": [], "Lava models in one process": [], "emulator": []}
    for _ in range(rounds):
        lava, speed = timed(lambda: run_lava(chip, x[:few]), few)
        speeds["Lava simulator (fixed_pt)"].append(speed)
        models, speed = timed(lambda: run_in_process(chip, x[:few]), few)
        speeds["Lava models in one process"].append(speed)
        ours, speed = timed(lambda: snn.emulate(chip, x, record="outputs"), many)
        speeds["emulator"].append(speed)
        assert np.array_equal(lava.outputs, ours.outputs[:few])
        assert np.array_equal(models.outputs, ours.outputs[:few])
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    base = medians["Lava simulator (fixed_pt)"]
    rows = ["| way | samples/s (median) | ratio |", "|---|---|---|"]
    rows += [f"| {name} | {value:.1f} | {value / base:.1f} |" for name, value in medians.items()]
    print("\n".join(rows))
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        setting = f"784-256-10, T = {chip.steps}, {rounds} rounds, equal outputs"
        text = f"{setting}. Command: `python benchmarks/emulator.py --write`\n\n"
        RESULTS.write_text(text + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
