"""From a trained GraphReasoner to a FixedReasoner: one scale for all that reaches the membrane, integers for the score.

The scale K (weight units of a real unit) is the largest for which the synapses fit into 8 bits, threshold and bias into theirs,
and ``headroom`` real units into the 24 bits of current and membrane. In the staged mapping with relation weights both stages
have 8 bits and no shift between them, so K = K0 2^p, with the relation weights in units of 2^-p and W in units of 1/K0; p is
the one with the least rounding error of both.

The stock LIF fires above its threshold, the trained neuron at it; membranes count 1/64 weight unit, so round(K Vth) is off by
that much alone. On UMLS it flips as few spikes as round(K Vth) - 1, or fewer (K = 48: 3.92 % and 4.06 %; 65: 2.75 and 2.82;
255: 1.04 and 1.02; 504: 0.53 and 0.54).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import LimitError, finite, positive, whole_number, within
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.arithmetic import DECAY_ONE, MEMBRANE_MAX, MEMBRANE_UNIT
from lava_snnlearn.fixed_point.reasoner import RELATION_WEIGHT_MAX, SHIFT_MAX, FixedReasoner
from lava_snnlearn.fixed_point.reasoner_emulator import checked_queries, emulate_reasoner
from lava_snnlearn.fixed_point.reasoner_head import DECODE_ONE, HIDDEN_BITS, FixedHead
from lava_snnlearn.fixed_point.scales import exponent_below, weight_range
from lava_snnlearn.graphs.graph import Graph, check_graph

if TYPE_CHECKING:
    from lava_snnlearn.networks.graph_reasoner import GraphReasoner
    from lava_snnlearn.networks.message_passing import Propagation

FloatArray = NDArray[np.float64]

HEADROOM = 512.0
"""Real units that current and membrane can hold, unless told otherwise: what UMLS takes (busiest node: 306 edges)."""
Calibration = tuple[Graph, ArrayLike, ArrayLike]
"""A graph and typical queries on it: graph, source [B], query [B]."""
_FIRST_HEADROOM, _HEADROOM_STEP = 16.0, 1.25
_HEAD_WEIGHT = 127
_OMEGA_BITS = 14
_QUERIES = 64
"""Query relations whose tables are computed at a time."""


@dataclass(frozen=True)
class ReasonerReals:
    """A reasoner's numbers, float64. R: relations, D: width, H: hidden units.

    weight: kappa c W [D, D]. self_weight [D, D], offset kappa c w0 [D]: or None. code: b [R, D]. delays: whole steps
    [R or 1, R, D]. omega: [R, R, D] or None. hidden [H, 2 D], hidden_bias [H], output [H], output_bias: of the score.
    """

    weight: FloatArray
    self_weight: FloatArray | None
    offset: FloatArray | None
    code: FloatArray
    delays: NDArray[np.int64]
    omega: FloatArray | None
    hidden: FloatArray
    hidden_bias: FloatArray
    output: FloatArray
    output_bias: float


def quantize_reasoner(
    model: GraphReasoner,
    *,
    weight_bits: int = 8,
    headroom: float | None = None,
    calibration: Calibration | None = None,
) -> FixedReasoner:
    """Round a trained reasoner; the mapping follows from its hop: 1 "exact", 2 "staged".

    Args:
        model: trained, variant "base" or "plus". It is not changed.
        weight_bits: 2..8 bits a synapse, sign included.
        headroom: largest current and membrane expected, in real units. A larger one makes the scale, and so the resolution,
            smaller; a too small one shows as ``wrapped`` in the trace. Busy nodes of large graphs need more. None: 512, or what
            the calibration needs.
        calibration: (graph, source [B], query [B]), typical queries, e.g. of the validation set: they are emulated to find the
            least headroom for which no register overflows, and a quarter is added.

    Returns:
        FixedReasoner; ``notes`` tell the scale and the rounding errors.

    Raises:
        LimitError: numbers that no scale can hold, or weight_bits out of range. ValueError: NaN or infinity, variant
        "plus_full", headroom beside calibration. TypeError: weight_bits not whole, headroom no number.
    """
    plan = plan_reasoner(model, weight_bits=weight_bits, headroom=headroom, calibration=calibration)
    return round_reasoner(model, reasoner_reals(model), plan)


def plan_reasoner(
    model: GraphReasoner, *, weight_bits: int, headroom: float | None, calibration: Calibration | None
) -> ScalePlan:
    """The choices of :func:`quantize_reasoner`, which see."""
    if model.variant == "plus_full":
        raise ValueError(
            'variant "plus_full" (LayerNorm, PNA) is not event-driven and does not run on the chip; train variant="plus"'
        )
    within("weight_bits", whole_number("weight_bits", weight_bits), 2, limits.WEIGHT_BITS, "Loihi holds up to 8 bits a weight.")
    reals = reasoner_reals(model)
    if calibration is None:
        headroom = HEADROOM if headroom is None else headroom
        positive("headroom", headroom)
    elif headroom is None:
        headroom = _calibrated_headroom(model, reals, weight_bits, calibration)
    else:
        raise ValueError("the calibration finds the headroom; leave one of them out")
    return choose_scale(reals, model.rule, weight_bits, headroom)


def _calibrated_headroom(model: GraphReasoner, reals: ReasonerReals, weight_bits: int, calibration: Calibration) -> float:
    """The least headroom, in steps of a quarter, for which the emulated queries stay within 24 bits, and a quarter more."""
    graph, source, query = calibration
    check_graph(graph, model.relations)
    queries = checked_queries(graph, source, query)
    headroom, tried = _FIRST_HEADROOM, None
    while True:
        plan = choose_scale(reals, model.rule, weight_bits, headroom)
        if plan != tried and _fits(round_reasoner(model, reals, plan), graph, *queries, last=plan.scale == 1):
            return headroom * _HEADROOM_STEP
        headroom, tried = headroom * _HEADROOM_STEP, plan


def _fits(fixed: FixedReasoner, graph: Graph, source: ArrayLike, query: ArrayLike, *, last: bool) -> bool:
    try:
        trace = emulate_reasoner(fixed, graph, source, query)
    except LimitError:  # sums beyond Lava's 32 bits: a smaller scale may do
        if last:
            raise
        return False
    return not trace.wrapped and not trace.saturated


def reasoner_reals(model: GraphReasoner) -> ReasonerReals:
    """The numbers of a model, float64; refuses NaN and infinity (ValueError)."""
    for name, parameter in model.state_dict().items():
        finite(f"reasoner parameter {name}", parameter.detach().cpu().numpy())
    rule, width = model.rule, model.width
    gain = rule.kappa * rule.scale
    device = model.combine.weight.device
    rows = 1 if model.delay_kind in ("relation", "zero") else model.relations
    with torch.no_grad():
        chosen = torch.arange(model.relations, device=device).split(_QUERIES)
        delays = torch.cat([model.delay_steps(part) for part in torch.arange(rows, device=device).split(_QUERIES)])
        weights = [model.relation_weights(part) for part in chosen]
        omega = None if weights[0] is None else _double(torch.cat([part for part in weights if part is not None]))
        code = torch.cat([model.query_code(part) for part in chosen])
    combine = _double(model.combine.weight) * gain
    first, last = model.head[0], model.head[2]
    return ReasonerReals(
        weight=combine[:, -width:],
        self_weight=combine[:, :width] if combine.shape[1] > width else None,
        offset=None if model.combine.bias is None else _double(model.combine.bias) * gain,
        code=_double(code),
        delays=delays.cpu().numpy(),
        omega=omega,
        hidden=_double(first.weight),
        hidden_bias=_double(first.bias),
        output=_double(last.weight)[0],
        output_bias=float(last.bias.detach()[0]),
    )


def _double(values: torch.Tensor) -> FloatArray:
    array: FloatArray = values.detach().double().cpu().numpy()
    return array


@dataclass(frozen=True)
class ScalePlan:
    """Choices of a conversion: the weights' bits, K = weight_scale * 2 ** stage_bits (staged with relation weights; else
    stage_bits is 0), and the bits of the exact mapping's fine weights and relation weights."""

    weight_bits: int
    weight_scale: int
    stage_bits: int = 0
    fine_bits: int = 0
    omega_bits: int = 0

    @property
    def scale(self) -> int:
        """K."""
        return self.weight_scale << self.stage_bits


