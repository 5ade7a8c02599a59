"""Networks on Lava's simulator: guarded runs, run configurations and a driver of single models.

Importing this package imports Lava; nothing else of the library does.
"""

from __future__ import annotations

import importlib
import multiprocessing
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from lava_snnlearn.checks import LavaMissingError
from lava_snnlearn.newer_python import EXPERIMENTAL_LAVA, experimental, hashable_encoders

if TYPE_CHECKING:
    from lava_snnlearn.lava_backend.configuration import ModelMap, run_config
    from lava_snnlearn.lava_backend.driver import InProcessModel
    from lava_snnlearn.lava_backend.guard import LavaRunError
    from lava_snnlearn.lava_backend.runner import GuardedRun, guarded, run_guarded

__all__ = ["GuardedRun", "InProcessModel", "LavaRunError", "ModelMap", "guarded", "run_config", "run_guarded"]

_HOME = {
    "GuardedRun": "runner",
    "InProcessModel": "driver",
    "LavaRunError": "guard",
    "ModelMap": "configuration",
    "guarded": "runner",
    "run_config": "configuration",
    "run_guarded": "runner",
}


def _import_lava() -> None:
    """Import Lava's core, or say what to do.

    Lava sets multiprocessing's start method at import, which fails if anybody (a torch DataLoader is enough) has fixed it
    before. Where it was fixed to the same value, "fork", the choice is made anew.
    """
    if "lava.magma.core.process.process" not in sys.modules:
        method = multiprocessing.get_start_method(allow_none=True)
        if method == "fork":
            multiprocessing.set_start_method(None, force=True)
        elif method is not None:
            raise RuntimeError(
                f"multiprocessing's start method is {method!r}, but Lava needs 'fork'. "
                "Remove the call of multiprocessing.set_start_method, or import lava_snnlearn.lava_backend before it."
            )
    try:
        with hashable_encoders() if experimental() else nullcontext():
            import lava.magma.core.process.process  # noqa: F401
    except (ImportError, ValueError) as error:  # ValueError: a dataclass of lava-nc 0.10.0 that Python 3.11 refuses
        version = ".".join(map(str, sys.version_info[:3]))
        remedy = "Use Python 3.10 and run: pip install lava-nc==0.10.0."
        if sys.version_info >= (3, 11):
            remedy += f" Lava supports no newer Python; for experiments set {EXPERIMENTAL_LAVA}=1 (see the README)."
        raise LavaMissingError(
            f"Lava cannot be imported here (Python {version}): {error}. {remedy} "
            "Training, emulation and exchange work without it."
        ) from error


_import_lava()


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
