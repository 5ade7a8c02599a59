"""Reasoning on graphs of facts: training, evaluation and explanation of graph reasoners."""

from lava_snnlearn.reasoning.answers import KnownAnswers, both_queries
from lava_snnlearn.reasoning.carried import Raster, edge_importance
from lava_snnlearn.reasoning.evaluation import Evaluation, evaluate
from lava_snnlearn.reasoning.explanation import CarriedEdge, CarriedPath, Explanation, explain
from lava_snnlearn.reasoning.history import ReasoningEpoch, ReasoningHistory
from lava_snnlearn.reasoning.ranking import filtered_candidates, filtered_ranks, link_measures, rank_measures, sampled_hits
from lava_snnlearn.reasoning.sampling import EdgeRemoval, strict_negatives, with_negatives
from lava_snnlearn.reasoning.trainer import ReasoningTrainer

__all__ = [
    "CarriedEdge",
    "CarriedPath",
    "EdgeRemoval",
    "Evaluation",
    "Explanation",
    "KnownAnswers",
    "Raster",
    "ReasoningEpoch",
    "ReasoningHistory",
    "ReasoningTrainer",
    "both_queries",
    "edge_importance",
    "evaluate",
    "explain",
    "filtered_candidates",
    "filtered_ranks",
    "link_measures",
    "rank_measures",
    "sampled_hits",
    "strict_negatives",
    "with_negatives",
]
