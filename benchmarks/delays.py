"""Time of a step of synapses with delays: stock DelayDense and DelaySparse against DelayConnection, on the same spikes.

Rounds are interleaved, medians printed. Every run's sums are compared bit by bit.

python benchmarks/delays.py [--quick] [--write]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from lava.magma.core.process.process import AbstractProcess
from lava.proc.dense.process import DelayDense
from lava.proc.sparse.process import DelaySparse
from lava.utils.weightutils import SignMode
from scipy.sparse import csr_matrix

from lava_snnlearn.lava_backend import InProcessModel, guarded
from lava_snnlearn.processes import DelayConnection, Recorder, SampleSource

RESULTS = Path(__file__).parent / "results" / "delays.md"
RATE, WARM_UP = 0.1, 4

Runner = Callable[[AbstractProcess, np.ndarray], tuple[float, np.ndarray]]


@dataclass(frozen=True)
class Case:
    """Synapses to be timed: n_out, n_in, the longest delay, and the share of weights that exist (1: a full matrix)."""

    shape: tuple[int, int]
    longest: int
    density: float = 1.0

    def __str__(self) -> str:
        kind = "full" if self.density == 1 else f"{self.density:.0%} of the weights"
        return f"{self.shape[1]}x{self.shape[0]}, {kind}, delays 0..{self.longest}"

    def tables(self) -> dict[str, Any]:
        """Weights and delays in the form that stock takes, the same at every call."""
        rng = np.random.default_rng(0)
        weights, delays = 2 * rng.integers(-127, 128, self.shape), rng.integers(0, self.longest + 1, self.shape)
        if self.density < 1:
            weights = np.where(rng.random(self.shape) < self.density, weights, 0)
            return {"weights": csr_matrix(weights), "delays": csr_matrix(np.where(weights, delays, 0))}
        return {"weights": weights, "delays": delays}

    def processes(self) -> dict[str, AbstractProcess]:
        """Fresh ones: stock and this library's."""
        options = {**self.tables(), "max_delay": self.longest, "sign_mode": SignMode.MIXED}
        stock = DelayDense if self.density == 1 else DelaySparse
        return {"stock": stock(**options), "ours": DelayConnection.dense(**options)}


CASES = (Case((100, 784), 62), Case((100, 784), 8), Case((100, 784), 62, 0.01), Case((2000, 2000), 8, 0.01))


def in_this_interpreter(process: AbstractProcess, spikes: np.ndarray) -> tuple[float, np.ndarray]:
    """Seconds of a step of the fixed_pt model alone, and what it sent."""
    model = InProcessModel(process)
    rows = [model.step(s_in=row)["a_out"] for row in spikes[:WARM_UP]]
    begin = time.perf_counter()
    rows += [model.step(s_in=row)["a_out"] for row in spikes[WARM_UP:]]
    return (time.perf_counter() - begin) / (len(spikes) - WARM_UP), np.array(rows)


def on_lava(process: AbstractProcess, spikes: np.ndarray) -> tuple[float, np.ndarray]:
    """The same on Lava's runtime, with the two processes that send and record; the start of the children does not count."""
    source, recorder = SampleSource(data=spikes), Recorder(shape=process.a_out.shape, steps=len(spikes))
    source.s_out.connect(process.s_in)
    process.a_out.connect(recorder.s_in)
    with guarded(source) as network:
        network.run(WARM_UP)
        begin = time.perf_counter()
        network.run(len(spikes) - WARM_UP)
        spent = time.perf_counter() - begin
    return spent / (len(spikes) - WARM_UP), recorder.spikes


RUNNERS: dict[str, Runner] = {"model alone": in_this_interpreter, "on Lava's runtime": on_lava}


def row(case: Case, name: str, runner: Runner, rounds: int, steps: int) -> str:
    """Measure one case with both processes in turn."""
    spikes = np.random.default_rng(1).random((WARM_UP + steps, case.shape[1])) < RATE
    times: dict[str, list[float]] = {}
    equal = True
    for _ in range(rounds):
        results = {kind: runner(process, spikes) for kind, process in case.processes().items()}
        for kind, (seconds, _sums) in results.items():
            times.setdefault(kind, []).append(1e3 * seconds)
        equal = equal and np.array_equal(results["stock"][1], results["ours"][1])
    stock, ours = (statistics.median(times[kind]) for kind in ("stock", "ours"))
    return f"| {case} | {name} | {stock:.2f} | {ours:.3f} | {stock / ours:.0f} | {'yes' if equal else 'NO'} |"


def table(cases: tuple[Case, ...], rounds: int, steps: int) -> list[str]:
    """All cases with both runners."""
    head = [
        "| synapses | run | stock, ms a step | DelayConnection, ms a step | times faster | equal bits |",
        "|---|---|---|---|---|---|",
    ]
    measured = partial(row, rounds=rounds, steps=steps)
    return head + [measured(case, name, runner) for case in cases for name, runner in RUNNERS.items()]


def main() -> None:
    """Measure and print; --write keeps the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of few steps: a smoke run")
    parser.add_argument("--write", action="store_true", help="write the table to benchmarks/results/delays.md")
    options = parser.parse_args()
    rounds, steps = (1, 3) if options.quick else (5, 80)
    text = "\n".join(table(CASES, rounds, steps))
    print(text)
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        setting = (
            f"fixed_pt models, spikes at a rate of {RATE}; medians of {rounds} rounds of {steps} steps, stock and ours in turn"
        )
        RESULTS.write_text(f"{setting}. Command: `python benchmarks/delays.py --write`\n\n{text}\n")


if __name__ == "__main__":
    main()
