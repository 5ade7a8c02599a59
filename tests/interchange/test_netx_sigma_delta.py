"""Sigma-delta networks of lava-dl: ground truth of its package, netx on the simulator, stock processes where sums wrap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lava_snnlearn.checks import LimitError
from lava_snnlearn.files import FileFormatError
from lava_snnlearn.interchange import from_netx, read_sigma_delta
from lava_snnlearn.lava_presence import require_lava


def neuron(vth: int, **more: Any) -> dict[str, Any]:
    return {"type": "SDNN", "activation": "relu", "vThMant": vth} | more


def test_pilotnet(shipped):
    """Nine layers, five of them convolutions: every value of the output, from the first step on."""
    network = read_sigma_delta(shipped("pilotnet_sdnn/network.net"))
    x = np.load(shipped("pilotnet_sdnn/input.npy"))[..., 0].transpose(2, 1, 0).reshape(1, -1)
    trace = network.run(x, 9)
    np.testing.assert_array_equal(trace.sent["layer9"][:, 0].T, np.load(shipped("pilotnet_sdnn/output.npy")))
    assert not any(trace.wrapped.values())


def test_a_part_without_input_and_output_neurons(shipped):
    """The same network up to its first dense layers, from a square image."""
    network = read_sigma_delta(shipped("pilotnet_sdnn/square_network.net"))
    assert [layer.kind for layer in network.layers] == ["delta"] + ["sigma_delta"] * 4
    x = np.random.default_rng(0).integers(-60, 60, (4, 2, 3 * 33 * 33))
    whole = network.run(x)
    # Sums of what a neuron sends are its activation, if its threshold is 0 (bits behind the payload's point apart).
    sent = whole.sent["layer0"].cumsum(0)
    np.testing.assert_array_equal(sent, x << 6)


def small(seed: int) -> tuple[dict[str, Any], ...]:
    """Layers of a small network."""
    draw = np.random.default_rng(seed)
    return (
        {"type": np.array(["input"], "S10"), "shape": [2, 5, 4], "neuron": neuron(2)},
        {
            "type": np.array(["conv"], "S10"),
            "shape": [3, 3, 2],
            "weight": draw.integers(-40, 41, (3, 2, 3, 3)).astype(np.float32),
            **{"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1},
            "bias": draw.integers(-9, 10, 3),
            "neuron": neuron(3),
        },
        {"type": np.array(["flatten"], "S10"), "shape": [18]},
        {
            "type": np.array(["dense"], "S10"),
            "shape": [6],
            "weight": draw.integers(-50, 51, (6, 18)).astype(np.float32),
            "bias": draw.integers(-9, 10, 6),
            "neuron": neuron(1),
        },
        {
            "type": np.array(["dense"], "S10"),
            "shape": [2],
            "weight": draw.integers(-50, 51, (2, 6)).astype(np.float32),
            "neuron": neuron(0, sigma_output=True),
        },
    )


@pytest.mark.parametrize("spike_exp", [6, 2])
def test_netx_on_the_simulator(spike_exp, tmp_path, write_netx):
    """Data that change at every step; odd weights, thresholds and biases in all layers."""
    require_lava()
    from lava.lib.dl.netx.hdf5 import Network
    from lava.proc.io.source import RingBuffer

    from lava_snnlearn.lava_backend import run_guarded
    from lava_snnlearn.processes.recorder.process import Recorder

    path, steps = write_netx(tmp_path / f"small{spike_exp}.net", *small(spike_exp)), 20
    x = np.cumsum(np.random.default_rng(1).integers(-4, 5, (steps, 1, 40)), axis=0)
    ours = read_sigma_delta(path, spike_exp=spike_exp).run(x)
    net = Network(net_config=str(path), spike_exp=spike_exp)
    source = RingBuffer(data=np.ascontiguousarray(x[:, 0].T.reshape(2, 5, 4, steps).transpose(2, 1, 0, 3)))
    source.s_out.connect(net.in_layer.neuron.a_in)
    recorder = Recorder(shape=(2,), steps=steps)
    net.out.connect(recorder.s_in)
    run_guarded(source, steps)
    assert len(np.unique(ours.sent["layer4"])) > 20
    np.testing.assert_array_equal(recorder.spikes, ours.sent["layer4"][:, 0])
    # Thresholds hold something back in every layer.
    assert all((ours.sent[f"layer{i}"] == 0).any() and ours.sent[f"layer{i}"].any() for i in (0, 1, 3))


@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_sums_wrap_as_in_lava(kind, tmp_path, write_netx):
    """Payloads so large that 32 bits (of Conv 24) do not hold the sums: stock processes, and the count."""
    require_lava()
    from lava.proc.conv.process import Conv
    from lava.proc.dense.process import Dense
    from lava.proc.sdn.process import SigmaDelta

    from lava_snnlearn.lava_backend.driver import InProcessModel

    draw = np.random.default_rng(2)
    x = draw.integers(-(1 << 22), 1 << 22, (6, 1, 90 if kind == "dense" else 9))
    if kind == "dense":
        weight = draw.integers(-127, 128, (4, 90))
        layer = {"type": np.array(["dense"], "S10"), "shape": [4], "weight": weight, "neuron": neuron(3)}
        first = {"type": np.array(["input"], "S10"), "shape": [90]}
        synapse = InProcessModel(Dense(weights=2 * weight, weight_exp=-1, num_message_bits=16))
    else:
        weight = draw.integers(-127, 128, (4, 1, 2, 2))
        layer = {"type": np.array(["conv"], "S10"), "shape": [4, 2, 2], "weight": weight, "neuron": neuron(3)}
        first = {"type": np.array(["input"], "S10"), "shape": [1, 3, 3]}
        kernel = np.ascontiguousarray(weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1))
        synapse = InProcessModel(Conv(weight=kernel, input_shape=(3, 3, 1), num_message_bits=16))
    path = write_netx(tmp_path / "wide.net", first, layer)
    trace = read_sigma_delta(path).run(x)
    shape = (4,) if kind == "dense" else (2, 2, 4)
    neurons = InProcessModel(SigmaDelta(shape=shape, vth=3, bias=0, spike_exp=6, state_exp=6))
    words = x.astype(np.int32)  # as a source's port sends them; in 64 bits the stock model would not wrap
    for t in range(6):
        image = words[t, 0] if kind == "dense" else words[t, 0].reshape(1, 3, 3).transpose(2, 1, 0)
        sent = neurons.step(a_in=synapse.step(s_in=image)["a_out"])["s_out"]
        sent = sent if kind == "dense" else sent.transpose(2, 1, 0).reshape(-1)
        np.testing.assert_array_equal(trace.sent["layer1"][t, 0], sent)
    assert trace.wrapped["layer1"] > 5


REFUSED = {
    "spiking": ({"neuron": {"type": "CUBA", "vThMant": 3}}, "expected SDNN with relu"),
    "unit activation": ({"neuron": neuron(3, activation="unit")}, "with activation 'unit'"),
    "delays": ({"delay": np.ones(2)}, "do not take"),
    "threshold": ({"neuron": neuron(-1)}, "neuron/vThMant is -1"),
    "bias": ({"bias": np.ones(5)}, r"bias has shape \(5,\)"),
    "biased output": ({"bias": np.ones(2), "neuron": neuron(0, sigma_output=True)}, "does not take"),
    "weight": ({"weight": np.ones((3, 3))}, "shape that fits"),
    "type": ({"type": np.array(["pool"], "S10")}, "have input, dense, conv and flatten"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name, tmp_path, write_netx):
    changes, text = REFUSED[name]
    layer = {"type": np.array(["dense"], "S10"), "shape": [2], "weight": np.full((2, 3), 2), "neuron": neuron(3)} | changes
    with pytest.raises(FileFormatError, match=text):
        read_sigma_delta(write_netx(tmp_path / "no.net", layer))


def test_arguments(tmp_path, write_netx):
    path = write_netx(tmp_path / "small.net", *small(0))
    with pytest.raises(FileFormatError, match=r"interchange\.read_sigma_delta reads such networks"):
        from_netx(path, 5)
    network = read_sigma_delta(path)
    with pytest.raises(TypeError, match="take integers"):
        network.run(np.zeros((3, 1, 40)))
    with pytest.raises(ValueError, match=r"expected \[T, batch, 40\], or \[batch, 40\] and steps"):
        network.run(np.zeros((1, 40), int))
    with pytest.raises(LimitError, match="24 bits"):
        network.run(np.full((3, 1, 40), 1 << 23))
    with pytest.raises(LimitError, match="spike_exp is 8"):
        read_sigma_delta(path, spike_exp=8)
