"""A trained network in the floating_pt models equals the torch network in float64: same spikes, membranes to 1e-9."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lava.proc.dense.process import Dense

import lava_snnlearn as snn
from lava_snnlearn.lava_backend import run_config, run_guarded
from lava_snnlearn.processes import Recorder, SampleSource, SoftResetLIF

STEPS = 6


@pytest.mark.parametrize("norm", ["none", "bn_step", "sws"])
def test_floating_point_network_equals_torch(norm: str) -> None:
    data = snn.data.load("digits")
    torch.manual_seed(3)
    network = snn.networks.mlp([64, 24, 16, 10], norm=norm, steps=STEPS)
    snn.Trainer(network, snn.methods.BPTT(), data, epochs=1, progress=False).fit()
    network.double().eval()
    samples = torch.from_numpy(data.test.x[:3]).double()
    with torch.no_grad():
        expected = network.simulate(samples)
        first, second = (layer.folded() for layer in network.spiking_layers)

    # A sample is 6 steps, and the second layer runs one step behind the first.
    period = STEPS + 1
    current = np.zeros((len(samples), period, 24))
    current[:, :STEPS] = (samples @ first.weight.T + first.bias).numpy()[:, None]
    source = SampleSource(data=current.reshape(-1, 24))
    times = [{"t_start": lag, "t_stop": lag + STEPS, "reset_interval": period} for lag in (0, 1)]
    neurons = [
        SoftResetLIF(shape=(24,), vth=1.0, dv=0.5, **times[0]),
        SoftResetLIF(shape=(16,), vth=1.0, dv=0.5, bias_mant=second.bias.numpy(), **times[1]),
    ]
    synapse = Dense(weights=second.weight.numpy())
    source.s_out.connect(neurons[0].a_in)
    neurons[0].s_out.connect(synapse.s_in)
    synapse.a_out.connect(neurons[1].a_in)
    recorders = []
    for neuron in neurons:
        recorders.append(Recorder(shape=neuron.v.shape, steps=len(current.reshape(-1, 24))))
        neuron.s_out.connect(recorders[-1].s_in)
        recorders[-1].v_ref.connect_var(neuron.v)
    run_guarded(source, len(samples) * period, run_config("floating_pt"), time_limit=30)

    for lag, (recorder, layer) in enumerate(zip(recorders, expected.layers, strict=True)):
        # Away from ties a difference of 1e-9 cannot flip a spike.
        assert (layer.charged - 1).abs().min() > 1e-9
        cut = [
            rows.reshape(len(samples), period, -1)[:, lag : lag + STEPS].swapaxes(0, 1)
            for rows in (recorder.spikes, recorder.membranes)
        ]
        np.testing.assert_array_equal(cut[0], layer.spike.numpy())
        np.testing.assert_allclose(cut[1], layer.membrane.numpy(), rtol=0, atol=1e-9)
