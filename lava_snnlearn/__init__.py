"""lava_snnlearn: spiking networks trained in PyTorch, run in Loihi's integers on Lava, and proven equal bit by bit.

Everything is imported when it is first used: training works without Lava, and Lava's model discovery (which executes files of
this package again and again) never pays for torch.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Torch reads this once, at its first large allocation: huge pages for large tensors. Without them the page faults of fresh
# memory cost more than the neurons (a training step of a convolutional network took twice as long). No effect where the system
# has none.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

_MODULES = {
    "continual",
    "data",
    "deployment",
    "distributed",
    "fixed_point",
    "graphs",
    "interchange",
    "lava_backend",
    "methods",
    "networks",
    "neurons",
    "on_chip",
    "placement",
    "processes",
    "reasoning",
    "report",
    "testing",
    "training",
}
_NAMES = {
    "Trainer": "lava_snnlearn.training",
    "History": "lava_snnlearn.training",
    "FixedNetwork": "lava_snnlearn.fixed_point.graph",
    "Stream": "lava_snnlearn.fixed_point.streaming",
    "Trace": "lava_snnlearn.fixed_point.trace",
    "count_events": "lava_snnlearn.fixed_point.events",
    "estimate_energy": "lava_snnlearn.fixed_point.event_energy",
    "emulate": "lava_snnlearn.fixed_point.emulator",
    "from_lava": "lava_snnlearn.lava_backend.importing",
    "prepare_qat": "lava_snnlearn.fixed_point.qat",
    "quantize": "lava_snnlearn.fixed_point.quantize",
    "run_lava": "lava_snnlearn.lava_backend.graph",
    "verify": "lava_snnlearn.verification",
    "citation": "lava_snnlearn.citations",
}

__all__ = ["__version__", *sorted(_MODULES), *sorted(_NAMES)]

if TYPE_CHECKING:
    from lava_snnlearn import (
        continual,
        data,
        deployment,
        distributed,
        fixed_point,
        graphs,
        interchange,
        lava_backend,
        methods,
        networks,
        neurons,
        on_chip,
        placement,
        processes,
        reasoning,
        report,
        testing,
        training,
    )
    from lava_snnlearn.citations import citation
    from lava_snnlearn.fixed_point.emulator import emulate
    from lava_snnlearn.fixed_point.event_energy import estimate_energy
    from lava_snnlearn.fixed_point.events import count_events
    from lava_snnlearn.fixed_point.graph import FixedNetwork
    from lava_snnlearn.fixed_point.qat import prepare_qat
    from lava_snnlearn.fixed_point.quantize import quantize
    from lava_snnlearn.fixed_point.streaming import Stream
    from lava_snnlearn.fixed_point.trace import Trace
    from lava_snnlearn.lava_backend.graph import run_lava
    from lava_snnlearn.lava_backend.importing import from_lava
    from lava_snnlearn.training import History, Trainer
    from lava_snnlearn.verification import verify


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _NAMES:
        value = getattr(importlib.import_module(_NAMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
