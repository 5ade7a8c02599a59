"""Learning on the chip in integers, batch 1, on digits: test accuracy of the rules and memories, and their speed.

SPIDE: 64-100(F100)-10, T_F = 30, T_B = 100, automatic gain, eta 0.03 (x 0.2 at 60 and 85 % of 10 epochs). Local rules:
64-128-10, T = 8, eta 0.01 (x 0.2 in the last of 4 epochs), 8-bit weights. Seeds 0-2; 20 % of the samples for testing. The time
is that of learning alone, one thread; "on Lava, with start" is what samples take there with everything read. The second table
compares simulator and Lava, in turn, medians; Lava's is the time of running processes, bare or with all signals recorded.

    python benchmarks/on_chip.py [--quick] [--write]
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import lava_snnlearn as snn
from lava_snnlearn.lava_backend import guarded
from lava_snnlearn.lava_backend.local import build
from lava_snnlearn.lava_backend.spide import train_on_lava
from lava_snnlearn.on_chip import local
from lava_snnlearn.on_chip.spide import OnChipSettings, OnChipState, choose_gain, infer, initial, train_epoch

RESULTS = Path(__file__).parent / "results" / "on_chip.md"
VARIANTS = {
    "16-bit shadow": {},
    "8 bits, stochastic rounding": {"memory": "stochastic"},
    "8 bits, rounding to nearest": {"memory": "nearest"},
    "16-bit shadow, MSE": {"error": "mse"},
    "16-bit shadow, hidden layer frozen": {"frozen": ("F", "R")},
}
LOCAL_VARIANTS = {
    "OTTT": {"feedback": "transport"},
    "DFA": {"feedback": "fixed"},
    "OPZO": {"feedback": "learned"},
    "OTTT, 16-bit shadow": {"feedback": "transport", "memory": "shadow"},
    "OTTT, once a sample": {"feedback": "transport", "update": "accumulate"},
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


def learn_locally(settings: local.LocalSettings, data: snn.data.Dataset, epochs: int) -> tuple[float, float]:
    """Test accuracy after all epochs, and samples learnt a second."""
    state, spent = local.initial(settings), 0.0
    for epoch in range(epochs):
        begin = time.perf_counter()
        state = replace(state, eta=settings.eta * (0.2 if epoch == epochs - 1 and epoch else 1))
        state, _ = local.train_epoch(state, data.train.x, data.train.y, seed=epoch)
        spent += time.perf_counter() - begin
    accuracy = float((local.infer(state, data.test.x).predictions == data.test.y).mean())
    return accuracy, epochs * len(data.train) / spent


def seconds_on_lava(state: local.LocalState, data: snn.data.Dataset, samples: int, watched: bool) -> float:
    """Of a sample; the first one, in which children start, does not count."""
    graph = build(state, data.train.x[: samples + 1], data.train.y[: samples + 1], watched=watched)
    with guarded(graph.source) as network:
        network.run(state.settings.period)
        begin = time.perf_counter()
        network.run(samples * state.settings.period)
        return (time.perf_counter() - begin) / samples


def compared_speeds(size: int, data: snn.data.Dataset, rounds: int, samples: int) -> list[str]:
    """Simulator and Lava in turn."""
    rows = [f"| 64-{size}-10, T = 8 | simulator, ms a sample | Lava, ms a sample | times faster |", "|---|---|---|---|"]
    for name in ("OTTT", "DFA", "OPZO"):
        state = local.initial(local.LocalSettings(sizes=(64, size, 10), **LOCAL_VARIANTS[name]))
        local.train_epoch(state, data.train.x[:1], data.train.y[:1])  # compiles
        found: dict[str, list[float]] = {"simulator": [], "bare": [], "recorded": []}
        for _ in range(rounds):
            begin = time.perf_counter()
            local.train_epoch(state, data.train.x, data.train.y)
            found["simulator"].append((time.perf_counter() - begin) / len(data.train))
            found["bare"].append(seconds_on_lava(state, data, samples, watched=False))
            found["recorded"].append(seconds_on_lava(state, data, samples, watched=True))
        ours, bare, recorded = (1e3 * statistics.median(values) for values in found.values())
        for label, theirs in ((name, bare), (f"{name}, all signals recorded", recorded)):
            rows.append(f"| {label} | {ours:.3f} | {theirs:.1f} | {theirs / ours:.0f} |")
    return rows


def main() -> None:
    """Measure and print; --write keeps the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke run: one epoch of 100 samples, one seed, 10 neurons")
    parser.add_argument("--write", action="store_true", help="keep the table in benchmarks/results/on_chip.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = snn.data.load("digits", scale="unit", valid=0.0, train_size=100 if options.quick else None)
    seeds, epochs, size, local_size = ((0,), 1, 10, 12) if options.quick else ((0, 1, 2), 10, 100, 128)
    rows = []
    for label, changes in VARIANTS.items():
        found = []
        for seed in seeds:
            state, speed = learn(OnChipSettings(sizes=(64, size, 10), seed=seed, **changes), data, epochs)
            found.append((float((infer(state, data.test.x).predictions == data.test.y).mean()), speed))
        accuracies, speeds = np.array(found).T
        rows.append(f"| {label} | {accuracies.mean():.4f} | {accuracies.min():.4f} | {np.median(speeds):.0f} |")
        print("\n".join([*HEAD, rows[-1]] if len(rows) == 1 else rows[-1:]), flush=True)
    for label, changes in LOCAL_VARIANTS.items():
        made = [local.LocalSettings(sizes=(64, local_size, 10), seed=seed, **changes) for seed in seeds]
        accuracies, speeds = np.array([learn_locally(settings, data, min(epochs, 4)) for settings in made]).T
        rows.append(f"| {label} | {accuracies.mean():.4f} | {accuracies.min():.4f} | {np.median(speeds):.0f} |")
        print(rows[-1], flush=True)
    samples = 2 if options.quick else 20
    start = initial(OnChipSettings(sizes=(64, size, 10)))
    begin = time.perf_counter()
    train_on_lava(start, data.train.x[:samples], data.train.y[:samples])
    rows.append(f"| on Lava, fixed_pt, with start ({samples} samples) | | | {samples / (time.perf_counter() - begin):.1f} |")
    print(rows[-1])
    compared = compared_speeds(local_size, data, *((1, 2) if options.quick else (5, 50)))
    print("\n".join(compared))
    if options.write:
        text = "\n\n".join(["Command: `python benchmarks/on_chip.py --write`", "\n".join(HEAD + rows), "\n".join(compared)])
        RESULTS.write_text(text + "\n")


if __name__ == "__main__":
    main()
