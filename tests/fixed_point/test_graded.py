"""Graded neurons in a FixedNetwork: a slow reference, limits, files, the table, Lava; energy networks in integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lava_snnlearn as snn
from lava_snnlearn.checks import LimitError, UnknownNameError
from lava_snnlearn.files import FileFormatError, read_tree, write_tree
from lava_snnlearn.fixed_point import twin
from lava_snnlearn.fixed_point.arithmetic import graded_step
from lava_snnlearn.fixed_point.energy_networks import energy_integers
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput
from lava_snnlearn.lava_backend.graph import run_in_process
from lava_snnlearn.networks import energy_net


def random_network(seed: int, *, samples: int = 3, loop: bool = True) -> tuple[FixedNetwork, np.ndarray]:
    """Two graded populations, one hidden of both kinds of ends, with coarse states, delays and exponents; and payloads."""
    draw = np.random.default_rng(seed)
    sizes, top = (4, 5, 3), int(draw.choice([1, 30, 255]))
    shift = int(draw.integers(3, 9))

    def weight(n: int, m: int) -> np.ndarray:
        return 2 * draw.integers(-100, 101, (n, m))

    populations = [
        Population(
            name,
            size,
            "graded",
            bias_mant=draw.integers(-4096, 4096, size),
            bias_exp=int(draw.integers(0, 4)),
            t_start=1,
            shift=shift,
            top=top,
        )
        for name, size in (("hidden", 5), ("out", 3))
    ]
    connections = [
        Connection("input", "hidden", weight(5, 4)),
        Connection("hidden", "out", weight(3, 5), int(draw.integers(0, 2)), draw.integers(0, 3, (3, 5))),
    ]
    if loop:
        connections.append(Connection("out", "hidden", weight(5, 3)))
    network = FixedNetwork(tuple(populations), tuple(connections), HostInput("graded", sizes[0]), 9, "out")
    return network, draw.integers(0, 256, (samples, 4))


def slow(network: FixedNetwork, payload: np.ndarray) -> dict[str, list[list[int]]]:
    """One sample in Python's integers; what a connection brings at step t was sent at step t - 1 - delay."""
    sent: dict[str, dict[int, list[int]]] = {"input": {t: payload.tolist() for t in range(network.steps)}}
    sent |= {population.name: {} for population in network.populations}
    for now in range(network.period):
        new = {}
        for population in network.populations:
            if not population.t_start <= now < population.t_start + network.steps:
                continue
            states = []
            for i in range(population.size):
                total = int(population.bias_mant[i]) * 2**population.bias_exp
                for connection in network.incoming(population.name):
                    for j in range(connection.shape[1]):
                        delay = int(np.broadcast_to(connection.delay, connection.shape)[i, j])
                        heard = sent[connection.source].get(now - 1 - delay)
                        if heard is not None:
                            total += int(connection.weight[i, j]) * 2**connection.exponent * heard[j]
                states.append(min(max(total // 2**population.shift, 0), population.top))
            new[population.name] = states
        for name, states in new.items():
            sent[name][now] = states
    return {p.name: [sent[p.name][p.t_start + t] for t in range(network.steps)] for p in network.populations}


@pytest.mark.parametrize("seed", range(12))
def test_emulator_is_the_slow_reference(seed):
    network, x = random_network(seed, loop=seed % 3 > 0)
    trace = snn.emulate(network, x)
    for sample, payload in enumerate(x):
        for name, states in slow(network, payload).items():
            np.testing.assert_array_equal(trace.spikes[name][:, sample], states)
            np.testing.assert_array_equal(trace.membranes[name][:, sample], states)
    np.testing.assert_array_equal(trace.outputs, trace.membranes["out"][-1])
    assert not any(trace.saturated.values())
    np.testing.assert_array_equal(snn.emulate(network, x[1:2], record="outputs").outputs, trace.outputs[1:2])


def test_random_networks_use_both_ends_and_what_lies_between():
    networks = [random_network(seed) for seed in range(12)]
    traces = [snn.emulate(network, x) for network, x in networks]
    pairs = zip(networks, traces, strict=True)
    states = np.concatenate([trace.spikes["hidden"].ravel() / network.populations[0].top for (network, _), trace in pairs])
    assert 0.1 < (states == 0).mean() < 0.9
    assert (states == 1).mean() > 0.05
    assert ((states > 0) & (states < 1)).mean() > 0.05


@pytest.mark.parametrize("seed", [1, 5])
def test_on_lava(seed):
    network, x = random_network(seed)
    report = snn.verify(network, x)
    assert report.ok, str(report)
    assert set(report.compared) == {"lava"}


def test_without_a_cycle_models_can_be_stepped_here_and_the_torch_twin_says_no():
    network, x = random_network(3, loop=False)
    found, wanted = run_in_process(network, x), snn.emulate(network, x)
    for name in wanted.spikes:
        np.testing.assert_array_equal(found.spikes[name], wanted.spikes[name])
    np.testing.assert_array_equal(found.outputs, wanted.outputs)
    assert not twin.is_aligned(network)
    with pytest.raises(ValueError, match="graded neurons"):
        snn.verify(network, x, against=["torch"])


def test_spike_rates_count_messages_not_payloads():
    network, x = random_network(2)
    trace = snn.emulate(network, x)
    assert trace.spike_rates()["hidden"] == np.count_nonzero(trace.spikes["hidden"]) / trace.spikes["hidden"].size


@pytest.mark.parametrize("top", [1, 255])
@pytest.mark.parametrize("shift", [0, 7])
def test_step_at_its_edges(top, shift):
    unit = 1 << shift
    current = np.array([-1, 0, unit - 1, unit, top * unit - 1, top * unit, top * unit + unit, -5 * unit])
    expected = [0, 0, 0, 1, max(top - 1, 0), top, top, 0]
    np.testing.assert_array_equal(graded_step(0, current, bias=0, shift=shift, top=top), expected)
    np.testing.assert_array_equal(graded_step(99, current - 3, bias=3, shift=shift, top=top), expected)


def test_nudge_rounds_halves_up_and_may_leave_the_range():
    state, target = np.array([0, 127, 10, 11]), np.array([127, 0, 11, 10])
    found = graded_step(state, 0, bias=0, shift=0, top=127, beta=128, target=target)
    np.testing.assert_array_equal(found, [64, -63, 1, 0])


GRADED = {"name": "p", "size": 2, "kind": "graded", "shift": 7, "top": 127}


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"shift": -1}, LimitError, "shift is -1"),
        ({"shift": 24}, LimitError, "shift is 24"),
        ({"top": 0}, LimitError, "top is 0"),
        ({"top": 256}, LimitError, "top is 256"),
        ({"top": 1.0}, TypeError, "top"),
        ({"dv": 1}, ValueError, "no memory"),
        ({"v_init": 1}, ValueError, "no memory"),
        ({"bias_mant": 5000}, LimitError, "bias_mant"),
        ({"kind": "soft_reset_lif"}, ValueError, "belong to graded neurons"),
        ({"kind": "accumulator", "shift": 0}, ValueError, "belong to graded neurons"),
    ],
)
def test_bad_populations_are_refused(change, error, text):
    Population(**GRADED)
    with pytest.raises(error, match=text):
        Population(**(GRADED | change))


