"""The two paths of a connection, events and products, and how good the emulator's choice between them is.

Each path adds up what layers of many kinds hear, from spikes and payloads of several densities; one thread, its own time, the
fastest of some rounds; equal sums are asserted. The first table has the constants of ``fixed_point/engine/costs.py`` beside
those that fit these times best (least squares, in multiply-adds of a float32 product). The second has the loss by the choice:
what the chosen path takes, in the time of the faster one.

    python benchmarks/paths.py [--quick] [--write]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from peers.client import machine

from lava_snnlearn.fixed_point.convolution import ConvShape
from lava_snnlearn.fixed_point.engine import costs
from lava_snnlearn.fixed_point.engine.products import Product
from lava_snnlearn.fixed_point.engine.synapses import SPARSE, Sent, Sums, events
from lava_snnlearn.fixed_point.graph import Connection

RESULTS = Path(__file__).parent / "results" / "paths.md"
DENSITIES = (0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
STEPS, BATCH = 16, 16
SOURCES, NARROW = 512, 10
KINDS = ("spikes", "payloads", "convolution", "scattered", "delayed")


@dataclass(frozen=True)
class Times:
    """Nanoseconds of both paths for one source and step; ``synapses``: of a source, as the path by events meets them."""

    kind: str
    targets: float
    synapses: float
    density: float
    events: float
    product: float
    by_events: bool

    @property
    def loss(self) -> float:
        """Time of the chosen path over that of the faster one."""
        return (self.events if self.by_events else self.product) / min(self.events, self.product)


def layers(quick: bool) -> list[tuple[str, Connection]]:
    """Connections of every kind, with weights of 8 bits."""
    rng = np.random.default_rng(0)

    def full(targets: int, share: float = 1.0) -> NDArray[np.int64]:
        return 2 * rng.integers(1, 100, (targets, SOURCES)) * (rng.random((targets, SOURCES)) < share)

    found = []
    for targets in (NARROW, 64) if quick else (NARROW, 64, 256, 1024, 2048):
        found += [(kind, Connection("input", "a", full(targets))) for kind in ("spikes", "payloads")]
        found.append(("scattered", Connection("input", "a", full(targets, SPARSE / 2))))
        delay = rng.integers(0, 8, (targets, SOURCES))
        found.append(("delayed", Connection("input", "a", full(targets), delay=delay)))
    for channels in (4,) if quick else (4, 16, 64):
        kernel = 2 * rng.integers(1, 100, (channels, 8, 3, 3))
        found.append(("convolution", Connection("input", "a", kernel, geometry=ConvShape((8, 16, 16), padding=1))))
    return found


def fastest(run: Callable[[NDArray[np.int32]], None], shape: tuple[int, ...], rounds: int) -> tuple[NDArray[np.int32], float]:
    """What a path adds to zeros, and its least time in nanoseconds."""
    times = []
    for _ in range(rounds + 1):  # the first loads the kernels
        sums = np.zeros(shape, np.int32)
        begin = time.thread_time_ns()
        run(sums)
        times.append(time.thread_time_ns() - begin)
    return sums, min(times[1:])


def measured(kind: str, connection: Connection, density: float, rounds: int) -> Times:
    """Both paths of a connection for one density."""
    rng = np.random.default_rng(1)
    targets, sources = connection.shape
    ones = kind != "payloads"
    active = rng.random((STEPS, BATCH, sources)) < density
    sent = Sent((active * (1 if ones else rng.integers(1, 256, active.shape))).astype(np.uint8), -1, 0, ones)
    largest = 1 if ones else 255
    by_events, by_product = events(connection, largest, ones), Product.of(connection, largest)
    shape = STEPS, BATCH, targets
    found, spent = fastest(lambda sums: by_events.add(sent, Sums(sums, 0), 0, STEPS, by_events.state(BATCH)), shape, rounds)
    expected, product = fastest(lambda sums: by_product.add(sent, Sums(sums, 0), 0, STEPS), shape, rounds)
    assert np.array_equal(found, expected)
    scale = STEPS * BATCH * sources
    choice = costs.events_are_cheaper(connection, by_events, density)
    met = targets if kind in ("spikes", "payloads") else connection.synapses / sources
    width = connection.synapses / sources if kind == "convolution" else targets
    return Times(kind, width, met, density, spent / scale, product / scale, choice)


def line(x: list[float], y: list[float]) -> tuple[float, float]:
    """Intercept and slope that fit best, in relation to y."""
    columns = np.stack([np.ones(len(x)), np.array(x)], axis=1) / np.array(y)[:, None]
    intercept, slope = np.linalg.lstsq(columns, np.ones(len(y)), rcond=None)[0]
    return float(intercept), float(slope)


def constants(rows: list[Times]) -> list[tuple[str, float, float]]:
    """Name, value in the library, and value that fits these times."""
    of = {kind: [row for row in rows if row.kind == kind] for kind in KINDS}
    convert, unit = line([row.targets for row in of["spikes"]], [row.product for row in of["spikes"]])
    fits = {
        kind: line([row.density * row.synapses for row in group], [row.events for row in group]) for kind, group in of.items()
    }
    # A convolution by products costs more a synapse, and is all that its events are compared with.
    _, image = line([row.targets for row in of["convolution"]], [row.product for row in of["convolution"]])
    narrow = [row for row in of["spikes"] if row.targets == NARROW]
    _, few = line([row.density for row in narrow], [row.events for row in narrow])
    _, delayed = line([row.targets for row in of["delayed"]], [row.product for row in of["delayed"]])
    return [
        ("SCAN", costs.SCAN, fits["spikes"][0] / unit),
        ("SCAN_PAYLOADS", costs.SCAN_PAYLOADS, fits["payloads"][0] / unit),
        ("CONVERT", costs.CONVERT, convert / unit),
        ("SPIKE", costs.SPIKE, fits["spikes"][1] / unit),
        ("PAYLOAD", costs.PAYLOAD, fits["payloads"][1] / unit),
        ("LEAST", costs.LEAST, few / unit),
        ("CONVOLVED", costs.CONVOLVED, fits["convolution"][1] / image),
        ("SCATTERED", costs.SCATTERED, fits["scattered"][1] / unit),
        ("DELAYED", costs.DELAYED, delayed / unit),
    ]


def report(rows: list[Times]) -> list[str]:
    """Lines of both tables."""
    lines = ["| constant | in costs.py | fits best here |", "|---|---|---|"]
    lines += [f"| {name} | {held:g} | {found:.2f} |" for name, held, found in constants(rows)]
    lines += ["", "| kind of connection | by events | by products | mean loss | largest loss |", "|---|---|---|---|---|"]
    for kind in KINDS:
        losses = [row.loss for row in rows if row.kind == kind]
        chosen = sum(row.by_events for row in rows if row.kind == kind)
        mean = float(np.exp(np.mean(np.log(losses))))
        lines.append(f"| {kind} | {chosen} | {len(losses) - chosen} | {mean:.2f}x | {max(losses):.2f}x |")
    return lines


def main() -> None:
    """Measure and print; --write keeps the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few layers, one round: a smoke run")
    parser.add_argument("--write", action="store_true", help="write the tables to benchmarks/results/paths.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rounds = 1 if options.quick else 7
    rows = [measured(*layer, density, rounds) for layer in layers(options.quick) for density in DENSITIES]
    lines = report(rows)
    print("\n".join(lines))
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        setting = f"{SOURCES} sources (convolutions 2048), densities {DENSITIES[0]:.1%} to 100%; {machine()}; one thread"
        RESULTS.write_text(
            f"{setting}; {rounds} rounds. Command: `python benchmarks/paths.py --write`\n\n" + "\n".join(lines) + "\n"
        )


if __name__ == "__main__":
    main()
