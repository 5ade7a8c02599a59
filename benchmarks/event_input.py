"""Sparse input: the product over events against the dense product, by the share of values that are not zero.

One layer 2312 -> 512 (N-MNIST's input), 1024 rows (time steps x samples), forward and backward of weight and bias, one thread,
float32; equal results are asserted. Rounds are interleaved, medians printed. The break-even is the density up to which
``lava_snnlearn.networks.event_products.DENSITY`` should send an input to the product over events.

    python benchmarks/event_input.py [--quick] [--write]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from lava_snnlearn.networks.event_products import DENSITY, Traced, sparse_linear, traced_sparse_linear
from lava_snnlearn.neurons.fused import leaky_sum

RESULTS = Path(__file__).parent / "results" / "event_input.md"
INPUTS, OUTPUTS, STEPS, BATCH, LAM = 2312, 512, 8, 128, 0.5
DENSITIES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
HEAD = "| density | dense (ms) | over events (ms) | ratio | dense, traced (ms) | over events, traced (ms) | ratio |"


class DenseTraced(torch.autograd.Function):
    """The dense map whose weight gradient uses the trace, as the trace engine has it."""

    @staticmethod
    def forward(ctx, events: Tensor, trace: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(trace)
        return F.linear(events, weight, bias)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[None, None, Tensor, Tensor]:  # type: ignore[no-untyped-def]
        (trace,) = ctx.saved_tensors
        return None, None, grad.t() @ trace, grad.sum(0)


def dense_traced(events: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The trace is part of the cost: it has to be made, and is not sparse."""
    trace = leaky_sum(events.view(STEPS, BATCH, -1), LAM)
    return DenseTraced.apply(events, trace.flatten(0, 1), weight, bias)


def over_events_traced(events: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The trace moved to the other factor."""
    return traced_sparse_linear(events, weight, bias, Traced(LAM, torch.zeros(BATCH, events.shape[1]), None))


WAYS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "dense": F.linear,
    "over events": sparse_linear,
    "dense, traced": dense_traced,
    "over events, traced": over_events_traced,
}


def timed(
    run: Callable[[Tensor, Tensor, Tensor], Tensor], events: Tensor, weight: Tensor, bias: Tensor, grad: Tensor
) -> tuple[list[Tensor], float]:
    """Output and gradients, and milliseconds for all of them."""
    begin = time.perf_counter()
    found = run(events, weight, bias)
    gradients = torch.autograd.grad(found, [weight, bias], grad)
    return [found.detach(), *gradients], 1e3 * (time.perf_counter() - begin)


def measured(density: float, rounds: int) -> list[float]:
    """Median milliseconds of each way."""
    generator = torch.Generator().manual_seed(0)
    events = (torch.rand(STEPS * BATCH, INPUTS, generator=generator) < density).float()
    weight = (torch.randn(OUTPUTS, INPUTS, generator=generator) / INPUTS**0.5).requires_grad_()
    bias = torch.zeros(OUTPUTS, requires_grad=True)
    grad = torch.randn(STEPS * BATCH, OUTPUTS, generator=generator)
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(rounds + 1):  # the first round compiles
        results = {}
        for name, run in WAYS.items():
            results[name], elapsed = timed(run, events, weight, bias, grad)
            times[name].append(elapsed)
        for one, other in (("dense", "over events"), ("dense, traced", "over events, traced")):
            for a, b in zip(results[one], results[other], strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(a.abs().max()))
    return [statistics.median(values[1:]) for values in times.values()]


def break_even(rows: list[tuple[float, list[float]]], ways: slice) -> str:
    """The density at which both ways cost the same, interpolated in both logarithms."""
    ratios = [(density, medians[ways][0] / medians[ways][1]) for density, medians in rows]
    for (low, above), (high, below) in pairwise(ratios):
        if above >= 1 > below:
            share = torch.tensor(above).log() / (torch.tensor(above).log() - torch.tensor(below).log())
            return f"{low * (high / low) ** float(share):.1%}"
    return "above all densities" if ratios[-1][1] >= 1 else "below all densities"


def main() -> None:
    """Measure and print; --write keeps the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two densities, one round: a smoke run")
    parser.add_argument("--write", action="store_true", help="write the table to benchmarks/results/event_input.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    densities, rounds = ((0.01, 0.5), 1) if options.quick else (DENSITIES, 9)
    rows = [(density, measured(density, rounds)) for density in densities]
    lines = [HEAD, "|---|---|---|---|---|---|---|"]
    for density, (dense, sparse, traced, sparse_traced) in rows:
        lines.append(
            f"| {density:.1%} | {dense:.1f} | {sparse:.1f} | {dense / sparse:.2f} | {traced:.1f} | {sparse_traced:.1f} "
            f"| {traced / sparse_traced:.2f} |"
        )
    lines.append("")
    lines.append(
        f"Break-even at {break_even(rows, slice(0, 2))} (plain) and {break_even(rows, slice(2, 4))} (traced); "
        f"the library's limit is {DENSITY:.1%}."
    )
    print("\n".join(lines))
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        setting = f"{INPUTS}-{OUTPUTS}, {STEPS} x {BATCH} rows, float32, one thread, {rounds} rounds, equal results"
        machine = f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
        text = f"{setting}. {machine}. Command: `python benchmarks/event_input.py --write`\n\n"
        RESULTS.write_text(text + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
