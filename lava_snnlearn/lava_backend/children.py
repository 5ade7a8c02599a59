"""What runs in the child processes of a guarded run, and what they tell the parent about their progress."""

from __future__ import annotations

import contextlib
import mmap
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

_BUSY, _STEP, _DONE = range(3)


class ChildError(Exception):
    """A model or runtime service failed. The only argument is its traceback as text, which always can be sent to the parent."""


class ProgressBoard:
    """One row per child in anonymous shared memory: is it busy with a phase, its time step, the phases it has finished."""

    def __init__(self, children: int) -> None:
        memory = mmap.mmap(-1, children * 3 * 8)
        self._table = np.frombuffer(memory, dtype=np.int64).reshape(children, 3)

    def watch(self, row: int, model: Any) -> None:
        """Keep a row up to date: wrap the handlers of all commands (phases, stop, ...) that the runtime gives to a model."""
        cells = self._table[row]

        def watched(handler: Callable[[], None]) -> Callable[[], None]:
            def handle() -> None:
                cells[_BUSY] = 1
                handler()
                cells[_STEP] = getattr(model, "time_step", 0)
                cells[_DONE] += 1
                cells[_BUSY] = 0

            return handle

        for command, handler in model._cmd_handlers.items():
            model._cmd_handlers[command] = watched(handler)

    def busy(self) -> list[int]:
        """Rows of the children that have not finished the phase they were told to do."""
        return np.flatnonzero(self._table[:, _BUSY]).tolist()

    def step(self) -> int:
        """The latest time step (from 1) that any child has finished; 0 before the first."""
        return int(self._table[:, _STEP].max())

    def done(self) -> int:
        """Phases finished by all children together: grows as long as anything moves."""
        return int(self._table[:, _DONE].sum())


def _end_with_parent(helper: int) -> None:
    """Wait until the parent is gone, then kill the helper process and this one, which would wait for commands for ever.

    The parent's end of a pipe closes however it died. Children that were forked later hold that end as well: the last one goes
    first.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    with contextlib.suppress(ProcessLookupError):
        os.kill(helper, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def run_child(board: ProgressBoard, row: int, helper: int, builder: Any, exception_q: multiprocessing.Queue) -> None:
    """Body of a child: build the model (or runtime service), report that it stands, and obey the runtime until the end.

    Stands in for Lava's own, which loses exceptions that cannot be pickled. Ctrl-C is left to the parent, which ends its
    children itself. A torch that was used in the parent hangs here unless it is told to use one thread.

    helper: process id of the server of shared memory, which does not notice either if the parent is killed.
    """
    threading.Thread(target=_end_with_parent, args=(helper,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    try:
        actor = builder.build()
        if hasattr(actor, "_cmd_handlers"):
            board.watch(row, actor)
        exception_q.put(None)
        actor.start()
    except BaseException:
        raise ChildError(traceback.format_exc()) from None
