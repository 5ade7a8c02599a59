"""Exported files in lava-dl's own Network on the simulator: spikes equal to the emulator's; and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import lava_snnlearn as snn
from lava_snnlearn.fixed_point.convolution import ConvShape
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, HostInput, Population
from lava_snnlearn.interchange import from_netx, netx_losses, to_netx, with_whole_biases
from lava_snnlearn.testing.networks import random_case


def even(draw: np.random.Generator, *shape: int, high: int = 60) -> Any:
    return 2 * draw.integers(-high // 2, high // 2 + 1, shape)


def lif(draw: np.random.Generator, name: str, size: int, **options: Any) -> Population:
    """Neurons that filter their current, leak, and have biases of both signs, a few of which fire by themselves."""
    constants = {"du": int(draw.integers(0, 4096)), "dv": int(draw.integers(0, 2000)), "vth": int(draw.integers(40, 90))}
    constants |= {"bias_mant": draw.integers(-9, 12, size), "bias_exp": 6}
    return Population(name, size, "lif", **(constants | options))


def spikes(draw: np.random.Generator, *shape: int, rate: float = 0.4) -> Any:
    return (draw.random(shape) < rate).astype(np.int64)


def dense_chain(seed: int, sizes: tuple[int, ...] = (7, 9, 5), steps: int = 12, **options: Any) -> FixedNetwork:
    draw = np.random.default_rng(seed)
    names = ["input", *(f"p{i}" for i in range(1, len(sizes)))]
    populations = [
        lif(draw, name, n, **({"t_start": i} | options))
        for i, (name, n) in enumerate(zip(names[1:], sizes[1:], strict=True), 1)
    ]
    connections = [Connection(a, b, even(draw, m, n)) for a, b, n, m in zip(names, names[1:], sizes, sizes[1:], strict=False)]
    return FixedNetwork(tuple(populations), tuple(connections), HostInput("spikes", sizes[0]), steps, names[-1])


def assert_equal(path: Any, network: FixedNetwork, x: Any, run_netx: Any, image: Any = None, lossy: bool = False) -> Any:
    """The file on the simulator, and the emulator: same spikes, and some; same membranes where netx shows them."""
    run = to_netx(network, path, lossy=lossy)
    ours = snn.emulate(network, x)
    theirs = run_netx(path, run, network.encode(np.asarray(x)), image)
    output = network.population(network.output)
    if output.spiking:
        expected = ours.spikes[output.name]
        assert expected.any()
        assert not expected.all()
        np.testing.assert_array_equal(theirs.spikes, expected)
    else:
        assert not theirs.spikes.any()
        assert ours.outputs.any()
    if theirs.membranes is not None:
        np.testing.assert_array_equal(theirs.membranes, ours.membranes[output.name])
    return run


@pytest.mark.parametrize("seed", [0, 1])
def test_dense_layers_sample_after_sample(seed, tmp_path, run_netx):
    network = dense_chain(seed)
    assert netx_losses(network) == ()
    run = assert_equal(tmp_path / f"dense{seed}.net", network, spikes(np.random.default_rng(seed), 12, 3, 7), run_netx)
    assert run.reset_interval == network.period
    assert run.arguments["reset_offset"] == 1


def test_running_layers_with_early_biases(tmp_path, run_netx):
    network = dense_chain(2, t_start=0)
    run = assert_equal(tmp_path / "running.net", network, spikes(np.random.default_rng(2), 12, 2, 7), run_netx)
    assert run.reset_interval is None
    assert run.first_output == 0


def test_recurrent_layer(tmp_path, run_netx):
    draw = np.random.default_rng(3)
    network = dense_chain(3, sizes=(6, 8, 4), t_start=0)
    own = Connection("p1", "p1", even(draw, 8, 8, high=40))
    network = replace(network, connections=(*network.connections, own))
    assert_equal(tmp_path / "recurrent.net", network, spikes(draw, 12, 2, 6), run_netx)


def test_trained_recurrent_layers(tmp_path, run_netx):
    """Layers that hear themselves, start one after the other, and have biases that act before that."""
    torch.manual_seed(1)
    network = snn.networks.mlp(
        [12, 20, 16, 5], snn.neurons.LIF(reset="zero"), norm="none", steps=9, encoding="rate", recurrent=True
    )
    for parameter in network.parameters():
        parameter.data = 2.5 * parameter.data if parameter.ndim > 1 else 0.1 * torch.randn(parameter.shape)
    x = np.random.default_rng(1).random((3, 12)).astype(np.float32)
    chip = with_whole_biases(snn.quantize(network, input="spikes", calibration=x))
    assert chip.one_by_one
    assert np.count_nonzero(chip.population("layer2").bias_mant) > 5
    signal = chip.encode(x)
    recurrent = tmp_path / "trained.net"
    run = to_netx(chip, recurrent, lossy=True)
    assert run.one_by_one
    ours = snn.emulate(chip, x)
    assert 0.1 < ours.spikes["layer2"].mean() < 0.6
    theirs = run_netx(recurrent, run, signal)
    np.testing.assert_array_equal(theirs.membranes, ours.membranes["readout"])
    again = snn.emulate(from_netx(recurrent, timing="samples"), signal)
    np.testing.assert_array_equal(again.outputs, ours.outputs)
    loud = [replace(p, bias_mant=np.full(p.size, 90)) if p.name == "layer2" else p for p in chip.populations]
    losses = netx_losses(replace(chip, populations=tuple(loud)))
    assert "population 'layer2': the bias of its neuron 0 alone makes it spike before a sample reaches it" in losses[-1]


@pytest.mark.parametrize("axonal", [True, False])
def test_delays(axonal, tmp_path, run_netx):
    draw = np.random.default_rng(4)
    network = dense_chain(4, sizes=(6, 8, 4), steps=16, t_start=0)
    delay = draw.integers(0, 6, (8, 1) if axonal else (8, 6))
    first = replace(network.connections[0], delay=np.broadcast_to(delay, (8, 6)))
    network = replace(network, connections=(first, network.connections[1]))
    path = tmp_path / f"delays{axonal}.net"
    assert_equal(path, network, spikes(draw, 16, 1, 6), run_netx)
    with h5py.File(path) as file:
        assert file["layer/1/delay"].shape == ((8,) if axonal else (8, 6))


def image_chain(seed: int = 5) -> FixedNetwork:
    """Conv (groups, uneven stride and padding), conv with dilation and biases that differ within a channel, dense."""
    draw = np.random.default_rng(seed)
    first = ConvShape((2, 7, 6), stride=(2, 1), padding=(1, 0), groups=2)
    second = ConvShape((4, 4, 4), dilation=(1, 2))
    kernels = even(draw, 4, 1, 3, 3, high=50), even(draw, 3, 4, 2, 2, high=30)
    populations = (
        lif(draw, "a", 64, t_start=1, shape=(4, 4, 4), bias_mant=np.repeat(draw.integers(0, 9, 4), 16)),
        lif(draw, "b", 18, t_start=2, shape=(3, 3, 2)),
        lif(draw, "c", 5, t_start=3),
    )
    connections = (
        Connection("input", "a", kernels[0], geometry=first),
        Connection("a", "b", kernels[1], geometry=second),
        Connection("b", "c", even(draw, 5, 18)),
    )
    return FixedNetwork(populations, connections, HostInput("spikes", 84), 10, "c")


def test_convolutions_and_flatten(tmp_path, run_netx):
    network = image_chain()
    x = spikes(np.random.default_rng(5), 10, 2, 84)
    assert_equal(tmp_path / "image.net", network, x, run_netx, image=(2, 7, 6))


def test_an_image_as_output(tmp_path, run_netx):
    network = image_chain(6)
    network = replace(network, populations=network.populations[:2], connections=network.connections[:2], output="b")
    x = spikes(np.random.default_rng(6), 10, 1, 84)
    assert_equal(tmp_path / "image_out.net", network, x, run_netx, image=(2, 7, 6))


def test_odd_weights_and_weights_of_one_sign(tmp_path, run_netx):
    draw = np.random.default_rng(7)
    network = dense_chain(7)
    odd = Connection("input", "p1", 2 * draw.integers(-127, 128, (9, 7)), exponent=-1)
    positive = Connection("p1", "p2", draw.integers(0, 50, (5, 9)), sign_mode="excitatory")
    network = replace(network, connections=(odd, positive))
    assert_equal(tmp_path / "odd.net", network, spikes(draw, 12, 2, 7), run_netx)


def test_graded_input(tmp_path, run_netx):
    draw = np.random.default_rng(8)
    network = replace(dense_chain(8), host=HostInput("graded", 7))
    run = assert_equal(tmp_path / "graded.net", network, draw.integers(0, 4, (12, 2, 7)), run_netx)
    assert run.arguments["input_message_bits"] == 8


@pytest.mark.parametrize("leak", [0.0, 0.3])
@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_a_quantized_network(leak, kind, tmp_path, run_netx):
    """Stock LIFs from torch, with a readout, whose membrane is the answer."""
    torch.manual_seed(0)
    neuron = snn.neurons.LIF(leak=leak, reset="zero")
    if kind == "dense":
        torch_network = snn.networks.mlp([64, 24, 16, 10], neuron=neuron, steps=6)
    else:
        torch_network = snn.networks.conv_net((1, 8, 8), "8C3-P2-12C3-12", 10, neuron=neuron, steps=6)
    x = 4 * np.random.default_rng(9).random((2, 64), np.float32)
    network = with_whole_biases(snn.quantize(torch_network))
    assert netx_losses(network) == (
        "host weights, which make the input current of the data: give netx the integers of network.encode(x)",
    )
    with pytest.raises(ValueError, match=r"cannot hold this network: host weights.*Pass lossy=True"):
        to_netx(network, tmp_path / "never.net")
    assert not (tmp_path / "never.net").exists()
    image = None if kind == "dense" else network.populations[0].shape
    assert_equal(tmp_path / f"{kind}{leak}.net", network, x, run_netx, image=image, lossy=True)


def test_a_host_that_scales_all_data_alike_is_kept(tmp_path):
    """What netx's input layer says: one factor and one summand for all data."""
    draw = np.random.default_rng(10)
    geometry = ConvShape((3, 4, 5), groups=3)
    host = HostInput(
        "current",
        60,
        targets=("p",),
        weight=np.full((3, 1, 1, 1), 36, np.int32),
        bias=np.full(3, 34 << 10),
        shift=10,
        geometry=geometry,
    )
    populations = lif(draw, "p", 60, bias_mant=0), lif(draw, "q", 8, t_start=1)
    network = FixedNetwork(populations, (Connection("p", "q", even(draw, 8, 60)),), host, 9, "q")
    assert netx_losses(network) == ()
    run = to_netx(network, tmp_path / "input.net")
    assert (run.reset_interval, run.reset_offset, run.first_output) == (network.period, 0, 1)
    again = from_netx(tmp_path / "input.net")
    x = 2 * draw.random((2, 60))
    ours, theirs = snn.emulate(network, x), snn.emulate(again, x)
    assert ours.outputs.any()
    np.testing.assert_array_equal(ours.outputs, theirs.outputs)
    np.testing.assert_array_equal(ours.membranes["q"], theirs.membranes["layer1"])


