"""What tests of several folders share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

PATIENCE = 150  # seconds; far below the ten minutes that a process waits for one that stands still


@pytest.fixture(scope="session")
def torchrun() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a script, or "-m" and a module, in several processes of this machine; the test fails if they do not end."""

    def run(*command: object, processes: int = 2, **environment: str) -> subprocess.CompletedProcess[str]:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--monitor-interval=0.1"]
        options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            [*launcher, f"--nproc-per-node={processes}", *map(str, command)],
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            **options,
        )
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.terminate()  # torchrun then ends its processes
            out, err = process.communicate(timeout=60)
            pytest.fail(f"{command} stood still:\n{out}\n{err}")
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    return run


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the pools of threads that compiled kernels start, as they start them."""
    from lava_snnlearn.neurons import threads

    sizes: list[int] = []

    class Counted(threads.ThreadPoolExecutor):
        def __init__(self, size: int) -> None:
            sizes.append(size)
            super().__init__(size)

    monkeypatch.setattr(threads, "ThreadPoolExecutor", Counted)
    return sizes
