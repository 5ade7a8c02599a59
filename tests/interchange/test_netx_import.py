"""Networks of lava-dl in the emulator: ground truth that its package ships, slayer itself, netx's own weights."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import lava_snnlearn as snn
from lava_snnlearn.checks import LimitError, UnknownNameError
from lava_snnlearn.files import FileFormatError
from lava_snnlearn.interchange import NetxRun, from_netx
from lava_snnlearn.interchange.netx_weights import as_synapses, effective, kept_by_netx
from lava_snnlearn.lava_presence import require_lava


@pytest.fixture
def truth(shipped: Any) -> Any:
    """Name -> ground truth that lava-dl ships."""
    return lambda name: np.load(shipped(f"gts/{name}.npy"))


def in_rows(values: NDArray[Any]) -> NDArray[Any]:
    """Ground truth [W, H, C, T] or [n, T] as [T, n] in the order C, H, W."""
    return values.transpose(*range(values.ndim - 2, -1, -1), values.ndim - 1).reshape(-1, values.shape[-1]).T


def test_tinynet(shipped, truth):
    """Input neurons and two convolutions, 92 output spikes; the ground truth begins one step earlier, with silence."""
    network = from_netx(shipped("tiny.net"), steps=15)
    bias = truth("tinynet/input_bias").transpose(2, 1, 0).reshape(1, -1).astype(int)
    trace = snn.emulate(network, bias)
    for name, file in (("layer0", "input"), ("layer1", "layer1"), ("layer2", "output")):
        expected = truth(f"tinynet/{file}")[0]
        ours = trace.spikes[name][:, 0]
        assert not expected[..., 0].any()
        assert ours.any()
        np.testing.assert_array_equal(ours, expected[..., 1:].reshape(-1, 15).T, err_msg=name)


def test_pilotnet(shipped, truth):
    """Input neurons, five convolutions, flatten, three dense layers: every spike of every layer, each l steps behind."""
    network = from_netx(shipped("gts/pilotnet_lif/network.net"))
    assert network.steps == 16
    assert network.population("layer10").kind == "accumulator"
    image = truth("pilotnet_lif/image").transpose(2, 1, 0).reshape(1, -1)
    trace = snn.emulate(network, image.astype(int), record="spikes")
    files = {0: "input"} | {i + 1: f"conv-{i}" for i in range(5)} | {i + 7: f"fc-{i}" for i in range(3)}
    for place, (layer, file) in enumerate(files.items()):
        expected = in_rows(truth(f"pilotnet_lif/{file}"))[place:][:16]
        assert expected.any()
        assert len(expected) == 16
        np.testing.assert_array_equal(trace.spikes[f"layer{layer}"][:, 0], expected, err_msg=file)


def test_ntidigits(shipped, truth):
    """Axonal delays up to 62 steps, 3000 steps, 22572 output spikes; the last layer averages groups of 22 neurons."""
    network = from_netx(shipped("gts/ntidigits/ntidigits.net"))
    assert network.steps == 3000
    assert max(c.max_delay for c in network.connections) == 62
    x = truth("ntidigits/input").T[:, None].astype(int)
    trace = snn.emulate(network, x, record="spikes")
    expected = truth("ntidigits/output").T
    assert expected.sum() == 22572
    assert not expected[0].any()
    # The ground truth begins one step earlier, with silence.
    np.testing.assert_array_equal(trace.spikes["layer4"][:-1, 0], expected[1:])
    # What is sent in the last step is not heard any more.
    counts = expected[1:].reshape(2999, 11, 22).sum((0, 2))
    np.testing.assert_array_equal(trace.outputs[0], 2 * 64 * counts)
    assert "membrane / 2816" in network.notes[-2]


def test_mnist(shipped, run_netx):
    """No ground truth is shipped for it: netx itself on the simulator, where the readout is a current that never leaks."""
    network = from_netx(shipped("mnist.net"))
    x = np.random.default_rng(0).random((1, 784), np.float32) ** 4
    ours = snn.emulate(network, x)
    theirs = run_netx(shipped("mnist.net"), NetxRun(None, 0, 0, first_output=3, one_by_one=True), network.encode(x))
    assert ours.membranes["layer3"].any()
    np.testing.assert_array_equal(theirs.membranes, ours.membranes["layer3"])
    assert [(p.name, p.kind, p.size, p.du, p.dv, p.vth, p.t_start) for p in network.populations[:3]] == [
        ("layer0", "lif", 784, 4095, 123, 80, 0),
        ("layer1", "lif", 512, 4095, 123, 80, 1),
        ("layer2", "lif", 512, 4095, 123, 80, 2),
    ]
    readout = network.populations[3]
    assert (readout.kind, readout.dv, readout.t_start, network.output) == ("accumulator", 0, 3, "layer3")
    # weight * x + bias of the file, 76 and 64, in steps of 1/1024 of x
    np.testing.assert_array_equal(network.encode(np.full((1, 784), 0.25, np.float32))[0, 0], np.full(784, 76 // 4 + 64))


def slayer_network(kind: str) -> Any:
    require_lava()
    from lava.lib.dl import slayer

    block = slayer.block.cuba
    neuron = {"threshold": 1.1, "current_decay": 0.4, "voltage_decay": 0.2}
    torch.manual_seed({"pool": 1, "recurrent": 2, "dense": 3, "conv": 4}[kind])
    if kind == "recurrent":
        blocks = [block.Recurrent(neuron, 8, 10, weight_scale=2.0), block.Dense(neuron, 10, 6, weight_scale=2.0)]
    elif kind == "dense":
        blocks = [block.Dense(neuron, 8, 12, weight_scale=3.0, delay=True), block.Dense(neuron, 12, 6, weight_scale=3.0)]
    else:
        middle = (
            block.Pool(neuron, 2, weight_scale=0.8) if kind == "pool" else block.Conv(neuron, 4, 3, 2, stride=2, weight_scale=3)
        )
        blocks = [
            block.Conv(neuron, 2, 4, 3, padding=1, weight_scale=3.0),
            middle,
            block.Flatten(),
            block.Dense(neuron, (4 if kind == "pool" else 3) * 9, 5, weight_scale=3.0),
        ]
    return torch.nn.Sequential(*blocks)


@pytest.mark.parametrize("kind", ["dense", "conv", "pool", "recurrent"])
def test_what_slayer_trained(kind, tmp_path):
    """slayer's forward, its export, our import: every output spike. Pooling layers netx itself does not load."""
    net, steps = slayer_network(kind), 40
    image = kind in ("conv", "pool")
    draw = np.random.default_rng(1)
    x = (draw.random((3, *((2, 6, 6) if image else (8,)), steps)) < 0.3).astype(np.float32)
    with torch.no_grad():
        if kind == "dense":
            net(torch.from_numpy(x))  # makes the delays
            net[0].delay.delay.data = torch.from_numpy(draw.integers(0, 9, net[0].delay.delay.shape).astype(np.float32))
        expected = net(torch.from_numpy(x)).numpy()
    path = tmp_path / "slayer.net"
    with h5py.File(path, "w") as file:
        layers = file.create_group("layer")
        for i, one in enumerate(net):
            one.export_hdf5(layers.create_group(str(i)))
    network = from_netx(path, steps=steps, timing="running", input_shape=(2, 6, 6) if image else None)
    trace = snn.emulate(network, x.reshape(3, -1, steps).transpose(2, 0, 1).astype(int))
    ours = trace.spikes[network.output]
    assert ours.sum() > 60
    # slayer's last block shifts its spikes by a step, which in Lava is the way to the next layer.
    np.testing.assert_array_equal(ours, expected.transpose(2, 0, 1))


