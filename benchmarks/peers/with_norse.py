"""norse: LIFBox cells (no synaptic current) in a loop over time."""

from __future__ import annotations

from importlib.metadata import version

import torch
from candidate import Candidate, Job, every_step, mean_loss, parameters, stages
from norse.torch import LIFBoxCell, LIFBoxParameters
from norse.torch.functional.reset import reset_subtract
from problem import LEAK
from torch import Tensor

DT = 0.001


def build(job: Job) -> Candidate:
    """norse scales the current by 1 - lam: the weights before its neurons are multiplied by the inverse."""
    maps = stages(job)
    with torch.no_grad():
        for stage in maps[:-1]:
            stage[-1].weight /= LEAK
            stage[-1].bias /= LEAK
    neuron = LIFBoxParameters(tau_mem_inv=torch.as_tensor(LEAK / DT), reset_method=reset_subtract)
    cells = [LIFBoxCell(neuron, dt=DT) for _ in maps[:-1]]

    def prepare(x: Tensor, steps: int) -> Tensor:
        return every_step(x, steps, job.inputs == "static")

    def run(x: Tensor, y: Tensor) -> float:
        states = [None] * len(cells)
        outputs = []
        for signal in x:
            for index, cell in enumerate(cells):
                signal, states[index] = cell(maps[index](signal), states[index])
            outputs.append(maps[-1](signal))
        loss = mean_loss(torch.stack(outputs), y)
        loss.backward()
        return loss.item()

    scales = [1 / LEAK] * (2 * len(cells)) + [1.0, 1.0]
    return Candidate(prepare, run, parameters(maps), version("norse"), scales)
