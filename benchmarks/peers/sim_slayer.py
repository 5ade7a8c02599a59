"""lava-dl slayer: the forward pass of CUBA blocks, without gradients, in batches."""

from __future__ import annotations

import time
from importlib.metadata import version

import lava.lib.dl.slayer as slayer
import numpy as np
import torch
from integers import Integers
from simulator import Simulation
from torch import nn

UNIT = 64
"""Weight units in slayer's 1.0."""


def build(integers: Integers, threads: int, batch: int) -> Simulation:
    """Input float32 [B, 784, T]. ``delay_shift=False``: layers without lag, which saves steps and changes no spike."""
    torch.set_num_threads(threads)
    blocks = []
    for weight, vth in zip(integers.weights, integers.thresholds, strict=True):
        neuron = {"threshold": vth / UNIT, "current_decay": 1.0, "voltage_decay": integers.leak / 4096}
        block = slayer.block.cuba.Dense(neuron, weight.shape[1], weight.shape[0], delay_shift=False)
        with torch.no_grad():
            block.synapse.weight.copy_(torch.from_numpy(weight / UNIT).reshape(block.synapse.weight.shape))
        blocks.append(block)
    net = nn.Sequential(*blocks).eval()
    inputs = [
        torch.from_numpy(integers.x[:, first : first + batch]).permute(1, 2, 0).float().contiguous()
        for first in range(0, integers.samples, batch)
    ]
    kept: list[torch.Tensor] = []

    def run() -> float:
        begin = time.perf_counter()
        with torch.no_grad():
            kept[:] = [net(x) for x in inputs]
        return time.perf_counter() - begin

    def spikes() -> np.ndarray:
        return torch.cat(kept).permute(2, 0, 1).numpy().astype(np.uint8)

    return Simulation(run, spikes, version("lava-dl"))
