"""The *equilibrium* engine: a forward phase in spikes without a graph, then the adjoint of the equilibrium that it came to.

The (weighted) mean rates of a feedback network settle at the fixed point of

    a_1 = clamp((F x + b_1 + R a_L) / Delta, 0, 1),        a_l = clamp((W_l a_(l-1) + b_l) / Delta, 0, 1)

and the gradient there needs no history: with masks m where the clamp is open, G_l = m_l beta_l / Delta is the loss's derivative
by the current of layer l, if

    beta_l = W_(l+1)^T G_(l+1)   (l < L),        beta_L = g + R^T G_1,        g = dLoss/da_L

(implicit differentiation; ide_spide spec, 1.3 and 2.3). IDE solves for beta in numbers, SPIDE by a second phase of spikes.
:class:`Adjoint` holds one piece of graph per layer, from the measured rates that it reads to its current, so that biases,
norms, pools and convolutions are torch's own; both methods only say what beta is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from lava_snnlearn import distributed
from lava_snnlearn.methods.base import StepResult, check_batch, check_spiking, refuse_delays
from lava_snnlearn.methods.relaxation import Relaxed, relax
from lava_snnlearn.networks.layers import Neurons, Readout, SpikingLayer
from lava_snnlearn.networks.network import Network
from lava_snnlearn.networks.norms import BatchNorm, Statistics
from lava_snnlearn.networks.synapse import Synapse
from lava_snnlearn.networks.walk import Walk

MASKS = ("preact", "rate")

Errors = list[Tensor]
"""One tensor [B, *shape] a layer."""


def run_equilibrium(
    network: Network,
    x: Tensor,
    y: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    mask: str,
    solve: Callable[[Adjoint, Tensor], tuple[Errors, dict[str, float]]],
) -> StepResult:
    """Add the gradient of the loss of the readout of the mean rates to ``.grad``.

    Args:
        network, x, y: as in :meth:`lava_snnlearn.methods.base.Method.gradients`.
        loss: of the readout of the mean rates of the last layer.
        mask: where the clamp counts as open: "preact", current / Delta in [0, 1] at the measured rates; "rate", where a neuron
            fired at least once and not in every step.
        solve: from the adjoint and g [B, *shape of the last layer] to the derivatives G_l by the layers' currents, and figures
            to be logged.

    Raises:
        ValueError: a network that is no chain of feedback neurons; samples or labels that do not fit.
    """
    check_network(network)
    signal = check_batch(network, x, y)
    _check_variance(network, signal.shape[1])
    with torch.no_grad():
        walk = ForwardPhase(network, signal)
        answer = walk.collect(None)
    adjoint = Adjoint(network, walk, mask)
    value = loss(adjoint.outputs, y)
    value.backward()
    last = adjoint.rates[-1]
    assert last.grad is not None
    errors, figures = solve(adjoint, last.grad)
    for current, error in zip(adjoint.currents, errors, strict=True):
        if current.requires_grad:  # a frozen first layer's has no graph where there is no feedback
            current.backward(error)
    adjoint.update_statistics()
    return StepResult(value.item(), answer, walk.spike_rate(), figures)


def check_network(network: Network) -> None:
    """Raise ValueError if a network is no chain of layers with reset by subtraction, equal leaks and a readout that matches,
    TypeError if it is no spiking network.

    The message says what to build instead.
    """
    check_spiking(network)
    refuse_delays(network, "an equilibrium does not depend on delays, which would learn nothing")
    remedy = "build it with snn.networks.feedback_net"
    if not all(isinstance(layer, SpikingLayer) and layer.recurrent is None for layer in network.layers):
        raise ValueError(
            f"training at equilibrium takes a chain of spiking layers, without blocks or recurrent layers; {remedy}"
        )
    neurons = [layer.neuron for layer in network.spiking_layers]
    leaks = {neuron.leak for neuron in neurons} | {network.readout.leak}
    if len(leaks) > 1:
        raise ValueError(
            f"training at equilibrium weighs time by the neurons' leak, but layers and readout have the leaks {sorted(leaks)}; "
            f"use snn.neurons.FeedbackLIF and {remedy}"
        )
    for neuron in neurons:
        if neuron.reset != "subtract" or neuron.trains_threshold:
            raise ValueError(
                f"training at equilibrium needs neurons with reset by subtraction and a fixed threshold, not {neuron}; use "
                "snn.neurons.FeedbackLIF"
            )
    first = network.spiking_layers[0]
    if network.feedback is not None and first.batch_norm is not None and network.feedback_joins != "behind_norm":
        raise ValueError(f"feedback has to join behind the first layer's batch norm (feedback_joins='behind_norm'); {remedy}")


def _check_variance(network: Network, batch: int) -> None:
    """Raise ValueError where a batch norm would be trained on a single value a channel."""
    for layer in network.spiking_layers:
        alone = layer.batch_norm is not None and distributed.joined_count(batch) * math.prod(layer.shape[1:]) == 1
        if network.training and alone:
            raise ValueError(
                f"norm={layer.norm_name!r} cannot take the variance of a batch of one sample in training; pass at least 2 "
                "samples, call network.eval(), or use norm='sws' or 'none'"
            )


def time_weights(network: Network) -> Tensor:
    """lam^(T-1-t), scaled to sum to 1: what step t counts in every mean; float64 [T]."""
    lam = 1 - network.readout.leak
    weights = lam ** torch.arange(network.steps - 1, -1, -1, dtype=torch.float64)
    return weights / weights.sum()


class ForwardPhase(Walk):
    """The spiking pass: weighted mean rate, and number of spikes, of every neuron.

    Batch norms keep still over time: in training the first layer's has the statistics of its mean current, all others have
    their running ones (IDE's code; spec 1.4).
    """

    def __init__(self, network: Network, signal: Tensor) -> None:
        super().__init__(network, signal, leaves=True)
        self.weights = time_weights(network).to(signal.device, signal.dtype)
        self.means: dict[nn.Module, Tensor] = {}
        self.counts_of: dict[nn.Module, Tensor] = {}
        self.mean_frame = signal[0] if self.static else torch.tensordot(self.weights, signal, 1)
        self._found: Statistics | None = None

    def pieces(self, chunk: int | None) -> Iterator[int]:
        """As in Walk, but for any norm, since none sees more than the present: lengths are set by size and feedback alone."""
        longest = min(self.length_of_piece(chunk), self.network.longest_piece)
        while self.elapsed < self.steps:
            yield min(longest, self.steps - self.elapsed)

    def normalise(self, population: Neurons, current: Tensor) -> Tensor:
        """See the class."""
        norm = population.batch_norm
        if norm is None:
            return current
        if self.network.training and population is self.network.spiking_layers[0]:
            assert isinstance(population, SpikingLayer)
            if self._found is None:
                self._found = norm.statistics(population.current(self.mean_frame))
            return norm.with_statistics(current.flatten(0, 1), self._found).view_as(current)
        return norm.eval_batch(current.flatten(0, 1)).view_as(current)

    def _integrate(self, population: Neurons, current: Tensor, threshold: float, steps: int | None, donate: bool) -> Tensor:
        assert isinstance(population, nn.Module)
        found = population.integrate(
            current, self.membranes.get(population), steps=steps, gradient="instant", threshold=threshold, donate=donate
        )
        self.membranes[population] = found.membrane
        spikes = found.spike
        mean = torch.tensordot(self.weights[self.elapsed : self.elapsed + self.length], spikes, 1)
        before = self.means.get(population)
        self.means[population] = mean if before is None else before + mean
        count = spikes.sum(0)
        fired = self.counts_of.get(population)
        self.counts_of[population] = count if fired is None else fired + count
        return spikes


class Adjoint:
    """The layers' currents at the measured rates, each with a graph back to what it reads.

    Attributes:
        rates: measured mean rates, leaves [B, *shape]. currents: the layers' currents there. masks: where the clamp is open, of
            the currents' dtype. outputs: the readout [B, classes].
    """

    def __init__(self, network: Network, walk: ForwardPhase, mask: str) -> None:
        self.network, self.walk = network, walk
        self.deltas = [layer.level for layer in network.spiking_layers]
        self.rates: Errors = [walk.means[layer].requires_grad_() for layer in network.spiking_layers]
        self.currents: Errors = []
        self._followers: list[tuple[BatchNorm, Tensor]] = []
        with torch.enable_grad():
            self.outputs: Tensor = network.respond(walk.mean_frame.unsqueeze(0), self)[0]
        self.masks = [self._open(index, mask) for index in range(len(self.rates))]

    def _open(self, index: int, mask: str) -> Tensor:
        current = self.currents[index].detach()
        if mask == "rate":
            fired = self.walk.counts_of[self.network.spiking_layers[index]]
            return ((fired > 0) & (fired < self.network.steps)).to(current.dtype)
        level = current / self.deltas[index]
        return ((level >= 0) & (level <= 1)).to(current.dtype)

    # What a network asks of its walk.

    def synapse(self, synapse: Synapse, signal: Tensor) -> Tensor:
        """Current [1, B, *shape]."""
        return synapse.current(signal)

    def normalise(self, population: Neurons, current: Tensor) -> Tensor:
        """The norm as in the forward phase; only the first layer's statistics have a gradient."""
        norm = population.batch_norm
        if norm is None:
            return current
        if not self.network.training:
            return norm.eval_batch(current[0]).unsqueeze(0)
        self._followers.append((norm, current.detach()[0]))
        if population is self.network.spiking_layers[0]:
            return norm.with_statistics(current[0], norm.statistics(current[0])).unsqueeze(0)
        # A copy: the running statistics move on before the next backward.
        mean, variance = (value.clone() for value in norm.running)
        return norm.with_statistics(current[0], Statistics(mean, variance)).unsqueeze(0)

    def fire(self, population: Neurons, current: Tensor, fresh: bool = False) -> Tensor:
        """The measured rate, cut off from the current; what a dropped neuron sends is masked."""
        index = len(self.currents)
        self.currents.append(current[0])
        return self._sent(index).unsqueeze(0)

    def read(self, readout: Readout, signal: Tensor) -> Tensor:
        """Readout [1, B, classes]."""
        return readout(signal)

    def recall(self, feedback: Synapse, delay: int) -> Tensor:
        """The last layer's measured rate."""
        return self._sent(len(self.rates) - 1).unsqueeze(0)

    def remember(self, feedback: Synapse, spikes: Tensor) -> None:
        """Nothing: the rates are known beforehand."""

    def _sent(self, index: int) -> Tensor:
        mask = self.walk.masks[self.network.spiking_layers[index]]
        return self.rates[index] if mask is None else self.rates[index] * mask

    # What a method asks.

    def back(self, index: int, error: Tensor) -> Tensor:
        """What the derivative ``error`` by the current of layer ``index`` makes of the rate that it hears: layer index - 1's,
        or for the first layer, by feedback, the last one's (zeros without feedback)."""
        source = self.rates[index - 1]
        if index == 0 and self.network.feedback is None:
            return torch.zeros_like(source)
        (found,) = torch.autograd.grad(self.currents[index], source, error, retain_graph=True)
        return found

    def derivative(self, index: int, beta: Tensor) -> Tensor:
        """G = m beta / Delta, the derivative by a layer's current."""
        return self.masks[index] * beta / self.deltas[index]

    def sweep(self, beta: Tensor) -> tuple[Errors, Tensor]:
        """From beta of the last layer to G of all layers, and R^T G_1."""
        errors = [beta] * len(self.rates)
        for index in range(len(self.rates) - 1, -1, -1):
            errors[index] = self.derivative(index, beta)
            beta = self.back(index, errors[index])
        return errors, beta

    @torch.no_grad()
    def update_statistics(self) -> None:
        """Move the running statistics of batch norms, once a batch."""
        for norm, current in self._followers:
            norm.train_batch(current, update=True)


def solve_adjoint(
    adjoint: Adjoint, gradient: Tensor, *, steps: int = 60, tolerance: float = 1e-6, damping: float = 1.0
) -> tuple[Errors, Relaxed]:
    """G of all layers from beta = g + J^T beta, by damped iteration of the whole batch.

    Args:
        adjoint: of the forward phase. gradient: g [B, *shape of the last layer].
        steps, damping: at most so many updates beta <- beta + damping (g + J^T beta - beta).
        tolerance: stops where the largest residual is below this times the largest \\|g\\|.
    """
    if adjoint.network.feedback is None:
        return adjoint.sweep(gradient)[0], Relaxed((gradient,), 0, 0.0, True)
    largest = float(gradient.abs().max())
    found = relax(
        lambda state: (gradient + adjoint.sweep(state[0])[1],),
        (gradient,),
        steps=steps,
        tolerance=tolerance,
        damping=damping,
        # Where the loss is not finite, the residual is not, whatever the scale; who trains tells the user about the loss.
        scale=largest if 0 < largest < math.inf else 1.0,
    )
    return adjoint.sweep(found.state[0])[0], found


@torch.no_grad()
def equilibrium_rates(
    network: Network, x: Tensor, *, steps: int = 1000, tolerance: float = 1e-9
) -> tuple[list[Tensor], Relaxed]:
    """The rates that the forward phase settles at: the fixed point itself, without a spike, in eval mode.

    Args:
        network: as IDE takes it. x: [B, n] or [T, B, n]; sequences are represented by their weighted mean.
        steps, tolerance: of the iteration.

    Returns:
        rates a_l [B, *shape] of every layer, and how the iteration ended (``residual``: largest change that was left).

    Raises:
        ValueError: as :func:`check_network`, and input that does not fit.
    """
    check_network(network)
    was_training = network.training
    network.eval()
    try:
        signal = network.encode(x)
        frame = torch.tensordot(time_weights(network).to(signal), signal, 1)
        walk = _RateMap(frame, network)

        def update(state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (walk.rates_from(state[0])[-1],)

        last = network.spiking_layers[-1]
        found = relax(update, (frame.new_zeros(len(frame), *last.shape),), steps=steps, tolerance=tolerance)
        return walk.rates_from(found.state[0]), found
    finally:
        network.train(was_training)


class _RateMap:
    """One application of the equations of the equilibrium, as a walk."""

    def __init__(self, frame: Tensor, network: Network) -> None:
        self.frame, self.network = frame.unsqueeze(0), network
        self.rates: list[Tensor] = []
        self.heard = self.frame

    def rates_from(self, last: Tensor) -> list[Tensor]:
        """Rates of all layers where the feedback hears ``last``."""
        self.rates, self.heard = [], last.unsqueeze(0)
        self.network.respond(self.frame, self)
        return self.rates

    def synapse(self, synapse: Synapse, signal: Tensor) -> Tensor:
        return synapse.current(signal)

    def normalise(self, population: Neurons, current: Tensor) -> Tensor:
        return population.normalise(current)

    def fire(self, population: Neurons, current: Tensor, fresh: bool = False) -> Tensor:
        rate = (current / population.level).clamp(0, 1)
        self.rates.append(rate[0])
        return rate

    def read(self, readout: Readout, signal: Tensor) -> Tensor:
        return readout(signal)

    def recall(self, feedback: Synapse, delay: int) -> Tensor:
        return self.heard

    def remember(self, feedback: Synapse, spikes: Tensor) -> None:
        pass
