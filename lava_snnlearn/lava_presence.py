"""Whether Lava is there, asked before any work that needs it."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec

from lava_snnlearn.checks import LavaMissingError
from lava_snnlearn.newer_python import experimental


def require_lava(remedy: str = "") -> None:
    """Raise LavaMissingError, before any work, where Lava cannot be imported; ``remedy`` is added to its message.

    Where it can be, nothing is imported yet.
    """
    if find_spec("lava") is not None and (sys.version_info < (3, 11) or experimental()):
        return
    try:
        importlib.import_module("lava_snnlearn.lava_backend")
    except LavaMissingError as error:
        raise LavaMissingError(f"{error} {remedy}".rstrip()) from None
