"""Builds one candidate in the interpreter that has its library, and runs training steps when told to on standard input.

    PYTHON worker.py '{"module": "with_torch", "method": "", "options": {}, "net": "mlp", "inputs": "static", "steps": 10,
                       "data": "FOLDER"}'

Commands, one a line: "step" (answer: {"seconds", "loss"}), "gradients PATH" (writes the last step's gradients as .npz).
First it reports {"version", "torch", "python", "peak_bytes"}: the peak memory of one full step above the memory before it.
Every answer is one line of JSON; a failure is {"error"} and the end.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import platform
import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from candidate import Candidate, Job
from problem import load
from torch import Tensor

WARM_UP_STEPS, WARM_UP_BATCH = 4, 4  # too small to enlarge what is measured after it


def memory(field: str) -> int:
    """VmRSS (resident now) or VmHWM (its peak), bytes."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"/proc/self/status has no {field}; memory is measured on Linux only")
    return 1024 * int(found[1])


def peak_above(run: Callable[[], object]) -> int:
    """Bytes by which ``run`` raised the resident memory at its peak.

    Where the kernel does not let a process reset its peak, the peak of its whole life is taken: an upper bound.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what is free goes back, so that the step has to fetch it again
    before = memory("VmRSS")
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        run()
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    run()
    return memory("VmHWM") - before


class Session:
    """A built candidate with its batch."""

    def __init__(self, request: dict[str, Any]) -> None:
        arrays = load(Path(request["data"]))
        job = Job(*(request[name] for name in ("net", "inputs", "steps", "method", "options")), arrays)
        self.candidate: Candidate = importlib.import_module(request["module"]).build(job)
        x, self.y = job.tensor("x"), job.tensor("y")
        static = job.inputs == "static"
        few = x[:WARM_UP_BATCH] if static else x[:WARM_UP_STEPS, :WARM_UP_BATCH]
        self.step(self.candidate.prepare(few, WARM_UP_STEPS if static else len(few)), self.y[:WARM_UP_BATCH])
        self.x = self.candidate.prepare(x, job.steps)

    def step(self, x: Tensor, y: Tensor) -> dict[str, float]:
        """Seconds and loss of one forward and backward pass; the gradients are filled."""
        for parameter in self.candidate.parameters:
            parameter.grad = None
        begin = time.perf_counter()
        loss = self.candidate.run(x, y)
        return {"seconds": time.perf_counter() - begin, "loss": loss}

    def report(self) -> dict[str, Any]:
        """Versions, and the peak memory of a step with no gradients before it."""
        for parameter in self.candidate.parameters:
            parameter.grad = None
        return {
            "version": self.candidate.version,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "peak_bytes": peak_above(lambda: self.step(self.x, self.y)),
        }

    def gradients(self, path: str) -> dict[str, str]:
        """Write weight0, bias0, ... of the last step."""
        kept = self.candidate.parameters
        scales = self.candidate.scales or [1.0] * len(kept)
        np.savez(path, *[scale * p.grad.numpy() for p, scale in zip(kept, scales, strict=True)])
        return {"saved": path}


def main() -> None:
    """Serve until standard input ends."""
    # Libraries print; what they print must not come between the answers.
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    torch.set_num_threads(1)
    try:
        session = Session(json.loads(sys.argv[1]))
        print(json.dumps(session.report()), file=channel)
        for line in sys.stdin:
            command, _, argument = line.strip().partition(" ")
            answer = session.gradients(argument) if command == "gradients" else session.step(session.x, session.y)
            print(json.dumps(answer), file=channel)
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=channel)
        raise


if __name__ == "__main__":
    main()
