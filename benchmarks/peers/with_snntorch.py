"""snnTorch: Leaky neurons in a loop over time."""

from __future__ import annotations

import snntorch
import torch
from candidate import Candidate, Job, every_step, mean_loss, parameters, stages
from problem import LEAK, SLOPE
from snntorch import surrogate
from torch import Tensor


def build(job: Job) -> Candidate:
    """Soft reset one step late (snnTorch's default), detached."""
    maps = stages(job)
    cells = [snntorch.Leaky(beta=1 - LEAK, spike_grad=surrogate.sigmoid(slope=SLOPE)) for _ in maps[:-1]]

    def prepare(x: Tensor, steps: int) -> Tensor:
        return every_step(x, steps, job.inputs == "static")

    def run(x: Tensor, y: Tensor) -> float:
        membranes = [cell.reset_mem() for cell in cells]
        outputs = []
        for signal in x:
            for index, cell in enumerate(cells):
                signal, membranes[index] = cell(maps[index](signal), membranes[index])
            outputs.append(maps[-1](signal))
        loss = mean_loss(torch.stack(outputs), y)
        loss.backward()
        return loss.item()

    return Candidate(prepare, run, parameters(maps), snntorch.__version__)
