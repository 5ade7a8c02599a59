"""Learning on the chip: training in the chip's own integers, simulated here bit by bit."""

from lava_snnlearn.on_chip import spide
from lava_snnlearn.on_chip.trainer import OnChipTrainer

__all__ = ["OnChipTrainer", "spide"]
