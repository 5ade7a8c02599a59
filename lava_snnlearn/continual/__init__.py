"""Continual learning: one network, task after task, and how much of the earlier ones it keeps."""

from lava_snnlearn.continual.joint import train_jointly
from lava_snnlearn.continual.results import Results
from lava_snnlearn.continual.trainer import ContinualTrainer

__all__ = ["ContinualTrainer", "Results", "train_jointly"]
