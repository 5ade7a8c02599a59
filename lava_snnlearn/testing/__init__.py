"""Public conformance suites: the whole proof of a method or a process from one line."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lava_snnlearn.lava_presence import require_lava

if TYPE_CHECKING:
    from lava_snnlearn.testing.methods import check_method
    from lava_snnlearn.testing.processes import ProcessCase, check_process

__all__ = ["ProcessCase", "check_method", "check_process"]

_HOME = {"check_method": "methods", "check_process": "processes", "ProcessCase": "processes"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        if _HOME[name] == "processes":
            require_lava()
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