@pytest.mark.parametrize("seed", range(12))
def test_read_back_into_the_emulator(seed, tmp_path):
    """Chains of all kinds: file and network have the same spikes and membranes in every layer."""
    draw = np.random.default_rng(seed)
    network = image_chain(seed) if seed % 3 == 0 else dense_chain(seed, t_start=0) if seed % 3 == 1 else dense_chain(seed)
    if seed % 3 == 1:
        n, m = network.connections[1].shape
        delayed = replace(network.connections[1], delay=draw.integers(0, 63, (n, m)))
        network = replace(network, connections=(network.connections[0], delayed))
    run = to_netx(network, tmp_path / "net.net")
    again = from_netx(tmp_path / "net.net", timing="running" if run.reset_interval is None else "samples")
    x = spikes(draw, network.steps, 4, network.host.size)
    ours, theirs = snn.emulate(network, x), snn.emulate(again, x)
    assert ours.spikes[network.output].any()
    for one, other in zip(network.populations, again.populations, strict=True):
        assert other.t_start == one.t_start
        assert other.shape == one.shape
        np.testing.assert_array_equal(ours.spikes[one.name], theirs.spikes[other.name])
        np.testing.assert_array_equal(ours.membranes[one.name], theirs.membranes[other.name])


def refused_networks() -> dict[str, tuple[FixedNetwork, str]]:
    draw = np.random.default_rng(11)
    good = dense_chain(11)
    p1, p2 = good.populations
    first, second = good.connections
    soft = replace(p1, kind="soft_reset_lif", du=4095)
    skip = Connection("input", "p2", even(draw, 5, 7))
    loop = Connection("p2", "p2", even(draw, 5, 5))
    geometry = ConvShape((1, 3, 3))

    def changed(populations: Any = (p1, p2), connections: Any = (first, second), **options: Any) -> FixedNetwork:
        return replace(good, populations=populations, connections=connections, **options)

    return {
        "soft reset": (changed((soft, p2)), "reset by subtraction"),
        "skip connection": (changed(connections=(first, second, skip)), "chains of layers only"),
        "parallel connections": (changed(connections=(first, second, replace(second, label="again"))), "or are parallel"),
        "parallel loops": (
            changed((replace(p1, t_start=0), replace(p2, t_start=0)), (first, second, loop, replace(loop, label="again"))),
            "or are parallel",
        ),
        "output inside": (changed(output="p1"), "is not the last layer"),
        "fine bias": (changed((replace(p1, bias_mant=3, bias_exp=1), p2)), "biases in 1/64 weight unit"),
        "zero weights": (
            changed(connections=(replace(first, weight=0 * np.asarray(first.weight)), second)),
            "all of them are 0",
        ),
        "initial state": (
            changed((replace(p1, v_init=5, t_start=0), replace(p2, t_start=0))),
            "an initial state, or resets at fixed times",
        ),
        "rounding exponent": (changed(connections=(replace(first, exponent=-3), second)), "rounds sums"),
        "large weights": (changed(connections=(replace(first, exponent=3), second)), "netx cannot load, or would clip"),
        "late layer": (
            changed((p1, replace(p2, t_start=4)), (first, replace(second, delay=2))),
            "first active steps",
        ),
        "delay in a convolution": (
            FixedNetwork(
                (lif(draw, "a", 4, t_start=3),),
                (Connection("input", "a", even(draw, 1, 1, 2, 2), geometry=geometry, delay=2),),
                HostInput("spikes", 9),
                4,
                "a",
            ),
            "drops without a word",
        ),
        "signed graded input": (changed(host=HostInput("graded", 7, largest=1000)), "8-bit payloads"),
    }


