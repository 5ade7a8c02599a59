"""Learning on the chip (SPIDE in integers, batch 1) on digits: test accuracy of each kind of memory and error, and its speed.

64-100(F100)-10, T_F = 30, T_B = 100, automatic gain, eta 0.03 (x 0.2 at 60 and 85 % of 10 epochs), seeds 0-2; 20 % of the
samples for testing. The time is that of learning alone, one thread; "on Lava" is what samples take there with everything read.

    python benchmarks/on_chip.py [--quick] [--write]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import lava_snnlearn as snn
from lava_snnlearn.lava_backend.spide import train_on_lava
from lava_snnlearn.on_chip.spide import OnChipSettings, OnChipState, choose_gain, infer, initial, train_epoch

RESULTS = Path(__file__).parent / "results" / "on_chip.md"
VARIANTS = {
    "16-bit shadow": {},
    "8 bits, stochastic rounding": {"memory": "stochastic"},
    "8 bits, rounding to nearest": {"memory": "nearest"},
    "16-bit shadow, MSE": {"error": "mse"},
    "16-bit shadow, hidden layer frozen": {"frozen": ("F", "R")},
}
HEAD = ["| variant | test accuracy, mean | least | samples/s |", "|---|---|---|---|"]


def learn(settings: OnChipSettings, data: snn.data.Dataset, epochs: int) -> tuple[OnChipState, float]:
    """The network after all epochs, and samples learnt a second."""
    train = data.train
    state, _ = choose_gain(initial(settings), train.x[:200], train.y[:200])
    begin = time.perf_counter()
    for epoch in range(epochs):
        rate = settings.eta * (0.2 if epoch >= 0.6 * epochs else 1) * (0.2 if epoch >= 0.85 * epochs else 1)
        state, _ = train_epoch(replace(state, eta=rate), train.x, train.y, seed=epoch)
    return state, epochs * len(train) / (time.perf_counter() - begin)


def main() -> None:
    """Measure and print; --write keeps the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke run: one epoch of 100 samples, one seed, 10 neurons")
    parser.add_argument("--write", action="store_true", help="keep the table in benchmarks/results/on_chip.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = snn.data.load("digits", scale="unit", valid=0.0, train_size=100 if options.quick else None)
    seeds, epochs, size = ((0,), 1, 10) if options.quick else ((0, 1, 2), 10, 100)
    rows = []
    for label, changes in VARIANTS.items():
        found = []
        for seed in seeds:
            state, speed = learn(OnChipSettings(sizes=(64, size, 10), seed=seed, **changes), data, epochs)
            found.append((float((infer(state, data.test.x).predictions == data.test.y).mean()), speed))
        accuracies, speeds = np.array(found).T
        rows.append(f"| {label} | {accuracies.mean():.4f} | {accuracies.min():.4f} | {np.median(speeds):.0f} |")
        print("\n".join([*HEAD, rows[-1]] if len(rows) == 1 else rows[-1:]), flush=True)
    samples = 2 if options.quick else 20
    start = initial(OnChipSettings(sizes=(64, size, 10)))
    begin = time.perf_counter()
    train_on_lava(start, data.train.x[:samples], data.train.y[:samples])
    rows.append(f"| on Lava, fixed_pt, with start ({samples} samples) | | | {samples / (time.perf_counter() - begin):.1f} |")
    print(rows[-1])
    if options.write:
        RESULTS.write_text("Command: `python benchmarks/on_chip.py --write`\n\n" + "\n".join(HEAD + rows) + "\n")


if __name__ == "__main__":
    main()
