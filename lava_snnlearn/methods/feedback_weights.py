"""Fixed random weights of feedback alignment, drawn once and kept with the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lava_snnlearn.checks import at_least, positive
from lava_snnlearn.networks.classifier import Classifier
from lava_snnlearn.networks.synapse import Shape


def check_feedback(scale: Any, seed: Any) -> None:
    """Raise where a scale is not finite and > 0, or a seed not whole and at least 0 (ValueError, TypeError)."""
    positive("scale", scale)
    at_least(0, "seed", seed)


def remembered(network: Classifier, prefix: str, shapes: Mapping[str, Shape], seed: int) -> dict[str, Tensor]:
    """The matrices ``<prefix>.<name>`` of ``network.memory``, in the network's dtype and on its device, in the order of
    ``shapes``; drawn from N(0, 1), whatever the global random state, where the memory has none yet.
    """
    memory, like = network.memory, network.like
    keys = {name: f"{prefix}.{name}" for name in shapes}
    if any(key not in memory for key in keys.values()):
        generator = torch.Generator().manual_seed(seed)
        for name, shape in shapes.items():
            memory[keys[name]] = torch.randn(shape, generator=generator, dtype=torch.float64)
    for key in keys.values():
        memory[key] = memory[key].to(like.device, like.dtype)
    return {name: memory[key] for name, key in keys.items()}