@pytest.mark.parametrize("name", refused_networks())
def test_what_netx_cannot_express_is_refused(name, tmp_path):
    network, text = refused_networks()[name]
    assert [loss for loss in netx_losses(network) if text in loss], netx_losses(network)
    with pytest.raises(ValueError, match="cannot hold this network: .*" + text):
        to_netx(network, tmp_path / "no.net", lossy=True)
    assert list(tmp_path.iterdir()) == []


def test_a_reset_by_subtraction_is_never_written(tmp_path):
    network = random_case(0, depth=2).network
    assert any("reset='zero'" in loss for loss in netx_losses(network))
    with pytest.raises(ValueError, match="Train with reset='zero'"):
        to_netx(network, tmp_path / "no.net", lossy=True)


def test_whole_biases_are_the_nearest_ones():
    population = Population("p", 4, "lif", t_start=1, bias_mant=[-33, -32, 31, 32], bias_exp=0)
    connection = Connection("input", "p", [[2], [2], [2], [2]])
    whole = with_whole_biases(FixedNetwork((population,), (connection,), HostInput("spikes", 1), 3, "p"))
    assert list(np.asarray(whole.populations[0].bias_mant)) == [-1, 0, 0, 1]
    assert whole.populations[0].bias_exp == 6


def test_wrong_arguments(tmp_path):
    with pytest.raises(TypeError, match="to_netx takes a FixedNetwork"):
        to_netx("net", tmp_path / "no.net")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="lossy is 1; it must be True or False"):
        to_netx(dense_chain(0), tmp_path / "no.net", lossy=1)  # type: ignore[arg-type]


def test_an_interrupted_write_keeps_the_old_file(tmp_path, monkeypatch):
    from lava_snnlearn.interchange import netx

    path = tmp_path / "kept.net"
    to_netx(dense_chain(0), path)
    before = path.read_bytes()

    def full(network: Any, file: Any) -> None:
        file.create_group("layer")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(netx, "write", full)
    with pytest.raises(OSError, match="No space left"):
        to_netx(dense_chain(1), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
