"""Readouts of one network: one for each task, or a wide one for all."""

from __future__ import annotations

from typing import Any

import torch

from lava_snnlearn.checks import instance_of
from lava_snnlearn.data.tasks import TaskSequence
from lava_snnlearn.networks.layers import Readout
from lava_snnlearn.networks.network import Network


def check_sequence(tasks: Any) -> None:
    """Raise TypeError if ``tasks`` is no TaskSequence."""
    instance_of("tasks", tasks, TaskSequence, "pass a TaskSequence, e.g. snn.data.permuted(data, tasks=5)")


def fresh_readout(network: Any, classes: int, seed: int) -> Readout:
    """A readout like the network's own, with other classes and new weights, drawn with this seed.

    Raises:
        TypeError: a network whose readout cannot be exchanged.
    """
    instance_of("network", network, Network, "heads of their own need a network with a readout, e.g. snn.networks.mlp([...])")
    own = network.readout
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        readout = Readout(own.source, classes, own.input_gain, pool=own.pool, leak=own.leak)
    if own.bias is None:
        readout.bias = None
    return readout.to(own.weight)
