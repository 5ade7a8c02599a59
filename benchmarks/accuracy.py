"""Test accuracy of every method, float and fixed point: the bars of the specification, measured.

=======  ==========================  ==========================================================================================
data     network                     settings
=======  ==========================  ==========================================================================================
digits   64-128-128-10               30 epochs, 20 % stratified test split, seeds 0-2: mean and minimum
mnist    784-256-256-10              2 epochs, seed 0
fashion  16C3-P2-32C3-P2-128-10      all 60,000 samples, T = 4, 6 epochs, seed 0
nmnist   12C5s2-32C3s2-128-10        N-MNIST (the subset of 1,100 recordings where that is at hand), 10 frames by time, leak
                                     0.5, batch 64, lr 0.05, 15 epochs, 5-fold cross-validation: mean and minimum of the folds
=======  ==========================  ==========================================================================================

Feedback networks at equilibrium, IF neurons:

================ =================  ==========================================================================================
digits_feedback  64-100(F100)-10    T = 30, batch 64, 30 epochs, seeds 0-2
mnist_feedback   784-400(F400)-10   T = 30, dropout 0.2, lr 0.05, weight decay 5e-4, 20 epochs, seed 0
fashion_feedback 784-400(F400)-10   T = 5, dropout 0.2, lr 0.05, weight decay 5e-4, 100 epochs, seed 0
digits_energy    64-64-10           equilibrium propagation, prototypical, T = 25, K = 10, batch 20, 30 epochs, seeds 0-2
mnist_energy     784-512-10         the same, 10 epochs, seed 0
================ =================  ==========================================================================================

SGD 0.9, lr 0.1 cosine, batch 128 where nothing else is said; each method with its published neuron, norm and T; 8-bit weights.

    python benchmarks/accuracy.py [--quick] [--data digits mnist] [--method OTTT SLTT] [--write]

--write replaces the measured rows in benchmarks/results/accuracy.md and keeps the others.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import lava_snnlearn as snn
from lava_snnlearn.data.batches import inputs
from lava_snnlearn.training import accuracy, predictions

METHODS = {
    "BPTT": snn.methods.BPTT(),
    "OTTT accumulate": snn.methods.OTTT(),
    "OTTT online": snn.methods.OTTT(update="online"),
    "SLTT": snn.methods.SLTT(),
    "SLTT-K (K=2)": snn.methods.SLTT(k=2),
    "rate-BP": snn.methods.RateBP(),
    "DSR IF": snn.methods.DSR(),
    "DSR LIF": snn.methods.DSR(neuron="lif"),
    "OPZO": snn.methods.OPZO(),
    "DFA": snn.methods.DFA(),
    "FA": snn.methods.FA(),
    "IDE": snn.methods.IDE(),
    "SPIDE": snn.methods.SPIDE(),
    "EP": snn.methods.EP(),
    "EP, integer phases": snn.methods.EP(arithmetic="integer"),
}
FEEDFORWARD = tuple(name for name, method in METHODS.items() if not (method.preset.feedback or method.preset.energy))
RESULTS = Path(__file__).parent / "results" / "accuracy.md"
HEAD = [
    "| data | network | method | float mean | float min | fixed 8 bit mean | same prediction | training s |",
    "|---|---|---|---|---|---|---|---|",
]


@dataclass(frozen=True)
class Task:
    """One data set: the network for a method's preset, and how it is trained."""

    text: str
    network: Callable[[snn.methods.Preset], snn.networks.Network | snn.networks.EnergyNetwork]
    epochs: int
    seeds: tuple[int, ...] = (0,)
    folds: int = 0
    methods: tuple[str, ...] = FEEDFORWARD
    options: tuple[tuple[str, float], ...] = ()
    data: str | None = None
    scale: str = "standard"


def _dense(*sizes: int) -> Callable[[snn.methods.Preset], snn.networks.Network]:
    return lambda preset: snn.networks.mlp(sizes, preset.neuron, norm=preset.norm, steps=preset.steps)


def _conv(shape: tuple[int, int, int], text: str, steps: int) -> Callable[[snn.methods.Preset], snn.networks.Network]:
    return lambda preset: snn.networks.conv_net(shape, text, 10, preset.neuron, norm=preset.norm, steps=steps)


def _feedback(inputs: int, size: int, steps: int, dropout: float = 0.0) -> Callable[[snn.methods.Preset], snn.networks.Network]:
    return lambda preset: snn.networks.feedback_net(inputs, (size,), 10, preset.neuron, steps=steps, dropout=dropout)


def _energy(*sizes: int, steps: int) -> Callable[[snn.methods.Preset], snn.networks.EnergyNetwork]:
    return lambda preset: snn.networks.energy_net(sizes, steps=steps)


def _events(preset: snn.methods.Preset) -> snn.networks.Network:
    neuron = dataclasses.replace(preset.neuron, leak=0.5)
    return snn.networks.conv_net((2, 34, 34), "12C5s2-32C3s2-128", 10, neuron, norm=preset.norm, steps=10)


