"""The *instant* and *trace* engines: a walk through time whose backward is run and freed piece by piece.

No graph reaches from one step to another (the membrane is detached), so memory is set by the length of the pieces and not by T.
Per step, with delta the loss gradient that comes down through the layers of this step only (online_and_bptt spec, 1.1 and
2.1)::

    g[t]   = phi'(u[t]) W_next^T g_next[t]
    grad W += g[t] s_pre[t]^T          instant (SLTT)
    grad W += g[t] a_pre[t]^T          trace (OTTT), a[t] = lam a[t-1] + s[t]

Since nothing goes back in time, all steps of a piece share one product per layer, forward and backward. The trace engine leaves
all forward values as they are and replaces only the operand of the weight gradient.

Delayed synapses and their delays learn from the delayed signal, or its delayed trace. The error that they send to the layer
below ignores the delay: the step in which the spike was sent is gone (:mod:`lava_snnlearn.networks.delayed_maps`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lava_snnlearn.checks import whole_number
from lava_snnlearn.methods.base import Loss, StepResult, check_batch, loss_over_time
from lava_snnlearn.networks.delayed_maps import Rule
from lava_snnlearn.networks.delays import Delays
from lava_snnlearn.networks.event_products import Traced, traced_sparse_linear
from lava_snnlearn.networks.layers import Neurons, Readout, SpikingLayer
from lava_snnlearn.networks.network import Network
from lava_snnlearn.networks.synapse import Synapse
from lava_snnlearn.networks.synapse_maps import OperandMap
from lava_snnlearn.networks.walk import Walk
from lava_snnlearn.neurons.fused import leaky_sum


@dataclass(frozen=True)
class TraceOptions:
    """Which gradients of the trace engine use the presynaptic trace; the defaults are the mathematically consistent ones.

    Args:
        first_layer: the data's trace for the first layer (official code: raw frame).
        readout: the trace for the readout although it has no memory (official code: yes; inexact).
        bias: the bias's own trace k[t] = sum_{j <= t} lam^j (official code: no, i.e. 1).
    """

    first_layer: bool = True
    readout: bool = False
    bias: bool = True


def check_chunk(chunk: Any) -> None:
    """Raise where a number of steps per piece is not None, not whole (TypeError) or below 1 (ValueError)."""
    if chunk is not None and whole_number("chunk", chunk) < 1:
        raise ValueError(f"chunk is {chunk}; a piece of time has at least 1 step")


def run_online(
    network: Network,
    x: Tensor,
    y: Tensor,
    loss: Loss,
    *,
    chunk: int | None = None,
    trace: TraceOptions | None = None,
    steps: Collection[int] | None = None,
    on_step: Callable[[], None] | None = None,
) -> StepResult:
    """Walk through all time steps and add the online gradient to ``.grad``.

    Args:
        network, x, y: as in :meth:`lava_snnlearn.methods.base.Method.gradients`.
        loss: loss per step, divided by T here.
        chunk: steps per piece (None: by the size of network and batch); it sets time and memory, not the result.
        trace: None is the instant engine, otherwise the trace engine.
        steps: time steps that have a backward (SLTT-K); None means all. The others run without graph.
        on_step: called after each step's backward; it may change the parameters (the engine then takes the new ones). Pieces
            are single steps then.

    Raises:
        ValueError: a network with batch norm over time, samples or labels that do not fit.
    """
    signal = online_signal(network, x, y)
    walk = Walk(network, signal, gradient="instant", leaves=True) if trace is None else TraceWalk(network, signal, trace)
    return learn_online(walk, y, loss, chunk=chunk, steps=steps, on_step=on_step)


def online_signal(network: Network, x: Tensor, y: Tensor) -> Tensor:
    """Encoded input of a batch that fits; raises as :func:`run_online`."""
    signal = check_batch(network, x, y)
    refuse_norm_over_time(network)
    return signal


def learn_online(
    walk: Walk,
    y: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    chunk: int | None = None,
    steps: Collection[int] | None = None,
    on_step: Callable[[], None] | None = None,
) -> StepResult:
    """:func:`run_online` on a walk that has just begun; how errors get to the neurons is the walk's own."""
    network, total = walk.network, walk.steps
    walk.adds = steps is None  # a subset's gradient is the sum of its steps' to the bit (identity S2 of the specification)
    outputs: Tensor | None = None
    loss_sum = torch.zeros((), dtype=walk.signal.dtype, device=walk.signal.device)
    for length, learns in _plan(walk, 1 if on_step is not None else walk.length_of_piece(chunk), steps):
        with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
            output = walk.advance(length)
            loss_now = loss_over_time(loss, output, y) / total
        if learns:
            walk.backward(loss_now)
        outputs = network.readout.collect(output.detach(), outputs)
        loss_sum += loss_now.detach()
        if on_step is not None:
            walk.flush()
            on_step()
    walk.flush()
    assert outputs is not None
    return StepResult(loss_sum.item(), outputs, walk.spike_rate())


