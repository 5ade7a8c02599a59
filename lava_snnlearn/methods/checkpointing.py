"""Backpropagation through time in less memory: where to keep states, and how to walk back (Gruslys et al., NeurIPS 2016).

One *forward* is one time step of the network. A budget of m slots holds

* "hidden" states (their HSM): membranes and past spikes before a step; each step's backward runs that step again. The given
  start state takes a slot.
* "internal" states (ISM): all that a step's backward needs; larger, but the step need not be run again.

The least number of forwards follows from dynamic programming (online_and_bptt spec, section 5)::

    hidden     C(t, m) = min_{1 <= y < t}  y + C(t - y, m - 1) + C(y, m),        C(t, m >= t) = 2t - 1
    internal   C(t, m) = min_{1 <= y <= t} y + C(t - y, m - 1) + C(y - 1, m),    C(t, m >= t) = t,     C(0, m) = 0

both with C(t, 1) = t (t + 1) / 2, and the schedule is the one that executes this recursion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import known_name, whole_number

KINDS = ("hidden", "internal")


@dataclass(frozen=True)
class Plan:
    """Costs and best splits for up to ``steps`` steps and ``slots`` slots; see :func:`plan`.

    forwards: int64 [steps + 1, slots + 1], C(t, m). splits: int64 of the same shape, the smallest best y.
    """

    kind: str
    forwards: NDArray[np.int64]
    splits: NDArray[np.int64]


@lru_cache(maxsize=16)
def plan(kind: str, steps: int, slots: int) -> Plan:
    """The optimum for every number of steps and slots up to these.

    Raises:
        UnknownNameError: an unknown kind. ValueError: steps or slots below 1.
    """
    known_name("kind of checkpoints", kind, KINDS)
    for name, value in (("steps", steps), ("slots", slots)):
        if whole_number(name, value) < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    slots = min(slots, steps)
    t = np.arange(steps + 1, dtype=np.int64)
    forwards = np.zeros((steps + 1, slots + 1), np.int64)
    splits = np.zeros_like(forwards)
    forwards[:, 1] = t * (t + 1) // 2
    # With one slot, the last step is stored alone (internal), or everything is run from the start again (hidden).
    splits[:, 1] = t if kind == "internal" else 0
    for m in range(2, slots + 1):
        for length in range(1, steps + 1):
            forwards[length, m], splits[length, m] = _best(kind, forwards, length, m)
    return Plan(kind, forwards, splits)


def _best(kind: str, forwards: NDArray[np.int64], length: int, m: int) -> tuple[int, int]:
    """Least forwards for ``length`` steps with m slots, and the smallest split that reaches it."""
    if kind == "hidden":
        if length == 1:
            return 1, 0
        y = np.arange(1, length)
        cost = y + forwards[length - y, m - 1] + forwards[y, m]
    else:
        y = np.arange(1, length + 1)
        cost = y + forwards[length - y, m - 1] + forwards[y - 1, m]
    best = int(cost.argmin())
    return int(cost[best]), int(y[best])


@dataclass(frozen=True)
class Actions:
    """What a schedule asks for. States are the caller's own objects; "before" a step is the state that it starts from.

    advance(state, count): run ``count`` steps without graph; returns the state after them.
    record(state): run one step and keep what its backward needs; returns (record, state after the step).
    backward(record): the step's backward. Steps are recorded and taken back in such an order that every step's backward comes
        directly after that of the step behind it.
    """

    advance: Callable[[object, int], object]
    record: Callable[[object], tuple[object, object]]
    backward: Callable[[object], None]


@dataclass
class Tally:
    """What a schedule did: forwards executed, slots in use now and at most."""

    forwards: int = 0
    live: int = 0
    peak: int = 0

    def hold(self, slots: int) -> None:
        """Take (or with a negative number give back) slots."""
        self.live += slots
        self.peak = max(self.peak, self.live)


def run_backward(kind: str, start: object, steps: int, slots: int, actions: Actions) -> Tally:
    """Take ``steps`` steps back, from the last to the first, with at most ``slots`` slots in the least number of forwards."""
    chosen = plan(kind, steps, slots)
    tally = Tally()
    walk = _hidden if kind == "hidden" else _internal
    if kind == "hidden":
        tally.hold(1)  # the start state
    walk(chosen, start, steps, min(slots, steps), actions, tally)
    return tally


def _hidden(chosen: Plan, start: object, steps: int, slots: int, actions: Actions, tally: Tally) -> None:
    # A loop over the left parts, so that the recursion is no deeper than the slots are many.
    while steps > 1 and slots > 1:
        slots = min(slots, steps)
        split = int(chosen.splits[steps, slots])
        middle = actions.advance(start, split)
        tally.forwards += split
        tally.hold(1)
        _hidden(chosen, middle, steps - split, slots - 1, actions, tally)
        tally.hold(-1)
        steps = split
    for last in range(steps - 1, -1, -1):
        before = actions.advance(start, last) if last else start
        record, _ = actions.record(before)
        tally.forwards += last + 1
        actions.backward(record)


def _internal(chosen: Plan, start: object, steps: int, slots: int, actions: Actions, tally: Tally) -> None:
    while steps > 0:
        slots = min(slots, steps)
        split = int(chosen.splits[steps, slots])
        # No name for the state before the step: it must not outlive the call that records the step.
        record, after = actions.record(actions.advance(start, split - 1) if split > 1 else start)
        tally.forwards += split
        tally.hold(1)
        if split < steps:
            _internal(chosen, after, steps - split, slots - 1, actions, tally)
        actions.backward(record)
        del record, after
        tally.hold(-1)
        steps = split - 1
