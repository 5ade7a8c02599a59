"""Lowering: the stages of every kind of network, simulated on their own, spike where the network does.

The simulator knows populations and matrices alone: no layers, norms, pools, shortcuts or chunks of time.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

import lava_snnlearn as snn
from lava_snnlearn.checks import LimitError
from lava_snnlearn.fixed_point import lowering
from lava_snnlearn.fixed_point.lowering import Link, lower
from lava_snnlearn.methods import BPTT
from lava_snnlearn.networks import (
    Network,
    Population,
    PreActBlock,
    Readout,
    SpikingLayer,
    Synapse,
    conv_net,
    mlp,
    preact_resnet,
)
from lava_snnlearn.neurons import DSRIF, DSRLIF, LIF
from lava_snnlearn.testing.kinds import KINDS, samples, small_network

STEPS, BATCH = 7, 5

pytestmark = pytest.mark.usefixtures("one_thread")


def mapped(link, x):
    """A link's map of x [B, n_source], window by window."""
    if link.geometry is None:
        return x @ link.weight.T
    down, across = link.geometry.stride
    edges = [(0, 0), (0, 0), *((p, p) for p in link.geometry.padding)]
    images = np.pad(x.reshape(len(x), *link.geometry.input_shape), edges)
    windows = sliding_window_view(images, link.weight.shape[2:], (2, 3))[:, :, ::down, ::across]
    return np.einsum("bcyxij,ocij->boyx", windows, link.weight, optimize=True).reshape(len(x), -1)


def mapped_late(link, x):
    """A link's map of the last step of x [T, B, n_source], each synapse with its own delay."""
    found = np.zeros((x.shape[1], len(link.weight)))
    for i, j in np.ndindex(*link.weight.shape):
        if link.delay[i, j] < len(x):
            found[:, i] += link.weight[i, j] * x[-1 - link.delay[i, j], :, j]
    return found


def simulate(stages, x):
    """Spikes {stage: [T, B, n]} and the readout's current [T, B, classes] for data x [T, B, n]; also the nearest miss."""
    steps, batch = x.shape[:2]
    sent = {stage.name: np.zeros((steps, batch, stage.size)) for stage in stages}
    membranes = {stage.name: np.full((batch, stage.size), stage.start) for stage in stages}
    sent["input"] = x
    closest = np.inf
    for t in range(steps):
        for stage in stages:
            current = np.tile(stage.bias, (batch, 1))
            for link in stage.links:
                if link.delay is not None:
                    current += mapped_late(link, sent[link.source][: t + 1 - link.lag])
                elif t >= link.lag:
                    current += mapped(link, sent[link.source][t - link.lag])
            if stage.neuron is None:
                sent[stage.name][t] = current
                continue
            u = (1 - stage.neuron.leak) * membranes[stage.name] + current
            spikes = u >= stage.threshold
            closest = min(closest, np.abs(u - stage.threshold).min())
            sent[stage.name][t] = spikes
            membranes[stage.name] = u - stage.threshold * spikes if stage.neuron.reset == "subtract" else u * ~spikes
    return sent, closest


