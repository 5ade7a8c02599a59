"""lava-dl slayer: CUBA blocks in Loihi's integers (8-bit weights, hard reset, exponential surrogate), no bias."""

from __future__ import annotations

from importlib.metadata import version

import lava.lib.dl.slayer as slayer
import torch
from candidate import Candidate, Job, every_step, mean_loss
from problem import LEAK
from torch import Tensor, nn


def build(job: Job) -> Candidate:
    """Input [B, ..., T]. The readout is a synapse without neurons; average pooling is torch's."""
    neuron = {"threshold": 1.0, "current_decay": 1.0, "voltage_decay": LEAK, "scale_grad": 1.0, "tau_grad": 0.5}
    if job.net == "mlp":
        blocks = [slayer.block.cuba.Dense(neuron, 784, 800, delay_shift=False), slayer.synapse.Dense(800, 10)]
        net = nn.Sequential(*blocks)
    else:
        blocks = [
            slayer.block.cuba.Conv(neuron, 1, 16, 3, padding=1, delay_shift=False),
            slayer.block.cuba.Conv(neuron, 16, 32, 3, padding=1, delay_shift=False),
            slayer.synapse.Dense(32 * 7 * 7, 10),
        ]
        pool = nn.AvgPool3d((2, 2, 1))
        net = nn.Sequential(blocks[0], pool, blocks[1], pool, nn.Flatten(1, 3), blocks[2])
    weights = [getattr(block, "synapse", block).weight for block in blocks]
    with torch.no_grad():
        for index, weight in enumerate(weights):
            weight.copy_(job.tensor(f"weight{index}").reshape(weight.shape))

    def prepare(x: Tensor, steps: int) -> Tensor:
        return every_step(x, steps, job.inputs == "static").movedim(0, -1).contiguous()

    def run(x: Tensor, y: Tensor) -> float:
        loss = mean_loss(net(x).permute(2, 0, 1), y)
        loss.backward()
        return loss.item()

    return Candidate(prepare, run, weights, version("lava-dl"))
