"""Networks of the library as NIR graphs and back; against NIR's equations, written out here as slow loops."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import nir
import numpy as np
import pytest
import torch

import lava_snnlearn as snn
from lava_snnlearn.checks import LimitError, UnknownNameError
from lava_snnlearn.fixed_point.graph import Connection, HostInput, Population
from lava_snnlearn.interchange import fixed_from_nir, from_nir, nir_losses, to_nir

DT = 1e-4
STEPS = 24


def _spikes(n: int, batch: int = 6, rate: float = 0.4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return (torch.rand(STEPS, batch, n, generator=generator) < rate).float()


def _mlp(**options: Any) -> Any:
    torch.manual_seed(3)
    neuron = options.pop("neuron", snn.neurons.LIF(leak=0.3, reset="zero"))
    network = snn.networks.mlp([12, 16, 14, 5], neuron, steps=STEPS, **{"norm": "none"} | options).eval()
    with torch.no_grad():
        for layer in network.spiking_layers:
            layer.bias.add_(0.05 * torch.randn_like(layer.bias))
    return network


def _same(first: Any, second: Any, x: torch.Tensor, tolerance: float = 0.0) -> None:
    """Equal spike trains of all layers, which are neither silent nor full; equal readouts."""
    a, b = first.simulate(x), second.simulate(x)
    for mine, theirs in zip(a.layers, b.layers, strict=True):
        assert 0.01 < float(mine.spike.mean()) < 0.9
        assert torch.equal(mine.spike, theirs.spike)
    assert float((a.outputs - b.outputs).abs().max()) <= tolerance


@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"neuron_leak": 0.0},
        {"recurrent": True},
        {"delays": "synaptic", "max_delay": 3},
        {"delays": "axonal", "max_delay": 3},
        {"delays": "synaptic", "max_delay": 2, "recurrent": True, "delay_input": True},
    ],
    ids=str,
)
def test_round_trip_is_exact(tmp_path: Any, options: dict[str, Any], reset: str) -> None:
    options = dict(options)
    neuron = snn.neurons.LIF(leak=options.pop("neuron_leak", 0.3), reset=reset)
    network = _mlp(neuron=neuron, **options)
    path = tmp_path / "net.nir"
    to_nir(network, path, annotate=True)
    back = from_nir(path)
    assert back.steps == STEPS
    assert back.layers[0].neuron.leak == neuron.leak
    assert back.layers[0].neuron.reset == reset
    _same(network, back, _spikes(12))
    for mine, theirs in zip(network.spiking_layers, back.spiking_layers, strict=True):
        if mine.delays is not None:
            used = mine.delays.matrix()
            assert torch.equal(used, theirs.delays.matrix())


@pytest.mark.parametrize("encoding", ["direct", "rate", "latency"])
def test_the_encoding_is_kept_or_chosen(encoding: str) -> None:
    """How samples become spikes: the graph's metadata say it, the argument overrules them."""
    network = _mlp(encoding=encoding)
    x = torch.rand(6, 12, generator=torch.Generator().manual_seed(1)) * (4 if encoding == "direct" else 1)

    def spikes(net: Any) -> torch.Tensor:
        return net.eval().simulate(x).layers[0].spike  # while it trains, the rate code draws anew

    graph = to_nir(network)
    kept, direct = from_nir(graph), from_nir(graph, encoding="direct")
    assert (kept.encoding, direct.encoding) == (encoding, "direct")
    assert spikes(network).any()
    assert torch.equal(spikes(kept), spikes(network))
    assert torch.equal(spikes(direct), spikes(network)) == (encoding == "direct")
    graph.metadata.clear()
    assert from_nir(graph, steps=STEPS).encoding == "direct"
    assert torch.equal(spikes(from_nir(graph, steps=STEPS, encoding=encoding)), spikes(network))
    assert fixed_from_nir(graph, steps=STEPS, encoding=encoding).host.encoding == encoding
    with pytest.raises(UnknownNameError, match="latency"):
        from_nir(graph, steps=STEPS, encoding="latencies")


@pytest.mark.parametrize("norm", ["sws", "bn_step"])
def test_norms_are_folded(norm: str) -> None:
    network = _mlp(norm=norm)
    with torch.no_grad():
        for layer in network.spiking_layers:
            if layer.batch_norm is not None:
                layer.batch_norm.running.mean.uniform_(-0.3, 0.3)
                layer.batch_norm.running.variance.uniform_(0.1, 0.4)
    _same(network, from_nir(to_nir(network)), _spikes(12), 1e-5)


