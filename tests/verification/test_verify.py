"""verify: says EQUAL where it is, and names the first mismatch where it is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lava_snnlearn as snn
from lava_snnlearn import verification
from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput
from lava_snnlearn.fixed_point.trace import Trace
from lava_snnlearn.testing.networks import random_case


@pytest.fixture(scope="module")
def digits() -> snn.data.Dataset:
    return snn.data.load("digits", valid=0.0)


@pytest.mark.parametrize("form", ["current", "graded"])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_digits_on_lava(digits: snn.data.Dataset, reset: str, form: str) -> None:
    """The issue's bar: 32 test samples of a trained network, every spike and membrane, 0 mismatches."""
    torch.manual_seed(0)
    network = snn.networks.mlp([64, 128, 128, 10], snn.neurons.LIF(reset=reset))
    snn.Trainer(network, snn.methods.OTTT(), digits, epochs=2, progress=False).fit()
    chip = snn.quantize(network, input=form, calibration=digits.train.x)
    report = snn.verify(chip, digits.test.x[:32])
    assert report.ok, str(report)
    # 6 steps x 32 samples x (2 x 128 spikes + 2 x 128 + 10 membranes)
    assert report.compared == {"lava": 6 * 32 * 522, "torch": 6 * 32 * 522}
    assert report.mismatches == {"lava": 0, "torch": 0}
    assert report.first_mismatch is None
    assert "EQUAL" in str(report)


@pytest.mark.parametrize("encoding", ["rate", "latency"])
def test_encoded_spikes_on_lava(encoding: str) -> None:
    data = snn.data.load("digits", scale="unit")
    torch.manual_seed(1)
    network = snn.networks.mlp([64, 32, 10], steps=8, encoding=encoding)
    snn.Trainer(network, snn.methods.OTTT(), data, epochs=1, progress=False).fit()
    report = snn.verify(snn.quantize(network), data.test.x[:4])
    assert report.ok, str(report)


def test_first_mismatch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three values of a copy of the trace are changed; the earliest step, then the earliest population, is reported."""
    case = random_case(11, depth=2)
    trace = snn.emulate(case.network, case.x)
    _, samples, _ = trace.membranes["out"].shape
    changed = {name: membrane.copy() for name, membrane in trace.membranes.items()}
    changed["out"][-1, -1, 0] += 5
    changed["p1"][1, 0, 0] -= 3
    spikes = {name: spike.copy() for name, spike in trace.spikes.items()}
    spikes["p1"][1, samples - 1, -1] ^= 1
    monkeypatch.setattr(verification, "_lava", lambda *_: Trace(spikes, changed, trace.outputs))
    report = snn.verify(case.network, case.x, against=["lava"])
    assert not report.ok
    assert report.mismatches == {"lava": 3}
    found = report.first_mismatch
    assert found is not None
    assert (found.population, found.quantity, found.step, found.sample) == ("p1", "spike", 1, samples - 1)
    assert found.neuron == case.network.population("p1").size - 1
    assert found.other == 1 - found.emulator
    for part in ("'p1'", "step 1", f"sample {samples - 1}", f"emulator {found.emulator}", f"lava {found.other}", "DIFFERENT"):
        assert part in str(report)


def test_a_wrong_emulator_is_found_by_lava(monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulator that leaks by one 4096th more than the chip does not pass."""
    from lava_snnlearn.fixed_point.engine import neuron_kernels

    real = neuron_kernels.soft_reset

    def leaking(total, begin, end, v, bias, rest, *others):
        return real(total, begin, end, v, bias, rest - 1, *others)

    monkeypatch.setattr(neuron_kernels, "soft_reset", leaking)
    case = random_case(2, depth=2)
    report = snn.verify(case.network, case.x)
    assert report.mismatches["lava"] > 0
    assert report.mismatches["torch"] > 0


def test_refusals() -> None:
    case = random_case(0)
    with pytest.raises(UnknownNameError, match="'lava'"):
        snn.verify(case.network, case.x, against=["lavaa"])
    with pytest.raises(ValueError, match="nothing to compare"):
        snn.verify(case.network, case.x, against=[])
    with pytest.raises(ValueError, match="time_limit is 0"):
        snn.verify(case.network, case.x, time_limit=0)
    recurrent = random_case(0, recurrent=True)
    with pytest.raises(ValueError, match="graphs without cycles"):
        snn.verify(recurrent.network, recurrent.x, against=["torch"])


def test_mixed_delays_have_a_torch_forward() -> None:
    case = random_case(4, depth=2, delays=True)
    assert any(np.ndim(connection.delay) and connection.max_delay for connection in case.network.connections)
    report = snn.verify(case.network, case.x)
    assert report.ok
    assert report.compared["lava"] == report.compared["torch"]


def test_graphs_without_a_torch_forward_are_compared_with_lava_alone() -> None:
    case = random_case(4, depth=2, recurrent=True)
    report = snn.verify(case.network, case.x)
    assert report.ok
    assert set(report.compared) == {"lava"}
    assert "torch forward of the quantised network: not compared" in str(report)


def test_a_gap_in_the_starts_is_no_chain() -> None:
    """The second population hears only the later spikes of the first; the torch forward, without time shift, would hear all."""
    populations = (Population("a", 2, vth=5), Population("out", 1, "accumulator", t_start=3))
    host = HostInput("current", 2, targets=("a",))
    network = FixedNetwork(populations, (Connection("a", "out", [[2, 4]]),), host, 5, "out")
    report = snn.verify(network, np.array([[7, 3]]))
    assert report.ok
    assert set(report.compared) == {"lava"}


@pytest.mark.parametrize("delay", [0, 3])
def test_stock_lif_with_a_uniform_delay_equals_lava(delay: int) -> None:
    """Its spikes outside of the active steps must not reach the target's active ones."""
    lif = Population("p0", 2, "lif", vth=3, bias_mant=64, bias_exp=3)
    out = Population("out", 1, "accumulator", t_start=1 + delay)
    host = HostInput("current", 2, targets=("p0",))
    network = FixedNetwork((lif, out), (Connection("p0", "out", [[2, 4]], delay=delay),), host, 4, "out")
    assert snn.verify(network, np.array([[1, 2], [3, 0]]), against=["lava"]).ok


def test_trace_reads_as_documented() -> None:
    case = random_case(5, depth=1)
    trace = snn.emulate(case.network, case.x)
    assert np.array_equal(trace.predictions, trace.membranes["out"][-1].argmax(axis=1))
    assert trace.spike_rates() == {"p0": trace.spikes["p0"].mean()}
