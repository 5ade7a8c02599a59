"""The guard itself, on actors that only pretend."""

import queue

import pytest

from lava_snnlearn.lava_backend.children import ProgressBoard
from lava_snnlearn.lava_backend.guard import Guard, LavaRunError


class Actor:
    def __init__(self, exitcode):
        self.exitcode = exitcode
        self.exception = None

    def is_alive(self):
        return self.exitcode is None


def answer_after(polls):
    """An attempt that is empty some times and then returns."""
    left = [queue.Empty()] * polls

    def attempt(timeout):
        if left:
            raise left.pop()
        return "answer"

    return attempt


def guard(*exitcodes, stopping=False, time_limit=10):
    watched = Guard(ProgressBoard(len(exitcodes)), time_limit)
    watched.actors = [Actor(code) for code in exitcodes]
    watched.names = [f"model {i}" for i in range(len(exitcodes))]
    watched.stopping = stopping
    return watched


def test_answer_of_living_actors():
    assert guard(None, None).wait(answer_after(3)) == "answer"


def test_actors_may_leave_while_the_network_stops():
    assert guard(0, None, stopping=True).wait(answer_after(3)) == "answer"
    with pytest.raises(LavaRunError, match="left the run early"):
        guard(0, None).wait(answer_after(3))


@pytest.mark.parametrize("stopping", [False, True])
@pytest.mark.parametrize("exitcode, text", [(3, "model 1 died with exit code 3"), (-9, "model 1 was killed by SIGKILL")])
def test_actors_that_die(exitcode, text, stopping):
    with pytest.raises(LavaRunError, match=text) as caught:
        guard(None, exitcode, stopping=stopping).wait(answer_after(3))
    assert "model 0" not in str(caught.value)


def test_limit_counts_from_the_last_movement():
    """Nothing ever answers; the limit is over only when the board stands still."""
    watched = guard(None, time_limit=0.0)
    moves = iter(range(5))

    def attempt(timeout):
        if next(moves, None) is not None:
            watched._board._table[0, 2] += 1
        raise queue.Empty

    with pytest.raises(LavaRunError, match="nothing moved for the time_limit of 0 s"):
        watched.wait(attempt)
    assert watched._board.done() == 5
