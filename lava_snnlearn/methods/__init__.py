"""Training methods. ``get(name, **options)`` makes one by name; ``METHODS`` lists them."""

from __future__ import annotations

import dataclasses
from typing import Any

from lava_snnlearn.checks import known_name
from lava_snnlearn.methods.alignment import alignment
from lava_snnlearn.methods.base import Loss, Method, Preset, StepResult
from lava_snnlearn.methods.bptt import BPTT
from lava_snnlearn.methods.dfa import DFA
from lava_snnlearn.methods.dsr import DSR
from lava_snnlearn.methods.ep import EP
from lava_snnlearn.methods.equilibrium import equilibrium_rates
from lava_snnlearn.methods.fa import FA
from lava_snnlearn.methods.gpm import GPM
from lava_snnlearn.methods.grsnn import GRSNN
from lava_snnlearn.methods.hlop import HLOP
from lava_snnlearn.methods.ide import IDE
from lava_snnlearn.methods.opzo import OPZO
from lava_snnlearn.methods.ottt import OTTT
from lava_snnlearn.methods.rate_bp import RateBP
from lava_snnlearn.methods.sab import SAB, SequenceResult
from lava_snnlearn.methods.sltt import SLTT
from lava_snnlearn.methods.spide import SPIDE

__all__ = [
    "BPTT",
    "DFA",
    "DSR",
    "EP",
    "FA",
    "GPM",
    "GRSNN",
    "HLOP",
    "IDE",
    "METHODS",
    "OPZO",
    "OTTT",
    "SAB",
    "SLTT",
    "SPIDE",
    "Loss",
    "Method",
    "Preset",
    "RateBP",
    "SequenceResult",
    "StepResult",
    "alignment",
    "equilibrium_rates",
    "get",
]

METHODS: dict[str, type[Any]] = {
    "bptt": BPTT,
    "dfa": DFA,
    "dsr": DSR,
    "ep": EP,
    "fa": FA,
    "gpm": GPM,
    "hlop": HLOP,
    "ide": IDE,
    "opzo": OPZO,
    "ottt": OTTT,
    "rate_bp": RateBP,
    "sltt": SLTT,
    "spide": SPIDE,
}
"""Methods that classify samples with any :class:`~lava_snnlearn.networks.Network` (EP: with an energy network); SAB labels
steps, and GRSNN answers queries on graphs, with their own kinds."""


def get(name: str, **options: Any) -> Method:
    """A method by name (a key of :data:`METHODS`) with its options.

    Raises:
        UnknownNameError: unknown method or option; the message gives the nearest valid one.
        ValueError, TypeError: an option's value is refused.
    """
    cls = METHODS[known_name("method", name, METHODS)]
    for option in options:
        known_name(f"option of {name}", option, [field.name for field in dataclasses.fields(cls)])
    method: Method = cls(**options)
    return method