@pytest.mark.parametrize("seed", range(4))
def test_weights_are_those_of_netx(seed):
    """Random matrices, among them all shapes that netx clips or garbles: what its own code and Lava's Dense make of them."""
    require_lava()
    from lava.lib.dl.netx.utils import optimize_weight_bits
    from lava.proc.dense.process import Dense

    from lava_snnlearn.lava_backend.driver import InProcessModel

    draw = np.random.default_rng(seed)
    kept_whole = lost = 0
    for _ in range(60):
        low, high = sorted(
            int(n) for n in draw.choice([-300, -256, -255, -200, -128, -127, -60, -3, -1, 0, 2, 40, 127, 130, 254, 255, 270], 2)
        )
        weight = draw.integers(low, high + 1, (3, 5)) * int(draw.choice([1, 1, 2, 4]))
        kept = kept_by_netx(weight)
        if not weight.any():
            assert kept is None
            continue
        with np.errstate(divide="ignore"):
            matrix, bits, exponent, _ = optimize_weight_bits(weight.copy())
        if exponent > 0 or bits > 9 or (bits > 8 and not (matrix.min() < 0 < matrix.max())):
            assert kept is None
            lost += 1
            continue
        dense = InProcessModel(Dense(weights=matrix, weight_exp=exponent, num_weight_bits=bits))
        columns = []
        for j in range(6):
            columns.append(dense.step(s_in=np.arange(5) == j)["a_out"])
        netx = np.stack(columns[1:], axis=1)
        if kept is not None:
            np.testing.assert_array_equal(kept, netx, err_msg=str(weight))
            kept_whole += int((kept == weight).all())
        else:
            assert not np.array_equal(netx, weight)
            lost += 1
    assert kept_whole > 20
    assert lost > 2


