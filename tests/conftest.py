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

import numpy as np
import pytest

from lava_snnlearn.checks import LavaMissingError

HAS_LAVA = importlib.util.find_spec("lava") is not None
NEEDS_LAVA = re.compile(r"^(from|import) (lava\.|lava_snnlearn\.(lava_backend|processes|models))", re.MULTILINE)
"""Of test files that import Lava at their top (a conftest.py: with its folder): on newer Pythons, where there is none, they are
left out."""
PATIENCE = 150  # seconds; far below the ten minutes that a process waits for one that stands still


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Without Lava: leave out what cannot even be imported. With Lava (Python 3.10) nothing is left out."""
    if HAS_LAVA:
        return None
    module = collection_path / "conftest.py" if collection_path.is_dir() else collection_path
    needs = module.suffix == ".py" and module.is_file() and NEEDS_LAVA.search(module.read_text())
    return True if needs else None


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Without Lava: a test that comes to a function which needs Lava, and hears so from it, has shown all that it can.
    So has one that imports Lava itself."""
    outcome = yield
    if not HAS_LAVA and call.excinfo is not None and _misses_lava(call.excinfo):
        report = outcome.get_result()
        report.outcome = "skipped"
        report.longrepr = (str(item.path), 0, "needs Lava")


def _misses_lava(found: pytest.ExceptionInfo[BaseException]) -> bool:
    error: BaseException | None = found.value
    if isinstance(error, ModuleNotFoundError):
        by_a_test = Path(__file__).parent in Path(found.traceback[-1].path).parents
        return by_a_test and (error.name or "").partition(".")[0] == "lava"
    while error is not None and not isinstance(error, LavaMissingError):
        error = error.__cause__
    return error is not None


def heard_of_lava(message: str) -> None:
    """Without Lava: raise again what a command said on its standard error, if Lava is what it misses."""
    if not HAS_LAVA and "Lava cannot be imported here" in message:
        raise LavaMissingError(message)


@pytest.fixture(scope="session")
def hear_lava() -> Callable[[str], None]:
    """:func:`heard_of_lava`."""
    return heard_of_lava


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


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """torch computes in one thread: for networks this small, a second one only waits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def shared_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[int, set[str]]]:
    """Call it: how many pieces of shared memory Lava's runs in this process have made, and which of them are still there."""
    from lava.magma.runtime.message_infrastructure.shared_memory_manager import SharedMemoryManager

    names: set[str] = set()
    create = SharedMemoryManager.create_shared_memory

    def recorded(manager: Any, size: int) -> Any:
        handle = create(manager, size)
        names.add(handle.name.lstrip("/"))
        return handle

    monkeypatch.setattr(SharedMemoryManager, "create_shared_memory", recorded)
    return lambda: (len(names), names & set(os.listdir("/dev/shm")))


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


@pytest.fixture(scope="session")
def laid_out() -> Callable[..., Any]:
    """The matrix [n_target, n_source] of a convolution, by kernel and ConvShape: channel, place and tap, one by one."""

    def matrix(kernel: Any, shape: Any) -> Any:
        channels, height, width = shape.input_shape
        out, depth, *taps = kernel.shape
        reach = [d * (k - 1) + 1 for d, k in zip(shape.dilation, taps, strict=True)]
        sizes = zip((height, width), shape.padding, reach, shape.stride, strict=True)
        rows, columns = ((size + 2 * pad - long) // step + 1 for size, pad, long, step in sizes)
        result = np.zeros((out, rows, columns, channels, height, width), int)
        for o, r, c, i, a, b in np.ndindex(out, rows, columns, *kernel.shape[1:]):
            y = r * shape.stride[0] + a * shape.dilation[0] - shape.padding[0]
            x = c * shape.stride[1] + b * shape.dilation[1] - shape.padding[1]
            if 0 <= y < height and 0 <= x < width:
                result[o, r, c, o // (out // shape.groups) * depth + i, y, x] = kernel[o, i, a, b]
        return result.reshape(out * rows * columns, -1)

    return matrix


@pytest.fixture(scope="session")
def damaged() -> Callable[..., bytes]:
    """(content, seed, first=0): cut off, some bytes replaced, some bits flipped, or runs of zeros and ones; bytes before
    ``first`` are left alone. Seeds that are multiples of 4 cut off."""
    import numpy as np

    def mutate(whole: bytes, seed: int, first: int = 0) -> bytes:
        draw = np.random.default_rng(seed)
        content = bytearray(whole)
        kind = seed % 4
        if kind == 0:
            return bytes(content[: int(draw.integers(first, len(content)))])
        for at in draw.integers(first, len(content), int(draw.choice([1, 2, 8, 40]))):
            if kind == 1:
                content[at] = int(draw.integers(256))
            elif kind == 2:
                content[at] ^= 1 << int(draw.integers(8))
            else:
                content[at : at + 8] = bytes([int(draw.choice([0, 255]))]) * len(content[at : at + 8])
        return bytes(content)

    return mutate


@pytest.fixture(scope="session")
def write_netx() -> Callable[..., Path]:
    """(path, *layers, **extra): an HDF5 file in the layout of netx; groups are dicts."""
    import h5py

    def store(group: Any, entries: dict[str, Any]) -> None:
        for key, value in entries.items():
            if isinstance(value, dict):
                store(group.create_group(key), value)
            else:
                group[key] = value

    def write(path: Path, *layers: dict[str, Any], **extra: Any) -> Path:
        with h5py.File(path, "w") as file:
            store(file, {"layer": {str(index): entries for index, entries in enumerate(layers)}} | extra)
        return path

    return write