def refuse_norm_over_time(network: Network) -> None:
    """Raise ValueError for a norm that needs the whole sequence, which an online method never has."""
    if network.needs_all_steps:
        raise ValueError(
            "norm='bn_time' needs the whole sequence; train with BPTT or a rate-based method, or use norm='bn_step' or 'sws' "
            "with online methods"
        )


def _plan(walk: Walk, chunk: int, steps: Collection[int] | None) -> Any:
    """(length, has a backward) of the pieces: those with a backward are single steps where only some have one."""
    if steps is None:
        yield from ((length, True) for length in walk.pieces(chunk))
        return
    chosen = sorted(steps)
    while walk.elapsed < walk.steps:
        ahead = next((t for t in chosen if t >= walk.elapsed), walk.steps)
        if ahead == walk.elapsed:
            yield 1, True
        else:
            yield min(chunk, ahead - walk.elapsed, walk.network.longest_piece), False


def _refuse_mixed_leaks(network: Network) -> None:
    """Raise ValueError where the neurons that a synapse drives cannot be told from the others, but leak otherwise."""
    lams = sorted({population.neuron.lam for population in network.populations})
    loose = any(isinstance(module, Synapse) and not isinstance(module, Neurons) for module in network.layers.modules())
    if loose and len(lams) > 1:
        raise ValueError(
            "OTTT's traces decay as the neurons that hear them leak; networks with residual blocks need the same leak "
            f"everywhere, but the neurons here keep {', '.join(f'{lam:.4g}' for lam in lams)} of their membrane in a step"
        )


