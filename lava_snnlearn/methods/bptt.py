"""Backpropagation through time with surrogate gradients: the *full* engine, baseline of all other methods.

Adjoint recursion (online_and_bptt spec, 0.1), with gs = dL/ds and gu = dL/du::

    gu[t] = phi'(u[t]) (gs[t] - [reset attached] lam Vth gu[t+1]) + lam gu[t+1]
    dL/dW = sum_t gu[t] s_pre[t]^T

Memory grows linearly with T; with ``slots`` or ``memory_mb`` it does not, at the price of steps that are run again, as few as
can be (Gruslys et al. 2016). Sources: Werbos 1990; Neftci, Mostafa and Zenke 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lava_snnlearn import distributed
from lava_snnlearn.checks import known_name, positive, whole_number
from lava_snnlearn.methods.base import Loss, Preset, StepResult, check_batch, check_loss, loss_over_time
from lava_snnlearn.methods.checkpointing import KINDS, Actions, Tally, plan, run_backward
from lava_snnlearn.methods.online_engine import check_chunk
from lava_snnlearn.networks.network import Network
from lava_snnlearn.networks.walk import Standpoint, Walk

REDUCTIONS = ("per_step", "mean_logit")
PIECE = 1 << 20
"""Potentials of a piece of time: larger than that of the online methods, since all pieces are kept anyway."""


@dataclass(frozen=True)
class BPTT:
    """Full backpropagation through time.

    Args:
        loss: per-step loss.
        reduction: "per_step" averages the loss of every step over T (as the online methods do); "mean_logit" takes the loss
            of the readout's mean over T, which is at most as large (convexity).
        chunk: time steps per matrix product; None chooses by the size of network and batch (all, with norm "bn_time"). It sets
            speed, not the result.
        slots: keep at most so many checkpoints at a time and run the steps between them again, in the least number of forwards.
            The gradient has the same bits as with ``chunk=1``. None: no checkpoints.
        checkpoints: what a slot keeps: "internal" (all that a step's backward needs) or "hidden" (membranes only: smaller, but
            every step is run once more).
        memory_mb: instead of ``slots``: a budget for checkpoints and the step under way, in 10^6 bytes; kind and number of
            checkpoints are chosen by it.

    Whether the reset carries gradient is a property of the neuron: ``LIF(detach_reset=False)`` attaches it.

    Raises:
        UnknownNameError: an unknown reduction or kind of checkpoints. TypeError: loss is not callable, a number of another
            type.
        ValueError: chunk, slots or memory_mb out of range, or options that exclude each other.
    """

    loss: Loss = field(default_factory=Loss)
    reduction: str = "per_step"
    chunk: int | None = None
    slots: int | None = None
    checkpoints: str = "internal"
    memory_mb: float | None = None
    name = "bptt"
    optimiser_every = "batch"

    def __post_init__(self) -> None:
        known_name("loss reduction", self.reduction, REDUCTIONS)
        known_name("kind of checkpoints", self.checkpoints, KINDS)
        check_loss(self.loss)
        if self.chunk is not None:
            check_chunk(self.chunk)
        if self.slots is not None and whole_number("slots", self.slots) < 1:
            raise ValueError(f"slots is {self.slots}; a schedule of checkpoints needs at least 1 slot")
        if self.memory_mb is not None:
            positive("memory_mb", self.memory_mb)
        if self._checkpointed and self.chunk is not None:
            raise ValueError("chunk cannot be chosen together with slots or memory_mb: checkpoints are made of single steps")
        if self.slots is not None and self.memory_mb is not None:
            raise ValueError("slots and memory_mb both set the number of checkpoints; give one of them")
        if self._checkpointed and self.reduction != "per_step":
            raise ValueError(
                f"reduction {self.reduction!r} needs all outputs before the first backward, which checkpoints avoid to keep; "
                "use reduction='per_step'"
            )

    @property
    def _checkpointed(self) -> bool:
        return self.slots is not None or self.memory_mb is not None

    @property
    def engine(self) -> str | None:
        """ "full": the exact gradient of the per-step loss; None for the mean logit, which is another loss."""
        return "full" if self.reduction == "per_step" else None

    @property
    def preset(self) -> Preset:
        """leak 0.5, sigmoid surrogate, scaled weight standardisation, T = 6."""
        return Preset()

    def gradients(self, network: Network, x: Tensor, y: Tensor, on_step: Callable[[], None] | None = None) -> StepResult:
        """Add dL/dparameters to ``.grad``. x: [B, n] or [T, B, n] float; y: int64 [B]. ``on_step`` is not used.

        Raises:
            ValueError: samples or labels that do not fit; batch norm over time with checkpoints; a budget that is too small.
        """
        signal = check_batch(network, x, y)
        if self._checkpointed:
            return self._with_checkpoints(network, signal, y)
        walk = Walk(network, signal)
        pieces = [walk.advance(length) for length in walk.pieces(self._piece(walk))]
        outputs = torch.cat(pieces)
        if self.reduction == "mean_logit":
            loss = self.loss(outputs.mean(0), y)
        else:
            # Piece by piece, so that a step's share of the loss does not depend on the others (bits equal to checkpointed
            # runs).
            loss = torch.stack([loss_over_time(self.loss, piece, y) / network.steps for piece in pieces]).sum()
        loss.backward()
        return StepResult(loss.item(), network.readout.collect(outputs.detach()), walk.spike_rate())

    def _piece(self, walk: Walk) -> int | None:
        if self.chunk is None and walk.network.needs_all_steps:
            return None
        return walk.length_of_piece(self.chunk, PIECE)

    def _with_checkpoints(self, network: Network, signal: Tensor, y: Tensor) -> StepResult:
        _refuse_norm_over_time(network, "checkpoints")
        steps = _Steps(network, signal, y, self.loss)
        kind, slots = self.checkpoints, self.slots
        if self.memory_mb is not None:
            kind, slots = steps.choose(int(self.memory_mb * 1e6))
        assert slots is not None
        steps.run(kind, slots)
        walk = steps.walk
        return StepResult(float(steps.loss), steps.answer, walk.spike_rate())


def _refuse_norm_over_time(network: Network, option: str) -> None:
    if network.needs_all_steps:
        raise ValueError(
            f"norm='bn_time' needs all steps at once, which {option} takes apart; use norm='bn_step', 'sws' or 'none'"
        )


@dataclass(frozen=True)
class _Rest:
    """The state behind a recorded step, without membranes of its own: they follow from the potentials that its graph keeps."""

    charged: dict[Any, Tensor]
    membranes: dict[Any, Tensor]
    past: dict[Any, Tensor]
    elapsed: int

    def standpoint(self) -> Standpoint:
        """The state, with the membranes' own bits."""
        found = dict(self.membranes)
        for population, charged in self.charged.items():
            neuron, level = population.neuron, population.level
            spike = (charged >= level).to(charged.dtype)
            found[population] = charged - level * spike if neuron.reset == "subtract" else charged * (1 - spike)
        return Standpoint(found, dict(self.past), self.elapsed)


