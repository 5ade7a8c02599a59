"""What tests of several folders share."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lava_snnlearn.checks import LavaMissingError

HAS_LAVA = importlib.util.find_spec("lava") is not None
NEEDS_LAVA = re.compile(r"^(from|import) (lava\.|lava_snnlearn\.(lava_backend|processes|models))", re.MULTILINE)
"""Of test files that import Lava at their top: on newer Pythons, where there is no Lava, they are left out."""
PATIENCE = 150  # seconds; far below the ten minutes that a process waits for one that stands still


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Without Lava: leave out what cannot even be imported. With Lava (Python 3.10) nothing is left out."""
    if HAS_LAVA or collection_path.suffix != ".py":
        return None
    return True if NEEDS_LAVA.search(collection_path.read_text()) else None


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Without Lava: a test that comes to a function which needs Lava, and hears so from it, has shown all that it can."""
    outcome = yield
    if not HAS_LAVA and call.excinfo is not None and call.excinfo.errisinstance(LavaMissingError):
        report = outcome.get_result()
        report.outcome = "skipped"
        report.longrepr = (str(item.path), 0, "needs Lava")


def heard_of_lava(message: str) -> None:
    """Without Lava: raise again what a command said on its standard error, if Lava is what it misses."""
    if not HAS_LAVA and "Lava cannot be imported here" in message:
        raise LavaMissingError(message)


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
        heard_of_lava(err)
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
