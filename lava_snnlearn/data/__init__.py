"""Data sets and encoders."""

from lava_snnlearn.data.dataset import Dataset, Split
from lava_snnlearn.data.encoders import ENCODINGS, encode, latency, rate
from lava_snnlearn.data.loaders import DATASETS, load

__all__ = ["DATASETS", "ENCODINGS", "Dataset", "Split", "encode", "latency", "load", "rate"]
