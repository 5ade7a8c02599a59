"""Test accuracy of every method, float and fixed point, on digits and MNIST: the bars of the first issue, measured.

Digits: 64-128-128-10, T = 6, SGD 0.9, lr 0.1 cosine, batch 128, 30 epochs, 20 % stratified test split, seeds 0-2: mean and
minimum. MNIST: 784-256-256-10, the same settings, 2 epochs, seed 0. Each method with its published neuron and norm;
8-bit weights.

    python benchmarks/accuracy.py [--quick] [--data digits mnist] [--write]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

import lava_snnlearn as snn
from lava_snnlearn.training import accuracy

METHODS = {
    "BPTT": snn.methods.BPTT(),
    "OTTT accumulate": snn.methods.OTTT(),
    "OTTT online": snn.methods.OTTT(update="online"),
    "SLTT": snn.methods.SLTT(),
    "SLTT-K (K=2)": snn.methods.SLTT(k=2),
}
SIZES = {"digits": [64, 128, 128, 10], "mnist": [784, 256, 256, 10]}
EPOCHS = {"digits": 30, "mnist": 2}
SEEDS = {"digits": (0, 1, 2), "mnist": (0,)}
RESULTS = Path(__file__).parent / "results" / "accuracy.md"


def measure(method: snn.methods.Method, data: snn.data.Dataset, epochs: int, seed: int) -> tuple[float, float, float, float]:
    """Float accuracy, fixed-point accuracy, agreement of predictions, seconds of training."""
    preset = method.preset
    torch.manual_seed(seed)
    network = snn.networks.mlp(SIZES[data.name], preset.neuron, norm=preset.norm, steps=preset.steps)
    begin = time.perf_counter()
    snn.Trainer(network, method, data, epochs=epochs, seed=seed, progress=False).fit()
    seconds = time.perf_counter() - begin
    chip = snn.quantize(network, calibration=data.train.x)
    trace = snn.emulate(chip, data.test.x, record="outputs")
    floats = snn.training.predictions(network, data.test)
    fixed = float((trace.predictions == data.test.y).mean())
    return accuracy(network, data.test), fixed, float((floats == trace.predictions).mean()), seconds


def table(name: str, quick: bool) -> list[str]:
    """Markdown rows for a data set."""
    data = snn.data.load(name, valid=0.0, train_size=1000 if quick else None)
    epochs, seeds = (1, (0,)) if quick else (EPOCHS[name], SEEDS[name])
    rows = []
    for label, method in METHODS.items():
        runs = np.array([measure(method, data, epochs, seed) for seed in seeds])
        mean, least = runs.mean(0), runs.min(0)
        row = f"| {name} | {label} | {mean[0]:.4f} | {least[0]:.4f} | {mean[1]:.4f} | {mean[2]:.4f} | {mean[3]:.1f} |"
        print(row, flush=True)
        rows.append(row)
    return rows


def main() -> None:
    """Measure and print; --write keeps the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke run: digits, 1 epoch on 1000 samples, one seed")
    parser.add_argument("--data", nargs="+", choices=sorted(SIZES), help="default: all; with --quick: digits")
    parser.add_argument("--write", action="store_true", help="write the table to benchmarks/results/accuracy.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    head = [
        "| data | method | float mean | float min | fixed 8 bit mean | same prediction | training s |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(head))
    names = options.data or (sorted(SIZES) if not options.quick else ["digits"])
    rows = [row for name in names for row in table(name, options.quick)]
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        text = f"torch {torch.__version__}, one CPU thread. Command: `python benchmarks/accuracy.py --write`\n\n"
        RESULTS.write_text(text + "\n".join(head + rows) + "\n")


if __name__ == "__main__":
    main()
