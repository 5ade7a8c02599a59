"""Digits, 64-128-128-10: every method to the specification's accuracy (section 10), also in 8 bits."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

import lava_snnlearn as snn
from lava_snnlearn.methods import BPTT, DSR, OTTT, SLTT, Method, RateBP
from lava_snnlearn.training import accuracy

pytestmark = pytest.mark.learning

SEEDS = (0, 1, 2)
CASES = {  # method, epochs, bar for the mean of the seeds
    "bptt": (BPTT(), 12, 0.96),
    "ottt, accumulate": (OTTT(), 12, 0.96),
    "ottt, online": (OTTT(update="online"), 12, 0.96),
    "sltt": (SLTT(), 30, 0.96),
    "sltt, k = 2": (SLTT(k=2), 30, 0.94),
    "rate-bp": (RateBP(), 12, 0.96),
    "dsr, if": (DSR(), 12, 0.96),
    "dsr, lif": (DSR(neuron="lif"), 12, 0.96),
}


@cache
def digits() -> snn.data.Dataset:
    return snn.data.load("digits", valid=0.0)


def train(method: Method, epochs: int, seed: int) -> tuple[float, float]:
    """Test accuracy of the network, and of its 8-bit fixed-point form."""
    torch.manual_seed(seed)
    preset, data = method.preset, digits()
    network = snn.networks.mlp([64, 128, 128, 10], preset.neuron, norm=preset.norm, steps=preset.steps)
    snn.Trainer(network, method, data, epochs=epochs, seed=seed, batch_size=128, learning_rate=0.1, progress=False).fit()
    chip = snn.quantize(network, weight_bits=8, calibration=data.train.x)
    fixed = snn.emulate(chip, data.test.x, record="outputs").predictions
    return accuracy(network, data.test), float((fixed == data.test.y).mean())


@pytest.mark.parametrize("name", CASES)
def test_method_learns_digits_and_keeps_it_in_fixed_point(name, record_property):
    method, epochs, bar = CASES[name]
    found = np.array([train(method, epochs, seed) for seed in SEEDS])
    record_property("accuracies", found.tolist())
    print(f"{name}: float {found[:, 0].round(4).tolist()}, 8 bits {found[:, 1].round(4).tolist()}")
    mean, fixed = found.mean(0)
    assert mean >= bar
    assert abs(mean - fixed) <= 0.005
