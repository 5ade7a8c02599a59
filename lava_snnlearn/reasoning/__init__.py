"""Reasoning on graphs of facts: training, evaluation and explanation of graph reasoners, their integers, and Lava.

Those that run on Lava (``run_lava_reasoner``, ``run_float_reasoner``, ``verify_reasoner``) are imported when they are used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lava_snnlearn.fixed_point.reasoner import FixedReasoner
from lava_snnlearn.fixed_point.reasoner_emulator import emulate_reasoner, pair_scores
from lava_snnlearn.fixed_point.reasoner_qat import QATReasoner, prepare_reasoner_qat
from lava_snnlearn.fixed_point.reasoner_quantize import quantize_reasoner
from lava_snnlearn.fixed_point.reasoner_trace import ReasonerTrace
from lava_snnlearn.placement.reasoner import Partition, ReasonerCosts, ReasonerShape, partition, reasoner_costs
from lava_snnlearn.reasoning.answers import KnownAnswers, both_queries
from lava_snnlearn.reasoning.carried import Raster, edge_importance
from lava_snnlearn.reasoning.energy import ReasonerEnergy, reasoner_energy
from lava_snnlearn.reasoning.evaluation import Evaluation, evaluate
from lava_snnlearn.reasoning.explanation import CarriedEdge, CarriedPath, Explanation, explain
from lava_snnlearn.reasoning.history import ReasoningEpoch, ReasoningHistory
from lava_snnlearn.reasoning.ranking import filtered_candidates, filtered_ranks, link_measures, rank_measures, sampled_hits
from lava_snnlearn.reasoning.sampling import EdgeRemoval, strict_negatives, with_negatives
from lava_snnlearn.reasoning.trainer import ReasoningTrainer

if TYPE_CHECKING:
    from lava_snnlearn.lava_backend.reasoner import run_float_reasoner, run_lava_reasoner, verify_reasoner

__all__ = [
    "CarriedEdge",
    "CarriedPath",
    "EdgeRemoval",
    "Evaluation",
    "Explanation",
    "FixedReasoner",
    "KnownAnswers",
    "Partition",
    "QATReasoner",
    "Raster",
    "ReasonerCosts",
    "ReasonerEnergy",
    "ReasonerShape",
    "ReasonerTrace",
    "ReasoningEpoch",
    "ReasoningHistory",
    "ReasoningTrainer",
    "both_queries",
    "edge_importance",
    "emulate_reasoner",
    "evaluate",
    "explain",
    "filtered_candidates",
    "filtered_ranks",
    "link_measures",
    "pair_scores",
    "partition",
    "prepare_reasoner_qat",
    "quantize_reasoner",
    "rank_measures",
    "reasoner_costs",
    "reasoner_energy",
    "run_float_reasoner",
    "run_lava_reasoner",
    "sampled_hits",
    "strict_negatives",
    "verify_reasoner",
    "with_negatives",
]

_ON_LAVA = ("run_float_reasoner", "run_lava_reasoner", "verify_reasoner")


def __getattr__(name: str) -> Any:
    if name in _ON_LAVA:
        return getattr(importlib.import_module("lava_snnlearn.lava_backend.reasoner"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
