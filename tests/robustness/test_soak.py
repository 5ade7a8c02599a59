"""A hundred graphs built and run on Lava in one process, some of which fail, and a killed run: nothing is left of any."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import pytest
from lava.magma.core.process.process import ProcessServer
from lava.magma.core.process.variable import VarServer

from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput
from lava_snnlearn.lava_backend import LavaRunError, run_config, run_guarded
from lava_snnlearn.processes import FusedNetwork, Recorder, SampleSource

RUNS = 100
GROWTH = 48 << 20
"""Bytes of memory that the later half of the runs may add; 50 leaks of a mebibyte would be more."""


def network() -> FixedNetwork:
    out = Population("out", 3, "accumulator", dv=100, t_start=1)
    return FixedNetwork((out,), (Connection("input", "out", np.full((3, 2), 20)),), HostInput("graded", 2), 4, "out")


def run(index: int) -> None:
    """Every fifth run fails: its network hears what it cannot take."""
    x = np.full((4, 1, 2), 256 if index % 5 == 0 else index % 200)
    fused = FusedNetwork(network=network())
    rows = np.zeros((6, 2), np.int64)
    rows[:4] = x[:, 0]
    source, recorder = SampleSource(data=rows), Recorder(shape=(3,), steps=len(rows))
    source.s_out.connect(fused.s_in)
    fused.s_out.connect(recorder.s_in)
    if index % 5 == 0:
        with pytest.raises(LavaRunError, match="255"):
            run_guarded(source, len(rows), run_config("fixed_pt"), time_limit=60)
    else:
        run_guarded(source, len(rows), run_config("fixed_pt"), time_limit=60)
        assert np.isin(emulate(network(), x).outputs[0], recorder.spikes).all()


def held() -> dict[str, Any]:
    """What a run may leave: processes, open files, threads, log handlers, entries of Lava's registries."""
    process = psutil.Process()
    return {
        "children": sorted(
            child.pid for child in process.children(recursive=True) if "resource_tracker" not in " ".join(child.cmdline())
        ),
        "files": process.num_fds(),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "handlers": len(logging.getLogger().handlers),
        "processes of Lava": len(ProcessServer().processes),
        "variables of Lava": len(VarServer().vars),
    }


def test_a_hundred_runs_leave_nothing(shared_memory: Callable[[], tuple[int, set[str]]]) -> None:
    for index in range(2):  # what is loaded once
        run(index)
    before, memory = held(), []
    for index in range(RUNS):
        run(index)
        if index >= RUNS // 2 - 1:
            memory.append(psutil.Process().memory_info().rss)
    gc.collect()
    for thread in threading.enumerate():  # those of a queue end on their own, soon after
        if thread.name.endswith((".send", "QueueFeederThread")):
            thread.join(timeout=10)
    after = held()
    assert after.pop("files") <= before.pop("files")
    assert after == before
    made, left = shared_memory()
    assert made > RUNS
    assert not left
    assert memory[-1] - memory[0] < GROWTH


def test_a_killed_parent_leaves_nothing() -> None:
    """Killed at once, as by a memory limit or a batch system: children and the server of shared memory end by themselves."""
    source = (
        "import numpy as np, lava_snnlearn as snn\n"
        "from lava_snnlearn.lava_backend import guarded, run_config\n"
        "from lava_snnlearn.processes import SoftResetLIF\n"
        "with guarded(SoftResetLIF(shape=(2,), vth=1), run_config('fixed_pt')) as network:\n"
        "    network.run(3)\n"
        "    print('running', flush=True)\n"
        "    input()\n"
    )
    command = [sys.executable, "-c", source]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert any(line == "running\n" for line in parent.stdout)
        family = psutil.Process(parent.pid).children(recursive=True)
        assert len(family) > 2
        parent.kill()
    gone, left = psutil.wait_procs(family, timeout=30)
    assert len(gone) == len(family), left