class TraceWalk(Walk):
    """The instant walk whose synapses learn from presynaptic traces.

    ``traces`` are those of the neurons' own spikes, ``heard`` those that a synapse follows of what it reads (the data, or
    spikes whose trace decays otherwise), each at the last step; ``piece`` and ``known`` hold whole pieces.
    """

    def __init__(self, network: Network, signal: Tensor, options: TraceOptions) -> None:
        super().__init__(network, signal, gradient="instant", leaves=True)
        self.options = options
        _refuse_mixed_leaks(network)
        self.first, self.last = network.layers[0], network.populations[-1]
        # A static frame's trace is the frame times a number, unless something between product and neuron learns without it.
        plain = isinstance(self.first, SpikingLayer) and self.first.batch_norm is None and self.first.recurrent is None
        plain = plain and self.first.delays is None
        self.shortcut = self.static and plain and network.feedback is None and options.first_layer == options.bias
        if self.static and not self.shortcut:
            self.signal, self.static = signal, False
        self.untraced = _untraced(network, options)
        self.traces: dict[nn.Module, Tensor] = {}
        self.heard: dict[nn.Module, Tensor] = {}
        self.piece: dict[nn.Module, Tensor] = {}
        self.past_traces: dict[nn.Module, Tensor] = {}
        self.known: dict[int, tuple[Tensor, Tensor, float]] = {}

    def advance(self, length: int) -> Tensor:
        """As in Walk; the traces of the piece's signals are forgotten when all have been read."""
        outputs = super().advance(length)
        self.known = {}
        return outputs

    def fire(self, population: nn.Module, current: Tensor, fresh: bool = False) -> Tensor:
        """As in Walk; the trace of the spikes that are sent is known then, worth and mask included."""
        assert isinstance(population, Neurons)
        spikes = super().fire(population, current, fresh)
        if population in self.piece:
            trace = self._valued(population, self.piece.pop(population), population.drive.amplitude)
            self.known[id(spikes)] = (spikes, trace, population.neuron.lam)
        return spikes

    def recall(self, feedback: Synapse, delay: int) -> Tensor:
        """As in Walk, with the trace of what is recalled."""
        spikes = super().recall(feedback, delay)
        if feedback not in self.past_traces:
            self.past_traces[feedback] = torch.zeros_like(self.past[feedback])
        self.known[id(spikes)] = (spikes, self.past_traces[feedback][: self.length], self._lam(feedback))
        return spikes

    def remember(self, feedback: Synapse, spikes: Tensor) -> None:
        """As in Walk, with the trace."""
        super().remember(feedback, spikes)
        trace = self._trace(feedback, spikes)
        self.past_traces[feedback] = torch.cat([self.past_traces[feedback][self.length :], trace])

    def read(self, readout: Readout, signal: Tensor) -> Tensor:
        """The readout, which learns from traces only if asked to."""
        return self._map(readout, signal) if self.options.readout else super().read(readout, signal)

    def _map(self, synapse: Synapse, signal: Tensor) -> Tensor:
        if self.shortcut and signal is self.data:
            return super()._map(synapse, signal)
        is_readout, is_data = isinstance(synapse, Readout), signal is self.data
        gains = self._gains(self._lam(synapse)) if self.options.bias and not is_readout else None
        prepared, weight = synapse.prepare(signal), self.weight(synapse)
        if is_data and self.has_events(synapse, prepared):
            flat = self._map_events(synapse, prepared, weight, gains)
        else:
            untraced = is_data and not self.options.first_layer
            traced = prepared.detach() if untraced else self._prepared_trace(synapse, signal, prepared)
            flat = OperandMap.apply(prepared, traced, weight, synapse.bias, gains, self.mapped(synapse), self.adds)
        return flat.view(*signal.shape[: signal.dim() - len(synapse.source)], *synapse.shape)

    def _rule(self, synapse: Synapse, delays: Delays, signal: Tensor, flat: Tensor) -> Rule:
        """As in Walk; weights and delays learn from the delayed trace."""
        rule = super()._rule(synapse, delays, signal, flat)
        operand = None
        if self.options.first_layer or signal is not self.data:
            trace = self._trace(synapse, signal).flatten(2)
            before = self._recent(self.past_traces, delays, delays.limit, flat)
            self.past_traces[delays] = self._behind(before, trace)
            operand = torch.cat([before, trace])
        return replace(rule, operand=operand, gains=self._gains(self._lam(synapse)) if self.options.bias else None)

    def _map_events(self, synapse: Synapse, prepared: Tensor, weight: Tensor, gains: Tensor | None) -> Tensor:
        """Sparse data: their trace is not sparse, so the trace is moved to the other factor of the gradient."""
        lam = self._lam(synapse) if self.options.first_layer else 0.0
        before = self.heard.get(synapse)
        past = torch.zeros_like(prepared[: self.batch]) if before is None else before
        keep = lam ** torch.arange(self.length - 1, -1, -1, dtype=prepared.dtype)
        # Of the same shape as where the product is dense: the next piece may not be sparse.
        now = torch.tensordot(keep, prepared.view(self.length, *past.shape), 1)
        self.heard[synapse] = lam**self.length * past + now
        flat = traced_sparse_linear(prepared.flatten(1), weight, synapse.bias, Traced(lam, past.flatten(1), gains))
        if synapse.observer is not None:
            synapse.observe_backward(flat, leaky_sum(prepared.view(self.length, *past.shape), lam, past).flatten(0, 1))
        return flat

    def _trace(self, synapse: Synapse, signal: Tensor) -> Tensor:
        """The trace of a signal: known from the neurons that sent it, or followed here."""
        known = self.known.get(id(signal))
        lam = self._lam(synapse)
        if known is not None and known[2] == lam:
            return known[1]
        trace = leaky_sum(signal.detach(), lam, self.heard.get(synapse))
        self.heard[synapse] = _last(trace)
        return trace

    def _prepared_trace(self, synapse: Synapse, signal: Tensor, prepared: Tensor) -> Tensor:
        """The trace as the synapse's map would read it, [steps * B, ...].

        Pool and gain are linear, so that the trace of what they give can be followed instead: a pooled signal is the smaller
        one.
        """
        if id(signal) in self.known:
            return synapse.prepare(self._trace(synapse, signal))
        heard = prepared.detach().view(self.length, self.batch, *prepared.shape[1:])
        trace = leaky_sum(heard, self._lam(synapse), self.heard.get(synapse))
        self.heard[synapse] = _last(trace)
        return trace.flatten(0, 1)

    def _lam(self, synapse: Synapse) -> float:
        """Leak factor of the neurons that a synapse drives; networks with blocks have the same everywhere."""
        if synapse is self.network.feedback:
            synapse = self.first
        neurons = synapse if isinstance(synapse, SpikingLayer) else self.last
        return float(neurons.neuron.lam)

    def _gains(self, lam: float) -> Tensor:
        """The trace of a constant 1, k[t] = sum_{j <= t} lam^j, at the steps of this piece."""
        like = self.network.readout.weight
        t = torch.arange(self.elapsed, self.elapsed + self.length, dtype=torch.float64)
        gains = t + 1 if lam == 1 else (1 - lam ** (t + 1)) / (1 - lam)
        return gains.to(like.device, like.dtype)

    def _integrate(self, population: Neurons, current: Tensor, threshold: float, steps: int | None, donate: bool) -> Tensor:
        assert isinstance(population, nn.Module)
        lam = None if population in self.untraced else population.neuron.lam
        weights = None
        if population is self.first and self.shortcut and self.options.bias:
            weights = self._gains(population.neuron.lam)
        found = population.integrate(
            current,
            self.membranes.get(population),
            steps=steps,
            gradient="instant",
            time_weights=weights,
            trace_lam=lam,
            trace=self.traces.get(population) if lam is not None else None,
            threshold=threshold,
            donate=donate,
            once=True,
        )
        self.membranes[population] = found.membrane
        if found.trace is not None:
            self.piece[population] = found.trace
            self.traces[population] = _last(found.trace)
        return found.spike

    def _recurrent_current(self, population: Neurons, before: Tensor) -> Tensor:
        assert isinstance(population, nn.Module)
        assert population.recurrent is not None
        return OperandMap.apply(before, self.past_traces[population], population.recurrent, None, None, _Dense(), self.adds)

    def _remember_own(self, population: nn.Module, spike: Tensor) -> None:
        super()._remember_own(population, spike)
        assert isinstance(population, Neurons)
        before = self.past_traces.get(population)
        sent = spike.detach()
        self.past_traces[population] = sent if before is None else population.neuron.lam * before + sent