def test_sums_are_bounded_with_the_largest_payload():
    """The same weights fit behind states of 1, and not behind states of 255."""

    def build(top: int) -> FixedNetwork:
        populations = tuple(Population(n, 600, "graded", t_start=1, shift=20, top=top) for n in ("a", "b"))
        weights = np.full((600, 600), 254)
        connections = (Connection("input", "a", np.full((600, 1), 2)), Connection("a", "b", weights, 7))
        return FixedNetwork(populations, connections, HostInput("graded", 1), 2, "b")

    assert build(1).largest_sent("a") == 1
    with pytest.raises(LimitError, match="'b': its synaptic sum can reach"):
        build(255)


def test_file_and_table(tmp_path):
    network, x = random_network(4)
    network.save(tmp_path / "net.h5")
    again = FixedNetwork.load(tmp_path / "net.h5")
    np.testing.assert_array_equal(snn.emulate(again, x).outputs, snn.emulate(network, x).outputs)
    row = next(line for line in str(network).splitlines() if line.startswith("hidden"))
    assert row.split()[2:4] == ["graded", f"0..{network.populations[0].top}"]


@pytest.mark.parametrize(("key", "value"), [("shift", 40), ("top", 0), ("top", 300), ("shift", "7"), ("kind", "lif")])
def test_forged_files_are_refused(tmp_path, key, value):
    network, _ = random_network(4)
    network.save(tmp_path / "net.h5")
    tree = read_tree(tmp_path / "net.h5", content="FixedNetwork")
    tree["populations"][0][key] = value
    write_tree(tmp_path / "forged.h5", tree, content="FixedNetwork")
    with pytest.raises(FileFormatError, match="hidden"):
        FixedNetwork.load(tmp_path / "forged.h5")


