"""Fine-tuning of a graph reasoner in the chip's arithmetic, with gradients straight through its rounding.

    qat = prepare_reasoner_qat(model, calibration=(graph, source, query))
    ReasoningTrainer(qat, GRSNN(), data, epochs=1).fit()
    chip = snn.quantize(qat)

Forward: the parameters are rounded as :func:`~lava_snnlearn.fixed_point.reasoner_quantize.quantize_reasoner` does, at the scale
that was chosen in the beginning, and the emulator makes spikes, features and scores; they equal those of the chip. Backward:
the gradient of the real-valued network at these spikes and membranes, with the parameters that the integers stand for (Bengio,
Leonard and Courville 2013). A parameter beyond the range of its bits takes part as the end of the range.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lava_snnlearn.checks import flag, instance_of
from lava_snnlearn.fixed_point.arithmetic import MEMBRANE_UNIT, bias_current
from lava_snnlearn.fixed_point.reasoner import FixedReasoner
from lava_snnlearn.fixed_point.reasoner_emulator import emulate_reasoner
from lava_snnlearn.fixed_point.reasoner_head import DECODE_ONE
from lava_snnlearn.fixed_point.reasoner_quantize import (
    Calibration,
    ScalePlan,
    plan_reasoner,
    reasoner_reals,
    round_reasoner,
)
from lava_snnlearn.graphs.graph import Graph
from lava_snnlearn.networks.graph_reasoner import GraphReasoner, GraphResponse
from lava_snnlearn.networks.message_given import propagate_given
from lava_snnlearn.networks.propagation import Tables


def prepare_reasoner_qat(
    model: GraphReasoner,
    *,
    weight_bits: int = 8,
    headroom: float | None = None,
    calibration: Calibration | None = None,
) -> QATReasoner:
    """A copy of a trained reasoner for fine-tuning at the precision of the chip.

    Args:
        model: trained, variant "base" or "plus", on the CPU; it is not changed.
        weight_bits, headroom, calibration: as in :func:`~lava_snnlearn.fixed_point.reasoner_quantize.quantize_reasoner`, which
            gives the same integers for the untrained result as for ``model``.

    Returns:
        QATReasoner, to be trained and evaluated as any reasoner, and handed to ``quantize`` without further arguments.

    Raises:
        TypeError: no GraphReasoner. ValueError: one that is prepared already, or not on the CPU. Else as ``quantize_reasoner``.
    """
    instance_of("model", model, GraphReasoner, "prepare_reasoner_qat takes a trained lava_snnlearn.networks.GraphReasoner")
    if isinstance(model, QATReasoner):
        raise ValueError("this reasoner is prepared already; prepare the one that it was made from to change its precision")
    if model.combine.weight.device.type != "cpu":
        raise ValueError(f"the emulator runs on the CPU, the model is on {model.combine.weight.device}; use model.cpu()")
    plan = plan_reasoner(model, weight_bits=weight_bits, headroom=headroom, calibration=calibration)
    return QATReasoner(model, plan)


class QATReasoner(GraphReasoner):
    """A reasoner in the chip's arithmetic, with real-valued parameters behind it; made by :func:`prepare_reasoner_qat`.

    To load weights, or resume a run, prepare the same float reasoner by the same arguments again.
    """

    def __init__(self, model: GraphReasoner, plan: ScalePlan) -> None:
        rule = model.rule
        super().__init__(
            model.relations,
            width=model.width,
            steps=rule.steps,
            max_delay=rule.max_delay,
            tau=rule.tau,
            threshold=rule.threshold,
            decay=rule.decay,
            scale=rule.scale,
            delays=model.delay_kind,
            delay_grad=rule.delay_grad,
            hop=rule.hop,
            bias=model.combine.bias is not None,
            variant=model.variant,
            homogeneous=model.homogeneous,
            backend=model.backend,
        )
        self.to(model.combine.weight.dtype)
        self.load_state_dict(model.state_dict())
        self.train(model.training)
        self.plan = plan

    def deployed(self) -> FixedReasoner:
        """The present integers."""
        return round_reasoner(self, reasoner_reals(self), self.plan)

    def run(self, graph: Graph, source: Tensor, query: Tensor, *, record: bool = False) -> GraphResponse:
        """As of any reasoner, but the features and spikes are the chip's, read in real units.

        Raises:
            LimitError: sums beyond what Lava's LIF takes; the rest as :meth:`GraphReasoner.run`.
        """
        source, query = self._batch(graph, source, query)
        flag("record", record)
        fixed, training = self.deployed(), torch.is_grad_enabled()
        how = "charged" if training else "spikes" if record else "outputs"
        trace = emulate_reasoner(fixed, graph, source.numpy(), query.numpy(), record=how, threads=torch.get_num_threads())
        kind = self.combine.weight
        features = torch.from_numpy(trace.features).to(kind) / DECODE_ONE
        if training and trace.charged is not None and trace.spikes is not None:
            tables, row = self._tables(query)
            rounded = self._rounded(tables, fixed, torch.unique(query).numpy())
            # The backward takes a membrane at the real threshold for a spike; on the chip it takes one above the integer
            # threshold. Half a step, and what rounding did to the threshold, make the two agree.
            shift = 0.5 - self.rule.threshold * fixed.one + fixed.vth * MEMBRANE_UNIT
            charged = ((torch.from_numpy(trace.charged).double() - shift) / fixed.one).to(kind)
            features = propagate_given(
                graph, self.rule, rounded, source, row, features, charged, torch.from_numpy(trace.spikes)
            )
        spikes = torch.from_numpy(trace.spikes) if record and trace.spikes is not None else None
        return GraphResponse(features, spikes, int(trace.spike_counts.sum()))

    def scores(self, features: Tensor, query: Tensor) -> Tensor:
        """As of any reasoner, in the integers of the chip's score, read in real units."""
        real, head = super().scores(features, query), self.deployed().head
        exact = torch.from_numpy(head.read(features.detach().numpy(), torch.as_tensor(query).numpy()))
        # The difference first: what is added to it is then, up to rounding of the float type, the chip's score.
        return real + (exact.to(real) - real.detach())

    def _rounded(self, tables: Tables, fixed: FixedReasoner, queries: NDArray[np.int64]) -> Tables:
        """The real numbers that the integers stand for, with the gradient of those that they were made of."""
        gain = self.rule.kappa * self.rule.scale
        weight = np.asarray(fixed.weight) / (2.0**self.plan.fine_bits * self.plan.weight_scale)
        if fixed.self_weight is not None:
            own = np.asarray(fixed.self_weight) * 2.0**fixed.self_exp / fixed.scale
            weight = np.concatenate([own, weight], 1)
        code = bias_current(np.asarray(fixed.bias)[queries], fixed.bias_exp) / fixed.one
        omega = offset = None
        if fixed.relation_weight is not None:
            unit = 2.0 ** (self.plan.stage_bits if fixed.mapping == "staged" else self.plan.omega_bits)
            omega = _through(tables.omega, np.asarray(fixed.relation_weight)[queries] / unit)
        if fixed.offset is not None:
            offset = _through(tables.offset, np.asarray(fixed.offset) * 2.0**fixed.offset_exp / fixed.scale / gain)
        return Tables(_through(tables.code, code), tables.delay, omega, _through(tables.weight, weight / gain), offset)


def _through(real: Any, rounded: NDArray[Any]) -> Tensor:
    """The values of ``rounded`` with the gradient of ``real``."""
    result: Tensor = real + (torch.from_numpy(np.asarray(rounded, dtype=np.float64)).to(real) - real).detach()
    return result
