"""The comparison of simulators: the network that they share, the workers, the table and its verdict."""

from __future__ import annotations

import sys
from pathlib import Path

import inference
import numpy as np
import pytest
from peers import client, integers, set_up


def neuron_by_neuron(given, sample):
    """Output spikes of one sample in Python's integers."""
    membranes = [[0] * len(weight) for weight in given.weights]
    sent = []
    for signal in given.x[:, sample].tolist():
        for v, weight, vth in zip(membranes, given.weights, given.thresholds, strict=True):
            for i, row in enumerate(weight.tolist()):
                kept = abs(v[i]) * (4096 - given.leak) // 4096
                v[i] = (kept if v[i] > 0 else -kept) + 64 * sum(w for w, s in zip(row, signal, strict=True) if s)
            signal = [int(one > 64 * vth) for one in v]
            for i, spike in enumerate(signal):
                v[i] *= 1 - spike
        sent.append(signal)
    return sent


@pytest.fixture(scope="module")
def small():
    """The benchmark's network on three samples, and its spikes by the slow way."""
    x = integers.rate_coded(np.full((3, 784), 0.1, np.float32), 6)
    given, shares = integers.with_thresholds(integers.random_weights(), x, 0.1)
    expected = np.array([neuron_by_neuron(given, sample) for sample in range(3)]).swapaxes(0, 1)
    assert 0.01 < expected.mean() <= 0.1
    assert shares[-1] == pytest.approx(expected.mean())
    return given, expected


def test_the_loop_over_time_is_the_stated_arithmetic(small):
    given, expected = small
    np.testing.assert_array_equal(integers.loop_over_time(given, given.x), expected)


@pytest.mark.parametrize(
    "name, options",
    [
        ("sim_lava_snnlearn", {"record": "outputs"}),
        ("sim_lava_snnlearn", {"record": "spikes"}),
        ("sim_numpy", {"batch": 2}),
        ("sim_slayer", {"batch": 2}),
        ("sim_lava", {"way": "stock"}),
        ("sim_lava", {"way": "netx"}),
    ],
)
def test_a_simulator_has_the_spikes_of_the_slow_way(small, tmp_path, name, options):
    given, expected = small
    integers.save(tmp_path, given)
    request = {"module": name, "options": options, "threads": 1, "samples": 3, "data": str(tmp_path)}
    worker = client.Worker(Path(sys.executable), request, script=inference.SIMULATOR)
    try:
        assert worker.ready()["version"]
        assert worker.step() > 0
        found = worker.arrays("spikes")[0]
    finally:
        worker.close()
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_every_simulator_is_installed_by_the_set_up():
    offered = {(one.name, item) for one in set_up.environments() for item in one.requirements}
    peers = [one for one in inference.entrants(quick=False) if one.environment]
    assert len(peers) == 3
    assert {(one.environment, one.requirement) for one in peers} <= offered


def test_a_simulator_that_is_not_installed_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(set_up, "VENVS", tmp_path)
    peer = next(one for one in inference.entrants(quick=False) if one.environment)
    assert inference.start(peer, str(tmp_path)).startswith("not installed")


EXPECTED = np.zeros((4, 8, 10), np.uint8)


def measured(*seconds, samples=8, wrong=0):
    spikes = EXPECTED[:, :samples].copy()
    spikes.flat[:wrong] = 1
    return inference.Measured("1.0", spikes, list(seconds))


def entrants():
    names = {inference.LAVA: 2, inference.SLAYER: 8, inference.EMULATOR: 8}
    return [inference.Entrant(name, "none", samples, threads=inference.THREADS) for name, samples in names.items()]


def test_the_table_holds_medians_of_the_ratios_and_counts_what_differs():
    """Ratios of the rounds: (8/0.1)/(2/1) = 40, (8/0.4)/(2/1) = 10, (8/0.2)/(2/4) = 80."""
    results = [measured(1.0, 1.0, 4.0, samples=2), "failed: no\nreason", measured(0.1, 0.4, 0.2, wrong=3)]
    rows = inference.table(entrants(), results, EXPECTED)
    assert "2.0 | 2.0 | 1.0 | 0 of 80 |" in rows[2]
    assert "failed: no reason" in rows[3]
    assert "40.0 | 80.0 | 40.0 | 3 of 320 |" in rows[4]
    assert {row.count("|") for row in rows} == {rows[0].count("|")}


@pytest.mark.parametrize(
    "lava, slayer, ours, wrong, holds",
    [
        (1.0, 0.024, 0.008, 0, True),  # exactly 500 times and 3 times
        (1.0, 0.023, 0.008, 0, False),
        (0.9, 0.024, 0.008, 0, False),
        (1.0, 0.024, 0.008, 1, False),
    ],
)
def test_the_verdict(lava, slayer, ours, wrong, holds):
    results = [measured(lava, samples=2), measured(slayer, wrong=wrong), measured(ours)]
    said = inference.verdict(entrants(), results, EXPECTED)
    assert said.endswith(": holds." if holds else ": does not hold.")
