"""Waiting for child processes that may fail: every wait ends with the answer or with one LavaRunError."""

from __future__ import annotations

import queue
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from lava_snnlearn.lava_backend.children import ProgressBoard

_POLL = 0.05  # seconds between two looks at the children; an answer is noticed at once
_CAUSE_LIMIT = 2.0  # seconds in which the cause of a known failure has to arrive; Lava may tell the effect first
_GRACE = 0.1  # seconds in which others may fail as well

T = TypeVar("T")


class LavaRunError(RuntimeError):
    """A run on Lava failed: a model raised (the message holds its traceback), died or blocked. Everything has been ended."""


class Guard:
    """Watches the children of a run while the parent waits for them.

    ``names[i]`` describes child i, which is ``actors[i]`` (Lava's SystemProcess) and row i of the board. ``time_limit``:
    seconds that may pass without any child finishing a phase of a step.
    """

    def __init__(self, board: ProgressBoard, time_limit: float) -> None:
        self.actors: Sequence[Any] = ()
        self.names: list[str] = []
        self.doing = "starting"
        self.stopping = False
        self._board = board
        self._limit = time_limit
        self._seen = -1
        self._moved = time.monotonic()

    def wait(self, attempt: Callable[[float], T]) -> T:
        """Call ``attempt(timeout)`` until it returns instead of raising queue.Empty.

        Raises :class:`LavaRunError` if a child failed, died or if nothing moved for the time limit.
        """
        self._moved = time.monotonic()
        while True:
            try:
                return attempt(_POLL)
            except queue.Empty:
                self._check()

    def failure(self, fallback: str) -> LavaRunError:
        """The error that tells what is known of the failed children; ``fallback`` if none of them left a trace."""
        end = time.monotonic() + _CAUSE_LIMIT
        while time.monotonic() < end and not any(map(_left_a_trace, self.actors)):
            time.sleep(_POLL)
        time.sleep(_GRACE)
        failed = [(name, actor) for name, actor in zip(self.names, self.actors, strict=True) if _left_a_trace(actor)]
        reports = [_report(name, actor) for name, actor in failed]
        return LavaRunError(f"Lava failed while {self.doing}.\n" + ("\n".join(reports) or fallback))

    def _check(self) -> None:
        if any(_has_failed(actor, self.stopping) for actor in self.actors):
            raise self.failure("A process of the network has left the run early, without an error (exit code 0).")
        now = time.monotonic()
        done = self._board.done()
        if done != self._seen:
            self._seen, self._moved = done, now
        elif now - self._moved > self._limit:
            raise LavaRunError(self._blocked())

    def _blocked(self) -> str:
        unfinished = ", ".join(self.names[row] for row in self._board.busy()) or "none of the models"
        return (
            f"Lava is blocked while {self.doing}: nothing moved for the time_limit of {self._limit:g} s. "
            f"Last finished time step: {self._board.step()}. Not finished in the next one: {unfinished}.\n"
            "They wait for each other or for data (a cycle without a process that sends before it receives, an Injector "
            "without items, a port that is never sent on), or one of them loops or is slow. "
            "Remedy: put a Dense into the cycle, supply the data, mend the loop; or raise time_limit."
        )


class GuardedPort:
    """A channel end of Lava whose blocking calls end with LavaRunError when the network fails. Else it is the port itself."""

    def __init__(self, port: Any, guard: Guard) -> None:
        self._port = port
        self._guard = guard

    def recv(self) -> Any:
        """Receive the next message."""
        self._guard.wait(lambda timeout: self._port._queue.get(timeout=timeout, peek=True))
        return self._port.recv()

    def send(self, data: Any) -> None:
        """Send a message, as soon as the channel has room."""
        self._guard.wait(self._room)
        self._port.send(data)

    def _room(self, timeout: float) -> None:
        if not self._port._semaphore.acquire(timeout=timeout):
            raise queue.Empty
        self._port._semaphore.release()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)


def _has_failed(actor: Any, may_end: bool) -> bool:
    if actor.exception is not None:
        return True
    return not actor.is_alive() and not (may_end and actor.exitcode == 0)


def _left_a_trace(actor: Any) -> bool:
    """Whether more is known of a child than that it has gone."""
    return actor.exception is not None or (not actor.is_alive() and actor.exitcode != 0)


def _report(name: str, actor: Any) -> str:
    """What is known of a child that left a trace."""
    if actor.exception is not None:
        return f"{name} raised:\n{actor.exception[0].args[0]}"
    code = actor.exitcode
    if code > 0:
        return f"{name} died with exit code {code}, without a traceback (os._exit or a crash)."
    return f"{name} was killed by {signal.Signals(-code).name} (SIGKILL: often out of memory; SIGSEGV: crash in compiled code)."