TASKS = {
    "digits": Task("64-128-128-10", _dense(64, 128, 128, 10), 30, seeds=(0, 1, 2)),
    "mnist": Task("784-256-256-10", _dense(784, 256, 256, 10), 2),
    "fashion": Task(
        "16C3-P2-32C3-P2-128-10",
        _conv((1, 28, 28), "16C3-P2-32C3-P2-128", 4),
        6,
        methods=("OTTT accumulate", "SLTT", "rate-BP"),
    ),
    "nmnist": Task(
        "12C5s2-32C3s2-128-10",
        _events,
        15,
        folds=5,
        methods=("BPTT", "OTTT accumulate", "SLTT"),
        options=(("batch_size", 64), ("learning_rate", 0.05)),
    ),
    "digits_feedback": Task(
        "64-100(F100)-10",
        _feedback(64, 100, 30),
        30,
        seeds=(0, 1, 2),
        methods=("IDE", "SPIDE"),
        options=(("batch_size", 64), ("learning_rate", 0.1)),
        data="digits",
    ),
    "mnist_feedback": Task(
        "784-400(F400)-10, T=30",
        _feedback(784, 400, 30, 0.2),
        20,
        methods=("IDE",),
        options=(("learning_rate", 0.05), ("weight_decay", 5e-4)),
        data="mnist",
    ),
    "fashion_feedback": Task(
        "784-400(F400)-10, T=5",
        _feedback(784, 400, 5, 0.2),
        100,
        methods=("IDE",),
        options=(("learning_rate", 0.05), ("weight_decay", 5e-4)),
        data="fashion",
    ),
    "digits_energy": Task(
        "64-64-10",
        _energy(64, 64, 10, steps=25),
        30,
        seeds=(0, 1, 2),
        methods=("EP", "EP, integer phases"),
        options=(("batch_size", 20), ("learning_rate", 0.03)),
        data="digits",
        scale="unit",
    ),
    "mnist_energy": Task(
        "784-512-10",
        _energy(784, 512, 10, steps=25),
        10,
        methods=("EP",),
        options=(("batch_size", 20), ("learning_rate", 0.02)),
        data="mnist",
        scale="unit",
    ),
}


def measure(task: Task, method: snn.methods.Method, data: snn.data.Dataset, epochs: int, seed: int) -> tuple[float, ...]:
    """Float accuracy, fixed-point accuracy, agreement of predictions, seconds of training."""
    torch.manual_seed(seed)
    network = task.network(method.preset)
    begin = time.perf_counter()
    snn.Trainer(network, method, data, epochs=epochs, seed=seed, progress=False, **dict(task.options)).fit()
    seconds = time.perf_counter() - begin
    few, test = (inputs(x, torch.device("cpu"), torch.float32).numpy() for x in (data.train.x[:2000], data.test.x))
    chip = snn.quantize(network, calibration=few)
    trace = snn.emulate(chip, test, record="outputs")
    floats = predictions(network, data.test)
    fixed = float((trace.predictions == data.test.y).mean())
    return accuracy(network, data.test), fixed, float((floats == trace.predictions).mean()), seconds


def table(name: str, quick: bool, chosen: list[str] | None) -> list[str]:
    """Markdown rows for a data set."""
    task = TASKS[name]
    options = {"steps": 10} if name == "nmnist" else {"scale": task.scale}
    data = snn.data.load(task.data or name, valid=0.0, train_size=1000 if quick else None, **options)
    epochs, seeds = (1, (0,)) if quick else (task.epochs, task.seeds)
    sets = snn.data.k_folds(data, task.folds) if task.folds else [data]
    rows = []
    for label in task.methods:
        if chosen and not any(label.lower().startswith(text.lower()) for text in chosen):
            continue
        runs = np.array([measure(task, METHODS[label], part, epochs, seed) for part in sets for seed in seeds])
        mean, least = runs.mean(0), runs.min(0)
        figures = f"{mean[0]:.4f} | {least[0]:.4f} | {mean[1]:.4f} | {mean[2]:.4f} | {mean[3]:.1f}"
        rows.append(f"| {data.name} | {task.text} | {label} | {figures} |")
        print(rows[-1], flush=True)
    return rows


def keep(rows: list[str]) -> None:
    """Write the rows; those of other data sets and methods stay as they were measured."""

    def key(row: str) -> tuple[str, ...]:
        return tuple(cell.strip() for cell in row.split("|")[1:4])

    before = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    old = [line for line in before if line.startswith("| ") and line != HEAD[0] and key(line) not in map(key, rows)]
    order = [task.text for task in TASKS.values()]
    lines = sorted(old + rows, key=lambda row: (order.index(key(row)[1]), list(METHODS).index(key(row)[2])))
    text = f"torch {torch.__version__}, one CPU thread. Command: `python benchmarks/accuracy.py --write`\n\n"
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text + "\n".join(HEAD + lines) + "\n")


def main() -> None:
    """Measure and print; --write keeps the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke run: digits, 1 epoch on 1000 samples, one seed")
    parser.add_argument("--data", nargs="+", choices=sorted(TASKS), help="default: all; with --quick: digits")
    parser.add_argument("--method", nargs="+", help="beginnings of the methods' names; default: all of the data set")
    parser.add_argument("--write", action="store_true", help="keep the rows in benchmarks/results/accuracy.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("\n".join(HEAD))
    for name in options.data or (["digits"] if options.quick else list(TASKS)):
        rows = table(name, options.quick, options.method)
        if options.write:
            keep(rows)


if __name__ == "__main__":
    main()
