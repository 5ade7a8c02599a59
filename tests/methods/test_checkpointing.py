"""V4: checkpointed BPTT. Optimal schedules, the spec's table, slots in use, and gradients with the bits of full BPTT."""

from __future__ import annotations

import functools
import itertools

import pytest
import torch

from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.methods import BPTT
from lava_snnlearn.methods import bptt as bptt_module
from lava_snnlearn.methods.checkpointing import Actions, plan, run_backward
from lava_snnlearn.networks import mlp
from lava_snnlearn.neurons import LIF

SLOTS = (1, 2, 3, 5, 8, 10, 16, 20, 50)
TABLE = {
    ("hidden", 10): (55, 30, 25, 23, 20, 19, 19, 19, 19),
    ("hidden", 50): (1275, 335, 230, 172, 145, 138, 132, 128, 99),
    ("hidden", 100): (5050, 945, 590, 416, 345, 322, 282, 278, 248),
    ("hidden", 1000): (500500, 29820, 13155, 7284, 5285, 4636, 3860, 3747, 2948),
    ("internal", 10): (55, 24, 18, 15, 12, 10, 10, 10, 10),
    ("internal", 1000): (500500, 28864, 12172, 6292, 4290, 3640, 2864, 2750, 1950),
}


@pytest.mark.parametrize("kind, steps", TABLE, ids=str)
def test_costs_are_those_of_the_published_table(kind, steps):
    forwards = plan(kind, steps, 50).forwards
    assert tuple(int(forwards[steps, min(m, steps)]) for m in SLOTS) == TABLE[kind, steps]


class Chain:
    """A chain of numbered states: a schedule that mixes up its states or its order is found out."""

    def __init__(self, steps):
        self.expected, self.forwards = steps - 1, 0

    def advance(self, state, count):
        self.forwards += count
        return state + count

    def record(self, state):
        self.forwards += 1
        return state, state + 1

    def backward(self, record):
        assert record == self.expected, "steps are taken back from the last to the first"
        self.expected -= 1


@pytest.mark.parametrize("kind", ["hidden", "internal"])
@pytest.mark.parametrize("slots", [1, 2, 3, 5, 8, 16, 40, 60])
def test_executed_forwards_are_the_optimum_within_the_slots(kind, slots):
    chain = Chain(40)
    tally = run_backward(kind, 0, 40, slots, Actions(chain.advance, chain.record, chain.backward))
    assert chain.expected == -1
    assert chain.forwards == tally.forwards == plan(kind, 40, slots).forwards[40, min(slots, 40)]
    assert tally.peak <= slots
    assert tally.live == (1 if kind == "hidden" else 0)
    if kind == "hidden" and slots <= 40:
        assert chain.forwards == dict(zip((1, 2, 3, 5, 8, 16, 40), (820, 240, 170, 132, 110, 102, 79), strict=True))[slots]


@functools.cache
def fewest_forwards(kind, steps, slots):
    """Shortest path over all schedules: store, free, load, run on, take the last step back; unit cost of a forward.

    A node is (steps left, stored places, where the current state is and whether it is there with its internals).
    """
    start = (steps, frozenset({0}) if kind == "hidden" else frozenset(), 0)
    seen, frontier, cost = {start}, {start}, 0
    while frontier:
        reached = set()
        queue = list(frontier)
        while queue:  # moves without a forward
            left, stored, at = queue.pop()
            if left == 0:
                return cost
            free = [(left, stored - {place}, at) for place in stored if not (kind == "hidden" and place == 0)]
            if kind == "hidden":
                store = [(left, stored | {at}, at)] if len(stored) < slots else []
                load = [(left, stored, place) for place in stored]
                back = []
            else:
                store, load = [], [(left, stored, place + 1) for place in stored if place + 1 < left] + [(left, stored, 0)]
                back = [(left - 1, stored - {left - 1}, 0)] if left - 1 in stored else []
            for node in (*free, *store, *load, *back):
                if node not in seen:
                    seen.add(node)
                    queue.append(node)
                    frontier.add(node)
        for left, stored, at in frontier:
            if at < left:
                if kind == "hidden":
                    moves = [(left, stored, at + 1)] if at + 1 < left else [(left - 1, stored, 0)]
                else:
                    moves = [(left, stored, at + 1)] if at + 1 < left else []
                    moves += [(left, stored | {at}, at + 1)] if len(stored) < slots else []
                reached.update(node for node in moves if node not in seen)
        seen |= reached
        frontier, cost = reached, cost + 1
    raise AssertionError("no schedule found")


