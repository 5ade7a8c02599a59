"""This library's methods."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch
from candidate import Candidate, Job
from problem import LEAK, SLOPE
from torch import Tensor

import lava_snnlearn as snn


def network(job: Job) -> Any:
    """The job's network with the problem's weights."""
    neuron = snn.neurons.LIF(leak=LEAK, surrogate=snn.neurons.Sigmoid(SLOPE))
    if job.method == "DSR":  # its gradient is that of neurons of its own, which have no surrogate
        neuron = snn.neurons.DSRLIF()
    if job.net == "feedback":
        firing = 0.5 if job.method == "SPIDE" else 1.0
        made = snn.networks.feedback_net(784, (400,), 10, snn.neurons.FeedbackLIF(firing=firing), steps=job.steps)
        snn.methods.IDE().constrain(made)
    elif job.net == "mlp":
        made = snn.networks.mlp([784, 800, 10], neuron, norm="none", steps=job.steps)
    else:
        made = snn.networks.conv_net((1, 28, 28), "16C3-P2-32C3-P2", 10, neuron, norm="none", steps=job.steps)
    with torch.no_grad():
        for index, layer in enumerate([*made.spiking_layers, made.readout]):
            layer.weight.copy_(job.tensor(f"weight{index}").reshape(layer.weight.shape))
            layer.bias.copy_(job.tensor(f"bias{index}"))
    return made


def build(job: Job) -> Candidate:
    """``job.method`` is a class of ``snn.methods``; the option "official" (OTTT) gives the published code's form."""
    made = network(job)
    options = dict(job.options)
    if options.pop("official", False):
        options |= {"trace_first_layer": False, "trace_readout": True, "trace_bias": False}
    if job.method not in ("DSR", "RateBP", "IDE", "SPIDE"):  # these have one loss, the cross entropy of the rate
        options["loss"] = snn.methods.Loss(mse_weight=0.0)
    method = getattr(snn.methods, job.method)(**options)

    def prepare(x: Tensor, steps: int) -> Tensor:
        made.steps = steps
        return x

    def run(x: Tensor, y: Tensor) -> float:
        return float(method.gradients(made, x, y).loss)

    parameters = [p for layer in [*made.spiking_layers, made.readout] for p in (layer.weight, layer.bias)]
    return Candidate(prepare, run, parameters, version("lava-snnlearn"))
