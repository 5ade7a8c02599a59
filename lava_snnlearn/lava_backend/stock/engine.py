"""One stock ``LearningDense`` driven by given arrays: rules for its two engines, and the guarded run.

Lava's float engine evaluates a rule as it is written. Its fixed engine (tag ``fixed_pt``) shifts every product right by
``max(0, widths of its factors + 4 - 15)`` bits before it applies the exponent, so that the same update needs another exponent
there. A :class:`Product` is written once, in the units of the float engine, and turned into the text of either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from lava.magma.core.learning.constants import GradedSpikeCfg
from lava.magma.core.learning.learning_rule import Loihi3FLearningRule
from lava.proc.dense.process import LearningDense
from lava.utils.weightutils import SignMode
from numpy.typing import NDArray

from lava_snnlearn.checks import at_least, finite, known_name, within
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.lava_backend.configuration import run_config
from lava_snnlearn.lava_backend.runner import TIME_LIMIT, run_guarded
from lava_snnlearn.processes.recorder.process import Recorder
from lava_snnlearn.processes.sample_source.process import SampleSource

FIXED, FLOATING = "fixed_pt", "floating_pt"
EXPONENT_MIN, EXPONENT_MAX = -7, 8
"""Exponents that the text of a rule may hold, in either engine."""
TRACE_MAX = 127
"""Largest trace of the fixed engine, and largest |y| that it multiplies with."""
PAYLOAD_MAX = 2 * TRACE_MAX
"""Largest graded spike that the fixed engine keeps: the trace is half of it, and negative ones turn into other numbers."""
EPOCH_MAX = 63
NEVER = 2**62
"""A time constant so long that nothing decays, not even by rounding. (0 would make a trace of the float engine NaN.)"""

_WIDTHS = {"x1": 7, "x2": 7, "y1": 7, "y2": 7, "y3": 7, "w": 9, "t": 9}
_MANTISSA_WIDTH, _ACCUMULATOR_WIDTH = 4, 15
_POST_PORTS = ("y1", "y2", "y3")


@dataclass(frozen=True)
class Product:
    """One product of a learning rule: ``sign * 2^exponent * gate * factors``, in the units of the float engine.

    gate: ``"x0"`` (a spike arrived in this epoch), ``"u0"`` (every epoch), ``"uk"`` (every 2^k-th one, k one digit).
    factors: of x1, x2, y1, y2, y3, w, t.
    """

    sign: int
    exponent: int
    gate: str
    factors: tuple[str, ...]

    @property
    def lost_bits(self) -> int:
        """The right shift of the fixed engine: 3 for two traces, 0 for one trace or for the weight alone."""
        widths = sum(_WIDTHS[known_name("factor of a learning rule", factor, _WIDTHS)] for factor in self.factors)
        return max(0, widths + _MANTISSA_WIDTH - _ACCUMULATOR_WIDTH)

    def text(self, tag: str) -> str:
        """The product in Lava's grammar. Raises LimitError if the exponent does not fit the engine."""
        raised = self.lost_bits * (tag == FIXED)
        within(
            f"the exponent of {'*'.join((self.gate, *self.factors))} for {tag}",
            self.exponent + raised,
            EXPONENT_MIN,
            EXPONENT_MAX,
            f"That is {self.exponent} and {raised} for the bits that this engine shifts out. Scale traces or errors instead.",
        )
        return f"{'+' if self.sign > 0 else '-'} 2^{self.exponent + raised}*{'*'.join((self.gate, *self.factors))}"


def rule_text(products: Sequence[Product], tag: str) -> str:
    """The sum of products as text of ``Loihi3FLearningRule`` for the engine with ``tag``."""
    return " ".join(product.text(tag) for product in products).removeprefix("+ ")


@dataclass(frozen=True)
class StockRule:
    """What a stock connection learns.

    weight, label: products that are added to the weights and to ``tag_1`` at the end of each epoch; one of them may be empty.
    x1_impulse, x1_tau: what a spike adds to the trace x1, and its time constant in Lava steps.
    epoch: Lava steps of one learning epoch, 1..63.
    graded: spikes overwrite x1 by half their payload instead of adding an impulse.
    seed: of the fixed engine's rounding of decaying traces. (The seed of its rounding of weights is always 2.)
    """

    weight: tuple[Product, ...] = ()
    label: tuple[Product, ...] = ()
    x1_impulse: float = 0.0
    x1_tau: float = NEVER
    epoch: int = 1
    graded: bool = False
    seed: int = 0

    def build(self, tag: str) -> Loihi3FLearningRule:
        """The rule for the engine with ``tag``; post factors act as they arrive, without Lava's decay by exp(-1/65535)."""
        within("epoch", at_least(1, "epoch", self.epoch), 1, EPOCH_MAX, "Lava's learning epochs have 6 bits.")
        rule = Loihi3FLearningRule(
            dw=rule_text(self.weight, tag) or None,
            dt=rule_text(self.label, tag) or None,
            x1_impulse=self.x1_impulse,
            x1_tau=self.x1_tau,
            x2_tau=NEVER,
            t_epoch=self.epoch,
            rng_seed=self.seed,
        )
        rule.y1_tau = rule.y2_tau = rule.y3_tau = NEVER
        return rule


