"""Energy networks: layers with tied weights that settle in an equilibrium, for equilibrium propagation.

Ernoult, Grollier, Querlioz, Bengio, Scellier: Updates of equilibrium prop match gradients of backprop through time in an RNN
with static input (NeurIPS 2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lava_snnlearn.checks import known_name, real_number, whole_number
from lava_snnlearn.networks.classifier import Classifier

State = tuple[Tensor, ...]
SETTINGS = ("energy", "prototypical")


class Activation(NamedTuple):
    """``rho``, its ``slope``, and whether states are held in ``rho``'s range instead (then rho(s) = s, slope 1)."""

    rho: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    holds: bool = False


def _steep(x: Tensor) -> Tensor:
    return torch.sigmoid(4 * (x - 0.5))


ACTIVATIONS: Mapping[str, Activation] = {
    "hard_sigmoid": Activation(lambda x: x.clamp(0, 1), torch.ones_like, holds=True),
    "sigmoid": Activation(_steep, lambda x: 4 * _steep(x) * (1 - _steep(x))),
    "tanh": Activation(torch.tanh, lambda x: 1 - torch.tanh(x) ** 2),
}
"""rho by name: clip(x, 0, 1); sigmoid(4 (x - 1/2)); tanh(x)."""


class EnergyNetwork(Classifier):
    """Layers s_1 ... s_L over a clamped input s_0 = x, all updated together, T times from s = 0; the last one answers.

    With the drive ``a_l = W_l r_{l-1} + W_{l+1}^T r_{l+1} + b_l`` (neighbours share one matrix):

    * setting "energy": ``s_l <- (1 - eps) s_l + eps rho'(s_l) a_l``, r = rho(s): the gradient of the primitive
      ``Phi = (1 - eps)/2 sum |s_l|^2 + eps sum (rho(s_l) . W_l rho(s_{l-1}) + b_l . rho(s_l))``. With the hard sigmoid, states
      are clipped to [0, 1] after the update instead (rho' = 1), which leaves the equilibrium where it is.
    * setting "prototypical": ``s_l <- rho(a_l)``, r = s: fast, and what runs on a chip. Phi is the same with eps = 1, rho'
      left out.

    The nudge adds ``-beta (s_L - y)`` to the last layer's new state.

    Args:
        sizes: neurons of the input and of each layer; the last one are the classes.
        setting: "energy" or "prototypical".
        activation: rho, one of :data:`ACTIVATIONS`.
        steps: T of the free phase.
        step_size: eps of the setting "energy", in (0, 1].

    Weights start uniform in +-1/(2 sqrt(fan-in)), biases of hard sigmoid and sigmoid at 1/2, else at 0, so that states start
    amidst rho's slope. With the hard sigmoid, equilibrium propagation and backpropagation agree but for errors at outputs that
    are held at 0 or 1: backpropagation does not see these, the nudge moves them.

    Raises:
        ValueError: fewer than two sizes, a size or a number of steps below 1, a step size out of range.
        TypeError: sizes or steps that are not whole. UnknownNameError: unknown setting or activation.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        setting: str = "prototypical",
        activation: str = "hard_sigmoid",
        steps: int = 25,
        step_size: float = 0.2,
    ) -> None:
        super().__init__(steps=steps)
        self.sizes = tuple(whole_number(f"sizes[{index}]", size) for index, size in enumerate(sizes))
        if len(self.sizes) < 2 or min(self.sizes) < 1:
            raise ValueError(f"sizes is {self.sizes}; give inputs, layers and classes, each at least 1, e.g. [64, 64, 10]")
        self.setting = known_name("setting", setting, SETTINGS)
        self.activation = known_name("activation", activation, ACTIVATIONS)
        real_number("step_size", step_size)
        if not 0 < step_size <= 1:
            raise ValueError(f"step_size is {step_size}; it must lie in (0, 1]")
        self.step_size = float(step_size)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in pairwise(self.sizes):
            bound = 0.5 / math.sqrt(fan_in)
            self.weights.append(nn.Parameter(torch.empty(fan_out, fan_in).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.full((fan_out,), 0.0 if activation == "tanh" else 0.5)))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(n,)."""
        return self.sizes[:1]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.sizes[-1]

    @property
    def like(self) -> Tensor:
        """A parameter, for dtype and device."""
        return self.weights[0]

    @property
    def neurons(self) -> int:
        """Neurons of all layers, without the input."""
        return sum(self.sizes[1:])

    def extra_repr(self) -> str:
        """Everything that is not the shape of a parameter."""
        return f"setting={self.setting!r}, activation={self.activation!r}, steps={self.steps}, step_size={self.step_size}"

    def encode(self, x: Tensor) -> Tensor:
        """Static input as [T, B, n], a view; checked as in :class:`Classifier`, and for the range that inputs are clamped to.

        Raises:
            ValueError: as there; a sequence, or values outside of [0, 1].
        """
        signal = super().encode(x)
        if x.dim() != 2:
            raise ValueError(
                f"input has shape {tuple(x.shape)}; an energy network settles on static input, [batch, {self.inputs}]"
            )
        if x.numel():
            low, high = (float(value) for value in torch.aminmax(x))
            if low < 0 or high > 1:
                raise ValueError(f"input reaches from {low:g} to {high:g}; scale it to [0, 1], e.g. load(..., scale='unit')")
        return signal

    def rest(self, x: Tensor) -> State:
        """The state at the start of a sample: zeros [B, n_l] of each layer, for x [B, n]."""
        return tuple(x.new_zeros(len(x), size) for size in self.sizes[1:])

    def dynamics(self, x: Tensor, beta: float = 0.0, target: Tensor | None = None) -> Callable[[State], State]:
        """The map of the state from step to step, free, or nudged by ``beta`` towards ``target`` [B, classes]."""
        first = F.linear(x, self.weights[0], self.biases[0])

        def update(state: State) -> State:
            new = self._step(first, state)
            if target is None:
                return new
            return (*new[:-1], new[-1] + beta * (target - state[-1]))

        return update

    def _step(self, first: Tensor, state: State) -> State:
        rho, slope, holds = ACTIVATIONS[self.activation]
        energy, last = self.setting == "energy", len(state) - 1
        sent = tuple(rho(layer) for layer in state) if energy and not holds else state
        new = []
        for index, layer in enumerate(state):
            drive = first if index == 0 else F.linear(sent[index - 1], self.weights[index], self.biases[index])
            if index < last:
                drive = drive + sent[index + 1] @ self.weights[index + 1]
            if not energy:
                new.append(rho(drive))
                continue
            moved = (1 - self.step_size) * layer + self.step_size * slope(layer) * drive
            new.append(rho(moved) if holds else moved)
        return tuple(new)

    def primitive_gradient(self, x: Tensor, state: State) -> list[Tensor]:
        """dPhi/dW_1 ... dPhi/dW_L, then dPhi/db_1 ... dPhi/db_L, summed over the batch (of the prototypical setting: without
        rho'); in the order of ``parameters()``."""
        rho, _, holds = ACTIVATIONS[self.activation]
        energy = self.setting == "energy"
        chain = (x, *(tuple(rho(layer) for layer in state) if energy and not holds else state))
        factor = self.step_size if energy else 1.0
        weights = [factor * (after.T @ before) for before, after in pairwise(chain)]
        return weights + [factor * layer.sum(0) for layer in chain[1:]]

    def forward(self, x: Tensor) -> Tensor:
        """State of the last layer [B, classes] after the free phase; x: [B, n] in [0, 1]. Differentiable."""
        frame = self.encode(x)[0]
        update, state = self.dynamics(frame), self.rest(frame)
        for _ in range(self.steps):
            state = update(state)
        return state[-1]

    @torch.no_grad()
    def answer(self, x: Tensor) -> Tensor:
        """State of the last layer [B, classes] after the free phase, without a graph."""
        answer: Tensor = self(x)
        return answer


def energy_net(
    sizes: Sequence[int],
    *,
    setting: str = "prototypical",
    activation: str = "hard_sigmoid",
    steps: int = 25,
    step_size: float = 0.2,
) -> EnergyNetwork:
    """A network for equilibrium propagation, e.g. ``energy_net([64, 64, 10])``; see :class:`EnergyNetwork`."""
    return EnergyNetwork(sizes, setting=setting, activation=activation, steps=steps, step_size=step_size)
