"""Samples per second of the same integers in all simulators: Lava's, other emulators of Loihi, slayer, numpy, this library.

784-256-10 LIF neurons with reset to zero, T = 32, spikes as input; the table's head says how many. Every simulator runs in a
process of its own, warmed up; rounds are interleaved, one simulator works at a time. Each takes as many samples as its speed
asks for. Only steps are timed: compiling, starting Lava's processes and bringing the input into a simulator's layout are not.
"differ" counts the steps of output neurons in which a simulator and the emulator do not agree on the spike.

    python benchmarks/inference.py [--quick] [--write]     (the peers: `make bench`, or python benchmarks/peers/set_up.py)
"""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from peers import integers, set_up
from peers.client import Worker, WorkerError, machine

from lava_snnlearn.data.places import local_file

RESULTS = Path(__file__).parent / "results" / "inference.md"
SIMULATOR = Path(__file__).parent / "peers" / "simulator.py"
THREADS = 2
RATE = 0.1
"""Share of neurons that spike in a step, at most: thresholds are chosen for it."""
LAVA, SLAYER, EMULATOR = "Lava's simulator, stock processes", "lava-dl slayer", "this emulator, spike counts"
ALL_SPIKES = "this emulator, all spikes"
TIMES_LAVA, TIMES_SLAYER = 500, 3
"""What must hold."""
Spikes = np.ndarray
"""uint8 [T, B, 10] of the output."""


@dataclass(frozen=True)
class Entrant:
    """A row: who, how it is built (see simulator.py), on how many samples and threads, and where it runs."""

    who: str
    module: str
    samples: int
    options: dict[str, Any] = field(default_factory=dict)
    threads: int = 1
    remark: str = ""
    environment: str = ""
    requirement: str = ""


@dataclass
class Measured:
    """What one entrant gave."""

    version: str
    spikes: Spikes
    seconds: list[float] = field(default_factory=list)


def entrants(quick: bool) -> list[Entrant]:
    """Lava first, to which all others are compared."""
    few, some, many = (2, 8, 64) if quick else (16, 64, 2048)
    ours = [Entrant(EMULATOR, "sim_lava_snnlearn", many, {"record": "outputs"}, threads) for threads in (1, 2)]
    rows = [
        Entrant(LAVA, "sim_lava", few, {"way": "stock"}, remark="records the output"),
        Entrant("Lava's simulator, run_lava", "sim_lava", few, {"way": "run_lava"}, remark="records all spikes and membranes"),
        *ours,
        Entrant(ALL_SPIKES, "sim_lava_snnlearn", many, {"record": "spikes"}, THREADS),
    ]
    if quick:
        return rows
    netx = Entrant("lava-dl netx on Lava's simulator", "sim_lava", few, {"way": "netx"})
    slayer = [Entrant(SLAYER, "sim_slayer", many, {"batch": 128}, threads, "batches of 128") for threads in (1, THREADS)]
    alone = [Entrant("numpy, loop over time", "sim_numpy", many, {"batch": 128}, THREADS, "batches of 128")]
    nengo, brian = (few, {}, 1, ""), (some, {}, 1, "")
    xylo = "resets by subtraction, filters its current: other spikes"
    peers = [
        Entrant("nengo-loihi's emulator", "sim_nengo_loihi", *nengo, "nengo-loihi", "nengo-loihi==1.1.0"),
        Entrant("brian2-loihi", "sim_brian2_loihi", *brian, "brian2-loihi", "brian2-loihi==0.5.2"),
        Entrant("XyloSim (rockpool)", "sim_xylosim", some, {}, 1, xylo, "xylosim", "xylosim==0.1.3"),
    ]
    dl = [netx, *slayer] if importlib.util.find_spec("lava.lib.dl.slayer") else []
    return [*rows[:2], *dl[:1], *peers, *dl[1:], *alone, *rows[2:]]


def inputs(steps: int, samples: int) -> dict[str, np.ndarray]:
    """Name -> spikes [T, B, 784]: random ones and, where the folder of data has them, MNIST's test images as rates."""
    made = {"random spikes": integers.rate_coded(np.full((samples, 784), RATE, np.float32), steps)}
    path = local_file("images/mnist.npz")
    if path is not None and samples > 64:
        with np.load(path, allow_pickle=False) as store:
            pixels = store["x_test"][:samples].reshape(samples, -1)
        made["MNIST test images, pixels as rates"] = integers.rate_coded(pixels.astype(np.float32) / 255, steps)
    return made


def interpreter(entrant: Entrant) -> Path:
    """Its interpreter.

    Raises:
        WorkerError: it is not installed; the message says why.
    """
    if not entrant.environment:
        return Path(sys.executable)
    environment = next(one for one in set_up.environments() if one.name == entrant.environment)
    outcome = set_up.outcomes(environment).get(entrant.requirement, "run make bench, or benchmarks/peers/set_up.py")
    if outcome != "installed":
        raise WorkerError(f"not installed: {outcome}")
    return environment.python


def start(entrant: Entrant, data: str) -> tuple[Worker, str] | str:
    """A warm worker and the simulator's version; or why there is none."""
    request = {name: getattr(entrant, name) for name in ("module", "options", "threads", "samples")} | {"data": data}
    try:
        worker = Worker(interpreter(entrant), request, script=SIMULATOR, threads=entrant.threads)
    except WorkerError as error:
        return str(error)
    try:
        return worker, worker.ready()["version"]
    except WorkerError as error:
        worker.close()
        return f"failed: {error}"


