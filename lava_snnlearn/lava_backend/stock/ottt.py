"""OTTT and SLTT of one layer as a rule of Lava's stock learning engine (``Loihi3FLearningRule``).

OTTT (Xiao et al. 2022): ``a[t] = lam * a[t-1] + s[t]``, ``W -= eta * g[t] a[t]^T`` with the layer's spatial error g; SLTT
(Meng et al. 2023) the same with s[t] in place of the trace. The engine holds the trace in x1, and post factors without sign, so
that g arrives in two parts: ``dw = eta*u0*x1*y3 - eta*u0*x1*y2``, y2 = max(g, 0), y3 = max(-g, 0).

The trace of a step already holds a spike whose current reaches the neuron a step later. Two constructions mend that:

- Epochs (``epoch >= 2``): one learning epoch of P Lava steps is one logical step. Spikes come in its first Lava step, the
  current in its second, and g may take until the last. The trace decays by lam^(1/P) a Lava step. Exactly OTTT.
- Lava steps (``epoch = 1``): g[t] comes a step later, and the spike that came with it is taken off the trace again:
  ``c*u0*x1*y3 - c*impulse*x0*y3 - ...``, c = eta / lam. Current t is made by weights that lack the update of step t - 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import at_least, flag, known_name, within
from lava_snnlearn.lava_backend.runner import TIME_LIMIT
from lava_snnlearn.lava_backend.stock.engine import EPOCH_MAX, FIXED, FLOATING, NEVER, TRACE_MAX, Product, StockRule, run_stock

ONLINE, ACCUMULATE = "online", "accumulate"


@dataclass(frozen=True)
class ThreeFactor:
    """How a stock connection learns by OTTT or SLTT.

    leak: fraction of the trace lost in each logical step, 0 < leak < 1: lam = 1 - leak, as of the LIF neurons behind it.
    exponent: of the rule in the units of the float engine: the text holds 2^exponent.
    impulse: what a spike adds to x1, as in :attr:`rate`. None: 1 at the end of the epoch. The fixed engine needs a whole number
        with traces up to 127 (about 127 * leak); with ``epoch = 1`` it has to be a power of two.
    epoch: Lava steps of a logical step, 1 or 2..63 (see the module).
    update: "online", or "accumulate": weights stay, and the updates of a sample are summed in ``tag_1`` for the host to add.
    trace: False for SLTT: only spikes of the same step count. Needs ``epoch >= 2``.
    seed: of the fixed engine's rounding of the decaying trace.

    Raises: LimitError, ValueError, UnknownNameError for what has no such construction.
    """

    leak: float
    exponent: int
    impulse: float | None = None
    epoch: int = 4
    update: str = ONLINE
    trace: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        known_name("update", self.update, (ONLINE, ACCUMULATE))
        flag("trace", self.trace)
        within("epoch", at_least(1, "epoch", self.epoch), 1, EPOCH_MAX, "Lava's learning epochs have 6 bits.")
        if not 0 < self.leak < 1:
            raise ValueError(
                f"leak is {self.leak}; it must be between 0 and 1. For a trace that keeps nothing use trace=False."
            )
        if self.impulse is not None and not self.impulse > 0:
            raise ValueError(f"impulse is {self.impulse}; it must be more than 0")
        if self.epoch == 1 and not self.trace:
            raise ValueError("trace=False needs epoch >= 2: with epoch 1 the error meets the spikes of the next step.")
        if self.epoch == 1 and not math.log2(self._impulse).is_integer():
            raise ValueError(
                f"impulse is {self.impulse}; with epoch 1 it must be a power of two, to be part of the rule's scale"
            )

    @property
    def rate(self) -> float:
        """eta of ``W -= eta * g a^T``."""
        if not self.trace:
            return 2.0**self.exponent
        left = self._kept if self.epoch == 1 else self._kept ** ((self.epoch - 1) / self.epoch)
        return 2.0**self.exponent * self._impulse * left

    @property
    def rule(self) -> StockRule:
        """The rule of the stock connection."""
        products = tuple(product for sign, post in ((1, "y3"), (-1, "y2")) for product in self._products(sign, post))
        online = self.update == ONLINE
        return StockRule(
            weight=products if online else (),
            label=() if online else products,
            x1_impulse=self._impulse if self.trace else 0.0,
            x1_tau=self.epoch / -math.log(self._kept) if self.trace else NEVER,
            epoch=self.epoch,
            seed=self.seed,
        )

    @property
    def _kept(self) -> float:
        return 1 - self.leak

    @property
    def _impulse(self) -> float:
        if self.impulse is not None:
            return self.impulse
        return self._kept ** -((self.epoch - 1) / self.epoch)

    def _products(self, sign: int, post: str) -> list[Product]:
        if not self.trace:
            return [Product(sign, self.exponent, "x0", (post,))]
        decayed = Product(sign, self.exponent, "u0", ("x1", post))
        if self.epoch > 1:
            return [decayed]
        return [decayed, Product(-sign, self.exponent + int(math.log2(self._impulse)), "x0", (post,))]


@dataclass(frozen=True)
class LayerTrajectory:
    """One layer over T logical steps.

    learned: [T, post, pre], the weights after each step, or the accumulated update with ``update="accumulate"``.
    currents: [T, post], what the weights made of the spikes of each step. errors: [T, post], g.
    """

    learned: NDArray[Any]
    currents: NDArray[Any]
    errors: NDArray[Any]


def learn_layer(
    how: ThreeFactor,
    weights: NDArray[Any],
    spikes: NDArray[Any],
    neuron: Callable[[int, NDArray[np.float64]], NDArray[Any]],
) -> LayerTrajectory:
    """The layer in plain numpy, float64: what the stock float engine has to do.

    Args:
        how: the rule.
        weights, spikes: [post, pre] and [T, pre].
        neuron: called as ``neuron(t, current)`` with the currents [post] of step t; returns the errors g [post].
    """
    before = current_weights = weights.astype(float)
    total, trace = np.zeros_like(before), np.zeros(weights.shape[1])
    learned, currents, errors = [], [], []
    for step, row in enumerate(spikes):
        currents.append((before if how.epoch == 1 else current_weights) @ row)
        errors.append(np.asarray(neuron(step, currents[-1]), dtype=float))
        trace = (1 - how.leak) * trace + row if how.trace else row
        change = -how.rate * np.outer(errors[-1], trace)
        total = total + change
        if how.update == ONLINE:
            before, current_weights = current_weights, current_weights + change
        learned.append(current_weights if how.update == ONLINE else total)
    return LayerTrajectory(np.array(learned), np.array(currents), np.array(errors))


def run_layer(
    how: ThreeFactor,
    weights: NDArray[Any],
    spikes: NDArray[Any],
    errors: NDArray[Any],
    *,
    tag: str = FLOATING,
    time_limit: float = TIME_LIMIT,
) -> LayerTrajectory:
    """The layer on Lava: one stock ``LearningDense`` that is given the spikes and errors of each step.

    If its weights and currents are those of :func:`learn_layer`, so would be the neurons behind it, which see nothing else.

    Args:
        how: the rule.
        weights: [post, pre].
        spikes: [T, pre], 0 and 1. errors: [T, post], g; for ``fixed_pt`` integers -127..127.
        tag, time_limit, and errors raised: see :func:`~lava_snnlearn.lava_backend.stock.engine.run_stock`.
    """
    if len(spikes) != len(errors):
        raise ValueError(f"spikes hold {len(spikes)} steps, errors {len(errors)}; give both [T, n]")
    if tag == FIXED and how.trace:
        _check_trace(how, spikes)
    steps, late = len(spikes), how.epoch == 1
    rows = np.zeros(((steps + 1 if late else steps * how.epoch), spikes.shape[1]), np.int32)
    rows[: steps * how.epoch : how.epoch] = spikes
    held = np.concatenate([np.zeros_like(errors[:1]), errors]) if late else np.repeat(errors, how.epoch, axis=0)
    posts = {"y2": np.maximum(held, 0), "y3": np.maximum(-held, 0)}
    run = run_stock(weights, how.rule, rows, posts, tag=tag, time_limit=time_limit)
    matrices = run.weights if how.update == ONLINE else run.labels
    learned = matrices[1:] if late else matrices[how.epoch - 1 :: how.epoch]
    return LayerTrajectory(learned, run.currents[1 :: how.epoch], errors)


def _check_trace(how: ThreeFactor, spikes: NDArray[Any]) -> None:
    """Refuse what the 7 bits of x1 cannot hold; the engine would round the impulse and saturate the trace in silence."""
    impulse = how.rule.x1_impulse
    if not float(impulse).is_integer():
        raise ValueError(
            f"impulse is {impulse}; the fixed engine needs a whole number, e.g. {max(1, int(TRACE_MAX * how.leak))}"
        )
    a_lava_step = (1 - how.leak) ** (1 / how.epoch)
    trace, peak = np.zeros(spikes.shape[1]), 0.0
    for row in spikes:
        trace = a_lava_step * trace + impulse * row
        peak = max(peak, float(trace.max()))
        trace = a_lava_step ** (how.epoch - 1) * trace
    within("the largest trace x1", peak, 0, TRACE_MAX, f"Use an impulse of {int(impulse * TRACE_MAX / max(peak, 1))} or less.")
