"""Local learning on the chip: a spiking network that learns at every time step by three factors, in exact integers.

settings = LocalSettings(sizes=(64, 128, 10), feedback="transport")   # OTTT; "fixed": DFA; "learned": OPZO
state = initial(settings)
state = begin_task(state, [16, 40])                                    # HLOP: subspaces that protect what was learnt before
for epoch in range(4):
    state, report = train_epoch(state, x, y, seed=epoch)
classes = infer(state, x_test).predictions
network = to_fixed_network(state)
"""

from lava_snnlearn.on_chip.local.deploy import to_fixed_network
from lava_snnlearn.on_chip.local.settings import FEEDBACKS, LocalSettings
from lava_snnlearn.on_chip.local.simulator import (
    Diagnostics,
    EpochReport,
    SampleRecord,
    checked_batch,
    infer,
    train_epoch,
    train_sample,
)
from lava_snnlearn.on_chip.local.state import LocalState, begin_task, from_weights, initial
from lava_snnlearn.on_chip.state import Inference

__all__ = [
    "FEEDBACKS",
    "Diagnostics",
    "EpochReport",
    "Inference",
    "LocalSettings",
    "LocalState",
    "SampleRecord",
    "begin_task",
    "checked_batch",
    "from_weights",
    "infer",
    "initial",
    "to_fixed_network",
    "train_epoch",
    "train_sample",
]
