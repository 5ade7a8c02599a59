"""DFA: direct feedback alignment (Nøkland, NeurIPS 2016), with the traces of online training through time.

g_l[t] = B_l e[t] with fixed random B_l ~ N(0, scale^2 / classes) and e[t] = dL/do[t]: one hop from the readout to every
population, no transported weights. The weights come to agree with B in the course of training.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lava_snnlearn.methods.base import StepResult
from lava_snnlearn.methods.direct_engine import DirectWalk, FeedbackMethod, State
from lava_snnlearn.methods.feedback_weights import check_feedback, remembered
from lava_snnlearn.networks.network import Network


@dataclass(frozen=True)
class DFA(FeedbackMethod):
    """Direct feedback alignment.

    The matrices are kept in ``network.memory`` under ``dfa.<seed>.<population>``, [neurons, classes], drawn from N(0, 1).

    Args:
        update, loss, chunk: as in :class:`~lava_snnlearn.methods.OTTT`.
        scale: of the feedback: B ~ N(0, scale^2 / classes).
        seed: of the feedback.

    Raises:
        UnknownNameError: an unknown update. ValueError: chunk < 1, scale not > 0, seed < 0.
        TypeError: loss is not callable, chunk or seed not whole, scale no number.
    """

    scale: float = 1.0
    seed: int = 0
    name = "dfa"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_feedback(self.scale, self.seed)

    def gradients(self, network: Network, x: Tensor, y: Tensor, on_step: Callable[[], None] | None = None) -> StepResult:
        """Add DFA's gradient to ``.grad``; in the online form ``on_step`` is called after every time step.

        x: [B, n] or [T, B, n] float; y: int64 [B].
        """
        walk = DirectWalk(network, x, y, lambda sent, output, error: self._teach(network, sent, error))
        return self._learn(walk, y, on_step)

    def _teach(self, network: Network, sent: State, error: Tensor) -> State:
        shapes = {str(index): (p.outputs, network.classes) for index, p in enumerate(network.populations)}
        matrices = remembered(network, f"dfa.{self.seed}", shapes, self.seed)
        factor = self.scale / math.sqrt(network.classes)
        return {
            population: torch.matmul(factor * error, matrix.t()).view_as(sent[population])
            for population, matrix in zip(network.populations, matrices.values(), strict=True)
        }
