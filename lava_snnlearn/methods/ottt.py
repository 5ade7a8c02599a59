"""OTTT: online training through time (Xiao et al., NeurIPS 2022): the *trace* engine.

grad_t W = g[t] a_pre[t]^T with the presynaptic trace a[t] = lam a[t-1] + s[t] (their eqs. 6-8): three factors per synapse,
trace x surrogate x error. Kept of BPTT: the leak path within the neuron. Dropped: the reset path, and the influence of a
spike on later losses through the membranes of higher layers. Memory does not depend on T.

The trace assumes reset by subtraction; with ``LIF(reset="zero")`` the cut that a hard reset makes in it is dropped as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from lava_snnlearn.checks import flag, known_name
from lava_snnlearn.methods.base import Loss, Preset, StepResult, check_loss
from lava_snnlearn.methods.online_engine import TraceOptions, check_chunk, run_online
from lava_snnlearn.networks.network import Network

UPDATES = ("accumulate", "online")


@dataclass(frozen=True)
class OTTT:
    """Online training through time.

    Args:
        update: "accumulate" (OTTT_A, one optimiser step a batch) or "online" (OTTT_O, one optimiser step a time step;
            membranes and traces computed with the old weights are kept, the learning rate is not rescaled).
        trace_first_layer: the first layer's gradient uses the trace of the data (official code: False).
        trace_readout: the readout's gradient uses the trace although it has no memory (official code: True; inexact).
        trace_bias: the bias gradient uses the bias's trace sum_{j<=t} lam^j (official code: False).
        loss: per-step loss, divided by T.
        chunk: time steps per matrix product (accumulating form); None chooses by the size of network and batch. It sets memory
            and speed, not the result.

    ``OTTT.official()`` gives the official code's options; the defaults are the mathematically consistent form.

    Raises:
        UnknownNameError: an unknown update. ValueError: chunk < 1.
        TypeError: an option of the trace is no bool, loss is not callable, chunk is not whole.
    """

    update: str = "accumulate"
    trace_first_layer: bool = True
    trace_readout: bool = False
    trace_bias: bool = True
    loss: Loss = field(default_factory=Loss)
    chunk: int | None = None
    name = "ottt"

    def __post_init__(self) -> None:
        known_name("OTTT update", self.update, UPDATES)
        for option in ("trace_first_layer", "trace_readout", "trace_bias"):
            flag(option, getattr(self, option))
        check_loss(self.loss)
        check_chunk(self.chunk)

    @classmethod
    def official(cls, update: str = "accumulate") -> OTTT:
        """The options of the published code."""
        return cls(update=update, trace_first_layer=False, trace_readout=True, trace_bias=False)

    @property
    def optimiser_every(self) -> str:
        """ "step" for the online form, otherwise "batch"."""
        return "step" if self.update == "online" else "batch"

    @property
    def engine(self) -> str | None:
        """ "trace"; None where an option leaves the consistent form."""
        return "trace" if self.trace_first_layer and self.trace_bias and not self.trace_readout else None

    @property
    def preset(self) -> Preset:
        """leak 0.5 (tau 2), sigmoid surrogate a = 4, scaled weight standardisation, T = 6."""
        return Preset()

    def gradients(self, network: Network, x: Tensor, y: Tensor, on_step: Callable[[], None] | None = None) -> StepResult:
        """Add OTTT's gradient to ``.grad``; in the online form ``on_step`` is called after every time step.

        x: [B, n] or [T, B, n] float; y: int64 [B]. The online form needs ``on_step`` only if the weights are to change on
        the way; without it the gradients of all steps add up, as in the accumulating form.
        """
        options = TraceOptions(self.trace_first_layer, self.trace_readout, self.trace_bias)
        stepping = on_step if self.update == "online" else None
        return run_online(network, x, y, self.loss, chunk=self.chunk, trace=options, on_step=stepping)
