"""The linear operations alone, over all time steps at once: the work that no library can avoid when every frame is new."""

from __future__ import annotations

import torch
from candidate import Candidate, Job, every_step, parameters, stages
from torch import Tensor


def build(job: Job) -> Candidate:
    """MLP: forward product and weight gradient of the first layer. Conv net: all maps, forward and backward, no neurons."""
    maps = stages(job)
    weight = maps[0][-1].weight

    def products(x: Tensor, y: Tensor) -> float:
        frames = x.flatten(0, 1)
        with torch.no_grad():
            currents = torch.mm(frames, weight.t())
            torch.mm(currents.t(), frames)
        return 0.0

    def operations(x: Tensor, y: Tensor) -> float:
        signal = x.flatten(0, 1)
        for stage in maps:
            signal = stage(signal)
        signal.backward(torch.ones_like(signal))
        return 0.0

    def prepare(x: Tensor, steps: int) -> Tensor:
        return every_step(x, steps, job.inputs == "static")

    return Candidate(prepare, products if job.net == "mlp" else operations, parameters(maps), torch.__version__)
