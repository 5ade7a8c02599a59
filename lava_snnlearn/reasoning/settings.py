"""What a run of a graph reasoner is made of: its settings, and data, model, method and trainer that follow from them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from lava_snnlearn.checks import at_least, known_name, positive
from lava_snnlearn.data.graph_files import read_triples
from lava_snnlearn.data.knowledge import GRAPHS, load_graph
from lava_snnlearn.data.knowledge_graph import InductiveTask, KnowledgeGraph
from lava_snnlearn.methods.grsnn import DEFAULT_RECIPE, GRSNN, RECIPES
from lava_snnlearn.networks.graph_reasoner import DELAYS, VARIANTS, GraphReasoner
from lava_snnlearn.reasoning.trainer import KEEP

DEGREE_GAIN = 22.0
"""Rule of thumb: c times the mean in-degree, where spike rates are neither silent nor saturated (grsnn spec, section 1.8)."""
AnySettings = TypeVar("AnySettings", bound="ReasoningSettings")


@dataclass(frozen=True)
class ReasoningSettings:
    """What to run; None takes the recipe of the data set (:data:`~lava_snnlearn.methods.grsnn.RECIPES`).

    ``data`` is a name that :func:`~lava_snnlearn.data.knowledge.load_graph` knows, or the path of files that
    :func:`~lava_snnlearn.data.graph_files.read_triples` reads. ``width``, ``steps``, ``max_delay``, ``scale``, ``delays``,
    ``delay_grad``, ``hop`` (None: 1, the published timing), ``bias`` and ``variant`` are the model's. ``options`` go to
    :class:`~lava_snnlearn.methods.grsnn.GRSNN`, e.g. {"negatives": 64}. The rest are the trainer's. ``threads`` is part of the
    result: sums in another order round differently.

    Raises:
        UnknownNameError: an unknown data set, kind of delays, variant or option. ValueError: a number out of range.
        TypeError: a number of another type.
    """

    data: str = "umls"
    width: int | None = None
    steps: int | None = None
    max_delay: int = 4
    scale: float | None = None
    delays: str = "query"
    delay_grad: str = "exact"
    hop: int | None = None
    bias: bool = True
    variant: str = "base"
    options: tuple[tuple[str, Any], ...] = ()
    epochs: int | None = None
    batch_size: int | None = None
    accumulate: int | None = None
    learning_rate: float | None = None
    steps_per_epoch: int | None = None
    validate_every: int | None = None
    valid_queries: int | None = None
    keep: str = "best"
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        if not Path(self.data).exists():
            known_name("graph or folder of triples", self.data, GRAPHS)
        known_name("kind of delays", self.delays, DELAYS)
        known_name("variant", self.variant, VARIANTS)
        known_name("keep", self.keep, KEEP)
        for option, _ in self.options:
            known_name("option of grsnn", option, [field.name for field in dataclasses.fields(GRSNN)])
        at_least(1, "threads", self.threads)
        at_least(0, "seed", self.seed)
        for name in _COUNTS:
            if (value := getattr(self, name)) is not None:
                at_least(1, name, value)
        for name in ("scale", "learning_rate"):
            if (value := getattr(self, name)) is not None:
                positive(name, value)

    def load(self) -> KnowledgeGraph | InductiveTask:
        """The data."""
        return load_graph(self.data) if self.data in GRAPHS else read_triples(self.data)

    def completed(self: AnySettings, data: KnowledgeGraph | InductiveTask) -> AnySettings:
        """These settings with nothing left open: the recipe of the data, and a scale that suits its graph."""
        recipe = RECIPES.get(self.data, DEFAULT_RECIPE)
        names = [name for name in _COUNTS if hasattr(recipe, name)] + ["scale", "learning_rate"]
        found = {name: getattr(recipe, name) for name in names if getattr(self, name) is None}
        if found.get("scale", 1.0) is None:
            found["scale"] = suitable_scale(data)
        options = {field.name: getattr(recipe.method, field.name) for field in dataclasses.fields(GRSNN)}
        hop = 1 if self.hop is None else self.hop
        return dataclasses.replace(self, hop=hop, options=tuple((options | dict(self.options)).items()), **found)

    def method(self) -> GRSNN:
        """The method with its options."""
        return GRSNN(**dict(self.options))

    def model(self, data: KnowledgeGraph | InductiveTask) -> GraphReasoner:
        """A fresh model for the data, its weights drawn by the seed; of completed settings."""
        graph = data.train if isinstance(data, InductiveTask) else data
        torch.manual_seed(self.seed)
        names = ("width", "steps", "max_delay", "scale", "delays", "delay_grad", "hop", "bias", "variant")
        options = {name: getattr(self, name) for name in names}
        return GraphReasoner(graph.query_relations, homogeneous=graph.homogeneous, **options)

    @property
    def training(self) -> dict[str, Any]:
        """Options of the :class:`~lava_snnlearn.reasoning.trainer.ReasoningTrainer`; of completed settings."""
        return {name: getattr(self, name) for name in _TRAINING}


_COUNTS = ("width", "steps", "epochs", "batch_size", "accumulate", "steps_per_epoch", "validate_every", "valid_queries")
_TRAINING = ("keep", "seed", "learning_rate", *_COUNTS[2:])


def suitable_scale(data: KnowledgeGraph | InductiveTask) -> float:
    """The model's scale c by the rule of thumb: :data:`DEGREE_GAIN` / mean in-degree of the training graph, at most 1, rounded
    to two digits."""
    graph = (data.train if isinstance(data, InductiveTask) else data).graph()
    return min(1.0, float(f"{DEGREE_GAIN * graph.nodes / max(1, graph.edges):.2g}"))
