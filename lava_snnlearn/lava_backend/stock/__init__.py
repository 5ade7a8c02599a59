"""Learning rules of the library on Lava's stock learning engine (``LearningDense``): demonstrators.

They show what the engine can express: each is equal to its numpy reference in the float engine, and each can be run in the
fixed engine to see what that does to it. To train networks on Lava use the library's own plastic processes, which are exact in
integers and many times faster.
"""

from __future__ import annotations

from lava_snnlearn.lava_backend.stock.deviation import Deviation, deviation
from lava_snnlearn.lava_backend.stock.engine import Product, StockRule, StockRun, run_stock
from lava_snnlearn.lava_backend.stock.hlop import (
    SignedUpdates,
    SubspaceLearning,
    learn_subspace,
    run_signed_updates,
    two_phase_rule,
)
from lava_snnlearn.lava_backend.stock.opzo import DecimatedDecay, FeedbackLearning, learn_feedback, run_feedback
from lava_snnlearn.lava_backend.stock.ottt import LayerTrajectory, ThreeFactor, learn_layer, run_layer

__all__ = [
    "DecimatedDecay",
    "Deviation",
    "FeedbackLearning",
    "LayerTrajectory",
    "Product",
    "SignedUpdates",
    "StockRule",
    "StockRun",
    "SubspaceLearning",
    "ThreeFactor",
    "deviation",
    "learn_feedback",
    "learn_layer",
    "learn_subspace",
    "run_feedback",
    "run_layer",
    "run_signed_updates",
    "run_stock",
    "two_phase_rule",
]
