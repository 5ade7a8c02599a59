"""SLTT and OTTT on convolutional networks, against gradients written out step by step with torch's own functions.

Per step and layer: g = phi'(u) times the error that comes down through this step's maps alone; the weight gradient is that of
the map applied to the layer's input (SLTT) or to its trace (OTTT).
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from lava_snnlearn.methods import OTTT, SLTT, Loss
from lava_snnlearn.networks import Network, Readout, SpikingLayer, Synapse, conv_net
from lava_snnlearn.networks.residual import PreActBlock
from lava_snnlearn.neurons import LIF, Triangle
from lava_snnlearn.testing.kinds import samples, small_network

TOLERANCE = 1e-12
STEPS, BATCH = 5, 4


def standardised(synapse):
    """W, or gain (W - mean) / sqrt(N var + 1e-4) with a graph to both."""
    if synapse.standardise is None:
        return synapse.weight
    rows = synapse.weight.flatten(1)
    n = rows.shape[1]
    centred = rows - rows.mean(1, keepdim=True)
    variance = centred.square().sum(1, keepdim=True) / (n - 1)
    return (synapse.standardise.gain.unsqueeze(1) * centred / (n * variance + 1e-4).sqrt()).view_as(synapse.weight)


def product(synapse, x, weight):
    """Pool, gain and map without bias."""
    if synapse.pool > 1:
        x = F.avg_pool2d(x, synapse.pool)
    if synapse.upsample > 1:
        x = F.interpolate(x, scale_factor=synapse.upsample)
    x = synapse.input_gain * x
    if synapse.geometry is None:
        return x.flatten(1) @ weight.T
    _, stride, padding, transposed = synapse.geometry
    if transposed:
        return F.conv_transpose2d(x, weight, stride=stride, padding=padding, output_padding=stride - 1)
    return F.conv2d(x, weight, stride=stride, padding=padding)


def back(function, at, grad):
    """Gradient of a function of one tensor, by autograd of this function alone."""
    leaf = at.detach().clone().requires_grad_()
    (found,) = torch.autograd.grad(function(leaf), leaf, grad)
    return found


def for_channels(grad):
    return grad.sum([0, *range(2, grad.dim())])


def by_hand(network, x, y, *, traced, first_layer=True, readout=False, bias=True):
    """Gradients of a chain with norm "none", "sws" or "bn_step", and feedback."""
    loss, layers, head, fed = Loss(), list(network.layers), network.readout, network.feedback
    weights = {synapse: standardised(synapse).detach() for synapse in [*layers, head, *([fed] if fed else [])]}
    sums = {weight: torch.zeros_like(value) for weight, value in weights.items()}
    found = {}

    def add(name, value):
        found[name] = found.get(name, 0) + value

    def for_weight(synapse, operand, grad):
        return back(lambda weight: product(synapse, operand, weight), weights[synapse], grad)

    def for_input(synapse, x, grad):
        return back(lambda signal: product(synapse, signal, weights[synapse]), x, grad)

    v = [torch.zeros(BATCH, *layer.shape, dtype=x.dtype) for layer in layers]
    lams = [layer.neuron.lam for layer in layers]

    def trace_of(before, signal, lam):
        return signal if before is None or not traced else lam * before + signal

    traces: list = [None] * (len(layers) + 1)
    delay, sent_trace, k = network.feedback_delay, None, [0.0] * len(layers)
    rest = torch.zeros(BATCH, *network.readout.source, dtype=x.dtype)
    past, past_traces = [rest] * delay, [rest] * delay
    for now in x:
        signal, steps = now, []
        fed_spikes, fed_trace = past[-delay], past_traces[-delay] if traced else past[-delay]
        for index, layer in enumerate(layers):
            k[index] = (lams[index] * k[index] if traced and bias else 0.0) + 1.0
            traces[index] = trace_of(traces[index], signal, lams[index])
            operand = signal if index == 0 and not first_layer else traces[index]
            current = product(layer, signal, weights[layer]) + layer.bias.detach().view(-1, *[1] * (len(layer.shape) - 1))
            if index == 0 and fed is not None:
                current = current + product(fed, fed_spikes, weights[fed])
                current = current if fed.bias is None else current + fed.bias.detach().view(-1, 1, 1)
            norm = layer.batch_norm
            u = lams[index] * v[index] + (normed(norm, current) if norm is not None else current)
            s = (u >= layer.neuron.threshold).to(u)
            v[index] = u - layer.neuron.threshold * s
            steps.append((layer, signal, operand, current.detach(), u.detach()))
            signal = s.detach()
        traces[-1] = trace_of(traces[-1], signal, lams[-1])
        sent_trace = trace_of(sent_trace, signal, lams[0])  # feedback is heard by the first layer
        past.append(signal)
        past_traces.append(sent_trace)
        output = (product(head, signal, weights[head]) + head.bias.detach()).requires_grad_()
        (d,) = torch.autograd.grad(loss(output, y) / STEPS, output)
        sums[head] += for_weight(head, traces[-1] if readout else signal, d)
        add("readout.bias", d.sum(0))
        error = for_input(head, signal, d)
        for index in reversed(range(len(layers))):
            layer, heard, operand, current, u = steps[index]
            g = layer.neuron.surrogate(u - layer.neuron.threshold) * error
            norm = layer.batch_norm
            if norm is not None:
                leaf = current.clone().requires_grad_()
                parts = torch.autograd.grad(normed(norm, leaf, learns=True), (leaf, norm.weight, norm.bias), g)
                g = parts[0]
                add(f"layers.{index}.batch_norm.weight", parts[1])
                add(f"layers.{index}.batch_norm.bias", parts[2])
            sums[layer] += for_weight(layer, operand, g)
            add(f"layers.{index}.bias", k[index] * for_channels(g))
            if index == 0 and fed is not None:
                sums[fed] += for_weight(fed, fed_trace, g)
            if index:
                error = for_input(layer, heard, g)
    for name, synapse in [*((f"layers.{i}", layer) for i, layer in enumerate(layers)), ("readout", head), ("feedback", fed)]:
        if synapse is None:
            continue
        if synapse is fed and fed.bias is not None:
            found["feedback.bias"] = found["layers.0.bias"]  # both are added to the same current
        if synapse.standardise is None:
            found[f"{name}.weight"] = sums[synapse]
        else:
            leaves = (synapse.weight, synapse.standardise.gain)
            parts = torch.autograd.grad(standardised(synapse), leaves, sums[synapse])
            found[f"{name}.weight"], found[f"{name}.standardise.gain"] = parts
    return found


def normed(norm, current, learns=False):
    """One step normalised by its own batch, per channel."""
    dims = [0, *range(2, current.dim())]
    mean, variance = current.mean(dims, keepdim=True), current.var(dims, correction=0, keepdim=True)
    shape = (1, -1, *[1] * (current.dim() - 2))
    weight, bias = (value if learns else value.detach() for value in (norm.weight, norm.bias))
    return weight.view(shape) * (current - mean) / (variance + norm.eps).sqrt() + bias.view(shape)


def mixed():
    """Leaks that differ from layer to layer, and feedback."""
    neurons = [LIF(leak=0.2), LIF(leak=0.6), LIF(leak=0.4)]
    sizes = [(2, 6, 6), (4, 6, 6), (5, 6, 6), (3, 6, 6)]
    torch.manual_seed(3)
    layers = [SpikingLayer(sizes[i], sizes[i + 1][0], neuron, kernel=3) for i, neuron in enumerate(neurons)]
    feedback = Synapse(sizes[-1], sizes[1][0], kernel=3)
    return Network(layers, Readout(sizes[-1], 3, pool=6), steps=STEPS, feedback=feedback, feedback_delay=2)


NETWORKS = {
    "sws, pool, global average": lambda: small_network("convolutions", steps=STEPS),
    "strides and a dense layer": lambda: small_network("convolutions, stride 2", steps=STEPS),
    "no norm": lambda: small_network("convolutions, stride 2", steps=STEPS, norm="none"),
    "norm per step": lambda: small_network("convolutions, batch norm, dense", steps=STEPS),
    "pool in front of the data": lambda: conv_net((2, 8, 8), "P2-5C3-P2-6", 3, LIF(leak=0.2), norm="none", steps=STEPS),
    "sizes that pools cut, strong leak": lambda: small_network(
        "convolutions, sizes that pools cut", steps=STEPS, neuron=LIF(leak=0.9, surrogate=Triangle())
    ),
    "feedback of one step": lambda: small_network("feedback, pipelined", steps=STEPS, feedback_delay=1),
    "feedback, mixed leaks": mixed,
    "feedback of three steps, enlarged": lambda: small_network("feedback", steps=STEPS, feedback_delay=3),
}
METHODS = {
    "sltt": (SLTT(), {"traced": False}),
    "ottt": (OTTT(), {"traced": True}),
    "ottt official": (OTTT.official(), {"traced": True, "first_layer": False, "readout": True, "bias": False}),
}


@pytest.mark.parametrize("frames", [False, True], ids=["static", "new frames"])
@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_gradients_are_those_written_out(build, name, chunk, frames):
    method, options = METHODS[name]
    torch.manual_seed(4)
    network = build().double()
    x, y = samples(network, BATCH, frames=frames), torch.arange(BATCH) % network.classes
    whole = (x if frames else x.expand(STEPS, -1, -1)).unflatten(2, network.input_shape)
    expected = by_hand(network, whole, y, **options)
    dataclasses.replace(method, chunk=chunk).gradients(network, x, y)
    grads = {parameter: p.grad for parameter, p in network.named_parameters()}
    assert set(grads) == set(expected)
    largest = max(float(value.abs().max()) for value in expected.values())
    for parameter, wanted in expected.items():
        assert float(wanted.abs().max()) > 1e-6 * largest or parameter.endswith("bias"), parameter
        torch.testing.assert_close(grads[parameter], wanted, rtol=0, atol=TOLERANCE * max(1.0, largest), msg=parameter)


def test_traces_of_mixed_leaks_are_refused_where_nobody_knows_whom_they_drive():
    body = [Synapse((1, 6, 6), 4, kernel=3), *(PreActBlock((4, 6, 6), 4, LIF(leak=leak), "none") for leak in (0.2, 0.5))]
    network = Network(body, Readout((4, 6, 6), 3), steps=2)
    x, y = samples(network, 2), torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"need the same leak everywhere.*keep 0\.5, 0\.8 of their membrane"):
        OTTT().gradients(network, x, y)
    assert all(parameter.grad is None for parameter in network.parameters())
    SLTT().gradients(network, x, y)  # has no traces
