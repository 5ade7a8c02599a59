"""Time and peak memory of a training step against the number of time steps T, for every method of the library.

MLP 784-800-10, batch 128, new dense float32 frames at every step, one thread; time is the median of the repetitions, memory
the peak of one step in a process of its own above network and batch (benchmarks/peers/client.py, peak_bytes). A point whose
memory, extrapolated from the last one, would not fit into what is free is left out.

    python benchmarks/cost_in_time.py [--quick] [--write]
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
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "BPTT": ("BPTT", {}),
    "BPTT, 50 slots": ("BPTT", {"slots": 50}),
    "OTTT": ("OTTT", {}),
    "SLTT": ("SLTT", {}),
    "SLTT, K = 4": ("SLTT", {"k": 4}),
    "rate-BP": ("RateBP", {}),
    "DSR": ("DSR", {}),
}


@dataclass(frozen=True)
class Point:
    """Cost of one step of one method at one T: seconds, bytes."""

    steps: int
    seconds: float
    peak: int


def measure(method: str, options: dict[str, Any], steps: int, data: Path, repetitions: int) -> Point:
    """One process for the time, one for the memory."""
    request: dict[str, Any] = {"net": "mlp", "inputs": "new frames", "steps": steps, "data": str(data)}
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


def measure_all(lengths: list[int], batch: int, repetitions: int) -> dict[str, list[Point]]:
    """Points of every method, T growing."""
    points: dict[str, list[Point]] = {label: [] for label in METHODS}
    for steps in lengths:
        with tempfile.TemporaryDirectory() as folder:
            data = problem.save(Path(folder), problem.make("mlp", "new frames", steps, batch))
            for label, (method, options) in METHODS.items():
                if fits(points[label], steps):
                    points[label].append(measure(method, options, steps, data, repetitions))
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
    parser.add_argument("--write", action="store_true", help="write cost_in_time.md and .png to benchmarks/results")
    options = parser.parse_args()
    lengths, batch, repetitions = ([4], 8, 1) if options.quick else ([10, 30, 100, 300, 1000], 128, 3)
    points = measure_all(lengths, batch, repetitions)
    rows = table(points, lengths)
    print("\n".join(rows))
    if options.write:
        RESULTS.mkdir(exist_ok=True)
        plot(points, RESULTS / "cost_in_time.png")
        head = f"{machine()}; one thread; batch {batch}. Command: `python benchmarks/cost_in_time.py --write`"
        text = [head, "", *rows, "", "![cost against T](cost_in_time.png)"]
        (RESULTS / "cost_in_time.md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