def energy(sizes=(64, 16, 10), *, seed: int = 0, scale: float = 2.0):
    torch.manual_seed(seed)
    network = energy_net(sizes)
    with torch.no_grad():
        for weight, bias in zip(network.weights, network.biases, strict=True):
            weight.mul_(scale)
            bias.normal_(0.2, 0.3)
    return network


@pytest.fixture(scope="module")
def digits():
    return snn.data.load("digits", scale="unit", valid=0.0)


def test_an_energy_network_on_lava_with_digits(digits):
    chip = snn.quantize(energy((64, 12, 8, 10)))
    report = snn.verify(chip, digits.test.x[:8])
    assert report.ok, str(report)
    assert report.compared["lava"] == 2 * 8 * 25 * 30  # payload and state of 30 neurons in 25 steps of 8 samples
    assert chip.period == 26


def test_integers_follow_the_real_network(digits):
    """The state on the chip is 127 times the real one, up to the rounding of weights, input and state."""
    network = energy()
    chip = snn.quantize(network)
    x = digits.test.x[:200]
    wanted = network.answer(torch.from_numpy(x)).numpy()
    found = snn.emulate(chip, x, record="outputs").outputs / 127
    assert np.abs(found - wanted).max() < 0.03
    assert np.abs((found - wanted).mean()) < 0.002  # rounded, not cut: a floor would cost half a level, 0.004
    coarse = snn.emulate(snn.quantize(network, weight_bits=3), x, record="outputs").outputs / 127
    assert np.abs(coarse - wanted).mean() > 3 * np.abs(found - wanted).mean()


def test_scales_are_the_largest_that_hold_weights_and_biases():
    network = energy()
    with torch.no_grad():
        network.weights[0][0, 0], network.weights[1][0, 0] = 1.9, -0.2
    numbers = energy_integers(network)
    assert numbers.shift == 7  # 1.9 * 2^7 = 243.2
    assert numbers.weights[0][0, 0] == 244
    assert numbers.weights[1][0, 0] == -26
    with torch.no_grad():
        network.biases[0][0] = 200.0
    by_bias = energy_integers(network)
    assert by_bias.shift == 4  # 127 * 200 * 2^4 = 406400 <= 4095 << 7 = 524160
    assert int(by_bias.mantissas[0][0]) << by_bias.exponents[0] == pytest.approx(16 * (127 * 200 + 0.5), abs=64)
    np.testing.assert_array_equal(snn.quantize(network).connections[2].weight, by_bias.weights[1].T)


@pytest.mark.parametrize(
    ("change", "options", "error", "text"),
    [
        ({}, {"input": "current"}, UnknownNameError, "graded"),
        ({}, {"weight_bits": 9}, LimitError, "weight_bits is 9"),
        ({"setting": "energy"}, {}, ValueError, "'prototypical' with 'hard_sigmoid'"),
        ({"activation": "tanh"}, {}, ValueError, "'prototypical' with 'hard_sigmoid'"),
    ],
)
def test_networks_that_the_chip_does_not_compute(change, options, error, text):
    with pytest.raises(error, match=text):
        snn.quantize(energy_net([4, 3, 2], **change), **options)


def test_numbers_that_no_scale_holds():
    network = energy_net([4, 3, 2])
    with torch.no_grad():
        network.weights[0][0, 0] = 300.0
    with pytest.raises(LimitError, match=r"weights up to 300 .* too large"):
        snn.quantize(network)
    with torch.no_grad():
        network.weights[0][0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"weights\.0 holds 1 values that are NaN"):
        snn.quantize(network)


def test_data_beyond_the_unit_range_are_refused_by_the_chip():
    chip = snn.quantize(energy_net([4, 3, 2]))
    with pytest.raises(LimitError, match="graded input"):
        snn.emulate(chip, np.full((1, 4), 2.1))
    with pytest.raises(LimitError, match="graded input"):
        snn.emulate(chip, np.full((1, 4), -0.1))