def measure(all_of: list[Entrant], given: integers.Integers, rounds: int) -> list[Measured | str]:
    """The measurement of each, or why it has none."""
    with tempfile.TemporaryDirectory() as folder:
        integers.save(Path(folder), given)
        started = [start(entrant, folder) for entrant in all_of]
    running = [entry[0] for entry in started if not isinstance(entry, str)]
    times: dict[Worker, list[float]] = {worker: [] for worker in running}
    try:
        for turn in range(rounds):
            first = turn % len(running)  # another one begins each round
            for worker in running[first:] + running[:first]:
                times[worker].append(worker.step())
        return [
            entry if isinstance(entry, str) else Measured(entry[1], entry[0].arrays("spikes")[0], times[entry[0]])
            for entry in started
        ]
    finally:
        for worker in running:
            worker.close()


def speeds(entrant: Entrant, measured: Measured) -> list[float]:
    """Samples per second of each round."""
    return [entrant.samples / seconds for seconds in measured.seconds]


def differing(measured: Measured, expected: Spikes) -> int:
    """Steps of output neurons whose spikes are not the expected ones."""
    return int((measured.spikes != expected[:, : measured.spikes.shape[1]]).sum())


def table(all_of: list[Entrant], results: list[Measured | str], expected: Spikes) -> list[str]:
    """Markdown rows. Ratios are medians over the rounds."""
    base = speeds(all_of[0], results[0])
    rows = ["| simulator | threads | samples | samples/s (median) | best | x Lava | differ | remark |", "|---" * 8 + "|"]
    for entrant, measured in zip(all_of, results, strict=True):
        if isinstance(measured, str):
            rows.append(f"| {entrant.who} | - | - | - | - | - | - | {' '.join(measured.split())[:160]} |")
            continue
        mine = speeds(entrant, measured)
        ratio = statistics.median(one / other for one, other in zip(mine, base, strict=True))
        wrong, name = differing(measured, expected), f"{entrant.who} {measured.version}"
        exact = f"{wrong} of {measured.spikes.size}"
        numbers = f"{statistics.median(mine):.1f} | {max(mine):.1f} | {ratio:.1f} | {exact}"
        rows.append(f"| {name} | {entrant.threads} | {entrant.samples} | {numbers} | {entrant.remark} |")
    return rows


def verdict(all_of: list[Entrant], results: list[Measured | str], expected: Spikes) -> str:
    """Whether the emulator is as fast, against Lava's simulator and slayer, as it must be, with equal spikes.

    Where a simulator was measured with several numbers of threads, the fastest counts.
    """
    pairs = [(one, found) for one, found in zip(all_of, results, strict=True) if not isinstance(found, str)]
    mine = next(speeds(*pair) for pair in pairs if (pair[0].who, pair[0].threads) == (EMULATOR, THREADS))
    parts, holds = [], True
    for who, least in ((LAVA, TIMES_LAVA), (SLAYER, TIMES_SLAYER)):
        found = [pair for pair in pairs if pair[0].who == who]
        if not found:
            parts.append(f"{who} was not measured")
            continue
        ratio = min(statistics.median(one / other for one, other in zip(mine, speeds(*pair), strict=True)) for pair in found)
        wrong = sum(differing(pair[1], expected) for pair in found)
        holds &= ratio >= least and wrong == 0
        parts.append(f"{ratio:.1f} times {who} (at least {least}), {wrong} spikes differ")
    return f"{EMULATOR}, {THREADS} threads: {'; '.join(parts)}: {'holds' if holds else 'does not hold'}."


def main() -> None:
    """Measure and print; --write keeps the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only Lava and this library, few samples: a smoke run")
    parser.add_argument("--write", action="store_true", help="write the tables to benchmarks/results/inference.md")
    parser.add_argument("--rounds", type=int, help="rounds (default 7; 1 with --quick)")
    options = parser.parse_args()
    all_of = entrants(options.quick)
    rounds, steps = options.rounds or (1 if options.quick else 7), 8 if options.quick else 32
    command = shlex.join(["python", "benchmarks/inference.py", *sys.argv[1:]])
    text = [f"784-256-10, T = {steps}; {machine()}; {rounds} interleaved rounds. Command: `{command}`"]
    print(text[0])
    failed: list[str] = []
    for name, x in inputs(steps, max(entrant.samples for entrant in all_of)).items():
        given, shares = integers.with_thresholds(integers.random_weights(), x, RATE)
        results = measure(all_of, given, rounds)
        pairs = list(zip(all_of, results, strict=True))
        failed += [f"{one.who}: {found}" for one, found in pairs if isinstance(found, str) and not one.environment]
        if failed:  # a peer may be missing, what is installed beside the library may not
            sys.exit("\n".join(failed))
        expected = next(found.spikes for one, found in pairs if one.who == ALL_SPIKES)
        density = "spikes per neuron and step: " + ", ".join(f"{share:.1%}" for share in shares)
        rows = table(all_of, results, expected)
        part = ["", f"## {name}; {density}", "", *rows]
        if not options.quick:
            part += ["", verdict(all_of, results, expected)]
        print("\n".join(part), flush=True)
        text += part
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
