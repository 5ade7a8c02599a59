"""What a candidate is, and the parts that those built from plain torch layers share. Runs in every peer's interpreter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class Job:
    """What a worker is asked for: "mlp" or "conv", "new frames" or "static", T, and the method's name and options."""

    net: str
    inputs: str
    steps: int
    method: str
    options: dict[str, Any]
    arrays: dict[str, Any]

    def tensor(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name])


@dataclass
class Candidate:
    """One library's network and training step.

    ``prepare(x, steps)`` brings the input into the library's layout, untimed: ``x`` is [T, B, ...], or [B, ...] if static.
    ``run(x, y)`` fills the gradients and returns the loss. ``parameters`` are weight0, bias0, weight1, ...; a gradient times
    ``scales`` (one number per parameter) is that of the problem's parameter. ``version`` is the library's.
    """

    prepare: Callable[[Tensor, int], Tensor]
    run: Callable[[Tensor, Tensor], float]
    parameters: list[nn.Parameter]
    version: str
    scales: list[float] | None = None


def every_step(x: Tensor, steps: int, static: bool) -> Tensor:
    """[T, B, ...]: a static frame is repeated before the clock starts, as these libraries take no other input."""
    return x.unsqueeze(0).repeat(steps, *[1] * x.dim()) if static else x


def stages(job: Job) -> list[nn.Sequential]:
    """The linear maps: one before each population of neurons, and the readout."""
    layers: list[list[nn.Module]] = (
        [[nn.Linear(784, 800)], [nn.Linear(800, 10)]]
        if job.net == "mlp"
        else [
            [nn.Conv2d(1, 16, 3, padding=1)],
            [nn.AvgPool2d(2), nn.Conv2d(16, 32, 3, padding=1)],
            [nn.AvgPool2d(2), nn.Flatten(), nn.Linear(32 * 7 * 7, 10)],
        ]
    )
    with torch.no_grad():
        for index, layer in enumerate(layers):
            layer[-1].weight.copy_(job.tensor(f"weight{index}"))
            layer[-1].bias.copy_(job.tensor(f"bias{index}"))
    return [nn.Sequential(*layer) for layer in layers]


def parameters(maps: list[nn.Sequential]) -> list[nn.Parameter]:
    """weight0, bias0, weight1, ..."""
    return [parameter for stage in maps for parameter in (stage[-1].weight, stage[-1].bias)]


def mean_loss(outputs: Tensor, y: Tensor) -> Tensor:
    """Cross entropy of every step, averaged over batch and time; outputs [T, B, 10]."""
    return F.cross_entropy(outputs.flatten(0, 1), y.repeat(len(outputs)))