@pytest.mark.parametrize("delayed", [False, True])
def test_every_weight_has_a_synapse_or_is_refused(delayed):
    draw = np.random.default_rng(5)
    refused = 0
    for _ in range(200):
        low, high = sorted(int(n) for n in draw.integers(-260, 260, 2))
        weight = draw.integers(low, high + 1, (2, 3))
        spans = [range(-256, 255, 2), range(256), range(-255, 1)] + ([] if delayed else [range(-128, 128)])
        if not any(all(int(w) in span for w in weight.flat) for span in spans):
            with pytest.raises(LimitError, match="of mixed sign a synapse holds"):
                as_synapses("weight", weight, delayed)
            refused += 1
            continue
        parts = as_synapses("weight", weight, delayed)
        connection = snn.fixed_point.graph.Connection("input", "p", delay=int(delayed), **parts)
        np.testing.assert_array_equal(effective(np.asarray(connection.weight), connection.exponent), weight)
    assert 0 < refused < 200


def layer(kind: str, **entries: Any) -> dict[str, Any]:
    return {"type": np.array([kind], "S10")} | entries


def neuron(**changes: Any) -> dict[str, Any]:
    return {"type": "CUBA", "iDecay": 4096, "vDecay": 100, "vThMant": 20} | changes


def dense(**changes: Any) -> dict[str, Any]:
    return layer("dense", shape=np.array([2]), weight=np.array([[2, 4, -6], [8, 0, 2]], np.float32), neuron=neuron()) | changes


def conv(**changes: Any) -> dict[str, Any]:
    kernel = np.full((2, 1, 3, 3), 2, np.float32)
    return (
        layer("conv", shape=np.array([2, 2, 2]), weight=kernel, stride=1, padding=0, dilation=1, groups=1, neuron=neuron())
        | changes
    )


