"""Time of one learning step of a 784x100 connection on Lava's simulator. Rounds are interleaved, medians printed.

python benchmarks/stock_learning.py [--quick] [--write]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lava.magma.core.process.process import AbstractProcess
from lava.proc.dense.process import Dense, LearningDense
from lava.utils.weightutils import SignMode

from lava_snnlearn.lava_backend import guarded, run_config, stock
from lava_snnlearn.lava_backend.stock.engine import FIXED, FLOATING
from lava_snnlearn.processes import OTTTDense, SampleSource

RESULTS = Path(__file__).parent / "results" / "stock_learning.md"
PRE, POST, ROWS = 784, 100, 256


@dataclass(frozen=True)
class Candidate:
    """A network to be timed: any of its processes, the tag of its models, Lava steps of one learning step."""

    process: AbstractProcess
    tag: str
    lava_steps: int = 1


def signals(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Spikes at a rate of 0.1 and signed errors, in each Lava step."""
    rng = np.random.default_rng(0)
    errors = np.round(rng.normal(scale=20, size=(ROWS, POST))).astype(dtype)
    return rng.random((ROWS, PRE)) < 0.1, errors


def sources(dtype: type) -> tuple[SampleSource, SampleSource, SampleSource]:
    """Spikes and the two halves of the errors."""
    spikes, errors = signals(dtype)
    return SampleSource(data=spikes), SampleSource(data=np.maximum(errors, 0)), SampleSource(data=np.maximum(-errors, 0))


def weights() -> np.ndarray:
    """Where all candidates begin: even integers."""
    return 2 * np.random.default_rng(1).integers(-30, 31, size=(POST, PRE))


def stock_connection(tag: str, epoch: int = 1) -> Candidate:
    """Stock LearningDense with OTTT's products: u0*x1*y3 - u0*x1*y2."""
    products = tuple(stock.Product(sign, -7, "u0", ("x1", post)) for sign, post in ((1, "y3"), (-1, "y2")))
    rule = stock.StockRule(weight=products, x1_impulse=63, x1_tau=1.44 * epoch, epoch=epoch)
    dense = LearningDense(weights=weights(), learning_rule=rule.build(tag), sign_mode=SignMode.MIXED)
    spikes, positive, negative = sources(int if tag == FIXED else float)
    spikes.s_out.connect(dense.s_in)
    positive.s_out.connect(dense.s_in_y2)
    negative.s_out.connect(dense.s_in_y3)
    return Candidate(dense, tag, epoch)


def own_connection(rule: str) -> Candidate:
    """OTTTDense with the same trace and the same size of changes; it also carries the errors back."""
    dense = OTTTDense(
        memory=weights() * (128 if rule == "shadow" else 1),
        rule=rule,
        reset_interval=ROWS,
        impulse=63,
        dv=2048,
        delay=1,
        back_exponent=-11,
        multiplier=1 << 12,
        shift=15,  # 2**-3 shadow units, of which 128 are a weight unit: 2**-10, as -7 and a gain of 2**-3 in the stock rule
    )
    spikes, errors = signals(int)
    SampleSource(data=spikes).s_out.connect(dense.s_in)
    SampleSource(data=errors).s_out.connect(dense.m_in)
    return Candidate(dense, FIXED)


def without_learning() -> Candidate:
    """Stock Dense that is given the same spikes."""
    dense = Dense(weights=weights(), sign_mode=SignMode.MIXED)
    sources(int)[0].s_out.connect(dense.s_in)
    return Candidate(dense, FIXED)


CANDIDATES: dict[str, Callable[[], Candidate]] = {
    "stock Dense, no learning, fixed": without_learning,
    "stock LearningDense, float": lambda: stock_connection(FLOATING),
    "stock LearningDense, fixed": lambda: stock_connection(FIXED),
    "stock LearningDense, fixed, epochs of 4 Lava steps": lambda: stock_connection(FIXED, 4),
    "OTTTDense, fixed, 8 bits, a random number per synapse": lambda: own_connection("stochastic"),
    "OTTTDense, fixed, 16-bit shadow": lambda: own_connection("shadow"),
}


def seconds(candidate: Candidate, steps: int) -> float:
    """Of one learning step; the first ones, in which children start, do not count."""
    with guarded(candidate.process, run_config(candidate.tag)) as network:
        network.run(4 * candidate.lava_steps)
        begin = time.perf_counter()
        network.run(steps * candidate.lava_steps)
        return (time.perf_counter() - begin) / steps


def table(rounds: int, steps: int) -> list[str]:
    """Measure all candidates in turn."""
    found: dict[str, list[float]] = {name: [] for name in CANDIDATES}
    for _ in range(rounds):
        for name, build in CANDIDATES.items():
            found[name].append(seconds(build(), steps))
    base = statistics.median(found["stock LearningDense, fixed"])
    rows = ["| connection 784x100 | ms a learning step (median) | least | times faster than stock fixed |", "|---|---|---|---|"]
    for name, values in found.items():
        median = statistics.median(values)
        rows.append(f"| {name} | {1e3 * median:.2f} | {1e3 * min(values):.2f} | {base / median:.2f} |")
    return rows


def main() -> None:
    """Measure and print; --write keeps the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of few steps: a smoke run")
    parser.add_argument("--write", action="store_true", help="write the table to benchmarks/results/stock_learning.md")
    options = parser.parse_args()
    rounds, steps = (1, 3) if options.quick else (5, 60)
    text = "\n".join(table(rounds, steps))
    print(text)
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        setting = f"One connection and the processes that feed it, on Lava's simulator; {rounds} rounds of {steps} steps"
        RESULTS.write_text(f"{setting}. Command: `python benchmarks/stock_learning.py --write`\n\n{text}\n")


if __name__ == "__main__":
    main()
