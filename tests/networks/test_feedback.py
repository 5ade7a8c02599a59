"""Feedback networks: how they are built, where they start, and their timing against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.networks import feedback_net
from lava_snnlearn.networks.synapse import Geometry
from lava_snnlearn.neurons import LIF, FeedbackLIF


def test_dense_networks():
    network = feedback_net(64, (100, 50), 10, steps=7, dropout=0.2)
    assert [tuple(layer.weight.shape) for layer in network.spiking_layers] == [(100, 64), (50, 100)]
    assert tuple(network.feedback.weight.shape) == (100, 50)
    assert tuple(network.readout.weight.shape) == (10, 50)
    assert network.feedback.bias is None
    assert (network.steps, network.dropout, network.feedback_joins) == (7, 0.2, "behind_norm")
    assert all(layer.neuron == FeedbackLIF() for layer in network.spiking_layers)


@pytest.mark.parametrize(
    "layers, shapes, geometry",
    [
        ("6C5s2", [(6, 4, 4)], Geometry(5, 1, 2)),
        ("6C3-8C3", [(6, 8, 8), (8, 8, 8)], Geometry(3, 1, 1)),
        ("6C3-8C3s2", [(6, 8, 8), (8, 4, 4)], Geometry(3, 2, 1, True)),
        ("6C3-P2-8C3s2", [(6, 8, 8), (8, 2, 2)], Geometry(3, 4, 1, True)),
    ],
)
def test_maps_are_fed_back_by_convolutions_and_to_larger_ones_by_transposed_ones(layers, shapes, geometry):
    network = feedback_net((2, 8, 8), layers, 3)
    assert [layer.shape for layer in network.spiking_layers] == shapes
    assert network.feedback.geometry == geometry
    assert network.feedback.source == shapes[-1]
    assert network.feedback.shape == shapes[0]


def test_the_kernel_of_the_feedback_is_a_choice():
    assert feedback_net((2, 8, 8), "6C5s2", 3, feedback_kernel=3).feedback.geometry.kernel == 3
    assert feedback_net((2, 8, 8), "6C3-8C3", 3, feedback_kernel=5).feedback.geometry.kernel == 5


def test_width_scales_the_channels():
    assert [layer.shape[0] for layer in feedback_net((1, 8, 8), "16C3-8C3s2", 3, width=0.5).spiking_layers] == [8, 4]


@pytest.mark.parametrize("layers", [(9, 7), "6C3-8C3s2"])
def test_weights_start_as_rows_of_length_one(layers):
    """A row is all that one output neuron, or channel, hears; of a transposed kernel [in, out, k, k] as well."""
    network = feedback_net((2, 8, 8), layers, 4)
    feedback = network.feedback.weight.detach()
    if network.feedback.geometry is not None:
        assert network.feedback.geometry.transposed
        feedback = feedback.transpose(0, 1)
    weights = [module.weight.detach() for module in (*network.spiking_layers, network.readout)]
    for weight in (*weights, feedback):
        rows = weight.reshape(len(weight), -1)
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(rows)))
        assert float(rows.min()) < 0 < float(rows.max())
    biases = [value for name, value in network.named_parameters() if name.endswith("bias")]
    assert len(biases) == len(weights)
    assert not any(value.any() for value in biases)


def test_draws_follow_the_seed():
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        weights.append(feedback_net(5, (4,), 3).feedback.weight.detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("timing, delays", [("instant", [1, 1]), ("pipelined", [1, 3])])
def test_timing_is_the_delay_of_the_feedback(timing, delays):
    networks = [feedback_net(6, layers, 3, timing=timing) for layers in ((5,), (5, 5, 5))]
    assert [network.feedback_delay for network in networks] == delays


def test_the_readout_forgets_as_the_neurons_do():
    assert feedback_net(6, (5,), 3, FeedbackLIF(leak=0.05)).readout.leak == 0.05
    assert feedback_net((1, 4, 4), "3C3", 3, FeedbackLIF(leak=0.05)).readout.leak == 0.05
    assert feedback_net(6, (5,), 3).readout.leak == 0.0


def test_a_norm_stands_behind_every_forward_connection():
    network = feedback_net(6, (5, 4), 3, norm="bn_step")
    assert network.batch_norms == ["bn_step", "bn_step"]
    assert network.feedback.standardise is None


@pytest.mark.parametrize("timing", ["instant", "pipelined"])
@pytest.mark.parametrize("sizes", [(9,), (9, 8, 7)])
@pytest.mark.parametrize("norm", ["none", "bn_step"])
def test_spikes_are_those_of_the_published_loop(timing, sizes, norm):
    """u_1 += BN(F x) + R s_L of ``delay`` steps before; the norm does not see the feedback. Multiples of 1/64: no rounding."""
    rng = np.random.default_rng(0)
    neuron = FeedbackLIF(leak=0.25, firing=0.5)
    network = feedback_net(6, sizes, 3, neuron, timing=timing, steps=12, norm=norm).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.from_numpy(rng.integers(-64, 65, tuple(parameter.shape)) / 32))
        for layer in network.spiking_layers if norm != "none" else ():
            layer.batch_norm.eps = 0.25
            layer.batch_norm.running_var.fill_(0.75)  # with eps: 1
            layer.batch_norm.running_mean.fill_(0.5)
    x = rng.integers(0, 17, (4, 6)) / 8
    found = [state.spike.detach().numpy() for state in network.simulate(torch.from_numpy(x)).layers]
    sent = [np.zeros((4, sizes[-1]))] * network.feedback_delay
    membranes = [np.zeros((4, size)) for size in sizes]
    feedback = network.feedback.weight.detach().numpy()
    for t in range(12):
        signal, extra = x, sent.pop(0) @ feedback.T
        for index, layer in enumerate(network.spiking_layers):
            current = signal @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
            if norm != "none":
                current = (current - 0.5) * layer.batch_norm.weight.detach().numpy() + layer.batch_norm.bias.detach().numpy()
            u = membranes[index] + current + (extra if index == 0 else 0)
            signal = (u >= 1.0).astype(float)
            membranes[index] = 0.75 * (u - 2.0 * signal)
            np.testing.assert_array_equal(found[index][t], signal)
        sent.append(signal)
    assert all(0.05 < spikes.mean() < 0.95 for spikes in found)


def test_source_may_be_a_shape_for_dense_layers():
    assert feedback_net((1, 4, 4), (5,), 3).input_shape == (16,)


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: feedback_net(6, (5,), 3, timing="instantly"), UnknownNameError, "Did you mean 'instant'"),
        (lambda: feedback_net(6, (5,), 3, norm="batch"), UnknownNameError, "unknown norm 'batch'"),
        (lambda: feedback_net((1, 8, 8), "6C3-12", 3), ValueError, r"feedback from \(12,\) to \(6, 8, 8\) is not possible"),
        (lambda: feedback_net((1, 9, 9), "6C3-6C3s2", 3), ValueError, "whole multiples"),
        (lambda: feedback_net((1, 8, 8), "6C3", 3, feedback_kernel=2.5), TypeError, "feedback_kernel is 2.5"),
        (lambda: feedback_net(6, (), 3), ValueError, "one or more layers"),
        (lambda: feedback_net(6, (5,), 3, LIF), TypeError, "pass an instance"),
    ],
)
def test_what_cannot_be_built_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
