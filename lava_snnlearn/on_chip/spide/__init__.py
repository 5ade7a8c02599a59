"""SPIDE on the chip: a network with feedback that learns by spikes in both directions, in exact integers (arXiv 2302.00232).

settings = OnChipSettings(sizes=(64, 100, 10))
state = initial(settings)
state, _ = choose_gain(state, x[:200], y[:200])
for epoch in range(10):
    state, report = train_epoch(state, x, y, seed=epoch)
classes = infer(state, x_test).predictions
network = to_fixed_network(state)
"""

from lava_snnlearn.on_chip.spide.deploy import to_fixed_network
from lava_snnlearn.on_chip.spide.gain import GainTrial, choose_gain
from lava_snnlearn.on_chip.spide.settings import OnChipSettings
from lava_snnlearn.on_chip.spide.simulator import (
    Diagnostics,
    EpochReport,
    SampleRecord,
    checked_batch,
    diagnose,
    infer,
    train_epoch,
    train_sample,
)
from lava_snnlearn.on_chip.spide.state import OnChipState, from_weights, initial, project
from lava_snnlearn.on_chip.state import Inference

__all__ = [
    "Diagnostics",
    "EpochReport",
    "GainTrial",
    "Inference",
    "OnChipSettings",
    "OnChipState",
    "SampleRecord",
    "checked_batch",
    "choose_gain",
    "diagnose",
    "from_weights",
    "infer",
    "initial",
    "project",
    "to_fixed_network",
    "train_epoch",
    "train_sample",
]