def test_maps_pools_and_feedback(tmp_path: Any) -> None:
    torch.manual_seed(0)
    feedback = snn.networks.Synapse((4, 6, 6), 4, kernel=3, bias=False)
    network = snn.networks.conv_net(
        (2, 12, 12), "4C3-P2-4C3", 5, snn.neurons.LIF(reset="zero"), norm="none", steps=STEPS
    ).eval()
    graph = to_nir(network, tmp_path / "net.nir")
    pools = [node for node in graph.nodes.values() if isinstance(node, nir.AvgPool2d)]
    assert len(pools) == 1
    assert [type(graph.nodes[name]) for name in ("input_to_layer1", "layer1_to_layer2", "readout")] == [
        nir.Conv2d,
        nir.Conv2d,
        nir.Affine if network.readout.bias.any() else nir.Linear,
    ]
    x = torch.rand(4, 288) * 2
    back = from_nir(tmp_path / "net.nir")
    assert back.layers[1].pool == 2
    _same(network, back, x, 1e-6)

    looped = snn.networks.conv_net(
        (2, 12, 12),
        "4C3s2-4C3",
        5,
        snn.neurons.LIF(reset="zero"),
        norm="none",
        steps=STEPS,
        feedback=feedback,
        feedback_delay=3,
    ).eval()
    again = from_nir(to_nir(looped))
    assert again.feedback_delay == 3
    _same(looped, again, x, 1e-6)


def test_global_average_goes_into_the_readout() -> None:
    torch.manual_seed(0)
    network = snn.networks.conv_net((2, 6, 6), "4C3-GAP", 3, snn.neurons.LIF(reset="zero"), norm="none", steps=STEPS).eval()
    _same(network, from_nir(to_nir(network)), torch.rand(4, 72) * 2, 1e-6)


@pytest.mark.parametrize(
    "neuron", [snn.neurons.DSRIF(threshold=2.0), snn.neurons.DSRLIF(), snn.neurons.FeedbackLIF(firing=0.5)]
)
def test_starts_and_amplitudes_survive_with_metadata(neuron: Any) -> None:
    torch.manual_seed(0)
    network = snn.networks.mlp([12, 16, 16, 5], neuron, norm="none", steps=STEPS).eval()
    assert any("starts at" in line for line in nir_losses(network))
    back = from_nir(to_nir(network, annotate=True))
    x = _spikes(12) * 3
    _same(network, back, x, 1e-5)
    # A readout that forgets is a leaky integrator, whose last membrane is the answer.
    assert torch.allclose(network.answer(x), back.answer(x), atol=1e-5)


def test_what_nir_cannot_say_is_refused_with_a_list() -> None:
    network = _mlp(neuron=snn.neurons.FeedbackLIF(leak=0.1, threshold=1.0, firing=0.5))
    losses = nir_losses(network)
    assert len(losses) == 4
    with pytest.raises(LimitError, match="annotate=True") as caught:
        to_nir(network)
    assert all(line in str(caught.value) for line in losses)
    assert nir_losses(_mlp()) == ()


def test_units_of_written_neurons() -> None:
    graph = to_nir(_mlp(neuron=snn.neurons.LIF(leak=0.25, threshold=2.0, reset="zero")), dt=1e-3)
    node = graph.nodes["layer1"]
    assert node.tau.shape == (16,)
    assert np.allclose(node.tau, 4e-3, rtol=1e-12)
    assert (node.r == 1).all()
    assert (node.v_leak == 0).all()
    assert (node.v_reset == 0).all()
    assert (node.v_threshold < 0.5).all()
    assert np.allclose(node.v_threshold, 0.5, rtol=1e-6)
    assert graph.metadata["dt"] == 1e-3


def _euler(graph: Any, x: np.ndarray) -> np.ndarray:
    """NIR's equations of a chain of maps and neurons by forward Euler, spikes at strict >, float32: [T, n] of the last."""
    order, name = [], "input"
    following = dict(graph.edges)
    while name != "output":
        name = following[name]
        order.append(name)
    state = {name: np.float32(0) for name in order}
    out = []
    for frame in x:
        value = frame
        for name in order[:-1]:
            node = graph.nodes[name]
            if isinstance(node, nir.Affine):
                value = node.weight @ value + node.bias
            elif isinstance(node, nir.Linear):
                value = node.weight @ value
            else:
                rate = np.float32(DT) / node.tau * (node.v_leak - state[name] + node.r * value)
                charged = state[name] + rate
                value = (charged > node.v_threshold).astype(np.float32)
                state[name] = np.where(value > 0, node.v_reset, charged)
        out.append(value)
    return np.stack(out)


