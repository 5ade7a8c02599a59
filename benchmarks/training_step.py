"""Time and peak memory of one training step (forward and backward, gradients filled), beside other libraries.

MLP 784-800-10 and a small conv net (16 and 32 channels of 3x3 on 28x28, average pools), batch 128, leak 0.5, threshold 1, soft
reset without gradient, sigmoid surrogate (a = 4) or the library's nearest, cross entropy at every step; dense float32 frames,
new at every step or the same one. One thread each, a process per candidate, rounds interleaved, medians. Memory is the peak
of the first full step in a fresh process above what was there before it (network, batch, a tiny warm-up step): "needed" with
every tensor in a mapping of its own, "resident" with glibc's default heap, which differs from run to run. Candidates that
implement the same rule must have the same gradients to 1e-4 (relative), or the script fails.

    python benchmarks/training_step.py [--quick] [--write]     (the peers: `make bench`, or python benchmarks/peers/set_up.py)
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from peers import problem, set_up
from peers.client import Worker, WorkerError, machine, peak_bytes

RESULTS = Path(__file__).parent / "results"
TOLERANCE = 1e-4
LENGTHS = {"mlp": (10, 50, 100), "conv": (10,)}
"""Numbers of time steps; long conv runs of all candidates side by side do not fit into 24 GB."""
BASE = "linear operations alone"


@dataclass(frozen=True)
class Contender:
    """A row: who, how, and where it runs. ``rule`` names the gradient it must share with all others of that rule."""

    who: str
    what: str
    module: str
    method: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    rule: str = ""
    remark: str = ""
    environment: str = ""
    requirement: str = ""


OURS = [
    Contender("lava_snnlearn", "BPTT", "with_lava_snnlearn", "BPTT", rule="BPTT"),
    Contender("lava_snnlearn", "BPTT, 50 slots", "with_lava_snnlearn", "BPTT", {"slots": 50}, "BPTT"),
    Contender("lava_snnlearn", "SLTT", "with_lava_snnlearn", "SLTT", rule="SLTT"),
    Contender("lava_snnlearn", "SLTT, K = 4", "with_lava_snnlearn", "SLTT", {"k": 4}),
    Contender("lava_snnlearn", "OTTT, published options", "with_lava_snnlearn", "OTTT", {"official": True}, "OTTT"),
    Contender("lava_snnlearn", "OTTT", "with_lava_snnlearn", "OTTT"),
    Contender("lava_snnlearn", "rate-BP", "with_lava_snnlearn", "RateBP"),
    Contender("lava_snnlearn", "DSR", "with_lava_snnlearn", "DSR"),
]
SLAYER = Contender("lava-dl slayer", "BPTT", "with_slayer", remark="CUBA in integers, hard reset, exponential surrogate")
OLD = {"environment": "library-torch", "requirement": "spikingjelly==0.0.0.0.14"}
NEW = {"environment": "newer-torch", "requirement": "spikingjelly==2.0.0"}
JELLY = "with_spikingjelly"
LATE = "resets one step late"
SUPER = "superspike surrogate, reset with gradient"
EXPONENTIAL = "exponential surrogate, reset with gradient"
PEERS = [
    Contender("snnTorch", "BPTT", "with_snntorch", "", {}, "", LATE, "library-torch", "snntorch==1.0.0"),
    Contender("norse", "BPTT", "with_norse", "", {}, "", SUPER, "library-torch", "norse==1.1.0"),
    Contender("sinabs", "BPTT", "with_sinabs", "", {}, "", EXPONENTIAL, "library-torch", "sinabs==3.1.3"),
    Contender("SpikingJelly", "BPTT, single-step", JELLY, "single", rule="BPTT", **OLD),
    Contender("SpikingJelly", "BPTT, multi-step", JELLY, "multi", rule="BPTT", **OLD),
    Contender("SpikingJelly", "BPTT, single-step", JELLY, "single", rule="BPTT", **NEW),
    Contender("SpikingJelly", "BPTT, multi-step", JELLY, "multi", rule="BPTT", **NEW),
    Contender("SpikingJelly", "OTTT", JELLY, "ottt", rule="OTTT", **NEW),
    Contender("SpikingJelly", "SLTT", JELLY, "sltt", rule="SLTT", **NEW),
    Contender("torch", BASE, "with_torch", **NEW),
]


@dataclass(frozen=True)
class Setting:
    """One table: which net, which input, how many time steps."""

    net: str
    inputs: str
    steps: int
    batch: int


@dataclass
class Measured:
    """What one contender gave."""

    report: dict[str, Any]
    needed: int
    gradients: list[np.ndarray]
    seconds: list[float] = field(default_factory=list)


def settings(quick: bool, nets: list[str], lengths: list[int] | None) -> list[Setting]:
    """All tables of these nets and numbers of steps, or one small one."""
    if quick:
        return [Setting("mlp", "new frames", 4, 16)]
    return [Setting(net, inputs, steps, 128) for net in nets for inputs in problem.INPUTS for steps in lengths or LENGTHS[net]]


def contenders(quick: bool) -> list[Contender]:
    """The base first, then this library and what shares its environment, then the peers."""
    present = [SLAYER] if importlib.util.find_spec("lava.lib.dl.slayer") else []
    return [Contender("torch", BASE, "with_torch"), *OURS, *present, *([] if quick else PEERS)]


def interpreter(contender: Contender) -> Path | str:
    """Path of its interpreter, or why there is none."""
    if not contender.environment:
        return Path(sys.executable)
    environment = next(one for one in set_up.environments() if one.name == contender.environment)
    outcome = set_up.outcomes(environment).get(contender.requirement, "run make bench, or benchmarks/peers/set_up.py")
    return environment.python if outcome == "installed" else f"not installed: {outcome}"


def start(contender: Contender, request: dict[str, Any]) -> tuple[Worker, Measured] | str:
    """A worker that is ready, with its first report; or why there is none."""
    python = interpreter(contender)
    if isinstance(python, str):
        return python
    request = {**request, "module": contender.module, "method": contender.method, "options": contender.options}
    worker = Worker(python, request)
    try:
        report = worker.ready()
        return worker, Measured(report, peak_bytes(python, request), worker.gradients() if contender.rule else [])
    except WorkerError as error:
        worker.close()
        return f"failed: {error}"


def measure(setting: Setting, entrants: list[Contender], rounds: int) -> list[Measured | str]:
    """The measurement of each, or why it has none."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        arrays = problem.make(setting.net, setting.inputs, setting.steps, setting.batch)
        data = str(problem.save(Path(folder), arrays))
        request = {"net": setting.net, "inputs": setting.inputs, "steps": setting.steps, "data": data}
        started = list(pool.map(lambda one: start(one, request), entrants))
    running = [entry for entry in started if not isinstance(entry, str)]
    try:
        for turn in range(rounds):
            first = turn % len(running)  # another one begins each round
            for worker, measured in running[first:] + running[:first]:
                measured.seconds.append(worker.step())
    finally:
        for worker, _ in running:
            worker.close()
    return [entry if isinstance(entry, str) else entry[1] for entry in started]