IMAGE = layer("input", shape=np.array([1, 4, 4]))
REFUSED = {
    "no layers": ((), "no group 'layer'"),
    "convT": ((dense(), layer("convT")), r"layer 1 \(convT\) is not supported; supported are input, dense"),
    "complex": ((dense(weight={"real": np.ones((2, 3)), "imag": np.ones((2, 3))}),), "resonate-and-fire"),
    "adaptive": ((dense(neuron=neuron(type="ALIF")),), "neurons of the type 'ALIF' are not supported"),
    "graded": ((dense(neuron=neuron(gradedSpike=True)),), "graded spikes"),
    "no threshold": ((dense(neuron={"type": "CUBA", "iDecay": 1, "vDecay": 1}),), "neuron/vThMant is None"),
    "no weight": ((layer("dense", shape=np.array([2])),), "has no weight"),
    "silent hidden layer": ((layer("dense", weight=np.ones((2, 3))), dense(weight=np.ones((2, 2)))), "has no neuron"),
    "wide": ((dense(weight=np.ones((3, 3))),), "expected .n_out, n_in. with n_out = 2"),
    "mismatch": ((dense(), dense()), "the layer before has the shape"),
    "image unflattened": ((IMAGE, conv(), dense(weight=np.ones((2, 8)))), "flattened first"),
    "conv of rows": ((layer("input", shape=np.array([16])), conv()), "hears no image"),
    "conv of nothing": ((conv(),), "hears no image"),
    "conv shape": ((IMAGE, conv(shape=np.array([2, 3, 3]))), r"the convolution makes \(2, 2, 2\)"),
    "conv delay": ((IMAGE, conv(delay=np.ones(2))), "netx drops without a word"),
    "late input": ((dense(), layer("input", shape=np.array([2]))), "must be layer 0"),
    "recurrent delay": (
        (dense(type=np.array(["dense_rec"], "S10"), weight_rec=np.ones((2, 2)), delay=np.ones(2)),),
        "netx does not run them",
    ),
    "delay shape": ((dense(delay=np.ones(5)),), r"delay has shape \(5,\)"),
    "bias shape": ((dense(bias=np.ones(5)),), r"bias has shape \(5,\)"),
    "average of thirds": ((dense(), layer("average", shape=np.array([3]))), "equal groups"),
    "no type": (({"weight": np.ones((2, 3))},), "has no type"),
    "text weight": ((dense(weight="heavy"),), "must be an array of numbers"),
    "empty weight": ((dense(weight=np.ones((2, 0))),), "must be an array of numbers"),
    "long stride": ((IMAGE, conv(stride=np.ones(3))), "expected one, or rows and columns"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name, tmp_path, write_netx):
    layers, text = REFUSED[name]
    path = write_netx(tmp_path / "no.net", *layers)
    with pytest.raises(FileFormatError, match=text) as caught:
        from_netx(path, steps=4)
    assert str(path) in str(caught.value)


LIMITS = {
    "fraction": (dense(weight=np.full((2, 3), 0.5)), "holds 0.5; it must hold whole numbers"),
    "nan": (dense(weight=np.full((2, 3), np.nan)), "holds nan"),
    "huge": (dense(weight=np.full((2, 3), 1e30)), "whole numbers of 32 bits"),
    "nine bits": (dense(weight=np.array([[-201, 5, 3], [1, 1, 199]])), "odd ones among them"),
    "garbled": (dense(weight=np.full((2, 3), 300)), "netx has no whole numbers for its weights from 300 to 300"),
    "threshold": (dense(neuron=neuron(vThMant=1 << 18, iDecay=7), bias=np.full(2, 5001)), "bias_mant is 5001"),
    "leak": (dense(neuron=neuron(vDecay=5000)), "dv is 5000"),
    "current": (dense(neuron=neuron(iDecay=-1)), "du is -2"),
    "negative delay": (dense(delay=np.array([-1, 0])), "delay is -1"),
}


@pytest.mark.parametrize("name", LIMITS)
def test_values_out_of_range(name, tmp_path, write_netx):
    entries, text = LIMITS[name]
    with pytest.raises(LimitError, match=text):
        from_netx(write_netx(tmp_path / "no.net", entries), steps=4)


def test_hidden_layers_have_thresholds_of_17_bits(tmp_path, write_netx):
    path = write_netx(tmp_path / "no.net", dense(neuron=neuron(vThMant=1 << 18)), dense(weight=np.ones((2, 2))))
    with pytest.raises(LimitError, match="vth is 262144"):
        from_netx(path, steps=4)


def test_what_is_noted(tmp_path, write_netx):
    """What netx ignores or clips, one line each."""
    entries = dense(weight=np.array([[2, 4, -6], [8, 0, 300]]), delay=np.array([70, 0]), neuron=neuron(refDelay=3, wgtExp=2))
    network = from_netx(write_netx(tmp_path / "noted.net", entries), steps=4)
    text = "\n".join(network.notes)
    for part in ("refDelay is 3", "wgtExp is 2", "1 weights are not kept", "delays up to 70 are held at 62", "running: all"):
        assert part in text
    assert np.asarray(network.connections[0].weight).max() == 254
    np.testing.assert_array_equal(network.connections[0].delay, [[62] * 3, [0] * 3])


def test_a_last_layer_that_never_fires_answers_by_its_membrane(tmp_path, write_netx):
    """slayer's Affine: 2^18 - 1 as threshold, beyond the chip's 17 bits."""
    slow = dense(neuron=neuron(vThMant=(1 << 18) - 1))
    network = from_netx(write_netx(tmp_path / "slow.net", slow), steps=4)
    assert network.populations[0].kind == "accumulator"
    assert network.populations[0].dv == 100
    filtered = dense(neuron=neuron(vThMant=(1 << 18) - 1, iDecay=100))
    network = from_netx(write_netx(tmp_path / "filtered.net", filtered), steps=4)
    assert (network.populations[0].kind, network.populations[0].vth) == ("lif", (1 << 17) - 1)
    assert "Trace.membranes" in network.notes[0]


def test_delays_by_input_and_by_synapse(tmp_path, write_netx):
    by_input = from_netx(write_netx(tmp_path / "a.net", dense(delay=np.array([3, 1, 2]))), steps=4)
    np.testing.assert_array_equal(by_input.connections[0].delay, [[3, 1, 2]] * 2)
    matrix = np.array([[3, 1, 2], [0, 5, 0]])
    by_synapse = from_netx(write_netx(tmp_path / "b.net", dense(delay=matrix)), steps=4)
    np.testing.assert_array_equal(by_synapse.connections[0].delay, matrix)


def test_arguments(tmp_path, write_netx):
    path = write_netx(tmp_path / "net.net", dense())
    with pytest.raises(ValueError, match="does not say the steps of a sample; pass steps"):
        from_netx(path)
    assert from_netx(write_netx(tmp_path / "steps.net", dense(), simulation={"Ts": 2, "tSample": 64})).steps == 32
    with pytest.raises(UnknownNameError, match=r"unknown timing 'sample'\. Did you mean 'samples'"):
        from_netx(path, 4, timing="sample")
    with pytest.raises(ValueError, match="steps is 0; it must be at least 1"):
        from_netx(path, 0)
    delayed = write_netx(tmp_path / "delays.net", dense(delay=np.ones(2)), dense(weight=np.eye(2, dtype=np.float32) * 2))
    assert [[p.t_start for p in from_netx(delayed, 4, timing=t).populations] for t in ("samples", "running")] == [
        [1, 2],
        [0, 0],
    ]
    loud = write_netx(
        tmp_path / "loud.net",
        dense(),
        dense(weight=np.eye(2, dtype=np.float32), delay=np.ones(2), bias=np.array([0.0, 4000.0]), neuron=neuron(vDecay=4096)),
    )
    with pytest.raises(ValueError, match="neuron 1 alone makes it spike before"):
        from_netx(loud, 4, timing="samples")
    with pytest.raises(FileFormatError, match="does not exist"):
        from_netx(tmp_path / "none.net", 4)