def test_the_written_graph_means_what_the_network_does() -> None:
    network = _mlp(neuron=snn.neurons.LIF(leak=0.25, reset="zero"))
    x = _spikes(12)
    expected = network(x).detach().numpy()
    graph = to_nir(network)
    found = np.stack([_euler(graph, x[:, b].numpy()) for b in range(x.shape[1])], axis=1)
    assert np.abs(found - expected).max() < 1e-5


def test_a_membrane_that_meets_the_threshold_exactly() -> None:
    neuron = snn.neurons.LIF(leak=0.5, threshold=1.0, reset="zero")
    network = snn.networks.mlp([2, 1, 1], neuron, norm="none", steps=3).eval()
    with torch.no_grad():
        network.layers[0].weight.fill_(0.5)
        network.layers[0].bias.zero_()
        network.readout.weight.fill_(1.0)
    x = torch.ones(3, 1, 2)
    assert network(x).flatten().tolist() == [1, 1, 1]  # 0.5 + 0.5 >= 1
    graph = to_nir(network)
    assert _euler(graph, x[:, 0].numpy()).ravel().tolist() == [1, 1, 1]
    assert from_nir(graph)(x).flatten().tolist() == [1, 1, 1]
    # NIR's own "v > 1" is not met by 1.
    graph.nodes["layer1"].v_threshold = np.array([0.5])  # in units of the scaled membrane
    assert from_nir(graph)(x).flatten().tolist() == [0, 1, 0]


# Integers.


@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("leak", [0.0, 0.25])
@pytest.mark.parametrize("form", ["spikes", "current"])
def test_a_chip_in_real_units(reset: str, leak: float, form: str) -> None:
    network = _mlp(neuron=snn.neurons.LIF(leak=leak, reset=reset))
    x = _spikes(12)
    chip = snn.quantize(network, input=form)
    trace = snn.emulate(chip, x.numpy())
    back = from_nir(to_nir(chip, annotate=True)).simulate(x)
    for index in (0, 1):
        expected = trace.spikes[f"layer{index + 1}"]
        # The chip rounds leaks to membrane units, and the host currents to weight units, which hardly ever changes a spike.
        assert np.mean(back.layers[index].spike.detach().numpy() != expected) <= (
            0.0 if leak == 0 and form == "spikes" else 0.002
        )


@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("options", [{}, {"recurrent": True}, {"delays": "synaptic", "max_delay": 3}], ids=str)
def test_a_chip_comes_back_as_the_same_integers(reset: str, options: dict[str, Any]) -> None:
    chip = snn.quantize(_mlp(neuron=snn.neurons.LIF(leak=0.25, reset=reset), **options), input="spikes")
    again = fixed_from_nir(to_nir(chip, annotate=True))
    assert [p.t_start for p in again.populations[:2]] == [p.t_start for p in chip.populations[:2]]
    x = _spikes(12).numpy()
    first, second = snn.emulate(chip, x), snn.emulate(again, x)
    for name in ("layer1", "layer2"):
        assert first.spikes[name].any()
        assert np.array_equal(first.spikes[name], second.spikes[name])


def test_integrators_come_back_as_the_same_integers() -> None:
    """Without leak potentials are whole weight units, and a threshold between two of them has to stay there."""
    torch.manual_seed(1)
    network = snn.networks.conv_net((1, 8, 8), "4C3-6C3-10", 3, snn.neurons.LIF(leak=0.0, reset="zero"), steps=6)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    chip = snn.quantize(network.eval(), input="spikes")
    again = fixed_from_nir(to_nir(chip))
    x = (np.random.default_rng(1).random((6, 64)) < 0.5).astype(np.float32)
    first, second = snn.emulate(chip, x), snn.emulate(again, x)
    for name in ("layer1", "layer2", "layer3"):
        assert again.population(name).vth == chip.population(name).vth
        assert first.spikes[name].any()
        np.testing.assert_array_equal(first.spikes[name], second.spikes[name])


def test_a_residual_network_as_a_graph() -> None:
    torch.manual_seed(0)
    network = snn.networks.preact_resnet(
        (1, 8, 8), classes=3, neuron=snn.neurons.LIF(leak=0.25), blocks=(1,), width=4, norm="bn_step", steps=8
    ).eval()
    graph = to_nir(network, annotate=True)
    with pytest.raises(LimitError, match="fixed_from_nir"):
        from_nir(graph)
    x = (torch.rand(8, 3, 64) < 0.4).float().numpy()
    expected = snn.emulate(snn.quantize(network, input="spikes"), x)
    found = snn.emulate(fixed_from_nir(graph), x)
    names = [name for name in expected.spikes if name.startswith("layer")]
    assert len(names) > 1
    for name in names:
        assert expected.spikes[name].any()
        assert np.array_equal(expected.spikes[name], found.spikes[name])