def difference(gradients: list[np.ndarray], reference: list[np.ndarray]) -> float:
    """Largest relative distance of a parameter's gradient from the reference's; NaN where one is NaN or the reference 0."""
    pairs = zip(gradients, reference, strict=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.max([np.linalg.norm(one - other) / np.linalg.norm(other) for one, other in pairs]))


def table(entrants: list[Contender], results: list[Measured | str]) -> list[str]:
    """Markdown rows; AssertionError where gradients of one rule differ."""
    references: dict[str, list[np.ndarray]] = {}
    base: list[float] = []
    head = "library | method | median s | fastest s | x linear operations | needed MB | resident MB | gradient"
    rows = [f"| {head} |", "|---" * 8 + "|"]
    for one, measured in zip(entrants, results, strict=True):
        if isinstance(measured, str):
            name = f"{one.who} {one.requirement.partition('==')[2]}".strip()
            rows.append(f"| {name} | {one.what} | - | - | - | - | - | {' '.join(measured.split())[:160]} |")
            continue
        base = base or measured.seconds
        remark = one.remark
        if one.rule in references:
            distance = difference(measured.gradients, references[one.rule])
            assert distance < TOLERANCE, f"{one.who} {one.what}: gradient is {distance:.1e} from the first of {one.rule}"
            remark = f"equal to {distance:.0e}"
        elif one.rule:
            references[one.rule], remark = measured.gradients, "reference"
        ratio = statistics.median(mine / other for mine, other in zip(measured.seconds, base, strict=True))
        numbers = f"{statistics.median(measured.seconds):.4f} | {min(measured.seconds):.4f} | {ratio:.2f}"
        memory = f"{measured.needed / 1e6:.1f} | {measured.report['peak_bytes'] / 1e6:.1f}"
        torch = f" (torch {measured.report['torch'].partition('+')[0]})" if one.who != "torch" else ""
        name = f"{one.who} {measured.report['version'].partition('+')[0]}{torch}"
        rows.append(f"| {name} | {one.what} | {numbers} | {memory} | {remark} |")
    return rows


def main() -> None:
    """Measure and print; --write keeps the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only what is installed beside the library, one small setting")
    parser.add_argument("--write", action="store_true", help="write the tables to benchmarks/results/training_step_NET.md")
    parser.add_argument("--rounds", type=int, help="rounds per setting (default 7; 2 with --quick)")
    parser.add_argument("--nets", nargs="+", choices=problem.NETS, default=list(problem.NETS), help="only these networks")
    parser.add_argument("--steps", nargs="+", type=int, help="numbers of time steps (default: mlp 10, 50, 100; conv 10)")
    options = parser.parse_args()
    rounds = options.rounds or (2 if options.quick else 7)
    entrants = contenders(options.quick)
    command = shlex.join(["python", "benchmarks/training_step.py", *sys.argv[1:]])
    failed: list[str] = []
    head = f"{machine()}; one thread; {rounds} interleaved rounds. Command: `{command}`"
    text = {net: [head] for net in options.nets}
    print(head)
    for setting in settings(options.quick, options.nets, options.steps):
        title = f"## {setting.net}, {setting.inputs}, T = {setting.steps}, batch {setting.batch}"
        results = measure(setting, entrants, rounds)
        failed += [
            f"{one.who} {one.what}: {result}"
            for one, result in zip(entrants, results, strict=True)
            if not one.environment and isinstance(result, str)
        ]
        part = ["", title, "", *table(entrants, results)]
        print("\n".join(part), flush=True)
        text.setdefault(setting.net, [head]).extend(part)
        if options.write:
            RESULTS.mkdir(exist_ok=True)
            (RESULTS / f"training_step_{setting.net}.md").write_text("\n".join(text[setting.net]) + "\n")
    if failed:  # a peer may be missing, what is installed beside the library may not
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
