"""SpikingJelly: LIF nodes step by step or all steps at once; its OTTT and SLTT (from release 2.0 on)."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch
import torch.nn.functional as F
from candidate import Candidate, Job, every_step, mean_loss, parameters, stages
from problem import LEAK, SLOPE
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor, nn


class NoOptimiser:
    """Stands in for the optimiser of SpikingJelly's training loop: the optimiser is no part of the measurement."""

    def zero_grad(self) -> None:
        """Nothing: the worker has done it."""

    def step(self) -> None:
        """Nothing."""


def build(job: Job) -> Candidate:
    """``job.method``: "single" and "multi" (BPTT), "ottt", "sltt"."""
    maps = stages(job)
    options: dict[str, Any] = {
        "tau": 1 / LEAK,
        "decay_input": False,
        "v_reset": None,
        "surrogate_function": surrogate.Sigmoid(alpha=SLOPE),
        "detach_reset": True,
    }
    kinds = {"single": "LIFNode", "multi": "LIFNode", "ottt": "OTTTLIFNode", "sltt": "SLTTLIFNode"}
    kind = getattr(neuron, kinds[job.method])
    cells = [kind(**options, step_mode="m" if job.method == "multi" else "s") for _ in maps[:-1]]
    modules = [module for stage, cell in zip(maps, cells, strict=False) for module in (*stage, cell)] + [*maps[-1]]

    def prepare(x: Tensor, steps: int) -> Tensor:
        return every_step(x, steps, job.inputs == "static")

    def bptt(x: Tensor, y: Tensor) -> float:
        for cell in cells:
            cell.reset()
        if job.method == "single":
            net = nn.Sequential(*modules)
            outputs = torch.stack([net(frame) for frame in x])
        else:
            signal = x
            for stage, cell in zip(maps, cells, strict=False):
                signal = cell(functional.seq_to_ann_forward(signal, stage))
            outputs = functional.seq_to_ann_forward(signal, maps[-1])
        loss = mean_loss(outputs, y)
        loss.backward()
        return loss.item()

    def online(x: Tensor, y: Tensor) -> float:
        from spikingjelly.activation_based.layer import OTTTSequential
        from spikingjelly.activation_based.learning.online_learning import ottt_online_training

        for cell in cells:
            cell.reset()
        net = OTTTSequential(*modules) if job.method == "ottt" else nn.Sequential(*modules)
        steps = len(x)
        targets = y.unsqueeze(1).expand(-1, steps)

        def loss(output: Tensor, target: Tensor) -> Tensor:
            return F.cross_entropy(output, target) / steps

        total, _ = ottt_online_training(net, NoOptimiser(), x.transpose(0, 1), targets, loss, online=False)
        return float(total)

    run = online if job.method in ("ottt", "sltt") else bptt
    return Candidate(prepare, run, parameters(maps), version("spikingjelly"))