def test_parts_of_chips_that_nir_has_no_words_for() -> None:
    weight = np.array([[2, 5], [4, 3]])
    population = Population("a", 2, "lif", vth=10, reset_interval=4)
    relay = Population("b", 2, "relay")
    network = snn.FixedNetwork(
        (population, relay),
        (
            Connection("input", "a", weight, exponent=-2, sign_mode="excitatory"),
            Connection("a", "b", 2 * weight),
        ),
        HostInput("spikes", 2),
        4,
        "b",
    )
    with pytest.raises(LimitError) as caught:
        to_nir(network)
    for part in ("'relay'", "resets at fixed times", "shifted right"):
        assert part in str(caught.value)


# CubaLIF.


def _cuba(n: int, m: int, recurrent: bool) -> tuple[Any, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    forward, own = rng.integers(-60, 61, (m, n)) / 32, rng.integers(-20, 21, (m, m)) / 32
    full = np.ones(m)
    tau_mem, tau_syn = full * DT / 0.25, full * DT / 0.5
    neurons = nir.CubaLIF(
        tau_mem=tau_mem, tau_syn=tau_syn, r=tau_mem / DT, v_leak=0 * full, v_threshold=full, v_reset=0 * full, w_in=tau_syn / DT
    )
    nodes = {
        "input": nir.Input({"input": np.array([n])}),
        "w": nir.Linear(forward),
        "cuba": neurons,
        "output": nir.Output({"output": np.array([m])}),
    }
    edges = [("input", "w"), ("w", "cuba"), ("cuba", "output")]
    if recurrent:
        nodes["own"] = nir.Linear(own)
        edges += [("cuba", "own"), ("own", "cuba")]
    return nir.NIRGraph(nodes, edges), forward, own if recurrent else 0 * own


def test_neurons_that_cannot_wait_run_from_the_start() -> None:
    """They forget everything in every step, and their bias is above the threshold."""
    weight = np.eye(2)
    neurons = nir.LIF(tau=np.full(2, DT), r=np.ones(2), v_leak=np.zeros(2), v_threshold=np.ones(2), v_reset=np.zeros(2))
    nodes = {
        "input": nir.Input({"input": np.array([2])}),
        "w": nir.Affine(weight, np.array([2.0, 0.0])),
        "lif": neurons,
        "own": nir.Linear(weight / 2),
        "output": nir.Output({"output": np.array([2])}),
    }
    edges = [("input", "w"), ("w", "lif"), ("lif", "own"), ("own", "lif"), ("lif", "output")]
    chip = fixed_from_nir(nir.NIRGraph(nodes, edges), steps=4)
    assert [p.t_start for p in chip.populations] == [0] * len(chip.populations)
    assert any("biases that act early: layer1" in note for note in chip.notes)


@pytest.mark.parametrize("recurrent", [False, True])
def test_filtered_currents_in_integers(recurrent: bool) -> None:
    graph, forward, own = _cuba(6, 4, recurrent)
    x = (np.random.default_rng(1).random((STEPS, 3, 6)) < 0.4).astype(np.float32)
    chip = fixed_from_nir(graph, steps=STEPS)
    assert (chip.population("layer1").du, chip.population("layer1").dv) == (2047, 1024)
    found = snn.emulate(chip, x).spikes["layer1"]
    current = membrane = spike = np.zeros((3, 4))
    expected = []
    for frame in x:
        current = current + DT / (DT / 0.5) * (-current + 2 * (frame @ forward.T + spike @ own.T))
        membrane = membrane + DT / (DT / 0.25) * (-membrane + 4 * current)
        spike = (membrane > 1) * 1.0
        membrane = membrane * (1 - spike)
        expected.append(spike)
    assert 0.1 < np.mean(expected) < 0.9
    assert chip.one_by_one == recurrent
    assert np.array_equal(found, np.stack(expected))
    if not recurrent:
        again = to_nir(chip)
        assert isinstance(again.nodes["layer1"], nir.CubaLIF)
        assert np.array_equal(snn.emulate(fixed_from_nir(again), x).spikes["layer1"], found)
    with pytest.raises(LimitError, match=r"CubaLIF.*fixed_from_nir"):
        from_nir(graph, steps=STEPS)


def test_what_is_no_network_is_not_written() -> None:
    with pytest.raises(TypeError, match="Network or a FixedNetwork"):
        to_nir(torch.nn.Linear(2, 2))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="quantize"):
        to_nir(snn.prepare_qat(_mlp()))
    with pytest.raises(ValueError, match="finite and > 0"):
        to_nir(_mlp(), dt=math.inf)


def test_lava_is_not_needed() -> None:
    code = "import sys, lava_snnlearn.interchange.nir; sys.exit(any(name.split('.')[0] == 'lava' for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
