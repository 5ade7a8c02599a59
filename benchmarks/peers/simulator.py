"""Builds one simulator in the interpreter that has it, and runs it when told to on standard input.

    PYTHON simulator.py '{"module": "sim_numpy", "options": {}, "threads": 1, "samples": 16, "data": "FOLDER"}'

Commands, one a line: "step" (answer: {"seconds"} of a run over all samples), "spikes PATH" (writes the output spikes of the
last run as .npz). First it runs once to warm up, and reports {"version"}. Every answer is one line of JSON; a failure is
{"error"} and the end.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from integers import load


@dataclass
class Simulation:
    """A network that is ready to run.

    ``run()`` runs all samples and returns the seconds that count: without what is done once for a network, like compiling or
    starting processes. ``spikes()`` are the output's of the last run, uint8 [T, B, 10]. ``version`` is the simulator's.
    """

    run: Callable[[], float]
    spikes: Callable[[], np.ndarray]
    version: str


def main() -> None:
    """Serve until standard input ends."""
    # Simulators print; what they print must not come between the answers.
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        request = json.loads(sys.argv[1])
        integers = load(Path(request["data"]), request["samples"])
        simulation = importlib.import_module(request["module"]).build(integers, request["threads"], **request["options"])
        simulation.run()
        print(json.dumps({"version": simulation.version}), file=channel)
        for line in sys.stdin:
            command, _, path = line.strip().partition(" ")
            if command == "spikes":
                np.savez(path, simulation.spikes())
            print(json.dumps({"seconds": simulation.run()} if command == "step" else {"saved": path}), file=channel)
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=channel)
        raise


if __name__ == "__main__":
    # The simulators import this file under its name; a second copy of Simulation would be another class.
    sys.modules["simulator"] = sys.modules["__main__"]
    main()