def choose_scale(reals: ReasonerReals, rule: Propagation, weight_bits: int, headroom: float) -> ScalePlan:
    """The largest scale, see the module. Raises LimitError if there is none."""
    _, _, top = weight_range(weight_bits)
    bias_top = limits.BIAS_MANTISSA_MAX << limits.BIAS_EXPONENT_MAX
    roof = min(
        (MEMBRANE_MAX // MEMBRANE_UNIT) / headroom,
        limits.THRESHOLD_MAX / rule.threshold,
        bias_top / MEMBRANE_UNIT / max(float(np.abs(reals.code).max()), 1e-9),
        *(
            (top << limits.EXPONENT_MAX) / max(float(np.abs(part).max()), 1e-9)
            for part in (reals.self_weight, reals.offset)
            if part is not None
        ),
    )
    largest = np.abs(reals.weight)
    if reals.omega is None or rule.hop == 2:
        scale = _whole(min(roof, top / max(float(largest.max()), 1e-9)), reals)
        plain = ScalePlan(weight_bits, scale)
        return plain if reals.omega is None else _staged_plan(reals, reals.omega, plain, roof)
    each = np.abs(reals.omega).max(axis=(0, 1))
    scale = _whole(min(roof, top / max(float((largest * each).max()), 1e-9)), reals)
    omega_bits = min(_OMEGA_BITS, exponent_below(RELATION_WEIGHT_MAX, float(each.max())))
    fine_bits = min(SHIFT_MAX - omega_bits, exponent_below(1 << 30, scale * float(largest.max())))
    if omega_bits < 0 or fine_bits < 0:
        raise LimitError(f"relation weights up to {each.max():.4g} are too large for 16 bits; lower the learning rate")
    return ScalePlan(weight_bits, scale, 0, fine_bits, omega_bits)


def _whole(scale: float, reals: ReasonerReals) -> int:
    if scale < 1:
        raise LimitError(
            f"no scale holds synapses up to {np.abs(reals.weight).max():.4g} and codes up to "
            f"{np.abs(reals.code).max():.4g} (the largest would be {scale:.4g} weight units of a real unit); lower headroom, "
            "or train with weight decay"
        )
    return math.floor(scale)


def _staged_plan(reals: ReasonerReals, omega: FloatArray, plain: ScalePlan, roof: float) -> ScalePlan:
    """The split of K between the two stages with the least sum of relative squared rounding errors."""
    found: list[tuple[float, ScalePlan]] = []
    for bits in range(limits.WEIGHT_BITS):
        scale = min(plain.weight_scale, math.floor(roof / 2**bits))
        if scale >= 1 and np.abs(omega).max() * 2**bits <= limits.WEIGHT_MAX:
            plan = replace(plain, weight_scale=scale, stage_bits=bits)
            parts = (reals.weight, scale, plain.weight_bits), (omega, 1 << bits, limits.WEIGHT_BITS)
            found.append((sum(_relative_error(*part) ** 2 for part in parts), plan))
    if not found:
        raise LimitError(
            f"relation weights up to {np.abs(omega).max():.4g} are beyond {limits.WEIGHT_MAX}; lower the learning rate"
        )
    return min(found, key=lambda pair: pair[0])[1]


def grid_integers(values: FloatArray, scale: float, weight_bits: int = limits.WEIGHT_BITS) -> NDArray[np.int64]:
    """Values in weight units, rounded to the grid of ``weight_bits``, held at the ends of its range."""
    grid, low, high = weight_range(weight_bits)
    return np.clip(grid * np.rint(values * scale / grid), low, high).astype(np.int64)


def _relative_error(values: FloatArray, scale: int, weight_bits: int) -> float:
    error = grid_integers(values, scale, weight_bits) / scale - values
    return float(np.sqrt(np.mean(error**2)) / (np.sqrt(np.mean(values**2)) or 1.0))


def round_reasoner(model: GraphReasoner, reals: ReasonerReals, plan: ScalePlan) -> FixedReasoner:
    """All integers of a reasoner for a chosen scale."""
    rule, scale = model.rule, plan.scale
    shift = 0
    if reals.omega is None:
        weight, omega = grid_integers(reals.weight, scale, plan.weight_bits), None
    elif rule.hop == 2:
        weight = grid_integers(reals.weight, plan.weight_scale, plan.weight_bits)
        omega = grid_integers(reals.omega, 1 << plan.stage_bits)
    else:
        shift = plan.fine_bits + plan.omega_bits
        weight = np.rint(reals.weight * scale * 2.0**plan.fine_bits).astype(np.int64)
        omega = _held(np.rint(reals.omega * 2.0**plan.omega_bits), weight, shift)
    self_weight, self_exp = _with_exponent(reals.self_weight, scale, plan.weight_bits)
    offset, offset_exp = _with_exponent(reals.offset, scale, limits.WEIGHT_BITS)
    bias, bias_exp = bias_integers(reals.code, scale)
    decode = decode_integers(rule.decay, rule.steps)
    head = head_integers(reals, int(decode.sum()), 2 if model.homogeneous else 1)
    error = _relative_error(reals.weight, plan.weight_scale, plan.weight_bits)
    notes = [f"{scale} weight units are one real unit; W: relative rms error {error:.2%}"]
    if reals.omega is not None and rule.hop == 2:
        error = _relative_error(reals.omega, 1 << plan.stage_bits, limits.WEIGHT_BITS)
        notes.append(f"relation weights in units of 2^-{plan.stage_bits}, relative rms error {error:.2%}")
    return FixedReasoner(
        mapping="exact" if rule.hop == 1 else "staged",
        relations=model.relations,
        width=model.width,
        steps=rule.steps,
        max_delay=rule.max_delay,
        scale=scale,
        weight=weight,
        delays=reals.delays,
        bias=bias,
        bias_exp=bias_exp,
        vth=round(scale * rule.threshold),
        du=round(DECAY_ONE * (1 - rule.a)) - 1,
        dv=round(DECAY_ONE * (1 - rule.a)),
        decode=decode,
        head=head,
        self_weight=self_weight,
        self_exp=self_exp,
        offset=offset,
        offset_exp=offset_exp,
        relation_weight=omega,
        weight_shift=shift,
        homogeneous=model.homogeneous,
        notes=tuple(notes),
    )


def _held(omega: FloatArray, weight: NDArray[np.int64], shift: int) -> NDArray[np.int64]:
    """Relation weights whose products with W fit into 8 bits; changes what fine-tuning has made too large, nothing else."""
    largest = np.maximum(np.abs(weight).max(axis=0), 1)
    top = np.minimum((limits.WEIGHT_MAX << shift) // largest, RELATION_WEIGHT_MAX)
    return np.clip(omega, -top, top).astype(np.int64)


def _with_exponent(values: FloatArray | None, scale: int, weight_bits: int) -> tuple[NDArray[np.int64] | None, int]:
    """Synapses that may be larger than those between nodes: mantissas, and the least exponent that holds them."""
    if values is None:
        return None, 0
    _, _, top = weight_range(weight_bits)
    exponent = min(max(0, -exponent_below(top, scale * float(np.abs(values).max()))), limits.EXPONENT_MAX)
    return grid_integers(values, scale / 2.0**exponent, weight_bits), exponent


def bias_integers(code: FloatArray, scale: int) -> tuple[NDArray[np.int64], int]:
    """Mantissas [R, D] of the query codes at the finest exponent that holds them, and the exponent."""
    whole = code * scale * MEMBRANE_UNIT
    top = limits.BIAS_MANTISSA_MAX
    exponent = min(max(0, -exponent_below(top, float(np.abs(whole).max()))), limits.BIAS_EXPONENT_MAX)
    return np.clip(np.rint(whole / 2.0**exponent), -top, top).astype(np.int64), exponent


def decode_integers(decay: float, steps: int) -> NDArray[np.int64]:
    """round(4096 lam^t / Z), [T]."""
    weights = decay ** np.arange(steps)
    return np.rint(DECODE_ONE * weights / weights.sum()).astype(np.int64)


def head_integers(reals: ReasonerReals, largest_feature: int, directions: int) -> FixedHead:
    """The score's two layers in 8-bit weights; ``directions``: 2 where features of both directions are added up."""
    width = reals.code.shape[1]
    by_feature, by_query = reals.hidden[:, :width], reals.code @ reals.hidden[:, width:].T + reals.hidden_bias
    one = directions * DECODE_ONE
    # All of a hidden sum within 30 bits.
    bound = float((np.abs(by_feature).sum(1) + np.abs(by_query).max(0)).max()) * directions * max(largest_feature, DECODE_ONE)
    first = _head_scale(by_feature, (1 << 30) / max(bound, 1e-9))
    hidden = np.rint(by_feature * first).astype(np.int64)
    bias = np.rint(by_query * first * one).astype(np.int64)
    largest = int((np.abs(hidden).sum(1) * directions * largest_feature + np.abs(bias).max(0)).max())
    shift = max(0, largest.bit_length() - HIDDEN_BITS)
    second = _head_scale(reals.output, (1 << 30) / max(abs(reals.output_bias) * first * one / 2.0**shift, 1e-9))
    return FixedHead(
        hidden_weight=hidden,
        hidden_bias=bias,
        shift=shift,
        output_weight=np.rint(reals.output * second).astype(np.int64),
        output_bias=round(reals.output_bias * second * first * one / 2.0**shift),
        hidden_scale=first,
        output_scale=second,
        feature_one=one,
    )


def _head_scale(values: FloatArray, roof: float) -> int:
    largest = float(np.abs(values).max())
    scale = math.floor(min(_HEAD_WEIGHT / max(largest, 1e-9), roof, 1 << 20))
    if scale < 1:
        raise LimitError(f"the score has weights up to {largest:.4g}, which no 8-bit integers hold; train with weight decay")
    return scale
