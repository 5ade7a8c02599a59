"""Convolutional networks: the text that describes them, the published ones, and their forward against torch by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lava_snnlearn.networks import Network, Readout, SpikingLayer, Synapse, alexnet_f, cifarnet_f, conv_net, vgg
from lava_snnlearn.networks.norms import SPIKE_GAIN, BatchNormStep, BatchNormTime
from lava_snnlearn.neurons import LIF, backend
from lava_snnlearn.testing.kinds import samples, small_network

TOLERANCE = 1e-12


def spikes_of(neuron, current):
    """The time loop of a population, [T, B, ...], from rest."""
    v, rows = torch.zeros_like(current[0]), []
    for now in current:
        u = (1 - neuron.leak) * v + now
        s = (u >= neuron.threshold).to(u)
        v = u - neuron.threshold * s if neuron.reset == "subtract" else u * (1 - s)
        rows.append(s)
    return torch.stack(rows)


# The text


def test_layers_of_a_text():
    network = conv_net((2, 16, 16), "8C3-P2-12C5s2-P2-24-10", 5)
    shapes = [(layer.source, layer.pool, layer.shape) for layer in network.layers]
    assert shapes == [
        ((2, 16, 16), 1, (8, 16, 16)),
        ((8, 16, 16), 2, (12, 4, 4)),
        ((12, 4, 4), 2, (24,)),
        ((24,), 1, (10,)),
    ]
    assert [tuple(layer.weight.shape) for layer in network.layers] == [(8, 2, 3, 3), (12, 8, 5, 5), (24, 48), (10, 24)]
    assert [layer.geometry and layer.geometry.stride for layer in network.layers] == [1, 2, None, None]
    assert [layer.input_gain for layer in network.layers] == [1.0, SPIKE_GAIN, SPIKE_GAIN, SPIKE_GAIN]
    assert (network.input_shape, network.inputs, network.classes) == ((2, 16, 16), 512, 5)
    assert network.readout.source == (10,)


def test_pools_add_up_and_may_stand_first_and_last():
    network = conv_net((1, 12, 12), "P3-4C3-P2-P2", 5)
    assert (network.layers[0].pool, network.layers[0].shape) == (3, (4, 4, 4))
    assert network.readout.pool == 4
    assert tuple(network.readout.weight.shape) == (5, 4)


@pytest.mark.parametrize(
    "side, text, pool", [(8, "4C3-GAP", 8), (8, "4C3-P2-GAP", 8), (7, "4C3-P2-GAP", 6), (9, "4C3s2-GAP", 5)]
)
def test_global_average(side, text, pool):
    network = conv_net((1, side, side), text, 3, norm="none").double()
    assert network.readout.pool == pool
    maps = torch.randn(2, *network.readout.source, dtype=torch.float64)
    pooled = F.avg_pool2d(maps, 2) if "P2" in text else maps
    expected = pooled.mean((2, 3)) @ network.readout.weight.T + network.readout.bias
    torch.testing.assert_close(network.readout(maps), expected, rtol=0, atol=TOLERANCE)


def test_width_scales_channels_and_neurons():
    network = conv_net((1, 8, 8), "10C3-5C3-7", 3, width=0.3)
    assert [layer.shape[0] for layer in network.layers] == [3, 2, 2]  # round half to even, at least 1
    assert [layer.shape[0] for layer in conv_net((1, 8, 8), "10C3-5", 3, width=0.01).layers] == [1, 1]
    assert [layer.shape[0] for layer in conv_net((1, 8, 8), "10C3-5", 3, width=2).layers] == [20, 10]


TEXTS = [
    ("64K3", r"layer '64K3' of '64K3' cannot be read"),
    ("8C3-", "layer '' of"),
    ("8C3--4", "layer '' of"),
    ("", "layer '' of ''"),
    ("8C", "layer '8C' of"),
    ("C3", "layer 'C3' of"),
    ("8C3S2", "'8C3S2'"),
    ("8c3", "'8c3'"),
    ("8C3-gap", "'gap'"),
    ("-8", "layer '' of"),
    ("8.5", "layer '8.5'"),
    ("P2", "'P2' names no layer with neurons"),
    ("GAP", "names no layer with neurons"),
    ("0C3", "a layer of 0 channels or neurons"),
    ("8C3-0", "a layer of 0 channels or neurons"),
    ("8C0", "kernel 0"),
    ("8C3s0", "stride 0"),
    ("8C3-P0", "pool is 0"),
    ("8C3-P0-4", "pool is 0"),
    ("8C3-P9-4C3", "pool is 9"),
    ("8C3-P9", "pool is 9"),
    ("8C3-P4-P4-4C3", "pool is 16"),
    ("16-P2", "stands behind a dense layer of 16 neurons"),
    ("16-GAP", "stands behind a dense layer of 16 neurons"),
    ("8C3-GAP-4", "GAP stands at the end"),
    ("8C3-GAP-GAP", "GAP stands at the end"),
    ("16-8C3", r"needs a source \(channels, height, width\)"),
]


@pytest.mark.parametrize("text, message", TEXTS, ids=[text or "nothing" for text, _ in TEXTS])
def test_texts_that_cannot_be_read_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        conv_net((1, 8, 8), text, 3)


def test_other_bad_settings():
    with pytest.raises(ValueError, match=r"GAP stands at the end, behind square maps; here behind \(4, 8, 6\)"):
        conv_net((1, 8, 6), "4C3-GAP", 3)
    for width, error in ((0, ValueError), (-1.0, ValueError), (math.inf, ValueError), (math.nan, ValueError), ("1", TypeError)):
        with pytest.raises(error, match="width is"):
            conv_net((1, 8, 8), "4C3", 3, width=width)
    with pytest.raises(ValueError, match=r"input_shape is \(8, 8\)"):
        conv_net((8, 8), "4C3", 3)
    with pytest.raises(ValueError, match="layer 0 has 32 neurons, but what follows expects 16 inputs"):
        Network([SpikingLayer((1, 4, 4), 2, LIF(), kernel=3), SpikingLayer((2, 4, 2), 3, LIF())], Readout(3, 2))


def test_images_are_taken_in_their_own_form_or_flat():
    network = small_network("convolutions, stride 2", steps=3)
    x = samples(network, 4)
    expected = network(x)
    assert torch.equal(network(x.view(4, 2, 9, 7)), expected)
    assert torch.equal(network(x.expand(3, 4, -1)), expected)
    assert torch.equal(network(x.view(4, 2, 9, 7).expand(3, 4, 2, 9, 7)), expected)
    for wrong in ((4, 2, 7, 9), (4, 9, 7), (2, 4, 2, 9, 7), (4, 125)):
        with pytest.raises(ValueError, match="this network takes"):
            network(torch.zeros(wrong))


# The forward by hand


def test_forward_by_hand_without_norm():
    torch.manual_seed(0)
    neuron = LIF(leak=0.3, threshold=0.8)
    network = conv_net((2, 9, 9), "P2-5C3-P2-6C3s2-7", 3, neuron, norm="none", steps=6).double()
    x = 3 * torch.randn(6, 4, 2, 9, 9, dtype=torch.float64)
    one, two, three = network.layers
    with torch.no_grad():
        for layer in network.layers:
            layer.bias.uniform_(0, 0.5)
        found = network(x)
        current = torch.stack([F.conv2d(F.avg_pool2d(now, 2), one.weight, one.bias, padding=1) for now in x])
        s = spikes_of(neuron, current)
        current = torch.stack([F.conv2d(F.avg_pool2d(now, 2), two.weight, two.bias, stride=2, padding=1) for now in s])
        s = spikes_of(neuron, current)
        s = spikes_of(neuron, torch.stack([now.flatten(1) @ three.weight.T + three.bias for now in s]))
        expected = s @ network.readout.weight.T + network.readout.bias
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)
    assert 0.05 < float(s.mean()) < 0.95


@pytest.mark.parametrize("norm", ["bn_step", "bn_time"])
@pytest.mark.parametrize("training", [True, False])
def test_forward_by_hand_with_torchs_batch_norm(norm, training):
    torch.manual_seed(1)
    network = conv_net((1, 8, 8), "5C3-P2-6C3-GAP", 3, norm=norm, steps=5).double()
    twins = [nn.BatchNorm2d(5).double(), nn.BatchNorm2d(6).double()]
    with torch.no_grad():
        for layer, twin in zip(network.layers, twins, strict=True):
            layer.batch_norm.weight.uniform_(0.5, 2)
            layer.batch_norm.bias.normal_()
            layer.batch_norm.running_mean.normal_()
            layer.batch_norm.running_var.uniform_(0.5, 2)
            twin.load_state_dict(layer.batch_norm.state_dict())
    network.train(training)
    x = 2 * torch.randn(5, 6, 1, 8, 8, dtype=torch.float64)
    signal = x
    with torch.no_grad():
        found = network(x)
        for layer, twin in zip(network.layers, twins, strict=True):
            twin.train(training)
            pooled = F.avg_pool2d(signal.flatten(0, 1), layer.pool) if layer.pool > 1 else signal.flatten(0, 1)
            current = F.conv2d(pooled, layer.weight, layer.bias, padding=1)
            if norm == "bn_time":
                current = twin(current).unflatten(0, (5, 6))
            else:
                current = torch.stack([twin(now) for now in current.unflatten(0, (5, 6))])
            signal = spikes_of(layer.neuron, current)
        expected = signal.mean((3, 4)) @ network.readout.weight.T + network.readout.bias
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)
    for layer, twin in zip(network.layers, twins, strict=True):
        for name, value in twin.state_dict().items():
            torch.testing.assert_close(layer.batch_norm.state_dict()[name], value, rtol=0, atol=TOLERANCE, msg=name)


# Batch norms on maps


@pytest.fixture
def maps():
    torch.manual_seed(2)
    scale = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)
    return torch.randn(4, 5, 3, 2, 6, dtype=torch.float64) * scale + torch.arange(4).view(4, 1, 1, 1, 1)


def test_norm_of_maps_per_step_in_formulas(maps):
    """Per channel over samples and places; the running variance is the unbiased one."""
    norm, x = BatchNormStep(3).double(), maps.numpy()
    mean, variance = x.mean((1, 3, 4), keepdims=True), x.var((1, 3, 4), keepdims=True)
    np.testing.assert_allclose(norm(maps).detach().numpy(), (x - mean) / np.sqrt(variance + 1e-5), rtol=0, atol=TOLERANCE)
    running_mean, running_var = np.zeros(3), np.ones(3)
    for now in x:
        running_mean = 0.9 * running_mean + 0.1 * now.mean((0, 2, 3))
        running_var = 0.9 * running_var + 0.1 * now.transpose(1, 0, 2, 3).reshape(3, -1).var(1, ddof=1)
    np.testing.assert_allclose(norm.running_mean.numpy(), running_mean, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(norm.running_var.numpy(), running_var, rtol=0, atol=TOLERANCE)
    assert int(norm.num_batches_tracked) == 4


def test_norm_of_maps_over_time_in_formulas(maps):
    norm, x = BatchNormTime(3).double(), maps.numpy()
    mean, variance = x.mean((0, 1, 3, 4), keepdims=True), x.var((0, 1, 3, 4), keepdims=True)
    np.testing.assert_allclose(norm(maps).detach().numpy(), (x - mean) / np.sqrt(variance + 1e-5), rtol=0, atol=TOLERANCE)
    unbiased = x.transpose(2, 0, 1, 3, 4).reshape(3, -1).var(1, ddof=1)
    np.testing.assert_allclose(norm.running_mean.numpy(), 0.1 * mean.ravel(), rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(norm.running_var.numpy(), 0.9 + 0.1 * unbiased, rtol=0, atol=TOLERANCE)
    assert int(norm.num_batches_tracked) == 1


@pytest.mark.parametrize("kind", [BatchNormStep, BatchNormTime])
@pytest.mark.parametrize("training", [True, False])
def test_a_static_step_stands_for_all_of_its_copies(maps, kind, training):
    """Values, gradients and running statistics."""
    frame, copies = maps[:1].clone().requires_grad_(), maps[:1].repeat(7, 1, 1, 1, 1).requires_grad_()
    once, often = kind(3).double().train(training), kind(3).double().train(training)
    grad = torch.randn(7, *frame.shape[1:], dtype=torch.float64)
    found = once(frame, times=7)
    expected = often(copies)
    assert found.shape == frame.shape
    torch.testing.assert_close(found.expand_as(expected), expected, rtol=0, atol=TOLERANCE)
    found.backward(grad.sum(0, keepdim=True))
    expected.backward(grad)
    if kind is BatchNormStep or not training:
        torch.testing.assert_close(frame.grad[0], copies.grad.sum(0), rtol=0, atol=1e-11)
    torch.testing.assert_close(once.weight.grad, often.weight.grad, rtol=0, atol=1e-11)
    torch.testing.assert_close(once.bias.grad, often.bias.grad, rtol=0, atol=1e-11)
    for name, value in often.state_dict().items():
        torch.testing.assert_close(once.state_dict()[name], value, rtol=0, atol=TOLERANCE, msg=name)


def test_statistics_stay_where_they_are_if_asked(maps):
    for norm in (BatchNormStep(3).double(), BatchNormTime(3).double()):
        before = {name: value.clone() for name, value in norm.state_dict().items()}
        expected = type(norm)(3).double()(maps)
        torch.testing.assert_close(norm(maps, update=False), expected, rtol=0, atol=0)
        for name, value in norm.state_dict().items():
            assert torch.equal(value, before[name]), name


def test_one_sample_of_maps_has_a_variance():
    network = conv_net((1, 4, 4), "3C3", 2, norm="bn_step", steps=2)
    assert bool(torch.isfinite(network(torch.randn(1, 16))).all())
    with pytest.raises(ValueError, match="batch of one sample"):
        conv_net((1, 4, 4), "3C4s9", 2, norm="bn_step", steps=2)(torch.randn(1, 16))  # maps of one place


# Published networks


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def conv_parameters(channels, norm):
    """3x3 convolutions with biases, and two numbers a channel for a batch norm, one for a gain."""
    extra = {"bn_step": 2, "sws": 1, "none": 0}[norm]
    pairs = list(pairwise(channels))
    return sum(9 * a * b for a, b in pairs) + (1 + extra) * sum(channels[1:])


@pytest.mark.parametrize("norm", ["bn_step", "sws", "none"])
def test_vgg_has_the_sizes_of_the_paper(norm):
    network = vgg(classes=100, norm=norm)
    channels = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    assert [layer.shape[0] for layer in network.layers] == channels[1:]
    assert [layer.shape[1] for layer in network.layers] == [32, 32, 16, 16, 8, 8, 4, 4]
    assert [layer.pool for layer in network.layers] == [1, 1, 2, 1, 2, 1, 2, 1]
    assert network.readout.pool == 4
    assert parameters(network) == conv_parameters(channels, norm) + 512 * 100 + 100
    fed = vgg(classes=100, norm=norm, feedback=True)
    assert parameters(fed) - parameters(network) == 9 * 512 * 64
    assert (fed.feedback.source, fed.feedback.shape, fed.feedback.upsample) == ((512, 4, 4), (64, 32, 32), 8)
    assert not fed.feedback.weight.any()


@pytest.mark.parametrize(
    "build, channels, neurons, published, published_neurons",
    [
        (alexnet_f, [3, 96, 256, 384, 384, 256], [16, 16, 8, 8, 8], 3.7e6, 159e3),
        (cifarnet_f, [3, 128, 256, 512, 1024, 512], [16, 16, 8, 8, 8], 11.8e6, 232e3),
    ],
    ids=["AlexNet-F", "CIFARNet-F"],
)
def test_networks_of_ide(build, channels, neurons, published, published_neurons):
    """Published sizes hold the readout that IDE uses, of the flattened last maps; here it is a global average."""
    network = build(norm="bn_step")
    assert [layer.shape for layer in network.layers] == [(c, n, n) for c, n in zip(channels[1:], neurons, strict=True)]
    back = 9 * channels[-1] * channels[1]
    assert tuple(network.feedback.weight.shape) == (channels[-1], channels[1], 3, 3)
    assert network.feedback.geometry.transposed
    assert parameters(network) == conv_parameters(channels, "bn_step") + back + 10 * channels[-1] + 10
    flattened = parameters(network) + 10 * channels[-1] * (neurons[-1] ** 2 - 1)
    assert flattened == pytest.approx(published, rel=0.01)
    assert sum(layer.outputs for layer in network.layers) + 10 == pytest.approx(published_neurons, rel=0.04)


@pytest.mark.parametrize("build", [vgg, alexnet_f, cifarnet_f])
def test_published_networks_run(build):
    network = build((2, 16, 16), 7, width=0.05, steps=3)
    assert network(torch.randn(2, 512)).shape == (3, 2, 7)
    assert network.predict(torch.randn(2, 512)).shape == (2,)


def test_feedback_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"feedback from .* does not fit a body"):
        vgg((1, 28, 28), feedback=True, width=0.05)  # three pools leave 3, of which 28 is no multiple
    synapse = Synapse((4, 8, 8), 6, kernel=3)
    with pytest.raises(ValueError, match=r"feedback from \(4, 8, 8\) to \(6, 8, 8\) does not fit"):
        conv_net((1, 8, 8), "4C3-4C3", 3, feedback=synapse)
    fitting = Synapse((4, 8, 8), 4, kernel=3)
    with pytest.raises(ValueError, match="feedback_delay is 0"):
        conv_net((1, 8, 8), "4C3-4C3", 3, feedback=fitting, feedback_delay=0)
    with pytest.raises(TypeError, match=r"feedback_delay is 1\.0"):
        conv_net((1, 8, 8), "4C3-4C3", 3, feedback=fitting, feedback_delay=1.0)
    body = [Synapse((1, 8, 8), 4, kernel=3)]
    with pytest.raises(ValueError, match="at least one spiking layer"):
        Network(body, Readout((4, 8, 8), 3), feedback=fitting)


# Feedback


@pytest.mark.parametrize("kind", ["feedback", "feedback, pipelined"])
@pytest.mark.parametrize("delay", [1, 2, 4])
def test_feedback_by_hand(kind, delay):
    """Step by step: the last spikes of ``delay`` steps before, enlarged or transposed, are added to the first current."""
    network = small_network(kind, steps=7, feedback_delay=delay).double()
    x = samples(network, 3, frames=True)
    back = network.feedback
    past = [torch.zeros(3, *back.source, dtype=torch.float64) for _ in range(delay)]
    membranes = [torch.zeros(3, *layer.shape, dtype=torch.float64) for layer in network.layers]
    outputs, used = [], 0.0
    with torch.no_grad():
        weights = [layer.effective_weight() for layer in network.layers]
        for now in x.view(7, 3, *network.input_shape):
            s = now
            for index, layer in enumerate(network.layers):
                _, stride, padding, _ = layer.geometry
                pooled = F.avg_pool2d(layer.input_gain * s, layer.pool) if layer.pool > 1 else layer.input_gain * s
                current = F.conv2d(pooled, weights[index], layer.bias, stride, padding)
                if index == 0 and back.upsample > 1:
                    large = past[-delay].repeat_interleave(back.upsample, 2).repeat_interleave(back.upsample, 3)
                    extra = F.conv2d(large, back.weight, padding=1)
                elif index == 0:
                    extra = F.conv_transpose2d(past[-delay], back.weight, stride=2, padding=1, output_padding=1)
                if index == 0:
                    current = current + extra
                    used += float(extra.abs().sum())
                u = 0.5 * membranes[index] + current
                s = (u >= 1).double()
                membranes[index] = u - s
            past.append(s)
            outputs.append(s.mean((2, 3)) * network.readout.input_gain @ network.readout.weight.T + network.readout.bias)
        found = network(x)
    torch.testing.assert_close(found, torch.stack(outputs), rtol=0, atol=TOLERANCE)
    assert used > 0


def test_feedback_reaches_back_by_the_gradient_of_time():
    """Against autograd of the plain equations: delays of one and of several steps."""
    for delay in (1, 3):
        network = small_network("feedback", steps=6, feedback_delay=delay).double()
        x = samples(network, 2, frames=True)
        with backend("reference"):
            network.simulate(x).outputs.square().sum().backward()
        expected = {name: p.grad.clone() for name, p in network.named_parameters()}
        network.zero_grad()
        network(x).square().sum().backward()
        for name, parameter in network.named_parameters():
            scale = float(expected[name].abs().max())
            assert scale > 0, name
            torch.testing.assert_close(parameter.grad, expected[name], rtol=0, atol=TOLERANCE * scale, msg=name)
