"""Recurrent layers: what a neuron hears of its own layer is what every other target hears of it."""

from __future__ import annotations

import pytest
import torch

from lava_snnlearn.networks import mlp
from lava_snnlearn.neurons import DSRIF, DSRLIF, LIF, backend

STEPS, BATCH, TOLERANCE = 7, 4, 1e-12
NEURONS = {"LIF": LIF(leak=0.3), "to zero": LIF(reset="zero"), "IF of DSR": DSRIF(threshold=1.4), "LIF of DSR": DSRLIF(dt=0.3)}


def make(neuron, dropout=0.0):
    torch.manual_seed(0)
    network = mlp([9, 12, 11, 3], neuron, norm="none", steps=STEPS, recurrent=True, dropout=dropout).double()
    with torch.no_grad():
        for layer in network.layers:
            layer.recurrent.normal_(std=0.4)
    return network, 2 * torch.randn(STEPS, BATCH, 9, dtype=torch.float64)


def by_hand(network, x, masks):
    """Layer by layer: u = lam v + gain (W x + b + R s' + bias), where s' are the layer's last spikes as they are sent."""
    rows = x.unbind(0)
    for layer, mask in zip(network.layers, masks, strict=True):
        drive, sent = layer.drive, []
        threshold = float(layer.neuron.threshold if layer.threshold is None else layer.threshold)
        v = torch.full((BATCH, layer.outputs), drive.start, dtype=x.dtype)
        before = torch.zeros_like(v)
        for now in rows:
            current = now @ layer.weight.T + layer.bias + before @ layer.recurrent.T
            u = layer.neuron.lam * v + drive.gain * (current + drive.bias)
            s = layer.neuron.surrogate.spike(u - threshold)
            cut = s.detach()
            v = u - threshold * cut if layer.neuron.reset == "subtract" else u * (1 - cut)
            before = s * drive.amplitude if mask is None else s * mask * drive.amplitude
            sent.append(before)
        rows = sent
    return torch.stack([now @ network.readout.weight.T + network.readout.bias for now in rows])


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS)
def test_forward_and_gradient_by_hand(neuron, dropout):
    """A silenced neuron does not speak to itself either; spikes of DSR's neurons are worth their threshold here too."""
    network, x = make(neuron, dropout)
    torch.manual_seed(1)
    expected = by_hand(network, x, network.dropout_masks(BATCH))
    weights = torch.randn(expected.shape, dtype=torch.float64)
    trained = [p for name, p in network.named_parameters() if "threshold" not in name]
    wanted = torch.autograd.grad((expected * weights).sum(), trained)
    for name in ("auto", "reference"):
        with backend(name):
            torch.manual_seed(1)
            found = network(x)
            torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)
            for one, other in zip(torch.autograd.grad((found * weights).sum(), trained), wanted, strict=True):
                assert float(other.abs().max()) > 0
                torch.testing.assert_close(one, other, rtol=0, atol=TOLERANCE * max(1.0, float(other.abs().max())))
