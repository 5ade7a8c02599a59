"""Starts workers and talks to them; states the machine. For the scripts in benchmarks/."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

WORKER = Path(__file__).with_name("worker.py")
# Every block from 64 KiB on gets a mapping of its own, so that the resident memory is what the tensors need: in the heap that
# glibc makes by default, the same program needs up to twice that in one run and not in the next. It costs time.
EXACT = {"MALLOC_MMAP_THRESHOLD_": "65536"}
THREADS = tuple(f"{name}_NUM_THREADS" for name in ("OMP", "MKL", "OPENBLAS", "NUMBA"))


class WorkerError(RuntimeError):
    """The candidate failed; the message is its last words."""


class Worker:
    """One candidate in a process of its own. Starting does not wait; :meth:`ready` does.

    Args:
        python: interpreter. request: see worker.py. exact: for memory, not for time (see EXACT). script: worker.py, or another
            one that answers in the same manner. threads: at most.
    """

    def __init__(
        self, python: Path, request: dict[str, Any], *, exact: bool = False, script: Path = WORKER, threads: int = 1
    ) -> None:
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in close)
        self._process = subprocess.Popen(
            [str(python), str(script), json.dumps(request)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            bufsize=1,
            env={**os.environ, **dict.fromkeys(THREADS, str(threads)), **(EXACT if exact else {})},
        )

    def ready(self) -> dict[str, Any]:
        """The worker's first report: versions and peak_bytes."""
        return self._answer()

    def step(self) -> float:
        """Seconds of one training step, or of one run of a simulator."""
        return float(self._ask("step")["seconds"])

    def gradients(self) -> list[np.ndarray]:
        """weight0, bias0, ... of the last step."""
        return self.arrays("gradients")

    def arrays(self, what: str) -> list[np.ndarray]:
        """What the worker writes when it is asked for ``what``."""
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/arrays.npz"
            self._ask(f"{what} {path}")
            with np.load(path) as arrays:
                return [arrays[f"arr_{index}"] for index in range(len(arrays))]

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._stderr.close()

    def _ask(self, command: str) -> dict[str, Any]:
        with contextlib.suppress(BrokenPipeError):  # the answer then says why
            self._process.stdin.write(command + "\n")
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": self._last_words()}
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def _last_words(self) -> str:
        code = self._process.wait()
        self._stderr.seek(0)
        lines = self._stderr.read().strip().splitlines()
        return f"ended with status {code}: {lines[-1] if lines else 'no message'}"


def peak_bytes(python: Path, request: dict[str, Any]) -> int:
    """Memory that one step needs above network and batch, bytes, measured in a process of its own (see EXACT)."""
    worker = Worker(python, request, exact=True)
    try:
        return int(worker.ready()["peak_bytes"])
    finally:
        worker.close()


def machine() -> str:
    """Processor and number of cores, for the head of a results file."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return f"{found[1] if found else platform.processor() or platform.machine()}, {os.cpu_count()} cores"