def _last(trace: Tensor) -> Tensor:
    """The last step of a piece, whose memory must not keep the whole piece."""
    return trace[0] if len(trace) == 1 else trace[-1].clone()


def _untraced(network: Network, options: TraceOptions) -> set[nn.Module]:
    """Populations whose spikes need no trace as they are: nobody learns from it, or all that do pool them first."""
    found = {population for population in network.populations if population.recurrent is not None}
    if network.feedback is None and not options.readout:
        found.add(network.populations[-1])
    modules = [*network.layers, network.readout]
    for layer, following in pairwise(modules):
        if isinstance(layer, SpikingLayer) and getattr(following, "pool", 1) > 1 and following is not network.readout:
            found.add(layer)
    return found


class _Dense:
    """The map of a recurrent weight, with the interface of a synapse."""

    def map(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    def operand_gradient(self, operand: Tensor, grad: Tensor) -> Tensor:
        return grad.t() @ operand

    def add_operand_gradient(self, leaf: Tensor, operand: Tensor, grad: Tensor) -> None:
        leaf.grad = self.operand_gradient(operand, grad) if leaf.grad is None else leaf.grad.addmm_(grad.t(), operand)

    def input_gradient(self, like: Tensor, weight: Tensor, grad: Tensor) -> Tensor:
        return grad @ weight
