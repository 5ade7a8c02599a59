"""ReasoningSettings: recipes fill what is open, the scale suits the graph, and what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.data.knowledge_graph import InductiveTask, KnowledgeGraph
from lava_snnlearn.methods import GRSNN
from lava_snnlearn.reasoning import ReasoningTrainer
from lava_snnlearn.reasoning.settings import ReasoningSettings, suitable_scale


def test_the_recipe_fills_what_is_open(kin: KnowledgeGraph) -> None:
    settings = ReasoningSettings("fb15k-237").completed(kin)
    assert (settings.width, settings.steps, settings.scale, settings.learning_rate) == (32, 10, 0.1, 2e-3)
    assert (settings.batch_size, settings.accumulate, settings.epochs, settings.validate_every) == (5, 6, 20, 2)
    assert settings.method() == GRSNN(256, 0.5, "one_hop")
    assert settings.steps_per_epoch is None
    assert settings.completed(kin) == settings


def test_what_is_given_stays(kin: KnowledgeGraph) -> None:
    given = ReasoningSettings("umls", width=5, scale=0.7, epochs=9, options=(("negatives", 7),), valid_queries=3)
    settings = given.completed(kin)
    assert (settings.width, settings.scale, settings.epochs, settings.valid_queries) == (5, 0.7, 9, 3)
    assert settings.method() == GRSNN(7, 1.0, "triples")
    assert settings.batch_size == 16


def test_umls_has_the_measured_settings(kin: KnowledgeGraph) -> None:
    settings = ReasoningSettings().completed(kin)
    assert (settings.width, settings.scale, settings.batch_size, settings.learning_rate) == (16, 0.3, 16, 5e-3)
    assert settings.method() == GRSNN(32, 1.0, "triples")


def test_model_and_trainer(task: InductiveTask, links: KnowledgeGraph) -> None:
    settings = ReasoningSettings(
        "kinships", width=6, hop=2, variant="plus", bias=False, epochs=1, keep="last", seed=3
    ).completed(task)
    model, again = settings.model(task), settings.model(task)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    assert (model.width, model.rule.hop, model.variant, model.relations, model.homogeneous) == (6, 2, "plus", 8, False)
    assert model.combine.bias is None
    other = dataclasses.replace(settings, seed=4).model(task)
    assert not torch.equal(model.embedding.weight, other.embedding.weight)
    run = ReasoningTrainer(model, settings.method(), task, progress=False, **settings.training)
    assert (run.epochs, run.batch_size, run.keep, run.seed) == (1, 16, "last", 3)
    assert len(run.fit().epochs) == 1
    assert ReasoningSettings("cora").completed(links).model(links).homogeneous


def test_scale_by_the_rule_of_thumb(kin: KnowledgeGraph) -> None:
    """c * mean in-degree is 22, and c at most 1."""
    assert suitable_scale(kin) == 1.0  # about four edges a node
    pairs = np.array([(a, 0, b) for a in range(60) for b in range(60)])
    dense = KnowledgeGraph("dense", tuple(map(str, range(60))), ("r",), pairs, pairs, pairs[:0], pairs[:0])
    assert suitable_scale(dense) == 0.18  # 120 edges a node
    assert ReasoningSettings("kinships").completed(dense).scale == 0.18


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"data": "uml"}, UnknownNameError, "Did you mean 'umls'"),
        ({"delays": "querry"}, UnknownNameError, "Did you mean 'query'"),
        ({"variant": "plusfull"}, UnknownNameError, "Did you mean 'plus_full'"),
        ({"keep": "worst"}, UnknownNameError, "keep"),
        ({"options": (("negative", 1),)}, UnknownNameError, "Did you mean 'negatives'"),
        ({"epochs": 0}, ValueError, "epochs is 0"),
        ({"width": 0}, ValueError, "width is 0"),
        ({"threads": 0}, ValueError, "threads is 0"),
        ({"scale": 0.0}, ValueError, "scale is 0.0"),
        ({"learning_rate": -1.0}, ValueError, "learning_rate is -1.0"),
        ({"batch_size": 1.5}, TypeError, "batch_size is 1.5"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ReasoningSettings(**options)
