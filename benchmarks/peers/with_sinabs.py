"""sinabs: LIFSqueeze layers, all time steps of a layer before the next layer."""

from __future__ import annotations

import math
from importlib.metadata import version

from candidate import Candidate, Job, every_step, mean_loss, parameters, stages
from problem import LEAK
from sinabs.activation import SingleExponential, SingleSpike
from sinabs.layers import LIF
from torch import Tensor


def build(job: Job) -> Candidate:
    """One spike a step at most, current not scaled; the time constant is not trained."""
    maps = stages(job)
    tau = -1 / math.log(1 - LEAK)
    cells = [LIF(tau_mem=tau, spike_fn=SingleSpike, surrogate_grad_fn=SingleExponential(), norm_input=False) for _ in maps[:-1]]
    for cell in cells:
        cell.requires_grad_(False)

    def prepare(x: Tensor, steps: int) -> Tensor:
        return every_step(x, steps, job.inputs == "static").transpose(0, 1).contiguous()

    def run(x: Tensor, y: Tensor) -> float:
        batch, signal = len(x), x
        for stage, cell in zip(maps, cells, strict=False):
            cell.reset_states()
            signal = cell(stage(signal.flatten(0, 1)).unflatten(0, (batch, -1)))
        outputs = maps[-1](signal.flatten(0, 1)).unflatten(0, (batch, -1))
        loss = mean_loss(outputs.transpose(0, 1), y)
        loss.backward()
        return loss.item()

    return Candidate(prepare, run, parameters(maps), version("sinabs"))
