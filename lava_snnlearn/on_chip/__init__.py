"""Learning on the chip: training in the chip's own integers, simulated here bit by bit."""

from lava_snnlearn.on_chip import local, spide
from lava_snnlearn.on_chip.continual import OnChipTaskTrainer
from lava_snnlearn.on_chip.counts import count_learning_updates
from lava_snnlearn.on_chip.trainer import OnChipTrainer

__all__ = ["OnChipTaskTrainer", "OnChipTrainer", "count_learning_updates", "local", "spide"]
