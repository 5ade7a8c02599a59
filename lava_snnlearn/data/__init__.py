"""Data sets, encoders and augmentations; knowledge graphs."""

from lava_snnlearn.data.augmentation import PerSample, augmentation
from lava_snnlearn.data.copying import CopyingBatch, copying
from lava_snnlearn.data.dataset import Dataset, Split
from lava_snnlearn.data.encoders import ENCODINGS, encode, latency, rate
from lava_snnlearn.data.events import EVENT_DATASETS, from_tonic, load_events
from lava_snnlearn.data.framing import Framing
from lava_snnlearn.data.knowledge import (
    GRAPHS,
    InductiveTask,
    KnowledgeGraph,
    link_prediction,
    load_graph,
    read_inductive,
    read_triples,
)
from lava_snnlearn.data.loaders import DATASETS, load
from lava_snnlearn.data.splits import k_folds
from lava_snnlearn.data.tasks import FIVE_DATASETS, TaskSequence, five_datasets, permuted, rotated, split

__all__ = [
    "DATASETS",
    "ENCODINGS",
    "EVENT_DATASETS",
    "FIVE_DATASETS",
    "GRAPHS",
    "CopyingBatch",
    "Dataset",
    "Framing",
    "InductiveTask",
    "KnowledgeGraph",
    "PerSample",
    "Split",
    "TaskSequence",
    "augmentation",
    "copying",
    "encode",
    "five_datasets",
    "from_tonic",
    "k_folds",
    "latency",
    "link_prediction",
    "load",
    "load_events",
    "load_graph",
    "permuted",
    "rate",
    "read_inductive",
    "read_triples",
    "rotated",
    "split",
]
