"""Learning where the data folder is at hand (CI): a conv net on 10,000 samples of Fashion-MNIST, a fold of N-MNIST.

Accuracies of full runs are in benchmarks/results/accuracy.md.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch

import lava_snnlearn as snn
from lava_snnlearn.data.batches import inputs
from lava_snnlearn.data.places import DATA_VARIABLE
from lava_snnlearn.methods import BPTT, OTTT, SLTT, RateBP
from lava_snnlearn.training import accuracy

FOLDER = Path(os.environ.get(DATA_VARIABLE, "none"))

pytestmark = [
    pytest.mark.learning,
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{DATA_VARIABLE} names no folder; CI sets it"),
]


@pytest.mark.parametrize("method", [OTTT(), SLTT(), RateBP()], ids=lambda method: method.name)
def test_conv_net_learns_fashion_and_verifies(method):
    data = snn.data.load("fashion", valid=0.0, train_size=10_000)
    torch.manual_seed(0)
    preset = method.preset
    network = snn.networks.conv_net((1, 28, 28), "16C3-P2-32C3-P2-128", 10, preset.neuron, norm=preset.norm, steps=4)
    snn.Trainer(network, method, data, epochs=5, seed=0, progress=False).fit()
    found = accuracy(network, data.test)
    assert found >= 0.87
    chip = snn.quantize(network, calibration=data.train.x[:2000])
    fixed = snn.emulate(chip, data.test.x, record="outputs").predictions
    assert abs(float((fixed == data.test.y).mean()) - found) <= 0.005
    report = snn.verify(chip, data.test.x[:8])
    assert report.ok, str(report)


@pytest.mark.parametrize("method", [BPTT(), OTTT(), SLTT()], ids=lambda method: method.name)
def test_event_network_learns_nmnist_and_verifies(method):
    """The first of five folds, at half the resolution; binary frames, so that the chip's input are the events themselves."""
    data = snn.data.load("nmnist", valid=0.0, steps=10, spatial_downsample=2, max_count=1, progress=False)
    fold = snn.data.k_folds(data, 5)[0]
    torch.manual_seed(0)
    neuron = dataclasses.replace(method.preset.neuron, leak=0.5)
    network = snn.networks.mlp([data.features, 200, 10], neuron, norm=method.preset.norm, steps=10)
    snn.Trainer(network, method, fold, epochs=12, seed=0, batch_size=64, learning_rate=0.05, progress=False).fit()
    found = accuracy(network, fold.test)
    assert found >= 0.82
    x = inputs(fold.test.x, torch.device("cpu"), torch.float32).numpy()
    chip = snn.quantize(network, input="spikes", calibration=x)
    fixed = snn.emulate(chip, x, record="outputs").predictions
    assert abs(float((fixed == fold.test.y).mean()) - found) <= 0.02
    report = snn.verify(chip, np.ascontiguousarray(x[:, :8]))
    assert report.ok, str(report)