def assert_lowered(network, x):
    """The simulated stages equal the network's own forward."""
    network = network.double().eval()
    with torch.no_grad():
        expected = network.simulate(x)
    stages = lower(network)
    assert [stage.name for stage in stages] == [*(f"layer{i + 1}" for i in range(len(network.populations))), "readout"]
    assert [stage.shape for stage in stages] == [*(p.shape for p in network.populations), (network.classes,)]
    data = x if x.dim() == 3 else x.expand(network.steps, *x.shape)
    found, closest = simulate(stages, data.numpy())
    assert closest > 1e-9, "a tie, which rounding decides"
    for stage, state in zip(stages, expected.layers, strict=False):
        np.testing.assert_array_equal(found[stage.name], state.spike.flatten(2).numpy(), err_msg=stage.name)
        assert 0.02 < state.spike.mean() < 0.98, f"{stage.name} says nothing"
    np.testing.assert_allclose(found["readout"], expected.outputs.numpy(), rtol=0, atol=1e-9)
    kept = 1 - stages[-1].leak
    total = np.zeros_like(found["readout"][0])
    for now in found["readout"]:
        total = kept * total + now
    np.testing.assert_allclose(total, network.readout.collect(expected.outputs).numpy(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("frames", [False, True], ids=["static", "new frames"])
@pytest.mark.parametrize("kind", KINDS)
def test_stages_spike_as_the_network_does(kind, frames):
    network = small_network(kind, steps=STEPS)
    assert_lowered(network, samples(network, BATCH, frames=frames).double())


OTHERS = {
    "no norm": lambda: conv_net((1, 8, 8), "6C3-P2-8C3-12", 4, norm="none", steps=STEPS),
    "pool in front": lambda: conv_net((2, 9, 9), "P2-6C3-8", 4, steps=STEPS),
    "pools that cut, with padding": lambda: conv_net((1, 13, 13), "4C3-P2-4C3s2-6C3-P2-8", 4, steps=STEPS),
    "pools that cut, without padding": lambda: conv_net((1, 11, 11), "4C3-P3-8C1-GAP", 4, steps=STEPS),
    "pool in front of the readout": lambda: conv_net((1, 9, 9), "4C3-8C5s2-P2", 4, steps=STEPS),
    "even kernels": lambda: conv_net((1, 8, 8), "6C4-P2-8C2s2-GAP", 4, steps=STEPS),
    "residual without norm": lambda: preact_resnet((1, 8, 8), 4, blocks=(2, 1), width=4, norm="none", steps=STEPS),
    "residual, norm over time": lambda: preact_resnet((1, 8, 8), 4, blocks=(1, 1), width=4, norm="bn_time", steps=STEPS),
    "residual, DSR": lambda: preact_resnet((1, 8, 8), 4, DSRIF(threshold=1.5), blocks=(1, 1), width=4, steps=STEPS),
    "residual, reset to zero": lambda: preact_resnet((1, 8, 8), 4, LIF(reset="zero"), blocks=(2,), width=4, steps=STEPS),
    "normaliser-free, one stage": lambda: snn.networks.nf_resnet((1, 8, 8), 4, blocks=(2,), width=4, steps=STEPS),
    "normaliser-free, gain in the readout": lambda: Network(
        list(snn.networks.nf_resnet((1, 8, 8), 4, blocks=(1, 1), width=4).layers),
        Readout((8, 4, 4), 4, 2.5, pool=2),
        steps=STEPS,
    ),
    "recurrent DSR": lambda: mlp([12, 16, 16, 4], DSRLIF(threshold=0.3, dt=0.25), recurrent=True, norm="none", steps=STEPS),
    "recurrent DSR, IF": lambda: mlp([12, 16, 16, 4], DSRIF(threshold=1.5), recurrent=True, norm="none", steps=STEPS),
    "feedback of one step": lambda: snn.networks.alexnet_f((1, 8, 8), 4, width=0.05, feedback_delay=1, steps=STEPS),
    "feedback, DSR": lambda: snn.networks.vgg(
        (1, 8, 8), 4, DSRIF(threshold=1.5), feedback=True, feedback_delay=2, width=0.05, norm="none", steps=STEPS
    ),
}


@pytest.mark.parametrize("build", OTHERS.values(), ids=OTHERS)
def test_more_ways_of_putting_them_together(build, monkeypatch):
    monkeypatch.setitem(KINDS, "this", lambda **_: build())
    network = small_network("this", seed=3)
    with torch.no_grad():
        for population in network.populations:
            if population.threshold is not None:
                population.threshold.mul_(1.2)  # trained since
            if population.recurrent is not None:
                population.recurrent.normal_(std=0.3)
    assert_lowered(network, samples(network, BATCH, frames=True).double())


def test_neurons_of_different_kinds_in_one_network():
    torch.manual_seed(0)
    neurons = [LIF(leak=0.1), LIF(leak=0.6, threshold=0.7, reset="zero"), LIF(leak=0.0, threshold=1.5)]
    sizes = [10, 14, 12, 8]
    layers = [SpikingLayer(sizes[i], sizes[i + 1], neuron, "none") for i, neuron in enumerate(neurons)]
    network = Network(layers, Readout(8, 3), steps=STEPS)
    assert_lowered(network, samples(network, BATCH, frames=True).double())


def test_training_mode_says_nothing():
    """Running statistics are folded, whatever the mode; and lowering leaves mode, statistics and gradients alone."""
    network = small_network("convolutions, batch norm, dense", steps=STEPS)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    training = lower(network)
    assert network.training
    for one, other in zip(training, lower(network.eval()), strict=True):
        np.testing.assert_array_equal(one.bias, other.bias)
        for a, b in zip(one.links, other.links, strict=True):
            np.testing.assert_array_equal(a.weight, b.weight)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_link_applies_the_map_that_it_holds():
    network = small_network("convolutions, stride 2", steps=STEPS).eval()
    for stage in lower(network)[:-1]:
        (link,) = stage.links
        sources = link.weight.shape[1] if link.geometry is None else link.geometry.sources
        x = np.random.default_rng(0).normal(size=(3, sources))
        np.testing.assert_allclose(link.apply(torch.from_numpy(x)).numpy(), mapped(link, x), rtol=0, atol=1e-12)


def test_convolutions_stay_kernels_where_they_are_convolutions():
    """Also with a pool in front, whose kernel is enlarged; a matrix of all places is written out only where it has to be."""
    stages = lower(small_network("convolutions", steps=STEPS))
    assert [link.weight.shape for stage in stages for link in stage.links] == [(6, 1, 3, 3), (8, 6, 6, 6), (4, 8 * 16)]
    assert stages[1].links[0].geometry.stride == (2, 2)
    assert stages[1].links[0].geometry.padding == (2, 2)
    cut = lower(small_network("convolutions, sizes that pools cut", steps=STEPS))
    assert cut[1].links[0].weight.shape == (8 * 9, 6 * 49)
    assert cut[1].links[0].geometry is None


def test_an_analogue_shortcut_becomes_links_from_all_that_was_added():
    """Blocks of one stage hear the stem and all earlier blocks; a transition hears only the block before it."""
    stages = lower(small_network("pre-activation residual", steps=STEPS))
    heard = {stage.name: sorted(link.source for link in stage.links) for stage in stages}
    assert heard == {
        "layer1": ["input"],
        "layer2": ["layer1"],
        "layer3": ["input", "layer2"],
        "layer4": ["layer3"],
        "layer5": ["input", "layer2", "layer4"],
        "layer6": ["layer5"],
        "layer7": ["layer5", "layer6"],
        "layer8": ["layer7"],
        "layer9": ["layer5", "layer6", "layer8"],
        "readout": ["layer9"],
    }


# Refusals


class Twice(torch.nn.Module):
    """Two maps of the same spikes, added up."""

    def __init__(self, source, neuron):
        super().__init__()
        self.source, self.shape = source, source
        self.fire = Population(source, neuron)
        self.one, self.other = (Synapse(source, source[0], kernel=3) for _ in range(2))

    def respond(self, x, walk):
        spikes = self.fire.respond(x, walk)
        return walk.synapse(self.one, spikes) + walk.synapse(self.other, spikes)


def test_two_maps_between_the_same_populations_are_refused():
    source = (2, 4, 4)
    body = [Synapse((1, 4, 4), 2, kernel=3), Twice(source, LIF()), Population(source, LIF())]
    network = Network(body, Readout(source, 3), steps=3)
    assert network(samples(network, 2)).shape == (3, 2, 3)
    with pytest.raises(LimitError, match=r"layer2 is reached from \['layer1', 'layer1'\] more than once.*Add the maps up"):
        lower(network)


@pytest.mark.parametrize("kind", ["convolutions, sizes that pools cut", "feedback, pipelined", "normaliser-free residual"])
def test_matrices_that_are_too_large_are_refused(kind, monkeypatch):
    network = small_network(kind, steps=STEPS)
    largest = max(link.weight.size for stage in lower(network) for link in stage.links if link.geometry is None)
    monkeypatch.setattr(lowering, "MATRIX_MAX", largest - 1)
    with pytest.raises(LimitError, match=rf"a matrix of {largest} values, more than {largest - 1}\. Use sizes"):
        lower(network)


def test_feedback_that_arrives_too_late_is_refused():
    for delay, late in ((1, 7), (7, 1)):
        network = small_network("feedback", steps=3, feedback_delay=delay)
        match = rf"from layer8 to layer1 takes {delay} step.*{late} step\(s\) too late.*feedback_delay of at least 8"
        with pytest.raises(LimitError, match=match):
            snn.quantize(network)
    assert snn.quantize(small_network("feedback", steps=3, feedback_delay=8)).steps == 3


def test_delays_that_the_chip_cannot_hold_are_refused():
    assert snn.quantize(small_network("feedback", steps=3, feedback_delay=70)).steps == 3  # a delay of 70 - 8
    with pytest.raises(LimitError, match=r"from layer8 to layer1 needs a delay of 63 steps, more than 62"):
        snn.quantize(small_network("feedback", steps=3, feedback_delay=71))


def test_shortcuts_over_too_many_layers_are_refused():
    """In the last population of 32 blocks the data arrive with a delay of 64 steps."""
    network = preact_resnet((1, 4, 4), 3, blocks=(32,), width=1, norm="none", steps=2)
    with pytest.raises(LimitError, match="from input to layer65 needs a delay of 64 steps, more than 62; use fewer layers"):
        snn.quantize(network, input="spikes")


class TwoViews(torch.nn.Module):
    """Two populations that see the data through different windows."""

    def __init__(self, source, neuron):
        super().__init__()
        self.source = source
        self.near, self.far = Synapse(source, 2, kernel=3), Synapse(source, 2, kernel=5)
        self.first, self.second = (Population(self.near.shape, neuron) for _ in range(2))
        self.between = Synapse(self.near.shape, 2, kernel=3)
        self.shape = self.near.shape

    def respond(self, x, walk):
        first = self.first.respond(walk.synapse(self.near, x), walk)
        return self.second.respond(walk.synapse(self.between, first) + walk.synapse(self.far, x), walk)


def test_current_input_through_different_maps_is_refused():
    torch.manual_seed(0)
    block = TwoViews((1, 6, 6), LIF())
    network = Network([block], Readout(block.shape, 3), steps=4)
    x = samples(network, 8)
    with pytest.raises(LimitError, match=r"goes through one linear map.*in several ways. Use input='graded' or 'spikes'"):
        snn.quantize(network, input="current", calibration=x.numpy())
    assert snn.verify(snn.quantize(network, input="graded", calibration=x.numpy()), x[:1].numpy()).ok


def test_current_input_that_the_readout_hears_is_refused():
    network = snn.networks.nf_resnet((1, 4, 4), 3, blocks=(1,), width=4, steps=4)
    with pytest.raises(LimitError, match="goes through one linear map into spiking populations"):
        snn.quantize(network, input="current")


def test_a_walk_of_symbols_leaves_training_possible():
    network = preact_resnet((1, 4, 4), 3, blocks=(1,), width=2, steps=3)
    lower(network)
    BPTT().gradients(network, samples(network, 4), torch.tensor([0, 1, 2, 0]))
    assert isinstance(network.layers[1], PreActBlock)
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_links_are_read_as_documented():
    """A dense map as a matrix [n_target, n_source]."""
    link = Link("input", np.array([[1.0, 2.0], [0.0, -1.0], [3.0, 0.5]]))
    np.testing.assert_array_equal(link.apply(torch.tensor([[1.0, 10.0]])).numpy(), [[21.0, -10.0, 8.0]])
