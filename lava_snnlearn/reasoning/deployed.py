"""A FixedReasoner where a network is asked: evaluation by the emulator, in the chip's integers read in real units."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lava_snnlearn.fixed_point.reasoner import FixedReasoner
from lava_snnlearn.fixed_point.reasoner_emulator import emulate_reasoner
from lava_snnlearn.fixed_point.reasoner_head import DECODE_ONE
from lava_snnlearn.graphs.graph import Graph
from lava_snnlearn.networks.graph_reasoner import GraphResponse
from lava_snnlearn.networks.propagation import Propagation


class DeployedReasoner(nn.Module):
    """What :func:`~lava_snnlearn.reasoning.evaluation.evaluate` asks of a network, answered by the emulator; no parameters."""

    def __init__(self, fixed: FixedReasoner) -> None:
        super().__init__()
        self.fixed = fixed
        self.relations, self.width, self.homogeneous = fixed.relations, fixed.width, fixed.homogeneous
        self.rule = Propagation(fixed.steps, fixed.max_delay, hop=fixed.hop)

    def run(self, graph: Graph, source: Tensor, query: Tensor) -> GraphResponse:
        """Features float64 [B, N, D] of queries (source int64 [B], query int64 [B]), and the number of spikes."""
        trace = emulate_reasoner(self.fixed, graph, source.numpy(), query.numpy(), threads=torch.get_num_threads())
        features = torch.from_numpy(trace.features).double() / DECODE_ONE
        return GraphResponse(features, None, int(trace.spike_counts.sum()))

    def scores(self, features: Tensor, query: Tensor) -> Tensor:
        """Scores float64 [B, C] of features [B, C, D]."""
        return torch.from_numpy(self.fixed.head.read(features.double().numpy(), query.numpy()))