@dataclass(frozen=True)
class StockRun:
    """What a run left, int32 (``fixed_pt``) or float64.

    weights, labels: [steps, post, pre] after each Lava step (labels: ``tag_1``; no rows if the rule has no products for it).
    currents: [steps, post]; ``currents[t + 1] = weights[t - 1] @ spikes[t]``, one step late as of every Dense.
    """

    weights: NDArray[Any]
    labels: NDArray[Any]
    currents: NDArray[Any]


def run_stock(
    weights: NDArray[Any],
    rule: StockRule,
    spikes: NDArray[Any],
    posts: Mapping[str, NDArray[Any]],
    *,
    tag: str = FLOATING,
    post_spikes: NDArray[Any] | None = None,
    time_limit: float = TIME_LIMIT,
) -> StockRun:
    """Run one ``LearningDense`` that is fed with arrays, for as many Lava steps as they have rows.

    Args:
        weights: [post, pre] at the start; for ``fixed_pt`` even integers -256..254.
        rule: what it learns.
        spikes: [steps, pre] sent to ``s_in``: 0 and 1, or payloads if the rule is graded (for ``fixed_pt`` 0..254).
        posts: "y1", "y2", "y3": [steps, post] sent to ``s_in_y*`` (for ``fixed_pt`` integers -127..127); missing ones are 0.
        tag: "floating_pt" or "fixed_pt": which of Lava's two engines.
        post_spikes: [steps, post] sent to ``s_in_bap``; None leaves the port alone. Where the post neuron spikes, the fixed
            engine takes a negative y as 0, so the demonstrators do without.
        time_limit: see :func:`~lava_snnlearn.lava_backend.runner.guarded`.

    Raises:
        ValueError, TypeError: shapes that do not fit; what the engine would cut, wrap or round in silence (LimitError).
        LavaRunError: the run failed.
    """
    known_name("tag", tag, (FIXED, FLOATING))
    for name in posts:
        known_name("post factor", name, _POST_PORTS)
    rows = {"s_in": spikes, **{f"s_in_{name}": values for name, values in posts.items()}}
    if post_spikes is not None:
        rows["s_in_bap"] = post_spikes
    _check(weights, rule, rows, tag)
    steps = len(spikes)
    dense = LearningDense(
        weights=weights,
        learning_rule=rule.build(tag),
        num_message_bits=8 if rule.graded else 0,
        graded_spike_cfg=GradedSpikeCfg.OVERWRITE if rule.graded else GradedSpikeCfg.USE_REGULAR_IMPULSE,
        sign_mode=SignMode.MIXED,
    )
    for port, values in rows.items():
        SampleSource(data=values).s_out.connect(getattr(dense, port))
    matrices = [Recorder(shape=weights.shape, steps=steps) for _ in range(2 if rule.label else 1)]
    for recorder, variable in zip(matrices, (dense.weights, dense.tag_1), strict=False):
        recorder.v_ref.connect_var(variable)
    sums = Recorder(shape=weights.shape[:1], steps=steps)
    dense.a_out.connect(sums.s_in)
    run_guarded(dense, steps, run_config(tag), time_limit)
    labels = matrices[1].membranes if rule.label else np.zeros((0, *weights.shape))
    return StockRun(matrices[0].membranes, labels, sums.spikes)


def _check(weights: NDArray[Any], rule: StockRule, rows: Mapping[str, NDArray[Any]], tag: str) -> None:
    if weights.ndim != 2 or weights.size == 0:
        raise ValueError(f"weights have shape {weights.shape}; expected [post, pre], at least one of each")
    steps = len(rows["s_in"])
    for port, values in rows.items():
        size = weights.shape[1] if port == "s_in" else weights.shape[0]
        if values.shape != (steps, size) or not steps:
            raise ValueError(f"{port} has shape {values.shape}; expected [{steps} (Lava steps, at least 1), {size}]")
        finite(port, values)
    finite("weights", weights)
    if tag == FIXED:
        _check_fixed(weights, rule, rows)


def _check_fixed(weights: NDArray[Any], rule: StockRule, rows: Mapping[str, NDArray[Any]]) -> None:
    for name, values in {"weights": weights, **rows}.items():
        if values.dtype.kind not in "biu":
            raise TypeError(f"{name} is of type {values.dtype}; the fixed engine takes integers. Scale and round before.")
    within("weights", weights, limits.WEIGHT_MIN, limits.WEIGHT_MAX, "Scale the matrix down.")
    if np.any(weights % 2):
        raise ValueError("weights hold odd numbers; the fixed engine starts from even ones. Use 2 * round(weights / 2).")
    for name, values in rows.items():
        if name == "s_in":
            within(name, values, 0, PAYLOAD_MAX if rule.graded else 1, "Split signed values into two phases, or scale down.")
        else:
            within(name, values, -TRACE_MAX, TRACE_MAX, "The engine saturates there: scale down.")