@pytest.mark.parametrize("kind", ["hidden", "internal"])
def test_no_schedule_at_all_is_cheaper(kind):
    for steps, slots in itertools.product(range(1, 8 if kind == "internal" else 10), range(1, 4)):
        assert plan(kind, steps, slots).forwards[steps, min(slots, steps)] == fewest_forwards(kind, steps, slots), (
            steps,
            slots,
        )


def network_and_batch(dtype, *, norm="none", static=False, recurrent=True, detach_reset=False, steps=9):
    torch.manual_seed(0)
    network = mlp([7, 9, 8, 4], LIF(detach_reset=detach_reset), norm=norm, steps=steps, recurrent=recurrent).to(dtype)
    x = torch.randn(5, 7) if static else torch.randn(steps, 5, 7)
    return network, (2 * x).to(dtype), torch.arange(5) % 4


def bits(method, network, x, y):
    network.zero_grad()
    result = method.gradients(network, x, y)
    return result, {name: parameter.grad.clone() for name, parameter in network.named_parameters()}


@pytest.mark.parametrize("kind", ["hidden", "internal"])
@pytest.mark.parametrize("slots", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    "options",
    [{}, {"static": True, "recurrent": False}, {"norm": "sws"}, {"norm": "sws", "static": True, "detach_reset": True}],
    ids=["recurrent", "static", "sws", "static sws"],
)
def test_gradients_have_the_bits_of_full_bptt(kind, slots, dtype, options):
    task = network_and_batch(dtype, **options)
    full, expected = bits(BPTT(chunk=1), *task)
    found, gradients = bits(BPTT(slots=slots, checkpoints=kind), *task)
    for name, value in expected.items():
        assert torch.equal(gradients[name], value), name
        assert bool((value != 0).any())
    torch.testing.assert_close(found.outputs, full.outputs, rtol=0, atol=1e-6)
    assert found.spike_rate == full.spike_rate
    assert found.loss == pytest.approx(full.loss, rel=1e-6)


def test_one_product_for_all_steps_gives_the_same_gradient():
    task = network_and_batch(torch.float64)
    _, expected = bits(BPTT(chunk=1), *task)
    for chunk in (None, 4):
        _, found = bits(BPTT(chunk=chunk), *task)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-12)


def test_statistics_of_batch_norms_move_once_a_step():
    states = []
    for method in (BPTT(chunk=1), BPTT(slots=2), BPTT(slots=2, checkpoints="hidden")):
        network, x, y = network_and_batch(torch.float64, norm="bn_step", recurrent=False)
        method.gradients(network, x, y)
        states.append({name: value for name, value in network.state_dict().items() if "running" in name or "tracked" in name})
    for name, value in states[0].items():
        assert all(torch.equal(state[name], value) for state in states[1:]), name


def test_a_budget_in_megabytes_chooses_checkpoints_that_fit(monkeypatch):
    chosen = []
    original = bptt_module._Steps.run
    monkeypatch.setattr(bptt_module._Steps, "run", lambda self, *plan: chosen.append(plan) or original(self, *plan))
    task = network_and_batch(torch.float64, recurrent=False, steps=40)
    _, expected = bits(BPTT(chunk=1), *task)
    for budget in (0.01, 0.03, 1.0):
        _, found = bits(BPTT(memory_mb=budget), *task)
        assert all(torch.equal(found[name], value) for name, value in expected.items())
    (_, few), (_, more), (kind, all_steps) = chosen
    assert few < more <= 40
    assert (kind, all_steps) == ("internal", 40)
    with pytest.raises(ValueError, match=r"memory_mb is 0\.0001, but one step.*needs"):
        bits(BPTT(memory_mb=1e-4), *task)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"slots": 0}, ValueError, "slots is 0"),
        ({"slots": 2.5}, TypeError, "slots is 2.5"),
        ({"chunk": 0}, ValueError, "chunk is 0"),
        ({"memory_mb": 0.0}, ValueError, "memory_mb is 0.0"),
        ({"memory_mb": "1"}, TypeError, "memory_mb"),
        ({"slots": 2, "memory_mb": 1.0}, ValueError, "give one of them"),
        ({"slots": 2, "chunk": 3}, ValueError, "single steps"),
        ({"slots": 2, "reduction": "mean_logit"}, ValueError, "per_step"),
        ({"slots": 2, "checkpoints": "hiden"}, UnknownNameError, "Did you mean 'hidden'"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        BPTT(**options)


@pytest.mark.parametrize("method", [BPTT(slots=2), BPTT(chunk=2), BPTT(memory_mb=1.0)], ids=repr)
def test_batch_norm_over_time_needs_all_steps_at_once(method):
    network, x, y = network_and_batch(torch.float64, norm="bn_time", recurrent=False)
    with pytest.raises(ValueError, match="bn_time"):
        method.gradients(network, x, y)