@dataclass(frozen=True)
class _Record:
    """One step with its graph: roots of its backward, what the step behind it sends back, and where its own goes."""

    roots: list[Tensor]
    adjoint: dict[Any, Tensor]
    sent: dict[Any, Tensor]


class _Steps:
    """Single steps of a batch, run forward and taken back as a schedule asks for them."""

    def __init__(self, network: Network, signal: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.walk = Walk(network, signal, leaves=True)
        self.y, self._loss = y, loss
        self.answer = torch.zeros(len(y), network.classes, dtype=signal.dtype, device=signal.device)
        self.loss = torch.zeros((), dtype=signal.dtype, device=signal.device)
        self._anchor = torch.zeros((), dtype=signal.dtype, device=signal.device, requires_grad=True)
        self._reached = 0
        self._adjoint: dict[Any, Tensor] = {}

    def run(self, kind: str, slots: int) -> Tally:
        """All steps forward and back."""
        actions = Actions(self._advance, self._record, self._backward)
        tally = run_backward(kind, self.walk.standpoint(), self.walk.steps, slots, actions)
        self.walk.flush()
        return tally

    def _go(self, state: object) -> Standpoint:
        """Put the walk where ``state`` is."""
        place = state.standpoint() if isinstance(state, _Rest) else state
        assert isinstance(place, Standpoint)
        self.walk.restore(place)
        return place

    def _step(self) -> Tensor:
        """One step; statistics of batch norms follow at the first visit only."""
        walk = self.walk
        walk.updates_statistics = walk.elapsed == self._reached
        output = walk.advance(1)
        self._reached = max(self._reached, walk.elapsed)
        return output

    @torch.no_grad()
    def _advance(self, state: object, count: int) -> object:
        self._go(state)
        self.walk.counts = self.walk.reads = False
        for _ in range(count):
            self._step()
        self.walk.reads = True
        return self.walk.standpoint()

    def _record(self, state: object) -> tuple[object, object]:
        walk, before = self.walk, self._go(state)
        adjoint: dict[Any, Tensor] = {}
        sent: dict[Any, Tensor] = {}
        for name, part in (("v", walk.membranes), ("past", walk.past)):
            for key, value in part.items():
                part[key] = _Start.apply(self._anchor, value, sent, (name, key))
        walk.counts, walk.charged = True, {}
        output = self._step()
        loss = loss_over_time(self._loss, output, self.y) / walk.steps
        self.answer += (1 - walk.network.readout.leak) ** (walk.steps - 1 - before.elapsed) * output[0].detach()
        self.loss += loss.detach()
        after = walk.standpoint()
        ends = [_End.apply(value, adjoint, key) for key, value in _entries(after) if value.requires_grad]
        kept = {key: value for key, value in _detached(after.membranes).items() if key not in walk.charged}
        rest = _Rest(walk.charged, kept, _detached(after.past), after.elapsed)
        walk.charged = None
        return _Record([loss, *ends], adjoint, sent), rest

    def _backward(self, record: object) -> None:
        assert isinstance(record, _Record)
        record.adjoint.update(self._adjoint)
        torch.autograd.backward(record.roots, [torch.ones_like(root) for root in record.roots])
        self._adjoint = record.sent

    def choose(self, budget: int) -> tuple[str, int]:
        """Kind and number of checkpoints with the fewest forwards within ``budget`` bytes."""
        # The largest share decides: processes with other checkpoints would run other steps again, and exchange other messages.
        hidden, internal = map(int, distributed.joined_max(self._sizes()))
        options = []
        for kind, size, beside in (("internal", internal, 0), ("hidden", hidden, internal)):
            slots = min((budget - beside) // size, self.walk.steps)
            if slots >= 1:
                options.append((int(plan(kind, self.walk.steps, slots).forwards[-1, -1]), kind, slots))
        if not options:
            raise ValueError(
                f"memory_mb is {budget / 1e6:g}, but one step of this batch needs {internal / 1e6:.3g}; raise it, or use "
                "smaller batches"
            )
        _, kind, slots = min(options)
        return kind, slots

    def _sizes(self) -> tuple[int, int]:
        """Bytes of a state and of all that a step's backward needs, from two trial steps."""
        walk, start = self.walk, self.walk.standpoint()
        walk.updates_statistics = walk.counts = False
        given = {walk.signal.untyped_storage().data_ptr()}
        given |= {parameter.untyped_storage().data_ptr() for parameter in walk.network.parameters()}
        storages: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in given:
                storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        walk.advance(1)  # makes the cuts, which are shared by all steps
        walk.restore(walk.standpoint()._replace(elapsed=min(1, walk.steps - 1)))
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            output = walk.advance(1)
            loss_over_time(self._loss, output, self.y)
        state = sum(tensor.untyped_storage().nbytes() for _, tensor in _entries(walk.standpoint()))
        walk.restore(start)
        return max(state, 1), max(sum(storages.values()) + state, 1)


def _entries(state: Standpoint) -> list[tuple[Any, Tensor]]:
    return [
        ((name, key), value) for name, part in (("v", state.membranes), ("past", state.past)) for key, value in part.items()
    ]


def _detached(part: dict[Any, Tensor]) -> dict[Any, Tensor]:
    return {key: tensor.detach() for key, tensor in part.items()}


class _Start(torch.autograd.Function):
    """A state at the start of a recorded step: its gradient goes into ``sent``, and its memory is not held by the graph."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, value: Tensor, sent: dict[Any, Tensor], key: Any) -> Tensor:
        ctx.sent, ctx.key = sent, key
        return value.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, ...]:
        ctx.sent[ctx.key] = grad
        return None, None, None, None


class _End(torch.autograd.Function):
    """A state that a recorded step leaves: its gradient is what ``adjoint`` holds by then. The value is a root, 0."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, adjoint: dict[Any, Tensor], key: Any) -> Tensor:
        ctx.adjoint, ctx.key = adjoint, key
        return value.new_zeros(())

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor | None, None, None]:
        return ctx.adjoint.get(ctx.key), None, None
