"""Failing processes for the tests, and the proof that a run leaves nothing behind.

Lava's discovery executes every file beside a process, and the name ``tests`` belongs to lava-nc's wheel: the processes lie in a
folder of their own, on sys.path, as a top-level module.
"""

import logging
import sys
import threading
from pathlib import Path

import psutil
import pytest

sys.path.append(str(Path(__file__).parent / "failing"))


def children():
    """Child processes, without the interpreter's own resource tracker."""
    return [c for c in psutil.Process().children(recursive=True) if "resource_tracker" not in " ".join(c.cmdline())]


@pytest.fixture
def nothing_left(shared_memory):
    """After the test: no child, no shared memory of its runs (there was some), no handler, no port thread."""
    handlers = len(logging.getLogger().handlers)
    yield
    assert children() == []
    made, left = shared_memory()
    assert made
    assert not left
    assert len(logging.getLogger().handlers) == handlers
    for thread in threading.enumerate():
        if thread.name.endswith((".send", "QueueFeederThread")):
            thread.join(timeout=5)
            assert not thread.is_alive(), thread.name
