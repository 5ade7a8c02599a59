"""``from_lava``: a live Lava process graph as a FixedNetwork, which the emulator runs with equal bits and many times faster."""

from __future__ import annotations

from lava_snnlearn.lava_backend.importing.imported import LavaImport
from lava_snnlearn.lava_backend.importing.network import from_lava
from lava_snnlearn.lava_backend.importing.wiring import LavaImportError

__all__ = ["LavaImport", "LavaImportError", "from_lava"]
