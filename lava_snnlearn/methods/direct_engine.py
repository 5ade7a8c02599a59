"""What DFA and OPZO share: errors that reach every population directly, not layer by layer.

The forward pass and the presynaptic traces are OTTT's. Spikes are cut off from all that hears them; the readout learns from the
true gradient e[t] = dL/do[t], and the spikes of every population get a gradient g[t] that the method makes of e[t]::

    grad W += (phi'(u[t]) g[t]) a_pre[t]^T              (three factors: trace x surrogate x modulation)

Between a population's spikes and the synapses that drive it (norms, sums of currents in residual blocks) gradients are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lava_snnlearn.checks import known_name
from lava_snnlearn.methods.base import Loss, Preset, StepResult, check_loss
from lava_snnlearn.methods.online_engine import TraceOptions, TraceWalk, check_chunk, learn_online, online_signal
from lava_snnlearn.methods.ottt import UPDATES
from lava_snnlearn.networks.delayed_maps import Rule
from lava_snnlearn.networks.delays import Delays
from lava_snnlearn.networks.network import Network
from lava_snnlearn.networks.synapse import Synapse

State = dict[nn.Module, Tensor]
Teach = Callable[[State, Tensor, Tensor], State]
"""(spikes of the populations [T, B, *shape], readout [T, B, classes], its error [T, B, classes]) -> gradients of the spikes."""


@dataclass(frozen=True)
class FeedbackMethod:
    """Options that the methods with feedback weights of their own share with OTTT.

    Args:
        update: "accumulate" (one optimiser step a batch) or "online" (one a time step).
        loss: per-step loss, divided by T.
        chunk: time steps per matrix product (accumulating form); None chooses. It sets memory and speed, not the result.

    Raises:
        UnknownNameError: an unknown update. ValueError: chunk < 1. TypeError: loss is not callable, chunk is not whole.
    """

    update: str = "accumulate"
    loss: Loss = field(default_factory=Loss)
    chunk: int | None = None
    engine = "direct"

    def __post_init__(self) -> None:
        known_name("update", self.update, UPDATES)
        check_loss(self.loss)
        check_chunk(self.chunk)

    @property
    def optimiser_every(self) -> str:
        """ "step" for the online form, otherwise "batch"."""
        return "step" if self.update == "online" else "batch"

    @property
    def preset(self) -> Preset:
        """OTTT's: leak 0.5 (tau 2), sigmoid surrogate a = 4, scaled weight standardisation, T = 6."""
        return Preset()

    def _learn(self, walk: TraceWalk, y: Tensor, on_step: Callable[[], None] | None) -> StepResult:
        return learn_online(walk, y, self.loss, chunk=self.chunk, on_step=on_step if self.update == "online" else None)


class DirectWalk(TraceWalk):
    """The trace walk whose populations hear of errors from ``teach`` alone.

    Args:
        network, x, y: a batch; see :meth:`lava_snnlearn.methods.base.Method.gradients`.
        teach: makes the gradients of the spikes; populations that it leaves out learn nothing.

    Raises:
        ValueError, TypeError: as :func:`~lava_snnlearn.methods.online_engine.run_online`.
    """

    def __init__(self, network: Network, x: Tensor, y: Tensor, teach: Teach) -> None:
        super().__init__(network, online_signal(network, x, y), TraceOptions())
        self.teach = teach
        self.sent: State = {}
        self._heard_as: dict[int, tuple[Tensor, Tensor]] = {}

    def advance(self, length: int) -> Tensor:
        """As in Walk; the readout is cut off from the network, so that its error can be seen."""
        self.sent, self._heard_as = {}, {}
        self._readout = super().advance(length)
        self._output = self._readout.detach().requires_grad_()
        return self._output

    def backward(self, loss: Tensor) -> None:
        """Error of the readout, then every population's own, each through its own layer only."""
        loss.backward()
        error = self._output.grad
        assert error is not None
        taught = self.teach({key: spikes.detach() for key, spikes in self.sent.items()}, self._output.detach(), error)
        pairs = [(self._readout, error), *((self.sent[key], gradient) for key, gradient in taught.items())]
        trained = [pair for pair in pairs if pair[0].requires_grad]
        torch.autograd.backward([signal for signal, _ in trained], [gradient for _, gradient in trained])

    def fire(self, population: nn.Module, current: Tensor, fresh: bool = False) -> Tensor:
        """As in Walk; what is sent on has no graph, and is what :meth:`passed_on` makes of the spikes."""
        spikes = super().fire(population, current, fresh)
        self.sent[population] = spikes
        clean = spikes.detach()
        if id(spikes) in self.known:
            _, trace, lam = self.known.pop(id(spikes))
            self.known[id(clean)] = (clean, trace, lam)
        sent = self.passed_on(population, clean)
        self._heard_as[id(sent)] = (sent, clean)
        return sent

    def passed_on(self, population: nn.Module, spikes: Tensor) -> Tensor:
        """What the others hear for these spikes [T, B, *shape]; traces are always those of the spikes."""
        return spikes

    def _rule(self, synapse: Synapse, delays: Delays, signal: Tensor, flat: Tensor) -> Rule:
        return super()._rule(synapse, delays, signal, self._clean(signal).flatten(2))

    def _clean(self, signal: Tensor) -> Tensor:
        return self._heard_as[id(signal)][1] if id(signal) in self._heard_as else signal

    def _trace(self, synapse: Synapse, signal: Tensor) -> Tensor:
        return super()._trace(synapse, self._clean(signal))

    def _prepared_trace(self, synapse: Synapse, signal: Tensor, prepared: Tensor) -> Tensor:
        clean = self._clean(signal)
        if clean is not signal and id(clean) not in self.known:
            prepared = synapse.prepare(clean)
        return super()._prepared_trace(synapse, clean, prepared)
