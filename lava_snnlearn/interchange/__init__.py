"""Exchange of networks with other tools: netx HDF5 of lava-dl, and NIR. Neither needs Lava."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_NAMES = {
    "NetxRun": "lava_snnlearn.interchange.netx",
    "from_netx": "lava_snnlearn.interchange.netx",
    "netx_losses": "lava_snnlearn.interchange.netx",
    "to_netx": "lava_snnlearn.interchange.netx",
    "with_whole_biases": "lava_snnlearn.interchange.netx",
    "fixed_from_nir": "lava_snnlearn.interchange.nir",
    "SigmaDeltaNetwork": "lava_snnlearn.interchange.netx_sigma_delta",
    "read_sigma_delta": "lava_snnlearn.interchange.netx_sigma_delta",
    "from_nir": "lava_snnlearn.interchange.nir",
    "nir_losses": "lava_snnlearn.interchange.nir",
    "to_nir": "lava_snnlearn.interchange.nir",
}

__all__ = [
    "NetxRun",
    "SigmaDeltaNetwork",
    "fixed_from_nir",
    "from_netx",
    "from_nir",
    "netx_losses",
    "nir_losses",
    "read_sigma_delta",
    "to_netx",
    "to_nir",
    "with_whole_biases",
]

if TYPE_CHECKING:
    from lava_snnlearn.interchange.netx import NetxRun, from_netx, netx_losses, to_netx, with_whole_biases
    from lava_snnlearn.interchange.netx_sigma_delta import SigmaDeltaNetwork, read_sigma_delta
    from lava_snnlearn.interchange.nir import fixed_from_nir, from_nir, nir_losses, to_nir


def __getattr__(name: str) -> Any:
    """Each name is imported when it is first used: netx needs no nir, and the other way round."""
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_NAMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
