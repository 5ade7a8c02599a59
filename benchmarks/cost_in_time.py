"""Time and peak memory of a training step against the number of time steps T, for every method of the library.

Two networks, batch 128, one thread: MLP 784-800-10 with new dense float32 frames at every step; and the feedback network
784-400(F400)-10 with the same frame at every step, trained through time or at its equilibrium (30 solver steps at most, or
T_B = 100 backward steps in spikes). Time is the median of the repetitions, memory
the peak of one step in a process of its own above network and batch (benchmarks/peers/client.py, peak_bytes). A point whose
memory, extrapolated from the last one, would not fit into what is free is left out.

    python benchmarks/cost_in_time.py [--net mlp feedback] [--quick] [--write]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from matplotlib.figure import Figure
from peers import problem
from peers.client import Worker, machine, peak_bytes

RESULTS = Path(__file__).parent / "results"
METHODS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "mlp": {
        "BPTT": ("BPTT", {}),
        "BPTT, 50 slots": ("BPTT", {"slots": 50}),
        "OTTT": ("OTTT", {}),
        "SLTT": ("SLTT", {}),
        "SLTT, K = 4": ("SLTT", {"k": 4}),
        "rate-BP": ("RateBP", {}),
        "DSR": ("DSR", {}),
    },
    "feedback": {
        "BPTT": ("BPTT", {}),
        "BPTT, 50 slots": ("BPTT", {"slots": 50}),
        "SLTT": ("SLTT", {}),
        "IDE": ("IDE", {"solver_steps": 30}),
        "SPIDE": ("SPIDE", {}),
    },
}
INPUTS = {"mlp": "new frames", "feedback": "static"}
NAMES = {"mlp": "cost_in_time", "feedback": "cost_in_time_feedback"}


@dataclass(frozen=True)
class Point:
    """Cost of one step of one method at one T: seconds, bytes."""

    steps: int
    seconds: float
    peak: int


def measure(net: str, method: str, options: dict[str, Any], steps: int, data: Path, repetitions: int) -> Point:
    """One process for the time, one for the memory."""
    request: dict[str, Any] = {"net": net, "inputs": INPUTS[net], "steps": steps, "data": str(data)}
    request |= {"module": "with_lava_snnlearn", "method": method, "options": options}
    peak = peak_bytes(Path(sys.executable), request)
    worker = Worker(Path(sys.executable), request)
    try:
        worker.ready()
        return Point(steps, statistics.median(worker.step() for _ in range(repetitions)), peak)
    finally:
        worker.close()


def fits(before: list[Point], steps: int) -> bool:
    """Whether a point whose memory grows like T from the last one leaves a tenth of the free memory."""
    return not before or before[-1].peak * steps / before[-1].steps < 0.9 * psutil.virtual_memory().available


def measure_all(net: str, lengths: list[int], batch: int, repetitions: int) -> dict[str, list[Point]]:
    """Points of every method, T growing."""
    points: dict[str, list[Point]] = {label: [] for label in METHODS[net]}
    for steps in lengths:
        with tempfile.TemporaryDirectory() as folder:
            data = problem.save(Path(folder), problem.make(net, INPUTS[net], steps, batch))
            for label, (method, options) in METHODS[net].items():
                if fits(points[label], steps):
                    points[label].append(measure(net, method, options, steps, data, repetitions))
    return points


def table(points: dict[str, list[Point]], lengths: list[int]) -> list[str]:
    """Two lines a method: seconds and MB at each T."""
    rows = [
        "| method | of a step | " + " | ".join(f"T = {steps}" for steps in lengths) + " |",
        "|---" * (len(lengths) + 2) + "|",
    ]
    for label, line in points.items():
        found = {point.steps: point for point in line}
        seconds = [f"{found[steps].seconds:.4f}" if steps in found else "left out" for steps in lengths]
        peaks = [f"{found[steps].peak / 1e6:.1f}" if steps in found else "left out" for steps in lengths]
        rows += [f"| {label} | s | " + " | ".join(seconds) + " |", f"| {label} | MB | " + " | ".join(peaks) + " |"]
    return rows


def plot(points: dict[str, list[Point]], path: Path) -> None:
    """Both costs against T, doubly logarithmic."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = figure.subplots(1, 2)
    for label, line in points.items():
        lengths = [point.steps for point in line]
        panels[0].loglog(lengths, [point.seconds for point in line], "o-", label=label)
        panels[1].loglog(lengths, [point.peak / 1e6 for point in line], "o-", label=label)
    for panel, quantity in zip(panels, ("time of a training step [s]", "peak memory of a training step [MB]"), strict=True):
        panel.set(xlabel="time steps T", ylabel=quantity)
        panel.grid(True, which="both", alpha=0.3)
    panels[0].legend(fontsize="small")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure and print; --write keeps table and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short length and a small batch: a smoke run")
    parser.add_argument("--net", nargs="+", choices=list(METHODS), default=list(METHODS), help="default: both")
    parser.add_argument("--write", action="store_true", help="write the tables and plots to benchmarks/results")
    options = parser.parse_args()
    lengths, batch, repetitions = ([4], 8, 1) if options.quick else ([10, 30, 100, 300, 1000], 128, 3)
    for net in options.net:
        points = measure_all(net, lengths, batch, repetitions)
        rows = table(points, lengths)
        print("\n".join([*rows, ""]))
        if options.write:
            RESULTS.mkdir(exist_ok=True)
            plot(points, RESULTS / f"{NAMES[net]}.png")
            command = f"python benchmarks/cost_in_time.py --net {net} --write"
            head = f"{machine()}; one thread; batch {batch}. Command: `{command}`"
            text = [head, "", *rows, "", f"![cost against T]({NAMES[net]}.png)"]
            (RESULTS / f"{NAMES[net]}.md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
