"""FA: feedback alignment (Lillicrap et al., Nature Communications 2016), with the traces of online training through time.

Errors go back layer by layer as in OTTT, but through fixed random weights B of the forward weights' shapes in place of W::

    g_l[t] = phi'(u_l[t]) B_{l+1}^T g_{l+1}[t]

With ``feedback="sign"`` B = sign(W) / sqrt(fan-in) follows the signs of the weights (Liao, Leibo, Poggio, AAAI 2016).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lava_snnlearn.checks import known_name
from lava_snnlearn.methods.base import StepResult
from lava_snnlearn.methods.direct_engine import FeedbackMethod
from lava_snnlearn.methods.feedback_weights import check_feedback, remembered
from lava_snnlearn.methods.online_engine import TraceOptions, TraceWalk, online_signal
from lava_snnlearn.networks.layers import Readout
from lava_snnlearn.networks.network import Network
from lava_snnlearn.networks.synapse import Synapse
from lava_snnlearn.networks.synapse_maps import OperandMap

FEEDBACKS = ("random", "sign")


@dataclass(frozen=True)
class FA(FeedbackMethod):
    """Feedback alignment.

    Random weights are kept in ``network.memory`` under ``fa.<seed>.<synapse>``, of the forward weight's shape, drawn from
    N(0, 1). Feedback synapses and recurrent weights need none: errors do not go through them, since they go back in time.

    Args:
        update, loss, chunk: as in :class:`~lava_snnlearn.methods.OTTT`.
        feedback: "random" (B ~ N(0, scale^2 / fan-in), fixed) or "sign" (B = scale sign(W) / sqrt(fan-in)).
        scale: see there.
        seed: of the random weights.

    Raises:
        UnknownNameError: an unknown update or feedback. ValueError: chunk < 1, scale not > 0, seed < 0.
        TypeError: loss is not callable, chunk or seed not whole, scale no number.
    """

    feedback: str = "random"
    scale: float = 1.0
    seed: int = 0
    name = "fa"

    def __post_init__(self) -> None:
        super().__post_init__()
        known_name("feedback", self.feedback, FEEDBACKS)
        check_feedback(self.scale, self.seed)

    def gradients(self, network: Network, x: Tensor, y: Tensor, on_step: Callable[[], None] | None = None) -> StepResult:
        """Add FA's gradient to ``.grad``; in the online form ``on_step`` is called after every time step.

        x: [B, n] or [T, B, n] float; y: int64 [B].
        """
        return self._learn(_FeedbackWalk(network, online_signal(network, x, y), self), y, on_step)


class _FeedbackWalk(TraceWalk):
    """The trace walk whose errors go back through the feedback weights."""

    def __init__(self, network: Network, signal: Tensor, method: FA) -> None:
        super().__init__(network, signal, TraceOptions())
        self.method = method
        names = {module: name for name, module in network.named_modules() if isinstance(module, Synapse)}
        shapes = {name: tuple(s.weight.shape) for s, name in names.items() if s not in (network.layers[0], network.feedback)}
        if method.feedback == "random":
            drawn = remembered(network, f"fa.{method.seed}", shapes, method.seed)
            self.drawn = {synapse: drawn[name] for synapse, name in names.items() if name in drawn}

    def mapped(self, synapse: Synapse) -> Any:
        """The synapse, with its feedback weight in place of its own for what it reads."""
        if self.method.feedback == "sign":
            direction = self.weight(synapse).detach().sign()
        elif synapse in self.drawn:
            direction = self.drawn[synapse]
        else:
            return synapse
        return _Misaligned(synapse, direction * (self.method.scale / math.sqrt(synapse.weight[0].numel())))

    def read(self, readout: Readout, signal: Tensor) -> Tensor:
        """The readout, which as all others has a feedback weight."""
        prepared = readout.prepare(signal)
        mapped, weight = self.mapped(readout), self.weight(readout)
        flat = OperandMap.apply(prepared, prepared.detach(), weight, readout.bias, None, mapped, self.adds)
        return flat.view(*signal.shape[: signal.dim() - len(readout.source)], *readout.shape)


class _Misaligned:
    """A synapse that takes errors back through another weight than its own."""

    def __init__(self, synapse: Synapse, feedback: Tensor) -> None:
        self.feedback, self.input_map = feedback, synapse.input_gradient
        self.map, self.operand_gradient = synapse.map, synapse.operand_gradient
        self.add_operand_gradient = synapse.add_operand_gradient

    def input_gradient(self, like: Tensor, weight: Tensor, grad: Tensor) -> Tensor:
        return self.input_map(like, self.feedback, grad)
